"""Pure: every reason not to do a job, as a full sentence: the thing, the reason, the way out."""

from __future__ import annotations

from collections.abc import Iterator

from pgsluice import carrying, encodings, fidelity
from pgsluice.facts import CONTROL_SCHEMA, TABLES, Column, Facts, Key, ServerInfo
from pgsluice.fidelity import Verdict
from pgsluice.job import Lane, Mode, Options, StagingKind, Strategy, SyncJob, TableRef
from pgsluice.policies import DeletePolicy, Drift
from pgsluice.sqltext import bare

OLDEST_SOURCE = 14
OLDEST_TARGET = 15

_SYSTEM = frozenset({"pg_catalog", "information_schema", "pg_toast"})
_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table"}


def every_refusal(
    job: SyncJob, facts: Facts, options: Options, columns: tuple[Column, ...], key: Key | None
) -> Iterator[str]:
    """Say everything that keeps a job from being done faithfully.

    Args:
        job: what the user asks for.
        facts: of both servers.
        options: how.
        columns: what would be copied, as the target has them.
        key: what would identify a row, or None where nothing does.
    """
    yield from _server_refusals(facts, options)
    yield from _table_refusals(facts, job, options)
    yield from _column_refusals(job, facts, options, columns)
    if options.strategy is not Strategy.SWAP or key is None:  # what is replaced needs none
        yield from _key_refusals(job, facts, columns, key)
    yield from _mark_refusals(job, facts)
    yield from _constant_refusals(job, facts)
    yield from encodings.literal_refusals(job, facts)
    yield from _travel_refusals(facts, options)


def _sql(ref: TableRef) -> str:
    return f"{bare(ref.schema)}.{bare(ref.name)}"


def _server_refusals(facts: Facts, options: Options) -> Iterator[str]:
    source, target = facts.source, facts.target
    if source.major < OLDEST_SOURCE:
        yield f"The source is PostgreSQL {source.major}; {OLDEST_SOURCE} is the oldest that is read."
    if target.major < OLDEST_TARGET:
        yield f"The target is PostgreSQL {target.major}; {OLDEST_TARGET} is the oldest with MERGE."
    if target.in_recovery:
        yield f"The target {target.address} is a read-only standby: connect to its primary."
    yield from encodings.refusals(facts, options)
    if _is_same_database(source, target) and _same_relation(facts):
        yield (
            f"Source and target are the same table, {facts.source_table.ref} of database {source.database}:"
            " change --target, or the name with --to."
        )


def _is_same_database(source: ServerInfo, target: ServerInfo) -> bool:
    if source.system and target.system:
        same = source.system == target.system
    else:
        same = (source.address, source.started) == (target.address, target.started)
    return same and source.database_oid == target.database_oid


def _same_relation(facts: Facts) -> bool:
    return facts.target_table is not None and facts.source_table.oid == facts.target_table.oid


def _table_refusals(facts: Facts, job: SyncJob, options: Options) -> Iterator[str]:
    yield from _schema_refusals(facts, job)
    source, target = facts.source_table, facts.target_table
    role = bare(facts.source.role)
    if source.row_security:
        yield f"Row-level security of {source.ref} would hide rows from role {role}: use a role with BYPASSRLS."
    if not source.schema_usage:
        yield f"Role {role} may not use the source's schema: GRANT USAGE ON SCHEMA {bare(source.ref.schema)} TO {role};"
    if "SELECT" not in source.privileges:
        yield f"Role {role} may not read the source: GRANT SELECT ON {_sql(source.ref)} TO {role};"
    yield from _control_refusals(facts)
    yield from _long_names(facts, job)
    if target is None:
        yield from _may_create_refusals(facts, job)
        return
    if target.relkind not in TABLES:
        yield f"{target.ref} is a {_KINDS.get(target.relkind, 'relation')}; only tables are written."
    role = bare(facts.target.role)
    if target.row_security:
        yield f"Row-level security of {target.ref} applies to role {role}: use a role with BYPASSRLS."
    if not target.schema_usage:
        yield f"Role {role} may not use the target's schema: GRANT USAGE ON SCHEMA {bare(target.ref.schema)} TO {role};"
    lacking = ", ".join(privilege for privilege in _needed(job, options) if privilege not in target.privileges)
    if lacking:
        yield f"Role {role} may not write the target: GRANT {lacking} ON {_sql(target.ref)} TO {role};"


