"""What servers and other people's sessions do to a run: conflicts, failovers, full disks, deadlocks, locks, changed tables."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from faulting import At, await_that
from psycopg.conninfo import make_conninfo
from servers import Database, Pair, database
from standbys import Standby, catch_up, seen_from

from pgsluice import Lane, Options, StagingKind, TableReport, sync
from pgsluice.embedded import Cluster
from pgsluice.embedded.cluster import _give_to_server
from pgsluice.events import Event, Retrying, Sink, StepStarted, Warned
from pgsluice.sinks.recorder import Recorder

TABLE = """CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int NOT NULL, filler text);
INSERT INTO s.t SELECT i, 1, repeat('x', 200) FROM generate_series(1, 500) i;"""


def copied(
    source: str, target: str, *sinks: Sink, options: Options | None = None, table: str = "s.t", **more: Any
) -> TableReport:
    (report,) = sync(source, target, table, sinks=sinks, options=options or Options(), **more).tables
    return report


def assert_equal(source: Database, target: Database) -> None:
    assert target.image("s.t") == source.image("s.t")
    assert target.staging_tables() == []


class Each:
    """A sink that does something whenever a step begins, for so many times."""

    def __init__(self, step: str, action: Callable[[], None], times: int = 1000) -> None:
        self._step, self._action, self._left = step, action, times

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == self._step and self._left:
            self._left -= 1
            self._action()


# --- a standby as the source -----------------------------------------------------------------------------------------

SLOWLY = "pg_sleep(0.002) IS NOT NULL"
CONFLICTS = {
    "snapshot": "DELETE FROM s.t WHERE id = (SELECT max(id) FROM s.t)",
    "lock": "TRUNCATE s.t; INSERT INTO s.t SELECT i, 2, 'new' FROM generate_series(1, 500) i",
}


@pytest.fixture(scope="module")
def primary() -> Iterator[Cluster]:
    with Cluster(major=16, settings={"autovacuum": "off"}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def standby(primary: Cluster) -> Iterator[Cluster]:
    with Standby(primary, {"max_standby_streaming_delay": "50ms", "hot_standby_feedback": "off"}) as cluster:
        yield cluster


@pytest.fixture
def replicated(primary: Cluster, standby: Cluster, target_cluster: Cluster) -> Iterator[tuple[Database, Pair]]:
    """A table on the primary, and a pair that reads it from the standby."""
    with database(primary) as on_primary, database(target_cluster) as target:
        on_primary.execute(TABLE)
        catch_up(standby, primary)
        yield on_primary, Pair(seen_from(standby, on_primary), target)


def conflict(on_primary: Database, standby: Cluster, kind: str) -> None:
    """Do what the standby can't replay beside our snapshot, and wait until it has."""
    on_primary.execute(CONFLICTS[kind])
    on_primary.execute("VACUUM s.t")
    catch_up(standby, on_primary.cluster)


@pytest.mark.parametrize("kind", CONFLICTS)
@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
def test_a_copy_that_a_standby_cancels_begins_again_in_a_new_snapshot(
    replicated: tuple[Database, Pair], standby: Cluster, lane: Lane, kind: str
) -> None:
    on_primary, pair = replicated
    reading = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND wait_event = 'PgSleep'"

    def meet() -> None:
        await_that(lambda: pair.source.value(reading) > 0, "the copy to be under way")
        conflict(on_primary, standby, kind)

    meeting = threading.Thread(target=meet)
    recorder = Recorder()
    report = copied(
        pair.source.dsn, pair.target.dsn, At("relay", meeting.start), recorder, options=Options(lane=lane), where=SLOWLY
    )
    meeting.join()
    assert (report.status, report.attempts) == ("done", 2), report.error
    assert [event.sqlstate for event in recorder.of(Retrying)] == ["40001"]
    assert any("new snapshot" in event.message for event in recorder.of(Warned))
    assert_equal(on_primary, pair.target)


def test_a_standby_that_goes_on_cancelling_is_given_up_with_what_to_do_about_it(
    replicated: tuple[Database, Pair], standby: Cluster
) -> None:
    on_primary, pair = replicated
    assert copied(pair.source.dsn, pair.target.dsn).status == "done"
    old = pair.target.image("s.t")
    meet = Each("relay", lambda: conflict(on_primary, standby, "snapshot"))  # our snapshot is idle, or its copy runs
    recorder = Recorder()
    report = copied(pair.source.dsn, pair.target.dsn, meet, recorder)
    assert (report.status, report.exit_code, report.step) == ("failed", 5, "relay")
    assert 1 < report.attempts <= 6
    assert "hot_standby_feedback" in str(report.hint), (report.error, report.hint)
    assert "primary" in str(report.hint)
    assert pair.target.image("s.t") == old
    assert pair.target.staging_tables() == []
    assert copied(pair.source.dsn, pair.target.dsn).status == "done"
    assert_equal(on_primary, pair.target)


