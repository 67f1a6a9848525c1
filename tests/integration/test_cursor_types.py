"""Cursors of every kind: what a run reads next, where its watermark stands, and what is said when values don't fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from servers import Database, Pair, database

from pgsluice import DatabaseOperations, DataCopyEngine, NullCursors, Options, TableReport, sync
from pgsluice.embedded import Cluster
from pgsluice.errors import CursorError, PgsluiceError, UsageError, UserSqlError

#: A name that has to be quoted, and means something to whatever formats it carelessly.
SHOWN = Options(show_row_data=True)
CURSOR = 'Moved "at" %s {0} 언제'
COLUMN = sql.Identifier(CURSOR).as_string(None)


@pytest.fixture(scope="module")
def databases(source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    with database(source_cluster) as source, database(target_cluster) as target:
        yield Pair(source, target)


@pytest.fixture
def pair(databases: Pair) -> Pair:
    """The same two databases for all of these tests, empty for each: making them takes longer than most runs."""
    for each in (databases.source, databases.target):
        each.execute("SET client_min_messages = error; DROP SCHEMA IF EXISTS s, raw, pgsluice CASCADE")
    return databases


@pytest.fixture
def engine(pair: Pair) -> Iterator[DataCopyEngine]:
    databases = DatabaseOperations(source=pair.source.dsn, target=pair.target.dsn)
    with DataCopyEngine(databases, options=SHOWN) as engine:
        yield engine


def ran(pair: Pair, *tables: str, **settings: Any) -> TableReport:
    """Sync in this process, whatever comes of it."""
    settings = {"mode": "incremental", "options": SHOWN, **settings}
    if settings["mode"] == "incremental":
        settings = {"cursor": CURSOR, **settings}
    (report,) = sync(pair.source.dsn, pair.target.dsn, *(tables or ("s.t",)), **settings).tables
    return report


def done(pair: Pair, *tables: str, **settings: Any) -> TableReport:
    """Sync in this process, which must go well."""
    report = ran(pair, *tables, **settings)
    assert report.status == "done", (report.error, report.hint)
    assert report.source_count == report.staging_count
    return report


def table(database: Database, type_: str, *values: str | None) -> None:
    """Make ``s.t`` with a cursor of a type, and a row a value."""
    database.execute(
        "CREATE SCHEMA IF NOT EXISTS s; CREATE DOMAIN s.moment AS timestamptz; CREATE DOMAIN s.day AS text"
    )
    database.execute(
        "CREATE DOMAIN s.serial AS int NOT NULL CHECK (VALUE > 0); CREATE DOMAIN s.outer_moment AS s.moment"
    )
    database.execute(f"CREATE TABLE s.t (id int PRIMARY KEY, v text, {COLUMN.replace('%', '%%')} {type_})", ())
    add(database, type_, *values)


def add(database: Database, type_: str, *values: str | None, v: str = "") -> None:
    """Add rows with the next ids."""
    for value in values:
        database.execute(f"INSERT INTO s.t SELECT count(*) + 1, %s, %s::text::{type_} FROM s.t", (v, value))


def same(pair: Pair, source: str = "s.t", target: str = "s.t") -> bool:
    return pair.source.image(source) == pair.target.image(target)


# --- reading on


@pytest.mark.parametrize(
    ("type_", "named", "old", "last", "new", "watermark"),
    [
        ("timestamp", None, "2024-01-01 00:00:00.000001", "2024-01-01 00:00:00.000002", "2024-01-01 00:00:00.000003", None),
        ("timestamp", "timestamp", "0044-03-15 12:00:00 BC", "0043-01-01 00:00:00 BC", "0001-01-01 00:00:00", None),
        ("timestamp", None, "-infinity", "4713-01-01 00:00:00 BC", "2024-01-01 00:00:00", None),
        ("timestamptz", None, "2024-03-31 01:59:59.999999+01", "2024-03-31 03:00:00+02", "2024-03-31 03:00:00.000001+02", "2024-03-31 01:00:00.000001+00"),
        ("date", None, "0044-03-15 BC", "2024-02-29", "2024-03-01", None),
        ("smallint", None, "-32768", "0", "32767", None),
        ("integer", "integer", "9", "10", "100", None),
        ("bigint", None, "9007199254740992", "9007199254740993", "9223372036854775807", None),
        ("numeric", None, "12345678901234567890123456789012345678", "12345678901234567890123456789012345678.1", "12345678901234567890123456789012345679", None),
        ("text", "yyyymmdd", "20231231", "20240101", "20240229", None),
        ("char(8)", "yyyymmdd", "20231231", "20240101", "20240229", None),
        ("integer", "yyyymmdd", "20231231", "20240101", "20240229", None),
        ("s.day", "yyyymmdd", "20231231", "20240101", "20240229", None),
        ("text", None, "B", "a", "한글 'O''Brien' \\ %s {}", None),
        ("char(9)", None, "Z", "a", "aa", "aa"),
        ("uuid", None, "00000000-0000-0000-0000-00000000000f", "0f000000-0000-0000-0000-000000000000", "ff000000-0000-0000-0000-000000000000", None),
        ("s.moment", None, "2024-01-01 00:00:00+00", "2024-01-01 00:00:00.000001+00", "2024-01-02 00:00:00+00", None),
        ("s.outer_moment", "timestamptz", "2024-01-01 00:00:00+00", "2024-01-01 00:00:00.000001+00", "2024-01-02 00:00:00+00", None),
        ("s.serial", None, "9", "10", "100", None),
    ],
)  # fmt: skip
def test_a_run_reads_what_is_new_and_the_last_value_again_and_nothing_below(
    pair: Pair, type_: str, named: str | None, old: str, last: str, new: str, watermark: str | None
) -> None:
    for side in (pair.source, pair.target):
        table(side, type_)
    add(pair.source, type_, old, last, old)
    settings = {"late_rows": "trust", "cursor_type": named}
    first = done(pair, **settings)
    assert (first.staging_count, first.inserted, first.reading) == (3, 3, "every row: the first run")
    add(pair.source, type_, last, new)
    second = done(pair, **settings)
    assert (second.staging_count, second.inserted, second.unchanged, second.late) == (3, 2, 1, 0), "the last one too"
    assert second.watermark == (watermark or str(pair.source.value("SELECT %s::text", (new,))))
    assert same(pair)


@pytest.mark.parametrize(
    ("type_", "named", "value", "beyond"),
    [
        ("timestamptz", None, "2024-01-01 00:00:00+00", "infinity"),
        ("timestamptz", None, "2024-01-01 00:00:00+00", "2999-01-01 00:00:00+00"),
        ("date", None, "0044-03-15 BC", "9999-12-31"),
        ("numeric", None, "99999999999999999999999999999999999999", "NaN"),
        ("numeric", None, "-1", "Infinity"),
        ("integer", "yyyymmdd", "20240101", "99991231"),
        ("s.moment", None, "2024-01-01 00:00:00+00", "infinity"),
    ],
)
def test_what_is_no_watermark_yet_is_copied_in_each_run_and_does_not_hide_what_follows(
    pair: Pair, type_: str, named: str | None, value: str, beyond: str
) -> None:
    table(pair.source, type_, value, beyond)
    table(pair.target, type_)
    for expected in (2, 2):
        report = done(pair, late_rows="trust", cursor_type=named)
        assert (report.staging_count, report.future_cursors, report.watermark) == (expected, 1, value)
        assert f"rows whose {CURSOR} is no watermark yet, in the future or infinite: 1" in "\n".join(report.notes)
    add(pair.source, type_, value)
    assert done(pair, late_rows="trust", cursor_type=named).inserted == 1
    assert same(pair)


def test_before_any_value_can_be_a_watermark_everything_is_read(pair: Pair) -> None:
    table(pair.source, "date", "infinity", None)
    for _ in range(2):
        report = done(pair, late_rows="trust")
        assert (report.staging_count, report.watermark, report.null_cursors, report.future_cursors) == (2, None, 1, 1)
    assert report.reading == "every row: no row has moved the watermark yet"


def test_rows_without_a_cursor_are_copied_in_each_run_or_refused(pair: Pair) -> None:
    table(pair.source, "int", "1", "2", None, None)
    assert done(pair, late_rows="trust").null_cursors == 2
    report = done(pair, late_rows="trust")
    assert (report.staging_count, report.null_cursors, report.watermark) == (3, 2, "2")
    assert f"rows without {CURSOR}: 2, copied again in each run" in report.notes
    before = pair.target.image("s.t")
    add(pair.source, "int", "3")
    refused = ran(pair, late_rows="trust", options=Options(null_cursors=NullCursors.REFUSE))
    assert (refused.status, refused.step, refused.exit_code) == ("failed", "gate", 6)
    assert refused.error == f"2 rows have no {CURSOR}; nothing was merged"
    assert pair.target.image("s.t") == before
    assert pair.target.staging_tables() == []


def test_the_last_day_of_yyyymmdd_is_read_again_whole(pair: Pair) -> None:
    for name, type_ in (("as_text", "char(8)"), ("as_number", "int")):
        pair.source.execute(
            f"CREATE SCHEMA IF NOT EXISTS s; CREATE TABLE s.{name} (id int PRIMARY KEY, v text, day {type_});"
            f"INSERT INTO s.{name} SELECT i, 'old', ('2024010' || 1 + i %% 3)::{type_} FROM generate_series(1, 30) i",
            (),
        )
        settings = {"cursor": "day", "cursor_type": "yyyymmdd", "late_rows": "trust"}
        assert done(pair, f"s.{name}", **settings).watermark == "20240103"
        pair.source.execute(
            f"UPDATE s.{name} SET v = 'new' WHERE id IN (2, 5); INSERT INTO s.{name} VALUES (31, 'new', '20240103')"
        )
        report = done(pair, f"s.{name}", **settings)
        assert (report.staging_count, report.inserted, report.updated, report.unchanged) == (11, 1, 2, 8)
        assert same(pair, f"s.{name}", f"s.{name}")


# --- a span behind the watermark


@pytest.mark.parametrize(
    ("type_", "named", "values", "span", "read"),
    [
        ("timestamp", None, ["2024-01-01 09:59:59", "2024-01-01 10:00:00", "2024-01-01 12:00:00"], "2h", 2),
        ("timestamptz", None, ["2024-03-30 12:00+00", "2024-03-31 11:00+00", "2024-03-31 12:00+00"], "1 day", 3),
        ("date", None, ["2024-02-28", "2024-02-29", "2024-03-01"], "12 hours", 2),
        ("smallint", None, ["-32768", "-32767", "32767"], "65534", 2),
        ("integer", None, ["-1", "0", "100"], "100", 2),
        ("bigint", None, ["9223372036854775796", "9223372036854775797", "9223372036854775807"], "10", 2),
        ("numeric", None, ["0.9", "1", "1.1"], "0.1", 2),
        ("text", "yyyymmdd", ["20240227", "20240228", "20240301"], "2 days", 2),
        ("integer", "yyyymmdd", ["20231130", "20231201", "20240101"], "1 month", 2),
        ("s.moment", None, ["2024-01-01 09:59:59+00", "2024-01-01 10:00:00+00", "2024-01-01 12:00:00+00"], "2h", 2),
    ],
)
def test_an_overlap_reads_that_far_behind_the_watermark_again_and_no_farther(
    pair: Pair, type_: str, named: str | None, values: list[str], span: str, read: int
) -> None:
    table(pair.source, type_, *values)
    table(pair.target, type_)
    settings = {"cursor_type": named, "late_rows": f"overlap:{span}"}
    assert done(pair, **settings).staging_count == 3
    pair.source.execute("UPDATE s.t SET v = 'unseen' WHERE id = 1; UPDATE s.t SET v = 'seen' WHERE id = 2")
    report = done(pair, **settings)
    assert (report.staging_count, report.updated) == (read, read - 1)
    assert pair.target.value("SELECT v FROM s.t WHERE id = 2") == "seen"


@pytest.mark.parametrize(
    ("type_", "named", "setting", "message"),
    [
        ("timestamp", None, {"late_rows": "overlap:soon"}, "'soon' is no span on"),
        ("timestamp", None, {"late_rows": "overlap:-2h"}, "'-2h' is no span on"),
        ("integer", None, {"late_rows": "overlap:2h"}, "'2h' is no span on"),
        ("integer", None, {"late_within": "7d"}, "'7d' is no span on"),
        ("timestamp", None, {"since": "soon"}, "'soon' is no value of"),
        ("timestamp", None, {"since": ""}, "'' is no value of"),
        ("integer", None, {"since": "1.5"}, "'1.5' is no value of"),
        ("uuid", None, {"since": "7"}, "'7' is no value of"),
        ("text", "yyyymmdd", {"since": "yesterday"}, "'yesterday' is no value of"),
        ("integer", "yyyymmdd", {"since": "2024"}, "'2024' is no value of"),
        ("text", "yyyymmdd", {"since": "20240231"}, "'20240231' is no value of"),
    ],
)
def test_a_span_or_value_that_is_none_is_refused_by_name(
    pair: Pair, type_: str, named: str | None, setting: dict[str, str], message: str
) -> None:
    table(pair.source, type_)
    report = ran(pair, cursor_type=named, **setting)
    assert (report.status, report.exit_code) == ("failed", 2)
    assert f"{message} {CURSOR}" in str(report.error)
    assert pair.target.value("SELECT to_regclass('s.t') IS NULL")


@pytest.mark.parametrize("type_", ["text", "uuid"])
@pytest.mark.parametrize("setting", [{"late_rows": "overlap:10"}, {"late_within": "10"}])
def test_where_there_is_no_arithmetic_a_span_says_so(pair: Pair, type_: str, setting: dict[str, str]) -> None:
    table(pair.source, type_)
    report = ran(pair, **setting)
    assert report.status == "failed"
    assert f"'10' is no span on {CURSOR}, which is {type_}" in str(report.error)
    assert "Write a number" not in report.hint, "a number would be refused just the same"


# --- values that are not of the kind


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("text", "2024-01-05"),
        ("text", ""),
        ("text", "20230229"),
        ("char(10)", "2024010"),
        ("integer", "2024"),
        ("integer", "20240132"),
        ("bigint", "1704067200"),
    ],
)
def test_a_value_that_is_no_date_in_a_yyyymmdd_column_stops_the_run_and_is_shown(
    pair: Pair, type_: str, value: str
) -> None:
    table(pair.source, type_, "20240101", "20240110")
    settings = {"cursor_type": "yyyymmdd", "late_rows": "trust"}
    done(pair, **settings)
    before = pair.target.image("s.t")
    add(pair.source, type_, value, "20240111")
    report = ran(pair, **settings)
    assert report.status == "failed", "wherever it sorts"
    assert f"column {CURSOR} is read as yyyymmdd and holds" in str(report.error)
    assert repr(value) in str(report.error) or value in str(report.error)
    assert pair.target.image("s.t") == before
    pair.source.execute("DELETE FROM s.t WHERE id = 3")
    assert done(pair, **settings).inserted == 1


@pytest.mark.parametrize(
    ("type_", "named", "value", "message"),
    [
        ("text", "timestamp", "2024-01-01", r"is text, which is not read as timestamp (one value is '2024-01-01')"),
        ("integer", "date", "20240101", r"is integer, which is not read as date (one value is '20240101')"),
        ("timestamp", "timestamptz", "2024-01-01", "is timestamp without time zone, which is not read as timestamptz"),
        ("date", "yyyymmdd", "2024-01-01", r"is date, which is not read as yyyymmdd (one value is '2024-01-01')"),
        ("double precision", None, "1.5", "is double precision, which can't be a cursor (one value is '1.5')"),
        ("boolean", None, "true", "is boolean, which can't be a cursor (one value is 'true')"),
        ("jsonb", None, '"x"', "is jsonb, which can't be a cursor"),
        ("integer[]", None, "{1,2}", "is integer[], which can't be a cursor (one value is '{1,2}')"),
        (
            "timestamp[]",
            "timestamp",
            "{2024-01-01}",
            "is timestamp without time zone[], which is not read as timestamp",
        ),
    ],
)
def test_a_type_that_does_not_fit_is_named_with_field_and_value_on_both_ways(
    pair: Pair, engine: DataCopyEngine, type_: str, named: str | None, value: str, message: str
) -> None:
    for side in (pair.source, pair.target):
        table(side, type_, None, value)
    report = ran(pair, cursor_type=named)
    assert (report.status, report.exit_code) == ("failed", 2)
    assert f"column {CURSOR} of s.t {message}" in str(report.error)
    with pytest.raises(CursorError) as raised:
        engine._build_incremental_where_condition(CURSOR, named, "s.t")
    assert f"column {CURSOR} of s.t {message}" in raised.value.message


def test_a_field_that_does_not_exist_is_named_with_those_that_do(pair: Pair, engine: DataCopyEngine) -> None:
    for side in (pair.source, pair.target):
        table(side, "int")
    report = ran(pair, cursor="moved")
    assert (report.exit_code, report.error) == (2, "s.t has no column moved")
    assert report.hint == f"It has id, v, {CURSOR}."
    with pytest.raises(UsageError, match=r"s\.t has no column moved"):
        engine._build_incremental_where_condition("moved", "integer", "s.t")
    with pytest.raises(UsageError, match=r"s\.t has no column moved"):
        engine._get_latest_incremental_value("s.t", "moved")
    with pytest.raises(UsageError, match="'datetime2' is no type of cursor"):
        engine._build_incremental_where_condition(CURSOR, "datetime2", "s.t")


def test_a_cursor_that_only_one_side_has_is_refused(pair: Pair) -> None:
    table(pair.source, "int", "1")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v text)")
    report = ran(pair)
    assert report.exit_code == 6
    assert f"The cursor {CURSOR} is not among the columns that both sides have." in str(report.error)


def test_a_cursor_that_computes_itself_is_refused_and_says_why(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, day int GENERATED ALWAYS AS (id * 2) STORED)"
    )
    report = ran(pair, cursor="day")
    assert report.exit_code == 6
    assert "generated" in str(report.error).lower(), "both sides would have it"


# --- the condition by itself


@pytest.mark.parametrize(
    ("type_", "named", "below", "last"),
    [
        ("timestamp", "timestamp", "2024-01-01 00:00:00", "2024-01-01 00:00:00.000001"),
        ("timestamp", "timestamp", "-infinity", "0044-03-15 00:00:00 BC"),
        ("timestamptz", "timestamptz", "2024-01-01 09:00+09", "2024-01-01 00:00:00.000001+00"),
        ("timestamptz", "timestamptz", "2024-01-01 09:00+09", "infinity"),
        ("date", "date", "0045-01-01 BC", "0044-03-15 BC"),
        ("bigint", "bigint", "9223372036854775806", "9223372036854775807"),
        ("numeric", "numeric", "1", "12345678901234567890123456789012345678.000000000001"),
        ("text", "text", "a", "b' OR true -- \\ %s {}"),
        ("text", "yyyymmdd", "20240101", "20240102"),
        ("uuid", "uuid", "0f000000-0000-0000-0000-000000000000", "f0000000-0000-0000-0000-000000000000"),
        ("s.outer_moment", None, "2024-01-01 09:00+09", "2024-01-01 00:00:00.000001+00"),
    ],
)
def test_the_condition_works_in_anybodys_query(
    pair: Pair, engine: DataCopyEngine, type_: str, named: str | None, below: str, last: str
) -> None:
    """Whatever settings the session has, beside other conditions, and in a table of other columns."""
    for side in (pair.source, pair.target):
        table(side, type_, below, last)
    condition = engine._build_incremental_where_condition(CURSOR, named, "s.t")
    settings = "-c DateStyle=SQL,DMY -c TimeZone=Asia/Seoul -c IntervalStyle=sql_standard -c search_path=nowhere"
    with psycopg.connect(pair.source.dsn, options=settings) as connection:
        text = f"SELECT id FROM s.t WHERE id > 0 AND {condition} AND NOT id < 0"
        assert connection.execute(sql.SQL(text)).fetchall() == [(2,)]
    assert engine._get_source_count("s.t", condition) == 1
    assert engine.copy_with_staging_table("s.t", "raw.t", ["id"], condition).inserted == 1


@pytest.mark.parametrize(
    ("type_", "named", "values", "highest"),
    [
        ("integer", None, ["9", "10", "-1", None], "10"),
        ("numeric", None, ["9.5", "10", "-1"], "10"),
        ("numeric", None, ["99999999999999999999999999999999999999", "100000000000000000000000000000000000000.5"], "100000000000000000000000000000000000000.5"),
        ("date", None, ["0045-01-01 BC", "0044-03-15 BC"], "0044-03-15 BC"),
        ("timestamp", None, ["-infinity", "2024-01-01 00:00:00.000001"], "2024-01-01 00:00:00.000001"),
        ("timestamptz", None, ["2024-01-01 09:00+09", "2024-01-01 00:00:00.5+00"], "2024-01-01 00:00:00.5+00"),
        ("text", None, ["B", "a", "Z"], "a"),
        ("uuid", None, ["0f000000-0000-0000-0000-000000000000", "f0000000-0000-0000-0000-000000000000"], "f0000000-0000-0000-0000-000000000000"),
        ("s.serial", None, ["9", "10"], "10"),
        ("integer", None, [None, None], None),
        ("integer", None, [], None),
    ],
)  # fmt: skip
def test_the_highest_value_is_that_of_the_type_not_of_its_text(
    pair: Pair, engine: DataCopyEngine, type_: str, named: str | None, values: list[str | None], highest: str | None
) -> None:
    table(pair.target, type_, *values)
    assert engine._get_latest_incremental_value("s.t", CURSOR) == highest
    condition = engine._build_incremental_where_condition(CURSOR, named, "s.t")
    assert pair.target.value(f"SELECT count(*) FROM s.t WHERE {condition or 'true'}".replace("%", "%%"), ()) == (
        1 if highest else len(values)
    )


def test_the_condition_prefers_the_watermark_that_an_incremental_job_stored(pair: Pair, engine: DataCopyEngine) -> None:
    table(pair.source, "int", "1", "2", "3")
    done(pair)
    literal = f"{COLUMN} OPERATOR(pg_catalog.>=) '3'::integer"
    assert engine._build_incremental_where_condition(CURSOR, None, "s.t") == literal
    add(pair.target, "int", "1000")
    assert engine._build_incremental_where_condition(CURSOR, None, "s.t") == literal, "not what somebody wrote since"
    assert engine._get_latest_incremental_value("s.t", CURSOR) == "1000"
    assert engine._build_incremental_where_condition("id", None, "s.t").endswith("'4'::integer"), "another field"
    pair.target.execute("CREATE SCHEMA raw; CREATE TABLE raw.t AS TABLE s.t")
    assert engine._build_incremental_where_condition(CURSOR, None, "raw.t").endswith("'1000'::integer"), "another table"
    pair.target.execute("TRUNCATE s.t")
    assert engine._build_incremental_where_condition(CURSOR, None, "s.t") == ""
    pair.target.execute("DROP TABLE s.t; CREATE TABLE s.t AS TABLE raw.t")
    assert engine._build_incremental_where_condition(CURSOR, None, "s.t").endswith("'1000'::integer"), "a new table"
    pair.target.execute("DROP TABLE s.t")
    assert engine._build_incremental_where_condition(CURSOR, None, "s.t") == ""
    assert engine._get_latest_incremental_value("s.t", CURSOR) is None


def test_the_condition_moves_with_the_watermark_and_not_with_since(pair: Pair, engine: DataCopyEngine) -> None:
    table(pair.source, "date", "2024-01-01", "2024-01-02")
    done(pair)
    add(pair.source, "date", "2024-01-03")
    assert done(pair, since="2024-01-02").inserted == 1
    assert "'2024-01-02'::date" in engine._build_incremental_where_condition(CURSOR, "date", "s.t")
    done(pair)
    assert "'2024-01-03'::date" in engine._build_incremental_where_condition(CURSOR, "date", "s.t")


def test_the_condition_of_a_partitioned_target_is_that_of_all_its_partitions(
    pair: Pair, engine: DataCopyEngine
) -> None:
    pair.target.execute(
        "CREATE SCHEMA s; CREATE TABLE s.p (id int, n int) PARTITION BY HASH (id);"
        "CREATE TABLE s.p0 PARTITION OF s.p FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    )
    assert engine._build_incremental_where_condition("n", "integer", "s.p") == ""
    pair.target.execute("INSERT INTO s.p SELECT i, i * 10 FROM generate_series(1, 9) i")
    assert engine._build_incremental_where_condition("n", "integer", "s.p").endswith("'90'::integer")


def test_a_value_that_is_no_date_is_told_by_the_condition_too(pair: Pair, engine: DataCopyEngine) -> None:
    table(pair.target, "text", "20240101", "20240231")
    with pytest.raises(CursorError, match="is read as yyyymmdd and holds '20240231'"):
        engine._build_incremental_where_condition(CURSOR, "yyyymmdd", "s.t")


# --- a cursor that is wider on the target


@pytest.mark.parametrize(
    ("theirs", "ours", "named", "values"),
    [
        ("int", "bigint", None, ["9", "10", "100"]),
        ("int", "text", None, ["9", "10", "100"]),
        ("numeric(10,2)", "numeric", None, ["9.00", "10.50", "100.25"]),
        ("date", "timestamp", None, ["0044-03-15 BC", "2024-01-01", "2024-01-02"]),
        ("timestamp(0)", "timestamp", None, ["2024-01-01 00:00:00", "2024-01-01 00:00:01", "2024-01-02 00:00:00"]),
        ("timestamptz", "text", None, ["2024-01-01 00:00:00+00", "2024-01-01 00:00:00.5+00", "2024-01-02 00:00:00+00"]),
        ("date", "text", None, ["0044-03-15 BC", "2024-01-01", "2024-01-02"]),
        ("varchar(5)", "text", None, ["B", "a", "b"]),
        ("char(5)", "text", None, ["B", "a", "b"]),
        ("uuid", "text", None, [f"{n}0000000-0000-0000-0000-000000000000" for n in "09f"]),
        ("int", "text", "yyyymmdd", ["20240101", "20240102", "20240103"]),
        ("char(8)", "text", "yyyymmdd", ["20240101", "20240102", "20240103"]),
        ("s.moment", "s.moment", None, ["2024-01-01 00:00:00+00", "2024-01-02 00:00:00+00", "2024-01-03 00:00:00+00"]),
    ],
)
def test_a_cursor_that_is_wider_on_the_target_is_compared_as_the_source_does(
    pair: Pair, theirs: str, ours: str, named: str | None, values: list[str]
) -> None:
    table(pair.source, theirs, *values[:2])
    table(pair.target, ours)
    settings = {"cursor_type": named, "late_rows": "trust"}
    assert done(pair, **settings).inserted == 2
    add(pair.source, theirs, values[1], values[2], values[0])
    report = done(pair, **settings)
    assert (report.staging_count, report.inserted) == (3, 2), "the tie and the new one, and not the low one"
    assert pair.target.rows("SELECT id FROM s.t ORDER BY 1") == [(1,), (2,), (3,), (4,)]
    assert pair.source.value(f"SELECT %s::{theirs} = %s::{theirs}", (report.watermark, values[2]))
    pair.source.execute("UPDATE s.t SET v = 'late' WHERE id = 5")
    found = done(pair, cursor_type=named, late_rows="scan")
    assert (found.staging_count, found.inserted, found.late) == (3, 1, 2), "all that was written since the first run"
    assert pair.target.value("SELECT count(*) FROM s.t") == 5


# --- a SELECT as the source


def query_table(pair: Pair) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.sale (id int PRIMARY KEY, at timestamptz, who text);
        INSERT INTO s.sale SELECT i, timestamptz '2024-01-01 00:00Z' + i * interval '1 hour', 'w' || i % 3
        FROM generate_series(1, 100) i"""
    )


