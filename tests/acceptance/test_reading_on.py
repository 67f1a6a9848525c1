"""Modes that read on, as a user sees them: what a run reads, what it deletes, what it says, and how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from servers import Outcome, Pair, database

from pgsluice import (
    Deletes,
    Lane,
    LateRows,
    MaxDelete,
    Mode,
    OnLostState,
    Options,
    Report,
    StagingKind,
    TableReport,
    sync,
)
from pgsluice.embedded import Cluster
from pgsluice.errors import UsageError
from pgsluice.shape import Mask, Masking, Shape

EMPTY = """
SET client_min_messages = error;
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
  END LOOP;
END $$;
CREATE SCHEMA public
"""

SHOP = """
CREATE SCHEMA s;
CREATE TABLE s.t (id int PRIMARY KEY, v text, at timestamptz DEFAULT now());
INSERT INTO s.t SELECT i, 'old', timestamptz '2024-01-01 00:00Z' + i * interval '1 hour' FROM generate_series(1, 200) i;
ANALYZE s.t;
"""
LAST = "2024-01-09 08:00:00+00"
BY_CURSOR: dict[str, Any] = {"mode": "incremental", "cursor": "at"}
BY_XMIN: dict[str, Any] = {"mode": "xmin"}
CLI = ("--table", "s.t", "--mode", "incremental", "--cursor", "at")


@pytest.fixture(scope="module")
def databases(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    with database(source_cluster) as source, database(target_cluster) as target:
        yield Pair(source, target)


@pytest.fixture(scope="module")
def turned(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    with database(target_cluster) as source, database(source_cluster) as target:
        yield Pair(source, target)


def emptied(pair: Pair) -> Pair:
    for side in (pair.source, pair.target):
        side.execute(EMPTY)
    return pair


@pytest.fixture
def pair(databases: Pair) -> Pair:
    """The same two databases for all of these tests, empty for each: making them takes longer than most runs."""
    return emptied(databases)


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute(SHOP)
    return pair


@pytest.fixture(params=["16 to 18", "18 to 16"])
def both(request: pytest.FixtureRequest) -> Pair:
    """In both directions: before 17, MERGE does not tell what it did."""
    return emptied(request.getfixturevalue("databases" if request.param == "16 to 18" else "turned"))


def run(pair: Pair, *tables: str, **settings: Any) -> Report:
    return sync(
        pair.source.dsn, pair.target.dsn, *(tables or () if "query" in settings else tables or ("s.t",)), **settings
    )


def ran(pair: Pair, *tables: str, **settings: Any) -> TableReport:
    """Sync one table in this process, whatever comes of it."""
    (report,) = run(pair, *tables, **settings).tables
    assert pair.target.staging_tables() == []
    return report


def done(pair: Pair, *tables: str, **settings: Any) -> TableReport:
    """Sync one table in this process, which must go well."""
    report = ran(pair, *tables, **settings)
    assert report.status == "done", (report.error, report.hint)
    assert report.verified
    assert report.source_count == report.staging_count
    return report


def refused(pair: Pair, *tables: str, **settings: Any) -> TableReport:
    """Sync one table in this process, which must be refused and leave the target as it is."""
    held = "SELECT coalesce(to_regclass('s.t'), to_regclass('raw.t'))::text"
    name = pair.target.value(held)
    before = pair.target.image(name) if name else []
    report = ran(pair, *tables, **settings)
    assert (report.status, report.exit_code) == ("failed", 6), report
    assert pair.target.value(held) == name
    assert (pair.target.image(name) if name else []) == before
    return report


def counts(report: TableReport) -> tuple[int, int, int, int]:
    return report.inserted, report.updated, report.unchanged, report.deleted


def same(pair: Pair, source: str = "s.t", target: str = "s.t") -> bool:
    return pair.source.image(source) == pair.target.image(target)


def late(pair: Pair, values: str = "1000, 'late', '2024-01-01Z'") -> psycopg.Connection[Any]:
    """Write a row whose transaction is still open; the caller commits it."""
    connection = psycopg.connect(pair.source.dsn)
    connection.execute(sql.SQL(f"INSERT INTO s.t VALUES ({values})"))
    return connection


# --- the command line, from the first run to the history


def test_the_second_run_reads_what_is_new_and_says_from_where(shop: Pair) -> None:
    first = shop.pgsluice("sync", *CLI)
    assert first.code == 0, first.err
    assert "inserted 200, updated 0, unchanged 0, deleted 0; the table was created" in first.out
    assert "  read every row: the first run\n" in first.out
    assert f"  watermark {LAST}; late rows: scan\n" in first.out
    assert "note: rows that are gone from the source stay on the target (--deletes keep)" in first.out
    shop.source.execute("INSERT INTO s.t VALUES (201, 'new', '2024-02-01Z'); UPDATE s.t SET v = 'x' WHERE id = 7")
    shop.source.execute("DELETE FROM s.t WHERE id = 8")
    second = shop.pgsluice("sync", *CLI)
    assert second.code == 0, second.err
    assert "inserted 1, updated 1, unchanged 1, deleted 0\n" in second.out
    assert f"  read from {LAST} on\n  relayed 3 rows, " in second.out
    assert "  watermark 2024-02-01 00:00:00+00; late rows: scan, 1 found\n" in second.out
    assert "  counted 3 on the source, 3 staged; the target has 201\n" in second.out
    third = shop.pgsluice("sync", *CLI, "--deletes", "sweep", "--json")
    report, summary = third.lines
    assert {name: report[name] for name in ("mode", "status", "reading", "watermark", "late_rows")} == {
        "mode": "incremental",
        "status": "done",
        "reading": "from 2024-02-01 00:00:00+00 on",
        "watermark": "2024-02-01 00:00:00+00",
        "late_rows": "scan",
    }
    numbers = ("source_count", "staging_count", "target_count", "inserted", "updated", "unchanged", "deleted")
    assert [report[name] for name in numbers] == [1, 1, 200, 0, 0, 1, 1]
    assert [report[name] for name in ("keys_swept", "late", "null_cursors", "future_cursors", "held_back")] == [
        200, 0, 0, 0, 0,
    ]  # fmt: skip
    assert (summary["status"], summary["exit_code"], summary["tables"]) == ("done", 0, 1)
    assert same(shop)
    status = shop.pgsluice("status")
    assert status.out.count("s.t  done  inserted") == 3
    assert status.out.count("watermark 2024-02-01 00:00:00+00") == 2
    newest = shop.pgsluice("status", "--json", "--last", "1").lines[0]["tables"][0]
    assert {name: newest[name] for name in ("watermark", "keys_swept", "reading")} == {
        name: report[name] for name in ("watermark", "keys_swept", "reading")
    }


def test_plan_shows_the_window_and_its_statement_reads_what_the_run_reads(shop: Pair) -> None:
    before = shop.pgsluice("plan", *CLI)
    assert before.code == 0, before.err
    assert "s.t -> s.t: incremental; no deletes\n" in before.out
    assert "  reads    every row: the first run\n" in before.out
    assert "  late     scan: reads 16.0 KiB of heap a run, transfers only new and late rows\n" in before.out
    assert shop.target.value("SELECT to_regnamespace('pgsluice') IS NULL"), "plan writes nothing"
    done(shop, **BY_CURSOR)
    shop.source.execute("INSERT INTO s.t VALUES (201, 'new', '2024-02-01Z'), (202, 'late', '2023-01-01Z')")
    shop.source.execute("INSERT INTO s.t VALUES (203, 'nowhere', NULL)")
    after = shop.pgsluice("plan", *CLI, "--deletes", "sweep", "--max-delete", "5", "--json")
    plan, summary = after.lines
    assert (summary["planned"], summary["refused"]) == (1, 0)
    assert plan["reading"] == f"from {LAST} on"
    assert (plan["late_rows"], plan["deletes"], plan["max_delete"], plan["creates"]) == ("scan", "sweep", "5", False)
    assert plan["late_rows_reason"].startswith("reads ")
    steps = {entry["step"]: entry["sql"] for entry in plan["statements"]}
    assert f"\"at\" OPERATOR(pg_catalog.>=) '{LAST}'::timestamp with time zone" in steps["relay (source)"]
    assert steps["sweep (source)"].startswith('COPY (SELECT "id" FROM ONLY "s"."t" WHERE TRUE)')
    query = steps["relay (source)"].removeprefix("COPY (").rpartition(") TO STDOUT")[0]
    with psycopg.connect(shop.source.dsn) as connection:
        read = {row[0] for row in connection.execute(sql.SQL(query))}
    assert read == {200, 201, 202, 203}
    assert shop.pgsluice("plan", *CLI, "--json").lines[0]["reading"] == f"from {LAST} on", "and moves nothing"
    assert done(shop, **BY_CURSOR).staging_count == len(read)


def test_plan_names_every_way_with_deletes(shop: Pair) -> None:
    soft = shop.pgsluice("plan", *CLI, "--deletes", "soft:gone")
    assert soft.code == 0, soft.err
    assert "s.t -> s.t: incremental; marks as deleted (gone) up to 10% of the rows in scope\n" in soft.out
    assert '"gone" timestamp with time zone' in soft.out
    done(shop, **BY_CURSOR, deletes="soft:gone")
    steps = [
        entry["step"]
        for entry in shop.pgsluice("plan", *CLI, "--deletes", "soft:gone", "--json").lines[0]["statements"]
    ]
    assert steps == [
        "staging (target)", "relay (source)", "relay (target)", "staging (target)", "sweep (source)", "sweep (target)",
        "lock (target)", "delete guard (target)", "delete (target)", "merge (target)", "revive (target)",
        "watermark (target)",
    ]  # fmt: skip


def test_xmin_needs_no_cursor_and_says_what_it_reads(shop: Pair) -> None:
    command = ("--table", "s.t", "--mode", "xmin", "--to", "raw.{table}")
    first = shop.pgsluice("sync", *command)
    assert first.code == 0, first.err
    assert "(xmin)" in first.out
    assert "watermark" not in first.out.replace("steps", "")
    shop.source.execute("INSERT INTO s.t VALUES (201, 'new', '1999-01-01'); UPDATE s.t SET v = 'x' WHERE id = 7")
    second = shop.pgsluice("sync", *command)
    assert "inserted 1, updated 1, unchanged 0, deleted 0\n" in second.out
    assert "  read what transaction " in second.out
    assert "  relayed 2 rows, " in second.out
    assert same(shop, target="raw.t")


def test_append_carries_each_row_once_and_says_what_waits(pair: Pair) -> None:
    """Rows without a key, two of them alike; one in a transaction that is still open."""
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (line text, at timestamptz)")
    pair.source.execute("INSERT INTO s.t VALUES ('twice', '2024-01-01Z'), ('twice', '2024-01-01Z'), ('b', NULL)")
    command = ("--table", "s.t", "--mode", "append")
    first = pair.pgsluice("sync", *command)
    assert first.code == 0, first.err
    assert "inserted 3, updated 0, unchanged 0, deleted 0; the table was created" in first.out
    assert "note: an update or delete of a row already copied is not carried on" in first.out
    with late(pair, "'open'") as connection:
        pair.source.execute("INSERT INTO s.t VALUES ('younger')")
        report = pair.pgsluice("sync", *command, "--json").lines[0]
        assert (report["staging_count"], report["inserted"], report["held_back"]) == (0, 0, 1)
        assert any(
            note.startswith("transactions open on the source: 1; rows of the oldest, ") for note in report["notes"]
        )
        connection.commit()
    connection.close()
    plan = pair.pgsluice("plan", *command, "--json").lines[0]
    assert (plan["key"], plan["key_reason"]) == ([], "rows are not told apart")
    assert any(
        entry["step"] == "merge (target)" and entry["sql"].startswith("INSERT INTO") for entry in plan["statements"]
    )
    second = pair.pgsluice("sync", *command)
    assert "inserted 2, updated 0" in second.out
    assert "  read what transactions " in second.out
    assert same(pair)
    assert done(pair, mode="append").staging_count == 0


def test_options_come_from_the_environment_too(shop: Pair) -> None:
    report = shop.pgsluice(
        "sync", "--json", PGSLUICE_TABLE="s.t", PGSLUICE_MODE="incremental", PGSLUICE_CURSOR="at",
        PGSLUICE_CURSOR_TYPE="timestamptz", PGSLUICE_LATE_ROWS="overlap:2h", PGSLUICE_DELETES="soft:gone",
    ).lines[0]  # fmt: skip
    assert (report["status"], report["late_rows"]) == ("done", "overlap:2h")
    assert shop.target.value("SELECT gone IS NULL FROM s.t LIMIT 1")


# --- starting over, one-off windows, and positions that mean nothing


def test_a_full_refresh_starts_over(shop: Pair) -> None:
    done(shop, **BY_CURSOR)
    shop.target.execute(
        "UPDATE s.t SET v = 'scribbled' WHERE id < 4; INSERT INTO s.t VALUES (1000, 'ours', '2030-01-01Z')"
    )
    assert done(shop, **BY_CURSOR).staging_count == 1, "what happens to the target is not its business"
    report = shop.pgsluice("sync", *CLI, "--full-refresh", "--json").lines[0]
    assert (report["reading"], report["staging_count"]) == ("every row: a full refresh was asked for", 200)
    assert (report["updated"], report["unchanged"], report["deleted"], report["watermark"]) == (3, 197, 0, LAST)
    assert done(shop, **BY_CURSOR, deletes="sweep", full_refresh=True).deleted == 1
    assert same(shop)
    assert done(shop, **BY_CURSOR).staging_count == 1


def test_a_full_refresh_of_append_replaces_what_is_in_scope(shop: Pair) -> None:
    settings = {"mode": "append", "where": "id % 2 = 0"}
    assert done(shop, **settings).inserted == 100
    shop.target.execute("INSERT INTO s.t VALUES (1, 'ours', NULL), (1000, 'ours', NULL)")
    shop.source.execute("UPDATE s.t SET v = 'x' WHERE id <= 10; DELETE FROM s.t WHERE id = 12")
    assert done(shop, **settings, full_refresh=True).staging_count == 99
    assert shop.target.rows("SELECT id, v FROM s.t WHERE v <> 'old' ORDER BY id") == [
        (1, "ours"), (2, "x"), (4, "x"), (6, "x"), (8, "x"), (10, "x"),
    ]  # fmt: skip
    assert shop.target.value("SELECT count(*) FROM s.t") == 100
    assert done(shop, **settings).staging_count == 0


def test_a_full_refresh_of_append_is_guarded_too(shop: Pair) -> None:
    done(shop, mode="append")
    shop.source.execute("DELETE FROM s.t WHERE id <= 100")
    report = refused(shop, mode="append", full_refresh=True)
    assert "100 of 200 rows (50 %) would be deleted, and the limit is 10%" in str(report.error)
    assert done(shop, mode="append", full_refresh=True, max_delete="100").staging_count == 100


def test_since_is_a_window_of_its_own_and_moves_nothing(shop: Pair) -> None:
    done(shop, **BY_CURSOR)
    state = "SELECT seq, watermark, snapshot_xmin, updated_at FROM pgsluice.job_state"
    before = shop.target.rows(state)
    shop.source.execute(
        "UPDATE s.t SET v = 'x' WHERE id IN (10, 150); INSERT INTO s.t VALUES (201, 'new', '2024-02-01Z')"
    )
    once = shop.pgsluice("sync", *CLI, "--since", "2024-01-07 00:00+00")
    assert once.code == 0, once.err
    assert "  read once from 2024-01-07 00:00:00+00 on; the watermark stays\n" in once.out
    assert "inserted 1, updated 1, unchanged 56, deleted 0\n" in once.out
    assert shop.target.rows(state) == before
    report = done(shop, **BY_CURSOR, since="2024-01-08", deletes="sweep")
    assert (report.staging_count, report.keys_swept, report.watermark) == (34, 201, LAST)
    assert shop.target.rows(state) == before
    assert done(shop, **BY_CURSOR).staging_count == 4, "from the watermark, and what was written since: 10 and 150 too"
    assert same(shop)


def test_until_ends_the_part_that_since_begins(shop: Pair) -> None:
    part = (*CLI, "--since", "2024-01-07 00:00+00", "--until", "2024-01-08 00:00+00")
    once = shop.pgsluice("sync", *part)
    assert once.code == 0, once.err
    assert "  read once from 2024-01-07 00:00:00+00 to below 2024-01-08 00:00:00+00; the watermark stays\n" in once.out
    there = "SELECT count(*), min(at) >= '2024-01-07Z', max(at) < '2024-01-08Z' FROM s.t WHERE at >= '2024-01-07Z' AND at < '2024-01-08Z'"
    assert shop.target.rows(
        "SELECT count(*), min(at) >= '2024-01-07Z', max(at) < '2024-01-08Z' FROM s.t"
    ) == shop.source.rows(there)
    alone = shop.pgsluice("sync", *CLI, "--until", "2024-01-08")
    assert (alone.code, alone.err) == (
        2,
        "pgsluice: until ends a part that since begins\nSay from which value on: --since.\n",
    )


def test_since_on_a_target_that_is_new_leaves_the_first_run_to_come(shop: Pair) -> None:
    assert done(shop, **BY_CURSOR, since="2024-01-09 00:00Z").staging_count == 9
    report = done(shop, **BY_CURSOR)
    assert (report.reading, report.inserted, report.unchanged) == ("every row: the first run", 191, 9)


@pytest.mark.parametrize(
    ("settings", "change", "reason"),
    [
        (BY_CURSOR, "source_timeline = 99", "a failover or restore"),
        (
            BY_CURSOR,
            "snapshot_lsn = snapshot_lsn + (1::bigint << 50)",
            "an earlier point of its history than last time: a restore",
        ),
        (BY_CURSOR, "job_id = 'x', source_system = '1'", "the source is another cluster than last time"),
        (BY_XMIN, "source_timeline = 99", "a failover or restore"),
        (BY_XMIN, "target_oid = 1", "the target is another table than last time"),
    ],
)
def test_a_position_that_means_nothing_is_told_and_everything_is_read_or_nothing(
    shop: Pair, settings: dict[str, Any], change: str, reason: str
) -> None:
    done(shop, **settings)
    shop.target.execute(f"UPDATE pgsluice.job_state SET {change}")
    shop.source.execute("INSERT INTO s.t VALUES (201, 'new', '2024-02-01Z')")
    report = refused(shop, **settings, options=Options(on_lost_state=OnLostState.FAIL))
    assert "Everything would be read again: " in str(report.error)
    assert reason in str(report.error)
    assert str(report.error).endswith(". Allow it with --on-lost-state reread, or start over with --full-refresh.")
    report = done(shop, **settings)
    assert (report.staging_count, report.inserted, report.unchanged) == (201, 1, 200)
    assert any(note.startswith("everything is read again: ") and reason in note for note in report.notes)
    assert done(shop, **settings, options=Options(on_lost_state=OnLostState.FAIL)).staging_count < 3


def test_a_lost_position_exits_with_6_where_it_shall_fail(shop: Pair) -> None:
    done(shop, **BY_CURSOR)
    shop.target.execute("UPDATE pgsluice.job_state SET source_timeline = 99")
    for command in ("plan", "sync"):
        outcome = shop.pgsluice(command, *CLI, "--on-lost-state", "fail")
        assert outcome.code == 6
        assert (
            "Everything would be read again: the source is on timeline 1, last time 99: a failover or restore"
            in outcome.out
        )
    again = shop.pgsluice("sync", *CLI)
    assert again.code == 0
    assert "  note: everything is read again: the source is on timeline 1, last time 99" in again.out


@pytest.mark.parametrize("change", ["source_timeline = 99", "target_oid = 1", "job_id = 'x', source_system = '1'"])
def test_append_never_copies_twice_and_names_the_way_out(shop: Pair, change: str) -> None:
    done(shop, mode="append")
    shop.target.execute(f"UPDATE pgsluice.job_state SET {change}")
    report = refused(shop, mode="append")
    assert (
        "Everything again would be copied twice; --full-refresh empties the target's rows in scope and starts over."
        in (str(report.error))
    )
    assert done(shop, mode="append", full_refresh=True).inserted == 200
    assert same(shop)


def test_append_into_a_target_that_has_rows_of_its_own_is_refused(shop: Pair) -> None:
    shop.target.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int, v text, at timestamptz); INSERT INTO s.t VALUES (1)"
    )
    assert "the target has rows and this job has no state" in str(refused(shop, mode="append").error)


def test_append_goes_on_after_an_update_of_a_row_that_was_copied(shop: Pair) -> None:
    """It arrives as another row, as plan and report say; the table that we create must let it."""
    assert any("an updated row arrives as another row" in note for note in done(shop, mode="append").notes)
    shop.source.execute("UPDATE s.t SET v = 'x' WHERE id = 5")
    report = done(shop, mode="append")
    assert (report.staging_count, report.inserted) == (1, 1)
    assert shop.target.rows("SELECT v FROM s.t WHERE id = 5 ORDER BY 1") == [("old",), ("x",)]


@pytest.mark.parametrize("settings", [BY_CURSOR, BY_XMIN, {"mode": "append"}])
def test_an_emptied_target_is_filled_again(shop: Pair, settings: dict[str, Any]) -> None:
    done(shop, **settings)
    shop.target.execute("TRUNCATE s.t")
    report = done(shop, **settings)
    assert (report.staging_count, report.reading) == (200, "every row: the target is empty")
    assert same(shop)


@pytest.mark.parametrize("settings", [BY_CURSOR, BY_XMIN])
def test_a_column_that_is_new_on_both_sides_is_filled(shop: Pair, settings: dict[str, Any]) -> None:
    """ADD COLUMN with a default stamps no row."""
    done(shop, **settings)
    for side, default in ((shop.source, "DEFAULT 7"), (shop.target, "")):
        side.execute(f"ALTER TABLE s.t ADD extra int {default}")
    report = done(shop, **settings)
    assert (report.staging_count, report.updated) == (200, 200)
    assert report.reading.startswith("every row: column extra is new or has changed")
    assert done(shop, **settings).staging_count <= 1


@pytest.mark.parametrize("settings", [BY_CURSOR, BY_XMIN], ids=["incremental", "xmin"])
@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(columns=("id", "at", "twice")),
        Shape(rename=(("twice", "double"),), columns=("id", "at", "twice")),
        Shape(cast=(("twice", "text"),), columns=("id", "at", "twice")),
        Shape(mask=(Mask("twice", Masking.HASH),), columns=("id", "at", "twice")),
    ],
    ids=["into a plain column", "chosen", "renamed", "cast", "hashed"],
)
def test_another_expression_of_a_virtual_column_that_is_copied_reads_every_row(
    turned: Pair, settings: dict[str, Any], shape: Shape
) -> None:
    """No row is written when it changes, so no stamp shows it."""
    pair = emptied(turned)
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at timestamptz NOT NULL, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL);"
        "INSERT INTO s.t SELECT i, '2024-01-01Z' FROM generate_series(1, 9) i"
    )
    if not shape:
        pair.target.execute(
            "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at timestamptz NOT NULL, twice int)"
        )
    settings = {**settings, "shape": shape}
    done(pair, **settings)
    assert done(pair, **settings).updated == 0
    pair.source.execute("ALTER TABLE s.t ALTER twice SET EXPRESSION AS (id * 3)")
    report = done(pair, **settings)
    assert (report.updated, "is new or has changed" in report.reading) == (9, True)
    assert done(pair, **settings).updated == 0
    if not (shape.cast or shape.mask):
        assert pair.target.image("s.t") == pair.source.image("s.t")


def test_another_condition_cursor_or_mode_is_another_job(shop: Pair) -> None:
    done(shop, **BY_CURSOR)
    assert done(shop, **BY_CURSOR, where="id > 100").staging_count == 100
    assert done(shop, **BY_CURSOR, where="id > 100").staging_count == 1
    assert done(shop, mode="incremental", cursor="id").staging_count == 200
    assert done(shop, **BY_XMIN).staging_count == 200
    assert done(shop, **BY_CURSOR).staging_count == 1


# --- rows that commit late


def test_a_scan_finds_what_committed_late_and_what_never_moved_the_cursor(shop: Pair) -> None:
    with late(shop) as connection:
        shop.source.execute("INSERT INTO s.t VALUES (201, 'new', '2024-02-01Z')")
        assert done(shop, **BY_CURSOR).watermark == "2024-02-01 00:00:00+00"
        connection.commit()
    connection.close()
    shop.source.execute("UPDATE s.t SET v = 'silently' WHERE id = 5")
    report = done(shop, **BY_CURSOR)
    assert (report.late_rows, report.staging_count, report.late) == ("scan", 3, 2)
    assert counts(report) == (1, 1, 1, 0)
    assert same(shop)


@pytest.mark.parametrize("policy", ["trust", "overlap:1 hour"])
def test_what_is_only_trusted_is_missed_and_the_report_says_so(shop: Pair, policy: str) -> None:
    with late(shop) as connection:
        shop.source.execute("INSERT INTO s.t VALUES (201, 'new', '2024-02-01Z')")
        done(shop, **BY_CURSOR, late_rows=policy)
        connection.commit()
    connection.close()
    report = done(shop, **BY_CURSOR, late_rows=policy)
    assert (report.late_rows, report.staging_count, report.late) == (policy, 1, 0)
    assert shop.target.value("SELECT count(*) FROM s.t WHERE id = 1000") == 0
    assert any(note.startswith("not guaranteed: ") and "; scan finds them, reading " in note for note in report.notes)


@pytest.mark.parametrize("policy", [{"late_rows": "trust"}, {"late_rows": "overlap:1 hour"}, {"late_within": "1 hour"}])
def test_a_scan_after_a_policy_that_missed_rows_finds_them(shop: Pair, policy: dict[str, str]) -> None:
    with late(shop) as connection:
        shop.source.execute("INSERT INTO s.t VALUES (201, 'new', '2024-02-01Z')")
        done(shop, **BY_CURSOR, **policy)
        connection.commit()
    connection.close()
    assert done(shop, **BY_CURSOR, **policy).inserted == 0
    assert done(shop, **BY_CURSOR, late_rows="scan").inserted == 1
    assert same(shop)
    assert done(shop, **BY_CURSOR, late_rows="scan").staging_count == 1


def test_an_overlap_finds_what_committed_within_it(shop: Pair) -> None:
    policy = {**BY_CURSOR, "late_rows": "overlap:2 months"}
    with late(shop, "1000, 'late', '2024-01-05Z'") as connection:
        shop.source.execute("INSERT INTO s.t VALUES (201, 'new', '2024-03-01Z')")
        done(shop, **policy)
        connection.commit()
    connection.close()
    report = done(shop, **policy)
    assert (report.staging_count, report.late, report.inserted) == (202, 201, 1)
    assert same(shop)


STAMPED = """
CREATE FUNCTION s.stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := clock_timestamp(); RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION s.stamp();
"""


def test_the_horizon_holds_the_watermark_below_what_is_still_open(shop: Pair) -> None:
    shop.source.execute(STAMPED)
    policy = {**BY_CURSOR, "late_rows": "horizon"}
    assert done(shop, **policy).watermark == LAST
    with late(shop, "1000, 'late'") as connection:
        shop.source.execute("INSERT INTO s.t VALUES (201, 'new')")
        report = done(shop, **policy)
        assert (report.staging_count, report.inserted) == (2, 1)
        lowest = shop.source.value(
            "SELECT min(xact_start) - interval '1 second' FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
        )
        assert shop.source.value("SELECT %s::timestamptz <= %s", (report.watermark, lowest))
        connection.commit()
    connection.close()
    report = done(shop, **policy)
    assert (report.late_rows, report.staging_count, report.inserted) == ("horizon", 2, 1)
    assert same(shop)


def test_auto_leans_on_the_horizon_where_the_table_is_large_and_a_trigger_sets_the_cursor(shop: Pair) -> None:
    shop.source.execute(STAMPED + "CREATE INDEX by_at ON s.t (at)")
    plan = shop.pgsluice("plan", *CLI, "--scan-limit", "1kB")
    assert plan.code == 0, plan.out
    assert (
        "  late     horizon: 16.0 KiB of heap is more than is scanned unasked (1.0 KiB); reads on from a watermark"
        in plan.out
    )
    assert "(by index by_at)" in plan.out
    report = shop.pgsluice("sync", *CLI, "--scan-limit", "1kB", "--json").lines[0]
    assert report["late_rows"] == "horizon"


def test_auto_leaves_the_choice_of_a_large_table_to_the_user_with_each_cost(shop: Pair) -> None:
    shop.source.execute("CREATE INDEX by_at ON s.t (at)")
    refusal, summary = shop.pgsluice("plan", *CLI, "--scan-limit", "8kB", "--json").lines
    assert (refusal["status"], refusal["exit_code"], len(refusal["refusals"])) == ("refused", 6, 1)
    assert (summary["planned"], summary["refused"]) == (0, 1)
    outcome = shop.pgsluice("sync", *CLI, "--scan-limit", "8kB")
    assert outcome.code == 6
    for line in (
        refusal["refusals"][0].splitlines()[1].strip(),
        "Rows of s.t that commit late need a choice of yours, --late-rows:",
        "scan: reads 16.0 KiB of heap a run, transfers only new and late rows; more than the 8.0 KiB that is scanned unasked.",
        "scan with --late-within 7d: only rows so far behind the watermark (by index by_at).",
        "horizon: reads on from a watermark that no open transaction can undercut (by index by_at); only a default sets the column",
        "overlap:2h (a span you vouch for): reads again what you vouch for (by index by_at); misses what commits later",
        "trust: reads on from the watermark (by index by_at); misses every row that commits late.",
    ):
        assert line in outcome.out
    assert shop.target.value("SELECT to_regnamespace('pgsluice') IS NULL")
    for choice in ({"late_rows": "scan"}, {"late_within": "7d"}):
        assert done(shop, **BY_CURSOR, **choice, options=Options(scan_limit=8192)).late_rows == "scan"


@pytest.mark.parametrize(("cursor", "span"), [("id", "1000"), ("v", None)])
def test_the_choices_offered_fit_the_cursor(shop: Pair, cursor: str, span: str | None) -> None:
    """A way that would be refused is no way."""
    report = refused(shop, mode="incremental", cursor=cursor, options=Options(scan_limit=0))
    text = str(report.error)
    assert "7d" not in text
    assert "overlap:2h" not in text
    if span is None:
        assert "--late-within" not in text.replace("not here", "")
    else:
        assert f"overlap:{span}" in text


def test_late_within_limits_the_scan_and_says_so(shop: Pair) -> None:
    settings = {**BY_CURSOR, "late_within": "2 days"}
    done(shop, **settings)
    shop.source.execute("INSERT INTO s.t VALUES (301, 'near', '2024-01-08Z'), (302, 'far', '2024-01-02Z')")
    report = done(shop, **settings)
    assert (report.staging_count, report.inserted, report.late) == (2, 1, 1)
    assert any("late rows are found up to 2 days behind the watermark, not beyond" in note for note in report.notes)
    found = done(shop, **BY_CURSOR)
    assert (found.staging_count, found.inserted, found.late) == (3, 1, 2), "a whole scan begins where the last one did"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "incremental"}, "mode incremental needs a cursor column"),
        ({"mode": "xmin", "cursor": "at"}, "a cursor belongs to mode incremental, not to xmin"),
        ({"cursor_type": "date"}, "a cursor type belongs to mode incremental, not to full"),
        ({"mode": "append", "late_rows": "scan"}, "a policy for late rows belongs to mode incremental, not to append"),
        ({"mode": "upsert", "late_within": "7d"}, "a span for late rows belongs to mode incremental, not to upsert"),
        ({"mode": "full", "since": "2024-01-01"}, "a value to read from (since) belongs to mode incremental, not to full"),
        ({"mode": "append", "deletes": "sweep"}, "mode append knows no key, so it can't tell which rows are gone"),
        ({"mode": "append", "deletes": "soft"}, "mode append knows no key, so it can't tell which rows are gone"),
        ({"mode": "append", "key": ["id"]}, "mode append takes no key"),
        ({**BY_CURSOR, "late_rows": "trust", "late_within": "7d"}, "a span for late rows limits their scan, and trust does none"),
        ({**BY_CURSOR, "late_rows": "overlap"}, "'overlap' says nothing about late rows"),
        ({**BY_CURSOR, "late_rows": "scan:2h"}, "'scan:2h' says nothing about late rows"),
        ({**BY_CURSOR, "late_rows": "sometimes"}, "'sometimes' says nothing about late rows"),
        ({**BY_CURSOR, "deletes": "soft:"}, "'soft:' is nothing to do with deletes"),
        ({**BY_CURSOR, "deletes": "sweep:gone"}, "'sweep:gone' is nothing to do with deletes"),
        ({**BY_CURSOR, "max_delete": "lots"}, "'lots' is not a limit for deletes"),
        ({**BY_CURSOR, "since": "2024-01-01", "full_refresh": True}, "since"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(shop: Pair, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        run(shop, **settings)
    assert message in raised.value.message
    assert shop.target.value("SELECT to_regnamespace('pgsluice') IS NULL")


def test_the_command_line_exits_with_2_and_no_traceback(shop: Pair) -> None:
    for arguments, message in (
        (
            ("--mode", "incremental"),
            "mode incremental needs a cursor column\nName it with --cursor; mode xmin needs none.",
        ),
        (("--mode", "xmin", "--cursor", "at"), "a cursor belongs to mode incremental, not to xmin"),
        (
            ("--mode", "incremental", "--cursor", "at", "--cursor-type", "datetime"),
            "'datetime' is not one of 'timestamptz'",
        ),
    ):
        outcome = shop.pgsluice("sync", "--table", "s.t", *arguments)
        assert outcome.code == 2
        assert message in outcome.err
        assert "Traceback" not in outcome.err


def test_plan_says_what_a_policy_costs_what_it_misses_and_what_is_better(shop: Pair) -> None:
    for policy, cost in (
        (
            "trust",
            "as asked; reads on from the watermark (no index begins with at, so all is read anyway); misses every row",
        ),
        (
            "overlap:2h",
            "as asked; reads again what you vouch for (no index begins with at, so all is read anyway); misses what",
        ),
    ):
        plan = shop.pgsluice("plan", *CLI, "--late-rows", policy)
        assert plan.code == 0
        assert f"  late     {policy}: {cost}" in plan.out
        assert "  note     not guaranteed: " in plan.out
        assert "; scan finds them, reading 16.0 KiB a run\n" in plan.out


@pytest.mark.parametrize(
    ("script", "policy", "message"),
    [
        ("ALTER TABLE s.t ALTER at SET DEFAULT '2024-01-01Z'", "horizon", "nothing in the database sets at by its clock"),
        ("CREATE SEQUENCE s.n; ALTER TABLE s.t ADD n int DEFAULT nextval('s.n')", "horizon", "n is filled from sequence s.n, whose numbers carry no time"),
        ("CREATE SEQUENCE s.n CYCLE MAXVALUE 9; ALTER TABLE s.t ADD n int; ALTER TABLE s.t ALTER n SET DEFAULT nextval('s.n')", "overlap:5", "sequence s.n cycles or runs backwards"),
        ("ALTER TABLE s.t ADD n text", "overlap:5", "'5' is no span on n, which is text"),
    ],
)  # fmt: skip
def test_a_policy_that_could_not_keep_its_word_is_refused(shop: Pair, script: str, policy: str, message: str) -> None:
    shop.source.execute(script)
    report = ran(shop, mode="incremental", cursor="n" if "ADD n" in script else "at", late_rows=policy)
    assert report.status == "failed"
    assert message in str(report.error)


@pytest.mark.parametrize("settings", [BY_CURSOR, BY_XMIN, {"mode": "append"}])
def test_rows_of_savepoints_and_frozen_rows_are_found(shop: Pair, settings: dict[str, Any]) -> None:
    done(shop, **settings)
    connection = psycopg.connect(shop.source.dsn)
    with connection.transaction():
        connection.execute("SELECT pg_current_xact_id()")
        with connection.transaction():
            connection.execute("INSERT INTO s.t VALUES (301, 'sub', '2023-01-01Z')")
        done(shop, **settings)
    connection.close()
    shop.source.execute("INSERT INTO s.t VALUES (302, 'frozen', '2023-01-01Z')")
    shop.source.execute("VACUUM (FREEZE) s.t")
    assert done(shop, **settings).inserted == 2
    assert same(shop)
    shop.source.execute("VACUUM (FREEZE) s.t")
    assert done(shop, **settings).staging_count <= 1, "freezing makes nothing new"


@pytest.mark.parametrize("settings", [BY_CURSOR, BY_XMIN])
def test_a_source_that_was_emptied_and_filled_again_is_read_whole(shop: Pair, settings: dict[str, Any]) -> None:
    done(shop, **settings)
    shop.source.execute(
        "BEGIN; TRUNCATE s.t; INSERT INTO s.t SELECT i, 'again', '2020-01-01Z' FROM generate_series(1, 190) i; COMMIT"
    )
    report = done(shop, **settings, deletes="sweep")
    assert (report.staging_count, report.updated, report.deleted) == (190, 190, 10)
    assert report.reading == "every row: the source table was rewritten or replaced"
    assert same(shop)


def test_a_role_that_may_only_select_reads_on_or_is_told_the_grants(shop: Pair) -> None:
    role = f"reader_{shop.source.name}"
    shop.source.execute(f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA s TO {role}; GRANT SELECT ON s.t TO {role}")
    dsn = psycopg.conninfo.make_conninfo(shop.source.dsn, user=role)
    hide = "EXECUTE ON FUNCTION pg_control_system()"
    try:
        for settings in (BY_CURSOR, BY_XMIN, {"mode": "append", "to": "raw.t"}):
            (report,) = sync(dsn, shop.target.dsn, "s.t", **settings).tables
            assert (report.status, report.staging_count) == ("done", 200)
        (report,) = sync(dsn, shop.target.dsn, "s.t", **BY_CURSOR, late_rows="horizon").tables
        assert f"role {role} can't see other sessions: GRANT pg_read_all_stats TO {role};" in str(report.error)
        shop.source.execute(f"REVOKE {hide} FROM PUBLIC")
        for settings in (BY_CURSOR, {**BY_CURSOR, "late_rows": "scan"}, BY_XMIN, {"mode": "append", "to": "raw.t"}):
            (report,) = sync(dsn, shop.target.dsn, "s.t", **settings).tables
            assert (report.status, report.exit_code) == ("failed", 6)
            assert "GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint()" in str(report.error)
            assert f" TO {role};" in str(report.error)
    finally:
        shop.source.execute(f"GRANT {hide} TO PUBLIC; DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize(("policy", "right"), [("sweep", "DELETE"), ("soft:gone", "UPDATE"), ("keep", "UPDATE")])
def test_a_right_that_the_policy_needs_on_the_target_is_named(shop: Pair, policy: str, right: str) -> None:
    role = f"writer_{shop.target.name}"
    shop.target.execute(
        f"CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v text, at timestamptz, gone boolean); CREATE ROLE {role} LOGIN;"
        f"GRANT USAGE ON SCHEMA s TO {role}; GRANT CREATE ON DATABASE {shop.target.name} TO {role};"
        f"GRANT {', '.join({'SELECT', 'INSERT', 'UPDATE', 'DELETE'} - {right})} ON s.t TO {role}"
    )
    try:
        dsn = psycopg.conninfo.make_conninfo(shop.target.dsn, user=role)
        (report,) = sync(shop.source.dsn, dsn, "s.t", **BY_CURSOR, deletes=policy).tables
        assert f"GRANT {right} ON s.t TO {role};" in str(report.error)
        shop.target.execute(f"GRANT {right} ON s.t TO {role}")
        (report,) = sync(shop.source.dsn, dsn, "s.t", **BY_CURSOR, deletes=policy).tables
        assert (report.status, report.error) == ("done", None)
    finally:
        shop.target.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


# --- what becomes of deletes


DELETING: list[Any] = [
    pytest.param(BY_CURSOR, id="incremental"),
    pytest.param({**BY_CURSOR, "late_rows": "trust"}, id="trust"),
    pytest.param(BY_XMIN, id="xmin"),
    pytest.param({"mode": "full"}, id="full"),
    pytest.param({"mode": "upsert"}, id="upsert"),
]


@pytest.mark.parametrize("settings", DELETING)
def test_sweep_deletes_what_the_source_lacks_and_streams_keys_alone(both: Pair, settings: dict[str, Any]) -> None:
    both.source.execute(SHOP)
    done(both, **settings, deletes="sweep")
    both.source.execute("DELETE FROM s.t WHERE id IN (3, 200); UPDATE s.t SET v = 'x', at = '2024-02-01Z' WHERE id = 4")
    both.source.execute("INSERT INTO s.t VALUES (201, 'new', '2024-03-01Z')")
    report = done(both, **settings, deletes="sweep")
    reads_on = settings["mode"] in {"incremental", "xmin"}
    assert report.staging_count == (2 if reads_on else 199)
    assert report.keys_swept == (199 if reads_on else -1)
    assert (report.inserted, report.updated, report.deleted) == (1, 1, 2)
    assert same(both)


@pytest.mark.parametrize("settings", [param for param in DELETING if param.id != "trust"])
def test_soft_marks_what_the_source_lacks_and_revives_what_returns(both: Pair, settings: dict[str, Any]) -> None:
    """On a table that we create: the mark is a timestamptz."""
    both.source.execute(SHOP)
    settings = {**settings, "deletes": "soft"}
    assert done(both, **settings).created
    marked = "SELECT id FROM s.t WHERE _deleted_at IS NOT NULL ORDER BY id"
    both.source.execute("CREATE TABLE s.kept AS SELECT * FROM s.t WHERE id <= 10; DELETE FROM s.t WHERE id <= 10")
    report = done(both, **settings)
    assert (report.inserted, report.updated, report.deleted) == (0, 0, 10)
    assert both.target.rows(marked) == [(i,) for i in range(1, 11)]
    when = both.target.rows("SELECT DISTINCT _deleted_at > now() - interval '1 minute' FROM s.t WHERE id <= 10")
    assert when == [(True,)]
    first = both.target.rows("SELECT id, _deleted_at FROM s.t WHERE id <= 10 ORDER BY id")
    assert done(both, **settings).deleted == 0, "what is marked is not marked again"
    assert both.target.rows("SELECT id, _deleted_at FROM s.t WHERE id <= 10 ORDER BY id") == first
    both.source.execute("INSERT INTO s.t SELECT * FROM s.kept WHERE id <= 5")
    report = done(both, **settings)
    assert (report.inserted, report.updated, report.deleted) == (0, 5, 0), "as they were, they count as updated"
    assert both.target.rows(marked) == [(i,) for i in range(6, 11)]
    assert both.target.rows("SELECT id, v, at FROM s.t WHERE _deleted_at IS NULL ORDER BY id") == (
        both.source.rows("SELECT id, v, at FROM s.t ORDER BY id")
    )


@pytest.mark.parametrize("settings", [BY_CURSOR, {"mode": "full"}])
@pytest.mark.parametrize("mark", ["boolean", "boolean NOT NULL DEFAULT false", "boolean NOT NULL", "timestamp"])
def test_soft_marks_in_a_column_that_is_there(pair: Pair, settings: dict[str, Any], mark: str) -> None:
    pair.source.execute(SHOP)
    name = 'Weg %s "{0}" 삭제'
    pair.target.execute(
        sql.SQL("CREATE SCHEMA s; CREATE TABLE s.t (v text, {} " + mark + ", id int PRIMARY KEY, at timestamptz)")
        .format(sql.Identifier(name))
        .as_string(None)
    )
    settings = {**settings, "deletes": f"soft:{name}"}
    assert done(pair, **settings).inserted == 200
    pair.source.execute("DELETE FROM s.t WHERE id = 9")
    assert done(pair, **settings).deleted == 1
    column = sql.Identifier(name).as_string(None)
    test = f"{column} IS {'TRUE' if 'boolean' in mark else 'NOT NULL'}"
    assert pair.target.rows(f"SELECT id FROM s.t WHERE {test}") == [(9,)]
    pair.source.execute("INSERT INTO s.t VALUES (9, 'back', '2024-06-01Z')")
    assert done(pair, **settings).updated == 1
    assert pair.target.rows(f"SELECT id FROM s.t WHERE {test}") == []
    assert pair.target.value("SELECT v FROM s.t WHERE id = 9") == "back"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("", "s.t has no column gone to mark deleted rows with: ALTER TABLE s.t ADD gone timestamptz;"),
        (", gone date", "Column gone of s.t is date; deleted rows are marked in a boolean or a timestamp."),
        (", gone timestamptz NOT NULL DEFAULT now()", "Column gone of s.t is NOT NULL, so it can't say that a row is not deleted: drop NOT NULL."),
        (", gone bool GENERATED ALWAYS AS (id > 0) STORED", "Column gone of s.t is boolean; deleted rows are marked in a boolean or a timestamp."),
    ],
)  # fmt: skip
def test_a_mark_that_can_mark_nothing_is_refused(shop: Pair, column: str, message: str) -> None:
    shop.target.execute(f"CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v text, at timestamptz{column})")
    report = refused(shop, **BY_CURSOR, deletes="soft:gone")
    if "GENERATED" in column:
        assert "is boolean; deleted rows are marked in a boolean" not in str(report.error), "that says nothing"
    else:
        assert message in str(report.error)


def test_a_mark_that_the_source_has_too_is_refused(shop: Pair) -> None:
    assert "The mark of deleted rows, v, is a column of the source too" in str(
        refused(shop, **BY_CURSOR, deletes="soft:v").error
    )


@pytest.mark.parametrize("settings", [BY_CURSOR, BY_XMIN])
def test_keep_keeps(shop: Pair, settings: dict[str, Any]) -> None:
    done(shop, **settings)
    shop.source.execute("DELETE FROM s.t WHERE id < 100")
    report = done(shop, **settings)
    assert (report.deleted, report.keys_swept, report.target_count) == (0, -1, 200)
    assert "rows that are gone from the source stay on the target (--deletes keep)" in report.notes


@pytest.mark.parametrize("policy", ["sweep", "soft"])
@pytest.mark.parametrize("settings", [BY_CURSOR, BY_XMIN])
def test_the_guard_holds_and_names_the_way_out(pair: Pair, settings: dict[str, Any], policy: str) -> None:
    pair.source.execute(SHOP)
    settings = {**settings, "deletes": policy}
    done(pair, **settings)
    pair.source.execute("DELETE FROM s.t WHERE id <= 21; INSERT INTO s.t VALUES (201, 'new', '2024-02-01Z')")
    report = refused(pair, **settings)
    assert "21 of 200 rows (10.5 %) would be deleted, and the limit is 10%" in str(report.error)
    assert (
        report.hint
        == "If that is right, run again with --max-delete 21. To keep rows that are gone from the source, use --deletes keep."
    )
    assert report.step == "guard"
    assert done(pair, **settings, max_delete="21").deleted == 21
    pair.source.execute("DELETE FROM s.t")
    assert "because the source has no rows in scope" in str(refused(pair, **settings).error)
    assert done(pair, **settings, max_delete=MaxDelete.parse("100%")).deleted == 180


@pytest.mark.parametrize("mode", ["full", "upsert"])
def test_the_guard_names_a_way_out_that_is_one(shop: Pair, mode: str) -> None:
    """``--mode upsert`` alone keeps nothing where ``--deletes soft`` is still given."""
    done(shop, mode=mode, deletes="soft")
    shop.source.execute("DELETE FROM s.t WHERE id <= 100")
    assert refused(shop, mode=mode, deletes="soft").hint.endswith("use --deletes keep.")


def test_the_guard_exits_with_6_and_says_so(shop: Pair) -> None:
    done(shop, **BY_CURSOR)
    shop.source.execute("DELETE FROM s.t WHERE id <= 50")
    outcome = shop.pgsluice("sync", *CLI, "--deletes", "sweep", "--max-delete", "20%")
    assert outcome.code == 6
    assert "failed at step guard: 50 of 200 rows (25 %) would be deleted, and the limit is 20%" in outcome.out
    assert shop.target.value("SELECT count(*) FROM s.t") == 200
    status = shop.pgsluice("status")
    assert "s.t  failed  guard: 50 of 200 rows" in status.out
    assert done(shop, **BY_CURSOR, deletes="sweep", max_delete="50").deleted == 50
    assert same(shop)


@pytest.mark.parametrize("policy", ["sweep", "soft:gone"])
@pytest.mark.parametrize("settings", [BY_CURSOR, BY_XMIN])
def test_deletes_stay_within_the_condition(pair: Pair, settings: dict[str, Any], policy: str) -> None:
    """The table's name, a comment, percent and braces in it; a row that leaves the scope, and comes back."""
    pair.source.execute(SHOP)
    pair.target.execute(
        "CREATE SCHEMA raw; CREATE TABLE raw.t (id int PRIMARY KEY, v text, at timestamptz, gone timestamptz)"
    )
    pair.target.execute("INSERT INTO raw.t VALUES (1, 'old', NULL), (500, 'old', NULL), (501, 'ours %', NULL)")
    settings = {
        **settings,
        "deletes": policy,
        "to": "raw.{table}",
        "where": "t.id > 100 AND v LIKE 'o%' OR v = '{}' -- half",
    }
    report = done(pair, **settings)
    assert (report.inserted, report.deleted) == (100, 2), (
        "500 and 501 are in scope and not on the source; 1 is not in scope"
    )
    there = "SELECT id FROM raw.t WHERE gone IS NULL ORDER BY id"
    assert pair.target.rows(there) == [(1,), *((i,) for i in range(101, 201))]
    pair.source.execute("UPDATE s.t SET v = 'gone' WHERE id = 150; DELETE FROM s.t WHERE id IN (50, 151)")
    report = done(pair, **settings)
    assert (report.deleted, report.keys_swept) == (2, 98)
    assert pair.target.rows(there) == [(i,) for i in (1, *range(101, 201)) if i not in {150, 151}]
    pair.source.execute("UPDATE s.t SET v = 'over' WHERE id = 150")
    report = done(pair, **settings)
    assert report.inserted + report.updated == 1
    assert pair.target.value("SELECT v FROM raw.t WHERE id = 150 AND gone IS NULL") == "over"


