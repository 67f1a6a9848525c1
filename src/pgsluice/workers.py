"""Workers that copy slices side by side: the largest first, whatever table they belong to."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future, wait
from typing import Self

from pgsluice.errors import LimitError, StepError
from pgsluice.executors import Executor
from pgsluice.model import StagedData
from pgsluice.servers import Servers, Worker
from pgsluice.slices import SliceTask
from pgsluice.steps import relay
from pgsluice.throttle import Throttle

_AGAIN_SECONDS = 0.5


class Ticket:
    """A slice that waits for a worker, is being copied, or has been.

    Attributes:
        task: what is to be done.
        bytes: of the stream, so far.
        outcome: what was staged, or why not.
        ended: when that was known, by the monotonic clock; 0 before.
    """

    def __init__(self, task: SliceTask, weight: int) -> None:
        """Keep the task. `weight` is its bytes, about: who has most of them goes first."""
        self.task = task
        self.weight = weight
        self.bytes = 0
        self.outcome: Future[StagedData] = Future()
        self.ended = 0.0
        self.is_stopped = False

    def counting(self, passed: relay.OnBytes) -> relay.OnBytes:
        """Return what takes note of the bytes so far, before it asks `passed` how long to wait."""

        def on_bytes(bytes_: int) -> float:
            self.heed()
            self.bytes = bytes_
            return passed(bytes_)

        return on_bytes

    def heed(self) -> None:
        """See that it is still wanted.

        Raises:
            StepError: it is not.
        """
        if self.is_stopped:
            raise StepError("the slice was given up", step="relay")


class Workers:
    """So many threads, each with two sessions of its own, which copy one slice at a time.

    The threads fetch their work: a signal that ends a run interrupts whoever hands it in, at any point.
    """

    def __init__(self, servers: Servers, count: int, throttle: Throttle, executor: Executor) -> None:
        """Start nothing yet: a thread and its sessions come with the first slice that they are needed for.

        `most` is how many slices are copied at once now: less than `count` where memory did not suffice.

        Args:
            servers: of the run.
            count: of slices that are copied at once.
            throttle: holds them back.
            executor: copies for them.
        """
        self.most = count
        self.throttle = throttle
        self._servers = servers
        self._executor = executor
        self._threads: list[threading.Thread] = []
        self._resting = 0
        self._waiting: list[tuple[int, int, Ticket]] = []
        self._at_work: dict[Ticket, Worker] = {}
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._is_over = False

    def __enter__(self) -> Self:
        """Return them."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give up whatever is under way, and end the threads."""
        with self._changed:
            left = [*(ticket for *_, ticket in self._waiting), *self._at_work]
        self.stop(left)
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._executor.close()

    def take(self, ticket: Ticket) -> None:
        """Take a slice to copy; its outcome tells how it went."""
        with self._changed:
            self._put(ticket)
            is_short = self._resting < len(self._waiting) and len(self._threads) < self.most
        if is_short:
            worker = self._servers.worker(len(self._threads) + 1)
            thread = threading.Thread(target=self._work, args=(worker,), name=f"pgsluice slice {worker.number}")
            thread.daemon = True
            thread.start()
            self._threads.append(thread)

    def withdraw(self, tickets: Collection[Ticket]) -> None:
        """Take back those that no worker has begun."""
        with self._changed:
            unbegun = [ticket for *_, ticket in self._waiting if ticket in tickets]
            self._waiting = [entry for entry in self._waiting if entry[2] not in tickets]
            heapq.heapify(self._waiting)
        for ticket in unbegun:
            _end(ticket, StepError("the slice was not begun", step="relay"))

    def stop(self, tickets: Collection[Ticket]) -> None:
        """Give slices up, whatever a worker waits for, and return when nobody is at work on them."""
        for ticket in tickets:
            ticket.is_stopped = True
        self.withdraw(tickets)
        while True:
            with self._changed:
                busy = {ticket: worker for ticket, worker in self._at_work.items() if ticket in tickets}
            if not busy:
                return
            for worker in busy.values():  # again: a session may have been opened meanwhile
                self._executor.sever(worker)
            wait([ticket.outcome for ticket in busy], _AGAIN_SECONDS)

    def _put(self, ticket: Ticket) -> None:
        heapq.heappush(self._waiting, (-ticket.weight, next(self._numbers), ticket))
        self._changed.notify()

    # --- in a worker's thread ----------------------------------------------------------------------------------------

    def _work(self, worker: Worker) -> None:
        ticket = self._next(worker)
        while ticket is not None:
            result: StagedData | BaseException
            try:
                ticket.heed()
                result = self._executor.copy(worker, ticket.task, ticket.counting(self.throttle.meter()))
            except BaseException as error:  # noqa: BLE001 - whoever asked for the slice hears of it
                result = error
            ticket = self._next(worker) if self._ended(ticket, result) else None

    def _next(self, worker: Worker) -> Ticket | None:
        """Return the next slice, when there is one, or None where there will be none any more."""
        with self._changed:
            self._resting += 1
            self._changed.wait_for(lambda: self._waiting or self._is_over)
            self._resting -= 1
            if self._is_over:
                return None
            *_, ticket = heapq.heappop(self._waiting)
            self._at_work[ticket] = worker
            return ticket

    def _ended(self, ticket: Ticket, result: StagedData | BaseException) -> bool:
        """Tell how a slice went, and return whether the worker shall go on."""
        with self._changed:
            del self._at_work[ticket]
            if isinstance(result, LimitError) and self._at_work and not ticket.is_stopped:
                self.most -= 1  # this worker rests, and one of the others takes the slice when it has room
                self._put(ticket)
                return False
        _end(ticket, result)
        return True


def _end(ticket: Ticket, result: StagedData | BaseException) -> None:
    ticket.ended = time.monotonic()
    if isinstance(result, BaseException):
        ticket.outcome.set_exception(result)
    else:
        ticket.outcome.set_result(result)
