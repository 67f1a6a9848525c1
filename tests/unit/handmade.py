"""Facts as a catalog would tell them, made by hand: what the tests of plans are built from."""

from __future__ import annotations

import dataclasses

from pgsluice.facts import Column, Facts, Key, SchemaInfo, ServerInfo, TableInfo
from pgsluice.job import Options, SyncJob, TableRef
from pgsluice.plan import SyncPlan, make_plan

MIB = 1 << 20
EQUALS = ("pg_catalog", "=")
WRITABLE = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})

SOURCE = ServerInfo(
    version=160014,
    system="1111",
    timeline=1,
    database="shop",
    database_oid=5,
    in_recovery=False,
    encoding="UTF8",
    role="reader",
    can_create_schema=False,
    can_use_temporary=True,
    address="here:5432",
    started="2024-01-01",
    search_path='"$user", public',
    time_zone="Asia/Seoul",
)
TARGET = dataclasses.replace(
    SOURCE,
    version=180004,
    system="2222",
    database="lake",
    role="loader",
    can_create_schema=True,
    address="there:5432",
    search_path="public",
    time_zone="UTC",
)

ID = Column("id", "bigint", "bigint", not_null=True)
NOTE = Column("note", "text", "text")
ORDERS = TableRef("sales", "orders")


def unique(*columns: str, primary: bool = False, not_null: bool = True, name: str = "") -> Key:
    return Key(name or f"{'_'.join(columns)}_key", columns, (EQUALS,) * len(columns), primary, not_null)


def primary(*columns: str) -> Key:
    return unique(*columns, primary=True, name="the_pkey")


PRIMARY_ID = primary("id")


def table(
    ref: TableRef = ORDERS,
    columns: tuple[Column, ...] = (ID, NOTE),
    keys: tuple[Key, ...] = (PRIMARY_ID,),
    *,
    oid: int = 1000,
    relkind: str = "r",
    size: int = 100 * MIB,
    privileges: frozenset[str] = WRITABLE,
) -> TableInfo:
    return TableInfo(ref, oid, relkind, columns, keys, rows=1000, bytes=size, privileges=privileges)


SAME = table(oid=2000)


def facts(
    source_table: TableInfo | None = None,
    target_table: TableInfo | None = SAME,
    *,
    source: ServerInfo = SOURCE,
    target: ServerInfo = TARGET,
    target_schema: SchemaInfo | None = SchemaInfo(usage=True, create=True),  # noqa: B008 - a frozen value
    control_schema: SchemaInfo | None = SchemaInfo(usage=True, create=True),  # noqa: B008 - a frozen value
    missing: frozenset[str] = frozenset(),
    psql: str | None = None,
) -> Facts:
    return Facts(
        source=source,
        target=target,
        source_table=source_table or table(),
        target_table=target_table,
        target_schema=target_schema,
        control_schema=control_schema,
        missing=missing,
        psql=psql,
    )


def plan_of(known: Facts, job: SyncJob | None = None, options: Options | None = None) -> SyncPlan:
    return make_plan(job or SyncJob(known.source_table.ref, ORDERS), known, options or Options())