def test_a_condition_that_the_target_cant_answer_is_refused_with_sweep_alone(shop: Pair) -> None:
    shop.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at timestamptz)")
    report = refused(shop, **BY_CURSOR, where="v = 'old'", deletes="sweep")
    assert "can't be asked of the target" in str(report.error)
    assert "Use --deletes keep" in str(report.error)
    assert done(shop, **BY_CURSOR, where="v = 'old'").inserted == 200


KEYS = """
CREATE SCHEMA s;
CREATE TABLE s.t ("A %%" text, b int, v text, at timestamptz, PRIMARY KEY (b, "A %%"));
INSERT INTO s.t SELECT 'k' || i % 10, i / 10, 'old', timestamptz '2024-01-01Z' + i * interval '1 hour' FROM generate_series(1, 200) i;
CREATE TABLE s.links (a int, b int, PRIMARY KEY (a, b));
INSERT INTO s.links SELECT i, j FROM generate_series(1, 20) i, generate_series(1, 10) j;
"""


@pytest.mark.parametrize(("settings", "policy"), [(BY_CURSOR, "sweep"), (BY_CURSOR, "soft"), (BY_XMIN, "soft")])
def test_composite_keys(both: Pair, settings: dict[str, Any], policy: str) -> None:
    both.source.execute(KEYS)
    settings = {**settings, "deletes": policy}
    done(both, **settings)
    both.source.execute(
        """DELETE FROM s.t WHERE b = 3 AND "A %%" = 'k4'; UPDATE s.t SET "A %%" = 'moved' WHERE b = 5 AND "A %%" = 'k6'"""
    )
    report = done(both, **settings)
    assert (report.inserted, report.deleted) == (1, 2), "a changed key is another row"
    gone = "" if policy == "sweep" else " WHERE _deleted_at IS NULL"
    ours = 'SELECT "A %", b, v, at FROM s.t{} ORDER BY b, "A %"'.replace("%", "%%")
    assert both.target.rows(ours.format(gone)) == both.source.rows(ours.format(""))


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({"mode": "incremental", "cursor": "a"}, "keep"),
        ({"mode": "incremental", "cursor": "a"}, "soft"),
        (BY_XMIN, "sweep"),
        (BY_XMIN, "soft"),
    ],
)
def test_tables_of_nothing_but_a_key(both: Pair, settings: dict[str, Any], policy: str) -> None:
    both.source.execute(KEYS)
    settings = {**settings, "deletes": policy}
    assert done(both, "s.links", **settings).inserted == 200
    both.source.execute("DELETE FROM s.links WHERE a = 3 AND b < 5; INSERT INTO s.links VALUES (21, 1)")
    report = done(both, "s.links", **settings)
    gone = 0 if policy == "keep" else 4
    assert (report.inserted, report.updated, report.deleted) == (1, 0, gone)
    assert report.staging_count == (11 if "cursor" in settings else 1), "the last value again, or the new row alone"
    both.source.execute("INSERT INTO s.links VALUES (3, 1)")
    report = done(both, "s.links", **settings)
    assert (report.inserted, report.updated) == {"keep": (0, 0), "sweep": (1, 0), "soft": (0, 1)}[policy]


