"""Which rows a run reads on, as a condition."""

from __future__ import annotations

import pytest
from handmade import AT, ID, table

from pgsluice.cursors import CURSOR_TYPES, Cursor, fit
from pgsluice.facts import Column
from pgsluice.windows import Window

MOVED = fit(table(columns=(AT,)), AT.name, None)
NUMBER = fit(table(columns=(ID,)), ID.name, None)
MOMENT = "2024-01-01 00:00:00+00"


def since(transaction: int) -> str:
    return (
        "(pg_catalog.age(xmin) OPERATOR(pg_catalog.>=) 0 AND pg_catalog.age(xmin) OPERATOR(pg_catalog.<=)"
        f" pg_catalog.age('{transaction}'::pg_catalog.xid8::pg_catalog.xid))"
    )


AT_LEAST = f""""updated_at" OPERATOR(pg_catalog.>=) '{MOMENT}'::timestamp with time zone"""
IN_BOTH = "tableoid OPERATOR(pg_catalog.=) ANY ('{7,8}'::pg_catalog.oid[])"
WEEK_BEFORE = (
    f""""updated_at" OPERATOR(pg_catalog.>=) (CASE WHEN '{MOMENT}'::timestamp with time zone OPERATOR(pg_catalog.<) '4000-01-01 BC'"""
    f" THEN '-infinity' ELSE '{MOMENT}'::timestamp with time zone OPERATOR(pg_catalog.-) '7d'::interval END)::timestamp with time zone"
)


@pytest.mark.parametrize(
    ("window", "text"),
    [
        # by the cursor, ties and rows without one included
        (Window(MOVED, MOMENT), f'(({AT_LEAST}\n OR "updated_at" IS NULL))'),
        # what is gone back for an overlap
        (Window(MOVED, MOMENT, back="7d"), f'(({WEEK_BEFORE}\n OR "updated_at" IS NULL))'),
        # and what committed late, anywhere
        (Window(MOVED, MOMENT, since=9), f'(({AT_LEAST}\n OR "updated_at" IS NULL\n OR {since(9)}))'),
        # or only so far behind
        (
            Window(MOVED, MOMENT, since=9, within="7d"),
            f'(({AT_LEAST}\n OR "updated_at" IS NULL\n OR {WEEK_BEFORE} AND {since(9)}))',
        ),
        # and leaves that DDL brought
        (Window(MOVED, MOMENT, whole=(7, 8)), f'(({AT_LEAST}\n OR "updated_at" IS NULL\n OR {IN_BOTH}))'),
        # by transaction alone
        (Window(since=9), f"(({since(9)}))"),
        (Window(since=9, whole=(7, 8)), f"(({since(9)}\n OR {IN_BOTH}))"),
        # each row once: the rest waits, whatever brings it
        (Window(until=20), f"(NOT ({since(20)}))"),
        (
            Window(since=9, apart=((5, 3), (6, 4)), whole=(7, 8), until=20),
            (
                f"(({since(9)}\n OR tableoid OPERATOR(pg_catalog.=) ANY ('{{5}}'::pg_catalog.oid[]) AND {since(3)}"
                f"\n OR tableoid OPERATOR(pg_catalog.=) ANY ('{{6}}'::pg_catalog.oid[]) AND {since(4)}"
                f"\n OR {IN_BOTH})\n AND NOT ({since(20)}))"
            ),
        ),
    ],
)
def test_a_window_is_the_condition_it_says(window: Window, text: str) -> None:
    assert window.condition.as_string(None) == text


def test_a_window_that_ends_cuts_all_that_it_reads() -> None:
    """AND binds closer than OR: what is wanted stands in brackets of its own."""
    wanted, rest = Window(since=9, whole=(7,), until=20).condition.as_string(None).split("\n AND NOT ")
    assert wanted.startswith("((")
    assert wanted.count("(") == wanted.count(")") + 1
    assert rest == f"({since(20)}))"


def test_a_value_that_sorts_anywhere_is_read_to_be_found() -> None:
    day = Cursor("day", "text", CURSOR_TYPES["yyyymmdd"], "text")
    *_, is_null, misfit = Window(day, "20240101").condition.as_string(None).split("\n OR ")
    assert is_null == '"day" IS NULL'
    assert misfit.startswith('"day"::text OPERATOR(pg_catalog.!~) \'^([0-9]{4}')


@pytest.mark.parametrize("name", ['a"b', "it's", "100%s", "{}", "{0}{name}", "two\nlines", "-- x", "\\", "변경 일시"])
def test_a_column_of_any_name_is_quoted(name: str) -> None:
    column = Column(name, "text", "text")
    cursor = fit(table(columns=(column,)), name, None)
    text = Window(cursor, f"{name}'", since=9).condition.as_string(None)
    quoted = '"' + name.replace('"', '""') + '"'
    value = name.replace("'", "''") + "''"
    literal = f"'{value}'" if "\\" not in name else f" E'{value}'".replace("\\", "\\\\")
    assert text == (
        f'(({quoted} COLLATE pg_catalog."C" OPERATOR(pg_catalog.>=) {literal}::text'
        f"\n OR {quoted} IS NULL\n OR {since(9)}))"
    )


def test_a_span_is_a_literal_whatever_is_written() -> None:
    text = Window(NUMBER, "5", back="1'); DROP TABLE t; --").condition.as_string(None)
    assert "'1''); DROP TABLE t; --'::numeric" in text