def test_a_query_reads_on_by_a_column_of_its_own(pair: Pair, engine: DataCopyEngine) -> None:
    """A join, an expression as the cursor, hostile names, a percent sign, braces and a closing comment."""
    query_table(pair)
    query = f"""
        WITH named AS (SELECT 'w' || n AS who, '{{}} %s' AS "Who's % {{}}" FROM generate_series(0, 2) n)
        SELECT sale.id, named."Who's % {{}}", date_trunc('day', sale.at) AS {COLUMN}
          FROM s.sale JOIN named USING (who) WHERE named.who LIKE 'w%' -- every one
    ;  -- the end
    """
    first = engine.copy_data_with_custom_sql(query, "raw.sale", ["id"], CURSOR, "timestamptz")
    assert (first.staging_count, first.inserted, first.created, first.mode) == (100, 100, True, "incremental")
    second = engine.copy_data_with_custom_sql(query, "raw.sale", ["id"], CURSOR, "timestamptz")
    assert (second.staging_count, second.unchanged) == (5, 5), "the last day"
    assert second.reading == "from 2024-01-05 00:00:00+00 on"
    pair.source.execute("INSERT INTO s.sale VALUES (101, '2024-02-01Z', 'w1'), (102, '2023-01-01Z', 'w1')")
    third = engine.copy_data_with_custom_sql(query, "raw.sale", ["id"], CURSOR, "timestamptz")
    assert (third.staging_count, third.inserted) == (6, 1)
    assert any(note.startswith("not guaranteed: a row whose") for note in third.notes), "102 is missed, and it says so"
    again = engine.copy_data_with_custom_sql(query, "raw.sale", ["id"], CURSOR, late_rows="overlap:2 years")
    assert (again.staging_count, again.inserted) == (102, 1)


