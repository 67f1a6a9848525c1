"""What a source of PostgreSQL 18 has and a target of 16 lacks: left out by name, or refused before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from servers import Pair, database

from pgsluice import Options, Report, sync
from pgsluice.embedded import Cluster
from pgsluice.job import StagingKind


@pytest.fixture
def older(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    """Both clusters the other way round."""
    with database(target_cluster) as source, database(source_cluster) as target:
        yield Pair(source, target)


def synced(pair: Pair, **options: Any) -> Report:
    return sync(pair.source.dsn, pair.target.dsn, "s.*", options=Options(**options))


def assert_left_alone(pair: Pair) -> None:
    assert pair.target.value("SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('s')") == 0
    assert pair.target.value("SELECT count(*) FROM pg_type WHERE typnamespace = to_regnamespace('s')") == 0
    assert pair.target.staging_tables() == []


#: A type, an expression, and what the target says of it.
NEWER = {
    "a function": ("uuid", "uuidv7()", "the target does not take it (function uuidv7() does not exist)"),
    "a function inside another": ("text", "lower(casefold('A'))", "function casefold(text) does not exist"),
    "a function beside a type of its own": (
        "s.word",
        "casefold('A')::s.word",
        "the target lacks the function casefold",
    ),
    "other arguments": ("int", "random(1, 9)", "function random(integer, integer) does not exist"),
    "a cast": ("bytea", "(258)::bytea", "cannot cast type integer to bytea"),
    "a collation": (
        "boolean",
        "('a' COLLATE pg_unicode_fast) < 'b'",
        'collation "pg_unicode_fast" for encoding "UTF8"',
    ),
    "a literal": ("interval", "'infinity'::interval", 'invalid input syntax for type interval: "infinity"'),
    "syntax": ("timestamp", "(now() AT LOCAL)", "syntax error at or near"),
}


@pytest.mark.parametrize("staging", [StagingKind.AUTO, StagingKind.UNLOGGED, StagingKind.PROMOTED], ids=str)
@pytest.mark.parametrize(("type_", "expression", "reason"), NEWER.values(), ids=NEWER)
def test_a_default_that_the_target_lacks_is_left_out_with_a_note(
    older: Pair, type_: str, expression: str, reason: str, staging: StagingKind
) -> None:
    older.source.execute(
        f"""CREATE SCHEMA s; CREATE TYPE s.word AS ENUM ('a', 'b');
        CREATE TABLE s.t (id int PRIMARY KEY, v {type_} DEFAULT {expression}, w text DEFAULT upper('w'));
        INSERT INTO s.t VALUES (1, NULL), (2, NULL)"""
    )
    (table,) = synced(older, staging=staging).tables
    assert table.status == "done", table.error
    assert [note for note in table.notes if "the default of v is not created" in note and reason in note], table.notes
    defaults = "SELECT attname FROM pg_attribute WHERE attrelid = 's.t'::regclass AND atthasdef"
    assert older.target.rows(defaults) == [("w",)]
    assert older.target.image("s.t") == older.source.image("s.t")
    (again,) = synced(older).tables
    assert (again.status, again.unchanged) == ("done", 2)


#: What is computed from which type, the type that comes of it, and what is said of it.
COMPUTED = {
    "a function": ("text", "casefold({})", "text", "function casefold(text) does not exist"),
    "other arguments": ("bytea", "reverse({})", "bytea", "function reverse(bytea) does not exist"),
    "a cast": ("int", "({})::bytea", "bytea", "cannot cast type integer to bytea"),
    "a collation": (
        "text",
        "{} < ('b' COLLATE pg_unicode_fast)",
        "boolean",
        'collation "pg_unicode_fast" for encoding "UTF8"',
    ),
}


@pytest.mark.parametrize("place", ["generated column", "check of a domain"])
@pytest.mark.parametrize(("base", "expression", "type_", "reason"), COMPUTED.values(), ids=COMPUTED)
def test_what_is_computed_with_what_the_target_lacks_is_refused_before_anything_is_written(
    older: Pair, base: str, expression: str, type_: str, reason: str, place: str
) -> None:
    columns = {
        "generated column": f"a {base}, v {type_} GENERATED ALWAYS AS ({expression.format('a')}) STORED",
        "check of a domain": "v s.d",
    }
    older.source.execute(
        f"""CREATE SCHEMA s; CREATE DOMAIN s.d AS {base} CHECK (({expression.format("VALUE")})::text <> 'none');
        CREATE TABLE s.t (id int PRIMARY KEY, {columns[place]}); INSERT INTO s.t VALUES (1)"""
    )
    (table,) = synced(older).tables
    assert (table.exit_code, table.step) == (6, "plan"), table.error
    assert reason in str(table.error), table.error
    assert_left_alone(older)


INDEXES = {
    "a function": "CREATE INDEX newer ON s.t (casefold(a))",
    "other arguments": "CREATE INDEX newer ON s.t (reverse(b))",
    "a condition": "CREATE INDEX newer ON s.t (id) WHERE casefold(a) = 'x'",
    "a collation": "CREATE INDEX newer ON s.t (a COLLATE pg_unicode_fast)",
    "a collation in an expression": "CREATE UNIQUE INDEX newer ON s.t ((lower(a) COLLATE pg_unicode_fast), id)",
    "WITHOUT OVERLAPS": "ALTER TABLE s.t ADD CONSTRAINT newer UNIQUE (r, q WITHOUT OVERLAPS)",
    "an exclusion over an expression": "ALTER TABLE s.t ADD CONSTRAINT newer EXCLUDE (casefold(a) WITH =)",
}


@pytest.mark.parametrize("staging", [StagingKind.AUTO, StagingKind.PROMOTED], ids=str)
@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_an_index_that_the_target_lacks_something_for_is_left_out_with_a_note(
    older: Pair, index: str, staging: StagingKind
) -> None:
    older.source.execute(
        f"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, a text, b bytea, r int4range, q int4range);
        INSERT INTO s.t VALUES (1, 'X', 'x', '[1,2)', '[1,2)'), (2, 'y', 'y', '[1,2)', '[2,3)');
        CREATE INDEX kept ON s.t (lower(a)) WHERE b IS NOT NULL; {index}"""
    )
    (table,) = synced(older, indexes=True, staging=staging).tables
    assert table.status == "done", table.error
    (note,) = [note for note in table.notes if note.startswith("not created on the target: ")]
    assert ("newer (" in note, "kept" in note) == (True, False), note
    assert older.target.rows("SELECT indexname::text FROM pg_indexes WHERE schemaname = 's' ORDER BY 1") == [
        ("kept",),
        ("t_pkey",),
    ]
    assert older.target.image("s.t") == older.source.image("s.t")


