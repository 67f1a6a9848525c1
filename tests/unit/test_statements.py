"""The SQL of reference plans, kept as files: a change of any statement shows in a review as text.

`PGSLUICE_WRITE_GOLDEN=1 pytest tests/unit/test_statements.py` writes them anew.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from handmade import EQUALS, ID, NOTE, ORDERS, TARGET, facts, plan_of, primary, table

from pgsluice.facts import Column, Key
from pgsluice.job import Mode, QuerySource, SyncJob, TableRef
from pgsluice.plan import SyncPlan
from pgsluice.run import statements

GOLDEN = Path(__file__).with_name("golden")
RAW = TableRef("raw", "orders")
SINCE = "created_at > '2024-01-01' -- from 2024"

CREATED_AT = Column("created_at", "timestamp with time zone", "timestamp with time zone")
CITEXT_EQUALS = ("ext", "=")
REGION = Column("region", "ext.citext", "ext.citext", not_null=True, equality=CITEXT_EQUALS)
MOOD = ("s", "mood", ("sad", "it's", "100%"))
HANGUL = "주문내역이천이십사년십이월의모든것"  # 51 bytes
LONGEST = HANGUL + "과끝넷다"  # 63 bytes


def full_with_where() -> SyncPlan:
    columns = (ID, NOTE, CREATED_AT)
    known = facts(table(columns=columns), table(RAW, columns=columns, oid=2))
    return plan_of(known, SyncJob(ORDERS, RAW, where=SINCE))


def full_small() -> SyncPlan:
    return plan_of(facts(table(size=0)))


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
    mood = Column("mood", "s.mood", "s.mood", kind="e", enum=MOOD, default="'sad'::s.mood")
    moods = Column("moods", "s.mood[]", "s.mood", kind="e", enum=MOOD)
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
    odd = Column('k"%{}\n', '"s x"."m%{}"', '"s x"."m%{}"', kind="e", enum=("s x", "m%{}", ("{}", "%s")), not_null=True)
    source = table(columns=(odd,), keys=(primary(odd.name),))
    known = facts(source, None, target_schema=None, missing=frozenset({odd.leaf}))
    return plan_of(known, SyncJob(ORDERS, TableRef("%{schema}", LONGEST)))


PLANS = {
    plan.__name__: plan
    for plan in (
        full_with_where,
        full_small,
        upsert,
        upsert_key_only,
        query,
        partitioned,
        composite_key,
        created,
        created_before_18,
        hostile_names,
        hostile_names_created,
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
