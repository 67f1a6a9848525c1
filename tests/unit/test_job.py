"""What a user asks for: names of tables, the limit for deletes, selections."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgsluice.errors import TableNameError, UsageError
from pgsluice.job import Mode, QuerySource, Selection, SyncJob, TablePattern, TableRef, Treatment, known_as, requested
from pgsluice.policies import DeletePolicy, Deletes, Drift, LatePolicy, LateRows, MaxDelete
from pgsluice.shape import Shape

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@pytest.mark.parametrize(
    ("text", "schema", "name"),
    [
        ("sales.orders", "sales", "orders"),
        ("  sales.orders\n", "sales", "orders"),
        ("Sales.Orders", "Sales", "Orders"),
        ('"my.schema"."t 1"', "my.schema", "t 1"),
        ('sales."a""b"', "sales", 'a"b'),
        ('""""."."', '"', "."),
        ("판매.주문내역", "판매", "주문내역"),
        ('"판매.2024".주문', "판매.2024", "주문"),
        ("s.t%{}<script>", "s", "t%{}<script>"),
    ],
)
def test_a_name_is_read_as_the_catalog_spells_it(text: str, schema: str, name: str) -> None:
    assert TableRef.parse(text) == TableRef(schema, name)


@pytest.mark.parametrize(
    "text", ["", "  ", ".", "a.", ".b", "a..b", '"".b', 'a."b', 'a"b.c', '"a"b.c', '"a" . "b"', 'a."b"c']
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(TableNameError):
        TableRef.parse(text)


def test_one_part_is_told_to_name_its_schema() -> None:
    with pytest.raises(TableNameError) as caught:
        TableRef.parse("orders")
    assert caught.value.message == "'orders' lacks a schema"
    assert caught.value.hint == "Write schema.table, for example public.orders."


def test_three_parts_are_told_where_the_database_belongs() -> None:
    with pytest.raises(TableNameError) as caught:
        TableRef.parse("shop.sales.orders")
    assert caught.value.message == "'shop.sales.orders' has 3 parts; a table is named schema.table"
    assert "--source" in caught.value.hint


@given(NAMES, NAMES)
@example('"', '""')
@example(" ", "\u3000")
@example("\x1c", "a\nb")
def test_every_name_is_read_back_from_how_it_is_shown(schema: str, name: str) -> None:
    ref = TableRef(schema, name)
    assert TableRef.parse(str(ref)) == ref


@pytest.mark.parametrize("sql", ["SELECT 1", " SELECT 1 ;\n", "SELECT 1;"])
def test_a_query_loses_one_closing_semicolon(sql: str) -> None:
    assert QuerySource.parse(sql).sql == "SELECT 1"


# --- the limit for deletes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("10%", MaxDelete(share=0.1)),
        (" 2.5 % ", MaxDelete(share=0.025)),
        ("0%", MaxDelete(share=0.0)),
        ("100%", MaxDelete(share=1.0)),
        ("5000", MaxDelete(share=None, rows=5000)),
        ("0", MaxDelete(share=None, rows=0)),
    ],
)
def test_a_limit_is_a_share_or_a_number_of_rows(text: str, limit: MaxDelete) -> None:
    assert MaxDelete.parse(text) == limit


