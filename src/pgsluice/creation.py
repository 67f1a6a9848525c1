"""Pure: what is created on the target where the table is missing, as SQL."""

from __future__ import annotations

from psycopg import sql

from pgsluice import sqltext
from pgsluice.facts import Column
from pgsluice.job import TableRef
from pgsluice.model import StagingTable
from pgsluice.plan import Creation, SyncPlan


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


def table_sql(plan: SyncPlan, creation: Creation, ref: TableRef) -> sql.Composed:
    """Return the CREATE TABLE, under the name `ref`; its keys follow when the rows are in."""
    stored_only = plan.facts.target.major < 18  # noqa: PLR2004 - the first with virtual generated columns
    columns = sql.SQL(",\n  ").join(_definition(column, stored_only=stored_only) for column in creation.columns)
    return sql.SQL("CREATE TABLE {} (\n  {}\n)").format(sqltext.table(ref), columns)


def staging_sql(plan: SyncPlan, creation: Creation, ref: TableRef) -> sql.Composed:
    """Return the CREATE TABLE of a staging table that is to become the target; nobody vacuums it meanwhile."""
    return table_sql(plan, creation, ref) + sql.SQL(" WITH (autovacuum_enabled = false)")


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


def keys_sql(creation: Creation, ref: TableRef) -> list[sql.Composed]:
    """Return what gives a table just filled its keys: one sort each, instead of one insertion a row."""
    kinds = (("PRIMARY KEY", creation.primary_key), ("UNIQUE", creation.unique))
    return [
        sql.SQL("ALTER TABLE {} ADD {} ({})").format(sqltext.table(ref), sqltext.verbatim(kind), sqltext.names(columns))
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
