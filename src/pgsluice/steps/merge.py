"""Runs what changes the target: gate, lock, delete guard, DELETE, MERGE, all in the caller's transaction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pgsluice import blockers, changes, creation, drift, guard, sequences, sqltext
from pgsluice.errors import GateError, RefusedError, StagingLostError, StepError, VerifyError
from pgsluice.facts import Column, ForeignKey, TableInfo
from pgsluice.job import Mode, TargetWriters
from pgsluice.locks import lock_table
from pgsluice.model import MergeResult, StagingTable
from pgsluice.plan import Creation, SyncPlan
from pgsluice.session import Session

_WORK_MEM_MB = 256
_SERVER_17 = 170000
_SERVER_18 = 180000
_TRACKS = "SELECT pg_catalog.current_setting('track_counts')::pg_catalog.bool"
#: Where no trigger of others can run as us.
_NOTHING = sql.SQL("ARRAY[]::pg_catalog.text[]")


#: Of pg_trigger.tgtype: BEFORE .. FOR EACH ROW alone can hold a row back, and by which statements it fires.
_BEFORE_ROW = 3
_INSERT, _DELETE, _UPDATE = 4, 8, 16


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger of the target that fires for our rows.

    Attributes:
        name: of it.
        type: as in pg_trigger.tgtype.
    """

    name: str
    type: int

    def may_hold_back(self, events: int) -> bool:
        """Tell whether it can keep rows from being written by such statements."""
        return self.type & _BEFORE_ROW == _BEFORE_ROW and bool(self.type & events)


@dataclass(frozen=True, slots=True)
class Staged:
    """A staging table and the rows that were committed into it."""

    table: StagingTable
    rows: int


