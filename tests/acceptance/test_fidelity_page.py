"""docs/fidelity.md tells of every pairing and every family, and of no failure; the list knows every type."""

from __future__ import annotations

from pathlib import Path

import pytest
from fidelitypage import ABSENT, EQUAL, PAGE, REFUSED, Seen, verdicts, write
from majors import PAIRINGS
from servers import Pair
from typelist import FAMILIES, NOT_STORED

NAMES = [family.name for family in FAMILIES]


def test_the_page_has_every_pairing_and_every_family() -> None:
    found = verdicts(PAGE.read_text("utf-8"))
    assert set(found) == set(PAIRINGS), "make test-matrix writes the page"
    for pairing, families in found.items():
        assert list(families) == NAMES, pairing


def test_the_page_has_no_failure_and_refuses_only_what_came_later_than_the_target() -> None:
    for (source, target), families in verdicts(PAGE.read_text("utf-8")).items():
        for family in FAMILIES:
            verdict = families[family.name]
            is_held = family.since <= target and (family.is_plain or family.text_since <= source)
            if family.since > source:
                assert verdict == ABSENT, (source, target, family.name)
            elif not family.needs or verdict != ABSENT:
                assert verdict == (EQUAL if is_held else REFUSED), (source, target, family.name)


def test_what_is_written_is_what_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8")
    seen = [
        Seen(f"{source}.1", f"{target}.2", dict.fromkeys(NAMES, EQUAL) | {NAMES[3]: REFUSED}, {NAMES[3]: "it said"})
        for source, target in PAIRINGS
    ]
    copy = tmp_path / PAGE.name
    copy.write_text(text, "utf-8")
    monkeypatch.setattr("fidelitypage.PAGE", copy)
    write(seen)
    written = copy.read_text("utf-8")
    assert verdicts(written) == {each.pairing: each.verdicts for each in seen}
    assert written.partition("## Seen")[0] == text.partition("## Seen")[0]
    assert "`it said`" in written
    write(seen)
    assert copy.read_text("utf-8") == written


def test_every_type_that_can_be_stored_is_in_the_list(pair: Pair) -> None:
    query = """SELECT typname::text FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace
        AND typtype IN ('b', 'r', 'm') AND NOT (typelem <> 0 AND typlen = -1 AND typsubscript = 'array_subscript_handler'::regproc)"""
    named = {
        kind.type
        for family in FAMILIES
        for kind in family.kinds
        if "s." not in kind.type and "public." not in kind.type
    }
    listed = {
        name
        for (name,) in pair.target.rows(
            "SELECT typname::text FROM pg_type WHERE oid = ANY (%s::regtype[])", (sorted(named),)
        )
    }
    every = {name for (name,) in pair.target.rows(query)}
    assert every - listed == set(NOT_STORED)
