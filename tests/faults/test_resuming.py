"""A run that dies or fails inside a large table leaves slices, and the next one uses those that are proven to hold."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from faulting import At, await_that, crash
from servers import Pair, database, start_cli

from pgsluice import Options, sync
from pgsluice.embedded import Cluster
from pgsluice.events import Event, Retrying, Warned

ROWS = 60_000
SLICED = ("--resumable", "--slice-bytes", "1MB")
#: About a second for the whole table, so that a kill finds it on its way.
SLOWLY = ("--where", "id % 300 <> 0 OR pg_sleep(0.005) IS NOT NULL")


@pytest.fixture(scope="module")
def own_target() -> Iterator[Cluster]:
    """A target of this module's own: one kill -9 takes every session of a server down.

    What was rolled back is long not in its log, as in the moment before any other crash.
    """
    with Cluster(major=18, settings={"wal_writer_delay": "1s", "autovacuum": "off"}) as cluster:
        yield cluster


@pytest.fixture
def shop(source_cluster: Cluster, own_target: Cluster) -> Iterator[Pair]:
    with database(source_cluster) as source, database(own_target) as target:
        source.execute(
            f"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int NOT NULL, at timestamptz, filler text)
              WITH (fillfactor = 90);
            INSERT INTO s.t SELECT i, CASE WHEN i IN (100, 101) THEN i ELSE 1 END, '2026-01-01'::timestamptz + i * interval '1 s', repeat('x', 100)
            FROM generate_series(1, {ROWS}) i; ANALYZE s.t;"""
        )
        yield Pair(source, target)


SLICES = "SELECT count(*) FROM pg_class WHERE relname LIKE 'stg\\_%\\_s%' AND obj_description(oid) IS NOT NULL"


def committed(pair: Pair) -> int:
    return int(pair.target.value(SLICES))


COPYING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'"
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %'"


def killed(pair: Pair, *more: str, slices: int = 3) -> None:
    """Kill -9 a sync when it has committed some slices and copies another one."""
    command = ["sync", "--source", pair.source.dsn, "--target", pair.target.dsn, "--table", "s.t", "--quiet"]
    with start_cli(*command, *SLICED, *SLOWLY, *more) as process:
        await_that(lambda: committed(pair) >= slices or process.poll() is not None, "some slices to be committed")
        await_that(lambda: pair.target.value(COPYING) or process.poll() is not None, "another one to be copied")
        process.kill()
        out, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, out + errors


def resumed(pair: Pair, *more: str) -> dict[str, object]:
    done = pair.pgsluice("sync", "--table", "s.t", "--json", "--resume", "last", *SLICED, *SLOWLY, *more)
    assert done.code == 0, done.out + done.err
    assert pair.target.image("s.t") == pair.source.image("s.t")
    assert pair.target.staging_tables() == []
    return {**done.lines[0], "told": done.err}


def test_a_killed_run_is_resumed_from_the_slices_that_it_has_committed(shop: Pair) -> None:
    killed(shop)
    kept, found = shop.target.staging_tables(), committed(shop)
    assert kept
    status = shop.pgsluice("status").out
    assert "kept for --resume " in status
    assert "(s.t), until " in status
    assert "kept pgsluice." in shop.pgsluice("clean").out
    assert shop.target.staging_tables() == kept, "it is no orphan yet"
    report = resumed(shop)
    assert report["slices_reused"] == found >= 3
    assert isinstance(report["slices"], int)
    assert report["slices"] > found
    assert report["staging_count"] == report["inserted"] == ROWS


def test_a_slice_whose_rows_have_changed_is_read_again_and_the_others_are_not(shop: Pair) -> None:
    killed(shop, slices=4)
    found = committed(shop)
    shop.source.execute("UPDATE s.t SET v = 2 WHERE id = 1")
    report = resumed(shop)
    assert report["slices_reused"] == found - 1
    assert "1 were lost, or their rows have changed" in str(report["told"])


