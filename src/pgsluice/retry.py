"""The one answer to "again?": what a failure asks for, and who waits, how often and how long.

Classified by SQLSTATE and step, never by exception class: 57P01 means "again" during a COPY and "unknown" during a
COMMIT; 25P03 and 25006 arrive as InternalError; a dropped link has no SQLSTATE at all. Where one SQLSTATE stands
for too much, the file of PostgreSQL's source that raised it decides: its messages follow the server's language.
The codes are those of https://www.postgresql.org/docs/current/errcodes-appendix.html.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Iterator

import psycopg
import tenacity

from pgsluice import rowdata, stopping
from pgsluice.errors import (
    CommitAbortedError,
    CommitUnknownError,
    ConnectError,
    PgsluiceError,
    StepError,
    TemporaryError,
)


class Answer(enum.Enum):
    """What a failure asks for."""

    RETRY = "again, in a new transaction"
    LATER = "again, after a pause"
    UNKNOWN = "the commit may have happened: ask the target"
    PERSON = "somebody has to mend something first"
    NEVER = "the same would fail again"


#: Whole SQLSTATEs, where their class says something else or nothing.
_ANSWERS = {
    "40001": Answer.RETRY,  # serialization failure; every conflict of a standby with its recovery
    "40P01": Answer.RETRY,  # deadlock
    "55P04": Answer.RETRY,  # an enum label used in the transaction that made it
    "72000": Answer.RETRY,  # snapshot too old
    "23505": Answer.RETRY,  # two writers of one new key: the second MERGE is told, and may update now
    "23P01": Answer.RETRY,  # the same of an exclusion constraint
    "25P03": Answer.RETRY,  # idle-in-transaction timeout
    "25P04": Answer.RETRY,  # transaction timeout
    "57P05": Answer.RETRY,  # idle session timeout
    "25006": Answer.LATER,  # read-only transaction: a failover under way
    "53200": Answer.LATER,  # out of memory
    "53300": Answer.LATER,  # too many connections
    "55006": Answer.LATER,  # object in use
    "55P03": Answer.LATER,  # lock not available
    "57P01": Answer.LATER,  # shutdown, or somebody ended our backend
    "57P02": Answer.LATER,  # crash of another backend
    "57P03": Answer.LATER,  # starting up
    "08007": Answer.UNKNOWN,  # transaction resolution unknown
    "40003": Answer.UNKNOWN,  # statement completion unknown
    "53000": Answer.PERSON,
    "53100": Answer.PERSON,  # disk full: what tries again fills it again
    "53400": Answer.PERSON,  # configuration limit, for example temp_file_limit
    "55000": Answer.PERSON,  # a materialized view not populated ..
    "57014": Answer.PERSON,  # a person or a timeout cancelled it: do not fight
    "58000": Answer.RETRY,  # system error outside of PostgreSQL
    "58030": Answer.RETRY,  # I/O error
    "XX000": Answer.RETRY,  # internal error
    "XX001": Answer.PERSON,  # data corrupted
    "XX002": Answer.PERSON,  # index corrupted
}
#: Classes of SQLSTATEs.
_CLASSES = {"08": Answer.LATER, "53": Answer.PERSON, "57": Answer.PERSON, "F0": Answer.PERSON}

#: Where backends, their parallel workers and their shared memory work together.
_TOGETHER = ("parallel.c", "shm_mq.c", "shm_toc.c", "dsm.c", "dsm_impl.c", "dsa.c")
#: SQLSTATEs that mean another one where a certain file raises them. 55000 is a materialized view that is not
#: populated, but "lost connection to parallel worker" too, which passes like the crash or shutdown behind it.
_MEANT = {
    **{(code, file): "57P02" for code in ("53000", "55000", "58P01", "XX000") for file in _TOGETHER},
    ("55000", "snapmgr.c"): "72000",  # the session whose snapshot is joined has just ended
    (
        "XX000",
        "mcxt.c",
    ): "54000",  # "invalid memory alloc request size": a value beyond what the server can hold at once
}

#: What passes where a session begins, though not in one that has begun: a login that took too long.
_LATER_AT_CONNECT = frozenset({"57014"})

#: What COMMIT itself raises before anything is committed.
_DEFINITE_AT_COMMIT = frozenset({"40001", "40P01", "25P02"})
#: What deferred constraints and triggers raise, which run before anything is committed.
_DEFINITE_CLASSES_AT_COMMIT = frozenset({"21", "22", "23", "2F", "38", "39", "42", "44", "P0"})

#: How often at most a failure is met by another try, where that is less than asked for.
_AT_MOST = {
    "23505": 1, "23P01": 1, "25P03": 1, "25P04": 1, "55P04": 1, "57P05": 1, "58000": 1, "58030": 1, "XX000": 1,
    "08P01": 2,  # a pooler's word for its own troubles; from a server it is a fault
    "40001": 3,  # on a standby that keeps cancelling, the fourth snapshot meets the same
    "53200": 2,
}  # fmt: skip
#: Of these what has not passed by then is no matter of time.
_LASTING = frozenset({"23505", "23P01", "55P04", "58000", "58030", "XX000"})


def meant(sqlstate: str | None, raised_in: str | None) -> str | None:
    """Return the SQLSTATE to classify an error by.

    Args:
        sqlstate: five characters, or None.
        raised_in: the file of PostgreSQL's source that raised it, or None where that is not known.
    """
    return _MEANT.get((sqlstate or "", raised_in or ""), sqlstate)


def classify(sqlstate: str | None, step: str, connected: bool = True) -> Answer:  # noqa: FBT001, FBT002 - a fact
    """Say what a failure asks for. Total: every text has an answer.

    Args:
        sqlstate: as it is meant; None for a connection that broke, or was not made, without a word.
        step: the step it happened in; "commit" is the one where an outcome can be unknown.
        connected: there was a connection. Nothing can have been committed over none.
    """
    if step == "commit" and connected and not _is_definite(sqlstate):
        return Answer.UNKNOWN
    if sqlstate is None or (step == "connect" and sqlstate in _LATER_AT_CONNECT):
        return Answer.LATER
    return _ANSWERS.get(sqlstate) or _CLASSES.get(sqlstate[:2], Answer.NEVER)


def _is_definite(sqlstate: str | None) -> bool:
    return sqlstate is not None and (sqlstate in _DEFINITE_AT_COMMIT or sqlstate[:2] in _DEFINITE_CLASSES_AT_COMMIT)


def answer(error: PgsluiceError) -> Answer:
    """Say what one of our errors asks for: by its SQLSTATE where a server sent one, else by its kind."""
    if isinstance(error, CommitUnknownError):
        return Answer.UNKNOWN
    if isinstance(error, CommitAbortedError):
        return Answer.RETRY
    if error.sqlstate is not None and isinstance(error, StepError):
        return classify(_code(error), error.step or "")
    return Answer.LATER if error.exit_code == TemporaryError.exit_code else Answer.NEVER


def _code(error: PgsluiceError) -> str | None:
    return meant(error.sqlstate, error.raised_in)


# --- again -----------------------------------------------------------------------------------------------------------

_SOON = tenacity.wait_random(0, 0.2)
#: Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/): many runs that one restart
#: of a server has thrown off come back one by one.
_LATER = tenacity.wait_random_exponential(multiplier=0.5, max=30)

OnRetry = Callable[[PgsluiceError, int, float], None]


class Retries:
    """The tries of one job: so many, for so long; given back by progress alone.

    A server that can't be reached takes none of the tries: it is waited for as long as there is time.
    """

    def __init__(self, retries: int, seconds: float, tell: OnRetry) -> None:
        """Keep what is needed.

        Args:
            retries: tries after the first.
            seconds: after the first failure, or the first one behind progress, in which a try may begin.
            tell: called before each wait with the error, the number of the try that follows, and the seconds.
        """
        self._retries = retries
        self._seconds = seconds
        self._tell = tell
        self._met: dict[str, int] = {}
        self._failed = 0
        self._ends: float | None = None
        self._done = 0
        self._moved = False
        self.attempts = 0

    def progressed(self, done: int) -> None:
        """Begin to count anew, if more is done than ever before; the same, done again, is no progress."""
        self._moved = self._moved or done > self._done
        self._done = max(self._done, done)

    def carry(self, attempt: Callable[[], None]) -> None:
        """Call `attempt` until it returns, its failure is not worth another try, or the tries are spent.

        A wait can be interrupted like any other call.

        Raises:
            PgsluiceError: the last failure.
        """
        tenacity.Retrying(
            retry=self._is_worth_it,
            stop=self._is_over,
            wait=self._pause,
            before_sleep=self._before_sleep,
            sleep=stopping.sleep,
            reraise=True,
        )(self._counted, attempt)

    def _counted(self, attempt: Callable[[], None]) -> None:
        self.attempts += 1
        attempt()

    def _is_worth_it(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, PgsluiceError):
            return False
        if self._moved:
            self._moved = False
            self._met.clear()
            self._failed, self._ends, state.attempt_number = 0, None, 1
        if self._ends is None:
            self._ends = time.monotonic() + self._seconds
        if answer(error) in {Answer.PERSON, Answer.NEVER}:
            return False
        name = _code(error) or type(error).__name__
        self._met[name] = self._met.get(name, 0) + 1
        if _is_outage(error):
            return self._retries > 0
        self._failed += 1
        return self._failed <= self._retries and self._met[name] <= _AT_MOST.get(name, self._retries)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Return seconds: the last try begins when the time is over, whatever chance says."""
        return min(_wait(state), max(0.0, (self._ends or 0.0) - time.monotonic()))

    def _is_over(self, _state: tenacity.RetryCallState) -> bool:
        return self._ends is not None and time.monotonic() >= self._ends

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, PgsluiceError):
            self._tell(error, self.attempts + 1, state.upcoming_sleep)


