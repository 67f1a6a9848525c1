"""Unique constraints beside the key: rows that exchange their values, and rows that never can."""

from __future__ import annotations

import pytest
from servers import Pair

from pgsluice import Options, sync
from pgsluice.job import StagingKind
from pgsluice.model import TableReport

TABLE = """
CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, email text NOT NULL, place int, body text, {constraint});
INSERT INTO s.t SELECT g, 'm' || g, g, 'b' || g FROM generate_series(1, 300) g;
"""
ROTATED = "BEGIN; CREATE TEMP TABLE n AS SELECT * FROM s.t; TRUNCATE s.t; INSERT INTO s.t SELECT id, 'm' || (id % 300) + 1, (id + 6) % 300, body FROM n; COMMIT"
CONSTRAINTS = {
    "unique": "UNIQUE (email), UNIQUE (place)",
    "of two columns": "UNIQUE (place, email)",
    "deferrable": "UNIQUE (email) DEFERRABLE, UNIQUE (place) DEFERRABLE INITIALLY DEFERRED",
    "nulls not distinct": "UNIQUE NULLS NOT DISTINCT (place)",
    "exclusion": "EXCLUDE USING gist (int4range(place, place + 1) WITH &&)",
}


def synced(pair: Pair, **asked: object) -> TableReport:
    return sync(pair.source.dsn, pair.target.dsn, "s.t", **asked).tables[0]  # type: ignore[arg-type]


@pytest.fixture(params=CONSTRAINTS.values(), ids=list(CONSTRAINTS))
def constrained(request: pytest.FixtureRequest, pair: Pair) -> Pair:
    for server in (pair.source, pair.target):
        server.execute(TABLE.format(constraint=request.param))
    return pair


@pytest.mark.parametrize("staging", ["temporary", "unlogged"])
def test_rows_that_exchange_their_values_arrive(constrained: Pair, staging: str) -> None:
    constrained.target.execute("ALTER TABLE s.t ADD seen text; UPDATE s.t SET seen = 's' || id")
    constrained.source.execute(ROTATED)
    constrained.source.execute("DELETE FROM s.t WHERE id = 7; INSERT INTO s.t VALUES (301, 'm8', 13, 'new')")
    report = synced(constrained, options=Options(staging=StagingKind(staging)))
    assert (report.status, report.inserted, report.updated, report.deleted) == ("done", 1, 299, 1)
    assert [row[1:] for row in constrained.target.rows("SELECT NULL, id, email, place, body FROM s.t ORDER BY id")] == (
        constrained.source.rows("SELECT id, email, place, body FROM s.t ORDER BY id")
    )
    assert constrained.target.value("SELECT count(*) FROM s.t WHERE seen = 's' || id") == 299
    assert synced(constrained).updated == 0


def test_the_counts_are_right_where_the_server_does_not_tell_what_a_merge_did(pair: Pair) -> None:
    older = Pair(pair.target, pair.source)
    for server in (older.source, older.target):
        server.execute(TABLE.format(constraint="UNIQUE (email)"))
    older.source.execute(ROTATED)
    older.source.execute("INSERT INTO s.t VALUES (301, 'new', 13, 'new')")
    report = synced(older)
    assert (report.status, report.inserted, report.updated) == ("done", 1, 300)
    assert older.target.image("s.t") == older.source.image("s.t")


def test_an_expression_and_a_part_may_be_unique_too(pair: Pair) -> None:
    for server in (pair.source, pair.target):
        server.execute(TABLE.format(constraint="CHECK (true)"))
        server.execute("CREATE UNIQUE INDEX ON s.t (lower(email)); CREATE UNIQUE INDEX ON s.t (place) WHERE place > 5")
    pair.source.execute(ROTATED)
    assert synced(pair).updated == 300
    assert pair.target.image("s.t") == pair.source.image("s.t")


def test_children_that_refer_to_the_rows_keep_them(pair: Pair) -> None:
    for server in (pair.source, pair.target):
        server.execute(TABLE.format(constraint="UNIQUE (email)"))
    pair.target.execute("CREATE TABLE s.child (t int NOT NULL REFERENCES s.t); INSERT INTO s.child SELECT id FROM s.t")
    pair.source.execute(ROTATED)
    assert synced(pair).updated == 300
    assert pair.target.image("s.t") == pair.source.image("s.t")
    assert pair.target.value("SELECT count(*) FROM s.child JOIN s.t ON s.t.id = s.child.t") == 300


def test_rows_on_which_a_cascade_hangs_are_not_deleted_to_be_inserted_again(pair: Pair) -> None:
    for server in (pair.source, pair.target):
        server.execute(TABLE.format(constraint="UNIQUE (email)"))
    pair.target.execute(
        "CREATE TABLE s.child (t int REFERENCES s.t ON DELETE CASCADE); INSERT INTO s.child SELECT id FROM s.t"
    )
    before = pair.target.image("s.t")
    pair.source.execute(ROTATED)
    report = synced(pair)
    assert (report.status, report.sqlstate) == ("failed", "23505")
    assert "that would set off child_t_fkey of s.child" in str(report.error)
    assert pair.target.image("s.t") == before
    assert pair.target.value("SELECT count(*) FROM s.child") == 300


def test_a_value_that_a_row_out_of_scope_holds_is_refused_by_the_server(pair: Pair) -> None:
    for server in (pair.source, pair.target):
        server.execute(TABLE.format(constraint="UNIQUE (email)"))
    pair.source.execute("DELETE FROM s.t WHERE id > 10; UPDATE s.t SET email = 'm11' WHERE id = 1")
    before = pair.target.image("s.t")
    report = synced(pair, mode="upsert")
    assert (report.status, report.sqlstate) == ("failed", "23505")
    assert pair.target.image("s.t") == before
