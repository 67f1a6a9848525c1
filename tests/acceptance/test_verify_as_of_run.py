"""``pgsluice verify --as-of-run``: a live source does not show as a difference, and what a run has lost does."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from servers import Pair

TABLE = (
    "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), note text);"
    "INSERT INTO s.t SELECT i, '2026-01-01', 'note ' || i FROM generate_series(1, 2000) i; ANALYZE s.t;"
)
BY_CURSOR = ("--mode", "incremental", "--cursor", "at")
WAYS = {
    "incremental": BY_CURSOR,
    "trusting": (*BY_CURSOR, "--late-rows", "trust"),
    "xmin": ("--mode", "xmin"),
    "full": ("--mode", "full"),
    "upsert": ("--mode", "upsert"),
}


@pytest.fixture
def live(pair: Pair) -> Pair:
    pair.source.execute(TABLE)
    return pair


def synced(pair: Pair, *way: str) -> str:
    done = pair.pgsluice("sync", "--table", "s.t", "--json", *way)
    assert done.code == 0, done
    return str(done.lines[0]["run_id"])


def verified(pair: Pair, *arguments: str, code: int) -> dict[str, Any]:
    done = pair.pgsluice("verify", "--table", "s.t", "--json", *arguments)
    assert done.code == code, done
    table: dict[str, Any] = done.lines[0]
    return table


@pytest.mark.parametrize("way", WAYS)
def test_what_the_source_got_changed_and_lost_since_the_run_is_no_difference(live: Pair, way: str) -> None:
    run_id = synced(live, *WAYS[way])
    live.source.execute(
        "INSERT INTO s.t VALUES (2001, DEFAULT, 'new'), (2002, DEFAULT, 'new'); DELETE FROM s.t WHERE id IN (5, 6, 7);"
        "UPDATE s.t SET note = 'other', at = DEFAULT WHERE id = 1000; UPDATE s.t SET id = -1, at = DEFAULT WHERE id = 99"
    )
    assert verified(live, *WAYS[way], "--level", "rows", code=4)["missing"] == 3
    for level in ("hash", "rows"):
        table = verified(live, *WAYS[way], "--level", level, "--as-of-run", code=0)
        assert (table["status"], table["as_of_run"]) == ("equal", run_id)
        assert (table["changed_since"], table["gone_since"]) == (4, 4)
        assert (table["missing"], table["extra"], table["changed"], table["differences"]) == (0, 0, 0, [])


def test_a_row_that_is_not_what_the_run_has_seen_is_named(live: Pair) -> None:
    synced(live, *BY_CURSOR)
    live.source.execute("UPDATE s.t SET note = 'other', at = DEFAULT WHERE id = 1000")
    live.target.execute("UPDATE s.t SET note = 'wrong' WHERE id = 7; DELETE FROM s.t WHERE id = 8")
    table = verified(live, *BY_CURSOR, "--level", "rows", "--as-of-run", code=4)
    named = {(each["sign"], each["key"][0]) for each in table["differences"]}
    assert named == {("*", "7"), ("+", "8")}
    assert (table["missing"], table["extra"], table["changed"], table["changed_since"]) == (1, 0, 1, 1)
    assert verified(live, *BY_CURSOR, "--as-of-run", code=4)["status"] == "different"


def test_a_row_that_a_trusting_watermark_has_lost_is_found_behind_the_next_run(live: Pair) -> None:
    """It commits late: under the first run it is still under way, and the second one has had its chance."""
    way = WAYS["trusting"]
    with psycopg.connect(live.source.dsn) as late:
        late.execute("INSERT INTO s.t VALUES (3000, '2026-01-02', 'late')")
        live.source.execute("INSERT INTO s.t VALUES (3001, '2026-01-03', 'in time')")
        synced(live, *way)
        late.commit()
    assert verified(live, *way, "--level", "rows", "--as-of-run", code=0)["changed_since"] == 1
    synced(live, *way)
    table = verified(live, *way, "--level", "rows", "--as-of-run", code=4)
    assert [(each["sign"], each["key"]) for each in table["differences"]] == [("+", ["3000"])]


def test_rows_of_a_partition_that_is_attached_later_are_no_difference(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);"
        "CREATE TABLE s.a PARTITION OF s.t FOR VALUES FROM (0) TO (100); CREATE TABLE s.b (LIKE s.t);"
        "ALTER TABLE s.b ALTER id SET NOT NULL;"
        "INSERT INTO s.b SELECT i, 'b' FROM generate_series(100, 110) i; INSERT INTO s.t VALUES (1, 'a'), (2, 'a')"
    )
    synced(pair, "--mode", "xmin")
    pair.source.execute(
        "ALTER TABLE s.t ATTACH PARTITION s.b FOR VALUES FROM (100) TO (200); DELETE FROM s.t WHERE id = 2"
    )
    table = verified(pair, "--mode", "xmin", "--as-of-run", code=0)
    assert (table["changed_since"], table["gone_since"]) == (11, 1)


def test_what_can_not_be_told_is_said_with_its_reason(live: Pair) -> None:
    unknown = verified(live, *BY_CURSOR, "--as-of-run", code=2)
    assert "there is no table s.t on the target" in unknown["error"]
    synced(live)
    assert "no run of this job into s.t is remembered" in verified(live, *BY_CURSOR, "--as-of-run", code=1)["error"]
    counted = live.pgsluice("verify", "--table", "s.t", "--level", "count", "--as-of-run")
    assert counted.code == 2
    assert "--level hash" in counted.err
    live.target.execute("ALTER TABLE s.t RENAME TO old; CREATE TABLE s.t (LIKE s.old INCLUDING ALL)")
    assert "another table than last time" in verified(live, "--as-of-run", code=1)["error"]


def test_the_text_says_what_is_since(live: Pair) -> None:
    run_id = synced(live)
    live.source.execute("DELETE FROM s.t WHERE id = 5; UPDATE s.t SET note = NULL WHERE id = 6")
    done = live.pgsluice("verify", "--table", "s.t", "--as-of-run")
    assert done.code == 0, done
    assert f"since run {run_id} the source got or changed 1 row and lost 1, which is no difference" in done.out
