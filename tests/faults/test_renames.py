"""A schema is renamed in the middle of a merge, at each of its statements: the right table is written, or none.

ALTER SCHEMA .. RENAME takes no lock on the tables in it, so that none of ours stops it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from servers import Database, Pair

from pgsluice import DatabaseOperations, DataCopyEngine, Options, Report, Strategy, Verify, sync, verify
from pgsluice.endpoint import Endpoint
from pgsluice.job import StagingKind
from pgsluice.policies import MaxDelete
from pgsluice.sinks.recorder import Recorder
from pgsluice.verification import repair

_execute = psycopg.Connection.execute


def renaming(one: str, other: str) -> str:
    return f"ALTER SCHEMA {one} RENAME TO {one}_old; ALTER SCHEMA {other} RENAME TO {one}"


def back(one: str, other: str) -> str:
    return f"ALTER SCHEMA {one} RENAME TO {other}; ALTER SCHEMA {one}_old RENAME TO {one}"


@dataclass
class Renames:
    """Does something to the target just before some statements of the merge, counted from its BEGIN."""

    target: Database
    at: dict[int, str] = field(default_factory=dict)
    count: int = 0
    done: list[str] = field(default_factory=list)
    merging: psycopg.Connection[Any] | None = None

    def __call__(self, connection: psycopg.Connection[Any], query: Any, *args: Any, **named: Any) -> Any:
        text = query if isinstance(query, str) else query.as_string(connection)
        if "FOR UPDATE" in text and connection is not self.merging:  # the fence of a merge
            self.merging, self.count = connection, 0
        if connection is self.merging:
            self.count += 1
            if script := self.at.get(self.count):
                self.done.append(" ".join(text.split())[:160])
                with psycopg.connect(self.target.dsn, autocommit=True) as other:
                    _execute(other, script)
        return _execute(connection, query, *args, **named)


@pytest.fixture
def renames(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Renames:
    made = Renames(pair.target)

    def execute(connection: psycopg.Connection[Any], *args: Any, **named: Any) -> Any:
        return made(connection, *args, **named)

    monkeypatch.setattr(psycopg.Connection, "execute", execute)
    return made


#: What another one has put beside: a table of the same name and columns, with a trigger that leaves a trace.
_OTHER = """
CREATE SCHEMA raw2; CREATE TABLE raw2.t (LIKE {like}); INSERT INTO raw2.t (id, v) SELECT i, -1 FROM generate_series(1, 30) i;
CREATE TABLE public.trace (who text);
CREATE FUNCTION public.trace() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN INSERT INTO public.trace VALUES (current_user); RETURN coalesce(new, old); END$$;
CREATE TRIGGER trace BEFORE INSERT OR UPDATE OR DELETE ON raw2.t FOR EACH ROW EXECUTE FUNCTION public.trace()"""


def fill(pair: Pair, way: dict[str, Any] | None = None) -> None:
    way = way or {}
    pair.source.execute(
        "CREATE SCHEMA raw; CREATE TABLE raw.t (id int PRIMARY KEY, v int); INSERT INTO raw.t SELECT i, i FROM generate_series(3, 40) i"
    )
    pair.target.execute(
        """CREATE SCHEMA raw; GRANT USAGE ON SCHEMA raw TO PUBLIC; CREATE SCHEMA like_; CREATE TABLE like_.t (id int, v int);
        CREATE TABLE like_.soft (LIKE like_.t, gone timestamptz)"""
    )
    like = "like_.soft" if "deletes" in way else "like_.t"
    if way.get("exists", True):
        pair.target.execute(f"CREATE TABLE raw.t (LIKE {like})")
    if way.get("exists", True) and way.get("mode") != "append":
        pair.target.execute(
            "ALTER TABLE raw.t ADD PRIMARY KEY (id); INSERT INTO raw.t (id, v) SELECT i, 0 FROM generate_series(1, 30) i"
        )
    pair.target.execute(_OTHER.format(like=like))


def change(pair: Pair, way: dict[str, Any] | None = None) -> None:
    if (way or {}).get("mode") != "append":
        pair.source.execute("UPDATE raw.t SET v = v + 1; DELETE FROM raw.t WHERE id = (SELECT max(id) FROM raw.t)")
    pair.source.execute("INSERT INTO raw.t (id, v) SELECT max(id) + 5, 0 FROM raw.t")


WAYS: dict[str, dict[str, Any]] = {
    "merge, temporary": {"staging": StagingKind.TEMPORARY},
    "merge, unlogged, hashed": {"staging": StagingKind.UNLOGGED, "verify": Verify.HASH},
    "compared first": {"staging": StagingKind.UNLOGGED},
    "diff": {"strategy": Strategy.DIFF},
    "append": {"mode": "append"},
    "append, starting over": {"mode": "append", "full_refresh": True},
    "soft deletes": {"deletes": "soft:gone"},
    "drift": {"drift": "add"},
    "swap": {"strategy": Strategy.SWAP},
    "promoted": {"staging": StagingKind.PROMOTED, "exists": False},
    "created": {"staging": StagingKind.TEMPORARY, "exists": False},
}
#: Each of whose statements is met; of the others every second or third is.
THOROUGH = [WAYS["merge, temporary"], WAYS["append"]]


def carried(pair: Pair, way: dict[str, Any]) -> Report:
    kinds = {"staging", "verify", "strategy", "full_refresh"}
    options = Options(
        retries=0, max_delete=MaxDelete.parse("100%"), **{name: value for name, value in way.items() if name in kinds}
    )
    how = {name: value for name, value in way.items() if name not in kinds | {"exists"}}
    return sync(pair.source.dsn, pair.target.dsn, "raw.t", options=options, **how)


def oids(target: Database) -> dict[str, int]:
    return dict(target.rows("SELECT nspname, oid FROM pg_namespace WHERE nspname LIKE 'raw%'"))


def rows(target: Database, schema: int) -> list[tuple[Any, ...]] | None:
    """Return the rows of `t` in a schema, whatever it is called now; None where there is no such table."""
    found = target.rows(
        "SELECT format('%%I.%%I', nspname, 't'), to_regclass(format('%%I.t', nspname)) IS NOT NULL FROM pg_namespace WHERE oid = %s",
        (schema,),
    )
    return target.rows(f"SELECT id, v FROM {found[0][0]} ORDER BY 1, 2") if found and found[0][1] else None


def sweep(
    pair: Pair, renames: Renames, way: dict[str, Any], scripts: Callable[[int], dict[int, str]], undo: str, step: int
) -> Iterator[tuple[Report, bool]]:
    """Carry the same job once for each few statements of its merge, and see each time which table was written."""
    before = oids(pair.target)
    mine, theirs = before["raw"], before["raw2"]
    untouched = rows(pair.target, theirs)
    for number in range(1, 200, step):
        old = rows(pair.target, mine)
        renames.count, renames.merging, renames.at, renames.done = 0, None, scripts(number), []
        report = carried(pair, way)
        renames.at = {}
        (table,) = report.tables
        is_renamed = pair.target.value("SELECT oid FROM pg_namespace WHERE nspname = 'raw'") != mine
        now = rows(pair.target, mine)
        assert rows(pair.target, theirs) == untouched, (renames.done, table)
        if table.status == "done":
            assert now is not None, renames.done
            assert now != old, renames.done
        else:
            assert now == old, (renames.done, table.error)
        if is_renamed:
            pair.target.execute(undo)
        yield report, bool(renames.done)
        if not renames.done:
            return
        change(pair, way)
        if way.get("exists") is False and table.status == "done":
            pair.target.execute("DROP TABLE raw.t")
    pytest.fail("the merge had no end")


def prepared(pair: Pair, way: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if way == WAYS["compared first"]:
        monkeypatch.setattr("pgsluice.plan.COMPARED_FROM_BYTES", 0)
    fill(pair, way)
    if way.get("drift"):
        pair.source.execute("ALTER TABLE raw.t ADD more int")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_another_schema_takes_the_targets_name_at_any_statement_of_the_merge(
    pair: Pair, renames: Renames, way: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(pair, way, monkeypatch)
    there, again = renaming("raw", "raw2"), back("raw", "raw2")
    found = list(sweep(pair, renames, way, lambda number: {number: there}, again, 1 if way in THOROUGH else 2))
    assert len(found) > 5
    assert [report.tables[0].status for report, _ in found].count("failed") > 3
    assert found[-1][0].exit_code == 0
    assert any("may be another table now" in str(report.tables[0].error) for report, _ in found)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_another_schema_has_the_targets_name_for_some_statements_of_the_merge_only(
    pair: Pair, renames: Renames, way: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is looked at again, the name means what it meant: only the version of the schema's row tells."""
    prepared(pair, way, monkeypatch)
    there, again = renaming("raw", "raw2"), back("raw", "raw2")
    for report, was_renamed in sweep(
        pair, renames, way, lambda number: {number: there, number + 3: again}, again, 1 if way in THOROUGH else 3
    ):
        assert report.exit_code in {0, 1, 4, 5, 6}
        assert report.exit_code == 0 or was_renamed


