"""Job state and run history in the target's control schema."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from pgsluice import blockers, control, facts, records, sqltext
from pgsluice.errors import BusyError, RefusedError, UsageError
from pgsluice.facts import JobState, SeenLeaf
from pgsluice.job import TableRef
from pgsluice.locks import fence
from pgsluice.model import Reached, TableReport
from pgsluice.plan import SyncPlan, same_job
from pgsluice.reading import remembered
from pgsluice.session import Session

CONTROL_SCHEMA = facts.CONTROL_SCHEMA
#: What the history says of jobs that are no longer to be done.
FORGOTTEN = "forgotten"
#: What two runs meet that create it at the same time; one of them is done then.
_CREATED_BESIDE = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateTable,
    psycopg.errors.InternalError_,  # tuple concurrently updated
)
_TRIES = 5


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as the control schema remembers it.

    Attributes:
        run_id: of the run.
        status: "running", "done", "partly done", "failed", "interrupted", or "died" where nobody finished it.
        started: time with offset, as text.
        finished: the same, or None.
        started_at: seconds since the epoch, by the target's clock.
        seconds: that it took, or None where it did not end.
        exit_code: of the command, or None.
        planned: how many tables it was to do.
        done: tables.
        failed: tables.
        rows: that were staged, of tables that are done.
        bytes: of COPY streams.
        tables: a report a job, as plain types, with `ended_at`, seconds since the epoch; empty where not asked for.
        source_server: who read where, or None where an older release, or a single merge, did not note it.
        target_server: who wrote where, or None.
    """

    run_id: str
    status: str
    started: str
    finished: str | None
    started_at: float
    seconds: float | None
    exit_code: int | None
    planned: int
    done: int
    failed: int
    rows: int
    bytes: int
    tables: tuple[dict[str, Any], ...]
    source_server: str | None = None
    target_server: str | None = None


# --- state -----------------------------------------------------------------------------------------------------------


def ensure(session: Session, schema: str, seen: control.Look | None = None) -> None:
    """Create the control schema where it is missing, or what it lacks. One round trip where all is as it was seen.

    No lock guards it: what every role can lock, every role could keep locked.

    Args:
        session: on the target.
        schema: its name.
        seen: what an earlier look of the run came to, without faults; None where there was none.

    Raises:
        RefusedError: others could run code by it, or it is older than this release and another role's.
    """
    if seen and control.is_as(session, schema, seen):
        return
    for tries_left in reversed(range(_TRIES)):
        if not (missing := control.missing(session, schema)):
            return
        try:
            with _owning(schema), blockers.named(session, session.lock_seconds), session.transaction():
                _create(session, schema, missing)
                if control.missing(session, schema):  # so it was not we who made all of it
                    raise RefusedError("the control schema of the target changes while it is made", hint="Run again.")
        except _CREATED_BESIDE:
            if not tries_left:
                raise


@contextlib.contextmanager
def _owning(schema: str) -> Iterator[None]:
    """Say what to do where what is missing can't be added, for it belongs to another role.

    Raises:
        RefusedError: it does.
    """
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise RefusedError(
            f"schema {schema} of the target lacks what this release needs, and the role may not add it:"
            f" {error.diag.message_primary}",
            hint="Run once as the role that owns its tables; what is missing is added then.",
        ) from error


def _create(session: Session, schema: str, missing: frozenset[str]) -> None:
    name = sql.Identifier(schema)
    if "" in missing:
        session.script(sqltext.load("control_schema").format(schema=name))
    session.script(sqltext.load("control").format(schema=name))
    for view in control.VIEWS:
        query = sqltext.load(f"view_{view}").format(**_history(schema))
        session.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(sql.Identifier(schema, view), query))
    _grant_alike(session, schema)


def _grant_alike(session: Session, schema: str) -> None:
    """Give the roles that may write the history of an older release what they need on the table that is new in this."""
    query = sql.SQL(
        "SELECT r.rolname::text FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a, pg_catalog.pg_roles r"
        " WHERE c.oid = pg_catalog.to_regclass(%s) AND a.privilege_type = 'INSERT' AND r.oid = a.grantee"
        " AND a.grantee <> c.relowner"
    )
    table = sql.Identifier(schema, "target")
    for (role,) in session.rows(query, (session.text(sql.Identifier(schema, "run_table")),)):
        session.execute(sql.SQL("GRANT SELECT, INSERT, UPDATE ON {} TO {}").format(table, sql.Identifier(role)))


