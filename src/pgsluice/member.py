"""One job of a run: its plan, where its rows land, its part of the merge, and what is told of it."""

from __future__ import annotations

import contextlib
import inspect
import time
import traceback

import psycopg

from pgsluice import memory, sqltext
from pgsluice.account import Account
from pgsluice.commit import Merge, remember
from pgsluice.comparison import Comparison
from pgsluice.errors import PgsluiceError
from pgsluice.hashing import Digest, Hashing
from pgsluice.job import CopyFormat, Mode, StagingKind, Strategy, SyncJob, Verify, one_or_more
from pgsluice.landing import Landing
from pgsluice.model import MergeResult, Reached, TableReport
from pgsluice.names import Names
from pgsluice.plan import SyncPlan
from pgsluice.retry import is_too_large, step_error
from pgsluice.shared import Shared
from pgsluice.snapshot import Snapshot
from pgsluice.steps import merge, state, watermark
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.turn import Turn


class Member:
    """One job of those that commit together; most commit alone."""

    def __init__(self, run: Shared, job: SyncJob, number: int) -> None:
        """Keep what is needed.

        `failed` says why it could not begin ahead of its turn; `ready` are its plan and the snapshot of its rows.

        Args:
            run: it belongs to.
            job: to do.
            number: of it in the run, from 1.
        """
        self.job = job
        self.failed: PgsluiceError | None = None
        self.ready: tuple[SyncPlan, Snapshot] | None = None
        self._run = run
        self._servers = run.servers
        self.account = Account(TableReport(run.run_id, str(job.source), str(job.target), job.mode.value), run.emit)
        self.landing = Landing(run, job, number, self.account)
        self._locked_at = 0.0
        self._done: set[str] = set()
        self._sent: tuple[Hashing, Digest] | None = None

    @property
    def weight(self) -> int:
        """Return about how many bytes can be copied ahead of the job's turn; 0 where all is one transaction."""
        plan = self._run.ready.planned(self.job)
        if plan is None or plan.staging is StagingKind.TEMPORARY:
            return 0
        return max(1, plan.facts.source_table.bytes)

    @property
    def skipped(self) -> TableReport:
        """Return the report of a job whose turn did not come."""
        return TableReport(self._run.run_id, str(self.job.source), str(self.job.target), self.job.mode.value)

    # --- its rows ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to copy ahead of its turn. What fails in here is dealt with then."""
        try:
            self.open(1)
        except PgsluiceError as error:
            self.failed = error
        except psycopg.Error as error:
            self.failed = step_error(error, "staging", str(self.job.target))

    def open(self, attempt: int) -> tuple[SyncPlan, Snapshot]:
        """Plan the job, take its lock, and begin to copy where that can outlive a transaction."""
        self.ready = plan, snapshot = self._run.ready.of(self.job)
        forecast = plan.forecast
        if plan.strategy is Strategy.DIFF:
            plan = self._narrowed(plan, snapshot)
            self.ready = plan, snapshot
        self._sent = self._hashed(plan, snapshot) if plan.options.verify is Verify.HASH else None
        self.account.tell(
            strategy=plan.strategy.value,
            strategy_reason=plan.strategy_reason,
            expected_rows=forecast.rows,
            expected_hash_bytes=forecast.hashes,
            columns={each.name: each.verdict.value for each in plan.fidelity},
            lane=plan.copy.lane.value,
            lane_reason=plan.copy.lane_reason,
            format=plan.copy.format.value,
            format_reason=plan.copy.format_reason,
            staging=plan.staging.value,
            estimate=plan.estimate.to_dict() if plan.estimate else {},
            reading=plan.reading.reason,
            late_rows=str(plan.reading.late) if plan.reading.late else None,
            snapshot_xmin=plan.facts.progress.moment.xmin,
            held_back=plan.facts.progress.moment.running if plan.job.mode is Mode.APPEND else 0,
            notes=plan.notes,
        )
        with self.account.step("staging"):
            # again: a control session opened anew has lost it
            Turn(CONTROL_SCHEMA).hold(self._servers.control, self.job.target)
            self._run.write_down()
        self._own_sql("pre_sql", one_or_more(plan.options.pre_sql))
        if plan.staging is not StagingKind.TEMPORARY:
            self.landing.begin(plan, snapshot, attempt)
        return plan, snapshot

    def _narrowed(self, plan: SyncPlan, snapshot: Snapshot) -> SyncPlan:
        """Compare both sides, and return how what differs is copied. One scan of each."""
        with self.account.step("hash"), self._run.ready.reading(snapshot, "hash", str(self.job.target)):
            part, bytes_ = Comparison(self._servers, plan, snapshot.exported).part()
        self.account.tell(hash_bytes=bytes_)
        return plan.narrowed(part)

    def _hashed(self, plan: SyncPlan, snapshot: Snapshot) -> tuple[Hashing, Digest]:
        """Return what the rows come to that are copied, for the commit to compare. One scan of the source."""
        with self.account.step("hash"), self._run.ready.reading(snapshot, "hash", str(self.job.target)):
            return Comparison(self._servers, plan, snapshot.exported).sent()

    def filled(self) -> list[merge.Staged] | None:
        """Return what is staged when all of it is, the rows first; None where that is done in the transaction."""
        plan, _ = self._opened
        return None if plan.staging is StagingKind.TEMPORARY else self.landing.filled()

    def at_once(self, attempt: int) -> list[merge.Staged]:
        """Stage in the open transaction."""
        return self.landing.at_once(*self._opened, attempt)

    @property
    def plan(self) -> SyncPlan:
        """Return its plan, once it was opened."""
        return self._opened[0]

    @property
    def _opened(self) -> tuple[SyncPlan, Snapshot]:
        if self.ready is None:
            raise LookupError("not opened yet")
        return self.ready

    # --- its part of the transaction ---------------------------------------------------------------------------------

    def part(self, names: Names, staged: merge.Staged, keys: merge.Staged | None = None) -> Merge:
        """Return its part of the transaction that merges, of which these are the names."""
        return Merge(self._servers, names, self.plan, staged, keys, self.account.step, self.landing.holder, self._sent)

    def remember(self, merged: MergeResult, reached: Reached, attempts: int) -> None:
        """Write its state and outcome in the open transaction."""
        self._locked_at = time.monotonic() - merged.locked_seconds if merged.locked_seconds else 0.0
        with self.account.step("state"):
            report = self._merged(merged, reached, attempts)
            self.landing.release()
            remember(self._servers, self.plan, reached, report)

    def committed(self) -> None:
        """Note that others wait for its target no more."""
        if self._locked_at:
            self.account.tell(locked_seconds=time.monotonic() - self._locked_at)

    def _merged(self, merged: MergeResult, reached: Reached, attempts: int) -> TableReport:
        plan = self.plan
        return self.account.tell(
            watermark=reached.watermark,
            null_cursors=reached.nulls,
            future_cursors=reached.future,
            late=reached.late,
            notes=(*plan.notes, *watermark.notes(plan, reached)),
            attempts=attempts,
            status="done",
            inserted=merged.inserted,
            updated=merged.updated,
            unchanged=merged.unchanged,
            deleted=merged.deleted,
            target_count=merged.target_count,
            created=merged.created,
            verified="" if plan.options.verify is Verify.NONE else plan.options.verify.value,
            peak_bytes=memory.peak(),
        )

    def preview(self, staged: merge.Staged, keys: merge.Staged | None = None) -> None:
        """Count what the merge would do, beside everybody's work."""
        plan = self.plan
        with self.account.step("preview"), self._servers.writer.transaction():
            found = merge.preview(self._servers.writer, plan, staged, keys)
        limit, total = plan.options.max_delete, found.target_count
        gone = max(0, total - found.staged) if plan.reading.starts_over else found.deleted  # what does not come back
        guarded = f"the delete guard would refuse it: {gone} of {total} rows, and the limit is {limit}"
        is_allowed = limit.allows(gone, total, (keys or staged).rows)
        self.account.tell(
            status="planned",
            notes=plan.notes if is_allowed else (*plan.notes, guarded),
            inserted=found.inserted,
            updated=found.updated,
            unchanged=found.unchanged,
            deleted=found.deleted,
            created=found.created,
            peak_bytes=memory.peak(),
        )

    def after(self) -> None:
        """Run what its user wants to follow; a failure takes nothing back of what is committed."""
        try:
            self._own_sql("post_sql", one_or_more(self.plan.options.post_sql))
        except PgsluiceError as error:
            error.message = f"the rows are committed, and what shall follow failed: {error.message}"
            error.hint = error.hint or "--resume does the table once more, with what follows."
            self.account.tell(**_told(error), status="failed")
            self._record(error, 2)
            raise

    def _own_sql(self, step: str, texts: tuple[str, ...]) -> None:
        """Run the user's own SQL on the target, once: in a session of its own, each text by itself."""
        if not texts or step in self._done:
            return
        with self.account.step(step), self._servers.aside() as session:
            for text in texts:
                session.as_written(sqltext.verbatim(text))
        self._done.add(step)

    # --- the end -----------------------------------------------------------------------------------------------------

    def done(self) -> None:
        """Clean up behind a job that is done."""
        self.landing.drop_superseded()
        self.landing.end()

    def fail(self, error: PgsluiceError, attempts: int) -> None:
        """Tell why it failed, and write that into the run history where that can be done."""
        if self.ready:
            error.hint = _hinted(error, self.plan)
        self.account.tell(
            status="failed",
            inserted=0,
            updated=0,
            unchanged=0,
            deleted=0,
            watermark=None,
            created=False,
            verified="",
            attempts=attempts,
            **_told(error),
        )
        self._record(error, 1)

    def _record(self, error: PgsluiceError, number: int) -> None:
        """Write a failure into the run history, where that can be done."""
        _clear(error)
        if self.ready is None:
            return
        try:
            control = self._servers.revive_control()
            state.record_failed(control, CONTROL_SCHEMA, [(self.plan.job_id, self.account.report)], number)
        except (psycopg.Error, PgsluiceError):
            self.account.warn("the failure could not be written to the run history")


