"""Whatever a network does to a link, at whatever byte: the target is old or new, and what passes is waited for.

Each case names link, direction, fault and byte, counted over all connections of the link, and is run again by that
name: ``PGSLUICE_SWEEP=psql-unlogged/target.SERVER.RESET/4711 pytest tests/faults/test_links.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulting import At, await_that
from proxying import Fault, Proxy, Towards, proxied
from servers import Database, Pair, run_cli
from sweeping import (
    MODES,
    NO_FAULTS,
    REPLAY,
    SECRET,
    Ending,
    Faults,
    Runs,
    Sweep,
    Swept,
    carry_out,
    pair_on,
    replayed,
)

from pgsluice import Lane, Options, StagingKind, TableReport, sync
from pgsluice.embedded import Cluster
from pgsluice.events import Event, Retrying, Sink, Warned
from pgsluice.sinks.recorder import Recorder

#: Bytes a way, link and direction are broken at: a few of them with every test, all by ``make test-faults``.
POINTS = int(os.environ.get("PGSLUICE_LINK_POINTS", "1"))
POINTS_OF_SWEEP = int(os.environ.get("PGSLUICE_LINK_POINTS", "12"))

IMPATIENT = ("--stall-timeout", "0.5", "--connect-timeout", "2")
SHORT = (*IMPATIENT, "--retries", "2", "--retry-for", "5")
WAYS = {
    f"{lane}-{staging}": Swept(("--table", "s.t", "--lane", lane, "--staging", staging), repeats=4)
    for lane in ("psql", "libpq")
    for staging in ("unlogged", "temporary")
}
BREAKS = (Fault.CUT, Fault.RESET, Fault.BLACK_HOLE)


class Links(Sweep):
    """A way of syncing over links that can be broken."""

    def __init__(self, way: str, pair: Pair, runs: Runs, folder: Path, proxies: dict[str, Proxy]) -> None:
        self._proxies = proxies
        super().__init__(way, pair, runs, folder, way={**MODES, **WAYS}[way], link=self._through)
        self.reset()
        for proxy in proxies.values():
            proxy.heal()
        self.run()
        self.bytes = {side: dict(proxy.bytes) for side, proxy in proxies.items()}
        self.commits = {side: proxy.commits for side, proxy in proxies.items()}

    def _through(self, database: Database) -> str:
        port = self._proxies[database.name].port
        return f"postgresql://mover:{SECRET}@127.0.0.1:{port}/{database.name}?sslmode=disable"

    def case(self, faults: Faults) -> tuple[Ending, list[str]]:
        """Break the link at a byte, or a COMMIT, look, run once more, look again.

        It is broken for the connection that comes to it, or for all from there on until the run has ended.
        """
        ((n, action),) = faults.items()
        side, towards, fault, *lasting = action.split(".")
        proxy = self._proxies[side]
        never: list[str] = []

        def broken() -> Ending:
            nonlocal never
            proxy.arm(Fault[fault], n, Towards[towards], every=bool(lasting))
            ending = self.run(NO_FAULTS, *(SHORT if lasting else IMPATIENT))
            struck = proxy.strikes
            proxy.heal()
            never = [] if struck else ["the run ended before it"]
            return dataclasses.replace(ending, operations=(f"{action} at {n}",))

        ending, wrong = self.examined(broken, lambda _: ["lasting" if lasting else "passing"])
        return ending, [*never, *wrong]

    def points(self, count: int, faults: tuple[Fault, ...]) -> Iterator[Faults]:
        """Choose bytes, evenly from a random one on; each meets one of the faults, in turn."""
        seed = random.randrange(1 << 32)
        print(f"seed {seed}, bytes {self.bytes}")
        chance = random.Random(seed)
        turn = itertools.cycle(chance.sample(faults, len(faults)))
        for side, towards in itertools.product(("source", "target"), Towards):
            stride = self.bytes[side][towards] * 98 // 100 // count  # the number of bytes is not always quite the same
            for n in range(chance.randrange(stride), stride * count, stride):
                yield {n: f"{side}.{towards.name}.{next(turn).name}"}


Linking = Callable[[str], contextlib.AbstractContextManager[Links]]


@pytest.fixture(scope="module")
def linking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linking]:
    settings = {"autovacuum": "off"}
    with (
        Cluster(major=16, tcp=True, settings=settings) as source,
        Cluster(major=18, tcp=True, settings=settings) as target,
        Proxy("127.0.0.1", source.port) as to_source,
        Proxy("127.0.0.1", target.port) as to_target,
        Runs() as runs,
    ):

        @contextlib.contextmanager
        def linked(way: str) -> Iterator[Links]:
            with pair_on(source, target) as pair:
                yield Links(way, pair, runs, tmp_path_factory.mktemp(way), {"source": to_source, "target": to_target})

        yield linked


@pytest.mark.parametrize("way", WAYS)
def test_a_link_that_breaks_at_any_byte_leaves_old_or_new_and_the_run_goes_on(
    linking: Linking, way: str, record_property: Callable[[str, object], None]
) -> None:
    if REPLAY and not REPLAY.startswith(f"{way}/"):
        pytest.skip(f"{REPLAY} is another one")
    with linking(way) as links:
        carry_out(links, replayed() if REPLAY else links.points(POINTS, BREAKS), record_property)


@pytest.mark.sweep
@pytest.mark.timeout(2700)
@pytest.mark.parametrize("fault", BREAKS)
@pytest.mark.parametrize("way", WAYS)
def test_a_link_may_break_at_many_bytes_in_every_way(
    linking: Linking, way: str, fault: Fault, record_property: Callable[[str, object], None]
) -> None:
    with linking(way) as links:
        carry_out(links, links.points(POINTS_OF_SWEEP, (fault,)), record_property)


def test_any_commit_of_a_first_run_may_be_lost_or_its_reply(
    linking: Linking, record_property: Callable[[str, object], None]
) -> None:
    """A first run that promotes has six: our schema, the staging table, its rows, its keys, the merge, the cleanup."""
    with linking("new") as links:
        assert links.commits == {"source": 0, "target": 6}
        faults = (Fault.COMMIT_BEFORE, Fault.COMMIT_AFTER)
        cases = [{k: f"target.SERVER.{fault.name}"} for fault in faults for k in range(1, 7)]
        carry_out(links, cases, record_property)


DEAD = [
    ("source", Towards.CLIENT, Fault.RESET),
    ("target", Towards.SERVER, Fault.RESET),
    *(
        pytest.param(side, towards, Fault.BLACK_HOLE, marks=pytest.mark.sweep)
        for side in ("source", "target")
        for towards in Towards
    ),
]


@pytest.mark.parametrize(("side", "towards", "fault"), DEAD)
def test_a_link_that_stays_dead_ends_the_run_as_worth_trying_later(
    linking: Linking, side: str, towards: Towards, fault: Fault, record_property: Callable[[str, object], None]
) -> None:
    with linking(random.choice(list(WAYS))) as links:
        case = {links.bytes[side][towards] // 2: f"{side}.{towards.name}.{fault.name}.lasting"}
        carry_out(links, [case], record_property)


# --- one case at a time ----------------------------------------------------------------------------------------------


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int NOT NULL DEFAULT 1, filler text);
        INSERT INTO s.t SELECT i, 1, repeat('x', 200) FROM generate_series(1, 500) i"""
    )
    return pair


