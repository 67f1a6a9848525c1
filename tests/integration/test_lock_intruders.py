"""A role that may only connect can take any advisory lock: it keeps no run from its target by that."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from faulting import ROWS, At, versions
from psycopg import sql
from servers import Database, Pair, database

from pgsluice import Options, StagingKind, sync
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint
from pgsluice.events import Warned
from pgsluice.job import TableRef
from pgsluice.model import Report
from pgsluice.sinks.recorder import Recorder
from pgsluice.sqltext import advisory_key
from pgsluice.steps import staging
from pgsluice.turn import Turn

#: What every key was before, and the first key of a target is: known to all who know its name.
KNOWN = advisory_key("run", "s.t")
AT_ONCE = Options(wait_for_lock=0, lock_timeout=5, retries=0)
EVERY_KEY = """SELECT DISTINCT (classid::bigint << 32) | objid::bigint FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND pid <> pg_backend_pid()"""


@pytest.fixture
def mallory(pair: Pair) -> Iterator[psycopg.Connection[Any]]:
    """Give a session of a role that may connect to the target, and nothing else."""
    name = f"mallory_{pair.target.name}"
    pair.target.execute(f"CREATE ROLE {name} LOGIN")
    dsn = psycopg.conninfo.make_conninfo(pair.target.dsn, user=name, application_name="pgsluice 20260101t000000_aaaaaa")
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection
    pair.target.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute(
        f"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int NOT NULL);
        INSERT INTO s.t SELECT i, 1 FROM generate_series(1, {ROWS}) i"""
    )
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int NOT NULL)")
    return pair


def synced(shop: Pair, *sinks: Any, options: Options = AT_ONCE) -> Report:
    return sync(shop.source.dsn, shop.target.dsn, "s.t", options=options, sinks=sinks)


def warnings(recorder: Recorder) -> list[str]:
    return [event.message for event in recorder.of(Warned) if "stranger" in event.message]


def key_of(target: Database) -> int | None:
    found = target.rows("SELECT lock_key FROM pgsluice.target WHERE target = 's.t'")
    return found[0][0] if found else None


def as_session(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT pg_advisory_lock(%s)", (KNOWN,))


def shared(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SELECT pg_advisory_lock_shared(%s)", (KNOWN,))


def in_a_transaction(connection: psycopg.Connection[Any]) -> None:
    connection.execute("BEGIN")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (KNOWN,))


@pytest.mark.parametrize("before", ["no run yet", "a control schema"])
@pytest.mark.parametrize("how", [as_session, shared, in_a_transaction], ids=lambda how: how.__name__)
def test_a_stranger_who_holds_the_key_of_a_target_keeps_no_run_from_it(
    shop: Pair, mallory: psycopg.Connection[Any], how: Any, before: str
) -> None:
    if before == "a control schema":
        assert synced(shop).exit_code == 0
        shop.source.execute("UPDATE s.t SET version = 2")
    how(mallory)
    recorder = Recorder()
    report = synced(shop, recorder)
    assert report.exit_code == 0, report.tables[0].error
    assert versions(shop.target) == shop.source.rows("SELECT version, count(*)::int FROM s.t GROUP BY 1")
    (warning,) = warnings(recorder)
    assert f"pid {mallory.info.backend_pid}" in warning
    assert f"role 'mallory_{shop.target.name}'" in warning
    assert key_of(shop.target) != KNOWN
    recorder = Recorder()
    assert synced(shop, recorder).exit_code == 0
    assert warnings(recorder) == []  # nobody knows the new one


@pytest.mark.parametrize("when", ["after the run", "queued behind the run"])
def test_a_stranger_who_takes_each_key_that_was_seen_keeps_no_run_away(
    shop: Pair, mallory: psycopg.Connection[Any], when: str
) -> None:
    """Every key can be read in pg_locks while a run holds it."""
    keys = set()
    for number in range(2, 6):
        shop.source.execute(f"UPDATE s.t SET version = {number}")
        seen: list[threading.Thread] = []

        def look(seen: list[threading.Thread] = seen) -> None:
            taking = [
                threading.Thread(target=mallory.execute, args=("SELECT pg_advisory_lock(%s)", key))
                for key in mallory.execute(EVERY_KEY).fetchall()
            ]
            seen.extend(taking)
            if when == "queued behind the run":
                for thread in taking:
                    thread.start()

        report = synced(shop, At("merge", look))
        assert report.exit_code == 0, report.tables[0].error
        assert versions(shop.target) == [(number, ROWS)]
        (thread,) = seen
        if when == "after the run":
            thread.start()
        thread.join()
        keys.add(key_of(shop.target))
    assert len(keys) == 4


@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.TEMPORARY], ids=str)
def test_a_stranger_who_holds_the_old_fence_keeps_no_merge_from_its_commit(
    shop: Pair, mallory: psycopg.Connection[Any], staging: StagingKind
) -> None:
    for purpose, subject in (("fence", "s.t"), ("control", "schema"), ("run", "s.t")):
        mallory.execute("SELECT pg_advisory_lock(%s)", (advisory_key(purpose, subject),))
    options = Options(wait_for_lock=0, lock_timeout=1, retries=0, staging=staging)
    report = synced(shop, options=options)
    assert report.exit_code == 0, report.tables[0].error