def test_values_that_two_rows_of_a_page_have_swapped_are_noticed(shop: Pair) -> None:
    killed(shop)
    found = committed(shop)
    pages = "SELECT array_agg((ctid::text::point)[0] ORDER BY id) FROM s.t WHERE id IN (100, 101)"
    before = shop.source.value(pages)
    shop.source.execute("UPDATE s.t SET v = 201 - v WHERE id IN (100, 101)")
    assert shop.source.value(pages) == before, "they stay in their slice, with all values that it had"
    assert resumed(shop)["slices_reused"] == found - 1


def test_rows_that_were_deleted_or_moved_to_another_slice_are_noticed(shop: Pair) -> None:
    killed(shop, slices=4)
    shop.source.execute("DELETE FROM s.t WHERE id = 5; UPDATE s.t SET filler = filler || filler WHERE id <= 100")
    report = resumed(shop)
    assert report["staging_count"] == ROWS - 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("ALTER TABLE s.t ADD COLUMN more int DEFAULT 3", "what is read"),
        ("ALTER TABLE s.t ALTER COLUMN v TYPE bigint", "the source's table"),
        ("CREATE TABLE s.n AS TABLE s.t; ALTER TABLE s.n ADD PRIMARY KEY (id); DROP TABLE s.t; ALTER TABLE s.n RENAME TO t", "the source's table"),
    ],
)  # fmt: skip
def test_what_was_made_from_something_else_starts_over_and_says_why(shop: Pair, change: str, why: str) -> None:
    killed(shop)
    shop.source.execute(change)
    report = resumed(shop)
    assert report["slices_reused"] == 0
    assert f"can't be used: {why}" in str(report["told"])


def test_a_table_that_changes_between_two_tries_of_a_run_starts_over(shop: Pair) -> None:
    """Where the snapshot is lost, its lock on the table is, too."""
    told = []

    def change(event: Event) -> None:
        if isinstance(event, Retrying) and event.attempt == 2:
            shop.source.execute("ALTER TABLE s.t ADD COLUMN more int DEFAULT 3")
        if isinstance(event, Warned):
            told.append(event.message)

    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %'"

    def end_all() -> None:
        shop.source.execute(ended)
        shop.target.execute(ended)

    options = Options(resumable=True, slice_bytes=1 << 20)
    report = sync(shop.source.dsn, shop.target.dsn, "s.t", options=options, sinks=[At("merge", end_all), change])
    assert report.exit_code == 0, report.tables[0].error
    assert report.tables[0].slices_reused == 0
    assert [line for line in told if "can't be used: what is read changed; the table starts over" in line]
    assert shop.target.image("s.t") == shop.source.image("s.t")
    assert shop.target.staging_tables() == []


def test_what_another_job_of_the_same_target_has_left_is_not_used_and_told(shop: Pair) -> None:
    killed(shop)
    done = shop.pgsluice("sync", "--table", "s.t", "--json", "--resume", "last", *SLICED, "--where", "id > 5")
    assert (done.code, done.lines[0]["slices_reused"]) == (0, 0), done.err
    assert "can't be used: its condition, mode, cursor or source was another one" in done.err
    assert shop.target.staging_tables() == []


def test_slices_that_a_crash_has_emptied_are_read_again(shop: Pair) -> None:
    killed(shop)
    await_that(lambda: not shop.target.value(OURS), "its sessions to be gone")
    crash(shop.target)  # comes back by itself, though what was rolled back is not in the log yet
    report = resumed(shop)
    assert report["slices_reused"] == 0
    assert report["inserted"] == ROWS


def test_within_a_run_a_try_goes_on_from_the_slice_that_failed(shop: Pair) -> None:
    struck = []

    def cut_the_relay() -> None:
        await_that(lambda: committed(shop) >= 2, "two slices to be committed")
        relays = "application_name LIKE 'pgsluice %' AND query LIKE 'COPY%' AND state = 'active'"
        ended = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {relays}"
        await_that(lambda: shop.target.value(ended) > 0, "a relay to be under way")
        struck.append(committed(shop))

    options = Options(resumable=True, slice_bytes=1 << 20)
    with ThreadPoolExecutor(1) as pool:
        cutting = pool.submit(cut_the_relay)
        report = sync(shop.source.dsn, shop.target.dsn, "s.t", where=SLOWLY[1], options=options)
        cutting.result()
    assert report.exit_code == 0, report.tables[0].error
    assert report.tables[0].attempts == 2
    assert report.tables[0].slices_reused >= struck[0]
    assert shop.target.image("s.t") == shop.source.image("s.t")
    assert shop.target.staging_tables() == []


