"""Who may touch a target now: the run lock, the fence and the table lock, and who is in the way.

All are kept by the server, so that they end with the connection, however it ends.
"""

from __future__ import annotations

import time

from psycopg import sql

from pgsluice import blockers, sqltext
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
    take = sql.SQL("SELECT pg_catalog.pg_try_advisory_lock(%s)")
    if session.row(take, (key,))[0]:
        return
    holders = session.rows(sqltext.load("lock_holder"), {"key": key})
    if any(app == session.name for app, *_ in holders):  # a session of ours that we lost and the server did not
        for _, pid, _ in holders:
            session.execute(sql.SQL("SELECT pg_catalog.pg_terminate_backend(%s, 5000)"), (pid,))
        if session.row(take, (key,))[0]:
            return
    who = "; ".join(f"{app}, pid {pid} of the target, since {since}" for app, pid, since in holders) or "just ended"
    raise BusyError(f"another run holds {target} ({who})", hint="Wait for it, or end that session.", table=str(target))


def holds(session: Session, target: TableRef, pid: int) -> bool:
    """Ask whether a session still has the run lock of a target.

    Behind the fence the answer lasts: a run that takes the lock from now on merges after us, and what is newer.
    """
    return any(holder == pid for _, holder, _ in session.rows(sqltext.load("lock_holder"), {"key": run_key(target)}))


def release(session: Session, target: TableRef) -> None:
    """Give the run lock back."""
    session.execute(sql.SQL("SELECT pg_catalog.pg_advisory_unlock(%s)"), (run_key(target),))


def fence(session: Session, target: TableRef, seconds: float) -> None:
    """Take the fence of a target until the transaction ends: whoever has it knows that no earlier merge is pending."""
    key = sqltext.advisory_key("fence", str(target))
    session.patience(seconds)
    session.execute(sql.SQL("SELECT pg_catalog.pg_advisory_xact_lock(%s)"), (key,))
    session.patience()


def lock_table(session: Session, lock: sql.Composed, seconds: float) -> None:
    """Lock a table inside the open transaction, in short tries so that others queue behind us for 2 s at most.

    Args:
        session: in a transaction.
        lock: the LOCK TABLE.
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
            with blockers.named(session, patience):
                session.execute(lock)
        except TemporaryError:
            if time.monotonic() >= deadline:
                raise
            session.execute(sql.SQL("ROLLBACK TO SAVEPOINT before_lock"))
            time.sleep(0.2)  # lets those who queued behind us through
            continue
        session.patience()
        return
