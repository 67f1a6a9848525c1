"""``pgsluice verify`` finds every row that differs, names it, and writes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from servers import Pair

from pgsluice import PgsluiceError, sync, verify

TABLE = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int, note text); "
ROWS = "INSERT INTO s.t SELECT i, 1, 'note ' || i FROM generate_series(1, 10000) i; ANALYZE s.t;"


@pytest.fixture
def same(pair: Pair) -> Pair:
    for side in (pair.source, pair.target):
        side.execute(TABLE + ROWS)
    return pair


@pytest.fixture
def other(same: Pair) -> Pair:
    """Three rows missing, one too many, two that differ."""
    same.target.execute(
        "DELETE FROM s.t WHERE id IN (3, 30, 300); INSERT INTO s.t VALUES (-1, 1, NULL);"
        "UPDATE s.t SET v = 2 WHERE id = 7; UPDATE s.t SET note = NULL, v = 3 WHERE id = 70"
    )
    return same


def verified(pair: Pair, *arguments: str, code: int) -> list[dict[str, Any]]:
    before = pair.target.image("s.t") if pair.target.value("SELECT to_regclass('s.t') IS NOT NULL") else None
    done = pair.pgsluice("verify", "--table", "s.t", "--json", *arguments)
    assert done.code == code, done
    if before is not None:
        assert pair.target.image("s.t") == before
    assert pair.target.value("SELECT to_regnamespace('pgsluice') IS NULL")
    return done.lines


@pytest.mark.parametrize("level", ["count", "hash", "rows"])
def test_what_is_equal_is_found_equal(same: Pair, level: str) -> None:
    table, summary = verified(same, "--level", level, code=0)
    assert (table["status"], table["source_rows"], table["target_rows"]) == ("equal", 10000, 10000)
    assert summary["equal"] == 1


def test_every_row_that_differs_is_named_by_its_key_with_its_columns(other: Pair) -> None:
    table, _ = verified(other, "--level", "rows", code=4)
    assert (table["status"], table["missing"], table["extra"], table["changed"]) == ("different", 3, 1, 2)
    named = {(each["sign"], each["key"][0]): each["columns"] for each in table["differences"]}
    assert named == {
        ("+", "3"): [], ("+", "30"): [], ("+", "300"): [], ("-", "-1"): [], ("*", "7"): ["v"], ("*", "70"): ["v", "note"],
    }  # fmt: skip
    assert table["differing"] <= 6


@pytest.mark.parametrize("theirs", ["int", "int GENERATED ALWAYS AS (v + 2) STORED"], ids=["plain", "computed"])
@pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
@pytest.mark.parametrize("level", ["hash", "rows"])
def test_what_the_target_computes_otherwise_is_compared(pair: Pair, theirs: str, kind: str, level: str) -> None:
    """No sync writes it, so that its rows are called different by `verify` alone."""
    pair.source.execute(f"CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int, g {theirs})")
    columns, values = ("id, v, g", "(1, 10, 12), (2, 20, 40)") if theirs == "int" else ("id, v", "(1, 10), (2, 2)")
    pair.source.execute(f"INSERT INTO s.t ({columns}) VALUES {values}")
    pair.target.execute(
        f"CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * 2) {kind})"
    )
    assert sync(pair.source.dsn, pair.target.dsn, "s.t").exit_code == 0
    done = pair.pgsluice("verify", "--table", "s.t", "--level", level, "--json")
    table = done.lines[0]
    assert (done.code, table["status"]) == (4, "different"), done
    assert "computed as (v * 2) on the target: its values are not copied" in str(table["notes"])
    if level == "rows":
        assert [(each["key"], each["columns"]) for each in table["differences"]] == [(["1"], ["g"])]
    assert "its values are not copied" in pair.pgsluice("verify", "--table", "s.t", "--level", level).out
    pair.source.execute("UPDATE s.t SET g = 20 WHERE id = 1" if theirs == "int" else "UPDATE s.t SET v = 2")
    assert sync(pair.source.dsn, pair.target.dsn, "s.t").exit_code == 0
    assert pair.pgsluice("verify", "--table", "s.t", "--level", level).code == 0


def test_a_hash_names_no_row_and_finds_the_buckets(other: Pair) -> None:
    table, _ = verified(other, code=4)
    assert (table["status"], table["missing"], table["differences"]) == ("different", -1, [])
    assert 0 < table["differing"] <= 6
    assert table["buckets"] >= 100
    assert table["bytes"] < 40_000


def test_rows_that_are_as_many_differ_by_hash_and_not_by_count(same: Pair) -> None:
    same.target.execute("UPDATE s.t SET v = 2 WHERE id = 5")
    assert verified(same, "--level", "count", code=0)[0]["status"] == "equal"
    assert verified(same, "--level", "hash", code=4)[0]["differing"] == 1


def test_a_limit_names_so_many_and_counts_all(other: Pair) -> None:
    shown = other.pgsluice("verify", "--table", "s.t", "--level", "rows", "--limit", "2")
    assert shown.code == 4
    assert "+ 3 missing on the target, - 1 there alone, * 2 differ" in shown.out
    assert "and 4 more: --limit" in shown.out
    (table, _) = verified(other, "--level", "rows", "--limit", "-1", code=4)
    assert len(table["differences"]) == 6


def test_only_what_the_condition_and_the_columns_say_is_compared(other: Pair) -> None:
    assert verified(other, "--where", "id BETWEEN 4 AND 6", code=0)[0]["source_rows"] == 3
    assert verified(other, "--where", "id BETWEEN 4 AND 20", "--exclude", "v", code=0)[0]["status"] == "equal"
    assert verified(other, "--where", "id BETWEEN 4 AND 20", "--exclude", "note", code=4)[0]["differing"] == 1


def test_columns_of_another_shape_are_compared_as_a_sync_leaves_them(same: Pair) -> None:
    shaped = ["--rename", "v=w", "--mask", "note=hash", "--constant", "_at=@snapshot", "--constant", "_source=a"]
    same.target.execute("DROP TABLE s.t")
    assert same.pgsluice("sync", "--table", "s.t", *shaped).code == 0
    assert same.pgsluice("verify", "--table", "s.t", *shaped).code == 0
    same.target.execute("UPDATE s.t SET note = 'x' WHERE id = 1; UPDATE s.t SET _source = 'b' WHERE id = 2")
    found = same.pgsluice("verify", "--table", "s.t", "--level", "rows", *shaped)
    assert found.code == 4
    assert "* id=1, _source=a: note" in found.out
    assert "+ id=2, _source=a" in found.out


def test_rows_marked_as_deleted_are_gone(same: Pair) -> None:
    same.target.execute("ALTER TABLE s.t ADD gone boolean")
    same.source.execute("DELETE FROM s.t WHERE id < 5")
    assert same.pgsluice("verify", "--table", "s.t", "--deletes", "soft:gone").code == 4
    assert same.pgsluice("sync", "--table", "s.t", "--deletes", "soft:gone").code == 0
    assert same.pgsluice("verify", "--table", "s.t", "--deletes", "soft:gone").code == 0


def test_what_a_job_reads_on_from_makes_no_difference(other: Pair) -> None:
    found = other.pgsluice("verify", "--table", "s.t", "--mode", "incremental", "--cursor", "id", "--level", "rows")
    assert found.code == 4
    assert "+ 3 missing on the target" in found.out


def test_keys_of_every_kind_are_named(pair: Pair) -> None:
    for side in (pair.source, pair.target):
        side.execute(
            """CREATE SCHEMA s; CREATE TABLE s.t ("이름" text COLLATE "C", "Mixed" uuid, n int, PRIMARY KEY ("이름", "Mixed"));
            INSERT INTO s.t SELECT k, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1 FROM unnest('{가나,Ab,aB,"",x}'::text[]) k"""
        )
    pair.target.execute(
        "DELETE FROM s.t WHERE n = 1 AND \"이름\" IN ('가나', ''); UPDATE s.t SET n = 2 WHERE \"이름\" = 'aB'"
    )
    table, _ = verified(pair, "--level", "rows", code=4)
    uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    assert {(each["sign"], *each["key"]) for each in table["differences"]} == {
        ("+", "가나", uuid), ("+", "", uuid), ("*", "aB", uuid),
    }  # fmt: skip


def test_what_can_not_be_compared_is_told_and_the_others_are_compared(same: Pair) -> None:
    same.source.execute("CREATE TABLE s.nokey (a int); CREATE TABLE s.there_alone (id int PRIMARY KEY)")
    same.target.execute("CREATE TABLE s.nokey (a int)")
    done = same.pgsluice("verify", "--table", "s.*", "--json")
    tables = {line["target"]: line for line in done.lines if "target" in line}
    assert done.code == 3
    assert (tables["s.nokey"]["status"], tables["s.nokey"]["exit_code"]) == ("failed", 6)
    assert "there is no table s.there_alone on the target" in tables["s.there_alone"]["error"]
    assert tables["s.t"]["status"] == "equal"


def test_buckets_that_others_change_meanwhile_are_told(same: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is there again when the bucket is looked at once more, as if it were on its way."""
    from pgsluice import comparison  # noqa: PLC0415 - the class is what is patched
    from pgsluice.endpoint import Endpoint  # noqa: PLC0415
    from pgsluice.job import Selection  # noqa: PLC0415
    from pgsluice.verification import verify  # noqa: PLC0415

    same.target.execute("DELETE FROM s.t WHERE id = 9; DELETE FROM s.t WHERE id = 5000")
    look = comparison.Comparison.unsettled

    def arriving(self: comparison.Comparison, found: comparison.Buckets) -> frozenset[int]:
        same.target.execute("INSERT INTO s.t VALUES (9, 1, 'note 9')")
        return look(self, found)

    monkeypatch.setattr(comparison.Comparison, "unsettled", arriving)
    endpoints = Endpoint(same.source.dsn, read_only=True), Endpoint(same.target.dsn, read_only=False)
    (table,) = verify(*endpoints, Selection(("s.t",))).tables
    assert (table.status, table.differing, table.unsettled) == ("different", 2, 1)


