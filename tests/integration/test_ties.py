"""Tables tied by foreign keys of the target commit together: what arrives, what is refused, and what a failure leaves."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from faulting import At
from servers import Database, Pair

from pgsluice import MaxDelete, Options, StagingKind, sync
from pgsluice.events import Event, Retrying, StepStarted, TableFinished
from pgsluice.sinks.recorder import Recorder

FAMILY = """CREATE SCHEMA s;
CREATE TABLE s.parents (id int PRIMARY KEY, v int NOT NULL DEFAULT 0, name text UNIQUE);
CREATE TABLE s.children (id int PRIMARY KEY, parent int NOT NULL REFERENCES s.parents {}, v int NOT NULL DEFAULT 0);
CREATE TABLE s.grandchildren (id int PRIMARY KEY, child int NOT NULL REFERENCES s.children {});
CREATE TABLE s.alone (id int PRIMARY KEY, v int NOT NULL DEFAULT 0);
INSERT INTO s.parents SELECT i, 0, 'n' || i FROM generate_series(1, 20) i;
INSERT INTO s.children SELECT i, (i + 1) / 2, 0 FROM generate_series(1, 40) i;
INSERT INTO s.grandchildren SELECT i, i FROM generate_series(1, 40) i;
INSERT INTO s.alone SELECT i FROM generate_series(1, 10) i;
"""
TABLES = ("s.parents", "s.children", "s.grandchildren")
ACTIONS = (
    "",
    "ON DELETE RESTRICT",
    "ON DELETE CASCADE",
    "DEFERRABLE",
    "ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED",
)
STAGINGS = (StagingKind.AUTO, StagingKind.TEMPORARY)


@pytest.fixture(params=["merged at once", "compared first"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let small tables go the way of large ones too."""
    if request.param == "compared first":
        monkeypatch.setattr("pgsluice.plan.COMPARED_FROM_BYTES", 0)
    return str(request.param)


def family(pair: Pair, action: str = "") -> None:
    for side in (pair.source, pair.target):
        side.execute(FAMILY.format(action, action))


def synced(pair: Pair, *names: str, sink: Callable[[Event], None] = lambda _: None, **more: Any) -> Any:
    options = Options(**{"max_delete": MaxDelete.parse("100%"), "retry_for": 60, **more.pop("options", {})})
    return sync(pair.source.dsn, pair.target.dsn, *(names or ("s.*",)), options=options, sinks=[sink], **more)


def counts(report: Any, name: str) -> tuple[int, int, int, int]:
    (table,) = [table for table in report.tables if table.target == name]
    assert table.status == "done", table.error
    return table.inserted, table.updated, table.unchanged, table.deleted


def assert_equal(pair: Pair, *names: str) -> None:
    for name in names or TABLES:
        assert pair.target.image(name) == pair.source.image(name), name
    assert pair.target.staging_tables() == []


def images(database: Database, *names: str) -> list[list[str]]:
    return [database.image(name) for name in names or TABLES]


# --- what arrives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("staging", STAGINGS, ids=str)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_parent_that_is_deleted_with_its_children_is_gone_after_one_run(
    pair: Pair, way: str, action: str, staging: StagingKind
) -> None:
    family(pair, action)
    pair.source.execute(
        "DELETE FROM s.grandchildren WHERE id <= 4; DELETE FROM s.children WHERE id <= 4; DELETE FROM s.parents WHERE id <= 2;"
        "INSERT INTO s.parents VALUES (100, 1, 'n1'); INSERT INTO s.children VALUES (100, 100, 1);"
        "INSERT INTO s.grandchildren VALUES (100, 100)"
    )
    report = synced(pair, options={"staging": staging})
    assert report.exit_code == 0, [table.error for table in report.tables]
    assert counts(report, "s.parents") == (1, 0, 18, 2)
    assert counts(report, "s.children") == (1, 0, 36, 4)
    assert counts(report, "s.grandchildren") == (1, 0, 36, 4)
    assert_equal(pair)
    again = synced(pair, options={"staging": staging})
    assert [counts(again, name)[2] for name in TABLES] == [19, 37, 37]