def tables(schema: str) -> tuple[TableRef, ...]:
    """Return the tables of the control schema."""
    return tuple(TableRef(schema, name) for name in control.tables())


def exists(session: Session, schema: str) -> bool:
    """Tell whether the control schema is there. One round trip.

    Raises:
        RefusedError: others could run code by it.
    """
    return "run" not in control.missing(session, schema)


def load(
    session: Session, schema: str, jobs: Sequence[tuple[str, str]]
) -> tuple[dict[str, JobState], dict[str, JobState]]:
    """Return where jobs stand. One round trip, however many jobs.

    Args:
        session: on the target.
        schema: the control schema, which `exists`.
        jobs: id and `plan.same_job` of each.

    Returns:
        States by job id, and by `plan.same_job`, of each the last that moved.
    """
    if not jobs:
        return {}, {}
    states, alike = {}, {}
    wanted = {"jobs": [job for job, _ in jobs], "same": [same for _, same in jobs]}
    query = sqltext.load("job_states").format(
        state=sql.Identifier(schema, "job_state"), run_table=sql.Identifier(schema, "run_table")
    )
    for same, *row in session.rows(query, wanted):
        state = _state(*row)
        states[state.job_id] = alike[same] = state
    return states, alike


def _state(columns: dict[str, list[Any]], leaves: dict[str, list[Any]], *rest: Any) -> JobState:  # noqa: ANN401
    read = {name: (int(number), str(type_)) for name, (number, type_) in columns.items()}
    seen = {int(oid): SeenLeaf(file, bound, xmin) for oid, (file, bound, xmin) in leaves.items()}
    state = JobState(read, seen, *rest)
    return dataclasses.replace(state, target_files={int(oid): file for oid, file in state.target_files.items()})


def advance(session: Session, schema: str, plan: SyncPlan, run_id: str, reached: Reached) -> None:
    """Write the job's state in the open transaction, if nobody has since the plan was made.

    Raises:
        BusyError: somebody has.
    """
    here = remembered(plan.job, plan.facts, plan.reading, plan.columns)
    progress = plan.facts.progress
    values = {
        "job_id": plan.job_id,
        "seen": progress.state.seq if progress.state else 0,
        "run_id": run_id,
        "source": str(plan.job.source),
        "target": str(plan.job.target),
        "name": session.text(sqltext.table(plan.job.target)),
        "mode": plan.job.mode.value,
        "same_job": same_job(plan.job, plan.facts.source),
        "cursor": plan.job.cursor,
        "watermark": reached.watermark,
        "held": reached.held,
        "xmin": str(here.xmin),
        "lsn": progress.moment.lsn,
        "system": plan.facts.source.system,
        "timeline": plan.facts.source.timeline,
        "repeats_at": progress.repeats_at,
        "source_oid": plan.facts.source_table.oid,
        "columns": Jsonb(here.columns),
        "leaves": Jsonb({str(oid): (leaf.file, leaf.bound, leaf.xmin) for oid, leaf in here.leaves.items()}),
    }
    written = session.execute(sqltext.load("advance").format(state=sql.Identifier(schema, "job_state")), values)
    if written != 1:
        raise BusyError(
            f"another run has finished {plan.job.target} since this one began; everything was rolled back",
            hint="Its rows are there; run again if newer ones are wanted.",
            table=str(plan.job.target),
        )


@dataclass(frozen=True, slots=True)
class Position:
    """Where a job stands, for people.

    Attributes:
        job_id: of the job.
        source: as it was named.
        target: ``schema.table``.
        mode: of the job.
        cursor: of the job, or None.
        watermark: the value that the next run reads on from, or None.
        snapshot_xmin: the oldest transaction that its last thorough snapshot was not sure of.
        run_id: the run that moved it last.
        updated: when, with offset, as text.
    """

    job_id: str
    source: str
    target: str
    mode: str
    cursor: str | None
    watermark: str | None
    snapshot_xmin: str
    run_id: str
    updated: str


