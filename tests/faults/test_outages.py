"""A server that is away when a run begins is waited for; a login that it refuses is not."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
import tenacity
from faulting import ROWS, await_that, versions
from psycopg.conninfo import make_conninfo
from servers import Pair, unmeasured

from pgsluice import Options, sync
from pgsluice.embedded import Cluster
from pgsluice.errors import LoginError
from pgsluice.events import Event, Retrying
from pgsluice.sinks.recorder import Recorder

#: More than a run's tries, so that only time can be what it waits by.
AWAY = 6
PATIENT = Options(retries=1, retry_for=120)


@pytest.fixture(autouse=True)
def briskly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pauses between tries be short."""
    monkeypatch.setattr("pgsluice.retry._LATER", tenacity.wait_fixed(0.01))


@contextlib.contextmanager
def hanging_up() -> Iterator[int]:
    """Give the port of somebody who takes connections and hangs up: a balancer without a server behind it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("away", ["refused", "no such name, for now", "hung up"])
def test_a_server_that_is_away_when_a_run_begins_is_waited_for(shop: Pair, side: str, away: str) -> None:
    asked: list[str] = []

    def where() -> str:
        asked.append(away)
        return elsewhere if len(asked) <= AWAY else getattr(shop, side).dsn

    with hanging_up() as port:
        elsewhere = make_conninfo(
            host="shop.invalid" if away == "no such name, for now" else "127.0.0.1",
            port=port if away == "hung up" else 1,
            user="nobody",
            dbname="nobody",
        )
        source, target = (where, shop.target.dsn) if side == "source" else (shop.source.dsn, where)
        recorder = Recorder()
        report = sync(source, target, "s.t", options=PATIENT, sinks=[recorder])
    assert report.exit_code == 0, report.tables[0].error
    assert [event.step for event in recorder.of(Retrying)] == ["connect"] * AWAY
    assert versions(shop.target) == [(2, ROWS)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ALTER SYSTEM SET default_transaction_read_only = on", "ALTER SYSTEM RESET default_transaction_read_only"),
        ("ALTER ROLE mover CONNECTION LIMIT 0", "ALTER ROLE mover CONNECTION LIMIT -1"),
    ],
    ids=["no host takes writes yet", "too many connections"],
)
def test_a_target_that_takes_no_session_yet_is_waited_for(
    shop: Pair, target_cluster: Cluster, before: str, after: str
) -> None:
    """A failover that is under way, and the crowd that follows it."""
    admin = psycopg.connect(target_cluster.dsn, autocommit=True)
    admin.execute("CREATE ROLE mover LOGIN PASSWORD 'mover'")
    admin.execute("CREATE DATABASE moved OWNER mover")
    with contextlib.closing(admin), contextlib.ExitStack() as ending:
        ending.callback(admin.execute, "DROP ROLE mover")
        ending.callback(admin.execute, "DROP DATABASE moved WITH (FORCE)")

        def change(statement: str) -> None:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(statement.encode())
            admin.execute("SELECT pg_reload_conf()")

        ending.callback(change, after)
        change(before)
        met: list[Event] = []

        def heal(event: Event) -> None:
            met.extend([event] if isinstance(event, Retrying) else [])
            if len(met) == AWAY:
                change(after)

        at = {"host": "127.0.0.1,127.0.0.1", "port": f"{target_cluster.port},{target_cluster.port}", "hostaddr": ""}
        target = make_conninfo(target_cluster.tcp_dsn, **at, user="mover", password="mover", dbname="moved")
        report = sync(shop.source.dsn, target, "s.t", options=PATIENT, sinks=[heal])
        assert report.exit_code == 0, report.tables[0].error
        assert report.tables[0].inserted == ROWS
    assert len(met) >= AWAY


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize(
    ("wrong", "sqlstate"),
    [
        ({"password": "timeout"}, "28P01"),
        ({"user": "too many"}, "28P01"),
        ({"dbname": "starting up"}, "3D000"),  # names that read like what passes
        ({"dbname": "recovery"}, "55000"),
        ({"user": "shutting down", "password": "mover"}, "42501"),
    ],
    ids=["password", "role", "database", "closed database", "privilege"],
)
def test_a_login_that_a_person_has_to_correct_fails_at_once_whatever_its_words(
    pair: Pair, side: str, wrong: dict[str, str], sqlstate: str
) -> None:
    struck = getattr(pair, side)
    role = '"shutting down"'
    with psycopg.connect(struck.cluster.dsn, autocommit=True) as admin, contextlib.ExitStack() as ending:
        if sqlstate == "55000":
            admin.execute("CREATE DATABASE recovery ALLOW_CONNECTIONS false")
            ending.callback(admin.execute, "DROP DATABASE recovery")
        if sqlstate == "42501":
            admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'mover'".encode())
            admin.execute(f"REVOKE CONNECT ON DATABASE {struck.name} FROM PUBLIC".encode())
            ending.callback(admin.execute, f"DROP ROLE {role}".encode())
        dsn = make_conninfo(**{"conninfo": struck.cluster.tcp_dsn, "dbname": struck.name, **wrong})
        ends = {"source": pair.source.dsn, "target": pair.target.dsn, side: dsn}
        recorder = Recorder()
        with pytest.raises(LoginError, match="refused the connection") as raised:
            sync(ends["source"], ends["target"], "s.t", options=PATIENT, sinks=[recorder])
    assert (raised.value.exit_code, raised.value.sqlstate) == (2, sqlstate)
    assert recorder.of(Retrying) == []


def test_on_a_terminal_an_outage_is_told_and_the_wait_for_its_end_can_be_interrupted(shop: Pair) -> None:
    terminal, theirs = pty.openpty()
    command = (sys.executable, "-m", "pgsluice", "sync", "--source", "host=127.0.0.1 port=1", "--table", "s.t")
    process = subprocess.Popen(
        [*command, "--target", shop.target.dsn, "--retries", "1"],
        env={**unmeasured(), "TERM": "xterm", "COLUMNS": "300"}, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = bytearray()

    def has_shown(words: bytes) -> Callable[[], bool]:
        def look() -> bool:
            with contextlib.suppress(OSError):
                shown.extend(os.read(terminal, 65536))
            return words in shown

        return look

    try:
        await_that(has_shown(b"; try 4 in "), "the fourth try to be told")
        process.send_signal(signal.SIGINT)
        await_that(has_shown(b"interrupted"), "the end to be told")
        assert process.wait(30) == 130, shown
        assert b"connect failed: the source 127.0.0.1:1 can't be reached" in shown
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
