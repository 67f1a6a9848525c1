"""Whatever operation of a run fails, and however: the target is old or new, and the next run needs no hand work.

A part of the sweep runs with every test, at other places each time; the whole of it by ``make test-faults``. One case is
run again by its name: ``PGSLUICE_SWEEP=full/cut/17 pytest tests/faults/test_sweep.py``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from sweeping import ACTIONS, MODES, Ending, Runs, Sweep, pair_on

from pgsluice.embedded import Cluster

REPLAY = os.environ.get("PGSLUICE_SWEEP", "")
STRIDE = 41
SHOWN = 10

Sweeping = Callable[[str], contextlib.AbstractContextManager[Sweep]]


@pytest.fixture(scope="module")
def sweeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweeping]:
    """Servers of this module's own, for one kill -9 takes every session of a server down."""
    settings = {"autovacuum": "off"}
    with Cluster(major=16, settings=settings) as source, Cluster(major=18, settings=settings) as target, Runs() as runs:

        @contextlib.contextmanager
        def swept(mode: str) -> Iterator[Sweep]:
            with pair_on(source, target) as pair:
                yield Sweep(mode, pair, runs, tmp_path_factory.mktemp(mode))

        yield swept


@pytest.mark.parametrize("mode", MODES)
def test_a_run_of_which_any_operation_fails_leaves_old_or_new_and_the_next_one_ends_it(
    sweeping: Sweeping, mode: str, record_property: Callable[[str, object], None]
) -> None:
    if REPLAY and not REPLAY.startswith(f"{mode}/"):
        pytest.skip(f"{REPLAY} is another one")
    with sweeping(mode) as sweep:
        carry_out(sweep, replayed() if REPLAY else strided(sweep.total), record_property)


def replayed() -> Iterator[tuple[str, int]]:
    _, action, n = REPLAY.split("/")
    yield action, int(n)


def strided(total: int) -> Iterator[tuple[str, int]]:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for action in ACTIONS:
        for n in range(chance.randint(1, STRIDE), total + 1, STRIDE):
            yield action, n


@pytest.mark.sweep
@pytest.mark.timeout(2700)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_each_operation_of_a_run_may_fail_until_a_run_ends_untouched(
    sweeping: Sweeping, mode: str, action: str, record_property: Callable[[str, object], None]
) -> None:
    with sweeping(mode) as sweep:
        last = carry_out(sweep, ((action, n) for n in itertools.count(1)), record_property)
    assert last is not None
    assert last.operation is None, "the last run was touched"
    assert last.total, "a run without an operation"


def carry_out(
    sweep: Sweep, cases: Iterable[tuple[str, int]], record_property: Callable[[str, object], None]
) -> Ending | None:
    """Run the cases, up to the first with fewer operations; fail with all that is wrong, each with how to repeat it."""
    started, failed, found, ending = time.monotonic(), 0, [], None
    for action, n in cases:
        ending, faults = sweep.case(n, action)
        if faults:
            found.append(told(f"{sweep.mode}/{action}/{n}", ending, faults))
        if ending.operation is None:
            break
        failed += 1
    record_property("sweep", (failed, sweep.runs, time.monotonic() - started))
    if found:
        pytest.fail("\n\n".join([f"{len(found)} of {failed} cases went wrong", *found[:SHOWN]]), pytrace=False)
    return ending


def told(name: str, ending: Ending, faults: list[str]) -> str:
    lines = [f"PGSLUICE_SWEEP={name}", f"failed at: {ending.operation}", *faults]
    return "\n  ".join(lines) + f"\n{ending.out[-3000:]}\n{ending.err[-3000:]}"
