"""Two real servers for the session, two fresh databases for each test that asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fidelitypage
import pytest
from faulting import ROWS
from servers import Pair, database

from pgsluice import sync
from pgsluice.embedded import Cluster, binaries_in


@pytest.fixture(scope="session")
def source_cluster() -> Iterator[Cluster]:
    with Cluster(major=16, tcp=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def target_cluster() -> Iterator[Cluster]:
    """Give the newest major, or whatever is in the folder that PGSLUICE_TARGET_BINARIES names."""
    folder = os.environ.get("PGSLUICE_TARGET_BINARIES")
    chosen = binaries_in(Path(folder)) if folder else None
    with Cluster(chosen.major if chosen else 18, pg_bin=chosen.bin if chosen else None, tcp=True) as cluster:
        yield cluster


@pytest.fixture
def pair(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    with database(source_cluster) as source, database(target_cluster) as target:
        yield Pair(source, target)


@pytest.fixture(scope="module")
def own_target() -> Iterator[Cluster]:
    """A target of a module's own: it can be stopped, and one kill -9 takes every session of a server down."""
    with Cluster(major=18) as cluster:
        yield cluster


@pytest.fixture
def shop(source_cluster: Cluster, own_target: Cluster) -> Iterator[Pair]:
    """Give a table whose rows have all changed since its first sync."""
    with database(source_cluster) as source, database(own_target) as target:
        source.execute(
            f"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, version int NOT NULL);
            INSERT INTO s.t SELECT i, 1 FROM generate_series(1, {ROWS}) i;"""
        )
        assert sync(source.dsn, target.dsn, "s.t").exit_code == 0
        source.execute("UPDATE s.t SET version = 2")
        yield Pair(source, target)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the sweep of tests/faults and the matrix of versions did, in whatever processes they ran."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    swept = [value for report in reports for name, value in report.user_properties if name == "sweep"]
    if swept:
        failed, runs, seconds = map(sum, zip(*swept, strict=True))
        terminalreporter.write_line(f"sweep: {failed} operations failed, {runs} runs, {seconds:.0f} s of work")
    if pairings := fidelitypage.summary(reports):
        terminalreporter.write_line(pairings)
