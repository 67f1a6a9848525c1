"""From a request to plans: open both servers, lock, take the snapshot, look, and only then decide.

Nothing in here writes to either server.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import pq, sql

from pgsluice import blockers, carrying, changes, ordering, shaping, sqltext
from pgsluice.control import Look, proven
from pgsluice.errors import PgsluiceError, PlanError, RefusedError, TemporaryError, UnknownTableError, UserSqlError
from pgsluice.facts import (
    NOT_BEHIND,
    TABLES,
    Attachment,
    Column,
    Facts,
    ForeignKey,
    JobState,
    Progress,
    SchemaInfo,
    ServerInfo,
    Stamps,
    TableInfo,
)
from pgsluice.job import Mode, Options, QuerySource, Selection, Strategy, SyncJob, TableRef
from pgsluice.late import shows_transaction_ids
from pgsluice.plan import SyncPlan, job_id, make_plan, same_job
from pgsluice.policies import LatePolicy
from pgsluice.reading import lag
from pgsluice.retry import Answer, classify, step_error
from pgsluice.servers import Servers
from pgsluice.session import Session
from pgsluice.snapshot import Snapshot, snapshot
from pgsluice.steps import catalog, fitting, relay, staging, state, swap, watermark
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.turn import Turn

LOCKABLE = frozenset({"r", "p", "v"})
_INTERNAL = "XX000"
_LOCKED = "55P03"
_NO_CHARACTER = "22021"
_UNREADABLE = (
    "Its name in the source's catalog is not UTF-8 (bytes that are none are shown as \\xff), so nothing can name it:"
    " rename it there, or name the other tables."
)

#: Why tables can't be described.
_Odd = dict[TableRef | QuerySource, str]
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run starts from.

    Attributes:
        snapshot: of the source, held while the context is open.
        outcomes: each job with its plan, or with the error that keeps it from being done; tables that others refer
            to come before these.
        groups: the jobs again, those together that commit together.
        source: the server that is read.
        seen: what a look at the control schema came to, in which no fault was found.
    """

    snapshot: Snapshot
    outcomes: tuple[tuple[SyncJob, SyncPlan | PgsluiceError], ...]
    groups: tuple[tuple[SyncJob, ...], ...]
    source: ServerInfo
    seen: Look


def jobs_of(servers: Servers, selection: Selection, control_schema: str) -> tuple[SyncJob, ...]:
    """Resolve what the user named, on the source, outside any transaction.

    Raises:
        UsageError: a name that means nothing.
    """
    return selection.jobs(catalog.find(servers.source, selection.patterns, control_schema, selection.told))