class Merging:
    """One job's rows on their way into its target, in the caller's open transaction on it (READ COMMITTED).

    In phases, so that tables that commit together are all looked at before the first is changed: look, delete, write.
    Costs one count of staging (two with keys to check), one join for the guard, one for each of DELETE and MERGE.
    """

    def __init__(self, session: Session, plan: SyncPlan, staged: Staged, keys: Staged | None = None) -> None:
        """Keep what is needed; nothing is done yet.

        Args:
            session: on the target.
            plan: of the job.
            staged: the rows.
            keys: the source's keys in scope, where the plan sweeps; else the staged rows hold them.
        """
        self._session = session
        self._plan = plan
        self._staged = self._changed = staged
        self._keys = keys
        self._present = keys or staged
        self._gone = self._inserted = self._updated = self._deleted = 0
        self._started = time.monotonic()
        self._locked_at: float | None = None
        self._triggers: tuple[Trigger, ...] = ()

    def look(self) -> None:
        """Check what is staged, lock the target, and find what differs and what is gone.

        Raises:
            StagingLostError: a staging table holds another number of rows than were committed into it.
            GateError: its keys are NULL or not unique.
            DeleteGuardError: more rows would go than allowed.
            TemporaryError: the target's lock was not to be had.
        """
        session, plan, staged, keys = self._session, self._plan, self._staged, self._keys
        for each in filter(None, (staged, keys)):
            _gate(session, each)
        if not plan.key_is_proven:
            tell_apart(session, plan, (keys or staged).table)  # the keys of the source hold those of the staged rows
        _prepare(session, staged, keys)
        if plan.creation:
            return
        if plan.job.mode is Mode.APPEND:
            self._lock()
            return
        is_alone = plan.compares_first and plan.options.target_writers is TargetWriters.NONE
        if is_alone:
            self._changed = _compare(session, plan, staged)
        else:
            self._lock()
        self._gone = _look_for_gone(session, plan, self._present) if plan.deletes else 0
        if is_alone:
            self._lock()

    def _lock(self) -> None:
        """Lock the target, see that it is the one planned for, and alter it where it follows its source."""
        session, plan = self._session, self._plan
        lock_table(session, changes.lock_sql(plan), plan.options.lock_timeout)
        self._locked_at = time.monotonic()
        self._triggers = _same_table(session, plan)
        if plan.alterations:  # names types alone; what indexes call, as they are built anew, leans on the role's path
            session.execute(drift.alter_sql(plan.job.target, plan.alterations))

    def delete(self, *, is_last: bool = False) -> bool:
        """Delete, or mark, what is gone, unless that has to wait until all is written.

        It comes first, so that a new row can have what was unique to one that is gone. Rows wait that others still
        refer to, for these will refer to another, or would be deleted along with them.

        Args:
            is_last: all is written.

        Returns:
            Whether it is done.

        Raises:
            DeleteGuardError: an append that starts over would clear more rows than allowed.
            StepError: rows of other tables, which are as on the source, refer to rows that it does not have.
            VerifyError: a trigger of the target holds rows back.
        """
        session, plan, present = self._session, self._plan, self._present.table
        if plan.creation is None and plan.job.mode is Mode.APPEND and plan.reading.starts_over:
            total = _guard_clearing(session, plan, self._staged.rows)
            self._deleted = session.execute(changes.clear_sql(plan)) if total else 0
            _see(plan, self._triggers, _DELETE, (total, self._deleted, "deleted"))
            return True
        if self._deleted >= self._gone:
            return True
        referring = plan.facts.referring
        cascading = [key for key in referring if key.cascades and key.pairs and key.child != key.parent]
        if plan.mark or not referring or (is_last and not cascading):
            self._deleted += session.execute(changes.delete_sql(plan, present))
            self._see_deleted()
        elif is_last:
            self._deleted += session.execute(changes.delete_sql(plan, present, cascading))
            self._see_deleted(cascading)
            _refuse_orphans(plan, cascading, self._gone - self._deleted)
        elif any(key.cascades for key in referring) or not self._deletes_all():
            if all(key.pairs for key in referring):
                self._deleted += session.execute(changes.delete_sql(plan, present, referring))
            return self._deleted >= self._gone
        else:
            self._see_deleted()
        return True

    def _deletes_all(self) -> bool:
        """Delete all that is gone, or nothing where rows still refer to some of it."""
        self._session.execute(sql.SQL("SAVEPOINT pgsluice_delete"))
        try:
            self._deleted += self._session.execute(changes.delete_sql(self._plan, self._present.table))
        except (psycopg.errors.ForeignKeyViolation, psycopg.errors.RestrictViolation):
            self._session.execute(sql.SQL("ROLLBACK TO SAVEPOINT pgsluice_delete"))
            return False
        return True

    def _see_deleted(self, spared_by: Sequence[ForeignKey] = ()) -> None:
        """See that what is gone was deleted, or marked; a cascade may have taken more than our DELETE counted."""
        if self._deleted < self._gone:
            session, plan, present = self._session, self._plan, self._present.table
            if plan.compares_first:  # a row that a trigger has written since is no longer where it was seen
                self._deleted += session.execute(changes.delete_sql(plan, present, spared_by, by_place=False))
            (left,) = session.row(changes.left_sql(plan, present, spared_by))
            event, done = (_UPDATE, "marked as deleted") if plan.mark else (_DELETE, "deleted")
            _see(plan, self._triggers, event, (self._gone, self._gone - left, done))

    def write(self) -> None:
        """Insert and update, and let sequences catch up.

        Raises:
            VerifyError: a trigger of the target holds rows back.
        """
        session, plan, staged = self._session, self._plan, self._staged
        if plan.creation:
            with session.playing_role():
                self._inserted = _create(session, plan, plan.creation, staged.table)
        elif plan.job.mode is Mode.APPEND:
            self._inserted = session.execute(changes.append_sql(plan, staged.table))
            _see(plan, self._triggers, _INSERT, (staged.rows, self._inserted, "inserted"))
        else:
            if plan.compares_first and self._changed is staged:  # behind what triggers of our DELETEs have written
                self._changed = _compare(session, plan, staged)
            if self._changed.rows:
                self._inserted, self._updated = _merge(session, plan, self._changed.table, self._triggers)
            if plan.mark and self._keys:
                self._revive(plan.mark, self._keys.table)
        for column, last in plan.sequences:
            session.rows(sequences.catch_up_sql(plan.job.target, column, last))

    def _revive(self, mark: str, keys: StagingTable) -> None:
        """Take the mark off rows that the source has again."""
        session, plan = self._session, self._plan
        is_counted = any(each.may_hold_back(_UPDATE) for each in self._triggers)
        (marked,) = session.row(changes.returned_sql(plan, mark, keys)) if is_counted else (0,)
        revived = session.execute(changes.revive_sql(plan, mark, keys))
        _see(plan, self._triggers, _UPDATE, (marked, revived, "freed of their mark"))
        self._updated += revived

    @property
    def triggers(self) -> tuple[str, ...]:
        """Return the names of the triggers that fire for the target's rows; none before the lock was taken."""
        return tuple(each.name for each in self._triggers)

    @property
    def result(self) -> MergeResult:
        """Return what was done."""
        staged = self._staged
        return MergeResult(
            staged=staged.rows,
            inserted=self._inserted,
            updated=self._updated,
            unchanged=max(0, staged.rows - self._inserted - self._updated) + _alike(self._plan),
            deleted=self._deleted,
            target_count=-1,
            seconds=time.monotonic() - self._started,
            created=self._plan.creation is not None,
            locked_seconds=time.monotonic() - self._locked_at if self._locked_at else 0.0,
        )


