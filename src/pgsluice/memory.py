"""Peak resident memory of a process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


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
