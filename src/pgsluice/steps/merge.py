"""Writes and runs what changes the target: gate, lock, delete guard, DELETE, MERGE, all in the caller's transaction."""

from __future__ import annotations

import time
from dataclasses import dataclass

from psycopg import sql

from pgsluice import sqltext
from pgsluice.errors import DeleteGuardError, GateError, StagingLostError, StepError
from pgsluice.facts import Column, TableInfo
from pgsluice.job import Mode, QuerySource
from pgsluice.locks import lock_table
from pgsluice.model import MergeResult, StagingTable
from pgsluice.plan import Creation, SyncPlan
from pgsluice.session import Session

#: The staging table's alias: a user's condition can't mean it by accident.
_STAGED = "pgsluice_staged"
_WORK_MEM_MB = 256
_NAMED_KEYS = 5
_SERVER_17 = 170000
#: Readers go on, writers wait: other people's writes between the look and the merge left wrong rows after a success.
TARGET_LOCK = "SHARE ROW EXCLUSIVE"


# --- the statements, as `plan` prints them ---------------------------------------------------------------------------


def alias(plan: SyncPlan) -> str:
    """Return the target's alias: the source's name, so that a condition may qualify its columns with it."""
    return "query" if isinstance(plan.job.source, QuerySource) else plan.job.source.name


def _staged(plan: SyncPlan) -> str:
    """Return the staging table's alias, which no table may share."""
    return _STAGED if alias(plan) != _STAGED else f"{_STAGED}_rows"


def target_relation(plan: SyncPlan) -> sql.Composed:
    """Return the target as it stands behind FROM."""
    return sql.SQL("{} AS {}").format(_name(plan), sql.Identifier(alias(plan)))


def _name(plan: SyncPlan) -> sql.SQL | sql.Composed:
    name = sqltext.table(plan.job.target)
    is_plain = plan.facts.target_table is None or plan.facts.target_table.relkind == "r"
    return sql.SQL("ONLY {}").format(name) if is_plain else name


def _match(plan: SyncPlan) -> sql.Composed:
    return sqltext.key_match(plan.key.columns, plan.key.operators, alias(plan), _staged(plan))


def schemas_sql(plan: SyncPlan, creation: Creation) -> list[sql.Composed]:
    """Return what creates the schemas that the table and its enums lack."""
    wanted = [plan.job.target.schema] if creation.schema else []
    wanted += [schema for schema, _, _ in creation.enums if schema != "public"]
    return [
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)) for schema in dict.fromkeys(wanted)
    ]


def enum_sql(enum: tuple[str, str, tuple[str, ...]]) -> sql.Composed:
    """Return what creates an enum."""
    schema, name, labels = enum
    values = sql.SQL(", ").join(sql.Literal(label) for label in labels)
    return sql.SQL("CREATE TYPE {} AS ENUM ({})").format(sql.Identifier(schema, name), values)


def table_sql(plan: SyncPlan, creation: Creation) -> sql.Composed:
    """Return the CREATE TABLE; its keys follow when the rows are in."""
    stored_only = plan.facts.target.major < 18  # noqa: PLR2004 - the first with virtual generated columns
    columns = sql.SQL(",\n  ").join(_definition(column, stored_only=stored_only) for column in creation.columns)
    return sql.SQL("CREATE TABLE {} (\n  {}\n)").format(sqltext.table(plan.job.target), columns)


def _definition(column: Column, *, stored_only: bool) -> sql.Composed:
    definition = sqltext.column_definition(column)
    if column.generated and column.default:
        kind = "STORED" if stored_only or column.generated == "s" else "VIRTUAL"
        definition += sql.SQL(" GENERATED ALWAYS AS ({}) {}").format(
            sqltext.verbatim(column.default), sqltext.verbatim(kind)
        )
    elif column.identity:
        kind = "ALWAYS" if column.identity == "a" else "BY DEFAULT"
        definition += sql.SQL(" GENERATED {} AS IDENTITY").format(sqltext.verbatim(kind))
    elif column.default and column.default_is_local:
        definition += sql.SQL(" DEFAULT {}").format(sqltext.verbatim(column.default))
    return definition + sql.SQL(" NOT NULL") if column.not_null else definition


