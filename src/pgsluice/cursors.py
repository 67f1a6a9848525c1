"""Pure: what kinds of cursor columns there are, and how each is compared.

Values travel as text under the session prelude, never through a Python number or datetime: microseconds, infinity,
BC and 38-digit numerics stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from pgsluice import sqltext
from pgsluice.errors import CursorError, UsageError
from pgsluice.facts import Column, TableInfo

_TEXTS = frozenset({"text", "character varying", "character"})
_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_TIMESTAMPS = frozenset({"timestamp without time zone", "timestamp with time zone"})


@dataclass(frozen=True, slots=True)
class CursorType:
    """A kind of cursor.

    Attributes:
        name: as ``cursor_type`` and ``incremental_field_type`` give it.
        columns: types of columns that it fits, without modifiers.
        distance: the type of an overlap, or empty where there is no arithmetic on it.
        is_time: its values are moments, so that one can lie in the future.
    """

    name: str
    columns: frozenset[str]
    distance: str = ""
    is_time: bool = False


CURSOR_TYPES = {
    kind.name: kind
    for kind in (
        # of two that fit, the first is the one found from the catalog
        CursorType("timestamptz", frozenset({"timestamp with time zone"}), "interval", is_time=True),
        CursorType("timestamp", _TIMESTAMPS, "interval", is_time=True),
        CursorType("date", frozenset({"date"}), "interval", is_time=True),
        CursorType("integer", _INTEGERS | {"numeric"}, "numeric"),
        CursorType("bigint", _INTEGERS | {"numeric"}, "numeric"),
        CursorType("numeric", _INTEGERS | {"numeric"}, "numeric"),
        CursorType("text", _TEXTS),
        CursorType("uuid", frozenset({"uuid"})),
        CursorType("yyyymmdd", _INTEGERS | _TEXTS, "interval", is_time=True),
    )
}
_HINT = f"Cursors are {', '.join(CURSOR_TYPES)}."
#: Every day of the calendar, and no other.
_YYYYMMDD = (
    "^([0-9]{4}((0[13578]|1[02])(0[1-9]|[12][0-9]|3[01])|(0[469]|11)(0[1-9]|[12][0-9]|30)|02(0[1-9]|1[0-9]|2[0-8]))"
    "|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)0229)$"
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A cursor column and how its values are read.

    Attributes:
        name: of the column, on both sides.
        type: of the column on the source, without modifier, and without the domain around it.
        kind: what its values are.
        column_type: of the column as the catalog prints it, for messages.
    """

    name: str
    type: str
    kind: CursorType
    column_type: str

    @property
    def _is_text(self) -> bool:
        return self.type in _TEXTS

    @property
    def value_type(self) -> str:
        """Return the type that its values are compared as; ``character`` alone would cut them to one letter."""
        return "text" if self._is_text else self.type

    def literal(self, value: str) -> sql.Composed:
        """Return a value as a typed literal."""
        return sql.SQL("{}::{}").format(sql.Literal(value), sqltext.verbatim(self.value_type))

    def collated(self, expression: sql.Composable) -> sql.Composed:
        """Return an expression as it is compared: texts by their bytes, for locales sort differently by server."""
        return sql.SQL('{} COLLATE pg_catalog."C"' if self._is_text else "{}").format(expression)

    @property
    def column(self) -> sql.Composed:
        """Return the column as it is compared on the source."""
        return self.collated(sql.Identifier(self.name))

    def column_of(self, table: str) -> sql.Composed:
        """Return the column as it is compared, qualified."""
        return self.collated(sql.Identifier(table, self.name))

    def as_staged(self, column: Column) -> sql.Composed:
        """Return the column as it is compared in staging, where it may have a wider type."""
        name: sql.Composable = sql.Identifier(self.name)
        if column.base != self.type:
            name = sql.SQL("{}::{}").format(name, sqltext.verbatim(self.value_type))
        if self.type == "character":  # a wider type keeps the blanks that do not count in it
            name = sql.SQL("pg_catalog.rtrim({}::text)").format(name)
        return self.collated(name)

    def highest(self, expression: sql.Composed, condition: sql.Composed) -> sql.Composed:
        """Return the aggregate for the highest value under a condition; PostgreSQL has none for uuid before 18."""
        highest = sql.SQL("pg_catalog.max({}) FILTER (WHERE {})")
        if self.type == "uuid":
            as_text = sql.SQL('{}::text COLLATE pg_catalog."C"').format(expression)
            return sql.SQL("({})::uuid").format(highest.format(as_text, condition))
        return highest.format(expression, condition)

    def at_least(self, value: str, back: str | None = None) -> sql.Composed:
        """Return ``column >= value``, or ``value - back``; ``>=``, so that ties are never lost."""
        return sql.SQL("{} OPERATOR(pg_catalog.>=) {}").format(self.column, self._moved(value, back))

    def _moved(self, value: str, back: str | None) -> sql.Composed:
        if back is None:
            return self.literal(value)
        distance = sql.SQL("{}::{}").format(sql.Literal(back), sqltext.verbatim(self.kind.distance))
        if self.kind.name == "yyyymmdd":
            day = sql.SQL(
                "pg_catalog.to_char(pg_catalog.to_date({}, 'YYYYMMDD') OPERATOR(pg_catalog.-) {}, 'YYYYMMDD')::{}"
            )
            return day.format(sql.Literal(value), distance, sqltext.verbatim(self.value_type))
        if self.type in _INTEGERS:  # neither smallint nor bigint could hold every difference
            lowest = sql.SQL("GREATEST({}::numeric OPERATOR(pg_catalog.-) {}, -9223372036854775808)::bigint")
            return lowest.format(sql.Literal(value), distance)
        if self.kind.is_time:  # time begins in 4713 BC
            earliest = sql.SQL(
                "CASE WHEN {value} OPERATOR(pg_catalog.<) '4000-01-01 BC' THEN '-infinity'"
                " ELSE {value} OPERATOR(pg_catalog.-) {distance} END"
            )
            moved = earliest.format(value=self.literal(value), distance=distance)
            return sql.SQL("({})::{}").format(moved, sqltext.verbatim(self.value_type))
        return sql.SQL("({} OPERATOR(pg_catalog.-) {})").format(self.literal(value), distance)

    @property
    def misfit(self) -> sql.Composed | None:
        """Return the condition for values that are not of the kind, where their type does not say so itself."""
        return self.misfit_of(sql.Identifier(self.name))

    def misfit_of(self, expression: sql.Composable) -> sql.Composed | None:
        """Return the condition under which an expression is no value of the kind, or None where its type says so."""
        if self.kind.name != "yyyymmdd":
            return None
        return sql.SQL("{}::text OPERATOR(pg_catalog.!~) {}").format(expression, sql.Literal(_YYYYMMDD))


def fit(table: TableInfo, field: str, named: str | None) -> Cursor:
    """Return the cursor, its kind found from the catalog or as named.

    Raises:
        UsageError: no such column, or no such kind.
        CursorError: the two do not fit.
    """
    column = table.column(field)
    if column is None:
        raise UsageError(
            f"{table.ref} has no column {field}", hint=f"It has {', '.join(each.name for each in table.columns)}."
        )
    if named is None:
        fits = (kind.name for kind in CURSOR_TYPES.values() if column.base in kind.columns)
        named = None if column.type.endswith("[]") else next(fits, None)
        if named is None:
            raise CursorError(f"column {field} of {table.ref} is {column.type}, which can't be a cursor", hint=_HINT)
    kind = CURSOR_TYPES.get(named)
    if kind is None:
        raise UsageError(f"{named!r} is no type of cursor for {field}", hint=_HINT)
    if column.base not in kind.columns or column.type.endswith("[]"):
        raise CursorError(f"column {field} of {table.ref} is {column.type}, which is not read as {kind.name}")
    return Cursor(field, column.base, kind, column.type)