TYPES = {
    "a domain with a collation": "CREATE DOMAIN s.d AS text COLLATE pg_unicode_fast",
    "a composite with a collation": "CREATE TYPE s.d AS (v text COLLATE pg_unicode_fast)",
    "a range with a collation": "CREATE TYPE s.d AS RANGE (subtype = text, collation = pg_unicode_fast)",
    "a collation of a newer provider": "CREATE COLLATION s.c (provider = builtin, locale = 'C'); CREATE DOMAIN s.d AS text COLLATE s.c",
}


@pytest.mark.parametrize("definition", TYPES.values(), ids=TYPES)
def test_a_type_that_the_target_lacks_something_for_is_refused_before_anything_is_written(
    older: Pair, definition: str
) -> None:
    older.source.execute(f"CREATE SCHEMA s; {definition}; CREATE TABLE s.t (id int PRIMARY KEY, v s.d)")
    report = synced(older)
    assert (report.exit_code, report.tables[0].step) == (6, "plan"), report.tables[0].error
    assert "s." in str(report.tables[0].error)
    assert_left_alone(older)


def test_a_default_of_a_domain_that_the_target_lacks_is_left_out_with_a_note(older: Pair) -> None:
    older.source.execute(
        """CREATE SCHEMA s; CREATE DOMAIN s.id AS uuid DEFAULT uuidv7();
        CREATE TABLE s.t (id int PRIMARY KEY, v s.id); INSERT INTO s.t VALUES (1), (2)"""
    )
    (table,) = synced(older).tables
    assert table.status == "done", table.error
    reason = "the target does not take it (function uuidv7() does not exist)"
    assert f"the default of s.id is not created because {reason}: uuidv7()" in table.notes
    assert older.target.image("s.t") == older.source.image("s.t")