def test_what_differs_is_mended_where_that_is_asked_for(other: Pair) -> None:
    mended = other.pgsluice("verify", "--table", "s.t", "--repair", "--json")
    assert mended.code == 0, mended.err
    (report,) = [line for line in mended.lines if "run_id" in line]
    assert [report[name] for name in ("inserted", "updated", "deleted", "strategy")] == [3, 2, 1, "diff"]
    assert report["staging_count"] < 1000
    assert other.target.image("s.t") == other.source.image("s.t")
    assert verified_again(other) == 0


def test_what_is_equal_is_not_mended(same: Pair) -> None:
    assert same.pgsluice("verify", "--table", "s.t", "--repair").code == 0
    assert same.target.value("SELECT to_regnamespace('pgsluice') IS NULL")


def test_the_guard_holds_for_what_is_mended(same: Pair) -> None:
    same.source.execute("DELETE FROM s.t WHERE id <= 5000")
    refused = same.pgsluice("verify", "--table", "s.t", "--repair")
    assert refused.code == 6
    assert "5000 of 10000 rows" in refused.out
    assert same.target.value("SELECT count(*) FROM s.t") == 10000


def test_a_job_that_reads_on_keeps_its_position_when_it_is_mended(same: Pair) -> None:
    job = ["--table", "s.t", "--mode", "incremental", "--cursor", "id"]
    assert same.pgsluice("sync", *job).code == 0
    same.target.execute("DELETE FROM s.t WHERE id = 9")
    before = same.target.rows("SELECT job_id, seq, watermark FROM pgsluice.job_state")
    assert same.pgsluice("verify", *job, "--repair").code == 0
    assert (
        same.target.rows("SELECT job_id, seq, watermark FROM pgsluice.job_state WHERE watermark IS NOT NULL") == before
    )
    assert same.target.image("s.t") == same.source.image("s.t")