@contextlib.contextmanager
def prepared(
    servers: Servers, jobs: Sequence[SyncJob], options: Options, control_schema: str, turn: Turn | None = None
) -> Iterator[Prepared]:
    """Plan every job against one snapshot of the source: lock, then snapshot, then look.

    Costs about twenty round trips, however many tables.

    Args:
        servers: open.
        jobs: what to do.
        options: how.
        control_schema: its name on the target.
        turn: takes the run lock of every target first, so that what is seen there stays true; None to do without.

    Raises:
        UnknownTableError: a source table does not exist.
    """
    source, control = servers.source, servers.control
    refused: dict[SyncJob, PgsluiceError] = {}
    described = _describe_queries(source, jobs, refused)
    tables = tuple(job.source for job in jobs if isinstance(job.source, TableRef))
    found, odd = each_described(source, tables)
    tables = tuple(ref for ref in tables if ref not in odd)
    early = catalog.require(source, tables, found, "source")
    asked: dict[SyncJob, SyncJob] = {}
    fits: dict[SyncJob, _Fit] = {}
    ours = proven(control, control_schema)  # before anything in it is read
    if turn:
        turn.end_dead_runs(source, control)
        _hold(turn, control, jobs, refused)
    for job in (job for job in jobs if job not in refused):
        with _refusing(refused, job):
            if reason := odd.get(job.source):
                raise PlanError(str(job.target), (reason,))
            info = described[job] if job in described else early[_table_of(job)]
            _check_condition(source, job, info)
            fit = _fit(source, dataclasses.replace(_checked(source, job, info), key=shaping.key_of(job)), info)
            asked[job] = fit.job
            fits[fit.job] = fit
    described = {asked[job]: info for job, info in described.items() if job in asked}
    jobs = [asked.get(job, job) for job in jobs]
    place = (catalog.server(source), catalog.server(control))
    horizon = catalog.horizon(source) if any(map(_may_lean_on_horizon, jobs)) else None
    with _locked(source, early) as shared:
        now = _still_there(source, [job for job in jobs if job not in described], refused)
        infos = {
            job: _shaped(described.get(job) or now[_table_of(job)], job, fits[job].types, shared.moment.clock)
            for job in jobs
            if job not in refused
        }
        looked = _look(control, infos, control_schema, place[0], ours)
        stamps = _stamps(source, infos)
        new = {job: info for job, info in infos.items() if job.target not in looked.tables}
        attachments, bare = _attachments(source, new.values())
        for job in infos:
            if reason := looked.odd.get(job.target) or bare.get(job.source):
                refused[job] = PlanError(str(job.target), (reason,))
        untaken = _untaken(control, new, attachments, looked.present.missing, options)
        obstacle = relay.psql_obstacle(source, options.psql)
        outcomes: list[tuple[SyncJob, SyncPlan | PgsluiceError]] = []
        ordered = _parents_first(jobs, looked.keys)
        groups, beside = _grouped(ordered, looked, options)
        for job in ordered:
            if job not in refused:
                with _refusing(refused, job):
                    known = Progress(
                        shared.moment,
                        looked.states.get(job),
                        looked.elsewhere.get(job),
                        horizon=horizon,
                        stamps=stamps.get(job, Stamps()),
                        is_known=looked.shows_states,
                    )
                    progress = _progress(source, control, job, infos[job], looked.tables.get(job.target), known)
                    facts = _facts(control, job, infos[job], place, looked, obstacle, progress)
                    facts = dataclasses.replace(
                        facts,
                        attachments=_fitting(job, attachments.get(infos[job].ref, ())),
                        untaken=untaken.get(job, {}),
                        together=beside[job],
                        leads=any(job == group[0] for group in groups),
                        referring=tuple(key for key in looked.keys if key.parent == job.target),
                    )
                    outcomes.append((job, _plan(control, job, facts, options, fits[job].obstacle)))
            if job in refused:
                outcomes.append((job, refused[job]))
        yield Prepared(shared, tuple(outcomes), groups, place[0], ours)


def _parents_first(jobs: Sequence[SyncJob], keys: Sequence[ForeignKey]) -> list[SyncJob]:
    """Order jobs so that a table comes after those it refers to; otherwise, and in a circle, as they were.

    A circle is opened at the foreign keys that can be deferred: its tables commit together.
    """
    parents = _parents(keys)
    parents = _parents(key for key in keys if not (key.deferrable and key.child in _reached(key.parent, parents)))
    by_target = {job.target: job for job in jobs}
    ordered = ordering.behind(by_target, lambda target: sorted(parents[target]))
    return [by_target[target] for target in ordered if target in by_target]


def _grouped(
    jobs: Sequence[SyncJob], looked: _Look, options: Options
) -> tuple[tuple[tuple[SyncJob, ...], ...], dict[SyncJob, tuple[TableRef, ...]]]:
    """Return the jobs by what commits together, and beside what each of them is to commit.

    One that can't commit beside others keeps them back only where they need it.
    """
    if options.atomic:
        return (tuple(jobs),), _beside([jobs])
    beside = _beside(_tied(jobs, looked.keys))
    alone = {job.target for job in jobs if beside[job] and _can_be_spared(job, looked, options)}
    groups = _tied(jobs, [key for key in looked.keys if not alone & {key.child, key.parent}])
    return groups, {job: beside[job] if job.target in alone else others for job, others in _beside(groups).items()}