def copied(source: str, target: str, *sinks: Sink, mode: str = "full", **options: Any) -> TableReport:
    patience = {"stall_timeout": 1, "connect_timeout": 2, "lock_timeout": 5, **options}
    (report,) = sync(source, target, "s.t", mode=mode, sinks=sinks, options=Options(**patience)).tables
    return report


@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.TEMPORARY])
@pytest.mark.parametrize("retries", [0, 5])
def test_a_commit_that_never_arrived_is_proven_rolled_back_and_tried_again(
    shop: Pair, staging: StagingKind, retries: int
) -> None:
    shop.source.execute("ALTER TABLE s.t DROP CONSTRAINT t_pkey")
    with proxied(shop.target) as (proxy, dsn):
        losing = At("commit", lambda: proxy.arm(Fault.COMMIT_BEFORE, 1))
        report = copied(shop.source.dsn, dsn, losing, mode="append", staging=staging, retries=retries)
        assert proxy.strikes == 1
    if retries:
        assert (report.status, report.inserted, report.attempts) == ("done", 500, 2)
    else:
        assert (report.status, report.exit_code, report.step) == ("failed", 5, "commit")
        assert "the target proves that it was rolled back" in str(report.error)
        assert shop.target.value("SELECT to_regclass('s.t') IS NULL")
        assert copied(shop.source.dsn, shop.target.dsn, mode="append").inserted == 500
    assert shop.target.image("s.t") == shop.source.image("s.t")
    assert shop.target.staging_tables() == []


@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.TEMPORARY])
@pytest.mark.parametrize("retries", [0, 5])
def test_a_commit_whose_reply_was_lost_is_proven_committed_and_appends_rows_once(
    shop: Pair, staging: StagingKind, retries: int
) -> None:
    shop.source.execute("ALTER TABLE s.t DROP CONSTRAINT t_pkey")
    recorder = Recorder()
    with proxied(shop.target) as (proxy, dsn):
        losing = At("commit", lambda: proxy.arm(Fault.COMMIT_AFTER, 1))
        report = copied(shop.source.dsn, dsn, losing, recorder, mode="append", staging=staging, retries=retries)
        assert proxy.strikes == 1
    assert (report.status, report.inserted, report.attempts) == ("done", 500, 1)
    assert ["the target proves that it was committed" in event.message for event in recorder.of(Warned)] == [True]
    assert shop.target.image("s.t") == shop.source.image("s.t")
    assert copied(shop.source.dsn, shop.target.dsn, mode="append").inserted == 0
    assert shop.target.image("s.t") == shop.source.image("s.t")


