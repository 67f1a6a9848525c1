"""A run that was killed keeps nobody waiting: the next sync ends what it left, or outlasts it."""

from __future__ import annotations

import contextlib
import functools
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from faulting import ROWS, await_that, versions
from proxying import proxied
from servers import Database, Pair, run_cli, running_cli

#: Seconds that an orphan would go on, if nobody ended it: longer than a test may take.
LONG = 3600
#: How often a run is killed, one round after the other.
ROUNDS = [2, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])]
ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %' AND wait_event = 'PgSleep'"
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %' AND datname = current_database()"
AT_ONCE = ("--lock-timeout", "10", "--retries", "0")


def tcp(database: Database) -> str:
    return psycopg.conninfo.make_conninfo(database.cluster.tcp_dsn, dbname=database.name)


def sync(source: str, target: str, *more: str) -> list[str]:
    return ["sync", "--source", source, "--target", target, "--table", "s.t", *more]


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def asleep(*databases: Database) -> bool:
    return any(database.value(ASLEEP) for database in databases)


def is_quiet(database: Database) -> bool:
    return bool(database.value(OURS) == 0)


@pytest.fixture
def slow(pair: Pair) -> Pair:
    """Give a table whose merge takes an hour, while public.slow has a row."""
    pair.source.execute(
        f"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int NOT NULL);
        INSERT INTO s.t SELECT i, 1 FROM generate_series(1, {ROWS}) i"""
    )
    pair.target.execute(
        f"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int NOT NULL); CREATE TABLE public.slow ();
        CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF EXISTS (SELECT FROM public.slow) THEN PERFORM pg_sleep({LONG}); END IF; RETURN NULL; END $$;
        CREATE TRIGGER wait BEFORE INSERT OR UPDATE ON s.t FOR EACH STATEMENT EXECUTE FUNCTION public.wait()"""
    )
    return pair


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("link", ["a local socket", "TCP"])
def test_a_killed_run_blocks_nobody(slow: Pair, link: str, rounds: int, tmp_path: Path) -> None:
    """The server notices that the client is gone; the next run, with another temporary folder, knows nothing of it."""
    to = tcp(slow.target) if link == "TCP" else slow.target.dsn
    for number in range(2, 2 + rounds):
        slow.source.execute(f"UPDATE s.t SET version = {number}")
        slow.target.execute("INSERT INTO public.slow DEFAULT VALUES")
        with running_cli(*sync(slow.source.dsn, to)) as process:
            await_that(lambda: asleep(slow.target), "the merge to be under way")
            slow.target.execute("DELETE FROM public.slow")
            kill(process)
        second = run_cli(*sync(slow.source.dsn, to, *AT_ONCE), TMPDIR=str(tmp_path))
        assert second.code == 0, (number, second.out, second.err)
        assert versions(slow.target) == [(number, ROWS)]
    assert slow.target.staging_tables() == []


@pytest.mark.parametrize("rounds", ROUNDS)
def test_a_killed_run_whose_server_does_not_notice_blocks_nobody(slow: Pair, rounds: int) -> None:
    """Something between the two keeps the connections open: the next run on this machine knows better."""
    with proxied(slow.target) as (proxy, dsn):
        for number in range(2, 2 + rounds):
            proxy.heal()
            slow.source.execute(f"UPDATE s.t SET version = {number}")
            slow.target.execute("INSERT INTO public.slow DEFAULT VALUES")
            with running_cli(*sync(slow.source.dsn, dsn)) as process:
                await_that(lambda: asleep(slow.target), "the merge to be under way")
                slow.target.execute("DELETE FROM public.slow")
                proxy.isolate()
                kill(process)
            assert asleep(slow.target)
            second = run_cli(*sync(slow.source.dsn, slow.target.dsn, "--wait-for-lock", "0", *AT_ONCE))
            assert second.code == 0, (number, second.out, second.err)
            assert "ended 2 sessions that a killed run had left on the target" in second.err
            assert versions(slow.target) == [(number, ROWS)]
    assert slow.target.staging_tables() == []


#: What a run was at when it was killed, and what makes that last an hour.
SLOW_READ = ("--mode", "upsert", "--where", f"id > 0 AND pg_sleep({LONG}) IS NOT NULL")
STEPS = {
    "a COPY by this process": ("--lane", "libpq", "--staging", "unlogged", *SLOW_READ),
    "a COPY by psql": ("--lane", "psql", "--staging", "unlogged", *SLOW_READ),
    "a COPY inside the merge": ("--staging", "temporary", *SLOW_READ),
    "a promotion": ("--staging", "promoted"),
    "a swap": ("--strategy", "swap"),
}