def test_a_query_begins_at_the_highest_value_of_a_target_that_is_there(pair: Pair, engine: DataCopyEngine) -> None:
    query_table(pair)
    pair.target.execute(
        "CREATE SCHEMA raw; CREATE TABLE raw.sale (who text, id bigint PRIMARY KEY, at timestamptz, mine text DEFAULT 'm');"
        "INSERT INTO raw.sale VALUES ('?', 90, '2024-01-04 18:00Z')"
    )
    query = "SELECT id, at, who FROM s.sale"
    report = engine.copy_data_with_custom_sql(query, "raw.sale", ["id"], "at")
    assert (report.staging_count, report.inserted, report.updated) == (11, 10, 1)
    assert report.reading == "from the target's highest value on, 2024-01-04 18:00:00+00"
    pair.target.execute("INSERT INTO raw.sale VALUES ('by hand', 1000, '2030-01-01Z')")
    report = engine.copy_data_with_custom_sql(query, "raw.sale", ["id"], "at")
    assert (report.staging_count, report.watermark) == (1, "2024-01-05 04:00:00+00"), (
        "its own watermark, not the hand's"
    )


def test_a_query_without_a_field_is_merged_whole_each_time(pair: Pair, engine: DataCopyEngine) -> None:
    query_table(pair)
    query = "SELECT who, count(*) AS n, max(at) AS last FROM s.sale GROUP BY who"
    assert engine.copy_data_with_custom_sql(query, "raw.who", ["who"]).inserted == 3
    pair.source.execute("DELETE FROM s.sale WHERE who = 'w0'; INSERT INTO s.sale VALUES (200, now(), 'w1')")
    report = engine.copy_data_with_custom_sql(query, "raw.who", ["who"])
    assert (report.staging_count, report.updated, report.unchanged, report.deleted) == (2, 1, 1, 0)
    assert pair.target.value("SELECT count(*) FROM raw.who") == 3


