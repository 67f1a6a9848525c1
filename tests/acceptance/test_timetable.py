"""``sync --every``: again and again in one process, through failures, until a signal ends it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from faulting import await_that
from servers import Pair, run_cli, start_cli

from pgsluice.cli import timetable
from pgsluice.cli.timetable import ended_by, repeated, seconds_to
from pgsluice.endpoint import Endpoint
from pgsluice.errors import ConnectError, TemporaryError, UsageError
from pgsluice.job import Selection
from pgsluice.run import Run


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)")
    return pair


def started(pair: Pair, *arguments: str) -> subprocess.Popen[str]:
    return start_cli("sync", "--source", pair.source.dsn, "--target", pair.target.dsn, "--table", "s.t", *arguments)


def rows(pair: Pair) -> int:
    found = pair.target.value("SELECT to_regclass('s.t') IS NOT NULL") and pair.target.value("SELECT count(*) FROM s.t")
    return int(found or 0)


def test_what_comes_is_there_a_moment_later_and_sigterm_ends_it_between_two_runs(shop: Pair) -> None:
    process = started(shop, "--every", "0.2s")
    try:
        await_that(lambda: rows(shop) == 1, "the first run")
        shop.source.execute("INSERT INTO s.t VALUES (2), (3)")
        await_that(lambda: rows(shop) == 3, "a later run")
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode in {0, 143}, said  # at rest, or at work
    assert "ended with 0; again in " in said
    assert shop.target.staging_tables() == []


def test_a_long_pause_is_ended_by_a_signal_with_0(shop: Pair) -> None:
    process = started(shop, "--every", "1h", "--quiet")
    await_that(lambda: rows(shop) == 1, "the first run")
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice%'"
    await_that(lambda: shop.target.value(sessions) == 0, "the pause")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, "ended while nothing was under way" in said) == (0, True)


@pytest.mark.parametrize(
    ("deadline", "seconds"), [("05:30", 6.5 * 3600), ("22:59", 86_340.0), ("23:00", 86_400.0), ("23:01", 60.0)]
)
def test_a_deadline_is_the_next_time_that_it_comes(deadline: str, seconds: float) -> None:
    assert seconds_to(deadline, datetime(2026, 11, 23, 23, 0, tzinfo=UTC)) == seconds


def test_a_deadline_that_is_no_time_of_day_is_an_error(shop: Pair) -> None:
    for wrong in ("25:00", "soon", "5.30"):
        told = shop.pgsluice("sync", "--table", "s.t", "--deadline", wrong)
        assert (told.code, told.err) == (
            2,
            f"pgsluice: '{wrong}' is no time of day\nWrite HH:MM, for example 05:30.\n",
        )


def test_a_run_that_is_at_work_at_its_deadline_is_rolled_back_and_what_is_done_stays_done(
    shop: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.source.execute("CREATE TABLE s.u (id int PRIMARY KEY); INSERT INTO s.u VALUES (1)")
    assert shop.pgsluice("sync", "--table", "s.*").code == 0
    shop.source.execute("INSERT INTO s.t VALUES (2); INSERT INTO s.u VALUES (2)")
    monkeypatch.setattr(timetable, "seconds_to", lambda *_: 3.0)
    run = Run(Endpoint(shop.source.dsn, read_only=True), Endpoint(shop.target.dsn, read_only=False))
    with psycopg.connect(shop.target.dsn) as other:
        other.execute("LOCK TABLE s.u IN SHARE MODE")
        with pytest.raises(TemporaryError, match="05:30 has come"), ended_by("05:30"):
            run.sync(Selection(("s.t", "s.u")))
    assert (rows(shop), shop.target.value("SELECT count(*) FROM s.u")) == (2, 1)
    assert shop.target.staging_tables() == []
    assert shop.target.rows("SELECT status, done FROM pgsluice.runs ORDER BY started_at") == [
        ("done", 2),
        ("interrupted", 1),
    ]
    assert shop.pgsluice("sync", "--table", "s.*", "--resume", "last").code == 0
    assert shop.target.value("SELECT count(*) FROM s.u") == 2


def test_a_failure_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    codes: Iterator[int | Exception] = iter([0, ConnectError("gone"), 3, KeyboardInterrupt()])  # type: ignore[list-item]

    def once() -> int:
        found = next(codes)
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        repeated(60, once)
    told = capsys.readouterr().err
    assert "pgsluice: gone" in told
    assert [line.split()[3].strip(";") for line in told.splitlines() if "again in" in line] == ["0", "5", "3"]

    def misunderstood() -> int:
        raise UsageError("nothing")

    with pytest.raises(UsageError):
        repeated(60, misunderstood)


def test_what_is_for_once_is_not_for_every_time(shop: Pair) -> None:
    servers = ("--source", shop.source.dsn, "--target", shop.target.dsn)
    for once in (("--full-refresh",), ("--resume", "last")):
        done = run_cli("sync", *servers, "--table", "s.t", "--every", "15m", *once)
        assert (done.code, "are for once" in done.err) == (2, True)
    with psycopg.connect(shop.target.dsn) as connection:
        assert connection.execute("SELECT to_regnamespace('s') IS NULL").fetchone() == (True,)
