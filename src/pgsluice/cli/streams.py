"""Standard streams whose end changes nothing: no work fails because nobody reads what is printed."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

#: The reader has left, or there never was one.
_NOBODY = frozenset({errno.EPIPE, errno.EBADF, errno.EIO})


class _Steady(io.FileIO):
    """A descriptor that takes whatever is written, and remembers why it did not get through."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer, which has no type before Python 3.12
        """Write, and say that it was written: else the interpreter would exit with 120 for what it could not flush."""
        try:
            written = super().write(data)
        except OSError as error:
            if error.errno not in _NOBODY:
                self.failure = self.failure or error
            written = memoryview(data).nbytes
        return written


def steady() -> None:
    """Put steady streams in the place of stdout and stderr; those that are closed lead nowhere.

    Were they left closed, the next socket to a server would be stderr, and what goes wrong be written to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stdout, sys.stderr = _text(1, sys.stdout), _text(2, sys.stderr)


def lost() -> str:
    """Return why something that was printed on stdout was lost; "" where nothing was, or nobody is there to read it."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return str(raw.failure.strerror) if isinstance(raw, _Steady) and raw.failure else ""


def _text(descriptor: int, found: TextIO | None) -> TextIO:
    """Return a stream like the one that was found, to which a name that it can't show is no reason to fail."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Steady(descriptor)),
        encoding=found.encoding if found else "utf-8",
        errors="backslashreplace",
        line_buffering=bool(getattr(found, "line_buffering", True)),
        write_through=bool(getattr(found, "write_through", False)),
    )
