"""The slices that are durably in a staging table: one row each, written in the transaction that copied them."""

from __future__ import annotations

from psycopg import sql

from pgsluice import sqltext
from pgsluice.job import TableRef
from pgsluice.model import CommittedSlice, Slice, StagingTable
from pgsluice.session import Session


def note(session: Session, staging: StagingTable, committed: CommittedSlice) -> None:
    """Write a slice down, in the open transaction that copied it."""
    session.execute(
        sql.SQL(
            "INSERT INTO {} (staging, number, first_page, end_page, rows, bytes) VALUES (%s, %s, %s, %s, %s, %s)"
        ).format(_ledger(staging.ref)),
        (
            staging.ref.name,
            committed.slice.number,
            committed.slice.first,
            committed.slice.end,
            committed.rows,
            committed.bytes,
        ),
    )


def committed(session: Session, staging: StagingTable) -> tuple[CommittedSlice, ...]:
    """Return the slices of a staging table that were committed, in order. One round trip."""
    found = session.rows(
        sql.SQL("SELECT number, first_page, end_page, rows, bytes FROM {} WHERE staging = %s ORDER BY number").format(
            _ledger(staging.ref)
        ),
        (staging.ref.name,),
    )
    return tuple(CommittedSlice(Slice(number, first, end), rows, size) for number, first, end, rows, size in found)


def forget(session: Session, staging: StagingTable, number: int, part: TableRef) -> None:
    """Take a slice out of staging and of the ledger, for it to be copied again."""
    with session.transaction():
        session.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sqltext.table(part)))
        session.execute(
            sql.SQL("DELETE FROM {} WHERE staging = %s AND number = %s").format(_ledger(staging.ref)),
            (staging.ref.name, number),
        )


def prune(session: Session, schema: str) -> None:
    """Forget the slices of staging tables that are gone; nothing where no ledger was ever kept. Two round trips."""
    ledger = sql.Identifier(schema, "slice")
    if session.row(sql.SQL("SELECT pg_catalog.to_regclass(%s)"), (session.text(ledger),))[0] is None:
        return
    session.execute(
        sql.SQL(
            "DELETE FROM {} s WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c"
            " WHERE c.relname = s.staging AND c.relnamespace = pg_catalog.to_regnamespace({}))"
        ).format(ledger, sql.Literal(session.text(sql.Identifier(schema))))
    )


def _ledger(staging: TableRef) -> sql.Identifier:
    return sql.Identifier(staging.schema, "slice")
