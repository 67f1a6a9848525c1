"""What may stand in a statement, of the texts that another server printed."""

from __future__ import annotations

import pytest

from pgsluice.errors import RefusedError
from pgsluice.expressions import (
    calls_of,
    condition_of,
    is_definition,
    obstacle,
    operator_name,
    parse,
    type_name,
)

TYPES = [
    "integer", "numeric(10,2)", "numeric(3,-2)", '"char"', "double precision", "bit varying(4)", "character varying(3)[]",
    "timestamp(3) without time zone", "time with time zone[]", "interval day to second(3)", "interval(3)", "s.mood",
    '"t y"."in""ner"[]', "public.geometry(PointZ,4326)", "text COLLATE s.bytes", 'text COLLATE "C"',
]  # fmt: skip
NO_TYPES = [
    "", "???", "integer); SELECT 1", "integer DEFAULT 1", "integer, evil integer", "integer -- x", "integer\n);", "a.b.c",
    "integer CHECK (true)", "integer NOT NULL", "numeric(lo_create(1))", "numeric('1')", "text COLLATE", 'a"b', "a;b",
    "text) ", "SETOF s.t", "s.t%TYPE", "times with time zone", "integer[1]", "U&'x'",
]  # fmt: skip


@pytest.mark.parametrize("text", TYPES)
def test_a_name_of_a_type_is_one(text: str) -> None:
    assert type_name(text) == text


@pytest.mark.parametrize("text", NO_TYPES)
def test_anything_else_is_no_name_of_a_type(text: str) -> None:
    with pytest.raises(RefusedError, match="where the name of a type belongs"):
        type_name(text)


@pytest.mark.parametrize("text", ["=", "<>", "&&", "@>", "!~~*"])
def test_an_operator_is_one(text: str) -> None:
    assert operator_name(text) == text


@pytest.mark.parametrize("text", ["", "= 1", "=)", "a", "=;", "OR", "--", "/*", "=--"])
def test_anything_else_is_no_operator(text: str) -> None:
    with pytest.raises(RefusedError, match="where an operator belongs"):
        operator_name(text)


UNDERSTOOD = [
    "'x'::text", "'O''x'", r"E'a\\b''c\'d'::text", "B'0'::\"bit\"", r"'\x00'::bytea", "'-1'::integer", "(- 1.5e3)",
    "now()", "CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP(3)", "timezone('utc'::text, now())", "(now() AT TIME ZONE 'utc'::text)",
    "('now'::text)::timestamp(3) without time zone", "'01:00:00'::interval day to second(3)", "(CURRENT_DATE + 30)",
    "(1)::numeric(10,2)", "ARRAY[]::integer[]", "'sad'::s.mood", "gen_random_uuid()", "((random() * (10)::double precision))::integer",
    "((VALUE)::text ~ '^[a-z]+;--$'::text)", "((VALUE IS NULL) OR (length(VALUE) < 8))", '((VALUE COLLATE "C") > \'a\'::text)',
    "(VALUE = ANY (ARRAY['a'::text, 'b'::text]))", "(NOT (VALUE IS DISTINCT FROM 3))", "(VALUE OPERATOR(pg_catalog.+) 1)",
    "CASE WHEN (VALUE > 0) THEN true ELSE false END", "COALESCE(VALUE, NULLIF(1, 2), GREATEST(1, 2))", "((VALUE)[1] > 2)",
    "EXTRACT(year FROM VALUE)", "TRIM(BOTH FROM VALUE)", "SUBSTRING(VALUE FROM 1 FOR 2)", "to_char(VALUE, 'YYYY'::text)",
]  # fmt: skip
REFUSED = [
    "", "1; SELECT 1", "1)", "(1", "[1)", "1 -- x", "1 /* x */", "1 --", "$$x$$", "$1", "s.a", "a", "1::", "1 :: text", "@-- 1",
    "U&'x'", 'U&"lo_create"(1)', "'a' 'b'", "E'a'\n'\\' || ' || lo_create(1) || '", "'x' \\! id", "'x", "E'x\\'", '"x',
    "(SELECT now())", "now() OVER w", "lo_create(1)", "pg_catalog.lo_create(1)", '"pg_catalog"."lo_create"(1)', '"lo_create"(1)',
    "LO_CREATE(1)", "lo_create\n(1)", "s.now()", '"pg_catalog.now"()', "public.now()", "s.f(1)", "a.b.now()", "'x'::s.other",
    "(1 OPERATOR(s.+) 2)", "1 OPERATOR(pg_catalog.--) 2", "(ROW(1)).f1", "('/etc/passwd'::text).pg_read_file",
    "nextval('s.x'::regclass)", "query_to_xml('x'::text, true, true, ''::text)", "current_setting('a'::text)", "pg_sleep(1)",
    "CASE WHEN true THEN pg_sleep(1) END", "ARRAY[set_config('a'::text, 'b'::text, true)]", "CAST(1 AS text)",
]  # fmt: skip


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_what_schemas_commonly_compute_may_be_carried_over(text: str) -> None:
    assert obstacle(text, (), {"s.mood"}, ()) is None


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_understood_or_calls_anything_else_may_not(text: str) -> None:
    assert obstacle(text, (), {"s.mood"}, ())