@pytest.mark.parametrize("action", ACTIONS)
def test_children_that_move_to_another_parent_stay_when_their_old_one_goes(pair: Pair, way: str, action: str) -> None:
    family(pair, action)
    pair.source.execute(
        "INSERT INTO s.parents VALUES (0, 1, 'new'); UPDATE s.children SET parent = 0 WHERE parent <= 2;"
        "DELETE FROM s.parents WHERE id <= 2 AND id > 0"
    )
    report = synced(pair)
    assert report.exit_code == 0, [table.error for table in report.tables]
    assert counts(report, "s.parents") == (1, 0, 18, 2)
    if "CASCADE" not in action:
        assert counts(report, "s.children") == (0, 4, 36, 0)
    assert_equal(pair)


def test_what_a_child_refers_to_may_have_moved_while_its_parent_s_name_is_taken_over(pair: Pair, way: str) -> None:
    """The name of a parent that goes is that of a new one: it has to go first, and rows that refer to it too."""
    family(pair)
    pair.source.execute(
        "DELETE FROM s.grandchildren WHERE child = 1; DELETE FROM s.children WHERE id = 1; UPDATE s.children SET parent = 3"
        " WHERE parent = 1; DELETE FROM s.parents WHERE id = 1; INSERT INTO s.parents VALUES (21, 0, 'other')"
    )
    assert synced(pair).exit_code == 0
    assert_equal(pair)


def test_rows_of_one_table_that_refer_to_each_other_come_move_and_go(pair: Pair, way: str) -> None:
    table = "CREATE SCHEMA s; CREATE TABLE s.staff (id int PRIMARY KEY, boss int REFERENCES s.staff, v int DEFAULT 0);"
    for side in (pair.source, pair.target):
        side.execute(table + "INSERT INTO s.staff SELECT i, nullif(i / 2, 0) FROM generate_series(1, 31) i")
    pair.source.execute(
        "INSERT INTO s.staff VALUES (102, 101), (101, 1); UPDATE s.staff SET boss = 102 WHERE boss = 2;"
        "DELETE FROM s.staff WHERE id IN (2, 30, 31)"
    )
    report = synced(pair)
    assert report.exit_code == 0, report.tables[0].error
    assert counts(report, "s.staff") == (2, 2, 26, 3)
    assert_equal(pair, "s.staff")
    pair.source.execute("DELETE FROM s.staff")
    assert counts(synced(pair), "s.staff") == (0, 0, 0, 30)


def test_tables_that_refer_to_each_other_by_deferrable_keys_arrive(pair: Pair, way: str) -> None:
    circle = """CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, b int); CREATE TABLE s.b (id int PRIMARY KEY, a int);
      ALTER TABLE s.a ADD FOREIGN KEY (b) REFERENCES s.b DEFERRABLE; ALTER TABLE s.b ADD FOREIGN KEY (a) REFERENCES s.a DEFERRABLE;"""
    pair.source.execute(
        circle
        + "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO s.a VALUES (1, 1), (2, 2); INSERT INTO s.b VALUES (1, 2), (2, 1); COMMIT"
    )
    pair.target.execute(circle)
    assert synced(pair).exit_code == 0
    assert_equal(pair, "s.a", "s.b")
    pair.source.execute(
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; DELETE FROM s.a WHERE id = 1; DELETE FROM s.b WHERE id = 2; UPDATE s.a SET b = 1; UPDATE s.b SET a = 2; COMMIT"
    )
    report = synced(pair)
    assert (counts(report, "s.a"), counts(report, "s.b")) == ((0, 1, 0, 1), (0, 0, 1, 1))
    assert_equal(pair, "s.a", "s.b")


