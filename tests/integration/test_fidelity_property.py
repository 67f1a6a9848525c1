"""Whatever tables are made of, and however they are copied: they arrive, come back, and are not written twice.

``PGSLUICE_EXAMPLES=500`` looks at more of them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from psycopg import sql
from servers import Database, database
from typelist import FAMILIES, Kind, in_arrays
from typetables import create_types, image_query, nested_kinds, read_images

from pgsluice import CopyFormat, Lane, MaxDelete, Options, StagingKind, sync
from pgsluice.embedded import Cluster
from pgsluice.job import TableRef

EXAMPLES = int(os.environ.get("PGSLUICE_EXAMPLES", "30"))
#: Making a failing case smaller takes minutes: not where only a few are looked at.
PHASES = (Phase.generate, Phase.shrink) if EXAMPLES > 30 else (Phase.generate,)
MOST_SECONDS = 300 + 3 * EXAMPLES
KEY_BYTES = 2000

#: What both servers of the wheel have: no extension, no XML.
HELD = [family for family in FAMILIES if not family.needs and family.since <= 16]
KINDS = [kind for family in HELD if family.is_plain for kind in family.kinds if "above" not in family.name]
NESTED = [kind for family in HELD for kind in nested_kinds(family).values()]
KEYS = [kind for kind in KINDS if kind.is_key]

NAMES = (
    "t", "s", "query", "staged", "pgsluice_staged", "select", "Order", "0", "1a", "a.b", 'q"uote', '"', "it's", "a;b",
    "--", "/*", "per%cent", "%s", "%(a)s", "%%", "{}", "{table}", "{schema}", "{0}", "line\nbreak", "tab\there", " ", "  a ",
    "<script>", "\\", "\\.", "\\N", "$1", "$$", ":a", "*", "a*", "[x]", "?", "한글", "가" * 21, "x" * 63, "é", "e\u0301", "\ufeff",
    "👩‍👩‍👧‍👦", "NULL", "merge", "\x01", "a b",
)  # fmt: skip
_SYSTEM = {"public", "information_schema", "pgsluice", "ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"}


def _can_be_a_name(text: str) -> bool:
    return 0 < len(text.encode()) <= 63 and not text.startswith("pg_") and text not in _SYSTEM


def names() -> st.SearchStrategy[str]:
    free = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
    return st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), free).filter(_can_be_a_name)


@dataclass(frozen=True)
class Drawn:
    """A table: its columns with their values row by row, and which of them are the key."""

    ref: TableRef
    columns: tuple[tuple[str, Kind], ...]
    keys: frozenset[str]
    rows: tuple[tuple[str, ...], ...]

    def script(self) -> sql.Composed:
        """Return what creates and fills it; a row whose key is there, or too long for an index, is left out."""
        name = sql.Identifier(self.ref.schema, self.ref.name)
        columns = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind.type)) for name, kind in self.columns]
        key = sql.SQL(", ").join(sql.Identifier(name) for name, _ in self.columns if name in self.keys)
        statements = [sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(name, sql.SQL(", ").join(columns), key)]
        for row in self.rows:
            pairs = list(zip(self.columns, row, strict=True))
            keys = sql.SQL(", ").join(sql.SQL(value) for (name, _), value in pairs if name in self.keys)
            values = sql.SQL(", ").join(sql.SQL(value) for _, value in pairs)
            statements.append(
                sql.SQL("INSERT INTO {} SELECT {} WHERE pg_column_size(ROW({})) < {} ON CONFLICT DO NOTHING").format(
                    name, values, keys, sql.Literal(KEY_BYTES)
                )
            )
        return sql.SQL(";\n").join(statements)

    def damage(self) -> sql.Composed:
        """Return what takes every other row away, and the values of the rest that are not its key."""
        name = sql.Identifier(self.ref.schema, self.ref.name)
        gone = sql.SQL("DELETE FROM {} WHERE (ctid::text::point)[1]::int % 2 = 0").format(name)
        others = [
            sql.SQL("{} = NULL").format(sql.Identifier(name)) for name, _ in self.columns if name not in self.keys
        ]
        if not others:
            return gone
        return sql.SQL("{}; UPDATE {} SET {}").format(gone, name, sql.SQL(", ").join(others))


@st.composite
def drawn_tables(draw: st.DrawFn) -> list[Drawn]:
    """Draw one to three tables of one schema."""
    schema = draw(names().filter(lambda name: name != "s"))
    return [draw(drawn_table(schema, name)) for name in draw(st.lists(names(), min_size=1, max_size=3, unique=True))]


@st.composite
def drawn_table(draw: st.DrawFn, schema: str, name: str) -> Drawn:
    key_kinds = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    plain = st.sampled_from(KINDS) | st.sampled_from([kind for kind in KINDS if kind.has_array]).map(in_arrays)
    others = draw(st.lists(plain | st.sampled_from(NESTED) if draw(st.booleans()) else plain, max_size=6))
    kinds = draw(st.permutations([*((kind, True) for kind in key_kinds), *((kind, False) for kind in others)]))
    called = draw(st.lists(names(), min_size=len(kinds), max_size=len(kinds), unique=True))
    rows = draw(st.lists(st.tuples(*(_value(kind, is_key=is_key) for kind, is_key in kinds)), max_size=8))
    keys = frozenset(name for name, (_, is_key) in zip(called, kinds, strict=True) if is_key)
    columns = tuple((name, kind) for name, (kind, _) in zip(called, kinds, strict=True))
    return Drawn(TableRef(schema, name), columns, keys, tuple(rows))


def _value(kind: Kind, *, is_key: bool) -> st.SearchStrategy[str]:
    values = st.sampled_from(kind.values)
    return (values if is_key else values | st.just("NULL")).map(lambda value: f"({value})::{kind.type}")


OPTIONS = st.builds(
    Options,
    jobs=st.sampled_from([1, 2]),
    staging=st.sampled_from(StagingKind),
    lane=st.sampled_from([Lane.LIBPQ, Lane.LIBPQ, Lane.PSQL]),
    format=st.sampled_from([CopyFormat.AUTO, CopyFormat.TEXT]),
    retries=st.just(0),
    atomic=st.booleans(),
    allow_narrowing=st.just(True),  # a plain oid is a number
    max_delete=st.just(MaxDelete.parse("100%")),
)
#: From how many bytes on a target is compared before it is merged into.
COMPARED_FROM = st.sampled_from([0, 1 << 62])


@pytest.fixture(scope="module")
def databases(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[tuple[Database, Database, Database]]:
    """A source, a target of the newer major, and a database of the source's server to come back to; types on each."""
    with database(source_cluster) as source, database(target_cluster) as target, database(source_cluster) as home:
        for each in (source, target, home):
            create_types(each, HELD)
        yield source, target, home


