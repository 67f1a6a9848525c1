"""Pure: what is created on the target where the table is missing, as SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from psycopg import sql

from pgsluice import sqltext
from pgsluice.expressions import condition_of
from pgsluice.facts import VIRTUAL_SINCE, Attachment, Column, ColumnSequence, Dependency
from pgsluice.job import TableRef
from pgsluice.model import StagingTable
from pgsluice.plan import Creation, SyncPlan
from pgsluice.sequences import is_plain, serial_type
from pgsluice.sqltext import verbatim


def schemas_sql(creation: Creation) -> list[sql.Composed]:
    """Return what creates the schemas that the table and what it leans on lack."""
    return [sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)) for schema in creation.schemas]


def dependency_sql(dependency: Dependency) -> list[sql.Composed]:
    """Return what creates a type or collation as the source has it; a multirange comes with its range.

    https://www.postgresql.org/docs/current/sql-createtype.html, sql-createdomain.html, sql-createcollation.html
    """
    name = sql.Identifier(dependency.schema, dependency.name)
    if dependency.kind == "e":
        labels = sql.SQL(", ").join(map(sql.Literal, dependency.labels))
        return [sql.SQL("CREATE TYPE {} AS ENUM ({})").format(name, labels)]
    if dependency.kind == "d":
        return list(_domain_sql(name, dependency))
    if dependency.kind == "c":
        fields = (sql.SQL("{} {}").format(sql.Identifier(field), verbatim(type_)) for field, type_ in dependency.parts)
        return [sql.SQL("CREATE TYPE {} AS ({})").format(name, sql.SQL(", ").join(fields))]
    if dependency.kind == "r":
        options = _options_sql(("SUBTYPE", dependency.base), *dependency.parts, value=verbatim)
        return [sql.SQL("CREATE TYPE {} AS RANGE ({})").format(name, options)]
    options = _options_sql(*dependency.parts, value=sql.Literal)
    return [sql.SQL("CREATE COLLATION {} ({})").format(name, options)] if dependency.kind == "k" else []


def _options_sql(*options: tuple[str, str], value: Callable[[str], sql.Composable]) -> sql.Composed:
    pairs = (sql.SQL("{} = {}").format(sql.Identifier(option.lower()), value(text)) for option, text in options)
    return sql.SQL(", ").join(pairs)


def _domain_sql(name: sql.Identifier, domain: Dependency) -> Iterator[sql.Composed]:
    definition = sql.SQL("CREATE DOMAIN {} AS {}").format(name, verbatim(domain.base))
    if domain.default is not None:
        definition += sql.SQL(" DEFAULT ({})").format(verbatim(domain.default))
    yield definition + sql.SQL(" NOT NULL") if domain.not_null else definition
    for check, text in domain.parts:
        condition, suffix = condition_of(text)
        yield sql.SQL("ALTER DOMAIN {} ADD CONSTRAINT {} CHECK ({}){}").format(
            name, sql.Identifier(check), verbatim(condition), verbatim(suffix)
        )


def table_sql(plan: SyncPlan, creation: Creation, ref: TableRef) -> sql.Composed:
    """Return the CREATE TABLE, under the name `ref`; its keys follow when the rows are in."""
    stored_only = plan.facts.target.major < VIRTUAL_SINCE
    columns = sql.SQL(",\n  ").join(_definition(column, stored_only=stored_only) for column in creation.columns)
    return sql.SQL("CREATE TABLE {} (\n  {}\n)").format(sqltext.table(ref), columns)


def staging_sql(plan: SyncPlan, creation: Creation, ref: TableRef) -> sql.Composed:
    """Return the CREATE TABLE of a staging table that is to become the target; nobody vacuums it meanwhile."""
    return table_sql(plan, creation, ref) + sql.SQL(" WITH (autovacuum_enabled = false)")


def _definition(column: Column, *, stored_only: bool) -> sql.Composed:
    if serial := serial_type(column):
        return sql.SQL("{} {} NOT NULL").format(sql.Identifier(column.name), verbatim(serial))
    definition = sqltext.column_definition(column)
    if column.generated and column.default:
        kind = "STORED" if stored_only or column.generated == "s" else "VIRTUAL"
        definition += sql.SQL(" GENERATED ALWAYS AS ({}) {}").format(verbatim(column.default), verbatim(kind))
    elif column.identity:
        kind = "ALWAYS" if column.identity == "a" else "BY DEFAULT"
        definition += sql.SQL(" GENERATED {} AS IDENTITY{}").format(verbatim(kind), verbatim(_options(column.sequence)))
    elif column.default and column.default_is_local:
        definition += sql.SQL(" DEFAULT ({})").format(verbatim(column.default))
    return definition + sql.SQL(" NOT NULL") if column.not_null else definition


def _options(sequence: ColumnSequence | None) -> str:
    """Return the options of an identity column's sequence, where they are not the ones it gets anyway."""
    if sequence is None or is_plain(sequence):
        return ""
    start, increment, minimum, maximum, cache = sequence.options
    cycle = "CYCLE" if sequence.cycles else "NO CYCLE"
    return f" (START {start} INCREMENT {increment} MINVALUE {minimum} MAXVALUE {maximum} CACHE {cache} {cycle})"


