"""Pure: when a target can be replaced by a new table as a whole, and what that means for who reads it."""

from __future__ import annotations

from collections.abc import Iterator

from pgsluice.facts import Facts
from pgsluice.job import Mode, Options, StagingKind, SyncJob
from pgsluice.policies import DeletePolicy, Drift
from pgsluice.units import several


def refusals(job: SyncJob, facts: Facts, options: Options) -> Iterator[str]:
    """Say why a job can't replace its target: rows or values would be lost that are not the source's.

    Args:
        job: what the user asks for.
        facts: of both servers.
        options: how; the strategy is `SWAP`.
    """
    target = facts.target_table
    reasons = {
        f"mode {job.mode} does not copy everything": job.mode is not Mode.FULL,
        "the condition leaves out rows that the target may have": job.where is not None,
        f"rows that are gone from the source stay (--deletes {job.deletion})": (
            job.deletion.policy is not DeletePolicy.SWEEP
        ),
        "a constant tells this job's rows from others'": bool(job.shape.scope),
        "the target would have to be altered (--drift)": job.drift not in {Drift.FAIL, Drift.IGNORE},
        f"it commits together with {others(facts)}: sync it alone": bool(facts.together),
        "what a killed run leaves is no table that another can fill (--resumable)": options.keeps_staging,
        f"its rows become the table, which {options.staging} staging can't": (
            options.staging in {StagingKind.TEMPORARY, StagingKind.UNLOGGED}
        ),
    }
    for reason in (reason for reason, holds in reasons.items() if holds and target):
        yield f"{job.target} can't be replaced (--strategy swap): {reason}."
    lost = [
        column.name
        for column in (target.columns if target else ())
        if not column.generated and facts.source_table.column(column.name) is None
    ]
    if lost:
        yield (
            f"{job.target} can't be replaced (--strategy swap): the values of {', '.join(lost)}, which the source"
            " does not have, would be lost. Use --strategy copy."
        )


def others(facts: Facts) -> str:
    """Return what a table commits together with, in a few words: a group of hundreds is told once, by its first."""
    first, *more = map(str, facts.together or ("nothing",))
    return f"{first} and {several(len(more), 'other')}" if more else first


def notes(facts: Facts) -> Iterator[str]:
    """Say what a swap means for others."""
    yield "a reader whose REPEATABLE READ transaction began before the copy finds the new table empty"
    if facts.target_table and facts.target_table.triggers:
        yield f"triggers of {facts.target_table.ref} do not fire for the rows of the new table"
