"""Databases whose text is not UTF8, and those that do not know what it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers import Database, Pair, database, run_cli

from pgsluice import Options, sync
from pgsluice.embedded import Cluster
from pgsluice.job import Lane
from pgsluice.model import TableReport
from pgsluice.shape import Constant, Mask, Masking, Shape

HANGUL = "한글 가나다\\\t|"


@pytest.fixture
def blind(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    """Give a source in SQL_ASCII that holds EUC_KR, and a target in UTF8."""
    with (
        database(source_cluster, "ENCODING 'SQL_ASCII' LOCALE 'C'") as source,
        database(target_cluster) as target,
    ):
        source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, a text, b text[])")
        insert(source, HANGUL.encode("euc_kr"))
        yield Pair(source, target)


def insert(where: Database, text: bytes) -> None:
    value = "convert_from(%s, 'SQL_ASCII')"
    where.execute(f"INSERT INTO s.t VALUES (1, {value}, ARRAY[{value}])", (text, text))


def synced(pair: Pair, **options: Any) -> TableReport:
    return sync(pair.source.dsn, pair.target.dsn, "s.t", options=Options(**options)).tables[0]


@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
def test_bytes_of_an_encoding_that_the_user_vouches_for_are_converted(blind: Pair, lane: Lane) -> None:
    report = synced(blind, lane=lane, source_encoding="EUC_KR")
    assert (report.status, report.format) == ("done", "text"), report.error
    assert blind.target.rows("SELECT a, b[1] FROM s.t") == [(HANGUL, HANGUL)]
    assert synced(blind, lane=lane, source_encoding="EUC_KR").unchanged == 1


def test_bytes_that_are_none_of_that_encoding_are_refused_by_the_target(blind: Pair) -> None:
    report = synced(blind, source_encoding="UTF8")
    assert (report.status, report.sqlstate) == ("failed", "22021")
    assert blind.target.value("SELECT to_regclass('s.t') IS NULL")


def test_a_target_in_sql_ascii_gets_the_bytes_that_the_user_wants_in_it(blind: Pair) -> None:
    back = Pair(blind.target, blind.source)
    assert synced(blind, source_encoding="EUC_KR").status == "done"
    back.target.execute("UPDATE s.t SET a = 'x', b = NULL")
    report = synced(back, target_encoding="EUC_KR")
    assert (report.status, report.updated) == ("done", 1), report.error
    assert back.target.value("SELECT convert_to(a, 'SQL_ASCII') FROM s.t") == HANGUL.encode("euc_kr")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "Say which encoding it really holds with --source-encoding"),
        ({"source_encoding": "SJIS"}, "--source-encoding SJIS is none of EUC_CN"),
        (
            {"source_encoding": "EUC_KR", "target_encoding": "EUC_KR"},
            "is UTF8 and says so itself: leave out --target-encoding",
        ),
    ],
)
def test_what_nobody_can_know_is_refused(blind: Pair, options: dict[str, str], reason: str) -> None:
    report = synced(blind, **options)
    assert report.exit_code == 6
    assert reason in str(report.error)


def test_two_databases_in_sql_ascii_exchange_bytes(source_cluster: Cluster, target_cluster: Cluster) -> None:
    ascii_ = "ENCODING 'SQL_ASCII' LOCALE 'C'"
    with database(source_cluster, ascii_) as source, database(target_cluster, ascii_) as target:
        source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, a text, b text[])")
        insert(source, b"\xff\xfe bytes of nobody")
        pair = Pair(source, target)
        assert "give both sides the same" in str(synced(pair, source_encoding="LATIN1", target_encoding="UTF8").error)
        assert synced(pair, source_encoding="LATIN1", target_encoding="LATIN1").status == "done"
        assert target.value("SELECT convert_to(a, 'SQL_ASCII') FROM s.t") == b"\xff\xfe bytes of nobody"


@pytest.mark.parametrize(
    "shape", [Shape(constants=(Constant("k", "é"),)), Shape(mask=(Mask("a", Masking.CONSTANT, "é"),))]
)
def test_what_nobody_would_convert_is_refused(blind: Pair, shape: Shape) -> None:
    options = Options(source_encoding="EUC_KR")
    report = sync(blind.source.dsn, blind.target.dsn, "s.t", shape=shape, options=options).tables[0]
    assert report.exit_code == 6
    assert "has to be ASCII while the source is SQL_ASCII" in str(report.error)


#: What a database in SQL_ASCII takes, and how it is shown where it can't be named.
NO_TEXT = {
    "a table": (b'CREATE TABLE s."b\xff\xfed" (id int PRIMARY KEY)', r"s.b\xff\xfed"),
    "a column": (b'CREATE TABLE s.c (id int PRIMARY KEY, "c\xff" int)', "s.c"),
    "a label": (b"CREATE TYPE s.e AS ENUM ('a\xff'); CREATE TABLE s.d (id int PRIMARY KEY, v s.e)", "s.d"),
    "a default": (b"CREATE TABLE s.f (id int PRIMARY KEY, v text DEFAULT 'a\xff')", "s.f"),
    "a comment": (b"CREATE TABLE s.g (id int PRIMARY KEY); COMMENT ON TABLE s.g IS 'x\xff'", "s.g"),
    "a type": (b'CREATE TYPE s."y\xff" AS (a int); CREATE TABLE s.h (id int PRIMARY KEY, v s."y\xff")', "s.h"),
}


@pytest.fixture
def odd_names(blind: Pair) -> Pair:
    """Give a source whose catalog holds bytes that are no text, beside a table that has nothing to do with them."""
    with psycopg.connect(blind.source.dsn, autocommit=True, client_encoding="SQL_ASCII") as connection:
        for statement, _ in NO_TEXT.values():
            connection.pgconn.exec_(statement)
        connection.pgconn.exec_(b'CREATE SCHEMA "s\xff"; CREATE TABLE "s\xff".t (id int PRIMARY KEY)')
    assert blind.source.value("SELECT count(*) FROM pg_class WHERE relkind = 'r' AND oid >= 16384") == len(NO_TEXT) + 2
    return blind


def test_names_that_are_no_text_keep_no_other_table_from_being_copied(odd_names: Pair) -> None:
    assert synced(odd_names, source_encoding="EUC_KR").status == "done"
    assert odd_names.target.rows("SELECT a, b[1] FROM s.t") == [(HANGUL, HANGUL)]


def test_a_pattern_copies_the_tables_that_can_be_named_and_refuses_each_other_by_itself(odd_names: Pair) -> None:
    report = sync(odd_names.source.dsn, odd_names.target.dsn, "*.*", options=Options(source_encoding="EUC_KR"))
    failed = {each.target: str(each.error) for each in report.tables if each.status == "failed"}
    assert set(failed) == {shown for _, shown in NO_TEXT.values()} | {r"s\xff.t"}
    assert all("not UTF-8" in said for said in failed.values()), failed
    assert odd_names.target.rows("SELECT a, b[1] FROM s.t") == [(HANGUL, HANGUL)]


def test_init_proposes_what_can_be_named(odd_names: Pair, tmp_path: Path) -> None:
    done = run_cli("init", "--source", odd_names.source.dsn, cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("left out: ") == len(NO_TEXT) + 1
    assert "names 1 table." in done.out


def test_a_name_that_is_not_there_is_told_beside_names_that_are_no_text(odd_names: Pair) -> None:
    told = odd_names.pgsluice("plan", "--table", "s.tt", "--source-encoding", "EUC_KR")
    assert (told.code, "there is no table s.tt on the source" in told.err, "s.t" in told.err) == (2, True, True)
