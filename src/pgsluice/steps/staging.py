"""Creates, counts, drops and sweeps staging tables."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from pgsluice import locks, records, sqltext
from pgsluice.errors import UsageError
from pgsluice.facts import Column
from pgsluice.job import TableRef
from pgsluice.model import CommittedSlice, StagingTable
from pgsluice.records import Tag
from pgsluice.session import Session

TEMPORARY_SCHEMA = "pg_temp"
_DROP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """What a staging table that outlives its run was made from.

    Attributes:
        job_id: the job that it serves.
        made_from: what has to agree before its rows can be used, each under a name.
        pages: first page of each slice, in order.
        seconds: that it is kept for.
    """

    job_id: str
    made_from: Mapping[str, Any]
    pages: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """A staging table that waits for a run that resumes.

    Attributes:
        ref: its name.
        run_id: the run that filled it.
        target: the table it feeds.
        until: when it becomes an orphan, by the target's clock, in UTC.
        kept: what it was made from.
        columns: of it, in order.
    """

    ref: TableRef
    run_id: str
    target: str
    until: str
    kept: Kept
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """The staging tables that are there.

    Attributes:
        waiting: those that are kept for a run that resumes, those of living runs included.
        passed_over: names of those that are not used, and why: their COMMENT is not ours, or something hangs on them.
        others: the same of those that belong to a role that is not trusted.
    """

    waiting: tuple[Waiting, ...]
    passed_over: tuple[tuple[str, str], ...]
    others: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Owned:
    """A staging table of ours: its name and columns, what its tag says, and the server's time."""

    ref: TableRef
    tag: Tag
    now: int
    columns: tuple[str, ...]

    @property
    def waits(self) -> bool:
        return self.tag.until > self.now


def named(  # noqa: PLR0913 - what a staging table is
    schema: str,
    run_id: str,
    number: int,
    target: TableRef,
    columns: tuple[Column, ...],
    *,
    part: str = "",
    attempt: int = 1,
) -> StagingTable:
    """Name a staging table; never after its target: 63 bytes cut thirty Hangul letters to twenty-one.

    Args:
        schema: the control schema, or `TEMPORARY_SCHEMA` for one that is gone with its transaction.
        run_id: the run that owns it.
        number: of the table within its run.
        target: the table it feeds.
        columns: what it holds.
        part: what of the job it holds, where that is not its rows: "keys".
        attempt: number of the try that it is made for; the table of an earlier one may not be gone yet.
    """
    name = f"stg_{run_id}_{number}" + (f"_{part}" if part else "") + (f"_{attempt}" if attempt > 1 else "")
    return StagingTable(TableRef(schema, name), target, columns, run_id)


def create_sql(staging: StagingTable) -> sql.Composed:
    """Return the CREATE TABLE: the copied columns alone, without constraints, defaults or indexes."""
    columns = sql.SQL(", ").join(sqltext.column_definition(column) for column in staging.columns)
    if staging.ref.schema == TEMPORARY_SCHEMA:
        return sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(
            sql.Identifier(staging.ref.name), columns
        )
    return sql.SQL("CREATE UNLOGGED TABLE {} ({}) WITH (autovacuum_enabled = false)").format(
        sqltext.table(staging.ref), columns
    )


def create(
    session: Session,
    staging: StagingTable,
    owner_key: int = 0,
    definition: sql.Composed | None = None,
    search_path: str = "",
) -> None:
    """Create a staging table: an UNLOGGED one says who owns it and is closed to everybody else.

    Args:
        session: on the target, idle; for a temporary one, in the transaction that it shall live in.
        staging: what to create.
        owner_key: of the run lock that its run holds; without its run it is an orphan. None of it for a temporary one.
        definition: the CREATE TABLE, where it is to become the target; else the copied columns alone.
        search_path: that functions which it calls look up names under, where it is to be what another table is; only
            where it parses no text of anybody's. No tablespace is the role's own choice then.
    """
    if staging.ref.schema == TEMPORARY_SCHEMA:
        session.execute(create_sql(staging))
        return
    with session.transaction():
        if search_path:
            session.local(default_tablespace="")
        with session.playing_role(search_path) if search_path else contextlib.nullcontext():
            session.execute(definition or create_sql(staging))
        _close(session, staging.ref)
        tag(session, staging, owner_key)