def _can_be_spared(job: SyncJob, looked: _Look, options: Options) -> bool:
    """Tell whether a job that its group will refuse, for a swap commits alone, can be left out of it.

    Nothing may refer to its rows, which stay as they are, and no cascade may change them.
    """
    how, target = job.options or options, job.target
    others = [key for key in looked.keys if key.child != key.parent]
    return (
        how.strategy is Strategy.SWAP
        and target in looked.tables
        and not how.group
        and not any(key.parent == target or (key.child == target and key.cascades) for key in others)
    )


def _parents(keys: Iterable[ForeignKey]) -> dict[TableRef, set[TableRef]]:
    """Return the tables that each table refers to."""
    parents: collections.defaultdict[TableRef, set[TableRef]] = collections.defaultdict(set)
    for key in keys:
        parents[key.child].add(key.parent)
    return parents


def _reached(table: TableRef, parents: Mapping[TableRef, set[TableRef]]) -> set[TableRef]:
    """Return the tables that a table refers to, directly or by tables between."""
    return set(ordering.behind(parents[table], parents.__getitem__))


def _tied(jobs: Sequence[SyncJob], keys: Sequence[ForeignKey]) -> tuple[tuple[SyncJob, ...], ...]:
    """Put jobs together that foreign keys or a group's name tie, directly or by others; otherwise as they come."""
    beside: collections.defaultdict[TableRef, list[TableRef]] = collections.defaultdict(list)
    for one, other in itertools.chain(((key.child, key.parent) for key in keys), _named_alike(jobs)):
        beside[one].append(other)
        beside[other].append(one)
    firsts: dict[TableRef, TableRef] = {}
    groups: collections.defaultdict[TableRef, list[SyncJob]] = collections.defaultdict(list)
    for job in jobs:
        if job.target not in firsts:
            firsts |= dict.fromkeys(ordering.behind([job.target], beside.__getitem__), job.target)
        groups[firsts[job.target]].append(job)
    return tuple(map(tuple, groups.values()))


def _named_alike(jobs: Sequence[SyncJob]) -> Iterator[tuple[TableRef, TableRef]]:
    """Yield each target whose group has a name, with the first of that group."""
    firsts: dict[str, TableRef] = {}
    for job in jobs:
        if name := job.options and job.options.group:
            yield firsts.setdefault(name, job.target), job.target


def _beside(groups: Iterable[Sequence[SyncJob]]) -> dict[SyncJob, tuple[TableRef, ...]]:
    """Return the other targets that each job commits together with."""
    return {job: tuple(other.target for other in group if other != job) for group in groups for job in group}


@contextlib.contextmanager
def _refusing(refused: dict[SyncJob, PgsluiceError], job: SyncJob) -> Iterator[None]:
    """Let one job's error stand for that job alone."""
    try:
        yield
    except PgsluiceError as error:
        error.table, error.step = str(job.target), error.step or "plan"
        refused[job] = error
    except psycopg.Error as error:
        refused[job] = step_error(error, "plan", str(job.target))
    except Exception as error:
        if _is_shown_whole():
            raise
        refused[job] = PlanError(str(job.target), (f"{job.target} can't be planned: {_unforeseen(error)}.",))


def _hold(turn: Turn, control: Session, jobs: Sequence[SyncJob], refused: dict[SyncJob, PgsluiceError]) -> None:
    """Take the run locks by the names of the targets, so that two runs never wait for each other in a circle."""
    for job in sorted(set(jobs) - refused.keys(), key=lambda job: job.target):
        with _refusing(refused, job):
            turn.hold(control, job.target)


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


