"""What COMMIT is worth for tables that commit together: all of them or none, proven by one look."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
from faulting import WAITING, At, await_a_standby, await_that, crash, stop_awaiting_a_standby
from proxying import Fault, Proxy
from psycopg.conninfo import make_conninfo
from servers import Pair, database, start_cli

from pgsluice import MaxDelete, Options, StagingKind, sync
from pgsluice.embedded import Cluster
from pgsluice.events import Event, StepStarted, Warned
from pgsluice.sinks.recorder import Recorder

TABLES = """CREATE SCHEMA s; CREATE TABLE s.parents (id int PRIMARY KEY, version int NOT NULL);
CREATE TABLE s.children (id int PRIMARY KEY, parent int REFERENCES s.parents, version int NOT NULL);
INSERT INTO s.parents SELECT i, 1 FROM generate_series(1, 100) i;
INSERT INTO s.children SELECT i, i, 1 FROM generate_series(1, 100) i;"""
NAMES = ("s.parents", "s.children")
STAGINGS = [StagingKind.UNLOGGED, StagingKind.TEMPORARY]
OLD, NEW = ((1, 100), (1, 100)), ((2, 99), (2, 99))


@pytest.fixture(scope="module")
def reachable() -> Iterator[Cluster]:
    """A target of this module's own, that a proxy can reach."""
    with Cluster(major=18, tcp=True) as cluster:
        yield cluster


@pytest.fixture
def tied(source_cluster: Cluster, reachable: Cluster) -> Iterator[Pair]:
    """Give two tables of which every row has changed, and one of each is gone."""
    with database(source_cluster) as source, database(reachable) as target:
        source.execute(TABLES)
        target.execute(TABLES)
        source.execute(
            "DELETE FROM s.children WHERE id = 1; DELETE FROM s.parents WHERE id = 1;"
            "UPDATE s.children SET version = 2; UPDATE s.parents SET version = 2"
        )
        yield Pair(source, target)


def held(pair: Pair) -> tuple[tuple[int, int], ...]:
    """Return the version that each table is of, and its rows; more than one version fails."""
    found = [pair.target.rows(f"SELECT version, count(*)::int FROM {name} GROUP BY 1") for name in NAMES]
    ((parents,), (children,)) = found
    return (parents, children)


def recorded(pair: Pair) -> list[tuple[str, str]]:
    query = "SELECT target, status FROM pgsluice.run_table WHERE status = 'done' ORDER BY 1"
    return pair.target.rows(query) if pair.target.value("SELECT to_regclass('pgsluice.run_table') IS NOT NULL") else []


@pytest.mark.parametrize("staging", STAGINGS, ids=str)
@pytest.mark.parametrize("fault", [Fault.COMMIT_BEFORE, Fault.COMMIT_AFTER])
@pytest.mark.parametrize("retries", [0, 3])
def test_a_commit_without_an_answer_is_proven_for_all_of_them(
    tied: Pair, staging: StagingKind, fault: Fault, retries: int
) -> None:
    recorder = Recorder()
    with Proxy("127.0.0.1", tied.target.cluster.port) as proxy:
        dsn = make_conninfo(tied.target.cluster.tcp_dsn, port=proxy.port, dbname=tied.target.name, sslmode="disable")
        losing = At("commit", lambda: proxy.arm(fault, 1))
        options = Options(staging=staging, retries=retries, stall_timeout=1, connect_timeout=2, lock_timeout=5)
        report = sync(tied.source.dsn, dsn, *NAMES, options=options, sinks=[losing, recorder])
        assert proxy.strikes == 1
    if fault is Fault.COMMIT_AFTER or retries:
        assert [table.status for table in report.tables] == ["done", "done"], [table.error for table in report.tables]
        assert held(tied) == NEW
        assert recorded(tied) == [("s.children", "done"), ("s.parents", "done")]
    else:
        assert {(table.status, table.exit_code, table.step) for table in report.tables} == {("failed", 5, "commit")}
        assert all("proves that it was rolled back" in str(table.error) for table in report.tables)
        assert held(tied) == OLD
        assert recorded(tied) == []
    if fault is Fault.COMMIT_AFTER:
        said = [event.table for event in recorder.of(Warned) if "proves that it was committed" in event.message]
        assert said == ["s.parents"]
        assert {table.attempts for table in report.tables} == {1}


