"""A table of about as many columns as PostgreSQL allows: copied, compared and verified as any other."""

from __future__ import annotations

from typing import Any

import pytest
from servers import Pair

from pgsluice import Level, Options, Strategy, Verify, sync
from pgsluice.endpoint import Endpoint
from pgsluice.hashing import RowHash
from pgsluice.job import Selection, StagingKind
from pgsluice.model import TableReport
from pgsluice.verification import verify

#: Of bigint, each of which enters a hash twice: an expression of PostgreSQL's holds 1,664 things.
COLUMNS = 1200
ROWS = 20
LISTED = ", ".join(f"c{number} bigint" for number in range(COLUMNS))
#: A row of a page: most of its columns are NULL, others in each row.
VALUES = ", ".join(f"CASE WHEN (i + {number}) % 20 = 0 THEN i * {number + 1} END" for number in range(COLUMNS))
TABLE = f"""
CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at timestamptz NOT NULL, code int NOT NULL UNIQUE, {LISTED})
"""
FILLED = f"INSERT INTO s.t SELECT i, '2024-01-01Z', i, {VALUES} FROM generate_series(1, {ROWS}) i"
CHANGES = """
UPDATE s.t SET at = '2024-02-01Z', c7 = 7, c1199 = NULL WHERE id = 3; UPDATE s.t SET at = '2024-02-01Z', c1199 = -1 WHERE id = 4;
INSERT INTO s.t (id, at, code, c900) VALUES (100, '2024-02-01Z', 100, 5)
"""


@pytest.fixture
def wide(pair: Pair) -> Pair:
    pair.source.execute(f"{TABLE}; {FILLED}")
    return pair


def synced(pair: Pair, **asked: Any) -> TableReport:
    report = sync(pair.source.dsn, pair.target.dsn, "s.t", **asked).tables[0]
    assert report.status == "done", (report.error, report.hint)
    return report


WAYS: dict[str, dict[str, Any]] = {
    "hashed": {"options": Options(verify=Verify.HASH)},
    "diff": {"options": Options(strategy=Strategy.DIFF, verify=Verify.HASH)},
    "compared first": {"options": Options(staging=StagingKind.UNLOGGED)},
    "resumable": {"options": Options(resumable=True)},
    "upsert": {"mode": "upsert"},
    "incremental": {"mode": "incremental", "cursor": "at"},
    "swept": {"mode": "incremental", "cursor": "at", "deletes": "sweep"},
    "marked": {"deletes": "soft:gone"},
    "xmin": {"mode": "xmin"},
    "swap": {"options": Options(strategy=Strategy.SWAP, verify=Verify.HASH)},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_table_of_1200_columns_follows_its_source_in_every_mode(
    wide: Pair, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "compared first":
        monkeypatch.setattr("pgsluice.plan.COMPARED_FROM_BYTES", 0)
    asked = WAYS[way]
    assert synced(wide, **asked).inserted == ROWS
    wide.source.execute(CHANGES)
    report = synced(wide, **asked)
    assert way == "swap" or (report.inserted, report.updated) == (1, 2)
    names = "id, at, code, " + ", ".join(f"c{number}" for number in range(COLUMNS))
    if way == "marked":
        wide.target.execute("ALTER TABLE s.t DROP gone")
    assert wide.target.image(f"(SELECT {names} FROM s.t)") == wide.source.image(f"(SELECT {names} FROM s.t)")


def test_append_carries_1200_columns(wide: Pair) -> None:
    assert synced(wide, mode="append").inserted == ROWS
    wide.source.execute("INSERT INTO s.t (id, at, code, c900) VALUES (100, '2024-02-01Z', 100, 5)")
    assert synced(wide, mode="append").inserted == 1
    assert wide.target.image("s.t") == wide.source.image("s.t")


def test_rows_of_1200_columns_exchange_what_is_unique(wide: Pair) -> None:
    wide.target.execute(TABLE)
    synced(wide)
    wide.source.execute("ALTER TABLE s.t DROP CONSTRAINT t_code_key; UPDATE s.t SET code = 3 - code WHERE id IN (1, 2)")
    assert synced(wide).updated == 2
    assert wide.target.image("s.t") == wide.source.image("s.t")


@pytest.mark.parametrize("by", list(RowHash))
def test_each_of_1200_columns_is_verified(wide: Pair, monkeypatch: pytest.MonkeyPatch, by: RowHash) -> None:
    if by is RowHash.MD5:
        monkeypatch.setattr("pgsluice.steps.audit.probe", lambda _: None)
    synced(wide)
    endpoints = Endpoint(wide.source.dsn, read_only=True), Endpoint(wide.target.dsn, read_only=False)
    for level in Level:
        assert [
            (found.status, found.error) for found in verify(*endpoints, Selection(("s.t",)), level=level).tables
        ] == [("equal", None)]
    changed = {1: "c0", 2: "c831", 3: "c832", 4: "c1199"}
    for id_, column in changed.items():
        wide.target.execute(f"UPDATE s.t SET {column} = coalesce({column}, 0) + (1::bigint << 40) WHERE id = {id_}")
    (found,) = verify(*endpoints, Selection(("s.t",)), level=Level.ROWS, limit=-1).tables
    assert {each.key[0]: each.columns for each in found.differences} == {str(i): (c,) for i, c in changed.items()}
