"""A parallel worker of a server that is lost: its leader says so by a SQLSTATE that stands for much else."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import psycopg
import pytest
from faulting import await_that
from servers import Database, Pair

from pgsluice import Lane, Options, endpoint, sync
from pgsluice.events import Retrying
from pgsluice.sinks.recorder import Recorder

LOCK = 4711
WORKERS = "SELECT pid, leader_pid, wait_event FROM pg_stat_activity WHERE leader_pid IS NOT NULL AND datname = current_database()"


@pytest.fixture
def noisy(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Give a table that workers read: each waits for a lock, then says more than its leader's queue takes."""
    monkeypatch.setitem(endpoint.PRELUDE, "client_min_messages", "notice")
    pair.source.execute(
        f"""CREATE SCHEMA s; CREATE TABLE s.t AS SELECT i AS id FROM generate_series(1, 9) i;
        ALTER TABLE s.t ADD PRIMARY KEY (id); ALTER TABLE s.t SET (parallel_workers = 2);
        CREATE FUNCTION s.noisy(int) RETURNS bool LANGUAGE plpgsql STABLE PARALLEL SAFE COST 100000 AS $$
        BEGIN
            PERFORM pg_advisory_lock_shared({LOCK});
            PERFORM pg_advisory_unlock_shared({LOCK});
            RAISE NOTICE '%', repeat('x', 1 << 18);
            RETURN true;
        END $$;"""
    )
    for setting in (
        "min_parallel_table_scan_size = 0",
        "parallel_setup_cost = 0",
        "parallel_leader_participation = off",
    ):
        pair.source.execute(f"ALTER DATABASE {pair.source.name} SET {setting}")
    return pair


@contextlib.contextmanager
def losing_a_worker(source: Database) -> Iterator[None]:
    """Hold every worker; then stop its leader, let the worker fill the queue to it, and end the worker."""
    holder = psycopg.connect(source.dsn, autocommit=True)
    holder.execute("SELECT pg_advisory_lock(%s)", (LOCK,))

    def lose() -> None:
        try:
            await_that(lambda: bool(waiting("advisory")), "a worker to wait")
            worker, leader = waiting("advisory")[0]
            os.kill(leader, signal.SIGSTOP)
        finally:
            holder.close()
        try:
            await_that(lambda: bool(waiting("MessageQueuePutMessage")), "the worker to fill the queue")
            source.execute(f"SELECT pg_terminate_backend({worker}, 10000)")
        finally:
            os.kill(leader, signal.SIGCONT)

    def waiting(event: str) -> list[tuple[int, int]]:
        return [(pid, leader) for pid, leader, wait in source.rows(WORKERS) if wait == event]

    thread = threading.Thread(target=lose)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        holder.close()


@pytest.mark.parametrize("lane", [Lane.LIBPQ, Lane.PSQL])
def test_a_copy_whose_parallel_worker_is_lost_is_tried_again(noisy: Pair, lane: Lane) -> None:
    recorder = Recorder()
    with losing_a_worker(noisy.source):
        report = sync(
            noisy.source.dsn, noisy.target.dsn, "s.t", where="s.noisy(id)", mode="upsert",
            options=Options(lane=lane), sinks=[recorder],
        )  # fmt: skip
    again = [event.sqlstate for event in recorder.of(Retrying)]
    assert (report.exit_code, report.tables[0].lane, again) == (0, lane.value, ["55000"]), report.tables[0].error
    assert noisy.target.rows("SELECT id FROM s.t ORDER BY 1") == [(i,) for i in range(1, 10)]


def test_what_only_a_person_can_mend_has_the_same_sqlstate_and_is_not_tried_again(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE MATERIALIZED VIEW s.t AS SELECT 1 AS id WITH NO DATA")
    recorder = Recorder()
    report = sync(pair.source.dsn, pair.target.dsn, "s.t", key=["id"], mode="upsert", sinks=[recorder])
    assert (report.tables[0].sqlstate, recorder.of(Retrying)) == ("55000", [])
    assert report.exit_code == 1
