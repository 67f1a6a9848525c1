"""The order of things: the only place that knows it, commits, emits and cleans."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import psycopg

from pgsluice import changes, comparison, creation, drift, presence, sequences, sqltext, stopping, transport
from pgsluice.control import Look
from pgsluice.endpoint import Endpoint
from pgsluice.errors import ConnectError, PgsluiceError, UsageError
from pgsluice.events import Connected, Emitter, Retrying, RunFinished, RunStarted, Sink, TableFinished, Warned
from pgsluice.executors import doubt, executor
from pgsluice.hashing import Side
from pgsluice.job import Mode, Options, Selection, StagingKind, Strategy, SyncJob, TargetWriters, Verify, one_or_more
from pgsluice.model import Report, StagingTable, TableReport
from pgsluice.plan import Creation, SyncPlan, job_id
from pgsluice.prepare import jobs_of, prepared
from pgsluice.readiness import Readiness
from pgsluice.retry import Retries, step_error, translated
from pgsluice.schedule import Schedule
from pgsluice.servers import Servers
from pgsluice.session import Query
from pgsluice.shared import Shared
from pgsluice.slices import copy_in, copy_out, rows
from pgsluice.steps import catalog, promotion, staging, state, watermark
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.throttle import Throttle
from pgsluice.version import __version__
from pgsluice.work import Work
from pgsluice.workers import Workers


def new_run_id() -> str:
    """Return a name for a run: sorts by time, is a valid bare identifier part."""
    return f"{datetime.now(UTC):%Y%m%dt%H%M%S}_{secrets.token_hex(3)}"


class Run:
    """One execution over one or more jobs."""

    def __init__(
        self, source: Endpoint, target: Endpoint, options: Options | None = None, sinks: Sequence[Sink] = ()
    ) -> None:
        """Keep what is needed; nothing is opened yet. `errors` gathers why jobs failed, in their order.

        Args:
            source: only ever read.
            target: written.
            options: how.
            sinks: called with every event.
        """
        self.run_id = new_run_id()
        self.errors: list[PgsluiceError] = []
        self._options = options or Options()
        self._emit = Emitter(sinks)
        self._resumed: str | None = None
        self._is_written_down = False
        self._is_preview = False
        self._waiting: list[staging.Waiting] = []
        self._ends = ("", "")
        self._interrupted: Report | None = None
        self._servers = Servers(source.named(self.run_id, self._options), target.named(self.run_id, self._options))

    def plan(self, request: Selection | Sequence[SyncJob]) -> tuple[tuple[SyncJob, SyncPlan | PgsluiceError], ...]:
        """Decide everything and write nothing.

        Returns:
            Each job with its plan, or with the error that keeps it from being done.
        """
        with translated("prepare"), self._servers as servers:
            jobs = self._jobs(servers, request)
            with prepared(servers, jobs, self._options, CONTROL_SCHEMA) as ready:
                return ready.outcomes

    def sync(self, request: Selection | Sequence[SyncJob], stop: threading.Event | None = None) -> Report:
        """Carry out every job, one after the other, from one snapshot of the source.

        A job that fails leaves its target as it was and, without `Options.fail_fast`, does not stop the others.

        Args:
            request: what to do.
            stop: ends the run, from another thread, once it is set; the report's `is_interrupted` says so.

        Raises:
            PgsluiceError: the run could not begin: no connection, an unknown table.
            BaseException: what interrupted the run, as KeyboardInterrupt or what a task's runner raises in it; what was
                begun has been rolled back and cleaned up.
        """
        try:
            with stopping.by(stop):
                stopping.heed()
                return self._synced(request)
        except stopping.Stopped:
            return self._interrupted or Report(self.run_id, (), 0.0, *self._ends, is_interrupted=True)

    def _synced(self, request: Selection | Sequence[SyncJob]) -> Report:
        with contextlib.ExitStack() as stack:
            presence.sweep()
            stack.enter_context(presence.announced(self.run_id))
            stack.enter_context(self._servers)
            ready = self._begun(request)
            stack.callback(ready.close)
            return self._carry_all(ready)

    def preview(self, request: Selection | Sequence[SyncJob]) -> Report:
        """Copy every job as far as its staging table, count what its merge would do, and leave the target as it is.

        Nothing of it stays, neither in the run history.

        Raises:
            PgsluiceError: the run could not begin.
            BaseException: what interrupted it; what was begun has been cleaned up.
        """
        self._is_preview = True
        self._options = _previewing(self._options)
        return self.sync(request)

    def _jobs(self, servers: Servers, request: Selection | Sequence[SyncJob]) -> tuple[SyncJob, ...]:
        for each in (request,) if isinstance(request, Selection) else request:
            each.check()
            if each.since and self._options.full_refresh:
                raise UsageError("since reads a part, and a full refresh everything", hint="Leave one of them out.")
        if self._options.executor and self._options.max_rate:
            raise UsageError("a rate is kept by one process, not by a cluster", hint="Leave out --max-rate.")
        self._connect(servers)
        jobs = jobs_of(servers, request, CONTROL_SCHEMA) if isinstance(request, Selection) else tuple(request)
        if self._is_preview:
            jobs = tuple(dataclasses.replace(job, options=job.options and _previewing(job.options)) for job in jobs)
        if len({job.target for job in jobs}) < len(jobs):
            raise UsageError("two jobs of a run write the same target", hint="Sync them by two runs.")
        return jobs

    def _connect(self, servers: Servers) -> None:
        """Reach both servers and say which they are, before anything is asked that they may refuse."""
        ends = servers.source.described, servers.control.described
        if ends != self._ends:
            self._ends = ends
            self._emit(Connected(run_id=self.run_id, source_server=ends[0], target_server=ends[1]))

    # --- the beginning -----------------------------------------------------------------------------------------------

    def _begun(self, request: Selection | Sequence[SyncJob]) -> Readiness:
        """Connect, lock, plan and write the run down; all of it again where it fails in a way that may pass."""
        started: list[Readiness] = []

        def begin() -> None:
            self._servers.settle()
            with translated("prepare"), contextlib.ExitStack() as failing:
                jobs = self._jobs(self._servers, request)
                jobs, resumed = self._missing(jobs) if self._options.resume else (jobs, None)
                ready = Readiness(self._servers, jobs, self._options, self._warn)
                failing.callback(ready.close)
                ready.begin()
                self._resumed = resumed
                for session in (self._servers.source, self._servers.control):
                    if told := transport.doubt(session.side, session.live):
                        self._warn(told)
                if told := doubt(self._options.executor):
                    self._warn(told)
                if not ready.jobs:  # nothing was missing: what the run resumed has left goes all the same
                    self._write_down(0)
                failing.pop_all()
            started.append(ready)

        Retries(self._options.retries, self._options.retry_for, self._again).carry(begin)
        return started[0]

    def _missing(self, jobs: tuple[SyncJob, ...]) -> tuple[tuple[SyncJob, ...], str]:
        """Return the jobs that the run to resume, and those that it resumed, have not done, and that run's id."""
        earlier, done = state.done_jobs(self._servers.control, CONTROL_SCHEMA, str(self._options.resume))
        server = catalog.server(self._servers.source)
        missing = tuple(job for job in jobs if job_id(job, server) not in done)
        self._warn(f"run {earlier} has done {len(jobs) - len(missing)} of these {len(jobs)} tables; the rest follows")
        return missing, earlier

    def _write_down(self, tables: int, seen: Look | None = None) -> None:
        """Note on the target that the run began: with the first job that can be done, for others write nothing."""
        if self._is_written_down:
            return
        control = self._servers.control
        state.ensure(control, CONTROL_SCHEMA, seen)
        swept = staging.sweep(control, CONTROL_SCHEMA, self.run_id)
        for name in swept.dropped:
            self._warn(f"dropped {name}, which a dead run had left")
        for name, why in swept.left:
            self._warn(f"left {name}, whose run is dead too: {why}")
        for name, why in swept.passed_over:
            self._warn(f"passed over {name}: {why}")
        self._waiting[:] = swept.waiting
        if not self._is_preview:
            self._start(tables)
        self._is_written_down = True

    def _start(self, tables: int) -> None:
        state.start_run(
            self._servers.control, CONTROL_SCHEMA, self.run_id, tables, __version__, self._resumed, servers=self._ends
        )

    # --- job after job -----------------------------------------------------------------------------------------------

    def _carry_all(self, ready: Readiness) -> Report:
        started = time.monotonic()
        self._emit(RunStarted(run_id=self.run_id, tables=tuple(str(job.target) for job in ready.jobs)))
        jobs, reports = self._options.workers, list[TableReport]()
        with contextlib.ExitStack() as stack:
            throttle = Throttle(self._options.max_rate)
            workers = stack.enter_context(
                Workers(self._servers, jobs, throttle, executor(self._options.executor, self._servers))
            )
            write_down = functools.partial(self._write_down, len(ready.jobs), ready.seen)
            shared = Shared(
                run_id=self.run_id,
                servers=self._servers,
                workers=workers,
                ready=ready,
                options=self._options,
                emit=self._emit,
                waiting=self._waiting,
                write_down=write_down,
                is_preview=self._is_preview,
            )
            numbered = enumerate(ready.jobs, 1)  # which are in the order of their groups
            works = [Work(shared, list(itertools.islice(numbered, len(group)))) for group in ready.groups]
            schedule = Schedule(works, jobs if jobs > 1 else 0)
            stack.callback(schedule.abandon)
            try:
                for each in self._carried(schedule):
                    reports += map(self._finished, each)
            except BaseException:
                try:
                    stack.close()  # what was begun, before it is told
                finally:
                    self._interrupt(ready.jobs, reports, started)
                raise
            stopping.ignore()
            reports += [self._finished(report) for work in schedule.left for report in work.skipped]
        report = Report(self.run_id, tuple(reports), time.monotonic() - started, *self._ends)
        self._record_failed(report, ready)
        self._end(report)
        return report

    def _carried(self, schedule: Schedule) -> Iterator[list[TableReport]]:
        """Carry out job after job, until one fails that shall be the last."""
        is_gone = False
        for work in schedule:
            # a server that could not be reached for so long is not waited for once more with each table
            yield work.carry(patient=not is_gone)
            is_gone = any(isinstance(error, ConnectError) for error in work.errors)
            self.errors += work.errors
            if work.errors and self._options.fail_fast:
                return

    def _finished(self, report: TableReport) -> TableReport:
        self._emit(TableFinished(run_id=self.run_id, report=report))
        return report

    def _interrupt(self, jobs: Sequence[SyncJob], reports: Sequence[TableReport], started: float) -> None:
        """Tell that the run ends here, when all that it had begun is rolled back and cleaned up."""
        told = {report.target for report in reports}
        left = [job for job in jobs if str(job.target) not in told]
        skipped = [TableReport(self.run_id, str(job.source), str(job.target), job.mode.value) for job in left]
        tables = (*reports, *map(self._finished, skipped))
        seconds = time.monotonic() - started
        self._interrupted = Report(self.run_id, tables, seconds, *self._ends, is_interrupted=True)
        self._end(self._interrupted)

    def _end(self, report: Report) -> None:
        self._note(str(report.to_dict()["status"]), report.exit_code)
        self._emit(RunFinished(run_id=self.run_id, report=report))

    def _record_failed(self, report: Report, ready: Readiness) -> None:
        """Write the failures down that are not: a table that its plan refused, before anything was written.

        A run that could begin nothing at all leaves no trace on a target that has none yet.
        """
        failed = [table for table in report.tables if table.status == "failed"]
        if not failed or self._is_preview:
            return
        with self._noting():
            control = self._servers.revive_control()
            if not self._is_written_down:
                if not state.exists(control, CONTROL_SCHEMA):
                    return
                self._start(len(ready.jobs))
                self._is_written_down = True
            state.record_failed(control, CONTROL_SCHEMA, [(ready.id_of(table.target), table) for table in failed])

    def _note(self, status: str, exit_code: int) -> None:
        if not self._is_written_down or self._is_preview:
            return
        with self._noting():
            control = self._servers.revive_control()
            state.finish_run(control, CONTROL_SCHEMA, self.run_id, status, exit_code)
            state.forget_history(control, CONTROL_SCHEMA, self._options.keep_history)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Go on where the run history can't be written: the targets are what they are, noted or not."""
        try:
            yield
        except (psycopg.Error, PgsluiceError) as error:
            known = error if isinstance(error, PgsluiceError) else step_error(error, "history", None)
            self._warn(f"the run history is not up to date: {known.message}")

    # --- told --------------------------------------------------------------------------------------------------------

    def _warn(self, message: str) -> None:
        self._emit(Warned(run_id=self.run_id, message=message))

    def _again(self, error: PgsluiceError, attempt: int, seconds: float) -> None:
        self._emit(
            Retrying(
                run_id=self.run_id,
                step=error.step or "prepare",
                attempt=attempt,
                seconds=seconds,
                reason=error.message,
                sqlstate=error.sqlstate,
                table=error.table,
            )
        )


