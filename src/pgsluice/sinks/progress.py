"""Shows a run to a person: drawn on a terminal, and elsewhere written, a line a table that ends and one every while."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Self, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, OverflowMethod
from rich.live import Live
from rich.text import Text

from pgsluice.events import (
    Connected,
    Event,
    Retrying,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    TableFinished,
    Warned,
)
from pgsluice.model import TableReport
from pgsluice.sinks.picture import Clock, Picture
from pgsluice.units import several, size
from pgsluice.visible import joined, one_line

_PLAIN_SECONDS = 10.0
_PLAIN_TABLES = 5
_DRAWN_PER_SECOND = 4
#: Cells of a drawn table behind its name, so that nothing moves when a number grows: step to the left; to the right
#: share, rows, bytes, rate and seconds gone.
_WIDTHS = _FIRST, *_OTHERS = 14, 4, 16, 10, 16, 7


def told(event: Event, verbosity: int) -> tuple[str, str]:
    """Return what a person should read of an event at once, as one line or "", and its style.

    Args:
        event: that happened.
        verbosity: 0 for tables that end, failures and warnings; 1 for steps that end too, 2 for all that is known.
    """
    text, style = "", "dim"
    match event:
        case Connected():
            text = event.between
        case Warned():
            text, style = f"warning: {_about(event.table)}{joined(event.message)}", "yellow"
        case Retrying():
            failure = f"{_about(event.table)}{event.step} failed: {joined(event.reason)}{_state(event.sqlstate)}"
            text, style = f"{failure}; try {event.attempt} in {event.seconds:.1f} s", "yellow"
        case TableFinished():
            text, style = _ended(event.report, verbosity), "bold red" if event.report.status == "failed" else ""
        case StepFinished() if verbosity > 0:
            text = f"{event.table}: {event.step} took {event.seconds:.2f} s"
        case StepStarted() if verbosity > 1:
            expected = f", about {several(event.rows_expected, 'row')}" if event.rows_expected >= 0 else ""
            text = f"{event.table}: {event.step} begins{expected}"
        case RunStarted() if verbosity > 1:
            text = f"run {event.run_id}: begins, {several(len(event.tables), 'table')}"
        case RunFinished() if verbosity > 1:
            text = f"run {event.run_id}: ended with {event.report.exit_code} in {event.report.seconds:.2f} s"
    return one_line(text), style


def _ended(report: TableReport, verbosity: int) -> str:
    """Say what became of a table; nothing of one whose turn did not come, for the run's line counts these."""
    if report.status == "skipped":
        return ""
    if report.status == "failed":
        where = f" at step {report.step}" if report.step else ""
        return f"{report.target}: failed{where}: {joined(str(report.error))}{_state(report.sqlstate)}"
    facts = [report.status, several(report.staging_count, "row"), size(report.bytes), f"{report.seconds:.1f} s"]
    if report.attempts > 1:
        facts.append(f"{report.attempts} tries")
    if verbosity > 1:
        facts += [f"strategy {report.strategy}", f"lane {report.lane}", f"format {report.format}"]
        facts += [f"staging {report.staging}"]
    return f"{report.target}: {', '.join(facts)}"


def _about(table: str | None) -> str:
    return f"{table}: " if table else ""


def _state(sqlstate: str | None) -> str:
    return f" [SQLSTATE {sqlstate}]" if sqlstate else ""


# --- the sinks --------------------------------------------------------------------------------------------------------


class PlainProgress:
    """A sink for pipes and logs: a line for each table that ends, and every while the run and a few at work."""

    def __init__(
        self, stream: TextIO, every: float = _PLAIN_SECONDS, verbosity: int = 0, clock: Clock = time.monotonic
    ) -> None:
        """Keep what is needed; the clock ticks from `__enter__` on.

        Args:
            stream: to write to.
            every: seconds between two looks at the run.
            verbosity: see `told`.
            clock: returns seconds.
        """
        self._stream = stream
        self._every = every
        self._verbosity = verbosity
        self._run = Picture(clock)
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
        """Take note of `event`, and write what should be read at once."""
        self._run.take(event)
        line, _ = told(event, self._verbosity)
        if line:
            self._write(line)

    def look(self) -> None:
        """Write how far the run is, and the tables at work."""
        tables, others = self._run.tables(_PLAIN_TABLES)
        lines = [self._run.summary()]
        lines += [f"  {name}: {_listed(cells)}" for name, cells in tables]
        lines += [f"  and {others} more at work"] if others else []
        self._write("\n".join(lines))

    def _tick(self) -> None:
        while not self._ended.wait(self._every):
            self.look()

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class LiveProgress:
    """A sink for terminals: tables at work are drawn, the run last; tables that end are written above."""

    def __init__(self, console: Console, verbosity: int = 0, clock: Clock = time.monotonic) -> None:
        """Keep what is needed.

        Args:
            console: to draw on; never more lines than fit its height.
            verbosity: see `told`.
            clock: returns seconds.
        """
        self._console = console
        self._verbosity = verbosity
        self._run = Picture(clock)
        self._live = Live(
            self,  # drawn anew with each line above, too
            console=console,
            refresh_per_second=_DRAWN_PER_SECOND,
            transient=True,  # what it showed last is in the report that follows
            redirect_stdout=False,  # which may be a file
        )

    def __enter__(self) -> Self:
        """Start drawing."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wipe the picture out."""
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take note of `event`, and write what should be read at once; the next picture shows the rest."""
        self._run.take(event)
        line, style = told(event, self._verbosity)
        if line:
            is_cut = not isinstance(event, Warned | Retrying)  # which are told nowhere else
            overflow: OverflowMethod = "ellipsis" if is_cut else "fold"
            self._console.print(Text(line, style), no_wrap=is_cut, overflow=overflow)

    def __rich__(self) -> Group:
        """Return what is drawn now."""
        return Group(*self._lines())

    def _lines(self) -> Iterator[Text]:
        room = self._console.height - 2  # beside the run's line and the cursor
        tables, others = self._run.tables(room)
        if others and tables:
            tables, others = tables[:-1], others + 1  # whose line this is
        width = self._run.name_width(max(1, self._console.width // 3))
        is_wide = self._console.width >= width + _FIRST + sum(_OTHERS) + 2 * len(_WIDTHS)
        for name, cells in tables:
            yield _line(f"{_fitted(name, width)}  {_aligned(cells) if is_wide else _listed(cells)}")
        if others and room > 0:
            yield _line(f"and {others} more at work", "dim")
        yield _line(self._run.summary(), "bold")


def _aligned(cells: tuple[str, ...]) -> str:
    step, *numbers, left = cells
    columns = (f"{number:>{width}}" for number, width in zip(numbers, _OTHERS, strict=True))
    return "  ".join((f"{step:<{_FIRST}}", *columns, left))


def _listed(cells: tuple[str, ...]) -> str:
    return ", ".join(filter(None, cells))


def _line(text: str, style: str = "") -> Text:
    """Return a line that is cut at the terminal's edge, and means nothing but itself."""
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _fitted(name: str, width: int) -> str:
    """Return a name in so many cells."""
    return set_cell_size(name, width) if cell_len(name) <= width else set_cell_size(name, width - 1) + "…"