@dataclass(frozen=True, slots=True)
class _Fit:
    """What the shape of a job comes to on its source.

    Attributes:
        job: with its constants as the server writes them.
        types: a column of each type that the shape names.
        obstacle: why the target can't be asked the job's condition, or None.
    """

    job: SyncJob
    types: Mapping[str, Column]
    obstacle: str | None = None


def _fit(source: Session, job: SyncJob, info: TableInfo) -> _Fit:
    """See that the shape of a job fits its source.

    Raises:
        PlanError: everything that does not fit.
    """
    if not job.shape:
        return _Fit(job, {})
    wrong = list(shaping.refusals(info, job))
    types: dict[str, Column] = {}
    for type_ in shaping.types_of(job.shape):
        with _noting(wrong):
            types[type_] = catalog.type_column(source, type_)
    known = shaping.with_types(job.shape, types)
    relation = sqltext.relation(job.source, info.relkind)
    written = {}
    for column in shaping.shaped(info, known, types, fitting.A_MOMENT).columns:
        with _noting(wrong):
            written[column.name] = fitting.check(source, relation, column)
    if wrong:
        raise PlanError(str(job.target), tuple(wrong))
    job = dataclasses.replace(job, shape=shaping.with_values(job.shape, written))
    return _Fit(job, types, _scope_obstacle(source, job, info, types))


@contextlib.contextmanager
def _noting(wrong: list[str]) -> Iterator[None]:
    """Let an error be one of many."""
    try:
        yield
    except UserSqlError as error:
        wrong.append(f"{error.message[:1].upper()}{error.message[1:]}.")


def _scope_obstacle(source: Session, job: SyncJob, info: TableInfo, types: Mapping[str, Column]) -> str | None:
    """Return why the job's condition means something else on the target, or None: it sees columns as they are only."""
    if not job.where:
        return None
    kept = [column.name for column in _shaped(info, job, types, fitting.A_MOMENT).columns if column.origin is None]
    name = "query" if isinstance(job.source, QuerySource) else job.source.name
    relation = sqltext.part_of(sqltext.relation(job.source, info.relkind), kept, name)
    try:
        catalog.check_condition(source, relation, job.where)
    except UserSqlError as error:
        return (
            "The condition limits what may be deleted and leans on a column that the target gets otherwise, or not"
            f" at all: {error.message}. {_without_scope(job)}."
        )
    return None


def _without_scope(job: SyncJob) -> str:
    if job.mode is Mode.APPEND:
        return "Leave out --full-refresh, or use a condition on columns that are copied as they are"
    keep = "--mode upsert" if job.mode is Mode.FULL else "--deletes keep"
    return f"Use {keep}, or a condition on columns that are copied as they are"


def _fitting(job: SyncJob, attachments: tuple[Attachment, ...]) -> tuple[Attachment, ...]:
    """Let no index or constraint be created over columns that are not what they were."""
    return tuple(dataclasses.replace(each, local=each.local and not job.shape) for each in attachments)


def _shaped(info: TableInfo, job: SyncJob, types: Mapping[str, Column], clock: str) -> TableInfo:
    return shaping.shaped(info, job.shape, types, clock) if job.shape else info


def _check_condition(source: Session, job: SyncJob, info: TableInfo) -> None:
    if job.where:
        catalog.check_condition(source, sqltext.relation(job.source, info.relkind), job.where)


@contextlib.contextmanager
def _locked(source: Session, early: dict[TableRef, TableInfo]) -> Iterator[Snapshot]:
    """Lock the tables that are still there, and take the snapshot: one that was renamed meanwhile fails alone."""
    wanted = _lockable(early)
    with contextlib.ExitStack() as stack:
        while True:
            try:
                shared = stack.enter_context(snapshot(source, wanted))
                break
            except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                there = {info.ref for info in _tables(source, wanted)}
                if there.issuperset(wanted):
                    raise
                wanted = [ref for ref in wanted if ref in there]
        yield shared