def preview(session: Session, plan: SyncPlan, staged: Staged, keys: Staged | None = None) -> MergeResult:
    """Count what `apply` would do, and do nothing. One count of staging, two joins, one more for deletes.

    Args:
        session: on the target, in a transaction.
        plan: of the job.
        staged: the rows.
        keys: the source's keys in scope, where the plan sweeps.

    Raises:
        StagingLostError: a staging table holds another number of rows than were committed into it.
        GateError: its keys are NULL or not unique.
    """
    if plan.alterations:
        raise StepError("the target has to be altered first", hint="sync does it: --drift.", step="preview")
    started = time.monotonic()
    present = keys or staged
    for each in filter(None, (staged, keys)):
        _gate(session, each)
    if not plan.key_is_proven:
        tell_apart(session, plan, present.table)
    _prepare(session, staged, keys)
    inserted, updated, deleted, total = staged.rows, 0, 0, 0
    if plan.creation is None and plan.job.mode is not Mode.APPEND:
        counts = session.row(changes.preview_sql(plan, staged.table, present.table))
        inserted, updated, deleted, total = map(int, counts)
    elif plan.creation is None and plan.reading.starts_over:
        (total,) = session.row(changes.scope_sql(plan))
        deleted = total
    return MergeResult(
        staged=staged.rows,
        inserted=inserted,
        updated=updated,
        unchanged=max(0, staged.rows - inserted - updated) + _alike(plan),
        deleted=deleted,
        target_count=total,
        seconds=time.monotonic() - started,
        created=plan.creation is not None,
    )


def _alike(plan: SyncPlan) -> int:
    """Return the rows that were not staged, for both sides have them alike."""
    return plan.part.alike if plan.part else 0


def _prepare(session: Session, staged: Staged, keys: Staged | None) -> None:
    """Give the planner what it needs, and the user's own SQL its meaning, until the transaction ends."""
    session.local(work_mem=f"{_WORK_MEM_MB}MB")
    for each in filter(None, (staged, keys)):
        session.execute(sql.SQL("ANALYZE {}").format(sqltext.table(each.table.ref)))
    session.as_role(session.search_path, session.time_zone)


def _gate(session: Session, staged: Staged) -> None:
    """Count inside the transaction that merges: a crash of any backend empties UNLOGGED tables within a second."""
    try:
        (found,) = session.row(sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(sqltext.table(staged.table.ref)))
    except psycopg.errors.UndefinedTable as error:
        raise StagingLostError(
            "the staging table is gone", hint="Nothing was merged. Run again.", step="gate"
        ) from error
    if found != staged.rows:
        raise StagingLostError(
            f"the staging table holds {found} rows and {staged.rows} were committed into it;"
            " a crash of the target empties UNLOGGED tables",
            hint="Nothing was merged. Run again.",
            step="gate",
        )


def tell_apart(session: Session, plan: SyncPlan, staging: StagingTable) -> None:
    """See that the key tells staged rows apart. One scan and a sort or hash of the key.

    Raises:
        GateError: it does not; names up to five keys, where row data may be shown.
    """
    faults = session.rows(changes.fault_sql(plan, staging))
    if faults:
        shows = plan.options.show_row_data
        listed = "; ".join(_fault(*fault) for fault in faults) if shows else _counted(faults)
        hidden = "" if shows else f" {_finding(plan, faults)} finds them; --show-row-data names some."
        raise GateError(
            f"the key ({', '.join(plan.key.columns)}) does not tell the source's rows apart: {listed}",
            hint=f"Choose another --key, or mend these rows on the source.{hidden} Nothing was merged.",
            step="gate",
        )


