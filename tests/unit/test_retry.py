"""The one answer to "can trying again help?"."""

from __future__ import annotations

import inspect

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgsluice.errors import (
    CommitAbortedError,
    CommitUnknownError,
    ConnectError,
    GateError,
    LoginError,
    PgsluiceError,
    StagingLostError,
    StepError,
    TemporaryError,
)
from pgsluice.retry import Answer, Retries, answer, classify, server_error, step_error, translated

DRIVER = [getattr(kind, "sqlstate", None) for _, kind in inspect.getmembers(psycopg.errors, inspect.isclass)]
KNOWN = sorted({state for state in DRIVER if isinstance(state, str)})


def test_the_driver_knows_the_servers_codes() -> None:
    assert len(KNOWN) > 200


@pytest.mark.parametrize("sqlstate", [None, *KNOWN])
def test_every_code_has_an_answer_and_only_a_commit_or_the_server_itself_makes_it_unknown(sqlstate: str | None) -> None:
    says_so_itself = sqlstate in {"08007", "40003"}
    assert (classify(sqlstate, "relay") is Answer.UNKNOWN) == says_so_itself
    assert isinstance(classify(sqlstate, "commit"), Answer)


@pytest.mark.parametrize("sqlstate", [None, *KNOWN])
def test_without_a_connection_nothing_can_have_been_committed(sqlstate: str | None) -> None:
    assert classify(sqlstate, "commit", connected=False) is classify(sqlstate, "relay")


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
        ("08004", Answer.LATER, Answer.UNKNOWN),
        ("08006", Answer.LATER, Answer.UNKNOWN),
        ("08007", Answer.UNKNOWN, Answer.UNKNOWN),
        ("08P01", Answer.LATER, Answer.UNKNOWN),  # a pooler's own troubles
        ("57P01", Answer.LATER, Answer.UNKNOWN),  # somebody ended our backend
        ("57P02", Answer.LATER, Answer.UNKNOWN),
        ("57P03", Answer.LATER, Answer.UNKNOWN),
        ("57P04", Answer.PERSON, Answer.UNKNOWN),  # the database was dropped
        ("57P05", Answer.RETRY, Answer.UNKNOWN),
        ("25006", Answer.LATER, Answer.UNKNOWN),  # read-only: a failover under way
        ("25P03", Answer.RETRY, Answer.UNKNOWN),  # arrives as InternalError
        ("25P04", Answer.RETRY, Answer.UNKNOWN),
        ("40001", Answer.RETRY, Answer.RETRY),  # rolled back for certain
        ("40P01", Answer.RETRY, Answer.RETRY),
        ("40003", Answer.UNKNOWN, Answer.UNKNOWN),  # the server itself does not know
        ("72000", Answer.RETRY, Answer.UNKNOWN),
        ("55P03", Answer.LATER, Answer.UNKNOWN),
        ("55P04", Answer.RETRY, Answer.UNKNOWN),
        ("55006", Answer.LATER, Answer.UNKNOWN),
        ("55000", Answer.PERSON, Answer.UNKNOWN),
        ("53300", Answer.LATER, Answer.UNKNOWN),
        ("53200", Answer.LATER, Answer.UNKNOWN),
        ("53100", Answer.PERSON, Answer.UNKNOWN),  # the disk is full
        ("53400", Answer.PERSON, Answer.UNKNOWN),
        ("54000", Answer.NEVER, Answer.UNKNOWN),
        ("23505", Answer.RETRY, Answer.RETRY),  # at a commit by a deferred constraint: rolled back for certain
        ("23P01", Answer.RETRY, Answer.RETRY),
        ("23503", Answer.NEVER, Answer.NEVER),
        ("21000", Answer.NEVER, Answer.NEVER),
        ("22P02", Answer.NEVER, Answer.NEVER),
        ("25P02", Answer.NEVER, Answer.NEVER),
        ("28P01", Answer.NEVER, Answer.UNKNOWN),
        ("3D000", Answer.NEVER, Answer.UNKNOWN),
        ("26000", Answer.NEVER, Answer.UNKNOWN),  # a pooler in transaction mode
        ("0A000", Answer.NEVER, Answer.UNKNOWN),
        ("42P01", Answer.NEVER, Answer.NEVER),  # at a commit by a deferred trigger's own statement
        ("42501", Answer.NEVER, Answer.NEVER),
        ("428C9", Answer.NEVER, Answer.NEVER),
        ("P0001", Answer.NEVER, Answer.NEVER),  # a trigger's RAISE
        ("22012", Answer.NEVER, Answer.NEVER),
        ("57014", Answer.PERSON, Answer.UNKNOWN),
        ("58030", Answer.RETRY, Answer.UNKNOWN),
        ("XX000", Answer.RETRY, Answer.UNKNOWN),
        ("XX001", Answer.PERSON, Answer.UNKNOWN),
        ("F0000", Answer.PERSON, Answer.UNKNOWN),
    ],
)
def test_the_answer_depends_on_code_and_step(sqlstate: str | None, relay: Answer, commit: Answer) -> None:
    assert (classify(sqlstate, "relay"), classify(sqlstate, "commit")) == (relay, commit)


