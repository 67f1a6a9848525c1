"""The sessions of a run: two on each server, two more a worker; opened when asked for, and again where lost."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Self

import psycopg
from psycopg import sql

from pgsluice import sqltext
from pgsluice.endpoint import Endpoint
from pgsluice.errors import PgsluiceError
from pgsluice.session import Session
from pgsluice.watchdog import watchdog

_SIDES = {"source": "source", "reader": "source", "control": "target", "writer": "target"}
_FAREWELL_SECONDS = 5.0
_MAIN = 0


class Worker:
    """The two sessions of one worker, which no other one uses."""

    def __init__(self, servers: Servers, number: int) -> None:
        """Keep what is needed; nothing is opened yet.

        Args:
            servers: of the run.
            number: of the worker; 0 is the run's own thread.
        """
        self._servers = servers
        self.number = number

    @property
    def reader(self) -> Session:
        """Return the source session that reads by libpq."""
        return self._servers.session("reader", self.number)

    @property
    def writer(self) -> Session:
        """Return the target session that copies and merges."""
        return self._servers.session("writer", self.number)

    def sever(self, reason: str) -> None:
        """End whatever the worker waits for, from any thread."""
        for role in ("reader", "writer"):
            if session := self._servers.opened(role, self.number):
                watchdog.cut(session, reason)


class Servers:
    """Both servers of a run.

    Whatever a name or a host list says later, all sessions of a side go to the server of those of the run's own thread,
    for as long as one of these lives; where none does, it is looked for anew, and may be another one after a failover:
    workers let go of theirs then, for what they were at is lost with the run lock or the snapshot.
    """

    def __init__(self, source: Endpoint, target: Endpoint) -> None:
        """Keep the endpoints; nothing is opened yet. `main` is the worker that is the run's own thread."""
        self._endpoints = {"source": source, "target": target}
        self._open: dict[tuple[str, int], Session] = {}
        self._lost: dict[str, list[Session]] = {"source": [], "target": []}
        self._changing = threading.Lock()
        self.main = self.worker(_MAIN)

    def __enter__(self) -> Self:
        """Return them; a session is opened when it is first asked for."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every session."""
        self.close()

    def close(self) -> None:
        """Close every session; the servers free their locks and roll back what was open. No worker is at work.

        The run locks are given back first: a server notices a connection's end a little later than we go on.
        """
        control = self.opened("control")
        if control is not None and control.usable:
            with contextlib.suppress(psycopg.Error, PgsluiceError), control.waiting(seconds=_FAREWELL_SECONDS):
                control.execute(sqltext.verbatim("SELECT pg_catalog.pg_advisory_unlock_all()"))
        for session in self._open.values():
            session.close()
        self._open.clear()

    @property
    def source(self) -> Session:
        """Return the session that holds the source's snapshot."""
        return self.session("source")

    @property
    def control(self) -> Session:
        """Return the target session that holds the run's locks; opened anew where it was lost."""
        return self.session("control")

    @property
    def reader(self) -> Session:
        """Return the source session by which the run's own thread reads."""
        return self.main.reader

    @property
    def writer(self) -> Session:
        """Return the target session by which the run's own thread copies and merges."""
        return self.main.writer

    @property
    def endpoints(self) -> tuple[Endpoint, Endpoint]:
        """Return source and target as another process has to open them: at the very servers of this run."""
        return (
            dataclasses.replace(self._endpoints["source"], pinned=self.source.pinned),
            dataclasses.replace(self._endpoints["target"], pinned=self.control.pinned),
        )

    def worker(self, number: int) -> Worker:
        """Return a worker by its number."""
        return Worker(self, number)

    def abandon_writer(self) -> None:
        """Give up a writer that is in the middle of something, so that it holds nothing any more."""
        writer = self.opened("writer")
        if writer is not None and not writer.usable:
            writer.abandon()

    def revive_control(self) -> Session:
        """Return the control session after seeing that it answers."""
        self.control.answers()
        return self.control

    def settle(self) -> None:
        """See, after a failure, which sessions of the run's own thread still answer, and close the others.

        A round trip each.
        """
        for (_, number), session in self._listed():
            if number == _MAIN and session.alive:
                session.answers()

    def leave(self, side: str) -> None:
        """Let go of every session of the "source" or the "target", so that the server is looked for anew."""
        for (role, number), session in self._listed():
            if _SIDES[role] == side and number == _MAIN:
                session.close()

    def end_lost(self, side: str) -> None:
        """End the backends of sessions that we lost and the server may not have: they could still hold locks."""
        ours = [session for (role, _), session in self._listed(_MAIN) if _SIDES[role] == side and session.usable]
        if ours:
            self._end_lost(side, ours[0])

    def opened(self, role: str, number: int = _MAIN) -> Session | None:
        """Return a session, or None where it was never asked for."""
        return self._open.get((role, number))

    def session(self, role: str, number: int = _MAIN) -> Session:
        """Return a worker's session; opened where it is not.

        Args:
            role: "source" or "reader" on the source, "control" or "writer" on the target.
            number: of the worker.
        """
        session = self.opened(role, number)
        if session is not None and session.alive:
            return session
        side = _SIDES[role]
        if session is not None:
            session.close()
            with self._changing:
                self._lost[side].append(session)
                del self._open[role, number]
        session = self._connected(side, number)
        with self._changing:
            self._open[role, number] = session
        self._end_lost(side, session)
        return session

    @contextlib.contextmanager
    def aside(self) -> Iterator[Session]:
        """Return a target session of its own for the block: what is set in it is gone with it."""
        session = self._connected("target", _MAIN)
        try:
            yield session
        finally:
            session.close()

    def _listed(self, *numbers: int) -> list[tuple[tuple[str, int], Session]]:
        """Return the sessions of some workers, or of all."""
        with self._changing:
            return [(who, session) for who, session in self._open.items() if who[1] in (numbers or (who[1],))]

    def _end_lost(self, side: str, asked: Session) -> None:
        """Let `asked` end them. A pid is given out again in time, so the moment when the backend began has to agree."""
        dead = [session for (role, _), session in self._listed() if _SIDES[role] == side and not session.alive]
        with self._changing:
            lost, self._lost[side] = [*self._lost[side], *dead], []
        for session in lost:
            with contextlib.suppress(psycopg.Error, PgsluiceError):
                asked.execute(
                    sql.SQL(
                        "SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity"
                        " WHERE pid = %s AND backend_start = %s::timestamptz"
                    ),
                    (session.pid, session.started),
                )

    def _connected(self, side: str, number: int) -> Session:
        ours = (other for (role, _), other in self._listed(_MAIN) if _SIDES[role] == side and other.alive)
        endpoint = self._endpoints[side]
        if other := next(ours, None):
            endpoint = dataclasses.replace(endpoint, pinned=other.pinned)
        elif number == _MAIN:
            for (role, _), theirs in self._listed():
                if _SIDES[role] == side and theirs.alive:
                    theirs.sever("the run looks for its server anew")
        return endpoint.open()
