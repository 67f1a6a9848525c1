"""Who is in the way of a session that waits for a lock."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psycopg
from psycopg import sql

from pgsluice import sqltext
from pgsluice.errors import TemporaryError
from pgsluice.session import Session

#: Of the time that a session waits, the share after which its blockers are asked for: late, and while there are any.
_SHARE = 0.5


@contextlib.contextmanager
def named(session: Session, seconds: float) -> Iterator[None]:
    """Name the sessions that keep the block from a lock, where it is not to be had.

    The server forgets who blocked a wait when the wait is over, so it is asked while it lasts, over another connection.

    Args:
        session: that waits.
        seconds: its lock_timeout.

    Raises:
        TemporaryError: the lock was not to be had; names the table, and pid, user, program and state of each session in
            the way.
    """
    found: list[tuple[str, ...]] = []
    query = sqltext.load("blockers").format(pid=sql.Literal(session.pid))
    timer = threading.Timer(seconds * _SHARE, lambda: found.extend(session.aside(query)))
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        timer.join(seconds)
        raise TemporaryError(
            _told(found),
            hint=f"Try later, end those sessions, or give --lock-timeout more seconds.{_hidden(found)}",
            sqlstate=error.sqlstate,
        ) from error
    finally:
        timer.cancel()


def executed(session: Session, *statements: sql.Composed) -> None:
    """Run statements that create; each may wait for somebody who creates the same and has not committed.

    Raises:
        TemporaryError: it did, in vain; names the sessions in the way.
    """
    for statement in statements:
        with named(session, session.lock_seconds):
            session.execute(statement)


def _told(found: list[tuple[str, ...]]) -> str:
    if not found:
        return "a lock was not to be had; nobody holds it any more"
    holders = "; ".join(f"pid {pid} ({', '.join(filter(None, known)) or 'unknown'})" for _, pid, *known in found)
    what = f"the lock on {found[0][0]}" if found[0][0] else "what another session has not committed"
    return f"{what} was not to be had; held by {holders}"


def _hidden(found: list[tuple[str, ...]]) -> str:
    """Say how to see what those in the way do, where the server shows that to certain roles only."""
    is_hidden = any(user and not state for _, _, user, _, state in found)
    return " pg_read_all_stats, granted to this role, shows what they do." if is_hidden else ""