def _hinted(error: PgsluiceError, plan: SyncPlan) -> str:
    """Return the way out, with what the plan knows of it."""
    if is_too_large(error) and plan.copy.format is CopyFormat.TEXT:
        why = plan.copy.format_reason
        return f"{error.hint} The table goes as text ({why}): leave that column out or cast it, and it goes in binary."
    if error.sqlstate == psycopg.errors.UniqueViolation.sqlstate and plan.job.mode is Mode.APPEND:
        return f"{error.hint} To mode append an updated row is another row."
    return error.hint


def _told(error: PgsluiceError) -> dict[str, object]:
    """Return what a report says of an error."""
    return {
        "error": error.message,
        "hint": error.hint,
        "step": error.step,
        "sqlstate": error.sqlstate,
        "exit_code": error.exit_code,
    }


def _clear(error: BaseException) -> None:
    """Free what an error's frames hold: a row of hundreds of megabytes would count for the tables after it."""
    found: BaseException | None = error
    while found is not None:
        for frame, _ in traceback.walk_tb(found.__traceback__):
            if not frame.f_code.co_flags & inspect.CO_GENERATOR:  # a held context would end, the snapshot's too
                with contextlib.suppress(RuntimeError):  # one that is still at work
                    frame.clear()
        found = found.__cause__ or found.__context__
