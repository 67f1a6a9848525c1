"""How far the target is in a cursor column, and the condition that reads from there on.

Values travel as text under the session prelude, never through a Python number or datetime: microseconds, infinity,
BC and 38-digit numerics stay what they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from psycopg import sql

from pgsluice import sqltext
from pgsluice.errors import UsageError
from pgsluice.facts import Column, TableInfo
from pgsluice.job import TableRef
from pgsluice.session import Session

_TEXTS = frozenset({"text", "character varying", "character"})
_INTEGERS = frozenset({"smallint", "integer", "bigint"})


@dataclass(frozen=True, slots=True)
class CursorType:
    """A kind of cursor column.

    Attributes:
        name: as `incremental_field_type` gives it.
        columns: types of columns that it fits, without modifiers.
        literal: the type its values are written as; empty for that of the column.
        pattern: what its values look like, where their type does not say.
    """

    name: str
    columns: frozenset[str]
    literal: str = ""
    pattern: str = ""


CURSOR_TYPES = {
    kind.name: kind
    for kind in (
        CursorType("timestamp", frozenset({"timestamp without time zone"}), "timestamp without time zone"),
        CursorType("timestamptz", frozenset({"timestamp with time zone"}), "timestamp with time zone"),
        CursorType("date", frozenset({"date"}), "date"),
        CursorType("integer", _INTEGERS | {"numeric"}, "bigint"),
        CursorType("bigint", _INTEGERS | {"numeric"}, "bigint"),
        CursorType("numeric", _INTEGERS | {"numeric"}, "numeric"),
        CursorType("yyyymmdd", _INTEGERS | _TEXTS, pattern=r"\d{8}"),
        CursorType("text", _TEXTS, "text"),
        CursorType("uuid", frozenset({"uuid"}), "uuid"),
    )
}


def cursor_type(table: TableInfo, field: str, named: str | None) -> tuple[Column, CursorType]:
    """Return the cursor column and its kind, found from the catalog or as named.

    Raises:
        UsageError: no such column, no such kind, or the two do not fit.
    """
    column = table.column(field)
    if column is None:
        raise UsageError(
            f"{table.ref} has no column {field}", hint=f"It has {', '.join(each.name for each in table.columns)}."
        )
    if named is None:
        named = next((kind.name for kind in CURSOR_TYPES.values() if column.leaf in kind.columns), "")
    kind = CURSOR_TYPES.get(named)
    if kind is None:
        raise UsageError(
            f"{named or column.type!r} is no type of cursor for {field}", hint=f"Use one of {', '.join(CURSOR_TYPES)}."
        )
    if column.leaf not in kind.columns or column.type.endswith("[]"):
        raise UsageError(f"column {field} of {table.ref} is {column.type}, which is not read as {kind.name}")
    return column, kind


def latest(session: Session, table: TableRef, relkind: str, column: Column) -> str | None:
    """Return the highest value as text, or None where there is none. One index look, or one scan."""
    # texts by their bytes: locales sort differently from server to server
    order = sql.SQL("{}").format(sql.Identifier(column.name))
    if column.leaf in _TEXTS:
        order += sql.SQL(' COLLATE pg_catalog."C"')
    query = sql.SQL("SELECT {field}::text FROM {table} WHERE {field} IS NOT NULL ORDER BY {order} DESC LIMIT 1").format(
        field=sql.Identifier(column.name), table=sqltext.relation(table, relkind), order=order
    )
    found = session.rows(query)
    return None if not found else str(found[0][0])


def condition(column: Column, kind: CursorType, value: str) -> sql.Composed:
    """Return ``column >= value`` as a condition that stands by itself; ``>=``, so that ties are never lost.

    Raises:
        UsageError: the value is not of the kind; shows it.
    """
    if kind.pattern and not re.fullmatch(kind.pattern, value):
        raise UsageError(f"column {column.name} is read as {kind.name} and holds {value!r}")
    collation = sql.SQL(' COLLATE pg_catalog."C"') if column.leaf in _TEXTS else sql.SQL("")
    return sql.SQL("{}{} >= {}::{}").format(
        sql.Identifier(column.name), collation, sql.Literal(value), sqltext.verbatim(kind.literal or column.leaf)
    )
