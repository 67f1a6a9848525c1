"""Every reason not to do a job: each as its whole sentence, all of them at once."""

from __future__ import annotations

import dataclasses
import re

import pytest
from handmade import ID, NOTE, ORDERS, PRIMARY_ID, SOURCE, TARGET, facts, plan_of, primary, refusals, table

from pgsluice.facts import Column, Facts, Progress, SchemaInfo
from pgsluice.job import Lane, Mode, Options, StagingKind, SyncJob, TableRef
from pgsluice.policies import Deletes
from pgsluice.run import statements

NO_RIGHTS = SchemaInfo(usage=False, create=False)
CAN_USE = SchemaInfo(usage=True, create=False)
POOR = dataclasses.replace(TARGET, can_create_schema=False, can_use_temporary=False)
COUNTED = Column("n", "bigint", "bigint", not_null=True)


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        (
            facts(source=dataclasses.replace(SOURCE, version=130011)),
            "The source is PostgreSQL 13; 14 is the oldest that is read.",
        ),
        (
            facts(target=dataclasses.replace(TARGET, version=140011)),
            "The target is PostgreSQL 14; 15 is the oldest with MERGE.",
        ),
        (
            facts(target=dataclasses.replace(TARGET, in_recovery=True)),
            "The target there:5432 is a read-only standby: connect to its primary.",
        ),
        (
            facts(source=dataclasses.replace(SOURCE, encoding="SQL_ASCII")),
            "The source's database shop is SQL_ASCII: what its bytes mean is not known. Say which encoding it really holds with --source-encoding, for example EUC_KR or LATIN1.",
        ),
        (
            facts(target=dataclasses.replace(TARGET, encoding="SQL_ASCII")),
            "The target's database lake is SQL_ASCII: what its bytes mean is not known. Say which encoding it really holds with --target-encoding, for example EUC_KR or LATIN1.",
        ),
        (
            facts(target=dataclasses.replace(SOURCE, version=180004), target_table=table()),
            "Source and target are the same table, sales.orders of database shop: change --target, or the name with --to.",
        ),
    ],
)
def test_a_server_that_can_not_serve_is_refused(known: Facts, sentence: str) -> None:
    assert refusals(known) == (sentence,)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"system": None}, True),  # told apart by address and start where the server hides its identity
        ({"system": None, "address": "there:5432"}, False),
        ({"system": None, "started": "2025-01-01"}, False),
        ({"system": "2222"}, False),
        ({"database_oid": 6}, False),
    ],
)
def test_one_table_is_not_copied_onto_itself(changes: dict[str, object], same: bool) -> None:
    known = facts(target=dataclasses.replace(SOURCE, **changes), target_table=table())  # type: ignore[arg-type]
    if same:
        assert refusals(known)[0].startswith("Source and target are the same table, sales.orders of database shop:")
    else:
        assert plan_of(known).deletes


def test_a_table_may_be_copied_within_its_database() -> None:
    assert plan_of(facts(target=dataclasses.replace(SOURCE, version=180004))).deletes


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        (
            facts(dataclasses.replace(table(), row_security=True)),
            "Row-level security of sales.orders would hide rows from role reader: use a role with BYPASSRLS.",
        ),
        (
            facts(dataclasses.replace(table(), schema_usage=False)),
            "Role reader may not use the source's schema: GRANT USAGE ON SCHEMA sales TO reader;",
        ),
        (
            facts(table(privileges=frozenset())),
            "Role reader may not read the source: GRANT SELECT ON sales.orders TO reader;",
        ),
        (
            facts(target=POOR, control_schema=None),
            "The target has no control schema and role loader may not create it: GRANT CREATE ON DATABASE lake TO loader;",
        ),
        (
            facts(control_schema=CAN_USE),
            (
                "Role loader may not use the control schema: GRANT USAGE, CREATE ON SCHEMA pgsluice TO loader;"
                " GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA pgsluice TO loader;"
            ),
        ),
        (
            facts(target_table=None, target=POOR, target_schema=None),
            "The target has no schema sales and role loader may not create it: GRANT CREATE ON DATABASE lake TO loader;",
        ),
        (
            facts(target_table=None, target_schema=CAN_USE),
            "sales.orders does not exist and role loader may not create it: GRANT USAGE, CREATE ON SCHEMA sales TO loader;",
        ),
        (facts(target_table=table(oid=2, relkind="v")), "sales.orders is a view; only tables are written."),
        (facts(target_table=table(oid=2, relkind="f")), "sales.orders is a foreign table; only tables are written."),
        (
            facts(target_table=dataclasses.replace(table(oid=2), row_security=True)),
            "Row-level security of sales.orders applies to role loader: use a role with BYPASSRLS.",
        ),
        (
            facts(target_table=dataclasses.replace(table(oid=2), schema_usage=False)),
            "Role loader may not use the target's schema: GRANT USAGE ON SCHEMA sales TO loader;",
        ),
        (
            facts(target_table=table(oid=2, privileges=frozenset({"SELECT", "UPDATE"}))),
            "Role loader may not write the target: GRANT INSERT, DELETE ON sales.orders TO loader;",
        ),
    ],
)
def test_a_table_that_may_not_be_used_is_refused_with_the_grant_that_helps(known: Facts, sentence: str) -> None:
    assert refusals(known) == (sentence,)


