"""Resident memory of processes: how much it is, how much it was, and a ceiling over it."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from pgsluice.errors import LimitError
from pgsluice.units import size

_EVERY_SECONDS = 0.1
_PS_SECONDS = 5


def peak(pid: int | None = None) -> int:
    """Return the peak resident memory of a process, in bytes; 0 where the system does not tell.

    On Linux from /proc (proc(5), VmHWM): getrusage's figure is inherited from the parent across exec.

    Args:
        pid: of a living process, or None for this one.
    """
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text("ascii", "replace")
    except OSError:
        return _own_maximum() if pid is None else 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def _own_maximum() -> int:
    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else maximum << 10


def resident(pid: int | None = None) -> int:
    """Return the resident memory of a process now, in bytes; 0 where it has ended, or the system does not tell.

    Args:
        pid: of the process, or None for this one.
    """
    if sys.platform != "linux":
        return _by_ps(pid or os.getpid())
    try:
        pages = Path(f"/proc/{pid or 'self'}/statm").read_text("ascii").split()[1]  # proc(5)
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def _by_ps(pid: int) -> int:
    try:
        told = subprocess.run(  # noqa: S603 - ps itself, and a number
            ["ps", "-o", "rss=", "-p", str(pid)],  # noqa: S607 - as the system has it
            capture_output=True,
            text=True,
            timeout=_PS_SECONDS,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return int(told or 0) << 10


@contextlib.contextmanager
def ceiling(limit: int | None, pid: int | None, stop: Callable[[str], None]) -> Iterator[None]:
    """Keep what this process and another hold together under a ceiling while the block runs.

    Sampled by a thread, ten times a second: a row of hundreds of megabytes grows inside one call of libpq.

    Args:
        limit: bytes, or None for none.
        pid: of the other process, or None.
        stop: ends what the block waits for, from any thread; given the reason.

    Raises:
        LimitError: it was passed; the block was stopped.
    """
    if limit is None:
        yield
        return
    passed: list[LimitError] = []
    over = threading.Event()

    def sample() -> None:
        while not passed:
            ours, theirs = resident(), resident(pid) if pid else 0
            if ours + theirs > limit:
                passed.append(_passed(limit, ours, theirs))
                stop(passed[0].message)
            elif over.wait(_EVERY_SECONDS):
                return

    thread = threading.Thread(target=sample, name="pgsluice memory", daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        if passed:
            raise passed[0] from error
        raise
    finally:
        over.set()
        thread.join()
    if passed:
        raise passed[0]


def _passed(limit: int, ours: int, theirs: int) -> LimitError:
    psql = f" and its psql {size(theirs)}" if theirs else ""
    return LimitError(
        f"this process holds {size(ours)} of memory{psql}, and the ceiling is {size(limit)}",
        hint="Nothing was merged. A row passes through whole, more than once: leave out its widest column, or raise"
        " --max-memory.",
        step="relay",
    )