def execute(database: Database, *statements: sql.Composed) -> None:
    with psycopg.connect(database.dsn, autocommit=True, options="-c client_min_messages=error") as connection:
        connection.execute(sql.SQL(";\n").join(statements))


@contextlib.contextmanager
def emptied(databases: tuple[Database, ...], schema: str) -> Iterator[None]:
    """Take the schema away afterwards."""
    try:
        yield
    finally:
        for each in databases:
            execute(each, sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def images(held: Database, tables: list[Drawn]) -> dict[str, list[bytes]]:
    return read_images(held, {str(table.ref): image_query(table.ref.schema, table.ref.name) for table in tables})


def copy(one: Database, other: Database, tables: list[Drawn], options: Options) -> list[tuple[int, int, int]]:
    """Copy and return rows inserted, updated and deleted of each table."""
    report = sync(one.dsn, other.dsn, *(str(table.ref) for table in tables), options=options)
    note(f"{[(each.target, each.format, each.staging, each.error) for each in report.tables]}")
    assert report.exit_code == 0, [(each.step, each.error) for each in report.failed]
    return [(each.inserted, each.updated, each.deleted) for each in report.tables]


@pytest.mark.timeout(MOST_SECONDS)
@settings(
    max_examples=EXAMPLES,
    phases=PHASES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(tables=drawn_tables(), ways=st.tuples(*[OPTIONS] * 4), compared_from=COMPARED_FROM)
def test_any_table_arrives_by_any_way_and_comes_back(
    databases: tuple[Database, Database, Database],
    tables: list[Drawn],
    ways: tuple[Options, Options, Options, Options],
    compared_from: int,
) -> None:
    source, target, home = databases
    there, repair, again, back = ways
    schema = tables[0].ref.schema
    create = sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema))
    with pytest.MonkeyPatch.context() as patch, emptied(databases, schema):
        patch.setattr("pgsluice.plan.COMPARED_FROM_BYTES", compared_from)
        execute(source, create, *(table.script() for table in tables))
        written = images(source, tables)
        copy(source, target, tables, there)
        assert images(target, tables) == written
        execute(target, *(table.damage() for table in tables))
        copy(source, target, tables, repair)
        assert images(target, tables) == written
        assert set(copy(source, target, tables, again)) == {(0, 0, 0)}
        copy(target, home, tables, back)
        assert images(home, tables) == written
