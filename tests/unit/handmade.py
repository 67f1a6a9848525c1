"""Facts as a catalog would tell them, made by hand: what the tests of plans are built from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from pgsluice.errors import PlanError
from pgsluice.facts import (
    Column,
    Dependency,
    Equality,
    Facts,
    JobState,
    Key,
    Leaf,
    Moment,
    Progress,
    SchemaInfo,
    SeenLeaf,
    ServerInfo,
    Stamps,
    TableInfo,
)
from pgsluice.job import Options, SyncJob, TableRef
from pgsluice.plan import SyncPlan, make_plan

MIB = 1 << 20
EQUALS = Equality()
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
AT = Column("updated_at", "timestamp with time zone", "timestamp with time zone")
ORDERS = TableRef("sales", "orders")


def enum(schema: str, name: str, *labels: str, sql: str = "") -> tuple[Dependency, ...]:
    """Return what a column of an enum leans on."""
    return (Dependency(schema, name, "e", sql or f"{schema}.{name}", labels=labels),)


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
    leaves: tuple[Leaf, ...] = (),
) -> TableInfo:
    return TableInfo(
        ref,
        oid,
        relkind,
        columns,
        keys,
        rows=1000,
        bytes=size,
        privileges=privileges,
        leaves=leaves,
        heap_bytes=size,
    )


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
    progress: Progress = Progress(),  # noqa: B008 - a frozen value
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
        progress=progress,
    )


# --- jobs that read on -----------------------------------------------------------------------------------------------


def moment(xmin: int, *, begun: int = 0, running: int = 0, lsn: int = 5000) -> Moment:
    """Return a snapshot whose oldest open transaction is `xmin`, with so many more begun since that one."""
    return Moment(
        xmin,
        xmin + begun,
        running,
        lsn,
        clock="2024-06-01 12:00:00+00",
        local="2024-06-01 21:00:00",
        today="2024-06-02",
    )


def state(source: TableInfo, xmin: int = 500, **changes: Any) -> JobState:
    """Return what a run has left that read all of `source` by a snapshot of `xmin`, and copied it to `SAME`."""
    as_left = JobState(
        columns={column.name: (column.number, column.type) for column in source.columns},
        leaves=seen(source, xmin),
        job_id="j",
        seq=1,
        run_id="r",
        watermark=None,
        held=False,
        xmin=xmin,
        lsn=4000,
        system=SOURCE.system,
        timeline=SOURCE.timeline,
        repeats_at=None,
        source_oid=source.oid,
        target_oid=SAME.oid,
    )
    return dataclasses.replace(as_left, **changes)


def seen(source: TableInfo, xmin: int) -> Mapping[int, SeenLeaf]:
    return {leaf.oid: SeenLeaf(leaf.file, leaf.bound, xmin) for leaf in source.leaves}


def stamps(*bodies: str | tuple[bool, bool, str], **more: Any) -> Stamps:
    """Return the triggers of a cursor column: a body alone fires on insert and on update."""
    return Stamps(tuple((True, True, body) if isinstance(body, str) else body for body in bodies), **more)


# --- plans -----------------------------------------------------------------------------------------------------------


def plan_of(known: Facts, job: SyncJob | None = None, options: Options | None = None) -> SyncPlan:
    return make_plan(job or SyncJob(known.source_table.ref, ORDERS), known, options or Options())


def refusals(known: Facts, job: SyncJob | None = None, options: Options | None = None) -> tuple[str, ...]:
    with pytest.raises(PlanError) as caught:
        plan_of(known, job, options)
    assert caught.value.table == str(job.target if job else ORDERS)
    return caught.value.refusals
