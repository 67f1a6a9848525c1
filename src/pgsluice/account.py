"""What is told of one job: its report so far, the seconds of its steps, and the events on the way."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator

from pgsluice.errors import PgsluiceError
from pgsluice.events import Emitter, RelayProgress, Retrying, StepFinished, StepStarted, Warned
from pgsluice.model import TableReport
from pgsluice.retry import translated


class Account:
    """The account of one job."""

    def __init__(self, report: TableReport, emit: Emitter) -> None:
        """Open it.

        Args:
            report: with the names of run and tables.
            emit: takes events.
        """
        self.report = report
        self._emit = emit
        self._opened = 0.0
        self._steps: dict[str, float] = {}

    def tell(self, **changes: object) -> TableReport:
        """Change the report, whose seconds and steps are those until now, and return it."""
        seconds = time.monotonic() - self._opened if self._opened else 0.0
        told = {"seconds": seconds, "steps": dict(self._steps), **changes}
        self.report = dataclasses.replace(self.report, **told)  # type: ignore[arg-type]
        return self.report

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, tell of it, and give its name to whatever fails in it."""
        self.begin(name)
        started = time.monotonic()
        with self.inside(name):
            yield
        self.end(name, time.monotonic() - started)

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Give the name of a step, and of the table, to whatever fails in the block."""
        table = self.report.target
        try:
            with translated(name, table):
                yield
        except PgsluiceError as error:
            error.step, error.table = error.step or name, error.table or table
            raise

    def begin(self, name: str, rows_expected: int = -1) -> None:
        """Tell that a step begins; the first one is the job's beginning."""
        self._opened = self._opened or time.monotonic()
        target, run_id = self.report.target, self.report.run_id
        self._emit(StepStarted(run_id=run_id, table=target, step=name, rows_expected=rows_expected))

    def end(self, name: str, seconds: float) -> None:
        """Tell that it took so long."""
        self._steps[name] = self._steps.get(name, 0.0) + seconds
        self._emit(StepFinished(run_id=self.report.run_id, table=self.report.target, step=name, seconds=seconds))

    def progress(self, bytes_: int, rows: int) -> None:
        """Tell how far the relay is."""
        self._emit(RelayProgress(run_id=self.report.run_id, table=self.report.target, bytes=bytes_, rows=rows))

    def again(self, error: PgsluiceError, attempt: int, seconds: float) -> None:
        """Tell that it is tried again."""
        self._emit(
            Retrying(
                run_id=self.report.run_id,
                table=self.report.target,
                step=error.step or "",
                attempt=attempt,
                seconds=seconds,
                reason=error.message,
                sqlstate=error.sqlstate,
            )
        )

    def warn(self, message: str) -> None:
        """Tell what a person should know."""
        self._emit(Warned(run_id=self.report.run_id, table=self.report.target, message=message))
