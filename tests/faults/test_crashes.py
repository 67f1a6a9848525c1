"""What a run leaves behind when something dies under it: the old state or the new one, and nothing to mend by hand."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from faulting import WAITING, At, await_a_standby, await_that, crash, stop_awaiting_a_standby, versions
from servers import Database, Pair, database, start_cli

from pgsluice import DatabaseOperations, DataCopyEngine, Options, StagingKind
from pgsluice.embedded import Cluster
from pgsluice.errors import CommitAbortedError, PgsluiceError, StagingLostError
from pgsluice.events import Retrying, StepStarted
from pgsluice.sinks.recorder import Recorder

ROWS = 60_000


@pytest.fixture
def shop(source_cluster: Cluster, own_target: Cluster) -> Iterator[Pair]:
    with database(source_cluster) as source, database(own_target) as target:
        source.execute(
            f"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int NOT NULL, filler text);
            INSERT INTO s.t SELECT i, 1, repeat('x', 200) FROM generate_series(1, {ROWS}) i; ANALYZE s.t;"""
        )
        yield Pair(source, target)


def both(pair: Pair) -> list[str]:
    return ["sync", "--source", pair.source.dsn, "--target", pair.target.dsn, "--quiet"]


def arguments(pair: Pair, *more: str) -> list[str]:
    return [*both(pair), "--table", "s.t", *more]


@pytest.mark.parametrize("staging", ["unlogged", "temporary"])
def test_killed_at_a_random_moment_the_target_is_old_or_new_and_the_next_sync_needs_no_hand_work(
    shop: Pair, staging: str
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    started = time.monotonic()
    assert shop.pgsluice("sync", "--table", "s.t", "--staging", staging).code == 0
    whole = time.monotonic() - started
    for version in range(2, 7):
        shop.source.execute(f"UPDATE s.t SET version = {version}")
        process = start_cli(*arguments(shop, "--staging", staging))
        time.sleep(chance.uniform(0.2, whole))
        process.kill()
        process.communicate()
        assert versions(shop.target) in ([(version - 1, ROWS)], [(version, ROWS)]), f"seed {seed}, version {version}"
        after = shop.pgsluice("sync", "--table", "s.t", "--staging", staging)
        assert after.code == 0, after.err
        assert versions(shop.target) == [(version, ROWS)]
        assert shop.target.staging_tables() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", ["staging", "relay", "merge"])
def test_a_signal_at_any_step_rolls_back_cleans_up_and_exits_with_its_code(
    shop: Pair, number: signal.Signals, step: str
) -> None:
    shop.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int, filler text)")
    blocker = psycopg.connect(shop.target.dsn)
    if step == "merge":
        blocker.execute("LOCK TABLE s.t IN ACCESS SHARE MODE; LOCK TABLE s.t IN ROW EXCLUSIVE MODE")
    process = start_cli(
        "sync", "--source", shop.source.dsn, "--target", shop.target.dsn, "--table", "s.t",
        "--staging", "unlogged", "--log-format", "json",
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if '"step_started"' in line and f'"step": "{step}"' in line:
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    blocker.close()
    assert process.returncode == 128 + number, errors
    assert "rolled back" in errors
    assert "Traceback" not in errors
    assert shop.target.value("SELECT count(*) FROM s.t") == 0
    assert shop.target.staging_tables() == []
    history = shop.pgsluice("status").out
    assert "interrupted" in history or (step == "staging" and "No run has written" in history)
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %'"
    await_that(lambda: shop.source.value(ours) == 0, "our sessions on the source to be gone")
    await_that(lambda: shop.target.value(ours) == 0, "our sessions on the target to be gone")


def test_staging_emptied_by_a_crash_of_the_target_is_refused_at_the_gate(shop: Pair) -> None:
    shop.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int, filler text)")
    shop.target.execute("INSERT INTO s.t SELECT i, 0, 'old' FROM generate_series(1, 500) i")
    with DataCopyEngine(DatabaseOperations(shop.source.dsn, shop.target.dsn)) as engine:
        staging = engine.create_staging_table("s.t")
        staged = engine.copy_data_to_staging("s.t", staging)
        crash(shop.target)
        assert shop.target.staging_tables() == [staging.ref.name], "the table outlives the crash, its rows do not"
        with pytest.raises(StagingLostError, match=f"holds 0 rows and {ROWS} were committed"):
            engine.merge_from_staging("s.t", staged, ["id"])
    assert versions(shop.target) == [(0, 500)]


