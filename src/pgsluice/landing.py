"""Where the rows of one job land: its staging tables and what fills them, kept for another try, or dropped."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from concurrent.futures import FIRST_COMPLETED, Future, wait

import psycopg
from psycopg import sql

from pgsluice import creation, locks, stopping
from pgsluice.account import Account
from pgsluice.errors import LimitError, PgsluiceError
from pgsluice.job import SyncJob, Verify
from pgsluice.model import StagedData, StagingTable
from pgsluice.plan import CopyPlan, Creation, SyncPlan
from pgsluice.relaying import Relaying
from pgsluice.resumption import Resumption
from pgsluice.session import Session
from pgsluice.shared import Shared
from pgsluice.slices import count_source, relay_slice
from pgsluice.snapshot import Snapshot
from pgsluice.steps import audit, merge, promotion, staging, swap, watch
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.units import size

_LOOK_SECONDS = 0.5
_NOT_BY_PSQL = "slices too small for the start of a psql, or no psql where they were copied"


class Landing:
    """The staging tables of one job, on the target before anything is merged."""

    def __init__(self, run: Shared, job: SyncJob, number: int, account: Account) -> None:
        """Keep what is needed; `holder` is the pid of the session that has kept other runs away since rows were read.

        Args:
            run: it belongs to.
            job: whose rows land.
            number: of it in the run, from 1.
            account: told how it goes.
        """
        self._run = run
        self._servers = run.servers
        self._job = job
        self._number = number
        self._account = account
        self._resumption = Resumption(run.servers, account.warn)
        room = watch.Room(run.run_id, run.options.max_staging_bytes)
        control = functools.partial(run.servers.opened, "control")
        self._watch = watch.RelayWatch(control, account.progress, room, self._hold_back)
        self._snapshot: Snapshot | None = None
        self._plan: SyncPlan | None = None
        self._relays: dict[str, Relaying] = {}
        self._staged: list[merge.Staged] = []
        self._remaining: dict[StagingTable, PgsluiceError] = {}
        self._most = 0
        self.holder = 0

    # --- all in the transaction that merges --------------------------------------------------------------------------

    def at_once(self, plan: SyncPlan, snapshot: Snapshot, attempt: int) -> list[merge.Staged]:
        """Create temporary staging tables in the writer's open transaction, and fill them there."""
        self._plan, self._snapshot, self.holder = plan, snapshot, self._run.ready.holder
        tables = self._tables(plan, staging.TEMPORARY_SCHEMA, attempt)
        with self._account.step("staging"):
            for table in tables:
                staging.create(self._servers.writer, table)
        copies = {"relay": plan.copy, **({"sweep": plan.sweep} if plan.sweep else {})}
        staged = [self._at_once(step, copy, table) for (step, copy), table in zip(copies.items(), tables, strict=True)]
        self._run.ready.read(self._job)
        return staged

    def _at_once(self, step: str, copy: CopyPlan, table: StagingTable) -> merge.Staged:
        worker, snapshot = self._servers.main, self._read_in.exported
        self._account.begin(step, copy.rows_expected)
        with self._account.inside(step), self._run.ready.reading(self._read_in, step, str(self._job.target)):
            who, passed = watch.by(worker.writer.pid), self._run.workers.throttle.meter()

            def on_bytes(bytes_: int) -> float:
                self._watch.look(bytes_, 0, who)
                return passed(bytes_)

            staged = relay_slice(worker, copy, table, snapshot, on_bytes)
            self._watch.check(staged.bytes)
            if self._is_verified or step == "sweep":
                staged = dataclasses.replace(staged, source_count=count_source(worker, copy, snapshot, staged))
                audit.sent(staged.source_count, staged.staging_count)
        self._account.end(step, staged.seconds)
        return self._told(step, copy, staged)

    # --- or before it ------------------------------------------------------------------------------------------------

    def begin(self, plan: SyncPlan, snapshot: Snapshot, attempt: int) -> None:
        """Create staging tables that outlive their transaction, and hand their slices to the workers."""
        self._plan, self._snapshot, self.holder = plan, snapshot, self._run.ready.holder
        self._most = self._run.workers.most
        rows, *keys = self._tables(plan, CONTROL_SCHEMA, attempt)
        with contextlib.ExitStack() as failing:
            with self._account.step("staging"):
                for table in keys if plan.keeps_slices else (rows, *keys):
                    failing.callback(self._drop, table)
                    becomes = plan.promoted if table == rows else None
                    definition = self._definition(plan, becomes, table)
                    control = self._servers.control
                    path = control.search_path if plan.replaces else ""  # its LIKE copies what was parsed
                    staging.create(control, table, locks.run_key(control, self._job.target), definition, path)
                    if plan.replaces:
                        swap.prepare(control, table)
            if plan.keeps_slices:
                with self._account.step("resume"), contextlib.ExitStack() as creating:
                    creating.callback(self._drop, rows)  # it may be there although its COMMIT got no answer
                    rows = self._resumption.open(plan, snapshot, rows)
                    creating.pop_all()
            self._relays = {"relay": self._relaying(plan, plan.copy, rows)}
            if plan.sweep:
                self._relays["sweep"] = self._relaying(plan, plan.sweep, keys[0])
            failing.pop_all()
        for step, relay in self._relays.items():
            self._account.begin(step, relay.copy.rows_expected)
            relay.begin()

    def _definition(self, plan: SyncPlan, becomes: Creation | None, table: StagingTable) -> sql.Composed | None:
        """Return the CREATE TABLE of staging that is to become the target, or None for any other."""
        if plan.replaces:
            return swap.definition(self._servers.control, plan.job.target, table.ref)
        return creation.staging_sql(plan, becomes, table.ref) if becomes else None

    def _relaying(self, plan: SyncPlan, copy: CopyPlan, table: StagingTable) -> Relaying:
        is_kept = plan.keeps_slices and copy is plan.copy
        return Relaying(
            self._run.workers,
            copy,
            table,
            self._read_in.exported,
            self._resumption.missing if is_kept else plan.slices or None,
            apart=is_kept,
            verify=plan.options.verify is not Verify.NONE or copy is plan.sweep,
            bytes_=plan.facts.source_table.bytes,
        )

    @property
    def is_begun(self) -> bool:
        """Tell whether there are staging tables."""
        return bool(self._relays)

    @property
    def is_over(self) -> bool:
        """Tell whether no worker is at it."""
        return all(relay.is_over for relay in self._relays.values())

    @property
    def pending(self) -> list[Future[StagedData]]:
        """Return the slices that are not over, which can be waited for."""
        return [outcome for relay in self._relays.values() for outcome in relay.outcomes if not outcome.done()]

    @property
    def is_held(self) -> bool:
        """Tell whether no other run can have come between since the rows were read."""
        return self._run.ready.is_held() and self.holder == self._run.ready.holder

    def goes_on(self) -> bool:
        """Begin again with what has failed, if what is done still serves: it was read in this snapshot, and is there.

        Costs a count of each staging table that is not known to be filled.

        Raises:
            PgsluiceError: why the job can't be done any more.
        """
        if self._staged:
            return True
        if self._plan is None or self._plan.keeps_slices:  # of those `Resumption` knows more
            return False
        relays = list(self._relays.values())
        is_read = all(relay.is_done for relay in relays)
        if not is_read and self._run.ready.of(self._job)[1] is not self._snapshot:
            return False
        self._servers.end_lost("target")  # a commit of theirs may be under way
        with self._account.inside("staging"):
            if any(staging.count(self._servers.control, relay.table) != relay.rows for relay in relays):
                return False
        for relay in relays:
            relay.begin()
        return True

    def look(self) -> None:
        """Tell how far it is, stop what goes on in vain behind a failure, and let the snapshot go when all is read."""
        relays = list(self._relays.values())
        for relay in relays:
            relay.heed()
        self._keep_account()
        try:
            who = watch.into([relay.table for relay in relays])
            self._watch.look(sum(relay.bytes for relay in relays), sum(relay.rows for relay in relays), who)
        except LimitError as error:
            for relay in relays:
                relay.stop(error)
        if relays and all(relay.is_done for relay in relays):
            self._run.ready.read(self._job)

    def filled(self) -> list[merge.Staged]:
        """Return what is staged, the rows first, when all of it is.

        Raises:
            PgsluiceError: why not; what is done stays.
        """
        if self._staged or self._plan is None:
            return self._staged
        plan = self._plan
        while not self.is_over:
            wait(self.pending, _LOOK_SECONDS, FIRST_COMPLETED)
            stopping.heed()
            self.look()
        staged = [self._gathered(step, relay) for step, relay in self._relays.items()]
        self._run.ready.read(self._job)
        if self._run.workers.most < self._most:
            self._account.warn(
                f"the memory ceiling lets no more slices be copied at once than {self._run.workers.most}"
            )
        if plan.promoted or plan.replaces:
            with self._account.step("keys"):
                if not plan.key_is_proven:
                    merge.tell_apart(self._servers.writer, plan, staged[0].table)
                if plan.promoted:
                    promotion.build_keys(self._servers.writer, plan.promoted, staged[0].table)
                else:
                    swap.build(self._servers.writer, staged[0].table)
        self._staged = staged
        return staged

    def _gathered(self, step: str, relay: Relaying) -> merge.Staged:
        self._keep_account()
        with self._account.inside(step):
            with self._run.ready.reading(self._read_in, step, str(self._job.target)):
                staged = relay.gathered()
            self._watch.check(0)
        self._account.end(step, staged.seconds)
        return self._told(step, relay.copy, staged)

    def _hold_back(self, control: Session) -> None:
        """Let all copies wait while a standby of the target is further behind than allowed."""
        limit, throttle = self._run.options.max_lag, self._run.workers.throttle
        if limit is not None:
            behind = watch.lag(control)
            if (behind > limit) is not throttle.is_held:
                throttle.is_held = behind > limit
                state = "waits" if throttle.is_held else "goes on"
                self._account.warn(
                    f"a standby of the target is {size(behind)} behind, of {size(limit)}: copying {state}"
                )

    def _keep_account(self) -> None:
        """Keep account of what a run that resumes will find."""
        if self._resumption.table is not None and (relay := self._relays.get("relay")):
            with contextlib.suppress(psycopg.Error, PgsluiceError):  # whoever uses the session next will hear of it
                self._resumption.took(relay.committed)

    # --- both --------------------------------------------------------------------------------------------------------

    def _tables(self, plan: SyncPlan, schema: str, attempt: int) -> list[StagingTable]:
        """Return the staging tables of the job: its rows, and its keys where it sweeps."""
        named = functools.partial(
            staging.named, schema, self._run.run_id, self._number, self._job.target, attempt=attempt
        )
        return [named(plan.columns), *([named(plan.sweep.columns, part="keys")] if plan.sweep else [])]

    @property
    def _is_verified(self) -> bool:
        return self._plan is not None and self._plan.options.verify is not Verify.NONE

    @property
    def _read_in(self) -> Snapshot:
        if self._snapshot is None:
            raise LookupError("nothing was read yet")
        return self._snapshot

    def _told(self, step: str, copy: CopyPlan, staged: StagedData) -> merge.Staged:
        if step == "sweep":
            self._account.tell(keys_swept=staged.staging_count, bytes=self._account.report.bytes + staged.bytes)
            return merge.Staged(staged.staging, staged.staging_count)
        rows, counted = staged.staging_count, staged.source_count
        if self._resumption.table is not None:  # earlier tries and runs have left the others, counted then
            rows = self._resumption.rows
            counted = rows if self._is_verified else -1
            self._account.tell(slices=self._resumption.count, slices_reused=self._resumption.reused)
        elif self._plan:
            self._account.tell(slices=len(self._plan.slices))
        self._account.tell(
            source_count=counted,
            staging_count=rows,
            bytes=staged.bytes,
            lane=staged.lane,
            lane_reason=copy.lane_reason if staged.lane == copy.lane else _NOT_BY_PSQL,
            psql_peak_bytes=staged.psql_peak_bytes,
        )
        return merge.Staged(staged.staging, rows)

    # --- the end -----------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Say, in the open transaction that has merged the rows, that they wait for no other run any more."""
        self._resumption.release()

    def let_go(self) -> None:
        """Give up what is under way, and drop what is staged; what a run that resumes may use stays."""
        relays, self._relays, self._staged = list(self._relays.values()), {}, []
        with contextlib.ExitStack() as dropping:
            for relay in relays:
                if relay.table != self._resumption.table:
                    dropping.callback(self._drop, relay.table)
            for relay in relays:
                relay.stop()

    def keep_or_drop(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Keep slices for a run that resumes, where the job was not done; a full disk needs its room back."""
        table, done = self._resumption.table, self._resumption.done
        if table is None:
            return
        is_full = isinstance(error, PgsluiceError) and error.sqlstate == psycopg.errors.DiskFull.sqlstate
        if error is None or not done or is_full:
            self._drop(table)
            return
        hours = self._run.options.resume_keep / 3600
        self._account.warn(
            f"{done} of {self._resumption.count} slices stay in {table} for {hours:g} h: the same command with"
            f" --resume {self._run.run_id} goes on from there; `pgsluice clean --kept` drops them"
        )

    def drop_superseded(self) -> None:
        """Drop what earlier runs had kept for this target: its job is done."""
        for waiting in self._run.waiting:
            if waiting.target == str(self._job.target):
                self._drop(StagingTable(waiting.ref, self._job.target, (), waiting.run_id))

    def end(self) -> None:
        """Try once more to drop what could not be dropped while its server was away, or say that it remains."""
        remaining, self._remaining = self._remaining, {}
        for table in remaining:
            self._drop(table)
        for table, error in self._remaining.items():
            reason = " ".join(error.message.split())
            self._account.warn(f"staging table {table} remains ({reason}); the next run or `pgsluice clean` removes it")

    def _drop(self, table: StagingTable) -> None:
        """Drop a staging table, now or at the end; a signal is heeded after that."""
        interrupt: BaseException | None = None
        try:
            self._try_to_drop(table)
        except BaseException as caught:  # noqa: BLE001 - whatever interrupts a run does so once
            interrupt = caught
        if interrupt:  # not while it is handled: whatever fails then looks like another one
            self._try_to_drop(table)
            raise interrupt

    def _try_to_drop(self, table: StagingTable) -> None:
        try:
            with self._account.step("cleanup"):
                self._servers.abandon_writer()
                control = self._servers.revive_control()
                self._servers.end_lost("target")  # whose locks on it the server may not have let go
                staging.drop(control, table.ref)
        except PgsluiceError as error:
            self._remaining[table] = error