# --- a standby of the target -----------------------------------------------------------------------------------------


def test_copying_waits_while_a_standby_of_the_target_is_behind(
    primary: Cluster, standby: Cluster, source_cluster: Cluster
) -> None:
    with database(source_cluster) as source, database(primary) as target:
        source.execute(
            "CREATE TABLE t (id int PRIMARY KEY, filler text);"
            " INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 30000) i; ANALYZE t"
        )
        catch_up(standby, primary)
        behind = seen_from(standby, target)
        behind.execute("SELECT pg_wal_replay_pause()")
        told: list[str] = []

        def listen(event: Event) -> None:
            if isinstance(event, Warned):
                told.append(event.message.rpartition(": ")[2])
                if told == ["copying waits"]:
                    behind.execute("SELECT pg_wal_replay_resume()")

        options = Options(staging=StagingKind.PROMOTED, max_lag=64 << 10, max_rate=2 << 20)
        try:
            report = sync(source.dsn, target.dsn, "public.t", options=options, sinks=[listen])
        finally:
            behind.execute("SELECT pg_wal_replay_resume()")
        assert report.exit_code == 0, report.tables[0].error
        assert told[:2] == ["copying waits", "copying goes on"]
        assert target.image("t") == source.image("t")


# --- a failover of the target ----------------------------------------------------------------------------------------


@pytest.fixture
def first() -> Iterator[Cluster]:
    with Cluster(major=18) as cluster:
        yield cluster


@pytest.fixture
def second(first: Cluster) -> Iterator[Cluster]:
    with Standby(first) as cluster:
        yield cluster


@pytest.fixture
def cluster_of_two(
    first: Cluster, second: Cluster, source_cluster: Cluster
) -> Iterator[tuple[Database, Database, Database, str]]:
    """A source, a target on the first server and on its standby, and a DSN that names both."""
    with database(source_cluster) as source:
        source.execute(TABLE)
        with psycopg.connect(first.dsn, autocommit=True) as admin:
            admin.execute("CREATE DATABASE shop")
        here = Database(first, "shop", first.dsn_for("shop"))
        hosts = ",".join(str(cluster.socket_dir) for cluster in (first, second))
        dsn = make_conninfo("", host=hosts, port=f"{first.port},{second.port}", dbname="shop", user="postgres")
        assert copied(source.dsn, dsn).status == "done"
        source.execute("UPDATE s.t SET version = 2")
        catch_up(second, first)
        yield source, here, seen_from(second, here), dsn


def test_a_target_that_fails_over_midway_is_followed_to_its_new_primary(
    cluster_of_two: tuple[Database, Database, Database, str],
) -> None:
    """The old one comes back as a standby that takes no writes, first in the list of hosts as before."""
    source, here, there, dsn = cluster_of_two

    def fail_over() -> None:
        here.cluster.stop(immediate=True)
        there.execute("SELECT pg_promote()")
        signal = here.cluster.data / "standby.signal"
        signal.touch()
        _give_to_server(signal)
        here.cluster.start()

    report = copied(source.dsn, dsn, At("merge", fail_over), options=Options(staging=StagingKind.UNLOGGED))
    assert report.status == "done", report.error
    assert report.attempts > 1
    assert here.value("SELECT pg_is_in_recovery()")
    assert_equal(source, there)


def test_without_retries_a_failover_ends_the_run_and_the_next_one_finds_the_new_primary(
    cluster_of_two: tuple[Database, Database, Database, str],
) -> None:
    source, here, there, dsn = cluster_of_two

    def fail_over() -> None:
        here.cluster.stop(immediate=True)
        there.execute("SELECT pg_promote()")

    report = copied(source.dsn, dsn, At("relay", fail_over), options=Options(retries=0))
    assert (report.status, report.exit_code) == ("failed", 5)
    assert there.rows("SELECT DISTINCT version FROM s.t") == [(1,)]
    assert copied(source.dsn, dsn).status == "done"
    assert_equal(source, there)


# --- disks and limits ------------------------------------------------------------------------------------------------

DISK_BYTES = 32 << 20