def test_a_circle_of_keys_that_are_not_deferrable_is_refused_where_rows_need_each_other(pair: Pair) -> None:
    circle = """CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, b int); CREATE TABLE s.b (id int PRIMARY KEY, a int);
      ALTER TABLE s.a ADD CONSTRAINT to_b FOREIGN KEY (b) REFERENCES s.b; ALTER TABLE s.b ADD FOREIGN KEY (a) REFERENCES s.a;"""
    for side in (pair.source, pair.target):
        side.execute(circle)
    pair.source.execute("INSERT INTO s.b VALUES (1, NULL); INSERT INTO s.a VALUES (1, 1)")
    assert synced(pair).exit_code == 0
    assert_equal(pair, "s.a", "s.b")
    pair.source.execute(
        "INSERT INTO s.a VALUES (2, NULL); INSERT INTO s.b VALUES (2, 2); UPDATE s.a SET b = 2 WHERE id = 2"
    )
    before = images(pair.target, "s.a", "s.b")
    report = synced(pair)
    first, second = report.tables
    assert (report.exit_code, first.sqlstate, first.exit_code) == (1, "23503", 1)
    assert second.status == "failed"
    assert "DEFERRABLE" in first.hint
    assert images(pair.target, "s.a", "s.b") == before


def test_a_reader_of_all_tables_sees_the_old_state_or_the_new_one_never_a_mix(pair: Pair) -> None:
    family(pair)
    seen, over = set(), threading.Event()

    def read() -> None:
        with psycopg.connect(pair.target.dsn, autocommit=True) as connection:
            while not over.is_set():
                query = "SELECT (SELECT max(v) FROM s.parents), (SELECT min(v) FROM s.parents), (SELECT max(v) FROM s.children), (SELECT min(v) FROM s.children)"
                seen.add(connection.execute(query).fetchone())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for version in range(1, 6):
            pair.source.execute(f"UPDATE s.parents SET v = {version}; UPDATE s.children SET v = {version}")
            assert synced(pair).exit_code == 0
    finally:
        over.set()
        reader.join()
    assert seen <= {(version,) * 4 for version in range(6)}
    assert len(seen) > 2


def test_a_parent_that_a_trigger_touches_when_its_children_go_goes_too(pair: Pair, way: str) -> None:
    """The place of a row is not the same once a trigger has written it: what is gone is looked for behind that."""
    family(pair)
    pair.target.execute(
        """CREATE FUNCTION s.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          UPDATE s.parents SET v = v + 1 WHERE id = OLD.parent; RETURN NULL; END $$;
        CREATE TRIGGER touch AFTER DELETE ON s.children FOR EACH ROW EXECUTE FUNCTION s.touch()"""
    )
    pair.source.execute(
        "DELETE FROM s.grandchildren WHERE id <= 5; DELETE FROM s.children WHERE id <= 5; DELETE FROM s.parents WHERE id <= 2"
    )
    report = synced(pair, options={"staging": StagingKind.UNLOGGED})
    assert counts(report, "s.parents")[3] == 2
    assert_equal(pair)


@pytest.mark.parametrize("mode", ["upsert", "append", "incremental", "xmin"])
def test_tables_commit_together_in_every_mode(pair: Pair, mode: str) -> None:
    tables = "CREATE SCHEMA s; CREATE TABLE s.p (id int PRIMARY KEY, at int); CREATE TABLE s.c (id int PRIMARY KEY, p int REFERENCES s.p, at int);"
    for side in (pair.source, pair.target):
        side.execute(tables)
    settings: dict[str, Any] = {"cursor": "at", "deletes": "sweep"} if mode == "incremental" else {}
    pair.source.execute(
        "INSERT INTO s.p SELECT i, i FROM generate_series(1, 9) i; INSERT INTO s.c SELECT i, i, i FROM generate_series(1, 9) i"
    )
    assert synced(pair, mode=mode, **settings).exit_code == 0
    pair.source.execute("INSERT INTO s.p VALUES (10, 10); INSERT INTO s.c VALUES (10, 10, 10)")
    if settings:
        pair.source.execute("DELETE FROM s.c WHERE id = 1; DELETE FROM s.p WHERE id = 1")
    report = synced(pair, mode=mode, **settings)
    assert [table.inserted for table in report.tables] == [1, 1], [table.error for table in report.tables]
    assert_equal(pair, "s.p", "s.c")


