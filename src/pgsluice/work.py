"""One job on its way: its steps in order, timed, told, and cleaned up after."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator

import psycopg

from pgsluice import locks, memory
from pgsluice.commit import merge_staged, provable, remember
from pgsluice.errors import PgsluiceError
from pgsluice.events import Emitter, RelayProgress, StepFinished, StepStarted, Warned
from pgsluice.job import Mode, StagingKind, SyncJob
from pgsluice.model import MergeResult, Reached, StagingTable, TableReport
from pgsluice.plan import CopyPlan, SyncPlan
from pgsluice.retry import step_error, translated
from pgsluice.servers import Servers
from pgsluice.slices import count_source, relay_slice
from pgsluice.snapshot import Snapshot
from pgsluice.steps import audit, merge, staging, state, watermark
from pgsluice.steps.state import CONTROL_SCHEMA


class Work:
    """One job on its way."""

    def __init__(  # noqa: PLR0913, PLR0917 - what one job needs of its run
        self, run_id: str, servers: Servers, emit: Emitter, job: SyncJob, number: int, release: Callable[[], None]
    ) -> None:
        """Keep what is needed; `error` says why the job failed, if it did. `release` lets the snapshot go."""
        self._run_id = run_id
        self._servers = servers
        self._emit = emit
        self._job = job
        self._number = number
        self._release = release
        self._started = time.monotonic()
        self.error: PgsluiceError | None = None
        self._steps: dict[str, float] = {}
        self._report = TableReport(run_id, str(job.source), str(job.target), job.mode.value)

    def carry(self, outcome: SyncPlan | PgsluiceError, snapshot: Snapshot) -> TableReport:
        """Do the job, or note why not."""
        plan = outcome if isinstance(outcome, SyncPlan) else None
        try:
            if isinstance(outcome, PgsluiceError):
                raise outcome
            self._carry(outcome, snapshot)
        except PgsluiceError as error:
            self._fail(error, plan)
        except psycopg.Error as error:
            self._fail(step_error(error, "commit", self._report.target), plan)
        except KeyboardInterrupt:
            self._interrupted()
            raise
        return self._tell(seconds=time.monotonic() - self._started, steps=dict(self._steps))

    def _carry(self, plan: SyncPlan, snapshot: Snapshot) -> None:
        self._tell(
            lane=plan.copy.lane.value,
            lane_reason=plan.copy.lane_reason,
            format=plan.copy.format.value,
            format_reason=plan.copy.format_reason,
            staging=plan.staging.value,
            reading=plan.reading.reason,
            late_rows=str(plan.reading.late) if plan.reading.late else None,
            held_back=plan.facts.progress.moment.running if plan.job.mode is Mode.APPEND else 0,
            notes=plan.notes,
        )
        with self._step("staging"):
            locks.hold(self._servers.control, self._job.target)  # again: a control session opened anew has lost it
        if plan.staging is StagingKind.TEMPORARY:
            with provable(self._servers, plan, self._run_id, self._warn, self._step("commit")):
                tables = self._tables(plan, staging.TEMPORARY_SCHEMA)
                with self._step("staging"):
                    for table in tables:
                        staging.create(self._servers.writer, table, locks.run_key(self._job.target))
                self._merge(plan, *self._filled(plan, tables, snapshot))
        else:
            with contextlib.ExitStack() as owned:
                tables = [owned.enter_context(self._unlogged(table)) for table in self._tables(plan, CONTROL_SCHEMA)]
                filled = self._filled(plan, tables, snapshot)
                with provable(self._servers, plan, self._run_id, self._warn, self._step("commit")):
                    self._merge(plan, *filled)

    def _tables(self, plan: SyncPlan, schema: str) -> list[StagingTable]:
        """Return the staging tables of the job: its rows, and its keys where it sweeps."""
        named = functools.partial(staging.named, schema, self._run_id, self._number, self._job.target)
        return [named(plan.columns), *([named(plan.sweep.columns, part="keys")] if plan.sweep else [])]

    def _filled(self, plan: SyncPlan, tables: list[StagingTable], snapshot: Snapshot) -> list[merge.Staged]:
        """Relay what each staging table is for; the source is not needed after that."""
        filled = [self._relay(plan, tables[0], snapshot)]
        if plan.sweep:
            filled.append(self._sweep(plan.sweep, tables[1], snapshot))
        self._release()
        return filled

    @contextlib.contextmanager
    def _unlogged(self, table: StagingTable) -> Iterator[StagingTable]:
        """Own a staging table while the block runs; it is dropped whatever happens."""
        try:
            with self._step("staging"):
                staging.create(self._servers.control, table, locks.run_key(self._job.target))
            yield table
        finally:
            with self._step("cleanup"):
                self._drop(table)

    def _drop(self, table: StagingTable) -> None:
        self._servers.abandon_writer()
        try:
            staging.drop(self._servers.revive_control(), table.ref, self._servers.writer_pid())
        except (psycopg.Error, PgsluiceError) as error:
            reason = " ".join(str(error).split())
            self._warn(f"staging table {table} remains ({reason}); the next run or `pgsluice clean` removes it")

    def _relay(self, plan: SyncPlan, table: StagingTable, snapshot: Snapshot) -> merge.Staged:
        with self._step("relay", rows_expected=plan.copy.rows_expected):
            staged = relay_slice(self._servers, plan.copy, table, snapshot, self._progress)
        if plan.options.verify:
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
        merged, reached = merge_staged(self._servers, plan, staged, keys, self._step)
        with self._step("state"):
            self._merged(plan, merged, reached)
            remember(self._servers, plan, reached, self._report)

    def _merged(self, plan: SyncPlan, merged: MergeResult, reached: Reached) -> None:
        self._tell(
            watermark=reached.watermark,
            null_cursors=reached.nulls,
            future_cursors=reached.future,
            late=reached.late,
            notes=(*self._report.notes, *watermark.notes(plan, reached)),
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
        self._emit(RelayProgress(run_id=self._run_id, table=self._report.target, bytes=bytes_, rows=rows))

    @contextlib.contextmanager
    def _step(self, name: str, rows_expected: int = -1) -> Iterator[None]:
        """Time a step, tell of it, and give its name to whatever fails in it."""
        table = self._report.target
        self._emit(StepStarted(run_id=self._run_id, table=table, step=name, rows_expected=rows_expected))
        started = time.monotonic()
        try:
            with translated(name, table):
                yield
        except PgsluiceError as error:
            error.step, error.table = error.step or name, error.table or table
            raise
        seconds = time.monotonic() - started
        self._steps[name] = self._steps.get(name, 0.0) + seconds
        self._emit(StepFinished(run_id=self._run_id, table=table, step=name, seconds=seconds))

    def _fail(self, error: PgsluiceError, plan: SyncPlan | None) -> None:
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
            seconds=time.monotonic() - self._started,
            steps=dict(self._steps),
        )
        self._record(plan)

    def _interrupted(self) -> None:
        with contextlib.suppress(psycopg.Error, PgsluiceError):
            state.finish_run(self._servers.revive_control(), CONTROL_SCHEMA, self._run_id, "interrupted", 130)

    def _record(self, plan: SyncPlan | None) -> None:
        if plan is None:
            return
        try:
            state.record(self._servers.revive_control(), CONTROL_SCHEMA, plan.job_id, self._report)
        except (psycopg.Error, PgsluiceError):
            self._warn("the failure could not be written to the run history")

    def _warn(self, message: str) -> None:
        self._emit(Warned(run_id=self._run_id, table=self._report.target, message=message))

    def _tell(self, **changes: object) -> TableReport:
        self._report = dataclasses.replace(self._report, **changes)  # type: ignore[arg-type]
        return self._report