def positions(session: Session, schema: str, wanted: str | None = None) -> tuple[Position, ...]:
    """Return where jobs stand: all of them, or those of an id, a target or a source."""
    if not exists(session, schema):
        return ()
    query = sql.SQL(
        "SELECT job_id, source, target, mode, cursor, watermark, snapshot_xmin, run_id,"
        " updated_at::timestamptz(0)::text FROM {}"
        " WHERE %(wanted)s::text IS NULL OR %(wanted)s IN (job_id, source, target) ORDER BY target, source"
    ).format(sql.Identifier(schema, "job_state"))
    return tuple(Position(*row) for row in session.rows(query, {"wanted": wanted}))


def forget(session: Session, schema: str, job_id: str) -> None:
    """Forget where a job stands: its next run reads everything."""
    session.execute(sql.SQL("DELETE FROM {} WHERE job_id = %s").format(sql.Identifier(schema, "job_state")), (job_id,))


def move(session: Session, schema: str, job_id: str, value: str) -> None:
    """Let a job's next run read on from another value."""
    query = sql.SQL("UPDATE {} SET watermark = %s, seq = seq + 1, updated_at = clock_timestamp() WHERE job_id = %s")
    session.execute(query.format(sql.Identifier(schema, "job_state")), (value, job_id))


def watermark(session: Session, schema: str, target: TableRef, cursor: str) -> str | None:
    """Return the watermark that was stored last for a target and a cursor, or None."""
    if not exists(session, schema):
        return None
    query = sql.SQL(
        "SELECT watermark FROM {} s WHERE target = %s AND cursor = %s AND watermark IS NOT NULL"
        " AND target_oid = pg_catalog.to_regclass(%s) ORDER BY updated_at DESC LIMIT 1"
    ).format(sql.Identifier(schema, "job_state"))
    found = session.rows(query, (str(target), cursor, session.text(sqltext.table(target))))
    return found[0][0] if found else None


# --- history ---------------------------------------------------------------------------------------------------------


def start_run(  # noqa: PLR0913, PLR0917 - a row's columns
    session: Session,
    schema: str,
    run_id: str,
    tables: int,
    version: str,
    resumes: str | None = None,
    *,
    servers: tuple[str | None, str | None] = (None, None),
) -> None:
    """Note that a run began, between which servers, and which one it resumes; said again, it is said once."""
    session.execute(
        sql.SQL(
            "INSERT INTO {} (run_id, tables, version, resumes, source_server, target_server)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
        ).format(sql.Identifier(schema, "run")),
        (run_id, tables, version, resumes, *servers),
    )


def done_jobs(session: Session, schema: str, run_id: str) -> tuple[str, frozenset[str]]:
    """Return a run's id, and the ids of the jobs that it, or a run that it resumed, has done.

    Args:
        session: on the target.
        schema: the control schema, which may be missing.
        run_id: of the run, or "last" for the one that began last.

    Raises:
        UsageError: there is no such run.
    """
    if exists(session, schema):
        found = session.rows(sqltext.load("done_jobs").format(**_history(schema)), {"run_id": run_id})
        if found:
            return str(found[0][0]), frozenset(found[0][1])
    raise UsageError(
        f"there is no run {run_id} to resume", hint="`pgsluice status --last 50` lists the runs of this target."
    )


def finish_run(session: Session, schema: str, run_id: str, status: str, exit_code: int) -> None:
    """Note that a run ended."""
    session.execute(
        sql.SQL("UPDATE {} SET finished_at = clock_timestamp(), status = %s, exit_code = %s WHERE run_id = %s").format(
            sql.Identifier(schema, "run")
        ),
        (status, exit_code, run_id),
    )


def record(session: Session, schema: str, job_id: str, report: TableReport) -> None:
    """Write the outcome of a job that is done, in the transaction that merged it: a second time, that fails."""
    _record(session, schema, job_id, report, 1, sql.SQL(""))


def record_failed(session: Session, schema: str, reports: Iterable[tuple[str, TableReport]], number: int = 1) -> None:
    """Write that jobs failed, where nothing was written of it; said again, it is said once.

    One round trip, and one more for each.

    Args:
        session: on the target.
        schema: the control schema.
        reports: of failures, each with the id of its job.
        number: 1, or 2 for what failed after it was done.

    Raises:
        RefusedError: others could run code by it: a failure may be just that.
    """
    control.missing(session, schema)
    for job_id, report in reports:
        _record(session, schema, job_id, report, number, sql.SQL("ON CONFLICT DO NOTHING"))


