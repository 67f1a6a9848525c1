"""No text of a configuration file is a fault of ours: it is read, or its mistake is told with a line."""

from __future__ import annotations

import os
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgsluice import config
from pgsluice.config.model import FileSettings, TableSettings
from pgsluice.errors import UsageError

_FUZZ = settings(
    deadline=None,
    max_examples=int(os.environ.get("PGSLUICE_EXAMPLES", "100")),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def read(folder: Path, text: str | bytes) -> str:
    """Return what is said against a text, or "" where it is read."""
    file = folder / "pgsluice.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        config.load(file, warn=lambda _: None)
    except UsageError as error:
        return str(error).replace(f"{file}", "FILE")
    return ""


#: What is wrong, and the line of it.
ODD = {
    "a merge with an unknown key": ("tables: {s.t: {}}\n<<: {sorce: 1}", 2, "sorce: there is no such setting; did you mean source?"),
    "a table's merge with an unknown key": ("tables:\n  s.t:\n    <<: {moed: full}", 3, "tables.s.t.moed: there is no such setting"),
    "a merge of an anchor further up": ("defaults: &d\n  modes: full\ntables:\n  s.t:\n    <<: *d", 2, "there is no such setting"),
    "a merge of no mapping": ("tables:\n  s.t: {}\n  <<: 1", 3, "<<: merges settings, and this is none"),
    "a merge of itself": ("tables: &a\n  <<: *a", 1, "an alias of what it stands in"),
    "an alias of itself": ("tables: {s.t: {}}\njobs: &a [*a]", 2, "an alias of what it stands in"),
    "aliases of aliases": ("tables: {s.t: {}}\na0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)), 2, "more than 100,000 values"),
    "merges of merges": ("a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i}\n  <<: [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)), 1, "more than 100,000 values"),
    "deep lists": ("tables:\n  " + "[" * 5000 + "]" * 5000, 2, "more than 40 levels"),
    "deep mappings": ("tables:\n  " + "{a: " * 5000 + "}" * 5000, 2, "more than 40 levels"),
    "deep blocks": ("- " * 5000, 1, "more than 40 levels"),
    "many values": ("tables: {s.t: {}}\nkey: [" + "1," * 120_000 + "]", 2, "more than 100,000 values"),
    "a quote that is not closed": ("tables: {s.t: {}}\nsource: \"${cmd:'}\"", 2, "source: ${cmd:'} can't be read: No closing quotation"),
    "a program without a name": ("tables: {s.t: {}}\nsource: '${cmd: }'", 2, "source: ${cmd:} names no program"),
    "a program of an empty name": ("tables: {s.t: {}}\ntarget: \"${cmd:''}\"", 2, "target: ${cmd:} names no program"),
    "a program beside a missing variable": ("tables: {s.t: {}}\ntarget: ${cmd:echo x} ${NOWHERE}", 2, "the environment variable NOWHERE is not set"),
    "a number that is none": ("tables: {s.t: {}}\njobs: !!int abc", 2, "'abc' can't be read as int"),
    "a number without digits": ("tables: {s.t: {}}\njobs: !!int ''", 2, "'' can't be read as int"),
    "a long number": ("tables: {s.t: {}}\njobs: " + "9" * 5000, 2, "can't be read as int"),
    "a tag": ("tables: {s.t: {}}\nsource: !!python/object:os.system x", 2, "means nothing here"),
    "a tag of its own": ("tables: {s.t: {}}\nsource: !mine x", 2, "the tag !mine means nothing here"),
    "a NUL": ('tables: {s.t: {}}\nsource: "${file:a\\0b}"', 2, "the character U+0000, which no setting can hold"),
    "half a character": ('tables: {s.t: {}}\nsource: "\\ud800"', 2, "the character U+D800, which no setting can hold"),
    "a character beyond Unicode": ('tables: {s.t: {}}\nsource: "\\UFFFFFFFF"', 2, "not YAML"),
    "a character that YAML forbids": ("tables: {s.t: {}}\nsource: a\x01b", 2, "a character that YAML does not allow"),
    "a key that is a list": ("tables: {s.t: {}}\n? [a, b]\n: 1", 2, "a key that is no word"),
    "two documents": ("tables: {s.t: {}}\n---\njobs: 1", 2, "but found another document"),
    "a date": ("tables: {s.t: {}}\njobs: 2026-13-45", 2, "jobs: '2026-13-45' is no whole number"),
    "an unknown alias": ("tables: {s.t: {}}\njobs: *a", 2, "what begins with * stands in quotes"),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_text_is_a_mistake_of_the_file_with_its_line(tmp_path: Path, odd: str) -> None:
    text, line, told = ODD[odd]
    said = read(tmp_path, text)
    assert told in said
    assert f"FILE:{line}: " in said


def test_merged_settings_stand_below_the_entrys_own(tmp_path: Path) -> None:
    file = tmp_path / "pgsluice.yaml"
    file.write_text(
        "defaults: &d {mode: upsert, verify: hash}\ntables:\n  s.t: &t {<<: *d, mode: full}\n"
        "  s.u:\n    <<: [*t, {verify: count, lane: psql}]\n    key: id\n"
    )
    entries = {entry.pattern: dict(entry.settings) for entry in config.load(file).tables.entries}
    assert entries == {
        "s.t": {"mode": "full", "verify": "hash"},
        "s.u": {"mode": "full", "verify": "hash", "lane": "psql", "key": "id"},
    }


def test_columns_are_named_as_a_list_or_with_commas(tmp_path: Path) -> None:
    assert read(tmp_path, "tables:\n  s.t: {exclude: [a, b], key: [c]}\n  s.u: {columns: 'a, b', key: a}\n") == ""
    assert "names an empty column" in read(tmp_path, "tables:\n  s.t: {exclude: [a, '']}")


def test_an_anchor_may_be_used_again_and_words_stay_words(tmp_path: Path) -> None:
    file = tmp_path / "pgsluice.yaml"
    file.write_text("jobs: &a 1\nretries: &a 2\ntables:\n  no.1: {to: 'null.true', group: 2026-01-01}\n")
    (entry,) = config.load(file).tables.entries
    assert (entry.pattern, dict(entry.settings)) == ("no.1", {"to": "null.true", "group": "2026-01-01"})


@_FUZZ
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    read(tmp_path_factory.getbasetemp(), text)


_PIECES = ["tables", "s.t", "<<", "&a", "*a", ": ", "{", "}", "[", "]", "? ", "- ", "\n", "\n  ", "|", ">", "'", '"', "#",
           "!!int ", "!!set ", "!x ", "%YAML 1.1\n---\n", "---", "...", "\\x", "\t", "${", "cmd:", "file:", "$$", "1", "~", "\0", "\u2028", "\ufeff"]  # fmt: skip


@_FUZZ
@given(st.lists(st.sampled_from(_PIECES), max_size=25))
def test_any_pieces_of_yaml_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, pieces: list[str]) -> None:
    said = read(tmp_path_factory.getbasetemp(), "".join(pieces))
    assert not said or re.match(r"FILE(:\d+: | holds no settings)", said), said


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=12)
    | st.sampled_from(["1e999 GB", "9" * 400 + "d", "overlap:", "soft:", "hash:", "a=", "=", "::=", ".", '"', "x::int=@snapshot",
                       "25:99", "0s", "-1", "%", "group:", "[::1]:9", "\U0001f4a9", "١٢", "²", "1_0", "nan", "inf%"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_letters, max_size=4), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@_FUZZ
@given(
    st.dictionaries(st.sampled_from(sorted(FileSettings.model_fields)), _VALUES, max_size=4),
    st.dictionaries(st.sampled_from(sorted(TableSettings.model_fields)), _VALUES, max_size=5),
)
def test_any_value_of_any_setting_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, run: dict[str, Any], table: dict[str, Any]
) -> None:
    import json  # noqa: PLC0415 - JSON is YAML; floats that are none are written as YAML has them

    text = json.dumps({"tables": {"s.t": table}, **run})
    text = text.replace("Infinity", ".inf").replace("NaN", ".nan")
    said = read(tmp_path_factory.getbasetemp(), text)
    assert not said or re.match(r"FILE:\d+: ", said), said