def _schema_refusals(facts: Facts, job: SyncJob) -> Iterator[str]:
    for schema in {facts.source_table.ref.schema, job.target.schema} & _SYSTEM:
        yield f"Schema {schema} belongs to PostgreSQL itself and is not copied."
    if job.target.schema == CONTROL_SCHEMA:
        yield f"Schema {CONTROL_SCHEMA} of the target holds pgsluice's own tables: name another schema with --to."


def _long_names(facts: Facts, job: SyncJob) -> Iterator[str]:
    """Name what the target would cut, and not find again."""
    for what, name, way in _names_given(facts, job):
        if encodings.is_long(name, facts.target):
            cut = f"{encodings.length(name, facts.target.encoding)} bytes, and the target would cut it at"
            yield f"{what} has a name of {cut} {facts.target.name_bytes}: {way}."


def _names_given(facts: Facts, job: SyncJob) -> Iterator[tuple[str, str, str]]:
    """Yield the names that the target is to have: what bears it, the name, and the way out."""
    target, mark, shorter = facts.target_table, job.deletion.column, "use a shorter one ({})"
    if target is None:
        yield f"The schema {job.target.schema}", job.target.schema, shorter.format("--to")
        yield f"The table {job.target}", job.target.name, shorter.format("--to")
    constants = {constant.column for constant in job.shape.constants}
    asked_for = constants | {new for _, new in job.shape.rename}
    for column in facts.source_table.columns:  # what only the source has, and nobody has asked for, is left out
        if target is None or column.name in asked_for or target.column(column.name):
            way = "--constant" if column.name in constants else "--rename"
            yield f"Column {column.name} of {job.target}", column.name, shorter.format(way)
    if mark:
        yield f"Column {mark} of {job.target}", mark, shorter.format("--deletes soft:COLUMN")
    for each in facts.source_table.dependencies:
        if each.sql in facts.missing:
            parts = (part for part, _ in each.parts) if each.kind in {"c", "d"} else ()
            for name in (each.schema, each.name, *each.labels, *parts):
                yield f"What the type or collation {each.sql} needs, {name},", name, "create it on the target first"


def _needed(job: SyncJob, options: Options) -> Iterator[str]:
    yield from ("SELECT", "INSERT")
    if job.mode is not Mode.APPEND:
        yield "UPDATE"
    if job.deletion.policy is DeletePolicy.SWEEP or (job.mode is Mode.APPEND and options.full_refresh):
        yield "DELETE"


def _may_create_refusals(facts: Facts, job: SyncJob) -> Iterator[str]:
    role, database = bare(facts.target.role), bare(facts.target.database)
    if facts.target_schema is None:
        if not facts.target.can_create_schema:
            yield (
                f"The target has no schema {job.target.schema} and role {role} may not create it:"
                f" GRANT CREATE ON DATABASE {database} TO {role};"
            )
    elif not (facts.target_schema.create and facts.target_schema.usage):
        yield (
            f"{job.target} does not exist and role {role} may not create it:"
            f" GRANT USAGE, CREATE ON SCHEMA {bare(job.target.schema)} TO {role};"
        )


def _control_refusals(facts: Facts) -> Iterator[str]:
    role, database, control = bare(facts.target.role), bare(facts.target.database), facts.control_schema
    if control is None and not facts.target.can_create_schema:
        yield (
            f"The target has no control schema and role {role} may not create it:"
            f" GRANT CREATE ON DATABASE {database} TO {role};"
        )
    elif control is not None and not (control.usage and control.create):
        yield (
            f"Role {role} may not use the control schema: GRANT USAGE, CREATE ON SCHEMA pgsluice TO {role};"
            f" GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA pgsluice TO {role};"
        )
    else:
        for table, lacking in facts.control_lacking.items():
            yield (
                f"Role {role} lacks {lacking} on pgsluice.{table}:"
                f" GRANT SELECT, INSERT, UPDATE ON pgsluice.{table} TO {role};"
            )


