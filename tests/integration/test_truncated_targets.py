"""A target that somebody truncates: what the position of a job rests on is looked at again."""

from __future__ import annotations

from typing import Any

import pytest
from faulting import At
from servers import Pair

from pgsluice import MaxDelete, Options, StagingKind, Strategy, sync
from pgsluice.model import TableReport

TABLE = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at int NOT NULL)"
PARTITIONED = f"""{TABLE} PARTITION BY RANGE (id); CREATE TABLE s.t_1 PARTITION OF s.t FOR VALUES FROM (0) TO (100);
CREATE TABLE s.t_2 PARTITION OF s.t DEFAULT"""
MODES: dict[str, dict[str, Any]] = {
    "xmin": {"mode": "xmin"},
    "incremental": {"mode": "incremental", "cursor": "at"},
    "incremental swept": {"mode": "incremental", "cursor": "at", "deletes": "sweep"},
    "append": {"mode": "append"},
    "full diff": {"where": "id > 0", "options": {"strategy": Strategy.DIFF}},
}


@pytest.fixture(params=["a table", "a partition"])
def truncated(request: pytest.FixtureRequest, pair: Pair) -> str:
    """Give what is truncated; the source has 300 rows."""
    pair.source.execute(f"{TABLE}; INSERT INTO s.t SELECT i, i FROM generate_series(1, 300) i")
    is_whole = request.param == "a table"
    pair.target.execute(TABLE if is_whole else PARTITIONED)
    return "TRUNCATE s.t" if is_whole else "TRUNCATE s.t_1"


def synced(pair: Pair, given: dict[str, Any], *sinks: Any, **more: Any) -> TableReport:
    options = Options(**{"max_delete": MaxDelete.parse("100%"), "retries": 0, **given.get("options", {}), **more})
    return sync(pair.source.dsn, pair.target.dsn, "s.t", **{**given, "options": options}, sinks=list(sinks)).tables[0]


def is_alike(pair: Pair) -> bool:
    return pair.target.image("s.t") == pair.source.image("s.t")


@pytest.mark.parametrize("staging", [StagingKind.TEMPORARY, StagingKind.UNLOGGED], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_a_target_truncated_while_rows_are_on_their_way_is_not_written(
    pair: Pair, truncated: str, mode: str, staging: StagingKind
) -> None:
    given = MODES[mode]
    assert synced(pair, given, staging=staging).status == "done"
    pair.source.execute("INSERT INTO s.t VALUES (301, 301)")
    report = synced(pair, given, At("staging", lambda: pair.target.execute(truncated)), staging=staging)
    assert (report.status, report.exit_code) == ("failed", 1), report
    assert "the target was truncated or rewritten while the rows were on their way" in str(report.error)
    if mode == "append" and truncated != "TRUNCATE s.t":
        assert "may be missing" in str(synced(pair, given, staging=staging).notes)
        return
    again = synced(pair, given, staging=staging)
    assert again.status == "done", again.error
    assert is_alike(pair), again.reading


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.startswith(("xmin", "incremental"))])
def test_a_target_that_is_truncated_between_two_runs_is_read_again(pair: Pair, truncated: str, mode: str) -> None:
    given = MODES[mode]
    assert synced(pair, given).status == "done"
    pair.target.execute(f"{truncated}; INSERT INTO s.t VALUES (1, 1)")  # it is not empty
    pair.source.execute("INSERT INTO s.t VALUES (301, 301)")
    report = synced(pair, given)
    assert report.status == "done", report.error
    assert "the target was truncated or rewritten since the last run" in str(report.reading)
    assert is_alike(pair)
    pair.source.execute("INSERT INTO s.t VALUES (302, 302)")
    again = synced(pair, given)
    assert again.inserted + again.updated + again.unchanged < 10, again.reading


def test_what_a_run_itself_rewrites_is_no_truncation(pair: Pair) -> None:
    given: dict[str, Any] = {"mode": "xmin", "drift": "widen"}
    pair.source.execute(f"{TABLE}; INSERT INTO s.t SELECT i, i FROM generate_series(1, 300) i")
    assert synced(pair, given).status == "done"
    pair.source.execute("ALTER TABLE s.t ALTER at TYPE bigint")
    assert synced(pair, given).status == "done"
    pair.source.execute("INSERT INTO s.t VALUES (301, 301)")
    again = synced(pair, given)
    assert again.inserted + again.updated + again.unchanged == 1
