"""Many tables in one run: what failed is told first and found again, and what is late is known without a run."""

from __future__ import annotations

import pytest
from faulting import At
from psycopg.conninfo import make_conninfo
from servers import Pair

from pgsluice import sync
from pgsluice.events import Event, Warned

TABLES = 300


def test_of_three_hundred_tables_one_fails_and_the_rest_is_done_and_the_next_run_ends_it(pair: Pair) -> None:
    pair.source.execute(
        f"""CREATE SCHEMA s;
        DO $$BEGIN FOR i IN 1..{TABLES} LOOP
          EXECUTE format('CREATE TABLE s.t%s AS SELECT g AS id, md5(g::text) AS v FROM generate_series(1, 20) g', i);
          EXECUTE format('ALTER TABLE s.t%s ADD PRIMARY KEY (id)', i);
        END LOOP; END$$;"""
    )
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t150 (id int PRIMARY KEY, v text CHECK (id < 10))")
    done = pair.pgsluice("sync", "--table", "s.*", "--jobs", "2", timeout=300)
    assert done.code == 3, done.err[-2000:]
    assert done.out.splitlines()[1].startswith("s.t150 -> s.t150: failed in ")
    assert f"{TABLES - 1} of {TABLES} done, 1 failed" in done.out
    assert pair.pgsluice("status", "--max-age", "1h").code == 1
    late = [line for line in pair.pgsluice("status", "--max-age", "1h").out.splitlines() if line.startswith("LATE")]
    assert late == ["LATE  s.t150 -> s.t150: never done"]
    pair.target.execute("ALTER TABLE s.t150 DROP CONSTRAINT t150_id_check")
    again = pair.pgsluice("sync", "--table", "s.*", "--resume", "last", "--json", timeout=300)
    assert again.code == 0, again
    assert [line["target"] for line in again.lines if "target" in line] == ["s.t150"]
    assert pair.target.image("s.t150") == pair.source.image("s.t150")
    assert pair.pgsluice("status", "--max-age", "1h").code == 0


@pytest.mark.parametrize("staging", ["unlogged", "temporary"])
def test_a_table_that_is_refused_leaves_the_snapshot_of_the_others_alone(pair: Pair, staging: str) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.a_bare (v int)")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.a_bare (v int)")
    for name in ("b", "c", "d"):
        pair.source.execute(f"CREATE TABLE s.{name} AS SELECT g AS id FROM generate_series(1, 50000) g")
        pair.source.execute(f"ALTER TABLE s.{name} ADD PRIMARY KEY (id)")
    done = pair.pgsluice("sync", "--table", "s.*", "--jobs", "2", "--staging", staging, "--json")
    assert {line["target"]: (line["status"], line["attempts"]) for line in done.lines if "target" in line} == {
        "s.a_bare": ("failed", 1),
        "s.b": ("done", 1),
        "s.c": ("done", 1),
        "s.d": ("done", 1),
    }
    assert "new snapshot" not in done.err
    assert len({line["snapshot_xmin"] for line in done.lines if line.get("status") == "done" and "target" in line}) == 1


@pytest.fixture
def synced(pair: Pair) -> Pair:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1), (2)")
    assert pair.pgsluice("status", "--max-age", "26h").code == 1  # a cron that never ran
    assert pair.pgsluice("sync", "--table", "s.t").code == 0
    return pair


def test_a_table_that_was_not_done_for_too_long_is_late(synced: Pair) -> None:
    assert "\ns.t -> s.t: done " in synced.pgsluice("status", "--max-age", "26h").out
    synced.target.execute("UPDATE pgsluice.run_table SET recorded_at = recorded_at - interval '27 hours'")
    late = synced.pgsluice("status", "--max-age", "26h")
    assert (late.code, late.out.splitlines()[1]) == (1, "LATE  s.t -> s.t: done 1d 3h ago, 2 rows")
    assert late.out.splitlines()[-1] == "1 of 1 tables were not done for longer than 1d 2h"
    assert synced.pgsluice("status", "--max-age", "30h").code == 0


def test_a_table_that_its_plan_refuses_is_in_the_history_with_the_way_out(synced: Pair) -> None:
    for side in (synced.source, synced.target):
        side.execute("CREATE TABLE s.bare (v int)")
    assert synced.pgsluice("sync", "--table", "s.*").code == 3
    assert synced.pgsluice("sync", "--table", "s.bare").code == 6
    _, bare, failed, done = synced.pgsluice("status", "--tables").out.splitlines()
    assert bare == "s.bare -> s.bare: never done"
    assert failed.startswith("  failed since (")
    assert "key" in failed
    assert done.startswith("s.t -> s.t: done ")
    assert synced.target.rows("SELECT status, tables FROM pgsluice.run ORDER BY started_at") == [
        ("done", 1),
        ("partly done", 2),
        ("failed", 1),
    ]
    assert synced.pgsluice("status", "--max-age", "1h").code == 0  # nothing was ever begun that could be late


def test_a_refused_run_leaves_no_trace_on_a_target_that_has_none(pair: Pair) -> None:
    for side in (pair.source, pair.target):
        side.execute("CREATE SCHEMA s; CREATE TABLE s.bare (v int)")
    assert pair.pgsluice("sync", "--table", "s.bare").code == 6
    assert pair.target.rows("SELECT pg_catalog.to_regnamespace('pgsluice')::text") == [(None,)]


