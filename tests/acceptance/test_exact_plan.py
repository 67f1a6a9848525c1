"""``plan --exact`` says to the row what a sync would do, and leaves everything as it is."""

from __future__ import annotations

import pytest
from servers import Pair

BOTH = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int, at timestamptz DEFAULT '2026-01-01Z'); "
ROWS = "INSERT INTO s.t SELECT i, 1 FROM generate_series(1, 1000) i; ANALYZE s.t;"


@pytest.fixture
def changed(pair: Pair) -> Pair:
    """Ten rows changed, five gone, three new."""
    for side in (pair.source, pair.target):
        side.execute(BOTH + ROWS)
    pair.source.execute(
        "UPDATE s.t SET v = 2, at = '2026-02-01Z' WHERE id <= 10; DELETE FROM s.t WHERE id > 995;"
        " INSERT INTO s.t VALUES (-1, 0, '2026-02-01Z'), (-2, 0, '2026-02-01Z'), (-3, 0, '2026-02-01Z')"
    )
    return pair


def exactly(pair: Pair, *arguments: str) -> tuple[int, ...]:
    """Plan to the row, see that nothing but our schema has changed, sync, and see that it does just that."""
    before = pair.target.image("s.t") if pair.target.value("SELECT to_regclass('s.t') IS NOT NULL") else None
    planned = pair.pgsluice("plan", "--table", "s.t", "--exact", "--json", *arguments)
    assert planned.code == 0, planned.err
    exact = planned.lines[0]["exact"]
    assert exact["error"] is None
    after = pair.target.image("s.t") if pair.target.value("SELECT to_regclass('s.t') IS NOT NULL") else None
    assert after == before
    assert pair.target.staging_tables() == []
    counts = tuple(exact[name] for name in ("inserted", "updated", "unchanged", "deleted"))
    done = pair.pgsluice("sync", "--table", "s.t", "--json", *arguments)
    assert done.code == 0, done.err
    assert tuple(done.lines[0][name] for name in ("inserted", "updated", "unchanged", "deleted")) == counts
    return counts


def test_a_full_sync(changed: Pair) -> None:
    assert exactly(changed) == (3, 10, 985, 5)
    assert exactly(changed) == (0, 0, 998, 0)
    assert changed.target.image("s.t") == changed.source.image("s.t")


def test_an_upsert_deletes_nothing(changed: Pair) -> None:
    assert exactly(changed, "--mode", "upsert") == (3, 10, 985, 0)


def test_a_condition_limits_what_would_go(changed: Pair) -> None:
    assert exactly(changed, "--where", "id < 998") == (3, 10, 985, 2)


def test_a_missing_target_gets_all(pair: Pair) -> None:
    pair.source.execute(BOTH + ROWS)
    assert exactly(pair) == (1000, 0, 0, 0)


def test_what_reads_on_says_what_is_new(changed: Pair) -> None:
    assert exactly(changed, "--mode", "incremental", "--cursor", "at") == (3, 10, 985, 0)
    changed.source.execute("UPDATE s.t SET v = 3, at = '2026-03-01Z' WHERE id = 500; DELETE FROM s.t WHERE id = 1")
    sweep = ("--mode", "incremental", "--cursor", "at", "--deletes", "sweep")
    assert exactly(changed, *sweep)[3] == 6


def test_rows_that_are_marked_and_those_that_come_back_are_counted(pair: Pair) -> None:
    pair.source.execute(BOTH + ROWS)
    marking = ("--deletes", "soft:gone")
    assert exactly(pair, *marking) == (1000, 0, 0, 0)
    pair.source.execute("CREATE TABLE s.back AS SELECT * FROM s.t WHERE id <= 4; DELETE FROM s.t WHERE id <= 4")
    assert exactly(pair, *marking) == (0, 0, 996, 4)
    pair.source.execute("INSERT INTO s.t TABLE s.back; UPDATE s.t SET v = 7 WHERE id = 9")
    assert exactly(pair, *marking) == (0, 5, 995, 0)


def test_the_guard_that_would_refuse_is_named_and_nothing_is_written_down(changed: Pair) -> None:
    changed.source.execute("DELETE FROM s.t WHERE id > 100")
    planned = changed.pgsluice("plan", "--table", "s.t", "--exact")
    assert planned.code == 0
    assert "  exact    inserts 3, updates 10, leaves 90, deletes 900" in planned.out
    assert "the delete guard would refuse it: 900 of 1000 rows" in planned.out
    assert changed.pgsluice("status").out.endswith("\nNo run has written to this target yet.\n")


def test_keys_that_do_not_tell_rows_apart_are_told(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int, v int); INSERT INTO s.t VALUES (1, 1), (1, 2)")
    planned = pair.pgsluice("plan", "--table", "s.t", "--key", "id", "--exact")
    assert planned.code == 6
    assert (
        "exact    not counted: the key (id) does not tell the source's rows apart: keys that stand more than once: 1"
        in planned.out
    )
    assert pair.target.staging_tables() == []