def _finding(plan: SyncPlan, faults: list[tuple[Any, ...]]) -> str:
    """Return the SQL that finds on the source what is at fault: a NULL stands in no group of its own."""
    names = [sqltext.names([column]).as_string(None) for column in plan.key.columns]
    null = f"WHERE {' OR '.join(f'{name} IS NULL' for name in names)}"
    twice = f"GROUP BY {', '.join(names)} HAVING count(*) > 1"
    found = {null if is_null else twice: None for _, is_null, _ in faults}
    return " and ".join(found)


def _fault(values: list[str | None], is_null: bool, times: int) -> str:  # noqa: FBT001
    key = ", ".join("NULL" if value is None else value for value in values)
    return f"({key}) is NULL" if is_null else f"({key}) stands {times} times"


def _counted(faults: list[tuple[Any, ...]]) -> str:
    """Say how many keys are at fault: a key is row data."""
    null = sum(is_null for _, is_null, _ in faults)
    twice = len(faults) - null
    found = [f"keys that stand more than once: {twice}"] if twice else []
    found += [f"keys that are NULL: {null}"] if null else []
    return "; ".join(found) + (", and maybe more" if len(faults) == changes.NAMED_KEYS else "")


def _same_table(session: Session, plan: SyncPlan) -> tuple[Trigger, ...]:
    """See, under the lock, that the name still means the table that the plan was made for, with the same columns.

    Returns:
        The triggers that fire for its rows.

    Raises:
        RefusedError: to change its rows would lend our rights to others.
        StepError: it is another.
    """
    planned = plan.facts.target_table
    may_lend = session.version < _SERVER_18 and (plan.job.mode is not Mode.APPEND or plan.reading.starts_over)
    asked = sqltext.load("shape_along").format(trusted=sqltext.load("trusted_roles")) if may_lend else _NOTHING
    name = session.text(sqltext.table(plan.job.target))
    found, columns, triggers, files, along = session.row(sqltext.load("shape").format(along=asked), {"table": name})
    _refuse_to_lend(plan, along)
    if planned is None or found != planned.oid:
        what = "was replaced by another table"
    elif other := {tuple(column) for column in columns} ^ {_identity(column) for column in planned.columns}:
        what = f"got other columns ({', '.join(sorted({name for _, name, *_ in other}))})"
    elif _leans_on_what_is_there(plan) and {(leaf.oid, leaf.file) for leaf in planned.leaves if leaf.file} - {
        (oid, file) for oid, file in files
    }:
        what = "was truncated or rewritten"
    else:
        return tuple(Trigger(*each) for each in triggers)
    raise StepError(f"the target {what} while the rows were on their way", hint="Run again.", step="merge")


def _leans_on_what_is_there(plan: SyncPlan) -> bool:
    """Tell whether rows were left out because the target had them when the plan was made."""
    return not plan.reading.is_complete or plan.part is not None


def _refuse_to_lend(plan: SyncPlan, along: Sequence[str]) -> None:
    """Refuse what has triggers of others run as our role: before 18, AFTER triggers do, whoever owns their table.

    Raises:
        RefusedError: rows of such tables change along with the target's.
    """
    if along:
        raise RefusedError(
            f"rows of {', '.join(along)} change along with those of {plan.job.target}, and triggers there would run as"
            " our role: the target is older than PostgreSQL 18",
            hint="Give these tables to the owner of the target (ALTER TABLE .. OWNER TO ..), or have their foreign keys"
            " do nothing ON DELETE and ON UPDATE; then run again.",
            step="merge",
        )


def _identity(column: Column) -> tuple[int, str, int, int, bool]:
    """Return what a column is, whatever the search_path under which its type's name is printed."""
    return (column.number, column.name, *column.type_id, column.not_null)


