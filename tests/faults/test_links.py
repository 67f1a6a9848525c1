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

import pytest
from proxying import Fault, Proxy, Towards
from servers import Database, Pair
from sweeping import REPLAY, SECRET, Ending, Runs, Sweep, Swept, carry_out, pair_on, replayed

from pgsluice.embedded import Cluster

#: Bytes a way, link and direction are broken at: a few of them with every test, all by ``make test-faults``.
POINTS = int(os.environ.get("PGSLUICE_LINK_POINTS", "2"))
POINTS_OF_SWEEP = int(os.environ.get("PGSLUICE_LINK_POINTS", "12"))

IMPATIENT = ("--stall-timeout", "1", "--connect-timeout", "2")
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
        super().__init__(way, pair, runs, folder, way=WAYS[way], link=self._through)
        self.reset()
        for proxy in proxies.values():
            proxy.heal()
        self.run()
        self.bytes = {side: dict(proxy.bytes) for side, proxy in proxies.items()}

    def _through(self, database: Database) -> str:
        port = self._proxies[database.name].port
        return f"postgresql://mover:{SECRET}@127.0.0.1:{port}/{database.name}?sslmode=disable"

    def case(self, n: int, action: str) -> tuple[Ending, list[str]]:
        """Break the link at a byte for the connection that it belongs to, look, run once more, look again."""
        side, towards, fault = action.split(".")
        proxy = self._proxies[side]

        def broken() -> Ending:
            proxy.arm(Fault[fault], n, Towards[towards])
            ending = self.run(0, "", *IMPATIENT)
            struck = proxy.strikes
            proxy.heal()
            return dataclasses.replace(ending, operation=f"byte {n}, struck {struck} times")

        return self.examined(broken, lambda _: "passing")

    def points(self, count: int, faults: tuple[Fault, ...]) -> Iterator[tuple[str, int]]:
        """Choose bytes, evenly from a random one on; each meets one of the faults, in turn."""
        seed = random.randrange(1 << 32)
        print(f"seed {seed}, bytes {self.bytes}")
        chance = random.Random(seed)
        turn = itertools.cycle(chance.sample(faults, len(faults)))
        for side, towards in itertools.product(("source", "target"), Towards):
            stride = self.bytes[side][towards] // count
            for n in range(chance.randrange(stride), stride * count, stride):
                yield f"{side}.{towards.name}.{next(turn).name}", n


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
