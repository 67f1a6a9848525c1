"""The rows of one table on their way into one staging table, slice by slice, by as many workers as are free."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future

from pgsluice.errors import PgsluiceError
from pgsluice.model import CommittedSlice, Slice, StagedData, StagingTable
from pgsluice.plan import CopyPlan
from pgsluice.retry import Answer, answer, translated
from pgsluice.slices import SliceTask
from pgsluice.snapshot import Exported
from pgsluice.workers import Ticket, Workers


class Relaying:
    """One table on its way. What is done stays done: `begin` can be called again after a failure."""

    def __init__(  # noqa: PLR0913 - what a relay is
        self,
        workers: Workers,
        copy: CopyPlan,
        table: StagingTable,
        snapshot: Exported,
        slices: Sequence[Slice] | None,
        *,
        apart: bool = False,
        verify: bool,
        bytes_: int,
    ) -> None:
        """Keep what is needed; nothing is handed to the workers yet.

        Args:
            workers: who copy.
            copy: what is read, and how.
            table: where it lands.
            snapshot: what it is read in.
            slices: to copy; None for all at once.
            apart: each gets a table of its own.
            verify: each is counted on both sides.
            bytes_: of the source, about.
        """
        parts = [copy] if slices is None else [copy.only(part) for part in slices]
        self.table = table
        self.copy = copy
        self._workers = workers
        self._tasks = [SliceTask(part, table, snapshot, apart, verify) for part in parts]
        self._bytes = bytes_
        self._tickets: dict[int, Ticket] = {}
        self._error: PgsluiceError | None = None
        self._begun = 0.0

    def begin(self) -> None:
        """Hand the workers what is not done and not under way."""
        self._begun = self._begun or time.monotonic()
        self._error = None
        for number, task in enumerate(self._tasks):
            ticket = self._tickets.get(number)
            if ticket is None or (ticket.outcome.done() and ticket.outcome.exception()):
                self._tickets[number] = ticket = Ticket(task, self._weight(task))
                self._workers.take(ticket)

    @property
    def is_over(self) -> bool:
        """Tell whether no worker is at it."""
        return all(outcome.done() for outcome in self.outcomes)

    @property
    def outcomes(self) -> list[Future[StagedData]]:
        """Return what can be waited for."""
        return [ticket.outcome for ticket in self._tickets.values()]

    @property
    def _succeeded(self) -> list[Ticket]:
        return [each for each in self._tickets.values() if each.outcome.done() and not each.outcome.exception()]

    @property
    def committed(self) -> list[CommittedSlice]:
        """Return the slices that are done, where there are several."""
        done = [(each.task.copy.part, each.outcome.result()) for each in self._succeeded]
        return [CommittedSlice(part, staged.staging_count, staged.bytes) for part, staged in done if part]

    @property
    def is_done(self) -> bool:
        """Tell whether all of them are."""
        return len(self._succeeded) == len(self._tasks)

    @property
    def rows(self) -> int:
        """Return the rows that were committed."""
        return sum(each.outcome.result().staging_count for each in self._succeeded)

    @property
    def bytes(self) -> int:
        """Return the bytes that came through, those of slices under way included."""
        return sum(ticket.bytes for ticket in self._tickets.values())

    @property
    def seconds(self) -> float:
        """Return the wall clock from the beginning to the end of the last slice."""
        return max((ticket.ended for ticket in self._tickets.values()), default=self._begun) - self._begun

    def heed(self) -> None:
        """Begin no further slice once one has failed; where that will not pass, give the others up as well."""
        if error := self._failure():
            self._workers.withdraw(self._tickets.values())
            if answer(error) in {Answer.NEVER, Answer.PERSON}:
                self.stop()

    def stop(self, why: PgsluiceError | None = None) -> None:
        """Give up what is under way; `gathered` raises `why`."""
        self._error = self._error or why
        self._workers.stop(list(self._tickets.values()))

    def gathered(self) -> StagedData:
        """Return what the slices have staged together, once it is over.

        Raises:
            PgsluiceError: why the first one to fail has failed.
        """
        if error := self._failure():
            raise error
        each = [ticket.outcome.result() for ticket in self._succeeded]
        return StagedData(
            staging=self.table,
            source=str(self.copy.source),
            source_count=sum(one.source_count for one in each) if all(one.source_count >= 0 for one in each) else -1,
            staging_count=self.rows,
            bytes=sum(one.bytes for one in each),
            seconds=self.seconds,
            lane=each[0].lane if each else self.copy.lane.value,
            psql_peak_bytes=max((one.psql_peak_bytes for one in each), default=0),
            where=self.copy.where,
        )

    def _weight(self, task: SliceTask) -> int:
        part = task.copy.part
        return part.bytes if part and part.bytes >= 0 else self._bytes // len(self._tasks)

    def _failure(self) -> PgsluiceError | None:
        if self._error:
            return self._error
        failed = [ticket for ticket in self._tickets.values() if ticket.outcome.done() and ticket.outcome.exception()]
        for ticket in sorted(failed, key=lambda each: each.ended):  # those given up for its sake come behind it
            try:
                with translated("relay", str(self.table.target)):
                    ticket.outcome.result()
            except PgsluiceError as error:
                return error
        return None