@pytest.mark.parametrize("staging", [StagingKind.TEMPORARY, StagingKind.UNLOGGED])
def test_another_control_schema_takes_the_name_at_any_statement_of_the_merge(
    pair: Pair, renames: Renames, staging: StagingKind
) -> None:
    """The record of a run stands in the control schema that it began with, or the run is undone."""
    way = {"staging": staging}
    fill(pair)
    assert carried(pair, way).exit_code == 0
    pair.target.execute("ALTER SCHEMA pgsluice RENAME TO other")
    assert carried(pair, way).exit_code == 0
    mine = pair.target.value("SELECT oid FROM pg_namespace WHERE nspname = 'pgsluice'")
    for number in range(1, 200, 2):
        pair.source.execute("UPDATE raw.t SET v = v + 1")
        renames.count, renames.merging, renames.done = 0, None, []
        renames.at = {number: renaming("pgsluice", "other")}
        report = carried(pair, way)
        renames.at = {}
        if pair.target.value("SELECT oid FROM pg_namespace WHERE nspname = 'pgsluice'") != mine:
            pair.target.execute(back("pgsluice", "other"))
        recorded = pair.target.value(
            "SELECT count(*) FROM pgsluice.run_table WHERE run_id = %s AND status = 'done'", (report.run_id,)
        )
        is_written = pair.target.image("raw.t") == pair.source.image("raw.t")
        assert (report.tables[0].status == "done", bool(recorded), is_written) in {(True,) * 3, (False,) * 3}, (
            renames.done,
            report,
        )
        if not renames.done:
            break
    assert number > 10