def test_upsert_needs_no_right_to_delete() -> None:
    target = table(oid=2, privileges=frozenset({"SELECT", "INSERT", "UPDATE"}))
    assert plan_of(facts(target_table=target), SyncJob(ORDERS, ORDERS, mode=Mode.UPSERT)).updatable == ("id", "note")


def test_a_grant_can_be_pasted_whatever_the_names() -> None:
    odd = TableRef("Sales", "Orders")
    reader = dataclasses.replace(SOURCE, role="load-er")
    (sentence,) = refusals(facts(table(odd, privileges=frozenset()), source=reader))
    assert '"Sales"."Orders"' in sentence
    assert '"load-er"' in sentence


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        (
            facts(target_table=table(oid=2, columns=(ID, NOTE, COUNTED))),
            "Column n of sales.orders is NOT NULL without a default and the source lacks it: give it a default, or drop NOT NULL.",
        ),
        (
            facts(table(columns=(ID, NOTE, COUNTED))),
            "The source has columns that sales.orders lacks: n bigint. Add them with --drift add, or leave them out with --drift ignore.",
        ),
        (
            facts(target_table=table(oid=2, columns=(ID, dataclasses.replace(NOTE, type="integer", leaf="integer")))),
            (
                "Column note is text on the source and integer on the target, which may not hold every value:"
                " alter the target's column to text, let it follow with --drift widen, or allow it with --allow-narrowing."
            ),
        ),
        (
            facts(
                table(columns=(ID, Column("a", "s.x", "s.x", kind="d", collation=("s", "k")))),
                None,
                missing=frozenset({"s.k"}),
            ),
            "The target lacks the type or collation s.k, which sales.orders needs: create it first.",
        ),
        (
            facts(
                table(
                    columns=(ID, Column("a", "text", "text", generated="s", default="s.f(id)", default_is_local=False))
                ),
                None,
            ),
            "Generated column a can't be created because it calls functions of the source's own: create the table on the target first.",
        ),
    ],
)
def test_columns_that_do_not_fit_are_refused_by_name(known: Facts, sentence: str) -> None:
    assert refusals(known) == (sentence,)


@pytest.mark.parametrize(
    "filled",
    [
        {"default": "0"},
        {"identity": "d"},
        {"generated": "s", "default": "id"},
        {"not_null": False},
    ],
)
def test_a_column_of_one_side_only_that_fills_itself_is_fine(filled: dict[str, object]) -> None:
    more = (ID, NOTE, dataclasses.replace(COUNTED, **filled))  # type: ignore[arg-type]
    assert plan_of(facts(target_table=table(oid=2, columns=more))).names == ("id", "note")
    assert plan_of(facts(table(columns=more))).names == ("id", "note")


