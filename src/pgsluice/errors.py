"""The error tree. Every error names the thing, says why, and shows the way out.

    PgsluiceError                 1    failed
    ├── UsageError                2    wrong option or connection string
    │   ├── TableNameError        2    not of the form schema.table
    │   ├── UnknownTableError     2    no such table, or a pattern that matches none
    │   ├── UserSqlError          2    a condition or query of the user's that is not valid
    │   └── CursorError           2    a cursor column that holds other values than those of its kind
    ├── ConnectError              5    the server can't be reached
    │   └── LoginError            2    it was reached and refused us: password, role, database
    ├── StepError                 1    the server refused a statement
    │   └── TemporaryError        5    the same, where trying again later can help
    │       ├── StalledError      5    a server that neither answered nor worked
    │       ├── LockLostError     5    the run's lock was lost on the way; rolled back
    │       ├── CommitAbortedError  5  a COMMIT without an answer, proven to have been rolled back
    │       └── CommitUnknownError  5  a COMMIT whose outcome could not be learned
    ├── RefusedError              6    refused, nothing was written
    │   ├── PlanError             6    every refusal of a plan at once
    │   ├── LimitError            6    a ceiling that the user set would be passed; rolled back
    │   └── GateError             6    refused inside the merge transaction, rolled back
    │       ├── DeleteGuardError  6    more deletes than allowed
    │       └── StagingLostError  5    the staging table was emptied under us
    ├── VerifyError               4    what arrived is not what was sent, rolled back
    ├── BusyError                 11   another run holds the target table
    └── EmbeddedError             1    a local PostgreSQL could not be found or started

The numbers are the exit codes of the command line (Ctrl-C is 130 and SIGTERM 143 there).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgsluice import visible

#: Parameters of a connection that nobody may read.
SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
_NAMES = rf"(?:(?:PG)?{'|'.join(SECRETS)})"
# to the last @ of a line: an @, a slash or a blank that was not encoded is the user's slip, and part of the password
_URI_PASSWORD = re.compile(r"(?P<head>\b\w+://[^\s:/@]*:)(?:(?!postgres(?:ql)?://)[^\n])*(?=@)")
_URI_PAIR = re.compile(rf"(?P<head>[?&]{_NAMES}=)[^\s&]*", re.IGNORECASE)
_PAIR = re.compile(
    rf"(?P<head>(?<![?&])\b{_NAMES}\s*=\s*)(?:'(?:[^'\\]|\\.|'')*'?|(?:\\.|[^\s\\])+)", re.IGNORECASE | re.DOTALL
)
_ITEM = re.compile(
    rf"""(?P<head>["']{_NAMES}["']\s*:\s*)(?:b?"(?:[^"\\]|\\.)*"?|b?'(?:[^'\\]|\\.)*'?)""", re.IGNORECASE | re.DOTALL
)


def scrub(text: str) -> str:
    """Return `text` with the passwords of connection strings replaced by ``***``."""
    for pattern in (_URI_PASSWORD, _URI_PAIR, _PAIR, _ITEM):
        text = pattern.sub(r"\g<head>***", text)
    return text


class PgsluiceError(Exception):
    """Something failed."""

    exit_code = 1

    def __init__(  # noqa: PLR0913 - each part of an error by its name
        self,
        message: str | tuple[str, ...] = "",
        *,
        hint: str = "",
        step: str | None = None,
        table: str | None = None,
        sqlstate: str | None = None,
        raised_in: str | None = None,
    ) -> None:
        """Keep the parts apart; secrets are taken out of the texts, and no name in them adds a line.

        Args:
            message: what failed and why, in one line or in several; the class's docstring where empty.
            hint: what to do next.
            step: the step of the data's way, as in events ("relay", "merge" ..).
            table: the target table, ``schema.table``.
            sqlstate: the five characters PostgreSQL sent, where it did.
            raised_in: the file of PostgreSQL's source that raised it, where it said so.
        """
        lines = message if isinstance(message, tuple) else (message or (type(self).__doc__ or "").strip(),)
        self.message = "\n".join(visible.one_line(scrub(line)) for line in lines)
        self.hint = visible.one_line(scrub(hint))
        self.step = step
        self.table = table
        self.sqlstate = sqlstate
        self.raised_in = raised_in
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by attributes, so that an error crosses processes whole."""
        return (_revive, (type(self), self.__dict__))

    def __str__(self) -> str:
        """Return one readable line or two: where, what, why; then the way out."""
        where = ": ".join(visible.one_line(part) for part in (self.table, self.step) if part)
        text = f"{where}: {self.message}" if where else self.message
        if self.sqlstate:
            text = f"{text} [SQLSTATE {self.sqlstate}]"
        return f"{text}\n{self.hint}" if self.hint else text


def _revive(kind: type[PgsluiceError], state: dict[str, Any]) -> PgsluiceError:
    error = kind.__new__(kind)
    Exception.__init__(error, state["message"])
    error.__dict__.update(state)
    return error


class UsageError(PgsluiceError):
    """The request can't be understood."""

    exit_code = 2


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """Say of a file that the user named that it can't be written, and why not.

    Raises:
        UsageError: it can't.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"{file} can't be written: {reason}", hint="Name another file.") from None


def refuse_unwritable(file: Path, *, beside: bool = False) -> None:
    """See, before any work, that a file can be written.

    Args:
        file: that the user named.
        beside: it is written beside its place, and moved there.

    Raises:
        UsageError: it can't.
    """
    with writing(file):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if beside or not file.exists():
            tempfile.TemporaryFile(dir=file.parent).close()
        elif not os.access(file, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


class TableNameError(UsageError):
    """A table is named as schema.table."""


class UnknownTableError(UsageError):
    """No such table."""


class UserSqlError(UsageError):
    """The SQL given by the user is not valid."""


class CursorError(UsageError):
    """The cursor column holds other values than those of the kind it was given."""


class ConnectError(PgsluiceError):
    """The server can't be reached."""

    exit_code = 5


class LoginError(ConnectError):
    """The server answered and refused the login."""

    exit_code = 2


class StepError(PgsluiceError):
    """The server refused a statement."""


class TemporaryError(StepError):
    """The server refused a statement, and trying again later can help."""

    exit_code = 5


class StalledError(TemporaryError):
    """A server neither answered nor worked."""


class LockLostError(TemporaryError):
    """The session that kept other runs away was lost while rows were on their way: newer ones may be there."""


class CommitAbortedError(TemporaryError):
    """The connection broke during COMMIT, and the target proves that it was rolled back."""


class CommitUnknownError(TemporaryError):
    """The connection broke during COMMIT and its outcome could not be learned."""


class RefusedError(PgsluiceError):
    """Refused before anything was written."""

    exit_code = 6


class PlanError(RefusedError):
    """The plan holds refusals."""

    def __init__(self, table: str, refusals: tuple[str, ...]) -> None:
        """Gather every refusal of one job.

        Args:
            table: the target table, ``schema.table``.
            refusals: a full sentence each: the thing, the reason, the way out.
        """
        head, *lines = "refused, nothing was written:", *(f"- {line}" for line in refusals)
        super().__init__(f"{head} {refusals[0]}" if len(refusals) == 1 else (head, *lines), step="plan", table=table)
        self.refusals = refusals


class LimitError(RefusedError):
    """A ceiling that the user set would be passed; everything was rolled back."""


class GateError(RefusedError):
    """A check inside the merge transaction refused it; everything was rolled back."""


class DeleteGuardError(GateError):
    """More rows would be deleted than the guard allows."""


class StagingLostError(GateError):
    """The staging table no longer holds what was committed into it."""

    exit_code = 5


class VerifyError(PgsluiceError):
    """What arrived is not what was sent; everything was rolled back."""

    exit_code = 4


class BusyError(PgsluiceError):
    """Another run holds this table."""

    exit_code = 11


class EmbeddedError(PgsluiceError):
    """A local PostgreSQL could not be found or started."""