def keys_sql(plan: SyncPlan, creation: Creation) -> list[sql.Composed]:
    """Return what gives a table just filled its keys: one sort each, instead of one insertion a row."""
    kinds = (("PRIMARY KEY", creation.primary_key), ("UNIQUE", creation.unique))
    return [
        sql.SQL("ALTER TABLE {} ADD {} ({})").format(
            sqltext.table(plan.job.target), sqltext.verbatim(kind), sqltext.names(columns)
        )
        for kind, columns in kinds
        if columns
    ]


def insert_sql(plan: SyncPlan, staging: StagingTable, creation: Creation) -> sql.Composed:
    """Return the INSERT into a table just created; what was staged as text becomes the enum it is."""
    types = {column.name: column.type for column in creation.columns}
    values = (
        sql.Identifier(column.name)
        if types[column.name] == column.type
        else sql.SQL("{}::{}").format(sql.Identifier(column.name), sqltext.verbatim(types[column.name]))
        for column in staging.columns
    )
    return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
        sqltext.table(plan.job.target),
        sqltext.names(plan.names),
        sql.SQL(", ").join(values),
        sqltext.table(staging.ref),
    )


def lock_sql(plan: SyncPlan) -> sql.Composed:
    """Return the LOCK that keeps other writers out between the look and the merge."""
    return sql.SQL("LOCK TABLE {} IN {} MODE").format(sqltext.table(plan.job.target), sqltext.verbatim(TARGET_LOCK))


def guard_sql(plan: SyncPlan, present: StagingTable) -> sql.Composed:
    """Return the query that counts the target's rows in scope and, among them, those no longer on the source.

    Args:
        plan: of the job.
        present: staged, with the key of every row that the source has in scope.
    """
    return sql.SQL(
        "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE {staged}.{key} IS NULL)\n"
        "FROM (SELECT * FROM {target} WHERE {where}) AS {alias}\n"
        "LEFT JOIN {present} AS {staged} ON {match}"
    ).format(
        staged=sql.Identifier(_staged(plan)),
        key=sql.Identifier(plan.key.columns[0]),
        target=target_relation(plan),
        where=_in_scope(plan),
        alias=sql.Identifier(alias(plan)),
        present=sqltext.table(present.ref),
        match=_match(plan),
    )


def _in_scope(plan: SyncPlan) -> sql.SQL | sql.Composed:
    """Return the condition for rows of the target that may be deleted: in scope, and not marked already."""
    scope = sqltext.condition(plan.job.where)
    return sql.SQL("{} AND NOT {}").format(scope, _marked(plan, plan.mark)) if plan.mark else scope


def _marked(plan: SyncPlan, mark: str) -> sql.Composed:
    test = "({} IS TRUE)" if _mark_is_boolean(plan, mark) else "({} IS NOT NULL)"
    return sql.SQL(test).format(sql.Identifier(alias(plan), mark))


def _mark_is_boolean(plan: SyncPlan, mark: str) -> bool:
    column = plan.facts.target_table.column(mark) if plan.facts.target_table else None
    return column is not None and column.type == "boolean"


def _unmarked(plan: SyncPlan, mark: str) -> sql.SQL:
    return sql.SQL("FALSE") if _mark_is_boolean(plan, mark) else sql.SQL("NULL")


def delete_sql(plan: SyncPlan, present: StagingTable) -> sql.Composed:
    """Return what deletes, or marks as deleted, the rows in scope that are no longer on the source."""
    gone = sql.SQL("{}\nAND NOT EXISTS (SELECT FROM {} AS {} WHERE {})").format(
        _in_scope(plan), sqltext.table(present.ref), sql.Identifier(_staged(plan)), _match(plan)
    )
    if plan.mark is None:
        return sql.SQL("DELETE FROM {} WHERE {}").format(target_relation(plan), gone)
    now = sql.SQL("TRUE") if _mark_is_boolean(plan, plan.mark) else sql.SQL("pg_catalog.now()")
    return sql.SQL("UPDATE {} SET {} = {} WHERE {}").format(target_relation(plan), sql.Identifier(plan.mark), now, gone)


