"""Bytes and spans of time as people write and read them."""

from __future__ import annotations

import re
from fractions import Fraction

from pgsluice.errors import UsageError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_KIB = 1024
_SPAN = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|min|[smhd]|)", re.IGNORECASE)
_DIGITS = 12
_SECONDS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?)(?:i?B)?", re.IGNORECASE)


def size(bytes_: float) -> str:
    """Return a number of bytes as a person reads it."""
    for unit in _UNITS[:-1]:
        if bytes_ < _KIB:
            return f"{bytes_:.0f} {unit}" if unit == "B" else f"{bytes_:.1f} {unit}"
        bytes_ /= _KIB
    return f"{bytes_:.1f} {_UNITS[-1]}"


def several(number: int, noun: str) -> str:
    """Return a number of things: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def bytes_of(text: str) -> int:
    """Read ``500 MB``, ``10GB``, ``1.5TiB`` or a plain number of bytes, in powers of 1024 as PostgreSQL counts them.

    Raises:
        UsageError: not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a size", hint="Write a number of bytes with its unit: 500MB, 10GB.")
    try:
        return int(Fraction(match["number"]) * _KIB ** " KMGT".index(match["unit"].upper() or " "))
    except ValueError:  # more digits than Python reads
        raise UsageError("a size has too many digits", hint="Write it in a larger unit.") from None


def seconds_of(text: str) -> float:
    """Read ``90``, ``500ms``, ``90s``, ``15m``, ``24h`` or ``7d`` as seconds.

    Raises:
        UsageError: not a span of time.
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None or len(match["number"]) > _DIGITS:
        raise UsageError(f"{text!r} is not a span of time", hint="Write a number with its unit: 90s, 15m, 24h, 7d.")
    return float(match["number"]) * _SECONDS[match["unit"].lower()]


def span(seconds: float) -> str:
    """Return a span of time as a person reads it: two units at most."""
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            smaller = {"d": ("h", 3600), "h": ("m", 60), "m": ("s", 1)}[unit]
            rest = int(seconds % length // smaller[1])
            return f"{int(seconds // length)}{unit}" + (f" {rest}{smaller[0]}" if rest else "")
    return f"{seconds:.0f}s"
