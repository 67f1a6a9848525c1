"""What a job remembers holds under writers that commit in any order, under two runs at once, and under kill -9."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from faulting import WAITING, At, await_a_standby, await_that, crash, stop_awaiting_a_standby
from servers import Database, Outcome, Pair, database, running_cli
from writing import CONTROL, TRIALS, carry_out

from pgsluice import Options, StagingKind, sync
from pgsluice.embedded import Cluster

SECONDS = float(os.environ.get("PGSLUICE_WRITERS_SECONDS", "8"))

MODES = {
    "append": ("--mode", "append"),
    "incremental": ("--mode", "incremental", "--cursor", "at"),
    "xmin": ("--mode", "xmin"),
}


def seeded() -> int:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return seed


# --- writers that commit in any order --------------------------------------------------------------------------------


@pytest.mark.timeout(60 + 2 * SECONDS)
@pytest.mark.parametrize("name", TRIALS)
def test_syncs_under_writers_lose_nothing_double_nothing_and_read_only_what_is_new(pair: Pair, name: str) -> None:
    outcome = carry_out(TRIALS[name], pair.source, pair.target, SECONDS, seeded())
    print(outcome)
    assert outcome.faults == [], outcome
    assert outcome.are_equal, outcome
    assert outcome.commits > 5 * SECONDS, outcome
    assert outcome.syncs > 5, outcome
    assert sum(outcome.read) > 0, outcome
    assert sorted(outcome.shares)[outcome.syncs * 3 // 4] < 0.5, outcome
    assert (outcome.late > 0) == (name == "scan"), outcome


def test_the_same_writers_make_a_sync_that_trusts_its_watermark_lose_rows(pair: Pair) -> None:
    outcome = carry_out(CONTROL, pair.source, pair.target, SECONDS, seeded())
    assert outcome.faults or not outcome.are_equal, outcome


# --- two at once, and kill -9 ----------------------------------------------------------------------------------------


@pytest.fixture
def log(source_cluster: Cluster, own_target: Cluster) -> Iterator[Pair]:
    """A table that only grows, and without a key: a row that came twice would stand there twice."""
    with database(source_cluster) as source, database(own_target) as target:
        source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int, at timestamptz DEFAULT now(), filler text)")
        yield Pair(source, target)


def grow(pair: Pair, rows: int, filler: int = 20) -> None:
    pair.source.execute(
        f"""INSERT INTO s.t (id, filler) SELECT i, repeat('x', {filler})
        FROM generate_series(1, {rows}) n, LATERAL (SELECT n + (SELECT count(*) FROM s.t) AS i) numbered"""
    )


def keyed(pair: Pair, mode: str) -> None:
    if mode != "append":
        pair.source.execute("ALTER TABLE s.t ADD PRIMARY KEY (id)")


def arguments(pair: Pair, mode: str, *more: str) -> list[str]:
    both = ["--source", pair.source.dsn, "--target", pair.target.dsn]
    return ["sync", *both, "--table", "s.t", "--json", "--quiet", *MODES[mode], *more]


def synced(pair: Pair, mode: str, *more: str) -> dict[str, Any]:
    done = pair.pgsluice("sync", "--table", "s.t", "--json", *MODES[mode], *more)
    assert done.code == 0, done.out + done.err
    report: dict[str, Any] = done.lines[0]
    return report


def state(target: Database) -> list[tuple[Any, ...]]:
    return target.rows("SELECT * FROM pgsluice.job_state")


def commits(target: Database) -> int:
    seq = target.value("SELECT seq FROM pgsluice.job_state")
    assert isinstance(seq, int)
    return seq


def assert_complete(pair: Pair) -> None:
    assert pair.target.image("s.t") == pair.source.image("s.t")


def ended(process: subprocess.Popen[str]) -> Outcome:
    out, errors = process.communicate(timeout=60)
    return Outcome(process.returncode, out, errors)


@contextlib.contextmanager
def held_at_its_merge(
    pair: Pair, mode: str, *more: str
) -> Iterator[tuple[subprocess.Popen[str], psycopg.Connection[Any]]]:
    """Start a sync and see it wait for the target's lock, which the connection gives back when it is closed."""
    with psycopg.connect(pair.target.dsn) as blocker:
        blocker.execute("LOCK TABLE s.t IN SHARE MODE")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 's.t'::regclass"
        with running_cli(*arguments(pair, mode, *more)) as process:
            await_that(lambda: pair.target.value(waiting) > 0, "the merge to wait for its lock")
            yield process, blocker


def killed_at_its_commit(pair: Pair, mode: str, *more: str) -> None:
    """Kill -9 a sync whose COMMIT is done and not answered: it waits for a standby that does not exist."""
    with held_at_its_merge(pair, mode, *more) as (process, blocker):
        await_a_standby(pair.target)
        blocker.close()
        await_that(lambda: bool(pair.target.rows(WAITING, ("pgsluice %",))), "the commit to wait for a standby")
        process.kill()
        assert ended(process).code == -signal.SIGKILL