@pytest.mark.parametrize("retries", [0, 5])
def test_a_crash_of_the_target_between_relay_and_merge_deletes_nothing_and_is_tried_again(
    shop: Pair, retries: int
) -> None:
    recorder = Recorder()
    engine = DataCopyEngine(
        DatabaseOperations(shop.source.dsn, shop.target.dsn),
        options=Options(staging=StagingKind.UNLOGGED, retries=retries),
        sinks=[At("merge", lambda: crash(shop.target)), recorder],
    )
    shop.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int, filler text)")
    shop.target.execute("INSERT INTO s.t SELECT i, 0, 'old' FROM generate_series(1, 500) i")
    if retries:
        report = engine.copy_with_staging_table("s.t", "s.t", ["id"], delete_missing=True)
        assert report.attempts == 1 + len(recorder.of(Retrying)) > 1
    else:
        with pytest.raises(PgsluiceError) as raised:
            engine.copy_with_staging_table("s.t", "s.t", ["id"], delete_missing=True)
        assert raised.value.exit_code == 5
        assert "trying again can help" in raised.value.hint
        assert versions(shop.target) == [(0, 500)]
        assert shop.target.staging_tables() == []
        assert shop.pgsluice("sync", "--table", "s.t").code == 0
    assert shop.target.staging_tables() == []
    assert versions(shop.target) == [(1, ROWS)]


@pytest.mark.parametrize("retries", ["0", "5"])
@pytest.mark.parametrize("lane", ["psql", "libpq"])
def test_a_source_that_dies_midway_leaves_no_part_of_a_table_and_is_read_again(
    shop: Pair, lane: str, retries: str
) -> None:
    reading = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %' AND query LIKE 'COPY%'"
    shop.source.execute("UPDATE s.t SET filler = repeat('y', 4000)")
    process = start_cli(*arguments(shop, "--lane", lane, "--staging", "unlogged", "--retries", retries))
    await_that(lambda: shop.source.value(reading) > 0, "the copy to begin")
    shop.source.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'pgsluice %%' AND query LIKE 'COPY%%'"
    )
    out, errors = process.communicate(timeout=60)
    assert shop.target.staging_tables() == []
    if retries == "0":
        assert process.returncode == 5, out + errors
        assert "57P01" in out or "server closed the connection" in out
        assert shop.target.value("SELECT to_regclass('s.t') IS NULL")
    else:
        assert process.returncode == 0, out + errors
        assert "took 2 tries" in out
        assert versions(shop.target) == [(1, ROWS)]


@pytest.mark.parametrize("lane", ["psql", "libpq"])
@pytest.mark.parametrize("relation", ["table", "view"])
def test_a_source_replaced_by_truncate_and_insert_while_a_sync_starts_is_copied_old_or_new(
    shop: Pair, lane: str, relation: str
) -> None:
    """To look at a table's size is to wait for its writer; behind a view, only the lock before the snapshot does."""
    shop.source.execute("CREATE VIEW s.v AS TABLE s.t")
    what = {"table": ("--table", "s.t"), "view": ("--table", "s.v", "--to", "s.t", "--key", "id")}[relation]
    assert shop.pgsluice("sync", *what).code == 0
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 's.t'::regclass"
    for version in range(2, 6):
        replacing = psycopg.connect(shop.source.dsn)
        replacing.execute("TRUNCATE s.t")
        replacing.execute(f"INSERT INTO s.t SELECT i, {version}, 'new' FROM generate_series(1, {ROWS}) i")
        process = start_cli(*both(shop), *what, "--lane", lane)
        await_that(lambda: shop.source.value(waiting) > 0, "the sync to queue behind the writer")
        replacing.commit()
        replacing.close()
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, out + errors
        assert versions(shop.target) == [(version, ROWS)]


