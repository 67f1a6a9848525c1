"""`--verify hash`: what is not on the target what it is on the source is rolled back, in every mode and kind of staging."""

from __future__ import annotations

from typing import Any

import pytest
from faulting import At
from servers import Pair
from typelist import FAMILIES
from typetables import fill

from pgsluice import MaxDelete, Options, StagingKind, Strategy, Verify, sync
from pgsluice.model import TableReport
from pgsluice.shape import shape_of

ROWS = 1_000
TABLE = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at int NOT NULL, note text);"
FILLED = f"INSERT INTO s.t SELECT i, i, 'note ' || i FROM generate_series(1, {ROWS}) i; ANALYZE s.t;"
SHOUTS = (
    "CREATE FUNCTION s.shout() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN NEW.note := upper(NEW.note); RETURN NEW; END$$;"
    "CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION s.shout();"
)
STAGINGS = (StagingKind.UNLOGGED, StagingKind.TEMPORARY)
MODES: tuple[dict[str, Any], ...] = (
    {"mode": "full"},
    {"mode": "upsert"},
    {"mode": "incremental", "cursor": "at"},
    {"mode": "incremental", "cursor": "at", "deletes": "sweep"},
    {"mode": "incremental", "cursor": "at", "deletes": "soft:gone"},
    {"mode": "xmin"},
    {"mode": "full", "options": {"strategy": Strategy.DIFF}},
    {"mode": "upsert", "options": {"strategy": Strategy.DIFF}},
    {"mode": "full", "where": "id > 10"},
)


@pytest.fixture
def pair_with_rows(pair: Pair) -> Pair:
    pair.source.execute(TABLE + FILLED)
    pair.target.execute(TABLE + "ALTER TABLE s.t ADD gone timestamptz")
    return pair


def synced(pair: Pair, *, sink: Any = None, **given: Any) -> TableReport:
    options = Options(**{"verify": Verify.HASH, **given.pop("options", {})})
    return sync(pair.source.dsn, pair.target.dsn, "s.t", options=options, sinks=[sink] if sink else [], **given).tables[
        0
    ]


def rows(pair: Pair) -> list[tuple[Any, ...]]:
    return pair.target.rows("SELECT id, at, note FROM s.t ORDER BY id")


@pytest.mark.parametrize("staging", STAGINGS, ids=str)
@pytest.mark.parametrize("given", MODES, ids=lambda given: "-".join(map(str, given.values())))
def test_what_a_trigger_changes_is_rolled_back_and_what_arrives_as_it_was_is_kept(
    pair_with_rows: Pair, given: dict[str, Any], staging: StagingKind
) -> None:
    pair = pair_with_rows
    given = {**given, "options": {**given.get("options", {}), "staging": staging}}
    report = synced(pair, **given)
    assert (report.status, report.verified) == ("done", "hash"), report.error
    pair.source.execute(
        f"INSERT INTO s.t VALUES ({ROWS + 1}, {ROWS + 1}, 'new'); UPDATE s.t SET note = 'x', at = 5000 WHERE id = 77;"
        "DELETE FROM s.t WHERE id = 99"
    )
    pair.target.execute(SHOUTS)
    counted = synced(pair, **{**given, "options": {**given["options"], "verify": Verify.COUNT}})
    assert counted.status == "done", counted.error  # so that it is the hash that tells
    pair.target.execute("UPDATE s.t SET note = NULL WHERE id IN (1, 5)")
    pair.source.execute(
        f"UPDATE s.t SET note = 'y', at = 6000 WHERE id = 78; INSERT INTO s.t VALUES ({ROWS + 2}, 7000, 'z')"
    )
    before = rows(pair)
    report = synced(pair, **given)
    assert (report.status, report.exit_code, report.step) == ("failed", 4, "verify")
    assert "by their hashes" in str(report.error)
    assert "A trigger of the target (shout) changes rows" in str(report.hint)
    assert rows(pair) == before
    assert pair.target.staging_tables() == []
    pair.target.execute("DROP TRIGGER shout ON s.t")
    assert synced(pair, **given).status == "done"


def test_rows_of_mode_append_are_hashed_as_they_are_staged(pair_with_rows: Pair) -> None:
    pair = pair_with_rows
    assert synced(pair, mode="append").verified == "hash"
    pair.source.execute(f"INSERT INTO s.t VALUES ({ROWS + 1}, 1, 'new')")
    report = synced(pair, mode="append")
    assert (report.status, report.inserted, report.verified) == ("done", 1, "hash")


@pytest.mark.parametrize("staging", [*STAGINGS, StagingKind.PROMOTED], ids=str)
def test_new_tables_of_every_type_are_what_the_source_has(pair: Pair, staging: StagingKind) -> None:
    families = [family for family in FAMILIES if not family.needs and family.since <= 16 and family.is_plain]
    fill(pair.source, families)
    options = Options(max_delete=MaxDelete.parse("100%"), allow_narrowing=True, verify=Verify.HASH, staging=staging)
    for _ in range(2):
        report = sync(pair.source.dsn, pair.target.dsn, "s.*", options=options)
        assert report.exit_code == 0, [(table.target, table.error) for table in report.failed]
        assert {table.verified for table in report.tables} == {"hash"}


def test_columns_that_are_shaped_are_hashed_as_they_are_sent(pair_with_rows: Pair) -> None:
    pair = pair_with_rows
    constants = ["of::text=a", "now=@snapshot"]
    renamed = shape_of(None, "at", rename=["note=words"], cast=["id=bigint"], constants=constants, mask=[])
    masked = shape_of(None, None, rename=[], cast=[], constants=["of::text=b"], mask=["note=hash:salt"])
    for shape, to in ((renamed, "raw.t"), (masked, "raw.masked")):
        for _ in range(2):
            report = synced(pair, shape=shape, to=to)
            assert (report.status, report.verified) == ("done", "hash"), report.error
    pair.target.execute(SHOUTS.replace("s.", "raw.").replace("note", "words"))
    pair.source.execute("UPDATE s.t SET note = 'other' WHERE id = 3")
    assert synced(pair, shape=renamed, to="raw.t").exit_code == 4


def test_a_row_that_others_write_meanwhile_is_noticed(pair_with_rows: Pair) -> None:
    """By buckets alone it would stay: its bucket was found equal."""
    pair = pair_with_rows
    assert synced(pair).status == "done"
    pair.source.execute("UPDATE s.t SET note = 'changed' WHERE id = 1")
    options = {"strategy": Strategy.DIFF, "staging": StagingKind.UNLOGGED}
    other = At("relay", lambda: pair.target.execute("UPDATE s.t SET note = 'theirs' WHERE id > 900"))
    report = synced(pair, options=options, sink=other)
    assert other.done
    assert (report.status, report.exit_code) == ("failed", 4)
    assert pair.target.value("SELECT note FROM s.t WHERE id = 1") == "note 1"


def test_the_run_goes_on_behind_a_session_that_is_lost_while_it_is_hashed(pair_with_rows: Pair) -> None:
    pair = pair_with_rows

    def cut() -> None:
        pair.source.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND application_name LIKE 'pgsluice%'"
        )

    report = synced(pair, sink=At("hash", cut))
    assert (report.status, report.verified) == ("done", "hash"), report.error
    assert report.attempts > 1
    assert rows(pair) == pair.source.rows("SELECT id, at, note FROM s.t ORDER BY id")
