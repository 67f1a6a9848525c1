"""The transaction that changes the target, and the proof of its outcome where COMMIT got no answer."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import psycopg
from psycopg import sql

from pgsluice import locks
from pgsluice.errors import CommitAbortedError, CommitUnknownError, LockLostError, PgsluiceError, StalledError
from pgsluice.hashing import Digest, Hashing
from pgsluice.job import Verify
from pgsluice.model import MergeResult, Reached, TableReport
from pgsluice.names import Names
from pgsluice.plan import SyncPlan
from pgsluice.servers import Servers
from pgsluice.steps import audit, merge, promotion, state, swap, watermark
from pgsluice.steps.staging import TEMPORARY_SCHEMA
from pgsluice.steps.state import CONTROL_SCHEMA

Steps = Callable[[str], AbstractContextManager[None]]


class Outcome(enum.Enum):
    """What became of a COMMIT that got no answer."""

    COMMITTED = "the target proves that it was committed"
    ABORTED = "the target proves that it was rolled back"
    UNKNOWN = "the target can't be asked"


class Merge:
    """One job's part of the transaction that changes targets: enter, look, delete, write, settle."""

    def __init__(  # noqa: PLR0913, PLR0917 - what one merge needs
        self,
        servers: Servers,
        names: Names,
        plan: SyncPlan,
        staged: merge.Staged,
        keys: merge.Staged | None,
        step: Steps,
        holder: int | None = None,
        sent: tuple[Hashing, Digest] | None = None,
    ) -> None:
        """Keep what is needed; nothing is done yet.

        Args:
            servers: of the run.
            names: of the transaction.
            plan: of the job.
            staged: the rows.
            keys: the source's keys in scope, where the plan sweeps.
            step: gives the context that each step runs in, by its name.
            holder: pid of the session that has kept other runs away since the rows were read, or None where none did.
            sent: how the source's rows were hashed, and what they came to; None where they were not.
        """
        self._servers = servers
        self._names = names
        self.plan = plan
        self._staged = staged
        self._keys = keys
        self._step = step
        self._holder = holder
        self._sent = sent
        is_merged = not (plan.promoted or plan.replaces)
        self._merging = merge.Merging(servers.writer, plan, staged, keys) if is_merged else None
        self._replaced = 0
        self._merged: MergeResult | None = None

    def enter(self) -> None:
        """Take the job's fence, and see that no other run has come between.

        Raises:
            LockLostError: one may have.
        """
        writer, plan, holder = self._servers.writer, self.plan, self._holder
        self._note_names()
        holders = locks.fence(writer, CONTROL_SCHEMA, plan.job.target, plan.options.lock_timeout)
        if holder is not None and holder not in holders:
            raise LockLostError(hint="Nothing was merged; run again.", step="merge", table=str(plan.job.target))

    def _note_names(self) -> None:
        """Take note of what the names mean that the merge goes by; of temporary tables no other session sees any."""
        target = self.plan.job.target
        tables = [each.table.ref for each in (self._staged, self._keys) if each]
        named = [target, *(ref for ref in tables if ref.schema != TEMPORARY_SCHEMA)]
        becomes = self.plan.promoted or self.plan.replaces
        self._names.note([*named, *state.tables(CONTROL_SCHEMA)], {target: tables[0]} if becomes else None)

    def look(self) -> None:
        """See that all is as it shall be, and what has to be done. Nothing is changed but by drift's ALTER."""
        writer, plan, staged = self._servers.writer, self.plan, self._staged
        if self._merging:
            self._merging.look()
        elif plan.replaces:  # while the target's readers need not wait
            self._replaced = swap.look(writer, plan, staged.rows)
            if plan.options.verify is not Verify.NONE:
                with self._step("verify"):
                    audit.filled(writer, staged.table, staged.rows)
                    self._compare()

    def delete(self, *, is_last: bool = False) -> bool:
        """Delete what is gone, and tell whether that is done: else it waits until all is written (`is_last`)."""
        if self.plan.deletes or self.plan.reading.starts_over:
            self._names.check()
        return self._merging is None or self._merging.delete(is_last=is_last)

    def write(self) -> None:
        """Write what differs; a table that was missing gets its place and name."""
        plan, staged = self.plan, self._staged
        self._names.check()
        if self._merging:
            self._merging.write()
        elif plan.replaces:
            self._merged = swap.swap(self._servers.writer, plan, staged.table, staged.rows, self._replaced)
        elif plan.promoted:
            self._merged = promotion.promote(self._servers.writer, plan, plan.promoted, staged.table, staged.rows)
            self._staged = merge.Staged(dataclasses.replace(staged.table, ref=plan.job.target), staged.rows)

    def settle(self) -> tuple[MergeResult, Reached]:
        """See that the rows have arrived, and say how far the job has come."""
        writer, plan = self._servers.writer, self.plan
        merged = self._merging.result if self._merging else self._merged
        if merged is None:
            raise LookupError("nothing was written yet")
        written = time.monotonic()
        if plan.options.verify is not Verify.NONE and not plan.replaces:
            with self._step("verify"):
                arrived = audit.arrived(writer, plan, self._staged.table, merged, self._triggers)
                merged = dataclasses.replace(merged, target_count=arrived)
                self._compare()
        with self._step("watermark") if plan.reading.cursor else contextlib.nullcontext():
            reached = watermark.settle(writer, plan, self._staged.table)
        if merged.locked_seconds:
            locked = merged.locked_seconds + time.monotonic() - written
            merged = dataclasses.replace(merged, locked_seconds=locked)
        return merged, reached

    @property
    def _triggers(self) -> tuple[str, ...]:
        return self._merging.triggers if self._merging else ()

    def _compare(self) -> None:
        """See that the rows are those of the source, where that was asked for."""
        if self._sent:
            audit.same(self._servers.writer, self.plan, self._staged.table, *self._sent, self._triggers)


