"""Live progress of a relay."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
from psycopg import sql

from pgsluice.errors import StalledError
from pgsluice.session import Session

_EVERY_SECONDS = 0.5
_PATIENCE_SECONDS = 5.0


class RelayWatch:
    """Tells how far a COPY is, at most twice a second; one round trip each time, on a session of its own."""

    def __init__(self, control: Session, writer_pid: int, tell: Callable[[int, int], None]) -> None:
        """Keep what is needed.

        Args:
            control: a session on the target that is free while the COPY runs.
            writer_pid: the backend that runs the COPY.
            tell: called with bytes and rows so far.
        """
        self._control = control
        self._pid = writer_pid
        self._tell = tell
        self._last = time.monotonic()

    def __call__(self, bytes_: int) -> None:
        """Take note of the bytes so far."""
        now = time.monotonic()
        if now - self._last >= _EVERY_SECONDS:
            self._last = now
            self._tell(bytes_, self._rows())

    def _rows(self) -> int:
        """Ask the server: rows can't be counted in a stream that is not parsed."""
        query = sql.SQL("SELECT tuples_processed FROM pg_catalog.pg_stat_progress_copy WHERE pid = %s")
        try:
            with self._control.waiting(seconds=_PATIENCE_SECONDS):
                found = self._control.rows(query, (self._pid,))
        except (psycopg.Error, StalledError):  # sight may fail; the copy has its own ways to notice
            return 0
        return int(found[0][0]) if found else 0