def _create(session: Session, plan: SyncPlan, wanted: Creation, staging: StagingTable) -> int:
    blockers.executed(session, *creation.schemas_sql(wanted))
    lacks = sql.SQL("SELECT pg_catalog.to_regtype(%s) IS NULL AND pg_catalog.to_regcollation(%s) IS NULL")
    for dependency in wanted.dependencies:  # another table of the run may have brought it meanwhile
        if session.row(lacks, (dependency.sql, dependency.sql))[0]:
            blockers.executed(session, *creation.dependency_sql(dependency))
    blockers.executed(session, creation.table_sql(plan, wanted, plan.job.target))
    inserted = session.execute(creation.insert_sql(plan, staging, wanted))
    for statement in (*creation.keys_sql(wanted, plan.job.target), *creation.comments_sql(wanted, plan.job.target)):
        session.execute(statement)
    session.execute(sql.SQL("ANALYZE {}").format(sqltext.table(plan.job.target)))
    return inserted


def _compare(session: Session, plan: SyncPlan, staged: Staged) -> Staged:
    """Keep the staged rows that have no equal in the target, and return the table that has them."""
    session.execute(sql.SQL("SET LOCAL parallel_tuple_cost = 0"))  # how few come through, no planner can know
    rows = session.execute(changes.delta_sql(plan, staged.table))
    session.execute(sql.SQL("SET LOCAL parallel_tuple_cost TO DEFAULT"))
    differing = changes.delta(staged.table)
    session.execute(sql.SQL("ANALYZE {}").format(sqltext.table(differing.ref)))
    return Staged(differing, rows)


def _look_for_gone(session: Session, plan: SyncPlan, present: Staged) -> int:
    """Count what the source lacks before it is deleted: nothing goes because staging merely looked empty."""
    if plan.compares_first:
        gone = session.execute(changes.gone_sql(plan, present.table))
        session.execute(sql.SQL("ANALYZE {}").format(sqltext.table(changes.gone(present.table))))
        (total,) = session.row(changes.scope_sql(plan)) if gone else (0,)
    else:
        total, gone = session.row(changes.guard_sql(plan, present.table))
    if plan.part:  # the limit is a share of the table, not of the buckets that differ
        guard.check(plan, gone, plan.part.target_rows, present.rows + plan.part.alike)
    else:
        guard.check(plan, gone, total, present.rows)
    return int(gone)


def _guard_clearing(session: Session, plan: SyncPlan, staged_rows: int) -> int:
    """Count the target's rows in scope, which a fresh start clears; what counts as lost is what does not come back."""
    (total,) = session.row(changes.scope_sql(plan))
    guard.check(plan, max(0, total - staged_rows), total, staged_rows)
    return int(total)


def _refuse_orphans(plan: SyncPlan, keys: Sequence[ForeignKey], left: int) -> None:
    """See that no row is left that is gone from the source and still referred to: deleting it would take others along.

    Raises:
        StepError: some are.
    """
    if left > 0:
        children = ", ".join(sorted({str(key.child) for key in keys}))
        raise StepError(
            f"{left} rows of {plan.job.target} are gone from the source, where rows of {children} still refer to them",
            hint="Mend these rows on the source; deleting here would delete rows that the source has.",
            step="merge",
            sqlstate=psycopg.errors.ForeignKeyViolation.sqlstate,
        )


def _merge(session: Session, plan: SyncPlan, staging: StagingTable, triggers: Sequence[Trigger]) -> tuple[int, int]:
    """Merge, and return the rows inserted and updated; rows that stand in each other's way are exchanged first."""
    target = plan.facts.target_table
    if target is None or not target.rivals:
        return _merged(session, plan, staging, triggers)
    session.execute(sql.SQL("SAVEPOINT pgsluice_merge"))
    try:
        return _merged(session, plan, staging, triggers)
    except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation) as error:
        session.execute(sql.SQL("ROLLBACK TO SAVEPOINT pgsluice_merge"))
        with session.playing_role():
            asked = {"oid": target.oid, "key": list(plan.key.columns), "violated": error.diag.constraint_name}
            columns, hanging, can_wait = session.row(sqltext.load("rivals"), asked)
        if hanging:
            raise StepError(
                f"rows of {plan.job.target} stand in each other's way ({error.diag.constraint_name}), and can't be"
                f" deleted and inserted again, for that would set off {', '.join(hanging)}",
                hint=_DEFERRED if can_wait else _NOT_DEFERRED,
                step="merge",
                sqlstate=error.sqlstate,
            ) from error
        exchanged = session.execute(changes.exchange_sql(plan, staging, columns and tuple(columns)))
        inserted, updated = _merged(session, plan, staging, triggers)
        return inserted, updated + exchanged