@pytest.mark.parametrize(
    ("known", "key", "sentence"),
    [
        (facts(), ("id", "x", "y"), "The key names x, y, which is not among the columns: id, note."),
        (
            facts(table(keys=()), table(oid=2, keys=())),
            (),
            (
                "sales.orders has no primary key and no unique index over NOT NULL columns, so its rows can't be told apart:"
                " name the columns that do with --key a,b."
            ),
        ),
        (
            facts(*(2 * (table(columns=(ID, Column("doc", "json", "json"))),))),
            ("doc",),
            "Key column doc is json, which has no equality: choose another key.",
        ),
        (
            facts(target_table=table(oid=2, columns=(dataclasses.replace(ID, identity="a"), NOTE))),
            ("note",),
            (
                "Column id of sales.orders is GENERATED ALWAYS AS IDENTITY and not in the key, so it can't be updated:"
                " ALTER TABLE sales.orders ALTER id SET GENERATED BY DEFAULT;"
            ),
        ),
    ],
)
def test_a_key_that_can_not_tell_rows_apart_is_refused(known: Facts, key: tuple[str, ...], sentence: str) -> None:
    assert refusals(known, SyncJob(ORDERS, ORDERS, key=key)) == (sentence,)


def test_a_primary_key_whose_columns_the_target_lacks_is_named_and_not_denied() -> None:
    numbered = dataclasses.replace(ID, identity="d")
    known = facts(table(columns=(numbered, NOTE), keys=(primary("id"),)), table(oid=2, columns=(NOTE,), keys=()))
    text = " ".join(refusals(known))
    assert "has no primary key" not in text
    assert re.search(r"\bid\b", text)


def test_tables_without_a_column_in_common_are_refused() -> None:
    known = facts(target_table=table(TableRef("raw", "t"), columns=(Column("x", "text", "text"),), keys=(), oid=2))
    assert "The source's sales.orders and the target's raw.t share no column." in refusals(known)


@pytest.mark.parametrize(
    ("known", "options", "sentence"),
    [
        (
            facts(psql="no psql was found on PATH"),
            Options(lane=Lane.PSQL),
            "The psql lane was asked for and no psql was found on PATH: install psql, or choose --lane libpq.",
        ),
        (
            facts(target=POOR),
            Options(staging=StagingKind.TEMPORARY),
            "Temporary staging was asked for: GRANT TEMPORARY ON DATABASE lake TO loader;",
        ),
    ],
)
def test_a_way_that_was_asked_for_and_is_barred_is_refused(known: Facts, options: Options, sentence: str) -> None:
    assert refusals(known, options=options) == (sentence,)


# --- marks of deleted rows -------------------------------------------------------------------------------------------

GONE = Column("gone", "timestamp with time zone", "timestamp with time zone")
YES_OR_NO = Column("gone", "boolean", "boolean")
SOFT = SyncJob(ORDERS, ORDERS, deletes=Deletes.parse("soft:gone"))


def marked(column: Column) -> Facts:
    return facts(target_table=table(oid=2, columns=(ID, NOTE, column)))


@pytest.mark.parametrize(
    ("known", "job", "sentence"),
    [
        (
            facts(),
            SOFT,
            (
                "sales.orders has no column gone to mark deleted rows with:"
                " ALTER TABLE sales.orders ADD gone timestamptz;"
            ),
        ),
        (
            facts(),
            SyncJob(ORDERS, ORDERS, deletes=Deletes.parse("soft:Gone at")),
            (
                "sales.orders has no column Gone at to mark deleted rows with:"
                ' ALTER TABLE sales.orders ADD "Gone at" timestamptz;'
            ),
        ),
        (
            facts(table(columns=(ID, GONE)), table(oid=2, columns=(ID, GONE))),
            SOFT,
            "The mark of deleted rows, gone, is a column of the source too: name another, --deletes soft:COLUMN.",
        ),
        (
            facts(table(columns=(ID, GONE)), None),
            SOFT,
            "The mark of deleted rows, gone, is a column of the source too: name another, --deletes soft:COLUMN.",
        ),
        (
            marked(Column("gone", "date", "date")),
            SOFT,
            "Column gone of sales.orders is date; deleted rows are marked in a boolean or a timestamp.",
        ),
        (
            marked(Column("gone", "boolean[]", "boolean")),
            SOFT,
            "Column gone of sales.orders is boolean[]; deleted rows are marked in a boolean or a timestamp.",
        ),
        (
            marked(dataclasses.replace(YES_OR_NO, generated="s", default="false")),
            SOFT,
            "Column gone of sales.orders is generated, so nothing can be marked in it.",
        ),
        (
            marked(dataclasses.replace(GONE, not_null=True)),
            SOFT,
            "Column gone of sales.orders is NOT NULL, so it can't say that a row is not deleted: drop NOT NULL.",
        ),
    ],
)
def test_a_column_that_can_not_mark_deleted_rows_is_refused(known: Facts, job: SyncJob, sentence: str) -> None:
    assert refusals(known, job) == (sentence,)


