"""The transaction that changes the target, and the proof of its outcome where COMMIT got no answer."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import psycopg

from pgsluice import locks
from pgsluice.errors import CommitUnknownError, PgsluiceError
from pgsluice.model import MergeResult, Reached, TableReport
from pgsluice.plan import SyncPlan
from pgsluice.servers import Servers
from pgsluice.steps import audit, merge, state, watermark
from pgsluice.steps.state import CONTROL_SCHEMA

Steps = Callable[[str], AbstractContextManager[None]]


def merge_staged(
    servers: Servers, plan: SyncPlan, staged: merge.Staged, keys: merge.Staged | None, step: Steps
) -> tuple[MergeResult, Reached]:
    """Carry staged rows into the target inside the writer's open transaction, and say how far the job has come.

    Args:
        servers: of the run.
        plan: of the job.
        staged: the rows.
        keys: the source's keys in scope, where the plan sweeps.
        step: gives the context that each step runs in, by its name.
    """
    writer = servers.writer
    with step("merge"):
        locks.fence(writer, plan.job.target, plan.options.lock_timeout)
        merged = merge.apply(writer, plan, staged, keys)
    if plan.options.verify:
        with step("verify"):
            arrived = audit.arrived(writer, plan, staged.table, merged)
            merged = dataclasses.replace(merged, target_count=arrived)
    with step("watermark") if plan.reading.cursor else contextlib.nullcontext():
        return merged, watermark.settle(writer, plan, staged.table)


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
) -> Iterator[None]:
    """Run the block in a transaction of the writer that also records the run's job, and commit it.

    A connection that breaks before COMMIT and one that breaks after it look alike to us. So the outcome is asked of
    the target: the record that the block wrote is there, or it is not.

    Args:
        servers: of the run.
        plan: of the job.
        run_id: under which the block records it (`state.record`).
        warn: told where a commit had to be proven.
        committing: entered around COMMIT alone.

    Raises:
        CommitUnknownError: not committed, or not known; says which.
        KeyboardInterrupt: it came during COMMIT; the target is whole, old or new.
    """
    try:
        with servers.writer.transaction(committing=committing):
            yield
    except CommitUnknownError as error:
        interrupted = isinstance(error.__cause__, KeyboardInterrupt)
        with contextlib.suppress(CommitUnknownError) if interrupted else contextlib.nullcontext():
            _prove(servers, plan, run_id, error)
            warn("the connection broke during COMMIT; the target proves that it was committed")
        if interrupted:
            raise KeyboardInterrupt from None


def _prove(servers: Servers, plan: SyncPlan, run_id: str, unknown: CommitUnknownError) -> None:
    """Return where the commit is proven, raise where it is not."""
    target = plan.job.target
    servers.abandon_writer()
    try:
        proven = state.committed(
            servers.revive_control(), CONTROL_SCHEMA, run_id, plan.job_id, target, plan.options.lock_timeout
        )
    except (psycopg.Error, PgsluiceError):
        raise CommitUnknownError(
            "the connection broke during COMMIT and the target can't be asked what became of it",
            hint=f"Run `pgsluice status` when it is back: run {run_id} is listed as done if it was committed."
            " Running again is safe either way.",
            step="commit",
            table=str(target),
            sqlstate=unknown.sqlstate,
        ) from unknown
    if not proven:
        raise CommitUnknownError(
            "the connection broke during COMMIT; the target proves that it was rolled back",
            hint="Nothing was changed; run again.",
            step="commit",
            table=str(target),
            sqlstate=unknown.sqlstate,
        ) from unknown