@pytest.mark.parametrize("text", ["", "%", "-1", "-1%", "101%", "nan%", "inf%", "1.5", "ten", "10%%"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a limit for deletes"):
        MaxDelete.parse(text)


@pytest.mark.parametrize("text", ["10%", "2.5%", "0%", "100%", "5000", "0"])
def test_a_limit_is_read_back_from_how_it_is_shown(text: str) -> None:
    assert str(MaxDelete.parse(text)) == text


@pytest.mark.parametrize(
    ("gone", "total", "staged", "allowed"),
    [
        (0, 0, 0, True),
        (0, 1000, 0, True),
        (10, 100, 90, True),
        (11, 100, 89, False),
        (100, 1000, 900, True),
        (101, 1000, 899, False),
        (98, 99, 1, True),  # a share says nothing about a handful of rows
        (99, 99, 5, True),
        (99, 99, 0, False),  # but an empty source is a doubt at any size
        (1, 1, 0, False),
        (1000, 1000, 0, False),
    ],
)
def test_by_default_a_tenth_may_go(gone: int, total: int, staged: int, allowed: bool) -> None:
    assert MaxDelete().allows(gone, total, staged) is allowed


@pytest.mark.parametrize(
    ("limit", "gone", "total", "staged", "allowed"),
    [
        ("5", 5, 10, 5, True),
        ("5", 6, 10, 4, False),
        ("5", 5, 5, 0, True),
        ("0", 1, 10, 9, False),
        ("100%", 1000, 1000, 0, True),
        ("100%", 10, 10, 0, True),
        ("0%", 1, 1000, 999, False),
        ("0%", 1, 10, 9, False),
    ],
)
def test_a_limit_of_the_users_own_is_kept_to(limit: str, gone: int, total: int, staged: int, allowed: bool) -> None:
    assert MaxDelete.parse(limit).allows(gone, total, staged) is allowed


@pytest.mark.parametrize("total", [100, 300, 1000, 12_300])
def test_a_share_allows_exactly_its_own_and_not_a_row_more(total: int) -> None:
    percents = range(1, 100)
    just = {percent for percent in percents if MaxDelete.parse(f"{percent}%").allows(percent * total // 100, total, 1)}
    more = {p for p in percents if MaxDelete.parse(f"{p}%").allows(p * total // 100 + 1, total, 1)}
    assert (set(percents) - just, more) == (set(), set())


# --- selections ------------------------------------------------------------------------------------------------------


def targets(to: str, *found: TableRef) -> list[TableRef]:
    return [job.target for job in Selection(("*.*",), to).jobs(found)]


def test_without_a_template_the_target_is_named_like_the_source() -> None:
    odd = TableRef("a.b", 'c"d')
    assert targets("{schema}.{table}", odd) == [odd]


def test_what_was_asked_for_goes_into_every_job() -> None:
    selection = Selection(("s.*",), mode=Mode.UPSERT, where="x > 1", key=("a", "b"))
    ref = TableRef("s", "t")
    assert selection.jobs([ref]) == (SyncJob(ref, ref, mode=Mode.UPSERT, where="x > 1", key=("a", "b")),)


@pytest.mark.parametrize(
    ("to", "source", "target"),
    [
        ("raw.{table}", TableRef("s", "t"), TableRef("raw", "t")),
        ("raw.{schema}_{table}", TableRef("s", "t"), TableRef("raw", "s_t")),
        ("raw.{table}", TableRef("s", "a.b"), TableRef("raw", "a.b")),
        ("raw.{schema}_{table}", TableRef("{table}", "{schema}"), TableRef("raw", "{table}_{schema}")),
        ("raw.{table}", TableRef("s", "{x}{}%s"), TableRef("raw", "{x}{}%s")),
        ('"a.b"."{table} {{x"', TableRef("s", "t"), TableRef("a.b", "t {{x")),
    ],
)
def test_a_template_takes_names_as_they_are(to: str, source: TableRef, target: TableRef) -> None:
    assert targets(to, source) == [target]


def test_two_sources_into_one_target_are_refused_by_name() -> None:
    with pytest.raises(UsageError) as caught:
        targets("raw.{table}", TableRef("eu", "t"), TableRef("eu", "u"), TableRef("us", "t"))
    assert caught.value.message == "eu.t and us.t would both be written to raw.t"
    assert caught.value.hint == "Use {schema} or {table} in --to, for example --to 'raw.{schema}_{table}'."


def test_a_template_without_a_schema_is_refused() -> None:
    with pytest.raises(TableNameError):
        targets("{table}", TableRef("s", "t"))


# --- rows that commit late, rows that are gone -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows", "shown"),
    [
        ("auto", LateRows(), "auto"),
        (" scan ", LateRows(LatePolicy.SCAN), "scan"),
        ("horizon", LateRows(LatePolicy.HORIZON), "horizon"),
        ("trust", LateRows(LatePolicy.TRUST), "trust"),
        ("overlap: 2 hours ", LateRows(LatePolicy.OVERLAP, "2 hours"), "overlap:2 hours"),
        ("overlap:01:30:00", LateRows(LatePolicy.OVERLAP, "01:30:00"), "overlap:01:30:00"),
    ],
)
def test_a_policy_for_late_rows_is_read_and_shown_as_it_is_written(text: str, rows: LateRows, shown: str) -> None:
    assert LateRows.parse(text) == rows
    assert str(rows) == shown


@pytest.mark.parametrize(
    "text", ["", "Scan", "scan:", "scan:5", "trust:2h", "overlap", "overlap:", "overlap: ", "2h", ":"]
)
def test_what_says_nothing_about_late_rows_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        LateRows.parse(text)
    assert caught.value.message == f"{text!r} says nothing about late rows"
    assert "overlap:2h" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "deletes", "shown"),
    [
        ("keep", Deletes(), "keep"),
        ("sweep", Deletes(DeletePolicy.SWEEP), "sweep"),
        ("soft", Deletes(DeletePolicy.SOFT, "_deleted_at"), "soft:_deleted_at"),
        ("soft:Gone at: 100%", Deletes(DeletePolicy.SOFT, "Gone at: 100%"), "soft:Gone at: 100%"),
    ],
)
def test_what_becomes_of_deletes_is_read_and_shown_as_it_is_written(text: str, deletes: Deletes, shown: str) -> None:
    assert Deletes.parse(text) == deletes
    assert str(deletes) == shown


@pytest.mark.parametrize("text", ["", "Keep", "keep:", "keep:x", "sweep:x", "soft:", "hard", ":"])
def test_what_is_nothing_to_do_with_deletes_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Deletes.parse(text)
    assert caught.value.message == f"{text!r} is nothing to do with deletes"
    assert caught.value.hint == "Write keep, sweep, soft or soft:COLUMN."


# --- what goes together ----------------------------------------------------------------------------------------------

SOFT = Deletes.parse("soft:gone")
OVERLAP = LateRows.parse("overlap:2h")


@pytest.mark.parametrize(
    ("mode", "deletes", "becomes"),
    [
        (Mode.FULL, None, DeletePolicy.SWEEP),
        (Mode.UPSERT, None, DeletePolicy.KEEP),
        (Mode.INCREMENTAL, None, DeletePolicy.KEEP),
        (Mode.XMIN, None, DeletePolicy.KEEP),
        (Mode.APPEND, None, DeletePolicy.KEEP),
        (Mode.FULL, Deletes(), DeletePolicy.KEEP),
        (Mode.UPSERT, SOFT, DeletePolicy.SOFT),
    ],
)
def test_deletes_are_as_asked_or_the_modes_own_way(mode: Mode, deletes: Deletes | None, becomes: DeletePolicy) -> None:
    assert Treatment(mode=mode, deletes=deletes).deletion.policy is becomes


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"mode": Mode.INCREMENTAL}, "mode incremental needs a cursor column"),
        ({"mode": Mode.INCREMENTAL, "cursor": ""}, "mode incremental needs a cursor column"),
        ({"mode": Mode.XMIN, "cursor": "at"}, "a cursor belongs to mode incremental, not to xmin"),
        ({"cursor_type": "date"}, "a cursor type belongs to mode incremental, not to full"),
        (
            {"mode": Mode.APPEND, "late_rows": OVERLAP},
            "a policy for late rows belongs to mode incremental, not to append",
        ),
        (
            {"mode": Mode.UPSERT, "late_within": "7d"},
            "a span for late rows belongs to mode incremental, not to upsert",
        ),
        ({"since": "2024-01-01"}, "a value to read from (since) belongs to mode incremental, not to full"),
        ({"until": "2024-01-01"}, "a value to read up to (until) belongs to mode incremental, not to full"),
        (
            {"mode": Mode.INCREMENTAL, "cursor": "at", "late_within": "7d", "late_rows": OVERLAP},
            "a span for late rows limits their scan, and overlap:2h does none",
        ),
        (
            {"mode": Mode.APPEND, "deletes": Deletes.parse("sweep")},
            "mode append knows no key, so it can't tell which rows are gone",
        ),
        ({"mode": Mode.APPEND, "deletes": SOFT}, "mode append knows no key, so it can't tell which rows are gone"),
        ({"mode": Mode.APPEND, "key": ("id",)}, "mode append takes no key: each row arrives once"),
    ],
)
def test_what_does_not_go_together_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Treatment(**asked).check()
    assert caught.value.message == message


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"mode": Mode.UPSERT, "key": ("id",), "where": "x > 1", "deletes": SOFT},
        {"mode": Mode.INCREMENTAL, "cursor": "at", "late_within": "7d"},
        {"mode": Mode.INCREMENTAL, "cursor": "at", "late_rows": LateRows.parse("scan"), "late_within": "7d"},
        {"mode": Mode.INCREMENTAL, "cursor": "at", "since": "2024-01-01", "late_rows": OVERLAP, "deletes": SOFT},
        {"mode": Mode.XMIN, "deletes": Deletes.parse("sweep"), "key": ("id",)},
        {"mode": Mode.APPEND, "where": "x > 1", "deletes": Deletes()},
    ],
)
def test_what_goes_together_is_taken(asked: dict[str, Any]) -> None:
    Treatment(**asked).check()


