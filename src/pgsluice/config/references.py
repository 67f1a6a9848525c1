"""``${NAME}``, ``${file:PATH}`` and ``${cmd:PROGRAM ARGUMENT ..}`` in a setting's text."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import stat
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from pgsluice.config import files
from pgsluice.errors import UsageError, scrub

_REFERENCE = re.compile(r"\$\$|\$\{(?P<inner>[^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_]\w*")
#: Of a password or connection string, by far.
_MOST_BYTES = 64 << 10


def has_command(text: str) -> bool:
    """Tell whether a text holds ``${cmd:..}``, which is run at every connect."""
    return any((match["inner"] or "").startswith("cmd:") for match in _REFERENCE.finditer(text))


def literal(text: str) -> str:
    """Return a text so that `resolve` gives it back, whatever seems to be a reference in it."""
    return text.replace("$", "$$")


def shown(text: str, *, is_dsn: bool = False) -> str:
    """Return a text as it may be printed: what files and programs say is nobody's to see, nor is a password."""

    def hidden(inner: str) -> str:
        return os.environ.get(inner, "***") if _NAME.fullmatch(inner) else "***"

    return scrub(_replaced(text, hidden, is_dsn=is_dsn))


def resolve(text: str, warn: Callable[[str], None], *, is_dsn: bool = False) -> str:
    """Return a text with its references replaced; ``$$`` is a dollar sign.

    Args:
        text: as it stands in the file.
        warn: told of a secret file that others can read.
        is_dsn: it is a connection string, of which a value is one part, whatever it holds.

    Raises:
        UsageError: a variable, a file or a program is not there, or fails.
    """
    return _replaced(text, lambda inner: _value(inner, warn), is_dsn=is_dsn)


def _replaced(text: str, value: Callable[[str], str], *, is_dsn: bool) -> str:
    done, rest = "", text
    while match := _REFERENCE.search(rest):
        done, rest = done + rest[: match.start()], rest[match.end() :]
        found = "$" if match["inner"] is None else value(match["inner"])
        done += _as_part(found, done, rest) if is_dsn and match["inner"] is not None else found
    return done + rest


def _as_part(value: str, before: str, after: str) -> str:
    """Return a value so that libpq takes it as one part of a connection string.

    Args:
        value: of a reference.
        before: what of the string stands before it.
        after: the same behind it; it may hold references.
    """
    if not before:
        return value  # the string itself, or its beginning
    if _URI.match(before):
        if before[-1] in "?&":  # parameters as a whole
            return value
        in_place = "@" not in after and not _BEHIND_PLACE.search(before)
        return urllib.parse.quote(value, safe=":,[]" if in_place else "")
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    if _OPEN_QUOTE.fullmatch(before):
        return escaped
    if before.rstrip().endswith("=") and (not after or after[0].isspace()):
        return f"'{escaped}'"
    return re.sub(r"\s", r"\\\g<0>", escaped)


_URI = re.compile(r"postgres(?:ql)?://")
#: Of a URI as far as its hosts are told: a slash or a parameter has come.
_BEHIND_PLACE = re.compile(r"//[^/?]*[/?]")
#: Of a conninfo string: the last of its quotes is not closed.
_OPEN_QUOTE = re.compile(r"(?:[^'\\]|\\.|'(?:[^'\\]|\\.)*')*'(?:[^'\\]|\\.)*", re.DOTALL)


def checked(text: str, warn: Callable[[str], None]) -> str:
    """Return a text as it stands, where `resolve` would find no mistake in it; no program is run.

    Args:
        text: as it stands in the file.
        warn: told of a secret file that others can read.

    Raises:
        UsageError: a variable or a file is not there, or a program can't be read.
    """
    for inner in filter(None, (match["inner"] for match in _REFERENCE.finditer(text))):
        _arguments(inner.removeprefix("cmd:")) if inner.startswith("cmd:") else _value(inner, warn)
    return text


def _value(inner: str, warn: Callable[[str], None]) -> str:
    kind, _, rest = inner.partition(":")
    if kind == "file" and rest:
        return _of_file(Path(rest), warn)
    if kind == "cmd":
        return _of_command(rest)
    if not _NAME.fullmatch(inner):
        raise UsageError(
            f"${{{inner}}} is no reference", hint="Write ${NAME}, ${file:/path} or ${cmd:program argument}; $$ for $."
        )
    if inner not in os.environ:
        raise UsageError(f"the environment variable {inner} is not set", hint=f"export {inner}=..")
    try:
        return os.environ[inner].encode().decode()
    except UnicodeEncodeError:
        raise UsageError(f"the environment variable {inner} is not UTF-8") from None


def _of_file(path: Path, warn: Callable[[str], None]) -> str:
    def check(opened: os.stat_result) -> None:
        if opened.st_mode & (stat.S_IRGRP | stat.S_IROTH):
            warn(f"{path} can be read by others: chmod 600 {path}")

    return files.read(path, _MOST_BYTES, f"the file {path}", check=check).rstrip("\r\n")


def _arguments(command: str) -> list[str]:
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"${{cmd:{command}}} can't be read: {error}", hint="Quote as a shell does.") from None
    if not arguments or not arguments[0]:
        raise UsageError("${cmd:} names no program", hint="Write ${cmd:program argument}.")
    return arguments


def _of_command(command: str) -> str:
    """Run a program by its arguments, without a shell, and return what it prints."""
    arguments = _arguments(command)
    said, code = _printed(arguments)
    if code:
        raise UsageError(f"the program {arguments[0]} ended with {code}", hint="Run it by hand to see why.")
    try:
        return said.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise UsageError(f"what the program {arguments[0]} prints is not UTF-8") from None


def _printed(arguments: list[str]) -> tuple[bytes, int]:
    """Return what a program prints, and its exit code; one that does not end is killed, with all that it started."""
    until = time.monotonic() + files.SECONDS
    try:
        program = subprocess.Popen(  # noqa: S603 - by its arguments, and what the file's owner wrote there
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # and so of a group, which one signal reaches
        )
    except (OSError, ValueError) as error:  # arguments that this locale can't write
        raise UsageError(f"the program {arguments[0]} could not be run: {files.reason(error)}") from None
    with program:
        try:
            with _killed_on_failure(program):
                assert program.stdout is not None  # noqa: S101 - for the type
                said = files.drained(program.stdout.fileno(), _MOST_BYTES, files.SECONDS)
                return said, program.wait(max(0.0, until - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise UsageError(
                f"the program {arguments[0]} could not be run: it took more than {files.SECONDS:g} s"
            ) from None
        except OverflowError:
            raise UsageError(f"the program {arguments[0]} prints more than {_MOST_BYTES >> 10} KiB") from None


@contextlib.contextmanager
def _killed_on_failure(program: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a program and what it started, where the block fails: nobody has waited for it, so its number is its own."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            os.killpg(program.pid, signal.SIGKILL)
        raise