@pytest.mark.parametrize(
    ("field", "type_", "message"),
    [
        ("nope", None, "(query) has no column nope"),
        ("who", "timestamp", "column who of (query) is text, which is not read as timestamp (one value is 'w1')"),
        ("who", "yyyymmdd", "column who is read as yyyymmdd and holds 'w1'"),
        ("good", None, "column good of (query) is boolean, which can't be a cursor (one value is 'true')"),
        ("at", "datetime2", "'datetime2' is no type of cursor for at"),
    ],
)
def test_a_field_of_a_query_that_does_not_fit_is_named_with_type_and_value(
    pair: Pair, engine: DataCopyEngine, field: str, type_: str | None, message: str
) -> None:
    query_table(pair)
    with pytest.raises(PgsluiceError) as raised:
        engine.copy_data_with_custom_sql("SELECT *, true AS good FROM s.sale", "raw.sale", ["id"], field, type_)
    assert message in raised.value.message
    assert not engine._table_exists("raw.sale")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, at FROM s.sale -- it's all",
        "SELECT id, at FROM s.sale; -- it's all",
        "SELECT id, at FROM s.sale /* a ; b */ ;",
        "SELECT id, at, ';' AS c FROM s.sale",
        "SELECT id, at, $$;--$$ AS c FROM s.sale",
        'SELECT id, at, 1 AS "c;--" FROM s.sale',
        "TABLE s.sale",
        "(SELECT id, at FROM s.sale) UNION ALL (SELECT -id, at FROM s.sale WHERE false) ORDER BY 1 LIMIT 1000",
        "WITH RECURSIVE x(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM x WHERE i < 100) SELECT i AS id, now() AS at FROM x",
    ],
)
def test_any_select_may_be_the_source(pair: Pair, engine: DataCopyEngine, query: str) -> None:
    query_table(pair)
    assert engine.copy_data_with_custom_sql(query, "raw.sale", ["id"]).inserted == 100


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM s.sale FOR UPDATE",
        "SELECT id, nextval('s.numbers') AS n FROM s.sale",
        "SELECT id, s.gone(id) AS n FROM s.sale",
        "SELECT id, set_config('transaction_read_only', 'off', true) AS x, s.gone(id) AS n FROM s.sale",
        "SELECT id, $1::int AS n FROM s.sale",
    ],
)
def test_a_select_that_would_write_or_lock_is_refused_and_is_not_worth_another_try(
    pair: Pair, engine: DataCopyEngine, query: str
) -> None:
    query_table(pair)
    pair.source.execute(
        "CREATE SEQUENCE s.numbers; CREATE FUNCTION s.gone(int) RETURNS int LANGUAGE sql"
        " AS 'DELETE FROM s.sale WHERE id = $1 RETURNING id'"
    )
    with pytest.raises(PgsluiceError) as raised:
        engine.copy_data_with_custom_sql(query, "raw.sale", ["id"])
    assert pair.source.value("SELECT count(*) FROM s.sale") == 100
    assert pair.source.value("SELECT NOT is_called FROM s.numbers")
    assert not engine._table_exists("raw.sale")
    assert raised.value.exit_code in {1, 2, 6}, "5 would say that trying again can help"


def test_a_query_that_is_empty_says_so(pair: Pair, engine: DataCopyEngine) -> None:
    for query in ("", " \n ", ";", "-- nothing yet\n"):
        with pytest.raises(UserSqlError, match="empty"):
            engine.copy_data_with_custom_sql(query, "raw.t", ["id"])