@pytest.fixture
def small_disk(target_cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Database, Path]]:
    """A target whose data lie on a disk of 32 MB."""
    folder = target_cluster.data.parent / f"disk-{tmp_path.name}"
    folder.mkdir(mode=0o711)
    mounted = os.geteuid() == 0 and _tool("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "pgsluice", str(folder))
    try:
        if not mounted:
            pytest.skip("only root can mount a small disk, and not everywhere")
        inside = folder / "space"
        inside.mkdir(mode=0o700)
        _give_to_server(inside)
        with _tablespace(target_cluster, inside), database(target_cluster, "TABLESPACE small") as target:
            yield target, folder
    finally:
        if mounted:
            assert _tool("umount", str(folder))
        folder.rmdir()


def _tool(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _tablespace(cluster: Cluster, folder: Path) -> Iterator[None]:
    with psycopg.connect(cluster.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE TABLESPACE small LOCATION '{folder}'".encode())
        try:
            yield
        finally:
            admin.execute("DROP TABLESPACE small")


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.TEMPORARY])
@pytest.mark.parametrize(("megabytes", "step"), [(40, "relay"), (16, "merge")])
def test_a_full_disk_of_the_target_stops_for_a_person_and_gives_back_what_staging_took(
    source_cluster: Cluster, small_disk: tuple[Database, Path], megabytes: int, step: str, staging: StagingKind
) -> None:
    target, disk = small_disk
    with database(source_cluster) as source:
        source.execute(TABLE)
        assert copied(source.dsn, target.dsn).status == "done"
        target.execute("CHECKPOINT")  # writes what has no place on the disk yet
        old, free = target.image("s.t"), free_bytes(disk)
        source.execute(
            f"INSERT INTO s.t SELECT i, 2, repeat('y', 1000) FROM generate_series(1000, 1000 + {megabytes * 1000}) i"
        )
        report = copied(source.dsn, target.dsn, options=Options(staging=staging))
        assert (report.status, report.exit_code, report.sqlstate) == ("failed", 1, "53100"), report.error
        assert (report.step, report.attempts) == (step, 1)
        assert "Make room" in str(report.hint)
        assert target.staging_tables() == []
        assert target.image("s.t") == old
        target.execute("VACUUM s.t")  # gives back what a merge that was rolled back has appended
        target.execute("CHECKPOINT")
        assert free_bytes(disk) > free - (2 << 20)
        source.execute("DELETE FROM s.t WHERE id > 1500")
        assert copied(source.dsn, target.dsn).status == "done"
        assert_equal(source, target)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_temp_file_limit_stops_for_a_person_and_names_the_side(pair: Pair, side: str) -> None:
    pair.source.execute(TABLE)
    pair.source.execute("INSERT INTO s.t SELECT i, 1, md5(i::text) FROM generate_series(1000, 60000) i")
    limited = pair.source if side == "source" else pair.target
    for name, value in {"temp_file_limit": "64kB", "work_mem": "64kB", "maintenance_work_mem": "1MB"}.items():
        limited.execute(f"ALTER DATABASE {limited.name} SET {name} = '{value}'")
    recorder = Recorder()
    (report,) = sync(
        pair.source.dsn,
        pair.target.dsn,
        query="SELECT * FROM s.t ORDER BY filler",
        to="s.t",
        key=["id"],
        sinks=[recorder],
    ).tables
    assert (report.status, report.exit_code, report.sqlstate) == ("failed", 1, "53400"), report.error
    assert (report.step, report.attempts) == ("relay" if side == "source" else "keys", 1)
    assert "temp_file_limit" in str(report.hint)
    assert ("target" in str(report.hint)) <= (side == "target")
    assert pair.target.staging_tables() == []
    assert pair.target.value("SELECT to_regclass('s.t') IS NULL")


# --- other sessions on the target ------------------------------------------------------------------------------------


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute(TABLE)
    assert copied(pair.source.dsn, pair.target.dsn).status == "done"
    pair.source.execute("UPDATE s.t SET version = 2")
    return pair


def test_a_deadlock_with_a_writer_is_lost_by_the_run_which_tries_again(shop: Pair) -> None:
    """The writer holds a row that our rows refer to, and waits for the table that our merge has locked."""
    shop.target.execute(
        f"""ALTER DATABASE {shop.target.name} SET deadlock_timeout = '100ms';
        CREATE TABLE s.parent (id int PRIMARY KEY); INSERT INTO s.parent VALUES (1), (2);
        ALTER TABLE s.t ADD FOREIGN KEY (version) REFERENCES s.parent;
        CREATE FUNCTION s.dawdle() RETURNS trigger LANGUAGE plpgsql AS
          $$BEGIN PERFORM pg_catalog.pg_sleep(0.5); RETURN NULL; END$$;
        CREATE TRIGGER dawdle BEFORE UPDATE ON s.t EXECUTE FUNCTION s.dawdle();"""
    )
    merging = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%MERGE%%' AND wait_event = 'PgSleep'"
    with psycopg.connect(shop.target.dsn, options="-c deadlock_timeout=10s") as writer:
        writer.execute("UPDATE s.parent SET id = 2 WHERE id = 2")
        writer.execute("DELETE FROM s.parent WHERE id = 2")
        writer.execute("INSERT INTO s.parent VALUES (2)")

        def write() -> None:
            await_that(lambda: shop.target.value(merging) > 0, "the merge to hold its lock")
            writer.execute("UPDATE s.t SET filler = 'written' WHERE id = 1")
            writer.commit()

        writing = threading.Thread(target=write)
        recorder = Recorder()
        report = copied(shop.source.dsn, shop.target.dsn, At("merge", writing.start), recorder)
        writing.join()
    assert [event.sqlstate for event in recorder.of(Retrying)] == ["40P01"]
    assert (report.status, report.attempts) == ("done", 2)
    assert_equal(shop.source, shop.target)


def test_a_lock_that_is_given_back_in_time_is_waited_for_and_its_holder_named(shop: Pair) -> None:
    with psycopg.connect(shop.target.dsn, application_name="the culprit") as other:
        other.execute("LOCK TABLE s.t IN ROW EXCLUSIVE MODE")

        def give_back(event: Event) -> None:
            if isinstance(event, Retrying):
                other.rollback()

        recorder = Recorder()
        report = copied(shop.source.dsn, shop.target.dsn, give_back, recorder, options=Options(lock_timeout=0.5))
    (retrying,) = recorder.of(Retrying)
    assert (retrying.sqlstate, retrying.step) == ("55P03", "merge")
    assert "the lock on s.t was not to be had; held by pid " in retrying.reason
    assert "the culprit, idle in transaction" in retrying.reason
    assert (report.status, report.attempts) == ("done", 2)
    assert_equal(shop.source, shop.target)


def test_a_lock_that_is_not_given_back_is_tried_for_as_long_as_asked(shop: Pair) -> None:
    old = shop.target.image("s.t")
    with psycopg.connect(shop.target.dsn) as other:
        other.execute("LOCK TABLE s.t IN ROW EXCLUSIVE MODE")
        options = Options(lock_timeout=0.2, retries=1000, retry_for=2)
        report = copied(shop.source.dsn, shop.target.dsn, options=options)
        assert (report.status, report.exit_code, report.sqlstate) == ("failed", 5, "55P03")
        assert 1 < report.attempts < 50
        assert report.seconds < 30
        assert shop.target.image("s.t") == old
    assert shop.target.staging_tables() == []


# --- tables that change meanwhile ------------------------------------------------------------------------------------


@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.TEMPORARY])
@pytest.mark.parametrize("step", ["relay", "merge"])
def test_a_column_dropped_midway_is_named_and_not_tried_again(shop: Pair, step: str, staging: StagingKind) -> None:
    dropping = At(step, lambda: shop.target.execute("ALTER TABLE s.t DROP COLUMN filler"))
    report = copied(shop.source.dsn, shop.target.dsn, dropping, options=Options(staging=staging))
    assert (report.status, report.step, report.attempts) == ("failed", "merge", 1)
    assert report.exit_code == 1
    assert "filler" in str(report.error)
    assert shop.target.rows("SELECT DISTINCT version FROM s.t") == [(1,)]
    assert shop.target.staging_tables() == []