@pytest.mark.parametrize("staging", STAGINGS, ids=str)
def test_killed_while_its_commit_is_under_way_the_next_run_finds_all_of_them_done(
    tied: Pair, staging: StagingKind
) -> None:
    assert sync(tied.source.dsn, tied.target.dsn, *NAMES).exit_code == 0
    tied.source.execute("UPDATE s.children SET version = 3; UPDATE s.parents SET version = 3")
    both = ["sync", "--source", tied.source.dsn, "--target", tied.target.dsn, "--table", "s.*"]
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 's.children'::regclass"
    try:
        with psycopg.connect(tied.target.dsn) as blocker:
            blocker.execute("LOCK TABLE s.children IN SHARE MODE")
            process = start_cli(*both, "--staging", staging.value)
            await_that(lambda: tied.target.value(waiting) > 0, "the merge to wait for its lock")
            await_a_standby(tied.target)
        await_that(lambda: bool(tied.target.rows(WAITING, ("pgsluice %",))), "the commit to wait for a standby")
        process.kill()
        process.communicate()
        assert held(tied) == NEW
    finally:
        stop_awaiting_a_standby(tied.target)
    await_that(lambda: held(tied) == ((3, 99), (3, 99)), "the commit that was never answered")
    assert len(recorded(tied)) == 4
    again = sync(tied.source.dsn, tied.target.dsn, *NAMES)
    assert [(table.updated, table.unchanged) for table in again.tables] == [(0, 99), (0, 99)]
    assert tied.target.staging_tables() == []


@pytest.mark.parametrize("staging", STAGINGS, ids=str)
@pytest.mark.parametrize(
    "at", [("merge", "s.children"), ("verify", "s.parents"), ("state", "s.children"), ("commit", "s.parents")]
)
@pytest.mark.parametrize("retries", [0, 5])
def test_a_crash_of_the_target_between_them_leaves_all_old_or_brings_all(
    tied: Pair, staging: StagingKind, at: tuple[str, str], retries: int
) -> None:
    done: list[Event] = []

    def strike(event: Event) -> None:
        if isinstance(event, StepStarted) and (event.step, event.table) == at and not done:
            done.append(event)
            crash(tied.target)

    options = Options(staging=staging, retries=retries)
    report = sync(tied.source.dsn, tied.target.dsn, *NAMES, options=options, sinks=[strike])
    assert done
    if retries:
        assert report.exit_code == 0, [table.error for table in report.tables]
        assert held(tied) == NEW
    else:
        assert (report.exit_code, {table.status for table in report.tables}) == (5, {"failed"})
        assert held(tied) == OLD
        assert sync(tied.source.dsn, tied.target.dsn, *NAMES).exit_code == 0
        assert held(tied) == NEW
    assert tied.target.staging_tables() == []


@pytest.mark.parametrize("step", ["relay", "merge", "verify", "state"])
def test_killed_at_a_step_of_the_second_all_are_old_and_the_next_run_brings_all(tied: Pair, step: str) -> None:
    both = ["sync", "--source", tied.source.dsn, "--target", tied.target.dsn, "--log-format", "json"]
    process = start_cli(*both, "--table", "s.*", "--max-delete", "100%")
    assert process.stderr is not None
    with contextlib.suppress(ValueError):
        for line in process.stderr:
            if '"step_started"' in line and f'"step": "{step}"' in line and '"s.children"' in line:
                break
    process.kill()
    process.communicate()
    await_that(lambda: not tied.target.rows(RUNNING), "the server to notice")
    assert held(tied) in {OLD, NEW}
    options = Options(max_delete=MaxDelete.parse("100%"))
    assert sync(tied.source.dsn, tied.target.dsn, *NAMES, options=options).exit_code == 0
    assert held(tied) == NEW
    assert tied.target.staging_tables() == []


RUNNING = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %'"
