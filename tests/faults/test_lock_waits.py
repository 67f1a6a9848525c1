"""A run that waits for a lock behind somebody idle lets others through meanwhile."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Self

import psycopg
import pytest
from faulting import At, await_that
from servers import Pair

from pgsluice import Options, TableReport, sync
from pgsluice.events import Sink
from pgsluice.job import StagingKind, Strategy

#: Of the time in which a run tries to get a lock, as docs/replacing.md has it; the last second is one try.
MOST = 0.35


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int); INSERT INTO s.t VALUES (1, 1)")
    assert sync(pair.source.dsn, pair.target.dsn, "s.t").exit_code == 0
    pair.source.execute("UPDATE s.t SET v = 2")
    return pair


def copied(pair: Pair, strategy: Strategy, seconds: float, *sinks: Sink) -> TableReport:
    options = Options(strategy=strategy, lock_timeout=seconds, retries=0)
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options, sinks=sinks).tables
    return report


class Others:
    """Others who come all the time while somebody holds a lock, and whether each would have to wait."""

    def __init__(self, pair: Pair, mode: str) -> None:
        self._dsn, self._mode = pair.target.dsn, mode
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._come)
        self.found: Counter[bool] = Counter()

    def _come(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as other:
            while not self._over.wait(0.01):
                try:
                    other.execute(f"BEGIN; LOCK TABLE s.t IN {self._mode} MODE NOWAIT; COMMIT")
                    self.found[False] += 1
                except psycopg.errors.LockNotAvailable:
                    other.execute("ROLLBACK")
                    self.found[True] += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


WAYS = [(Strategy.SWAP, "ACCESS SHARE"), (Strategy.COPY, "ROW EXCLUSIVE")]


@pytest.mark.parametrize(("strategy", "mode"), WAYS, ids=["readers behind a swap", "writers behind a merge"])
def test_others_come_through_while_somebody_idle_is_in_the_way(shop: Pair, strategy: Strategy, mode: str) -> None:
    with psycopg.connect(shop.target.dsn, application_name="the culprit") as idle:
        idle.execute(f"LOCK TABLE s.t IN {mode} MODE")
        with Others(shop, mode) as others:
            report = copied(shop, strategy, 10, At("merge", others.found.clear))
    assert (report.status, report.sqlstate) == ("failed", "55P03")
    assert "held by pid" in str(report.error)
    assert "the culprit" in str(report.error)
    waited, through = others.found[True], others.found[False]
    print(f"{waited / (waited + through):.0%} of the time others had to wait")  # -rP shows it
    assert waited > 0, "the lock was waited for"
    assert waited / (waited + through) < MOST, f"{waited} of {waited + through} had to wait"
    assert shop.target.rows("SELECT * FROM s.t") == [(1, 1)]


@pytest.mark.parametrize(("strategy", "mode"), WAYS, ids=["swap", "merge"])
def test_a_lock_is_got_once_nobody_is_in_the_way_any_more(shop: Pair, strategy: Strategy, mode: str) -> None:
    """Whoever was idle leaves after others have come through between two tries."""
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 's.t'::regclass AND NOT granted"
    with psycopg.connect(shop.target.dsn) as idle:
        idle.execute(f"LOCK TABLE s.t IN {mode} MODE")

        def leave() -> None:
            for _ in range(2):
                await_that(lambda: shop.target.value(waiting) > 0, "the run to wait")
                await_that(lambda: shop.target.value(waiting) == 0, "the run to let others through")
            idle.rollback()

        leaving = threading.Thread(target=leave)
        report = copied(shop, strategy, 60, At("merge", leaving.start))
        leaving.join()
    assert (report.status, report.attempts) == ("done", 1)
    assert shop.target.rows("SELECT * FROM s.t") == [(1, 2)]


#: What somebody creates and does not commit, where a run wants to create the same.
IN_THE_WAY = {
    "the control schema": "CREATE SCHEMA pgsluice",
    "the target's schema": "CREATE SCHEMA fresh",
    "the target": "CREATE TABLE public.fresh (id int)",
}


@pytest.mark.parametrize("staging", [*StagingKind])
@pytest.mark.parametrize("what", IN_THE_WAY)
def test_who_creates_the_same_and_does_not_commit_is_named(pair: Pair, what: str, staging: StagingKind) -> None:
    pair.source.execute("CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1)")
    to = "public.fresh" if what == "the target" else "fresh.t"
    options = ("--lock-timeout", "1", "--retries", "0", "--staging", staging.value)
    waited = "what another session has not committed was not to be had; held by pid {} (postgres, the other one"
    with psycopg.connect(pair.target.dsn, application_name="the other one") as other:
        other.execute(IN_THE_WAY[what])
        told = pair.pgsluice("sync", "--table", "public.t", "--to", to, *options)
        assert told.code == 5, told
        assert waited.format(other.info.backend_pid) in told.out + told.err
        other.rollback()
    assert pair.pgsluice("sync", "--table", "public.t", "--to", to).code == 0
    assert pair.target.image(to) == ["(1)"]
