"""Fills any schema with rows, and changes them: values by the types of columns, references by the foreign keys."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

#: What text columns hold, before a number.
_TEXTS = r"""(ARRAY['plain ', 'é ü ', E'tab\t', E'back\\slash ', 'quote''s ', '', '한글 ', E'line\nbreak '])"""
_TABLES = """
SELECT c.oid, n.nspname, c.relname
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname = %s
 ORDER BY c.relname
"""
#: Domains are looked through; of an array the element counts.
_COLUMNS = """
WITH RECURSIVE base AS (
  SELECT a.attrelid, a.attname, a.attnum, a.attnotnull, a.attgenerated <> '' AS computed, a.atttypid AS type,
         a.atttypmod AS modifier, false AS is_domain
    FROM pg_attribute a WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
   UNION ALL
  SELECT b.attrelid, b.attname, b.attnum, b.attnotnull, b.computed, t.typbasetype, t.typtypmod, true
    FROM base b JOIN pg_type t ON t.oid = b.type AND t.typtype = 'd')
SELECT b.attrelid, b.attname, b.attnotnull, b.computed, CASE WHEN t.typelem <> 0 AND t.typlen = -1 THEN e.typname ELSE t.typname END,
       t.typelem <> 0 AND t.typlen = -1, t.typtype = 'e', format_type(t.oid, NULL), b.modifier, b.is_domain
  FROM base b JOIN pg_type t ON t.oid = b.type LEFT JOIN pg_type e ON e.oid = t.typelem
 WHERE t.typtype <> 'd' ORDER BY b.attnum
"""
#: A key of a partition counts as one of the whole.
_KEYS = """
SELECT DISTINCT coalesce(pg_partition_root(k.conrelid)::oid, k.conrelid), coalesce(pg_partition_root(k.confrelid)::oid, k.confrelid),
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS p (n, at)
               JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = p.n ORDER BY p.at),
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS p (n, at)
               JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = p.n ORDER BY p.at)
  FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = ANY (
       SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s)
"""
_UNIQUE = """
SELECT i.indrelid, ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS p (n, at)
                           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = p.n ORDER BY p.at)
  FROM pg_index i WHERE i.indisunique AND i.indrelid = ANY (%s)
"""


@dataclass(frozen=True)
class _Column:
    name: str
    not_null: bool
    computed: bool
    type: str
    is_array: bool
    is_enum: bool
    full_type: str
    modifier: int
    is_domain: bool


@dataclass(frozen=True)
class _Key:
    child: int
    parent: int
    own: tuple[str, ...]
    theirs: tuple[str, ...]


class Schema:
    """A schema of a database, to be filled: row g of every table is the same whenever it is asked for."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        with psycopg.connect(dsn) as session:
            self.tables = {
                oid: sql.Identifier(schema, table) for oid, schema, table in session.execute(_TABLES, [name])
            }
            oids = [list(self.tables)]
            self._columns: dict[int, list[_Column]] = {oid: [] for oid in self.tables}
            for oid, *rest in session.execute(_COLUMNS, oids):
                self._columns[oid].append(_Column(*rest))
            self._keys = [
                _Key(child, parent, tuple(own), tuple(theirs))
                for child, parent, own, theirs in session.execute(_KEYS, [name])
            ]
            #: Of each unique index one column that numbers the rows.
            self._numbering: dict[int, set[str]] = {oid: set() for oid in self.tables}
            self._fixed = {(key.parent, name) for key in self._keys for name in key.theirs}
            for oid, names in session.execute(_UNIQUE, oids):
                self._fixed |= {(oid, name) for name in names}
                if names and not self._numbering[oid] & set(names):
                    self._numbering[oid].add(names[0])

    def fill(self, rows: int) -> None:
        """Give every table as many rows."""
        self._insert(1, rows)

    def change(self, before: int, more: int) -> None:
        """Insert rows everywhere, change every fourth, and delete what nothing refers to of every thirteenth."""
        self._insert(before + 1, before + more)
        with psycopg.connect(self._dsn) as session:
            for oid in self.tables:
                session.execute("SET session_replication_role = replica")
                if update := self._update(oid, before + more):
                    session.execute(update)
                session.execute("SET session_replication_role = origin")
            for oid in [*self.tables, *self.tables]:
                session.execute(self._delete(oid))

    def _insert(self, first: int, last: int) -> None:
        with psycopg.connect(self._dsn) as session:
            session.execute("SET session_replication_role = replica")  # circles of foreign keys have no first table
            for oid, table in self.tables.items():
                columns = [column for column in self._columns[oid] if not column.computed]
                session.execute(
                    sql.SQL(
                        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM generate_series({}, {}) g"
                    ).format(
                        table,
                        sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
                        sql.SQL(", ").join(sql.SQL(self._value(oid, column, "g", last)) for column in columns),
                        first,
                        last,
                    )
                )
            for key in self._keys:
                (lost,) = session.execute(self._orphans(key)).fetchone() or (0,)
                if lost:
                    raise AssertionError(f"{lost} rows of {self.tables[key.child].as_string()} refer to nothing")
            session.execute("ANALYZE")

    def _value(self, oid: int, column: _Column, g: str, last: int, depth: int = 0) -> str:
        if depth > len(self.tables):
            raise AssertionError(f"the keys of {self.tables[oid].as_string()} go round in a circle")
        key = next((key for key in self._keys if key.child == oid and column.name in key.own), None)
        if key is None:
            return _plain(column, g, is_number=column.name in self._numbering[oid])
        is_numbering = bool(self._numbering[oid] & set(key.own))
        number = f"((({g}) - 1) % {last} + 1)" if is_numbering else f"((({g}) * 7 + {len(key.own[0])}) % {last} + 1)"
        name = key.theirs[key.own.index(column.name)]
        theirs = next(each for each in self._columns[key.parent] if each.name == name)
        value = self._value(key.parent, theirs, number, last, depth + 1)
        return value if column.not_null or is_numbering else f"CASE WHEN ({g}) % 5 > 0 THEN {value} END"

    def _update(self, oid: int, last: int) -> sql.Composed | None:
        referring = {name for key in self._keys if key.child == oid for name in key.own}
        changed = [
            column
            for column in self._columns[oid]
            if not column.computed and column.name not in referring and (oid, column.name) not in self._fixed
        ]
        if not changed:
            return None
        return sql.SQL("UPDATE {} AS t SET {} FROM ({}) AS numbered WHERE {} AND n % 4 = 0").format(
            self.tables[oid],
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(
                    sql.Identifier(column.name), sql.SQL(self._value(oid, column, "n + 17", last))
                )
                for column in changed
            ),
            self._numbered(oid),
            sql.SQL("(t.tableoid, t.ctid) = (numbered.part, numbered.place)"),
        )

    def _delete(self, oid: int) -> sql.Composed:
        spared = sql.SQL("").join(
            sql.SQL(" AND NOT EXISTS (SELECT FROM {} AS c WHERE {})").format(
                self.tables[key.child], _equal(key, "c", "t")
            )
            for key in self._keys
            if key.parent == oid
        )
        return sql.SQL(
            "DELETE FROM {} AS t USING ({}) AS numbered WHERE (t.tableoid, t.ctid) = (numbered.part, numbered.place) AND n % 13 = 0{}"
        ).format(self.tables[oid], self._numbered(oid), spared)

    def _numbered(self, oid: int) -> sql.Composed:
        return sql.SQL(
            "SELECT tableoid AS part, ctid AS place, row_number() OVER (ORDER BY x::text)::int AS n FROM {} AS x"
        ).format(self.tables[oid])

    def _orphans(self, key: _Key) -> sql.Composed:
        none = sql.SQL(" AND ").join(sql.SQL("c.{} IS NOT NULL").format(sql.Identifier(name)) for name in key.own)
        return sql.SQL("SELECT count(*) FROM {} AS c WHERE {} AND NOT EXISTS (SELECT FROM {} AS t WHERE {})").format(
            self.tables[key.child], none, self.tables[key.parent], _equal(key, "c", "t")
        )


