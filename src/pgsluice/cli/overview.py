"""Many plans at a glance: a line a table, what is refused and what should be known, and what all of it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from pgsluice.errors import PgsluiceError, PlanError
from pgsluice.job import Options, SyncJob, sessions
from pgsluice.model import TableReport
from pgsluice.plan import SyncPlan
from pgsluice.units import size
from pgsluice.visible import joined, one_line

Outcomes = Sequence[tuple[SyncJob, SyncPlan | PgsluiceError]]

_HEAD = ("table", "mode", "strategy", "rows", "size", "staging", "format", "reads")


def overview(outcomes: Outcomes, counted: Sequence[TableReport | None], options: Options) -> Iterator[str]:
    """Yield the lines.

    Args:
        outcomes: a plan, or why there is none, of each job.
        counted: what the merge of each would change, where that was counted.
        options: of the run.
    """
    rows = [_HEAD, *(_row(job, outcome) for job, outcome in outcomes)]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for (job, outcome), report in zip(outcomes, counted, strict=True):
        told = list(reasons(outcome)) if isinstance(outcome, PgsluiceError) else []
        if isinstance(outcome, SyncPlan):
            told = [*_exact(report), *(f"note: {note}" for note in outcome.notes)]
        if told:
            yield f"{job.target}:"
            yield from (f"  {line}" for line in told)
    yield from _total([outcome for _, outcome in outcomes if isinstance(outcome, SyncPlan)], len(outcomes), options)


def reasons(error: PgsluiceError) -> Iterator[str]:
    """Yield why there is no plan, a bullet for each reason; what to do about it is none."""
    for reason in error.refusals if isinstance(error, PlanError) else (error.message,):
        first, *rest = reason.split("\n")
        yield f"- {first}"
        yield from (f"  {line}" for line in rest)
    if error.hint:
        yield f"  {error.hint}"


def _row(job: SyncJob, outcome: SyncPlan | PgsluiceError) -> tuple[str, ...]:
    if isinstance(outcome, PgsluiceError):
        return (one_line(str(job.target)), job.mode.value, "refused", "", "", "", "", "")
    table = outcome.facts.source_table
    return (
        one_line(str(job.target)),
        job.mode.value,
        "create" if outcome.creation else outcome.strategy.value,
        f"{table.rows:,}" if table.rows >= 0 else "?",
        size(table.bytes),
        outcome.staging.value,
        outcome.copy.format.value,
        one_line(outcome.reading.reason),
    )


def _exact(report: TableReport | None) -> Iterator[str]:
    if report and report.error:
        yield f"not counted: {joined(report.error)} {report.hint}".rstrip()
    elif report:
        yield (
            f"inserts {report.inserted:,}, updates {report.updated:,}, leaves {report.unchanged:,},"
            f" deletes {report.deleted:,}"
        )


def _total(plans: Sequence[SyncPlan], jobs: int, options: Options) -> Iterator[str]:
    known = [plan.estimate for plan in plans if plan.estimate]
    staging, grown, wal = (size(sum(getattr(each, name) for each in known)) for name in ("staging", "target", "wal"))
    needed = sessions(options.workers)
    refused = f", {jobs - len(plans)} refused" if len(plans) < jobs else ""
    yield (
        f"{len(plans)} planned{refused}; on the target at most {staging} of staging, {grown} more in tables,"
        f" {wal} of WAL; at most {needed['source']} sessions on the source and {needed['target']} on the target"
    )