@pytest.mark.parametrize("policy", ["sweep", "soft"])
def test_a_key_that_stands_twice_is_found_among_the_keys_that_are_swept(pair: Pair, policy: str) -> None:
    """Its other row lies below the window; a full run would refuse them."""
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (k int, at date); INSERT INTO s.t VALUES (1, '2024-01-01'), (2, '2024-01-05')"
    )
    settings = {**BY_CURSOR, "key": ["k"], "deletes": policy}
    done(pair, **settings)
    pair.source.execute("INSERT INTO s.t VALUES (1, '2024-02-01')")
    assert "keys that stand more than once: 1" in str(refused(pair, **settings).error)


# --- partitions


PARTITIONED = """
CREATE SCHEMA s;
CREATE TABLE s.t (id int, v text, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE s.t_old PARTITION OF s.t FOR VALUES FROM ('2023-01-01Z') TO ('2024-01-05Z');
CREATE TABLE s.t_new PARTITION OF s.t FOR VALUES FROM ('2024-01-05Z') TO ('2025-01-01Z') PARTITION BY HASH (id);
CREATE TABLE s.t_new_0 PARTITION OF s.t_new FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE s.t_new_1 PARTITION OF s.t_new FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE s.t_rest PARTITION OF s.t DEFAULT;
"""
ROWS = "INSERT INTO s.t SELECT i, 'old', timestamptz '2024-01-01 00:00Z' + i * interval '1 hour' FROM generate_series(1, 200) i"