def _record(  # noqa: PLR0913, PLR0917 - a row's columns
    session: Session, schema: str, job_id: str, report: TableReport, number: int, again: sql.SQL
) -> None:
    session.execute(
        sql.SQL(
            "INSERT INTO {} (run_id, job_id, attempt, source, target, status, report)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s) {}"
        ).format(sql.Identifier(schema, "run_table"), again),
        (report.run_id, job_id, number, report.source, report.target, report.status, Jsonb(report.to_dict())),
    )


def snapshot_xmin(session: Session, schema: str, run_id: str, job_id: str) -> int | None:
    """Return what a run that has done a job noted of its snapshot, or None where it noted nothing."""
    query = sql.SQL(
        "SELECT jsonb_path_query_first(report, '$.snapshot_xmin ? (@ >= 0 && @ < 9e18)')::bigint FROM {}"
        " WHERE run_id = %s AND job_id = %s AND status = 'done'"
    ).format(sql.Identifier(schema, "run_table"))
    found = session.rows(query, (run_id, job_id))
    return found[0][0] or None if found else None


def committed(  # noqa: PLR0913, PLR0917 - what names one job of one run
    session: Session, schema: str, run_id: str, job_id: str, target: TableRef, seconds: float
) -> bool:
    """Tell whether this run's merge of this job was committed, when COMMIT itself got no answer.

    Getting the fence proves that the old backend is gone; before that, a reader that looks decides wrong.
    """
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE run_id = %s AND job_id = %s AND status = 'done')")
    try:
        with session.transaction(keep=False):
            fence(session, schema, target, seconds)
            return bool(session.row(query.format(sql.Identifier(schema, "run_table")), (run_id, job_id))[0])
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return False  # the COMMIT was that of the control schema itself


def runs(  # noqa: PLR0913 - ways of choosing
    session: Session,
    schema: str,
    *,
    limit: int | None = None,
    run_id: str | None = None,
    seconds: float | None = None,
    reports: bool = True,
    targets: Sequence[str] | None = None,
) -> tuple[RunRow, ...]:
    """Return the last runs, newest first; none where there is no control schema.

    Args:
        session: on the target.
        schema: the control schema.
        limit: how many at most.
        run_id: of the one that is meant, or "last".
        seconds: since they began, at most.
        reports: with what became of their tables.
        targets: runs of one of these, or of which nothing is known yet; None for all.
    """
    names = _history(schema)
    query = sqltext.load("runs").format(runs=sqltext.load("view_runs").format(**names), **names)
    wanted = {
        "limit": limit,
        "run_id": run_id,
        "seconds": seconds,
        "reports": reports,
        "targets": None if targets is None else list(targets),
    }
    found = _rows(session, schema, query, wanted)
    return tuple(
        RunRow(*(*row[:-3], tuple(_ended(row[0], *each) for each in row[-3] or ()), *row[-2:])) for row in found
    )


def _ended(run_id: str, source: str, target: str, status: str, ended_at: str, said: str | None) -> dict[str, Any]:  # noqa: PLR0913, PLR0917 - a row's columns
    known = {"run_id": run_id, "source": source, "target": target, "status": status}
    return {**records.report(said, known), "ended_at": float(ended_at)}


@dataclass(frozen=True, slots=True)
class TableRow:
    """A table as the run history remembers it.

    Attributes:
        source: as it was named.
        target: ``schema.table``.
        status: of its last run.
        run_id: of that.
        report: of that, as plain types.
        recorded: when, with offset, as text.
        done: when it was done last, or None for never.
        age: seconds since then.
        is_job: some run has begun it: its plan was not all that was ever made of it.
    """

    source: str
    target: str
    status: str
    run_id: str
    report: dict[str, Any]
    recorded: str
    done: str | None
    age: float | None
    is_job: bool = True


