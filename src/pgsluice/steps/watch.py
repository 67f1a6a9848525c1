"""Live progress of a relay, and the room that its staging may take."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
from psycopg import sql

from pgsluice.errors import LimitError, StalledError
from pgsluice.model import StagingTable
from pgsluice.session import Session
from pgsluice.units import size

_EVERY_SECONDS = 0.5
_PATIENCE_SECONDS = 5.0


class RelayWatch:
    """Tells how far a COPY is, at most twice a second; one round trip each time, on a session of its own."""

    def __init__(self, control: Session, writer_pid: int, tell: Callable[[int, int], None], room: Room) -> None:
        """Keep what is needed.

        Args:
            control: a session on the target that is free while the COPY runs.
            writer_pid: the backend that runs the COPY.
            tell: called with bytes and rows so far.
            room: looked at as often.
        """
        self._control = control
        self._pid = writer_pid
        self._tell = tell
        self._room = room
        self._last = time.monotonic()

    def __call__(self, bytes_: int) -> None:
        """Take note of the bytes so far."""
        now = time.monotonic()
        if now - self._last >= _EVERY_SECONDS:
            self._last = now
            self._tell(bytes_, self._rows())
            self._room.check(bytes_)

    def _rows(self) -> int:
        """Ask the server: rows can't be counted in a stream that is not parsed."""
        query = sql.SQL("SELECT tuples_processed FROM pg_catalog.pg_stat_progress_copy WHERE pid = %s")
        try:
            with self._control.waiting(seconds=_PATIENCE_SECONDS):
                found = self._control.rows(query, (self._pid,))
        except (psycopg.Error, StalledError):  # sight may fail; the copy has its own ways to notice
            return 0
        return int(found[0][0]) if found else 0


class Room:
    """What the staging tables of a run may take on the target's disk, all together."""

    def __init__(self, control: Session, staging: StagingTable, limit: int | None) -> None:
        """Keep what is needed.

        Args:
            control: a session on the target that is free while the COPY runs.
            staging: the table that is being filled.
            limit: bytes, or None for no limit.
        """
        self._control = control
        self._prefix = f"stg_{staging.run_id}_"
        self._limit = limit

    def check(self, streamed: int) -> None:
        """See how much they take; temporary ones, which no other session sees, by the bytes that were streamed.

        Raises:
            LimitError: more than the limit.
        """
        if self._limit is None:
            return
        taken = self._on_disk() or streamed
        if taken > self._limit:
            raise LimitError(
                f"staging takes {size(taken)} on the target, and the limit is {size(self._limit)}",
                hint="Nothing was merged and staging is dropped: raise --max-staging-bytes, or copy less at a time.",
                step="relay",
            )

    def _on_disk(self) -> int:
        query = sql.SQL(
            "SELECT coalesce(sum(pg_catalog.pg_table_size(oid)), 0)::bigint FROM pg_catalog.pg_class"
            " WHERE relname >= %s AND relname < %s AND relkind = 'r'"
        )
        try:
            with self._control.waiting(seconds=_PATIENCE_SECONDS):
                return int(
                    self._control.row(query, (self._prefix, self._prefix[:-1] + "`"))[0]
                )  # behind the underscore
        except (psycopg.Error, StalledError):
            return 0