def test_rows_are_marked_as_deleted_in_tables_that_are_tied(pair: Pair) -> None:
    family(pair)
    for name in TABLES[:2]:
        pair.target.execute(f"ALTER TABLE {name} ADD gone boolean NOT NULL DEFAULT false")
    pair.source.execute(
        "DELETE FROM s.grandchildren; DELETE FROM s.children WHERE id <= 2; DELETE FROM s.parents WHERE id = 1"
    )
    report = synced(pair, "s.parents", "s.children", deletes="soft:gone")
    assert (counts(report, "s.parents")[3], counts(report, "s.children")[3]) == (1, 2)
    assert pair.target.rows("SELECT id FROM s.parents WHERE gone") == [(1,)]


# --- what fails ------------------------------------------------------------------------------------------------------


def changed(pair: Pair) -> list[list[str]]:
    """Change every table; return what the target holds before."""
    pair.source.execute(
        "UPDATE s.parents SET v = 7; DELETE FROM s.grandchildren WHERE id > 10; DELETE FROM s.children WHERE id > 10; UPDATE s.alone SET v = 7"
    )
    return images(pair.target)


def test_a_child_that_the_guard_refuses_takes_its_parents_back_and_both_say_so(pair: Pair) -> None:
    family(pair)
    pair.target.execute(
        "INSERT INTO s.parents SELECT i, 0, i::text FROM generate_series(1000, 1200) i; INSERT INTO s.children SELECT i, i FROM generate_series(1000, 1200) i"
    )
    pair.source.execute("INSERT INTO s.parents SELECT i, 0, i::text FROM generate_series(1000, 1200) i")
    before = changed(pair)
    report = synced(pair, options={"max_delete": MaxDelete.parse("10%")})
    tables = {table.target: table for table in report.tables}
    assert report.exit_code == 3
    refused, parents = tables["s.children"], tables["s.parents"]
    assert (refused.status, refused.step, refused.exit_code) == ("failed", "guard", 6)
    assert (parents.status, parents.step, parents.exit_code, parents.updated) == ("failed", "guard", 6, 0)
    assert str(parents.error).startswith("rolled back with s.children, with which it commits: ")
    assert images(pair.target) == before
    assert tables["s.alone"].status == "done"
    assert_equal(pair, "s.alone")
    lasting = pair.target.rows("SELECT target, status FROM pgsluice.run_table ORDER BY 1")
    assert lasting == [
        ("s.alone", "done"),
        ("s.children", "failed"),
        ("s.grandchildren", "failed"),
        ("s.parents", "failed"),
    ]


def test_a_table_that_the_plan_refuses_keeps_its_group_back_and_nothing_of_it_is_copied(pair: Pair) -> None:
    family(pair)
    pair.target.execute(
        "ALTER TABLE s.children ADD must int NOT NULL DEFAULT 1; ALTER TABLE s.children ALTER must DROP DEFAULT"
    )
    before, recorder = changed(pair), Recorder()
    report = synced(pair, sink=recorder)
    tables = {table.target: table for table in report.tables}
    assert report.exit_code == 3
    assert [tables[name].exit_code for name in TABLES] == [6, 6, 6]
    assert "rolled back with s.children, with which it commits: " in str(tables["s.parents"].error)
    assert images(pair.target) == before
    assert not [event for event in recorder.of(StepStarted) if event.step == "relay" and event.table != "s.alone"]
    assert_equal(pair, "s.alone")


@pytest.mark.parametrize(
    ("table", "step"),
    [*itertools.product(TABLES, ["merge", "verify", "state"]), ("s.parents", "commit")],
)
@pytest.mark.parametrize("staging", STAGINGS, ids=str)
@pytest.mark.parametrize("retries", [0, 3])
def test_a_session_lost_between_the_tables_leaves_all_old_and_another_try_does_all(
    pair: Pair, table: str, step: str, staging: StagingKind, retries: int
) -> None:
    family(pair)
    before = changed(pair)
    done: list[Event] = []

    def lose(event: Event) -> None:
        if isinstance(event, StepStarted) and (event.table, event.step) == (table, step) and not done:
            done.append(event)
            pair.target.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name LIKE 'pgsluice %' AND state = 'idle in transaction'"
            )

    report = synced(pair, *TABLES, sink=lose, options={"retries": retries, "staging": staging})
    assert done
    if retries:
        assert (report.exit_code, {each.attempts for each in report.tables}) == (0, {2})
        assert_equal(pair)
    else:
        assert (report.exit_code, {each.status for each in report.tables}) == (5, {"failed"})
        assert images(pair.target) == before
        assert pair.target.staging_tables() == []
        assert synced(pair).exit_code == 0
        assert_equal(pair)


