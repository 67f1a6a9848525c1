"""Pure: what changes an existing target, as SQL: lock, guard, delete, mark, append, merge."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from psycopg import sql

from pgsluice import sqltext
from pgsluice.facts import ForeignKey
from pgsluice.hashing import Side
from pgsluice.job import Mode, QuerySource, TableRef
from pgsluice.model import StagingTable
from pgsluice.plan import SyncPlan

#: The staging table's alias: a user's condition can't mean it by accident.
_STAGED = "pgsluice_staged"
NAMED_KEYS = 5
#: Readers go on, writers wait: other people's writes between the look and the merge left wrong rows after a success.
TARGET_LOCK = "SHARE ROW EXCLUSIVE"


def delta(staging: StagingTable) -> StagingTable:
    """Return the temporary table of the merge transaction that keeps what differs."""
    return dataclasses.replace(staging, ref=TableRef("pg_temp", f"{staging.ref.name}_delta"))


def gone(present: StagingTable) -> TableRef:
    """Return the temporary table of the merge transaction that keeps the places of what is gone."""
    return TableRef("pg_temp", f"{present.ref.name}_gone")


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
    return sqltext.key_match(plan.key, alias(plan), _staged(plan))


def lock_sql(plan: SyncPlan) -> sql.Composed:
    """Return the LOCK that keeps other writers out between the look and the merge; an append looks at nothing."""
    appends = plan.job.mode is Mode.APPEND and not plan.reading.starts_over
    mode = "ACCESS EXCLUSIVE" if plan.alterations else "ROW EXCLUSIVE" if appends else TARGET_LOCK
    return sql.SQL("LOCK TABLE {} IN {} MODE").format(sqltext.table(plan.job.target), sqltext.verbatim(mode))


def delta_sql(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return what keeps the staged rows that have no equal in the target: all that a merge will change.

    CREATE TABLE AS runs in parallel, and MERGE never does.
    """
    tests = _tests(plan)
    equal = sql.SQL(" AND NOT ({})").format(sql.SQL(" OR ").join(tests)) if tests else sql.SQL("")
    return sql.SQL(
        "CREATE TEMPORARY TABLE {delta} ON COMMIT DROP AS\nSELECT {names} FROM {staging} AS {staged}\n"
        "WHERE NOT EXISTS (SELECT FROM {target} WHERE {match}{equal})"
    ).format(
        delta=sqltext.table(delta(staging).ref),
        names=sqltext.names(plan.names, _staged(plan)),
        staging=sqltext.table(staging.ref),
        staged=sql.Identifier(_staged(plan)),
        target=target_relation(plan),
        match=_match(plan),
        equal=equal,
    )


def gone_sql(plan: SyncPlan, present: StagingTable) -> sql.Composed:
    """Return what keeps the place of each of the target's rows in scope that is no longer on the source."""
    return sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS\nSELECT {}.ctid AS place FROM {} WHERE {}").format(
        sqltext.table(gone(present)), sql.Identifier(alias(plan)), target_relation(plan), _gone(plan, present)
    )


def guard_sql(plan: SyncPlan, present: StagingTable) -> sql.Composed:
    """Return the query that counts the target's rows in scope and, among them, those no longer on the source.

    Args:
        plan: of the job.
        present: staged, with the key of every row that the source has in scope.
    """
    return sql.SQL(
        "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE {missing})\n"
        "FROM (SELECT * FROM {target} WHERE {where}) AS {alias}\n"
        "LEFT JOIN {present} AS {staged} ON {match}"
    ).format(
        staged=sql.Identifier(_staged(plan)),
        missing=_is_null(sql.Identifier(_staged(plan), plan.key.columns[0])),
        target=target_relation(plan),
        where=in_scope(plan),
        alias=sql.Identifier(alias(plan)),
        present=sqltext.table(present.ref),
        match=_match(plan),
    )


