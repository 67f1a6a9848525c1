"""A BEFORE trigger of the target that holds back a row is found in the merge, named and rolled back, in every mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from servers import Pair, database

from pgsluice import MaxDelete, Options, Strategy, Verify, sync
from pgsluice.embedded import Cluster
from pgsluice.model import TableReport

ROWS = 300
TABLE = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at int NOT NULL, note text)"
PARTITIONS = (
    "CREATE TABLE s.t_1 PARTITION OF s.t FOR VALUES FROM (0) TO (100); CREATE TABLE s.t_2 PARTITION OF s.t DEFAULT"
)
FILLED = f"INSERT INTO s.t SELECT i, i, 'n' || i FROM generate_series(1, {ROWS}) i"
#: Each holds back one row of those that change below.
HOLDS = {"INSERT": "NEW.id = 1001", "UPDATE": "NEW.id = 77", "DELETE": "OLD.id = 99"}
MODES: dict[str, dict[str, Any]] = {
    "full": {},
    "full where": {"where": "id > 10"},
    "full diff": {"options": {"strategy": Strategy.DIFF}},
    "full marked": {"deletes": "soft:gone"},
    "upsert": {"mode": "upsert"},
    "upsert diff": {"mode": "upsert", "options": {"strategy": Strategy.DIFF}},
    "incremental": {"mode": "incremental", "cursor": "at"},
    "incremental swept": {"mode": "incremental", "cursor": "at", "deletes": "sweep"},
    "incremental marked": {"mode": "incremental", "cursor": "at", "deletes": "soft:gone"},
    "xmin": {"mode": "xmin"},
    "xmin swept": {"mode": "xmin", "deletes": "sweep"},
    "append": {"mode": "append"},
}
DELETING = {"full", "full where", "full diff", "incremental swept", "xmin swept"}


@pytest.fixture(params=["merged", "compared first", "merged before 17"])
def pair(
    request: pytest.FixtureRequest,
    source_cluster: Cluster,
    target_cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Pair]:
    """Let small tables go the way of large ones too; and before 17 a MERGE can't return what it did."""
    if request.param == "compared first":
        monkeypatch.setattr("pgsluice.plan.COMPARED_FROM_BYTES", 0)
        monkeypatch.setattr("pgsluice.plan.TEMPORARY_BELOW_BYTES", 0)
    is_older = request.param == "merged before 17"
    clusters = (target_cluster, source_cluster) if is_older else (source_cluster, target_cluster)
    with database(clusters[0]) as source, database(clusters[1]) as target:
        yield Pair(source, target)


def synced(pair: Pair, given: dict[str, Any], **more: Any) -> TableReport:
    options = Options(**{"max_delete": MaxDelete.parse("100%"), "retries": 0, **given.get("options", {}), **more})
    report = sync(pair.source.dsn, pair.target.dsn, "s.t", **{**given, "options": options})
    return report.tables[0]


def prepared(pair: Pair, given: dict[str, Any], definition: str = TABLE) -> None:
    pair.source.execute(f"{TABLE}; {FILLED}")
    pair.target.execute(f"{definition}; ALTER TABLE s.t ADD gone timestamptz")
    if given.get("mode") != "append":
        assert synced(pair, given).status == "done"
    pair.source.execute(
        "UPDATE s.t SET note = 'x', at = 5000 WHERE id IN (77, 78); INSERT INTO s.t VALUES (1001, 6000, 'new');"
        "DELETE FROM s.t WHERE id IN (98, 99)"
    )


def hold(pair: Pair, event: str, condition: str, table: str = "s.t") -> None:
    row = "OLD" if event == "DELETE" else "NEW"
    pair.target.execute(
        f"""CREATE OR REPLACE FUNCTION s.hold() RETURNS trigger LANGUAGE plpgsql AS
          $$BEGIN IF {condition} THEN RETURN NULL; END IF; RETURN {row}; END$$;
        CREATE TRIGGER keeper BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION s.hold()"""
    )


def rows(pair: Pair) -> list[tuple[Any, ...]]:
    return pair.target.rows("SELECT id, at, note, gone IS NOT NULL FROM s.t ORDER BY id")


def is_found(pair: Pair, given: dict[str, Any], table: str = "s.t") -> str:
    """See that a sync names the trigger and leaves all as it was, even if it counts nothing else; drop it then."""
    before = rows(pair)
    report = synced(pair, given, verify=Verify.NONE)
    assert (report.status, report.exit_code, report.step) == ("failed", 4, "verify"), report
    assert "trigger keeper of the target held" in str(report.error)
    assert rows(pair) == before
    pair.target.execute(f"DROP TRIGGER keeper ON {table}")
    return str(report.error)


def is_mended(pair: Pair, given: dict[str, Any]) -> None:
    """See that the position had not moved: without the trigger the next sync brings everything."""
    assert synced(pair, given).status == "done"
    theirs = pair.source.rows("SELECT id, at, note FROM s.t WHERE id > 10 ORDER BY id")
    deletes = given.get("deletes", "sweep" if given.get("mode", "full") == "full" else "keep")
    stays = {"keep": {98, 99}}.get(deletes, set())
    assert [row[:3] for row in rows(pair) if row[0] > 10 and row[0] not in stays and not row[3]] == theirs
    assert {row[0] for row in rows(pair) if row[3]} == ({98, 99} if deletes == "soft:gone" else set())


