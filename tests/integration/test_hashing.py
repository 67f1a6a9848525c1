"""What a hash of a row tells: every change of any value of any type, and nothing else, on whatever servers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql
from servers import Database, Pair, database
from typelist import FAMILIES
from typetables import Table, fill, tables

from pgsluice import Level, MaxDelete, Options, Strategy, Verify, sync
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint
from pgsluice.hashing import Hashing, RowHash, Side
from pgsluice.job import Selection
from pgsluice.model import TableComparison
from pgsluice.plan import SyncPlan
from pgsluice.run import Run
from pgsluice.verification import verify

#: What both servers of the wheel have: no extension, no XML.
HELD = [family for family in FAMILIES if not family.needs and family.since <= 16]
TABLES = tables(HELD)
CORRUPTIONS = 10_000
OPTIONS = Options(allow_narrowing=True)


@pytest.fixture(scope="module")
def copied(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    """Give every type on both sides, as a sync has left it."""
    with database(source_cluster) as source, database(target_cluster) as target:
        fill(source, HELD)
        options = Options(max_delete=MaxDelete.parse("100%"), allow_narrowing=True)
        report = sync(source.dsn, target.dsn, "s.*", options=options)
        assert report.exit_code == 0, [(table.target, table.error) for table in report.failed]
        yield Pair(source, target)


def compared(
    pair: Pair, *patterns: str, level: Level = Level.HASH, options: Options = OPTIONS, **job: Any
) -> tuple[TableComparison, ...]:
    endpoints = Endpoint(pair.source.dsn, read_only=True), Endpoint(pair.target.dsn, read_only=False)
    return verify(*endpoints, Selection(patterns, **job), options, level=level, limit=-1).tables


@pytest.fixture(scope="module")
def hashings(copied: Pair) -> dict[str, Hashing]:
    endpoints = Endpoint(copied.source.dsn, read_only=True), Endpoint(copied.target.dsn, read_only=False)
    outcomes = Run(*endpoints, Options(allow_narrowing=True)).plan(Selection(("s.*",)))
    plans = {job.target.name: outcome for job, outcome in outcomes}
    assert plans.keys() == {table.name for table in TABLES}
    return {name: plan.hashing for name, plan in plans.items() if isinstance(plan, SyncPlan)}


def test_a_copy_of_every_type_is_found_equal_by_the_servers_own_hashes(copied: Pair) -> None:
    found = compared(copied, "s.*")
    assert len(found) == len(TABLES)
    assert [(table.target, table.status, table.hashed_by) for table in found] == [
        (table.target, "equal", "record") for table in found
    ]


@pytest.mark.parametrize("by", list(RowHash))
def test_every_corruption_of_one_value_changes_the_hash_of_its_row(
    copied: Pair, hashings: dict[str, Hashing], by: RowHash
) -> None:
    """Each value is replaced by each other one of its type, in each row: all single corruptions that there can be."""
    looked_at, missed = 0, []
    for table in TABLES:
        hashing = hashings[table.name]
        hashing = dataclasses.replace(hashing, by=by)
        for column in table.columns:
            changed, unnoticed, alarms = corrupted(copied.target, table, hashing, column)
            looked_at += changed
            missed += [f"{table.name}.{column}: {unnoticed} unnoticed, {alarms} false"] if unnoticed or alarms else []
    assert missed == []
    assert looked_at >= CORRUPTIONS


def corrupted(target: Database, table: Table, hashing: Hashing, column: str) -> tuple[int, int, int]:
    """Return how many corruptions of a column there are, how many its hash does not tell, and how many it makes up."""
    names = ["k", "n"] if table.is_key else ["id", *table.columns]
    kept = sql.SQL(", ").join(
        sql.SQL("{}.{} AS {}").format(sql.Identifier("b" if name == column else "a"), *[sql.Identifier(name)] * 2)
        for name in names
    )
    rows = sql.SQL("s.{}").format(sql.Identifier(table.name))
    query = sql.SQL(
        "SELECT count(*) FILTER (WHERE differs), count(*) FILTER (WHERE differs AND before = after),"
        " count(*) FILTER (WHERE NOT differs AND before <> after)"
        " FROM (SELECT {hash} AS after, before, differs FROM"
        "  (SELECT {kept}, a.before, record_image_ne(ROW(a.{column}), ROW(b.{column})) AS differs"
        "   FROM (SELECT *, {hash} AS before FROM {rows}) AS a CROSS JOIN {rows} AS b) AS changed) AS hashed"
    ).format(hash=hashing.row(Side.TARGET), kept=kept, rows=rows, column=sql.Identifier(column))
    changed, unnoticed, alarms = target.rows(query.as_string(None))[0]
    return int(changed), int(unnoticed), int(alarms)


@pytest.mark.parametrize(
    ("type_", "before", "after"),
    [
        ("int", "(1, 10), (2, 20)", "(1, 20), (2, 10)"),
        ("int", "(1, 1), (2, 2), (3, 3)", "(1, 3), (2, 1), (3, 2)"),
        ("text", "(1, 'a'), (2, 'b')", "(1, 'b'), (2, 'a')"),
        ("bigint", "(1, 4294967298)", "(1, 8589934593)"),
        ("bigint", "(1, 1)", "(1, -2)"),
        ("numeric", "(1, 5)", "(1, -5)"),
        ("numeric", "(1, 1.0)", "(1, 1.00)"),
        ("numeric", "(1, 'NaN')", "(1, 'Infinity')"),
        ("float8", "(1, 0)", "(1, '-0')"),
        ("interval", "(1, '1 mon')", "(1, '30 days')"),
        ("timetz", "(1, '12:00+00')", "(1, '13:00+01')"),
        ("int[]", "(1, '{1,2,3,4}')", "(1, '{{1,2},{3,4}}')"),
        ("int[]", "(1, '{1,2}')", "(1, '[0:1]={1,2}')"),
        ("text", "(1, NULL)", "(1, '')"),
        ("bpchar", "(1, 'a')", "(1, 'a ')"),
        ("jsonb", "(1, '1.0')", "(1, '1.00')"),
        ("box", "(1, '(2,2),(0,0)')", "(1, '(4,1),(0,0)')"),
    ],
    ids=[
        "exchange",
        "shift",
        "exchange-of-texts",
        "halves",
        "folded",
        "sign",
        "scale",
        "infinity",
        "zero",
        "month",
        "zone",
        "dimensions",
        "bounds",
        "null",
        "space",
        "jsonb",
        "area",
    ],
)
def test_what_is_equal_and_not_the_same_is_found_in_one_bucket(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, type_: str, before: str, after: str
) -> None:
    monkeypatch.setattr("pgsluice.hashing.buckets_for", lambda _: 1)
    for side, rows in ((pair.source, before), (pair.target, after)):
        side.execute(
            f"CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v {type_}); INSERT INTO s.t VALUES {rows}"
        )
    (found,) = compared(pair, "s.t", level=Level.ROWS)
    assert (found.status, found.buckets, found.exit_code) == ("different", 1, 4)
    assert {(each.sign, each.columns) for each in found.differences} == {("*", ("v",))}
    pair.target.execute(f"TRUNCATE s.t; INSERT INTO s.t VALUES {before}")
    assert compared(pair, "s.t")[0].status == "equal"


def test_enums_are_compared_by_label_whatever_their_numbers(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('a', 'b', 'c')")
    pair.target.execute("CREATE SCHEMA s; CREATE TYPE s.dull AS ENUM ('x'); CREATE TYPE s.mood AS ENUM ('c', 'a', 'b')")
    for side in (pair.source, pair.target):
        side.execute(
            "CREATE TABLE s.t (id s.mood PRIMARY KEY, v s.mood[]); INSERT INTO s.t VALUES ('a', '{a,b}'), ('b', '{b}')"
        )
    assert compared(pair, "s.t")[0].status == "equal"
    pair.target.execute("UPDATE s.t SET v = '{b,a}' WHERE id = 'a'")
    (found,) = compared(pair, "s.t", level=Level.ROWS)
    assert [(each.sign, each.key, each.columns) for each in found.differences] == [("*", ("a",), ("v",))]


def test_types_that_differ_are_compared_as_the_values_arrive(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, n int, v varchar(9), d date, m numeric(5,2))"
    )
    pair.target.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id bigint PRIMARY KEY, n numeric(12,2), v text, d timestamp, m numeric)"
    )
    pair.source.execute("INSERT INTO s.t SELECT i, i, i, date '2024-01-01' + i, i / 3.0 FROM generate_series(1, 99) i")
    assert sync(pair.source.dsn, pair.target.dsn, "s.t").exit_code == 0
    assert compared(pair, "s.t")[0].status == "equal"
    pair.target.execute("UPDATE s.t SET n = n + 0.01 WHERE id = 7")
    (found,) = compared(pair, "s.t", level=Level.ROWS)
    assert [(each.sign, each.key, each.columns) for each in found.differences] == [("*", ("7",), ("n",))]


@pytest.mark.parametrize("encoding", ["EUC_KR", "LATIN1"])
def test_texts_are_compared_by_character_in_whatever_encoding(
    source_cluster: Cluster, target_cluster: Cluster, encoding: str
) -> None:
    text = "가나다" if encoding == "EUC_KR" else "déjà vu"
    with database(source_cluster) as source, database(target_cluster, f"ENCODING '{encoding}' LOCALE 'C'") as target:
        pair = Pair(source, target)
        source.execute("CREATE SCHEMA s; CREATE TABLE s.t (k text PRIMARY KEY, v char(9), a text[])")
        source.execute(f"INSERT INTO s.t VALUES ('{text}', '{text}', '{{{text}}}'), ('b', 'c', NULL)")
        assert sync(source.dsn, target.dsn, "s.t").exit_code == 0
        assert [(table.status, table.error) for table in compared(pair, "s.t")] == [("equal", None)]
        target.execute("UPDATE s.t SET v = 'x' WHERE k <> 'b'")
        (found,) = compared(pair, "s.t", level=Level.ROWS)
        assert [(each.sign, each.key, each.columns) for each in found.differences] == [("*", (text,), ("v",))]


def test_a_database_that_does_not_know_its_encoding_is_compared_by_the_users_word(
    source_cluster: Cluster, target_cluster: Cluster
) -> None:
    with (
        database(source_cluster, "ENCODING 'SQL_ASCII' LOCALE 'C'") as source,
        database(target_cluster) as target,
    ):
        pair, options = Pair(source, target), Options(source_encoding="EUC_KR")
        source.execute("CREATE SCHEMA s; CREATE TABLE s.t (k text PRIMARY KEY, v text[])")
        word = "convert_from(%s, 'SQL_ASCII')"
        source.execute(
            f"INSERT INTO s.t VALUES ({word}, ARRAY[{word}])", ("가나".encode("euc_kr"), "다".encode("euc_kr"))
        )
        assert sync(source.dsn, target.dsn, "s.t", options=options).exit_code == 0
        assert compared(pair, "s.t", options=options)[0].status == "equal"
        target.execute("UPDATE s.t SET v = '{x}'")
        (found,) = compared(pair, "s.t", level=Level.ROWS, options=options)
        assert [(each.sign, each.key, each.columns) for each in found.differences] == [("*", ("가나",), ("v",))]


def test_sides_that_sort_by_other_providers_agree_on_every_key(
    source_cluster: Cluster, target_cluster: Cluster
) -> None:
    with (
        database(source_cluster, "LOCALE_PROVIDER libc LOCALE 'C.UTF-8'") as source,
        database(target_cluster, "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'") as target,
    ):
        for side in (source, target):
            side.execute('CREATE SCHEMA s; CREATE TABLE s.t (k text PRIMARY KEY, v varchar(9) COLLATE "C", w char(3))')
        source.execute(
            "INSERT INTO s.t SELECT k, upper(k), 'x' FROM unnest(ARRAY['a', 'A', 'ä', 'Ä', '가', '나다', 'z ', 'z', '', '한글 Key',"
            " '한글 key', 'é', E'e\\u0301']) AS keys (k)"
        )
        assert sync(source.dsn, target.dsn, "s.t").exit_code == 0
        (found,) = compared(Pair(source, target), "s.t", level=Level.ROWS)
        assert (found.status, found.error, found.source_rows) == ("equal", None, 13)
        target.execute("DELETE FROM s.t WHERE k = 'é'; UPDATE s.t SET k = 'Z ' WHERE k = 'z '")
        (found,) = compared(Pair(source, target), "s.t", level=Level.ROWS)
        assert (found.missing, found.extra, found.changed) == (2, 1, 0)


def test_keys_that_are_equal_and_not_the_same_become_the_same(pair: Pair) -> None:
    """Rows are matched by the key's own equality, and put into buckets by its image."""
    for side in (pair.source, pair.target):
        side.execute("CREATE SCHEMA s; CREATE TABLE s.t (k numeric PRIMARY KEY, v int)")
    pair.source.execute("INSERT INTO s.t SELECT i, i FROM generate_series(1, 500) i")
    pair.target.execute("INSERT INTO s.t SELECT (i || '.00')::numeric, i FROM generate_series(1, 500) i")
    (found,) = compared(pair, "s.t", level=Level.ROWS)
    assert (found.missing, found.extra, found.changed) == (500, 500, 0)
    options = Options(strategy=Strategy.DIFF, verify=Verify.HASH)
    report = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options).tables[0]
    assert (report.status, report.updated, report.deleted) == ("done", 500, 0), report.error
    assert compared(pair, "s.t")[0].status == "equal"
