"""Tables of the types in typelist: on a source with their rows, and the types alone on a target."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql
from servers import Database
from typelist import FAMILIES, Family, Kind, in_arrays, in_composites, in_domains

#: A larger key does not fit into a page of its index.
_KEY_BYTES = 2000
_ROW = '"the whole row"'  # no column is called so
_PRELUDE = (
    "-c search_path= -c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=3"
    " -c bytea_output=hex -c xmloption=content"
)


@dataclass(frozen=True)
class Table:
    """One table of a family.

    Attributes:
        family: that it is of.
        name: in schema ``s``.
        columns: by name; a key table has ``k`` alone, the others an ``id`` before them.
        is_key: the one column is the primary key.
    """

    family: Family
    name: str
    columns: Mapping[str, Kind]
    is_key: bool = False

    def definition(self, schema: str) -> str:
        """Return its CREATE TABLE."""
        columns = ", ".join(f"{name} {kind.type}" for name, kind in self.columns.items())
        columns = f"{columns} PRIMARY KEY, n integer" if self.is_key else f"id integer PRIMARY KEY, {columns}"
        return f"CREATE TABLE {schema}.{self.name} ({columns})"

    def rows(self) -> str:
        """Return what fills it in schema ``s``."""
        if self.is_key:
            (kind,) = self.columns.values()
            fitting = " UNION ALL ".join(f"SELECT ({value})::{kind.type} AS v" for value in kind.values)
            return (
                f"INSERT INTO s.{self.name} SELECT v, pg_column_size(v) FROM ({fitting}) AS f"
                f" WHERE pg_column_size(v) < {_KEY_BYTES} ON CONFLICT DO NOTHING"
            )
        return f"INSERT INTO s.{self.name} VALUES {', '.join(self._rows())}"

    def image(self) -> str:
        """Return the expression for a row's image."""
        if not (cast := self.family.image):
            return _ROW
        columns = (self._cast(name, cast) for name in self.columns)
        return f"ROW({', '.join(columns)})"

    @staticmethod
    def _cast(name: str, cast: str) -> str:
        if name.startswith("cs"):
            return f"ARRAY(SELECT ROW((e).one::{cast}, (e).more::{cast}[]) FROM unnest({name}) AS e)"
        if name.startswith("c"):
            return f"({name}).one::{cast}, ({name}).more::{cast}[]"
        return f"{name}::{cast}{'[]' if name.startswith(('a', 'ds')) else ''}"

    def _rows(self) -> Iterator[str]:
        """Yield as many rows as the longest list has values, and one of NULLs."""
        yield f"(0, {', '.join(f'NULL::{kind.type}' for kind in self.columns.values())})"
        for row in range(max(len(kind.values) for kind in self.columns.values())):
            values = (f"({kind.values[row % len(kind.values)]})::{kind.type}" for kind in self.columns.values())
            yield f"({row + 1}, {', '.join(values)})"


def tables(families: Iterable[Family]) -> list[Table]:
    """Return the tables of these families: plain and arrays, in composites and domains, and one for each key."""
    return [table for family in families for table in _tables(family)]


def _tables(family: Family) -> Iterator[Table]:
    kinds = dict(enumerate(family.kinds, 1))
    plain = {f"v{i}": kind for i, kind in kinds.items()}
    arrays = {f"a{i}": in_arrays(kind) for i, kind in kinds.items() if kind.has_array}
    if family.is_plain:
        yield Table(family, family.slug, plain | arrays)
    if family.is_nested:
        yield Table(family, f"{family.slug}_nested", nested_kinds(family))
    for i, kind in kinds.items():
        if kind.is_key and family.is_plain:
            yield Table(family, f"{family.slug}_key_{i}", {"k": kind}, is_key=True)