@pytest.mark.parametrize(
    ("settings", "policy"),
    [(BY_CURSOR, "sweep"), (BY_CURSOR, "soft:gone"), (BY_XMIN, "sweep"), ({"mode": "full"}, "soft:gone")],
)
def test_partitioned_on_both_sides(both: Pair, settings: dict[str, Any], policy: str) -> None:
    """Partitions of another shape; rows that change, vanish, and return."""
    both.source.execute(PARTITIONED + ROWS)
    both.target.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (gone boolean, at timestamptz, v text, id int PRIMARY KEY) PARTITION BY HASH (id);"
        "CREATE TABLE s.t0 PARTITION OF s.t FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE s.t1 PARTITION OF s.t FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    )
    settings = {**settings, "deletes": policy, "key": ["id"]}
    assert counts(done(both, **settings)) == (200, 0, 0, 0)
    both.source.execute(
        "DELETE FROM s.t WHERE id IN (1, 2, 150); UPDATE s.t SET v = 'x', at = '2024-03-01Z' WHERE id = 3"
    )
    both.source.execute("INSERT INTO s.t VALUES (201, 'new', '2024-03-02Z')")
    report = done(both, **settings)
    assert (report.inserted, report.updated, report.deleted) == (1, 1, 3)
    if settings["mode"] in {"incremental", "xmin"}:
        assert report.staging_count in {2, 3}
    both.source.execute("INSERT INTO s.t VALUES (1, 'back', '2024-04-01Z')")
    done(both, **settings)
    ours = "SELECT id, v, at FROM s.t {} ORDER BY id"
    assert both.target.rows(ours.format("WHERE gone IS NOT TRUE")) == both.source.rows(ours.format(""))


