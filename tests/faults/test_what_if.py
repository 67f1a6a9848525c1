"""What docs/what-if.md says of a night on call, where no other test shows it."""

from __future__ import annotations

import functools
import re
import signal
import subprocess
from contextlib import AbstractContextManager

import psycopg
import pytest
from faulting import ROWS, At, await_that, versions
from servers import Pair, running_cli

from pgsluice import Options, StagingKind, sync
from pgsluice.events import Event, Retrying, Warned
from pgsluice.sinks.recorder import Recorder


def test_a_commit_whose_outcome_can_not_be_learned_exits_with_5_and_the_history_tells_it_later(shop: Pair) -> None:
    cluster = shop.target.cluster
    stop = functools.partial(cluster.stop, immediate=True)
    options = Options(retries=0, connect_timeout=2)
    try:
        report = sync(shop.source.dsn, shop.target.dsn, "s.t", options=options, sinks=[At("commit", stop)])
    finally:
        cluster.start()
    assert report.exit_code == 5
    assert "the target can't be asked" in str(report.tables[0].error)
    assert f"run {report.run_id} is listed as done if it was committed" in str(report.tables[0].hint)
    done = shop.target.rows("SELECT status FROM pgsluice.run_table WHERE run_id = %s", (report.run_id,))
    assert (versions(shop.target), done) == ([(1, ROWS)], [])
    assert shop.pgsluice("sync", "--table", "s.t").code == 0
    assert versions(shop.target) == [(2, ROWS)]
    assert shop.target.staging_tables() == []


def test_a_target_that_comes_back_while_tries_are_left_is_waited_for(shop: Pair) -> None:
    cluster, recorder = shop.target.cluster, Recorder()

    def start(event: Event) -> None:
        if isinstance(event, Retrying):
            cluster.start()

    stop = functools.partial(cluster.stop, immediate=True)
    report = sync(shop.source.dsn, shop.target.dsn, "s.t", sinks=[At("merge", stop), start, recorder])
    cluster.start()
    assert report.exit_code == 0, report.tables[0].error
    assert recorder.of(Retrying)
    assert versions(shop.target) == [(2, ROWS)]
    assert shop.target.staging_tables() == []


@pytest.mark.parametrize(
    ("sqlstate", "code", "hint"),
    [("53100", 1, "Make room on it, then run again."), ("57014", 1, "it is not tried again"), ("P0001", 1, "")],
)
def test_what_a_person_has_to_mend_is_rolled_back_and_not_tried_again(
    shop: Pair, sqlstate: str, code: int, hint: str
) -> None:
    """A full disk, a statement that somebody cancelled, a trigger's own refusal."""
    shop.target.execute(
        f"""CREATE FUNCTION s.fault() RETURNS trigger LANGUAGE plpgsql
          AS $$ BEGIN RAISE 'not now' USING ERRCODE = '{sqlstate}'; END $$;
        CREATE TRIGGER fault BEFORE UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION s.fault();"""
    )
    report = sync(shop.source.dsn, shop.target.dsn, "s.t", options=Options(staging=StagingKind.UNLOGGED))
    (table,) = report.tables
    assert (report.exit_code, table.step, table.sqlstate, table.attempts) == (code, "merge", sqlstate, 1)
    assert hint in str(table.hint)
    assert versions(shop.target) == [(1, ROWS)]
    assert shop.target.staging_tables() == []


def test_a_statement_that_a_person_cancels_is_not_started_again(shop: Pair) -> None:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %' AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(shop.target.dsn) as other:
        other.execute("LOCK TABLE s.t IN SHARE MODE")
        with started(shop) as process:
            await_that(lambda: shop.target.value(waiting) > 0, "the merge to wait for its lock")
            shop.target.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'pgsluice %' AND wait_event_type = 'Lock'"
            )
            out, errors = process.communicate(timeout=60)
    assert process.returncode == 1, out + errors
    assert "57014" in out + errors
    assert versions(shop.target) == [(1, ROWS)]
    assert shop.target.staging_tables() == []


def started(pair: Pair, *more: str) -> AbstractContextManager[subprocess.Popen[str]]:
    both = ("--source", pair.source.dsn, "--target", pair.target.dsn)
    return running_cli("sync", *both, "--table", "s.t", "--staging", "unlogged", "--quiet", *more)


