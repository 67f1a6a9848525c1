"""One job on its way: its steps in order, tried again where that can help, timed, told, and cleaned up after."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg

from pgsluice import creation, locks, memory
from pgsluice.commit import Outcome, merge_staged, outcome, provable, remember, unsettled
from pgsluice.errors import CommitUnknownError, PgsluiceError, StagingLostError
from pgsluice.events import Emitter, RelayProgress, Retrying, StepFinished, StepStarted, Warned
from pgsluice.job import Mode, Options, StagingKind, SyncJob
from pgsluice.model import MergeResult, Reached, StagingTable, TableReport
from pgsluice.plan import CopyPlan, SyncPlan
from pgsluice.readiness import Readiness
from pgsluice.resumption import Resumption
from pgsluice.retry import Answer, Retries, answer, server_error, step_error, translated
from pgsluice.servers import Servers
from pgsluice.slices import count_source, relay_slice
from pgsluice.snapshot import Snapshot
from pgsluice.steps import audit, merge, promotion, staging, state, watermark
from pgsluice.steps.state import CONTROL_SCHEMA


@dataclass(frozen=True, slots=True)
class Shared:
    """What the jobs of a run have in common.

    Attributes:
        run_id: of the run.
        servers: both.
        ready: the snapshot and the plans.
        options: how.
        emit: takes events.
        waiting: staging tables that earlier runs have left for one that resumes.
        write_down: makes room for what runs leave on the target, and notes there that this one began; once.
    """

    run_id: str
    servers: Servers
    ready: Readiness
    options: Options
    emit: Emitter
    waiting: list[staging.Waiting]
    write_down: Callable[[], None]


class Work:
    """One job on its way.

    A failure that may pass is met by another try of the smallest whole: the merge transaction where the staged rows
    still stand, the relay while the source's snapshot lives, else the job from a new snapshot.
    """

    def __init__(self, run: Shared, job: SyncJob, number: int, *, patient: bool = True) -> None:
        """Keep what is needed; `error` says why the job failed, if it did.

        Args:
            run: it belongs to.
            job: to do.
            number: of it in the run, from 1.
            patient: try again at all.
        """
        self._run = run
        self._servers = run.servers
        self._job = job
        self._number = number
        self._started = time.monotonic()
        self.error: PgsluiceError | None = None
        self._steps: dict[str, float] = {}
        self._report = TableReport(run.run_id, str(job.source), str(job.target), job.mode.value)
        self._retries = Retries(run.options.retries if patient else 0, run.options.retry_for, self._again)
        self._plan: SyncPlan | None = None
        self._staged: list[merge.Staged] = []
        self._resumption = Resumption(run.servers, self._warn)
        self._is_unsettled = False

    def carry(self) -> TableReport:
        """Do the job, or note why not."""
        try:
            with contextlib.ExitStack() as cleanup:
                cleanup.push(self._keep_or_drop)
                cleanup.callback(self._let_go)
                self._retries.carry(self._attempt)
        except PgsluiceError as error:
            self._fail(error)
        except KeyboardInterrupt:
            self._interrupted()
            raise
        finally:
            self._run.ready.read(self._job)
        self._drop_superseded()
        return self._tell(
            attempts=self._retries.attempts, seconds=time.monotonic() - self._started, steps=dict(self._steps)
        )

    # --- one try -----------------------------------------------------------------------------------------------------

    def _attempt(self) -> None:
        if self._retries.attempts > 1:
            self._servers.settle()
        try:
            if not (self._is_unsettled and self._has_committed()):
                self._once()
        except PgsluiceError as error:
            self._is_unsettled = isinstance(error, CommitUnknownError)
            if isinstance(error, StagingLostError):
                self._let_go()
            if error.sqlstate == psycopg.errors.ReadOnlySqlTransaction.sqlstate:
                self._servers.leave("target")
            raise
        except psycopg.Error as error:  # between the steps: a BEGIN; COMMIT is a step of its own
            raise step_error(error, "merge", self._report.target) from error

    def _has_committed(self) -> bool:
        """Ask once more what became of the last try's COMMIT."""
        plan = self._plan
        became = outcome(self._servers, plan, self._run.run_id) if plan else Outcome.ABORTED
        if plan and became is Outcome.UNKNOWN:
            raise unsettled(became, plan, self._run.run_id)
        return became is Outcome.COMMITTED

    def _once(self) -> None:
        """Go the whole way, or what is left of it."""
        if self._staged and not self._run.ready.is_held():
            self._let_go()  # another run may have come between, with newer rows than these
        if self._staged and self._plan:
            self._hold()
            self._merge_alone(self._plan)
            return
        self._plan, snapshot = self._run.ready.of(self._job)
        self._begin(self._plan)
        self._hold()
        if self._plan.staging is StagingKind.TEMPORARY:
            with provable(self._servers, self._plan, self._run.run_id, self._warn, self._step("commit")):
                tables = self._tables(self._plan, staging.TEMPORARY_SCHEMA)
                with self._step("staging"):
                    for table in tables:
                        staging.create(self._servers.writer, table, locks.run_key(self._job.target))
                self._merge(self._plan, *self._filled(self._plan, tables, snapshot))
        else:
            self._stage(self._plan, snapshot)
            self._merge_alone(self._plan)

    def _begin(self, plan: SyncPlan) -> None:
        self._tell(
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

    def _hold(self) -> None:
        with self._step("staging"):
            locks.hold(self._servers.control, self._job.target)  # again: a control session opened anew has lost it
            self._run.write_down()

    def _merge_alone(self, plan: SyncPlan) -> None:
        with provable(self._servers, plan, self._run.run_id, self._warn, self._step("commit")):
            self._merge(plan, *self._staged)

    # --- staging -----------------------------------------------------------------------------------------------------

    def _tables(self, plan: SyncPlan, schema: str) -> list[StagingTable]:
        """Return the staging tables of the job: its rows, and its keys where it sweeps."""
        named = functools.partial(
            staging.named, schema, self._run.run_id, self._number, self._job.target, attempt=self._retries.attempts
        )
        return [named(plan.columns), *([named(plan.sweep.columns, part="keys")] if plan.sweep else [])]

    def _stage(self, plan: SyncPlan, snapshot: Snapshot) -> None:
        """Fill staging tables that outlive their transaction, and keep them until they are merged."""
        rows, *keys = self._tables(plan, CONTROL_SCHEMA)
        with contextlib.ExitStack() as failing:
            with self._step("staging"):
                for table in keys if plan.slices else (rows, *keys):
                    failing.callback(self._drop, table)
                    becomes = plan.promoted if table == rows else None
                    definition = creation.staging_sql(plan, becomes, table.ref) if becomes else None
                    staging.create(self._servers.control, table, locks.run_key(self._job.target), definition)
            if plan.slices:
                with self._step("resume"), contextlib.ExitStack() as creating:
                    creating.callback(self._drop, rows)  # it may be there although its COMMIT got no answer
                    rows = self._resumption.open(plan, snapshot, rows)
                    creating.pop_all()
            self._staged = self._filled(plan, [rows, *keys], snapshot)
            if plan.promoted:
                with self._step("keys"):
                    if not plan.key_is_proven:
                        merge.tell_apart(self._servers.writer, plan, rows)
                    promotion.build_keys(self._servers.writer, plan.promoted, rows)
            failing.pop_all()
        self._retries.progressed(len(plan.slices) + 1)

    def _filled(self, plan: SyncPlan, tables: list[StagingTable], snapshot: Snapshot) -> list[merge.Staged]:
        """Relay what each staging table is for; the source is not needed after that."""
        try:
            filled = [self._relay(plan, tables[0], snapshot)]
            if plan.sweep:
                filled.append(self._sweep(plan.sweep, tables[1], snapshot))
        except PgsluiceError as error:
            if answer(error) is Answer.NEVER and self._run.ready.is_lost():
                reason = f"the source's snapshot was lost while it was read: {error.message}"
                raise server_error(reason, self._run.ready.ended, error.step or "relay", error.table) from error
            raise
        self._run.ready.read(self._job)
        return filled

    def _drop_superseded(self) -> None:
        """Drop what earlier runs had kept for this target, once its job is done."""
        if self.error is None:
            for waiting in self._run.waiting:
                if waiting.target == self._report.target:
                    self._drop(StagingTable(waiting.ref, self._job.target, (), waiting.run_id))

    def _let_go(self) -> None:
        """Drop what is staged."""
        staged, self._staged = self._staged, []
        with contextlib.ExitStack() as dropping:
            for each in staged:
                if each.table != self._resumption.table:
                    dropping.callback(self._drop, each.table)

    def _keep_or_drop(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Keep slices for a run that resumes, where the job was not done; a full disk needs its room back."""
        table, done = self._resumption.table, self._resumption.done
        if table is None:
            return
        is_full = isinstance(error, PgsluiceError) and error.sqlstate == psycopg.errors.DiskFull.sqlstate
        if error is None or not done or is_full:
            self._drop(table)
            return
        hours = self._run.options.resume_keep / 3600
        self._warn(
            f"{done} of {self._resumption.count} slices stay in {table} for {hours:g} h: the same command with"
            f" --resume {self._run.run_id} goes on from there; `pgsluice clean --kept` drops them"
        )

    def _drop(self, table: StagingTable) -> None:
        """Drop a staging table, or say that it remains; a signal is heeded after that."""
        interrupt: KeyboardInterrupt | None = None
        try:
            self._try_to_drop(table)
        except KeyboardInterrupt as caught:  # the first signal alone comes as this
            interrupt = caught
        if interrupt:  # not while it is handled: whatever fails then looks like another one
            self._try_to_drop(table)
            raise interrupt

    def _try_to_drop(self, table: StagingTable) -> None:
        try:
            with self._step("cleanup"):
                self._servers.abandon_writer()
                control = self._servers.revive_control()
                self._servers.end_lost("target")  # whose locks on it the server may not have let go
                staging.drop(control, table.ref)
        except PgsluiceError as error:
            reason = " ".join(error.message.split())
            self._warn(f"staging table {table} remains ({reason}); the next run or `pgsluice clean` removes it")

    # --- the steps ---------------------------------------------------------------------------------------------------

    def _relay(self, plan: SyncPlan, table: StagingTable, snapshot: Snapshot) -> merge.Staged:
        with self._step("relay", rows_expected=plan.copy.rows_expected):
            if plan.slices:
                staged = self._resumption.fill(plan, table, snapshot, self._progress, self._retries.progressed)
                self._tell(slices=self._resumption.count, slices_reused=self._resumption.reused)
            else:
                staged = relay_slice(self._servers, plan.copy, table, snapshot, self._progress)
        if plan.options.verify and not plan.slices:
            with self._step("count"):
                staged = dataclasses.replace(staged, source_count=count_source(plan.copy, snapshot, staged))
                audit.sent(staged.source_count, staged.staging_count)
        self._tell(
            source_count=staged.source_count,
            staging_count=staged.staging_count,
            bytes=staged.bytes,
            lane=staged.lane,
            lane_reason=plan.copy.lane_reason if staged.lane == plan.copy.lane else "too long a statement for psql",
            psql_peak_bytes=staged.psql_peak_bytes,
        )
        return merge.Staged(table, staged.staging_count)

    def _sweep(self, keys: CopyPlan, table: StagingTable, snapshot: Snapshot) -> merge.Staged:
        """Relay the keys that the source has in scope, and count them there: a row without one will be deleted."""
        with self._step("sweep", rows_expected=keys.rows_expected):
            swept = relay_slice(self._servers, keys, table, snapshot, self._progress)
            audit.sent(count_source(keys, snapshot, swept), swept.staging_count)
        self._tell(keys_swept=swept.staging_count, bytes=self._report.bytes + swept.bytes)
        return merge.Staged(table, swept.staging_count)

    def _merge(self, plan: SyncPlan, staged: merge.Staged, keys: merge.Staged | None = None) -> None:
        merged, reached = merge_staged(self._servers, plan, staged, keys, self._step, self._run.ready.holder)
        with self._step("state"):
            self._merged(plan, merged, reached)
            self._resumption.release()
            remember(self._servers, plan, reached, self._report)

    def _merged(self, plan: SyncPlan, merged: MergeResult, reached: Reached) -> None:
        self._tell(
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
            seconds=time.monotonic() - self._started,
            steps=dict(self._steps),
        )

    def _progress(self, bytes_: int, rows: int) -> None:
        self._run.emit(RelayProgress(run_id=self._run.run_id, table=self._report.target, bytes=bytes_, rows=rows))

    @contextlib.contextmanager
    def _step(self, name: str, rows_expected: int = -1) -> Iterator[None]:
        """Time a step, tell of it, and give its name to whatever fails in it."""
        table = self._report.target
        self._run.emit(StepStarted(run_id=self._run.run_id, table=table, step=name, rows_expected=rows_expected))
        started = time.monotonic()
        try:
            with translated(name, table):
                yield
        except PgsluiceError as error:
            error.step, error.table = error.step or name, error.table or table
            raise
        seconds = time.monotonic() - started
        self._steps[name] = self._steps.get(name, 0.0) + seconds
        self._run.emit(StepFinished(run_id=self._run.run_id, table=table, step=name, seconds=seconds))

    def _again(self, error: PgsluiceError, attempt: int, seconds: float) -> None:
        self._run.emit(
            Retrying(
                run_id=self._run.run_id,
                table=self._report.target,
                step=error.step or "",
                attempt=attempt,
                seconds=seconds,
                reason=error.message,
                sqlstate=error.sqlstate,
            )
        )

    def _fail(self, error: PgsluiceError) -> None:
        _clear(error)
        self.error = error
        self._tell(
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
            seconds=time.monotonic() - self._started,
            steps=dict(self._steps),
        )
        self._record()

    def _interrupted(self) -> None:
        with contextlib.suppress(psycopg.Error, PgsluiceError):
            state.finish_run(self._servers.revive_control(), CONTROL_SCHEMA, self._run.run_id, "interrupted", 130)

    def _record(self) -> None:
        if self._plan is None:
            return
        try:
            state.record(self._servers.revive_control(), CONTROL_SCHEMA, self._plan.job_id, self._report)
        except (psycopg.Error, PgsluiceError):
            self._warn("the failure could not be written to the run history")

    def _warn(self, message: str) -> None:
        self._run.emit(Warned(run_id=self._run.run_id, table=self._report.target, message=message))

    def _tell(self, **changes: object) -> TableReport:
        self._report = dataclasses.replace(self._report, **changes)  # type: ignore[arg-type]
        return self._report


def _clear(error: BaseException) -> None:
    """Free what an error's frames hold: a row of hundreds of megabytes would count for the tables after it."""
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__ or found.__context__
