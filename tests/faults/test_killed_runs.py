"""A run that was killed keeps nobody waiting: the next sync ends what it left, or outlasts it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from faulting import ROWS, await_that, versions
from proxying import proxied
from servers import Database, Pair, run_cli, start_cli

#: Seconds that an orphan would go on, if nobody ended it: longer than a test may take.
LONG = 3600
ROUNDS = int(os.environ.get("PGSLUICE_KILLS", "3"))
AT_WORK = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %%' AND wait_event = 'PgSleep'"
OURS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %%' AND datname = current_database()"
)


def tcp(database: Database) -> str:
    return psycopg.conninfo.make_conninfo(database.cluster.tcp_dsn, dbname=database.name)


def sync(source: str, target: str, *more: str) -> list[str]:
    return ["sync", "--source", source, "--target", target, "--table", "s.t", "--quiet", *more]


@contextlib.contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    with start_cli(*command) as process:
        try:
            yield process
        finally:
            process.kill()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.fixture
def slow(pair: Pair) -> Pair:
    """Give a table whose merge takes an hour, while public.slow has a row."""
    pair.source.execute(
        f"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int NOT NULL);
        INSERT INTO s.t SELECT i, 1 FROM generate_series(1, {ROWS}) i"""
    )
    pair.target.execute(
        f"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int NOT NULL); CREATE TABLE public.slow ();
        CREATE FUNCTION s.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF EXISTS (SELECT FROM public.slow) THEN PERFORM pg_sleep({LONG}); END IF; RETURN NULL; END $$;
        CREATE TRIGGER wait BEFORE INSERT OR UPDATE ON s.t FOR EACH STATEMENT EXECUTE FUNCTION s.wait()"""
    )
    return pair


def killed_in_its_merge(pair: Pair, number: int, *command: str) -> None:
    """Let every row differ, start a sync, and kill it when its merge is under way."""
    pair.source.execute(f"UPDATE s.t SET version = {number}")
    pair.target.execute("INSERT INTO public.slow DEFAULT VALUES")
    with started(*command) as process:
        await_that(lambda: pair.target.value(AT_WORK) > 0, "the merge to be under way")
        pair.target.execute("DELETE FROM public.slow")
        kill(process)


@pytest.mark.parametrize("link", ["a local socket", "TCP"])
def test_a_killed_run_blocks_nobody(slow: Pair, link: str, tmp_path: Path) -> None:
    """The server notices by itself that the client is gone: the next run is told by nothing else."""
    to = tcp(slow.target) if link == "TCP" else slow.target.dsn
    for number in range(2, 2 + ROUNDS):
        killed_in_its_merge(slow, number, *sync(slow.source.dsn, to))
        second = run_cli(*sync(slow.source.dsn, to, "--lock-timeout", "10", "--retries", "0"), TMPDIR=str(tmp_path))
        assert second.code == 0, (number, second.out, second.err)
        assert versions(slow.target) == [(number, ROWS)]
    assert slow.target.staging_tables() == []


def test_a_killed_run_whose_server_does_not_notice_blocks_nobody(slow: Pair) -> None:
    """Something between the two keeps the connections open: the next run on this machine knows better."""
    with proxied(slow.target) as (proxy, dsn):
        for number in range(2, 2 + ROUNDS):
            proxy.heal()
            slow.source.execute(f"UPDATE s.t SET version = {number}")
            slow.target.execute("INSERT INTO public.slow DEFAULT VALUES")
            with started(*sync(slow.source.dsn, dsn)) as process:
                await_that(lambda: slow.target.value(AT_WORK) > 0, "the merge to be under way")
                slow.target.execute("DELETE FROM public.slow")
                proxy.isolate()
                kill(process)
            assert slow.target.value(AT_WORK) == 1
            second = run_cli(*sync(slow.source.dsn, slow.target.dsn, "--lock-timeout", "10", "--retries", "0"))
            assert second.code == 0, (number, second.out, second.err)
            assert versions(slow.target) == [(number, ROWS)]
    assert slow.target.staging_tables() == []