def test_a_merge_that_is_tried_again_copies_nothing_again(pair: Pair) -> None:
    family(pair)
    changed(pair)
    recorder = Recorder()
    done: list[Event] = []

    def both(event: Event) -> None:
        recorder(event)
        if isinstance(event, StepStarted) and event.step == "state" and not done:
            done.append(event)
            pair.target.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name LIKE 'pgsluice %' AND state = 'idle in transaction'"
            )

    assert synced(pair, *TABLES, sink=both, options={"staging": StagingKind.UNLOGGED}).exit_code == 0
    assert len(recorder.of(Retrying)) == 1
    assert [event.table for event in recorder.of(StepStarted) if event.step == "relay"] == list(TABLES)
    assert_equal(pair)


def test_what_a_deferred_key_refuses_at_commit_is_named_by_table_and_constraint(pair: Pair) -> None:
    family(pair, "DEFERRABLE")
    pair.source.execute(
        "ALTER TABLE s.children DROP CONSTRAINT children_parent_fkey; UPDATE s.children SET parent = 99 WHERE id = 1"
    )
    before = images(pair.target)
    report = synced(pair, *TABLES)
    tables = {table.target: table for table in report.tables}
    assert report.exit_code == 1
    assert (tables["s.children"].sqlstate, tables["s.children"].step) == ("23503", "merge")
    assert "children_parent_fkey" in str(tables["s.children"].error)
    assert "rolled back with s.children, with which it commits: " in str(tables["s.parents"].error)
    assert images(pair.target) == before


def test_an_orphan_of_a_source_without_the_key_is_refused_and_not_swept_away_by_a_cascade(pair: Pair, way: str) -> None:
    family(pair, "ON DELETE CASCADE")
    pair.source.execute(
        "ALTER TABLE s.children DROP CONSTRAINT children_parent_fkey; DELETE FROM s.parents WHERE id = 1"
    )
    before = images(pair.target)
    report = synced(pair)
    tables = {table.target: table for table in report.tables}
    assert (report.exit_code, tables["s.children"].sqlstate) == (3, "23503"), tables["s.children"].error
    assert images(pair.target) == before


def test_a_writer_that_holds_one_of_the_tables_keeps_nobody_from_the_others_for_long(pair: Pair) -> None:
    family(pair)
    before = changed(pair)
    with psycopg.connect(pair.target.dsn) as writer, psycopg.connect(pair.target.dsn, autocommit=True) as other:
        writer.execute("UPDATE s.children SET v = v")
        waits: list[float] = []
        over = threading.Event()

        def write() -> None:
            while not over.is_set():
                other.execute(
                    "SET lock_timeout = '5s'; UPDATE s.alone SET v = v; UPDATE s.parents SET v = v WHERE id = 20"
                )
                waits.append(1)

        writing = threading.Thread(target=write)
        writing.start()
        try:
            report = synced(pair, *TABLES, options={"lock_timeout": 3, "retries": 0})
        finally:
            over.set()
            writing.join()
    tables = {table.target: table for table in report.tables}
    assert report.exit_code == 5
    assert "the lock on s.children was not to be had" in str(tables["s.children"].error)
    assert "with which it commits: the lock on s.children" in str(tables["s.parents"].error)
    assert waits
    assert images(pair.target) == before


# --- the snapshot ----------------------------------------------------------------------------------------------------