@pytest.mark.parametrize(
    "column",
    [
        GONE,
        dataclasses.replace(GONE, type="timestamp without time zone", leaf="timestamp without time zone"),
        YES_OR_NO,
        dataclasses.replace(YES_OR_NO, not_null=True),  # false says it
    ],
)
def test_deleted_rows_are_marked_in_a_boolean_or_a_timestamp(column: Column) -> None:
    plan = plan_of(marked(column), SOFT)
    assert (plan.mark, plan.names) == ("gone", ("id", "note"))


def test_a_new_table_gets_the_mark() -> None:
    creation = plan_of(facts(target_table=None), SOFT).creation
    assert creation is not None
    assert creation.columns == (ID, NOTE, GONE)


def test_marks_need_no_right_to_delete() -> None:
    target = table(oid=2, columns=(ID, NOTE, GONE), privileges=frozenset({"SELECT", "INSERT", "UPDATE"}))
    assert plan_of(facts(target_table=target), SOFT).deletes


# --- each row once ---------------------------------------------------------------------------------------------------

APPEND = SyncJob(ORDERS, ORDERS, mode=Mode.APPEND)


def test_mode_append_asks_for_no_key_and_merges_by_none() -> None:
    always = dataclasses.replace(NOTE, identity="a")
    plan = plan_of(facts(table(keys=()), table(oid=2, columns=(ID, always), keys=())), APPEND)
    assert (plan.key.columns, plan.key_is_proven) == ((), True)


def test_mode_append_deletes_only_to_start_over() -> None:
    target = table(oid=2, privileges=frozenset({"SELECT", "INSERT", "UPDATE"}))
    known = facts(target_table=target, progress=Progress(target_is_empty=False))
    assert refusals(known, APPEND, Options(full_refresh=True)) == (
        "Role loader may not write the target: GRANT DELETE ON sales.orders TO loader;",
    )
    empty = facts(target_table=target, progress=Progress(target_is_empty=True))
    assert not plan_of(empty, APPEND).reading.starts_over


def test_mode_append_locks_in_a_mode_that_insert_alone_allows() -> None:
    known = facts(target_table=table(oid=2, privileges=frozenset({"SELECT", "INSERT"})))
    assert "ROW EXCLUSIVE" in dict(statements(plan_of(known, APPEND)))["lock (target)"]
    assert "SHARE ROW EXCLUSIVE" not in dict(statements(plan_of(known, APPEND)))["lock (target)"]


def test_the_reasons_of_a_reading_are_told_with_the_others() -> None:
    hidden = dataclasses.replace(SOURCE, system=None)
    target = table(oid=2, privileges=frozenset({"SELECT"}))
    told = refusals(facts(source=hidden, target_table=target), APPEND)
    assert told[0] == "Role loader may not write the target: GRANT INSERT ON sales.orders TO loader;"
    assert told[1].startswith("Mode append can't work: the source hides its system identifier")
    assert len(told) == 2


def test_every_reason_is_told_at_once() -> None:
    known = facts(
        dataclasses.replace(table(privileges=frozenset(), keys=()), row_security=True),
        None,
        source=dataclasses.replace(SOURCE, version=130000),
        target=dataclasses.replace(POOR, in_recovery=True),
        target_schema=NO_RIGHTS,
        control_schema=None,
        psql="no psql was found on PATH",
    )
    told = refusals(known, options=Options(lane=Lane.PSQL, staging=StagingKind.TEMPORARY))
    assert [sentence.split(" ")[0] for sentence in told] == [
        "The",  # version
        "The",  # standby
        "Row-level",
        "Role",  # SELECT
        "The",  # control schema
        "sales.orders",  # may not be created
        "sales.orders",  # no key
        "The",  # psql
        "Temporary",
    ]


def test_nothing_is_refused_where_nothing_is_wrong() -> None:
    assert plan_of(facts()).key == PRIMARY_ID
