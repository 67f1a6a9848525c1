"""``pgsluice status``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import psycopg

from pgsluice import visible
from pgsluice.cli.options import option, source_option, target_only
from pgsluice.cli.render import Header, indented, say
from pgsluice.endpoint import Endpoint
from pgsluice.errors import PgsluiceError, UsageError
from pgsluice.job import TableRef, known_as
from pgsluice.records import UNREADABLE
from pgsluice.retry import translated
from pgsluice.session import Session
from pgsluice.steps import catalog, staging, state, watermark
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.units import seconds_of, several, size, span

if TYPE_CHECKING:
    from pgsluice.config import Configuration

#: Of a run with more tables, those that are done are only counted.
_LISTED = 20


@click.command()
@target_only
@click.argument("job", required=False)
@option("--last", type=click.IntRange(1), default=10, show_default=True, help="How many runs.")
@click.option("--tables", is_flag=True, help="What became of each table last, instead of runs.")
@click.option("--lag", is_flag=True, help="How far the jobs that read on by a cursor are behind the source.")
@source_option
@option("--max-age", metavar="SPAN", help="Exit 1 where a table was not done for longer, or nothing ever was: 26h, 7d.")
def status(
    target: Endpoint,
    as_json: bool,
    job: str | None,
    last: int,
    tables: bool,
    lag: bool,
    source: Endpoint | None,
    max_age: str | None,
) -> int:
    """Show the last runs, of all or of a JOB (its id, target or source), or what became of each table last.

    It asks the control schema of the target. With a file, it speaks of the jobs that the file names.

    \b
    pgsluice status --target service=lake --last 3
    pgsluice status --target service=lake raw.orders
    pgsluice status --target service=lake --max-age 26h
    pgsluice status --target service=lake --source service=shop --lag
    """
    limit = seconds_of(max_age) if max_age else None
    if lag and not source:
        raise UsageError("how far behind the source can't be told without it", hint="Name it: --source, or --config.")
    if job and (tables or max_age):
        raise UsageError("a job's runs, or what became of each table", hint="Leave one of them out.")
    header = Header(as_json=as_json)
    file: Configuration | None = click.get_current_context().obj
    with translated("status"), target.looking().open() as session, contextlib.ExitStack() as stack:
        theirs = stack.enter_context(source.open()) if lag and source else None
        header.tell(theirs.described if theirs else "", session.described)
        if job:
            return _job(job, state.table_runs(session, CONTROL_SCHEMA, known_as(job), last), as_json=as_json)
        if theirs:
            positions = state.positions(session, CONTROL_SCHEMA)
            ours = file.tables.among((each.source, each.target) for each in positions) if file else None
            wanted = [each for each in positions if ours is None or (each.source, each.target) in ours]
            return _lag(theirs, wanted, as_json=as_json)
        if tables or limit is not None:
            return _tables(_wanted(state.last_tables(session, CONTROL_SCHEMA), file), limit, header)
        return _runs(session, last, file, header)


def _wanted(found: Sequence[state.TableRow], file: Configuration | None) -> list[state.TableRow]:
    """Return what there is of a file's jobs, those that were never begun too; all there is where there is no file."""
    if file is None:
        return [*found]
    known = [(each.source, each.target) for each in found]
    ours = file.tables.among(known)
    unknown = [state.TableRow(*pair, "unknown", "", {}, "", None, None) for pair in file.tables.unknown(known)]
    jobs = [dataclasses.replace(each, is_job=True) for each in found if (each.source, each.target) in ours]
    return sorted([*jobs, *unknown], key=lambda each: (each.target, each.source))


def _runs(session: Session, last: int, file: Configuration | None, header: Header) -> int:
    ours = file.tables.among(state.known(session, CONTROL_SCHEMA)) if file else None
    targets = [target for _, target in ours] if ours is not None else None
    runs = state.runs(session, CONTROL_SCHEMA, limit=last, targets=targets)
    listed = staging.listed(session, CONTROL_SCHEMA)
    kept, not_ours = listed.waiting, (*listed.passed_over, *listed.others)
    for run in runs:
        if header.as_json:
            click.echo(json.dumps(dataclasses.asdict(run), ensure_ascii=False))
        else:
            say(*_lines(run))
    if header.as_json:
        waiting = [
            {"staging": str(each.ref), "run_id": each.run_id, "target": each.target, "until": each.until}
            for each in kept
        ]
        told = {"runs": len(runs), "kept": waiting, "passed_over": dict(not_ours), **header.summary}
        click.echo(json.dumps(told, ensure_ascii=False))
        return 0
    if not runs:
        click.echo("No run has written to this target yet.")
    elif runs[0].status not in {"done", "running"}:
        run_id = visible.shell(runs[0].run_id)
        click.echo(f"next, with the rest of the command as it was: pgsluice sync --resume {run_id}")
    for name, why in not_ours:
        say(f"passed over {name}: {why}")
    for each in kept:
        say(f"kept for --resume {each.run_id}: {each.ref} ({each.target}), until {each.until}")
    return 0


