"""Puts a staging table in the place of the target, with all that the target has but its rows; or refuses by name."""

from __future__ import annotations

import time

from psycopg import sql

from pgsluice import guard, sequences, sqltext
from pgsluice.errors import StagingLostError, StepError
from pgsluice.job import TableRef
from pgsluice.locks import lock_table
from pgsluice.model import MergeResult, StagingTable
from pgsluice.plan import SyncPlan
from pgsluice.session import Session

#: What waits longer for a lock on a view or a table that refers to the target keeps the target's readers waiting.
_PATIENCE_SECONDS = 2.0


def obstacles(session: Session, target: TableRef) -> tuple[str, ...]:
    """Return what can't be carried over, what the role may not, and whose code would run as it. One round trip."""
    query = sqltext.load("swap_obstacles").format(trusted=sqltext.load("trusted_roles"))
    found = session.rows(query, {"table": _name(session, target)})
    return tuple(obstacle for (obstacle,) in found)


def statements(session: Session, target: TableRef, staging: TableRef) -> tuple[tuple[str, str], ...]:
    """Return what replaces a target, as (phase, SQL) in order, ahead of it notes: what stays behind. One round trip.

    The phases: "note", "create", "prepare", "build", "analyze", "build", "lock", "swap".

    Args:
        session: on the target.
        target: to be replaced.
        staging: what takes its place; its sequences are named as they are, where it is there already.
    """
    named = {"table": _name(session, target), "staging": _name(session, staging)}
    query = sqltext.knowing_options("swap")
    return tuple(session.rows(query, {**named, "schema": staging.schema, "bare": staging.name}))


def definition(session: Session, target: TableRef, staging: TableRef) -> sql.Composed:
    """Return the CREATE TABLE of a staging table that is to replace a target. One round trip."""
    return sql.Composed(_phase("create", session, target, staging))


def prepare(session: Session, staging: StagingTable) -> None:
    """Give the new table, while it is empty, what can't be built later: mostly nothing. Four round trips then.

    Args:
        session: on the target, idle.
        staging: created.
    """
    with session.transaction():
        session.local(default_tablespace="")
        for statement in _phase("prepare", session, staging.target, staging.ref):
            session.execute(statement)


def build(session: Session, staging: StagingTable) -> None:
    """Give the new table the target's indexes, constraints and statistics: one sort or scan each, nobody waits.

    Args:
        session: on the target, idle.
        staging: filled.
    """
    with session.transaction():
        if _is_built(session, staging):  # an earlier try has done it, and its COMMIT got no answer
            return
        session.rows(sqltext.load("keys_memory"))
        session.local(default_tablespace="")
        for phase, text in statements(session, staging.target, staging.ref):
            if phase == "build":
                session.execute(sqltext.verbatim(text))
            elif phase == "analyze":  # which calls functions of expressions, and looks up no name of ours
                with session.playing_role(session.search_path):
                    session.execute(sqltext.verbatim(text))


def _is_built(session: Session, staging: StagingTable) -> bool:
    """Tell whether the last step of building is done: from then on it may be vacuumed."""
    query = sql.SQL(
        "SELECT NOT COALESCE('autovacuum_enabled=false' = ANY (reloptions), false)"
        " FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass(%s)"
    )
    found = session.rows(query, (_name(session, staging.ref),))
    if not found:
        raise StagingLostError("the staging table is gone", hint="Run again.", step="keys")
    return bool(found[0][0])


def look(session: Session, plan: SyncPlan, rows: int) -> int:
    """Ask the delete guard, and return the rows that the target has. One count.

    Raises:
        DeleteGuardError: more rows would go than allowed.
    """
    count = sql.SQL("SELECT pg_catalog.count(*) FROM ONLY {}").format(sqltext.table(plan.job.target))
    with session.playing_role(session.search_path):  # functions of its indexes are looked into by the planner
        (total,) = session.row(count)
    guard.check(plan, max(0, total - rows), total, rows)
    return int(total)


def swap(session: Session, plan: SyncPlan, staging: StagingTable, rows: int, replaced: int) -> MergeResult:
    """Put the new table in the target's place, in the caller's open transaction: rows of the catalog.

    Foreign keys that refer to it are checked anew, which scans the tables that they are of. What the table is but for
    its rows is looked at before and after: where the two differ, something could not be carried over.

    Args:
        session: on the target.
        plan: of the job.
        staging: filled and built.
        rows: that it holds.
        replaced: rows of the table whose place it takes.

    Raises:
        TemporaryError: a lock was not to be had.
        StepError: the target is another one than was planned for, or something of it can't be carried over.
    """
    started, target = time.monotonic(), plan.job.target
    lock = sql.Composed(_phase("lock", session, target, staging.ref))
    lock_table(session, lock, plan.options.lock_timeout)
    locked_at = time.monotonic()
    before = _portrait(session, target)
    planned = plan.facts.target_table
    (oid,) = session.row(sql.SQL("SELECT pg_catalog.to_regclass(%s)::oid"), (_name(session, target),))
    if planned is None or oid != planned.oid:
        raise StepError("the target was replaced by another table meanwhile", hint="Run again.", step="merge")
    _check_again(session, target)
    session.patience(_PATIENCE_SECONDS)
    for statement in _phase("swap", session, target, staging.ref):
        session.execute(statement)
    for column, last in plan.sequences:
        session.rows(sequences.catch_up_sql(target, column, last))
    session.patience()
    if lost := before ^ _portrait(session, target):
        named = ", ".join(sorted({" ".join(filter(None, (kind, name))) for kind, name, _ in lost}))
        raise StepError(
            f"the target can't be replaced: not carried over as it was: {named}",
            hint="All was rolled back. Where it was changed meanwhile, run again; else use --strategy copy.",
            step="merge",
        )
    return MergeResult(
        staged=rows,
        inserted=rows,
        updated=0,
        unchanged=0,
        deleted=replaced,
        target_count=rows,
        seconds=time.monotonic() - started,
        locked_seconds=time.monotonic() - locked_at,
    )


def _check_again(session: Session, target: TableRef) -> None:
    """See that nothing has come to lean on a target that is locked by now.

    Raises:
        StepError: what has.
    """
    if found := obstacles(session, target):
        raise StepError(
            f"the target can't be replaced any more: {'; '.join(found)}",
            hint="All was rolled back. Use --strategy copy.",
            step="merge",
        )


def _phase(phase: str, session: Session, target: TableRef, staging: TableRef) -> list[sql.SQL]:
    return [sqltext.verbatim(text) for at, text in statements(session, target, staging) if at == phase]


def _portrait(session: Session, table: TableRef) -> frozenset[tuple[str, str, str]]:
    """Return all that a table is but its rows, as (kind, name, definition). One round trip."""
    return frozenset(session.rows(sqltext.knowing_options("portrait"), {"table": _name(session, table)}))


def _name(session: Session, table: TableRef) -> str:
    return session.text(sqltext.table(table))
