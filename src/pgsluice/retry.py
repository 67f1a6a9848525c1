"""The one answer to "can trying again help?", and a server's error in our words.

Classified by SQLSTATE and step, never by exception class: 57P01 means "again" during a COPY and "unknown" during a
COMMIT; 25P03 and 25006 arrive as InternalError; a dropped link has no SQLSTATE at all.
The codes are those of https://www.postgresql.org/docs/current/errcodes-appendix.html.
"""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Iterator

import psycopg

from pgsluice.errors import PgsluiceError, StepError, TemporaryError


class Answer(enum.Enum):
    """What a failure asks for."""

    LATER = "trying again later can help"
    PERSON = "somebody has to mend something first"
    UNKNOWN = "the commit may have happened"


#: Whole SQLSTATEs, then classes, that pass by themselves.
_TEMPORARY = frozenset({
    "25006",  # read-only transaction: a failover under way
    "25P03", "25P04",  # idle-in-transaction and transaction timeouts
    "40001", "40P01",  # serialization failure, recovery conflict, deadlock
    "53200", "53300",  # out of memory, too many connections
    "55006", "55P03",  # object in use, lock not available
    "57P01", "57P02", "57P03", "57P05",  # shutdown, crash, starting up, idle session timeout
    "72000",  # snapshot too old
})  # fmt: skip
_DEFINITE_AT_COMMIT = frozenset({"40001", "40P01", "25P02"})
#: What deferred constraints and triggers raise, which run before anything is committed.
_DEFINITE_CLASSES_AT_COMMIT = frozenset({"21", "22", "23", "2F", "38", "39", "42", "44", "P0"})


def classify(sqlstate: str | None, step: str) -> Answer:
    """Say what a failure asks for.

    Args:
        sqlstate: five characters, or None for a connection that broke without a word.
        step: the step it happened in; "commit" is the one where an outcome can be unknown.
    """
    if step == "commit" and not _is_definite(sqlstate):
        return Answer.UNKNOWN
    if sqlstate is None or sqlstate.startswith("08") or sqlstate in _TEMPORARY:
        return Answer.LATER
    return Answer.PERSON


def _is_definite(sqlstate: str | None) -> bool:
    return sqlstate is not None and (sqlstate in _DEFINITE_AT_COMMIT or sqlstate[:2] in _DEFINITE_CLASSES_AT_COMMIT)


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


_LINE_AND_COLUMN = re.compile(r"COPY [^,]*, line \d+(?:, column [^:\n]+)?")


def step_error(error: psycopg.Error, step: str, table: str | None) -> PgsluiceError:
    """Return `error` as one of ours: without row data, with what can help.

    Args:
        error: as psycopg raised it.
        step: where it happened.
        table: the target, ``schema.table``.
    """
    reason = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    if (error.sqlstate or "").startswith("22"):  # its message ends in the value
        reason = re.sub(r': ".*"$', "", reason, flags=re.DOTALL)
    place = _LINE_AND_COLUMN.search(error.diag.context or "")
    if place:  # the rest of the context repeats the row's values
        reason = f"{reason} ({place.group(0)})"
    is_ours = error.sqlstate is None and not isinstance(error, psycopg.OperationalError)  # the driver's own refusal
    if classify(error.sqlstate, step) is Answer.LATER and not is_ours:
        return TemporaryError(
            reason,
            hint=_HINTS.get(error.sqlstate or "", "Nothing of it was kept; trying again can help."),
            step=step,
            table=table,
            sqlstate=error.sqlstate,
        )
    return StepError(reason, hint=_HINTS.get(error.sqlstate or "", ""), step=step, table=table, sqlstate=error.sqlstate)


_HINTS = {
    "42501": "Grant the privilege that the message names, or run as a role that has it.",
    "53100": "The disk of the target is full; what was staged has been dropped. Make room, then run again.",
    "53400": "The target's temp_file_limit is too low for this merge; raise it for this role.",
    "23505": "A unique constraint of the target refused a row: compare its unique indexes with the source's. To mode"
    " append an updated row is another row.",
    "23503": "A foreign key of the target refused a row: copy the table it refers to in the same run, or first.",
    "23514": "A check constraint or a missing partition of the target refused a row.",
    "23502": "A column of the target does not take NULL.",
    "55P03": "Another session holds a lock on it: wait for it, or give --lock-timeout more seconds.",
    "0A000": "The target table can't be merged into: MERGE takes no table with rules.",
    "22P05": "The target's encoding lacks a character of the source; a UTF8 database holds them all.",
    "57014": "A timeout or a person cancelled the statement.",
}