def test_a_stranger_can_lock_no_row_of_the_control_schema(shop: Pair, mallory: psycopg.Connection[Any]) -> None:
    assert synced(shop).exit_code == 0
    for statement in (
        "SELECT FROM pgsluice.target FOR UPDATE",
        "SELECT FROM pgsluice.target FOR KEY SHARE",
        "LOCK TABLE pgsluice.target IN ACCESS SHARE MODE",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), mallory.transaction():
            mallory.execute(sql.SQL(statement))


def test_a_reader_of_the_control_schema_can_not_lock_the_row_that_a_merge_needs(
    shop: Pair, mallory: psycopg.Connection[Any]
) -> None:
    assert synced(shop).exit_code == 0
    role = sql.Identifier(mallory.info.user)
    shop.target.execute(f"GRANT USAGE ON SCHEMA pgsluice TO {role.as_string(None)}")
    shop.target.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA pgsluice TO {role.as_string(None)}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        mallory.execute("SELECT FROM pgsluice.target FOR UPDATE")
    mallory.execute("SELECT pg_advisory_lock(lock_key) FROM pgsluice.target")  # it may know the key, and is no run
    assert synced(shop).exit_code == 0


def test_a_prepared_transaction_that_holds_the_key_keeps_no_run_away(shop: Pair) -> None:
    """It has no session that could be ended, and no pid."""
    with Cluster(major=18, settings={"max_prepared_transactions": "2"}) as cluster, database(cluster) as target:
        target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int NOT NULL)")
        target.execute(f"BEGIN; SELECT pg_advisory_xact_lock({KNOWN}); PREPARE TRANSACTION 'for ever'")
        recorder = Recorder()
        report = synced(Pair(shop.source, target), recorder)
        assert report.exit_code == 0, report.tables[0].error
        assert versions(target) == [(1, ROWS)]
        assert "(a prepared transaction of the target (see pg_prepared_xacts))" in warnings(recorder)[0]
        target.execute("ROLLBACK PREPARED 'for ever'")


def test_a_run_of_another_role_is_no_stranger(shop: Pair) -> None:
    """Its role has rights on the history, or can be ours: it is told by its name, and keeps its key."""
    assert synced(shop).exit_code == 0
    role = f"colleague_{shop.target.name}"
    shop.target.execute(
        f"""CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA pgsluice TO {role};
        GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA pgsluice TO {role}"""
    )
    dsn = psycopg.conninfo.make_conninfo(shop.target.dsn, user=role, application_name="pgsluice theirs")
    with contextlib.ExitStack() as stack:
        stack.callback(shop.target.execute, f"DROP OWNED BY {role}; DROP ROLE {role}")
        colleague = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        colleague.execute("SELECT pg_advisory_lock(lock_key) FROM pgsluice.target")
        report = synced(shop)
        assert report.exit_code == 11
        assert f"another run holds s.t (pgsluice theirs, pid {colleague.info.backend_pid} of the" in str(
            report.tables[0].error
        )
        assert key_of(shop.target) == KNOWN


