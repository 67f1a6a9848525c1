"""The order of things: the only place that knows it, commits, emits and cleans."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from pgsluice import sqltext
from pgsluice.errors import CommitUnknownError, PgsluiceError
from pgsluice.events import (
    Emitter,
    RelayProgress,
    RunFinished,
    RunStarted,
    Sink,
    StepFinished,
    StepStarted,
    TableFinished,
    Warned,
)
from pgsluice.job import Lane, Options, QuerySource, Selection, StagingKind, SyncJob
from pgsluice.model import MergeResult, Report, StagedData, StagingTable, TableReport
from pgsluice.plan import SyncPlan
from pgsluice.prepare import Prepared, Servers, jobs_of, prepared
from pgsluice.session import Endpoint, Snapshot, step_error
from pgsluice.steps import audit, merge, relay, staging, state, watch
from pgsluice.version import VERSION

CONTROL_SCHEMA = "pgsluice"


def new_run_id() -> str:
    """Return a name for a run: sorts by time, is a valid bare identifier part."""
    return f"{datetime.now(UTC):%Y%m%dt%H%M%S}_{secrets.token_hex(3)}"


class Run:
    """One execution over one or more jobs."""

    def __init__(
        self, source: Endpoint, target: Endpoint, options: Options | None = None, sinks: Sequence[Sink] = ()
    ) -> None:
        """Keep what is needed; nothing is opened yet.

        Args:
            source: only ever read.
            target: written.
            options: how.
            sinks: called with every event.
        """
        self.run_id = new_run_id()
        self._options = options or Options()
        self._emit = Emitter(sinks)
        self._servers = Servers(self._named(source), self._named(target))

    def _named(self, endpoint: Endpoint) -> Endpoint:
        name = f"pgsluice {self.run_id}"
        return dataclasses.replace(endpoint, application_name=name, connect_timeout=self._options.connect_timeout)

    def plan(self, selection: Selection) -> tuple[tuple[SyncJob, SyncPlan | PgsluiceError], ...]:
        """Decide everything and write nothing.

        Returns:
            Each job with its plan, or with the error that keeps it from being done.
        """
        with self._servers as servers:
            jobs = jobs_of(servers, selection, CONTROL_SCHEMA)
            with prepared(servers, jobs, self._options, CONTROL_SCHEMA, hold=False) as ready:
                return ready.outcomes

    def sync(self, request: Selection | Sequence[SyncJob]) -> Report:
        """Carry out every job, one after the other, from one snapshot of the source.

        A job that fails leaves its target as it was and does not stop the others.

        Raises:
            PgsluiceError: the run could not begin: no connection, an unknown table.
            KeyboardInterrupt: what was begun has been rolled back and cleaned up.
        """
        with contextlib.ExitStack() as stack:
            servers = stack.enter_context(self._servers)
            jobs = jobs_of(servers, request, CONTROL_SCHEMA) if isinstance(request, Selection) else tuple(request)
            reading = stack.enter_context(contextlib.ExitStack())
            ready = reading.enter_context(prepared(servers, jobs, self._options, CONTROL_SCHEMA, hold=True))
            return self._carry_all(ready, reading.close)

    def _carry_all(self, ready: Prepared, release: Callable[[], None]) -> Report:
        started = time.monotonic()
        self._emit(RunStarted(run_id=self.run_id, tables=tuple(str(job.target) for job, _ in ready.outcomes)))
        planned = sum(isinstance(outcome, SyncPlan) for _, outcome in ready.outcomes)
        if planned:
            self._begin(len(ready.outcomes))
        reports = []
        for number, (job, outcome) in enumerate(ready.outcomes, 1):
            planned -= isinstance(outcome, SyncPlan)
            # the source's snapshot is let go the moment the last slice is read: merging needs nothing of it
            work = _Work(self.run_id, self._servers, self._emit, job, number, release if not planned else _keep)
            reports.append(self._finished(work.carry(outcome, ready.snapshot)))
        report = Report(self.run_id, tuple(reports), time.monotonic() - started)
        self._end(report)
        return report

    def _begin(self, tables: int) -> None:
        control = self._servers.control
        state.ensure(control, CONTROL_SCHEMA)
        for name in staging.sweep(control, CONTROL_SCHEMA, self.run_id):
            self._emit(Warned(run_id=self.run_id, message=f"dropped {name}, which a dead run had left"))
        state.start_run(control, CONTROL_SCHEMA, self.run_id, tables, VERSION)

    def _finished(self, report: TableReport) -> TableReport:
        self._emit(TableFinished(run_id=self.run_id, report=report))
        return report

    def _end(self, report: Report) -> None:
        with contextlib.suppress(psycopg.Error, PgsluiceError):  # the targets are what they are, told or not
            status = str(report.to_dict()["status"])
            state.finish_run(self._servers.revive_control(), CONTROL_SCHEMA, self.run_id, status, report.exit_code)
        self._emit(RunFinished(run_id=self.run_id, report=report))


def _keep() -> None:
    """Keep the snapshot: other jobs still read it."""


class _Work:
    """One job on its way."""

    def __init__(  # noqa: PLR0913, PLR0917 - what one job needs of its run
        self, run_id: str, servers: Servers, emit: Emitter, job: SyncJob, number: int, release: Callable[[], None]
    ) -> None:
        self._run_id = run_id
        self._servers = servers
        self._emit = emit
        self._job = job
        self._number = number
        self._release = release
        self._started = time.monotonic()
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
            lane=plan.lane.value,
            lane_reason=plan.lane_reason,
            format=plan.format.value,
            format_reason=plan.format_reason,
            staging=plan.staging.value,
            notes=plan.notes,
        )
        with self._step("staging"):
            state.hold(self._servers.control, self._job.target)  # again: a control session opened anew has lost it
            seen = state.sequence(self._servers.control, CONTROL_SCHEMA, plan.job_id)
        if plan.staging is StagingKind.TEMPORARY:
            with self._transaction(plan):
                table = self._stage_in(staging.TEMPORARY_SCHEMA, plan)
                with self._step("staging"):
                    staging.create(self._servers.writer, table, state.run_key(self._job.target))
                self._merge(plan, self._relay(plan, table, snapshot), snapshot, seen)
        else:
            with self._unlogged(self._stage_in(CONTROL_SCHEMA, plan)) as table:
                staged = self._relay(plan, table, snapshot)
                with self._transaction(plan):
                    self._merge(plan, staged, snapshot, seen)

    def _stage_in(self, schema: str, plan: SyncPlan) -> StagingTable:
        return staging.named(schema, self._run_id, self._number, self._job.target, plan.columns)

    @contextlib.contextmanager
    def _unlogged(self, table: StagingTable) -> Iterator[StagingTable]:
        """Own a staging table while the block runs; it is dropped whatever happens."""
        try:
            with self._step("staging"):
                staging.create(self._servers.control, table, state.run_key(self._job.target))
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

    @contextlib.contextmanager
    def _transaction(self, plan: SyncPlan) -> Iterator[None]:
        """Commit the block; where COMMIT gets no answer, learn what became of it before saying anything."""
        try:
            with self._servers.writer.transaction():
                yield
        except CommitUnknownError as error:
            interrupted = isinstance(error.__cause__, KeyboardInterrupt)
            with contextlib.suppress(CommitUnknownError) if interrupted else contextlib.nullcontext():
                self._prove(plan, error)
            if interrupted:
                raise KeyboardInterrupt from None

    def _prove(self, plan: SyncPlan, unknown: CommitUnknownError) -> None:
        """Return where the commit is proven, raise where it is not: a cut before and after it look alike."""
        table = str(self._job.target)
        self._servers.abandon_writer()
        try:
            control = self._servers.revive_control()
            wait = plan.options.lock_timeout
            proven = state.committed(control, CONTROL_SCHEMA, self._run_id, plan.job_id, self._job.target, wait)
        except (psycopg.Error, PgsluiceError):
            raise CommitUnknownError(
                "the connection broke during COMMIT and the target can't be asked what became of it",
                hint=f"Run `pgsluice status` when it is back: run {self._run_id} is listed as done if it was committed."
                " Running again is safe either way.",
                step="commit",
                table=table,
                sqlstate=unknown.sqlstate,
            ) from unknown
        if not proven:
            raise CommitUnknownError(
                "the connection broke during COMMIT; the target proves that it was rolled back",
                hint="Nothing was changed; run again.",
                step="commit",
                table=table,
                sqlstate=unknown.sqlstate,
            ) from unknown
        self._warn("the connection broke during COMMIT; the target proves that it was committed")

    def _relay(self, plan: SyncPlan, table: StagingTable, snapshot: Snapshot) -> StagedData:
        with self._step("relay", rows_expected=plan.facts.source_table.rows):
            staged = relay_slice(self._servers, plan, table, snapshot, self._progress)
        if plan.options.verify:
            with self._step("count"):
                staged = dataclasses.replace(staged, source_count=count_source(plan, snapshot, staged))
                audit.sent(staged.source_count, staged.staging_count)
        self._release()
        self._tell(
            source_count=staged.source_count,
            staging_count=staged.staging_count,
            bytes=staged.bytes,
            lane=staged.lane,
            psql_peak_bytes=staged.psql_peak_bytes,
        )
        return staged

    def _merge(self, plan: SyncPlan, staged: StagedData, snapshot: Snapshot, seen: int) -> None:
        writer, job = self._servers.writer, self._job
        with self._step("merge"):
            state.fence(writer, job.target, plan.options.lock_timeout)
            merged = merge.apply(writer, plan, staged.staging, staged.staging_count)
        if plan.options.verify:
            with self._step("verify"):
                arrived = audit.arrived(writer, plan, staged.staging, staged.staging_count)
                merged = dataclasses.replace(merged, target_count=arrived)
        with self._step("state"):
            self._merged(plan, merged)
            state.advance(writer, CONTROL_SCHEMA, plan, self._run_id, snapshot.xmin, seen)
            state.record(writer, CONTROL_SCHEMA, plan.job_id, self._report)

    def _merged(self, plan: SyncPlan, merged: MergeResult) -> None:
        self._tell(
            status="done",
            inserted=merged.inserted,
            updated=merged.updated,
            unchanged=merged.unchanged,
            deleted=merged.deleted,
            target_count=merged.target_count,
            created=merged.created,
            verified=plan.options.verify,
            peak_bytes=watch.peak_memory(),
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
            yield
        except psycopg.Error as error:
            raise step_error(error, name, table) from error
        except PgsluiceError as error:
            error.step, error.table = error.step or name, error.table or table
            raise
        seconds = time.monotonic() - started
        self._steps[name] = self._steps.get(name, 0.0) + seconds
        self._emit(StepFinished(run_id=self._run_id, table=table, step=name, seconds=seconds))

    def _fail(self, error: PgsluiceError, plan: SyncPlan | None) -> None:
        self._tell(
            status="failed",
            inserted=0,
            updated=0,
            unchanged=0,
            deleted=0,
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


def relay_slice(
    servers: Servers,
    plan: SyncPlan,
    table: StagingTable,
    snapshot: Snapshot,
    progress: Callable[[int, int], None],
) -> StagedData:
    """Copy the job's rows into its staging table, by the planned lane."""
    started = time.monotonic()
    source, target = snapshot.session, servers.writer
    statement = source.text(copy_out(plan))
    writer = relay.Writer(
        target,
        target.text(relay.copy_in(table, plan.columns, plan.format)),
        watch.RelayWatch(servers.control, target.pid, progress),
    )
    search_path, time_zone = _user_settings(plan)
    psql = relay.find_psql(plan.options.psql) if plan.lane is Lane.PSQL else None
    if psql and len(statement) <= relay.PSQL_STATEMENT_BYTES:
        settings = {"search_path": search_path, "TimeZone": time_zone}
        relayed, lane = relay.by_psql(psql, snapshot, statement, settings, writer), Lane.PSQL
    else:
        reader = servers.reader
        with snapshot.joined(reader, search_path, time_zone):
            relayed, lane = relay.by_libpq(reader, statement, writer), Lane.LIBPQ
    return StagedData(
        staging=table,
        source_count=relayed.source_rows,
        staging_count=relayed.rows,
        bytes=relayed.bytes,
        seconds=time.monotonic() - started,
        lane=lane.value,
        psql_peak_bytes=relayed.psql_peak_bytes,
        where=plan.job.where,
    )


