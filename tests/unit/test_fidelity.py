"""Which types lose nothing on the way to which, and which may travel in binary. Both directions of each pair."""

from __future__ import annotations

import re

import pytest
from handmade import enum

from pgsluice.facts import Column, Dependency
from pgsluice.fidelity import binary_obstacle, lacks_equality, loss

TIMESTAMP = "timestamp without time zone"
TIMESTAMPTZ = "timestamp with time zone"
MOOD = enum("s", "mood", "sad", "ok", "happy")


def column(type_: str, *, kind: str = "b", dependencies: tuple[Dependency, ...] = ()) -> Column:
    leaf = re.sub(r"\([^)]*\)", "", type_).removesuffix("[]")
    return Column("c", type_, leaf, kind=dependencies[-1].kind if dependencies else kind, dependencies=dependencies)


def survives(source: str, target: str) -> bool:
    return loss(column(source), column(target)) is None


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("smallint", "integer"),
        ("smallint", "bigint"),
        ("integer", "bigint"),
        ("integer[]", "bigint[]"),
        ("bigint", "numeric"),
        ("smallint", "numeric(5,0)"),
        ("integer", "numeric(12,2)"),
        ("bigint", "numeric(19,0)"),
        ("numeric(10,2)", "numeric"),
        ("numeric(10,2)", "numeric(12,2)"),
        ("numeric(10,2)", "numeric(12,4)"),
        ("numeric(10,2)[]", "numeric(12,2)[]"),
        ("numeric(5,-2)", "numeric(7,0)"),
        ("numeric(3,5)", "numeric(5,5)"),
        ("character varying(10)", "character varying(20)"),
        ("character varying(10)", "character varying"),
        ("character varying(10)", "text"),
        ("character varying(10)[]", "character varying(20)[]"),
        ("bit varying(5)", "bit varying(6)"),
        ("bit varying(5)", "bit varying"),
        ("timestamp(3) without time zone", TIMESTAMP),
        ("timestamp(3) with time zone", "timestamp(6) with time zone"),
        ("time(0) without time zone", "time(3) without time zone"),
        ("interval(3)", "interval"),
        ("date", TIMESTAMP),  # years after 294276 do not pass, but not without an error either
        ("cidr", "inet"),
        ("integer", "text"),
        ("integer[]", "text"),
        ("character(5)", "text"),
        ("s.point3d", "text"),
        ("jsonb", "character varying"),
    ],
)
def test_the_wide_type_takes_every_value_of_the_narrow_one_and_not_the_other_way(narrow: str, wide: str) -> None:
    assert (survives(narrow, wide), survives(wide, narrow)) == (True, False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TIMESTAMP, "timestamp(6) without time zone"),
        (TIMESTAMPTZ, "timestamp(6) with time zone"),
        ("interval", "interval(6)"),
        ("text", "character varying"),
        ("integer", "integer"),
        ("s.point3d", "s.point3d"),
        ("character(5)", "character(5)"),
        ("numeric(10,2)[]", "numeric(10,2)[]"),
    ],
)
def test_types_of_the_same_values_go_both_ways(one: str, other: str) -> None:
    assert (survives(one, other), survives(other, one)) == (True, True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TIMESTAMP, TIMESTAMPTZ),  # the same digits, another instant
        ("time without time zone", "time with time zone"),
        ("interval day to second(3)", "interval year to month"),
        ("real", "double precision"),  # 0.1 through text is another number than 0.1 widened
        ("integer", "real"),
        ("bigint", "double precision"),
        ("numeric(10,2)", "numeric(10,4)"),  # eight digits before the point, or six
        ("bigint", "numeric(20,2)"),
        ("bigint", "money"),
        ("integer", "oid"),
        ("boolean", "integer"),
        ("character(5)", "character(6)"),  # the padding is part of the image
        ("bit(5)", "bit(6)"),
        ("integer", "integer[]"),
        ("box[]", "text[]"),  # boxes stand between semicolons
        ("s.point3d", "r.point3d"),
        ('s."a(1)"', 's."a(2)"'),
        ('s."numeric"', "numeric"),
    ],
)
def test_types_that_differ_in_what_they_hold_go_neither_way(one: str, other: str) -> None:
    assert (survives(one, other), survives(other, one)) == (False, False)