@pytest.mark.parametrize(
    "asked",
    [
        {"deletes": Deletes(DeletePolicy.SOFT)},  # would delete
        {"mode": Mode.INCREMENTAL, "cursor": "at", "late_rows": LateRows(LatePolicy.OVERLAP)},  # would trust
    ],
)
def test_half_of_a_policy_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Treatment(**asked).check()


# --- what is asked for -----------------------------------------------------------------------------------------------

TREATED = Treatment(mode=Mode.UPSERT, where="x > 1", key=("id",), deletes=SOFT)


def test_tables_are_asked_for_by_name_or_pattern() -> None:
    asked = requested(["s.t", "s.u*"], None, "raw.{table}", TREATED)
    assert asked == Selection(
        ("s.t", "s.u*"), "raw.{table}", mode=Mode.UPSERT, where="x > 1", key=("id",), deletes=SOFT
    )


def test_a_query_is_asked_for_with_the_name_of_its_target() -> None:
    asked = requested((), "SELECT 1 AS id;\n", "raw.ones", TREATED)
    job = SyncJob(
        QuerySource("SELECT 1 AS id"),
        TableRef("raw", "ones"),
        mode=Mode.UPSERT,
        where="x > 1",
        key=("id",),
        deletes=SOFT,
    )
    assert asked == (job,)


