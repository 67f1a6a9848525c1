"""What a person gets wrong in a file: each with its line, and the mend, in words of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgsluice import config
from pgsluice.errors import UsageError
from pgsluice.job import TableRef


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


#: What is wrong: the text, its line, and what is said, the mend included.
MISTAKES = {
    "a star": ("tables:\n  *: {}", 2, "what begins with * stands in quotes", "'*.*': {}"),
    "stars": ("tables:\n  *.*:\n    mode: full", 2, "what begins with * stands in quotes", "'*.*': {}"),
    "a sign that begins nothing": ("tables:\n  s.t:\n    where: `x` = 1", 3, "begins with `", "in quotes"),
    "a setting of tables at the top": ("tables: {s.t: {}}\nmode: full", 2, "mode: belongs under defaults, or with a table", ""),
    "a setting of the run with a table": ("tables:\n  s.t:\n    jobs: 3", 3, "jobs: concerns the run as a whole", "at the top"),
    "a list of tables": ("tables:\n  - s.t\n  - s.u", 1, "tables: holds tables by name, each with a colon", "sales.orders: {}"),
    "a table's name alone": ("tables: s.t", 1, "tables: holds tables by name, each with a colon", "sales.orders: {}"),
    "a word for settings": ("tables:\n  s.t: all of it", 2, "tables.s.t: holds settings, each with a colon", "{} for none"),
    "a list for settings": ("tables:\n  s.t: [mode]", 2, "tables.s.t: holds settings, each with a colon", "{} for none"),
    "a date as condition": ("tables:\n  s.t:\n    where: 2024-01-01", 3, "where: '2024-01-01' is a value, and no condition", "updated_at >= '2024-01-01'"),
    "a number as condition": ("tables:\n  s.t:\n    where: 20240101", 3, "where: '20240101' is a value, and no condition", "updated_at >="),
    "no colon in the first line": ("source service=a\ntarget: b\ntables: {s.t: {}}", 1, "'source service=a' lacks its colon", "source: service=a"),
    "no colon behind a table": ("tables:\n  s.t\n    mode: full", 2, "'s.t' lacks its colon", "s.t:"),
    "no colon behind a setting": ("tables:\n  s.t:\n    mode full\n    where: id > 1", 3, "'mode full' lacks its colon", "mode: full"),
    "no colon in the last line": ("tables:\n  s.t:\n    mode full", 2, "tables.s.t: 'mode full' lacks its colon", "mode: full"),
    "no colon in braces": ("tables:\n  s.t: {mode full}", 2, "'mode full' lacks its colon", "mode: full"),
    "no blank behind a colon": ("jobs:1\ntables: {s.t: {}}", 1, "'jobs:1' lacks a blank behind its colon", "jobs: 1"),
    "a second colon": ("tables:\n  s.t:\n    where: a: b", 3, "a second colon in one line", "quotes"),
    "more behind a quoted value": ("tables:\n  s.t:\n    where: 'a' = b", 3, "something stands behind a value in quotes", "all of the value"),
    "a brace that is open": ("tables:\n  s.t: {mode: full\n  s.u: {}", 2, "a { that is not closed", "}"),
    "a quote that is open": ("tables:\n  s.t:\n    where: 'a\n    mode: full", 3, "a quote that is not closed", ""),
    "a map without a value": ("tables:\n  s.t:\n    rename:\n      a:\n", 4, "rename.a: lacks its value", ""),
    "a map with a wrong value": ("tables:\n  s.t:\n    mask:\n      a: null\n      note: hush", 5, "hush", "hash"),
    "a list with a wrong item": ("tables:\n  s.t:\n    cast:\n    - a=int\n    - b", 5, "cast: 'b' lacks a part", "cast: column=value"),
    "a wrong number": ("jobs: many\ntables: {s.t: {}}", 1, "jobs: 'many' is no whole number", ""),
    "half a number": ("jobs: 1.5\ntables: {s.t: {}}", 1, "jobs: 1.5 is no whole number", ""),
    "too small a number": ("jobs: 0\ntables: {s.t: {}}", 1, "jobs: 0 is less than 1", ""),
    "neither true nor false": ("atomic: perhaps\ntables: {s.t: {}}", 1, "atomic: 'perhaps' is neither true nor false", ""),
    "a map for a text": ("source: {host: a}\ntables: {s.t: {}}", 1, "source: holds one text", ""),
    "a map for a list": ("tables:\n  s.t:\n    key: {a: b}", 3, "key: holds names with commas, or a list of them", ""),
    "a wrong span": ("tables:\n  s.t:\n    lock_timeout: 30x", 3, "lock_timeout: '30x' is not a span of time", "90s"),
    "too short a span": ("connect_timeout: 0\ntables: {s.t: {}}", 1, "connect_timeout: 0 s is less than 1 s", ""),
    "an option's name in a hint": ("tables:\n  s.t:\n    mode: incremental", 2, "mode incremental needs a cursor column. Name it with cursor;", ""),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_has_its_line_and_the_mend(tmp_path: Path, mistake: str) -> None:
    text, line, *told = MISTAKES[mistake]
    said = read(tmp_path, text)
    assert said.startswith(f"FILE:{line}: "), said
    assert all(each in said for each in told), said
    assert not any(
        word in said for word in ("pydantic", "dictionary", "instance", "None", "True", "valid", "--", "parse")
    )


def test_maps_are_taken_where_they_are_natural_and_values_stay_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "pgsluice.yaml"
    file.write_text(
        "resume_keep: 90\nretry_for: 10m\nstall_timeout: 90\ntables:\n  s.t:\n    rename: {old: new}\n    cast: {id: bigint}\n"
        "    mask: {a: hash, b: null, c: 'constant:x=y'}\n    lock_timeout: 500ms\n"
        "    constants: {release: 1.10, k::boolean: true, day::date: 2024-01-01, n::int: 0x10, at: '@snapshot'}\n"
        "  s.u:\n    rename: [old=new]\n"
    )
    known = config.load(file, warn=lambda _: None).tables
    settings = {entry.pattern: dict(entry.settings) for entry in known.entries}
    assert settings["s.u"]["rename"] == settings["s.t"]["rename"] == ["old=new"]
    assert settings["s.t"]["mask"] == ["a=hash", "b=null", "c=constant:x=y"]
    assert settings["s.t"]["constants"] == [
        "release=1.10", "k::boolean=true", "day::date=2024-01-01", "n::int=0x10", "at=@snapshot",
    ]  # fmt: skip
    assert known.run["resume_keep"] == "90"
    (job, _) = known.jobs([TableRef("s", "t"), TableRef("s", "u")])
    assert job.options is not None
    assert (job.options.lock_timeout, job.options.retry_for, job.options.stall_timeout) == (0.5, 600, 90)
