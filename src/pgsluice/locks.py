"""Who may touch a target now: the run lock, the fence and the table lock, and who is in the way.

All are kept by the server, so that they end with the connection, however it ends.
"""

from __future__ import annotations

import time

import psycopg
from psycopg import sql

from pgsluice import sqltext
from pgsluice.errors import BusyError, TemporaryError
from pgsluice.job import TableRef
from pgsluice.session import Session


def run_key(target: TableRef) -> int:
    """Return the key of the lock that a run holds on a target for as long as it lives."""
    return sqltext.advisory_key("run", str(target))


def hold(session: Session, target: TableRef) -> None:
    """Take the run lock of a target, held until the session ends.

    By name, not by oid: it serves tables that do not exist yet, and one table has one name.

    Raises:
        BusyError: another run holds it; says which session.
    """
    key = run_key(target)
    if session.row(sql.SQL("SELECT pg_catalog.pg_try_advisory_lock(%s)"), (key,))[0]:
        return
    holder = session.rows(sqltext.load("lock_holder"), {"key": key})
    who = "; ".join(f"{app}, pid {pid} of the target, since {since}" for app, pid, since in holder) or "just ended"
    raise BusyError(f"another run holds {target} ({who})", hint="Wait for it, or end that session.", table=str(target))


def release(session: Session, target: TableRef) -> None:
    """Give the run lock back."""
    session.execute(sql.SQL("SELECT pg_catalog.pg_advisory_unlock(%s)"), (run_key(target),))


def fence(session: Session, target: TableRef, seconds: float) -> None:
    """Take the fence of a target until the transaction ends: whoever has it knows that no earlier merge is pending."""
    key = sqltext.advisory_key("fence", str(target))
    session.patience(seconds)
    session.execute(sql.SQL("SELECT pg_catalog.pg_advisory_xact_lock(%s)"), (key,))
    session.patience()


def lock_table(session: Session, lock: sql.Composed, ref: TableRef, seconds: float) -> None:
    """Lock a table inside the open transaction, in short tries so that others queue behind us for 2 s at most.

    Args:
        session: in a transaction.
        lock: the LOCK TABLE.
        ref: the table it names.
        seconds: to keep trying.

    Raises:
        TemporaryError: somebody kept it; names the sessions that did.
    """
    deadline = time.monotonic() + seconds
    while True:
        patience = max(0.05, min(2.0, deadline - time.monotonic()))
        session.execute(sql.SQL("SAVEPOINT before_lock"))
        session.patience(patience)
        try:
            session.execute(lock)
        except psycopg.errors.LockNotAvailable as error:
            session.execute(sql.SQL("ROLLBACK TO SAVEPOINT before_lock"))
            if time.monotonic() >= deadline:
                raise TemporaryError(
                    f"the lock on {ref} was not to be had within {seconds:g} s; held by {_holders(session, ref)}",
                    hint="Try later, end those sessions, or give --lock-timeout more seconds.",
                    table=str(ref),
                    sqlstate=error.sqlstate,
                ) from None
            time.sleep(0.2)  # lets those who queued behind us through
            continue
        session.patience()
        return


def _holders(session: Session, ref: TableRef) -> str:
    found = session.rows(
        sql.SQL(
            "SELECT l.pid, coalesce(a.usename, '?'), coalesce(nullif(a.application_name, ''), '?'), l.mode"
            " FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)"
            " WHERE l.granted AND l.pid <> pg_catalog.pg_backend_pid()"
            " AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
            " AND l.relation = pg_catalog.to_regclass({}) ORDER BY 1 LIMIT 5"
        ).format(sql.Literal(session.text(sqltext.table(ref))))
    )
    return "; ".join(f"pid {pid} ({user}, {app}, {mode})" for pid, user, app, mode in found) or "nobody any more"
