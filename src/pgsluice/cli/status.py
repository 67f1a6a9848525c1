"""``pgsluice status``."""

from __future__ import annotations

import dataclasses
import json

import click

from pgsluice.cli.options import option, target_only
from pgsluice.endpoint import Endpoint
from pgsluice.retry import translated
from pgsluice.steps import staging, state
from pgsluice.steps.state import CONTROL_SCHEMA


@click.command()
@target_only
@option("--last", type=click.IntRange(1), default=10, show_default=True, help="How many runs.")
def status(target: str, as_json: bool, last: int) -> int:
    """Show the last runs, from the control schema of the target.

    \b
    pgsluice status --target service=lake --last 3
    """
    with translated("status"), Endpoint(target, read_only=False).open() as session:
        runs = state.last_runs(session, CONTROL_SCHEMA, last)
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


def _as_text(run: state.RunRow) -> str:
    lines = [f"{run.run_id}  {run.status}  started {run.started}, finished {run.finished or 'never'}"]
    for table in run.tables:
        counts = ", ".join(f"{name} {table[name]:,}" for name in ("inserted", "updated", "unchanged", "deleted"))
        outcome = counts if table["status"] == "done" else f"{table['step']}: {table['error']}"
        reached = f"  watermark {table['watermark']}" if table.get("watermark") else ""
        lines.append(f"  {table['target']}  {table['status']}  {outcome}  {table['seconds']:.2f} s{reached}")
    return "\n".join(lines)