def copy_out(plan: SyncPlan) -> sql.Composed:
    """Return the COPY that reads the job's source."""
    relation = sqltext.relation(plan.job.source, plan.facts.source_table.relkind)
    return relay.copy_out(plan.names, relation, plan.job.where, plan.format)


def count_source(plan: SyncPlan, snapshot: Snapshot, staged: StagedData) -> int:
    """Return the source's own count: its COPY tag where libpq showed it, else a count in the same snapshot."""
    if staged.source_count >= 0:
        return staged.source_count
    session = snapshot.session
    session.as_role(*_user_settings(plan))
    relation = sqltext.relation(plan.job.source, plan.facts.source_table.relkind)
    counted = audit.rows(session, relation, plan.job.where)
    session.as_role("", "UTC")
    return counted


def _user_settings(plan: SyncPlan) -> tuple[str, str]:
    """Return the search_path and time zone a job reads under: the role's own where the user's SQL is in it."""
    if plan.job.where or isinstance(plan.job.source, QuerySource):
        return plan.facts.source.search_path, plan.facts.source.time_zone
    return "", "UTC"


def statements(plan: SyncPlan) -> tuple[tuple[str, str], ...]:
    """Return the SQL of every step of a plan, in order, as (step, text): what `plan` prints and `sync` runs."""
    schema = staging.TEMPORARY_SCHEMA if plan.staging is StagingKind.TEMPORARY else CONTROL_SCHEMA
    table = staging.named(schema, "<run>", 1, plan.job.target, plan.columns)
    listed: list[tuple[str, sql.SQL | sql.Composed]] = [
        ("staging (target)", staging.create_sql(table)),
        ("relay (source)", copy_out(plan)),
        ("relay (target)", relay.copy_in(table, plan.columns, plan.format)),
    ]
    if not plan.key_is_proven:
        listed.append(("gate (target)", merge.fault_sql(plan, table)))
    if plan.creation:
        created = [
            *merge.schemas_sql(plan, plan.creation),
            *map(merge.enum_sql, plan.creation.enums),
            merge.table_sql(plan, plan.creation),
        ]
        listed += [("create (target)", statement) for statement in created]
        listed.append(("merge (target)", merge.insert_sql(plan, table, plan.creation)))
        listed += [("create (target)", statement) for statement in merge.keys_sql(plan, plan.creation)]
    else:
        listed.append(("lock (target)", merge.lock_sql(plan)))
        if plan.deletes:
            listed.append(("delete guard (target)", merge.guard_sql(plan, table)))
            listed.append(("delete (target)", merge.delete_sql(plan, table)))
        listed.append(("merge (target)", merge.merge_sql(plan, table)))
    return tuple((step, statement.as_string(None)) for step, statement in listed)