def test_tables_that_commit_together_are_read_in_one_snapshot_even_where_one_is_read_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staging of one is lost behind the gate of the other, when the source has moved on."""
    family(pair)
    changed(pair)

    def lose() -> None:
        names = [name for name in pair.target.staging_tables() if name.endswith("_2")]
        pair.target.execute(f"TRUNCATE pgsluice.{names[0]}")
        pair.source.execute(
            "DELETE FROM s.children WHERE parent = 1; DELETE FROM s.parents WHERE id = 1; UPDATE s.alone SET v = 8"
        )

    report = synced(pair, sink=At("merge", lose))
    assert report.exit_code == 0, [table.error for table in report.tables]
    assert_equal(pair)


def test_a_snapshot_that_is_lost_while_one_is_read_has_all_of_them_read_again(pair: Pair) -> None:
    family(pair)
    changed(pair)
    done: list[Event] = []

    def lose(event: Event) -> None:
        if isinstance(event, StepStarted) and (event.step, event.table) == ("staging", "s.children") and not done:
            done.append(event)
            pair.source.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %' AND state LIKE 'idle in%'"
            )
            pair.source.execute("DELETE FROM s.children WHERE parent = 1; DELETE FROM s.parents WHERE id = 1")

    report = synced(pair, sink=lose)
    assert done
    assert report.exit_code == 0, [table.error for table in report.tables]
    assert_equal(pair)


# --- all of the run --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgsluice.plan.PARALLEL_SLICE_BYTES", (1 << 18, 1 << 30))
    monkeypatch.setattr("pgsluice.plan.TEMPORARY_BELOW_BYTES", 1 << 17)


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("jobs", [1, 4])
def test_all_tables_of_an_atomic_run_are_there_or_none_new_ones_included(pair: Pair, jobs: int) -> None:
    """A large new table is promoted, a small one created and filled, an old one merged."""
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('a', 'b');
        CREATE TABLE s.large (id int PRIMARY KEY, filler text); CREATE TABLE s.small (id int PRIMARY KEY, m s.mood);
        CREATE TABLE s.old (id int PRIMARY KEY, v int CHECK (v > 0));
        INSERT INTO s.large SELECT i, repeat('x', 100) FROM generate_series(1, 10000) i; ANALYZE s.large;
        INSERT INTO s.small VALUES (1, 'a'); INSERT INTO s.old VALUES (1, 1), (2, 2);"""
    )
    pair.target.execute(
        "CREATE SCHEMA s; CREATE TABLE s.old (id int PRIMARY KEY, v int CHECK (v > 1)); INSERT INTO s.old VALUES (2, 3)"
    )
    report = synced(pair, options={"atomic": True, "jobs": jobs})
    tables = {table.target: table for table in report.tables}
    assert (report.exit_code, tables["s.old"].sqlstate) == (1, "23514")
    assert pair.target.rows("SELECT to_regclass('s.large'), to_regclass('s.small'), to_regtype('s.mood')") == [
        (None, None, None)
    ]
    assert pair.target.rows("SELECT * FROM s.old") == [(2, 3)]
    assert pair.target.staging_tables() == []
    pair.source.execute("UPDATE s.old SET v = 5")
    report = synced(pair, options={"atomic": True, "jobs": jobs})
    assert report.exit_code == 0, [table.error for table in report.tables]
    tables = {table.target: table for table in report.tables}
    assert (tables["s.large"].staging, tables["s.small"].staging, tables["s.old"].staging) == (
        "promoted",
        "temporary",
        "temporary",
    )
    assert tables["s.large"].created
    assert tables["s.small"].created
    assert_equal(pair, "s.large", "s.small", "s.old")
    assert any("commits together with" in note for note in tables["s.old"].notes)


@pytest.mark.usefixtures("small_is_large")
def test_large_tables_that_are_tied_are_copied_side_by_side_and_one_that_fails_ends_the_others(pair: Pair) -> None:
    tables = """CREATE SCHEMA s; CREATE TABLE s.p (id int PRIMARY KEY, filler text);
      CREATE TABLE s.c (id int PRIMARY KEY, p int REFERENCES s.p, filler text);"""
    pair.source.execute(
        tables
        + "INSERT INTO s.p SELECT i, repeat('x', 100) FROM generate_series(1, 10000) i; INSERT INTO s.c SELECT i, i, repeat('x', 100) FROM generate_series(1, 10000) i; ANALYZE s.p; ANALYZE s.c"
    )
    pair.target.execute(tables)
    report = synced(pair, options={"jobs": 4})
    assert [(table.status, table.slices > 2) for table in report.tables] == [("done", True)] * 2
    assert_equal(pair, "s.p", "s.c")
    pair.source.execute("DELETE FROM s.c WHERE p <= 50; DELETE FROM s.p WHERE id <= 50")
    report = synced(pair, where="id > 0 AND 1 / (id - 9000) IS NOT NULL", options={"jobs": 4})
    assert (report.exit_code, {table.sqlstate for table in report.tables}) == (1, {"22012"})
    assert pair.target.value("SELECT count(*) FROM s.p") == 10000
    assert synced(pair, options={"jobs": 4}).exit_code == 0
    assert_equal(pair, "s.p", "s.c")


