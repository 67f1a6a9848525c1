"""The delete guard: nothing goes because the source, or staging, merely looked empty."""

from __future__ import annotations

from pgsluice.errors import DeleteGuardError
from pgsluice.job import Mode, Strategy
from pgsluice.plan import SyncPlan


def check(plan: SyncPlan, gone: int, total: int, present: int) -> None:
    """See that no more rows go than the user allows.

    Args:
        plan: of the job.
        gone: rows of the target that would go.
        total: rows of the target in scope.
        present: rows of the source in scope.

    Raises:
        DeleteGuardError: more would go.
    """
    limit = plan.options.max_delete
    if limit.allows(gone, total, present):
        return
    share = f"{100 * gone / total:.3g} %"
    empty = "" if present else " because the source has no rows in scope"
    keeps_none = plan.reading.starts_over or plan.strategy is Strategy.SWAP
    keep = "" if keeps_none else f" To keep rows that are gone from the source, use {_keeping(plan)}."
    raise DeleteGuardError(
        f"{gone} of {total} rows ({share}) would be deleted{empty}, and the limit is {limit}",
        hint=f"If that is right, run again with --max-delete {gone}.{keep}",
        step="guard",
    )


def _keeping(plan: SyncPlan) -> str:
    return "--mode upsert" if plan.job.mode is Mode.FULL and plan.job.deletes is None else "--deletes keep"