def test_of_several_runs_that_meet_a_stranger_at_once_one_has_the_target_at_a_time(
    shop: Pair, mallory: psycopg.Connection[Any]
) -> None:
    assert synced(shop).exit_code == 0
    beside: list[int] = []
    at_work = threading.Lock()

    def alone() -> None:
        if not at_work.acquire(blocking=False):
            beside.append(1)
            return
        time.sleep(0.05)  # long enough for another one to come
        at_work.release()

    for number in range(2, 5):
        shop.source.execute(f"UPDATE s.t SET version = {number}")
        mallory.execute("SELECT pg_advisory_lock(%s)", (key_of(shop.target),))
        assert at_the_same_time(shop, [At("relay", alone) for _ in range(4)]) == [0] * 4
        assert versions(shop.target) == [(number, ROWS)]
    assert beside == []


def test_a_stranger_who_takes_and_gives_back_every_key_all_the_time_spoils_nothing(
    shop: Pair, mallory: psycopg.Connection[Any]
) -> None:
    assert synced(shop).exit_code == 0
    is_over = threading.Event()

    def take() -> None:
        while not is_over.is_set():
            mallory.execute("SELECT pg_try_advisory_lock(%s)", (key_of(shop.target),))
            is_over.wait(0.005)
            mallory.execute("SELECT pg_advisory_unlock_all()")

    taking = threading.Thread(target=take)
    taking.start()
    try:
        for number in range(2, 6):
            shop.source.execute(f"UPDATE s.t SET version = {number}")
            codes = at_the_same_time(shop, [At("relay", print) for _ in range(3)])
            assert set(codes) <= {0, 11}  # who is quicker three times in a row sends one of us away
            assert 0 in codes
            assert versions(shop.target) == [(number, ROWS)]
    finally:
        is_over.set()
        taking.join()


def at_the_same_time(shop: Pair, sinks: Sequence[At]) -> list[int]:
    reports: list[Report] = []
    options = Options(staging=StagingKind.UNLOGGED, wait_for_lock=60)

    def run(sink: At) -> None:
        reports.append(synced(shop, sink, options=options))

    in_threads([functools.partial(run, sink) for sink in sinks])
    return [report.exit_code for report in reports]


