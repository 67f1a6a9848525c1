"""A table that a server can't describe as it should is refused or copied by itself; the others are not held up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from servers import Database, Pair, database, run_cli

from pgsluice import MaxDelete, Options, Report, sync
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint
from pgsluice.errors import TemporaryError
from pgsluice.facts import Facts
from pgsluice.job import SyncJob, TableRef
from pgsluice.plan import SyncPlan, make_plan
from pgsluice.prepare import each_described

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

#: What a source says of the type of one column in the place of its name.
LIES = {
    "nothing": "NULL",
    "a statement": "'integer); DROP TABLE s.a; --'",
    "nothing at all": "''",
    "several lines": "E'integer\\n, evil integer'",
    "a type without end": "repeat('x', 100000) || '('",
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
    lines = [line for line in told.out.splitlines() if line.startswith("s.") and " -> " in line]
    assert {line.partition(" ")[0]: line.endswith("not known") for line in lines} == {
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


def lie(database_: Database, says: str) -> None:
    """Let the server say something else of the type of s.odd alone."""
    damage(
        database_,
        f"""ALTER TABLE s.odd ADD m money;
        ALTER FUNCTION pg_catalog.format_type(oid, integer) RENAME TO honest_format_type;
        CREATE FUNCTION pg_catalog.format_type(oid, integer) RETURNS text STABLE LANGUAGE sql AS $lie$
        SELECT CASE WHEN $1 = 'money'::regtype THEN {says} ELSE pg_catalog.honest_format_type($1, $2) END $lie$""",
    )


@pytest.mark.parametrize("says", LIES.values(), ids=LIES)
@pytest.mark.parametrize("mode", ["full", "incremental"])
def test_a_table_whose_type_the_source_lies_about_is_refused_by_itself(three: Pair, says: str, mode: str) -> None:
    lie(three.source, says)
    report = sync(three.source.dsn, three.target.dsn, "s.*", mode=mode, cursor="id" if mode == "incremental" else None)
    assert others_are_done(three, report)["s.odd"] == "failed", report
    (failed,) = (each for each in report.tables if each.target == "s.odd")
    assert "where the name of a type belongs" in str(failed.error)


def test_a_table_whose_type_the_target_lies_about_is_refused_by_itself(three: Pair) -> None:
    assert sync(three.source.dsn, three.target.dsn, "s.*").exit_code == 0
    three.target.execute("TRUNCATE s.a, s.z")
    lie(three.target, LIES["nothing"])
    report = sync(three.source.dsn, three.target.dsn, "s.*")
    assert others_are_done(three, report)["s.odd"] == "failed", report


@pytest.mark.parametrize("command", ["plan", "doctor"])
def test_a_type_that_has_no_name_is_told_as_that(three: Pair, command: str) -> None:
    lie(three.source, LIES["nothing"])
    told = run_cli(command, "--source", three.source.dsn, "--target", three.target.dsn, "--table", "s.*")
    assert (told.code, told.err) == (6, "")
    assert "can't describe s.odd: a catalog prints nothing where the name of a type belongs" in told.out
    assert "unexpected" not in told.out


def test_a_type_that_has_no_name_keeps_init_from_proposing_no_other(three: Pair, tmp_path: Path) -> None:
    lie(three.source, LIES["nothing"])
    done = run_cli("init", "--source", three.source.dsn, cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "left out: The source's catalog can't describe s.odd: a catalog prints nothing" in done.out
    assert "names 2 tables" in done.out


#: Objects that lean on each other as long as somebody likes: the last is a type.
CHAINS = {
    "domains": ("CREATE DOMAIN s.d0 AS int", "CREATE DOMAIN s.d{} AS s.d{}"),
    "composites": ("CREATE TYPE s.d0 AS (a int)", "CREATE TYPE s.d{} AS (a s.d{})"),
    "arrays of composites": ("CREATE TYPE s.d0 AS (a int)", "CREATE TYPE s.d{} AS (a s.d{}[])"),
    "arrays of domains": ("CREATE DOMAIN s.d0 AS int", "CREATE DOMAIN s.d{} AS s.d{}[]"),
}


@pytest.mark.parametrize("what", CHAINS)
def test_a_chain_of_types_without_end_keeps_nothing_from_being_copied(three: Pair, what: str, tmp_path: Path) -> None:
    first, next_ = CHAINS[what]
    three.source.execute(";".join([first, *(next_.format(number, number - 1) for number in range(1, 1300))]))
    three.source.execute("ALTER TABLE s.odd ADD c s.d1299")
    for command in ("plan", "doctor"):
        told = run_cli(command, "--source", three.source.dsn, "--target", three.target.dsn, "--table", "s.*")
        assert (told.code, told.err) == (0, "")
        assert "Recursion" not in told.out
    assert "names 3 tables" in run_cli("init", "--source", three.source.dsn, cwd=tmp_path).out
    report = sync(three.source.dsn, three.target.dsn, "s.*")
    assert set(others_are_done(three, report).values()) == {"done"}, report
    assert three.target.image("s.odd") == ["(1,1,)"]
    assert sync(three.source.dsn, three.target.dsn, "s.*").exit_code == 0


def stumbling(job: SyncJob, facts: Facts, options: Options) -> SyncPlan:
    """Plan as ever, and one table with a fault of ours."""
    if job.target.name == "odd":
        raise TypeError("a fault of ours")
    return make_plan(job, facts, options)


def test_a_fault_of_ours_in_planning_one_table_is_named_and_is_that_tables(
    three: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgsluice.prepare.make_plan", stumbling)
    report = sync(three.source.dsn, three.target.dsn, "s.*")
    assert others_are_done(three, report)["s.odd"] == "failed", report
    (failed,) = (each for each in report.tables if each.target == "s.odd")
    assert "unexpected: TypeError: a fault of ours (PGSLUICE_DEBUG=1 shows where)" in str(failed.error)
    monkeypatch.setenv("PGSLUICE_DEBUG", "1")
    with pytest.raises(TypeError, match="a fault of ours"):
        sync(three.source.dsn, three.target.dsn, "s.*")


def test_a_default_of_any_length_is_shown_in_part_and_printed_whole(three: Pair) -> None:
    digits = "7" * 130_000
    three.source.execute(f"ALTER TABLE s.odd ADD big numeric DEFAULT {digits}")
    shown = three.pgsluice("plan", "--table", "s.odd")
    assert (shown.code, digits in shown.out) == (0, False)
    assert "... (120," in shown.out
    for whole in ("--sql", "--json"):
        assert digits in three.pgsluice("plan", "--table", "s.odd", whole).out
    assert three.pgsluice("sync", "--table", "s.odd").code == 0
    assert three.target.value("SELECT big::text FROM s.odd") == digits


def test_a_table_that_somebody_keeps_locked_is_left_out_and_who_does_is_named(three: Pair) -> None:
    refs = [TableRef("s", name) for name in ("a", "odd", "z")]
    with psycopg.connect(three.source.dsn, application_name="the other one") as other:
        other.execute("LOCK TABLE s.odd IN ACCESS EXCLUSIVE MODE")
        with Endpoint(three.source.dsn, read_only=True, lock_timeout=1).open() as session:
            found, odd = each_described(session, refs, leaves_out_locked=True)
            named = (
                rf"the lock on s\.odd was not to be had; held by pid {other.info.backend_pid} \(postgres, the other one"
            )
            with pytest.raises(TemporaryError, match=named):
                each_described(session, refs)
        assert [info.ref.name for info in found] == ["a", "z"]
        assert re.search(named, odd[refs[1]])


@pytest.mark.parametrize("columns", ["", "g int GENERATED ALWAYS AS (1) STORED"], ids=["none", "generated ones alone"])
@pytest.mark.parametrize("exists", [False, True], ids=["missing", "there"])
def test_a_table_without_columns_to_copy_is_refused_as_such(pair: Pair, columns: str, exists: bool) -> None:
    for side in (pair.source, pair.target)[: 1 + exists]:
        side.execute(f"CREATE SCHEMA s; CREATE TABLE s.t ({columns})")
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.t").tables
    assert table.exit_code == 6
    said = "the target's s.t share no column" if exists and columns else "so there is nothing to copy: leave it out"
    assert said in str(table.error)
    assert ("share no column" in str(table.error)) == (exists and bool(columns))


@pytest.mark.parametrize("name", ["run", "job_state", "mine"])
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "later"])
def test_no_table_is_written_into_the_control_schema(pair: Pair, name: str, is_first: bool) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (run_id text PRIMARY KEY); INSERT INTO s.t VALUES ('a')")
    if not is_first:
        assert sync(pair.source.dsn, pair.target.dsn, "s.t").exit_code == 0
    before = pair.target.rows(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('pgsluice') ORDER BY 1"
    )
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.t", to=f"pgsluice.{name}").tables
    assert (table.exit_code, "holds pgsluice's own tables: name another schema with --to" in str(table.error)) == (
        6,
        True,
    )
    after = pair.target.rows("SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('pgsluice') ORDER BY 1")
    assert after == before


@pytest.mark.parametrize("mode", ["full", "upsert"])
def test_a_composite_key_of_nulls_is_a_key_like_any_other(pair: Pair, mode: str) -> None:
    """`ROW(NULL, NULL) IS NULL` is true, and a primary key takes it: it is no NULL, and it is not gone."""
    table = "CREATE SCHEMA s; CREATE TYPE s.k AS (a int, b int); CREATE TABLE s.t (k s.k {}, n int);"
    pair.source.execute(table.format("NOT NULL") + "INSERT INTO s.t VALUES (ROW(NULL, NULL), 1), (ROW(1, 2), 2)")
    pair.target.execute(table.format("PRIMARY KEY") + "INSERT INTO s.t VALUES (ROW(NULL, NULL), 0), (ROW(1, 2), 2)")
    options = Options(max_delete=MaxDelete.parse("0"))
    report = sync(pair.source.dsn, pair.target.dsn, "s.t", mode=mode, key=["k"], options=options)
    assert report.exit_code == 0, report.tables[0].error
    assert pair.target.image("s.t") == pair.source.image("s.t")
