"""What differs is sought out before a large target is touched: with the same outcome as when each row is merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from servers import Pair, database

from pgsluice import Deletes, MaxDelete, Mode, Options, StagingKind, TableReport, sync
from pgsluice.embedded import Cluster
from pgsluice.job import TargetWriters
from pgsluice.steps import merge

OPTIONS = Options(staging=StagingKind.UNLOGGED, retries=0, max_delete=MaxDelete.parse("100%"))


@pytest.fixture(params=["16 to 18", "18 to 16"])
def pair(request: pytest.FixtureRequest, source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    """Both directions: before 17 a MERGE can't return what it did."""
    clusters = (source_cluster, target_cluster) if request.param == "16 to 18" else (target_cluster, source_cluster)
    with database(clusters[0]) as source, database(clusters[1]) as target:
        yield Pair(source, target)


@pytest.fixture(params=["compared", "merged"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Compare even the smallest target, or none."""
    monkeypatch.setattr("pgsluice.plan.COMPARED_FROM_BYTES", 0 if request.param == "compared" else 1 << 62)
    return str(request.param)


@dataclass(frozen=True)
class Case:
    """Two states of both sides, and what a sync from one to the other is to write.

    Attributes:
        table: definition and rows of ``s.t``, for both sides.
        source: SQL for the source.
        target: SQL for the target.
        counts: inserted, updated, unchanged, deleted.
        after: query whose result both sides shall agree in.
        request: of `sync`.
    """

    table: str
    source: str
    target: str
    counts: tuple[int, int, int, int]
    after: str = "SELECT t::text FROM s.t AS t ORDER BY 1"
    request: dict[str, Any] = field(default_factory=dict)


PLAIN = "CREATE TABLE s.t (id int PRIMARY KEY, v int, w text); INSERT INTO s.t SELECT i, i, 'w' FROM generate_series(1, 1000) i;"
CASES = {
    "changed, new and gone": Case(
        PLAIN,
        "UPDATE s.t SET v = -v WHERE id <= 10; DELETE FROM s.t WHERE id > 990; INSERT INTO s.t VALUES (2000, 1, 'new')",
        "",
        (1, 10, 980, 10),
    ),
    "nothing": Case(PLAIN, "", "", (0, 0, 1000, 0)),
    "all": Case(PLAIN, "UPDATE s.t SET v = v + 1", "", (0, 1000, 0, 0)),
    "an empty target": Case(PLAIN, "", "TRUNCATE s.t", (1000, 0, 0, 0)),
    "images that are equal as values": Case(
        """CREATE TABLE s.t (id int PRIMARY KEY, n numeric, f float8, i interval, j json, x text);
        INSERT INTO s.t VALUES (1, 1.0, 0, '1 mon', '{"a":1}', ''), (2, 1, 1, '1 s', '[]', 'same')""",
        "UPDATE s.t SET n = 1.00 WHERE id = 1",
        "UPDATE s.t SET f = '-0', i = '30 days', j = '{ \"a\":1}', x = NULL WHERE id = 1",
        (0, 1, 1, 0),
    ),
    "within a condition": Case(
        PLAIN,
        "UPDATE s.t SET v = -v WHERE id <= 10; DELETE FROM s.t WHERE id IN (20, 600)",
        "UPDATE s.t SET v = 9999 WHERE id = 30; DELETE FROM s.t WHERE id = 40",
        (1, 11, 487, 1),
        "SELECT t::text FROM s.t AS t WHERE v <= 500 AND id <> 600 ORDER BY 1",
        {"where": "v <= 500"},
    ),
    "nothing deleted": Case(
        PLAIN,
        "DELETE FROM s.t WHERE id = 1; UPDATE s.t SET w = NULL WHERE id = 2",
        "",
        (0, 1, 998, 0),
        "SELECT t::text FROM s.t AS t WHERE id > 1 ORDER BY 1",
        {"mode": Mode.UPSERT},
    ),
    "a boolean mark": Case(
        PLAIN,
        "DELETE FROM s.t WHERE id <= 5; UPDATE s.t SET v = 0 WHERE id = 7",
        "ALTER TABLE s.t ADD gone boolean NOT NULL DEFAULT false; UPDATE s.t SET gone = true WHERE id IN (1, 8)",
        (0, 2, 993, 4),
        "SELECT id, v, w FROM s.t WHERE id > 5 ORDER BY id",
        {"deletes": Deletes.parse("soft:gone")},
    ),
    "a mark of time": Case(
        PLAIN,
        "DELETE FROM s.t WHERE id <= 5",
        "ALTER TABLE s.t ADD gone timestamptz; UPDATE s.t SET gone = now() WHERE id IN (1, 8)",
        (0, 1, 994, 4),
        "SELECT id, v, w FROM s.t WHERE id > 5 ORDER BY id",
        {"deletes": Deletes.parse("soft:gone")},
    ),
    "a key and nothing else": Case(
        "CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t SELECT generate_series(1, 100)",
        "DELETE FROM s.t WHERE id = 1; INSERT INTO s.t VALUES (101)",
        "",
        (1, 0, 99, 1),
    ),
    "a key of two columns in another order": Case(
        """CREATE TABLE s.t (a text COLLATE "C", b int, v int, PRIMARY KEY (b, a));
        INSERT INTO s.t SELECT chr(97 + i % 3), i, i FROM generate_series(1, 300) i""",
        "UPDATE s.t SET v = 0 WHERE b = 7; UPDATE s.t SET a = 'z' WHERE b = 8",
        "ALTER TABLE s.t DROP CONSTRAINT t_pkey; ALTER TABLE s.t ADD PRIMARY KEY (a, b)",
        (1, 1, 298, 1),
    ),
    "columns of the target's own": Case(
        PLAIN,
        "UPDATE s.t SET v = 0 WHERE id = 1",
        "ALTER TABLE s.t ADD mine text; UPDATE s.t SET mine = 'kept'",
        (0, 1, 999, 0),
        "SELECT id, v, w FROM s.t ORDER BY id",
    ),
    "wide values": Case(
        "CREATE TABLE s.t (id int PRIMARY KEY, v text); INSERT INTO s.t SELECT i, repeat(md5(i::text), 3000) FROM generate_series(1, 50) i",
        "UPDATE s.t SET v = v || 'x' WHERE id = 1",
        "",
        (0, 1, 49, 0),
        "SELECT id, md5(v) FROM s.t ORDER BY id",
    ),
}  # fmt: skip


def synced(pair: Pair, **request: Any) -> TableReport:
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", **{"options": OPTIONS, **request}).tables
    return report


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_rows_and_the_counts_are_the_same_either_way(pair: Pair, way: str, case: Case) -> None:
    for side, more in ((pair.source, case.source), (pair.target, case.target)):
        side.execute(f"CREATE SCHEMA s; {case.table}")
        if more:
            side.execute(more)
    report = synced(pair, **case.request)
    assert report.status == "done", report.error
    assert (report.inserted, report.updated, report.unchanged, report.deleted) == case.counts
    assert pair.target.rows(case.after) == pair.source.rows(case.after)
    if "mine" in case.target:
        assert pair.target.value("SELECT count(*) FROM s.t WHERE mine = 'kept'") == 1000
    again = synced(pair, **case.request)
    assert (again.inserted, again.updated, again.deleted) == (0, 0, 0)


def test_rows_that_are_equal_are_not_written(pair: Pair, way: str) -> None:
    for side in (pair.source, pair.target):
        side.execute(f"CREATE SCHEMA s; {PLAIN}")
    written = "SELECT count(DISTINCT xmin::text) FROM s.t"
    assert synced(pair).unchanged == 1000
    assert pair.target.value(written) == 1


def test_deletes_beyond_the_guard_are_refused_and_nothing_is_written(pair: Pair, way: str) -> None:
    for side in (pair.source, pair.target):
        side.execute(f"CREATE SCHEMA s; {PLAIN}")
    pair.source.execute("DELETE FROM s.t WHERE id <= 200; UPDATE s.t SET v = 0")
    before = pair.target.image("s.t")
    refused = synced(pair, options=dataclasses.replace(OPTIONS, max_delete=MaxDelete.parse("10%")))
    assert (refused.exit_code, refused.step) == (6, "guard")
    assert "200 of 1000 rows (20 %) would be deleted" in str(refused.error)
    assert pair.target.image("s.t") == before


def test_triggers_of_the_target_fire_for_what_differs(pair: Pair, way: str) -> None:
    for side in (pair.source, pair.target):
        side.execute(f"CREATE SCHEMA s; {PLAIN}")
    pair.target.execute(
        """CREATE TABLE s.log (what text, id int);
        CREATE FUNCTION s.note() RETURNS trigger LANGUAGE plpgsql AS
          $$BEGIN INSERT INTO s.log VALUES (TG_OP, coalesce(NEW.id, OLD.id)); RETURN coalesce(NEW, OLD); END$$;
        CREATE TRIGGER note BEFORE INSERT OR UPDATE OR DELETE ON s.t FOR EACH ROW EXECUTE FUNCTION s.note()"""
    )
    pair.source.execute("UPDATE s.t SET v = 0 WHERE id = 1; DELETE FROM s.t WHERE id = 2; INSERT INTO s.t VALUES (0)")
    assert synced(pair).status == "done"
    assert pair.target.rows("SELECT what, id FROM s.log ORDER BY 1") == [("DELETE", 2), ("INSERT", 0), ("UPDATE", 1)]


def test_several_tables_of_a_run_are_compared_and_nothing_stays(pair: Pair, way: str) -> None:
    for side in (pair.source, pair.target):
        side.execute(
            f"CREATE SCHEMA s; {PLAIN} CREATE TABLE s.u (id int PRIMARY KEY, v int); INSERT INTO s.u TABLE s.u"
        )
    pair.source.execute("UPDATE s.t SET v = 0 WHERE id = 1; INSERT INTO s.u VALUES (1, 1)")
    report = sync(pair.source.dsn, pair.target.dsn, "s.*", options=OPTIONS)
    assert {table.target: (table.inserted, table.updated) for table in report.tables} == {"s.t": (0, 1), "s.u": (1, 0)}
    assert pair.target.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'pgsluice\\_%'") == 0


@pytest.mark.parametrize("writers", TargetWriters)
def test_other_writers_wait_for_the_comparison_unless_there_are_none(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, writers: TargetWriters
) -> None:
    """Beside a comparison that nobody is said to write under, a writer comes through; else it waits for the commit."""
    monkeypatch.setattr("pgsluice.plan.COMPARED_FROM_BYTES", 0)
    for side in (pair.source, pair.target):
        side.execute(f"CREATE SCHEMA s; {PLAIN} CREATE TABLE s.other (id int)")
    pair.source.execute("UPDATE s.t SET v = 0 WHERE id = 1; DELETE FROM s.t WHERE id = 2; INSERT INTO s.t VALUES (0)")
    modes: list[list[str]] = []
    locked = "SELECT DISTINCT mode FROM pg_locks WHERE relation = 's.t'::regclass AND mode = 'ShareRowExclusiveLock'"
    compare = merge._compare

    def watched(*arguments: Any) -> Any:
        compared = compare(*arguments)
        modes.append([mode for (mode,) in pair.target.rows(locked)])
        return compared

    monkeypatch.setattr(merge, "_compare", watched)
    options = dataclasses.replace(OPTIONS, target_writers=writers)
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options).tables
    assert (report.inserted, report.updated, report.deleted) == (1, 1, 1)
    assert modes == [["ShareRowExclusiveLock"] if writers is TargetWriters.WAIT else []]
    assert 0 < report.locked_seconds < report.seconds
    assert pair.target.image("s.t") == pair.source.image("s.t")


@pytest.mark.parametrize("target", ["a key that no index proves", "partitions"])
def test_a_target_whose_rows_have_no_one_counterpart_or_place_is_merged_row_by_row(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr("pgsluice.plan.COMPARED_FROM_BYTES", 0)
    pair.source.execute(f"CREATE SCHEMA s; {PLAIN}")
    pair.target.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int, v int, w text)"
        if target != "partitions"
        else "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int, w text) PARTITION BY HASH (id);"
        " CREATE TABLE s.t0 PARTITION OF s.t FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        " CREATE TABLE s.t1 PARTITION OF s.t FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    )
    assert synced(pair).inserted == 1000
    pair.source.execute("UPDATE s.t SET v = 0 WHERE id = 1; DELETE FROM s.t WHERE id = 2")
    second = synced(pair)
    assert (second.updated, second.deleted) == (1, 1)
    assert pair.target.rows("SELECT * FROM s.t ORDER BY id") == pair.source.rows("SELECT * FROM s.t ORDER BY id")
