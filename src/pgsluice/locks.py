"""Who may touch a target now: the run lock, the fence and the table lock, and who is in the way.

All are kept by the server, so that they end with the connection, however it ends. The fence is a lock on a row that
only roles with rights in the control schema can lock. The run lock is an advisory lock, which every role can take: its
key stands in that row, and is replaced where a session holds it that can't be a run.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgsluice import blockers, sqltext
from pgsluice.errors import TemporaryError
from pgsluice.job import TableRef
from pgsluice.session import Session

_TARGETS = "target"
_HISTORY = "run_table"
_KEY_BYTES = 8
#: There is no control schema yet, it is of an older release, or a plan will say which privilege is missing.
_NO_TARGETS = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.InsufficientPrivilege)
#: How long others wait behind the first try for a table lock, and behind the longest.
_FIRST_SECONDS, _LONGEST_SECONDS = 0.1, 1.0
#: How many times as long as a try the pause behind it is.
_PAUSES = 6
#: Of the last try: long enough to learn who is in the way.
_LAST_SECONDS = 1.0
#: A wait that nobody notices.
_MOMENT_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a run lock.

    Attributes:
        name: of the session: its application_name.
        pid: of its backend; None for a prepared transaction.
        role: that it has logged in as; None for a prepared transaction, and where the session has just ended.
        since: when it began, as text; None where that is hidden from us.
        is_ours: its role can be that of a run; any role can take the lock.
    """

    name: str
    pid: int | None
    role: str | None
    since: str | None
    is_ours: bool

    def __str__(self) -> str:
        """Return who it is, in one line."""
        if self.pid is None:
            return "a prepared transaction of the target (see pg_prepared_xacts)"
        role = "" if self.is_ours or self.role is None else f", role {self.role!a}"
        since = f", since {self.since}" if self.since else ""
        return f"{self.name}, pid {self.pid} of the target{role}{since}"


def run_key(session: Session, target: TableRef) -> int:
    """Return the key of the run lock of a target: the one that the session has taken."""
    return session.run_locks.get(str(target), _first_key(target))


def _first_key(target: TableRef) -> int:
    """Return the key that a run lock has until it is given another."""
    return sqltext.advisory_key("run", str(target))


def take(session: Session, schema: str, target: TableRef) -> bool:
    """Take the run lock of a target, held until the session ends, if it is free. One round trip; nothing is written.

    By name, not by oid: it serves tables that do not exist yet, and one table has one name.
    """
    query = sqltext.load("take_lock").format(targets=sql.Identifier(schema, _TARGETS))
    try:
        key, is_taken = session.row(query, {"target": str(target), "first": _first_key(target)})
    except _NO_TARGETS:
        key = _first_key(target)
        (is_taken,) = session.row(sql.SQL("SELECT pg_catalog.pg_try_advisory_lock(%s)"), (key,))
    session.run_locks[str(target)] = key
    return bool(is_taken)


def holders(session: Session, schema: str, key: int) -> tuple[Holder, ...]:
    """Return who holds a run lock, by its key."""
    history = session.text(sql.Identifier(schema, _HISTORY))
    return tuple(Holder(*row) for row in session.rows(sqltext.load("lock_holder"), {"key": key, "history": history}))


def replace(session: Session, schema: str, target: TableRef) -> None:
    """Give a run lock another key in the place of the one that `take` met, unless somebody has.

    Two who hold two keys of one target are told apart by the fence: it looks who holds the key of that moment.
    """
    values = {
        "target": str(target),
        "old": run_key(session, target),
        "new": int.from_bytes(secrets.token_bytes(_KEY_BYTES), "big", signed=True),
    }
    with session.transaction():
        session.execute(sqltext.load("replace_lock").format(targets=sql.Identifier(schema, _TARGETS)), values)


def release(session: Session, target: TableRef) -> None:
    """Give the run lock back."""
    session.execute(sql.SQL("SELECT pg_catalog.pg_advisory_unlock(%s)"), (run_key(session, target),))


def end(session: Session, pids: Iterable[int]) -> None:
    """End sessions, and wait for their end."""
    for pid in pids:
        session.execute(sql.SQL("SELECT pg_catalog.pg_terminate_backend(%s, 5000)"), (pid,))


def end_runs(session: Session, runs: Iterable[str]) -> int:
    """End the sessions of runs that are dead, by their ids, and wait for their end; return how many there were."""
    return int(session.row(sqltext.load("end_runs"), {"runs": list(runs)})[0])


def fence(session: Session, schema: str, target: TableRef, seconds: float) -> tuple[int, ...]:
    """Take the fence of a target until the transaction ends: whoever has it knows that no earlier merge is pending.

    Returns:
        The pids of the sessions that hold the run lock. Behind the fence the answer lasts: a run that takes the lock
        from now on merges after us, and what is newer.
    """
    targets = sql.Identifier(schema, _TARGETS)
    query = sqltext.load("fence").format(targets=targets)
    session.patience(seconds)
    found = session.rows(query, {"target": str(target)})
    if not found:  # the first merge of this target; where another one is at it, the row waits for its end
        add = sql.SQL("INSERT INTO {} (target, lock_key) VALUES (%s, %s) ON CONFLICT DO NOTHING").format(targets)
        session.execute(add, (str(target), _first_key(target)))
        found = session.rows(query, {"target": str(target)})
    session.patience()
    return tuple(found[0][0])


def lock_table(session: Session, lock: sql.Composed, seconds: float) -> None:
    """Lock a table inside the open transaction; while it can't be had, others wait a fifth of the time or so.

    Whoever comes behind a lock that is waited for waits too. So it is waited for in short tries, which grow, and after
    each there is a pause, in which it is taken as soon as nobody is in the way.

    Args:
        session: in a transaction.
        lock: the LOCK TABLE.
        seconds: to keep trying.

    Raises:
        TemporaryError: somebody kept it; names the sessions that did.
    """
    deadline = time.monotonic() + seconds
    wait = _FIRST_SECONDS
    while True:
        left = deadline - time.monotonic()
        is_last = left < wait + _LAST_SECONDS
        try:
            _locked(session, lock, max(0.05, left) if is_last else wait)
        except TemporaryError:
            if is_last:
                raise
        else:
            return
        session.execute(sql.SQL("ROLLBACK TO SAVEPOINT before_lock"))
        if _is_found_free(session, lock, min(wait * _PAUSES, deadline - time.monotonic() - _LAST_SECONDS)):
            return
        wait = min(wait * 2, _LONGEST_SECONDS)


def _locked(session: Session, lock: sql.Composed, patience: float) -> None:
    session.execute(sql.SQL("SAVEPOINT before_lock"))
    session.patience(patience)
    with blockers.named(session, patience) if patience > _MOMENT_SECONDS else contextlib.nullcontext():
        session.execute(lock)
    session.patience()


def _is_found_free(session: Session, lock: sql.Composed, seconds: float) -> bool:
    """Look for a moment in which nobody is in the way, for so long, and take the lock then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(random.uniform(0.05, 0.15))  # noqa: S311 - so that two runs do not look at the same moments
        try:
            _locked(session, lock, _MOMENT_SECONDS)
        except psycopg.errors.LockNotAvailable:
            session.execute(sql.SQL("ROLLBACK TO SAVEPOINT before_lock"))
        else:
            return True
    return False
