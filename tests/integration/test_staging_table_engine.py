"""`DataCopyEngine`, method by method, on real servers."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from servers import Pair

from pgsluice import DatabaseOperations, DataCopyEngine, Lane, MaxDelete, Options
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint
from pgsluice.errors import (
    BusyError,
    DeleteGuardError,
    GateError,
    LoginError,
    PlanError,
    StagingLostError,
    TableNameError,
    UnknownTableError,
    UsageError,
    UserSqlError,
)
from pgsluice.events import StepFinished, TableFinished
from pgsluice.facts import TableInfo
from pgsluice.job import TableRef
from pgsluice.sinks.recorder import Recorder
from pgsluice.steps import catalog

ORDERS = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (
  id bigint PRIMARY KEY,
  created_at timestamp NOT NULL,
  note text,
  amount numeric(12,2),
  doubled numeric GENERATED ALWAYS AS (amount * 2) STORED
);
INSERT INTO sales.orders (id, created_at, note, amount)
SELECT i, timestamp '2024-01-01' + i * interval '1 hour', 'note ' || i, i FROM generate_series(1, 500) i;
ANALYZE;
"""
TARGET = """
CREATE SCHEMA raw;
CREATE TABLE raw.orders (
  id bigint PRIMARY KEY, created_at timestamp NOT NULL, note text, amount numeric(12,2), seen_by text DEFAULT 'nobody'
);
"""


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute(ORDERS)
    return pair


@pytest.fixture
def engine(pair: Pair) -> Iterator[DataCopyEngine]:
    with DataCopyEngine(DatabaseOperations(source=pair.source.dsn, target=pair.target.dsn)) as engine:
        yield engine


COPIED = "SELECT id, created_at, note, amount FROM {} ORDER BY id"


def same(pair: Pair, source: str = "sales.orders", target: str = "raw.orders") -> bool:
    return pair.source.rows(COPIED.format(source)) == pair.target.rows(COPIED.format(target))


# --- the whole way


def test_a_table_missing_on_the_target_is_created_with_types_key_and_generated_column(
    shop: Pair, engine: DataCopyEngine
) -> None:
    result = engine.copy_with_staging_table("sales.orders", "raw.orders", ["id"])
    assert (result.status, result.source_count, result.staging_count, result.target_count) == ("done", 500, 500, 500)
    assert (result.inserted, result.updated, result.deleted, result.created) == (500, 0, 0, True)
    assert shop.target.image("raw.orders") == shop.source.image("sales.orders")
    described = (
        "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull, attgenerated::text FROM pg_attribute"
    )
    where = " WHERE attrelid = '{}'::regclass AND attnum > 0 ORDER BY attnum"
    assert shop.target.rows(described + where.format("raw.orders")) == shop.source.rows(
        described + where.format("sales.orders")
    )
    key = (
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'raw.orders'::regclass AND contype = 'p'"
    )
    assert shop.target.value(key) == "PRIMARY KEY (id)"
    assert shop.target.staging_tables() == []


def test_a_second_copy_writes_only_what_changed_and_keeps_what_is_gone(shop: Pair, engine: DataCopyEngine) -> None:
    engine.copy_with_staging_table("sales.orders", "raw.orders", ["id"])
    untouched = "SELECT id, xmin::text FROM raw.orders WHERE id > 20 ORDER BY id"
    before = shop.target.rows(untouched)
    shop.source.execute("UPDATE sales.orders SET note = 'new' WHERE id <= 3; DELETE FROM sales.orders WHERE id = 7")
    shop.source.execute("INSERT INTO sales.orders (id, created_at) VALUES (501, '2025-01-01')")
    result = engine.copy_with_staging_table("sales.orders", "raw.orders", ["id"])
    assert (result.inserted, result.updated, result.unchanged, result.deleted) == (1, 3, 496, 0)
    assert shop.target.rows(untouched)[:-1] == before
    assert shop.target.value("SELECT count(*) FROM raw.orders WHERE id = 7") == 1