def test_a_login_that_took_too_long_is_tried_again_and_a_statement_that_did_is_not() -> None:
    assert (classify("57014", "connect"), classify("57014", "relay")) == (Answer.LATER, Answer.PERSON)


@pytest.mark.parametrize("sqlstate", [state for state in KNOWN if state.startswith("42")])
def test_what_is_wrong_in_the_sql_stays_wrong(sqlstate: str) -> None:
    assert classify(sqlstate, "merge") is Answer.NEVER


@pytest.mark.parametrize(("sqlstate", "kind"), [("57P01", TemporaryError), ("23505", StepError), ("53100", StepError)])
def test_a_servers_error_becomes_one_of_ours(sqlstate: str, kind: type[StepError]) -> None:
    error = step_error(psycopg.errors.lookup(sqlstate)("it  broke\nhere"), "merge", "s.t")
    assert type(error) is kind
    assert (error.message, error.step, error.table, error.sqlstate) == ("it broke here", "merge", "s.t", sqlstate)
    assert error.hint


@pytest.mark.parametrize(
    ("sqlstate", "raised_in", "expected"),
    [
        ("55000", "parallel.c", Answer.LATER),  # lost connection to parallel worker
        ("XX000", "parallel.c", Answer.LATER),  # the same of an older server
        ("55000", "dsa.c", Answer.LATER),  # could not attach to dynamic shared area
        ("53000", "dsm.c", Answer.LATER),  # too many dynamic shared memory segments
        ("58P01", "dsm_impl.c", Answer.LATER),  # could not open shared memory segment
        ("53100", "dsm_impl.c", Answer.PERSON),  # /dev/shm is full
        ("55000", "snapmgr.c", Answer.RETRY),  # the source process is not running anymore
        ("55000", "execMain.c", Answer.PERSON),  # a materialized view that is not populated
        ("55000", None, Answer.PERSON),
        ("XX000", "parallel_schedule.c", Answer.RETRY),
        ("42P01", "parallel.c", Answer.NEVER),
    ],
)
def test_where_it_was_raised_tells_what_a_code_means(sqlstate: str, raised_in: str | None, expected: Answer) -> None:
    error = server_error("in any language", sqlstate, "relay", raised_in=raised_in)
    assert answer(error) is expected
    assert isinstance(error, TemporaryError) is (expected is Answer.LATER or "snapmgr" in (raised_in or ""))
    assert error.sqlstate == sqlstate, "what the server said is told as it was"


def test_a_broken_link_without_a_word_is_temporary_and_named() -> None:
    error = step_error(psycopg.OperationalError(), "relay", None)
    assert isinstance(error, TemporaryError)
    assert (error.message, error.sqlstate) == ("OperationalError", None)


def test_what_a_driver_raises_in_a_step_leaves_it_as_one_of_ours() -> None:
    with pytest.raises(TemporaryError) as caught, translated("prepare", "s.t"):
        raise psycopg.errors.AdminShutdown("bye")
    assert (caught.value.step, caught.value.table, caught.value.sqlstate) == ("prepare", "s.t", "57P01")
    assert isinstance(caught.value.__cause__, psycopg.errors.AdminShutdown)


# --- again -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TemporaryError("psql ended with 2"), Answer.LATER),
        (TemporaryError("a deadlock", step="merge", sqlstate="40P01"), Answer.RETRY),
        (StepError("a double key", step="merge", sqlstate="23505"), Answer.RETRY),
        (StepError("no such table", step="merge", sqlstate="42P01"), Answer.NEVER),
        (StepError("the disk is full", step="relay", sqlstate="53100"), Answer.PERSON),
        (StagingLostError(), Answer.LATER),
        (ConnectError(), Answer.LATER),
        (LoginError(), Answer.NEVER),
        (GateError(), Answer.NEVER),
        (CommitAbortedError(step="commit", sqlstate="57P01"), Answer.RETRY),
        (CommitUnknownError(step="commit", sqlstate="57P01"), Answer.UNKNOWN),
    ],
)
def test_our_own_errors_have_an_answer_too(error: PgsluiceError, expected: Answer) -> None:
    assert answer(error) is expected