@pytest.mark.parametrize("settings", [{"mode": "incremental", "cursor": "id"}, BY_XMIN])
def test_rows_that_move_between_partitions_of_the_target_are_counted_as_updated(
    both: Pair, settings: dict[str, Any]
) -> None:
    both.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, region text, v text)")
    both.source.execute("INSERT INTO s.t SELECT i, 'north', 'old' FROM generate_series(1, 100) i")
    both.target.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int, region text, v text) PARTITION BY LIST (region);"
        "CREATE TABLE s.north PARTITION OF s.t FOR VALUES IN ('north'); CREATE TABLE s.rest PARTITION OF s.t DEFAULT"
    )
    assert done(both, **settings, deletes="sweep").inserted == 100
    both.source.execute(
        "UPDATE s.t SET region = 'south' WHERE id <= 10; UPDATE s.t SET v = 'x' WHERE id BETWEEN 11 AND 15"
    )
    both.source.execute("INSERT INTO s.t VALUES (101, 'south', 'new'); DELETE FROM s.t WHERE id > 95 AND id < 98")
    report = done(both, **settings, deletes="sweep")
    assert (report.inserted, report.updated, report.deleted) == (1, 15, 2)
    assert same(both)


@pytest.mark.parametrize("settings", [{**BY_CURSOR, "late_rows": "trust"}, BY_CURSOR, BY_XMIN])
def test_partitions_that_come_and_go_on_the_source(pair: Pair, settings: dict[str, Any]) -> None:
    """What is attached brings old rows under old stamps, what is detached is swept, what comes back is read whole."""
    pair.source.execute(PARTITIONED + ROWS)
    pair.source.execute(
        "CREATE TABLE s.t_past (LIKE s.t INCLUDING ALL); INSERT INTO s.t_past VALUES (900, 'past', '2022-05-01Z')"
    )
    settings = {**settings, "deletes": "sweep", "max_delete": "100"}
    done(pair, **settings)
    pair.source.execute("ALTER TABLE s.t ATTACH PARTITION s.t_past FOR VALUES FROM ('2022-01-01Z') TO ('2023-01-01Z')")
    report = done(pair, **settings)
    assert (report.inserted, report.staging_count) == (1, 1 if settings["mode"] == "xmin" else 2)
    pair.source.execute("ALTER TABLE s.t DETACH PARTITION s.t_old")
    assert done(pair, **settings).deleted == 95
    assert same(pair)
    pair.source.execute("ALTER TABLE s.t ATTACH PARTITION s.t_old FOR VALUES FROM ('2023-01-01Z') TO ('2024-01-05Z')")
    assert done(pair, **settings).inserted == 95
    assert same(pair)


