"""Databases whose text is not UTF8, and those that do not know what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from servers import Database, Pair, database

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