@pytest.mark.slow
def test_a_run_that_was_killed_is_listed_as_died_and_the_next_one_drops_what_it_left(shop: Pair) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 's.t'::regclass"
    with psycopg.connect(shop.target.dsn) as other:
        other.execute("LOCK TABLE s.t IN SHARE MODE")
        with started(shop) as process:
            await_that(lambda: shop.target.value(waiting) > 0, "the merge to wait for its lock")
            process.send_signal(signal.SIGKILL)
            process.communicate()
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %'"
    await_that(lambda: shop.target.value(ours) == 0, "the server to notice")
    assert len(shop.target.staging_tables()) == 1
    assert "  died  " in shop.pgsluice("status", "--last", "1").out
    after = shop.pgsluice("sync", "--table", "s.t", "--log-format", "json")
    assert after.code == 0, after.out + after.err
    assert "which a dead run had left" in after.err
    assert shop.target.staging_tables() == []
    assert versions(shop.target) == [(2, ROWS)]


@pytest.mark.slow
def test_a_staging_table_that_can_not_be_dropped_is_told_and_the_table_is_done(shop: Pair) -> None:
    """Somebody looks at it, say, in a transaction that stays open."""
    recorder = Recorder()
    with psycopg.connect(shop.target.dsn) as reader:

        def read() -> None:
            (staging,) = shop.target.staging_tables()
            reader.execute(f"LOCK TABLE pgsluice.{staging} IN ACCESS SHARE MODE".encode())

        report = sync(
            shop.source.dsn,
            shop.target.dsn,
            "s.t",
            options=Options(staging=StagingKind.UNLOGGED),
            sinks=[At("cleanup", read), recorder],
        )
    assert report.exit_code == 0
    (staging,) = shop.target.staging_tables()
    assert [event.message for event in recorder.of(Warned) if f"pgsluice.{staging} remains" in event.message]
    assert versions(shop.target) == [(2, ROWS)]
    assert shop.pgsluice("clean").out == f"dropped pgsluice.{staging}\n"


#: Where a run can't go on without the sessions that are lost.
NEEDED = {("staging", "source"), ("relay", "source"), *((step, "target") for step in ("merge", "verify", "state"))}


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("step", ["staging", "relay", "count", "merge", "verify", "state"])
def test_a_server_that_crashes_at_any_step_is_met_by_another_try(shop: Pair, step: str, side: str) -> None:
    """Stopped at once and started again: every session of the run on it is lost, and UNLOGGED rows with them."""
    struck = (shop.source if side == "source" else shop.target).cluster

    def restart() -> None:
        struck.stop(immediate=True)
        struck.start()

    options = Options(staging=StagingKind.UNLOGGED)
    report = sync(shop.source.dsn, shop.target.dsn, "s.t", options=options, sinks=[At(step, restart)])
    (table,) = report.tables
    assert report.exit_code == 0, (table.step, table.error)
    if (step, side) in NEEDED:
        assert table.attempts > 1
    assert versions(shop.target) == [(2, ROWS)]
    assert shop.target.staging_tables() == []


@pytest.mark.slow
def test_a_tool_that_is_frozen_keeps_others_out_until_its_session_is_ended_and_then_goes_on(shop: Pair) -> None:
    """To the target, a machine that lost its power looks the same: its session stands there and says nothing."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 's.t'::regclass"
    with psycopg.connect(shop.target.dsn) as other:
        other.execute("LOCK TABLE s.t IN SHARE MODE")
        with started(shop) as process:
            await_that(lambda: shop.target.value(waiting) > 0, "the merge to wait for its lock")
            process.send_signal(signal.SIGSTOP)
            other.rollback()
            second = shop.pgsluice("sync", "--table", "s.t", "--wait-for-lock", "0.5")
            assert second.code == 11, second.out
            named = re.search(r"another run holds s\.t \((pgsluice \S+), pid (\d+) of the target", second.out)
            assert named, second.out
            shop.target.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", (named[1],)
            )
            assert shop.pgsluice("sync", "--table", "s.t").code == 0
            assert versions(shop.target) == [(2, ROWS)]
            shop.source.execute("UPDATE s.t SET version = 3")
            process.send_signal(signal.SIGCONT)
            out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, out + errors
    assert versions(shop.target) == [(3, ROWS)]
    assert shop.target.staging_tables() == []


def test_a_report_that_nobody_reads_changes_no_table(shop: Pair) -> None:
    with started(shop) as process:
        assert process.stdout
        process.stdout.close()
        process.wait(60)
    assert process.returncode == 0
    assert versions(shop.target) == [(2, ROWS)]
    assert "  done  " in shop.pgsluice("status", "--last", "1").out
