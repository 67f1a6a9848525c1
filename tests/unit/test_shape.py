"""The shape of a job's rows: how it is written, what it makes of a table, and all that is wrong with it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from handmade import EQUALS, ORDERS, PRIMARY_ID, facts, plan_of, primary, refusals, table
from handmade import ID as KEY

from pgsluice import keys, plan, shaping, sqltext
from pgsluice.errors import UsageError
from pgsluice.facts import Column, Equality, Facts, Key, Origin, TableInfo
from pgsluice.job import SyncJob
from pgsluice.policies import Drift
from pgsluice.shape import SNAPSHOT_TIME, Constant, Mask, Masking, Shape, shape_of

CLOCK = "2024-05-06 07:08:09+00"
NOTE = Column("note", "text", "text", not_null=True, default="'x'::text", comment="said")
AMOUNT = Column("amount", "numeric(10,2)", "numeric")
DOUBLE = Column("double", "numeric", "numeric", generated="s", default="(amount * 2)")
TYPES = {
    "text": Column("", "text", "text"),
    "int8": Column("", "bigint", "bigint"),
    "citext": Column("", "public.citext", "public.citext", equality=Equality("public")),
    "timestamptz": Column("", "timestamp with time zone", "timestamp with time zone"),
}
SOURCE = table(
    columns=(KEY, NOTE, AMOUNT, DOUBLE),
    keys=(primary("id"), Key("u", ("note",), (EQUALS,), primary=False, not_null=True)),
)
JOB = SyncJob(ORDERS, ORDERS)
MINE = Constant("_source", "mine")


def read(shape: Shape) -> TableInfo:
    return shaping.shaped(SOURCE, shape, TYPES, CLOCK)


def asked(shape: Shape) -> list[str]:
    """Return what the source is asked for, column by column."""
    return [sqltext.selection([column.name], [column.origin]).as_string(None) for column in read(shape).columns]


def wrong(shape: Shape, **job: Any) -> str:
    return "\n".join(shaping.refusals(SOURCE, dataclasses.replace(JOB, shape=shape, **job)))


# --- how it is written


def test_a_shape_is_read_as_it_is_written() -> None:
    assert shape_of(
        "a, b", None, ["o=n=m"], ["c=numeric(3,1)"], ["x=a=b", "n::int=", "t=@snapshot"], ["m=hash:it's"]
    ) == Shape(
        columns=("a", "b"),
        rename=(("o", "n=m"),),
        cast=(("c", "numeric(3,1)"),),
        constants=(Constant("x", "a=b"), Constant("n", "", "int"), Constant("t", SNAPSHOT_TIME, "timestamptz")),
        mask=(Mask("m", Masking.HASH, "it's"),),
    )
    assert Constant.parse("d::date=@snapshot").type == "date"
    assert Mask.parse("m=constant:a:b") == Mask("m", Masking.CONSTANT, "a:b")


@pytest.mark.parametrize("text", ["m", "m=", "=hash", "m=sha", "m=null:x"])
def test_a_mask_that_does_not_say_how_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--mask"):
        Mask.parse(text)


@pytest.mark.parametrize("names", ["a,,b", ",", "a,"])
def test_an_empty_column_is_refused(names: str) -> None:
    with pytest.raises(UsageError, match="names an empty column"):
        shape_of(names, None, [], [], [], [])


def test_only_a_shape_that_changes_something_is_one() -> None:
    assert not Shape()
    assert all(Shape(**{field.name: ("x",)}) for field in dataclasses.fields(Shape))  # type: ignore[arg-type]


# --- what becomes of a table


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Shape(columns=("note", "id")), ['"id"', '"note"']),
        (Shape(columns=("double",)), ['"double"']),
        (Shape(exclude=("amount",)), ['"id"', '"note"']),
        (Shape(exclude=("amount",), rename=(("note", 'a"b'),)), ['"id"', '"note" AS "a""b"']),
        (Shape(columns=("amount",), cast=(("amount", "int8"),)), ['"amount"::bigint AS "amount"']),
        (Shape(columns=("amount",), mask=(Mask("amount", Masking.NULL),)), ['NULL::numeric(10,2) AS "amount"']),
        (Shape(columns=("note",), mask=(Mask("note", Masking.CONSTANT, "it's"),)), ["'it''s'::text AS \"note\""]),
        (
            Shape(columns=("note",), mask=(Mask("note", Masking.HASH),)),
            ["pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(\"note\"::pg_catalog.text, 'UTF8')), 'hex') AS \"note\""],
        ),
        (
            Shape(columns=("note",), mask=(Mask("note", Masking.HASH, "s'"),)),
            [
                (
                    "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to('s'''::pg_catalog.text OPERATOR(pg_catalog.||)"
                    " \"note\"::pg_catalog.text, 'UTF8')), 'hex') AS \"note\""
                )
            ],
        ),
        (
            Shape(columns=("id",), constants=(MINE, Constant("at", SNAPSHOT_TIME, "timestamptz"))),
            ['"id"', "'mine'::text AS \"_source\"", f"'{CLOCK}'::timestamp with time zone AS \"at\""],
        ),
    ],
)  # fmt: skip
def test_the_source_is_asked_for_what_the_target_gets(shape: Shape, expected: list[str]) -> None:
    assert asked(shape) == expected


def test_a_masked_column_keeps_nothing_that_tells_of_its_values() -> None:
    for mask in (Mask("note", Masking.NULL), Mask("note", Masking.HASH), Mask("note", Masking.CONSTANT, "x")):
        (column,) = read(Shape(columns=("note",), mask=(mask,))).columns
        assert (column.type, column.default, column.comment) == ("text", None, "said")
        assert column.not_null is (mask.by is not Masking.NULL)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Shape(rename=(("id", "key"),)), [("key",), ("note",)]),
        (Shape(exclude=("note",)), [("id",)]),
        (Shape(columns=("note",)), [("note",)]),
        (Shape(constants=(MINE,)), [("id", "_source"), ("note", "_source")]),
        (Shape(constants=(Constant("at", SNAPSHOT_TIME, "timestamptz"),)), [("id",), ("note",)]),
        (Shape(mask=(Mask("id", Masking.NULL),)), [("note",)]),
        (Shape(mask=(Mask("id", Masking.CONSTANT, "1"), Mask("note", Masking.HASH))), [("note",)]),
    ],
)
def test_keys_are_those_that_still_tell_rows_apart(shape: Shape, expected: list[tuple[str, ...]]) -> None:
    assert [key.columns for key in read(shape).keys] == expected


def test_a_key_is_told_by_the_equality_of_what_it_becomes() -> None:
    shape = Shape(cast=(("note", "citext"),), constants=(Constant("shop", "x", "citext"),))
    key = read(shape).keys[1]
    assert key.operators == (Equality("public"), Equality("public"))


@pytest.mark.parametrize(
    ("shape", "proven"),
    [
        (Shape(rename=(("id", "key"),)), True),
        (Shape(constants=(MINE,)), True),
        (Shape(cast=(("id", "int8"),)), False),
        (Shape(mask=(Mask("id", Masking.HASH),)), False),
    ],
)
def test_a_key_that_is_cast_or_masked_is_no_longer_proven(shape: Shape, proven: bool) -> None:
    source = read(shape)
    key, _ = keys.choose(dataclasses.replace(JOB, shape=shape), source, None, source.columns)
    assert key is not None
    assert keys.is_proven(key, source, source.columns) is proven


# --- several sources into one target


def planned(shape: Shape, target: TableInfo | None, source: TableInfo = SOURCE) -> plan.SyncPlan:
    job = dataclasses.replace(JOB, shape=shape)
    return plan_of(facts(shaping.shaped(source, shape, TYPES, CLOCK), target), job)


@pytest.mark.parametrize("own", [True, False])
def test_a_key_of_the_target_takes_the_constant_along(own: bool) -> None:
    columns = (
        KEY,
        dataclasses.replace(NOTE, not_null=False),
        Column("_source", "text", "text", equality=Equality("public")),
    )
    found = planned(
        Shape(columns=("id", "note"), constants=(MINE,)),
        table(columns=columns, keys=(primary("id", "_source") if own else PRIMARY_ID,)),
        dataclasses.replace(SOURCE, keys=()),
    )
    assert found.key.columns == ("id", "_source")
    assert found.key_reason == "primary key of the target" + ("" if own else ", and _source")


def test_the_key_that_was_asked_for_takes_the_constant_along_once() -> None:
    job = dataclasses.replace(JOB, shape=Shape(constants=(MINE, Constant("at", SNAPSHOT_TIME, "timestamptz"))))
    assert shaping.key_of(dataclasses.replace(job, key=("id",))) == ("id", "_source")
    assert shaping.key_of(dataclasses.replace(job, key=("_source", "id"))) == ("_source", "id")
    assert shaping.key_of(job) == ()


@pytest.mark.parametrize("drift", [Drift.FAIL, Drift.IGNORE])
def test_a_target_without_the_constant_is_refused(drift: Drift) -> None:
    shape = Shape(columns=("id",), constants=(MINE,))
    job = dataclasses.replace(JOB, shape=shape, drift=drift)
    known: Facts = facts(read(shape), table(columns=(KEY,), keys=(PRIMARY_ID,)))
    (refusal,) = refusals(job=job, known=known)
    assert refusal == (
        "sales.orders has no column _source for the constant: ALTER TABLE sales.orders ADD _source text; or let it"
        " follow with --drift add."
    )


def test_a_changed_shape_is_another_job_and_none_the_one_it_always_was() -> None:
    server = facts().source
    salted = [Shape(mask=(Mask("note", Masking.HASH, salt),)) for salt in ("", "s")]
    ids = [plan.job_id(dataclasses.replace(JOB, shape=shape), server) for shape in (Shape(), *salted)]
    assert len(set(ids)) == len(ids)
    assert ids[0] == plan.job_id(JOB, server)


# --- what is wrong


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (Shape(columns=("nots",)), "--columns names nots, which sales.orders does not have: did you mean note?"),
        (Shape(exclude=("zzz",)), "--exclude names zzz, which sales.orders does not have: it has id, note, amount, double."),
        (Shape(rename=(("nots", "x"),)), "--rename names nots, which sales.orders does not have: did you mean note?"),
        (Shape(cast=(("nots", "text"),)), "--cast names nots, which sales.orders does not have: did you mean note?"),
        (Shape(mask=(Mask("nots", Masking.NULL),)), "--mask names nots, which sales.orders does not have: did you mean note?"),
        (Shape(columns=("id",), exclude=("note",)), "--columns says what is copied and --exclude what is not: leave one of them out."),
        (Shape(rename=(("note", "id"),)), "Two columns would be called id on the target: rename one, or leave one out."),
        (Shape(rename=(("note", "x"), ("amount", "x"))), "Two columns would be called x on the target: rename one, or leave one out."),
        (Shape(constants=(Constant("id", "1"),)), "Two columns would be called id on the target: rename one, or leave one out."),
        (Shape(rename=(("note", "x"), ("note", "y"))), "--rename names note more than once: choose one."),
        (Shape(mask=(Mask("note", Masking.NULL), Mask("note", Masking.HASH))), "--mask names note more than once: choose one."),
        (Shape(columns=("id",), rename=(("note", "x"),)), "--rename names note, which is left out: copy it too, or leave out the option."),
        (Shape(cast=(("double", "int8"),)), "--cast names double, which is left out: a generated column is copied where --columns names it, or leave out the option."),
        (Shape(cast=(("note", "int8"),), mask=(Mask("note", Masking.NULL),)), "Column note is cast and masked: choose one."),
        (Shape(rename=(("note", ""),)), "A column of the target would have an empty name: name it."),
        (Shape(constants=(Constant("xmin", "1"),)), "PostgreSQL keeps the name xmin for itself: choose another one."),
    ],
)  # fmt: skip
def test_a_shape_that_does_not_fit_is_refused_by_name(shape: Shape, sentence: str) -> None:
    assert wrong(shape) == sentence


@pytest.mark.parametrize(
    "shape",
    [
        Shape(rename=(("note", "amount"), ("amount", "note"))),
        Shape(exclude=("note",), mask=(Mask("note", Masking.HASH),)),
        Shape(columns=("id", "double"), rename=(("double", "한" * 21),)),
    ],
)
def test_a_shape_that_fits_is_not_refused(shape: Shape) -> None:
    assert not wrong(shape)


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        (Shape(rename=(("amount", "x"),)), "renamed"),
        (Shape(cast=(("amount", "int8"),)), "cast"),
        (Shape(mask=(Mask("amount", Masking.NULL),)), "masked"),
        (Shape(exclude=("amount",)), "left out"),
        (Shape(columns=("id",)), "left out"),
    ],
)
def test_a_cursor_stays_as_it_is(shape: Shape, what: str) -> None:
    sentence = f"The cursor amount is {what}: it is looked at on both sides, so leave it as it is."
    assert wrong(shape, cursor="amount") == sentence


def test_a_key_names_no_moment() -> None:
    shape = Shape(constants=(Constant("at", SNAPSHOT_TIME, "timestamptz"),))
    assert (
        wrong(shape, key=("id", "at")) == "The key names at, which is another one in each run: leave it out of the key."
    )


def test_a_moment_does_not_make_a_row_another_row() -> None:
    shape = Shape(columns=("id",), constants=(MINE, Constant("at", SNAPSHOT_TIME, "timestamptz")))
    found = planned(shape, None)
    assert found.compared == ("id", "_source")
    assert found.copy.origins[-1] == Origin(None, "moment", "timestamp with time zone", CLOCK)
