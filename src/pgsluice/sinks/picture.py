"""What a person wants to know of a run while it goes on: the tables at work, and the run as a whole."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

from rich.cells import cell_len

from pgsluice.events import Event, RelayProgress, Retrying, RunStarted, StepFinished, StepStarted, TableFinished
from pgsluice.model import TableReport
from pgsluice.units import several, size, span
from pgsluice.visible import one_line

_RECENT = 10.0  # seconds over which a rate is taken
_SOONEST = 1.0  # a rate over less is a guess
_READING, _BESIDE = "relay", "sweep"  # the only steps of a table that go on at once

Clock = Callable[[], float]


class _Rate:
    """How fast a number has grown in the recent seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def take(self, now: float, value: int) -> float:
        """Note what it is now, and return its growth a second; 0 as long as that is not known."""
        if self._samples and (value < self._samples[-1][1] or value == self._samples[0][1]):  # begun anew, or not yet
            self._samples.clear()
        self._samples.append((now, value))
        while len(self._samples) > 2 and self._samples[1][0] <= now - _RECENT:  # noqa: PLR2004 - the two it is told from
            self._samples.popleft()
        (then, before), seconds = self._samples[0], now - self._samples[0][0]
        return (value - before) / (now - then) if seconds >= _SOONEST else 0.0


class _Table:
    """A table at work."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.rows = 0
        self.bytes = 0
        self._begun = now
        self._open: list[str] = []
        self._last = ""
        self._expected = -1
        self._rate = _Rate()
        self._again: tuple[int, float] | None = None

    @property
    def is_in_step(self) -> bool:
        """Tell whether something is done with it just now, be it a pause; else it waits for others."""
        return bool(self._open) or self._again is not None

    def take(self, event: StepStarted | StepFinished | RelayProgress | Retrying, now: float) -> None:
        match event:
            case StepStarted():
                beside = [step for step in self._open if step == _READING and event.step == _BESIDE]
                self._open = [*beside, event.step]  # what a failure has cut short is not told to have ended
                if event.step == _READING:
                    self.rows, self.bytes, self._expected, self._rate = 0, 0, event.rows_expected, _Rate()
                    self._rate.take(now, 0)
            case StepFinished():
                self._open = [step for step in self._open if step != event.step]
                self._last = event.step
            case RelayProgress():
                self.rows, self.bytes = max(self.rows, event.rows), max(self.bytes, event.bytes)
            case Retrying():
                self._open, self._again = [], (event.attempt, now + event.seconds)

    def cells(self, now: float) -> tuple[str, ...]:
        """Return step, share, rows, bytes, rate, seconds gone and seconds left; what is not known is empty."""
        is_reading = _READING in self._open
        rate = self._rate.take(now, self.rows) if is_reading else 0.0
        left = self._expected - self.rows if is_reading and self.rows else 0  # of an estimate, which may be too low
        return (
            self._doing(now),
            f"{100 * self.rows // self._expected}%" if left > 0 else "",
            several(self.rows, "row") if self.rows else "",
            size(self.bytes) if self.bytes else "",
            f"{rate:,.0f} rows/s" if rate else "",
            span(now - self._begun),
            f"~{span(left / rate)} left" if left > rate > 0 else "",
        )

    def _doing(self, now: float) -> str:
        step = self._open[0] if self._open else f"{self._last} done" if self._last else "begins"
        if not self._again:
            return step
        attempt, at = self._again
        return f"try {attempt} in {span(at - now)}" if now < at else f"{step}, try {attempt}"


class Picture:
    """All of a run that is shown. Any thread may tell of it, and any may look."""

    def __init__(self, clock: Clock) -> None:
        """Begin with nothing. `clock` returns seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = clock()
        self._names: tuple[str, ...] = ()
        self._ended: Counter[str] = Counter()
        self._rows = self._bytes = 0
        self._rate = _Rate()
        self._at_work: dict[str, _Table] = {}

    def take(self, event: Event) -> None:
        """Take note of an event."""
        with self._lock:
            now = self._clock()
            if isinstance(event, RunStarted):
                self._names = event.tables
                self._rate.take(now, 0)
            elif isinstance(event, StepStarted | StepFinished | RelayProgress):
                self._at_work.setdefault(event.table, _Table(event.table, now)).take(event, now)
            elif isinstance(event, Retrying) and event.table in self._at_work:
                self._at_work[event.table].take(event, now)
            elif isinstance(event, TableFinished):
                self._end(event.report, self._at_work.pop(event.report.target, None))

    def _end(self, report: TableReport, table: _Table | None) -> None:
        """Count a table that ended; what a failed one has relayed counts too, so that no number falls."""
        self._ended["done" if report.status == "planned" else report.status] += 1
        self._rows += max(report.staging_count, table.rows if table else 0)
        self._bytes += max(report.bytes, table.bytes if table else 0)

    def tables(self, most: int) -> tuple[list[tuple[str, tuple[str, ...]]], int]:
        """Return the tables at work, in the order they began, and the number of those left out.

        Those in a step come before those that wait for others of their transaction.

        Args:
            most: tables.

        Returns:
            Of each its name and what it is at: step, share, rows, bytes, rate, seconds gone and seconds left.
        """
        with self._lock:
            now = self._clock()
            chosen = sorted(self._at_work.values(), key=lambda table: not table.is_in_step)[: max(0, most)]
            names = {table.name for table in chosen}
            shown = [table for table in self._at_work.values() if table.name in names]
            return [(one_line(table.name), table.cells(now)) for table in shown], len(self._at_work) - len(shown)

    def summary(self) -> str:
        """Return the run's own line."""
        with self._lock:
            now, working = self._clock(), self._at_work.values()
            rows = self._rows + sum(table.rows for table in working)
            bytes_ = self._bytes + sum(table.bytes for table in working)
            rate = self._rate.take(now, rows)
            waiting = max(0, len(self._names) - self._ended.total() - len(working))
            parts = [f"{self._ended['done']} of {len(self._names)} tables done"]
            counts = {"failed": self._ended["failed"], "skipped": self._ended["skipped"]}
            counts |= {"at work": len(working), "waiting": waiting}
            parts += [f"{number} {what}" for what, number in counts.items() if number]
            parts += [f"{several(rows, 'row')}, {size(bytes_)}"]
            parts += [f"{rate:,.0f} rows/s"] if rate >= 1 else []
            return ", ".join((*parts, span(now - self._begun)))

    def name_width(self, most: int) -> int:
        """Return how many cells the names of the run's tables take, so many at most."""
        return min(max(map(cell_len, map(one_line, self._names)), default=most), most)