def revive_sql(plan: SyncPlan, mark: str, present: StagingTable) -> sql.Composed:
    """Return what takes the mark off rows that the source has again."""
    return sql.SQL("UPDATE {} SET {} = {} WHERE {}\nAND EXISTS (SELECT FROM {} AS {} WHERE {})").format(
        target_relation(plan),
        sql.Identifier(mark),
        _unmarked(plan, mark),
        _marked(plan, mark),
        sqltext.table(present.ref),
        sql.Identifier(_staged(plan)),
        _match(plan),
    )


def scope_sql(plan: SyncPlan) -> sql.Composed:
    """Return the query that counts what starting over would replace."""
    return sql.SQL("SELECT pg_catalog.count(*) FROM {} WHERE {}").format(
        target_relation(plan), sqltext.condition(plan.job.where)
    )


def clear_sql(plan: SyncPlan) -> sql.Composed:
    """Return what empties the target's rows in scope; not TRUNCATE, which older snapshots would see as empty."""
    return sql.SQL("DELETE FROM {} WHERE {}").format(target_relation(plan), sqltext.condition(plan.job.where))


def append_sql(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return the INSERT of mode append."""
    return sql.SQL("INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {}").format(
        sqltext.table(plan.job.target), sqltext.table(staging.ref), names=sqltext.names(plan.names)
    )


def merge_sql(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return the MERGE.

    Rows are compared by image: 1.0 and 1.00, '1 mon' and '30 days' are "not distinct", and json has no equality at
    all. https://www.postgresql.org/docs/current/functions-comparisons.html#COMPOSITE-TYPE-COMPARISON
    """
    return sql.SQL(
        "MERGE INTO {relation} USING {staging} AS {staged} ON {match}\n{update}"
        "WHEN NOT MATCHED THEN INSERT ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})"
    ).format(
        relation=target_relation(plan),
        staging=sqltext.table(staging.ref),
        staged=sql.Identifier(_staged(plan)),
        match=_match(plan),
        update=_update(plan),
        names=_listed(plan, sqltext.names(plan.names), sql.Identifier(plan.mark or "")),
        values=_listed(plan, sqltext.names(plan.names, _staged(plan)), _unmarked(plan, plan.mark or "")),
    )


def _listed(plan: SyncPlan, items: sql.Composed, mark: sql.Composable) -> sql.Composed:
    return sql.SQL("{}, {}").format(items, mark) if plan.mark else items


def _update(plan: SyncPlan) -> sql.Composed | sql.SQL:
    """Return the branch for rows that differ by image, or that come back after they were marked as deleted."""
    differs = sql.SQL("pg_catalog.record_image_ne(ROW({}), ROW({}))").format(
        sqltext.names(plan.updatable, alias(plan)), sqltext.names(plan.updatable, _staged(plan))
    )
    tests = [differs] if plan.updatable else []
    changes = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier(_staged(plan), name)) for name in plan.updatable
    ]
    if plan.mark:
        tests.append(_marked(plan, plan.mark))
        changes.append(sql.SQL("{} = {}").format(sql.Identifier(plan.mark), _unmarked(plan, plan.mark)))
    if not tests:
        return sql.SQL("")
    test = sql.SQL(" OR ").join(tests)
    return sql.SQL("WHEN MATCHED AND {} THEN UPDATE SET {}\n").format(
        sql.SQL("({})").format(test) if len(tests) > 1 else test, sql.SQL(", ").join(changes)
    )