def test_append_from_a_partitioned_source(pair: Pair) -> None:
    pair.source.execute(PARTITIONED + ROWS)
    assert done(pair, mode="append").staging_count == 200
    pair.source.execute("CREATE TABLE s.t_next PARTITION OF s.t FOR VALUES FROM ('2025-01-01Z') TO ('2026-01-01Z')")
    pair.source.execute("INSERT INTO s.t VALUES (201, 'new', '2025-01-01Z'), (202, 'new', '2024-01-01Z')")
    assert done(pair, mode="append").staging_count == 2
    assert done(pair, mode="append").staging_count == 0
    assert same(pair)
    pair.source.execute("TRUNCATE s.t_old; INSERT INTO s.t VALUES (203, 'new', '2024-01-01Z')")
    report = ran(pair, mode="append")
    assert (report.status, report.exit_code) == ("failed", 6)
    assert "was rewritten or truncated since the last run" in str(report.error)


# --- names, shapes, several tables


HOSTILE = ('판매 "%s" {0}', "t{table}% 'x'", "select", 'k"%s', "xmin2", "{schema}", "언제 %%")


@pytest.mark.parametrize(("mode", "lane"), [("incremental", "psql"), ("xmin", "libpq"), ("append", "psql")])
def test_hostile_names(pair: Pair, mode: str, lane: str) -> None:
    schema, name, cursor, key, near, brace, when = (sql.Identifier(part).as_string(None) for part in HOSTILE)
    table = f"{schema}.{name}"

    def execute(script: str) -> None:
        with psycopg.connect(pair.source.dsn, autocommit=True) as connection:
            connection.execute(script.encode())

    execute(
        f"CREATE SCHEMA {schema}; CREATE TABLE {table} ({key} int PRIMARY KEY, {cursor} timestamptz, {near} text,"
        f" {brace} text, {when} int)"
    )
    fill = f"INSERT INTO {table} SELECT i, timestamptz '2024-01-01Z' + i * interval '1 day', '{{}}', '%s %%', i"
    execute(f"{fill} FROM generate_series(1, 100) i")
    settings: dict[str, Any] = {"mode": mode, "to": 'raw."{table}"', "options": Options(lane=Lane(lane))}
    if mode == "incremental":
        settings["cursor"] = "select"
    if mode != "append":
        settings |= {"deletes": 'soft:weg "%s" {table}', "where": f"{near} <> 'x' AND {key} % 2 IN (0, 1)"}
    assert done(pair, table, **settings).inserted == 100
    execute(f"{fill} FROM generate_series(101, 102) i")
    if mode != "append":
        execute(f"DELETE FROM {table} WHERE {key} = 7")
    report = done(pair, table, **settings)
    assert (report.inserted, report.deleted, report.lane) == (2, 0 if mode == "append" else 1, lane)
    assert report.staging_count == (3 if mode == "incremental" else 2)
    columns = f"SELECT {key}, {cursor}, {near}, {brace}, {when} FROM %s WHERE {key} <> 7 ORDER BY 1"
    with psycopg.connect(pair.source.dsn) as ours, psycopg.connect(pair.target.dsn) as theirs:
        left, right = (
            connection.execute(columns.replace("FROM %s", f"FROM {place}").encode()).fetchall()
            for connection, place in ((ours, table), (theirs, f"raw.{name}"))
        )
    assert left == right
    assert len(left) == 101


