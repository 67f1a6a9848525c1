"""Which columns are cursors, of which kind, and how their values are compared."""

from __future__ import annotations

import calendar
import itertools
import re

import pytest
from handmade import ID, ORDERS, table
from psycopg import sql

from pgsluice.cursors import CURSOR_TYPES, Cursor, fit
from pgsluice.errors import CursorError, UsageError
from pgsluice.facts import Column

VALUE = sql.SQL("v.x").format()
TRUE = sql.SQL("TRUE").format()


def column(type_: str, base: str = "") -> Column:
    """Return a column called c; a type with a modifier or brackets has a leaf without them."""
    return Column("c", type_, re.sub(r"\(.*?\)|\[\]", "", type_), base=base, kind="d" if base else "b")


def cursor(type_: str, named: str | None = None, base: str = "") -> Cursor:
    return fit(table(columns=(ID, column(type_, base))), "c", named)


def text(statement: sql.Composable | None) -> str:
    assert statement is not None
    return statement.as_string(None)


# --- which kind ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("timestamp with time zone", "timestamptz"),
        ("timestamp(3) without time zone", "timestamp"),
        ("date", "date"),
        ("smallint", "integer"),
        ("integer", "integer"),
        ("bigint", "integer"),
        ("numeric(38,0)", "integer"),
        ("text", "text"),
        ("character varying(8)", "text"),
        ("character(8)", "text"),
        ("uuid", "uuid"),
    ],
)
def test_the_kind_is_found_from_the_catalog(type_: str, kind: str) -> None:
    assert cursor(type_).kind is CURSOR_TYPES[kind]


def test_a_domain_is_what_it_is_made_of() -> None:
    moved = cursor("shop.moved_at", base="timestamp with time zone")
    assert (moved.type, moved.kind.name, moved.column_type) == (
        "timestamp with time zone",
        "timestamptz",
        "shop.moved_at",
    )
    assert text(moved.literal("x")) == "'x'::timestamp with time zone"


#: All that a column of each type may be read as; the first is the one found from the catalog.
KINDS = {
    "timestamp with time zone": ["timestamptz", "timestamp"],
    "timestamp without time zone": ["timestamp"],
    "date": ["date"],
    "smallint": ["integer", "bigint", "numeric", "yyyymmdd"],
    "bigint": ["integer", "bigint", "numeric", "yyyymmdd"],
    "numeric": ["integer", "bigint", "numeric"],
    "text": ["text", "yyyymmdd"],
    "character": ["text", "yyyymmdd"],
    "uuid": ["uuid"],
    "boolean": [],
    "interval": [],
    "time without time zone": [],
    "double precision": [],  # NaN and rounding
    "jsonb": [],
}


@pytest.mark.parametrize(("type_", "named"), [*itertools.product(KINDS, CURSOR_TYPES)])
def test_a_kind_is_taken_where_it_fits_and_refused_by_name_elsewhere(type_: str, named: str) -> None:
    if named in KINDS[type_]:
        assert cursor(type_, named).kind.name == named
        return
    with pytest.raises(CursorError) as caught:
        cursor(type_, named)
    assert caught.value.message == f"column c of sales.orders is {type_}, which is not read as {named}"


@pytest.mark.parametrize("type_", [type_ for type_, kinds in KINDS.items() if not kinds] + ["bigint[]", "text[]"])
def test_what_can_not_be_a_cursor_is_refused_with_the_kinds_there_are(type_: str) -> None:
    with pytest.raises(CursorError) as caught:
        cursor(type_)
    assert caught.value.message == f"column c of {ORDERS} is {type_}, which can't be a cursor"
    assert caught.value.hint == (
        "Cursors are timestamptz, timestamp, date, integer, bigint, numeric, text, uuid, yyyymmdd."
    )


def test_an_array_is_no_cursor_though_its_elements_were() -> None:
    with pytest.raises(CursorError, match=r"is bigint\[\], which is not read as bigint"):
        cursor("bigint[]", "bigint")


def test_no_such_column_and_no_such_kind_are_told_with_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        fit(table(), "moved", None)
    assert (caught.value.message, caught.value.hint) == ("sales.orders has no column moved", "It has id, note.")
    with pytest.raises(UsageError) as caught:
        cursor("bigint", "epoch")
    assert caught.value.message == "'epoch' is no type of cursor for c"
    assert "yyyymmdd" in caught.value.hint


# --- how they are compared -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "named", "comparison"),
    [
        ("timestamp(3) with time zone", None, "\"c\" OPERATOR(pg_catalog.>=) 'x'::timestamp with time zone"),
        ("timestamp without time zone", None, "\"c\" OPERATOR(pg_catalog.>=) 'x'::timestamp without time zone"),
        ("date", None, "\"c\" OPERATOR(pg_catalog.>=) 'x'::date"),
        ("smallint", None, "\"c\" OPERATOR(pg_catalog.>=) 'x'::smallint"),
        ("bigint", "yyyymmdd", "\"c\" OPERATOR(pg_catalog.>=) 'x'::bigint"),
        ("numeric(38,0)", None, "\"c\" OPERATOR(pg_catalog.>=) 'x'::numeric"),  # no modifier: it would round
        ("uuid", None, "\"c\" OPERATOR(pg_catalog.>=) 'x'::uuid"),
        # by bytes, and never cut to a length
        ("text", None, '"c" COLLATE pg_catalog."C" OPERATOR(pg_catalog.>=) \'x\'::text'),
        ("character varying(8)", "yyyymmdd", '"c" COLLATE pg_catalog."C" OPERATOR(pg_catalog.>=) \'x\'::text'),
        ("character(8)", None, '"c" COLLATE pg_catalog."C" OPERATOR(pg_catalog.>=) \'x\'::text'),
    ],
)
def test_a_value_is_compared_as_its_columns_type(type_: str, named: str | None, comparison: str) -> None:
    assert text(cursor(type_, named).at_least("x")) == comparison


