"""Live progress of a relay, and the room that its staging may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import psycopg
from psycopg import sql

from pgsluice import sqltext
from pgsluice.errors import LimitError, StalledError
from pgsluice.model import StagingTable
from pgsluice.session import Session
from pgsluice.units import size

_EVERY_SECONDS = 0.5
_PATIENCE_SECONDS = 5.0


class RelayWatch:
    """Tells how far COPYs into the staging tables of one job are, at most twice a second, on a session of its own."""

    def __init__(
        self,
        control: Callable[[], Session | None],
        tell: Callable[[int, int], None],
        room: Room,
        also: Callable[[Session], None],
    ) -> None:
        """Keep what is needed.

        Args:
            control: gives a session on the target that is free while the COPYs run, or None where it was lost.
            tell: called with bytes and rows so far.
            room: looked at as often.
            also: called as often, with the session.
        """
        self._control = control
        self._tell = tell
        self._room = room
        self._also = also
        self._last = time.monotonic()
        self._most = 0

    def look(self, bytes_: int, rows: int, who: sql.Composed) -> None:
        """Tell how far they are, if it is time. One round trip for the rows, one where room is limited.

        Args:
            bytes_: that came through so far.
            rows: that were committed so far.
            who: tells the COPYs that run among all (`by`, `into`).

        Raises:
            LimitError: staging takes more room than allowed.
        """
        now = time.monotonic()
        if now - self._last >= _EVERY_SECONDS:
            self._last = now
            if control := self._control():
                self._most = max(self._most, rows + _rows(control, who))  # those of a COPY between its end and COMMIT
                self._tell(bytes_, self._most)
                self._also(control)
            self.check(bytes_)

    def check(self, bytes_: int) -> None:
        """See that there is room for what is staged now.

        Raises:
            LimitError: staging takes more room than allowed.
        """
        if control := self._control():
            self._room.check(control, bytes_)


def by(pid: int) -> sql.Composed:
    """Tell the COPY of one backend."""
    return sql.SQL("pid = {}").format(sql.Literal(pid))


def into(tables: Collection[StagingTable]) -> sql.Composed:
    """Tell the COPYs into staging tables and their parts."""
    names = [sqltext.table(table.ref).as_string(None) for table in tables]
    return sql.SQL(
        "(relid = ANY({0}::regclass[]) OR relid IN (SELECT inhrelid FROM pg_catalog.pg_inherits"
        " WHERE inhparent = ANY({0}::regclass[])))"
    ).format(sql.Literal(names))


def _rows(control: Session, who: sql.Composed) -> int:
    """Ask the server: rows can't be counted in a stream that is not parsed."""
    query = sql.SQL(
        "SELECT coalesce(pg_catalog.sum(tuples_processed), 0)::bigint FROM pg_catalog.pg_stat_progress_copy WHERE "
    )
    try:
        with control.waiting(seconds=_PATIENCE_SECONDS):
            return int(control.row(query + who)[0])
    except (psycopg.Error, StalledError):  # sight may fail; the copy has its own ways to notice
        return 0


def lag(control: Session) -> int:
    """Return how many bytes of WAL the standby that is furthest behind has yet to replay; 0 where none shows it.

    What a standby has replayed is shown to members of pg_monitor
    (https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW).
    """
    query = sql.SQL(
        "SELECT coalesce(pg_catalog.max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), replay_lsn)), 0)"
        "::bigint FROM pg_catalog.pg_stat_replication"
    )
    try:
        with control.waiting(seconds=_PATIENCE_SECONDS):
            return int(control.row(query)[0])
    except (psycopg.Error, StalledError):
        return 0


class Room:
    """What the staging tables of a run may take on the target's disk, all together."""

    def __init__(self, run_id: str, limit: int | None) -> None:
        """Keep what is needed. `limit` is bytes, or None for no limit."""
        self._prefix = f"stg_{run_id}_"
        self._limit = limit

    def check(self, control: Session, streamed: int) -> None:
        """See how much they take; temporary ones, which no other session sees, by the bytes that were streamed.

        Args:
            control: a session on the target that is free.
            streamed: bytes of the job's own.

        Raises:
            LimitError: more than the limit.
        """
        if self._limit is None:
            return
        taken = self._on_disk(control) or streamed
        if taken > self._limit:
            raise LimitError(
                f"staging takes {size(taken)} on the target, and the limit is {size(self._limit)}",
                hint="Nothing was merged and staging is dropped: raise --max-staging-bytes, or copy less at a time.",
                step="relay",
            )

    def _on_disk(self, control: Session) -> int:
        query = sql.SQL(
            "SELECT coalesce(sum(pg_catalog.pg_table_size(oid)), 0)::bigint FROM pg_catalog.pg_class"
            " WHERE relname >= %s AND relname < %s AND relkind = 'r'"
        )
        try:
            with control.waiting(seconds=_PATIENCE_SECONDS):
                return int(control.row(query, (self._prefix, self._prefix[:-1] + "`"))[0])  # behind the underscore
        except (psycopg.Error, StalledError):
            return 0