def test_several_tables_of_a_pattern_read_on_each_from_its_own_watermark(shop: Pair) -> None:
    shop.source.execute(
        "CREATE TABLE s.u (id int PRIMARY KEY, at timestamptz); INSERT INTO s.u VALUES (1, '2020-01-01Z');"
        "CREATE TABLE s.w (id int PRIMARY KEY, at date); INSERT INTO s.w VALUES (1, '2021-01-01')"
    )
    command = ("--table", "s.*", "--to", "raw.{table}", "--mode", "incremental", "--cursor", "at", "--json")
    first = shop.pgsluice("sync", *command)
    assert first.code == 0, first.out
    assert {line["target"]: line["watermark"] for line in first.lines[:-1]} == {
        "raw.t": LAST, "raw.u": "2020-01-01 00:00:00+00", "raw.w": "2021-01-01",
    }  # fmt: skip
    shop.source.execute("INSERT INTO s.u VALUES (2, '2020-01-02Z'); INSERT INTO s.t VALUES (201, 'new', '2024-02-01Z')")
    second = shop.pgsluice("sync", *command)
    assert {line["target"]: line["staging_count"] for line in second.lines[:-1]} == {"raw.t": 2, "raw.u": 2, "raw.w": 1}
    shop.source.execute(
        "CREATE TABLE s.x (id int PRIMARY KEY, moved date); CREATE TABLE s.y (id int PRIMARY KEY, at bool)"
    )
    third = shop.pgsluice("sync", *command[:-1])
    assert third.code == 3
    assert "s.x has no column at\n  It has id, moved." in third.out
    assert "column at of s.y is boolean, which can't be a cursor" in third.out
    assert "3 of 5 done, 2 failed" in third.out


@pytest.mark.parametrize("settings", [BY_CURSOR, BY_XMIN])
def test_columns_in_another_order_and_of_one_side_alone(shop: Pair, settings: dict[str, Any]) -> None:
    shop.source.execute("ALTER TABLE s.t ADD secret text DEFAULT 'theirs'")
    shop.target.execute(
        "CREATE SCHEMA raw; CREATE TABLE raw.t (mine text DEFAULT 'ours', at timestamptz, v text, id bigint PRIMARY KEY)"
    )
    settings = {**settings, "to": "raw.{table}", "deletes": "sweep"}
    assert done(shop, **settings).inserted == 200
    shop.source.execute("UPDATE s.t SET v = 'x', at = '2024-02-01Z' WHERE id = 4; DELETE FROM s.t WHERE id = 5")
    shop.target.execute("UPDATE raw.t SET mine = 'kept' WHERE id = 4")
    report = done(shop, **settings)
    assert (report.updated, report.deleted) == (1, 1)
    assert report.staging_count == (2 if "cursor" in settings else 1)
    assert shop.target.rows("SELECT mine, v FROM raw.t WHERE id = 4") == [("kept", "x")]
    ours = "SELECT id, v, at FROM {} ORDER BY id"
    assert shop.target.rows(ours.format("raw.t")) == shop.source.rows(ours.format("s.t"))


@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.TEMPORARY])
@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
@pytest.mark.parametrize(("settings", "policy"), [(BY_CURSOR, "sweep"), (BY_XMIN, "soft")])
def test_every_staging_and_lane(
    shop: Pair, settings: dict[str, Any], staging: StagingKind, lane: Lane, policy: str
) -> None:
    settings = {**settings, "options": Options(staging=staging, lane=lane), "deletes": Deletes.parse(policy)}
    done(shop, **settings)
    shop.source.execute("DELETE FROM s.t WHERE id <= 20; UPDATE s.t SET v = 'x', at = '2024-02-01Z' WHERE id = 30")
    report = done(shop, **settings)
    assert (report.lane, report.staging) == (lane.value, staging.value)
    assert (report.staging_count, report.keys_swept) == (2 if "cursor" in settings else 1, 180)
    assert (report.updated, report.deleted) == (1, 20)
    rest = "SELECT id, v, at FROM s.t {} ORDER BY id"
    alive = "" if policy == "sweep" else "WHERE _deleted_at IS NULL"
    assert shop.target.rows(rest.format(alive)) == shop.source.rows(rest.format(""))


def test_the_command_line_takes_every_staging_and_lane(shop: Pair) -> None:
    done(shop, **BY_CURSOR)
    shop.source.execute("DELETE FROM s.t WHERE id <= 10")
    command = (*CLI, "--deletes", "sweep", "--staging", "unlogged", "--lane", "psql")
    outcome = shop.pgsluice("sync", *command)
    assert outcome.code == 0, outcome.out
    assert "  lane psql: as asked\n" in outcome.out
    assert "  staging unlogged; " in outcome.out
    assert "  swept 190 keys\n" in outcome.out
    assert shop.target.staging_tables() == []


def test_python_takes_the_names_of_the_command_and_values_of_its_types(shop: Pair) -> None:
    report = sync(
        shop.source.dsn, shop.target.dsn, "s.t", to="raw.{table}", where="id <= 100", key=["id"], mode=Mode.INCREMENTAL,
        cursor="at", cursor_type="timestamptz", late_rows=LateRows.parse("scan"), late_within="30 days",
        deletes=Deletes.parse("soft:gone"), max_delete=MaxDelete.parse("50%"), full_refresh=False,
        options=Options(on_lost_state=OnLostState.FAIL),
    )  # fmt: skip
    assert (report.exit_code, report.tables[0].inserted, report.tables[0].mode) == (0, 100, "incremental")
    assert json.loads(json.dumps(report.to_dict()))["tables"][0]["late_rows"] == "scan"


# --- views and queries


def test_a_view_reads_on_by_trust(shop: Pair) -> None:
    shop.source.execute("CREATE VIEW s.latest AS SELECT id, v, at FROM s.t WHERE id % 2 = 0")
    view = ("--table", "s.latest", "--key", "id", "--mode", "incremental", "--cursor", "at")
    asked = shop.pgsluice("sync", *view)
    assert asked.code == 6
    assert "scan: not here: s.latest does not show which transactions wrote its rows (a view)." in asked.out
    assert "horizon: not here: what sets at can't be seen (a view)." in asked.out
    assert (
        "trust: reads on from the watermark (at the cost of a view); misses every row that commits late." in asked.out
    )
    assert shop.pgsluice("sync", *view, "--late-rows", "trust").code == 0
    shop.source.execute(
        "INSERT INTO s.t VALUES (202, 'new', '2024-02-01Z'), (204, 'unseen', '2023-01-01Z'); DELETE FROM s.t WHERE id = 2"
    )
    report = shop.pgsluice("sync", *view, "--late-rows", "trust", "--deletes", "sweep", "--json").lines[0]
    assert [report[name] for name in ("staging_count", "inserted", "deleted", "keys_swept")] == [2, 1, 1, 101]
    (note,) = report["notes"]
    assert note.startswith("not guaranteed: a row whose at lies below the watermark when it commits is missed")
    assert "scan" not in note, "which is not to be had here"