def test_tables_that_commit_together_are_all_written_or_none(pair: Pair, renames: Renames) -> None:
    fill(pair)
    for side in (pair.source, pair.target):
        side.execute("CREATE SCHEMA sub; CREATE TABLE sub.u (id int PRIMARY KEY REFERENCES raw.t, v int)")
    pair.source.execute("INSERT INTO sub.u SELECT id, v FROM raw.t")
    mine = oids(pair.target)["raw"]
    statuses = []
    for number in range(1, 200, 3):
        pair.source.execute("UPDATE raw.t SET v = v + 1; UPDATE sub.u SET v = v + 1")
        renames.count, renames.merging, renames.done = 0, None, []
        renames.at = {number: renaming("raw", "raw2")}
        report = sync(pair.source.dsn, pair.target.dsn, "raw.t", "sub.u", options=Options(retries=0))
        renames.at = {}
        now = rows(pair.target, mine)
        if oids(pair.target)["raw"] != mine:
            pair.target.execute(back("raw", "raw2"))
        is_done = report.exit_code == 0
        assert (now == pair.source.rows("SELECT id, v FROM raw.t ORDER BY 1")) is is_done, (renames.done, report)
        assert (pair.target.image("sub.u") == pair.source.image("sub.u")) is is_done
        assert pair.target.value("SELECT count(*) FROM public.trace") == 0
        statuses.append(is_done)
        if not renames.done:
            break
    assert statuses[-1]
    assert statuses.count(False) > 5


