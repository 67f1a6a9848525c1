"""``pgsluice forget``."""

from __future__ import annotations

import json
import sys

import click

from pgsluice.cli.completion import jobs
from pgsluice.cli.options import target_only
from pgsluice.cli.render import say
from pgsluice.endpoint import Endpoint
from pgsluice.errors import UsageError
from pgsluice.job import TableRef, known_as
from pgsluice.retry import translated
from pgsluice.run import new_run_id
from pgsluice.steps import state
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.turn import Turn
from pgsluice.units import several


@click.command()
@target_only
@click.argument("table", metavar="TARGET", shell_complete=jobs)
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(target: Endpoint, as_json: bool, table: str, yes: bool) -> int:
    """Forget that a TARGET was ever to be done, and where its jobs stand; its history and its rows stay.

    `status --max-age` waits for it no more. A later run of a job begins from the start.

    \b
    pgsluice forget raw.orders_try --target service=lake
    """
    name = known_as(table)
    with translated("forget"), target.open() as session:
        sources = [source for source, known in state.known(session, CONTROL_SCHEMA) if known == name]
        positions = [each for each in state.positions(session, CONTROL_SCHEMA, name) if each.target == name]
        if not sources and not positions:
            raise UsageError(
                f"no job of this target writes {table}", hint="`pgsluice status --tables` lists what is known."
            )
        _ask(f"{session.described}: forget {name}, and {several(len(positions), 'position')} of its jobs?", yes=yes)
        Turn(CONTROL_SCHEMA).hold(session, TableRef.parse(name))
        with session.transaction():
            forgotten = state.forget_target(session, CONTROL_SCHEMA, new_run_id(), name)
    if as_json:
        click.echo(json.dumps({"target": name, "sources": sources, "positions": forgotten}, ensure_ascii=False))
    else:
        say(f"{name}: forgotten; its history stays, and a later run begins from the start")
    return 0


def _ask(question: str, *, yes: bool) -> None:
    """Go on where the user says so.

    Raises:
        UsageError: nobody can be asked.
        click.exceptions.Exit: the answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("whether to forget it has to be asked, and there is no terminal", hint="Say so with --yes.")
    if not click.confirm(question, err=True):
        raise click.exceptions.Exit(1)
