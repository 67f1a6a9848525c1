"""``pgsluice state``: where jobs stand, and how they are moved by hand."""

from __future__ import annotations

import psycopg
import pytest
from servers import Outcome, Pair, run_cli

WAY = ("--table", "s.t", "--mode", "incremental", "--cursor", "at", "--late-rows", "trust")


def stated(pair: Pair, *arguments: str) -> Outcome:
    return run_cli("state", *arguments, "--target", pair.target.dsn)


@pytest.fixture
def synced(pair: Pair) -> Pair:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at timestamptz NOT NULL);"
        "INSERT INTO s.t SELECT i, '2026-01-01Z'::timestamptz + i * interval '1 day' FROM generate_series(1, 20) i"
    )
    assert stated(pair, "show").out == "No job stands anywhere yet.\n"
    assert pair.pgsluice("sync", *WAY).code == 0
    return pair


def test_where_a_job_stands_is_shown_and_forgotten(synced: Pair) -> None:
    (shown,) = stated(synced, "show", "--json").lines
    assert (shown["target"], shown["cursor"], shown["watermark"]) == ("s.t", "at", "2026-01-21 00:00:00+00")
    assert "s.t -> s.t (incremental by at): watermark 2026-01-21" in stated(synced, "show", "s.t").out
    done = stated(synced, "reset", shown["job_id"])
    assert done.out == "s.t -> s.t (incremental): forgotten: its next run reads everything\n"
    assert synced.pgsluice("sync", *WAY, "--json").lines[0]["staging_count"] == 20


def test_a_watermark_is_set_as_the_column_writes_it(synced: Pair) -> None:
    done = stated(synced, "set", "s.t", "2026-01-11 09:00+09")
    assert (done.code, "reads from 2026-01-11 00:00:00+00 on (it was 2026-01-21" in done.out) == (0, True), done
    assert synced.pgsluice("sync", *WAY, "--json").lines[0]["staging_count"] == 11
    wrong = stated(synced, "set", "s.t", "yesterday week")
    assert (wrong.code, "'yesterday week' is no value of at of s.t" in wrong.err) == (2, True), wrong


def test_a_job_that_is_not_there_or_has_no_watermark_is_told(synced: Pair) -> None:
    assert "no job s.u stands anywhere" in stated(synced, "reset", "s.u").err
    assert synced.pgsluice("sync", "--table", "s.t").code == 0
    several = stated(synced, "reset", "s.t")
    assert (several.code, "s.t has several jobs: " in several.err) == (2, True)
    full = next(line for line in stated(synced, "show", "--json").lines if line["mode"] == "full")
    refused = stated(synced, "set", full["job_id"], "1")
    assert (refused.code, "mode full, which has no watermark" in refused.err) == (2, True)


def test_a_job_that_a_run_is_at_is_left_alone(synced: Pair) -> None:
    with psycopg.connect(synced.target.dsn) as run:
        run.execute("SELECT pg_advisory_lock(lock_key) FROM pgsluice.target WHERE target = 's.t'")
        busy = stated(synced, "reset", "s.t")
    assert busy.code == 11, busy
    assert len(stated(synced, "show", "--json").lines) == 1


def test_status_says_how_far_a_job_is_behind_its_source(synced: Pair) -> None:
    def told() -> str:
        return synced.pgsluice("status", "--lag", "--source", synced.source.dsn).out

    reached = "2026-01-21 00:00:00+00"
    assert told().endswith(f"\ns.t -> s.t: watermark {reached}, source at {reached}: up to date\n")
    synced.source.execute("INSERT INTO s.t VALUES (21, '2026-01-22 06:00Z')")
    assert told().endswith("source at 2026-01-22 06:00:00+00: 1d 6h behind\n")
    line = synced.pgsluice("status", "--lag", "--source", synced.source.dsn, "--json").lines[0]
    assert (line["cursor"], line["highest"], line["behind"]) == ("at", "2026-01-22 06:00:00+00", "1d 6h behind")
    synced.source.execute("DROP TABLE s.t")
    assert told().endswith("source at None: not known\n")
    alone = synced.pgsluice("status", "--lag")
    assert (alone.code, "--source, or --config" in alone.err) == (2, True)


def test_status_says_how_far_a_job_is_behind_a_view_of_its_source(synced: Pair) -> None:
    synced.source.execute("CREATE VIEW s.v AS SELECT * FROM s.t")
    reading_on = ("--mode", "incremental", "--cursor", "at", "--late-rows", "trust", "--key", "id")
    assert synced.pgsluice("sync", "--table", "s.v", *reading_on).code == 0
    synced.source.execute("INSERT INTO s.t VALUES (21, '2026-01-22 06:00Z')")
    told = synced.pgsluice("status", "--lag", "--source", synced.source.dsn).out
    assert "s.v -> s.v: watermark 2026-01-21 00:00:00+00, source at 2026-01-22 06:00:00+00: 1d 6h behind\n" in told


def test_a_job_is_not_moved_by_the_name_of_its_source(synced: Pair) -> None:
    """The rows of s.t go into a.t as well; where s.t is meant, it is the target of that name."""
    stated(synced, "reset", "s.t")
    to_another = ("--mode", "incremental", "--cursor", "at", "--late-rows", "trust", "--to", "a.t")
    assert synced.pgsluice("sync", "--table", "s.t", *to_another).code == 0
    for moved in (("reset", "s.t"), ("set", "s.t", "2026-01-11")):
        done = stated(synced, *moved)
        assert (done.code, "no job s.t stands anywhere" in done.err) == (2, True), done
    assert "s.t -> a.t" in stated(synced, "show", "s.t").out
    assert synced.pgsluice("sync", *WAY).code == 0
    done = stated(synced, "reset", "s.t")
    assert done.out == "s.t -> s.t (incremental): forgotten: its next run reads everything\n"
    assert [line["target"] for line in stated(synced, "show", "--json").lines] == ["a.t"]
