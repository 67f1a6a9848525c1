"""Is the relay as fast as ``psql | psql``, and does it stay small?

Measured is TPC-H lineitem (6 million rows at scale 1) from PostgreSQL 16 into an UNLOGGED table of PostgreSQL 18 that
has no index. Three ways take turns, each round in another order, all in the same COPY format:

psql | psql    one psql reads, another one writes, a pipe lies between them. The limit is set by this one.
psql lane      pgsluice: a psql reads, this process writes. Must take at most 1.15 times as long.
libpq lane     pgsluice: this process reads and writes. For information: it serves the small tables.

The clock runs from nothing at all to the rows being committed: for `psql | psql` that is the start of both processes,
for pgsluice the opening of its sessions, the snapshot, the start of its psql, and the step `relay` of a run with its
progress. Outside of it: creating and dropping the table, a CHECKPOINT of both servers, and a count of what arrived.

Memory is that of one whole ``pgsluice sync`` of the table into the empty target, in a process of its own: relay, merge
and verification, peak resident bytes as the run reports them.

Read the ratio, not the seconds: both servers share the machine with the relay, and with whatever else runs on it.
NOISY says that `psql | psql` differed from itself by more than the limit allows; PASS and FAIL mean nothing then.
The exit code is 1 where a limit is broken.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import wait
from functools import partial
from typing import Any

import common
import tables
from psycopg import sql

from pgsluice import slices
from pgsluice import snapshot as snapshots
from pgsluice.executors import Here
from pgsluice.facts import Column
from pgsluice.job import CopyFormat, Lane, TableRef
from pgsluice.model import StagingTable, ranges
from pgsluice.relaying import Relaying
from pgsluice.steps import relay
from pgsluice.throttle import Throttle
from pgsluice.workers import Workers

MOST_RATIO = {"psql lane": 1.05, "two slices": 0.95}
#: Between the slowest and the fastest round of the yardstick itself, for a verdict to mean anything.
MOST_NOISE = 1.15
MOST_BYTES = 120_000_000

LINEITEM = TableRef("public", "lineitem")
Way = Callable[[CopyFormat, StagingTable], float]


def main() -> int:
    options = _options()
    with common.two_servers() as pair:
        rows = _load(pair, options.scale)
        print(f"lineitem at scale {options.scale:g}: {rows:,} rows; medians of {options.rounds} rounds\n", flush=True)
        report = _sync(pair)
        results = [_compared(pair, format_, options.rounds, rows) for format_ in common.FORMATS[options.format]]
    return 0 if all([*results, _memory(report)]) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the relay against psql | psql.")
    parser.add_argument("--scale", type=float, default=1, help="of TPC-H; 1 is 6 million rows")
    parser.add_argument("--rounds", type=int, default=3, help="of all ways in turn")
    parser.add_argument("--format", choices=common.FORMATS, default="both", help="of the COPY stream")
    return parser.parse_args()


# --- the table -------------------------------------------------------------------------------------------------------


def _load(pair: common.Pair, scale: float) -> int:
    """Fill the source, and return the number of rows."""
    tables.load(pair.source, scale, ("lineitem",))
    return common.rows_of(pair, LINEITEM)


# --- seconds ---------------------------------------------------------------------------------------------------------


def _compared(pair: common.Pair, format_: CopyFormat, rounds: int, rows: int) -> bool:
    """Measure every way in one format, print the medians, and tell whether the limit holds."""
    columns = common.columns_of(pair, LINEITEM)
    ways: dict[str, Way] = {
        "psql | psql": partial(_by_two_psql, pair),
        "psql lane": partial(_by_pgsluice, pair, Lane.PSQL),
        "two slices": partial(_by_two_slices, pair),
        "libpq lane": partial(_by_pgsluice, pair, Lane.LIBPQ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in _turned(list(ways), number):
            seconds[name].append(_measured(pair, ways[name], format_, columns, rows))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    base = medians["psql | psql"]
    print(f"{format_.value:<12} {'median s':>9} {'ratio':>6}   each round, s")
    for name, median in medians.items():
        each = " ".join(f"{found:.2f}" for found in seconds[name])
        print(f"{name:<12} {median:>9.2f} {median / base:>6.2f}   {each}")
    _warn_of_noise(seconds["psql | psql"])
    holds = True
    for name, limit in MOST_RATIO.items():
        ratio = medians[name] / base
        holds &= _judged(f"{name}, {format_.value}: {ratio:.2f} x psql | psql", f"{limit}", ratio <= limit)
    return holds


def _warn_of_noise(base: list[float]) -> None:
    """Say where the yardstick itself moved by more than what is to be told apart. It changes no verdict."""
    if max(base) > MOST_NOISE * min(base):
        print(f"NOISY: psql | psql itself took from {min(base):.2f} to {max(base):.2f} s, so the ratio proves nothing,")
        print("neither a PASS nor a FAIL; run again on a quieter machine or with more --rounds")


def _turned(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]


def _measured(pair: common.Pair, way: Way, format_: CopyFormat, columns: tuple[Column, ...], rows: int) -> float:
    with common.landing(pair, columns) as table:
        common.checkpoint(pair)
        seconds = way(format_, table)
        arrived = common.rows_in(pair, table)
    if arrived != rows:
        sys.exit(f"{arrived} of {rows} rows arrived: what was measured is no copy")
    return seconds


def _by_pgsluice(pair: common.Pair, lane: Lane, format_: CopyFormat, table: StagingTable) -> float:
    plan = common.copy_plan(LINEITEM, table.columns, lane, format_)

    def work() -> None:
        with pair.sessions() as servers, snapshots.snapshot(servers.source, (LINEITEM,)) as shared:
            common.relay(servers, plan, table, shared)

    return common.timed(work)


def _by_two_slices(pair: common.Pair, format_: CopyFormat, table: StagingTable) -> float:
    plan = common.copy_plan(LINEITEM, table.columns, Lane.PSQL, format_)
    with pair.to_source() as session:
        (pages,) = session.row(sql.SQL("SELECT pg_relation_size('public.lineitem') / 8192"))

    def work() -> None:
        with (
            pair.sessions() as servers,
            snapshots.snapshot(servers.source, (LINEITEM,)) as shared,
            Workers(servers, 2, Throttle(None), Here()) as workers,
        ):
            halves = ranges([0, pages // 2])
            relaying = Relaying(workers, plan, table, shared.exported, halves, verify=False, bytes_=1)
            relaying.begin()
            wait(relaying.outcomes)
            relaying.gathered()

    return common.timed(work)


def _by_two_psql(pair: common.Pair, format_: CopyFormat, table: StagingTable) -> float:
    plan = common.copy_plan(LINEITEM, table.columns, Lane.PSQL, format_)
    reading = _psql(pair.source, slices.copy_out(plan))
    writing = _psql(pair.target, slices.copy_in(plan, table))

    def work() -> None:
        with (
            subprocess.Popen(reading, stdout=subprocess.PIPE) as reader,
            subprocess.Popen(writing, stdin=reader.stdout) as writer,
        ):
            if reader.stdout:
                reader.stdout.close()  # or the reader would not notice that the writer is gone
        if reader.returncode or writer.returncode:
            sys.exit(f"psql | psql ended with {reader.returncode} and {writer.returncode}")

    return common.timed(work)


def _psql(dsn: str, statement: sql.Composed) -> list[str]:
    """Return the command of the same psql that pgsluice takes."""
    psql = relay.find_psql()
    if psql is None:
        sys.exit("no psql was found")
    return [psql, "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", statement.as_string(None)]


# --- memory ----------------------------------------------------------------------------------------------------------


def _sync(pair: common.Pair) -> dict[str, Any]:
    """Run the command line on the whole table and return the table's report. The target is empty again afterwards."""
    common.checkpoint(pair)
    command = [sys.executable, "-m", "pgsluice", "sync", "--source", pair.source, "--target", pair.target]
    command += ["--table", str(LINEITEM), "--json", "--quiet"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=True)
    with pair.to_target() as session:
        session.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(LINEITEM.schema, LINEITEM.name)))
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return report


def _memory(report: dict[str, Any]) -> bool:
    """Print the run, and tell whether its memory stayed within the limit."""
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report["steps"].items())
    print(f"sync into an empty target ({report['lane']} lane, {report['format']}), s: {steps}")
    print(f"{report['bytes'] / 1e6:,.0f} MB relayed, peak memory of psql {report['psql_peak_bytes'] / 1e6:.0f} MB")
    peak = report["peak_bytes"]
    return _judged(f"memory of pgsluice: {peak / 1e6:.0f} MB", f"{MOST_BYTES / 1e6:.0f} MB", peak < MOST_BYTES)


def _judged(what: str, limit: str, holds: bool) -> bool:  # noqa: FBT001 - the verdict itself
    print(f"{'PASS' if holds else 'FAIL'}: {what} (limit {limit})\n", flush=True)
    return holds


if __name__ == "__main__":
    sys.exit(main())