def test_delete_missing_deletes_within_the_condition_only(shop: Pair, engine: DataCopyEngine) -> None:
    engine.copy_with_staging_table("sales.orders", "raw.orders", ["id"])
    shop.source.execute("DELETE FROM sales.orders WHERE id IN (5, 6, 400)")
    result = engine.copy_with_staging_table(
        "sales.orders", "raw.orders", ["id"], where_condition="orders.id <= 100", delete_missing=True
    )
    assert (result.deleted, result.unchanged, result.target_count) == (2, 98, 498)
    assert shop.target.rows("SELECT id FROM raw.orders WHERE id IN (5, 6, 400)") == [(400,)]


def test_deletes_beyond_the_guard_are_refused_and_nothing_is_written(shop: Pair, engine: DataCopyEngine) -> None:
    engine.copy_with_staging_table("sales.orders", "raw.orders", ["id"])
    before = shop.target.image("raw.orders")
    shop.source.execute("DELETE FROM sales.orders WHERE id <= 100; UPDATE sales.orders SET note = 'x'")
    with pytest.raises(DeleteGuardError, match=r"100 of 500 rows \(20 %\) would be deleted") as refused:
        engine.copy_with_staging_table("sales.orders", "raw.orders", ["id"], delete_missing=True)
    assert "--max-delete 100" in refused.value.hint
    assert shop.target.image("raw.orders") == before
    assert shop.target.staging_tables() == []


def test_an_empty_source_deletes_nothing_even_from_a_small_table(pair: Pair, engine: DataCopyEngine) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1), (2)")
    with pytest.raises(DeleteGuardError, match="because the source has no rows in scope"):
        engine.copy_with_staging_table("s.t", "s.t", ["id"], delete_missing=True)
    assert pair.target.rows("SELECT id FROM s.t ORDER BY 1") == [(1,), (2,)]


def test_an_empty_source_may_empty_the_target_when_the_user_says_so(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1), (2)")
    allowed = Options(max_delete=MaxDelete.parse("2"))
    with DataCopyEngine(DatabaseOperations(pair.source.dsn, pair.target.dsn), options=allowed) as engine:
        assert engine.copy_with_staging_table("s.t", "s.t", ["id"], delete_missing=True).deleted == 2
    assert pair.target.value("SELECT count(*) FROM s.t") == 0


def test_target_only_columns_are_left_alone(shop: Pair, engine: DataCopyEngine) -> None:
    shop.target.execute(TARGET + "INSERT INTO raw.orders VALUES (1, now(), 'old', 0, 'me')")
    engine.copy_with_staging_table("sales.orders", "raw.orders", [])
    assert same(shop)
    assert shop.target.rows("SELECT DISTINCT seen_by FROM raw.orders WHERE id > 1") == [("nobody",)]
    assert shop.target.value("SELECT seen_by FROM raw.orders WHERE id = 1") == "me"


