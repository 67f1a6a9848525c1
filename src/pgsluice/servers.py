"""The sessions of a run: two on each server, opened when they are first asked for, and again where they were lost."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Self

import psycopg
from psycopg import sql

from pgsluice import sqltext
from pgsluice.errors import ConnectError, PgsluiceError
from pgsluice.session import Endpoint, Session

_SIDES = {"source": "source", "reader": "source", "control": "target", "writer": "target"}
_FAREWELL_SECONDS = 5.0


class Servers:
    """Both servers of a run.

    Whatever a name or a host list says later, all sessions of a side go to the same server for as long as one of them
    lives; where none does, it is looked for anew, and may be another one after a failover.
    """

    def __init__(self, source: Endpoint, target: Endpoint) -> None:
        """Keep the endpoints; nothing is opened yet."""
        self._endpoints = {"source": source, "target": target}
        self._open: dict[str, Session] = {}
        self._reached: set[str] = set()
        self._lost: dict[str, list[Session]] = {"source": [], "target": []}

    def __enter__(self) -> Self:
        """Return them; a session is opened when it is first asked for."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every session."""
        self.close()

    def close(self) -> None:
        """Close every session; the servers free their locks and roll back what was open.

        The run locks are given back first: a server notices a connection's end a little later than we go on.
        """
        control = self._open.get("control")
        if control is not None and control.usable:
            with contextlib.suppress(psycopg.Error, PgsluiceError), control.waiting(seconds=_FAREWELL_SECONDS):
                control.execute(sqltext.verbatim("SELECT pg_catalog.pg_advisory_unlock_all()"))
        for session in self._open.values():
            session.close()
        self._open.clear()

    @property
    def source(self) -> Session:
        """Return the session that holds the source's snapshot."""
        return self._session("source")

    @property
    def control(self) -> Session:
        """Return the target session that holds the run's locks; opened anew where it was lost."""
        return self._session("control")

    @property
    def reader(self) -> Session:
        """Return the source session that reads by libpq."""
        return self._session("reader")

    @property
    def writer(self) -> Session:
        """Return the target session that copies and merges."""
        return self._session("writer")

    def abandon_writer(self) -> None:
        """Give up a writer that is in the middle of something, so that it holds nothing any more."""
        writer = self._open.get("writer")
        if writer is not None and not writer.usable:
            writer.abandon()

    def revive_control(self) -> Session:
        """Return the control session after seeing that it answers."""
        self.control.answers()
        return self.control

    def settle(self) -> None:
        """See, after a failure, which sessions still answer, and close the others. A round trip each."""
        for session in self._open.values():
            if session.alive:
                session.answers()

    def leave(self, side: str) -> None:
        """Close every session of the "source" or the "target", so that the server is looked for anew."""
        for name, session in self._open.items():
            if _SIDES[name] == side:
                session.close()

    def end_lost(self, side: str) -> None:
        """End the backends of sessions that we lost and the server may not have: they could still hold locks.

        A number is given out again in time, so the moment at which the backend began has to agree.
        """
        ours = [session for name, session in self._open.items() if _SIDES[name] == side]
        alive = [session for session in ours if session.usable]
        lost = [*self._lost[side], *(session for session in ours if not session.alive)]
        self._lost[side] = []
        for session in lost if alive else ():
            with contextlib.suppress(psycopg.Error, PgsluiceError):
                alive[0].execute(
                    sql.SQL(
                        "SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity"
                        " WHERE pid = %s AND backend_start = %s::timestamptz"
                    ),
                    (session.pid, session.started),
                )

    def _session(self, name: str) -> Session:
        session = self._open.get(name)
        if session is not None and session.alive:
            return session
        side = _SIDES[name]
        if session is not None:
            self._lost[side].append(session)
            del self._open[name]
        session = self._open[name] = self._opened(side)
        self.end_lost(side)
        return session

    def _opened(self, side: str) -> Session:
        others = (other for name, other in self._open.items() if _SIDES[name] == side and other.alive)
        endpoint = self._endpoints[side]
        if other := next(others, None):
            endpoint = dataclasses.replace(endpoint, pinned=other.pinned)
        try:
            session = endpoint.open()
        except ConnectError as error:
            error.reached_before = side in self._reached
            raise
        self._reached.add(side)
        return session