def _close(session: Session, ref: TableRef) -> None:
    session.execute(sql.SQL("REVOKE ALL ON {} FROM PUBLIC").format(sqltext.table(ref)))


def tag(session: Session, staging: StagingTable, owner_key: int, kept: Kept | None = None) -> None:
    """Say on an UNLOGGED staging table who owns it and, for one that is kept, until when; again to begin anew."""
    what: dict[str, Any] = {"pgsluice": 1, "run": staging.run_id, "target": str(staging.target), "lock": owner_key}
    if kept:
        (now,) = session.row(sql.SQL("SELECT extract(epoch FROM pg_catalog.clock_timestamp())::bigint"))
        what |= {"job": kept.job_id, "made_from": dict(kept.made_from), "pages": kept.pages}
        what["until"] = now + round(kept.seconds)
    _comment(session, staging.ref, what)


def _comment(session: Session, ref: TableRef, what: dict[str, Any]) -> None:
    session.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(sqltext.table(ref), sql.Literal(json.dumps(what))))


def part(staging: StagingTable, number: int) -> StagingTable:
    """Return the table that holds one slice of a staging table."""
    ref = TableRef(staging.ref.schema, f"{staging.ref.name}_s{number}")
    return StagingTable(ref, staging.target, staging.columns, staging.run_id)


def create_part(session: Session, staging: StagingTable, number: int) -> StagingTable:
    """Create the table of one slice, empty; who reads the staging table reads it too.

    Never in the transaction that fills it: where one that creates an UNLOGGED table is rolled back, and the server
    crashes before that is in its log, recovery meets a file that it wants to create, and the server stays down.

    Args:
        session: on the target, idle.
        staging: the table that it is a part of.
        number: of the slice.
    """
    made = part(staging, number)
    is_there = sql.SQL("SELECT pg_catalog.to_regclass(%s) IS NOT NULL")
    with session.transaction():
        if session.row(is_there, (session.text(sqltext.table(made.ref)),))[0]:  # an event trigger may forbid any DROP
            session.execute(sql.SQL("DROP TABLE {}").format(sqltext.table(made.ref)))
        session.execute(
            sql.SQL("CREATE UNLOGGED TABLE {} () INHERITS ({}) WITH (autovacuum_enabled = false)").format(
                sqltext.table(made.ref), sqltext.table(staging.ref)
            )
        )
        _close(session, made.ref)
    return made


def note(session: Session, part: StagingTable, committed: CommittedSlice) -> None:
    """Write on the table of a slice what it holds, in the open transaction that fills it."""
    of = committed.slice
    what = {"slice": of.number, "first": of.first, "end": of.end, "rows": committed.rows, "bytes": committed.bytes}
    _comment(session, part.ref, what)


def committed(
    session: Session, staging: StagingTable
) -> tuple[tuple[CommittedSlice, ...], tuple[tuple[TableRef, str], ...]]:
    """Return the slices that were filled, in order, and the tables that can't be used, with why. One round trip."""
    found = session.rows(_trusting(sqltext.load("staging_slices")), {"table": session.text(sqltext.table(staging.ref))})
    slices, spoiled = [], []
    for name, comment, owner, fault in found:
        noted = (owner and f"it belongs to {owner}") or fault or (records.slice_of(comment) if comment else None)
        if isinstance(noted, CommittedSlice) and part(staging, noted.slice.number).ref.name == name:
            slices.append(noted)
        elif noted:
            why = noted if isinstance(noted, str) else "its COMMENT is another's"
            spoiled.append((TableRef(staging.ref.schema, name), why))
    return tuple(sorted(slices, key=lambda each: each.slice.number)), tuple(spoiled)


def _trusting(query: sql.SQL) -> sql.Composed:
    """Return a query that says of each table why it is not to be used, if so."""
    return query.format(trusted=sqltext.load("trusted_roles"), fault=sqltext.load("staging_fault"))


def count(session: Session, staging: StagingTable) -> int:
    """Return the number of rows."""
    return int(session.row(sql.SQL("SELECT count(*) FROM {}").format(sqltext.table(staging.ref)))[0])


