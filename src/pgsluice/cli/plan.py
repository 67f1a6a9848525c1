"""``pgsluice plan``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import click

from pgsluice import sqltext, visible
from pgsluice.cli.completion import remember
from pgsluice.cli.options import selection
from pgsluice.cli.overview import overview, reasons
from pgsluice.cli.render import Header, say
from pgsluice.cli.sync import listening
from pgsluice.endpoint import Endpoint
from pgsluice.errors import PgsluiceError, PlanError
from pgsluice.fidelity import Verdict
from pgsluice.job import Options, Selection, SyncJob
from pgsluice.model import TableReport
from pgsluice.plan import SyncPlan
from pgsluice.run import Run, statements
from pgsluice.units import several, size


@click.command()
@selection
@click.option("--sql", is_flag=True, help="Print every statement of every table, as is done for a single one.")
@click.option("--exact", is_flag=True, help="Copy the rows into staging tables too, and count what would change.")
def plan(
    source: Endpoint,
    target: Endpoint,
    chosen: Selection | tuple[SyncJob, ...],
    options: Options,
    as_json: bool,
    sql: bool,
    exact: bool,
) -> int:
    """Print what `sync` would do with the same options: of one table all, SQL included, of several a line each.

    Writes nothing; with --exact, staging tables and nothing else, and these are dropped.

    \b
    pgsluice plan --source service=shop --target service=lake --table sales.orders
    """
    header = Header(as_json=as_json)
    outcomes = Run(source, target, options, (header,)).plan(chosen)
    remember(source, (job.source for job, _ in outcomes))
    counted: dict[str, TableReport] = {}
    if exact and any(isinstance(outcome, SyncPlan) for _, outcome in outcomes):
        with listening("text", quiet=False) as sinks:
            counted = {table.target: table for table in Run(source, target, options, sinks).preview(chosen).tables}
    reports = [counted.get(str(job.target)) if isinstance(outcome, SyncPlan) else None for job, outcome in outcomes]
    if as_json:
        for (job, outcome), report in zip(outcomes, reports, strict=True):
            click.echo(json.dumps(_as_dict(job, outcome, report), ensure_ascii=False))
    elif len(outcomes) == 1 or sql:
        for (job, outcome), report in zip(outcomes, reports, strict=True):
            say(*_lines(job, outcome, report, shown=str if sql else visible.shortened))
    else:
        say(*overview(outcomes, reports, options))
    failed = [outcome for _, outcome in outcomes if isinstance(outcome, PgsluiceError)]
    if as_json:
        click.echo(json.dumps({"planned": len(outcomes) - len(failed), "refused": len(failed), **header.summary}))
    codes = {error.exit_code for error in failed} | {table.exit_code for table in counted.values() if table.exit_code}
    return codes.pop() if len(codes) == 1 else 6 if codes else 0


def _as_dict(job: SyncJob, outcome: SyncPlan | PgsluiceError, counted: TableReport | None) -> dict[str, Any]:
    head = {"source": str(job.source), "target": str(job.target), "mode": job.mode.value}
    if isinstance(outcome, PgsluiceError):
        refusals = outcome.refusals if isinstance(outcome, PlanError) else (outcome.message,)
        return {**head, "status": "refused", "exit_code": outcome.exit_code, "refusals": refusals, "hint": outcome.hint}
    table = outcome.facts.source_table
    return {
        **head,
        "status": "planned",
        "job_id": outcome.job_id,
        "reading": outcome.reading.reason,
        "late_rows": str(outcome.reading.late) if outcome.reading.late else None,
        "late_rows_reason": outcome.reading.late_reason or None,
        "deletes": str(outcome.job.deletion),
        "rows_estimated": table.rows,
        "bytes": table.bytes,
        "estimate": outcome.estimate and {**outcome.estimate.to_dict(), "is_part": outcome.estimate.is_part},
        "columns": {
            each.name: {
                "source": each.source,
                "type": each.target,
                "verdict": each.verdict,
                "reason": each.reason,
                "read_as": _read_as(outcome, each.name),
            }
            for each in outcome.fidelity
        },
        "alterations": [str(change) for change in outcome.alterations],
        "key": outcome.key.columns,
        "key_reason": outcome.key_reason,
        "staging": outcome.staging.value,
        "staging_reason": outcome.staging_reason,
        "strategy": outcome.strategy.value,
        "strategy_reason": outcome.strategy_reason,
        "expected_rows": outcome.forecast.rows,
        "expected_hash_bytes": outcome.forecast.hashes,
        "lane": outcome.copy.lane.value,
        "lane_reason": outcome.copy.lane_reason,
        "format": outcome.copy.format.value,
        "format_reason": outcome.copy.format_reason,
        "creates": outcome.creation is not None,
        "max_delete": str(outcome.options.max_delete) if outcome.deletes else None,
        "exact": _exact(counted) if counted else None,
        "notes": counted.notes if counted else outcome.notes,
        "statements": [{"step": step, "sql": text} for step, text in statements(outcome)],
    }


def _exact(counted: TableReport) -> dict[str, Any]:
    counts = {name: getattr(counted, name) for name in ("inserted", "updated", "unchanged", "deleted")}
    return {**counts, "seconds": round(counted.seconds, 3), "error": counted.error, "hint": counted.hint or None}


def _lines(
    job: SyncJob, outcome: SyncPlan | PgsluiceError, counted: TableReport | None, shown: Callable[[str], str]
) -> Iterator[str]:
    if isinstance(outcome, PgsluiceError):
        yield f"{job.source} -> {job.target}: refused ({job.mode})"
        yield from (f"  {line}" for line in reasons(outcome))
        return
    table = outcome.facts.source_table
    rows = f"about {several(table.rows, 'row')}" if table.rows >= 0 else "rows not estimated"
    yield f"{job.source} -> {job.target}: {job.mode}{_deletes(outcome)}"
    yield f"  source   PostgreSQL {outcome.facts.source.major}, {rows}, {size(table.bytes)}"
    yield f"  target   PostgreSQL {outcome.facts.target.major}, table {'is created' if outcome.creation else 'exists'}"
    yield f"  reads    {outcome.reading.reason}"
    if outcome.reading.late:
        yield f"  late     {outcome.reading.late}: {outcome.reading.late_reason}"
    yield f"  key      {', '.join(outcome.key.columns) or 'none'} ({outcome.key_reason})"
    yield from _columns(outcome, shown)
    if outcome.creation is None:
        yield f"  strategy {outcome.strategy}: {outcome.strategy_reason}"
        yield f"  sends    {outcome.forecast}"
    yield f"  staging  {outcome.staging}: {outcome.staging_reason}"
    yield f"  disk     {outcome.estimate or 'not known: the source shows no size'}"
    yield f"  lane     {outcome.copy.lane}: {outcome.copy.lane_reason}"
    yield f"  format   {outcome.copy.format}: {outcome.copy.format_reason}"
    if counted and counted.error:
        yield f"  exact    not counted: {visible.joined(counted.error)} {counted.hint}".rstrip()
    elif counted:
        yield (
            f"  exact    inserts {counted.inserted:,}, updates {counted.updated:,}, leaves {counted.unchanged:,},"
            f" deletes {counted.deleted:,} (counted in {counted.seconds:.1f} s)"
        )
    for note in counted.notes if counted and not counted.error else outcome.notes:
        yield f"  note     {note}"
    for step, text in statements(outcome):
        yield f"  -- {step}"
        yield from (f"  {line}" for line in shown(visible.statement(f"{text};")).split("\n"))


def _read_as(plan: SyncPlan, name: str) -> str | None:
    """Return what the source is asked for in a column's place, where that is not the column itself."""
    column = plan.facts.source_table.column(name)
    return sqltext.selection([name], [column.origin]).as_string(None) if column and column.origin else None


def _columns(plan: SyncPlan, shown: Callable[[str], str]) -> Iterator[str]:
    """Count what travels in binary, and say of each other column what becomes of it, and why."""
    plain = sum(each.verdict is Verdict.BINARY for each in plan.fidelity)
    left = [column.name for column in plan.facts.source_table.columns if column.name not in plan.names]
    yield f"  columns  {plain} of {len(plan.fidelity) + len(left)}: {Verdict.BINARY}"
    for each in plan.fidelity:
        if each.verdict is not Verdict.BINARY:
            yield f"           {each.name}: {each.verdict}: {each.reason.removeprefix(f'{each.name} is ')}"
        if expression := _read_as(plan, each.name):
            yield f"           {each.name}: read as {shown(visible.statement(expression))}"
    target = plan.creation or plan.facts.target_table
    computed = {column.name for column in (target.columns if target else ()) if column.generated}
    for name in left:
        yield f"           {name}: {'computed on the target' if name in computed else 'not copied'}"


def _deletes(plan: SyncPlan) -> str:
    if not plan.deletes:
        return "; no deletes"
    what = f"marks as deleted ({plan.mark})" if plan.mark else "deletes"
    return f"; {what} up to {plan.options.max_delete} of the rows in scope"