@pytest.mark.parametrize(
    "target", ["uuid", "name", "bytea", "character varying(100)", "text[]", "integer", "s.point3d"]
)
def test_text_goes_nowhere_but_into_text(target: str) -> None:
    assert not survives("text", target)
    assert survives(target, "text")


def test_json_loses_blanks_and_double_keys_as_jsonb() -> None:
    assert not survives("json", "jsonb")


@pytest.mark.parametrize("source", ["character varying(10)[]", "character varying[]"])
def test_an_array_of_varchar_goes_into_an_array_of_text(source: str) -> None:
    assert survives(source, "text[]")


def test_a_loss_is_told_by_column_and_both_types() -> None:
    assert loss(column("bigint"), column("integer")) == (
        "c is bigint on the source and integer on the target, which may not hold every value:"
        " alter the target's column to bigint"
    )


# --- enums -----------------------------------------------------------------------------------------------------------


def mood(*labels: str, type_: str = "s.mood") -> Column:
    return column(type_, dependencies=enum("s", "mood", *labels))


@pytest.mark.parametrize(
    ("source", "target", "lost"),
    [
        (mood("a", "b"), mood("a", "b"), None),
        (mood("a"), mood("a", "b"), None),
        (mood("a", "b"), mood("b", "a", type_="r.temper"), None),
        (mood("a", "b", "it's"), mood("a"), "c: the target's s.mood lacks 'b', \"it's\": add the label there"),
        (mood("a", type_="s.mood[]"), mood("a", type_="r.mood[]"), None),
        (mood("a"), column("text"), None),
        (mood("a", type_="s.mood[]"), column("text"), None),
    ],
)
def test_an_enum_survives_where_the_target_has_its_labels(source: Column, target: Column, lost: str | None) -> None:
    assert loss(source, target) == lost


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (column("text"), mood("a")),
        (mood("a", type_="s.mood[]"), mood("a")),  # '{a}' is no label
        (mood("a"), mood("a", type_="s.mood[]")),
    ],
)
def test_what_an_enum_can_not_spell_is_refused(source: Column, target: Column) -> None:
    assert loss(source, target) is not None


# --- binary ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "type_",
    [
        "bigint", "integer[]", "numeric(10,2)", "character varying(10)[]", "character(3)", "text", "bytea", "boolean",
        "uuid", "json", "jsonb", "date", TIMESTAMP, TIMESTAMPTZ, "timestamp(3) with time zone", "double precision",
        "inet", "cidr", "macaddr8", "bit(3)", "name", '"char"',
    ],
)  # fmt: skip
def test_core_types_travel_in_binary(type_: str) -> None:
    assert binary_obstacle(column(type_)) is None


@pytest.mark.parametrize(
    "type_",
    [
        "oid",
        "regclass",
        "money",
        "interval",
        "xml",
        "tsvector",
        "point",
        "int4range",
        "public.citext",
        "public.ltree[]",
    ],
)
def test_a_type_that_is_not_proven_travels_as_text(type_: str) -> None:
    assert binary_obstacle(column(type_)) == f"c is {type_}, not proven safe in binary"


@pytest.mark.parametrize("kind", ["d", "c", "r", "m"])
def test_domains_composites_and_ranges_travel_as_text(kind: str) -> None:
    assert binary_obstacle(column("s.x", kind=kind)) == "c is s.x, checked by the target only as text"


@pytest.mark.parametrize("type_", ["s.mood", "s.mood[]"])
def test_an_enum_travels_in_binary_for_its_form_is_its_label(type_: str) -> None:
    assert binary_obstacle(column(type_, dependencies=MOOD)) is None


# --- equality --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "type_",
    ["json", "json[]", "xml", "point", "polygon", "box", "circle", "path", "jsonpath", "pg_snapshot", "refcursor"],
)
def test_a_type_without_equality_can_not_identify_a_row(type_: str) -> None:
    assert lacks_equality(column(type_))


@pytest.mark.parametrize("type_", ["bigint", "text", "jsonb", "uuid", "tsvector", "inet", "public.citext", "numeric[]"])
def test_a_type_with_equality_can(type_: str) -> None:
    assert not lacks_equality(column(type_))
