"""Whatever ends a run from outside: what was begun is rolled back and cleaned up, and told."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from clusters import fill_in_slices
from faulting import ROWS, WAITING, At, await_a_standby, await_that, stop_awaiting_a_standby, versions
from psycopg.conninfo import make_conninfo
from servers import Database, Pair

from pgsluice import Options, StagingKind, sync
from pgsluice.events import Event, Retrying, RunFinished, RunStarted, TableFinished, Warned
from pgsluice.job import Lane, Verify
from pgsluice.sinks.recorder import Recorder

OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %'"
SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
#: Longer than any test waits.
SLEEP = "pg_sleep(600)"


class Taken(BaseException):
    """A task's runner takes it back, by an exception of its own."""


class TimedOutError(Exception):
    """Another runner does so by one that anybody could catch."""


def settle(shop: Pair) -> None:
    """See that nothing of a run is left on either side."""
    assert shop.target.staging_tables() == []
    await_that(lambda: shop.target.value(OURS) == shop.source.value(OURS) == 0, "our sessions to be gone")
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    assert shop.target.value(locks) == 0


def slow_to_merge(shop: Pair) -> None:
    shop.target.execute(
        f"""CREATE FUNCTION s.slow() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN PERFORM {SLEEP}; RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION s.slow();"""
    )


def slow_to_read(shop: Pair) -> None:
    shop.source.execute(
        f"CREATE FUNCTION s.slow(int) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT {SLEEP} IS NOT NULL'"
    )


def ended(recorder: Recorder, shop: Pair) -> None:
    """See that the end of an interrupted run was told, once, and written down."""
    (finished,) = recorder.of(RunFinished)
    assert recorder.events[-1] == finished
    assert (finished.report.exit_code, finished.report.to_dict()["status"]) == (130, "interrupted")
    assert [event.report.status for event in recorder.of(TableFinished)] == ["skipped"]
    written = shop.target.rows(
        "SELECT status, exit_code, finished_at IS NOT NULL FROM pgsluice.run WHERE run_id = %s", (finished.run_id,)
    )
    assert written in ([("interrupted", 130, True)], [])


@pytest.mark.parametrize("staging", [StagingKind.TEMPORARY, StagingKind.UNLOGGED])
@pytest.mark.parametrize("step", ["staging", "relay", "merge", "verify", "state", "commit"])
@pytest.mark.parametrize("raised", [SystemExit(3), Taken("back")], ids=["SystemExit", "foreign"])
def test_what_is_raised_in_a_run_at_any_step_ends_it_as_interrupted(
    shop: Pair, raised: BaseException, step: str, staging: StagingKind
) -> None:
    recorder = Recorder()

    def strike() -> None:
        raise raised

    with pytest.raises(type(raised)) as caught:
        sync(
            shop.source.dsn,
            shop.target.dsn,
            "s.t",
            options=Options(staging=staging),
            sinks=[recorder, At(step, strike)],
        )
    assert caught.value is raised
    ended(recorder, shop)
    assert versions(shop.target) == [(1, ROWS)]
    settle(shop)
    assert sync(shop.source.dsn, shop.target.dsn, "s.t").exit_code == 0
    assert versions(shop.target) == [(2, ROWS)]


