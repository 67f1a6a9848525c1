"""Two real servers for the session, two fresh databases for each test that asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Pair, database

from pgsluice.embedded import Cluster


@pytest.fixture(scope="session")
def source_cluster() -> Iterator[Cluster]:
    with Cluster(major=16, tcp=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def target_cluster() -> Iterator[Cluster]:
    with Cluster(major=18, tcp=True) as cluster:
        yield cluster


@pytest.fixture
def pair(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    with database(source_cluster) as source, database(target_cluster) as target:
        yield Pair(source, target)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the sweep of tests/faults did, in whatever processes it ran."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    swept = [value for report in reports for name, value in report.user_properties if name == "sweep"]
    if swept:
        failed, runs, seconds = map(sum, zip(*swept, strict=True))
        terminalreporter.write_line(f"sweep: {failed} operations failed, {runs} runs, {seconds:.0f} s of work")
