"""Ends a run from another thread: whatever its own thread waits for is cut off, and it cleans up as after Ctrl-C."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TypeVar

_T = TypeVar("_T")
#: How soon a stop is noticed where nothing can be cut off.
LOOK_SECONDS = 0.2


class Stopped(KeyboardInterrupt):
    """Another thread asked the run to end."""


class Stop:
    """What another thread asks a run to end by. It is heeded once, so that nothing stops the clean-up."""

    def __init__(self, event: threading.Event) -> None:
        """Keep the event, which others set."""
        self._event = event
        self._is_heeded = False

    @property
    def is_due(self) -> bool:
        """Tell whether the run was asked to end and has not begun to."""
        return self._event.is_set() and not self._is_heeded

    def heed(self) -> None:
        """Begin to end, in the run's own thread, where that was asked for.

        Raises:
            Stopped: it was, and this is the first that the thread hears of it.
        """
        if self.is_due:
            self._is_heeded = True
            raise Stopped

    def ignore(self) -> None:
        """Have nothing left that could be ended."""
        self._is_heeded = True

    def sleep(self, seconds: float) -> None:
        """Sleep so long, or until the run is asked to end."""
        if self._is_heeded:
            time.sleep(seconds)
        else:
            self._event.wait(seconds)
            self.heed()


class _Here(threading.local):
    stop: Stop | None = None


_here = _Here()


def current() -> Stop | None:
    """Return what may end the run of this thread, or None where nothing can."""
    return _here.stop


@contextlib.contextmanager
def by(event: threading.Event | None) -> Iterator[None]:
    """Let an event end the run that the block is, in this thread. None: nothing does."""
    earlier, _here.stop = _here.stop, Stop(event) if event else None
    try:
        yield
    finally:
        _here.stop = earlier


def heed() -> None:
    """See that the run of this thread was not asked to end.

    Raises:
        Stopped: it was.
    """
    if stop := current():
        stop.heed()


def ignore() -> None:
    """Let the run of this thread end as it does: all its jobs are over."""
    if stop := current():
        stop.ignore()


def sleep(seconds: float) -> None:
    """Sleep, unless the run of this thread is asked to end.

    Raises:
        Stopped: it was.
    """
    stop = current()
    (stop.sleep if stop else time.sleep)(seconds)


def result(future: Future[_T]) -> _T:
    """Wait for a result, unless the run of this thread is asked to end.

    Raises:
        Stopped: it was; what the future stands for goes on.
    """
    while current():
        heed()
        with contextlib.suppress(NotYet):
            return future.result(LOOK_SECONDS)
        if future.done():  # that was its own error
            break
    return future.result()


def apart(call: Callable[[], _T], undo: Callable[[_T], object]) -> _T:
    """Call what can't be cut off in a thread of its own, where the run may be asked to end; else in this one.

    Args:
        call: what is called.
        undo: called with what came of it where nobody waited for that.

    Raises:
        Stopped: the run was asked to end.
    """
    if current() is None:
        return call()
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whoever waits hears of it
            future.set_exception(error)

    def undone(late: Future[_T]) -> None:
        if not late.exception():
            undo(late.result())

    threading.Thread(target=run, name="pgsluice apart", daemon=True).start()
    try:
        return result(future)
    except Stopped:
        future.add_done_callback(undone)
        raise
