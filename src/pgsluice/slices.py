"""One slice: a part of a job's source relayed into its staging table, and counted at its source."""

from __future__ import annotations

import time
from collections.abc import Callable

from psycopg import sql

from pgsluice import sqltext
from pgsluice.job import Lane
from pgsluice.model import StagedData, StagingTable
from pgsluice.plan import CopyPlan
from pgsluice.servers import Servers
from pgsluice.snapshot import Snapshot
from pgsluice.steps import audit, relay, watch

OnProgress = Callable[[int, int], None]


def copy_out(plan: CopyPlan) -> sql.Composed:
    """Return the COPY that reads the source."""
    return relay.copy_out(plan.names, relation(plan), condition(plan), plan.format)


def copy_in(plan: CopyPlan, staging: StagingTable) -> sql.Composed:
    """Return the COPY that writes the staging table."""
    return relay.copy_in(staging, plan.columns, plan.format)


def condition(plan: CopyPlan) -> sql.SQL | sql.Composed:
    """Return which rows are read: the user's condition, of these the run's window, of these the slice."""
    conditions = [sqltext.condition(plan.where)] if plan.where else []
    conditions += [plan.window.condition] if plan.window else []
    if plan.part:
        conditions.append(sql.SQL("ctid >= {}::pg_catalog.tid").format(sql.Literal(f"({plan.part.first},0)")))
        if plan.part.end is not None:
            conditions.append(sql.SQL("ctid < {}::pg_catalog.tid").format(sql.Literal(f"({plan.part.end},0)")))
    return sql.SQL(" AND ").join(conditions) if conditions else sqltext.condition(None)


def relation(plan: CopyPlan) -> sql.SQL | sql.Composed:
    """Return what is read."""
    return sqltext.relation(plan.source, plan.relkind)


def relay_slice(
    servers: Servers, plan: CopyPlan, staging: StagingTable, snapshot: Snapshot, on_progress: OnProgress
) -> StagedData:
    """Copy the source's rows, as the snapshot shows them, into a staging table.

    Args:
        servers: whose reader and writer are used; the writer may be inside a transaction.
        plan: how.
        staging: where to.
        snapshot: of the source.
        on_progress: called with bytes and rows so far, at most twice a second.

    Raises:
        psycopg.Error: either server failed.
        StepError: psql did.
        LimitError: it would take more disk or memory than the user allows.
    """
    started = time.monotonic()
    room = watch.Room(servers.control, staging, plan.max_staging_bytes)
    watching = watch.RelayWatch(servers.control, servers.writer.pid, on_progress, room)
    writer = relay.Writer(servers.writer, servers.writer.text(copy_in(plan, staging)), watching, plan.max_memory)
    statement = snapshot.session.text(copy_out(plan))
    psql = relay.find_psql(plan.psql) if plan.lane is Lane.PSQL else None
    if psql and len(statement.encode()) <= relay.PSQL_STATEMENT_BYTES:
        settings = {"search_path": plan.search_path, "TimeZone": plan.time_zone}
        relayed, lane = relay.by_psql(psql, snapshot, statement, settings, writer), Lane.PSQL
    else:
        with snapshot.joined(servers.reader, plan.search_path, plan.time_zone):
            relayed, lane = relay.by_libpq(servers.reader, statement, writer), Lane.LIBPQ
    room.check(relayed.bytes)
    return StagedData(
        staging=staging,
        source=str(plan.source),
        source_count=relayed.source_rows,
        staging_count=relayed.rows,
        bytes=relayed.bytes,
        seconds=time.monotonic() - started,
        lane=lane.value,
        psql_peak_bytes=relayed.psql_peak_bytes,
        where=plan.where,
    )


def count_source(plan: CopyPlan, snapshot: Snapshot, staged: StagedData) -> int:
    """Return the source's own count: its COPY tag where libpq showed it, else one more scan in the same snapshot."""
    if staged.source_count >= 0:
        return staged.source_count
    snapshot.session.as_role(plan.search_path, plan.time_zone)
    counted = audit.rows(snapshot.session, relation(plan), condition(plan))
    snapshot.session.as_role("", "UTC")
    return counted