def test_a_commit_that_got_no_answer_is_proven_and_reported_as_done(shop: Pair) -> None:
    """COMMIT waits for a standby that does not exist: committed locally, and then the connection is cut."""
    assert shop.pgsluice("sync", "--table", "s.t").code == 0
    shop.source.execute("UPDATE s.t SET version = 2")
    cutter = threading.Thread(target=cut_a_waiting_commit, args=(shop.target,))

    def arm() -> None:
        await_a_standby(shop.target)
        cutter.start()

    engine = DataCopyEngine(DatabaseOperations(shop.source.dsn, shop.target.dsn), sinks=[At("commit", arm)])
    try:
        result = engine.copy_with_staging_table("s.t", "s.t", ["id"])
    finally:
        stop_awaiting_a_standby(shop.target)
    cutter.join()
    assert (result.status, result.updated) == ("done", ROWS)
    assert versions(shop.target) == [(2, ROWS)]


def cut_a_waiting_commit(target: Database) -> None:
    await_that(lambda: bool(target.rows(WAITING, ("pgsluice %",))), "the commit to wait for a standby")
    target.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s",
        target.rows(WAITING, ("pgsluice %",))[0],
    )
    stop_awaiting_a_standby(target)  # what proves the commit must not wait as well


def test_a_commit_cut_before_it_happened_is_proven_rolled_back_and_only_the_merge_is_tried_again(shop: Pair) -> None:
    assert shop.pgsluice("sync", "--table", "s.t").code == 0
    shop.source.execute("UPDATE s.t SET version = 2")
    databases = DatabaseOperations(shop.source.dsn, shop.target.dsn)
    cut = DataCopyEngine(
        databases, options=Options(retries=0), sinks=[At("commit", lambda: terminate_writer(shop.target))]
    )
    with pytest.raises(CommitAbortedError, match="proves that it was rolled back"):
        cut.copy_with_staging_table("s.t", "s.t", ["id"])
    assert versions(shop.target) == [(1, ROWS)]
    recorder = Recorder()
    again = DataCopyEngine(
        databases,
        options=Options(staging=StagingKind.UNLOGGED),
        sinks=[At("commit", lambda: terminate_writer(shop.target)), recorder],
    )
    result = again.copy_with_staging_table("s.t", "s.t", ["id"])
    assert (result.updated, result.attempts) == (ROWS, 2)
    steps = [event.step for event in recorder.of(StepStarted)]
    assert (steps.count("relay"), steps.count("merge")) == (1, 2)
    assert versions(shop.target) == [(2, ROWS)]


def terminate_writer(target: Database) -> None:
    target.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name LIKE 'pgsluice %' AND state = 'idle in transaction'"
    )


def test_clean_drops_what_a_killed_run_left_and_nothing_of_a_live_one(shop: Pair) -> None:
    with DataCopyEngine(DatabaseOperations(shop.source.dsn, shop.target.dsn)) as engine:
        live = engine.create_staging_table("s.t")
        with psycopg.connect(shop.target.dsn, autocommit=True) as connection:
            dead = live.ref.name.replace("_1", "_dead")
            connection.execute(f"CREATE UNLOGGED TABLE pgsluice.{dead} ()")
            tag = '{"pgsluice": 1, "run": "gone", "target": "s.other", "lock": 42}'
            connection.execute(f"COMMENT ON TABLE pgsluice.{dead} IS '{tag}'")
            connection.execute("CREATE TABLE pgsluice.stg_mine (a int)")
        assert shop.pgsluice("clean").out == f"dropped pgsluice.{dead}\n"
        assert shop.target.staging_tables() == sorted([live.ref.name, "stg_mine"])


def test_a_second_run_on_a_held_target_exits_with_11(shop: Pair) -> None:
    with DataCopyEngine(DatabaseOperations(shop.source.dsn, shop.target.dsn)) as engine:
        engine.create_staging_table("s.t")
        second = shop.pgsluice("sync", "--table", "s.t", "--wait-for-lock", "0")
    assert second.code == 11
    assert "another run holds s.t" in second.out
