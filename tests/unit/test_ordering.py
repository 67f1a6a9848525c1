"""Things come behind what they lean on, however many there are and however they lean."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgsluice import ordering
from pgsluice.facts import ForeignKey
from pgsluice.job import Mode, SyncJob, TableRef
from pgsluice.prepare import _parents_first, _tied

LONG = 1500


@given(st.dictionaries(st.integers(0, 20), st.lists(st.integers(0, 20)), max_size=20))
def test_each_thing_comes_once_and_behind_what_it_leans_on(leaning: dict[int, list[int]]) -> None:
    ordered = ordering.behind(leaning, lambda thing: [other for other in leaning.get(thing, ()) if other < thing])
    assert len(ordered) == len(set(ordered))
    assert set(leaning) <= set(ordered)
    for thing in ordered:
        assert all(ordered.index(other) < ordered.index(thing) for other in leaning.get(thing, ()) if other < thing)


def test_a_circle_ends() -> None:
    assert ordering.behind([1, 2, 3], {1: [2], 2: [3], 3: [1]}.__getitem__) == [3, 2, 1]


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("is_circle", [False, True])
def test_tables_that_refer_to_each_other_in_a_long_chain_are_ordered_and_tied(
    deferrable: bool,
    is_circle: bool,
) -> None:
    refs = [TableRef("s", f"t{number:04}") for number in range(LONG)]
    pairs = list(pairwise(refs)) + ([(refs[-1], refs[0])] if is_circle else [])
    keys = [ForeignKey(child, parent, deferrable=deferrable) for child, parent in pairs]
    jobs = [SyncJob(ref, ref, mode=Mode.FULL) for ref in refs]
    ordered = _parents_first(jobs, keys)
    assert sorted(job.target for job in ordered) == refs
    if not is_circle:
        assert ordered == jobs[::-1]
    (group,) = _tied(ordered, keys)
    assert group == tuple(ordered)


def test_tables_that_nothing_ties_stay_as_they_came() -> None:
    refs = [TableRef("s", f"t{number}") for number in range(LONG)]
    random.Random(1).shuffle(refs)
    jobs = [SyncJob(ref, ref, mode=Mode.FULL) for ref in refs]
    assert _tied(_parents_first(jobs, []), []) == tuple((job,) for job in jobs)