def test_what_fails_at_its_merge_is_resumed_without_a_row_relayed_again(shop: Pair) -> None:
    shop.target.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int CHECK (v <> 1), at timestamptz, filler text)"
    )
    failed = shop.pgsluice("sync", "--table", "s.t", *SLICED)
    assert failed.code == 1
    assert "slices stay in pgsluice.stg_" in failed.err
    assert "for 24 h: the same command with --resume " in failed.err
    shop.target.execute("ALTER TABLE s.t DROP CONSTRAINT t_v_check")
    done = shop.pgsluice("sync", "--table", "s.t", "--json", *SLICED, "--resume", "last")
    assert done.code == 0, done.out + done.err
    assert done.lines[0]["slices_reused"] == done.lines[0]["slices"] > 5
    assert done.lines[0]["bytes"] == 0
    assert shop.target.image("s.t") == shop.source.image("s.t")


def test_what_is_kept_goes_with_its_time_by_hand_or_when_it_is_of_no_more_use(shop: Pair) -> None:
    killed(shop, "--resume-keep", "0.5s")
    assert "dropped pgsluice." in shop.pgsluice("clean").out
    assert shop.target.staging_tables() == []
    killed(shop)
    assert "dropped pgsluice." in shop.pgsluice("clean", "--kept").out
    assert shop.target.staging_tables() == []
    killed(shop)
    assert shop.pgsluice("sync", "--table", "s.t").code == 0
    assert shop.target.staging_tables() == []


def test_a_full_disk_gets_its_room_back(shop: Pair) -> None:
    shop.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int, at timestamptz, filler text)")
    shop.target.execute(
        """CREATE FUNCTION s.full() RETURNS trigger LANGUAGE plpgsql
        AS $$BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END$$;
        CREATE TRIGGER full_ BEFORE INSERT ON s.t FOR EACH STATEMENT EXECUTE FUNCTION s.full()"""
    )
    failed = shop.pgsluice("sync", "--table", "s.t", *SLICED)
    assert failed.code == 1
    assert "53100" in failed.out
    assert shop.target.staging_tables() == []


def test_a_run_over_many_tables_is_resumed_with_what_is_missing(shop: Pair) -> None:
    shop.source.execute("CREATE TABLE s.a (id int PRIMARY KEY); INSERT INTO s.a VALUES (1)")
    shop.source.execute("CREATE TABLE s.z (id int PRIMARY KEY); INSERT INTO s.z VALUES (1)")
    shop.target.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int CHECK (v <> 1), at timestamptz, filler text)"
    )
    first = shop.pgsluice("sync", "--table", "s.*", "--json")
    assert first.code == 3
    shop.target.execute("ALTER TABLE s.t DROP CONSTRAINT t_v_check")
    run = first.lines[-1]["run_id"]
    second = shop.pgsluice("sync", "--table", "s.*", "--json", "--resume", run)
    assert second.code == 0, second.err
    assert [line["target"] for line in second.lines[:-1]] == ["s.t"]
    assert "has done 2 of these 3 tables" in second.err
    third = shop.pgsluice("sync", "--table", "s.*", "--json", "--resume", "last")
    assert (third.code, third.lines[-1]["tables"]) == (0, 0)
    unknown = shop.pgsluice("sync", "--table", "s.*", "--resume", "nosuch")
    assert unknown.code == 2
    assert "there is no run nosuch to resume" in unknown.err


def test_fail_fast_leaves_the_tables_behind_the_first_failure_alone(shop: Pair) -> None:
    shop.source.execute("CREATE TABLE s.z (id int PRIMARY KEY); INSERT INTO s.z VALUES (1)")
    shop.target.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int CHECK (v <> 1), at timestamptz, filler text)"
    )
    done = shop.pgsluice("sync", "--table", "s.*", "--json", "--fail-fast", "--jobs", "1")
    assert done.code == 1, done.out
    assert [(line["target"], line["status"]) for line in done.lines[:-1]] == [("s.t", "failed"), ("s.z", "skipped")]
    assert shop.target.value("SELECT to_regclass('s.z') IS NULL")
