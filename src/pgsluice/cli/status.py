"""``pgsluice status``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import click

from pgsluice.cli.options import option, target_only
from pgsluice.endpoint import Dsn, Endpoint
from pgsluice.retry import translated
from pgsluice.steps import staging, state
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.units import seconds_of, span


@click.command()
@target_only
@option("--last", type=click.IntRange(1), default=10, show_default=True, help="How many runs.")
@click.option("--tables", is_flag=True, help="What became of each table last, instead of runs.")
@option("--max-age", metavar="SPAN", help="Exit 1 where a table was not done for longer, or nothing ever was: 26h, 7d.")
def status(target: Dsn, as_json: bool, last: int, tables: bool, max_age: str | None) -> int:
    """Show the last runs, or what became of each table last, from the control schema of the target.

    \b
    pgsluice status --target service=lake --last 3
    pgsluice status --target service=lake --max-age 26h
    """
    limit = seconds_of(max_age) if max_age else None
    with translated("status"), Endpoint(target, read_only=False).open() as session:
        if tables or limit is not None:
            return _tables(state.last_tables(session, CONTROL_SCHEMA), limit, as_json=as_json)
        runs = state.runs(session, CONTROL_SCHEMA, limit=last)
        kept = staging.waiting(session, CONTROL_SCHEMA)
    for run in runs:
        click.echo(json.dumps(dataclasses.asdict(run), ensure_ascii=False) if as_json else _as_text(run))
    waiting = [
        {"staging": str(each.ref), "run_id": each.run_id, "target": each.target, "until": each.until} for each in kept
    ]
    if as_json:
        click.echo(json.dumps({"runs": len(runs), "kept": waiting}, ensure_ascii=False))
    elif not runs:
        click.echo("No run has written to this target yet.")
    for each in () if as_json else kept:
        click.echo(f"kept for --resume {each.run_id}: {each.ref} ({each.target}), until {each.until}")
    return 0


def _tables(found: Sequence[state.TableRow], limit: float | None, *, as_json: bool) -> int:
    late = [each for each in found if limit is not None and (each.age is None or each.age > limit)]
    for each in found:
        is_late = each in late
        if as_json:
            click.echo(json.dumps({**dataclasses.asdict(each), "is_late": is_late}, ensure_ascii=False))
            continue
        done = f"done {span(each.age)} ago" if each.age is not None else "never done"
        rows = f", {each.report['target_count']:,} rows" if each.report.get("target_count", -1) >= 0 else ""
        reached = f", watermark {each.report['watermark']}" if each.report.get("watermark") else ""
        click.echo(f"{'LATE  ' if is_late else ''}{each.source} -> {each.target}: {done}{rows}{reached}")
        if each.status != "done":
            click.echo(f"  {each.status} since ({each.recorded}): {each.report.get('error')}")
            if each.report.get("hint"):
                click.echo(f"  {each.report['hint']}")
    if as_json:
        click.echo(json.dumps({"tables": len(found), "late": len(late)}))
    elif not found:
        click.echo("No run has written to this target yet.")
    elif limit is not None:
        click.echo(f"{len(late)} of {len(found)} tables were not done for longer than {span(limit)}")
    return 1 if late or (limit is not None and not found) else 0


def _as_text(run: state.RunRow) -> str:
    lines = [f"{run.run_id}  {run.status}  started {run.started}, finished {run.finished or 'never'}"]
    for table in run.tables:
        counts = ", ".join(f"{name} {table[name]:,}" for name in ("inserted", "updated", "unchanged", "deleted"))
        outcome = counts if table["status"] == "done" else f"{table['step']}: {table['error']}"
        reached = f"  watermark {table['watermark']}" if table.get("watermark") else ""
        lines.append(f"  {table['target']}  {table['status']}  {outcome}  {table['seconds']:.2f} s{reached}")
    return "\n".join(lines)
