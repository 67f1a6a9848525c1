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


class _Block:
    """What runs under a ceiling, with the process that works for it."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid


_blocks: list[_Block] = []
_changing = threading.Lock()


@contextlib.contextmanager
def ceiling(limit: int | None, pid: int | None, stop: Callable[[str], None]) -> Iterator[None]:
    """Keep what this process and those that work for it hold together under a ceiling while the block runs.

    Sampled by a thread, ten times a second: a row of hundreds of megabytes grows inside one call of libpq. Of several
    blocks at once the youngest is stopped, and the others go on with what it held.

    Args:
        limit: bytes, or None for none.
        pid: of the other process that this block has, or None.
        stop: ends what the block waits for, from any thread; given the reason.

    Raises:
        LimitError: it was passed; the block was stopped.
    """
    if limit is None:
        yield
        return
    passed: list[LimitError] = []
    over = threading.Event()
    block = _Block(pid)

    def sample() -> None:
        was_youngest = True
        while not passed:
            ours, theirs, is_youngest = _held(block)
            if ours + theirs > limit and is_youngest and was_youngest:
                passed.append(_passed(limit, ours, theirs))
                stop(passed[0].message)
            elif over.wait(_EVERY_SECONDS):
                return
            was_youngest = is_youngest  # what a younger one held is free only a moment after its end

    with _changing:
        _blocks.append(block)
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
        with _changing:
            _blocks.remove(block)
    if passed:
        raise passed[0]


def _held(block: _Block) -> tuple[int, int, bool]:
    """Return what this process holds, what the others hold, and whether the block is the youngest."""
    with _changing:
        pids, is_youngest = [each.pid for each in _blocks if each.pid], _blocks[-1] is block
    return resident(), sum(map(resident, pids)), is_youngest


def _passed(limit: int, ours: int, theirs: int) -> LimitError:
    psql = f" and its psql {size(theirs)}" if theirs else ""
    return LimitError(
        f"this process holds {size(ours)} of memory{psql}, and the ceiling is {size(limit)}",
        hint="Nothing was merged. A row passes through whole, more than once: leave out its widest column, or raise"
        " --max-memory.",
        step="relay",
    )