def _still_there(
    source: Session, jobs: Sequence[SyncJob], refused: dict[SyncJob, PgsluiceError]
) -> dict[TableRef, TableInfo]:
    """Look tables up once more, now that they are locked, and refuse those that went meanwhile."""
    wanted = {job: _table_of(job) for job in jobs if job not in refused}
    found = {info.ref: info for info in _tables(source, list(wanted.values()))}
    for job, ref in wanted.items():
        if ref not in found:
            refused[job] = UnknownTableError(
                f"there is no table {ref} on the source any more: it was renamed or dropped while the run began",
                hint="Name it as it is called now, or leave it out.",
            )
    return found


def _lockable(early: dict[TableRef, TableInfo]) -> list[TableRef]:
    """Leave out what LOCK TABLE would refuse: the plan says why, table by table."""
    return [
        ref
        for ref, info in early.items()
        if info.relkind in LOCKABLE and info.schema_usage and "SELECT" in info.privileges
    ]


def _tables(session: Session, refs: Sequence[TableRef]) -> tuple[TableInfo, ...]:
    """Look tables up; their sizes wait for whoever locks one of them ACCESS EXCLUSIVE."""
    with blockers.named(session, session.lock_seconds):
        return catalog.tables(session, refs)


def _free_tables(session: Session, refs: Sequence[TableRef]) -> tuple[TableInfo, ...]:
    try:
        return _tables(session, refs)
    except TemporaryError as error:
        if error.sqlstate != _LOCKED:
            raise
        raise RefusedError(error.message, hint=error.hint, sqlstate=error.sqlstate) from error


def each_described(
    session: Session, refs: Sequence[TableRef], *, leaves_out_locked: bool = False
) -> tuple[tuple[TableInfo, ...], _Odd]:
    """Look up those of the tables that exist; return them, and why the server can't describe the others.

    Args:
        session: on the server.
        refs: the tables.
        leaves_out_locked: one that somebody keeps locked is one of the others, too.
    """
    ask = _free_tables if leaves_out_locked else _tables
    unnamed: _Odd = dict.fromkeys(catalog.unreadable(session, refs), _UNREADABLE)
    found, odd = _apart(session, [ref for ref in refs if ref not in unnamed], functools.partial(ask, session))
    return found, {**odd, **unnamed}


def _attachments(source: Session, infos: Iterable[TableInfo]) -> tuple[dict[TableRef, tuple[Attachment, ...]], _Odd]:
    """Look up what hangs on tables that are to be created."""
    of = {info.ref: info for info in infos if info.relkind in TABLES}
    if not of:
        return {}, {}
    return _apart(source, list(of), lambda some: catalog.attachments(source, [of[ref] for ref in some]))


def _untaken(
    control: Session,
    new: Mapping[SyncJob, TableInfo],
    attachments: Mapping[TableRef, tuple[Attachment, ...]],
    missing: frozenset[str],
    options: Options,
) -> dict[SyncJob, dict[str, str]]:
    """Ask the target what it does not take of what is to be created there: it may be older than the source."""
    asked: dict[SyncJob, list[carrying.Question]] = {}
    for job, info in new.items():
        hanging = attachments.get(info.ref, ()) if (job.options or options).indexes else ()
        asked[job] = list(carrying.questions(info, _fitting(job, hanging), missing))
    found = catalog.untaken(control, itertools.chain(*asked.values()))
    return {job: {each.text: found[each] for each in some if each in found} for job, some in asked.items()}


