"""The sessions of a run: two on each server, opened when they are first asked for."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Self

import psycopg

from pgsluice import sqltext
from pgsluice.session import Endpoint, Session


class Servers:
    """Both servers of a run. Whatever a name or a host list says later, all sessions go to the same two."""

    def __init__(self, source: Endpoint, target: Endpoint) -> None:
        """Keep the endpoints; entering connects."""
        self._endpoints = {"source": source, "target": target}
        self._open: dict[str, Session] = {}

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
            with contextlib.suppress(psycopg.Error):
                control.execute(sqltext.verbatim("SELECT pg_catalog.pg_advisory_unlock_all()"))
        for session in self._open.values():
            session.close()
        self._open.clear()

    @property
    def source(self) -> Session:
        """Return the session that holds the source's snapshot."""
        return self._session("source", "source")

    @property
    def control(self) -> Session:
        """Return the target session that holds the run's locks; opened anew where it was lost."""
        return self._session("control", "target")

    @property
    def reader(self) -> Session:
        """Return the source session that reads by libpq."""
        return self._session("reader", "source")

    @property
    def writer(self) -> Session:
        """Return the target session that copies and merges."""
        return self._session("writer", "target")

    def writer_pid(self) -> int | None:
        """Return the backend of the writer, lost or not, or None where there was none."""
        return self._open["writer"].pid if "writer" in self._open else None

    def abandon_writer(self) -> None:
        """Give up a writer that is in the middle of something, so that it holds nothing any more."""
        writer = self._open.get("writer")
        if writer is not None and not writer.usable:
            writer.abandon()

    def revive_control(self) -> Session:
        """Return the control session after seeing that it answers."""
        try:
            self.control.row(sqltext.verbatim("SELECT 1"))
        except psycopg.Error:
            self._open.pop("control").close()
        return self.control

    def _session(self, name: str, side: str) -> Session:
        session = self._open.get(name)
        if session is None or not session.alive:
            if session is not None:
                session.close()
            session = self._open[name] = self._endpoints[side].open()
            self._endpoints[side] = dataclasses.replace(self._endpoints[side], pinned=session.pinned)
        return session