def _equal(key: _Key, child: str, parent: str) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(child, own), sql.Identifier(parent, theirs))
        for own, theirs in zip(key.own, key.theirs, strict=True)
    )


def _plain(column: _Column, g: str, *, is_number: bool) -> str:
    """Return a value by the type of a column alone; it is another one in each row where it numbers the rows."""
    value = _of_type(column, f"({g})", is_number=is_number)
    if column.is_array:
        value = f"ARRAY[{value}, {_of_type(column, f'({g} + 1)', is_number=False)}]::{column.full_type}"
    return value if column.not_null or is_number else f"CASE WHEN ({g}) % 6 > 0 THEN {value} END"


def _of_type(column: _Column, g: str, *, is_number: bool) -> str:
    length = column.modifier - 4 if column.modifier > 0 else 1 << 20
    if column.is_enum:
        return (
            f"(enum_range(NULL::{column.full_type}))[{g} % array_length(enum_range(NULL::{column.full_type}), 1) + 1]"
        )
    if column.type in {"text", "varchar", "bpchar"}:
        numbered = f"lpad(to_hex({g}), {min(length, 5)}, '0')"
        return numbered if is_number else f"left({_TEXTS}[{g} % 8 + 1] || {g}, {length})"
    if column.type in {"int2", "int4", "int8"}:
        return f"{g}::{column.type}" if is_number else f"(2000 + {g} % 20)" if column.is_domain else f"({g} * 3 % 1000)"
    if column.type == "numeric":
        whole, scale = divmod(column.modifier - 4, 1 << 16) if column.modifier > 0 else (8, 4)
        return f"({g} % {10 ** (whole - scale)} + trunc({g} % 97 / 100.0, {scale}))"
    by_type = {
        "bool": "({g} % 2 = 0)",
        "bytea": "decode(md5({g}::text) || '00ff', 'hex')",
        "date": "(date '2022-01-01' + {g} % 300)",
        "float4": "({g} * 1.1)::real",
        "float8": "({g} / 7.0::float8)",
        "interval": "({g} * interval '1 hour 1 second')",
        "jsonb": "jsonb_build_object('g', {g})",
        "json": "json_build_object('g', {g})",
        "timestamp": "(timestamp '2022-01-01' + {g} * interval '17 hours')",
        "timestamptz": "(timestamptz '2022-01-01Z' + {g} * interval '17 hours')",
        "tsvector": "to_tsvector('simple', 'word ' || {g})",
        "tstzrange": "tstzrange('2022-01-01Z'::timestamptz + {g} * interval '1 hour', NULL)",
        "uuid": "md5({g}::text)::uuid",
    }
    if column.type not in by_type:
        raise AssertionError(f"nothing is known to fill {column.name}, a {column.full_type}, with")
    return by_type[column.type].replace("{g}", g)