def landed(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return where the rows that a run has copied are in the end, as it stands behind FROM.

    That is all that is in scope, where nothing else can be there; else the rows of the staged keys. Rows without a key
    (mode append) are found in staging alone, and what replaces the target is looked at before it does.
    """
    if plan.creation:
        return _rows(plan, target_relation(plan), sql.SQL("TRUE"))
    if plan.job.mode is Mode.APPEND or plan.replaces:
        return _rows(plan, sqltext.table(staging.ref), sql.SQL("TRUE"))
    if plan.reading.is_complete and plan.deletes:
        return rows_in_scope(plan)
    staged = sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {})").format(
        sqltext.table(staging.ref), sql.Identifier(_staged(plan)), _match(plan)
    )
    return _rows(plan, target_relation(plan), staged)


def rows_in_scope(plan: SyncPlan) -> sql.Composed:
    """Return the target's rows in scope, of all buckets, as they stand behind FROM."""
    whole = dataclasses.replace(plan, copy=dataclasses.replace(plan.copy, buckets=None))
    return _rows(plan, target_relation(plan), in_scope(whole))


def _rows(plan: SyncPlan, relation: sql.Composed, where: sql.Composable) -> sql.Composed:
    return sql.SQL("(SELECT {} FROM {} WHERE {}) AS compared").format(sqltext.names(plan.names), relation, where)


def in_scope(plan: SyncPlan) -> sql.SQL | sql.Composed:
    """Return the condition for rows of the target that may be deleted: in scope, and not marked already."""
    scope = _scope(plan)
    return sql.SQL("{} AND NOT {}").format(scope, _marked(plan, plan.mark)) if plan.mark else scope


def _scope(plan: SyncPlan) -> sql.SQL | sql.Composed:
    """Return the condition for rows of the target that are this job's: under its condition, and with its constants."""
    own = sqltext.own_rows(plan.scope, plan.columns, alias(plan))
    where = [sqltext.condition(plan.job.where)] if plan.job.where or not own else []
    part = [plan.part.condition(Side.TARGET)] if plan.part else []
    return sql.SQL(" AND ").join([*where, *own, *part])


def _marked(plan: SyncPlan, mark: str) -> sql.Composed:
    test = "({} IS TRUE)" if _mark_is_boolean(plan, mark) else "({} IS NOT NULL)"
    return sql.SQL(test).format(sql.Identifier(alias(plan), mark))


def _mark_is_boolean(plan: SyncPlan, mark: str) -> bool:
    column = plan.facts.target_table.column(mark) if plan.facts.target_table else None
    return column is not None and column.type == "boolean"


def _unmarked(plan: SyncPlan, mark: str) -> sql.SQL:
    return sql.SQL("FALSE") if _mark_is_boolean(plan, mark) else sql.SQL("NULL")


def _gone(plan: SyncPlan, present: StagingTable) -> sql.Composed:
    return sql.SQL("{}\nAND NOT {}").format(in_scope(plan), _met(plan, present))


def left_sql(plan: SyncPlan, present: StagingTable, spared_by: Iterable[ForeignKey] = ()) -> sql.Composed:
    """Return the query that counts the rows that `delete_sql`, asked for the same, has left behind."""
    return sql.SQL("SELECT pg_catalog.count(*) FROM {} WHERE {}{}").format(
        target_relation(plan), _gone(plan, present), _all_spared(plan, spared_by)
    )


def delete_sql(
    plan: SyncPlan, present: StagingTable, spared_by: Iterable[ForeignKey] = (), *, by_place: bool = True
) -> sql.Composed:
    """Return what deletes, or marks as deleted, the rows in scope that are no longer on the source.

    Args:
        plan: of the job.
        present: staged, with the key of every row that the source has in scope; not asked where `gone_sql` has run.
        spared_by: foreign keys: a row that one of them still refers to stays.
        by_place: look for rows where `gone_sql` has seen them, if it has run.
    """
    spared = _all_spared(plan, spared_by)
    if plan.compares_first and by_place:
        found = sql.SQL("{} AS {} WHERE {}.ctid = {}.place").format(
            sqltext.table(gone(present)),
            sql.Identifier(_staged(plan)),
            sql.Identifier(alias(plan)),
            sql.Identifier(_staged(plan)),
        )
        deleting, marking = sql.SQL("USING {}").format(found), sql.SQL("FROM {}").format(found)
    else:
        deleting = marking = sql.SQL("WHERE {}").format(_gone(plan, present))
    if plan.mark is None:
        return sql.SQL("DELETE FROM {} {}{}").format(target_relation(plan), deleting, spared)
    now = sql.SQL("TRUE") if _mark_is_boolean(plan, plan.mark) else sql.SQL("pg_catalog.now()")
    return sql.SQL("UPDATE {} SET {} = {} {}").format(target_relation(plan), sql.Identifier(plan.mark), now, marking)


def _all_spared(plan: SyncPlan, keys: Iterable[ForeignKey]) -> sql.Composed:
    return sql.SQL("").join(_spared(plan, key) for key in keys)


def _spared(plan: SyncPlan, key: ForeignKey) -> sql.Composed:
    """Return the condition, with its AND, that no row refers to one of the target's by a foreign key."""
    child = "pgsluice_child"
    refers = (
        sqltext.equal(equality, sql.Identifier(alias(plan), theirs), sql.Identifier(child, own))
        for theirs, equality, own in key.pairs
    )
    within = (*_among(child, key.child_leaves), *_among(alias(plan), key.parent_leaves))
    return sql.SQL("\nAND NOT EXISTS (SELECT FROM {} AS {} WHERE {})").format(
        sqltext.relation(key.child, key.relkind), sql.Identifier(child), sql.SQL(" AND ").join([*refers, *within])
    )


def _among(alias: str, leaves: tuple[int, ...]) -> Iterator[sql.Composed]:
    """Yield the condition that a row is in one of these partitions; none for no partitions, which stand for all."""
    if leaves:
        yield sql.SQL("{}.tableoid OPERATOR(pg_catalog.=) ANY ({}::pg_catalog.oid[])").format(
            sql.Identifier(alias), sql.Literal(list(leaves))
        )


def revive_sql(plan: SyncPlan, mark: str, present: StagingTable) -> sql.Composed:
    """Return what takes the mark off rows that the source has again."""
    return sql.SQL("UPDATE {} SET {} = {} WHERE {}").format(
        target_relation(plan), sql.Identifier(mark), _unmarked(plan, mark), _returned(plan, mark, present)
    )


def returned_sql(plan: SyncPlan, mark: str, present: StagingTable) -> sql.Composed:
    """Return the query that counts the rows whose mark `revive_sql` takes off."""
    return sql.SQL("SELECT pg_catalog.count(*) FROM {} WHERE {}").format(
        target_relation(plan), _returned(plan, mark, present)
    )


def _returned(plan: SyncPlan, mark: str, present: StagingTable) -> sql.Composed:
    return sql.SQL("{}\nAND {}").format(_marked(plan, mark), _met(plan, present))


def preview_sql(plan: SyncPlan, staging: StagingTable, present: StagingTable) -> sql.Composed:
    """Return the query that counts what a merge would do: rows inserted, updated, deleted, and those in scope now.

    Args:
        plan: of a job whose target exists, and that merges by a key.
        staging: the rows.
        present: staged, with the key of every row that the source has in scope.
    """
    staged, met = _staged_rows(plan, staging), _met(plan, staging)
    revived: sql.Composable = sql.SQL("0")
    if plan.mark and present != staging:
        revived = sql.SQL("(SELECT pg_catalog.count(*) FROM {} WHERE {} AND NOT {})").format(
            target_relation(plan), _returned(plan, plan.mark, present), met
        )
    return sql.SQL(
        "SELECT {inserted},\n{updated} + {revived},\n"
        "(SELECT pg_catalog.count(*) FROM {target} WHERE {gone}),\n"
        "(SELECT pg_catalog.count(*) FROM {target} WHERE {scope})"
    ).format(
        inserted=_to_insert(plan, staged),
        updated=_to_update(plan, staged),
        revived=revived,
        target=target_relation(plan),
        gone=_gone(plan, present) if plan.deletes else sql.SQL("FALSE"),
        scope=in_scope(plan) if plan.deletes else sql.SQL("TRUE"),
    )


def to_write_sql(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return the query that counts the rows that a merge will insert and update, all together."""
    staged = _staged_rows(plan, staging)
    return sql.SQL("SELECT {} + {}").format(_to_insert(plan, staged), _to_update(plan, staged))


def _to_insert(plan: SyncPlan, staged: sql.Composed) -> sql.Composed:
    return sql.SQL("(SELECT pg_catalog.count(*) FROM {} WHERE NOT EXISTS (SELECT FROM {} WHERE {}))").format(
        staged, target_relation(plan), _match(plan)
    )


def _to_update(plan: SyncPlan, staged: sql.Composed) -> sql.Composed:
    tests = sql.SQL(" OR ").join(_tests(plan)) if _tests(plan) else sql.SQL("FALSE")
    return sql.SQL("(SELECT pg_catalog.count(*) FROM {} JOIN {} ON {} WHERE {})").format(
        staged, target_relation(plan), _match(plan), tests
    )


def _staged_rows(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return a staging table as it stands behind FROM."""
    return sql.SQL("{} AS {}").format(sqltext.table(staging.ref), sql.Identifier(_staged(plan)))


def _met(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return the condition that a row of the target has a counterpart in a staging table."""
    return sql.SQL("EXISTS (SELECT FROM {} WHERE {})").format(_staged_rows(plan, staging), _match(plan))


def scope_sql(plan: SyncPlan) -> sql.Composed:
    """Return the query that counts the target's rows in scope."""
    return sql.SQL("SELECT pg_catalog.count(*) FROM {} WHERE {}").format(target_relation(plan), in_scope(plan))


def clear_sql(plan: SyncPlan) -> sql.Composed:
    """Return what empties the target's rows in scope; not TRUNCATE, which older snapshots would see as empty."""
    return sql.SQL("DELETE FROM {} WHERE {}").format(target_relation(plan), _scope(plan))


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


def exchange_sql(plan: SyncPlan, staging: StagingTable, columns: tuple[str, ...] | None) -> sql.Composed:
    """Return what deletes and inserts again the rows that change in one of the columns.

    A unique constraint is checked row by row, so of two rows that exchange their values the first stands in the way of
    the second. One statement does both: foreign keys are looked at behind it, when each row is there again, and the
    count makes it delete the last row before it inserts the first. What only the target has stays in the row.

    Args:
        plan: of the job.
        staging: the rows.
        columns: that unique constraints cover beside the key; None for any.
    """
    target = plan.facts.target_table
    compared = [name for name in plan.compared if columns is None or name in columns]
    kept = [column.name for column in (target.columns if target else ()) if not column.generated]
    left = "pgsluice_gone"
    values = sql.SQL(", ").join(sql.Identifier(_staged(plan) if name in plan.names else left, name) for name in kept)
    return sql.SQL(
        "WITH {gone} AS (\nDELETE FROM {target} USING {staging} AS {staged} WHERE {match}\n"
        "AND pg_catalog.record_image_ne(ROW({old}), ROW({new})) RETURNING {alias}.*)\n"
        "INSERT INTO {name} ({kept}) OVERRIDING SYSTEM VALUE SELECT {values}\n"
        "FROM {gone} JOIN {staging} AS {staged} ON {again} WHERE (SELECT pg_catalog.count(*) FROM {gone}) > 0"
    ).format(
        gone=sql.Identifier(left),
        target=target_relation(plan),
        staging=sqltext.table(staging.ref),
        staged=sql.Identifier(_staged(plan)),
        match=_match(plan),
        old=sqltext.names(compared, alias(plan)),
        new=sqltext.names(compared, _staged(plan)),
        alias=sql.Identifier(alias(plan)),
        name=sqltext.table(plan.job.target),
        kept=sqltext.names(kept),
        values=values,
        again=sqltext.key_match(plan.key, left, _staged(plan)),
    )


def _listed(plan: SyncPlan, items: sql.Composed, mark: sql.Composable) -> sql.Composed:
    return sql.SQL("{}, {}").format(items, mark) if plan.mark else items


def _update(plan: SyncPlan) -> sql.Composed | sql.SQL:
    """Return the branch for rows that differ by image, or that come back after they were marked as deleted."""
    tests = _tests(plan)
    changes = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier(_staged(plan), name)) for name in plan.updatable
    ]
    if plan.mark:
        changes.append(sql.SQL("{} = {}").format(sql.Identifier(plan.mark), _unmarked(plan, plan.mark)))
    if not tests:
        return sql.SQL("")
    test = sql.SQL(" OR ").join(tests)
    return sql.SQL("WHEN MATCHED AND {} THEN UPDATE SET {}\n").format(
        sql.SQL("({})").format(test) if len(tests) > 1 else test, sql.SQL(", ").join(changes)
    )


def _tests(plan: SyncPlan) -> list[sql.Composed]:
    """Return what tells a row of the target that has to change from its staged counterpart; any one of them does."""
    differs = sql.SQL("pg_catalog.record_image_ne(ROW({}), ROW({}))").format(
        sqltext.names(plan.compared, alias(plan)), sqltext.names(plan.compared, _staged(plan))
    )
    return [*([differs] if plan.compared else []), *([_marked(plan, plan.mark)] if plan.mark else [])]


def _is_null(value: sql.Identifier) -> sql.Composed:
    """Return the condition that a value is NULL: of a composite one of nothing but NULL, IS NULL is true as well."""
    return sql.SQL("{} IS NOT DISTINCT FROM NULL").format(value)


def fault_sql(plan: SyncPlan, staging: StagingTable) -> sql.Composed:
    """Return the query for keys that are NULL or stand twice in staging, up to five, as text."""
    columns = sqltext.names(plan.key.columns)
    some_null = sql.SQL(" OR ").join(_is_null(sql.Identifier(name)) for name in plan.key.columns)
    own = {column.name: column.is_own_type for column in plan.columns}
    texts = (sqltext.text_of(sql.Identifier(name), is_own_type=own[name]) for name in plan.key.columns)
    return sql.SQL(
        "SELECT ARRAY[{key}], pg_catalog.bool_or({some_null}), pg_catalog.count(*) FROM {staging}"
        " GROUP BY {columns} HAVING pg_catalog.count(*) > 1 OR pg_catalog.bool_or({some_null}) LIMIT {limit}"
    ).format(
        key=sql.SQL(", ").join(texts),
        some_null=some_null,
        staging=sqltext.table(staging.ref),
        columns=columns,
        limit=sql.Literal(NAMED_KEYS),
    )