def test_a_materialized_view_in_mode_xmin_is_read_where_it_was_refreshed(shop: Pair) -> None:
    shop.source.execute("CREATE MATERIALIZED VIEW s.sum AS SELECT id, v FROM s.t; CREATE UNIQUE INDEX ON s.sum (id)")
    settings = {"mode": "xmin", "key": ["id"], "deletes": "sweep"}
    assert done(shop, "s.sum", **settings).staging_count == 200
    assert done(shop, "s.sum", **settings).staging_count == 0
    shop.source.execute("UPDATE s.t SET v = 'x' WHERE id = 5; DELETE FROM s.t WHERE id = 6")
    shop.source.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY s.sum")
    report = done(shop, "s.sum", **settings)
    assert (report.staging_count, report.updated, report.deleted) == (1, 1, 1), "only what the refresh has written"
    shop.source.execute("UPDATE s.t SET v = 'y' WHERE id = 7; REFRESH MATERIALIZED VIEW s.sum")
    report = done(shop, "s.sum", **settings)
    assert (report.staging_count, report.updated, report.unchanged) == (199, 1, 198), "a plain refresh writes every row"
    assert same(shop, "s.sum", "s.sum")


def test_a_view_in_mode_xmin_is_read_whole_and_says_why(shop: Pair) -> None:
    shop.source.execute("CREATE VIEW s.latest AS SELECT id, v FROM s.t")
    for inserted in (200, 0):
        report = done(shop, "s.latest", mode="xmin", key=["id"])
        assert (report.staging_count, report.inserted) == (200, inserted)
        assert "s.latest does not show which transactions wrote its rows (a view)" in report.reading
    report = ran(shop, "s.latest", mode="append")
    assert (report.exit_code, "Mode append can't work: s.latest does not show which" in str(report.error)) == (6, True)


QUERY = """-- sales of each day
WITH named AS (SELECT id, v, at, '%s {x}' AS "a % {}" FROM s.t WHERE v LIKE 'o%' OR v <> '{}')
SELECT id, at, v AS word, "a % {}" FROM named
;
"""


def query(pair: Pair, file: Path, text: str, *arguments: str, command: str = "sync") -> Outcome:
    file.write_text(text)
    return pair.pgsluice(command, "--query-file", str(file), "--to", "raw.x", *arguments)


def test_a_query_file_is_copied_and_reads_on(shop: Pair, tmp_path: Path) -> None:
    file = tmp_path / "q.sql"
    whole = query(shop, file, QUERY, "--key", "id")
    assert whole.code == 0, whole.out
    assert "(query) -> raw.x: done" in whole.out
    assert "inserted 200, updated 0, unchanged 0, deleted 0; the table was created" in whole.out
    on = ("--key", "id", "--mode", "incremental", "--cursor", "at", "--late-rows", "trust")
    assert query(shop, file, QUERY, *on, "--json").lines[0]["reading"] == "every row: the first run"
    shop.source.execute("INSERT INTO s.t VALUES (201, 'new', '2024-02-01Z'); DELETE FROM s.t WHERE id = 3")
    plan = query(shop, file, QUERY, *on, command="plan")
    assert plan.code == 0, plan.out
    assert f"  reads    from {LAST} on\n" in plan.out
    assert f") AS query WHERE ((\"at\" OPERATOR(pg_catalog.>=) '{LAST}'::timestamp with time zone" in plan.out
    report = query(shop, file, QUERY, *on, "--deletes", "sweep", "--json").lines[0]
    assert [report[name] for name in ("source", "staging_count", "inserted", "deleted", "keys_swept")] == [
        "(query)", 2, 1, 1, 200,
    ]  # fmt: skip
    ours = "SELECT id, at, {} FROM {} ORDER BY id"
    assert shop.target.rows(ours.format("word", "raw.x")) == shop.source.rows(ours.format("v", "s.t"))
    report = query(shop, file, QUERY, *on, "--where", "query.word = 'new' OR id = 1", "--json").lines[0]
    assert report["staging_count"] == 2, "a condition of the user's stands around the query too"


def test_a_query_that_needs_a_key_or_a_name_says_so(shop: Pair, tmp_path: Path) -> None:
    file = tmp_path / "q.sql"
    nameless = query(shop, file, QUERY)
    assert nameless.code == 6
    assert "name the columns that do with --key a,b" in nameless.out
    for arguments, message in (
        (
            ("--query-file", str(file), "--key", "id"),
            "a query needs a name for its target\nGive it with --to raw.name.",
        ),
        (("--query-file", str(file), "--to", "raw.x", "--table", "s.t"), "tables and a query were both given"),
        (("--query-file", str(tmp_path / "none.sql"), "--to", "raw.x"), "No such file or directory"),
    ):
        outcome = shop.pgsluice("sync", *arguments)
        assert (outcome.code, message in outcome.err) == (2, True), outcome.err
    file.write_bytes("SELECT 'größe' AS a".encode("latin-1"))
    outcome = shop.pgsluice("sync", "--query-file", str(file), "--to", "raw.x", "--key", "a")
    assert (outcome.code, "fault of ours" in outcome.err) == (2, False), outcome.err


NOT_ONE_SELECT = [
    "DELETE FROM s.t",
    "DELETE FROM s.t RETURNING id",
    "WITH gone AS (DELETE FROM s.t RETURNING id) SELECT id FROM gone",
    "SELECT id FROM (WITH gone AS (DELETE FROM s.t RETURNING *) SELECT * FROM gone) AS x",
    "WITH x AS MATERIALIZED (UPDATE s.t SET v = 'x' RETURNING id) SELECT id FROM s.t",
    "INSERT INTO s.t VALUES (999) RETURNING id",
    "UPDATE s.t SET v = 'x' RETURNING id",
    "MERGE INTO s.t USING s.t AS u ON t.id = u.id WHEN MATCHED THEN DELETE",
    "SELECT id FROM s.t; DELETE FROM s.t",
    "SELECT id FROM s.t; SELECT id FROM s.t",
    "SELECT id FROM s.t; COMMIT; DELETE FROM s.t",
    "SELECT id FROM s.t) AS x; DELETE FROM s.t; --",
    "SELECT id FROM s.t) AS query WHERE true UNION ALL SELECT id FROM (SELECT id FROM s.t",
    "",
    "  \n",
    "-- nothing\n",
    ";",
    "COPY s.t TO STDOUT",
    "COPY s.t FROM PROGRAM 'echo 999'",
    "COPY (SELECT 1) TO PROGRAM 'cat'",
    "SELECT id INTO s.other FROM s.t",
    "CREATE TABLE s.other AS SELECT 1 AS id",
    "TRUNCATE s.t",
    "DO $$ BEGIN DELETE FROM s.t; END $$",
    "CALL s.gone()",
    "EXPLAIN ANALYZE DELETE FROM s.t",
    "SET ROLE postgres",
    "SHOW server_version",
    "LISTEN x",
    "VACUUM s.t",
    "PREPARE x AS SELECT 1",
    "DECLARE x CURSOR FOR SELECT 1 AS id",
    "SELECT FROM s.t",
    "SELECT id, id FROM s.t",
    "SELECT nothing FROM s.t",
    "SELECT id FROM s.t \\gexec",
]


@pytest.mark.parametrize("settings", [{"mode": "full"}, {**BY_CURSOR, "cursor": "id", "late_rows": "trust"}])
def test_what_is_not_one_select_is_refused_before_it_runs(shop: Pair, settings: dict[str, Any]) -> None:
    shop.source.execute("CREATE PROCEDURE s.gone() LANGUAGE sql AS 'DELETE FROM s.t'")
    before = shop.source.image("s.t")
    for text in NOT_ONE_SELECT:
        report = ran(shop, query=text, to="raw.x", key=["id"], **settings)
        assert (report.status, report.exit_code, report.step, report.staging_count) == ("failed", 2, "plan", 0), text
    assert shop.source.image("s.t") == before
    assert shop.source.value("SELECT to_regclass('s.other') IS NULL")
    assert shop.target.value("SELECT to_regnamespace('raw') IS NULL")


def test_a_refused_query_is_told_on_the_command_line(shop: Pair, tmp_path: Path) -> None:
    file = tmp_path / "q.sql"
    outcome = query(shop, file, "SELECT id FROM s.t; DELETE FROM s.t", "--key", "id")
    assert outcome.code == 2
    assert "failed at step plan: the query is not valid: " in outcome.out
    assert "Give one SELECT." in outcome.out
    outcome = query(shop, file, "", "--key", "id", command="plan")
    assert outcome.code == 2
    assert "empty" in outcome.out
    assert shop.target.value("SELECT to_regnamespace('pgsluice') IS NULL")


@pytest.mark.parametrize("policy", ["sweep", "soft"])
def test_a_query_sweeps_by_its_own_keys(both: Pair, policy: str) -> None:
    both.source.execute(SHOP)
    settings = {
        "query": 'SELECT id AS "k %", at, v FROM s.t WHERE id > 100', "to": "raw.x", "key": ["k %"], "deletes": policy,
        **BY_CURSOR, "late_rows": "trust",
    }  # fmt: skip
    assert done(both, **settings).inserted == 100
    both.source.execute("DELETE FROM s.t WHERE id IN (1, 101); INSERT INTO s.t VALUES (201, 'new', '2024-02-01Z')")
    report = done(both, **settings)
    assert (report.staging_count, report.inserted, report.deleted, report.keys_swept) == (2, 1, 1, 100)
    assert done(both, **{**settings, "mode": "full", "cursor": None, "late_rows": "auto"}).staging_count == 100


def test_a_query_may_come_by_stdin(shop: Pair) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "pgsluice", "sync", "--source", shop.source.dsn, "--target", shop.target.dsn,
            "--query-file", "-", "--to", "raw.x", "--key", "id", "--quiet",
        ],
        input=QUERY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(query) -> raw.x: done" in done.stdout
