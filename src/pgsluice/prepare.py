"""From a request to plans: open both servers, lock, take the snapshot, look, and only then decide.

Nothing in here writes to either server.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import psycopg

from pgsluice import locks, sqltext
from pgsluice.errors import PgsluiceError, PlanError, UserSqlError
from pgsluice.facts import Facts, SchemaInfo, ServerInfo, TableInfo
from pgsluice.job import Mode, Options, QuerySource, Selection, SyncJob, TableRef
from pgsluice.plan import SyncPlan, make_plan
from pgsluice.retry import step_error
from pgsluice.session import Endpoint, Session
from pgsluice.snapshot import Snapshot, snapshot
from pgsluice.steps import catalog, merge, relay

LOCKABLE = frozenset({"r", "p", "v"})


class Servers:
    """Both servers of a run. Whatever a name or a host list says later, all sessions go to the same two."""

    def __init__(self, source: Endpoint, target: Endpoint) -> None:
        """Keep the endpoints; entering connects."""
        self._endpoints = {"source": source, "target": target}
        self._open: dict[str, Session] = {}

    def __enter__(self) -> Self:
        """Return them; a session is opened when it is first asked for."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every session."""
        self.close()

    def close(self) -> None:
        """Close every session; the servers free their locks and roll back what was open."""
        for session in self._open.values():
            session.close()
        self._open.clear()

    @property
    def source(self) -> Session:
        """Return the session that holds the source's snapshot."""
        return self._session("source", "source")

    @property
    def control(self) -> Session:
        """Return the target session that holds the run's locks; opened anew where it was lost."""
        return self._session("control", "target")

    @property
    def reader(self) -> Session:
        """Return the source session that reads by libpq."""
        return self._session("reader", "source")

    @property
    def writer(self) -> Session:
        """Return the target session that copies and merges."""
        return self._session("writer", "target")

    def writer_pid(self) -> int | None:
        """Return the backend of the writer, lost or not, or None where there was none."""
        return self._open["writer"].pid if "writer" in self._open else None

    def abandon_writer(self) -> None:
        """Give up a writer that is in the middle of something, so that it holds nothing any more."""
        writer = self._open.get("writer")
        if writer is not None and not writer.usable:
            writer.abandon()

    def revive_control(self) -> Session:
        """Return the control session after seeing that it answers."""
        try:
            self.control.row(sqltext.verbatim("SELECT 1"))
        except psycopg.Error:
            self._open.pop("control").close()
        return self.control

    def _session(self, name: str, side: str) -> Session:
        session = self._open.get(name)
        if session is None or not session.alive:
            if session is not None:
                session.close()
            session = self._open[name] = self._endpoints[side].open()
            self._endpoints[side] = dataclasses.replace(self._endpoints[side], pinned=session.pinned)
        return session


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run starts from.

    Attributes:
        snapshot: of the source, held while the context is open.
        outcomes: each job with its plan, or with the error that keeps it from being done; tables that others refer
            to come before these.
    """

    snapshot: Snapshot
    outcomes: tuple[tuple[SyncJob, SyncPlan | PgsluiceError], ...]


def jobs_of(servers: Servers, selection: Selection, control_schema: str) -> tuple[SyncJob, ...]:
    """Resolve what the user named, on the source, outside any transaction.

    Raises:
        UsageError: a name that means nothing.
    """
    return selection.jobs(catalog.find(servers.source, selection.patterns, control_schema))


@contextlib.contextmanager
def prepared(
    servers: Servers, jobs: Sequence[SyncJob], options: Options, control_schema: str, *, hold: bool
) -> Iterator[Prepared]:
    """Plan every job against one snapshot of the source: lock, then snapshot, then look.

    Costs about twenty round trips, however many tables.

    Args:
        servers: open.
        jobs: what to do.
        options: how.
        control_schema: its name on the target.
        hold: take the run lock of every target first, so that what is seen there stays true.

    Raises:
        UnknownTableError: a source table does not exist.
    """
    source, control = servers.source, servers.control
    refused: dict[SyncJob, PgsluiceError] = {}
    described = _describe_queries(source, jobs, refused)
    tables = tuple(job.source for job in jobs if isinstance(job.source, TableRef))
    early = catalog.require(source, tables, catalog.tables(source, tables), "source")
    for job in jobs:
        with _refusing(refused, job):
            if hold:
                locks.hold(control, job.target)
            _check_condition(source, job, early)
    place = (catalog.server(source), catalog.server(control))
    with snapshot(source, _lockable(early)) as shared:
        now = catalog.require(source, tables, catalog.tables(source, tables), "source")
        infos = {job: described[job] if job in described else now[_table_of(job)] for job in jobs if job not in refused}
        looked = _look(control, infos, control_schema)
        obstacle = relay.psql_obstacle(source, options.psql)
        outcomes: list[tuple[SyncJob, SyncPlan | PgsluiceError]] = []
        for job in _parents_first(jobs, looked.parents):
            if job not in refused:
                with _refusing(refused, job):
                    outcomes.append((job, _plan(control, job, infos[job], place, looked, obstacle, options)))
            if job in refused:
                outcomes.append((job, refused[job]))
        yield Prepared(shared, tuple(outcomes))


def _parents_first(jobs: Sequence[SyncJob], parents: dict[TableRef, set[TableRef]]) -> list[SyncJob]:
    """Order jobs so that a table comes after those it refers to; otherwise, and in a circle, as they were."""
    by_target = {job.target: job for job in jobs}
    ordered: dict[TableRef, SyncJob] = {}

    def visit(target: TableRef, on_the_way: frozenset[TableRef]) -> None:
        for parent in sorted(parents.get(target, ())):
            if parent in by_target and parent not in ordered and parent not in on_the_way:
                visit(parent, on_the_way | {parent})
        ordered.setdefault(target, by_target[target])

    for job in jobs:
        visit(job.target, frozenset({job.target}))
    return list(ordered.values())


@contextlib.contextmanager
def _refusing(refused: dict[SyncJob, PgsluiceError], job: SyncJob) -> Iterator[None]:
    """Let one job's error stand for that job alone."""
    try:
        yield
    except PgsluiceError as error:
        error.table = str(job.target)
        refused[job] = error
    except psycopg.Error as error:
        refused[job] = step_error(error, "plan", str(job.target))


