"""Compares tables of both servers by content, from one snapshot of the source; and mends them where that is asked."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg

from pgsluice.comparison import Comparison
from pgsluice.endpoint import Endpoint
from pgsluice.errors import PgsluiceError, StepError, UnknownTableError, UsageError
from pgsluice.events import Connected, Emitter, Sink
from pgsluice.facts import NOT_BEHIND
from pgsluice.job import Level, Mode, Options, Selection, Strategy, SyncJob
from pgsluice.model import Difference, Report, TableComparison, Verified
from pgsluice.plan import SyncPlan, computed_notes, inheritance_notes, job_id, same_job
from pgsluice.policies import DeletePolicy, LateRows
from pgsluice.prepare import jobs_of, prepared
from pgsluice.reading import since_run
from pgsluice.retry import step_error, translated
from pgsluice.run import Run
from pgsluice.servers import Servers
from pgsluice.snapshot import Snapshot
from pgsluice.steps import state
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.windows import Window

_DIFFERENT = 4


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of every table; `since` are the rows that one may have got since its last run."""

    level: Level
    limit: int
    as_of_run: bool
    since: Window | None = None


def verify(  # noqa: PLR0913 - what a comparison needs
    source: Endpoint,
    target: Endpoint,
    request: Selection | Sequence[SyncJob],
    options: Options | None = None,
    *,
    level: Level = Level.HASH,
    limit: int = 20,
    as_of_run: bool = False,
    sinks: Sequence[Sink] = (),
) -> Verified:
    """Compare every job's source with its target, within the job's condition and columns.

    Args:
        source: only ever read.
        target: only read.
        request: the tables, as for a sync; what a mode reads on from makes no difference.
        options: how.
        level: how closely.
        limit: differing rows to name a table, for `Level.ROWS`; -1 for all.
        as_of_run: compare with what each job's last run has seen: rows that the source got, changed or lost since are
            no difference.
        sinks: called when both servers were reached.

    Raises:
        UsageError: rows that are counted can't be told from later ones.
        PgsluiceError: nothing can be compared: no connection, an unknown table.
    """
    started = time.monotonic()
    options = options or Options()
    asked = _Asked(level, limit, as_of_run)
    if as_of_run and level is Level.COUNT:
        raise UsageError("rows that are counted can't be told from later ones", hint="Use --level hash, or rows.")
    run_id = "verify"
    found: list[tuple[SyncJob, TableComparison]] = []
    with translated("prepare"), Servers(source.named(run_id, options), target.named(run_id, options)) as servers:
        ends = servers.source.described, servers.control.described
        Emitter(sinks)(Connected(run_id=run_id, source_server=ends[0], target_server=ends[1]))
        jobs = jobs_of(servers, request, CONTROL_SCHEMA) if isinstance(request, Selection) else tuple(request)
        asked_for = {job.target: job for job in jobs}
        with prepared(servers, [_whole(job) for job in jobs], options, CONTROL_SCHEMA) as ready:
            for known, outcome in ready.outcomes:
                job = asked_for[known.target]
                # its constants as the server writes them, by which its sync is remembered
                written = dataclasses.replace(job, shape=known.shape)
                found.append((_whole(job), _compared(servers, written, outcome, ready.snapshot, asked)))
    return Verified(
        tuple(table for _, table in found),
        tuple(job for job, table in found if table.status == "different"),
        time.monotonic() - started,
        *ends,
    )


def repair(
    source: Endpoint, target: Endpoint, found: Verified, options: Options | None = None, sinks: Sequence[Sink] = ()
) -> Report:
    """Make tables that were found to differ equal to their sources: what differs now is copied, deletes included.

    The guard for deletes holds as in any sync. Where a job reads on, its position stays what it is.

    Args:
        source: only ever read.
        target: written.
        found: by `verify`; some table differs.
        options: how.
        sinks: called with every event.

    Raises:
        PgsluiceError: the run could not begin.
    """
    jobs = [dataclasses.replace(job, options=job.options and _repairing(job.options)) for job in found.differing]
    return Run(source, target, _repairing(options or Options()), sinks).sync(jobs)


def _repairing(options: Options) -> Options:
    return dataclasses.replace(options, strategy=Strategy.DIFF)


def _whole(job: SyncJob) -> SyncJob:
    """Return the job as if it read everything: a watermark says nothing about what is there."""
    soft = job.deletes if job.deletes and job.deletes.policy is DeletePolicy.SOFT else None
    return dataclasses.replace(
        job, mode=Mode.FULL, cursor=None, cursor_type=None, late_rows=LateRows(), late_within=None, since=None,
        until=None, from_target=False, deletes=soft,
    )  # fmt: skip


