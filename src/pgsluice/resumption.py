"""A staging table that is filled slice by slice, each committed by itself, and taken over by a later try or run.

A slice is used again only where its rows are proven to be those of the snapshot that the rest is read in: because it
was read in that very snapshot, or because a hash over its rows agrees on both sides.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from pgsluice import locks, sqltext
from pgsluice.model import CommittedSlice, Slice, StagingTable, ranges
from pgsluice.plan import SyncPlan
from pgsluice.servers import Servers
from pgsluice.slices import condition, copy_out, relation
from pgsluice.snapshot import Snapshot
from pgsluice.steps import audit, staging
from pgsluice.steps.state import CONTROL_SCHEMA


class Resumption:
    """The staging table of one job, and the slices of it that are there."""

    def __init__(self, servers: Servers, warn: Callable[[str], None]) -> None:
        """Keep what is needed.

        Args:
            servers: of the run.
            warn: told what could be used again, and why not.
        """
        self._servers = servers
        self._warn = warn
        self._table: StagingTable | None = None
        self._kept: staging.Kept | None = None
        self._read_in: Snapshot | None = None
        self._done: dict[int, CommittedSlice] = {}
        self._lock = 0
        self.reused = 0

    @property
    def table(self) -> StagingTable | None:
        """Return the staging table, or None where there is none yet."""
        return self._table

    @property
    def done(self) -> int:
        """Return how many slices are there."""
        return len(self._done)

    @property
    def count(self) -> int:
        """Return how many slices there shall be."""
        return len(self._slices)

    @property
    def _slices(self) -> tuple[Slice, ...]:
        return ranges(self._kept.pages) if self._kept else ()

    def open(self, plan: SyncPlan, snapshot: Snapshot, fresh: StagingTable) -> StagingTable:
        """Return the staging table to fill: that of an earlier try or run where it still serves, else a fresh one.

        Args:
            plan: of the job.
            snapshot: that the rest will be read in.
            fresh: the name of one to create.
        """
        now = _kept(self._servers, plan)
        self._lock = locks.run_key(self._servers.control, plan.job.target)
        if self._table is not None and self._kept is not None:
            if not self._is_made_from(now, self._kept, self._table.run_id):
                staging.drop(self._servers.control, self._table.ref)
                self._table = None
        elif plan.options.resume:
            self._take_over(plan, now, fresh.run_id)
        if self._table is None:
            staging.create(self._servers.control, fresh, self._lock)  # kept from its first slice on
            self._table, self._kept, self._done, self.reused = fresh, now, {}, 0
        else:
            self._keep_what_holds(plan, snapshot, self._table)
        self._read_in = snapshot
        return self._table

    def _take_over(self, plan: SyncPlan, now: staging.Kept, run_id: str) -> None:
        """Look for the table that an earlier run has left for this job."""
        control = self._servers.control
        for found in staging.listed(control, CONTROL_SCHEMA).waiting:
            if found.target != str(plan.job.target) or self._table is not None:
                continue
            if found.kept.job_id != plan.job_id:
                self._warn(
                    f"what run {found.run_id} has staged can't be used: its condition, mode, cursor or source was"
                    " another one; the table starts over"
                )
            elif not self._is_made_from(now, _as_it_is(found, plan), found.run_id):
                staging.drop(control, found.ref)
            else:
                self._kept = dataclasses.replace(now, pages=found.kept.pages)
                self._table = StagingTable(found.ref, plan.job.target, plan.columns, run_id)
                staging.tag(control, self._table, self._lock, self._kept)

    def _is_made_from(self, now: staging.Kept, then: staging.Kept, run_id: str) -> bool:
        """Tell whether what was staged is made from what would be staged now; say what differs."""
        differing = [name for name, value in now.made_from.items() if then.made_from.get(name) != value]
        if differing:
            self._warn(
                f"what run {run_id} has staged can't be used: {' and '.join(differing)} changed; the table starts over"
            )
        return not differing

    def _keep_what_holds(self, plan: SyncPlan, snapshot: Snapshot, table: StagingTable) -> None:
        control = self._servers.control
        was_there, spoiled = staging.committed(control, table)
        self._done = {}
        for ref, why in spoiled:
            self._warn(f"{ref} can't be used: {why}; its slice is read again")
            staging.drop(control, ref)
        for each in was_there:
            number = each.slice.number
            if self._holds(plan, snapshot, table, each):
                self._done[number] = each
            else:
                staging.drop(control, staging.part(table, number).ref)
        self.reused = len(self._done)
        if was_there:
            lost = len(was_there) - len(self._done)
            why = f"; {lost} were lost, or their rows have changed" if lost else ""
            self._warn(f"{len(self._done)} of {len(self._slices)} slices are there already{why}")

    def _holds(self, plan: SyncPlan, snapshot: Snapshot, table: StagingTable, each: CommittedSlice) -> bool:
        """Tell whether a slice is one of those planned and still has its rows, and they are what the snapshot shows."""
        if each.slice not in self._slices:
            return False
        if self._read_in is snapshot:  # not by its id: a server begins its ids anew when it restarts
            return staging.count(self._servers.control, staging.part(table, each.slice.number)) == each.rows
        return self._image_in_staging(plan, table, each) == self._image_at_source(plan, snapshot, each.slice)

    def _image_in_staging(self, plan: SyncPlan, table: StagingTable, each: CommittedSlice) -> tuple[int, int] | None:
        ref = staging.part(table, each.slice.number).ref
        with self._servers.writer.transaction(read_only=True):
            self._servers.writer.as_role("", plan.copy.time_zone)  # texts of times, as the source writes them
            image = audit.image(self._servers.writer, plan.names, sqltext.table(ref))
        return image if image[0] == each.rows else None

    def _image_at_source(self, plan: SyncPlan, snapshot: Snapshot, part: Slice) -> tuple[int, int]:
        copy = dataclasses.replace(plan.copy, part=part)
        with snapshot.exported.joined(self._servers.reader, copy):
            return audit.image(self._servers.reader, plan.names, relation(copy), condition(copy))

    @property
    def missing(self) -> tuple[Slice, ...]:
        """Return the slices that are not there yet."""
        return tuple(part for part in self._slices if part.number not in self._done)

    @property
    def rows(self) -> int:
        """Return the rows of the slices that are there."""
        return sum(each.rows for each in self._done.values())

    def took(self, committed: Sequence[CommittedSlice]) -> None:
        """Take note of slices that were committed; the time that the table is kept for begins anew. A round trip."""
        before = len(self._done)
        self._done |= {each.slice.number: each for each in committed}
        if self._table is not None and len(self._done) > before:
            staging.tag(self._servers.control, self._table, self._lock, self._kept)

    def release(self) -> None:
        """Say, in the open transaction that has merged the rows, that they wait for no other run any more."""
        if self._table is not None:
            staging.tag(self._servers.writer, self._table, self._lock)


def _as_it_is(found: staging.Waiting, plan: SyncPlan) -> staging.Kept:
    """Return what a table that waits was made from, or that it is not what it was made as."""
    if found.columns == tuple(plan.names):
        return found.kept
    return dataclasses.replace(found.kept, made_from={**found.kept.made_from, "what is read": None})


def _kept(servers: Servers, plan: SyncPlan) -> staging.Kept:
    """Say what the rows are made from: all of it has to agree before they are used again."""
    source, table = plan.facts.source, plan.facts.source_table
    copy = servers.control.text(copy_out(plan.copy))
    types = [(column.name, column.type) for column in plan.columns]
    made_from: dict[str, Any] = {
        "the source's server": [source.system, source.timeline, source.database],
        "the source's table": [table.oid, [leaf.file for leaf in table.leaves]],
        "what is read": hashlib.blake2b(json.dumps([copy, types]).encode(), digest_size=8).hexdigest(),
    }
    return staging.Kept(plan.job_id, made_from, tuple(part.first for part in plan.slices), plan.options.resume_keep)