def _is_outage(error: PgsluiceError) -> bool:
    """Tell whether a server can't be reached, whatever of it says so: a pooler's own troubles are another matter."""
    return isinstance(error, ConnectError) and error.sqlstate not in _AT_MOST


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    soon = isinstance(error, PgsluiceError) and answer(error) is Answer.RETRY
    return _SOON(state) if soon else _LATER(state)


# --- a server's error in our words -----------------------------------------------------------------------------------


@contextlib.contextmanager
def translated(step: str, table: str | None = None) -> Iterator[None]:
    """Turn what psycopg raises in the block into our errors.

    Args:
        step: the step that the block is, or is part of.
        table: the target, ``schema.table``, or None.
    """
    try:
        yield
    except psycopg.Error as error:
        raise step_error(error, step, table) from error


def step_error(error: psycopg.Error, step: str, table: str | None) -> PgsluiceError:
    """Return `error` as one of ours, with what can help; a session has left row data out, unless it shall be shown.

    Args:
        error: as a session raised it.
        step: where it happened.
        table: the target, ``schema.table``.
    """
    diag = error.diag
    reason = diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    more = "; ".join(line for part in (diag.message_detail, diag.context) for line in (part or "").split("\n") if line)
    is_ours = error.sqlstate is None and not isinstance(error, psycopg.OperationalError)  # the driver's own refusal
    reason = f"{reason} ({more})" if more else reason
    return server_error(reason, error.sqlstate, step, table, temporary=not is_ours, raised_in=diag.source_file)