def _describe_queries(
    source: Session, jobs: Sequence[SyncJob], refused: dict[SyncJob, PgsluiceError]
) -> dict[SyncJob, TableInfo]:
    described = {}
    for job in jobs:
        if isinstance(job.source, QuerySource):
            with _refusing(refused, job):
                columns = catalog.query_columns(source, job.source.sql)
                described[job] = TableInfo(TableRef("", str(job.source)), 0, "q", columns)
    return described


def _table_of(job: SyncJob) -> TableRef:
    if isinstance(job.source, QuerySource):
        raise TypeError("a query is described, not looked up")
    return job.source


def _check_condition(source: Session, job: SyncJob, early: dict[TableRef, TableInfo]) -> None:
    if job.where:
        relkind = early[job.source].relkind if isinstance(job.source, TableRef) else "q"
        catalog.check_condition(source, sqltext.relation(job.source, relkind), job.where)


def _lockable(early: dict[TableRef, TableInfo]) -> list[TableRef]:
    """Leave out what LOCK TABLE would refuse: the plan says why, table by table."""
    return [
        ref
        for ref, info in early.items()
        if info.relkind in LOCKABLE and info.schema_usage and "SELECT" in info.privileges
    ]


@dataclass(frozen=True, slots=True)
class _Look:
    """What the target shows: its tables and who refers to whom, its schemas, our schema, and what it lacks."""

    tables: dict[TableRef, TableInfo]
    parents: dict[TableRef, set[TableRef]]
    schemas: dict[str, SchemaInfo]
    control: SchemaInfo | None
    missing: frozenset[str]


def _look(control: Session, infos: dict[SyncJob, TableInfo], control_schema: str) -> _Look:
    targets = [job.target for job in infos]
    found = {info.ref: info for info in catalog.tables(control, targets)}
    schemas = catalog.schemas(control, [*{ref.schema for ref in targets}, control_schema])
    to_create = [column for job, info in infos.items() if job.target not in found for column in info.columns]
    missing = catalog.missing(control, catalog.needs(control, to_create)) if to_create else frozenset()
    return _Look(found, catalog.parents(control, found.values()), schemas, schemas.get(control_schema), missing)


def _plan(  # noqa: PLR0913, PLR0917 - the facts of one job
    control: Session,
    job: SyncJob,
    info: TableInfo,
    place: tuple[ServerInfo, ServerInfo],
    looked: _Look,
    obstacle: str | None,
    options: Options,
) -> SyncPlan:
    facts = Facts(
        source=place[0],
        target=place[1],
        source_table=info,
        target_table=looked.tables.get(job.target),
        target_schema=looked.schemas.get(job.target.schema),
        control_schema=looked.control,
        missing=looked.missing & catalog.needs(control, info.columns),
        psql=obstacle,
    )
    plan = make_plan(job, facts, options)
    if job.where and job.mode is Mode.FULL and facts.target_table:
        try:
            catalog.check_condition(control, merge.target_relation(plan), job.where)
        except UserSqlError as error:
            reason = (
                f"The condition limits what may be deleted and can't be asked of the target: {error.message}."
                " Use --mode upsert, or a condition on columns that both sides have."
            )
            raise PlanError(str(job.target), (reason,)) from None
    return plan