def _column_refusals(job: SyncJob, facts: Facts, options: Options, columns: tuple[Column, ...]) -> Iterator[str]:
    source, target = facts.source_table, facts.target_table
    if not columns:
        if not source.columns:
            yield f"{source.ref} has no columns, so there is nothing to copy: leave it out."
        elif target is None:
            yield f"All columns of {source.ref} are generated, so there is nothing to copy: leave it out."
        else:
            yield f"The source's {source.ref} and the target's {target.ref} share no column."
    if target is None:
        yield from _creation_refusals(facts, options)
        return
    for column in target.columns:
        theirs = source.column(column.name)
        if theirs is None:
            if column.not_null and not _fills_itself(column) and column.name != job.deletion.column:
                yield (
                    f"Column {column.name} of {target.ref} is NOT NULL without a default and the source lacks it:"
                    " give it a default, or drop NOT NULL."
                )
        elif column.not_null and theirs.origin and theirs.origin.how == "null":
            yield f"Column {column.name} of {target.ref} is NOT NULL and masked by NULL: mask it by hash or constant."
        elif not column.generated:
            yield from _value_refusals(theirs, column, options)


def _value_refusals(source: Column, target: Column, options: Options) -> Iterator[str]:
    judged = fidelity.judge(source, target)
    if judged.verdict is Verdict.INCOMPATIBLE:
        yield f"Column {judged.reason}."
    elif judged.verdict is Verdict.NARROWING and not options.allow_narrowing:
        can_follow = source.type != target.type and not target.users and fidelity.loss(target, source) is None
        follow = ", let it follow with --drift widen" if can_follow else ""
        yield f"Column {judged.reason}{follow}, or allow it with --allow-narrowing."


def _fills_itself(column: Column) -> bool:
    return bool(column.default or column.identity or column.generated)


def _creation_refusals(facts: Facts, options: Options) -> Iterator[str]:
    for column in facts.source_table.columns:
        if not column.generated:
            yield from _value_refusals(column, facts.on_target(column), options)
    yield from _missing_refusals(facts)
    for column in facts.source_table.columns:
        if reason := carrying.generated_obstacle(column, facts):
            name = column.name
            yield f"Generated column {name} can't be created because {reason}: create the table on the target first."


def _missing_refusals(facts: Facts) -> Iterator[str]:
    """Name what columns to be created lean on and what can't be created for them."""
    known = {each.sql: each for each in facts.source_table.dependencies}
    for name in sorted(facts.missing):
        needed = f"The target lacks the type or collation {name}, which {facts.source_table.ref} needs"
        if name not in known:
            yield f"{needed}: create it first."
        elif (schema := facts.schemas.get(known[name].schema)) and not schema.create:
            yield (
                f"{needed}, and role {bare(facts.target.role)} may not create it:"
                f" GRANT USAGE, CREATE ON SCHEMA {bare(known[name].schema)} TO {bare(facts.target.role)};"
            )
        elif known[name].schema not in facts.schemas and not facts.target.can_create_schema:
            yield (
                f"{needed}, and role {bare(facts.target.role)} may not create its schema:"
                f" GRANT CREATE ON DATABASE {bare(facts.target.database)} TO {bare(facts.target.role)};"
            )
        elif known[name].obstacle:
            yield f"{needed}; it can't be created from here, for {known[name].obstacle}: create it first."
        elif reason := carrying.type_obstacle(known[name], facts):
            yield f"{needed}; it can't be created because {reason}: create it first."
        else:
            for check, reason in carrying.check_obstacles(known[name], facts):
                yield f"{needed}; its check {check} can't be carried over because {reason}: create it first."


