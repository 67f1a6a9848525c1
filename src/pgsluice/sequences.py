"""Pure: the sequences behind identity and serial columns, and what lets them catch up with copied rows."""

from __future__ import annotations

from psycopg import sql

from pgsluice import sqltext
from pgsluice.facts import Column, ColumnSequence
from pgsluice.job import TableRef

_SERIAL = {"smallint": "smallserial", "integer": "serial", "bigint": "bigserial"}
_BITS = {"smallint": 16, "integer": 32, "bigint": 64}


def is_plain(sequence: ColumnSequence) -> bool:
    """Tell whether the sequence has the options that a new one gets anyway."""
    most = (1 << (_BITS.get(sequence.type, 64) - 1)) - 1
    return sequence.options == (1, 1, 1, most, 1) and not sequence.cycles


def serial_type(column: Column) -> str | None:
    """Return the serial type that makes the column anew with a sequence of its own, or None where none does."""
    is_serial = (
        column.sequence is not None
        and not column.identity
        and column.not_null
        and column.sequence.type == column.type
        and is_plain(column.sequence)
    )
    return _SERIAL.get(column.type) if is_serial else None


def catch_up_sql(table: TableRef, column: str, last: int | None) -> sql.Composed:
    """Return what sets a column's sequence to the highest value that is there, and never back.

    Costs one look where an index begins with the column, else a scan. Takes effect at once, as sequences do, whatever
    becomes of the transaction: a number that is skipped does no harm.

    Args:
        table: of the target.
        column: whose sequence it is.
        last: value that the source's sequence gave last, or None.
    """
    return sql.SQL(
        "SELECT pg_catalog.setval(s.seqrelid, wanted.value)\n"
        "FROM pg_catalog.pg_sequence AS s,\n"
        "(SELECT greatest(pg_catalog.max({column})::bigint, {last}) AS value FROM {table}) AS wanted\n"
        "WHERE s.seqrelid OPERATOR(pg_catalog.=)"
        " pg_catalog.pg_get_serial_sequence({name}, {field})::pg_catalog.regclass::pg_catalog.oid\n"
        "AND s.seqincrement OPERATOR(pg_catalog.>) 0 AND wanted.value OPERATOR(pg_catalog.>=) s.seqmin"
        " AND wanted.value OPERATOR(pg_catalog.<=) s.seqmax\n"
        "AND wanted.value OPERATOR(pg_catalog.>)"
        " coalesce(pg_catalog.pg_sequence_last_value(s.seqrelid), s.seqmin OPERATOR(pg_catalog.-) 1)"
    ).format(
        column=sql.Identifier(column),
        last=sql.SQL("{}::bigint").format(sql.Literal(last)) if last is not None else sql.SQL("NULL"),
        table=sqltext.table(table),
        name=sql.Literal(sqltext.table(table).as_string(None)),
        field=sql.Literal(column),
    )