def _apart(
    session: Session, refs: Sequence[TableRef], ask: Callable[[Sequence[TableRef]], _Found]
) -> tuple[_Found, _Odd]:
    """Ask about all tables at once; where that fails, about those that can be asked about: each is its own trouble.

    Args:
        session: that is asked; one more round trip in a transaction, which can be asked again so.
        refs: the tables.
        ask: a catalog query, and what is made of its answer.

    Returns:
        The answer, and why there is none about the tables that it leaves out.

    Raises:
        Exception: the failure is that of no table.
    """
    try:
        return _asked(session, refs, ask), {}
    except Exception as error:  # noqa: BLE001 - what one table's catalog says may break anything
        _pass_on(session, error)
        failure = error
    odd: _Odd = {ref: reason for ref in refs if (reason := _oddity(session, ref, ask))}
    if not odd:
        raise failure
    return _asked(session, [ref for ref in refs if ref not in odd], ask), odd


def _oddity(session: Session, ref: TableRef, ask: Callable[[Sequence[TableRef]], _Found]) -> str | None:
    """Return why a table can't be described, or None where it can."""
    try:
        _asked(session, [ref], ask)
    except Exception as error:  # noqa: BLE001 - what one table's catalog says may break anything
        _pass_on(session, error)
        return (
            f"The {session.side}'s catalog can't describe {ref}: {_said(error)}. Mend it there, or leave the table out."
        )
    return None


def _said(error: Exception) -> str:
    """Return what an error says, and where what failed is shown if that may be a fault of ours."""
    if isinstance(error, psycopg.Error):
        said = "a name or a text in it is not UTF-8" if error.sqlstate == _NO_CHARACTER else error.diag.message_primary
        return f"{said or error} [SQLSTATE {error.sqlstate}]"
    return error.message if isinstance(error, PgsluiceError) else _unforeseen(error)


def _unforeseen(error: Exception) -> str:
    return f"unexpected: {type(error).__name__}: {error} (PGSLUICE_DEBUG=1 shows where)"


def _asked(session: Session, refs: Sequence[TableRef], ask: Callable[[Sequence[TableRef]], _Found]) -> _Found:
    if session.pgconn.transaction_status != pq.TransactionStatus.INTRANS:
        return ask(refs)
    session.execute(sql.SQL("SAVEPOINT before_look"))
    try:
        return ask(refs)
    except psycopg.Error:
        session.execute(sql.SQL("ROLLBACK TO SAVEPOINT before_look"))
        raise


def _pass_on(session: Session, error: Exception) -> None:
    """Raise what is the server's trouble, or passes, and no table's own: a damaged catalog's is an internal error."""
    if session.pgconn.transaction_status == pq.TransactionStatus.INERROR or _passes(error):
        raise error


def _passes(error: Exception) -> bool:
    if isinstance(error, psycopg.Error):
        return classify(error.sqlstate, "plan") in {Answer.LATER, Answer.RETRY} and error.sqlstate != _INTERNAL
    if isinstance(error, PgsluiceError):
        return not isinstance(error, RefusedError)
    return _is_shown_whole()


def _is_shown_whole() -> bool:
    """Tell whether a fault of ours is to end the run, so that it shows where it is."""
    return bool(os.environ.get("PGSLUICE_DEBUG"))


@dataclass(frozen=True, slots=True)
class _Look:
    """What the target shows: its tables and who refers to whom, its schemas, our schema, what it lacks, and states.

    Why tables that are there can't be described stands in `odd`; `lacking` is what the role may not do with our tables.
    """

    tables: dict[TableRef, TableInfo]
    odd: _Odd
    keys: tuple[ForeignKey, ...]
    schemas: dict[str, SchemaInfo]
    control: SchemaInfo | None
    lacking: Mapping[str, str]
    shows_states: bool
    present: catalog.Present
    states: dict[SyncJob, JobState]
    elsewhere: dict[SyncJob, JobState]