def _previewing(options: Options) -> Options:
    """Return how a job is carried as far as its staging table, to be dropped from there."""
    strategy = Strategy.COPY if options.strategy is Strategy.SWAP else options.strategy
    return dataclasses.replace(
        options,
        staging=StagingKind.UNLOGGED,
        resumable=False,
        verify=Verify.COUNT,
        strategy=strategy,
        pre_sql=(),
        post_sql=(),
    )


def statements(plan: SyncPlan) -> tuple[tuple[str, str], ...]:
    """Return the SQL of every step of a plan, in order, as (step, text): what `plan` prints and `sync` runs."""
    schema = staging.TEMPORARY_SCHEMA if plan.staging is StagingKind.TEMPORARY else CONTROL_SCHEMA
    table = staging.named(schema, "<run>", 1, plan.job.target, plan.columns)
    promoted = plan.promoted
    created: Query = creation.staging_sql(plan, promoted, table.ref) if promoted else staging.create_sql(table)
    if plan.replaces:
        (created,) = (sqltext.verbatim(text) for phase, text in plan.swap if phase == "create")
    compared = Side if plan.strategy is Strategy.DIFF else ()
    is_hashed = plan.options.verify is Verify.HASH
    sent = [("hash (source)", plan.hashing.digest_sql(Side.SOURCE, rows(plan.copy)))] if is_hashed else []
    listed: list[tuple[str, Query]] = [
        *((f"hash ({side})", plan.hashing.buckets_sql(side, comparison.rows(plan, side))) for side in compared),
        *(sent if not compared else []),  # the buckets tell it
        *(("pre_sql (target)", sqltext.verbatim(text)) for text in one_or_more(plan.options.pre_sql)),
        ("staging (target)", created),
        *(("staging (target)", sqltext.verbatim(text)) for phase, text in plan.swap if phase == "prepare"),
        ("relay (source)", copy_out(plan.copy)),
        ("relay (target)", copy_in(plan.copy, table)),
    ]
    present = table
    if plan.sweep:
        present = staging.named(schema, "<run>", 1, plan.job.target, plan.sweep.columns, part="keys")
        listed.append(("staging (target)", staging.create_sql(present)))
        listed.append(("sweep (source)", copy_out(plan.sweep)))
        listed.append(("sweep (target)", copy_in(plan.sweep, present)))
    if not plan.key_is_proven:
        listed.append(("gate (target)", changes.fault_sql(plan, present)))
    if promoted:
        listed += [("keys (target)", statement) for statement in creation.keys_sql(promoted, table.ref)]
        listed += [("merge (target)", statement) for statement in creation.schemas_sql(promoted)]
        listed += [("merge (target)", statement) for statement in promotion.renaming_sql(plan, promoted, table)]
    elif plan.replaces:
        listed += _replacing(plan, table, is_hashed=is_hashed)
    elif plan.creation:
        listed += _creating(plan, plan.creation, table)
    else:
        listed += _appending(plan, table) if plan.job.mode is Mode.APPEND else _merging(plan, table, present)
    listed += [
        ("sequences (target)", sequences.catch_up_sql(plan.job.target, column, last)) for column, last in plan.sequences
    ]
    if is_hashed and not plan.replaces:
        listed.append(("verify (target)", plan.hashing.digest_sql(Side.TARGET, changes.landed(plan, table))))
    if plan.reading.cursor:
        listed.append(("watermark (target)", watermark.settle_sql(plan, plan.reading.cursor, table)))
    listed += [("post_sql (target)", sqltext.verbatim(text)) for text in one_or_more(plan.options.post_sql)]
    return tuple((step, statement.as_string(None)) for step, statement in listed)


