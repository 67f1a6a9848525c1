"""A table that becomes a view, or another table, under our ACCESS SHARE lock is not read: its schema was renamed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from faulting import At
from servers import Database, Pair

from pgsluice import DatabaseOperations, DataCopyEngine, Lane, Level, Options, Strategy, Verify, sync, verify
from pgsluice import session as sessions
from pgsluice.errors import PgsluiceError
from pgsluice.job import StagingKind

_execute = psycopg.Connection.execute
_MALLORY = """ALTER SCHEMA s RENAME TO gone; CREATE SCHEMA s;
CREATE FUNCTION s.rows() RETURNS TABLE (id int, v int, at timestamptz) LANGUAGE plpgsql AS
$$BEGIN RAISE EXCEPTION 'mallory reads as %%', current_user; END$$;"""
#: What can have the table's name while we hold a lock on the table.
INSTEAD = {
    "a view": f"{_MALLORY} CREATE VIEW s.t AS SELECT * FROM s.rows()",
    "another table": f"{_MALLORY} CREATE TABLE s.t (LIKE gone.t INCLUDING ALL); INSERT INTO s.t SELECT id, -1, at FROM gone.t",
    "nothing": _MALLORY,
}


@dataclass
class Once:
    """Runs a script on one side before the first statement there that holds some text."""

    side: Database
    text: str
    script: str
    done: bool = field(default=False)

    def __call__(self, connection: psycopg.Connection[Any], query: Any, *args: Any, **named: Any) -> Any:
        text = query if isinstance(query, str) else query.as_string(connection)
        if not self.done and self.text in text and connection.info.dbname == self.side.name:
            self.done = True
            self.happen()
        return _execute(connection, query, *args, **named)

    def happen(self) -> None:
        self.done = True
        with psycopg.connect(self.side.dsn, autocommit=True) as other:
            _execute(other, self.script.replace("%%", "%"))


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Callable[[Once], Once]:
    def set_up(made: Once) -> Once:
        def execute(connection: psycopg.Connection[Any], *args: Any, **named: Any) -> Any:
            return made(connection, *args, **named)

        monkeypatch.setattr(psycopg.Connection, "execute", execute)
        return made

    return set_up


def fill(pair: Pair) -> None:
    for side in (pair.source, pair.target):
        side.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int, at timestamptz NOT NULL)")
        side.execute(
            "INSERT INTO s.t SELECT i, i, '2024-01-01'::timestamptz + i * interval '1 h' FROM generate_series(1, 90) i"
        )
    pair.source.execute("UPDATE s.t SET v = 0 WHERE id = 7")


def is_refused(error: str | None) -> bool:
    return error is not None and "mallory" not in error


JOINED = "SET TRANSACTION SNAPSHOT"
WAYS: dict[str, dict[str, Any]] = {
    "diff": {"options": {"strategy": Strategy.DIFF}},
    "hashed commit": {"options": {"verify": Verify.HASH}},
    "count, unlogged": {"options": {"staging": StagingKind.UNLOGGED}},
    "incremental": {"mode": "incremental", "cursor": "at", "late_rows": "scan"},
    "incremental, swept": {"mode": "incremental", "cursor": "at", "deletes": "sweep"},
    "xmin": {"mode": "xmin"},
    "append": {"mode": "append"},
    "where": {"where": "id > 0", "options": {"strategy": Strategy.DIFF}},
    "swap": {"options": {"strategy": Strategy.SWAP}},
}


def how(way: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {**way, "options": Options(retries=0, show_row_data=True, **way.get("options", {}), **options)}


@pytest.mark.parametrize("instead", INSTEAD)
@pytest.mark.parametrize("way", WAYS)
def test_a_source_table_is_still_itself_where_a_reader_joins_the_snapshot(
    pair: Pair, once: Callable[[Once], Once], way: str, instead: str
) -> None:
    fill(pair)
    if way == "append":
        pair.target.execute("DELETE FROM s.t")
    before = pair.target.image("s.t")
    happened = once(Once(pair.source, JOINED, INSTEAD[instead]))
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", **how(WAYS[way])).tables
    assert happened.done
    assert is_refused(report.error), report
    assert pair.target.image("s.t") == before


@pytest.mark.parametrize("instead", INSTEAD)
@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
@pytest.mark.parametrize("where", [None, "id > 0"])
def test_a_source_table_is_still_itself_on_both_lanes(pair: Pair, lane: Lane, instead: str, where: str | None) -> None:
    fill(pair)
    before, happens = pair.target.image("s.t"), Once(pair.source, "", INSTEAD[instead])
    options = Options(lane=lane, verify=Verify.NONE, staging=StagingKind.UNLOGGED, retries=0, show_row_data=True)
    sinks = [At("relay", happens.happen)]
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", where=where, options=options, sinks=sinks).tables
    assert happens.done
    assert is_refused(report.error), report
    assert pair.target.image("s.t") == before


@pytest.mark.parametrize("instead", INSTEAD)
@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("is_source", [True, False])
def test_verify_reads_a_table_that_is_still_itself(
    pair: Pair, once: Callable[[Once], Once], level: Level, is_source: bool, instead: str
) -> None:
    fill(pair)
    side, text = (
        (pair.source, JOINED) if is_source else (pair.target, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    )
    happened = once(Once(side, text, INSTEAD[instead]))
    (found,) = verify(pair.source.dsn, pair.target.dsn, "s.t", level=level, options=Options(show_row_data=True)).tables
    assert happened.done
    assert is_refused(found.error), found
    assert found.status not in {"equal", "different"}


@pytest.mark.parametrize("mode", ["incremental", "append"])
def test_a_look_at_the_target_while_planning_runs_nobodys_function(
    pair: Pair, once: Callable[[Once], Once], mode: str
) -> None:
    fill(pair)
    happened = once(Once(pair.target, "SELECT NOT EXISTS (SELECT FROM", INSTEAD["a view"]))
    cursor = "at" if mode == "incremental" else None
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", mode=mode, cursor=cursor, **how({})).tables
    assert happened.done
    assert is_refused(report.error), report


def test_counts_and_values_asked_for_one_at_a_time_run_nobodys_function(
    pair: Pair, once: Callable[[Once], Once]
) -> None:
    fill(pair)
    pair.target.execute("CREATE SCHEMA other; CREATE VIEW other.t AS SELECT * FROM s.t")
    with DataCopyEngine(DatabaseOperations(pair.source.dsn, pair.target.dsn)) as engine:
        assert (engine._get_source_count("s.t", "id > 80"), engine._get_target_count("other.t")) == (10, 90)
        happened = once(Once(pair.source, "SELECT pg_catalog.count(*) FROM ONLY", INSTEAD["a view"]))
        with pytest.raises((PgsluiceError, psycopg.Error)) as raised:
            engine._get_source_count("s.t")
        assert (happened.done, is_refused(str(raised.value))) == (True, True)
        happened = once(Once(pair.target, "ORDER BY", INSTEAD["a view"]))
        with pytest.raises((PgsluiceError, psycopg.Error)) as raised:
            engine._get_latest_incremental_value("s.t", "at")
        assert (happened.done, is_refused(str(raised.value))) == (True, True)


@pytest.mark.parametrize("way", ["diff", "hashed commit"])
def test_an_older_server_is_asked_what_a_name_means_before_it_is_read(
    pair: Pair, once: Callable[[Once], Once], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minor releases before August 2024 don't know the restriction."""
    monkeypatch.setattr(sessions, "_RESTRICTS", dict.fromkeys(range(14, 20), 999999))
    fill(pair)
    before = pair.target.image("s.t")
    happened = once(Once(pair.source, JOINED, INSTEAD["a view"]))
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", **how(WAYS[way])).tables
    assert happened.done
    assert is_refused(report.error), report
    assert pair.target.image("s.t") == before


def test_views_queries_partitions_and_foreign_tables_are_read_as_before(pair: Pair) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int); INSERT INTO s.t SELECT i, i FROM generate_series(1, 9) i;
        CREATE VIEW s.v AS SELECT * FROM s.t; CREATE MATERIALIZED VIEW s.m AS SELECT * FROM s.v;
        CREATE TABLE s.p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
        CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES FROM (0) TO (5); CREATE TABLE s.p2 PARTITION OF s.p DEFAULT;
        INSERT INTO s.p SELECT * FROM s.v"""
    )
    options = Options(verify=Verify.HASH, retries=0)
    for table in ("s.t", "s.v", "s.m", "s.p", "s.p1"):
        for _ in range(2):
            (report,) = sync(pair.source.dsn, pair.target.dsn, table, key=["id"], options=options).tables
            assert report.error is None, report
        for level in Level:
            (found,) = verify(pair.source.dsn, pair.target.dsn, table, key=["id"], level=level).tables
            assert found.status == "equal", found
    (report,) = sync(
        pair.source.dsn, pair.target.dsn, query="SELECT * FROM s.v", to="s.q", key=["id"], options=options
    ).tables
    assert (report.error, report.inserted) == (None, 9)