def _look(
    control: Session, infos: dict[SyncJob, TableInfo], control_schema: str, server: ServerInfo, found_there: Look
) -> _Look:
    targets = [job.target for job in infos]
    described, odd = each_described(control, targets)
    found = {info.ref: info for info in described}
    to_create = {
        job.target: [
            column
            for column in info.columns
            if job.target not in found or found[job.target].column(column.name) is None
        ]
        for job, info in infos.items()
    }
    present, strange = _apart(
        control, list(to_create), lambda some: _present(control, [to_create[ref] for ref in some])
    )
    keys, unkeyed = _apart(
        control, list(found), lambda some: catalog.foreign_keys(control, [found[ref] for ref in some])
    )
    created = itertools.chain(*to_create.values())
    leant_on = {each.schema for column in created for each in column.dependencies if each.sql in present.missing}
    schemas = catalog.schemas(control, [*{ref.schema for ref in targets} | leant_on, control_schema])
    names = {job: (job_id(job, server), same_job(job, server)) for job in infos}
    ours = schemas.get(control_schema)
    is_there = "run" not in found_there.missing and ours is not None
    shows_states = not is_there or (ours is not None and ours.usage and found_there.shows_states)
    asked = list(names.values()) if is_there and shows_states else []
    states, alike = state.load(control, control_schema, asked)
    return _Look(
        found,
        {**odd, **strange, **unkeyed},
        keys,
        schemas,
        ours,
        found_there.lacking,
        shows_states,
        present,
        {job: states[mine] for job, (mine, _) in names.items() if mine in states},
        {job: alike[same] for job, (mine, same) in names.items() if same in alike and alike[same].job_id != mine},
    )


def _present(control: Session, columns: Iterable[Sequence[Column]]) -> catalog.Present:
    """Look for what the target's new columns need; one round trip where there are any."""
    wanted = tuple(itertools.chain(*columns))
    if not wanted:
        return catalog.Present()
    return catalog.present(control, catalog.needs(control, wanted), catalog.calls(wanted))


# --- what modes that read on ask for ---------------------------------------------------------------------------------


def _may_lean_on_horizon(job: SyncJob) -> bool:
    policies = {LatePolicy.AUTO, LatePolicy.HORIZON}
    return job.mode is Mode.INCREMENTAL and job.since is None and job.late_rows.policy in policies


def _stamps(source: Session, infos: dict[SyncJob, TableInfo]) -> dict[SyncJob, Stamps]:
    """Ask the source about every cursor column of a table, in one round trip."""
    asked = {job: (info.oid, job.cursor) for job, info in infos.items() if job.cursor and info.column(job.cursor)}
    columns = [(oid, name) for oid, name in asked.values() if oid and name]
    found = dict(zip(columns, catalog.stamps(source, columns), strict=True)) if columns else {}
    return {job: found[column] for job, column in asked.items() if column in found}


def _checked(source: Session, job: SyncJob, info: TableInfo) -> SyncJob:
    """Return the job with the values that its user gave as the server writes them.

    Raises:
        UsageError: a value, a span or the cursor itself is not what it should be.
    """
    if job.mode is not Mode.INCREMENTAL:
        return job
    query = job.source if isinstance(job.source, QuerySource) else None
    cursor = watermark.cursor_of(source, info, str(job.cursor), job.cursor_type, query)
    for distance in filter(None, (job.late_rows.overlap, job.late_within)):
        watermark.check_distance(source, cursor, distance)
    if job.since is None:
        return job
    since, until = (
        None if value is None else watermark.check_value(source, cursor, value) for value in (job.since, job.until)
    )
    return dataclasses.replace(job, since=since, until=until)


