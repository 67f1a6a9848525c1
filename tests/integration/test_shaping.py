"""Rows of another shape than the source's: chosen, renamed, cast, masked and constant columns."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from servers import Pair

from pgsluice import Options, sync
from pgsluice.job import CopyFormat, Lane, StagingKind
from pgsluice.model import TableReport
from pgsluice.shape import Shape, shape_of

PEOPLE = """
CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, email text NOT NULL UNIQUE, name text, born date, score numeric(5,2),
  lower_email text GENERATED ALWAYS AS (lower(email)) STORED);
INSERT INTO s.t SELECT g, 'Secret' || g || '@x', 'Name ' || g, '2000-01-01'::date + g, g / 3.0 FROM generate_series(1, 200) g;
INSERT INTO s.t VALUES (201, 'Secret201@x', NULL, NULL, NULL);
"""


def shape(columns: str | None = None, exclude: str | None = None, **more: list[str]) -> Shape:
    given = {name: more.get(name, []) for name in ("rename", "cast", "constants", "mask")}
    return shape_of(columns, exclude, **given)


def synced(pair: Pair, shape_: Shape, **asked: Any) -> TableReport:
    return sync(pair.source.dsn, pair.target.dsn, "s.t", to="raw.t", shape=shape_, **asked).tables[0]


@pytest.fixture
def people(pair: Pair) -> Pair:
    pair.source.execute(PEOPLE)
    return pair


WAYS = [
    {"staging": StagingKind.TEMPORARY},
    {"staging": StagingKind.UNLOGGED, "lane": Lane.PSQL},
    {"staging": StagingKind.PROMOTED},
    {"staging": StagingKind.UNLOGGED, "format": CopyFormat.TEXT},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_rows_arrive_in_the_shape_that_is_asked_for_and_settle(people: Pair, way: dict[str, Any]) -> None:
    asked = shape(
        exclude="born",
        rename=['email=E "mail"'],
        cast=["score=text", "id=bigint"],
        constants=["_source=shop-1", "_n::numeric(4,1)=7"],
        mask=["email=hash", "name=constant:it's %s"],
    )
    report = synced(people, asked, options=Options(**way))
    assert (report.status, report.inserted) == ("done", 201), report.error
    (row,) = people.target.rows('SELECT id, "E ""mail""", name, score, _source, _n::text FROM raw.t WHERE id = 7')
    secret = hashlib.sha256(b"Secret7@x").hexdigest()
    assert row == (7, secret, "it's %s", "2.33", "shop-1", "7.0")
    kinds = people.target.rows(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'raw.t'::regclass AND attnum > 0"
    )
    assert kinds == [
        ("id", "bigint"), ('E "mail"', "text"), ("name", "text"), ("score", "text"), ("_source", "text"), ("_n", "numeric(4,1)"),
    ]  # fmt: skip
    again = synced(people, asked, options=Options(**way))
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, 201)
    people.source.execute("DELETE FROM s.t WHERE id = 3; UPDATE s.t SET score = 99 WHERE id = 4")
    third = synced(people, asked, options=Options(**way))
    assert (third.inserted, third.updated, third.deleted) == (0, 1, 1)


@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
def test_what_is_masked_never_leaves_the_source(people: Pair, lane: Lane) -> None:
    people.target.execute(
        """CREATE SCHEMA raw; CREATE TABLE raw.t (id int PRIMARY KEY, email text, name text, born date, score numeric);
        CREATE TABLE raw.seen (row text); CREATE FUNCTION raw.see() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'"""
    )
    asked = shape(mask=["email=hash", "name=null", "born=constant:1900-01-01"])
    report = synced(people, asked, options=Options(lane=lane, staging=StagingKind.UNLOGGED))
    assert report.status == "done", report.error
    assert people.target.value("SELECT count(*) FROM raw.t t WHERE t::text ~* 'secret|name|20[0-9][0-9]-'") == 0
    assert people.target.rows("SELECT DISTINCT name, born::text FROM raw.t") == [(None, "1900-01-01")]
    asked_of_source = people.pgsluice(
        "plan", "--table", "s.t", "--to", "raw.t", "--mask", "email=hash", "--mask", "name=null"
    ).out
    (copy,) = [line for line in asked_of_source.splitlines() if "TO STDOUT" in line]
    assert "sha256(pg_catalog.convert_to(\"email\"::text, 'UTF8'))" in copy
    assert 'NULL::text AS "name"' in copy


def test_null_stays_null_under_a_hash(people: Pair) -> None:
    assert synced(people, shape(mask=["name=hash", "born=hash"])).status == "done"
    assert people.target.rows("SELECT id FROM raw.t WHERE name IS NULL OR born IS NULL") == [(201,)]


def test_only_the_columns_that_are_named_are_copied_generated_ones_as_values(people: Pair) -> None:
    assert synced(people, shape("id,lower_email")).status == "done"
    assert people.target.rows("SELECT t::text FROM raw.t t WHERE id = 7") == [("(7,secret7@x)",)]
    assert (
        people.target.value(
            "SELECT attgenerated::text FROM pg_attribute WHERE attrelid = 'raw.t'::regclass AND attname = 'lower_email'"
        )
        == ""
    )