def _lag(source: Session, positions: Sequence[state.Position], *, as_json: bool) -> int:
    """Ask the source for the highest value of each cursor: an index look, or a scan where there is none."""
    for each in (each for each in positions if each.cursor and each.watermark):
        try:
            (info,) = catalog.tables(source, (TableRef.parse(each.source),))
            cursor = watermark.cursor_of(source, info, str(each.cursor), None)
            highest = watermark.highest(source, info, cursor)
            behind = _behind(str(each.watermark), highest)
        except (ValueError, PgsluiceError, psycopg.Error):  # a query, a table that is gone or damaged ..
            if not source.alive:
                raise
            highest, behind = None, "not known"
        if as_json:
            told = {"target": each.target, "source": each.source, "cursor": each.cursor, "watermark": each.watermark}
            click.echo(json.dumps({**told, "highest": highest, "behind": behind}, ensure_ascii=False))
        else:
            say(f"{each.source} -> {each.target}: watermark {each.watermark}, source at {highest}: {behind}")
    return 0


def _behind(reached: str, highest: str | None) -> str:
    """Return the distance of two values of a cursor, where both are moments or numbers."""
    if highest is None or highest == reached:
        return "up to date"
    try:
        seconds = (datetime.fromisoformat(highest) - datetime.fromisoformat(reached)).total_seconds()
        return f"{span(seconds)} behind" if seconds > 0 else "up to date"
    except (ValueError, TypeError):
        pass
    return f"{int(highest) - int(reached):,} behind" if highest.isdigit() and reached.isdigit() else "behind"


def _job(job: str, found: Sequence[dict[str, Any]], *, as_json: bool) -> int:
    for report in found:
        if as_json:
            click.echo(json.dumps(report, ensure_ascii=False))
            continue
        say(f"{report['recorded']}  {report['run_id']}  {_outcome(report)}")
        if report["status"] == "failed" and report["hint"]:
            say(*indented(report["hint"]))
    if not found:
        known = "`pgsluice status --tables` lists what is known."
        raise UsageError(f"no run has done anything with {job} on this target", hint=known)
    return 0


def _tables(found: Sequence[state.TableRow], limit: float | None, header: Header) -> int:
    late = [each for each in found if limit is not None and each.is_job and (each.age is None or each.age > limit)]
    for each in found:
        is_late = each in late
        if header.as_json:
            click.echo(json.dumps({**dataclasses.asdict(each), "is_late": is_late}, ensure_ascii=False))
            continue
        done = f"done {span(each.age)} ago" if each.age is not None else "never done"
        rows = f", {several(each.report['target_count'], 'row')}" if each.report.get("target_count", -1) >= 0 else ""
        reached = f", watermark {each.report['watermark']}" if each.report.get("watermark") else ""
        say(f"{'LATE  ' if is_late else ''}{each.source} -> {each.target}: {done}{rows}{reached}")
        if each.status == "failed":
            say(*indented(f"{each.status} since ({each.recorded}): {each.report.get('error')}"))
            if each.report.get("hint"):
                say(*indented(each.report["hint"]))
        if why := each.report.get(UNREADABLE):
            say(f"  passed over what its report says: {why}")
    if header.as_json:
        click.echo(json.dumps({"tables": len(found), "late": len(late), **header.summary}, ensure_ascii=False))
    elif not found:
        click.echo("No run has written to this target yet.")
    elif limit is not None:
        click.echo(f"{len(late)} of {len(found)} tables were not done for longer than {span(limit)}")
    return 1 if late or (limit is not None and not found) else 0


def _lines(run: state.RunRow) -> Iterator[str]:
    """Return a run in words: every table of a small one, of a large one those that are not done."""
    took = f" in {run.seconds:.1f} s" if run.seconds is not None else ""
    failed = f", {run.failed:,} failed" if run.failed else ""
    counts = f"{run.done:,} of {run.planned:,} done{failed}, {several(run.rows, 'row')}, {size(run.bytes)}{took}"
    yield f"{run.run_id}  {run.status}  started {run.started}, finished {run.finished or 'never'}: {counts}"
    shown = [table for table in run.tables if len(run.tables) <= _LISTED or table["status"] != "done"]
    yield from (f"  {table['target']}  {_outcome(table)}" for table in shown)


def _outcome(table: dict[str, Any]) -> str:
    """Return what became of a table in one run."""
    if table["status"] == state.FORGOTTEN:
        return "forgotten  by `pgsluice forget`"
    counts = ", ".join(f"{name} {table[name]:,}" for name in ("inserted", "updated", "unchanged", "deleted"))
    outcome = counts if table["status"] == "done" else f"{table['step']}: {visible.joined(str(table['error']))}"
    reached = f"  watermark {table['watermark']}" if table.get("watermark") else ""
    odd = f"  (passed over what its report says: {table[UNREADABLE]})" if UNREADABLE in table else ""
    return f"{table['status']}  {outcome}  {table['seconds']:.2f} s{reached}{odd}"
