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
