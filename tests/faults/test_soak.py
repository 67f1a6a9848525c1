"""Runs back to back under live writers while something is killed every few seconds; then quiet, one plain run, equal.

By ``make test-soak``, ten minutes long; ``PGSLUICE_SOAK_SECONDS`` and ``PGSLUICE_SOAK_SEED`` say otherwise.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import psycopg
import pytest
from faulting import await_that
from servers import Database, Pair, database, start_cli
from writing import WRITER, Style, Writers, create, strange

from pgsluice.embedded import Cluster

SECONDS = float(os.environ.get("PGSLUICE_SOAK_SECONDS", "600"))
PATIENCE = 180.0
JOBS: dict[str, tuple[Style, tuple[str, ...]]] = {
    "incremental": (
        Style.ANYTHING,
        (
            "--mode",
            "incremental",
            "--cursor",
            "at",
            "--late-rows",
            "scan",
            "--deletes",
            "sweep",
            "--max-delete",
            "100%",
        ),
    ),
    "append": (Style.INSERTS, ("--mode", "append")),
}
#: How a run may end that something was done to (SIGTERM even before it listens), or whose servers came back late, or
#: whose predecessor still holds on.
ENDINGS = {0, 5, 11, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM}


class Job(threading.Thread):
    """One job, run again and again in processes of its own, and looked at after each."""

    def __init__(self, name: str, pair: Pair, seed: int) -> None:
        super().__init__(daemon=True)
        self.style, self._arguments = JOBS[name]
        self.pair = pair
        self.codes: collections.Counter[int] = collections.Counter()
        self.retries = 0
        self.faults: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._label = name
        self._chance = random.Random(seed)
        self._stopping = threading.Event()

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._once()
        except BaseException:  # noqa: BLE001 - the test shows it, and fails
            self.faults.append(f"{self._label}: {traceback.format_exc()}")

    def stop(self) -> None:
        self._stopping.set()
        self.join(PATIENCE + 60)
        assert not self.is_alive(), f"{self._label} did not end"

    def _once(self) -> None:
        staging, lane = self._chance.choice(("unlogged", "temporary")), self._chance.choice(("psql", "libpq"))
        more = ("--staging", staging, "--lane", lane)
        both = ("--source", self.pair.source.dsn, "--target", self.pair.target.dsn)
        with start_cli("sync", *both, "--table", "s.t", "--log-format", "json", *self._arguments, *more) as process:
            self.process = process
            try:
                out, err = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        self.codes[process.returncode] += 1
        if process.returncode not in ENDINGS or "Traceback" in err:
            self.faults.append(f"{self._label}: exit {process.returncode}\n{out}\n{err}")
        self.retries += err.count('"event": "retrying"')
        for each in answered(lambda: strange(self.style, self.pair.target)):
            self.faults.append(f"{self._label}: {each}, after exit {process.returncode}\n{out}\n{err}")


def answered(ask: Callable[[], list[str]]) -> list[str]:
    """Ask a server that may be on its way back."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the server did not come back"
            time.sleep(0.05)


#: Who is killed how, and how often beside the others.
WAYS = {
    ("tool", "SIGKILL"): 3,
    ("tool", "SIGTERM"): 2,
    ("source", "terminate"): 3,
    ("target", "terminate"): 4,
    ("source", "kill -9"): 1,
    ("target", "kill -9"): 2,
    ("writer", "terminate"): 2,
    ("writer", "kill -9"): 1,
}


