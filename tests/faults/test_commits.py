"""What a COMMIT is worth: durable, told for what it was, and of the table that was meant."""

from __future__ import annotations

import threading

import psycopg
import pytest
from faulting import ROWS, WAITING, At, await_a_standby, await_that, stop_awaiting_a_standby, versions
from psycopg import sql
from servers import Pair

from pgsluice import Options, StagingKind, sync
from pgsluice.endpoint import Endpoint
from pgsluice.errors import StepError
from pgsluice.events import Retrying
from pgsluice.session import Session
from pgsluice.sinks.recorder import Recorder

FENCE_WAITS = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"


@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.TEMPORARY], ids=str)
def test_a_commit_that_still_waits_is_not_taken_for_a_rollback(shop: Pair, staging: StagingKind) -> None:
    """Our side of the connection is gone and the backend is not: asked too early, the target would say no."""
    recorder, ended = Recorder(), threading.Event()

    def release() -> None:
        await_that(
            lambda: ended.is_set() or shop.target.value(FENCE_WAITS) > 0, "the proof to wait behind the old backend"
        )
        stop_awaiting_a_standby(shop.target)

    releasing = threading.Thread(target=release)

    def arm() -> None:
        await_a_standby(shop.target)
        releasing.start()

    try:
        options = Options(staging=staging, stall_timeout=1, retries=0)
        report = sync(shop.source.dsn, shop.target.dsn, "s.t", options=options, sinks=[At("commit", arm), recorder])
    finally:
        ended.set()
        releasing.join()
    (table,) = report.tables
    assert (report.exit_code, table.status, table.updated) == (0, "done", ROWS), table.error
    assert recorder.of(Retrying) == []
    assert versions(shop.target) == [(2, ROWS)]
    assert shop.target.rows(WAITING, ("pgsluice %",)) == []


def fail_quietly(session: Session) -> None:
    with session.transaction():
        session.execute(sql.SQL("UPDATE s.t SET version = 3"))
        with pytest.raises(psycopg.errors.DivisionByZero):
            session.execute(sql.SQL("SELECT 1 / 0"))


def test_a_commit_that_answers_rollback_is_no_success(shop: Pair) -> None:
    with Endpoint(shop.target.dsn, read_only=False).open() as session:
        with pytest.raises(StepError, match="had failed before COMMIT and was rolled back"):
            fail_quietly(session)
        assert session.usable
    assert versions(shop.target) == [(1, ROWS)]


@pytest.mark.parametrize(("preferred", "used"), [("off", "on"), ("local", "local")])
def test_a_commit_is_durable_whatever_the_role_prefers(shop: Pair, preferred: str, used: str) -> None:
    """On the target's word: a trigger looks, inside the transaction that merges."""
    shop.target.execute(
        f"""ALTER DATABASE {shop.target.name} SET synchronous_commit = {preferred};
        CREATE TABLE public.seen (setting text);
        CREATE FUNCTION s.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
        CREATE TRIGGER look AFTER UPDATE ON s.t FOR EACH STATEMENT EXECUTE FUNCTION s.look();"""
    )
    assert shop.target.value("SHOW synchronous_commit") == preferred
    report = sync(shop.source.dsn, shop.target.dsn, "s.t")
    assert report.exit_code == 0, report.tables[0].error
    assert shop.target.rows("SELECT * FROM public.seen") == [(used,)]


@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.TEMPORARY], ids=str)
def test_a_target_replaced_while_the_rows_were_on_their_way_is_left_alone(shop: Pair, staging: StagingKind) -> None:
    def replace() -> None:
        shop.target.execute(
            "ALTER TABLE s.t RENAME TO old; CREATE TABLE s.t (id int PRIMARY KEY, version int); INSERT INTO s.t VALUES (7, 9)"
        )

    report = sync(
        shop.source.dsn, shop.target.dsn, "s.t", options=Options(staging=staging), sinks=[At("merge", replace)]
    )
    (table,) = report.tables
    assert (report.exit_code, table.step) == (1, "merge"), table.error
    assert "the target was replaced by another table" in str(table.error)
    assert versions(shop.target) == [(9, 1)]
    assert versions(shop.target, "s.old") == [(1, ROWS)]
    assert shop.target.staging_tables() == []
    shop.target.execute("DELETE FROM s.t")
    assert sync(shop.source.dsn, shop.target.dsn, "s.t").exit_code == 0
    assert versions(shop.target) == [(2, ROWS)]


@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.TEMPORARY], ids=str)
def test_a_run_that_lost_its_lock_merges_nothing_older_than_another_run_has_merged_meanwhile(
    shop: Pair, staging: StagingKind
) -> None:
    """The session that holds the run's locks is ended, and another job comes in between, with newer rows."""
    shop.source.execute("CREATE TABLE s.u AS TABLE s.t; ALTER TABLE s.u ADD PRIMARY KEY (id)")
    recorder = Recorder()

    def meanwhile() -> None:
        shop.target.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity JOIN pg_locks USING (pid)"
            " WHERE locktype = 'advisory' AND application_name LIKE 'pgsluice %' AND state = 'idle'"
        )
        shop.source.execute("UPDATE s.t SET version = 3; UPDATE s.u SET version = 3")
        between = sync(shop.source.dsn, shop.target.dsn, "s.t", mode="upsert")
        assert between.exit_code == 0, between.tables[0].error

    options = Options(staging=staging)
    report = sync(shop.source.dsn, shop.target.dsn, "s.*", options=options, sinks=[At("merge", meanwhile), recorder])
    assert report.exit_code == 0, [table.error for table in report.tables]
    assert recorder.of(Retrying)
    assert versions(shop.target) == [(3, ROWS)]
    assert versions(shop.target, "s.u") == [(3, ROWS)]
    assert shop.target.staging_tables() == []