@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
def test_values_that_text_could_break_arrive_as_they_are(pair: Pair, lane: Lane) -> None:
    pair.source.execute(
        r"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v text, b bytea, j json, a text[]);
        INSERT INTO s.t VALUES (1, E'tab\tnew\nline\r\\.\\N', '\x000102ff', '{"a":  1, "a": 2}', '{NULL,"NULL","","a\"b"}'),
        (2, '', '', 'null', '{}'), (3, NULL, NULL, NULL, NULL), (4, '한글 😀', '\x5c4e', '"\\u0000"', '[0:1]={x,y}')"""
    )
    with DataCopyEngine(DatabaseOperations(pair.source.dsn, pair.target.dsn), options=Options(lane=lane)) as engine:
        result = engine.copy_with_staging_table("s.t", "s.t", ["id"])
    assert result.lane == lane.value
    assert pair.target.image("s.t") == pair.source.image("s.t")


def test_a_listener_hears_every_step_in_order(shop: Pair) -> None:
    recorder = Recorder()
    with DataCopyEngine(DatabaseOperations(shop.source.dsn, shop.target.dsn), sinks=[recorder]) as engine:
        result = engine.copy_with_staging_table("sales.orders", "raw.orders", ["id"])
    steps = [event.step for event in recorder.of(StepFinished)]
    assert steps == ["staging", "staging", "relay", "merge", "verify", "state", "commit"]
    assert [event.report for event in recorder.of(TableFinished)] == [result]
    assert result.steps.keys() == set(steps)


# --- custom SQL


def test_a_query_is_copied_and_read_on_from_the_targets_highest_value(shop: Pair, engine: DataCopyEngine) -> None:
    query = "SELECT id, created_at, note AS words FROM sales.orders -- all of it\n;"
    first = engine.copy_data_with_custom_sql(query, "raw.words", ["id"], "created_at", "timestamp")
    assert (first.inserted, first.created) == (500, True)
    shop.source.execute("INSERT INTO sales.orders (id, created_at, note) VALUES (501, '2030-01-01', 'late')")
    second = engine.copy_data_with_custom_sql(query, "raw.words", ["id"], "created_at", "timestamp")
    assert (second.staging_count, second.inserted, second.unchanged) == (2, 1, 1)
    assert shop.target.value("SELECT words FROM raw.words WHERE id = 501") == "late"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS id; DROP TABLE sales.orders",
        "SELECT 1 AS id) x, (SELECT 2",
        "DELETE FROM sales.orders RETURNING id",
        "DROP TABLE sales.orders",
        "SELECT nothing FROM sales.orders",
        "",
    ],
)
def test_a_query_that_is_not_one_select_is_refused_before_it_runs(
    shop: Pair, engine: DataCopyEngine, query: str
) -> None:
    with pytest.raises(UsageError):
        engine.copy_data_with_custom_sql(query, "raw.t", ["id"])
    assert shop.source.value("SELECT count(*) FROM sales.orders") == 500
    assert not engine._table_exists("raw.t")


# --- a step at a time


def test_the_steps_by_hand_do_what_the_whole_way_does(shop: Pair, engine: DataCopyEngine) -> None:
    shop.target.execute(TARGET)
    staging = engine.create_staging_table("raw.orders")
    persistence = "SELECT relpersistence::text, relacl::text FROM pg_class WHERE oid = %s::regclass"
    assert shop.target.rows(persistence, (str(staging),))[0][0] == "u"
    staged = engine.copy_data_to_staging("sales.orders", staging, "id <= 50")
    assert (staged.source_count, staged.staging_count, engine._get_staging_count(staging)) == (50, 50, 50)
    merged = engine.merge_from_staging("raw.orders", staged, ["id"])
    assert (merged.inserted, merged.updated, merged.unchanged, merged.target_count) == (50, 0, 0, 50)
    assert engine.merge_from_staging("raw.orders", staged, ["id"]).unchanged == 50
    again = engine._execute_merge("raw.orders", str(staging), ["id"])
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, 50)
    engine.cleanup_staging_table(staging)
    engine.cleanup_staging_table(str(staging))
    assert shop.target.staging_tables() == []
    assert shop.target.rows("SELECT id FROM raw.orders ORDER BY id") == [(i,) for i in range(1, 51)]
    assert shop.pgsluice("status").out.count("raw.orders  done") == 3


def test_a_staging_table_can_be_made_from_a_catalog_entry_before_the_target_exists(
    shop: Pair, engine: DataCopyEngine
) -> None:
    staging = engine.create_staging_table("sales.orders")
    assert [column.name for column in staging.columns] == ["id", "created_at", "note", "amount"]
    text = engine._generate_staging_table_sql("raw.stg", _described(shop))
    assert text.startswith('CREATE UNLOGGED TABLE "raw"."stg" ("id" bigint, "created_at" timestamp without time zone')
    engine.cleanup_staging_table(staging)


def _described(shop: Pair) -> TableInfo:
    with Endpoint(shop.source.dsn, read_only=True).open() as session:
        return catalog.tables(session, [TableRef("sales", "orders")])[0]


def test_the_gate_refuses_a_staging_table_that_was_emptied(shop: Pair, engine: DataCopyEngine) -> None:
    shop.target.execute(TARGET)
    staging = engine.create_staging_table("raw.orders")
    staged = engine.copy_data_to_staging("sales.orders", staging)
    shop.target.execute(f"TRUNCATE {staging}")
    with pytest.raises(StagingLostError, match="holds 0 rows and 500 were committed"):
        engine.merge_from_staging("raw.orders", staged, ["id"])
    assert shop.target.value("SELECT count(*) FROM raw.orders") == 0


@pytest.mark.parametrize("shown", [True, False])
def test_null_and_duplicate_keys_in_staging_are_counted_or_named_up_to_five(shop: Pair, shown: bool) -> None:
    databases = DatabaseOperations(source=shop.source.dsn, target=shop.target.dsn)
    engine = DataCopyEngine(databases, options=Options(show_row_data=shown))
    with pytest.raises(GateError) as refused:
        engine.copy_data_with_custom_sql(
            "SELECT CASE WHEN id % 100 = 0 THEN NULL ELSE id % 3 END AS k, id FROM sales.orders", "raw.t", ["k"]
        )
    said = refused.value.message
    assert ("(NULL) is NULL" in said) is ("(1) stands " in said) is shown
    assert ("keys that stand more than once: 3; keys that are NULL: 1" in said) is not shown
    assert not engine._table_exists("raw.t")
    assert shop.target.staging_tables() == []


def test_psql_copies_into_a_staging_table(shop: Pair, engine: DataCopyEngine) -> None:
    staging = engine.create_staging_table("sales.orders")
    staged = engine._copy_with_psql_copy("sales.orders", staging, "id > 400")
    assert (staged.lane, staged.staging_count, staged.source_count) == ("psql", 100, 100)
    engine.cleanup_staging_table(staging)


def test_without_psql_the_psql_copy_says_how_to_get_one_and_the_whole_way_does_without(shop: Pair) -> None:
    options = Options(psql="/nowhere/psql")
    with DataCopyEngine(DatabaseOperations(shop.source.dsn, shop.target.dsn), options=options) as engine:
        with pytest.raises(UsageError, match="no psql was found") as raised:
            engine._copy_with_psql_copy("sales.orders", "pgsluice.stg_x")
        assert "postgresql-client" in raised.value.hint
        assert engine.copy_with_staging_table("sales.orders", "raw.orders", ["id"]).lane == "libpq"


def test_a_staging_table_keeps_other_runs_away_until_it_is_cleaned_up(shop: Pair, engine: DataCopyEngine) -> None:
    staging = engine.create_staging_table("sales.orders")
    with (
        DataCopyEngine(DatabaseOperations(shop.source.dsn, shop.target.dsn), options=Options(wait_for_lock=0)) as other,
        pytest.raises(BusyError, match=r"another run holds sales\.orders \(pgsluice "),
    ):
        other.copy_with_staging_table("sales.orders", "sales.orders", ["id"])
    assert shop.pgsluice("clean").out == "Nothing to drop.\n"
    engine.cleanup_staging_table(staging)
    assert engine.copy_with_staging_table("sales.orders", "sales.orders", ["id"]).inserted == 500


def test_a_table_that_is_not_ours_is_never_dropped_as_staging(shop: Pair, engine: DataCopyEngine) -> None:
    shop.target.execute(TARGET)
    with pytest.raises(UsageError, match="is not a staging table of ours"):
        engine.cleanup_staging_table("raw.orders")
    assert engine._table_exists("raw.orders")


# --- looks


def test_counts_look_at_their_own_side(shop: Pair, engine: DataCopyEngine) -> None:
    shop.target.execute(TARGET + "INSERT INTO raw.orders (id, created_at) VALUES (1, now())")
    assert engine._get_source_count("sales.orders") == 500
    assert engine._get_source_count("sales.orders", "amount > 490") == 10
    assert engine._get_target_count("raw.orders") == 1
    assert engine._table_exists("raw.orders")
    assert not engine._table_exists("sales.orders")


def test_the_incremental_condition_is_empty_without_a_target_and_without_rows(
    shop: Pair, engine: DataCopyEngine
) -> None:
    assert engine._build_incremental_where_condition("created_at", "timestamp", "raw.orders") == ""
    shop.target.execute(TARGET)
    assert engine._build_incremental_where_condition("created_at", "timestamp", "raw.orders") == ""
    assert engine._get_latest_incremental_value("raw.orders", "created_at") is None


@pytest.mark.parametrize(
    ("type_", "named", "values", "latest", "rest"),
    [
        ("timestamp", "timestamp", ["2024-01-01 00:00:00.000001", "2024-01-01 00:00:00.000002"], 1, 1),
        ("timestamptz", "timestamptz", ["2024-01-01 09:00+09", "2024-01-01 08:00+00"], 1, 1),
        ("timestamp", None, ["2024-01-01", "infinity"], 1, 1),
        ("date", "date", ["0044-03-15 BC", "2024-02-29"], 1, 1),
        ("bigint", "integer", ["9007199254740993", "9007199254740992"], 0, 1),
        ("numeric", "numeric", ["0.1", "12345678901234567890123456789012345678"], 1, 1),
        ("text", "yyyymmdd", ["20240101", "20240229"], 1, 1),
        ("integer", "yyyymmdd", ["20240101", "20240229"], 1, 1),
        ("text", "text", ["a", "B"], 0, 1),
        ("uuid", "uuid", ["00000000-0000-0000-0000-000000000001", "ff000000-0000-0000-0000-000000000001"], 1, 1),
    ],
)
def test_the_incremental_condition_reads_the_highest_value_again_and_nothing_below(
    pair: Pair, engine: DataCopyEngine, type_: str, named: str | None, values: list[str], latest: int, rest: int
) -> None:
    for database in (pair.source, pair.target):
        database.execute(f'CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, "Cursor %" {type_})')
        for number, value in enumerate(values):
            database.execute(f"INSERT INTO s.t VALUES (%s, %s::text::{type_})", (number, value))
    highest = engine._get_latest_incremental_value("s.t", "Cursor %")
    assert highest == pair.target.value(f'SELECT "Cursor %%"::{type_}::text FROM s.t WHERE id = %s', (latest,)) or (
        type_ == "timestamptz"
    )
    where = engine._build_incremental_where_condition("Cursor %", named, "s.t")
    assert engine._get_source_count("s.t", where) == rest
    assert engine.copy_with_staging_table("s.t", "s.t", ["id"], where).unchanged == rest


def test_a_cursor_that_does_not_fit_is_named_with_its_type(shop: Pair, engine: DataCopyEngine) -> None:
    shop.target.execute(TARGET + "INSERT INTO raw.orders VALUES (1, now(), '2024-1-1', 1)")
    with pytest.raises(UsageError, match=r"raw\.orders has no column nothing"):
        engine._build_incremental_where_condition("nothing", "timestamp", "raw.orders")
    with pytest.raises(UsageError, match=r"column id of raw\.orders is bigint, which is not read as timestamp"):
        engine._build_incremental_where_condition("id", "timestamp", "raw.orders")
    with pytest.raises(UsageError, match="column note is read as yyyymmdd and holds a value that is none"):
        engine._build_incremental_where_condition("note", "yyyymmdd", "raw.orders")
    with pytest.raises(UsageError, match="'datetime2' is no type of cursor"):
        engine._build_incremental_where_condition("created_at", "datetime2", "raw.orders")


# --- bad input


@pytest.mark.parametrize("name", ["orders", "db.sales.orders", "", "sales.", '"sales.orders"'])
def test_a_name_that_is_not_schema_and_table_says_so(engine: DataCopyEngine, name: str) -> None:
    with pytest.raises(TableNameError, match="schema"):
        engine.copy_with_staging_table(name, "raw.orders", ["id"])


def test_an_unknown_table_gets_the_nearest_names(shop: Pair, engine: DataCopyEngine) -> None:
    with pytest.raises(UnknownTableError, match=r"no table sales\.order on the source") as raised:
        engine.copy_with_staging_table("sales.order", "raw.orders", ["id"])
    assert "sales.orders" in raised.value.hint


def test_a_malicious_condition_runs_nowhere(shop: Pair, engine: DataCopyEngine) -> None:
    for where in (
        "1=1); DROP TABLE sales.orders; --",
        "true) OR (true",
        "id = 1 /*",
        "1",
        "id > 0; SELECT 1",
        "nope = 1",
    ):
        with pytest.raises(UserSqlError):
            engine.copy_with_staging_table("sales.orders", "raw.orders", ["id"], where)
    assert shop.source.value("SELECT count(*) FROM sales.orders") == 500
    assert not engine._table_exists("raw.orders")


def test_a_condition_may_end_in_a_comment_and_hold_percent_and_braces(shop: Pair, engine: DataCopyEngine) -> None:
    where = "note LIKE 'note 1%' AND note <> '{}' -- the first"
    assert engine.copy_with_staging_table("sales.orders", "raw.orders", ["id"], where).inserted == 111


def test_a_table_is_not_copied_onto_itself(shop: Pair) -> None:
    with (
        DataCopyEngine(DatabaseOperations(shop.source.dsn, shop.source.dsn)) as engine,
        pytest.raises(PlanError, match="are the same table"),
    ):
        engine.copy_with_staging_table("sales.orders", "sales.orders", ["id"])


def test_the_connection_may_be_a_callable_a_conninfo_or_a_service(
    shop: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = []

    def source() -> str:
        asked.append(1)
        return shop.source.dsn

    info = psycopg.conninfo.conninfo_to_dict(shop.target.dsn)
    services = tmp_path_factory.mktemp("services") / "pg_service.conf"
    services.write_text("[lake]\n" + "".join(f"{name}={value}\n" for name, value in info.items()))
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    with DataCopyEngine(DatabaseOperations(source, "service=lake")) as engine:
        assert engine.copy_with_staging_table("sales.orders", "raw.orders", ["id"]).inserted == 500
    assert asked


def test_no_secret_is_in_repr_or_error(source_cluster: Cluster, target_cluster: Cluster) -> None:
    secret = "p%zzS3cr3t"
    for dsn in (f"postgresql://me:{secret}@localhost/x", f"host=localhost user=me password='{secret}' port=1"):
        operations = DatabaseOperations(dsn, dsn)
        assert secret not in repr(operations)
        with pytest.raises(Exception) as raised, DataCopyEngine(operations) as engine:  # noqa: PT011
            engine._get_source_count("a.b")
        assert secret not in str(raised.value)
        assert secret not in repr(raised.value.__dict__)
        assert raised.value.__cause__ is None


def test_a_wrong_password_is_told_from_a_server_that_is_down(source_cluster: Cluster) -> None:
    wrong = psycopg.conninfo.make_conninfo(source_cluster.tcp_dsn, password="not this")
    with pytest.raises(LoginError, match="password authentication failed") as raised:
        DataCopyEngine(DatabaseOperations(wrong, wrong))._get_source_count("a.b")
    assert "not this" not in str(raised.value)
    assert raised.value.exit_code == 2