def comments_sql(creation: Creation, ref: TableRef) -> list[sql.Composed]:
    """Return what gives a table and its columns their comments."""
    named = [(sql.SQL("TABLE {}").format(sqltext.table(ref)), creation.comment)] if creation.comment else []
    named += [
        (sql.SQL("COLUMN {}").format(sql.Identifier(ref.schema, ref.name, column.name)), column.comment)
        for column in creation.columns
        if column.comment
    ]
    return [sql.SQL("COMMENT ON {} IS {}").format(what, sql.Literal(comment)) for what, comment in named]


def keys_sql(creation: Creation, ref: TableRef) -> list[sql.Composed]:
    """Return what gives a table just filled its keys and indexes: one sort each, instead of one insertion a row."""
    kinds = (("PRIMARY KEY", creation.primary_key), ("UNIQUE", creation.unique))
    keys = [
        sql.SQL("ALTER TABLE {} ADD {} ({})").format(sqltext.table(ref), verbatim(kind), sqltext.names(columns))
        for kind, columns in kinds
        if columns
    ]
    return [*keys, *(_attachment_sql(each, ref) for each in creation.attachments)]


def _attachment_sql(attachment: Attachment, ref: TableRef) -> sql.Composed:
    """Return what creates an index or a constraint; one without a name gets it from the server."""
    name = sql.SQL("{} ").format(sql.Identifier(attachment.name)) if attachment.name else sql.SQL("")
    if attachment.kind == "index":
        kind = sql.SQL("UNIQUE INDEX" if attachment.unique else "INDEX")
        return sql.SQL("CREATE {} {}ON {} {}").format(kind, name, sqltext.table(ref), verbatim(attachment.definition))
    what = sql.SQL("CONSTRAINT {}").format(name) if attachment.name else sql.SQL("")
    return sql.SQL("ALTER TABLE {} ADD {}{}").format(sqltext.table(ref), what, verbatim(attachment.definition))


def insert_sql(plan: SyncPlan, staging: StagingTable, creation: Creation) -> sql.Composed:
    """Return the INSERT into a table just created; what was staged as text becomes what it is."""
    becomes = {column.name: column for column in creation.columns}
    values = (_value(column, becomes[column.name]) for column in staging.columns)
    return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
        sqltext.table(plan.job.target),
        sqltext.names(plan.names),
        sql.SQL(", ").join(values),
        sqltext.table(staging.ref),
    )


def _value(staged: Column, becomes: Column) -> sql.Composable:
    """Return a staged value as what it is: read from its text, as COPY would have.

    From text to some types there is a cast that reads otherwise (to regclass, "char", xml), and a domain over one of
    them would use it; an array of the domain has none.
    """
    name = sql.Identifier(staged.name)
    if staged.type == becomes.type:
        return name
    type_ = verbatim(becomes.type)
    if becomes.kind == "d" and not becomes.is_array:
        return sql.SQL("(ARRAY[{}]::text::{}[])[1]").format(name, type_)
    return sql.SQL("{}::{}").format(name, type_)
