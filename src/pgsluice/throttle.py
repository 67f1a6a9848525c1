"""Holds copies back: to a rate, and while the target's standbys are behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_HELD_SECONDS = 0.2


class Throttle:
    """What all copies of a run take together."""

    def __init__(self, rate: int | None) -> None:
        """Let everything through up to `rate`, in bytes a second; None for no limit."""
        self._rate = rate
        self._changing = threading.Lock()
        self._free_at = 0.0
        self.is_held = False

    def meter(self) -> Callable[[int], float]:
        """Return what one copy calls with its bytes so far; it returns the seconds to wait before it is called again.

        0 means to go on.
        """
        before = 0

        def passed(bytes_: int) -> float:
            nonlocal before
            taken, before = bytes_ - before, bytes_
            return self._wait_behind(taken)

        return passed

    def _wait_behind(self, bytes_: int) -> float:
        wait = _HELD_SECONDS if self.is_held else 0.0
        if self._rate:
            with self._changing:
                now = time.monotonic()
                self._free_at = max(self._free_at, now) + bytes_ / self._rate if bytes_ else self._free_at
                wait = max(wait, self._free_at - now)
        return wait