@pytest.mark.parametrize("raised", [SystemExit(3), Taken("back"), TimedOutError("late"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("wait", ["merge", "relay"])
def test_what_a_signals_handler_raises_in_the_middle_of_a_wait_ends_the_run_as_interrupted(
    shop: Pair, raised: BaseException, wait: str
) -> None:
    """The way of task runners: an alarm, and an exception that the driver has never heard of."""
    (slow_to_merge if wait == "merge" else slow_to_read)(shop)

    def handle(*_: object) -> None:
        raise raised

    side = shop.target if wait == "merge" else shop.source
    recorder, earlier = Recorder(), signal.signal(signal.SIGUSR1, handle)

    def strike() -> None:
        await_that(sleeping(side), wait)
        os.kill(os.getpid(), signal.SIGUSR1)

    striking = threading.Thread(target=strike)
    striking.start()
    where, mode = ("s.slow(id)", "upsert") if wait == "relay" else (None, "full")
    try:
        with pytest.raises(type(raised)) as caught:
            sync(shop.source.dsn, shop.target.dsn, "s.t", where=where, mode=mode, sinks=[recorder])
    finally:
        striking.join()
        signal.signal(signal.SIGUSR1, earlier)
    assert caught.value is raised or isinstance(raised, KeyboardInterrupt)
    ended(recorder, shop)
    assert versions(shop.target) == [(1, ROWS)]
    await_that(lambda: side.value(SLEEPING) == 0, "the server to have stopped")
    settle(shop)


@pytest.mark.parametrize("raised", [Taken("back"), TimedOutError("late")], ids=["foreign", "caught by anybody"])
def test_what_a_handler_raises_while_a_commit_waits_is_proven_before_it_goes_on(
    shop: Pair, raised: BaseException
) -> None:
    """The server has committed by then, and its answer waits for a standby."""

    def handle(*_: object) -> None:
        raise raised

    def strike() -> None:
        await_that(lambda: bool(shop.target.rows(WAITING, ("pgsluice %",))), "the commit to wait")
        os.kill(os.getpid(), signal.SIGUSR1)
        stop_awaiting_a_standby(shop.target)

    def begin() -> None:
        await_a_standby(shop.target)
        striking.start()

    warned, earlier = Recorder(), signal.signal(signal.SIGUSR1, handle)
    striking = threading.Thread(target=strike)
    try:
        await_at_commit = At("commit", begin)
        with pytest.raises(type(raised)) as caught:
            sync(shop.source.dsn, shop.target.dsn, "s.t", sinks=[await_at_commit, warned])
    finally:
        signal.signal(signal.SIGUSR1, earlier)
        striking.join()
    assert caught.value is raised
    assert any("it was committed" in event.message for event in warned.of(Warned))
    assert versions(shop.target) == [(2, ROWS)]


# --- from another thread ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stopping(when: Callable[[], bool], what: str) -> Iterator[threading.Event]:
    """Give an event that another thread sets as soon as something holds."""
    stop = threading.Event()

    def set_then() -> None:
        await_that(when, what)
        stop.set()

    thread = threading.Thread(target=set_then)
    thread.start()
    try:
        yield stop
    finally:
        thread.join()


def sleeping(side: Database) -> Callable[[], bool]:
    return lambda: side.value(SLEEPING) > 0


@pytest.mark.parametrize("stall_timeout", [300, 0])
@pytest.mark.parametrize("staging", [StagingKind.TEMPORARY, StagingKind.UNLOGGED])
def test_a_stop_while_a_merge_runs_rolls_it_back(shop: Pair, staging: StagingKind, stall_timeout: float) -> None:
    slow_to_merge(shop)
    recorder, options = Recorder(), Options(staging=staging, stall_timeout=stall_timeout)
    with stopping(sleeping(shop.target), "the merge to be under way") as stop:
        report = sync(shop.source.dsn, shop.target.dsn, "s.t", options=options, sinks=[recorder], stop=stop)
    assert (report.is_interrupted, report.exit_code) == (True, 130)
    ended(recorder, shop)
    assert versions(shop.target) == [(1, ROWS)]
    await_that(lambda: shop.target.value(SLEEPING) == 0, "the server to have stopped")
    settle(shop)
    shop.target.execute("DROP TRIGGER slow ON s.t")
    assert sync(shop.source.dsn, shop.target.dsn, "s.t", stop=threading.Event()).exit_code == 0
    assert versions(shop.target) == [(2, ROWS)]


@pytest.mark.parametrize("verify", [Verify.COUNT, Verify.HASH])
@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
@pytest.mark.parametrize("staging", [StagingKind.TEMPORARY, StagingKind.UNLOGGED])
def test_a_stop_while_rows_are_read_ends_the_run(shop: Pair, staging: StagingKind, lane: Lane, verify: Verify) -> None:
    slow_to_read(shop)
    recorder, options = Recorder(), Options(staging=staging, lane=lane, verify=verify)
    with stopping(sleeping(shop.source), "rows to be read") as stop:
        report = sync(
            shop.source.dsn, shop.target.dsn, "s.t", where="s.slow(id)", mode="upsert",
            options=options, sinks=[recorder], stop=stop,
        )  # fmt: skip
    assert report.is_interrupted
    ended(recorder, shop)
    assert versions(shop.target) == [(1, ROWS)]
    settle(shop)


def test_a_stop_ends_slices_that_are_copied_side_by_side(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_in_slices(pair, monkeypatch, 20_000)
    slow_to_read(pair)
    with stopping(lambda: pair.source.value(SLEEPING) > 1, "several slices to be copied") as stop:
        report = sync(
            pair.source.dsn, pair.target.dsn, "s.t", where="s.slow(id)", mode="upsert",
            options=Options(jobs=3), stop=stop,
        )  # fmt: skip
    assert report.is_interrupted
    assert pair.target.value("SELECT to_regclass('s.t')") is None
    settle(pair)


def test_a_stop_ends_what_a_run_waits_for_before_it_has_begun(shop: Pair) -> None:
    """A server that is away, one that takes connections and says nothing, and another run at the table."""
    stop, retried = threading.Event(), Recorder()

    def on_third(event: Event) -> None:
        if isinstance(event, Retrying) and len(retried.of(Retrying)) == 3:
            stop.set()

    away = "host=127.0.0.1 port=1 dbname=nobody"
    report = sync(away, shop.target.dsn, "s.t", sinks=[retried, on_third], stop=stop)
    assert (report.is_interrupted, report.tables, len(retried.of(Retrying))) == (True, (), 3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        met: list[socket.socket] = []
        accepting = threading.Thread(target=lambda: met.append(mute.accept()[0]))
        accepting.start()
        with stopping(lambda: bool(met), "the connection to be taken") as stop:
            silent = make_conninfo(away, port=mute.getsockname()[1], sslmode="disable")
            assert sync(silent, shop.target.dsn, "s.t", options=Options(connect_timeout=600), stop=stop).is_interrupted
        accepting.join()
        met[0].close()
    with psycopg.connect(shop.target.dsn, application_name="pgsluice other") as other:
        ((key,),) = shop.target.rows("SELECT lock_key FROM pgsluice.target WHERE target = 's.t'")
        other.execute("SELECT pg_advisory_lock(%s)", (key,))
        warned = Recorder()
        waiting = lambda: any("waiting for it" in event.message for event in warned.of(Warned))  # noqa: E731
        with stopping(waiting, "the other run to be waited for") as stop:
            options = Options(wait_for_lock=600)
            assert sync(
                shop.source.dsn, shop.target.dsn, "s.t", options=options, sinks=[warned], stop=stop
            ).is_interrupted
        assert not warned.of(RunStarted)
    assert versions(shop.target) == [(1, ROWS)]
    settle(shop)


def test_tables_that_were_done_before_a_stop_stay_done(shop: Pair) -> None:
    shop.source.execute("CREATE TABLE s.a AS TABLE s.t; ALTER TABLE s.a ADD PRIMARY KEY (id)")
    slow_to_merge(shop)
    with stopping(sleeping(shop.target), "the merge of the second to be under way") as stop:
        report = sync(shop.source.dsn, shop.target.dsn, "s.a", "s.t", stop=stop)
    assert [(table.target, table.status) for table in report.tables] == [("s.a", "done"), ("s.t", "skipped")]
    assert (versions(shop.target, "s.a"), versions(shop.target)) == ([(2, ROWS)], [(1, ROWS)])


def test_a_stop_that_was_set_before_begins_nothing_and_one_that_is_set_behind_the_last_table_changes_nothing(
    shop: Pair,
) -> None:
    stop = threading.Event()
    stop.set()
    recorder = Recorder()
    assert sync(shop.source.dsn, shop.target.dsn, "s.t", sinks=[recorder], stop=stop).is_interrupted
    assert (recorder.events, versions(shop.target)) == ([], [(1, ROWS)])
    late = threading.Event()

    def set_late(event: Event) -> None:
        if isinstance(event, TableFinished):
            late.set()

    report = sync(shop.source.dsn, shop.target.dsn, "s.t", sinks=[set_late], stop=late)
    assert [table.status for table in report.tables] == ["done"]
    assert versions(shop.target) == [(2, ROWS)]