class Failing:
    """Fails as it is told, one error a try, and then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries = 0

    def __call__(self) -> None:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)
    return []


def patient(told: list[tuple[str, int]], retries: int = 10, seconds: float = 600) -> Retries:
    return Retries(retries, seconds, lambda error, attempt, _seconds: told.append((error.message, attempt)))


DEADLOCK = TemporaryError("a deadlock", step="merge", sqlstate="40P01")


def test_what_passes_is_tried_until_it_has_passed_and_each_retry_is_told(told: list[tuple[str, int]]) -> None:
    failing = Failing(DEADLOCK, DEADLOCK, TemporaryError("cut"))
    retries = patient(told)
    retries.carry(failing)
    assert (failing.tries, retries.attempts) == (4, 4)
    assert told == [("a deadlock", 2), ("a deadlock", 3), ("cut", 4)]


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (StepError("no", sqlstate="42P01"), 1),
        (StepError("full", sqlstate="53100"), 1),
        (GateError("no"), 1),
        (StepError("twice", sqlstate="23505"), 2),
        (TemporaryError("conflict with recovery", sqlstate="40001"), 4),
        (DEADLOCK, 6),
    ],
)
def test_what_does_not_pass_is_tried_as_often_as_that_can_help(
    told: list[tuple[str, int]], error: PgsluiceError, tries: int
) -> None:
    failing = Failing(*[error] * 20)
    with pytest.raises(type(error)):
        patient(told, retries=5).carry(failing)
    assert failing.tries == tries


def test_a_server_that_is_away_is_waited_for_by_time_and_takes_none_of_the_tries(told: list[tuple[str, int]]) -> None:
    failing = Failing(*[ConnectError("down")] * 9, DEADLOCK, ConnectError("down"))
    patient(told, retries=1).carry(failing)
    assert failing.tries == 12


@pytest.mark.parametrize(
    ("error", "retries"),
    [(ConnectError("down"), 0), (LoginError("who?"), 5), (LoginError("who?", sqlstate="28P01"), 5)],
)
def test_nobody_waits_for_a_login_that_is_refused_nor_where_no_try_was_asked_for(
    told: list[tuple[str, int]], error: PgsluiceError, retries: int
) -> None:
    failing = Failing(error)
    with pytest.raises(ConnectError):
        patient(told, retries=retries).carry(failing)
    assert failing.tries == 1


def test_the_time_for_other_tries_begins_with_the_first_failure(
    told: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1_000_000, 100))  # each look at the clock is 100 s later
    monkeypatch.setattr("pgsluice.retry.time.monotonic", lambda: next(clock))
    for _ in range(20):  # a copy that takes half an hour
        next(clock)
    failing = Failing(ConnectError("down"))
    patient(told, seconds=600).carry(failing)
    assert failing.tries == 2


def test_the_last_try_begins_when_the_time_is_over(
    told: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("pgsluice.retry.time.monotonic", lambda: now[0])
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("tenacity.nap.time.sleep", sleep)
    with pytest.raises(ConnectError):
        patient(told, seconds=100).carry(Failing(*[ConnectError("down")] * 10_000))
    assert sum(pauses) == pytest.approx(100)


def test_only_progress_gives_tries_back(told: list[tuple[str, int]]) -> None:
    retries = patient(told, retries=2)
    failing = Failing(*[DEADLOCK] * 20)

    def attempt() -> None:
        if failing.tries in {1, 3}:
            retries.progressed(failing.tries)
        elif failing.tries > 3:
            retries.progressed(3)  # the same as before, done again
        failing()

    with pytest.raises(TemporaryError):
        retries.carry(attempt)
    assert failing.tries == 6


def test_no_try_begins_after_the_time_for_it(told: list[tuple[str, int]]) -> None:
    failing = Failing(*[DEADLOCK] * 20)
    with pytest.raises(TemporaryError):
        patient(told, seconds=0).carry(failing)
    assert failing.tries == 1


def test_a_wait_can_be_interrupted(told: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tenacity.nap.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        patient(told).carry(Failing(DEADLOCK))


def test_what_is_no_error_of_ours_is_not_met_by_another_try(told: list[tuple[str, int]]) -> None:
    failing = Failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        patient(told).carry(failing)
    assert failing.tries == 1
