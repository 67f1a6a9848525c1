"""A table that a server can't describe as it should is refused or copied by itself; the others are not held up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Database, Pair, database, run_cli

from pgsluice import Report, sync
from pgsluice.embedded import Cluster

#: What makes one table's catalog odd, and what it says of it then.
ODD = {
    "no number of rows": "UPDATE pg_class SET reltuples = 'NaN' WHERE oid = 's.odd'::regclass",
    "more rows than any table": "UPDATE pg_class SET reltuples = 1e38 WHERE oid = 's.odd'::regclass",
    "endless rows": "UPDATE pg_class SET reltuples = 'infinity' WHERE oid = 's.odd'::regclass",
    "less than none": "UPDATE pg_class SET reltuples = '-infinity' WHERE oid = 's.odd'::regclass",
    "pages of its own": "UPDATE pg_class SET relpages = -2147483648 WHERE oid = 's.odd'::regclass",
    "statistics": "ANALYZE s.odd; UPDATE pg_statistic SET stadistinct = 'NaN' WHERE starelid = 's.odd'::regclass",
}
DAMAGED = {
    "a default": "ALTER TABLE s.odd ALTER n SET DEFAULT s.f(1); DELETE FROM pg_proc WHERE oid = 's.f'::regproc",
    "a generated column": "ALTER TABLE s.odd ADD g int GENERATED ALWAYS AS (s.f(n)) STORED; DELETE FROM pg_proc WHERE oid = 's.f'::regproc",
    "an index": "CREATE INDEX ON s.odd (s.f(n)); DELETE FROM pg_proc WHERE oid = 's.f'::regproc",
    "a check": "ALTER TABLE s.odd ADD CHECK (s.f(n) > 0); DELETE FROM pg_proc WHERE oid = 's.f'::regproc",
    "a file": "UPDATE pg_class SET relfilenode = 1 WHERE oid = 's.odd'::regclass",
}


@pytest.fixture
def three(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    """Give three tables; what is done to the catalogs of their databases goes with these."""
    with database(source_cluster, "ENCODING 'UTF8'") as source, database(target_cluster, "ENCODING 'UTF8'") as target:
        for each in (source, target):
            each.execute("CREATE SCHEMA s; CREATE FUNCTION s.f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'")
        for name in ("a", "odd", "z"):
            source.execute(f"CREATE TABLE s.{name} (id int PRIMARY KEY, n int); INSERT INTO s.{name} VALUES (1, 1)")
        yield Pair(source, target)


def damage(database_: Database, script: str) -> None:
    database_.execute(f"SET allow_system_table_mods = on; {script}")


def others_are_done(pair: Pair, report: Report) -> dict[str, str]:
    """See that the rows of the others arrived; return what became of each table."""
    assert (pair.target.image("s.a"), pair.target.image("s.z")) == (["(1,1)"], ["(1,1)"])
    return {each.target: each.status for each in report.tables}


@pytest.mark.parametrize("script", ODD.values(), ids=ODD)
@pytest.mark.parametrize("mode", ["full", "upsert"])
def test_statistics_that_no_table_has_keep_nothing_from_being_copied(three: Pair, script: str, mode: str) -> None:
    damage(three.source, script)
    for _ in range(2):  # into a new table, and into that
        report = sync(three.source.dsn, three.target.dsn, "s.*", mode=mode)
        assert set(others_are_done(three, report).values()) == {"done"}, report
        damage(three.target, script)
    assert three.target.image("s.odd") == ["(1,1)"]
    assert three.pgsluice("plan", "--table", "s.*").code == 0
    assert three.pgsluice("verify", "--table", "s.*").code == 0


@pytest.mark.parametrize("script", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_table_of_the_source_is_refused_by_itself(three: Pair, script: str) -> None:
    damage(three.source, script)
    report = sync(three.source.dsn, three.target.dsn, "s.*")
    assert others_are_done(three, report)["s.odd"] == "failed", report
    (failed,) = (each for each in report.tables if each.target == "s.odd")
    assert failed.error
    assert report.exit_code == 3


@pytest.mark.parametrize("script", [DAMAGED["a default"], DAMAGED["a generated column"]], ids=["default", "generated"])
def test_a_damaged_table_of_the_target_is_refused_by_itself(three: Pair, script: str) -> None:
    assert sync(three.source.dsn, three.target.dsn, "s.*").exit_code == 0
    three.target.execute("TRUNCATE s.a, s.z")
    damage(three.target, script)
    report = sync(three.source.dsn, three.target.dsn, "s.*")
    assert others_are_done(three, report)["s.odd"] == "failed", report
    (failed,) = (each for each in report.tables if each.target == "s.odd")
    assert "The target's catalog can't describe s.odd: cache lookup failed for function" in str(failed.error)


def test_a_damaged_table_does_not_hide_how_far_the_others_are_behind(three: Pair) -> None:
    assert sync(three.source.dsn, three.target.dsn, "s.*", mode="incremental", cursor="id").exit_code == 0
    damage(three.source, DAMAGED["a default"])
    told = three.pgsluice("status", "--lag", "--source", three.source.dsn)
    assert (told.code, told.err) == (0, "")
    assert {line.partition(" ")[0]: line.endswith("not known") for line in told.out.splitlines() if " -> " in line} == {
        "s.a": False,
        "s.odd": True,
        "s.z": False,
    }


def test_a_damaged_table_keeps_init_from_proposing_no_other(three: Pair, tmp_path: Path) -> None:
    damage(three.source, DAMAGED["a default"])
    done = run_cli("init", "--source", three.source.dsn, cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "left out: The source's catalog can't describe s.odd: cache lookup failed for function" in done.out
    assert "names 2 tables" in done.out
    written = (tmp_path / "pgsluice.yaml").read_text("utf-8")
    assert ['"s.a"' in written, '"s.odd"' in written, '"s.z"' in written] == [True, False, True]