@pytest.mark.parametrize(("fault", "told"), [(Fault.COMMIT_BEFORE, "failed"), (Fault.COMMIT_AFTER, "done")])
def test_tables_that_commit_together_are_all_proven_by_one_commit(shop: Pair, fault: Fault, told: str) -> None:
    tied = "CREATE TABLE s.child (id int PRIMARY KEY REFERENCES s.t, v int DEFAULT 0)"
    assert sync(shop.source.dsn, shop.target.dsn, "s.t").exit_code == 0
    for server in (shop.source, shop.target):
        server.execute(tied)
    shop.source.execute("INSERT INTO s.child SELECT id FROM s.t LIMIT 50")
    with proxied(shop.target) as (proxy, dsn):
        losing = At("commit", lambda: proxy.arm(fault, 1))
        report = sync(
            shop.source.dsn, dsn, "s.t", "s.child", sinks=[losing], options=Options(retries=0, stall_timeout=5)
        )
        assert proxy.strikes == 1
    assert {table.status for table in report.tables} == {told}
    assert shop.target.value("SELECT count(*) FROM s.child") == (50 if told == "done" else 0)
    assert sync(shop.source.dsn, shop.target.dsn, "s.t", "s.child").exit_code == 0
    assert shop.target.value("SELECT count(*) FROM s.child") == 50


UNANSWERED = [
    (0, True, Fault.RESET),
    (5, False, Fault.RESET),
    *(
        pytest.param(retries, arrives, Fault.BLACK_HOLE, marks=pytest.mark.sweep)
        for retries in (0, 5)
        for arrives in (False, True)
    ),
]


@pytest.mark.parametrize(("retries", "arrives", "fault"), UNANSWERED)
def test_where_nobody_can_be_asked_what_became_of_a_commit_it_is_asked_again_or_said_so(
    shop: Pair, retries: int, arrives: bool, fault: Fault
) -> None:
    """From COMMIT on, or from its reply on, the link is dead, for new connections too, until somebody mends it."""
    shop.source.execute("ALTER TABLE s.t DROP CONSTRAINT t_pkey")
    lost = Towards.CLIENT if arrives else Towards.SERVER
    recorder = Recorder()
    with proxied(shop.target) as (proxy, dsn):

        def mend(event: Event) -> None:
            if isinstance(event, Retrying):
                proxy.heal()

        losing = At("commit", lambda: proxy.arm(fault, 0, lost, every=True))
        report = copied(shop.source.dsn, dsn, losing, mend, recorder, mode="append", retries=retries)
    assert report.attempts == 1 + len(recorder.of(Retrying)) == 1 + bool(retries)
    if retries:
        assert (report.status, report.inserted) == ("done", 500)
    else:
        assert (report.status, report.exit_code, report.step) == ("failed", 5, "commit")
        assert "the target can't be asked" in str(report.error)
        assert "is listed as done if it was committed" in str(report.hint)
        history = run_cli("status", "--target", shop.target.dsn, "--json").out
        assert ('"done"' in history) == arrives, history
        assert copied(shop.source.dsn, shop.target.dsn, mode="append").inserted == (0 if arrives else 500)
    assert shop.target.image("s.t") == shop.source.image("s.t")


SILENT = [
    ("source", Lane.PSQL),
    ("target", Lane.LIBPQ),
    pytest.param("source", Lane.LIBPQ, marks=pytest.mark.sweep),
    pytest.param("target", Lane.PSQL, marks=pytest.mark.sweep),
]


@pytest.mark.parametrize(("side", "lane"), SILENT)
def test_a_long_copy_that_falls_silent_is_cut_off_and_begun_again(shop: Pair, side: str, lane: Lane) -> None:
    """Far more is under way than any buffer on the way holds, so that each side waits for the next."""
    shop.source.execute(
        "UPDATE s.t SET filler = (SELECT string_agg(md5(i::text || id), '') FROM generate_series(1, 1000) i)"
    )
    with proxied(getattr(shop, side)) as (proxy, dsn):
        ends = {"source": shop.source.dsn, "target": shop.target.dsn, side: dsn}
        proxy.arm(Fault.BLACK_HOLE, 4 << 20, Towards.CLIENT if side == "source" else Towards.SERVER)
        recorder = Recorder()
        report = copied(ends["source"], ends["target"], recorder, lane=lane)
        assert proxy.strikes == 1
        assert report.status == "done", report.error
        (retrying,) = recorder.of(Retrying)
        assert retrying.step == "relay"
        assert "nothing came for 1 s" in retrying.reason
        for database in (shop.source, shop.target):
            await_that(lambda: ours(database) == [], "its sessions to go, though the link never says so")  # noqa: B023
    assert shop.target.image("s.t") == shop.source.image("s.t")
    assert shop.target.staging_tables() == []


def ours(database: Database) -> list[tuple[str]]:
    return database.rows("SELECT query FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %'")
