"""``pgsluice clean``."""

from __future__ import annotations

import json

import click

from pgsluice.cli.options import target_only
from pgsluice.retry import translated
from pgsluice.session import Endpoint
from pgsluice.steps import staging
from pgsluice.steps.state import CONTROL_SCHEMA


@click.command()
@target_only
def clean(target: str, as_json: bool) -> int:
    """Drop the staging tables that dead runs have left, and only those.

    \b
    pgsluice clean --target service=lake
    """
    with translated("clean"), Endpoint(target, read_only=False).open() as session:
        swept = staging.sweep(session, CONTROL_SCHEMA)
    if as_json:
        click.echo(json.dumps({"dropped": swept.dropped, "kept": dict(swept.kept)}))
        return 0
    for name in swept.dropped:
        click.echo(f"dropped {name}")
    for name, reason in swept.kept:
        click.echo(f"left {name}, whose run is dead too: {reason}")
    if not (swept.dropped or swept.kept):
        click.echo("Nothing to drop.")
    return 0