class Killer:
    """Kills one thing or another, and counts what was there to be killed."""

    def __init__(self, jobs: list[Job], chance: random.Random) -> None:
        self._jobs, self._chance = jobs, chance
        self.kills: collections.Counter[str] = collections.Counter()

    def kill(self) -> None:
        """Kill something, a moment after it was first seen; where it is not there, wait for it a little."""
        ((who, how),) = self._chance.choices(list(WAYS), list(WAYS.values()))
        job = self._chance.choice(self._jobs)
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError, ProcessLookupError):  # its end came from elsewhere
                if self._find(job, who):
                    time.sleep(self._chance.uniform(0, 0.6))  # else it would be met at its beginning alone
                    if pid := self._find(job, who):
                        self._end(job, who, how, pid)
                        self.kills[f"{who} {how}"] += 1
                        return
            time.sleep(0.01)

    def _find(self, job: Job, who: str) -> int:
        """Return the process id of one, or 0."""
        if who == "tool":
            return job.process.pid if job.process and job.process.poll() is None else 0
        name = WRITER if who == "writer" else "pgsluice %"
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE %s"
        pids = _server(job, who).rows(query, (name,))
        return int(self._chance.choice(pids)[0]) if pids else 0

    def _end(self, job: Job, who: str, how: str, pid: int) -> None:
        if how == "terminate":
            _server(job, who).execute("SELECT pg_terminate_backend(%s)", (pid,))
        else:
            os.kill(pid, signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)


def _server(job: Job, who: str) -> Database:
    return job.pair.target if who == "target" else job.pair.source


@pytest.fixture
def pairs() -> Iterator[dict[str, Pair]]:
    """Servers of this test's own, for a kill -9 takes every session of a server down; a database on each for a job."""
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(Cluster(major=16))
        target = stack.enter_context(Cluster(major=18))
        yield {
            name: Pair(stack.enter_context(database(source)), stack.enter_context(database(target))) for name in JOBS
        }


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
def test_whatever_is_killed_and_when_both_sides_are_equal_once_it_is_quiet(pairs: dict[str, Pair]) -> None:
    seed = int(os.environ.get("PGSLUICE_SOAK_SEED", random.randrange(1 << 32)))
    print(f"\nseed {seed}, {SECONDS:g} s", flush=True)
    for name, pair in pairs.items():
        style, arguments = JOBS[name]
        create(pair.source, style)
        assert pair.pgsluice("sync", "--table", "s.t", *arguments).code == 0
    jobs = [Job(name, pair, seed) for name, pair in pairs.items()]
    chance = random.Random(seed)
    killer = Killer(jobs, chance)
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(Writers(job.pair.source, job.style, seed, may_be_killed=True)) for job in jobs]
        for job in jobs:
            job.start()
            stack.callback(job.stop)
        told = started = time.monotonic()
        while time.monotonic() < started + SECONDS and not any(job.faults for job in jobs):
            time.sleep(chance.uniform(1, 5))
            killer.kill()
            if time.monotonic() > told + 60:
                told = time.monotonic()
                print(summary(told - started, jobs, killer, writers), flush=True)
    print(summary(time.monotonic() - started, jobs, killer, writers), flush=True)
    assert not any(job.faults for job in jobs), "\n".join(fault for job in jobs for fault in job.faults)
    assert all(job.codes[0] for job in jobs), "no run of a job came through"
    for job in jobs:
        see_it_end_well(job)


def summary(seconds: float, jobs: list[Job], killer: Killer, writers: list[Writers]) -> str:
    codes = sum((job.codes for job in jobs), collections.Counter[int]())
    return (
        f"{seconds / 60:4.1f} min: {codes.total()} runs, by exit code {dict(sorted(codes.items()))},"
        f" {sum(job.retries for job in jobs)} retries; {killer.kills.total()} kills,"
        f" {dict(sorted(killer.kills.items()))}; {sum(each.commits for each in writers)} commits of writers,"
        f" {sum(each.killed for each in writers)} sessions of theirs lost"
    )


def see_it_end_well(job: Job) -> None:
    """Run once more, now that it is quiet, and compare."""
    for server in (job.pair.source, job.pair.target):
        await_that(lambda server=server: nothing_of_ours(server), f"our sessions to be gone from {server.name}", 60)  # type: ignore[misc]
    done = job.pair.pgsluice("sync", "--table", "s.t", *job._arguments, timeout=PATIENCE)
    assert done.code == 0, done.out + done.err
    assert job.pair.source.image("s.t") == job.pair.target.image("s.t")
    assert job.pair.target.staging_tables() == []


def nothing_of_ours(server: Database) -> bool:
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %'"
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    return not server.value(ours) and not server.value(locks)