def in_threads(actions: Sequence[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_of_two_who_hold_two_keys_of_one_target_only_the_one_with_the_present_key_merges(
    shop: Pair, mallory: psycopg.Connection[Any]
) -> None:
    """A key that is replaced while a run holds the old one: that run starts over, or ends; it merges nothing old."""
    assert synced(shop).exit_code == 0
    shop.source.execute("UPDATE s.t SET version = 2")

    def replace() -> None:
        shop.target.execute("UPDATE pgsluice.target SET lock_key = lock_key + 1")

    report = synced(shop, At("relay", replace), options=Options(retries=0))
    assert report.exit_code == 5, report.tables[0].error
    assert versions(shop.target) == [(1, ROWS)]
    assert synced(shop).exit_code == 0
    assert versions(shop.target) == [(2, ROWS)]


def test_a_stranger_who_holds_the_key_of_an_orphan_does_not_keep_it(
    shop: Pair, mallory: psycopg.Connection[Any]
) -> None:
    assert synced(shop).exit_code == 0
    shop.target.execute("CREATE UNLOGGED TABLE pgsluice.stg_dead_1 ()")
    shop.target.execute(
        """COMMENT ON TABLE pgsluice.stg_dead_1 IS '{"pgsluice": 1, "run": "dead", "target": "s.o", "lock": 42}'"""
    )
    mallory.execute("SELECT pg_advisory_lock(42)")
    assert shop.pgsluice("clean").out == "dropped pgsluice.stg_dead_1\n"


def test_a_staging_table_names_the_key_that_its_run_holds(shop: Pair, mallory: psycopg.Connection[Any]) -> None:
    """Its run lives, though its key was replaced: nobody drops what it has staged."""
    assert synced(shop).exit_code == 0
    mallory.execute("SELECT pg_advisory_lock(%s)", (KNOWN,))
    shop.source.execute("UPDATE s.t SET version = 2")
    dropped: list[tuple[str, ...]] = []

    def sweep() -> None:
        with Endpoint(shop.target.dsn, read_only=False).open() as session:
            dropped.append(staging.sweep(session, "pgsluice").dropped)

    options = Options(staging=StagingKind.UNLOGGED, wait_for_lock=0)
    report = synced(shop, At("merge", sweep), options=options)
    assert (report.exit_code, dropped) == (0, [()])
    assert versions(shop.target) == [(2, ROWS)]


def test_roles_that_could_write_an_older_control_schema_can_use_the_newer_one(shop: Pair) -> None:
    assert synced(shop).exit_code == 0
    role = f"colleague_{shop.target.name}"
    shop.target.execute(
        f"""DROP TABLE pgsluice.target; CREATE ROLE {role} LOGIN; CREATE ROLE reader_{role};
        GRANT USAGE, CREATE ON SCHEMA pgsluice TO {role};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pgsluice TO {role};
        GRANT USAGE ON SCHEMA s TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON s.t TO {role};
        GRANT SELECT ON ALL TABLES IN SCHEMA pgsluice TO reader_{role}"""
    )
    try:
        assert synced(shop).exit_code == 0  # the owner's run brings it up to date
        shop.source.execute("UPDATE s.t SET version = 2")
        theirs = psycopg.conninfo.make_conninfo(shop.target.dsn, user=role)
        report = sync(shop.source.dsn, theirs, "s.t", options=AT_ONCE)
        assert report.exit_code == 0, report.tables[0].error
        assert versions(shop.target) == [(2, ROWS)]
        query = "SELECT has_table_privilege(%s, 'pgsluice.target', 'UPDATE')"
        assert shop.target.value(query, (f"reader_{role}",)) is False
    finally:
        shop.target.execute(f"DROP OWNED BY {role}, reader_{role}; DROP ROLE {role}, reader_{role}")


def test_runs_that_create_the_control_schema_at_the_same_time_do_not_get_in_each_others_way(shop: Pair) -> None:
    names = [f"t{number}" for number in range(6)]
    for name in names:
        shop.source.execute(f"CREATE TABLE s.{name} AS TABLE s.t; ALTER TABLE s.{name} ADD PRIMARY KEY (id)")
    for _ in range(3):
        shop.target.execute("DROP SCHEMA IF EXISTS pgsluice CASCADE")
        reports = synced_at_once(shop, names)
        assert [report.exit_code for report in reports] == [0] * len(names), [r.tables[0].error for r in reports]
        assert shop.target.value("SELECT count(*) FROM pgsluice.run WHERE status = 'done'") == len(names)


def synced_at_once(shop: Pair, names: Sequence[str]) -> list[Report]:
    reports: list[Report] = []

    def run(name: str) -> None:
        reports.append(sync(shop.source.dsn, shop.target.dsn, f"s.{name}", options=Options(retries=0)))

    in_threads([functools.partial(run, name) for name in names])
    return reports


def test_a_lock_that_is_waited_for_holds_back_no_vacuum(shop: Pair) -> None:
    assert synced(shop).exit_code == 0
    seen: list[Any] = []
    with (
        psycopg.connect(shop.target.dsn, autocommit=True) as other,
        Endpoint(shop.target.dsn, read_only=False, application_name="pgsluice waits").open() as session,
    ):
        other.execute("SELECT pg_advisory_lock(lock_key) FROM pgsluice.target")

        def told(message: str) -> None:
            seen.append(message)
            seen.extend(
                other.execute(
                    "SELECT state, backend_xmin FROM pg_stat_activity WHERE application_name = 'pgsluice waits'"
                )
            )
            other.execute("SELECT pg_advisory_unlock_all()")

        Turn("pgsluice", 60, told).hold(session, TableRef("s", "t"))
    message, (state, xmin) = seen
    assert "waiting for it, for 60 s at most" in message
    assert (state, xmin) == ("idle", None)
