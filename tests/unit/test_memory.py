"""Memory of processes, as the system tells it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading

import pytest

from pgsluice import memory
from pgsluice.errors import LimitError

MIB = 1 << 20
HOLDS = "import sys; held = bytearray(b'x') * (64 << 20); print(flush=True); sys.stdin.read()"


def child() -> subprocess.Popen[bytes]:
    """Start a process that holds 64 MiB until its input ends."""
    started = subprocess.Popen([sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdout is not None
    assert started.stdout.readline()
    return started


def test_a_process_holds_what_it_allocated_and_nothing_once_it_has_ended() -> None:
    with child() as other:
        held = memory.resident(other.pid)
        assert 64 * MIB < held < 200 * MIB
        assert sys.platform != "linux" or held <= memory.peak(other.pid)
        other.communicate()
    assert memory.resident(other.pid) == 0


def test_our_own_memory_is_told_without_a_number() -> None:
    before = memory.resident()
    held = bytearray(b"x") * (64 * MIB)
    assert memory.resident() - before > 60 * MIB, len(held)


@pytest.mark.skipif(not shutil.which("ps"), reason="no ps on this machine")
def test_ps_tells_the_same() -> None:
    with child() as other:
        assert memory._by_ps(other.pid) == pytest.approx(memory.resident(other.pid), rel=0.05)
        other.communicate()
    assert memory._by_ps(other.pid) == 0


def test_a_ceiling_counts_both_processes_and_stops_what_is_waited_for() -> None:
    limit = memory.resident() + 32 * MIB
    with child() as other:

        def wait() -> None:
            """Wait for the other process, which ends only when it is stopped."""
            other.wait(30)

        with (
            pytest.raises(LimitError, match=r"and its psql \d+\.\d MiB, and the ceiling is"),
            memory.ceiling(limit, other.pid, lambda _reason: other.kill()),
        ):
            wait()
    assert other.returncode < 0


def test_an_error_of_the_block_stays_what_it_is_below_the_ceiling_and_above_it_says_why() -> None:
    limits: dict[int | None, type[Exception]] = {memory.resident() * 10: KeyError, None: KeyError, 1: LimitError}
    for limit, kind in limits.items():
        stopped = threading.Event()

        def fail(limit: int | None = limit, stopped: threading.Event = stopped) -> None:
            with memory.ceiling(limit, None, lambda _reason: stopped.set()):
                assert limit != 1 or stopped.wait(30)
                raise KeyError

        with pytest.raises(kind):
            fail()
        assert stopped.is_set() is (kind is LimitError)
