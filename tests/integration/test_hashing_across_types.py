"""Source and target of other types: whatever a plan accepts is found equal by its hashes once it is copied."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from servers import Database, Pair, database

from pgsluice import Level, Options, Strategy, Verify, fidelity, sync
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint
from pgsluice.facts import Column
from pgsluice.fidelity import Verdict
from pgsluice.job import Selection, TableRef
from pgsluice.model import TableComparison
from pgsluice.steps import catalog
from pgsluice.verification import verify

#: Each type with values; of these a column of another type gets those that the target takes for it.
TYPES = {
    "boolean": ("true", "false"),
    "smallint": ("1", "-2"),
    "integer": ("1", "70000"),
    "bigint": ("1", "5000000000"),
    "numeric": ("1.50", "1", "-0.005", "NaN"),
    "numeric(10,2)": ("1.50", "-7"),
    "real": ("1.5", "16777216"),
    "double precision": ("0.1", "-0", "1e300"),
    "money": ("1.50", "1234567.89"),
    "oid": ("7", "4294967295"),
    "text": (
        "", "a", "a  ", "t", "TRUE", "1", "01", "1.50", "$1,234.5", "2024-1-2", "2024-01-02 3:04", "10:00", "1 month",
        "A0EEBC999C0B4EF8BB6D6BB9BD380A11", '{"a":1, "a":2}', "10.0.0.1/32", "10.1.0.0", "08-00-2b-01-02-03", "101",
        "\\xAB", "(1,2)", "[1,2]", "{1,2}", "{a, b}", "{sad, ok}", "{[1,2]}", "fat cat", "fat & cat", "1/a", "$.a", "sad", "(1,a)",
        "<a/>", "2024-01-02 03:04+09",
    ),
    "varchar": ("", "b ", "yes"),
    "varchar(5)": ("ab", "ab   ", "1.0"),
    "char(5)": ("", "ab", "12", "on"),
    "bpchar": ("", "ab ", "12"),
    "name": ("a", "1"),
    '"char"': ("", "a", "1"),
    "bytea": ("\\x00ff", "\\x"),
    "date": ("2024-02-29", "infinity", "0044-03-15 BC"),
    "timestamp": ("2024-02-29 12:34:56.789", "2024-03-31 02:30", "infinity"),
    "timestamp(0)": ("2024-02-29 12:34:56", "-infinity"),
    "timestamptz": ("2024-02-29 12:34:56.789+00", "2024-10-27 01:30+01", "infinity"),
    "time": ("12:34:56.7", "24:00"),
    "timetz": ("12:34:56.7+09", "00:00-15:59"),
    "interval": ("1 mon 2 days 03:04:05.6", "-1 hour"),
    "uuid": ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",),
    "json": ('{"b":1,  "a":1.0, "a":1.00}', "1"),
    "jsonb": ('{"a": 1.0}', '"x"'),
    "xml": ("<a/>", '<?xml version="1.0" encoding="UTF-8"?><b> é</b>'),
    "inet": ("10.0.0.1", "10.1.0.0/16", "::1"),
    "cidr": ("10.0.0.0/8", "10.0.0.1"),
    "macaddr": ("08:00:2b:01:02:03",),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "bit(3)": ("101",),
    "varbit": ("1", "101"),
    "point": ("(1,-0)",),
    "int4range": ("[1,5]", "empty"),
    "int4multirange": ("{[1,2],[5,6]}",),
    "tsvector": ("'cat':2 'fat':1",),
    "tsquery": ("fat & cat",),
    "pg_lsn": ("1/A",),
    "xid8": ("18446744073709551615",),
    "jsonpath": ("$.a[*]",),
    "boolean[]": ("{t,NULL,f}", "{}"),
    "integer[]": ("{1,2}", "[0:1]={1,2}"),
    "numeric(10,2)[]": ("{1.50,2}",),
    "char(3)[]": ("{a,bc}",),
    "text[]": ('{a,1,"b c"}', "{1}", "{2024-1-2}", "{t}"),
    "date[]": ("{2024-01-02}",),
    "timestamp[]": ("{2024-01-02 03:04:05}",),
    "timestamptz[]": ("{2024-01-02 03:04:05+09}",),
    "s.of_boolean": ("t",),
    "s.of_integer": ("12",),
    "s.of_numeric": ("1.5", "123"),
    "s.of_varchar": ("ab", "ab   "),
    "s.of_char": ("ab",),
    "s.of_bpchar": ("ab ", "12"),
    "s.of_text": ("a", "12"),
    "s.of_date": ("2024-02-29",),
    "s.of_timestamp": ("2024-02-29 12:34:56",),
    "s.of_timestamptz": ("2024-02-29 12:34:56.789+00",),
    "s.of_uuid": ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",),
    "s.of_json": ('{"a":1,  "a":2}',),
    "s.of_jsonb": ('{"a": 1}',),
    "s.of_inet": ("10.0.0.1",),
    "s.of_integers": ("{1,2}",),
    "s.of_domain": ("1.5",),
    "s.of_numeric[]": ("{1.5,2}",),
    "s.mood": ("sad", "ok"),
    "s.temper": ("sad",),
    "s.mood[]": ("{sad,ok}",),
    "s.pair": ("(1,a)",),
    "s.wider": ("1.5", "-123.45"),
    "s.wider[]": ("{1.5,NULL}",),
    "s.holds_wider": ("(1.5,a)",),
    "s.holds_wider[]": ('{"(1.5,a)",NULL}',),
    "s.spans_wider": ("[1.5,2)",),
    "s.like_text": ("", "a ", "Ab"),
    "s.like_jsonb": ('{"a":1,  "a":2}',),
    "s.sized": ("ab",),
    "s.sized(5)": ("ab",),
}  # fmt: skip
OWN = """
CREATE DOMAIN s.of_boolean AS boolean; CREATE DOMAIN s.of_integer AS integer;
CREATE DOMAIN s.of_numeric AS numeric(8,3); CREATE DOMAIN s.of_varchar AS varchar(5); CREATE DOMAIN s.of_char AS char(5);
CREATE DOMAIN s.of_bpchar AS bpchar; CREATE DOMAIN s.of_text AS text; CREATE DOMAIN s.of_date AS date;
CREATE DOMAIN s.of_timestamp AS timestamp(0); CREATE DOMAIN s.of_timestamptz AS timestamptz;
CREATE DOMAIN s.of_uuid AS uuid; CREATE DOMAIN s.of_json AS json; CREATE DOMAIN s.of_jsonb AS jsonb;
CREATE DOMAIN s.of_inet AS inet; CREATE DOMAIN s.of_integers AS integer[]; CREATE DOMAIN s.of_domain AS s.of_numeric;
CREATE TYPE s.mood AS ENUM ('sad', 'ok'); CREATE TYPE s.temper AS ENUM ('ok', 'sad', 'bad');
CREATE TYPE s.pair AS (one integer, other text); CREATE DOMAIN s.wider AS numeric({}); CREATE TYPE s.holds_wider AS (w s.wider, t text);
CREATE TYPE s.spans_wider AS RANGE (SUBTYPE = s.wider);
"""
#: Types as extensions make them: one that keeps what it reads, as citext does, one that rewrites it, and one with a length.
LIKE = """
CREATE TYPE s.{name}; CREATE FUNCTION s.{name}_in(cstring, oid, int) RETURNS s.{name} LANGUAGE internal IMMUTABLE STRICT AS '{of}{_}in';
CREATE FUNCTION s.{name}_out(s.{name}) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS '{of}{_}out';
CREATE FUNCTION s.{name}_mod(cstring[]) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'varchartypmodin';
CREATE FUNCTION s.{name}_said(int) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'varchartypmodout';
CREATE TYPE s.{name} (INPUT = s.{name}_in, OUTPUT = s.{name}_out, TYPMOD_IN = s.{name}_mod, TYPMOD_OUT = s.{name}_said, LIKE = {of});
"""
LIKES = (("like_text", "text", ""), ("like_jsonb", "jsonb", "_"), ("sized", "varchar", ""))
#: What these make of another type, or of one of their name that is made otherwise, is known on the target alone.
KEPT = {"s.mood", "s.temper", "s.mood[]", "s.like_text"}
SIZED = {"s.sized", "s.sized(5)"}
MADE = SIZED | {"s.like_jsonb", "s.pair", "s.holds_wider", "s.holds_wider[]", "s.spans_wider"}
OPTIONS = Options(allow_narrowing=True)
UTC = "-c TimeZone=UTC -c extra_float_digits=3 -c lc_monetary=C"
TYPES_TABLE = TableRef("s", "all_types")


@dataclass(frozen=True)
class Crossed:
    """Tables of a type each, on both sides, with a column for each type that the target may have in its place.

    Attributes:
        pair: of databases.
        types: by the name of a table, what its columns are on the source.
        columns: by the name of a table, what its columns are on the target, by name.
    """

    pair: Pair
    types: dict[str, str]
    columns: dict[str, dict[str, str]]

    def create(self, one: psycopg.Connection, other: psycopg.Connection) -> None:
        for name, of in self.types.items():
            columns = self.columns[name]
            mine, theirs = (
                "".join(f", {column} {type_}" for column, type_ in listed)
                for listed in (dict.fromkeys(columns, of).items(), columns.items())
            )
            one.execute(f"CREATE TABLE s.{name} (id int PRIMARY KEY{mine})")
            other.execute(f"CREATE TABLE s.{name} (id int PRIMARY KEY{theirs})")

    def fill(self, one: psycopg.Connection, other: psycopg.Connection) -> None:
        """Give each column the values whose text the target takes for its type."""
        valid = "SELECT pg_input_is_valid(%s, type) FROM unnest(%s::text[]) AS type"
        for name, of in self.types.items():
            columns = self.columns[name]
            for number, value in enumerate(TYPES[of]):
                ((written,),) = one.execute(f"SELECT concat(%s::{of})", (value,))
                taken = other.execute(valid, (written, list(columns.values())))
                fits = [column for (is_valid,), column in zip(taken, columns, strict=True) if is_valid]
                places = ["%s"] * (1 + len(fits))
                row = f"INSERT INTO s.{name} ({', '.join(['id', *fits])}) VALUES ({', '.join(places)})"
                one.execute(row, [number, *[value] * len(fits)])

    def differing(self, pattern: str) -> list[str]:
        """Return which types are found different, or why they can't be compared."""
        found = verify(*endpoints(self.pair), Selection((pattern,)), OPTIONS, level=Level.ROWS, limit=-1)
        return [each for table in found.tables for each in self._named(table)]

    def _named(self, found: TableComparison) -> list[str]:
        name = found.target.removeprefix("s.")
        if found.error:
            return [f"{self.types[name]}: {found.error}"]
        differing = {column for each in found.differences for column in each.columns or ("id",)}
        return [f"{self.types[name]} -> {self.columns[name].get(column, column)}" for column in sorted(differing)]