def _progress(  # noqa: PLR0913, PLR0917 - both sides of one job
    source: Session,
    control: Session,
    job: SyncJob,
    info: TableInfo,
    target: TableInfo | None,
    here: Progress,
) -> Progress:
    """Add to what is known of a job's progress what a mode that reads on asks of its tables: one or two looks."""
    if job.mode is Mode.APPEND and _is_readable(info) and shows_transaction_ids(info):
        here = dataclasses.replace(here, repeats_at=catalog.repeats_at(source, info, here.moment))
    if not job.mode.reads_on or target is None or not _is_readable(target):
        return here
    has_own_rows = all(target.column(constant.column) for constant in job.shape.scope)
    own = sqltext.own_rows(job.shape.scope, target.columns) if has_own_rows else []
    scope = sql.SQL(" AND ").join(own) if own else sqltext.condition(None)
    with control.looking_at_tables(NOT_BEHIND.get(target.relkind, "")):
        here = dataclasses.replace(here, target_is_empty=catalog.is_empty(control, target, scope))
    if not (job.from_target and here.is_known) or here.state or target.column(str(job.cursor)) is None:
        return here
    if job.shape.scope:  # the highest value may be another source's
        return here
    stored = state.watermark(control, CONTROL_SCHEMA, job.target, str(job.cursor))
    cursor = watermark.cursor_of(control, target, str(job.cursor), job.cursor_type)
    if stored is None:
        stored = watermark.highest(control, target, cursor)
    return dataclasses.replace(here, highest=stored)


def _is_readable(table: TableInfo) -> bool:
    """Tell whether a look at its rows can succeed: one that fails would end the snapshot's transaction."""
    return table.schema_usage and "SELECT" in table.privileges and not table.row_security


def _facts(  # noqa: PLR0913, PLR0917 - the facts of one job
    control: Session,
    job: SyncJob,
    info: TableInfo,
    place: tuple[ServerInfo, ServerInfo],
    looked: _Look,
    obstacle: str | None,
    progress: Progress,
) -> Facts:
    return Facts(
        source=place[0],
        target=place[1],
        source_table=info,
        target_table=looked.tables.get(job.target),
        target_schema=looked.schemas.get(job.target.schema),
        control_schema=looked.control,
        control_lacking=looked.lacking,
        missing=looked.present.missing & catalog.needs(control, info.columns),
        schemas=looked.schemas,
        definitions=looked.present.definitions,
        harmless=looked.present.harmless,
        psql=obstacle,
        progress=progress,
    )


def _swapping(control: Session, plan: SyncPlan) -> SyncPlan:
    """Add to a plan that replaces its target what that takes. Two round trips.

    Raises:
        PlanError: everything that can't be carried over.
    """
    if not plan.replaces:
        return plan
    target = plan.job.target
    if found := swap.obstacles(control, target):
        way = " Use --strategy copy."
        raise PlanError(
            str(target), tuple(f"{target} can't be replaced (--strategy swap): {each}.{way}" for each in found)
        )
    table = staging.named(CONTROL_SCHEMA, "<run>", 1, target, plan.columns)
    statements = swap.statements(control, target, table.ref)
    left = tuple(text for phase, text in statements if phase == "note")
    return dataclasses.replace(plan, swap=statements[len(left) :], notes=(*plan.notes, *left))


def _plan(control: Session, job: SyncJob, facts: Facts, options: Options, obstacle: str | None) -> SyncPlan:
    """Make the plan, and see that the target can answer the condition where it is asked of it.

    Raises:
        PlanError: every reason not to do it.
        TemporaryError: the source is a standby that has not yet replayed what the last run has read.
    """
    if behind := lag(facts):
        raise TemporaryError(
            behind, hint="Wait until it has caught up, or read from the primary.", step="plan", table=str(job.target)
        )
    plan = _swapping(control, make_plan(job, facts, job.options or options))
    if plan.asks_target and obstacle:
        raise PlanError(str(job.target), (obstacle,))
    if plan.asks_target and job.where and facts.target_table:
        try:
            catalog.check_condition(control, changes.target_relation(plan), job.where)
        except UserSqlError as error:
            keep = "--mode upsert" if job.mode is Mode.FULL else "--deletes keep"
            reason = (
                f"The condition limits what may be deleted and can't be asked of the target: {error.message}."
                f" Use {keep}, or a condition on columns that both sides have."
            )
            raise PlanError(str(job.target), (reason,)) from None
    return plan