def last_tables(session: Session, schema: str) -> tuple[TableRow, ...]:
    """Return what became of each table last; none where there is no control schema. One scan of the history."""
    query = sql.SQL(
        "SELECT source, target, status, run_id, CASE WHEN octet_length(report::text) <= 1048576 THEN report::text END,"
        " recorded_at::timestamptz(0)::text,"
        " done_at::timestamptz(0)::text, extract(epoch FROM clock_timestamp() - done_at)::float8,"
        " EXISTS (SELECT FROM {run_table} r WHERE (r.source, r.target) = (t.source, t.target) AND (r.status = 'done'"
        " OR r.status = 'failed' AND (r.report ->> 'step' IS DISTINCT FROM 'plan'"
        " OR r.report ->> 'exit_code' NOT IN ('2', '6'))))"
        " FROM ({tables}) t ORDER BY target, source"
    ).format(
        tables=sqltext.load("view_tables").format(**_history(schema)), run_table=sql.Identifier(schema, "run_table")
    )
    return tuple(
        TableRow(
            source,
            target,
            status,
            run_id,
            records.report(said, {"run_id": run_id, "source": source, "target": target, "status": status}),
            *rest,
        )
        for source, target, status, run_id, said, *rest in _rows(session, schema, query, {})
    )


def table_runs(session: Session, schema: str, wanted: str, limit: int) -> tuple[dict[str, Any], ...]:
    """Return the reports of a table's last runs, newest first, each with `recorded`, a time as text.

    Args:
        session: on the target.
        schema: the control schema.
        wanted: its job's id, its target or its source.
        limit: how many at most.
    """
    query = sqltext.load("table_runs").format(**_history(schema))
    found = _rows(session, schema, query, {"wanted": wanted, "limit": limit})
    names = ("run_id", "source", "target", "status")
    return tuple(
        {**records.report(said, dict(zip(names, known, strict=True))), "recorded": recorded}
        for *known, said, recorded in found
    )


def mended(session: Session, schema: str, run_id: str) -> tuple[str, ...]:
    """Return the targets that a run has done and whose run before had failed."""
    query = sqltext.load("mended").format(**_history(schema))
    return tuple(target for (target,) in _rows(session, schema, query, {"run_id": run_id}))


def known(session: Session, schema: str) -> tuple[tuple[str, str], ...]:
    """Return the sources and targets of all jobs that the history has and nobody has forgotten."""
    query = sql.SQL("SELECT source, target FROM ({}) t ORDER BY target, source")
    rows = _rows(session, schema, query.format(sqltext.load("view_tables").format(**_history(schema))), {})
    return tuple((source, target) for source, target in rows)


def forget_target(session: Session, schema: str, run_id: str, target: str) -> int:
    """Forget where the jobs of a target stand, and that they are to be done, in the open transaction.

    The history keeps what they did, and that they were forgotten.

    Args:
        session: on the target.
        schema: the control schema.
        run_id: under which the history has it.
        target: ``schema.table``.

    Returns:
        How many positions there were.
    """
    for source in (source for source, known_target in known(session, schema) if known_target == target):
        report = TableReport(run_id, source, target, "", FORGOTTEN)
        record(session, schema, f"forgotten {source}", report)
    return session.execute(
        sql.SQL("DELETE FROM {} WHERE target = %s").format(sql.Identifier(schema, "job_state")), (target,)
    )


def forget_history(session: Session, schema: str, seconds: float) -> None:
    """Delete what the history holds of older runs, but each table's last row and the last in which it was done.

    One round trip. A role that may not DELETE there, as in another role's schema, leaves it as it is: one more.
    """
    try:
        session.execute(sqltext.load("forget_history").format(**_history(schema)), {"seconds": seconds})
    except psycopg.errors.InsufficientPrivilege:
        tables = [session.text(name) for name in _history(schema).values()]
        (may,) = session.row(
            sql.SQL(
                "SELECT pg_catalog.bool_and(pg_catalog.has_table_privilege(name, 'DELETE'))"
                " FROM pg_catalog.unnest(%s::pg_catalog.text[]) AS name"
            ),
            (tables,),
        )
        if may:
            raise


def _history(schema: str) -> dict[str, sql.Identifier]:
    return {"run": sql.Identifier(schema, "run"), "run_table": sql.Identifier(schema, "run_table")}


def _rows(session: Session, schema: str, query: sql.Composed, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return what the history says; nothing where there is none. Two round trips."""
    return session.rows(query, values) if exists(session, schema) else []
