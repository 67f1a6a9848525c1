"""The one answer to "can trying again help?"."""

from __future__ import annotations

import inspect

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.pq import DiagnosticField

from pgsluice.errors import StepError, TemporaryError
from pgsluice.retry import Answer, classify, step_error, translated

DRIVER = [getattr(kind, "sqlstate", None) for _, kind in inspect.getmembers(psycopg.errors, inspect.isclass)]
KNOWN = sorted({state for state in DRIVER if isinstance(state, str)})


def test_the_driver_knows_the_servers_codes() -> None:
    assert len(KNOWN) > 200


@pytest.mark.parametrize("sqlstate", [None, *KNOWN])
def test_every_code_has_an_answer_and_only_a_commit_can_be_unknown(sqlstate: str | None) -> None:
    assert classify(sqlstate, "relay") in {Answer.LATER, Answer.PERSON}
    assert isinstance(classify(sqlstate, "commit"), Answer)


@given(st.text(max_size=5), st.sampled_from(["staging", "relay", "merge", "commit", "cleanup", ""]))
def test_a_code_nobody_has_heard_of_has_an_answer_too(sqlstate: str, step: str) -> None:
    assert isinstance(classify(sqlstate, step), Answer)


@pytest.mark.parametrize(
    ("sqlstate", "relay", "commit"),
    [
        (None, Answer.LATER, Answer.UNKNOWN),  # the link broke without a word
        ("08000", Answer.LATER, Answer.UNKNOWN),
        ("08001", Answer.LATER, Answer.UNKNOWN),
        ("08003", Answer.LATER, Answer.UNKNOWN),
        ("08006", Answer.LATER, Answer.UNKNOWN),
        ("57P01", Answer.LATER, Answer.UNKNOWN),  # somebody ended our backend
        ("57P02", Answer.LATER, Answer.UNKNOWN),
        ("57P03", Answer.LATER, Answer.UNKNOWN),
        ("25006", Answer.LATER, Answer.UNKNOWN),  # read-only: a failover under way
        ("25P03", Answer.LATER, Answer.UNKNOWN),  # arrives as InternalError
        ("25P04", Answer.LATER, Answer.UNKNOWN),
        ("40001", Answer.LATER, Answer.LATER),  # rolled back for certain
        ("40P01", Answer.LATER, Answer.LATER),
        ("40003", Answer.PERSON, Answer.UNKNOWN),  # the server itself does not know
        ("55P03", Answer.LATER, Answer.UNKNOWN),
        ("53300", Answer.LATER, Answer.UNKNOWN),
        ("53100", Answer.PERSON, Answer.UNKNOWN),  # the disk is full
        ("23505", Answer.PERSON, Answer.PERSON),  # a deferred constraint: rolled back for certain
        ("23503", Answer.PERSON, Answer.PERSON),
        ("25P02", Answer.PERSON, Answer.PERSON),
        ("28P01", Answer.PERSON, Answer.UNKNOWN),
        ("42P01", Answer.PERSON, Answer.PERSON),  # a deferred trigger's own statement
        ("42501", Answer.PERSON, Answer.PERSON),
        ("P0001", Answer.PERSON, Answer.PERSON),  # a deferred trigger's RAISE
        ("22012", Answer.PERSON, Answer.PERSON),
        ("57014", Answer.PERSON, Answer.UNKNOWN),
        ("XX000", Answer.PERSON, Answer.UNKNOWN),
    ],
)
def test_the_answer_depends_on_code_and_step(sqlstate: str | None, relay: Answer, commit: Answer) -> None:
    assert (classify(sqlstate, "relay"), classify(sqlstate, "commit")) == (relay, commit)


@pytest.mark.parametrize("sqlstate", [state for state in KNOWN if state.startswith("42")])
def test_what_is_wrong_in_the_sql_is_for_a_person(sqlstate: str) -> None:
    assert classify(sqlstate, "merge") is Answer.PERSON


@pytest.mark.parametrize(("sqlstate", "kind"), [("57P01", TemporaryError), ("23505", StepError), ("53100", StepError)])
def test_a_servers_error_becomes_one_of_ours(sqlstate: str, kind: type[StepError]) -> None:
    error = step_error(psycopg.errors.lookup(sqlstate)("it  broke\nhere"), "merge", "s.t")
    assert type(error) is kind
    assert (error.message, error.step, error.table, error.sqlstate) == ("it broke here", "merge", "s.t", sqlstate)
    assert error.hint


def test_a_broken_link_without_a_word_is_temporary_and_named() -> None:
    error = step_error(psycopg.OperationalError(), "relay", None)
    assert isinstance(error, TemporaryError)
    assert (error.message, error.sqlstate) == ("OperationalError", None)


@pytest.mark.parametrize(
    ("context", "place"),
    [
        ('COPY t, line 7, column n: "SECRET"', " (COPY t, line 7, column n)"),
        ('COPY t, line 7: "SECRET\tROW"', " (COPY t, line 7)"),
        ('SQL function s.f\nCOPY t, line 7, column n: "SECRET"', " (COPY t, line 7, column n)"),
        ("PL/pgSQL function s.secret() line 3 at RAISE", ""),
    ],
)
def test_the_line_of_a_bad_row_is_told_and_its_values_are_not(context: str, place: str) -> None:
    told = dict.fromkeys(DiagnosticField) | {
        DiagnosticField.MESSAGE_PRIMARY: b"extra data after last expected column",
        DiagnosticField.CONTEXT: context.encode(),
    }
    error = step_error(psycopg.errors.BadCopyFileFormat("...", info=told), "relay", "s.t")  # type: ignore[arg-type]
    assert error.message == f"extra data after last expected column{place}"


def test_what_a_driver_raises_in_a_step_leaves_it_as_one_of_ours() -> None:
    with pytest.raises(TemporaryError) as caught, translated("prepare", "s.t"):
        raise psycopg.errors.AdminShutdown("bye")
    assert (caught.value.step, caught.value.table, caught.value.sqlstate) == ("prepare", "s.t", "57P01")
    assert isinstance(caught.value.__cause__, psycopg.errors.AdminShutdown)
