"""What happens during a run, as values, and the emitter that hands them to sinks.

A sink is any callable that takes an event. Sinks listen; nothing they do can fail a run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from pgsluice.errors import scrub
from pgsluice.model import Report, TableReport

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base: when it happened, and in which run.

    Attributes:
        run_id: of the run.
        at: seconds since the epoch.
    """

    run_id: str
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Event):
    """Both servers were reached; nothing was asked of them yet.

    Attributes:
        source_server: who reads where: ``role@host:port/database (16.14, primary)``; without secrets.
        target_server: who writes where, the same way.
    """

    source_server: str
    target_server: str

    @property
    def between(self) -> str:
        """Return both, as one line."""
        return between(self.source_server, self.target_server)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """The jobs are known."""

    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(Event):
    """A step of one job begins.

    Attributes:
        table: the target, ``schema.table``.
        step: "plan", "staging", "relay", "merge", "cleanup".
        rows_expected: the planner's estimate of the source's rows, in the relay step; -1 where unknown.
    """

    table: str
    step: str
    rows_expected: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished(Event):
    """A step of one job ended well.

    Attributes:
        table: the target, ``schema.table``.
        step: its name.
        seconds: wall clock.
    """

    table: str
    step: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayProgress(Event):
    """Bytes and rows so far.

    Attributes:
        table: the target, ``schema.table``.
        bytes: of the COPY stream.
        rows: that the target has taken.
    """

    table: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying(Event):
    """Something failed that may pass, and is tried again after a pause.

    Attributes:
        step: that failed.
        attempt: number of the try that follows.
        seconds: until then.
        reason: the failure, without row data.
        sqlstate: of it, or None.
        table: the target it concerns, or None while the run begins.
    """

    step: str
    attempt: int
    seconds: float
    reason: str
    sqlstate: str | None = None
    table: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something a person should know; the run goes on.

    Attributes:
        message: one sentence.
        table: the target it concerns, or None.
    """

    message: str
    table: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFinished(Event):
    """A job ended, well or not."""

    report: TableReport


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """The run ended."""

    report: Report


Sink = Callable[[Event], None]


def between(source_server: str, target_server: str) -> str:
    """Return the line that says which servers a command speaks of."""
    return f"source {source_server} -> target {target_server}"


class Emitter:
    """Hands each event to every sink, without secrets in what it says."""

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        """Keep the sinks, in the order in which they are called."""
        self._sinks = tuple(sinks)

    def __call__(self, event: Event) -> None:
        """Hand `event` to the sinks; a sink that raises is logged and passed over."""
        if isinstance(event, Warned):
            event = replace(event, message=scrub(event.message))
        elif isinstance(event, Retrying):
            event = replace(event, reason=scrub(event.reason))
        for sink in self._sinks:
            try:
                sink(event)
            except Exception:  # noqa: BLE001 - whatever a listener does wrong is its own
                _log.exception("a sink failed on %s", type(event).__name__)