@pytest.mark.slow
@pytest.mark.parametrize("link", ["noticed", "not noticed"])
@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_was_killed_at_any_step_blocks_nobody(slow: Pair, step: str, link: str) -> None:
    """Neither on the target nor on the source, where psql lives on and reads for a run that is gone."""
    slow.target.execute(
        f"""CREATE FUNCTION public.wait_for_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
          IF EXISTS (SELECT FROM public.slow) THEN PERFORM pg_sleep({LONG}); END IF; END $$;
        CREATE EVENT TRIGGER wait ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION public.wait_for_ddl()"""
    )
    assert slow.pgsluice("sync", "--table", "s.t").code == 0
    slow.source.execute("UPDATE s.t SET version = 2")
    slow.target.execute("DROP TRIGGER wait ON s.t; INSERT INTO public.slow DEFAULT VALUES")
    if step == "a promotion":
        slow.target.execute("DROP TABLE s.t")
    with proxied(slow.target) as (proxy, dsn):
        with running_cli(*sync(slow.source.dsn, dsn, *STEPS[step])) as process:
            await_that(lambda: asleep(slow.source, slow.target), f"{step} to be under way")
            slow.target.execute("DELETE FROM public.slow")
            if link == "not noticed":
                proxy.isolate()
            kill(process)
        second = run_cli(*sync(slow.source.dsn, slow.target.dsn, *AT_ONCE))
        assert second.code == 0, second.out + second.err
        assert versions(slow.target) == [(2, ROWS)]
        assert slow.target.staging_tables() == []
        for database in (slow.source, slow.target):
            await_that(functools.partial(is_quiet, database), "every session to end")


def test_clean_ends_what_a_killed_run_left_and_drops_its_staging(slow: Pair) -> None:
    slow.target.execute("INSERT INTO public.slow DEFAULT VALUES")
    with proxied(slow.target) as (proxy, dsn):
        with running_cli(*sync(slow.source.dsn, dsn, "--staging", "unlogged")) as process:
            await_that(lambda: asleep(slow.target), "the merge to be under way")
            proxy.isolate()
            kill(process)
        (name,) = slow.target.staging_tables()
        assert slow.pgsluice("clean").out == f"dropped pgsluice.{name}\n"
        assert slow.target.value(OURS) == 0


# --- runs that live --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def at_work(pair: Pair, version: int) -> Iterator[subprocess.Popen[str]]:
    """Start a run, and see it wait in its merge for a lock; it goes on when the block ends."""
    pair.source.execute(f"UPDATE s.t SET version = {version}")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 's.t'::regclass"
    with psycopg.connect(pair.target.dsn) as blocker, running_cli(*sync(pair.source.dsn, pair.target.dsn)) as process:
        blocker.execute("LOCK TABLE s.t IN SHARE MODE")
        await_that(lambda: pair.target.value(waiting) > 0, "the first run to be at its merge")
        yield process
        blocker.rollback()
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, out + errors


def wait_told(process: subprocess.Popen[str]) -> str:
    """Return what a run says when it begins to wait."""
    assert process.stderr
    return next(line for line in process.stderr if "waiting for it" in line)


def test_of_two_runs_that_cron_starts_together_the_second_waits_and_then_runs(slow: Pair) -> None:
    with contextlib.ExitStack() as stack:
        with at_work(slow, 2) as first:
            second = stack.enter_context(running_cli(*sync(slow.source.dsn, slow.target.dsn)))
            told = wait_told(second)
            assert first.poll() is None
            assert "another run holds s.t (pgsluice 2" in told
            assert "waiting for it, for 30 s at most" in told
        out, errors = second.communicate(timeout=60)
        assert second.returncode == 0, out + errors
    assert versions(slow.target) == [(2, ROWS)]
    assert slow.target.value("SELECT count(*) FROM pgsluice.run WHERE status = 'done'") == 2


def test_a_run_that_is_killed_while_another_waits_for_it_is_taken_over_from(slow: Pair) -> None:
    slow.target.execute("INSERT INTO public.slow DEFAULT VALUES")
    with proxied(slow.target) as (proxy, dsn), running_cli(*sync(slow.source.dsn, dsn)) as first:
        await_that(lambda: asleep(slow.target), "the merge to be under way")
        slow.target.execute("DELETE FROM public.slow")
        with running_cli(*sync(slow.source.dsn, slow.target.dsn, "--wait-for-lock", str(LONG))) as second:
            assert wait_told(second)
            proxy.isolate()
            kill(first)
            out, errors = second.communicate(timeout=60)
        assert second.returncode == 0, out + errors
    assert versions(slow.target) == [(1, ROWS)]


@pytest.mark.parametrize("patience", ["0", "0.5"])
def test_a_run_that_lives_is_waited_for_as_long_as_was_said_and_left_alone(slow: Pair, patience: str) -> None:
    with at_work(slow, 2):
        second = slow.pgsluice("sync", "--table", "s.t", "--wait-for-lock", patience)
        assert second.code == 11, second.out + second.err
        assert ("waiting for it" in second.err) == (patience != "0")
    assert versions(slow.target) == [(2, ROWS)]


def test_a_run_that_waits_can_be_interrupted(slow: Pair) -> None:
    with at_work(slow, 2):
        with running_cli(*sync(slow.source.dsn, slow.target.dsn, "--wait-for-lock", str(LONG))) as second:
            assert wait_told(second)
            second.send_signal(signal.SIGINT)
            second.communicate(timeout=30)
        assert second.returncode == 130


def test_other_tables_of_a_run_are_copied_though_one_is_held(slow: Pair) -> None:
    slow.source.execute("CREATE TABLE s.u AS TABLE s.t; ALTER TABLE s.u ADD PRIMARY KEY (id)")
    with at_work(slow, 2):
        second = slow.pgsluice("sync", "--table", "s.*", "--wait-for-lock", "0.2")
        assert second.code == 3, second.out
    assert versions(slow.target, "s.u") == [(1, ROWS)]