@pytest.mark.parametrize("mode", MODES)
def test_a_row_that_a_trigger_holds_back_is_found_in_every_mode(pair: Pair, mode: str) -> None:
    given = MODES[mode]
    prepared(pair, given)
    events = ["INSERT"] if mode == "append" else ["INSERT", "UPDATE", *(["DELETE"] if mode in DELETING else [])]
    for event in events:
        hold(pair, event, HOLDS[event])
        is_found(pair, given)
    if given.get("deletes") == "soft:gone":  # the mark is an UPDATE
        hold(pair, "UPDATE", "NEW.id = 99")
        assert "1 of 2 rows of s.t were not marked as deleted" in is_found(pair, given)
    is_mended(pair, given)


@pytest.mark.parametrize("mode", ["incremental marked", "full marked"])
def test_a_row_that_a_trigger_keeps_marked_is_found(pair: Pair, mode: str) -> None:
    given = MODES[mode]
    prepared(pair, given)
    assert synced(pair, given).status == "done"
    pair.source.execute("INSERT INTO s.t VALUES (98, 98, 'n98'), (99, 99, 'n99')")
    hold(pair, "UPDATE", "NEW.id = 99")
    is_found(pair, given)
    assert synced(pair, given).updated == 2
    assert [row for row in rows(pair) if row[3]] == []


def test_an_append_that_starts_over_finds_a_row_that_is_not_cleared(pair: Pair) -> None:
    given = {"mode": "append"}
    prepared(pair, given)
    assert synced(pair, given).status == "done"
    pair.target.execute("DELETE FROM pgsluice.job_state")
    hold(pair, "DELETE", "OLD.id = 97")
    assert f"1 of {ROWS - 1} rows of s.t were not deleted" in is_found(pair, {**given, "full_refresh": True})
    assert synced(pair, {**given, "full_refresh": True}).status == "done"
    assert pair.target.image("s.t") == [row.replace(")", ",)") for row in pair.source.image("s.t")]


@pytest.mark.parametrize(
    ("event", "table"), [("UPDATE", "s.t"), ("UPDATE", "s.t_1"), ("DELETE", "s.t_1"), ("INSERT", "s.t_2")]
)
def test_a_row_that_a_trigger_keeps_from_moving_to_another_partition_is_found(
    pair: Pair, event: str, table: str
) -> None:
    """Such a row sets off BEFORE UPDATE and DELETE of the one, and BEFORE INSERT of the other."""
    given = {"mode": "upsert"}
    prepared(pair, given, f"{TABLE.replace('PRIMARY KEY', 'NOT NULL')} PARTITION BY RANGE (at); {PARTITIONS}")
    hold(pair, event, f"{'OLD' if event == 'DELETE' else 'NEW'}.id = 77", table)
    assert "1 of 3 rows of s.t were not written" in is_found(pair, given, table)
    is_mended(pair, given)


@pytest.mark.parametrize("mode", ["full", "upsert"])
def test_a_row_that_a_trigger_takes_away_again_is_found(pair: Pair, mode: str) -> None:
    given = MODES[mode]
    prepared(pair, given)
    pair.target.execute(
        """CREATE FUNCTION s.off() RETURNS trigger LANGUAGE plpgsql AS
          $$BEGIN DELETE FROM s.t WHERE id = NEW.id; RETURN NEW; END$$;
        CREATE TRIGGER taker AFTER INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.off()"""
    )
    before = rows(pair)
    report = synced(pair, given)
    assert (report.exit_code, report.step) == (4, "verify")
    assert "A trigger of the target (taker)" in str(report.hint)
    assert rows(pair) == before


@pytest.mark.parametrize("action", ["", "ON DELETE CASCADE"])
def test_a_parent_that_a_trigger_keeps_is_no_orphan(pair: Pair, action: str) -> None:
    family = f"""CREATE SCHEMA s; CREATE TABLE s.p (id int PRIMARY KEY); CREATE TABLE s.c (id int PRIMARY KEY, p int REFERENCES s.p {action});
        INSERT INTO s.p SELECT generate_series(1, 9); INSERT INTO s.c SELECT i, i FROM generate_series(1, 9) i"""
    for side in (pair.source, pair.target):
        side.execute(family)
    pair.source.execute("DELETE FROM s.c WHERE id < 3; DELETE FROM s.p WHERE id < 3")
    hold(pair, "DELETE", "OLD.id = 2", "s.p")
    options = Options(max_delete=MaxDelete.parse("100%"), retries=0)
    report = sync(pair.source.dsn, pair.target.dsn, "s.*", options=options)
    told = [str(table.error) for table in report.tables]
    assert any("1 of 2 rows of s.p were not deleted: trigger keeper of the target held" in each for each in told), told
    assert pair.target.value("SELECT count(*) FROM s.p") == 9
    pair.target.execute("DROP TRIGGER keeper ON s.p")
    assert sync(pair.source.dsn, pair.target.dsn, "s.*", options=options).exit_code == 0
    assert pair.target.image("s.p") == pair.source.image("s.p")
