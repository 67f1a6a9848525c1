"""Pure: how a table might best be copied, judged by what its catalog says; a person has the last word."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pgsluice.facts import Column, TableInfo
from pgsluice.units import several, size

#: From here on reading a table as a whole each time is worth a second thought.
_LARGE_BYTES = 1 << 30
_CHANGED = re.compile(r"(updat|modif|chang|last_?(edit|writ|touch)|^mtime$|_mod$)", re.IGNORECASE)
_MOMENTS = frozenset({"timestamp with time zone", "timestamp without time zone"})


@dataclass(frozen=True, slots=True)
class Proposal:
    """Settings for a table, and why.

    Attributes:
        settings: by name, as in a configuration file.
        reason: one sentence.
        refusals: why the target can't be written so; empty where it can, or was not asked.
    """

    settings: dict[str, str]
    reason: str
    refusals: tuple[str, ...] = ()


def propose(table: TableInfo) -> Proposal:
    """Propose how a table is copied.

    Args:
        table: as the source's catalog describes it.
    """
    key = next((key for key in table.keys if key.not_null), None)
    if key is None:
        return Proposal({"strategy": "swap"}, "no key tells its rows apart, so it is replaced as a whole")
    cursor = next((column for column in table.columns if _tells_changes(column)), None)
    if table.bytes < _LARGE_BYTES:
        return Proposal({}, "read as a whole each time; from 64 MiB on, only what differs is copied")
    if cursor is None:
        return Proposal({"mode": "full"}, "no column says when a row was changed: compared by hashes, a scan a side")
    settings = {"mode": "incremental", "cursor": cursor.name, "deletes": "sweep"}
    return Proposal(settings, f"{cursor.name} says when a row was changed, if whatever writes it keeps to that")


def described(table: TableInfo) -> str:
    """Return a table's size and key in a line."""
    key = next((key for key in table.keys if key.not_null), None)
    rows = f"about {several(table.rows, 'row')}" if table.rows >= 0 else "never analysed"
    return f"{size(table.bytes)}, {rows}, key {', '.join(key.columns) if key else 'none'}"


def _tells_changes(column: Column) -> bool:
    return column.not_null and column.type in _MOMENTS and _CHANGED.search(column.name) is not None
