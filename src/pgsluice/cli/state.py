"""``pgsluice state``."""

from __future__ import annotations

import dataclasses
import json

import click
import psycopg
from psycopg import sql

from pgsluice import sqltext
from pgsluice.cli.completion import jobs
from pgsluice.cli.options import target_only
from pgsluice.cli.render import say
from pgsluice.endpoint import Endpoint
from pgsluice.errors import UsageError
from pgsluice.job import TableRef, known_as
from pgsluice.retry import translated
from pgsluice.session import Session
from pgsluice.steps import state as states
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.turn import Turn


@click.group()
def state() -> None:
    """Look at where jobs that read on stand, and move them.

    \b
    pgsluice state show --target service=lake
    """


@state.command()
@target_only
@click.argument("job", required=False, shell_complete=jobs)
def show(target: Endpoint, as_json: bool, job: str | None) -> int:
    """Show where jobs stand: all of them, or those of a JOB's id, its target or its source.

    \b
    pgsluice state show --target service=lake
    """
    with translated("state"), target.looking().open() as session:
        found = states.positions(session, CONTROL_SCHEMA, known_as(job) if job else None)
    for each in found:
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(each), ensure_ascii=False))
            continue
        cursor = f" by {each.cursor}" if each.cursor else ""
        reached = f"watermark {each.watermark}" if each.watermark is not None else f"transaction {each.snapshot_xmin}"
        say(f"{each.job_id}  {each.source} -> {each.target} ({each.mode}{cursor}): {reached}")
        say(f"  by run {each.run_id}, {each.updated}")
    if not found and not as_json:
        click.echo("No job stands anywhere yet.")
    return 0


@state.command()
@target_only
@click.argument("job", shell_complete=jobs)
def reset(target: Endpoint, as_json: bool, job: str) -> int:
    """Forget where a JOB stands (its id, or its target where that has one job): its next run reads everything.

    \b
    pgsluice state reset raw.orders --target service=lake
    """
    with translated("state"), target.open() as session:
        found = _held(session, job)
        with session.transaction():
            states.forget(session, CONTROL_SCHEMA, found.job_id)
    _told(found, "forgotten: its next run reads everything", as_json=as_json)
    return 0


@state.command(name="set")
@target_only
@click.argument("job", shell_complete=jobs)
@click.argument("watermark")
def set_(target: Endpoint, as_json: bool, job: str, watermark: str) -> int:
    """Let a JOB of mode incremental read on from another WATERMARK; rows between the two are read again, or never.

    \b
    pgsluice state set raw.orders '2026-11-01' --target service=lake
    """
    with translated("state"), target.open() as session:
        found = _held(session, job)
        if found.cursor is None:
            raise UsageError(
                f"{found.target} is read in mode {found.mode}, which has no watermark", hint="Use state reset."
            )
        value = _as_the_column(session, found, watermark)
        with session.transaction():
            states.move(session, CONTROL_SCHEMA, found.job_id, value)
    _told(found, f"the next run reads from {value} on (it was {found.watermark})", as_json=as_json)
    return 0


def _held(session: Session, job: str) -> states.Position:
    """Return the one job that is meant, under its run lock: no run moves it meanwhile.

    Raises:
        UsageError: there is none, or there are several.
        BusyError: a run is at it.
    """
    name = known_as(job)
    found = [each for each in states.positions(session, CONTROL_SCHEMA, name) if name in {each.job_id, each.target}]
    if not found:
        raise UsageError(f"no job {job} stands anywhere on this target", hint="pgsluice state show lists them.")
    if len(found) > 1:
        listed = ", ".join(f"{each.job_id} ({each.source}, {each.mode})" for each in found)
        raise UsageError(f"{job} has several jobs: {listed}", hint="Name one by its id.")
    Turn(CONTROL_SCHEMA).hold(session, TableRef.parse(found[0].target))
    return found[0]


def _as_the_column(session: Session, job: states.Position, value: str) -> str:
    """Return a value as the target writes it in the cursor's column."""
    cursor, table = sql.Identifier(str(job.cursor)), sqltext.table(TableRef.parse(job.target))
    query = sql.SQL(
        "SELECT (SELECT max(v)::text FROM (SELECT {cursor} FROM {table} WHERE FALSE"
        " UNION ALL SELECT {value}) AS one (v))"
    )
    try:
        return str(session.row(query.format(cursor=cursor, table=table, value=sql.Literal(value)))[0])
    except psycopg.DataError:
        raise UsageError(f"{value!r} is no value of {job.cursor} of {job.target}") from None


def _told(found: states.Position, what: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(found), "done": what}, ensure_ascii=False))
    else:
        say(f"{found.source} -> {found.target} ({found.mode}): {what}")