def carry(merge_: Merge, step: Steps) -> tuple[MergeResult, Reached]:
    """Go through all phases of a job that commits alone."""
    with step("merge"):
        merge_.enter()
        merge_.look()
        is_done = merge_.delete()
        merge_.write()
        if not is_done:
            merge_.delete(is_last=True)
    return merge_.settle()


def carry_together(servers: Servers, merges: Sequence[tuple[Merge, Steps]]) -> list[tuple[MergeResult, Reached]]:
    """Go through each phase with all jobs that commit together: parents are written first, and deleted last.

    Locks are taken by the names of the targets, so that two runs never wait for each other in a circle. Constraints
    that can be deferred are looked at when all is written.

    Args:
        servers: of the run.
        merges: parents first, each with what gives its steps their context.
    """
    servers.writer.execute(sql.SQL("SET CONSTRAINTS ALL DEFERRED"))
    for each, step in sorted(merges, key=lambda pair: pair[0].plan.job.target):
        with step("merge"):
            each.enter()
            each.look()
    postponed = []
    for each, step in reversed(merges):
        with step("merge"):
            if not each.delete():
                postponed.append((each, step))
    for each, step in merges:
        with step("merge"):
            each.write()
    for each, step in postponed:
        with step("merge"):
            each.delete(is_last=True)
    settled = [each.settle() for each, _ in merges]
    servers.writer.execute(sql.SQL("SET CONSTRAINTS ALL IMMEDIATE"))
    return settled


def remember(servers: Servers, plan: SyncPlan, reached: Reached, report: TableReport) -> None:
    """Write the job's state and outcome inside the same transaction."""
    if plan.reading.moves:
        state.advance(servers.writer, CONTROL_SCHEMA, plan, report.run_id, reached)
    state.record(servers.writer, CONTROL_SCHEMA, plan.job_id, report)


@contextlib.contextmanager
def provable(
    servers: Servers,
    plan: SyncPlan,
    run_id: str,
    warn: Callable[[str], None],
    committing: AbstractContextManager[None] | None = None,
) -> Iterator[Names]:
    """Run the block in a transaction of the writer that also records the run's job, and commit it.

    The names that it takes note of mean the same when all is done, or nothing is.

    A connection that breaks before COMMIT and one that breaks after it look alike to us. So the outcome is asked of
    the target: the record that the block wrote is there, or it is not.

    Args:
        servers: of the run.
        plan: of the job.
        run_id: under which the block records it (`state.record`).
        warn: told where a commit had to be proven.
        committing: entered around COMMIT alone.

    Raises:
        TemporaryError: a name means something else than it did.
        CommitAbortedError: the connection broke during COMMIT, and it was rolled back.
        CommitUnknownError: the same, and it is not known whether it was; `outcome` can be asked again.
        BaseException: what interrupted COMMIT; the target is whole, old or new.
    """
    try:
        with servers.writer.transaction(provable=True, committing=committing):
            names = Names(servers.writer)
            yield names
            names.check()
    except CommitUnknownError as error:
        became = outcome(servers, plan, run_id)
        if became is Outcome.COMMITTED:
            warn(f"the connection broke during COMMIT; {became.value}")
        if error.__cause__ and not isinstance(error.__cause__, psycopg.Error | StalledError):
            raise error.__cause__ from None
        if became is not Outcome.COMMITTED:
            raise unsettled(became, plan, run_id, error.sqlstate) from error


def outcome(servers: Servers, plan: SyncPlan, run_id: str) -> Outcome:
    """Ask the target what became of a COMMIT that got no answer.

    Getting the fence proves that the old backend is gone: before that, a look is taken too early and decides wrong. A
    backend that does not let go is ended; what it was about to commit is then committed or not, and can be seen.
    """
    servers.abandon_writer()
    job, patience = plan.job_id, plan.options.lock_timeout
    try:
        control = servers.revive_control()
        try:
            proven = state.committed(control, CONTROL_SCHEMA, run_id, job, plan.job.target, patience)
        except psycopg.errors.LockNotAvailable:
            servers.end_lost("target")
            proven = state.committed(control, CONTROL_SCHEMA, run_id, job, plan.job.target, patience)
    except (psycopg.Error, PgsluiceError):
        return Outcome.UNKNOWN
    return Outcome.COMMITTED if proven else Outcome.ABORTED


def unsettled(became: Outcome, plan: SyncPlan, run_id: str, sqlstate: str | None = None) -> PgsluiceError:
    """Return the error that an outcome other than `COMMITTED` is."""
    kind = CommitAbortedError if became is Outcome.ABORTED else CommitUnknownError
    hint = (
        "Nothing was changed; run again."
        if became is Outcome.ABORTED
        else f"Run `pgsluice status` when it is back: run {run_id} is listed as done if it was committed."
        " Running again is safe either way."
    )
    return kind(
        f"the connection broke during COMMIT; {became.value}",
        hint=hint,
        step="commit",
        table=str(plan.job.target),
        sqlstate=sqlstate,
    )
