"""What a worker on another machine answers: as plain text, and refused where it is anything else."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from pgsluice import answers, errors
from pgsluice.errors import PgsluiceError, StepError
from pgsluice.job import TableRef
from pgsluice.model import StagedData, StagingTable

STAGED = StagedData(
    staging=StagingTable(TableRef("pgsluice", "staging_1"), TableRef("s", "t"), (), "run"),
    source="s.t",
    source_count=-1,
    staging_count=7,
    bytes=1 << 40,
    seconds=0.5,
    lane="psql",
    psql_peak_bytes=3,
    where="id > 1",
)
NUMBERS = {
    "source_count": -1,
    "staging_count": 7,
    "bytes": 1 << 40,
    "seconds": 0.5,
    "lane": "psql",
    "psql_peak_bytes": 3,
}
FAILED = {"kind": "StepError", "message": "no", "hint": "", "step": "relay", "table": None, "sqlstate": "42501"}


def read(text: str) -> StagedData:
    return answers.staged_by(text, STAGED.staging, STAGED.source, STAGED.where)


def raising(error: Exception) -> Any:
    def copy() -> StagedData:
        raise error

    return copy


def test_an_answer_holds_numbers_alone_and_where_they_belong_is_what_was_asked_for() -> None:
    text = answers.answer(lambda: STAGED)
    assert json.loads(text) == NUMBERS
    assert read(text) == STAGED


@pytest.mark.parametrize("kind", [errors.StepError, errors.TemporaryError, errors.LimitError, errors.LoginError])
def test_a_failure_arrives_as_it_was(kind: type[PgsluiceError]) -> None:
    failure = kind("it is full", hint="make room", step="relay", table="s.t", sqlstate="53100")
    with pytest.raises(kind) as raised:
        read(answers.answer(raising(failure)))
    assert type(raised.value) is kind
    assert vars(raised.value) == vars(failure)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.StagingLostError("gone"), errors.RefusedError),
        (psycopg.OperationalError("cut"), errors.StepError),
        (RuntimeError("x" * 100_000), errors.StepError),
    ],
)
def test_whatever_else_is_raised_arrives_as_the_nearest_kind(error: Exception, kind: type[PgsluiceError]) -> None:
    text = answers.answer(raising(error))
    assert len(text) < answers.MOST_CHARACTERS
    with pytest.raises(kind, match=str(error)[:100]) as raised:
        read(text)
    assert type(raised.value) is kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "7",
        "[]",
        "{}",
        "not JSON",
        "[" * 30_000,
        " " * (answers.MOST_CHARACTERS + 1) + json.dumps(NUMBERS),
        *(
            json.dumps(NUMBERS | wrong)
            for wrong in (
                {"more": 1},
                {"staging": "s.other"},
                {"staging_count": "7"},
                {"staging_count": 7.0},
                {"staging_count": True},
                {"staging_count": -1},
                {"staging_count": None},
                {"source_count": -2},
                {"bytes": 1 << 63},
                {"seconds": float("nan")},
                {"seconds": float("inf")},
                {"seconds": "1"},
                {"lane": "ssh"},
                {"kind": "StepError"},
            )
        ),
        *(json.dumps({name: value for name, value in NUMBERS.items() if name != left}) for left in NUMBERS),
        *(
            json.dumps(FAILED | wrong)
            for wrong in (
                {"kind": "SystemExit"},
                {"kind": "CommitUnknownError"},
                {"exit_code": 0},
                {"message": "x" * 5_000},
                {"sqlstate": "42501\n"},
                {"sqlstate": 42501},
                {"step": ["relay"]},
            )
        ),
    ],
)
def test_an_answer_that_is_none_of_ours_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(StepError, match="not one that pgsluice gives") as raised:
        read(text)
    assert raised.value.__context__ is None
    assert len(str(raised.value)) < 300


def test_what_is_refused_differs_from_what_is_taken_by_that_alone() -> None:
    assert read(json.dumps(NUMBERS)) == STAGED
    with pytest.raises(StepError, match="no"):
        read(json.dumps(FAILED))
