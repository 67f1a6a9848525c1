"""Which runs of this user live on this machine, and which have died: a locked file for each run.

The kernel frees the lock with the process, however it ends, so nothing here depends on process ids or on /proc. A run
on another machine, of another user or in another container is unknown here, and an unknown run is never called dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

_LOCK = "lock"
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
        A private folder of the run: `sweep` removes what a killed run leaves in it. None where the machine has no
        place that only we can write; the run works without it.
    """
    folder = None
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder = _announce(run_id, stack)
        yield folder


def dead_runs() -> frozenset[str]:
    """Return the runs of this user on this machine whose processes are gone."""
    return frozenset(folder.name.rpartition(".")[0] for folder in _folders() if _is_dead(folder))


def sweep() -> None:
    """Remove what dead runs left in their folders, and the folders of those that died long ago."""
    for base in _bases():
        for folder in _entries(base):
            with contextlib.suppress(OSError):
                _sweep(folder)


def _sweep(folder: Path) -> None:
    is_old = time.time() - folder.lstat().st_mtime > _REMEMBERED_SECONDS
    if folder.name.startswith(_NEW) and not is_old:
        return
    if not _is_dead(folder):
        return
    if is_old:
        shutil.rmtree(folder)
        return
    for left in folder.iterdir():
        if left.name != _LOCK:
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def _announce(run_id: str, stack: contextlib.ExitStack) -> Path | None:
    for _ in range(_TRIES):  # a run that ends removes the folder of all where it is empty
        if base := next(filter(_is_private, _made(_candidates())), None):
            with contextlib.suppress(FileNotFoundError):
                return _announce_in(base, run_id, stack)
    return None


def _announce_in(base: Path, run_id: str, stack: contextlib.ExitStack) -> Path:
    """Lock a file first, and give its folder the run's name then: nobody sees the run without its lock."""
    stack.callback(_remove_if_empty, base)
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=base))
    stack.callback(shutil.rmtree, new, ignore_errors=True)
    lock = os.open(new / _LOCK, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    stack.callback(os.close, lock)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder = new.rename(base / f"{run_id}.{_machine()}")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _remove_if_empty(base: Path) -> None:
    with contextlib.suppress(OSError):
        base.rmdir()


def _is_dead(folder: Path) -> bool:
    """Tell whether the lock of a folder is free; a shared lock asks, so that two who ask at once agree."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return os.fstat(lock).st_nlink > 0  # a run that ends well removes its file before it frees the lock
    except OSError:
        return False
    finally:
        os.close(lock)


def _folders() -> Iterator[Path]:
    """Yield the folders of this machine's runs: folders can be shared with other machines, and locks may not be."""
    machine = _machine()
    for base in _bases():
        yield from (folder for folder in _entries(base) if folder.name.endswith(f".{machine}"))


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