def test_a_run_that_is_resumed_leaves_out_groups_that_are_done(pair: Pair) -> None:
    family(pair)
    changed(pair)
    pair.target.execute("ALTER TABLE s.alone ADD CHECK (v < 5)")
    first = synced(pair)
    assert first.exit_code == 3
    pair.target.execute("ALTER TABLE s.alone DROP CONSTRAINT alone_v_check")
    second = synced(pair, options={"resume": first.run_id})
    assert [table.target for table in second.tables] == ["s.alone"]
    assert second.exit_code == 0
    pair.target.execute("ALTER TABLE s.parents ADD CHECK (v < 9)")
    pair.source.execute("UPDATE s.parents SET v = 9; UPDATE s.alone SET v = 9")
    third = synced(pair)
    assert third.exit_code == 3
    pair.target.execute("ALTER TABLE s.parents DROP CONSTRAINT parents_v_check")
    fourth = synced(pair, options={"resume": third.run_id})
    assert sorted(table.target for table in fourth.tables) == sorted(TABLES)
    assert_equal(pair)


def test_the_plan_names_the_tables_that_commit_together_and_counts_each(pair: Pair) -> None:
    family(pair)
    changed(pair)
    planned = pair.pgsluice("plan", "--table", "s.*", "--json", "--exact", "--max-delete", "100%")
    assert planned.code == 0, planned.err
    lines = {line["target"]: line for line in planned.lines if "target" in line}
    assert "commits together with s.children, s.grandchildren (foreign keys)" in lines["s.parents"]["notes"]
    assert "commits together with s.parents and 1 other (foreign keys)" in lines["s.children"]["notes"]
    assert (lines["s.children"]["exact"]["deleted"], lines["s.parents"]["exact"]["updated"]) == (30, 20)
    assert not any("commits together" in note for note in lines["s.alone"]["notes"])
    assert pair.target.staging_tables() == []
    done = pair.pgsluice("sync", "--table", "s.*", "--json", "--max-delete", "100%", "--log-format", "json")
    assert done.code == 0
    finished = [json.loads(line)["report"]["target"] for line in done.err.splitlines() if '"table_finished"' in line]
    assert finished == ["s.alone", "s.parents", "s.children", "s.grandchildren"]


def test_each_table_is_told_as_finished_once(pair: Pair) -> None:
    family(pair)
    recorder = Recorder()
    assert synced(pair, sink=recorder).exit_code == 0
    assert sorted(event.report.target for event in recorder.of(TableFinished)) == ["s.alone", *sorted(TABLES)]
    verified = [event.table for event in recorder.of(StepStarted) if event.step == "verify"]
    assert sorted(map(str, verified)) == ["s.alone", *sorted(TABLES)]


@pytest.mark.parametrize("names", [("s.a", "s.b"), ("s.b", "s.a")])
def test_a_circle_with_one_key_that_can_be_deferred_arrives_in_any_order(pair: Pair, names: tuple[str, str]) -> None:
    tables = """CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, b int);
      CREATE TABLE s.b (id int PRIMARY KEY, a int REFERENCES s.a); ALTER TABLE s.a ADD FOREIGN KEY (b) REFERENCES s.b DEFERRABLE;"""
    for side in (pair.source, pair.target):
        side.execute(tables)
    pair.source.execute(
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO s.a VALUES (1, 1); INSERT INTO s.b VALUES (1, 1); COMMIT"
    )
    assert synced(pair, *names).exit_code == 0
    assert_equal(pair, *names)
