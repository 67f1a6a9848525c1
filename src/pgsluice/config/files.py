"""Reads a file or a pipe within bounds of size and time, and tells whether a stranger may have written it."""

from __future__ import annotations

import grp
import os
import pwd
import select
import stat
import time
from collections.abc import Callable
from pathlib import Path

from pgsluice.errors import UsageError

#: How long a pipe may take until it is at its end.
SECONDS = 30.0
#: Descriptors as paths: what a shell makes of <(..), and what stdin is called.
_DESCRIPTORS = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")
_ROOT = 0

Check = Callable[[os.stat_result], None]


def read(path: Path, most: int, called: str, *, pipes: bool = False, check: Check | None = None) -> str:
    """Return the text of a file that ends, whatever stands at its path.

    Args:
        path: of it.
        most: bytes that it may have.
        called: its name in errors.
        pipes: whether an open pipe, as a shell's ``<(..)`` makes one, may stand for it.
        check: looks at what was opened before it is read, and raises where it should not be.

    Raises:
        UsageError: it can't be read, is no file, is too large, or not UTF-8.
    """
    try:
        # without waiting for a writer, nor becoming the terminal's owner
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # a NUL in the path
        raise UsageError(f"{called} can't be read: {reason(error)}") from None
    try:
        found = os.fstat(descriptor)
        _refuse_others(path, found, called, pipes=pipes)
        if check:
            check(found)
        return text(descriptor, most, called, SECONDS)
    finally:
        os.close(descriptor)


def text(descriptor: int, most: int, called: str, seconds: float | None) -> str:
    """Return the text that an open descriptor holds; see `drained`.

    Raises:
        UsageError: it can't be read, is too large, or not UTF-8.
    """
    try:
        return drained(descriptor, most, seconds).decode("utf-8")
    except OSError as error:
        raise UsageError(f"{called} can't be read: {reason(error)}") from None
    except OverflowError:
        raise UsageError(f"{called} has more than {most >> 10} KiB", hint="Is it the right file?") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{called} is not UTF-8: {error.reason}", hint="Save it as UTF-8.") from None


def drained(descriptor: int, most: int, seconds: float | None) -> bytes:
    """Return what a descriptor holds until its end.

    Args:
        descriptor: open for reading.
        most: bytes that it may have.
        seconds: until its end comes; None waits for ever, as for a person who types.

    Raises:
        TimeoutError: the end does not come in time.
        OverflowError: there are more than `most` bytes.
    """
    until = None if seconds is None else time.monotonic() + seconds
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    held = bytearray()
    while len(held) <= most:
        if not waiting.poll(None if until is None else max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError(0, f"it did not end within {seconds:g} s")
        block = os.read(descriptor, most + 1 - len(held))
        if not block:
            return bytes(held)
        held += block
    raise OverflowError


def _refuse_others(path: Path, found: os.stat_result, called: str, *, pipes: bool) -> None:
    """Refuse what may have no end, or keep us waiting."""
    is_open_pipe = stat.S_ISFIFO(found.st_mode) and str(path).startswith(_DESCRIPTORS)
    if not stat.S_ISREG(found.st_mode) and not (pipes and is_open_pipe):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise UsageError(f"{called} is {kinds.get(stat.S_IFMT(found.st_mode), 'a device')}, not a file")


def reason(error: OSError | ValueError) -> str:
    """Return why something could not be opened, without its path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# --- who may have written it -----------------------------------------------------------------------------------------


def refuse_strangers(path: Path, found: os.stat_result) -> None:
    """Refuse a file that nobody has named, where neither we nor root own it, or the link that leads to it.

    Args:
        path: of it.
        found: what was opened there.

    Raises:
        UsageError: a stranger owns it.
    """
    for owner in (found.st_uid, path.lstat().st_uid):
        if owner not in {os.geteuid(), _ROOT}:
            raise UsageError(
                f"{path} belongs to {_user(owner)}, and may name programs that run as {_user(os.geteuid())}:"
                " it is not read where it was not named",
                hint=f"If you trust what it says, name it: --config {path}. If it is yours, chown it.",
            )


def open_to_others(path: Path, found: os.stat_result) -> Path | None:
    """Return the file, or the folder of it or of the link to it, where others may write; None where nobody may.

    Args:
        path: of the file.
        found: what was opened there.
    """
    if _is_open(found):
        return path
    folders = {path.absolute().parent, path.resolve().parent}
    return next((folder for folder in sorted(folders) if _is_open_folder(folder.stat())), None)


def _is_open_folder(found: os.stat_result) -> bool:
    """Tell whether others may put another file in the place of one: with the sticky bit only its owner may."""
    is_strange = found.st_uid not in {os.geteuid(), _ROOT}
    return is_strange or (_is_open(found) and not found.st_mode & stat.S_ISVTX)


def _is_open(found: os.stat_result) -> bool:
    is_shared = found.st_mode & stat.S_IWGRP and not _is_private(found.st_gid, found.st_uid)
    return bool(found.st_mode & stat.S_IWOTH or is_shared)


def _is_private(group: int, owner: int) -> bool:
    """Tell whether a group has its owner as its only member, as most systems make one for every user."""
    try:
        known, user = grp.getgrgid(group), pwd.getpwuid(owner)
    except KeyError:
        return False
    return known.gr_name == user.pw_name and set(known.gr_mem) <= {user.pw_name}


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