def _key_refusals(job: SyncJob, facts: Facts, columns: tuple[Column, ...], key: Key | None) -> Iterator[str]:
    source, target = facts.source_table, facts.target_table
    known = {column.name: column for column in columns}
    if job.mode is Mode.APPEND:  # inserts only
        return
    if key is None:
        lacking = [name for name in job.key if name not in known]
        theirs = next((key.columns for key in source.keys if key.not_null), ())
        if lacking:
            yield f"The key names {', '.join(lacking)}, which is not among the columns: {', '.join(known)}."
        elif theirs:
            yield f"The key of {source.ref} ({', '.join(theirs)}) is not among the columns that both sides have."
        else:
            yield (
                f"{source.ref} has no primary key and no unique index over NOT NULL columns, so its rows can't be"
                " told apart: name the columns that do with --key a,b."
            )
        return
    for name in key.columns:
        if fidelity.lacks_equality(known[name]):
            yield f"Key column {name} is {known[name].type}, which has no equality: choose another key."
    for column in columns if target else ():
        if column.identity == "a" and column.name not in key.columns:
            yield (
                f"Column {column.name} of {job.target} is GENERATED ALWAYS AS IDENTITY and not in the key, so it can't"
                f" be updated: ALTER TABLE {job.target} ALTER {column.name} SET GENERATED BY DEFAULT;"
            )


def _mark_refusals(job: SyncJob, facts: Facts) -> Iterator[str]:
    """Say why the column that marks deleted rows can't."""
    mark, target = job.deletion.column, facts.target_table
    if not mark:
        return
    if facts.source_table.column(mark) is not None:
        yield f"The mark of deleted rows, {mark}, is a column of the source too: name another, --deletes soft:COLUMN."
    if target is None:
        return
    column = target.column(mark)
    if column is None and encodings.is_long(mark, facts.target):
        return  # as has been said
    if column is None:
        yield (
            f"{job.target} has no column {mark} to mark deleted rows with:"
            f" ALTER TABLE {_sql(job.target)} ADD {bare(mark)} timestamptz;"
        )
    elif column.generated:
        yield f"Column {mark} of {job.target} is generated, so nothing can be marked in it."
    elif column.type not in _MARKS:
        yield f"Column {mark} of {job.target} is {column.type}; deleted rows are marked in a boolean or a timestamp."
    elif column.not_null and column.type != "boolean":
        yield f"Column {mark} of {job.target} is NOT NULL, so it can't say that a row is not deleted: drop NOT NULL."


_MARKS = frozenset({"boolean", "timestamp with time zone", "timestamp without time zone"})


def _constant_refusals(job: SyncJob, facts: Facts) -> Iterator[str]:
    """Name constants that have no place on the target; without those of its scope a job can't know its own rows."""
    target = facts.target_table
    for constant in job.shape.constants if target else ():
        theirs, column = facts.source_table.column(constant.column), target and target.column(constant.column)
        if encodings.is_long(constant.column, facts.target):
            continue  # as has been said
        if theirs and column is None and not (constant.is_moment and job.drift is Drift.IGNORE):
            yield (
                f"{job.target} has no column {constant.column} for the constant: ALTER TABLE {_sql(job.target)} ADD"
                f" {bare(constant.column)} {theirs.type}; or let it follow with --drift add."
            )
        elif column and column.generated:
            yield f"Column {constant.column} of {job.target} is generated, so it can't hold a constant: name another."


def _travel_refusals(facts: Facts, options: Options) -> Iterator[str]:
    if options.lane is Lane.PSQL and facts.psql:
        yield f"The psql lane was asked for and {facts.psql}: install psql, or choose --lane libpq."
    if options.staging is StagingKind.TEMPORARY and not facts.target.can_use_temporary:
        role, database = bare(facts.target.role), bare(facts.target.database)
        yield f"Temporary staging was asked for: GRANT TEMPORARY ON DATABASE {database} TO {role};"
