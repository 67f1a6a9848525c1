"""``pgsluice clean``."""

from __future__ import annotations

import json

import click

from pgsluice import control, presence
from pgsluice.cli.options import target_only
from pgsluice.cli.render import say
from pgsluice.endpoint import Endpoint
from pgsluice.retry import translated
from pgsluice.steps import staging
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.turn import Turn


@click.command()
@target_only
@click.option("--kept", is_flag=True, help="Drop those too that are kept for `sync --resume`.")
def clean(target: Endpoint, as_json: bool, kept: bool) -> int:
    """Drop the staging tables that dead runs have left, and only those.

    \b
    pgsluice clean --target service=lake
    """
    with translated("clean"), target.open() as session:
        control.missing(session, CONTROL_SCHEMA)
        Turn(CONTROL_SCHEMA).end_dead_runs(session)
        presence.sweep()
        swept = staging.sweep(session, CONTROL_SCHEMA, also_kept=kept)
    not_ours = (*swept.passed_over, *swept.others)
    if as_json:
        kept_names = [str(each.ref) for each in swept.waiting]
        odd = {"passed_over": dict(not_ours)}
        click.echo(
            json.dumps(
                {"dropped": swept.dropped, "left": dict(swept.left), "kept": kept_names, **odd}, ensure_ascii=False
            )
        )
        return 0
    for name in swept.dropped:
        say(f"dropped {name}")
    for name, reason in swept.left:
        say(f"left {name}, whose run is dead too: {reason}")
    for each in swept.waiting:
        say(f"kept {each.ref} for --resume {each.run_id}, until {each.until}")
    for name, why in not_ours:
        say(f"passed over {name}: {why}")
    if not (swept.dropped or swept.left or swept.waiting):
        click.echo("Nothing to drop.")
    return 0
