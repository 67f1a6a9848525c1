"""Writes and runs what changes the target: gate, lock, delete guard, DELETE, MERGE, all in the caller's transaction."""

from __future__ import annotations

import time

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


def guard_sql(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return the query that counts the target's rows in scope and, among them, those no longer on the source."""
    return sql.SQL(
        "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE {staged}.{key} IS NULL)\n"
        "FROM (SELECT * FROM {target} WHERE {where}) AS {alias}\n"
        "LEFT JOIN {staging} AS {staged} ON {match}"
    ).format(
        staged=sql.Identifier(_staged(plan)),
        key=sql.Identifier(plan.key.columns[0]),
        target=target_relation(plan),
        where=sqltext.condition(plan.job.where),
        alias=sql.Identifier(alias(plan)),
        staging=sqltext.table(staging.ref),
        match=_match(plan),
    )


def delete_sql(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return the DELETE of rows in scope that are no longer on the source."""
    return sql.SQL("DELETE FROM {} WHERE {}\nAND NOT EXISTS (SELECT FROM {} AS {} WHERE {})").format(
        target_relation(plan),
        sqltext.condition(plan.job.where),
        sqltext.table(staging.ref),
        sql.Identifier(_staged(plan)),
        _match(plan),
    )


def merge_sql(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return the MERGE.

    Rows are compared by image: 1.0 and 1.00, '1 mon' and '30 days' are "not distinct", and json has no equality at
    all. https://www.postgresql.org/docs/current/functions-comparisons.html#COMPOSITE-TYPE-COMPARISON
    """
    update = sql.SQL("WHEN MATCHED AND pg_catalog.record_image_ne(ROW({}), ROW({})) THEN UPDATE SET {}\n").format(
        sqltext.names(plan.updatable, alias(plan)),
        sqltext.names(plan.updatable, _staged(plan)),
        sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier(_staged(plan), name))
            for name in plan.updatable
        ),
    )
    return sql.SQL(
        "MERGE INTO {relation} USING {staging} AS {staged} ON {match}\n{update}"
        "WHEN NOT MATCHED THEN INSERT ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})"
    ).format(
        relation=target_relation(plan),
        staging=sqltext.table(staging.ref),
        staged=sql.Identifier(_staged(plan)),
        match=_match(plan),
        update=update if plan.updatable else sql.SQL(""),
        names=sqltext.names(plan.names),
        values=sqltext.names(plan.names, _staged(plan)),
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


# --- the order of it -------------------------------------------------------------------------------------------------


def apply(session: Session, plan: SyncPlan, staging: StagingTable, staged_rows: int) -> MergeResult:
    """Carry the staged rows into the target, inside the caller's open transaction.

    Costs one count of staging (two with keys to check), one join for the guard, one for each of DELETE and MERGE.

    Args:
        session: on the target, in a READ COMMITTED transaction.
        plan: of the job.
        staging: holds the rows.
        staged_rows: that were committed into it; any other number now refuses.

    Raises:
        StagingLostError: the staging table holds another number of rows.
        GateError: its keys are NULL or not unique.
        DeleteGuardError: more rows would go than allowed.
        TemporaryError: the target's lock was not to be had.
    """
    started = time.monotonic()
    _gate(session, plan, staging, staged_rows)
    session.execute(sql.SQL("SET LOCAL work_mem = {}").format(sql.Literal(f"{_WORK_MEM_MB}MB")))
    session.execute(sql.SQL("ANALYZE {}").format(sqltext.table(staging.ref)))
    session.as_role(session.search_path, session.time_zone)
    if plan.creation:
        deleted, inserted, updated = 0, _create(session, plan, plan.creation, staging), 0
    else:
        lock_table(session, lock_sql(plan), plan.job.target, plan.options.lock_timeout)
        _same_table(session, plan)
        deleted = _delete(session, plan, staging, staged_rows) if plan.job.mode is Mode.FULL else 0
        inserted, updated = _merge(session, plan, staging)
    return MergeResult(
        staged=staged_rows,
        inserted=inserted,
        updated=updated,
        unchanged=staged_rows - inserted - updated,
        deleted=deleted,
        target_count=-1,
        seconds=time.monotonic() - started,
        created=plan.creation is not None,
    )


def _gate(session: Session, plan: SyncPlan, staging: StagingTable, staged_rows: int) -> None:
    """Count inside the transaction that merges: a crash of any backend empties UNLOGGED tables within a second."""
    (found,) = session.row(sql.SQL("SELECT count(*) FROM {}").format(sqltext.table(staging.ref)))
    if found != staged_rows:
        raise StagingLostError(
            f"the staging table holds {found} rows and {staged_rows} were committed into it;"
            " a crash of the target empties UNLOGGED tables",
            hint="Nothing was merged. Run again.",
            step="gate",
        )
    if plan.key_is_proven:
        return
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


def _delete(session: Session, plan: SyncPlan, staging: StagingTable, staged_rows: int) -> int:
    """Delete what the source lacks, after counting it: nothing goes because staging merely looked empty."""
    total, gone = session.row(guard_sql(plan, staging))
    limit = plan.options.max_delete
    if not limit.allows(gone, total, staged_rows):
        share = f"{100 * gone / total:.3g} %"
        empty = "" if staged_rows else " because the source has no rows in scope"
        raise DeleteGuardError(
            f"{gone} of {total} rows ({share}) would be deleted{empty}, and the limit is {limit}",
            hint=f"If that is right, run again with --max-delete {gone}. To keep rows that are gone from the source,"
            " use --mode upsert.",
            step="guard",
        )
    return session.execute(delete_sql(plan, staging)) if gone else 0


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
        (list(table.leaves) if table else [],),
    )
    return int(inserted), int(deleted)
