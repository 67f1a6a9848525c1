"""Whatever operation of a run fails, and however: the target is old or new, and the next run needs no hand work.

A part of the sweep runs with every test, at other places each time; the whole of it by ``make test-faults``. One case is
run again by its name: ``PGSLUICE_SWEEP=full/cut/17 pytest tests/faults/test_sweep.py``.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator

import pytest
from sweeping import ACTIONS, MODES, REPLAY, Faults, Runs, Sweep, carry_out, pair_on, replayed

from pgsluice.embedded import Cluster

STRIDE = 41
PAIRS = 2

Record = Callable[[str, object], None]
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
    sweeping: Sweeping, mode: str, record_property: Record
) -> None:
    if REPLAY and not REPLAY.startswith(f"{mode}/"):
        pytest.skip(f"{REPLAY} is another one")
    with sweeping(mode) as sweep:
        carry_out(sweep, replayed() if REPLAY else strided(sweep.total), record_property)


def seeded() -> random.Random:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def strided(total: int) -> Iterator[Faults]:
    chance = seeded()
    for action in ACTIONS:
        for n in range(chance.randint(1, STRIDE), total + 1, STRIDE):
            yield {n: action}


@pytest.mark.sweep
@pytest.mark.timeout(2700)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_each_operation_of_a_run_may_fail_until_a_run_ends_untouched(
    sweeping: Sweeping, mode: str, action: str, record_property: Record
) -> None:
    with sweeping(mode) as sweep:
        last = carry_out(sweep, ({n: action} for n in itertools.count(1)), record_property)
    assert last is not None
    assert not last.operations, "the last run was touched"
    assert last.total, "a run without an operation"


@pytest.mark.sweep
@pytest.mark.timeout(2700)
@pytest.mark.parametrize("mode", MODES)
def test_two_operations_may_fail_the_second_on_the_way_back_from_the_first(
    sweeping: Sweeping, mode: str, record_property: Record
) -> None:
    with sweeping(mode) as sweep:
        carry_out(sweep, pairs(sweep.total), record_property)


def pairs(total: int) -> Iterator[Faults]:
    chance = seeded()
    for action, other in itertools.product(set(ACTIONS) - {"kill_self"}, repeat=2):
        for _ in range(PAIRS):
            first = chance.randint(1, total)
            yield {first: action, first + chance.randint(1, 12): other}
