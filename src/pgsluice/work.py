"""One job on its way: its steps in order, tried again where that can help, and cleaned up after."""

from __future__ import annotations

import contextlib
import time
import traceback

import psycopg

from pgsluice import locks, memory
from pgsluice.account import Account
from pgsluice.commit import Outcome, merge_staged, outcome, provable, remember, unsettled
from pgsluice.errors import CommitUnknownError, PgsluiceError, StagingLostError
from pgsluice.job import Mode, StagingKind, SyncJob
from pgsluice.landing import Landing
from pgsluice.model import MergeResult, Reached, TableReport
from pgsluice.plan import SyncPlan
from pgsluice.retry import Retries, step_error
from pgsluice.shared import Shared
from pgsluice.snapshot import Snapshot
from pgsluice.steps import merge, state, watermark
from pgsluice.steps.state import CONTROL_SCHEMA


class Work:
    """One job on its way.

    A failure that may pass is met by another try of the smallest whole: the merge transaction where the staged rows
    still stand, the slices that have failed while the source's snapshot lives, else the job from a new snapshot.
    """

    def __init__(self, run: Shared, job: SyncJob, number: int) -> None:
        """Keep what is needed; `error` says why the job failed, if it did.

        Args:
            run: it belongs to.
            job: to do.
            number: of it in the run, from 1.
        """
        self.job = job
        self.error: PgsluiceError | None = None
        self._run = run
        self._servers = run.servers
        self._account = Account(TableReport(run.run_id, str(job.source), str(job.target), job.mode.value), run.emit)
        self._retries = Retries(run.options.retries, run.options.retry_for, self._account.again)
        self._ready: tuple[SyncPlan, Snapshot] | None = None
        self._landing = Landing(run, job, number, self._account)
        self._is_unsettled = False
        self._failed_ahead: PgsluiceError | None = None

    # --- ahead of its turn -------------------------------------------------------------------------------------------

    @property
    def weight(self) -> int:
        """Return about how many bytes can be copied ahead of the job's turn; 0 where all is one transaction."""
        plan = self._run.ready.planned(self.job)
        if plan is None or plan.staging is StagingKind.TEMPORARY:
            return 0
        return max(1, plan.facts.source_table.bytes)

    @property
    def is_begun(self) -> bool:
        """Tell whether it is being copied already."""
        return self._landing.is_begun

    @property
    def skipped(self) -> TableReport:
        """Return the report of a job whose turn did not come."""
        return TableReport(self._run.run_id, str(self.job.source), str(self.job.target), self.job.mode.value)

    @property
    def landing(self) -> Landing:
        """Return where its rows land."""
        return self._landing

    def begin(self) -> None:
        """Begin to copy. What fails in here is dealt with in `carry`."""
        try:
            self._open(1)
        except PgsluiceError as error:
            self._failed_ahead = error
        except psycopg.Error as error:
            self._failed_ahead = step_error(error, "staging", str(self.job.target))

    def abandon(self) -> None:
        """Clean up after a beginning that is not carried on."""
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._landing.end)
            cleanup.callback(self._landing.keep_or_drop, None, PgsluiceError("the run ended"), None)
            cleanup.callback(self._landing.let_go)

    # --- in its turn -------------------------------------------------------------------------------------------------

    def carry(self, *, patient: bool = True) -> TableReport:
        """Do the job, or note why not. `patient`: try again where that can help."""
        if not patient:
            self._retries = Retries(0, self._run.options.retry_for, self._account.again)
        try:
            with contextlib.ExitStack() as cleanup:
                cleanup.callback(self._landing.end)
                cleanup.push(self._landing.keep_or_drop)
                cleanup.callback(self._landing.let_go)
                self._retries.carry(self._attempt)
        except PgsluiceError as error:
            self._fail(error)
        finally:
            self._run.ready.read(self.job)
        if self.error is None:
            self._landing.drop_superseded()
            self._landing.end()
        return self._account.tell(attempts=self._retries.attempts)

    def _attempt(self) -> None:
        if self._retries.attempts > 1:
            self._servers.settle()
        try:
            if self._failed_ahead and self._retries.attempts == 1:
                raise self._failed_ahead
            if not (self._is_unsettled and self._has_committed()):
                self._once()
        except PgsluiceError as error:
            self._is_unsettled = isinstance(error, CommitUnknownError)
            if isinstance(error, StagingLostError):
                self._landing.let_go()
            if error.sqlstate == psycopg.errors.ReadOnlySqlTransaction.sqlstate:
                self._servers.leave("target")
            raise
        except psycopg.Error as error:  # between the steps: a BEGIN; COMMIT is a step of its own
            raise step_error(error, "merge", str(self.job.target)) from error

    def _has_committed(self) -> bool:
        """Ask once more what became of the last try's COMMIT."""
        if self._ready is None:
            return False
        plan, _ = self._ready
        became = outcome(self._servers, plan, self._run.run_id)
        if became is Outcome.UNKNOWN:
            raise unsettled(became, plan, self._run.run_id)
        return became is Outcome.COMMITTED

    def _once(self) -> None:
        """Go the whole way, or what is left of it."""
        landing, is_again = self._landing, self._retries.attempts > 1
        # where another run may have come between, it may have brought newer rows than these
        if landing.is_begun and (not landing.is_held or (is_again and not landing.goes_on())):
            landing.let_go()
        plan, snapshot = self._ready if self._ready and landing.is_begun else self._open(self._retries.attempts)
        if plan.staging is StagingKind.TEMPORARY:
            with self._provable(plan):
                locked_at = self._merge(plan, *landing.at_once(plan, snapshot, self._retries.attempts))
        else:
            staged = landing.filled()
            self._retries.progressed(len(plan.slices) + 1)
            if self._run.is_preview:
                self._preview(plan, *staged)
                return
            with self._provable(plan):
                locked_at = self._merge(plan, *staged)
        if locked_at:
            self._account.tell(locked_seconds=time.monotonic() - locked_at)

    def _open(self, attempt: int) -> tuple[SyncPlan, Snapshot]:
        """Plan the job, take its lock, and begin to copy where that can outlive a transaction."""
        self._ready = plan, snapshot = self._run.ready.of(self.job)
        self._account.tell(
            columns={each.name: each.verdict.value for each in plan.fidelity},
            lane=plan.copy.lane.value,
            lane_reason=plan.copy.lane_reason,
            format=plan.copy.format.value,
            format_reason=plan.copy.format_reason,
            staging=plan.staging.value,
            estimate=plan.estimate.to_dict() if plan.estimate else {},
            reading=plan.reading.reason,
            late_rows=str(plan.reading.late) if plan.reading.late else None,
            held_back=plan.facts.progress.moment.running if plan.job.mode is Mode.APPEND else 0,
            notes=plan.notes,
        )
        with self._account.step("staging"):
            locks.hold(self._servers.control, self.job.target)  # again: a control session opened anew has lost it
            self._run.write_down()
        if plan.staging is not StagingKind.TEMPORARY:
            self._landing.begin(plan, snapshot, attempt)
        return plan, snapshot

    def _provable(self, plan: SyncPlan) -> contextlib.AbstractContextManager[None]:
        return provable(self._servers, plan, self._run.run_id, self._account.warn, self._account.step("commit"))

    def _merge(self, plan: SyncPlan, staged: merge.Staged, keys: merge.Staged | None = None) -> float:
        """Merge what is staged, in the open transaction; return since when other writers wait, or 0."""
        holder = self._landing.holder
        merged, reached = merge_staged(self._servers, plan, staged, keys, self._account.step, holder)
        locked_at = time.monotonic() - merged.locked_seconds if merged.locked_seconds else 0.0
        with self._account.step("state"):
            report = self._merged(plan, merged, reached)
            self._landing.release()
            remember(self._servers, plan, reached, report)
        return locked_at

    def _preview(self, plan: SyncPlan, staged: merge.Staged, keys: merge.Staged | None = None) -> None:
        """Count what the merge would do, beside everybody's work."""
        with self._account.step("preview"), self._servers.writer.transaction():
            found = merge.preview(self._servers.writer, plan, staged, keys)
        limit, total = plan.options.max_delete, found.target_count
        gone = max(0, total - found.staged) if plan.reading.starts_over else found.deleted  # what does not come back
        guarded = f"the delete guard would refuse it: {gone} of {total} rows, and the limit is {limit}"
        is_allowed = limit.allows(gone, total, (keys or staged).rows)
        self._account.tell(
            status="planned",
            notes=plan.notes if is_allowed else (*plan.notes, guarded),
            inserted=found.inserted,
            updated=found.updated,
            unchanged=found.unchanged,
            deleted=found.deleted,
            created=found.created,
            peak_bytes=memory.peak(),
        )

    def _merged(self, plan: SyncPlan, merged: MergeResult, reached: Reached) -> TableReport:
        return self._account.tell(
            watermark=reached.watermark,
            null_cursors=reached.nulls,
            future_cursors=reached.future,
            late=reached.late,
            notes=(*plan.notes, *watermark.notes(plan, reached)),
            attempts=self._retries.attempts,
            status="done",
            inserted=merged.inserted,
            updated=merged.updated,
            unchanged=merged.unchanged,
            deleted=merged.deleted,
            target_count=merged.target_count,
            created=merged.created,
            verified=plan.options.verify,
            peak_bytes=memory.peak(),
        )

    # --- where it did not go well ------------------------------------------------------------------------------------

    def _fail(self, error: PgsluiceError) -> None:
        _clear(error)
        self.error = error
        report = self._account.tell(
            status="failed",
            inserted=0,
            updated=0,
            unchanged=0,
            deleted=0,
            watermark=None,
            created=False,
            verified=False,
            error=error.message,
            hint=error.hint,
            step=error.step,
            sqlstate=error.sqlstate,
            exit_code=error.exit_code,
            attempts=self._retries.attempts,
        )
        if self._ready is None:
            return
        try:
            state.record(self._servers.revive_control(), CONTROL_SCHEMA, self._ready[0].job_id, report)
        except (psycopg.Error, PgsluiceError):
            self._account.warn("the failure could not be written to the run history")


def _clear(error: BaseException) -> None:
    """Free what an error's frames hold: a row of hundreds of megabytes would count for the tables after it."""
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__ or found.__context__
