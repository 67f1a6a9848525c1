"""One slice: a part of a job's source relayed into its staging table, counted at its source, and committed."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass

from psycopg import sql

from pgsluice import sqltext
from pgsluice.hashing import Side
from pgsluice.job import Lane
from pgsluice.model import CommittedSlice, StagedData, StagingTable
from pgsluice.plan import CopyPlan
from pgsluice.servers import Worker
from pgsluice.session import RESTRICTION
from pgsluice.snapshot import Exported, see_that_it_is
from pgsluice.steps import audit, relay, staging


def copy_out(plan: CopyPlan) -> sql.Composed:
    """Return the COPY that reads the source."""
    selection = sqltext.selection(plan.names, plan.origins or (None,) * len(plan.names))
    return relay.copy_out(selection, relation(plan), condition(plan), plan.format, plan.encodings[0])


def rows(plan: CopyPlan, *more: sql.Composable) -> sql.Composed:
    """Return the rows that a copy reads, as they stand behind FROM, with more columns where these are given."""
    selection = sqltext.selection(plan.names, plan.origins or (None,) * len(plan.names))
    selection = sql.SQL(", ").join([selection, *more])
    return sql.SQL("(SELECT {} FROM {} WHERE {}) AS compared").format(selection, relation(plan), condition(plan))


def copy_in(plan: CopyPlan, table: StagingTable) -> sql.Composed:
    """Return the COPY that writes the staging table."""
    return relay.copy_in(table, plan.columns, plan.format, plan.encodings[1])


def condition(plan: CopyPlan) -> sql.SQL | sql.Composed:
    """Return which rows are read: the user's condition, of these the run's window, of these the slice."""
    conditions = [sqltext.condition(plan.where)] if plan.where else []
    conditions += [plan.window.condition] if plan.window else []
    conditions += [plan.buckets.condition(Side.SOURCE)] if plan.buckets else []
    if plan.part and plan.part.first:
        conditions.append(sql.SQL("ctid >= {}::pg_catalog.tid").format(sql.Literal(f"({plan.part.first},0)")))
    if plan.part and plan.part.end is not None:
        conditions.append(sql.SQL("ctid < {}::pg_catalog.tid").format(sql.Literal(f"({plan.part.end},0)")))
    return sql.SQL(" AND ").join(conditions) if conditions else sqltext.condition(None)


def relation(plan: CopyPlan) -> sql.SQL | sql.Composed:
    """Return what is read."""
    if plan.part and plan.part.leaf:
        return sqltext.relation(plan.part.leaf, "r")
    return sqltext.relation(plan.source, plan.relkind)


@dataclass(frozen=True, slots=True)
class SliceTask:
    """One slice to copy, as a value that any worker can be handed.

    Attributes:
        copy: what is read, and how.
        table: where it lands.
        snapshot: what it is read in.
        apart: it gets a table of its own, a part of `table`, which says what it holds.
        verify: it is counted on both sides.
    """

    copy: CopyPlan
    table: StagingTable
    snapshot: Exported
    apart: bool
    verify: bool


def copy_slice(worker: Worker, task: SliceTask, on_bytes: relay.OnBytes) -> StagedData:
    """Copy one slice and commit it.

    Args:
        worker: who does it.
        task: what is to be done.
        on_bytes: called after every block with the bytes so far; returns the seconds to wait, and is asked again.

    Raises:
        psycopg.Error: either server failed.
        StepError: psql did.
        VerifyError: source and staging count differently.
    """
    part, into = task.copy.part, task.table
    if task.apart and part:
        into = staging.create_part(worker.writer, task.table, part.number)
    with worker.writer.transaction():
        staged = relay_slice(worker, task.copy, into, task.snapshot, on_bytes)
        if task.verify:
            staged = dataclasses.replace(staged, source_count=count_source(worker, task.copy, task.snapshot, staged))
            audit.sent(staged.source_count, staged.staging_count)
        if task.apart and part:
            staging.note(worker.writer, into, CommittedSlice(part, staged.staging_count, staged.bytes))
    return staged


def relay_slice(
    worker: Worker, plan: CopyPlan, table: StagingTable, snapshot: Exported, on_bytes: relay.OnBytes
) -> StagedData:
    """Copy the source's rows, as the snapshot shows them, into a staging table.

    Args:
        worker: whose sessions are used; the writer may be inside a transaction.
        plan: how.
        table: where to.
        snapshot: of the source.
        on_bytes: called after every block with the bytes so far; returns the seconds to wait, and is asked again.

    Raises:
        psycopg.Error: either server failed.
        StepError: psql did.
        LimitError: it would take more memory than the user allows.
    """
    started = time.monotonic()
    writer = relay.Writer(worker.writer, worker.writer.text(copy_in(plan, table)), on_bytes, plan.max_memory)
    statement = worker.reader.text(copy_out(plan))
    psql = relay.find_psql(plan.psql) if plan.lane is Lane.PSQL else None
    # the zone is ours: a time without one is read as the source wrote it
    paths = worker.writer.playing_role(worker.writer.search_path) if plan.calls_functions else contextlib.nullcontext()
    with paths:
        if psql:
            relayed, lane = _by_psql(psql, worker, plan, snapshot, statement, writer), Lane.PSQL
        else:
            with snapshot.joined(worker.reader, plan):
                relayed, lane = relay.by_libpq(worker.reader, statement, writer), Lane.LIBPQ
    return StagedData(
        staging=table,
        source=str(plan.source),
        source_count=relayed.source_rows,
        staging_count=relayed.rows,
        bytes=relayed.bytes,
        seconds=time.monotonic() - started,
        lane=lane.value,
        psql_peak_bytes=relayed.psql_peak_bytes,
        where=plan.where,
    )


def _by_psql(  # noqa: PLR0913, PLR0917 - what the other process has to be told
    psql: str, worker: Worker, plan: CopyPlan, snapshot: Exported, statement: str, writer: relay.Writer
) -> relay.Relayed:
    """Let psql read, under what the reader's own session would be; that one sees that the source stays what it is."""
    reader, read = worker.reader, plan.read
    settings = {"search_path": plan.search_path, "TimeZone": plan.time_zone}
    settings |= {RESTRICTION: read.not_behind} if reader.can_restrict_relations else {}
    if RESTRICTION not in settings or not read.not_behind:
        see_that_it_is(reader, read)
    relayed = relay.by_psql(psql, reader, snapshot, statement, settings, writer)
    see_that_it_is(reader, read)
    return relayed


def count_source(worker: Worker, plan: CopyPlan, snapshot: Exported, staged: StagedData) -> int:
    """Return the source's own count: its COPY tag where libpq showed it, else one more scan in the same snapshot."""
    if staged.source_count >= 0:
        return staged.source_count
    with snapshot.joined(worker.reader, plan):
        return audit.rows(worker.reader, relation(plan), condition(plan))
