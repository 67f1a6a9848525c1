"""The SQL of reference plans, kept as files: a change of any statement shows in a review as text.

`PGSLUICE_WRITE_GOLDEN=1 pytest tests/unit/test_statements.py` writes them anew.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from handmade import (
    AT,
    EQUALS,
    ID,
    NOTE,
    ORDERS,
    SAME,
    TARGET,
    enum,
    facts,
    moment,
    plan_of,
    primary,
    stamps,
    state,
    table,
)

from pgsluice.facts import Column, Equality, Horizon, Key, Leaf, Progress, TableInfo
from pgsluice.job import Mode, Options, QuerySource, Strategy, SyncJob, TableRef, Verify
from pgsluice.plan import SyncPlan
from pgsluice.policies import Deletes, LateRows
from pgsluice.run import statements

GOLDEN = Path(__file__).with_name("golden")
RAW = TableRef("raw", "orders")
SINCE = "created_at > '2024-01-01' -- from 2024"

CREATED_AT = Column("created_at", "timestamp with time zone", "timestamp with time zone")
CITEXT_EQUALS = Equality("ext")
REGION = Column("region", "ext.citext", "ext.citext", not_null=True, equality=CITEXT_EQUALS)
MOOD = enum("s", "mood", "sad", "it's", "100%")
HANGUL = "주문내역이천이십사년십이월의모든것"  # 51 bytes
LONGEST = HANGUL + "과끝넷다"  # 63 bytes


def full_with_where() -> SyncPlan:
    columns = (ID, NOTE, CREATED_AT)
    known = facts(table(columns=columns), table(RAW, columns=columns, oid=2))
    return plan_of(known, SyncJob(ORDERS, RAW, where=SINCE))


def full_small() -> SyncPlan:
    return plan_of(facts(table(size=0)))


def full_hashed() -> SyncPlan:
    return plan_of(facts(), options=Options(verify=Verify.HASH, strategy=Strategy.COPY))


def upsert_hashed() -> SyncPlan:
    return plan_of(facts(), SyncJob(ORDERS, ORDERS, mode=Mode.UPSERT), options=Options(verify=Verify.HASH))


def upsert() -> SyncPlan:
    return plan_of(facts(), SyncJob(ORDERS, ORDERS, mode=Mode.UPSERT))


def upsert_key_only() -> SyncPlan:
    always = table(columns=(dataclasses.replace(ID, identity="a"),), oid=2)
    return plan_of(facts(table(columns=(ID,)), always), SyncJob(ORDERS, ORDERS, mode=Mode.UPSERT))


def query() -> SyncPlan:
    job = SyncJob(QuerySource("SELECT id, note FROM orders -- all"), RAW, mode=Mode.UPSERT, key=("id",))
    known = facts(table(TableRef("", "(query)"), keys=(), relkind="q", size=0, oid=0), table(RAW, oid=2))
    return plan_of(known, job)


def partitioned() -> SyncPlan:
    return plan_of(facts(table(relkind="p"), table(relkind="p", oid=2)))


def composite_key() -> SyncPlan:
    key = Key("pk", ("region", "id"), (CITEXT_EQUALS, EQUALS), primary=True, not_null=True)
    columns = (ID, REGION, NOTE)
    source = table(columns=columns, keys=(primary("id", "region"),))
    return plan_of(facts(source, table(columns=columns, keys=(key,), oid=2)))


def created() -> SyncPlan:
    mood = Column("mood", "s.mood", "s.mood", kind="e", dependencies=MOOD, default="'sad'::s.mood")
    moods = Column("moods", "s.mood[]", "s.mood", kind="e", dependencies=MOOD)
    columns = (
        dataclasses.replace(ID, identity="a"),
        Column("number", "integer", "integer", not_null=True, identity="a"),
        Column("code", "character varying(10)", "character varying", collation=("pg_catalog", "C")),
        Column("at", "date", "date", not_null=True, default="CURRENT_DATE"),
        Column("by", "text", "text", default="s.who()", default_is_local=False),
        Column("total", "numeric(10,2)", "numeric", generated="s", default="((number)::numeric * 1.1)"),
        Column("twice", "integer", "integer", generated="v", default="(number * 2)"),
        mood,
        moods,
    )
    known = facts(table(columns=columns), None, target_schema=None, missing=frozenset({"s.mood"}))
    return plan_of(known, SyncJob(ORDERS, RAW, key=("id", "at")))


def created_before_18() -> SyncPlan:
    columns = (ID, Column("twice", "bigint", "bigint", generated="v", default="(id * 2)"))
    known = facts(table(columns=columns), None, target=dataclasses.replace(TARGET, version=170002))
    return plan_of(known, SyncJob(ORDERS, ORDERS))


def hostile_names() -> SyncPlan:
    names = (
        'a"b',
        "it's",
        "100%s",
        "{}",
        "{0}{table}",
        "two\nlines",
        "<script>alert(1)</script>",
        LONGEST,
        "-- x",
        "\\",
    )
    columns = (ID, *(Column(name, "text", "text") for name in names))
    source = table(TableRef('s".%s{}', "<script>\n"), columns=columns)
    target = table(TableRef(HANGUL, LONGEST), columns=columns, oid=2)
    return plan_of(facts(source, target), SyncJob(source.ref, target.ref, where="\"{}\" LIKE '100%'"))


def hostile_names_created() -> SyncPlan:
    name = '"s x"."m%{}"'
    odd = Column('k"%{}\n', name, name, "e", not_null=True, dependencies=enum("s x", "m%{}", "{}", "%s", sql=name))
    source = table(columns=(odd,), keys=(primary(odd.name),))
    known = facts(source, None, target_schema=None, missing=frozenset({odd.leaf}))
    return plan_of(known, SyncJob(ORDERS, TableRef("%{schema}", LONGEST)))


# --- jobs that read on

MARK = "2024-01-01 00:00:00+00"
SWEEP = Deletes.parse("sweep")
SOFT = Deletes.parse("soft:gone")
GONE = Column("gone", "timestamp with time zone", "timestamp with time zone")
PARTS = table(columns=(ID, NOTE, AT), relkind="p", leaves=(Leaf(1, 11, "FOR a"), Leaf(2, 12, "FOR b")))


def read_on(
    cursor: Column | None = AT,
    mark: Column | None = None,
    *,
    late_rows: str = "scan",
    held: bool = False,
    watermark: str = MARK,
    source: TableInfo | None = None,
    **job: Any,
) -> SyncPlan:
    """Return the plan of a run that reads on by a cursor, or in another mode where there is none."""
    columns = (ID, NOTE, *([cursor] if cursor else []))
    source = source or table(columns=columns, leaves=(Leaf(1000, 1),))
    target = table(columns=(*columns, *([mark] if mark else [])), oid=SAME.oid)
    progress = Progress(
        moment(1000, begun=5),
        state(dataclasses.replace(source, leaves=source.leaves[:1]), watermark=watermark, held=held),
        target_is_empty=False,
        horizon=Horizon("2024-06-01 11:59:00+00"),
        stamps=stamps("BEGIN NEW.updated_at := now(); RETURN NEW; END"),
    )
    if cursor:
        job = {"mode": Mode.INCREMENTAL, "cursor": cursor.name, "late_rows": LateRows.parse(late_rows), **job}
    options = job.pop("options", None)
    return plan_of(facts(source, target, progress=progress), SyncJob(ORDERS, ORDERS, **job), options)


def incremental() -> SyncPlan:
    return read_on()


def incremental_attached() -> SyncPlan:
    return read_on(source=PARTS)


def incremental_swept() -> SyncPlan:
    return read_on(where=SINCE, deletes=SWEEP, late_within="7 days", late_rows="auto")


def incremental_marked() -> SyncPlan:
    return read_on(mark=GONE, deletes=SOFT)


def incremental_held() -> SyncPlan:
    return read_on(late_rows="horizon", held=True)


def incremental_by_text() -> SyncPlan:
    return read_on(Column("code", "character(9)", "character"), late_rows="trust", watermark="it's")


def incremental_by_uuid() -> SyncPlan:
    return read_on(Column("u", "uuid", "uuid"), watermark="ff000000-0000-0000-0000-000000000000")


def incremental_by_day() -> SyncPlan:
    day = Column("day", "integer", "integer")
    return read_on(day, late_rows="overlap:1 day", watermark="20240301", cursor_type="yyyymmdd")


def xmin() -> SyncPlan:
    return read_on(None, mode=Mode.XMIN)


def append() -> SyncPlan:
    return read_on(None, mode=Mode.APPEND)


def append_afresh() -> SyncPlan:
    return read_on(None, mode=Mode.APPEND, where=SINCE, options=Options(full_refresh=True))


def append_created() -> SyncPlan:
    return plan_of(facts(target_table=None, progress=Progress(moment(1000))), SyncJob(ORDERS, ORDERS, mode=Mode.APPEND))


def full_marked() -> SyncPlan:
    flag = Column("gone", "boolean", "boolean", not_null=True)
    known = facts(target_table=table(columns=(ID, NOTE, flag), oid=2))
    return plan_of(known, SyncJob(ORDERS, ORDERS, where=SINCE, deletes=SOFT))


PLANS = {
    plan.__name__: plan
    for plan in (
        full_with_where,
        full_small,
        full_hashed,
        upsert_hashed,
        upsert,
        upsert_key_only,
        query,
        partitioned,
        composite_key,
        created,
        created_before_18,
        hostile_names,
        hostile_names_created,
        incremental,
        incremental_attached,
        incremental_swept,
        incremental_marked,
        incremental_held,
        incremental_by_text,
        incremental_by_uuid,
        incremental_by_day,
        xmin,
        append,
        append_afresh,
        append_created,
        full_marked,
    )
}


def written(plan: SyncPlan) -> str:
    return "\n\n".join(f"-- {step}\n{text};" for step, text in statements(plan)) + "\n"


@pytest.mark.parametrize("name", PLANS)
def test_every_statement_of_a_plan_is_as_reviewed(name: str) -> None:
    text = written(PLANS[name]())
    golden = GOLDEN / f"{name}.sql"
    if os.environ.get("PGSLUICE_WRITE_GOLDEN"):
        golden.write_text(text, "utf-8", newline="\n")
    assert text == golden.read_text("utf-8")


def test_every_reviewed_file_belongs_to_a_plan() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == PLANS.keys()


def test_the_longest_name_a_server_keeps_is_among_them() -> None:
    assert len(LONGEST.encode()) == 63


@pytest.mark.parametrize("name", ["pgsluice_staged", "query"])
def test_no_name_of_a_source_is_taken_for_the_staging_table(name: str) -> None:
    source = table(TableRef("s", name))
    merge = dict(statements(plan_of(facts(source), SyncJob(source.ref, ORDERS))))["merge (target)"]
    target_alias, staging_alias = (merge.split(" AS ")[part].split(" ")[0] for part in (1, 2))
    assert target_alias != staging_alias


# --- the next watermark ----------------------------------------------------------------------------------------------


def settled(type_: str, named: str | None = None, watermark: str = "1") -> str:
    """Return the query for the next watermark of a cursor called c."""
    plan = read_on(Column("c", type_, type_), late_rows="trust", cursor_type=named, watermark=watermark)
    return dict(statements(plan))["watermark (target)"]


@pytest.mark.parametrize(
    ("type_", "named", "beyond"),
    [
        ("timestamp with time zone", None, "OPERATOR(pg_catalog.>) '2024-06-01 12:00:00+00'::timestamp with time zone"),
        (
            "timestamp with time zone",
            "timestamp",
            "OPERATOR(pg_catalog.>) '2024-06-01 12:00:00+00'::timestamp with time zone",
        ),
        (
            "timestamp without time zone",
            None,
            "OPERATOR(pg_catalog.>) '2024-06-01 21:00:00'::timestamp without time zone",
        ),
        ("date", None, "OPERATOR(pg_catalog.>) '2024-06-02'::date"),
        ("bigint", "yyyymmdd", "OPERATOR(pg_catalog.>) '20240602'::bigint"),
        ("text", "yyyymmdd", "OPERATOR(pg_catalog.>) '20240602'::text"),
        ("numeric", None, "OPERATOR(pg_catalog.>=) 'Infinity'::numeric"),  # and NaN, which sorts behind it
    ],
)
def test_a_value_of_the_future_is_no_watermark_yet(type_: str, named: str | None, beyond: str) -> None:
    text = settled(type_, named)
    assert f"{beyond})) AS future" in text
    assert f"{beyond})) AS value" in text


@pytest.mark.parametrize("type_", ["smallint", "bigint", "text", "uuid"])
def test_a_cursor_that_is_no_time_has_no_future(type_: str) -> None:
    future, _ = settled(type_).split(" AS future")
    assert not future.endswith("IS NULL))")


def test_a_first_run_has_no_row_below_a_watermark() -> None:
    known = facts(*(2 * (table(columns=(ID, NOTE, AT)),)), progress=Progress(moment(1000)))
    job = SyncJob(ORDERS, ORDERS, mode=Mode.INCREMENTAL, cursor=AT.name, late_rows=LateRows.parse("trust"))
    text = dict(statements(plan_of(known, job)))["watermark (target)"]
    assert '"updated_at" OPERATOR(pg_catalog.<) NULL::timestamp with time zone) AS late' in text
    assert "GREATEST(top.value, NULL::timestamp with time zone)" in text  # which leaves NULL out


def test_a_watermark_is_compared_as_the_source_does_where_the_target_is_wider() -> None:
    day = Column("day", "date", "date")
    wide = dataclasses.replace(day, type="timestamp without time zone", leaf="timestamp without time zone", base="")
    known = facts(table(columns=(ID, day)), table(columns=(ID, wide), oid=2), progress=Progress(moment(1000)))
    job = SyncJob(ORDERS, ORDERS, mode=Mode.INCREMENTAL, cursor="day", late_rows=LateRows.parse("trust"))
    assert 'pg_catalog.max("day"::date)' in dict(statements(plan_of(known, job)))["watermark (target)"]
