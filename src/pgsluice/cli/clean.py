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
    r"""Drop the staging tables that dead runs have left, and only those.

    \b
    pgsluice clean --target service=lake
    """
    with translated("clean"), Endpoint(target, read_only=False).open() as session:
        dropped = staging.sweep(session, CONTROL_SCHEMA)
    if as_json:
        click.echo(json.dumps({"dropped": dropped}))
    else:
        click.echo("\n".join(f"dropped {name}" for name in dropped) or "Nothing to drop.")
    return 0
