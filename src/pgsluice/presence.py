"""Which runs of this user live on this machine, and which have died: a locked file for each run.

The kernel frees the lock with the process, however it ends, so nothing here depends on process ids or on /proc. A run
on another machine, of another user or in another container is unknown here, and an unknown run is never called dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

_NEW = ".new-"
_TRIES = 3
#: For so long, later runs end what a dead run left on their servers: one marker may concern several servers.
_REMEMBERED_SECONDS = 7 * 86_400
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@contextlib.contextmanager
def announced(run_id: str) -> Iterator[Path | None]:
    """Let other processes of this user know, while the block runs, that the run lives.

    Args:
        run_id: of the run.

    Yields:
        Its marker; None where the machine has no place that only we can write: the run works without it.
    """
    marker = None
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            marker = _announce(run_id, stack)
        yield marker


def dead_runs() -> frozenset[str]:
    """Return the runs of this user on this machine whose processes are gone."""
    return frozenset(marker.name.rpartition(".")[0] for marker in _markers() if _is_dead(marker))


def sweep() -> None:
    """Forget the runs that died long ago."""
    for base in _bases():
        for marker in _entries(base):
            with contextlib.suppress(OSError):
                if time.time() - marker.lstat().st_mtime > _REMEMBERED_SECONDS and _is_dead(marker):
                    marker.unlink()


def _announce(run_id: str, stack: contextlib.ExitStack) -> Path | None:
    for _ in range(_TRIES):  # a run that ends removes the folder of all where it is empty
        if base := next(filter(_is_private, _made(_candidates())), None):
            with contextlib.suppress(FileNotFoundError):
                return _announce_in(base, run_id, stack)
    return None


def _announce_in(base: Path, run_id: str, stack: contextlib.ExitStack) -> Path:
    """Lock a file first, and give it the run's name then: nobody sees the run without its lock."""
    stack.callback(_remove_if_empty, base)
    lock, new = tempfile.mkstemp(prefix=_NEW, dir=base)
    stack.callback(os.close, lock)
    stack.callback(Path(new).unlink, missing_ok=True)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    marker = Path(new).rename(base / f"{run_id}.{_machine()}")
    stack.callback(marker.unlink, missing_ok=True)
    return marker


def _remove_if_empty(base: Path) -> None:
    with contextlib.suppress(OSError):
        base.rmdir()


def _is_dead(marker: Path) -> bool:
    """Tell whether the lock of a marker is free; a shared lock asks, so that two who ask at once agree."""
    try:
        lock = os.open(marker, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found = os.fstat(lock)  # a run that ends well removes its file before it frees the lock
        return stat.S_ISREG(found.st_mode) and found.st_nlink > 0
    except OSError:
        return False
    finally:
        os.close(lock)


def _markers() -> Iterator[Path]:
    """Yield the markers of this machine's runs: folders can be shared with other machines, and locks may not be."""
    machine = _machine()
    for base in _bases():
        yield from (marker for marker in _entries(base) if marker.name.endswith(f".{machine}"))


def _entries(base: Path) -> tuple[Path, ...]:
    with contextlib.suppress(OSError):
        return tuple(base.iterdir())
    return ()


def _machine() -> str:
    """Return what tells this machine, since its last start, from others."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = _BOOT_ID.read_text("ascii")
    return blake2b((boot or socket.gethostname()).encode(), digest_size=8).hexdigest()


# --- where -----------------------------------------------------------------------------------------------------------


def _candidates() -> Iterator[Path]:
    """Yield the places, the best first: cron and a login agree on the temporary folder, not on the runtime folder."""
    yield Path(tempfile.gettempdir(), f"pgsluice-{os.geteuid()}")
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, "pgsluice")


def _made(candidates: Iterator[Path]) -> Iterator[Path]:
    for base in candidates:
        with contextlib.suppress(OSError):
            base.mkdir(mode=0o700)
        yield base


def _bases() -> Iterator[Path]:
    return filter(_is_private, _candidates())


def _is_private(base: Path) -> bool:
    """Tell whether a folder is ours alone: in a folder that all may write, somebody else can have made it."""
    try:
        found = base.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
