"""Makes the target out of a staging table that was created with its definition: keys, statistics, its name."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgsluice import blockers, creation, sequences, sqltext
from pgsluice.errors import StagingLostError, TemporaryError
from pgsluice.job import TableRef
from pgsluice.model import MergeResult, StagingTable
from pgsluice.plan import Creation, SyncPlan
from pgsluice.session import Session


def build_keys(session: Session, wanted: Creation, staging: StagingTable) -> None:
    """Build the target's keys on the rows that are there, and ANALYZE them: one scan and sort a key, one sample.

    Args:
        session: on the target, idle.
        wanted: what the target shall be.
        staging: filled.
    """
    with session.transaction():
        if _has_keys(session, staging):  # an earlier try has built them, and its COMMIT got no answer
            return
        session.rows(sqltext.load("keys_memory"))
        for statement in creation.keys_sql(_unnamed(wanted), staging.ref):
            session.execute(statement)
        session.execute(sql.SQL("ANALYZE {}").format(sqltext.table(staging.ref)))


def _unnamed(wanted: Creation) -> Creation:
    """Let the server name what stands among other runs' staging tables until it is promoted."""
    return dataclasses.replace(
        wanted, attachments=tuple(dataclasses.replace(each, name="") for each in wanted.attachments)
    )


def _has_keys(session: Session, staging: StagingTable) -> bool:
    query = sql.SQL(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = pg_catalog.to_regclass(%s)"
        " AND contype IN ('p', 'u'))"
    )
    return bool(session.row(query, (session.text(sqltext.table(staging.ref)),))[0])


def promote(session: Session, plan: SyncPlan, wanted: Creation, staging: StagingTable, rows: int) -> MergeResult:
    """Give the staging table its place and name, in the caller's open transaction: a few rows of the catalog.

    Constraints, sequences and privileges end up as if the target had been created where it is: that is done, looked
    at, and taken back, so that the server itself says how it names things and what a schema's defaults grant.

    Args:
        session: on the target.
        plan: of the job.
        wanted: what the target shall be.
        staging: filled, with its keys.
        rows: that it holds.

    Raises:
        StagingLostError: it is gone.
        TemporaryError: what has its name then is something else.
        psycopg.Error: somebody else has created the target meanwhile (42P07).
    """
    started = time.monotonic()
    target = plan.job.target
    blockers.executed(session, *creation.schemas_sql(wanted))
    with session.playing_role():
        direct = _as_if_created(session, plan, wanted)
    try:
        blockers.executed(session, *renaming_sql(plan, wanted, staging))
    except psycopg.errors.UndefinedTable as error:
        raise StagingLostError("the staging table is gone", hint="Run again.", step="merge") from error
    parts = _parts(session, target)
    if len(parts) != len(direct):
        raise TemporaryError("the new table has another's place now", hint="Run again.", step="merge")
    for part, as_direct in zip(parts, direct, strict=True):
        for statement in _adapt(target, part, as_direct):
            session.execute(statement)
    for column, last in plan.sequences:
        session.rows(sequences.catch_up_sql(target, column, last))
    return MergeResult(
        staged=rows,
        inserted=rows,
        updated=0,
        unchanged=0,
        deleted=0,
        target_count=-1,
        seconds=time.monotonic() - started,
        created=True,
    )


def renaming_sql(plan: SyncPlan, wanted: Creation, staging: StagingTable) -> Iterator[sql.Composed]:
    """Yield what gives the staging table its place and name; those of its parts follow."""
    target = plan.job.target
    yield _alter(staging.ref, sql.SQL("SET SCHEMA {}").format(sql.Identifier(target.schema)))
    moved = TableRef(target.schema, staging.ref.name)
    yield _alter(moved, sql.SQL("RENAME TO {}").format(sql.Identifier(target.name)))
    yield _alter(target, sql.SQL("RESET (autovacuum_enabled)"))
    yield sql.SQL("COMMENT ON TABLE {} IS NULL").format(sqltext.table(target))
    yield from creation.comments_sql(wanted, target)


@dataclass(frozen=True, slots=True)
class _Part:
    """A table, or a constraint, index or sequence of it.

    Attributes:
        kind: "TABLE", "CONSTRAINT", "INDEX" or "SEQUENCE".
        place: tells it from others of its kind: its column, or its definition.
        name: what it is called.
        grants: (role or None for PUBLIC, privilege, may pass it on) of everybody but its owner.
    """

    kind: str
    place: str
    name: str
    grants: frozenset[tuple[str | None, str, bool]]


def _parts(session: Session, table: TableRef) -> list[_Part]:
    found = session.rows(sqltext.load("parts"), {"table": session.text(sqltext.table(table))})
    return [
        _Part(kind, place, name, frozenset(tuple(json.loads(grant)) for grant in grants))
        for kind, place, name, grants in found
    ]


def _as_if_created(session: Session, plan: SyncPlan, wanted: Creation) -> list[_Part]:
    session.execute(sql.SQL("SAVEPOINT as_if_created"))
    blockers.executed(session, creation.table_sql(plan, wanted, plan.job.target))
    for statement in creation.keys_sql(wanted, plan.job.target):
        session.execute(statement)
    parts = _parts(session, plan.job.target)
    session.execute(sql.SQL("ROLLBACK TO SAVEPOINT as_if_created"))
    return parts


def _adapt(table: TableRef, part: _Part, wanted: _Part) -> Iterator[sql.Composed]:
    """Yield what gives a part the name and the privileges of another one in its place."""
    kind = sqltext.verbatim(part.kind)
    if part.name != wanted.name and part.kind == "CONSTRAINT":
        yield _alter(
            table,
            sql.SQL("RENAME CONSTRAINT {} TO {}").format(sql.Identifier(part.name), sql.Identifier(wanted.name)),
        )
    elif part.name != wanted.name:
        yield sql.SQL("ALTER {} {} RENAME TO {}").format(
            kind, sql.Identifier(table.schema, part.name), sql.Identifier(wanted.name)
        )
    name = sql.Identifier(table.schema, wanted.name)
    for role, privilege, _ in sorted(part.grants - wanted.grants, key=str):
        yield sql.SQL("REVOKE {} ON {} {} FROM {}").format(sqltext.verbatim(privilege), kind, name, _role(role))
    for role, privilege, may_pass_on in sorted(wanted.grants - part.grants, key=str):
        yield sql.SQL("GRANT {} ON {} {} TO {}{}").format(
            sqltext.verbatim(privilege),
            kind,
            name,
            _role(role),
            sql.SQL(" WITH GRANT OPTION" if may_pass_on else ""),
        )


def _role(name: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)


def _alter(table: TableRef, what: sql.Composable) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} {}").format(sqltext.table(table), what)
