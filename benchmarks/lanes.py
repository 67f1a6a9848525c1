"""From which size on does the psql lane pay? `plan.PSQL_FROM_BYTES` is set from this.

Tables of one shape and growing size are copied from PostgreSQL 16 into an UNLOGGED table of PostgreSQL 18 by both
lanes, which take turns. As in a run, the session that writes and the snapshot are there already; what a lane needs
beyond them is on its clock:

libpq          a second session on the source, which joins the snapshot and reads. Its COPY says how many rows it sent.
psql           the start of a psql, which connects, joins and reads.
psql + count   the same, and the count of the source's rows by one more scan, as psql does not say how many it sent.
               A run without --no-verify does this, so this is the column to compare with `libpq`.

The break-even is the smallest size from which on the psql lane is the faster one, at that size and at every larger one.
Medians; on a busy machine two neighbouring sizes can change places, so take more rounds where they are close.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import common
from psycopg import sql

from pgsluice import slices, sqltext
from pgsluice import snapshot as snapshots
from pgsluice.job import CopyFormat, Lane, TableRef
from pgsluice.plan import PSQL_FROM_BYTES, CopyPlan

MEBIBYTES = (1, 4, 8, 16, 32, 64, 128)
ROWS_PER_MEBIBYTE = 8_100  # of the table below, 128 bytes each
FILL = """
CREATE TABLE {table} AS
SELECT i AS id, (i * 7919) % 50000 AS customer, ((i * 31) % 1000000)::numeric(12, 2) / 100 AS amount,
    timestamptz '2024-01-01 00:00:00Z' + i * interval '7 seconds' AS placed, i % 3 = 0 AS paid,
    rpad('note ' || i, 56, 'x') AS note
FROM generate_series(1::bigint, {rows}) AS i
"""


@dataclass(frozen=True, slots=True)
class Found:
    """Median seconds at one size."""

    bytes: int
    libpq: float
    psql: float
    psql_and_count: float


def main() -> int:
    options = _options()
    with common.two_servers() as pair:
        for format_ in common.FORMATS[options.format]:
            print(f"{format_.value}: medians of {options.rounds} rounds, ms\n")
            print(f"{'MiB':>6} {'libpq':>8} {'psql':>8} {'psql + count':>13} {'ratio':>6}", flush=True)
            found = [_at(pair, size, format_, options.rounds) for size in MEBIBYTES]
            print(f"\npsql pays from {_named(_break_even(found, counted=True))}, uncounted from", end=" ")
            print(f"{_named(_break_even(found, counted=False))}; PSQL_FROM_BYTES is {PSQL_FROM_BYTES >> 20} MiB\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Find the size of table from which on the psql lane pays.")
    parser.add_argument("--rounds", type=int, default=5, help="of both lanes in turn, at each size")
    parser.add_argument("--format", choices=common.FORMATS, default="both", help="of the COPY stream")
    return parser.parse_args()


def _at(pair: common.Pair, mebibytes: int, format_: CopyFormat, rounds: int) -> Found:
    """Fill a table, copy it by both lanes, print the medians, drop it."""
    ref = TableRef("public", f"mib_{mebibytes}")
    with pair.to_source() as session:
        table = sqltext.table(ref)
        session.execute(sql.SQL(FILL).format(table=table, rows=sql.Literal(mebibytes * ROWS_PER_MEBIBYTE)))
        session.execute(sql.SQL("VACUUM ANALYZE {}").format(table))
        (size,) = session.row(sql.SQL("SELECT pg_table_size({}::regclass)").format(sql.Literal(str(ref))))
        found = _medians(size, *_measured(pair, ref, format_, rounds))
        session.execute(sql.SQL("DROP TABLE {}").format(table))
    times = f"{found.libpq * 1e3:>8.0f} {found.psql * 1e3:>8.0f} {found.psql_and_count * 1e3:>13.0f}"
    print(f"{found.bytes / (1 << 20):>6.1f} {times} {found.psql_and_count / found.libpq:>6.2f}", flush=True)
    return found


def _measured(
    pair: common.Pair, ref: TableRef, format_: CopyFormat, rounds: int
) -> tuple[Mapping[Lane, Sequence[float]], Sequence[float]]:
    """Return the seconds of each relay by lane, and those of each count."""
    columns = common.columns_of(pair, ref)
    relays: dict[Lane, list[float]] = {Lane.PSQL: [], Lane.LIBPQ: []}
    counts: list[float] = []
    for number in range(rounds):
        for lane in sorted(relays, reverse=bool(number % 2)):
            seconds, count = _once(pair, common.copy_plan(ref, columns, lane, format_))
            relays[lane].append(seconds)
            if lane is Lane.PSQL:
                counts.append(count)
    return relays, counts


def _once(pair: common.Pair, plan: CopyPlan) -> tuple[float, float]:
    """Relay a table once; return the seconds of the relay and of the count that follows it."""
    source = plan.source
    if not isinstance(source, TableRef):
        raise TypeError("a table is what is measured")
    with common.landing(pair, plan.columns) as table, pair.sessions() as servers:
        common.checkpoint(pair)
        with snapshots.snapshot(servers.source, (source,)) as shared:
            servers.writer, servers.control  # noqa: B018 - opened before the clock starts
            staged = common.relay(servers, plan, table, shared)
            count = common.timed(lambda: slices.count_source(servers.main, plan, shared.exported, staged))
    return staged.seconds, count


def _medians(size: int, relays: Mapping[Lane, Sequence[float]], counts: Sequence[float]) -> Found:
    both = [sum(pair) for pair in zip(relays[Lane.PSQL], counts, strict=True)]
    psql, libpq = (statistics.median(relays[lane]) for lane in (Lane.PSQL, Lane.LIBPQ))
    return Found(size, libpq, psql, statistics.median(both))


def _break_even(found: Sequence[Found], *, counted: bool) -> int | None:
    """Return the size in bytes from which on psql is the faster lane, or None where it is at no size."""
    pays = None
    for at in reversed(found):
        if at.libpq <= (at.psql_and_count if counted else at.psql):
            break
        pays = at.bytes
    return pays


def _named(size: int | None) -> str:
    return "no size measured" if size is None else f"{size / (1 << 20):.0f} MiB"


if __name__ == "__main__":
    sys.exit(main())
