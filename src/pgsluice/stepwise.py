"""The steps of a job one at a time, for programs that drive them: each call opens the sessions that it needs."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator

from pgsluice import locks, presence, sqltext
from pgsluice.commit import Merge, carry, provable, remember
from pgsluice.endpoint import Endpoint
from pgsluice.errors import UnknownTableError, UsageError
from pgsluice.events import Emitter, Warned
from pgsluice.facts import NOT_BEHIND, Column, Facts, Progress, Read, TableInfo
from pgsluice.job import Mode, Options, StagingKind, SyncJob, TableRef, Verify
from pgsluice.model import MergeResult, StagedData, StagingTable, TableReport
from pgsluice.plan import SyncPlan, job_id, make_copy, make_plan
from pgsluice.prepare import LOCKABLE
from pgsluice.retry import translated
from pgsluice.run import new_run_id
from pgsluice.servers import Servers
from pgsluice.session import Session
from pgsluice.slices import SliceTask, copy_slice
from pgsluice.snapshot import reading, snapshot
from pgsluice.steps import audit, catalog, merge, relay, staging, state, watermark
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.turn import Turn
from pgsluice.version import __version__


class Stepwise:
    """Staging tables of one program, held until they are dropped: its control session keeps their run locks."""

    def __init__(self, source: Endpoint, target: Endpoint, options: Options, emit: Emitter, run_id: str) -> None:
        """Keep what is needed; nothing is opened yet."""
        self._source = source.named(run_id, options)
        self._target = target.named(run_id, options)
        self._options = options
        self._emit = emit
        self._run_id = run_id
        self._numbers = itertools.count(1)
        self._owner: Session | None = None
        self._announced = contextlib.ExitStack()
        self._held: dict[TableRef, TableRef] = {}

    def close(self) -> None:
        """Give up what is still held; staging tables left behind are orphans, swept by the next run."""
        if self._owner is not None:
            self._owner.close()
            self._owner = None
        self._announced.close()

    @contextlib.contextmanager
    def _servers(self, step: str, table: object = None) -> Iterator[Servers]:
        with Servers(self._source, self._target) as servers, translated(step, str(table) if table else None):
            yield servers

    # --- staging -----------------------------------------------------------------------------------------------------

    def create(self, target: TableRef, like: TableInfo | None) -> StagingTable:
        """Create an UNLOGGED staging table for `target`, with the columns of `like` as the target has them."""
        with self._servers("staging", target) as servers:
            control = self._own(target)
            columns = self._staging_columns(servers, target, like)
            table = staging.named(CONTROL_SCHEMA, self._run_id, next(self._numbers), target, columns)
            staging.create(control, table, locks.run_key(control, target))
        self._held[table.ref] = target
        return table

    def _staging_columns(self, servers: Servers, target: TableRef, like: TableInfo | None) -> tuple[Column, ...]:
        existing = self.describe(servers.control, target)
        if like is None:
            like = existing or self.describe(servers.source, target)
        if like is None:
            raise UnknownTableError(
                f"there is no table {target}, neither on the target nor on the source",
                hint="Pass source_schema, or create the table first.",
            )
        columns = like.columns if existing is None else existing.columns
        return tuple(column for column in columns if not column.generated and like.column(column.name))

    def drop(self, name: TableRef) -> None:
        """Drop a staging table of ours; twice is fine."""
        with self._servers("cleanup", name) as servers:
            if found := self.describe(servers.control, name):
                staging.drop(servers.control, staging.find(servers.control, name, found.columns).ref)
        target = self._held.pop(name, None)
        if self._owner is not None and target is not None and target not in self._held.values():
            locks.release(self._owner, target)
        if not self._held:
            self.close()

    def find(self, name: TableRef) -> StagingTable:
        """Return one of our staging tables by name."""
        with self._servers("staging", name) as servers:
            found = self.describe(servers.control, name)
            return staging.find(servers.control, name, found.columns if found else ())

    def _own(self, target: TableRef) -> Session:
        """Hold the run lock of `target` on a session that stays open."""
        if self._owner is None or not self._owner.usable:
            self.close()
            self._announced.enter_context(presence.announced(self._run_id))
            self._owner = self._target.open()
            state.ensure(self._owner, CONTROL_SCHEMA)
        Turn(CONTROL_SCHEMA, self._options.wait_for_lock, self._warn).hold(self._owner, target)
        return self._owner

    # --- copy --------------------------------------------------------------------------------------------------------

    def copy(self, source: TableRef, table: StagingTable, where: str | None) -> StagedData:
        """Relay rows into a staging table and count them on both sides."""
        with self._servers("relay", table.target) as servers:
            early = self.require(servers.source, source, "source")
            relation = sqltext.relation(source, early.relkind)
            if where:
                catalog.check_condition(servers.source, relation, where)
            with snapshot(servers.source, [source] if early.relkind in LOCKABLE else []) as shared:
                info = self.require(servers.source, source, "source")
                facts = self._facts(servers, info, None)
                columns = tuple(column for column in table.columns if info.column(column.name))
                if not columns:
                    raise UsageError(f"{source} and {table} have no column in common")
                plan = make_copy(source, where, facts, columns, self._options)
                task = SliceTask(plan, table, shared.exported, apart=False, verify=True)
                return copy_slice(servers.main, task, lambda _bytes: 0)

    def _facts(self, servers: Servers, info: TableInfo, target: TableInfo | None) -> Facts:
        return Facts(
            source=catalog.server(servers.source),
            target=catalog.server(servers.control),
            source_table=info,
            target_table=target,
            target_schema=None,
            control_schema=catalog.schemas(servers.control, [CONTROL_SCHEMA]).get(CONTROL_SCHEMA),
            psql=relay.psql_obstacle(servers.source, self._options.psql),
        )

    # --- merge -------------------------------------------------------------------------------------------------------

    def merge(
        self, target: TableRef, table: StagingTable, key: tuple[str, ...], staged: StagedData | None
    ) -> MergeResult:
        """Merge a staging table into an existing target: gate, merge and state in one transaction."""
        started = time.monotonic()
        run_id = new_run_id()  # each merge is a run of its own in the history, so that its commit can be proven
        with self._servers("merge", target) as servers:
            plan = self._merge_plan(servers, target, table, key, staged)
            rows = staged.staging_count if staged else staging.count(servers.control, table)
            with provable(servers, plan, run_id, self._warn) as names:
                held = merge.Staged(table, rows)
                merged, reached = carry(Merge(servers, names, plan, held, None, _untold), _untold)
                merged = dataclasses.replace(merged, seconds=time.monotonic() - started)
                state.start_run(
                    servers.writer, CONTROL_SCHEMA, run_id, 1, __version__, servers=(None, servers.writer.described)
                )
                remember(servers, plan, reached, self._report(run_id, plan, staged, merged))
                state.finish_run(servers.writer, CONTROL_SCHEMA, run_id, "done", 0)
        return merged

    def _merge_plan(
        self, servers: Servers, target: TableRef, table: StagingTable, key: tuple[str, ...], staged: StagedData | None
    ) -> SyncPlan:
        """Plan as if the staging table were the source: its rows are what is left to carry."""
        existing = self.require(servers.control, target, "target")
        server = catalog.server(servers.control)
        source = TableRef.parse(staged.source) if staged else table.target
        job = SyncJob(source, target, mode=Mode.UPSERT, where=staged.where if staged else None, key=key)
        states, _ = state.load(servers.control, CONTROL_SCHEMA, [(job_id(job, server), "")])
        facts = Facts(
            source=server,
            target=server,
            source_table=self.require(servers.control, table.ref, "target"),
            target_table=existing,
            target_schema=None,
            control_schema=catalog.schemas(servers.control, [CONTROL_SCHEMA]).get(CONTROL_SCHEMA),
            progress=Progress(state=states.get(job_id(job, server))),
        )
        options = dataclasses.replace(self._options, staging=StagingKind.UNLOGGED)
        return make_plan(job, facts, options)

    @staticmethod
    def _report(run_id: str, plan: SyncPlan, staged: StagedData | None, merged: MergeResult) -> TableReport:
        return TableReport(
            run_id=run_id,
            source=str(plan.job.source),
            target=str(plan.job.target),
            mode=plan.job.mode.value,
            status="done",
            source_count=staged.source_count if staged else -1,
            staging_count=merged.staged,
            target_count=merged.target_count,
            inserted=merged.inserted,
            updated=merged.updated,
            unchanged=merged.unchanged,
            verified=Verify.COUNT.value,
            seconds=merged.seconds,
        )

    def _warn(self, message: str) -> None:
        self._emit(Warned(run_id=self._run_id, message=message))

    # --- looks -------------------------------------------------------------------------------------------------------

    def count(self, side: str, table: TableRef, where: str | None = None) -> int:
        """Return the rows of a table on the "source" or the "target", under a condition that means what it says."""
        with self._servers("count", table) as servers:
            session = servers.source if side == "source" else servers.control
            info = self.require(session, table, side)
            relation = sqltext.relation(table, info.relkind)
            if where:
                catalog.check_condition(session, relation, where)
            read = Read(table, info.oid, "" if where else NOT_BEHIND.get(info.relkind, ""))
            with session.transaction(read_only=True), reading(session, read, session.search_path, session.time_zone):
                return audit.rows(session, relation, sqltext.condition(where))

    def exists(self, table: TableRef) -> bool:
        """Tell whether the target has the table."""
        with self._servers("plan", table) as servers:
            return self.describe(servers.control, table) is not None

    def latest(self, table: TableRef, field: str) -> str | None:
        """Return the target's highest value of a column as text, or None."""
        with self._servers("watermark", table) as servers:
            info = self.describe(servers.control, table)
            if info is None:
                return None
            cursor = watermark.cursor_of(servers.control, info, field, None)
            return watermark.highest(servers.control, info, cursor)

    def condition(self, table: TableRef, field: str, named: str | None) -> str:
        """Return the condition that reads on from the stored watermark, else from the target's highest value, or ''."""
        with self._servers("watermark", table) as servers:
            control = servers.control
            info = self.describe(control, table)
            if info is None:
                return ""
            cursor = watermark.cursor_of(control, info, field, named)
            value = watermark.highest(control, info, cursor)
            if value is None:
                return ""
            stored = state.watermark(control, CONTROL_SCHEMA, table, field)
            return control.text(cursor.at_least(value if stored is None else stored))

    @staticmethod
    def describe(session: Session, table: TableRef) -> TableInfo | None:
        """Return what the catalog says of a table, or None where there is none."""
        return next(iter(catalog.tables(session, [table])), None)

    @staticmethod
    def require(session: Session, table: TableRef, side: str) -> TableInfo:
        """Return what the catalog says of a table.

        Raises:
            UnknownTableError: there is none; gives the nearest names.
        """
        return catalog.require(session, [table], catalog.tables(session, [table]), side)[table]


def _untold(_step: str) -> contextlib.AbstractContextManager[None]:
    """Tell nobody of a step."""
    return contextlib.nullcontext()