_DEFERRED = "Make the constraint deferrable: drop it, and add it again with DEFERRABLE at its end."
_NOT_DEFERRED = (
    "Let those foreign keys have ON DELETE NO ACTION, or change these rows on the source in two steps, with a sync"
    " between them. The constraint can't be deferrable: a foreign key refers to it, or it is an index alone."
)


def _merged(session: Session, plan: SyncPlan, staging: StagingTable, triggers: Sequence[Trigger]) -> tuple[int, int]:
    """Merge, and see that each row that differs was written: a MERGE does not tell what a trigger skips."""
    target = plan.facts.target_table
    moves = target is not None and target.relkind == "p"  # to another partition: a DELETE and an INSERT
    events = _INSERT | _UPDATE | (_DELETE if moves else 0)
    is_counted = any(each.may_hold_back(events) for each in triggers)
    (differing,) = session.row(changes.to_write_sql(plan, staging)) if is_counted else (0,)
    inserted, updated = _counted_merge(session, plan, staging)
    _see(plan, triggers, events, (differing, inserted + updated, "written"))
    return inserted, updated


def _see(plan: SyncPlan, triggers: Sequence[Trigger], events: int, counts: tuple[int, int, str]) -> None:
    """See that a statement has changed as many rows as it had to.

    Args:
        plan: of the job.
        triggers: of the target.
        events: that the statement is for these rows.
        counts: rows that had to change, rows that did, and what was to be done with them.

    Raises:
        VerifyError: a trigger or rule of the target holds rows back.
    """
    expected, found, done = counts
    if found < expected:
        names = ", ".join(each.name for each in triggers if each.may_hold_back(events))
        keeping = " To keep rows that are gone from the source, use --deletes keep." if "deleted" in done else ""
        raise VerifyError(
            f"{expected - found} of {expected} rows of {plan.job.target} were not {done}:"
            f" {f'trigger {names}' if names else 'a trigger or rule'} of the target held them back",
            hint=f"All was rolled back. Change or disable what holds rows back.{keeping}",
            step="verify",
        )


def _counted_merge(session: Session, plan: SyncPlan, staging: StagingTable) -> tuple[int, int]:
    statement = changes.merge_sql(plan, staging)
    if session.version >= _SERVER_17:
        inserted, updated = session.row(
            sql.SQL(
                "WITH merged AS (\n{} RETURNING merge_action() AS action)\n"
                "SELECT pg_catalog.count(*) FILTER (WHERE action = 'INSERT'),"
                " pg_catalog.count(*) FILTER (WHERE action = 'UPDATE') FROM merged"
            ).format(statement)
        )
        if inserted or updated:
            session.stirred()  # by a MERGE inside of a SELECT, whose tag does not tell
        return int(inserted), int(updated)
    before = _changes(session, plan.facts.target_table)
    changed = session.execute(statement)
    inserted, deleted, updated = (
        now - then for now, then in zip(_changes(session, plan.facts.target_table), before, strict=True)
    )
    if changed and not (inserted or deleted or updated) and not session.row(sql.SQL(_TRACKS))[0]:
        return 0, changed
    # a row that moves between partitions counts as a delete and an insert; MERGE itself deletes nothing here, and
    # counts one that a trigger keeps from moving
    return inserted - deleted, min(changed - inserted + deleted, updated + deleted)


def _changes(session: Session, table: TableInfo | None) -> tuple[int, ...]:
    """Return the rows inserted, deleted and updated so far in this transaction, for servers whose MERGE can't tell."""
    return session.row(
        sql.SQL(
            "SELECT coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_inserted(oid)), 0)::bigint,"
            " coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_deleted(oid)), 0)::bigint,"
            " coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_updated(oid)), 0)::bigint"
            " FROM pg_catalog.unnest(%s::pg_catalog.oid[]) AS oid"
        ),
        ([leaf.oid for leaf in table.leaves] if table else [],),
    )