def _compared(
    servers: Servers, job: SyncJob, outcome: SyncPlan | PgsluiceError, snapshot: Snapshot, asked: _Asked
) -> TableComparison:
    started = time.monotonic()
    blank = TableComparison(str(job.source), str(job.target), asked.level.value)
    try:
        if isinstance(outcome, PgsluiceError):
            raise outcome
        if outcome.facts.target_table is None:
            raise UnknownTableError(f"there is no table {job.target} on the target", hint="sync creates it.")
        if asked.as_of_run:
            run_id, since = _since(servers, job, outcome)
            blank, asked = dataclasses.replace(blank, as_of_run=run_id), dataclasses.replace(asked, since=since)
        notes = (*inheritance_notes(outcome.facts), *computed_notes(outcome.facts))
        blank = dataclasses.replace(blank, notes=notes)
        found = _looked(Comparison(servers, outcome.verified, snapshot.exported), blank, outcome, asked)
    except (PgsluiceError, psycopg.Error) as error:
        known = error if isinstance(error, PgsluiceError) else step_error(error, "verify", str(job.target))
        servers.settle()
        found = dataclasses.replace(blank, error=known.message, hint=known.hint, exit_code=known.exit_code)
    return dataclasses.replace(found, seconds=time.monotonic() - started)


def _since(servers: Servers, job: SyncJob, plan: SyncPlan) -> tuple[str, Window]:
    """Return the run that has done a job last, and the rows that the source may have got since.

    Raises:
        StepError: they can't be told.
    """
    id_, same = job_id(job, plan.facts.source), same_job(job, plan.facts.source)
    with servers.control.looking_at_tables(NOT_BEHIND["r"]):
        is_there = state.exists(servers.control, CONTROL_SCHEMA)
        known, _ = state.load(servers.control, CONTROL_SCHEMA, [(id_, same)]) if is_there else ({}, {})
        reached = known.get(id_)
        xmin = state.snapshot_xmin(servers.control, CONTROL_SCHEMA, reached.run_id, id_) if reached else None
    if reached is None:
        raise StepError(
            f"no run of this job into {job.target} is remembered there",
            hint="Name table, mode, condition and cursor as the sync did, or leave out --as-of-run.",
            step="verify",
        )
    since = since_run(plan.facts, reached, xmin or reached.xmin)
    if isinstance(since, str):
        raise StepError(
            f"what the source got since run {reached.run_id} can't be told: {since}",
            hint="Sync it first, or leave out --as-of-run.",
            step="verify",
        )
    return reached.run_id, since


def _looked(comparison: Comparison, blank: TableComparison, plan: SyncPlan, asked: _Asked) -> TableComparison:
    if asked.level is Level.COUNT:
        mine, theirs = comparison.counts()
        return _judged(dataclasses.replace(blank, source_rows=mine, target_rows=theirs), is_equal=mine == theirs)
    hashed = comparison.buckets()
    found = dataclasses.replace(
        blank,
        key=plan.key.columns,
        source_rows=hashed.source_rows,
        target_rows=hashed.target_rows,
        buckets=hashed.hashing.buckets,
        differing=len(hashed.differing),
        hashed_by=hashed.hashing.by.value,
        bytes=hashed.bytes,
    )
    if asked.level is Level.HASH and not asked.since:
        found = dataclasses.replace(found, unsettled=len(comparison.unsettled(hashed)))
        return _judged(found, is_equal=not hashed.differing)
    if not hashed.differing:
        found = _named(found, (), asked)
    else:
        with comparison.differences(hashed, asked.since) as differing:
            found = _named(found, differing, asked)
            found = dataclasses.replace(found, unsettled=len(differing.unsettled))
    is_equal = not (found.missing or found.extra or found.changed) if asked.since else not hashed.differing
    return _judged(found, is_equal=is_equal)


def _named(found: TableComparison, differences: Iterable[Difference], asked: _Asked) -> TableComparison:
    """Count the rows that differ, and name as many as asked for."""
    signs: Counter[str] = Counter()
    gone, written, named = 0, 0, list[Difference]()
    limit = asked.limit if asked.level is Level.ROWS else 0
    for difference in differences:
        if difference.is_since:
            gone, written = gone + (difference.sign == "-"), written + (difference.sign != "-")
            continue
        signs[difference.sign] += 1
        if limit < 0 or len(named) < limit:
            named.append(difference)
    found = dataclasses.replace(
        found, missing=signs["+"], extra=signs["-"], changed=signs["*"], differences=tuple(named)
    )
    return dataclasses.replace(found, changed_since=written, gone_since=gone) if asked.since else found


def _judged(found: TableComparison, *, is_equal: bool) -> TableComparison:
    return dataclasses.replace(
        found, status="equal" if is_equal else "different", exit_code=0 if is_equal else _DIFFERENT
    )
