"""Slices copied on a Dask cluster: the same rows, the same clean-up, and no secret that travels."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from clusters import fill_in_slices
from distributed import Client, LocalCluster
from faulting import await_that
from servers import Pair

from pgsluice import Options, StagingKind, sync
from pgsluice.errors import UsageError
from pgsluice.events import Event, Retrying, StepStarted

ROWS = 20_000
SLOWLY = "id % 100 <> 0 OR pg_sleep(0.01) IS NOT NULL"
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %'"
REMOTE = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice % worker %' AND query LIKE 'COPY%' AND state = 'active'"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers, each a process of its own."""
    make: Any = LocalCluster  # which says nothing of its types
    with make(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL) as local:
        yield local


@pytest.fixture
def shop(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    fill_in_slices(pair, monkeypatch, ROWS)
    return pair


def copied(pair: Pair, cluster: LocalCluster, sink: Any = print, **more: Any) -> Any:
    address = cluster.scheduler_address.replace("tcp://", "dask://")
    options = Options(jobs=2, executor=address, **more.pop("options", {}))
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options, sinks=[sink], **more).tables
    return report


@pytest.mark.parametrize("kind", [StagingKind.PROMOTED, StagingKind.UNLOGGED])
def test_a_cluster_copies_what_threads_would(shop: Pair, cluster: LocalCluster, kind: StagingKind) -> None:
    report = copied(shop, cluster, options={"staging": kind})
    assert (report.status, report.slices > 4, report.source_count, report.error) == ("done", True, ROWS, None)
    assert shop.target.image("s.t") == shop.source.image("s.t")
    assert shop.target.value(OURS) == shop.source.value(OURS) == 0


class _During:
    """Does something once, as soon as slices are copied remotely."""

    def __init__(self, pair: Pair, action: Any) -> None:
        self.retried: list[Retrying] = []
        self._pair, self._action = pair, action
        self._thread = threading.Thread(target=self._act)

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepStarted) and event.step == "relay" and not self._thread.ident:
            self._thread.start()
        if isinstance(event, Retrying):
            self.retried.append(event)

    def _act(self) -> None:
        await_that(lambda: self._pair.target.value(REMOTE) > 0, "a slice to be copied remotely")
        self._action()

    def join(self) -> None:
        self._thread.join()


def test_a_worker_that_dies_costs_its_slice(shop: Pair, cluster: LocalCluster) -> None:
    def kill() -> None:
        with Client(cluster) as client:  # type: ignore[no-untyped-call]
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    during = _During(shop, kill)
    report = copied(shop, cluster, during, where=SLOWLY)
    during.join()
    assert (report.status, report.error) == ("done", None)
    assert shop.target.image("s.t") == shop.source.image("s.t")
    assert shop.target.staging_tables() == []


def test_a_slice_that_fails_for_good_ends_the_others_there(shop: Pair, cluster: LocalCluster) -> None:
    def cancel() -> None:
        await_that(
            lambda: bool(
                shop.target.rows(f"SELECT pg_cancel_backend(pid) FROM ({REMOTE.replace('count(*)', 'pid')} LIMIT 1) a")
            ),
            "one to be cancelled",
        )

    during = _During(shop, cancel)
    report = copied(shop, cluster, during, where=SLOWLY)
    during.join()
    assert (report.status, report.sqlstate, report.attempts) == ("failed", "57014", 1)
    assert shop.target.staging_tables() == []
    await_that(lambda: shop.target.value(OURS) == shop.source.value(OURS) == 0, "the remote sessions to end")


def test_no_password_travels_and_what_is_missing_is_named(shop: Pair, cluster: LocalCluster) -> None:
    with pytest.raises(UsageError, match="the password of the source would travel"):
        sync(
            shop.source.dsn.replace("postgres@", "postgres:hunter2@"), shop.target.dsn, "s.t",
            options=Options(executor=cluster.scheduler_address.replace("tcp://", "dask://")),
        )  # fmt: skip
    for name, reason in (("ray://x", "is not known"), ("dask://127.0.0.1:1", "no Dask scheduler answers")):
        with pytest.raises(UsageError, match=reason):
            sync(shop.source.dsn, shop.target.dsn, "s.t", options=Options(executor=name, connect_timeout=2))
    with pytest.raises(UsageError, match="a rate is kept by one process"):
        sync(shop.source.dsn, shop.target.dsn, "s.t", options=Options(executor="dask://x", max_rate=1))