def server_error(  # noqa: PLR0913 - what a server says of an error, and where we were
    reason: str,
    sqlstate: str | None,
    step: str,
    table: str | None = None,
    *,
    temporary: bool = True,
    raised_in: str | None = None,
) -> StepError:
    """Return what a server said as one of our errors.

    Args:
        reason: its words, without row data unless it shall be shown.
        sqlstate: five characters, or None.
        step: where it happened.
        table: the target, ``schema.table``.
        temporary: False where it can't be, whatever its code.
        raised_in: the file of PostgreSQL's source that raised it.
    """
    code = meant(sqlstate, raised_in)
    passing = classify(code, step) in {Answer.RETRY, Answer.LATER} and code not in _LASTING
    kind, otherwise = (TemporaryError, _AGAIN) if temporary and passing else (StepError, "")
    hint = _hint(reason, code, raised_in, otherwise)
    return kind(reason, hint=hint, step=step, table=table, sqlstate=sqlstate, raised_in=raised_in)


_AGAIN = "Nothing of it was kept; trying again can help."


def _hint(reason: str, sqlstate: str | None, raised_in: str | None, otherwise: str) -> str:
    code = sqlstate or ""
    hint = _HINTS_OF_FILES.get((code, raised_in or "")) or _HINTS.get(code, otherwise)
    return f"{hint} --show-row-data shows what was left out.".lstrip() if rowdata.MARK in reason else hint


_HINTS = {
    "42501": "Grant the privilege that the message names, or run as a role that has it.",
    "53100": "The server's disk is full; what was staged has been dropped. Make room on it, then run again.",
    "53400": "The server's temp_file_limit is too low for this; raise it for this role.",
    "23505": "A unique constraint of the target refused a row: compare its unique indexes with the source's.",
    "23503": "A foreign key of the target refused a row: copy the table it refers to in the same run, or first; where"
    " tables refer to each other, make the key DEFERRABLE.",
    "23514": "A check constraint or a missing partition of the target refused a row.",
    "23502": "A column of the target does not take NULL.",
    "40001": "A standby cancels what its recovery needs: read from the primary, or set hot_standby_feedback = on (or"
    " a longer max_standby_streaming_delay) on the standby.",
    "25006": "The server takes no writes: name all hosts of the cluster in --target, or wait for its failover to end.",
    "55P03": "Another session holds a lock on it: wait for it, or give --lock-timeout more seconds.",
    "22P05": "The target's encoding lacks a character of the source; a UTF8 database holds them all.",
    "57014": "A timeout (--statement-timeout) or a person cancelled the statement; it is not tried again.",
    "XX001": "The server reports corrupted data: look after it before anything else.",
    "XX002": "The server reports a corrupted index: REINDEX it, and look for the cause.",
}
_TOO_LARGE = (
    "A value or row is larger than PostgreSQL can hold at once: 1 GiB, and as text a bytea takes two characters a byte."
    " Leave its column out, or cut it on the source."
)
_RULES = "The target table can't be merged into: MERGE takes no table with rules."
#: The same where one SQLSTATE stands for several things: by the file of PostgreSQL's source that raised it.
_HINTS_OF_FILES = {
    ("0A000", "parse_merge.c"): _RULES,
    ("0A000", "rewriteHandler.c"): _RULES,
    (
        "22P05",
        "jsonfuncs.c",
    ): "A json of the source holds \\u0000, which json keeps and jsonb can't: let the"
    " column be json on the target, or replace it on the source.",
    ("54000", "mcxt.c"): _TOO_LARGE,
    ("54000", "stringinfo.c"): _TOO_LARGE,
}


def is_too_large(error: PgsluiceError) -> bool:
    """Tell whether a server could not hold a value at once."""
    return _HINTS_OF_FILES.get((_code(error) or "", error.raised_in or "")) == _TOO_LARGE