def test_a_grant_on_the_schema_in_the_middle_is_met_by_another_try(pair: Pair, renames: Renames) -> None:
    fill(pair)
    recorder = Recorder()
    renames.at = {9: "GRANT CREATE ON SCHEMA raw TO PUBLIC"}
    (report,) = sync(pair.source.dsn, pair.target.dsn, "raw.t", sinks=[recorder]).tables
    assert (report.status, report.attempts) == ("done", 2), report
    assert rows(pair.target, oids(pair.target)["raw"]) == pair.source.rows("SELECT id, v FROM raw.t ORDER BY 1")


def test_a_repair_and_a_merge_by_hand_are_not_led_elsewhere_either(pair: Pair, renames: Renames) -> None:
    fill(pair)
    before = rows(pair.target, oids(pair.target)["raw"])
    found = verify(pair.source.dsn, pair.target.dsn, "raw.t")
    ends = Endpoint(pair.source.dsn, read_only=True), Endpoint(pair.target.dsn, read_only=False)
    renames.at = {12: renaming("raw", "raw2"), 13: back("raw", "raw2")}
    report = repair(*ends, found, Options(retries=0))
    assert (report.tables[0].status, len(renames.done)) == ("failed", 2), report
    assert rows(pair.target, oids(pair.target)["raw"]) == before
    renames.count, renames.merging, renames.done = 0, None, []
    with DataCopyEngine(DatabaseOperations(pair.source.dsn, pair.target.dsn)) as engine:
        staging = engine.create_staging_table("raw.t")
        engine.copy_data_to_staging("raw.t", staging)
        with pytest.raises(Exception, match="another table"):
            engine.merge_from_staging("raw.t", staging, ["id"])
        assert len(renames.done) == 2
        renames.at = {}
        engine.cleanup_staging_table(staging)
    assert rows(pair.target, oids(pair.target)["raw"]) == before
    assert pair.target.value("SELECT count(*) FROM public.trace") == 0


def test_schemas_that_are_renamed_all_the_time_never_lead_a_run_elsewhere(pair: Pair) -> None:
    fill(pair)
    mine, theirs = (oids(pair.target)[name] for name in ("raw", "raw2"))
    untouched, stop, looking = rows(pair.target, theirs), threading.Event(), threading.Lock()

    def rename() -> None:
        with psycopg.connect(pair.target.dsn, autocommit=True) as other:
            while not stop.wait(0.02):
                with looking:
                    other.execute(renaming("raw", "raw2"))
                    other.execute(back("raw", "raw2"))

    renamer = threading.Thread(target=rename)
    renamer.start()
    outcomes = []
    try:
        for _ in range(20):
            pair.source.execute("UPDATE raw.t SET v = v + 1")
            wanted = pair.source.rows("SELECT id, v FROM raw.t ORDER BY 1")
            (report,) = carried(pair, {}).tables
            with looking:
                assert (rows(pair.target, mine) == wanted) is (report.status == "done"), report
                assert rows(pair.target, theirs) == untouched
            outcomes.append(report.status)
    finally:
        stop.set()
        renamer.join()
    assert "failed" in outcomes


@pytest.mark.parametrize("at", range(13, 18))
@pytest.mark.parametrize("staging", [StagingKind.TEMPORARY, StagingKind.UNLOGGED])
def test_another_try_writes_the_table_that_the_first_one_was_planned_for(
    pair: Pair, renames: Renames, staging: StagingKind, at: int
) -> None:
    fill(pair)
    theirs = oids(pair.target)["raw2"]
    untouched = rows(pair.target, theirs)
    renames.at = {at: renaming("raw", "raw2")}
    report = sync(
        pair.source.dsn, pair.target.dsn, "raw.t", options=Options(staging=staging, max_delete=MaxDelete.parse("100%"))
    )
    assert renames.done
    assert [table.status for table in report.tables] == ["failed"]
    assert "the target was replaced by another table" in str(report.tables[0].error)
    assert rows(pair.target, theirs) == untouched
    assert pair.target.value("SELECT count(*) FROM public.trace") == 0