def fault_sql(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return the query for keys that are NULL or stand twice in staging, up to five, as text."""
    columns = sqltext.names(plan.key.columns)
    some_null = sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(sql.Identifier(name)) for name in plan.key.columns)
    key = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in plan.key.columns)
    return sql.SQL(
        "SELECT ARRAY[{key}], pg_catalog.bool_or({some_null}), pg_catalog.count(*) FROM {staging}"
        " GROUP BY {columns} HAVING pg_catalog.count(*) > 1 OR pg_catalog.bool_or({some_null}) LIMIT {limit}"
    ).format(
        key=key,
        some_null=some_null,
        staging=sqltext.table(staging.ref),
        columns=columns,
        limit=sql.Literal(_NAMED_KEYS),
    )


@dataclass(frozen=True, slots=True)
class Staged:
    """A staging table and the rows that were committed into it."""

    table: StagingTable
    rows: int


# --- the order of it -------------------------------------------------------------------------------------------------


def apply(session: Session, plan: SyncPlan, staged: Staged, keys: Staged | None = None) -> MergeResult:
    """Carry the staged rows into the target, inside the caller's open transaction.

    Costs one count of staging (two with keys to check), one join for the guard, one for each of DELETE and MERGE.

    Args:
        session: on the target, in a READ COMMITTED transaction.
        plan: of the job.
        staged: the rows.
        keys: the source's keys in scope, where the plan sweeps; else the staged rows hold them.

    Raises:
        StagingLostError: a staging table holds another number of rows than were committed into it.
        GateError: its keys are NULL or not unique.
        DeleteGuardError: more rows would go than allowed.
        TemporaryError: the target's lock was not to be had.
    """
    started = time.monotonic()
    for each in filter(None, (staged, keys)):
        _gate(session, each)
    if not plan.key_is_proven:
        _tell_apart(session, plan, staged.table)
    session.execute(sql.SQL("SET LOCAL work_mem = {}").format(sql.Literal(f"{_WORK_MEM_MB}MB")))
    for each in filter(None, (staged, keys)):
        session.execute(sql.SQL("ANALYZE {}").format(sqltext.table(each.table.ref)))
    session.as_role(session.search_path, session.time_zone)
    deleted = updated = 0
    if plan.creation:
        inserted = _create(session, plan, plan.creation, staged.table)
    else:
        lock_table(session, lock_sql(plan), plan.job.target, plan.options.lock_timeout)
        _same_table(session, plan)
        if plan.job.mode is Mode.APPEND:
            deleted = _clear(session, plan, staged.rows) if plan.reading.starts_over else 0
            inserted = session.execute(append_sql(plan, staged.table))
        else:
            deleted = _delete(session, plan, keys or staged) if plan.deletes else 0
            inserted, updated = _merge(session, plan, staged.table)
            if plan.mark and keys:
                updated += session.execute(revive_sql(plan, plan.mark, keys.table))
    return MergeResult(
        staged=staged.rows,
        inserted=inserted,
        updated=updated,
        unchanged=max(0, staged.rows - inserted - updated),
        deleted=deleted,
        target_count=-1,
        seconds=time.monotonic() - started,
        created=plan.creation is not None,
    )


def _gate(session: Session, staged: Staged) -> None:
    """Count inside the transaction that merges: a crash of any backend empties UNLOGGED tables within a second."""
    (found,) = session.row(sql.SQL("SELECT count(*) FROM {}").format(sqltext.table(staged.table.ref)))
    if found != staged.rows:
        raise StagingLostError(
            f"the staging table holds {found} rows and {staged.rows} were committed into it;"
            " a crash of the target empties UNLOGGED tables",
            hint="Nothing was merged. Run again.",
            step="gate",
        )


def _tell_apart(session: Session, plan: SyncPlan, staging: StagingTable) -> None:
    faults = session.rows(fault_sql(plan, staging))
    if faults:
        names = ", ".join(plan.key.columns)
        listed = "; ".join(_fault(values, is_null, times) for values, is_null, times in faults)
        raise GateError(
            f"the key ({names}) does not tell the source's rows apart: {listed}",
            hint="Choose another --key, or mend these rows on the source. Nothing was merged.",
            step="gate",
        )


def _fault(values: list[str | None], is_null: bool, times: int) -> str:  # noqa: FBT001
    key = ", ".join("NULL" if value is None else value for value in values)
    return f"({key}) is NULL" if is_null else f"({key}) stands {times} times"


def _same_table(session: Session, plan: SyncPlan) -> None:
    """See, under the lock, that the name still means the table that the plan was made for."""
    planned = plan.facts.target_table.oid if plan.facts.target_table else 0
    name = session.text(sqltext.table(plan.job.target))
    (found,) = session.row(sql.SQL("SELECT pg_catalog.to_regclass(%s)::oid"), (name,))
    if found != planned:
        raise StepError(
            "the target was replaced by another table while the rows were on their way", hint="Run again.", step="merge"
        )


def _create(session: Session, plan: SyncPlan, creation: Creation, staging: StagingTable) -> int:
    for statement in schemas_sql(plan, creation):
        session.execute(statement)
    for enum in creation.enums:  # another table of the run may have brought it meanwhile
        name = session.text(sql.Identifier(*enum[:2]))
        if not session.row(sql.SQL("SELECT pg_catalog.to_regtype(%s) IS NOT NULL"), (name,))[0]:
            session.execute(enum_sql(enum))
    session.execute(table_sql(plan, creation))
    inserted = session.execute(insert_sql(plan, staging, creation))
    for statement in keys_sql(plan, creation):
        session.execute(statement)
    return inserted


def _delete(session: Session, plan: SyncPlan, present: Staged) -> int:
    """Delete what the source lacks, after counting it: nothing goes because staging merely looked empty."""
    total, gone = session.row(guard_sql(plan, present.table))
    _guard(plan, gone, total, present.rows)
    return session.execute(delete_sql(plan, present.table)) if gone else 0


def _clear(session: Session, plan: SyncPlan, staged_rows: int) -> int:
    """Empty the target's rows in scope for a fresh start; what counts as lost is what does not come back."""
    (total,) = session.row(scope_sql(plan))
    _guard(plan, max(0, total - staged_rows), total, staged_rows)
    return session.execute(clear_sql(plan)) if total else 0


def _guard(plan: SyncPlan, gone: int, total: int, present: int) -> None:
    limit = plan.options.max_delete
    if limit.allows(gone, total, present):
        return
    share = f"{100 * gone / total:.3g} %"
    empty = "" if present else " because the source has no rows in scope"
    keep = "" if plan.reading.starts_over else f" To keep rows that are gone from the source, use {_keeping(plan)}."
    raise DeleteGuardError(
        f"{gone} of {total} rows ({share}) would be deleted{empty}, and the limit is {limit}",
        hint=f"If that is right, run again with --max-delete {gone}.{keep}",
        step="guard",
    )


def _keeping(plan: SyncPlan) -> str:
    return "--mode upsert" if plan.job.mode is Mode.FULL else "--deletes keep"


def _merge(session: Session, plan: SyncPlan, staging: StagingTable) -> tuple[int, int]:
    """Run the MERGE and return the rows inserted and updated."""
    statement = merge_sql(plan, staging)
    if session.version >= _SERVER_17:
        inserted, updated = session.row(
            sql.SQL(
                "WITH merged AS (\n{} RETURNING merge_action() AS action)\n"
                "SELECT pg_catalog.count(*) FILTER (WHERE action = 'INSERT'),"
                " pg_catalog.count(*) FILTER (WHERE action = 'UPDATE') FROM merged"
            ).format(statement)
        )
        return int(inserted), int(updated)
    before = _changes(session, plan.facts.target_table)
    changed = session.execute(statement)
    after = _changes(session, plan.facts.target_table)
    # a row that moves between partitions counts as a delete and an insert; MERGE itself deletes nothing here
    inserted = (after[0] - before[0]) - (after[1] - before[1])
    return inserted, changed - inserted


def _changes(session: Session, table: TableInfo | None) -> tuple[int, int]:
    """Return the rows inserted and deleted so far in this transaction, for servers whose MERGE can't tell."""
    inserted, deleted = session.row(
        sql.SQL(
            "SELECT coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_inserted(oid)), 0)::bigint,"
            " coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_deleted(oid)), 0)::bigint"
            " FROM pg_catalog.unnest(%s::oid[]) AS oid"
        ),
        ([leaf.oid for leaf in table.leaves] if table else [],),
    )
    return int(inserted), int(deleted)