@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.TEMPORARY])
def test_a_row_that_the_target_does_not_take_is_named_by_line_and_column_and_told_without_its_value(
    shop: Pair, lane: Lane, staging: StagingKind
) -> None:
    for side in (shop.source, shop.target):
        side.execute("CREATE DOMAIN s.word AS text; ALTER TABLE s.t ADD word s.word DEFAULT 'good'")
    old = shop.target.image("s.t")
    shop.source.execute("UPDATE s.t SET word = 'far too secret' WHERE id = 300")
    shop.source.execute(
        "CREATE TABLE s.sorted AS TABLE s.t ORDER BY id; DROP TABLE s.t; ALTER TABLE s.sorted RENAME TO t"
    )
    stricter = At("relay", lambda: shop.target.execute("ALTER DOMAIN s.word ADD CHECK (length(value) < 9)"))
    options = Options(lane=lane, staging=staging)
    report = copied(shop.source.dsn, shop.target.dsn, stricter, options=options, key=["id"])
    assert (report.status, report.exit_code, report.sqlstate, report.attempts) == ("failed", 1, "23514", 1)
    assert re.search(r"line 300, column word\b", str(report.error)), report.error
    assert "secret" not in str(report)
    assert shop.target.image("s.t") == old
    assert shop.target.staging_tables() == []


def test_a_source_that_was_emptied_before_the_second_try_deletes_nothing(shop: Pair) -> None:
    old = shop.target.image("s.t")

    def empty() -> None:
        shop.source.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %%'"
        )
        shop.source.execute("TRUNCATE s.t")

    recorder = Recorder()
    report = copied(shop.source.dsn, shop.target.dsn, At("relay", empty), recorder)
    assert len(recorder.of(Retrying)) == 1
    assert (report.status, report.exit_code, report.attempts) == ("failed", 6, 2)
    assert "500 of 500 rows (100 %) would be deleted because the source has no rows in scope" in str(report.error)
    assert shop.target.image("s.t") == old
    assert shop.target.staging_tables() == []