def nested_kinds(family: Family) -> dict[str, Kind]:
    """Return the composites and domains of a family's kinds, and arrays of them, by the name of a column."""
    nested: dict[str, Kind] = {}
    for i, kind in enumerate(family.kinds, 1) if family.is_nested else ():
        composite = in_composites(kind, _name("c", family, i))
        domain = in_domains(kind, _name("d", family, i))
        nested |= {f"c{i}": composite, f"cs{i}": in_arrays(composite), f"d{i}": domain, f"ds{i}": in_arrays(domain)}
    return nested


def _name(letter: str, family: Family, number: int) -> str:
    return f"s.{letter}_{family.slug}_{number}"


def types_sql(family: Family) -> str:
    """Return what creates the types that the tables of a family need."""
    statements = [family.types] if family.types else []
    for i, kind in enumerate(family.kinds, 1) if family.is_nested else ():
        more = f"{kind.type}[]" if kind.has_array else "text"
        statements.append(f"CREATE TYPE {_name('c', family, i)} AS (one {kind.type}, more {more})")
        statements.append(f"CREATE DOMAIN {_name('d', family, i)} AS {kind.type}")
    return ";\n".join(statements)


def present(database: Database) -> set[str]:
    """Return the families whose types a server has; values that came later are another matter."""
    extensions = {name for (name,) in database.rows("SELECT name::text FROM pg_available_extensions")}
    try:
        database.value("SELECT '<a/>'::xml")
        extensions.add("xml")
    except psycopg.errors.FeatureNotSupported:
        pass
    return {family.name for family in FAMILIES if not family.needs or family.needs in extensions}


def create_types(database: Database, families: Iterable[Family], made: Iterable[Family] | None = None) -> None:
    """Create schema ``s``, extensions, and types: of all families, or of those in `made`; the engine makes the others."""
    families = list(families)
    script = ["CREATE SCHEMA s"]
    script += [f"CREATE EXTENSION {name} SCHEMA public" for name in sorted({f.needs for f in families} - {"", "xml"})]
    script += [types_sql(family) for family in (families if made is None else made)]
    database.execute(";\n".join(filter(None, script)))


def fill(database: Database, families: Iterable[Family]) -> None:
    """Create types and tables in schema ``s``, with their rows."""
    families = list(families)
    create_types(database, families)
    for table in tables(families):
        database.execute(f"{table.definition('s')}; {table.rows()}")


def images(database: Database, schema: str, wanted: Iterable[Table]) -> dict[str, list[bytes]]:
    """Return the rows of tables as the bytes of their text; a table that is not there has none."""
    return read_images(database, {table.name: image_query(schema, table.name, table.image()) for table in wanted})


def image_query(schema: str, name: str, image: str = _ROW) -> sql.Composed:
    """Return the query for the images of a table's rows, as bytes: 14 writes some that are no UTF-8."""
    return sql.SQL("SELECT textsend({}::text) FROM {} AS {}").format(
        sql.SQL(image),
        sql.Identifier(schema, name),
        sql.SQL(_ROW),
    )


def read_images(database: Database, queries: Mapping[str, sql.Composed]) -> dict[str, list[bytes]]:
    """Return the sorted results of image queries, under settings by which a value's text leaves nothing of it out."""
    found: dict[str, list[bytes]] = {}
    with psycopg.connect(database.dsn, autocommit=True, options=_PRELUDE) as connection:
        for name, query in queries.items():
            with contextlib.suppress(psycopg.errors.UndefinedTable):
                found[name] = sorted(row for (row,) in connection.execute(query))
    return found


def writers(database: Database, schema: str, wanted: Iterable[Table]) -> dict[str, set[str]]:
    """Return the transactions that wrote the rows of tables; a table that is not there has none."""
    found: dict[str, set[str]] = {}
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for table in wanted:
            query = sql.SQL("SELECT DISTINCT xmin::text FROM {}").format(sql.Identifier(schema, table.name))
            with contextlib.suppress(psycopg.errors.UndefinedTable):
                found[table.name] = {xmin for (xmin,) in connection.execute(query)}
    return found
