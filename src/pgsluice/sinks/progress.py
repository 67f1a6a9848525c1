"""Shows a run to a person: a live line a table on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from pgsluice.events import Event, RelayProgress, Retrying, RunStarted, StepStarted, TableFinished, Warned
from pgsluice.units import size

_PLAIN_SECONDS = 5.0


class _Line:
    """What is known of one table."""

    def __init__(self) -> None:
        self.step = "waiting"
        self.rows = 0
        self.bytes = 0
        self.expected = -1
        self.since = time.monotonic()

    def take(self, event: StepStarted | RelayProgress) -> None:
        if isinstance(event, StepStarted):
            self.step = event.step
            if event.step == "relay":
                self.since, self.expected = time.monotonic(), event.rows_expected
        else:
            self.rows, self.bytes = event.rows, event.bytes

    def __str__(self) -> str:
        """Return step, rows, bytes, rate, and the time left where there is an estimate to tell it from."""
        if not self.bytes:
            return self.step
        text = f"{self.step}, {self.rows:,} rows, {size(self.bytes)}"
        seconds = time.monotonic() - self.since
        if self.step != "relay" or not self.rows or seconds <= 0:
            return text
        rate = self.rows / seconds
        text += f", {rate:,.0f} rows/s"
        left = (self.expected - self.rows) / rate
        return f"{text}, about {left:,.0f} s left" if left > 0 else text


def _told(event: Warned | Retrying) -> str:
    """Return what a person should read at once."""
    table = f"{event.table}: " if event.table else ""
    if isinstance(event, Warned):
        return f"warning: {table}{event.message}"
    state = f" [SQLSTATE {event.sqlstate}]" if event.sqlstate else ""
    return f"{table}{event.step} failed: {event.reason}{state}; try {event.attempt} in {event.seconds:.1f} s"


class PlainProgress:
    """A sink for pipes and logs: the tables at work, every few seconds."""

    def __init__(self, stream: TextIO, every: float = _PLAIN_SECONDS) -> None:
        """Write to `stream` every `every` seconds."""
        self._stream = stream
        self._every = every
        self._current: dict[str, _Line] = {}
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="pgsluice progress", daemon=True)

    def __enter__(self) -> Self:
        """Start the clock."""
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._ended.set()
        self._ticker.join()

    def __call__(self, event: Event) -> None:
        """Take note of `event`; warnings are written at once."""
        if isinstance(event, StepStarted | RelayProgress):
            self._current.setdefault(event.table, _Line()).take(event)
        elif isinstance(event, TableFinished):
            self._current.pop(event.report.target, None)
        elif isinstance(event, Warned | Retrying):
            self._write(_told(event))

    def _tick(self) -> None:
        while not self._ended.wait(self._every):
            for table, line in list(self._current.items()):
                self._write(f"{table}: {line}")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class LiveProgress:
    """A sink for terminals: a line a table, its bar against the planner's estimate."""

    def __init__(self, console: Console) -> None:
        """Draw on `console`."""
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _State(),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, tuple[TaskID, _Line]] = {}

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture standing."""
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Draw what `event` changes."""
        if isinstance(event, RunStarted):
            for table in event.tables:
                line = _Line()
                self._tasks[table] = (self._progress.add_task(table, total=None, start=False, line=line), line)
        elif isinstance(event, StepStarted | RelayProgress):
            task, line = self._tasks[event.table]
            line.take(event)
            if not self._progress.tasks[task].started:
                self._progress.start_task(task)
            total = line.expected if line.expected > 0 else None
            self._progress.update(task, total=total, completed=min(line.rows, total or line.rows))
        elif isinstance(event, TableFinished):
            task, line = self._tasks[event.report.target]
            line.step, line.rows, line.bytes = event.report.status, event.report.staging_count, event.report.bytes
            self._progress.update(task, total=1, completed=1 if event.report.status == "done" else 0)
            self._progress.stop_task(task)
        elif isinstance(event, Warned | Retrying):
            self._progress.console.print(_told(event), markup=False, emoji=False, highlight=False)


class _State(ProgressColumn):
    """The words behind the bar."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields["line"]))
