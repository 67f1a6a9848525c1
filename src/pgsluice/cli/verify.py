"""``pgsluice verify``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import click

from pgsluice.cli.options import option, selection
from pgsluice.cli.render import Header, indented, run_summary, say, table_report
from pgsluice.cli.sync import listening
from pgsluice.endpoint import Endpoint
from pgsluice.job import Level, Options, Selection, SyncJob
from pgsluice.model import Difference, TableComparison, Verified
from pgsluice.units import several, size
from pgsluice.verification import repair as mend
from pgsluice.verification import verify as compare


@click.command()
@selection
@option(
    "--level",
    type=click.Choice([level.value for level in Level]),
    default=Level.HASH.value,
    show_default=True,
    help="Count rows, compare hashes of all rows, or name the rows that differ.",
)
@option("--repair", is_flag=True, help="Sync the tables that differ: copy what differs, and delete what is gone.")
@option(
    "--as-of-run",
    is_flag=True,
    help="As of each table's last sync: what the source got, changed or lost since then is no difference.",
)
@option("--limit", type=click.IntRange(-1), default=20, show_default=True, help="Rows to name a table; -1: all.")
def verify(
    source: Endpoint,
    target: Endpoint,
    chosen: Selection | tuple[SyncJob, ...],
    options: Options,
    as_json: bool,
    level: str,
    limit: int,
    as_of_run: bool,
    repair: bool,
) -> int:
    """Compare tables of the target with those of the source, row by row, and write nothing.

    With --repair, tables that differ are synced: what differs is copied, and what is gone deleted, up to --max-delete.

    \b
    pgsluice verify --source service=shop --target service=lake --table 'sales.*' --level rows
    """
    header = Header(as_json=as_json)
    found = compare(
        source, target, chosen, options, level=Level(level), limit=limit, as_of_run=as_of_run, sinks=(header,)
    )
    for table in found.tables:
        if as_json:
            click.echo(json.dumps(table.to_dict(), ensure_ascii=False))
        else:
            say(*_lines(table))
    counts = Counter(table.status for table in found.tables)
    if as_json:
        summary = {
            "tables": len(found.tables),
            **{status: counts[status] for status in ("equal", "different", "failed")},
        }
        seconds = round(found.seconds, 3)
        click.echo(json.dumps({**summary, "exit_code": found.exit_code, "seconds": seconds, **header.summary}))
    else:
        differing = f"{counts['different']} different, " if counts["different"] else ""
        failed = f"{counts['failed']} could not be compared, " if counts["failed"] else ""
        click.echo(f"{counts['equal']} of {len(found.tables)} equal, {differing}{failed}{found.seconds:.1f} s")
    if repair and found.differing:
        return max(_repaired(source, target, found, options, as_json=as_json), found.failed_code)
    return found.exit_code


def _repaired(source: Endpoint, target: Endpoint, found: Verified, options: Options, *, as_json: bool) -> int:
    with listening("text", quiet=False) as sinks:
        report = mend(source, target, found, options, sinks)
    for table in report.tables:
        click.echo(json.dumps(table.to_dict(), ensure_ascii=False) if as_json else table_report(table))
    if not as_json:
        click.echo(run_summary(report))
    return report.exit_code


def _lines(table: TableComparison) -> Iterator[str]:
    yield f"{table.source} -> {table.target}: {table.status} in {table.seconds:.2f} s (by {table.level})"
    if table.error:
        yield from indented(table.error)
        if table.hint:
            yield f"  {table.hint}"
        return
    yield f"  {several(table.source_rows, 'row')} on the source, {table.target_rows:,} on the target"
    if table.buckets:
        yield (
            f"  {table.differing:,} of {table.buckets:,} buckets differ, by hashes of {size(table.bytes)}"
            f" ({table.hashed_by})"
        )
    if table.unsettled:
        yield f"  {table.unsettled:,} of these were changed on the target while they were compared"
    if table.missing >= 0:
        yield f"  + {table.missing:,} missing on the target, - {table.extra:,} there alone, * {table.changed:,} differ"
    if table.changed_since >= 0:
        yield (
            f"  since run {table.as_of_run} the source got or changed {several(table.changed_since, 'row')} and lost"
            f" {table.gone_since:,}, which is no difference"
        )
    yield from (f"  {_named(difference, table.key)}" for difference in table.differences)
    yield from (f"  note: {note}" for note in table.notes)
    if table.level != Level.ROWS:
        return
    left = table.missing + table.extra + table.changed - len(table.differences)
    if left > 0:
        yield f"  and {left:,} more: --limit"


def _named(difference: Difference, key: tuple[str, ...]) -> str:
    values = ", ".join(
        f"{name}={'NULL' if value is None else value}" for name, value in zip(key, difference.key, strict=True)
    )
    columns = f": {', '.join(difference.columns)}" if difference.columns else ""
    return f"{difference.sign} {values}{columns}"