def test_every_setting_of_a_treatment_reaches_the_job() -> None:
    full = Treatment(
        mode=Mode.INCREMENTAL,
        where="x > 1",
        key=("id",),
        cursor="at",
        cursor_type="date",
        late_rows=OVERLAP,
        late_within="7d",
        deletes=SOFT,
        since="2024-01-01",
        until="2024-02-01",
        from_target=True,
        drift=Drift.WIDEN,
        shape=Shape(exclude=("x",)),
    )
    unset = Treatment().treatment()
    assert not [name for name, value in full.treatment().items() if value == unset[name]], "one is not tried here"
    (asked,) = Selection(("s.*",), **full.treatment()).jobs([TableRef("s", "t")])
    assert asked.treatment() == full.treatment()


@pytest.mark.parametrize(
    ("tables", "query", "to", "message"),
    [
        ([], None, "{schema}.{table}", "nothing to copy was named"),
        (["s.t"], "SELECT 1", "raw.t", "tables and a query were both given"),
        ([], "SELECT 1", "{schema}.{table}", "a query needs a name for its target"),
        ([], "SELECT 1", "raw.{x}", "a query needs a name for its target"),
    ],
)
def test_neither_or_both_or_a_query_without_a_name_is_refused(
    tables: list[str], query: str | None, to: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        requested(tables, query, to, TREATED)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("sql", "alone"),
    [
        ("SELECT 1; -- done", "SELECT 1"),
        ("SELECT 1 /* a;b */ ;\n/* c */", "SELECT 1 /* a;b */"),
        ("SELECT ';' -- one; two", "SELECT ';' -- one; two"),
        ("SELECT $x$;$x$, E'\\';', \";\"", "SELECT $x$;$x$, E'\\';', \";\""),
        ("SELECT 1; SELECT 2;", "SELECT 1; SELECT 2"),  # the server refuses the second
    ],
)
def test_a_semicolon_closes_a_query_only_where_no_more_follows(sql: str, alone: str) -> None:
    assert QuerySource.parse(sql).sql == alone


@pytest.mark.parametrize(
    ("text", "schema", "name", "is_meant"),
    [
        ("m.*", "m", "*", True),
        ("m.*", "m", "orders", True),
        ("m.*", "n", "orders", False),
        ('m."*"', "m", "*", True),
        ('m."*"', "m", "orders", False),
        ('"*".*', "*", "orders", True),
        ('"*".*', "m", "orders", False),
        ('*."?"', "m", "?", True),
        ('*."?"', "m", "a", False),
        ("m.a?", "m", "ab", True),
        ("m.[ab]", "m", "a", True),
        ("m.[ab]", "m", "[ab]", False),
        ('m."[ab]"', "m", "[ab]", True),
        ('m."[ab]"', "m", "a", False),
        ('m."a""*"', "m", 'a"*', True),
        ('m."a""*"', "m", 'a"b', False),
        ("m.t*", "m", "t\n1", True),
    ],
)
def test_a_pattern_is_a_pattern_and_what_is_quoted_is_a_name(text: str, schema: str, name: str, is_meant: bool) -> None:
    assert TablePattern.parse(text).matches(TableRef(schema, name)) is is_meant


@given(NAMES, NAMES)
@example("*", "?")
@example("[a]", '"*"')
@example(" *", "a\n[")
def test_a_typed_name_means_that_table_alone(schema: str, name: str) -> None:
    pattern = TablePattern.parse(TableRef(schema, name).typed)
    assert (pattern.is_glob, pattern.ref) == (False, TableRef(schema, name))
    assert pattern.matches(TableRef(schema, name))
    assert TableRef.parse(TableRef(schema, name).typed) == TableRef(schema, name)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ('m."*"', "m.*"),
        ('"m"."a[1]"', "m.a[1]"),
        ('m."a b"', 'm."a b"'),
        ("m.t", "m.t"),
        ("0f3a", "0f3a"),
        ("(query)", "(query)"),
    ],
)
def test_a_table_is_known_by_one_name_however_it_is_quoted(text: str, known: str) -> None:
    assert known_as(text) == known