@pytest.mark.parametrize("mode", ["append", "incremental"])
def test_of_two_runs_of_one_job_one_works_and_the_other_ends_with_11(log: Pair, mode: str) -> None:
    keyed(log, mode)
    grow(log, 1000)
    synced(log, mode)
    grow(log, 500)
    with held_at_its_merge(log, mode) as (first, blocker):
        second = log.pgsluice("sync", "--table", "s.t", "--wait-for-lock", "0", *MODES[mode])
        blocker.close()
        assert ended(first).code == 0
    assert second.code == 11, second.out
    assert "another run holds s.t" in second.out
    assert commits(log.target) == 2
    assert_complete(log)


@pytest.mark.parametrize(
    ("mode", "staging"),
    [("append", "unlogged"), ("append", "temporary"), ("incremental", "unlogged"), ("xmin", "temporary")],
)
def test_killed_between_its_commit_and_the_reply_the_next_run_repeats_and_skips_nothing(
    log: Pair, mode: str, staging: str
) -> None:
    keyed(log, mode)
    grow(log, 1000)
    synced(log, mode)
    grow(log, 500)
    try:
        killed_at_its_commit(log, mode, "--staging", staging)
    finally:
        stop_awaiting_a_standby(log.target)
    await_that(lambda: commits(log.target) == 2, "the commit that was never answered")
    assert_complete(log)
    grow(log, 200)
    after = synced(log, mode)
    assert (after["inserted"], after["updated"]) == (200, 0)
    assert commits(log.target) == 3
    assert_complete(log)
    assert log.target.staging_tables() == []


@pytest.mark.parametrize("mode", ["append", "incremental"])
def test_a_run_that_begins_while_a_killed_one_still_commits_is_rolled_back_whole(log: Pair, mode: str) -> None:
    """The dead run's lock is free and its commit not visible yet: only compare-and-set tells the second run."""
    keyed(log, mode)
    grow(log, 1000)
    synced(log, mode)
    grow(log, 500)
    with contextlib.ExitStack() as stack:
        stack.callback(stop_awaiting_a_standby, log.target)
        killed_at_its_commit(log, mode)
        second = stack.enter_context(running_cli(*arguments(log, mode)))
        await_that(lambda: len(log.target.rows(WAITING, ("pgsluice %",))) == 2, "the second run to have begun")
        stop_awaiting_a_standby(log.target)
        outcome = ended(second)
    assert outcome.code == 11, outcome.out + outcome.err
    assert "another run has finished s.t since this one began" in outcome.out
    assert commits(log.target) == 2
    assert_complete(log)
    assert synced(log, mode)["inserted"] == 0
    assert_complete(log)


def killed_within(process: subprocess.Popen[str], step: str, seconds: float) -> None:
    """Kill -9 a sync that tells its steps as JSON, so long after it has begun one."""
    assert process.stderr is not None
    for line in process.stderr:
        if '"step_started"' in line and f'"step": "{step}"' in line:
            break
    time.sleep(seconds)
    process.kill()
    process.communicate()


def test_killed_at_random_moments_mode_append_has_every_row_once(log: Pair) -> None:
    chance = random.Random(seeded())
    grow(log, 5_000, 100)
    synced(log, "append")
    both = ["sync", "--source", log.source.dsn, "--target", log.target.dsn, "--table", "s.t", "--log-format", "json"]
    for _ in range(10):
        grow(log, 5_000, 100)
        step = chance.choice(["relay", "merge", "state", "commit", "commit"])
        with running_cli(*both, *MODES["append"], "--staging", chance.choice(["unlogged", "temporary"])) as process:
            killed_within(process, step, chance.choice([0.0, chance.uniform(0, 0.02)]))
        image = log.target.image("s.t")
        assert len(image) == len(set(image))
    print(f"{commits(log.target) - 1} of 10 had committed")
    synced(log, "append")
    assert_complete(log)
    assert log.target.staging_tables() == []


def empty_staging(target: Database) -> None:
    """Do to staging what a crash does, and leave the sessions alone."""
    for name in target.staging_tables():
        target.execute(f"TRUNCATE pgsluice.{name}")


@pytest.mark.parametrize("fault", [crash, empty_staging])
@pytest.mark.parametrize("mode", ["append", "incremental"])
@pytest.mark.parametrize("retries", [0, 5])
def test_staging_lost_before_the_merge_moves_nothing_and_the_next_try_or_run_is_complete(
    log: Pair, mode: str, fault: Callable[[Database], None], retries: int
) -> None:
    keyed(log, mode)
    grow(log, 1000)
    synced(log, mode)
    before = state(log.target), log.target.image("s.t")
    grow(log, 500)
    settings: dict[str, dict[str, Any]] = {
        "append": {},
        "incremental": {"cursor": "at", "deletes": "sweep", "max_delete": "100%"},
    }
    report = sync(
        log.source.dsn,
        log.target.dsn,
        "s.t",
        mode=mode,
        **settings[mode],
        options=Options(staging=StagingKind.UNLOGGED, retries=retries),
        sinks=[At("merge", lambda: fault(log.target))],
    )
    if retries:
        assert (report.exit_code, report.tables[0].inserted) == (0, 500), report.tables[0].error
    else:
        assert report.exit_code == 5, report.tables[0].error
        assert (state(log.target), log.target.image("s.t")) == before
        assert synced(log, mode)["inserted"] == 500
    assert commits(log.target) == 2
    assert_complete(log)
    assert log.target.staging_tables() == []