@pytest.mark.parametrize(
    ("type_", "named", "value", "back", "moved"),
    [
        # a smallint less a numeric is a smallint no more, and a bigint may end
        (
            "smallint",
            None,
            "5",
            "1000",
            "GREATEST('5'::numeric OPERATOR(pg_catalog.-) '1000'::numeric, -9223372036854775808)::bigint",
        ),
        (
            "bigint",
            "numeric",
            "5",
            "9",
            "GREATEST('5'::numeric OPERATOR(pg_catalog.-) '9'::numeric, -9223372036854775808)::bigint",
        ),
        ("numeric", None, "5", "0.5", "('5'::numeric OPERATOR(pg_catalog.-) '0.5'::numeric)"),
        (
            "date",
            None,
            "2024-01-01",
            "2h",
            (
                "(CASE WHEN '2024-01-01'::date OPERATOR(pg_catalog.<) '4000-01-01 BC' THEN '-infinity'"
                " ELSE '2024-01-01'::date OPERATOR(pg_catalog.-) '2h'::interval END)::date"
            ),
        ),
        (
            "text",
            "yyyymmdd",
            "20240301",
            "2 days",
            "pg_catalog.to_char(pg_catalog.to_date('20240301', 'YYYYMMDD') OPERATOR(pg_catalog.-) '2 days'::interval, 'YYYYMMDD')::text",
        ),
        (
            "integer",
            "yyyymmdd",
            "20240301",
            "2 days",
            "pg_catalog.to_char(pg_catalog.to_date('20240301', 'YYYYMMDD') OPERATOR(pg_catalog.-) '2 days'::interval, 'YYYYMMDD')::integer",
        ),
    ],
)
def test_what_is_gone_back_stays_within_the_type(
    type_: str, named: str | None, value: str, back: str, moved: str
) -> None:
    column, compared = text(cursor(type_, named).at_least(value, back)).split(" OPERATOR(pg_catalog.>=) ")
    assert column.startswith('"c"')
    assert compared == moved


@pytest.mark.parametrize(
    ("type_", "staged", "compared"),
    [
        ("bigint", column("bigint"), '"c"'),
        ("date", column("timestamp without time zone"), '"c"::date'),
        ("integer", column("numeric(12,2)"), '"c"::integer'),
        ("character varying(8)", column("text"), '"c"::text COLLATE pg_catalog."C"'),
        ("character(8)", column("text"), 'pg_catalog.rtrim("c"::text::text) COLLATE pg_catalog."C"'),
        ("bigint", column("lake.number", base="bigint"), '"c"'),
    ],
)
def test_a_wider_column_is_compared_as_the_sources_own(type_: str, staged: Column, compared: str) -> None:
    assert text(cursor(type_).as_staged(staged)) == compared


def test_the_highest_uuid_is_found_as_text_for_there_was_no_max_of_it() -> None:
    assert text(cursor("uuid").highest(VALUE, TRUE)) == (
        '(pg_catalog.max(v.x::text COLLATE pg_catalog."C") FILTER (WHERE TRUE))::uuid'
    )
    assert text(cursor("bigint").highest(VALUE, TRUE)) == "pg_catalog.max(v.x) FILTER (WHERE TRUE)"


# --- days as digits --------------------------------------------------------------------------------------------------


def test_days_are_told_from_other_digits_by_the_calendar() -> None:
    condition = text(cursor("integer", "yyyymmdd").misfit)
    pattern = re.compile(condition.split("'")[1])
    assert condition == f"\"c\"::text OPERATOR(pg_catalog.!~) '{pattern.pattern}'"
    years = (1, 4, 100, 400, 1900, 1996, 2000, 2023, 2024, 2100, 9999)
    days = {
        f"{year:04}{month:02}{day:02}"
        for year, month in itertools.product(years, range(1, 13))
        for day in range(1, calendar.monthrange(year, month)[1] + 1)
    }
    digits = {f"{year:04}{rest:04}" for year, rest in itertools.product(years, range(10_000))}
    assert {each for each in digits if pattern.search(each)} == days


@pytest.mark.parametrize("odd", ["2024-01-01", "2024011", "020240101", " 20240101", "20240101 ", "2024010a", ""])
def test_what_is_no_day_is_a_misfit(odd: str) -> None:
    pattern = text(cursor("text", "yyyymmdd").misfit).split("'")[1]
    assert not re.search(pattern.replace("$", r"\Z"), odd)


@pytest.mark.parametrize("type_", ["bigint", "text", "date", "uuid"])
def test_other_kinds_leave_it_to_the_type(type_: str) -> None:
    assert cursor(type_).misfit is None
