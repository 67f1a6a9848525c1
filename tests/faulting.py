"""Faults that tests put in a run's way, and waiting for them to take hold."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

import psycopg
from servers import Database

from pgsluice.events import Event, StepStarted

ROWS = 1_000


def versions(target: Database, table: str = "s.t") -> list[tuple[int, int]]:
    """Return how many rows a table has of each version."""
    return target.rows(f"SELECT version, count(*)::int FROM {table} GROUP BY 1 ORDER BY 1")


def await_that(holds: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for: {what}"
        time.sleep(0.01)


class At:
    """A sink that does something when a step begins."""

    def __init__(self, step: str, action: Callable[[], None]) -> None:
        self.step, self.action, self.done = step, action, False

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == self.step and not self.done:
            self.done = True
            self.action()


def crash(target: Database) -> None:
    """Kill -9 a backend that has nothing to do with us, and wait until the server has recovered."""
    bystander = psycopg.connect(target.dsn, autocommit=True)
    os.kill(bystander.info.backend_pid, signal.SIGKILL)

    def recovered() -> bool:
        try:
            return bool(target.value("SELECT true"))
        except psycopg.OperationalError:
            return False

    await_that(lambda: not bystander_lives(bystander), "the bystander to notice")
    try:
        await_that(recovered, "the server to recover")
    except AssertionError as error:
        error.add_note(target.cluster.log_tail(60))
        raise


def bystander_lives(connection: psycopg.Connection[object]) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name LIKE %s"


def await_a_standby(target: Database) -> None:
    """Let every commit wait for a standby that never comes, and see one do so."""
    target.execute("ALTER SYSTEM SET synchronous_standby_names = 'nosuch'")
    target.execute("SELECT pg_reload_conf()")

    def probe() -> None:
        with contextlib.suppress(psycopg.Error):
            psycopg.connect(target.dsn, autocommit=True, application_name="probe").execute("CREATE TABLE probe ()")

    while not target.rows(WAITING, ("probe",)):
        threading.Thread(target=probe, daemon=True).start()
        time.sleep(0.1)
    target.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'probe'")


def stop_awaiting_a_standby(target: Database) -> None:
    target.execute("ALTER SYSTEM RESET synchronous_standby_names")
    target.execute("SELECT pg_reload_conf()")