def test_history_is_kept_for_so_long_and_of_each_table_what_became_of_it_last(synced: Pair) -> None:
    synced.source.execute("CREATE TABLE s.old (id int PRIMARY KEY); DELETE FROM s.t")
    assert synced.pgsluice("sync", "--table", "s.old").code == 0
    assert synced.pgsluice("sync", "--table", "s.t").code == 6  # the delete guard
    synced.target.execute("UPDATE pgsluice.run_table SET recorded_at = recorded_at - interval '100 days'")
    synced.target.execute("UPDATE pgsluice.run SET started_at = started_at - interval '100 days'")
    history = "SELECT target, status FROM pgsluice.run_table ORDER BY recorded_at"
    refused = synced.pgsluice("sync", "--table", "s.t", "--keep-history", "101d")
    assert refused.code == 6
    assert len(synced.target.rows(history)) == 4
    assert synced.pgsluice("sync", "--table", "s.t", "--keep-history", "90d").code == 6
    assert synced.target.rows(history) == [("s.t", "done"), ("s.old", "done"), ("s.t", "failed"), ("s.t", "failed")]
    assert synced.pgsluice("sync", "--table", "s.t", "--max-delete", "100%", "--keep-history", "90d").code == 0
    assert synced.target.rows(history) == [("s.old", "done"), ("s.t", "failed"), ("s.t", "failed"), ("s.t", "done")]
    assert synced.target.rows("SELECT target, status, rows FROM pgsluice.tables ORDER BY 1") == [
        ("s.old", "done", 0),
        ("s.t", "done", 0),
    ]
    assert synced.target.rows("SELECT status, done, failed, rows FROM pgsluice.runs ORDER BY started_at") == [
        ("failed", 0, 1, 0),
        ("failed", 0, 1, 0),
        ("done", 1, 0, 0),
    ]


def told_of_the_history(pair: Pair, target: str, script: str) -> list[str]:
    """Sync as it is done while the target is changed by a script, and return what is told of the run history."""
    told: list[Event] = []
    strike = At("commit", lambda: pair.target.execute(script))
    report = sync(pair.source.dsn, target, "s.t", sinks=(strike, told.append))
    assert (report.exit_code, strike.done) == (0, True), report.tables[0].error
    return [event.message for event in told if isinstance(event, Warned) and "run history" in event.message]


def test_a_run_whose_end_can_not_be_noted_is_done_and_says_so(synced: Pair) -> None:
    """Its note says "running" for ever."""
    told = told_of_the_history(
        synced, synced.target.dsn, "ALTER TABLE pgsluice.run ADD CONSTRAINT none CHECK (exit_code IS NULL) NOT VALID"
    )
    assert len(told) == 1
    assert told[0].startswith("the run history is not up to date: ")
    assert 'violates check constraint "none"' in told[0]
    assert synced.target.rows("SELECT status FROM pgsluice.run ORDER BY started_at") == [("done",), ("running",)]


@pytest.mark.parametrize("revoked", ["DELETE ON pgsluice.run", "DELETE ON pgsluice.run_table"])
def test_a_role_that_may_not_delete_history_leaves_it_without_a_word(synced: Pair, revoked: str) -> None:
    role = f"{synced.target.name}_w"
    synced.target.execute(
        f"""CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA s, pgsluice TO {role};
        GRANT ALL ON ALL TABLES IN SCHEMA s, pgsluice TO {role}; REVOKE {revoked} FROM {role}"""
    )
    try:
        assert told_of_the_history(synced, make_conninfo(synced.target.dsn, user=role), "SELECT 1") == []
        assert synced.target.rows("SELECT status FROM pgsluice.run") == [("done",), ("done",)]
    finally:
        synced.target.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_what_failed_last_is_told_with_its_way_out_beside_when_it_was_done(synced: Pair) -> None:
    synced.source.execute("DELETE FROM s.t")
    assert synced.pgsluice("sync", "--table", "s.t").code == 6
    _, first, second, third = synced.pgsluice("status", "--tables").out.splitlines()
    assert first.startswith("s.t -> s.t: done ")
    assert "2 of 2 rows (100 %) would be deleted" in second
    assert "--max-delete 2" in third
    line = synced.pgsluice("status", "--tables", "--json").lines[0]
    assert (line["status"], line["is_late"], line["age"] > 0) == ("failed", False, True)


def test_the_runs_of_one_table_are_told_by_its_target_and_a_name_that_is_not_known_is_an_error(synced: Pair) -> None:
    synced.source.execute("CREATE TABLE s.u (id int PRIMARY KEY); INSERT INTO s.t VALUES (3)")
    assert synced.pgsluice("sync", "--table", "s.*").code == 0
    _, newest, oldest = synced.pgsluice("status", "s.t").out.splitlines()
    assert "  done  inserted 1, updated 0, unchanged 2, deleted 0  " in newest
    assert "  done  inserted 2, updated 0, unchanged 0, deleted 0  " in oldest
    assert [line["inserted"] for line in synced.pgsluice("status", "s.t", "--json", "--last", "1").lines] == [1]
    unknown = synced.pgsluice("status", "s.nothing")
    assert unknown.code == 2
    assert unknown.err == (
        "pgsluice: no run has done anything with s.nothing on this target\n"
        "`pgsluice status --tables` lists what is known.\n"
    )


def test_status_says_how_a_failed_run_goes_on(synced: Pair) -> None:
    assert "next" not in synced.pgsluice("status").out
    synced.source.execute("DELETE FROM s.t")
    assert synced.pgsluice("sync", "--table", "s.t").code == 6
    lines = synced.pgsluice("status").out.splitlines()
    run_id = synced.target.value("SELECT run_id FROM pgsluice.runs WHERE status = 'failed'")
    assert lines[-1] == f"next, with the rest of the command as it was: pgsluice sync --resume {run_id}"
    assert ": 0 of 1 done, 1 failed, 0 rows, " in lines[1]