def drop(session: Session, ref: TableRef) -> None:
    """Drop a staging table; none there is fine.

    Args:
        session: on the target, idle.
        ref: its name.

    Raises:
        psycopg.Error: it could not be dropped.
    """
    with session.transaction():
        session.patience(_DROP_SECONDS)
        session.execute(sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(sqltext.table(ref)))  # with its slices


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did.

    Attributes:
        dropped: names of the staging tables that are gone.
        left: names of those whose runs are dead too, each with why it could not be dropped.
        waiting: those that are kept for a run that resumes.
        passed_over: names of those that are not used, and why: their COMMENT is not ours, or something hangs on them.
        others: the same of those that belong to a role that is not trusted.
    """

    dropped: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    waiting: tuple[Waiting, ...]
    passed_over: tuple[tuple[str, str], ...]
    others: tuple[tuple[str, str], ...]


def sweep(session: Session, schema: str, own_run: str = "", *, also_kept: bool = False) -> Swept:
    """Drop the staging tables whose runs are dead, and only those, from any machine.

    A run holds the run lock that its tables name for as long as it lives; the server frees it with the connection, and
    a stranger who takes it keeps nothing alive. Tables without our tag are not ours, and those that are kept for a run
    that resumes stay for their time.

    Args:
        session: on the target, idle.
        schema: the control schema.
        own_run: whose tables are left alone, whatever locks this session holds.
        also_kept: drop those too that are kept.
    """
    dropped, left, waiting = [], [], []
    owned, *not_ours = _owned(session, schema)
    for each in owned:
        if each.tag.run == own_run:
            continue
        is_free = session.row(sql.SQL("SELECT pg_catalog.pg_try_advisory_lock(%s)"), (each.tag.lock,))[0]
        if not is_free and any(holder.is_ours for holder in locks.holders(session, schema, each.tag.lock)):
            continue
        try:
            if each.waits and not also_kept:
                waiting.append(_waiting(each))
                continue
            drop(session, each.ref)
            dropped.append(str(each.ref))
        except psycopg.Error as error:
            if not session.usable:
                raise
            # not ours to judge: another role's, in use, or kept by an event trigger
            left.append((str(each.ref), error.diag.message_primary or "it could not be dropped"))
        finally:
            if is_free:
                session.execute(sql.SQL("SELECT pg_catalog.pg_advisory_unlock(%s)"), (each.tag.lock,))
    return Swept(tuple(dropped), tuple(left), tuple(waiting), *not_ours)


def listed(session: Session, schema: str) -> Listed:
    """Return the staging tables that are there. One round trip."""
    owned, *not_ours = _owned(session, schema)
    return Listed(tuple(_waiting(each) for each in owned if each.waits), *not_ours)


def _waiting(owned: _Owned) -> Waiting:
    tag = owned.tag
    until = datetime.fromtimestamp(tag.until, UTC).isoformat(" ", "seconds")
    kept = Kept(tag.job, tag.made_from, tag.pages, 0)
    return Waiting(owned.ref, tag.run, str(tag.target), until, kept, owned.columns)


def find(session: Session, ref: TableRef, columns: tuple[Column, ...]) -> StagingTable:
    """Return a staging table of ours by name.

    Args:
        session: on the target.
        ref: its name.
        columns: as the catalog describes them.

    Raises:
        UsageError: there is none, or it is not ours.
    """
    owned, *not_ours = _owned(session, ref.schema)
    for each in owned:
        if each.ref == ref:
            return StagingTable(ref, each.tag.target, columns, each.tag.run)
    why = dict(sum(not_ours, ())).get(str(ref), "")
    raise UsageError(
        f"{ref} is not a staging table of ours{why and f': {why}'}", hint="Create one with create_staging_table()."
    )


_Named = tuple[tuple[str, str], ...]


def _owned(session: Session, schema: str) -> tuple[tuple[_Owned, ...], _Named, _Named]:
    """Return the staging tables that are ours, and names of others that bear a COMMENT, with why. One round trip.

    Of these, first those that are odd, then those that belong to roles that are not trusted.
    """
    owned, odd, others = [], [], []
    for name, comment, now, columns, owner, fault in session.rows(
        _trusting(sqltext.load("staging_tables")), {"schema": schema}
    ):
        ref, tag = TableRef(schema, name), fault or records.tag(comment)
        if owner is not None:
            others.append((str(ref), f"it belongs to {owner}"))
        elif isinstance(tag, str):
            odd.append((str(ref), tag))
        else:
            owned.append(_Owned(ref, tag, now, tuple(columns)))
    return tuple(owned), tuple(odd), tuple(others)
