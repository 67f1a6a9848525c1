"""What a person gets wrong in a file: each with its line, and the mend, in words of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgsluice import config
from pgsluice.errors import UsageError


def read(folder: Path, text: str) -> str:
    """Return what is said against a text, or "" where it is read."""
    file = folder / "pgsluice.yaml"
    file.write_text(text)
    try:
        config.load(file, warn=lambda _: None)
    except UsageError as error:
        return str(error).replace(f"{file}", "FILE")
    return ""


@pytest.mark.parametrize("to", ["raw.{name}", "raw.{Table}", "{s}.x", 'raw."{}"', "raw.{{table}}"])
@pytest.mark.parametrize("place", ["a table", "defaults"])
def test_a_targets_name_with_other_braces_is_refused(tmp_path: Path, to: str, place: str) -> None:
    text = {
        "a table": f"tables:\n  s.t:\n    to: '{to}'",
        "defaults": f"tables: {{s.t: {{}}}}\ndefaults:\n  to: '{to}'",
    }[place]
    said = read(tmp_path, text)
    assert said.startswith("FILE:3: "), said
    assert "which stands for nothing" in said


def test_a_querys_target_is_one_name_and_braces_of_a_tables_own_stay(tmp_path: Path) -> None:
    assert read(tmp_path, "jobs: 1\ntables: {'raw.{table}': {query: SELECT 1 AS id, key: id}}").startswith("FILE:2: ")
    assert read(tmp_path, "tables: {'s.\"{odd}\"': {to: 'raw.{schema}_{table}'}}") == ""
