"""What a copy takes on the target and in memory: estimated before, and kept under the user's ceilings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from servers import Outcome, Pair

#: In FROM the numbers would be gathered before the first is sent.
ENDLESS = "SELECT i AS id, md5(i::text) AS note FROM (SELECT generate_series(1, 1000000000000) AS i) numbers"
TABLES = {
    "narrow": ("id int PRIMARY KEY, v int", "i, i", "v = -v", ""),
    "indexed": (
        "id int PRIMARY KEY, a int, b text",
        "i, i * 7919 % 100003, md5(i::text)",
        "a = -a, b = md5(b)",
        "a, b",
    ),
}


def first(done: Outcome) -> dict[str, Any]:
    return done.lines[0]


# --- the estimate ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_growth_and_wal_stay_below_the_estimate_and_near_it_where_every_row_is_written(pair: Pair, name: str) -> None:
    columns, values, change, indexes = TABLES[name]
    pair.source.execute(
        f"CREATE SCHEMA s; CREATE TABLE s.t ({columns});"
        f" INSERT INTO s.t SELECT {values} FROM generate_series(1, 60000) i; ANALYZE s.t"
    )
    taken = "SELECT coalesce(pg_total_relation_size(to_regclass('s.t')), 0), pg_current_wal_insert_lsn() - '0/0'"
    for statements in ("", f"UPDATE s.t SET {change}"):
        if statements:
            for column in filter(None, indexes.split(", ")):
                pair.target.execute(f"CREATE INDEX ON s.t ({column})")
            pair.target.execute("ANALYZE s.t")
            pair.source.execute(statements)
            pair.source.execute("VACUUM FULL s.t")
        ((size_before, wal_before),) = pair.target.rows(taken)
        done = pair.pgsluice("sync", "--table", "s.t", "--staging", "unlogged", "--json")
        assert done.code == 0, done.err
        ((size, wal),) = pair.target.rows(taken)
        estimate = first(done)["estimate"]
        assert (size - size_before) <= estimate["target"] <= 2 * (size - size_before)
        assert (wal - wal_before) <= estimate["wal"] <= 3 * (wal - wal_before)
    assert pair.target.image("s.t") == pair.source.image("s.t")


def test_plan_tells_the_bytes_and_refuses_what_is_above_the_limit_like_sync(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v text); CREATE VIEW s.v AS SELECT * FROM s.t;"
        " INSERT INTO s.t SELECT i, md5(i::text) FROM generate_series(1, 30000) i"
    )
    told = first(pair.pgsluice("plan", "--table", "s.t", "--json"))["estimate"]
    assert told["is_part"] is False
    assert 0 < told["staging"] < told["target"] < told["wal"]
    assert "  disk     at most " in pair.pgsluice("plan", "--table", "s.t").out
    assert "  disk     not known; at most " in pair.pgsluice("plan", "--table", "s.t", "--where", "id > 5").out
    view = pair.pgsluice("plan", "--table", "s.v", "--key", "id")
    assert "  disk     not known: the source shows no size" in view.out
    assert first(pair.pgsluice("plan", "--table", "s.v", "--key", "id", "--json"))["estimate"] is None
    for command in ("plan", "sync"):
        done = pair.pgsluice(command, "--table", "s.t", PGSLUICE_MAX_STAGING_BYTES="1MB")
        assert done.code == 6
        assert "Staging would take up to 2." in done.out
    done = pair.pgsluice("sync", "--table", "s.t", "--max-staging-bytes", "10MB")
    assert done.code == 0
    assert "  estimated: 2." in done.out
    assert pair.target.image("s.t") == pair.source.image("s.t")


# --- staging that grows past its limit -------------------------------------------------------------------------------


@pytest.mark.parametrize("staging", ["unlogged", "temporary"])
@pytest.mark.parametrize("lane", ["libpq", "psql"])
def test_a_copy_of_unknown_size_is_stopped_where_its_staging_passes_the_limit(
    pair: Pair, tmp_path: Path, staging: str, lane: str
) -> None:
    query = tmp_path / "endless.sql"
    query.write_text(ENDLESS)
    pair.target.execute("CREATE TABLE t (id bigint PRIMARY KEY, note text); INSERT INTO t VALUES (1, 'old')")
    arguments = ["--query-file", str(query), "--key", "id", "--to", "public.t", "--staging", staging, "--lane", lane]
    done = pair.pgsluice("sync", *arguments, "--max-staging-bytes", "8MB", "--json", timeout=60)
    assert done.code == 6, done.err
    assert first(done)["error"].startswith("staging takes ")
    assert "and the limit is 8.0 MiB" in first(done)["error"]
    assert first(done)["attempts"] == 1
    assert pair.target.staging_tables() == []
    assert pair.target.rows("SELECT * FROM t") == [(1, "old")]


def test_a_copy_too_quick_to_be_watched_is_measured_when_it_has_ended(pair: Pair) -> None:
    pair.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 100000) i"
    )
    arguments = ("--table", "public.t", "--where", "id > 0", "--mode", "upsert", "--staging", "unlogged")
    done = pair.pgsluice("sync", *arguments, "--max-staging-bytes", "2MB")
    assert done.code == 6, done.err
    assert pair.target.staging_tables() == []
    assert pair.target.value("SELECT to_regclass('t')") is None
    assert pair.pgsluice("sync", *arguments, "--max-staging-bytes", "5MB").code == 0
    assert pair.target.image("t") == pair.source.image("t")


# --- memory ----------------------------------------------------------------------------------------------------------

WIDE_BYTES = 100_000_000


@pytest.fixture
def wide(pair: Pair) -> Pair:
    """Two small rows around one of a hundred megabytes."""
    pair.source.execute(
        "CREATE TABLE t (id int PRIMARY KEY, b bytea); INSERT INTO t VALUES (1, 'a'), (3, 'b');"
        f" INSERT INTO t VALUES (2, convert_to(repeat('x', {WIDE_BYTES}), 'UTF8'))"
    )
    return pair


@pytest.mark.parametrize("staging", ["unlogged", "temporary"])
@pytest.mark.parametrize("lane", ["libpq", "psql"])
def test_a_row_that_would_pass_the_memory_ceiling_ends_its_table_and_no_other(
    wide: Pair, lane: str, staging: str
) -> None:
    wide.source.execute("CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)")
    arguments = ["--table", "public.t", "--table", "public.u", "--lane", lane, "--staging", staging]
    done = wide.pgsluice("sync", *arguments, "--max-memory", "100MB", "--json")
    assert done.code == 3, done.err
    by_target = {line["target"]: line for line in done.lines[:2]}
    failed, other = by_target["public.t"], by_target["public.u"]
    assert (failed["exit_code"], failed["step"], failed["attempts"]) == (6, "relay", 1)
    assert "and the ceiling is 100.0 MiB" in failed["error"]
    assert ("and its psql" in failed["error"]) is (lane == "psql")
    assert other["status"] == "done"
    assert wide.target.staging_tables() == []
    assert wide.target.value("SELECT to_regclass('t')") is None
    assert wide.target.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice%'") == 0


@pytest.mark.parametrize("lane", ["libpq", "psql"])
def test_a_wide_row_is_held_twice_and_no_more(wide: Pair, lane: str) -> None:
    done = wide.pgsluice("sync", "--table", "public.t", "--lane", lane, "--json", "--max-memory", "1GB")
    assert done.code == 0, done.err
    report = first(done)
    assert report["peak_bytes"] + report["psql_peak_bytes"] < 2.7 * WIDE_BYTES
    same = "SELECT id, md5(b), length(b) FROM t ORDER BY id"
    assert wide.target.rows(same) == wide.source.rows(same)


def test_a_ceiling_below_what_any_run_holds_says_what_is_held(wide: Pair) -> None:
    done = wide.pgsluice("sync", "--table", "public.t", PGSLUICE_MAX_MEMORY="10MB")
    assert done.code == 6
    assert "this process holds " in done.out
    bad = wide.pgsluice("sync", "--table", "public.t", "--max-memory", "lots")
    assert bad.code == 2
    assert "'lots' is not a size" in json.dumps(bad.err)