def endpoints(pair: Pair) -> tuple[Endpoint, Endpoint]:
    return Endpoint(pair.source.dsn, read_only=True), Endpoint(pair.target.dsn, read_only=False)


@contextlib.contextmanager
def session(held: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(held.dsn, options=UTC, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def crossed(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Crossed]:
    with (
        database(source_cluster) as source,
        database(target_cluster) as target,
        session(source) as one,
        session(target) as other,
    ):
        types = known(target)
        for each, precision in ((one, "5,2"), (other, "10,4")):
            each.execute(f"CREATE SCHEMA s; {OWN.format(precision)}")
            for name, of, between in LIKES:
                each.execute(LIKE.format(name=name, of=of, _=between))
            each.execute(f"CREATE TABLE s.all_types ({', '.join(f'c{n} {type_}' for n, type_ in enumerate(types))})")
        pair = Pair(source, target)
        mine, theirs = map(described, endpoints(pair))
        found = Crossed(pair, {}, {})
        for number, (column, of) in enumerate(zip(mine, types, strict=True)):
            accepted = {c.name: to for c, to in zip(theirs, types, strict=True) if is_accepted(column, c)}
            for name, is_told in (f"told_{number}", True), (f"untold_{number}", False):
                if columns := {c: to for c, to in accepted.items() if can_be_told(of, to) is is_told}:
                    found.types[name], found.columns[name] = of, columns
        found.create(one, other)
        found.fill(one, other)
        yield found


def known(held: Database) -> list[str]:
    """Return the types that a server was built with."""
    try:
        held.value("SELECT '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        return [type_ for type_ in TYPES if type_ != "xml"]
    return list(TYPES)


def described(endpoint: Endpoint) -> tuple[Column, ...]:
    with endpoint.open() as opened:
        return catalog.tables(opened, [TYPES_TABLE])[0].columns


def is_accepted(source: Column, target: Column) -> bool:
    """Tell whether a plan accepts the pair, where narrowing is allowed."""
    return fidelity.judge(source, target).verdict is not Verdict.INCOMPATIBLE


def can_be_told(source: str, target: str) -> bool:
    """Tell whether the source can say what the target makes of a value."""
    if target in KEPT:
        return source.endswith("[]") or not target.endswith("[]")
    if SIZED.issuperset((source, target)):
        return True
    return target not in MADE or (source == target and "wider" not in source)


def test_whatever_a_plan_accepts_is_equal_once_it_is_copied(crossed: Crossed, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, tables = crossed.pair, "s.told_*"
    assert sum(map(len, crossed.columns.values())) > 1500
    first = sync(pair.source.dsn, pair.target.dsn, tables, options=OPTIONS)
    assert [(each.target, each.error) for each in first.failed] == []
    assert crossed.differing(tables) == []
    again = dataclasses.replace(OPTIONS, strategy=Strategy.DIFF, verify=Verify.HASH)
    second = sync(pair.source.dsn, pair.target.dsn, tables, options=again)
    assert [(each.target, each.error) for each in second.failed] == []
    assert {(each.strategy, each.staging_count) for each in second.tables} == {("diff", 0)}
    monkeypatch.setattr("pgsluice.steps.audit.probe", lambda _: None)  # what the servers hash otherwise, md5 does
    assert crossed.differing(tables) == []


def test_what_only_the_target_can_tell_is_copied_whole_and_not_called_different(crossed: Crossed) -> None:
    pair, tables = crossed.pair, "s.untold_*"
    diff = dataclasses.replace(OPTIONS, strategy=Strategy.DIFF)
    for options in (OPTIONS, diff):
        report = sync(pair.source.dsn, pair.target.dsn, tables, options=options)
        assert [(each.target, each.error) for each in report.failed] == []
    assert {(each.strategy, each.updated) for each in report.tables} == {("copy", 0)}
    hashed = sync(pair.source.dsn, pair.target.dsn, tables, options=dataclasses.replace(diff, verify=Verify.HASH))
    assert {(each.exit_code, each.step) for each in hashed.tables} == {(6, "plan")}
    for level, status in ((Level.HASH, "failed"), (Level.COUNT, "equal")):
        found = verify(*endpoints(pair), Selection((tables,)), OPTIONS, level=level).tables
        assert {each.status for each in found} == {status}
        for each in found if level is Level.HASH else ():
            for column, type_ in crossed.columns[each.target.removeprefix("s.")].items():
                assert f"{column} is " in str(each.error)
                assert f"{type_} on the target" in str(each.error)


@pytest.mark.parametrize("where", [None, "id > 0"])
def test_a_time_without_a_zone_means_utc_whatever_zone_the_role_has(pair: Pair, where: str | None) -> None:
    """The user's condition is read in the role's zone, and rows are written in UTC."""
    pair.source.execute(f"ALTER DATABASE {pair.source.name} SET TimeZone TO 'Asia/Seoul'")
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, a date, b timestamp, c time)")
    pair.source.execute(
        "INSERT INTO s.t VALUES (1, '2024-02-29', '2024-03-31 02:30:00.5', '24:00'), (2, 'infinity', NULL, NULL)"
    )
    pair.source.execute(
        "CREATE TABLE s.untold (id int PRIMARY KEY, d text); INSERT INTO s.untold VALUES (1, '2024-1-1')"
    )
    pair.target.execute("CREATE SCHEMA s; CREATE DOMAIN s.rounded AS timestamptz(0)")
    pair.target.execute("CREATE TABLE s.t (id int PRIMARY KEY, a timestamptz, b s.rounded, c timetz)")
    pair.target.execute("CREATE TABLE s.untold (id int PRIMARY KEY, d timestamptz)")
    assert sync(pair.source.dsn, pair.target.dsn, "s.*", where=where, options=OPTIONS).exit_code == 0
    known, text = verify(*endpoints(pair), Selection(("s.t", "s.untold"), where=where), OPTIONS).tables
    assert (known.status, known.error) == ("equal", None)
    assert (text.status, text.exit_code) == (("failed", 1) if where else ("equal", 0))


def test_rows_are_told_apart_by_keys_of_other_types(pair: Pair) -> None:
    mine = {"a": "boolean", "b": "char(3)", "c": "inet", "d": "date", "e": "numeric(5,2)", "f": "s.short"}
    theirs = {"a": "text", "b": "text", "c": "text", "d": "timestamp", "e": "numeric(9,4)", "f": "s.short"}
    for side, columns, length in ((pair.source, mine, 3), (pair.target, theirs, 9)):
        listed = ", ".join(f"{name} {type_}" for name, type_ in columns.items())
        side.execute(f"CREATE SCHEMA s; CREATE DOMAIN s.short AS numeric({length},{length - 2})")
        side.execute(f"CREATE TABLE s.t ({listed}, v int, PRIMARY KEY ({', '.join(columns)}))")
    row = "i % 2 = 0, 'x', '10.0.0.1', date '2024-01-01' + i, i, 1.5, i"
    pair.source.execute(f"INSERT INTO s.t SELECT {row} FROM generate_series(1, 300) i")
    assert sync(pair.source.dsn, pair.target.dsn, "s.t").exit_code == 0
    pair.target.execute("UPDATE s.t SET v = 0 WHERE e IN (7, 200)")
    (found,) = verify(*endpoints(pair), Selection(("s.t",)), level=Level.ROWS, limit=-1).tables
    assert (found.status, found.missing, found.extra, found.changed) == ("different", 0, 0, 2)
    report = sync(pair.source.dsn, pair.target.dsn, "s.t", options=Options(strategy=Strategy.DIFF, verify=Verify.HASH))
    assert (report.exit_code, report.tables[0].updated, report.tables[0].strategy) == (0, 2, "diff")


WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "upsert": {"mode": "upsert"},
    "append": {"mode": "append"},
    "incremental": {"mode": "incremental", "cursor": "at", "deletes": "sweep"},
    "xmin": {"mode": "xmin", "deletes": "sweep"},
    "condition": {"where": "at > '2000-01-01'"},
    "swap": {"strategy": Strategy.SWAP},
    "resumable": {"resumable": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_of_every_mode_proves_rows_of_other_types_by_their_hashes(pair: Pair, way: str) -> None:
    asked = dict(WAYS[way])
    given = {name: asked.pop(name) for name in ("strategy", "resumable") if name in asked}
    mine = "a boolean, b char(3), c inet, d date, e numeric(5,2), f bpchar, g json"
    theirs = "a text, b text, c varchar, d s.stamp, e s.amount, f text, g jsonb"
    for side, columns in ((pair.source, mine), (pair.target, theirs)):
        side.execute("CREATE SCHEMA s; CREATE DOMAIN s.stamp AS timestamptz(3); CREATE DOMAIN s.amount AS numeric(9,4)")
        side.execute(f"CREATE TABLE s.t (id int PRIMARY KEY, at timestamptz NOT NULL, {columns})")
    row = "now(), i % 2 = 0, 'x', '10.0.0.1', '2024-01-01', 1.5, 'y ', '{\"b\":1,  \"a\":1.0}'"
    options = Options(allow_narrowing=True, verify=Verify.HASH, **given)
    for first, last in ((1, 50), (51, 60)):
        pair.source.execute(f"INSERT INTO s.t SELECT i, {row} FROM generate_series({first}, {last}) i")
        (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options, **asked).tables
        assert (report.status, report.error) == ("done", None)
        assert pair.target.value("SELECT count(*) FROM s.t") == last


def test_a_new_table_is_hashed_by_what_its_types_mean_on_the_target(pair: Pair) -> None:
    for side, precision in ((pair.source, "5,2"), (pair.target, "9,4")):
        side.execute(f"CREATE SCHEMA s; CREATE DOMAIN s.amount AS numeric({precision})")
    pair.source.execute(
        "CREATE TABLE s.t (id int PRIMARY KEY, v s.amount, w s.amount[]); INSERT INTO s.t VALUES (1, 1.5, '{2}')"
    )
    report = sync(pair.source.dsn, pair.target.dsn, "s.t", options=Options(verify=Verify.HASH))
    assert (report.exit_code, report.tables[0].error) == (0, None)
    assert pair.target.image("s.t") == ["(1,1.5000,{2.0000})"]
