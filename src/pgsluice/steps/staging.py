"""Creates, counts, drops and sweeps staging tables."""

from __future__ import annotations

import json
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgsluice import sqltext
from pgsluice.errors import UsageError
from pgsluice.facts import Column
from pgsluice.job import TableRef
from pgsluice.model import StagingTable
from pgsluice.session import Session

TEMPORARY_SCHEMA = "pg_temp"
_DROP_SECONDS = 5


def named(  # noqa: PLR0913 - what a staging table is
    schema: str,
    run_id: str,
    number: int,
    target: TableRef,
    columns: tuple[Column, ...],
    *,
    part: str = "",
    attempt: int = 1,
) -> StagingTable:
    """Name a staging table; never after its target: 63 bytes cut thirty Hangul letters to twenty-one.

    Args:
        schema: the control schema, or `TEMPORARY_SCHEMA` for one that is gone with its transaction.
        run_id: the run that owns it.
        number: of the table within its run.
        target: the table it feeds.
        columns: what it holds.
        part: what of the job it holds, where that is not its rows: "keys".
        attempt: number of the try that it is made for; the table of an earlier one may not be gone yet.
    """
    name = f"stg_{run_id}_{number}" + (f"_{part}" if part else "") + (f"_{attempt}" if attempt > 1 else "")
    return StagingTable(TableRef(schema, name), target, columns, run_id)


def create_sql(staging: StagingTable) -> sql.Composed:
    """Return the CREATE TABLE: the copied columns alone, without constraints, defaults or indexes."""
    columns = sql.SQL(", ").join(sqltext.column_definition(column) for column in staging.columns)
    if staging.ref.schema == TEMPORARY_SCHEMA:
        return sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(
            sql.Identifier(staging.ref.name), columns
        )
    return sql.SQL("CREATE UNLOGGED TABLE {} ({}) WITH (autovacuum_enabled = false)").format(
        sqltext.table(staging.ref), columns
    )


def create(session: Session, staging: StagingTable, owner_key: int) -> None:
    """Create a staging table: an UNLOGGED one says who owns it and is closed to everybody else.

    Args:
        session: on the target, idle; for a temporary one, in the transaction that it shall live in.
        staging: what to create.
        owner_key: the advisory lock that its run holds; free means orphan.
    """
    if staging.ref.schema == TEMPORARY_SCHEMA:
        session.execute(create_sql(staging))
        return
    tag = json.dumps({"pgsluice": 1, "run": staging.run_id, "target": str(staging.target), "lock": owner_key})
    name = sqltext.table(staging.ref)
    with session.transaction():
        session.execute(create_sql(staging))
        session.execute(sql.SQL("REVOKE ALL ON {} FROM PUBLIC").format(name))
        session.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(tag)))


def count(session: Session, staging: StagingTable) -> int:
    """Return the number of rows."""
    return int(session.row(sql.SQL("SELECT count(*) FROM {}").format(sqltext.table(staging.ref)))[0])


def drop(session: Session, ref: TableRef) -> None:
    """Drop a staging table; none there is fine.

    Args:
        session: on the target, idle.
        ref: its name.

    Raises:
        psycopg.Error: it could not be dropped.
    """
    with session.transaction():
        session.patience(_DROP_SECONDS)
        session.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sqltext.table(ref)))


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did.

    Attributes:
        dropped: names of the staging tables that are gone.
        kept: names of those whose runs are dead too, each with why it could not be dropped.
    """

    dropped: tuple[str, ...]
    kept: tuple[tuple[str, str], ...]


def sweep(session: Session, schema: str, own_run: str = "") -> Swept:
    """Drop the staging tables whose runs are dead, and only those, from any machine.

    A run holds the advisory lock that its tables name for as long as it lives; the server frees it with the
    connection. Tables without our tag are not ours.

    Args:
        session: on the target, idle.
        schema: the control schema.
        own_run: whose tables are left alone, whatever locks this session holds.
    """
    dropped, kept = [], []
    for name, tag in session.rows(sqltext.load("staging_tables"), {"schema": schema}):
        owner = _owner(tag)
        if owner is None or owner["run"] == own_run:
            continue
        if not session.row(sql.SQL("SELECT pg_catalog.pg_try_advisory_lock(%s)"), (owner["lock"],))[0]:
            continue
        ref = TableRef(schema, name)
        try:
            drop(session, ref)
            dropped.append(str(ref))
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.LockNotAvailable) as error:
            kept.append((str(ref), error.diag.message_primary or "it is in use"))
        finally:
            session.execute(sql.SQL("SELECT pg_catalog.pg_advisory_unlock(%s)"), (owner["lock"],))
    return Swept(tuple(dropped), tuple(kept))


def find(session: Session, ref: TableRef, columns: tuple[Column, ...]) -> StagingTable:
    """Return a staging table of ours by name.

    Args:
        session: on the target.
        ref: its name.
        columns: as the catalog describes them.

    Raises:
        UsageError: there is none, or it is not ours.
    """
    for name, tag in session.rows(sqltext.load("staging_tables"), {"schema": ref.schema}):
        owner = _owner(tag)
        if name == ref.name and owner is not None:
            return StagingTable(ref, TableRef.parse(owner["target"]), columns, owner["run"])
    raise UsageError(f"{ref} is not a staging table of ours", hint="Create one with create_staging_table().")


def _owner(tag: str | None) -> dict[str, str] | None:
    try:
        owner = json.loads(tag or "")
    except ValueError:
        return None
    return owner if isinstance(owner, dict) and owner.keys() >= {"pgsluice", "run", "lock", "target"} else None
