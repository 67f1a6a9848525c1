"""A full sync that copies what differs alone: what arrives, what is guarded, and when everything is copied instead."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from faulting import At
from proxying import proxied
from servers import Pair
from typelist import FAMILIES
from typetables import fill, tables

from pgsluice import MaxDelete, Options, StagingKind, sync
from pgsluice.events import StepStarted
from pgsluice.job import Strategy
from pgsluice.model import TableReport
from pgsluice.shape import Shape
from pgsluice.sinks.recorder import Recorder

ROWS = 10_000
TABLE = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int, note text);"
FILLED = f"INSERT INTO s.t SELECT i, 1, 'note ' || i FROM generate_series(1, {ROWS}) i; ANALYZE s.t;"
STAGINGS = (StagingKind.UNLOGGED, StagingKind.TEMPORARY)


@pytest.fixture
def same(pair: Pair) -> Pair:
    for side in (pair.source, pair.target):
        side.execute(TABLE + FILLED)
    return pair


@pytest.fixture
def other(same: Pair) -> Pair:
    """Two rows new, three gone, four changed."""
    same.source.execute(
        "INSERT INTO s.t VALUES (0, 1, NULL), (-1, 2, 'new'); DELETE FROM s.t WHERE id IN (5, 500, 5000);"
        "UPDATE s.t SET v = 2 WHERE id IN (7, 70); UPDATE s.t SET note = NULL WHERE id IN (700, 7000)"
    )
    return same


def synced(pair: Pair, *, sink: Any = None, **given: Any) -> TableReport:
    options = Options(**{"strategy": Strategy.DIFF, **given.pop("options", {})})
    return sync(pair.source.dsn, pair.target.dsn, "s.t", options=options, sinks=[sink] if sink else [], **given).tables[
        0
    ]


def counts(report: TableReport) -> tuple[int, int, int, int]:
    assert report.status == "done", report.error
    return report.inserted, report.updated, report.unchanged, report.deleted


@pytest.mark.parametrize("staging", STAGINGS, ids=str)
@pytest.mark.parametrize("way", ["merged at once", "compared first"])
def test_what_differs_is_copied_alone_and_the_target_equals_the_source(
    other: Pair, monkeypatch: pytest.MonkeyPatch, staging: StagingKind, way: str
) -> None:
    if way == "compared first":
        monkeypatch.setattr("pgsluice.plan.COMPARED_FROM_BYTES", 0)
    report = synced(other, options={"staging": staging})
    assert counts(report) == (2, 4, ROWS - 3 - 4, 3)
    assert (report.strategy, report.target_count) == ("diff", ROWS - 1)
    assert 0 < report.staging_count < ROWS // 10
    assert 0 < report.hash_bytes < 40_000
    assert other.target.image("s.t") == other.source.image("s.t")
    assert other.target.staging_tables() == []


def test_a_second_run_relays_and_writes_nothing(other: Pair) -> None:
    synced(other)
    before = other.target.rows("SELECT xmin::text, * FROM s.t ORDER BY id")
    report = synced(other)
    assert counts(report) == (0, 0, ROWS - 1, 0)
    assert report.staging_count == 0
    assert report.strategy_reason.startswith("0 of ")
    assert other.target.rows("SELECT xmin::text, * FROM s.t ORDER BY id") == before


def test_corruptions_of_every_type_are_mended(pair: Pair) -> None:
    """Each table of the type list gets its values of the row before, on the target."""
    families = [family for family in FAMILIES if not family.needs and family.since <= 16 and family.is_plain]
    fill(pair.source, families)
    options = Options(max_delete=MaxDelete.parse("100%"), allow_narrowing=True)
    assert sync(pair.source.dsn, pair.target.dsn, "s.*", options=options).exit_code == 0
    plain = [table for table in tables(families) if not table.is_key and "nested" not in table.name]
    for table in plain:
        columns = ", ".join(f"{name} = o.{name}" for name in table.columns)
        pair.target.execute(f"UPDATE s.{table.name} t SET {columns} FROM s.{table.name} o WHERE o.id = t.id - 1")
    assert any(pair.target.image(f"s.{table.name}") != pair.source.image(f"s.{table.name}") for table in plain)
    diff = Options(max_delete=MaxDelete.parse("100%"), allow_narrowing=True, strategy=Strategy.DIFF)
    report = sync(pair.source.dsn, pair.target.dsn, "s.*", options=diff)
    assert report.exit_code == 0, [(table.target, table.error) for table in report.failed]
    assert {table.strategy for table in report.tables} == {"diff"}
    for table in plain:
        assert pair.target.image(f"s.{table.name}") == pair.source.image(f"s.{table.name}"), table.name
    again = sync(pair.source.dsn, pair.target.dsn, "s.*", options=diff)
    assert sum(table.staging_count for table in again.tables) == 0


def test_a_bucket_is_looked_for_gone_rows_and_no_other(other: Pair) -> None:
    other.target.execute("INSERT INTO s.t SELECT -i, 0, NULL FROM generate_series(100, 110) i")
    assert counts(synced(other))[3] == 3 + 11
    assert other.target.image("s.t") == other.source.image("s.t")


def test_an_upsert_leaves_what_only_the_target_has(other: Pair) -> None:
    assert counts(synced(other, mode="upsert")) == (2, 4, ROWS - 3 - 4, 0)
    assert other.target.value("SELECT count(*) FROM s.t") == ROWS + 2


def test_rows_that_are_gone_are_marked_where_that_is_asked_for(other: Pair) -> None:
    other.target.execute("ALTER TABLE s.t ADD gone boolean")
    assert counts(synced(other, deletes="soft:gone"))[3] == 3
    assert other.target.rows("SELECT id FROM s.t WHERE gone ORDER BY 1") == [(5,), (500,), (5000,)]
    assert synced(other, deletes="soft:gone").staging_count == 0


def test_the_condition_limits_what_is_compared(other: Pair) -> None:
    assert counts(synced(other, where="id < 100"))[:2] == (2, 2)
    assert other.target.value("SELECT count(*) FROM s.t WHERE id IN (500, 5000)") == 2


def test_the_delete_guard_asks_for_its_share_of_the_table(same: Pair) -> None:
    limit = {"max_delete": MaxDelete.parse("1%")}
    same.source.execute("DELETE FROM s.t WHERE id <= 50")
    assert counts(synced(same, options=limit))[3] == 50
    same.source.execute("DELETE FROM s.t WHERE id <= 200")
    report = synced(same, options=limit)
    assert (report.exit_code, report.step) == (6, "guard")
    assert "150 of 9950 rows" in str(report.error)
    assert same.target.value("SELECT count(*) FROM s.t") == 9950


def test_an_empty_source_deletes_nothing(same: Pair) -> None:
    same.source.execute("TRUNCATE s.t")
    report = synced(same)
    assert (report.exit_code, report.step) == (6, "guard")
    assert same.target.value("SELECT count(*) FROM s.t") == ROWS


def test_values_that_change_places_behind_a_unique_constraint_arrive(same: Pair) -> None:
    for side in (same.source, same.target):
        side.execute("ALTER TABLE s.t ADD UNIQUE (note)")
    same.source.execute(
        "UPDATE s.t SET note = 'x' WHERE id = 1; UPDATE s.t SET note = 'note 1' WHERE id = 9999;"
        "UPDATE s.t SET note = 'note 9999' WHERE id = 1"
    )
    assert counts(synced(same))[:2] == (0, 2)
    assert same.target.image("s.t") == same.source.image("s.t")


def test_a_key_that_is_equal_and_not_the_same_is_one_row(pair: Pair) -> None:
    for side in (pair.source, pair.target):
        side.execute(
            "CREATE SCHEMA s; CREATE TABLE s.t (id numeric PRIMARY KEY, v int); INSERT INTO s.t VALUES (1.0, 1), (2, 2)"
        )
    pair.target.execute("UPDATE s.t SET id = 1.000 WHERE id = 1")
    report = synced(pair)
    assert (report.inserted, report.deleted) == (0, 0), report.error
    assert pair.target.value("SELECT count(*) FROM s.t") == 2


def test_partitions_of_other_bounds_are_compared_by_rows(pair: Pair) -> None:
    for side, bounds in ((pair.source, (0, 500, 1100)), (pair.target, (0, 900, 1100))):
        side.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id)")
        for low, high in itertools.pairwise(bounds):
            side.execute(f"CREATE TABLE s.t_{low} PARTITION OF s.t FOR VALUES FROM ({low}) TO ({high})")
        side.execute("INSERT INTO s.t SELECT i, 1 FROM generate_series(1, 1000) i; ANALYZE s.t")
    pair.source.execute("UPDATE s.t SET v = 2 WHERE id % 100 = 0; DELETE FROM s.t WHERE id = 7")
    assert counts(synced(pair)) == (0, 10, 989, 1)
    assert pair.target.image("s.t") == pair.source.image("s.t")


def test_where_too_much_differs_everything_is_copied_unless_asked(same: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgsluice.plan.DIFF_FROM_BYTES", 0)
    same.source.execute("UPDATE s.t SET v = 3 WHERE id % 20 = 0")
    report = synced(same, options={"strategy": Strategy.AUTO})
    assert counts(report) == (0, 500, ROWS - 500, 0)
    assert (report.strategy, report.staging_count) == ("copy", ROWS)
    assert "of the rows lie in buckets that differ" in report.strategy_reason
    same.source.execute("UPDATE s.t SET v = 4 WHERE id % 20 = 0")
    assert synced(same).strategy == "diff"
    assert same.target.image("s.t") == same.source.image("s.t")
    assert synced(same).staging_count == 0
    assert synced(same, options={"strategy": Strategy.COPY}).staging_count == ROWS


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"shape": Shape(exclude=("note",))}, "columns are shaped on the source"),
        ({"options": {"resumable": True}}, "the run can be resumed"),
        ({"mode": "incremental", "cursor": "id"}, "mode incremental knows what is new"),
        ({"to": "s.missing"}, "the target is missing"),
        (
            {"options": {"strategy": Strategy.AUTO}},
            "one side has less than 64 MiB, which is copied as soon as it is hashed",
        ),
    ],
)
def test_what_can_not_be_compared_is_copied_whole_and_says_why(same: Pair, asked: dict[str, Any], reason: str) -> None:
    report = synced(same, **asked)
    assert (report.status, report.strategy, report.strategy_reason) == ("done", "copy", reason), report.error


def test_tables_that_foreign_keys_tie_are_compared_one_by_one_and_commit_together(other: Pair) -> None:
    for side in (other.source, other.target):
        side.execute("CREATE TABLE s.c (id int PRIMARY KEY, t int REFERENCES s.t ON DELETE CASCADE)")
        side.execute("INSERT INTO s.c SELECT i, i FROM generate_series(6, 400) i")
    other.source.execute("DELETE FROM s.c WHERE id = 7; INSERT INTO s.c VALUES (1000, -1)")
    report = sync(other.source.dsn, other.target.dsn, "s.*", options=Options(strategy=Strategy.DIFF))
    assert report.exit_code == 0, [table.error for table in report.tables]
    for name in ("s.t", "s.c"):
        assert other.target.image(name) == other.source.image(name)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_session_lost_while_it_hashes_is_met_by_another_try(other: Pair, side: str) -> None:
    database = getattr(other, side)
    kill = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE application_name LIKE 'pgsluice %' AND pid <> pg_backend_pid()"
    )
    losing, recorder = At("hash", lambda: database.execute(kill)), Recorder()
    report = sync(
        other.source.dsn, other.target.dsn, "s.t", options=Options(strategy=Strategy.DIFF), sinks=[losing, recorder]
    ).tables[0]
    assert report.status == "done", report.error
    assert [event.step for event in recorder.of(StepStarted)].count("hash") == 2
    assert other.target.image("s.t") == other.source.image("s.t")


def test_a_preview_counts_the_same(other: Pair) -> None:
    planned = other.pgsluice("plan", "--table", "s.t", "--strategy", "diff", "--exact", "--json")
    exact = planned.lines[0]["exact"]
    assert [exact[name] for name in ("inserted", "updated", "unchanged", "deleted")] == [2, 4, ROWS - 7, 3]
    assert planned.lines[0]["strategy"] == "diff"
    shown = other.pgsluice("plan", "--table", "s.t", "--strategy", "diff")
    assert "  -- hash (source)" in shown.out
    assert "  -- hash (target)" in shown.out


def test_what_changed_last_time_is_what_is_expected_and_told_beside_what_was(
    same: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgsluice.plan.DIFF_FROM_BYTES", 0)
    auto = {"strategy": Strategy.AUTO}
    first = synced(same, options=auto)
    assert (first.strategy, first.expected_rows) == ("diff", -1)
    assert 0.8 < first.hash_bytes / first.expected_hash_bytes < 1.25
    same.source.execute("UPDATE s.t SET v = 2 WHERE id % 5000 = 0")
    assert synced(same, options=auto).updated == 2
    second = synced(same, options=auto)
    assert second.strategy == "diff"
    assert 50 < second.expected_rows < 300
    same.source.execute("UPDATE s.t SET v = 3 WHERE id % 20 = 0")
    assert synced(same, options=auto).strategy == "copy"  # as the hashes have told
    same.source.execute("UPDATE s.t SET v = 4 WHERE id = 7")
    again = synced(same, options=auto)
    assert (again.strategy, again.updated, again.hash_bytes) == ("copy", 1, 0)
    assert again.strategy_reason.startswith("last time 500 rows changed, in about 86 % of")
    assert (again.expected_rows, again.staging_count) == (ROWS, ROWS)
    assert synced(same, options=auto).strategy == "diff"
    assert [synced(same, mode="incremental", cursor="id", options=auto).expected_rows for _ in range(2)] == [ROWS, -1]


def test_a_table_that_was_just_created_says_nothing_of_what_changes(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgsluice.plan.DIFF_FROM_BYTES", 0)
    pair.source.execute(TABLE + FILLED)
    assert synced(pair, options={"strategy": Strategy.AUTO}).created
    report = synced(pair, options={"strategy": Strategy.AUTO})
    assert (report.strategy, report.expected_rows) == ("diff", -1)


def test_what_is_equal_costs_its_hashes_on_the_wire_and_no_more(pair: Pair) -> None:
    """A few dozen bytes a bucket from each side, and what a run without rows says and hears."""
    for side in (pair.source, pair.target):
        side.execute(
            "CREATE SCHEMA s; CREATE TABLE s.t (id bigint PRIMARY KEY, v text);"
            "INSERT INTO s.t SELECT i, md5(i::text) FROM generate_series(1, 100000) i; ANALYZE s.t;"
        )
    with proxied(pair.source) as (one, source), proxied(pair.target) as (other, target):
        spent = []
        for strategy in (Strategy.COPY, Strategy.DIFF):
            one.heal()
            other.heal()
            report = sync(source, target, "s.t", options=Options(strategy=strategy, jobs=1)).tables[0]
            assert (report.status, report.unchanged) == ("done", 100_000), report.error
            spent.append(sum(sum(proxy.bytes.values()) for proxy in (one, other)))
        assert report.hash_bytes < 2 * 2048 * 50
        besides = spent[1] - report.hash_bytes
        assert 0 < besides < 140_000  # texts of our statements: looks at the control schema, settings that are put back
        assert spent[1] < spent[0] / 20