def test_a_literal_that_goes_on_in_another_is_not_understood() -> None:
    assert parse("E'a'\n'\\' || ' || lo_create(1) || '") is None


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("(lower(VALUE) ~ upper('a'::text))", {("pg_catalog", "lower"), ("pg_catalog", "upper")}),
        ('"left"(now()::text, 1)', {("pg_catalog", "left")}),
        ("(VALUE OPERATOR(lib.~) 'x'::lib.citext)", {("lib", "~")}),
        ("((VALUE).first IS NOT NULL)", {("", "first")}),
        ("make_interval(days => 10)", {("pg_catalog", "make_interval")}),
        ("lower('x'); SELECT upper('x')", set()),
    ],
)
def test_what_an_expression_calls_is_asked_of_the_target_and_decides(text: str, calls: set[tuple[str, str]]) -> None:
    assert calls_of(text) == calls
    if calls:
        assert "it calls" in str(obstacle(text, (), {"lib.citext"}, ()))
        assert obstacle(text, (), {"lib.citext"}, calls) is None


def test_only_columns_of_the_table_are_named() -> None:
    assert obstacle('((a)::numeric * "B c")', {"a", "B c"}, (), ()) is None
    assert obstacle("((a)::numeric * d)", {"a", "B c"}, (), ())


def test_a_check_is_taken_apart_and_nothing_else_is_one() -> None:
    assert condition_of("CHECK ((VALUE > 0)) NOT VALID") == ("(VALUE > 0)", " NOT VALID")
    closing, _ = condition_of("CHECK (true) ; SELECT (1)")
    assert parse(closing) is None
    for text in ("CHECK true", "NOT NULL", "CHECK (true); SELECT 1", "CHECK (true) NOT VALID; SELECT 1"):
        with pytest.raises(RefusedError, match="where a CHECK belongs"):
            condition_of(text)


DEFINITIONS = [
    "UNIQUE (a, b)", "UNIQUE NULLS NOT DISTINCT (email) INCLUDE (b) DEFERRABLE INITIALLY DEFERRED",
    "UNIQUE (a, during WITHOUT OVERLAPS)", "EXCLUDE USING gist (during WITH &&) WHERE ((a > 1))",
    "USING btree (lower(x) text_pattern_ops DESC NULLS LAST, y COLLATE \"C\") INCLUDE (z) WITH (fillfactor='70') WHERE (b > 3)",
    "USING gin (to_tsvector('english'::regconfig, x))",
]  # fmt: skip
NO_DEFINITIONS = [
    "UNIQUE (a), ADD evil integer DEFAULT lo_create(1)", "COLUMN evil integer DEFAULT (lo_create(1))", "evil integer DEFAULT 1",
    "UNIQUE (a) CHECK (lo_create(1) > 0)", "CHECK (lo_create(1) > 0)", "UNIQUE (a); SELECT 1", "USING btree (s.f(a))",
    "USING btree (a) TABLESPACE x", "UNIQUE USING INDEX x DEFAULT 1", "USING btree (('x'::s.other)::text)", "'x'", "UNIQUE (a",
    "USING btree ((a OPERATOR(s.+) 1))", "FOREIGN KEY (a) REFERENCES b",
]  # fmt: skip


@pytest.mark.parametrize("text", DEFINITIONS)
def test_an_index_or_a_constraint_is_known_by_its_outline(text: str) -> None:
    assert is_definition(text, ())


@pytest.mark.parametrize("text", NO_DEFINITIONS)
def test_anything_else_defines_neither(text: str) -> None:
    assert not is_definition(text, ())
