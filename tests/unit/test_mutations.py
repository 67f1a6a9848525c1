"""The mutations still fit the code; whether tests notice them is seen by ``make test-mutation``."""

from __future__ import annotations

import subprocess
import sys

import pytest
from mutations import CONTROL, MUTATIONS, PACKAGE, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_anchor_of_a_mutation_stands_exactly_once_in_the_code(mutation: Mutation) -> None:
    text = (PACKAGE / mutation.file).read_text("utf-8")
    assert mutation.applied(text) != text


@pytest.mark.parametrize("text", ["", "that and that"])
def test_an_anchor_that_stands_not_once_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"stands [02] times in a file"):
        Mutation("a thing", "a file", "that", "", "nothing", ()).applied(text)


def test_a_mutation_has_a_name_of_its_own_and_tests() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert all(mutation.tests for mutation in MUTATIONS)


def test_the_tests_of_the_mutations_exist() -> None:
    tests = {test for mutation in MUTATIONS for test in mutation.tests} | {CONTROL}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:randomly", *sorted(tests)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(done.stdout.splitlines()) >= tests
