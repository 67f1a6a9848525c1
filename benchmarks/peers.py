"""Whole runs, beside the tools that one could take instead, and beside statements typed by hand.

Both servers are of this machine. Each trial prints our seconds, the other's, and the ratio, all from the same run on
the same servers: the two take turns, each round in another order, on databases made anew for each from a template,
behind a CHECKPOINT. Medians. What is compared with is skipped, and said so, where it is not installed:

pgcopydb   Debian's package; it needs servers of its own time: PostgreSQL 15, from Debian too
sling      the wheel sling-linux-amd64, or the binary named in SLING_BINARY
dlt        with connectorx, in this Python or the one named in DLT_PYTHON
reladiff   0.6, on PATH, or the binary named in RELADIFF
psql       what a person would type

Read the ratios, not the seconds. The exit code is 1 where a limit is broken.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
import tables
from psycopg import sql

from pgsluice.embedded import Cluster
from pgsluice.errors import EmbeddedError
from pgsluice.steps import relay
from pgsluice.version import __version__

#: Enough for COPY and for building keys; both servers have the same.
SETTINGS = {"autovacuum": "off", "shared_buffers": "512MB", "max_connections": "100"}
BY_DLT = Path(__file__).with_name("by_dlt.py")
SMALL = 100

Way = Callable[[], float]


@dataclass(frozen=True)
class Result:
    """What a trial found: medians in seconds, and the ratio that is allowed."""

    trial: str
    peer: str
    ours: float
    theirs: float
    limit: float
    rounds: tuple[tuple[float, float], ...]

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    def __str__(self) -> str:
        verdict = "PASS" if self.ratio <= self.limit else "FAIL"
        each = "  ".join(f"{ours:.1f}/{theirs:.1f}" for ours, theirs in self.rounds)
        return (
            f"{verdict}: {self.trial}: {self.ours:.2f} s, {self.peer} {self.theirs:.2f} s, ratio {self.ratio:.2f}"
            f" (limit {self.limit:g}); rounds {each}"
        )


class Bench:
    """Two servers, a database on each, and templates of them."""

    def __init__(self, source: Cluster, target: Cluster, scale: float, rounds: int) -> None:
        self._clusters = {"source": source, "target": target}
        self._templates = {"source": "template0", "target": "template0"}
        self.scale = scale
        self.rounds = rounds

    def dsn(self, side: str, *, tcp: bool = False) -> str:
        """Return the URI of the database in use; peers written in Go and Rust want a port rather than a socket."""
        cluster = self._clusters[side]
        return f"{cluster.tcp_dsn.removesuffix('/postgres')}/bench" if tcp else cluster.dsn_for("bench")

    def execute(self, side: str, *scripts: str) -> None:
        with psycopg.connect(self.dsn(side), autocommit=True) as connection:
            for script in scripts:
                connection.execute(sql.SQL(script))

    def count(self, side: str, table: str) -> int:
        with psycopg.connect(self.dsn(side), autocommit=True) as connection:
            (found,) = connection.execute(
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
            ).fetchone() or (0,)
            return int(found)

    def renew(self, *sides: str) -> None:
        """Make the databases anew from their templates, and let nobody pay for it later."""
        for side in [each for each in sides if each in self._clusters] if sides else ("source", "target"):
            with psycopg.connect(self._clusters[side].dsn, autocommit=True) as connection:
                connection.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
                make = sql.SQL("CREATE DATABASE bench TEMPLATE {} STRATEGY file_copy")
                connection.execute(make.format(sql.Identifier(self._templates[side])))
        for side in self._clusters:
            with psycopg.connect(self._clusters[side].dsn, autocommit=True) as connection:
                connection.execute("CHECKPOINT")

    def keep(self, side: str, name: str) -> None:
        """Let the database of a side, as it is now, be what `renew` makes."""
        with psycopg.connect(self._clusters[side].dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'bench'")
            connection.execute(sql.SQL("ALTER DATABASE bench RENAME TO {}").format(sql.Identifier(name)))
        self._templates[side] = name
        self.renew(side)

    def start_over(self) -> None:
        """Begin with empty databases."""
        self._templates = {"source": "template0", "target": "template0"}
        self.renew()

    # --- the ways ----------------------------------------------------------------------------------------------------

    def sync(self, *arguments: str) -> list[dict[str, Any]]:
        """Run the command line and return its report: a line a table, and the summary."""
        command = [
            sys.executable,
            "-m",
            "pgsluice",
            "sync",
            "--source",
            self.dsn("source"),
            "--target",
            self.dsn("target"),
        ]
        done = subprocess.run(
            [*command, *arguments, "--json", "--quiet"], stdout=subprocess.PIPE, text=True, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def differing(self) -> str:
        """Tell what a sync by hashes sends."""
        report = self.sync("--table", "public.lineitem", "--strategy", "diff")[0]
        relayed = f"{report['staging_count']:,} rows relayed, {report['bytes']:,} bytes"
        return f"{report['hash_bytes']:,} bytes of hashes; {relayed}"

    def timed_sync(self, *arguments: str) -> float:
        return timed(lambda: self.sync(*arguments))

    def run(self, command: Sequence[str], **environment: str) -> float:
        """Run another tool and return its seconds; what it says is shown where it fails."""
        started = time.perf_counter()
        done = subprocess.run(
            command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if done.returncode:
            sys.exit(f"{command[0]} ended with {done.returncode}:\n{done.stdout.decode()[-3000:]}")
        return time.perf_counter() - started

    def compared(self, trial: str, peer: str, limit: float, ours: Way, theirs: Way, *renewed: str) -> Result:
        """Let both take turns, and print what came out."""
        rounds = []
        for number in range(self.rounds):
            found = {}
            for way in (ours, theirs) if number % 2 else (theirs, ours):
                self.renew(*renewed)
                found[way] = way()
            rounds.append((found[ours], found[theirs]))
        medians = [statistics.median(each) for each in zip(*rounds, strict=True)]
        result = Result(trial, peer, medians[0], medians[1], limit, tuple(rounds))
        print(result, flush=True)
        return result


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# --- the peers -------------------------------------------------------------------------------------------------------


def sling() -> str | None:
    if named := os.environ.get("SLING_BINARY"):
        return shutil.which(named)
    spec = importlib.util.find_spec("sling_linux_amd64")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return shutil.which("sling-linux-amd64", path=Path(folders[0], "bin")) if folders else None


def dlt_python() -> str | None:
    python = os.environ.get("DLT_PYTHON", sys.executable)
    found = subprocess.run([python, "-c", "import dlt, connectorx"], capture_output=True, check=False)
    return python if found.returncode == 0 else None


def skipped(trial: str, peer: str) -> None:
    print(f"SKIPPED: {trial}: {peer} is not installed", flush=True)


# --- new tables ------------------------------------------------------------------------------------------------------


def new_tables(bench: Bench) -> Iterator[Result]:
    """Copy lineitem and orders into an empty target, with their keys."""
    bench.start_over()
    tables.load(bench.dsn("source"), bench.scale)
    bench.keep("source", "tpch")
    yield from _by_pgcopydb(bench)
    yield from _by_sling(bench, "lineitem into a new table", "lineitem", 0.16)
    trial = "orders into a new table"
    if python := dlt_python():
        by_dlt = [python, str(BY_DLT), bench.dsn("source", tcp=True), bench.dsn("target", tcp=True), "orders"]
        ours = functools.partial(bench.timed_sync, "--table", "public.orders")
        yield bench.compared(trial, "dlt", 0.22, ours, lambda: bench.run(by_dlt), "target")
    else:
        skipped(trial, "dlt")


def _by_pgcopydb(bench: Bench) -> Iterator[Result]:
    trial, program = "lineitem and orders into new tables with keys", shutil.which("pgcopydb")
    if program is None or shutil.which("pg_dump") is None:
        return skipped(trial, "pgcopydb")

    def theirs() -> float:
        shutil.rmtree("/tmp/pgcopydb", ignore_errors=True)  # noqa: S108 - where it keeps its files
        command = [program, "copy-db", "--source", bench.dsn("source"), "--target", bench.dsn("target")]
        options = [
            "--table-jobs",
            "2",
            "--index-jobs",
            "2",
            "--split-tables-larger-than",
            "200MB",
            "--no-owner",
            "--no-acl",
        ]
        return bench.run([*command, *options])

    ours = functools.partial(bench.timed_sync, "--table", "public.lineitem", "--table", "public.orders")
    yield bench.compared(trial, "pgcopydb", 0.95, ours, theirs)


def _by_sling(bench: Bench, trial: str, table: str, limit: float) -> Iterator[Result]:
    if (program := sling()) is None:
        return skipped(trial, "sling")

    def theirs() -> float:
        streams = ["--src-stream", f"public.{table}", "--tgt-object", f"public.{table}", "--mode", "full-refresh"]
        return bench.run(
            [program, "run", "--src-conn", "BENCH_SOURCE", "--tgt-conn", "BENCH_TARGET", *streams], **_conns(bench)
        )

    ours = functools.partial(bench.timed_sync, "--table", f"public.{table}")
    yield bench.compared(trial, "sling", limit, ours, theirs, "target")


def _conns(bench: Bench) -> dict[str, str]:
    return {f"BENCH_{side.upper()}": f"{bench.dsn(side, tcp=True)}?sslmode=disable" for side in ("source", "target")}


# --- many small tables -----------------------------------------------------------------------------------------------


def small_tables(bench: Bench) -> Iterator[Result]:
    bench.start_over()
    bench.execute("source", tables.SMALL.format(last=SMALL))
    bench.keep("source", "small")
    ours = functools.partial(bench.timed_sync, "--table", "small.*")
    trial = f"{SMALL} tables of 1,000 rows, first sync"
    if program := sling():
        streams = {f"small.t{number:03}": None for number in range(1, SMALL + 1)}
        replication = {
            "source": "BENCH_SOURCE", "target": "BENCH_TARGET", "streams": streams,
            "defaults": {"mode": "full-refresh", "object": "small.{stream_table}"},
        }  # fmt: skip
        command = [program, "run", "-r", json.dumps(replication)]
        yield bench.compared(
            trial, "sling", 0.25, ours, lambda: bench.run(command, SLING_THREADS="2", **_conns(bench)), "target"
        )
    else:
        skipped(trial, "sling")
    bench.sync("--table", "small.*")
    bench.keep("target", "small synced")
    select = [relay.find_psql() or "psql", "-XqAtc", "SELECT 1", "-d"]

    def theirs() -> float:
        dsns = [bench.dsn(side) for side in ("source", "target")] * SMALL
        return timed(lambda: [subprocess.run([*select, dsn], stdout=subprocess.DEVNULL, check=True) for dsn in dsns])

    yield bench.compared("the same tables, nothing changed", "200 psql -c 'SELECT 1'", 6, ours, theirs, "target")


# --- merges ----------------------------------------------------------------------------------------------------------


def merges(bench: Bench) -> Iterator[Result]:
    """What changed in lineitem, into a target that has the rest."""
    bench.start_over()
    tables.load(bench.dsn("source"), bench.scale, ("lineitem",))
    bench.execute("source", *tables.STAMP)
    incremental = ("--table", "public.lineitem", "--mode", "incremental", "--cursor", "changed")
    bench.sync(*incremental)
    bench.keep("target", "merged")
    bench.execute("source", tables.CHANGE.format(every=10))
    ours = functools.partial(bench.timed_sync, *incremental)
    by_hand = functools.partial(_incremental_by_hand, bench)
    yield bench.compared(
        "10 % of lineitem, incremental by cursor", "COPY and MERGE by hand", 1.25, ours, by_hand, "target"
    )
    yield from _full_merges(bench)


def _incremental_by_hand(bench: Bench) -> float:
    bench.execute("target", "CREATE UNLOGGED TABLE landing AS TABLE lineitem WITH NO DATA")

    def work() -> None:
        _piped(bench, "changed > '2025-01-01Z'")
        bench.execute("target", tables.MERGE)

    return timed(work)


def _full_merges(bench: Bench) -> Iterator[Result]:
    bench.start_over()
    tables.load(bench.dsn("source"), bench.scale, ("lineitem",))
    bench.execute("source", *tables.STAMP)
    full = ("--table", "public.lineitem", "--strategy", "copy")
    bench.sync(*full)
    bench.keep("target", "merged")
    bench.execute("source", tables.CHANGE.format(every=100))

    def by_hand() -> float:
        bench.execute("target", "CREATE UNLOGGED TABLE landing AS TABLE lineitem WITH NO DATA")
        _piped(bench, "TRUE")
        bench.execute("target", "ANALYZE landing")
        return timed(lambda: bench.execute("target", tables.BY_HAND))

    ours = lambda: float(bench.sync(*full)[0]["steps"]["merge"])  # noqa: E731 - a way like the others
    yield bench.compared(
        "lineitem in full, 1 % changed, its merge", "DELETE, UPDATE, INSERT", 0.55, ours, by_hand, "target"
    )


# --- comparisons ------------------------------------------------------------------------------------------------------


def comparisons(bench: Bench) -> Iterator[Result]:
    """Tables that are there on both sides, and differ in little."""
    yield from _rows_named(bench)
    bench.start_over()
    for side in ("source", "target"):
        tables.load(bench.dsn(side), bench.scale, ("lineitem",))
    for changed, every, limit in (("nothing", 0, 0.6), ("0.01 %", 10_000, 0.7), ("0.1 %", 1_000, 0.9)):
        if every:
            bench.execute("target", tables.SCATTERED.format(every=every))
        bench.execute("target", "VACUUM ANALYZE lineitem")
        bench.keep("target", f"differing_{every}")
        ours, theirs = (
            functools.partial(bench.timed_sync, "--table", "public.lineitem", "--strategy", strategy)
            for strategy in ("diff", "copy")
        )
        yield bench.compared(
            f"full sync of lineitem, {changed} changed", "--strategy copy", limit, ours, theirs, "target"
        )
        bench.renew("target")
        print(f"  {bench.differing()}", flush=True)
        bench.renew("target")


def _rows_named(bench: Bench) -> Iterator[Result]:
    trial = "orders, 100 rows changed and 100 missing, each named"
    if (reladiff := shutil.which(os.environ.get("RELADIFF", "reladiff"))) is None:
        skipped(trial, "reladiff")
        return
    bench.start_over()
    for side in ("source", "target"):
        tables.load(bench.dsn(side), bench.scale, ("orders",))
    bench.execute("target", *tables.SPOILED)
    uris = (bench.dsn("source", tcp=True), bench.dsn("target", tcp=True))
    theirs = functools.partial(
        bench.run, [reladiff, uris[0], "orders", uris[1], "orders", "-k", "o_orderkey", "-c", "%"]
    )

    def ours() -> float:
        command = [sys.executable, "-m", "pgsluice", "verify", "--source", uris[0], "--target", uris[1]]
        command += ["--table", "public.orders", "--level", "rows", "--limit", "-1", "--json"]
        started = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        seconds = time.perf_counter() - started
        found = json.loads(done.stdout.splitlines()[0])
        if (done.returncode, found["missing"], found["changed"], len(found["differences"])) != (4, 100, 100, 200):
            sys.exit(f"pgsluice verify ended with {done.returncode}: {done.stdout[:3000]}")
        return seconds

    yield bench.compared(trial, "reladiff", 0.15, ours, theirs, "nothing")


def _piped(bench: Bench, condition: str) -> None:
    psql = relay.find_psql() or "psql"
    out = f"COPY (SELECT * FROM lineitem WHERE {condition}) TO STDOUT (FORMAT binary)"
    with (
        subprocess.Popen([psql, "-Xqd", bench.dsn("source"), "-c", out], stdout=subprocess.PIPE) as reader,
        subprocess.Popen(
            [psql, "-Xqd", bench.dsn("target"), "-c", "COPY landing FROM STDIN (FORMAT binary)"], stdin=reader.stdout
        ) as writer,
    ):
        if reader.stdout:
            reader.stdout.close()
    if reader.returncode or writer.returncode:
        sys.exit("psql | psql failed")


# --- all of them -----------------------------------------------------------------------------------------------------

TRIALS = {"new": new_tables, "small": small_tables, "merges": merges, "comparisons": comparisons}


def main() -> int:
    options = _options()
    results: list[Result] = []
    with _two_servers(options.major) as (source, target):
        bench = Bench(source, target, options.scale, options.rounds)
        print(
            f"pgsluice {__version__}, PostgreSQL {source.major}, {os.cpu_count()} cores, scale {options.scale:g}",
            flush=True,
        )
        for name in options.trials or TRIALS:
            results += TRIALS[name](bench)
    if options.json:
        found = {"machine": platform.platform(), "results": [{**asdict(each), "ratio": each.ratio} for each in results]}
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if all(each.ratio <= each.limit for each in results) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure whole runs beside other tools.")
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"of {', '.join(TRIALS)}; all where none is named")
    parser.add_argument("--scale", type=float, default=1, help="of TPC-H; 1 is 6 million rows of lineitem")
    parser.add_argument("--rounds", type=int, default=3, help="of both in turn")
    parser.add_argument("--major", type=int, help="of PostgreSQL; 15 where it is installed, else 18")
    parser.add_argument("--json", metavar="FILE", help="for what came out")
    return parser.parse_args()


@contextmanager
def _two_servers(major: int | None) -> Iterator[tuple[Cluster, Cluster]]:
    for each in (major,) if major else (15, 18):
        with suppress(EmbeddedError), Cluster(each, settings=SETTINGS, tcp=True) as source:
            with Cluster(each, settings=SETTINGS, tcp=True) as target:
                yield source, target
            return
    sys.exit("no PostgreSQL was found")


if __name__ == "__main__":
    sys.exit(main())