def test_the_moment_of_the_run_does_not_make_a_row_another_row(people: Pair) -> None:
    asked = shape(constants=["_synced_at=@snapshot"])
    assert synced(people, asked).inserted == 201
    first = people.target.value(
        "SELECT min(_synced_at) FROM raw.t WHERE _synced_at = (SELECT max(_synced_at) FROM raw.t)"
    )
    assert synced(people, asked).updated == 0
    people.source.execute("UPDATE s.t SET score = 1 WHERE id = 5")
    assert synced(people, asked).updated == 1
    assert people.target.rows("SELECT id, _synced_at > %s FROM raw.t WHERE _synced_at <> %s", (first, first)) == [
        (5, True)
    ]


@pytest.mark.parametrize("mode", ["incremental", "xmin"])
def test_modes_that_read_on_keep_the_shape(pair: Pair, mode: str) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at timestamptz DEFAULT now(), secret text);
        INSERT INTO s.t SELECT g, now(), 'x' || g FROM generate_series(1, 50) g"""
    )
    cursor = {"cursor": "at", "late_rows": "scan"} if mode == "incremental" else {}
    asked = shape(rename=["id=key"], mask=["secret=hash"], constants=["_source=a"])
    assert synced(pair, asked, mode=mode, deletes="sweep", **cursor).inserted == 50
    pair.source.execute(
        "UPDATE s.t SET at = clock_timestamp(), secret = 'new' WHERE id = 9; DELETE FROM s.t WHERE id = 10"
    )
    report = synced(pair, asked, mode=mode, deletes="sweep", **cursor)
    assert (report.status, report.inserted, report.updated, report.deleted) == ("done", 0, 1, 1), report.error
    assert pair.target.value("SELECT secret FROM raw.t WHERE key = 9") == hashlib.sha256(b"new").hexdigest()
    other = shape(rename=["id=key"], mask=["secret=null"], constants=["_source=a"])
    assert synced(pair, other, mode=mode, deletes="sweep", **cursor).updated == 49  # another mask is another job


# --- several sources into one target ---------------------------------------------------------------------------------


@pytest.mark.parametrize("own_key", [True, False])
def test_several_sources_share_a_target_and_deletes_stay_within_each(people: Pair, own_key: bool) -> None:
    key: dict[str, Any] = {"key": ["id"]} if own_key else {}
    one, two = shape("id,name", constants=["_source=one"]), shape("id,name", constants=["_source=two"])
    assert synced(people, one, **key).inserted == 201
    assert synced(people, two, **key).inserted == 201
    assert people.target.value(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'raw.t'::regclass AND contype = 'p'"
    ) == ("PRIMARY KEY (id, _source)")
    people.source.execute("DELETE FROM s.t WHERE id <= 5; UPDATE s.t SET name = 'new' WHERE id = 6")
    report = synced(people, two, **key)
    assert (report.inserted, report.updated, report.deleted) == (0, 1, 5)
    assert people.target.rows("SELECT _source, count(*) FROM raw.t GROUP BY 1 ORDER BY 1") == [
        ("one", 201),
        ("two", 196),
    ]
    assert people.target.rows("SELECT _source FROM raw.t WHERE name = 'new'") == [("two",)]


def test_rows_of_another_source_under_the_same_key_are_never_overwritten(people: Pair) -> None:
    people.target.execute(
        "CREATE SCHEMA raw; CREATE TABLE raw.t (id int PRIMARY KEY, name text, _source text NOT NULL); INSERT INTO raw.t VALUES (7, 'theirs', 'other')"
    )
    report = synced(people, shape("id,name", constants=["_source=mine"]))
    assert (report.status, report.sqlstate) == ("failed", "23505")
    assert people.target.rows("SELECT * FROM raw.t") == [(7, "theirs", "other")]


def test_an_append_that_starts_over_clears_its_own_rows_only(people: Pair) -> None:
    for source in ("one", "two"):
        assert synced(people, shape("id,name", constants=[f"_source={source}"]), mode="append").inserted == 201
    asked: dict[str, Any] = {"mode": "append", "full_refresh": True, "max_delete": "100%"}
    assert synced(people, shape("id,name", constants=["_source=two"]), **asked).deleted == 201
    assert people.target.rows("SELECT _source, count(*) FROM raw.t GROUP BY 1 ORDER BY 1") == [
        ("one", 201),
        ("two", 201),
    ]


def test_two_jobs_of_one_run_do_not_write_one_target(people: Pair) -> None:
    people.source.execute("CREATE TABLE s.u AS TABLE s.t")
    outcome = people.pgsluice("sync", "--table", "s.t", "--table", "s.u", "--to", "raw.one", "--constant", "_source=x")
    assert outcome.code == 2


def test_the_commands_of_the_page_do_what_they_say(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY, note text, amount int); INSERT INTO sales.orders VALUES (1, 'n', 5)"
    )
    page = (Path(__file__).parents[2] / "docs" / "shaping.md").read_text("utf-8")
    shaped, shared = re.findall(r"^pgsluice sync (.+)$", page, re.MULTILINE)
    assert pair.pgsluice("sync", *shlex.split(shaped)).code == 0
    assert pair.target.rows("SELECT id, total, _synced_at IS NOT NULL FROM raw.orders") == [(1, 5, True)]
    pair.target.execute("DROP TABLE raw.orders")
    assert pair.pgsluice("sync", *shlex.split(shared)).code == 0
    assert pair.target.rows("SELECT * FROM raw.orders") == [(1, "n", 5, "shop-1")]


# --- queries ---------------------------------------------------------------------------------------------------------


def test_a_query_is_shaped_too(people: Pair) -> None:
    report = sync(
        people.source.dsn,
        people.target.dsn,
        query="SELECT id, email, score FROM s.t WHERE id < 4",
        to="raw.q",
        key=["id"],
        shape=shape(exclude="score", mask=["email=hash"], constants=["_source=q"]),
    ).tables[0]
    assert (report.status, report.inserted) == ("done", 3), report.error
    assert people.target.rows("SELECT id, length(email), _source FROM raw.q ORDER BY 1") == [
        (n, 64, "q") for n in (1, 2, 3)
    ]


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"columns": "id,emial"}, "--columns names emial, which s.t does not have: did you mean email?"),
        ({"exclude": "zzz"}, "--exclude names zzz, which s.t does not have: it has id, email"),
        ({"rename": ["nope=x"]}, "--rename names nope"),
        ({"cast": ["nope=int"]}, "--cast names nope"),
        ({"mask": ["nope=null"]}, "--mask names nope"),
        ({"rename": ["email=name"]}, "Two columns would be called name on the target"),
        ({"constants": ["id=5"]}, "Two columns would be called id on the target"),
        ({"columns": "id", "exclude": "id"}, "leave one of them out"),
        ({"cast": ["name=text"], "mask": ["name=hash"]}, "Column name is cast and masked: choose one."),
        ({"cast": ["name=nonsense"]}, 'the type nonsense is not valid: type "nonsense" does not exist'),
        ({"cast": ["name=int) FROM s.t; DROP TABLE s.t --"]}, "is not valid"),
        ({"mask": ["id=null"], "exclude": "email"}, "no primary key"),
        ({"columns": "name,born"}, "no primary key"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused_by_name(people: Pair, asked: dict[str, Any], reason: str) -> None:
    report = synced(people, shape(**asked))
    assert report.exit_code in (2, 6)
    assert reason in str(report.error)
    assert people.target.value("SELECT to_regclass('raw.t') IS NULL")
    assert people.source.value("SELECT count(*) FROM s.t") == 201


def test_a_constant_that_its_type_does_not_take_is_refused(people: Pair) -> None:
    report = synced(people, shape(constants=["n::int=seven"]))
    assert report.exit_code in (2, 6)
    assert "seven" in str(report.error)


def test_everything_that_is_wrong_is_told_at_once(people: Pair) -> None:
    report = synced(people, shape(exclude="a", mask=["b=null"], rename=["c=d"]))
    assert all(f"names {name}," in str(report.error) for name in "abc")


def test_a_condition_on_a_column_that_the_target_gets_otherwise_limits_no_deletes(people: Pair) -> None:
    asked = shape(mask=["email=hash"])
    report = synced(people, asked, where="email LIKE 'Secret1%'")
    assert report.exit_code == 6
    assert "leans on a column that the target gets otherwise" in str(report.error)
    assert synced(people, asked, where="email LIKE 'Secret1%'", mode="upsert").inserted == 111
    assert synced(people, asked, where="id < 100", max_delete="90%").status == "done"


def test_null_in_a_column_that_refuses_it_is_refused_before(people: Pair) -> None:
    people.target.execute("CREATE SCHEMA raw; CREATE TABLE raw.t (id int PRIMARY KEY, name text NOT NULL)")
    report = synced(people, shape("id,name", mask=["name=null"]))
    assert "Column name of raw.t is NOT NULL and masked by NULL" in str(report.error)


def test_a_cursor_stays_as_it_is(people: Pair) -> None:
    for asked in (shape(rename=["born=b"]), shape(mask=["born=null"]), shape(exclude="born")):
        report = synced(people, asked, mode="incremental", cursor="born", late_rows="trust")
        assert report.exit_code == 6
        assert "The cursor born is" in str(report.error)


def test_the_command_line_takes_every_part_of_a_shape(people: Pair) -> None:
    outcome = people.pgsluice(
        "sync", "--table", "s.t", "--to", "raw.t", "--exclude", "born,score", "--rename", "name=n", "--cast", "id=int8",
        "--constant", "_source=a=b", "--mask", "email=null",
    )  # fmt: skip
    assert outcome.code == 0, outcome.out
    assert people.target.rows("SELECT * FROM raw.t WHERE id = 1") == [(1, None, "Name 1", "a=b")]
    assert "--mask 'email' lacks a part" in people.pgsluice("sync", "--table", "s.t", "--mask", "email").err
    assert "does not say how" in people.pgsluice("sync", "--table", "s.t", "--mask", "email=sha").err
