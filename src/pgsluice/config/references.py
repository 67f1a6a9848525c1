"""``${NAME}``, ``${file:PATH}`` and ``${cmd:PROGRAM ARGUMENT ..}`` in a setting's text."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from pgsluice.errors import UsageError, scrub

_REFERENCE = re.compile(r"\$\$|\$\{(?P<inner>[^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_]\w*")
_COMMAND_SECONDS = 30.0


def has_command(text: str) -> bool:
    """Tell whether a text holds ``${cmd:..}``, which is run at every connect."""
    return any((match["inner"] or "").startswith("cmd:") for match in _REFERENCE.finditer(text))


def shown(text: str) -> str:
    """Return a text as it may be printed: what files and programs say is nobody's to see, nor is a password."""

    def hidden(match: re.Match[str]) -> str:
        inner = match["inner"]
        return "$" if inner is None else os.environ.get(inner, "***") if _NAME.fullmatch(inner) else "***"

    return scrub(_REFERENCE.sub(hidden, text))


def resolve(text: str, warn: Callable[[str], None]) -> str:
    """Return a text with its references replaced; ``$$`` is a dollar sign.

    Args:
        text: as it stands in the file.
        warn: told of a secret file that others can read.

    Raises:
        UsageError: a variable, a file or a program is not there, or fails.
    """
    return _REFERENCE.sub(lambda match: "$" if match["inner"] is None else _value(match["inner"], warn), text)


def _value(inner: str, warn: Callable[[str], None]) -> str:
    kind, _, rest = inner.partition(":")
    if kind == "file" and rest:
        return _of_file(Path(rest), warn)
    if kind == "cmd" and rest:
        return _of_command(rest)
    if not _NAME.fullmatch(inner):
        raise UsageError(
            f"${{{inner}}} is no reference", hint="Write ${NAME}, ${file:/path} or ${cmd:program argument}; $$ for $."
        )
    if inner not in os.environ:
        raise UsageError(f"the environment variable {inner} is not set", hint=f"export {inner}=..")
    return os.environ[inner]


def _of_file(path: Path, warn: Callable[[str], None]) -> str:
    try:
        text = path.read_text("utf-8")
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"the file {path} can't be read: {error.strerror}") from None
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"{path} can be read by others: chmod 600 {path}")
    return text.rstrip("\r\n")


def _of_command(command: str) -> str:
    """Run a program by its arguments, without a shell, and return what it prints."""
    arguments = shlex.split(command)
    try:
        done = subprocess.run(  # noqa: S603 - by its arguments, and what the file's owner wrote there
            arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it took more than {_COMMAND_SECONDS:g} s"
        raise UsageError(f"the program {arguments[0]} could not be run: {reason}") from None
    if done.returncode:
        raise UsageError(f"the program {arguments[0]} ended with {done.returncode}", hint="Run it by hand to see why.")
    return done.stdout.rstrip("\r\n")
