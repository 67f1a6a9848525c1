"""What both benchmarks use: two throw-away servers, a plan for one table, a fresh table to copy it into.

The source is PostgreSQL 16, the target 18, both on this machine and with the settings of the demo (fsync is off), so
that what is measured is the way between them rather than the disk.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from psycopg import sql

from pgsluice import sqltext
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint
from pgsluice.facts import Column
from pgsluice.job import CopyFormat, Lane, TableRef
from pgsluice.model import StagedData, StagingTable
from pgsluice.plan import CopyPlan
from pgsluice.servers import Servers
from pgsluice.session import Session
from pgsluice.slices import relay_slice
from pgsluice.snapshot import Snapshot
from pgsluice.steps import catalog, staging

FORMATS = {
    "binary": (CopyFormat.BINARY,),
    "text": (CopyFormat.TEXT,),
    "both": (CopyFormat.BINARY, CopyFormat.TEXT),
}
_LANDING = TableRef("public", "landing")


@dataclass(frozen=True, slots=True)
class Pair:
    """Both servers, by the URIs of their sockets."""

    source: str
    target: str

    def sessions(self) -> Servers:
        """Return the sessions that a run would have; each is opened when it is first asked for."""
        return Servers(Endpoint(self.source, read_only=True), Endpoint(self.target, read_only=False))

    def to_source(self) -> Session:
        """Open a session that may write the source."""
        return Endpoint(self.source, read_only=False).open()

    def to_target(self) -> Session:
        """Open a session on the target."""
        return Endpoint(self.target, read_only=False).open()


@contextlib.contextmanager
def two_servers() -> Iterator[Pair]:
    """Start both; stop and remove them with all that they hold at the end. Nothing runs in them unasked."""
    quiet = {"autovacuum": "off"}
    with Cluster(16, settings=quiet) as source, Cluster(18, settings=quiet) as target:
        yield Pair(source.dsn, target.dsn)


def columns_of(pair: Pair, ref: TableRef) -> tuple[Column, ...]:
    with pair.to_source() as session:
        (found,) = catalog.tables(session, (ref,))
        return found.columns


def copy_plan(ref: TableRef, columns: tuple[Column, ...], lane: Lane, format_: CopyFormat) -> CopyPlan:
    """Return the plan of a whole plain table."""
    return CopyPlan(
        source=ref,
        relkind="r",
        where=None,
        window=None,
        columns=columns,
        lane=lane,
        lane_reason="measured",
        format=format_,
        format_reason="measured",
        search_path="",
        time_zone="UTC",
        rows_expected=-1,
        psql=None,
    )


@contextlib.contextmanager
def landing(pair: Pair, columns: tuple[Column, ...]) -> Iterator[StagingTable]:
    """Create a staging table as a run does, without an owner; drop it at the end."""
    table = StagingTable(_LANDING, _LANDING, columns, "benchmark")
    with pair.to_target() as session:
        session.execute(staging.create_sql(table))
        try:
            yield table
        finally:
            staging.drop(session, table.ref)


def checkpoint(pair: Pair) -> None:
    """Write what earlier work left behind, so that nobody else pays for it."""
    for session in (pair.to_source(), pair.to_target()):
        with session:
            session.execute(sql.SQL("CHECKPOINT"))


def relay(servers: Servers, plan: CopyPlan, table: StagingTable, shared: Snapshot) -> StagedData:
    """Do what a run's step `relay` does, its progress included, which nobody is told of."""
    return relay_slice(servers.main, plan, table, shared.exported, lambda _bytes: 0)


def rows_in(pair: Pair, table: StagingTable) -> int:
    with pair.to_target() as session:
        return staging.count(session, table)


def rows_of(pair: Pair, ref: TableRef) -> int:
    with pair.to_source() as session:
        return int(session.row(sql.SQL("SELECT count(*) FROM {}").format(sqltext.table(ref)))[0])


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
