"""Pure: the bytes that a job takes on the target, at most, from what both catalogs say before the copy.

The factors are of PostgreSQL's own records (src/include/access/heapam_xlog.h, nbtxlog.h) and were measured; what came
out is in docs/limits.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from pgsluice import hashing
from pgsluice.facts import SIZED, Facts, Key, TableInfo
from pgsluice.job import Mode, Options, Strategy, SyncJob
from pgsluice.policies import DeletePolicy
from pgsluice.units import several, size

#: A relation that grows is extended by many pages at a time, and values are laid out by another column order.
_LOOSE = 17 / 16
#: The smallest row: its header, its pointer, a column.
_ROW_BYTES = 32
#: Of WAL around a row that is inserted; around one that replaces another.
_INSERTED_BYTES = 32
_REPLACED_BYTES = 100
#: Inserted entry by entry, in any order, pages of an index end up less full than those built at once ..
_SPLIT = 1.5
#: .. and an entry's record and its share of the splits are this many times the entry.
_ENTRY = 4
#: An entry of an index on a column of four bytes takes 20 bytes there, and 36 as a row of its own.
_KEY_AS_ROW = 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes on the target, each at most.

    Attributes:
        staging: of the staging tables, while the job is on its way.
        target: by which the table and its indexes grow, were every row new or different.
        wal: written by the merge, were every row new or different; staging writes none for its rows.
        is_part: only a part of the source is read, and how large it is shows when it has been read.
    """

    staging: int
    target: int
    wal: int
    is_part: bool

    def __str__(self) -> str:
        """Return the estimate in words."""
        return (
            f"{'not known; ' if self.is_part else ''}at most {size(self.staging)} of staging, {size(self.target)} more"
            f" in the target, {size(self.wal)} of WAL"
        )

    def to_dict(self) -> dict[str, int]:
        """Return the three, by name."""
        return {"staging": self.staging, "target": self.target, "wal": self.wal}


def estimate(  # noqa: PLR0913 - all that it depends on
    job: SyncJob, facts: Facts, key: Key | None, *, is_part: bool, indexes: bool, replaces: bool = False
) -> Estimate | None:
    """Estimate what a job takes; None where the source shows no size.

    Args:
        job: what the user asks for.
        facts: of both servers.
        key: what identifies a row, or None where nothing does.
        is_part: the run reads a part of the rows in scope, and the keys of all of them where it deletes.
        indexes: a new table gets all of the source's.
        replaces: a new table takes the target's place.
    """
    source, target = facts.source_table, facts.target_table
    if source.relkind not in SIZED:
        return None
    table = round(source.bytes * _LOOSE)
    sweeps = is_part and job.deletion.policy is not DeletePolicy.KEEP
    if target is None:
        becomes = _created(job, source, key, table, indexes=indexes)
    else:
        becomes = (_replaced if replaces else _merged)(job, source, target, table)
    return dataclasses.replace(
        becomes,
        staging=table + (_keys_staged(source, key, table) if sweeps else 0),
        is_part=is_part or job.where is not None,
    )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a strategy is expected to send over the network.

    Attributes:
        rows: that are copied; -1 where nothing tells how much differs.
        hashes: bytes of them, from both sides.
        changed: rows that the job's last run has changed; -1 where that says nothing.
    """

    rows: int
    hashes: int = 0
    changed: int = -1

    def __str__(self) -> str:
        """Return it in words."""
        rows = f"about {several(self.rows, 'row')}" if self.rows >= 0 else "rows of a number that is not known"
        if not self.hashes:
            return rows
        last = f" ({self.changed:,} changed last time)" if self.changed >= 0 else ""
        return f"{size(self.hashes)} of hashes, and {rows}{last}"


def forecast(strategy: Strategy, facts: Facts, *, is_part: bool = False) -> Forecast:
    """Say what a strategy is expected to send over the network.

    Args:
        strategy: `DIFF`, or any that copies every row.
        facts: of both sides, with what the job's last run has changed.
        is_part: only a part of the rows is read, and how many shows when they have been read.
    """
    source, state = facts.source_table, facts.progress.state
    rows = _rows(source)
    if strategy is not Strategy.DIFF:
        return Forecast(-1 if is_part or source.relkind not in SIZED else rows)
    hashes = hashing.bytes_for(rows)
    if is_part or state is None or state.changed is None:
        return Forecast(-1, hashes)
    return Forecast(round(rows * hashing.affected(rows, state.changed)), hashes, state.changed)


def refusals(estimated: Estimate | None, options: Options) -> Iterator[str]:
    """Say where staging would pass the user's limit; a part is let begin, and stopped where it passes it."""
    limit = options.max_staging_bytes
    if limit is not None and estimated is not None and not estimated.is_part and estimated.staging > limit:
        yield (
            f"Staging would take up to {size(estimated.staging)} on the target, and the limit is {size(limit)}:"
            " raise --max-staging-bytes, or copy a part at a time, --where with --mode upsert."
        )


def _keys_staged(source: TableInfo, key: Key | None, table: int) -> int:
    """Return what a sweep stages: the key alone of every row, judged by its index, else at most the table again."""
    index = next((each for each in source.keys if key and set(each.columns) == set(key.columns)), None)
    return min(table, index.bytes * _KEY_AS_ROW) if index else table


def _rows(source: TableInfo) -> int:
    return source.rows if source.rows >= 0 else source.heap_bytes // _ROW_BYTES


def _created(job: SyncJob, source: TableInfo, key: Key | None, table: int, *, indexes: bool) -> Estimate:
    """Return what a new table takes: rows one by one, then its keys and indexes at once, as whole pages."""
    known = {frozenset(each.columns): each.bytes for each in source.keys}
    built = {frozenset(each.columns) for each in source.keys if each.primary}
    built |= {frozenset(key.columns)} if key else set()
    pages = 0 if job.mode is Mode.APPEND else sum(known.get(each, source.heap_bytes) for each in built)
    pages = max(pages, source.index_bytes) if indexes else pages
    return Estimate(0, table + pages, table + _rows(source) * _INSERTED_BYTES + pages, is_part=False)


def _replaced(_: SyncJob, source: TableInfo, target: TableInfo, table: int) -> Estimate:
    """Return what a new table takes that has the target's indexes, before the old one goes."""
    rows = _rows(source)
    pages = max(target.index_bytes, target.index_bytes * rows // target.rows if target.rows > 0 else source.index_bytes)
    return Estimate(0, table + pages, table + rows * _INSERTED_BYTES + pages, is_part=False)


def _merged(job: SyncJob, source: TableInfo, target: TableInfo, table: int) -> Estimate:
    """Return what changes take in a table that exists: rows, an entry of each index, and each page met, once whole.

    After a checkpoint the first change of a page logs the page itself (full_page_writes).
    """
    rows = _rows(source)
    entries = (
        target.index_bytes * rows // target.rows if target.rows > 0 else max(source.index_bytes, target.index_bytes)
    )
    appends = job.mode is Mode.APPEND
    around = rows * (_INSERTED_BYTES if appends else _REPLACED_BYTES)
    pages = target.index_bytes + (0 if appends else target.bytes)
    return Estimate(0, table + round(entries * _SPLIT), table + around + entries * _ENTRY + pages, is_part=False)