def verified_again(pair: Pair) -> int:
    return pair.pgsluice("verify", "--table", "s.t").code


def test_a_program_gets_the_same_by_one_call(other: Pair) -> None:
    found = verify(other.source.dsn, other.target.dsn, "s.*", level="rows", limit=2)
    (table,) = found.tables
    assert (found.exit_code, table.status, table.missing, table.extra, table.changed) == (4, "different", 3, 1, 2)
    assert len(table.differences) == 2
    assert verify(other.source.dsn, other.target.dsn, "s.t", where="id BETWEEN 4 AND 6").exit_code == 0
    with pytest.raises(PgsluiceError, match="there is no table"):
        verify(other.source.dsn, other.target.dsn, "s.nothing")


@pytest.mark.parametrize("level", ["count", "hash", "rows"])
def test_a_difference_is_told_and_counts_whatever_else_could_not_be_compared(same: Pair, level: str) -> None:
    for side in (same.source, same.target):
        side.execute("CREATE TABLE s.alike (id int PRIMARY KEY)")
    same.source.execute("CREATE TABLE s.lacking (id int PRIMARY KEY)")
    asked = ("verify", "--table", "s.*", "--level", level)
    done = same.pgsluice(*asked)
    assert (done.code, "2 of 3 equal, 1 could not be compared, " in done.out) == (3, True), done
    same.target.execute("DELETE FROM s.t WHERE id = 1")
    done = same.pgsluice(*asked)
    assert (done.code, "1 of 3 equal, 1 different, 1 could not be compared, " in done.out) == (4, True), done
    summary = same.pgsluice(*asked, "--json").lines[-1]
    assert [summary[name] for name in ("equal", "different", "failed", "exit_code")] == [1, 1, 1, 4]
    same.target.execute("CREATE TABLE s.lacking (id int PRIMARY KEY)")
    done = same.pgsluice(*asked)
    assert (done.code, "2 of 3 equal, 1 different, " in done.out) == (4, True), done


def test_rows_of_what_inherits_are_named_as_not_compared_and_not_copied(same: Pair) -> None:
    same.source.execute("CREATE TABLE s.heir () INHERITS (s.t); INSERT INTO s.heir VALUES (1, 1, 'x')")
    same.target.execute("CREATE TABLE s.theirs () INHERITS (s.t)")
    expected = [
        "rows of tables that inherit from the source's s.t are not read with it; name these too: s.heir",
        "rows of tables that inherit from the target's s.t are left alone: s.theirs",
    ]
    assert verified(same, code=0)[0]["notes"] == expected
    text = same.pgsluice("verify", "--table", "s.t").out
    assert all(f"note: {each}" in text for each in expected)
    assert same.pgsluice("plan", "--table", "s.t", "--json").lines[0]["notes"] == expected
    assert same.pgsluice("sync", "--table", "s.t", "--json").lines[0]["notes"] == expected