def _creating(plan: SyncPlan, wanted: Creation, table: StagingTable) -> Iterator[tuple[str, Query]]:
    for statement in (
        *creation.schemas_sql(wanted),
        *(statement for each in wanted.dependencies for statement in creation.dependency_sql(each)),
        creation.table_sql(plan, wanted, plan.job.target),
    ):
        yield "create (target)", statement
    yield "merge (target)", creation.insert_sql(plan, table, wanted)
    for statement in (*creation.keys_sql(wanted, plan.job.target), *creation.comments_sql(wanted, plan.job.target)):
        yield "create (target)", statement


def _replacing(plan: SyncPlan, table: StagingTable, *, is_hashed: bool) -> Iterator[tuple[str, Query]]:
    steps = {"build": "keys (target)", "analyze": "keys (target)", "lock": "lock (target)", "swap": "merge (target)"}
    verified = plan.hashing.digest_sql(Side.TARGET, changes.landed(plan, table)) if is_hashed else None
    for phase, text in plan.swap:
        if phase == "lock" and verified:
            yield "verify (target)", verified
        if phase in steps:
            yield steps[phase], sqltext.verbatim(text)


def _appending(plan: SyncPlan, table: StagingTable) -> Iterator[tuple[str, Query]]:
    yield "lock (target)", changes.lock_sql(plan)
    if plan.alterations:
        yield "alter (target)", drift.alter_sql(plan.job.target, plan.alterations)
    if plan.reading.starts_over:
        yield "delete guard (target)", changes.scope_sql(plan)
        yield "delete (target)", changes.clear_sql(plan)
    yield "merge (target)", changes.append_sql(plan, table)


def _merging(plan: SyncPlan, table: StagingTable, present: StagingTable) -> Iterator[tuple[str, Query]]:
    lock = ("lock (target)", changes.lock_sql(plan))
    alter = [("alter (target)", drift.alter_sql(plan.job.target, plan.alterations))] if plan.alterations else []
    is_alone = plan.compares_first and plan.options.target_writers is TargetWriters.NONE
    compare = [("compare (target)", changes.delta_sql(plan, table))] if plan.compares_first else []
    if is_alone:
        yield from compare
    else:
        yield lock
        yield from alter
    if plan.deletes:
        guard = changes.gone_sql if plan.compares_first else changes.guard_sql
        yield "delete guard (target)", guard(plan, present)
    if is_alone:
        yield lock
        yield from alter
    if plan.deletes:
        yield "delete (target)", changes.delete_sql(plan, present)
    if not is_alone:
        yield from compare
    yield "merge (target)", changes.merge_sql(plan, changes.delta(table) if compare else table)
    if plan.mark and plan.sweep:
        yield "revive (target)", changes.revive_sql(plan, plan.mark, present)
