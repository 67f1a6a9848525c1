"""``pgsluice status``."""

from __future__ import annotations

import dataclasses
import json

import click

from pgsluice.cli.options import option, target_only
from pgsluice.retry import translated
from pgsluice.session import Endpoint
from pgsluice.steps import state
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
    for run in runs:
        click.echo(json.dumps(dataclasses.asdict(run), ensure_ascii=False) if as_json else _as_text(run))
    if as_json:
        click.echo(json.dumps({"runs": len(runs)}))
    elif not runs:
        click.echo("No run has written to this target yet.")
    return 0


def _as_text(run: state.RunRow) -> str:
    lines = [f"{run.run_id}  {run.status}  started {run.started}, finished {run.finished or 'never'}"]
    for table in run.tables:
        counts = ", ".join(f"{name} {table[name]:,}" for name in ("inserted", "updated", "unchanged", "deleted"))
        outcome = counts if table["status"] == "done" else f"{table['step']}: {table['error']}"
        reached = f"  watermark {table['watermark']}" if table.get("watermark") else ""
        lines.append(f"  {table['target']}  {table['status']}  {outcome}  {table['seconds']:.2f} s{reached}")
    return "\n".join(lines)
