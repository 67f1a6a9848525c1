"""Ends a wait in which nothing moves: a peer that acknowledges every packet and says nothing is met by no timeout.

Keepalives and `tcp_user_timeout` see lost packets only. Raising an exception in the thread that waits could hang again,
for a driver drains its connection first. So a thread of its own shuts the sockets, and the wait ends with an error.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from pgsluice import stopping


class Party(Protocol):
    """Whoever can be waited for."""

    def is_working(self) -> bool:
        """Ask, over another way, whether it is at work for us. Returns within a deadline of its own."""

    def sever(self, reason: str) -> None:
        """End every wait for it, now, and remember why."""


class Wait:
    """Somebody waiting for one party, or for the slower of several."""

    def __init__(self, seconds: float, parties: tuple[Party, ...]) -> None:
        """Begin to count. `seconds` may pass without a move or a sign of work."""
        self.seconds = seconds
        self.parties = parties
        self.stop = stopping.current()
        self.is_cut = False
        self.moved()

    def moved(self) -> None:
        """Count from now on: something came through."""
        self.last = time.monotonic()

    @property
    def remaining(self) -> float:
        """Return the seconds left, negative where they are over."""
        return self.last + (self.seconds or math.inf) - time.monotonic()

    def heed(self) -> None:
        """End the wait if the run that waits was asked to end."""
        if self.stop and self.stop.is_due and not self.is_cut:
            self.is_cut = True
            for party in self.parties:
                party.sever("the run was asked to end")

    def judge(self) -> None:
        """End the wait if nobody in it works; else go on for as long again."""
        seen = self.last
        if any(party.is_working() for party in self.parties):
            self.moved()
        elif self.last == seen:  # it may have moved while we asked
            for party in self.parties:
                party.sever(f"nothing came for {self.seconds:g} s, and no work for us was seen on the server")
            self.moved()


class Watchdog:
    """One thread for all waits of the process; it sleeps while there are none."""

    def __init__(self) -> None:
        """Start nothing yet: the first wait does."""
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._waits: set[Wait] = set()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watching(self, seconds: float, *parties: Party) -> Iterator[Wait]:
        """Watch the block, which waits for `parties`; it tells of progress by `Wait.moved`.

        Args:
            seconds: to wait without a move or a sign of work; 0 for ever.
            parties: whom to ask, and to cut off.

        Raises:
            Stopped: the run of this thread was asked to end.
        """
        stopping.heed()
        wait = Wait(seconds, parties)
        if seconds <= 0 and not wait.stop:
            yield wait
            return
        with self._changed:
            self._waits.add(wait)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pgsluice watchdog", daemon=True)
                self._thread.start()
            elif wait.stop or seconds < _NAP:  # the thread may sleep longer than that
                self._changed.notify()
        try:
            yield wait
        finally:
            with self._changed:
                self._waits.discard(wait)
            if wait.is_cut:  # whatever came of that
                stopping.heed()

    def cut(self, party: Party, reason: str) -> None:
        """End every wait for a party, and what waits with it: a psql that reads for a session is deaf to its end."""
        with self._changed:
            waits = [wait for wait in self._waits if party in wait.parties]
        party.sever(reason)
        for other in (each for wait in waits for each in wait.parties if each is not party):
            other.sever(reason)

    def _run(self) -> None:
        while True:
            with self._changed:
                for wait in self._waits:  # in here: none of them ends meanwhile, and its sessions serve the clean-up
                    wait.heed()
                due = [wait for wait in self._waits if wait.remaining <= 0]
                if not due:
                    naps = (stopping.LOOK_SECONDS if wait.stop else wait.remaining for wait in self._waits)
                    nap = min(naps, default=_NAP)
                    self._changed.wait(max(0.01, min(nap, _NAP)))
            for wait in due:
                wait.judge()


_NAP = 1.0

watchdog = Watchdog()
os.register_at_fork(after_in_child=watchdog._reset)  # noqa: SLF001 - threads do not outlive a fork
