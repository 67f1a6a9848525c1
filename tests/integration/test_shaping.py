"""Rows of another shape than the source's: chosen, renamed, cast, masked and constant columns."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from proxying import Fault, Proxy, Towards
from psycopg.conninfo import make_conninfo
from servers import Database, Pair

from pgsluice import Level, Options, sync
from pgsluice.endpoint import Endpoint
from pgsluice.job import CopyFormat, Lane, Mode, Selection, StagingKind, SyncJob, TableRef
from pgsluice.model import TableReport
from pgsluice.policies import LateRows
from pgsluice.run import Run
from pgsluice.shape import Shape, shape_of
from pgsluice.verification import repair, verify

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


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
        "CREATE SCHEMA raw; CREATE TABLE raw.t (id int PRIMARY KEY, email text, name text, born date, score numeric)"
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
    assert "sha256(pg_catalog.convert_to(\"email\"::pg_catalog.text, 'UTF8'))" in copy
    assert 'NULL::text AS "name"' in copy


class Tap(Proxy):
    """A link that keeps what went over it."""

    def __init__(self, database: Database) -> None:
        super().__init__("127.0.0.1", database.cluster.port)
        self._database = database
        self.seen = dict.fromkeys(Towards, b"")

    @property
    def dsn(self) -> str:
        return make_conninfo(
            self._database.cluster.tcp_dsn, port=self.port, dbname=self._database.name, sslmode="disable"
        )

    def _met(self, link: Any, towards: Towards, data: bytes) -> tuple[bytes, Fault | None]:
        self.seen[towards] += data
        return super()._met(link, towards, data)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("is_masked", [True, False])
def test_nothing_of_a_masked_value_goes_over_a_wire(people: Pair, way: dict[str, Any], is_masked: bool) -> None:
    people.source.execute("UPDATE s.t SET name = 'Hidden ' || id")
    hidden = ["email=hash", "name=constant:x", "born=null", "score=hash:salt"] if is_masked else []
    with Tap(people.source) as source, Tap(people.target) as target:
        asked = shape("id,email,name,born,score", mask=hidden)
        for expected in (201, 0):
            report = sync(source.dsn, target.dsn, "s.t", to="raw.t", shape=asked, options=Options(**way)).tables[0]
            assert (report.status, report.inserted) == ("done", expected), report.error
    for value in (b"Secret7@x", b"Hidden 7"):
        assert (value in source.seen[Towards.CLIENT]) is not is_masked
        assert (value in target.seen[Towards.SERVER]) is not is_masked


def test_a_salt_makes_another_hash_and_leaves_null_alone(people: Pair) -> None:
    assert synced(people, shape(mask=["email=hash:it's 5%", "name=hash:s"])).inserted == 201
    assert people.target.value("SELECT email FROM raw.t WHERE id = 7") == sha256("it's 5%Secret7@x")
    assert people.target.rows("SELECT id FROM raw.t WHERE name IS NULL") == [(201,)]


def test_a_hash_and_a_cast_of_a_moment_are_the_same_with_a_condition_and_without(people: Pair) -> None:
    people.source.execute(
        """ALTER TABLE s.t ADD at timestamptz DEFAULT '2024-01-01 20:00+00', ADD day timestamptz DEFAULT '2024-01-01 20:00+00';
        ALTER ROLE CURRENT_USER SET TimeZone = 'Asia/Seoul'"""
    )
    try:
        asked = shape("id,at,day", mask=["at=hash"], cast=["day=date"])
        assert synced(people, asked).inserted == 201
        assert people.target.rows("SELECT DISTINCT at, day::text FROM raw.t") == [
            (sha256("2024-01-02 05:00:00+09"), "2024-01-02")
        ]
        assert synced(people, asked, where="id > 0").updated == 0
    finally:
        people.source.execute("ALTER ROLE CURRENT_USER RESET TimeZone")


def test_a_hashed_key_works_as_a_key(people: Pair) -> None:
    people.source.execute("CREATE TABLE s.k (k text PRIMARY KEY, v int); INSERT INTO s.k VALUES ('a', 1), ('b', 2)")
    for expected in ((2, 0, 0), (0, 1, 1)):
        report = sync(
            people.source.dsn, people.target.dsn, "s.k", to="raw.k", shape=shape(mask=["k=hash"]), max_delete="90%"
        ).tables[0]
        assert (report.inserted, report.updated, report.deleted) == expected, report.error
        people.source.execute("DELETE FROM s.k WHERE k = 'a'; UPDATE s.k SET v = 3")
    assert people.target.rows("SELECT * FROM raw.k") == [(sha256("b"), 3)]


def test_keys_that_a_cast_makes_equal_are_found_at_the_gate(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id numeric PRIMARY KEY); INSERT INTO s.t VALUES (1.1), (1.2)"
    )
    report = synced(pair, shape(cast=["id=int"]))
    assert report.exit_code == 6
    assert "does not tell the source's rows apart" in str(report.error)
    assert pair.target.value("SELECT to_regclass('raw.t') IS NULL")


def test_the_plan_shows_for_each_column_what_is_read(people: Pair) -> None:
    asked = ["--table", "s.t", "--to", "raw.t", "--rename", "name=n", "--cast", "score=text", "--constant", "_source=a"]
    plan = people.pgsluice("plan", "--json", *asked).lines[0]
    read = {name: column["read_as"] for name, column in plan["columns"].items()}
    assert read == {
        "id": None, "email": None, "n": '"name" AS "n"', "born": None, "score": '"score"::text AS "score"',
        "_source": "'a'::text AS \"_source\"",
    }  # fmt: skip


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


def test_a_key_of_the_target_alone_never_takes_rows_of_another_source(people: Pair) -> None:
    people.source.execute("CREATE VIEW s.v AS SELECT id, name FROM s.t WHERE id < 4")
    people.target.execute("CREATE SCHEMA raw; CREATE TABLE raw.t (id int PRIMARY KEY, name text, _source text)")

    def from_view(source: str) -> TableReport:
        asked = shape(constants=[f"_source={source}"])
        return sync(people.source.dsn, people.target.dsn, "s.v", to="raw.t", shape=asked).tables[0]

    assert from_view("one").inserted == 3
    two = from_view("two")
    assert (two.status, two.sqlstate) == ("failed", "23505")
    assert people.target.rows("SELECT DISTINCT _source FROM raw.t") == [("one",)]
    people.target.execute("ALTER TABLE raw.t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (_source, id)")
    assert from_view("two").inserted == 3
    assert from_view("one").unchanged == 3


@pytest.mark.parametrize("asked", [{}, {"drift": "ignore"}, {"drift": "ignore", "mode": "upsert"}, {"mode": "append"}])
def test_a_target_without_the_constant_is_refused(people: Pair, asked: dict[str, Any]) -> None:
    people.target.execute("CREATE SCHEMA raw; CREATE TABLE raw.t (id int PRIMARY KEY); INSERT INTO raw.t VALUES (7)")
    report = synced(people, shape("id", constants=["_source=mine"]), **asked)
    assert report.exit_code == 6
    assert "raw.t has no column _source for the constant" in str(report.error)
    assert people.target.rows("SELECT * FROM raw.t") == [(7,)]


def test_a_target_may_follow_with_the_constant(people: Pair) -> None:
    people.target.execute("CREATE SCHEMA raw; CREATE TABLE raw.t (id int); INSERT INTO raw.t VALUES (7)")
    assert synced(people, shape("id", constants=["_source=mine", "at=@snapshot"]), drift="add").inserted == 201
    assert people.target.rows("SELECT * FROM raw.t WHERE _source IS NULL") == [(7, None, None)]


def test_a_constant_of_any_type_is_known_again(people: Pair) -> None:
    people.source.execute(
        "CREATE SCHEMA x; CREATE TYPE x.shop AS ENUM ('a', 'b'); ALTER ROLE CURRENT_USER SET TimeZone = 'Asia/Seoul'"
    )
    constants = ["a::int=07", "b::timestamptz=2024-01-01 00:00", "c::x.shop=b", "d::numeric(4,1)=7", "e::char(3)=x"]
    try:
        asked = shape("id", constants=constants)
        assert synced(people, asked, where="id > 0").inserted == 201
        people.source.execute("DELETE FROM s.t WHERE id = 3")
        report = synced(people, asked, where="id > 0")
        assert (report.inserted, report.updated, report.deleted) == (0, 0, 1), report.error
    finally:
        people.source.execute("ALTER ROLE CURRENT_USER RESET TimeZone")


@pytest.mark.parametrize("key", [(), ("id",)], ids=["own key", "key given"])
def test_a_constant_that_the_server_writes_otherwise_is_verified_at_every_level(
    people: Pair, key: tuple[str, ...]
) -> None:
    constants = [
        "a::boolean=t", "b::numeric(10,2)=1.5", "c::timestamptz=2024-01-01", "d::inet=10.0.0.1/32", "e::time=10:00",
        'f::jsonb={"a":1}', "g::date=20240101", "h::interval=1 month 0 days", "i::uuid=A0EEBC999C0B4EF8BB6D6BB9BD380A11",
        "j::int[]={1, 2}", "k=x",
    ]  # fmt: skip
    asked: dict[str, Any] = {"to": "raw.t", "key": key, "shape": shape(constants=constants)}
    for _ in "first", "again":
        report = sync(people.source.dsn, people.target.dsn, "s.t", **asked).tables[0]
        assert report.status == "done", report.error
    endpoints = Endpoint(people.source.dsn, read_only=True), Endpoint(people.target.dsn, read_only=False)
    selection = Selection(("s.t",), **asked)
    for level in Level:
        for as_of_run in {False, level is not Level.COUNT}:
            (found,) = verify(*endpoints, selection, level=level, as_of_run=as_of_run).tables
            assert (found.status, found.error, found.source_rows) == ("equal", None, 201)
    people.target.execute("UPDATE raw.t SET name = 'x' WHERE id = 7; DELETE FROM raw.t WHERE id = 8")
    differing = verify(*endpoints, selection, level=Level.ROWS)
    assert (differing.tables[0].missing, differing.tables[0].changed) == (1, 1)
    (mended,) = repair(*endpoints, differing).tables
    assert (mended.status, mended.inserted, mended.updated) == ("done", 1, 1), mended.error
    assert verify(*endpoints, selection).tables[0].status == "equal"


def test_deletes_that_are_marked_stay_within_the_constant(people: Pair) -> None:
    asked: dict[str, Any] = {"deletes": "soft:gone"}
    for source in ("one", "two"):
        assert synced(people, shape("id,name", constants=[f"_source={source}"]), **asked).inserted == 201
    people.source.execute("DELETE FROM s.t WHERE id <= 5")
    assert synced(people, shape("id,name", constants=["_source=two"]), **asked).deleted == 5
    assert people.target.rows("SELECT _source, count(*) FROM raw.t WHERE gone IS NOT NULL GROUP BY 1") == [("two", 5)]


def test_a_large_target_is_compared_within_the_constant(people: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgsluice.plan.COMPARED_FROM_BYTES", 0)
    asked: dict[str, Any] = {"options": Options(staging=StagingKind.UNLOGGED)}
    for source in ("one", "two"):
        assert (
            synced(people, shape("id,name", constants=[f"_source={source}", "at=@snapshot"]), **asked).inserted == 201
        )
    people.source.execute("DELETE FROM s.t WHERE id <= 5; UPDATE s.t SET name = 'new' WHERE id = 6")
    report = synced(people, shape("id,name", constants=["_source=two", "at=@snapshot"]), **asked)
    assert (report.inserted, report.updated, report.deleted, report.unchanged) == (0, 1, 5, 195)
    assert people.target.value("SELECT count(*) FROM raw.t WHERE _source = 'one'") == 201


def test_the_highest_value_of_another_source_is_no_beginning(people: Pair) -> None:
    job = SyncJob(
        TableRef("s", "t"), TableRef("raw", "t"), mode=Mode.INCREMENTAL, cursor="id", from_target=True,
        late_rows=LateRows.parse("trust"),
    )  # fmt: skip
    for source in ("one", "two"):
        own = dataclasses.replace(job, shape=shape("id,name", constants=[f"_source={source}"]))
        report = (
            Run(Endpoint(people.source.dsn, read_only=True), Endpoint(people.target.dsn, read_only=False))
            .sync([own])
            .tables[0]
        )
        assert report.inserted == 201, report.error


def test_an_append_that_starts_over_does_not_take_masked_values_for_those_of_its_condition(people: Pair) -> None:
    asked: dict[str, Any] = {"mode": "append", "where": "email LIKE 'Secret1%'", "max_delete": "100%"}
    assert synced(people, shape(mask=["email=hash"]), **asked).inserted == 111
    report = synced(people, shape(mask=["email=hash"]), full_refresh=True, **asked)
    assert report.exit_code == 6
    assert "Leave out --full-refresh" in str(report.error)
    assert people.target.value("SELECT count(*) FROM raw.t") == 111


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
        ({"cast": ["name=nonsense"]}, 'The type nonsense is not valid: type "nonsense" does not exist'),
        ({"cast": ["name=int) FROM s.t; DROP TABLE s.t --"]}, "is not valid"),
        ({"cast": ["name=int, 2"]}, 'The type int, 2 is not valid: syntax error at or near ","'),
        ({"cast": ["name=int) + (2"]}, "The type int) + (2 is not valid: syntax error"),
        ({"cast": ["name=text || 'x'"]}, "The type text || 'x' is not valid: syntax error"),
        ({"cast": ["name=int; SELECT 1"]}, "The type int; SELECT 1 is not valid: syntax error"),
        ({"cast": ["name=record"]}, "The type record is not valid: no column can have it."),
        ({"cast": ["born=int"]}, "Column born can't be cast to integer: cannot cast type date to integer."),
        (
            {"mask": ["born=constant:x"]},
            'The mask of column born is not valid: invalid input syntax for type date: "x".',
        ),
        ({"mask": ["born=constant:today"]}, "The mask of column born, today, is another one in each run"),
        ({"mask": ["score=constant:1.234"]}, "The mask of column score, 1.234, would be 1.23 as numeric(5,2)"),
        (
            {"constants": ["n::int=seven"]},
            'The constant n is not valid: invalid input syntax for type integer: "seven".',
        ),
        ({"constants": ["n::int=@snapshot"]}, "The constant n is not valid: invalid input syntax for type integer"),
        ({"constants": ["n::varchar(3)=shop-1"]}, "The constant n, shop-1, would be sho as character varying(3)"),
        ({"constants": ["n::numeric(4,1)=7.25"]}, "The constant n, 7.25, would be 7.3 as numeric(4,1)"),
        ({"constants": ["n::date=today"]}, "The constant n, today, is another one in each run"),
        ({"constants": ["n::json={}"]}, "The constant n is json, which has no equality"),
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


def test_everything_that_is_wrong_is_told_at_once(people: Pair) -> None:
    asked = shape(
        exclude="a",
        mask=["b=null", "born=constant:x"],
        rename=["c=d"],
        cast=["name=nonsense", "score=date"],
        constants=["n::int=seven"],
    )
    report = synced(people, asked)
    told = ("names a,", "names b,", "names c,", "type nonsense", "column born", "Column score", "constant n")
    assert not [each for each in told if each not in str(report.error)]


@pytest.mark.parametrize("asked", [shape(exclude="email"), shape(rename=["email=e"]), shape("id,lower_email")])
def test_a_condition_is_never_asked_of_a_column_that_only_has_the_same_name(people: Pair, asked: Shape) -> None:
    people.target.execute(
        """CREATE SCHEMA raw; CREATE TABLE raw.t (id int PRIMARY KEY, email text, e text, lower_email text, name text,
        born date, score numeric); INSERT INTO raw.t VALUES (999, 'Secret1')"""
    )
    report = synced(people, asked, where="email LIKE 'Secret1%'", max_delete="100%")
    assert report.exit_code == 6
    assert people.target.rows("SELECT id FROM raw.t") == [(999,)]


def test_null_that_a_domain_refuses_is_refused_before(people: Pair) -> None:
    people.source.execute("CREATE DOMAIN s.d AS text NOT NULL; ALTER TABLE s.t ADD e s.d NOT NULL DEFAULT 'x'")
    assert "domain s.d does not allow null values" in str(synced(people, shape(mask=["e=null"])).error)


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
