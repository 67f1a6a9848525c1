"""`pgsluice sync` as a user types it: what arrives, what is said, and how it exits."""

from __future__ import annotations

import json
import re

import psycopg
import pytest
from servers import Database, Pair, psql_of, run_cli, start_cli

from pgsluice.embedded import Cluster

SHOP = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id int PRIMARY KEY, note text NOT NULL, amount numeric(10,2));
INSERT INTO sales.orders SELECT i, 'note ' || i, i * 1.5 FROM generate_series(1, 1000) i;
CREATE TABLE sales."Order Lines" (order_id int, line int, sku text, PRIMARY KEY (order_id, line));
INSERT INTO sales."Order Lines" SELECT i, j, 'sku' FROM generate_series(1, 100) i, generate_series(1, 3) j;
CREATE SCHEMA "판매";
CREATE TABLE "판매"."주문 내역" ("번호" int PRIMARY KEY, "이름" text);
INSERT INTO "판매"."주문 내역" VALUES (1, '가'), (2, '나');
CREATE VIEW sales.totals AS SELECT id, amount FROM sales.orders;
ANALYZE;
"""


ODD_SETTINGS = {
    "extra_float_digits": "0",
    "IntervalStyle": "'sql_standard'",
    "TimeZone": "'Asia/Seoul'",
    "array_nulls": "off",
    "bytea_output": "'escape'",
    "default_transaction_read_only": "on",
}


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute(SHOP)
    return pair


def test_a_pattern_copies_every_table_to_the_named_places(shop: Pair) -> None:
    done = shop.pgsluice("sync", "--table", "sales.*", "--table", "판매.*", "--to", "raw.{table}")
    assert done.code == 0, done.err
    for source, target in (
        ("sales.orders", "raw.orders"),
        ('sales."Order Lines"', 'raw."Order Lines"'),
        ('"판매"."주문 내역"', 'raw."주문 내역"'),
    ):
        assert shop.target.image(target) == shop.source.image(source)
    assert "3 of 3 done" in done.out
    assert shop.target.value("SELECT to_regclass('raw.totals') IS NULL"), "a pattern stands for tables"
    assert shop.target.staging_tables() == []


def test_full_inserts_updates_and_deletes_and_leaves_unchanged_rows_unwritten(shop: Pair) -> None:
    assert shop.pgsluice("sync", "--table", "sales.orders").code == 0
    untouched = "SELECT id, xmin::text, ctid::text FROM sales.orders WHERE id BETWEEN 11 AND 900 ORDER BY id"
    before = shop.target.rows(untouched)
    shop.source.execute("UPDATE sales.orders SET amount = 1.50 WHERE id <= 10")  # 1: the same already
    shop.source.execute("DELETE FROM sales.orders WHERE id > 950; INSERT INTO sales.orders VALUES (2000, 'new', 1)")
    done = shop.pgsluice("sync", "--table", "sales.orders", "--json")
    report, summary = done.lines
    counts = {name: report[name] for name in ("inserted", "updated", "unchanged", "deleted", "target_count")}
    assert counts == {"inserted": 1, "updated": 9, "unchanged": 941, "deleted": 50, "target_count": 951}
    assert report["verified"] == "count"
    assert summary["status"] == "done"
    assert shop.target.rows(untouched) == before
    assert shop.target.image("sales.orders") == shop.source.image("sales.orders")


def test_upsert_keeps_rows_that_are_gone_from_the_source(shop: Pair) -> None:
    shop.pgsluice("sync", "--table", "sales.orders")
    shop.source.execute("DELETE FROM sales.orders WHERE id > 10; UPDATE sales.orders SET note = 'x'")
    done = shop.pgsluice("sync", "--table", "sales.orders", "--mode", "upsert", "--json")
    assert [done.lines[0][name] for name in ("updated", "deleted", "target_count")] == [10, 0, 1000]


def test_values_equal_but_not_the_same_are_updated(shop: Pair) -> None:
    shop.source.execute("CREATE TABLE sales.v (id int PRIMARY KEY, n numeric, f float8, i interval, j json, b box)")
    shop.source.execute("""INSERT INTO sales.v VALUES (1, 1.0, 0, '1 mon', '{"a":1}', '(0,0),(1,4)')""")
    shop.pgsluice("sync", "--table", "sales.v")
    shop.source.execute("""UPDATE sales.v SET n = 1.00, f = '-0', i = '30 days', j = '{"a": 1}', b = '(0,0),(2,2)'""")
    assert shop.pgsluice("sync", "--table", "sales.v", "--json").lines[0]["updated"] == 1
    assert shop.target.image("sales.v") == shop.source.image("sales.v")
    assert shop.pgsluice("sync", "--table", "sales.v", "--json").lines[0]["unchanged"] == 1


@pytest.mark.parametrize("lane", ["psql", "libpq"])
@pytest.mark.parametrize("staging", ["unlogged", "temporary"])
def test_a_role_with_odd_settings_changes_no_value(shop: Pair, lane: str, staging: str) -> None:
    shop.source.execute(
        """CREATE TABLE sales.times (id int PRIMARY KEY, d date, t timestamptz, f float8, i interval, a text[], b bytea);
        INSERT INTO sales.times VALUES (1, '2026-03-04', '2026-03-04 05:06:07.123456+09', 0.30000000000000004,
          '-1 mon +2 days -00:00:01.5', '{NULL,"NULL"}', '\\x00ff'), (2, 'infinity', '-infinity', 'NaN', NULL, '{}', '')"""
    )
    styles = {shop.source: "SQL, DMY", shop.target: "German, MDY"}
    for database, style in styles.items():
        for name, value in {**ODD_SETTINGS, "DateStyle": f"'{style}'"}.items():
            database.execute(f"SET transaction_read_only = off; ALTER DATABASE {database.name} SET {name} = {value}")
    done = shop.pgsluice("sync", "--table", "sales.times", "--lane", lane, "--staging", staging)
    assert done.code == 0, done.out + done.err
    for database in styles:
        database.execute(f"SET transaction_read_only = off; ALTER DATABASE {database.name} RESET ALL")
    key = (
        "SELECT id, d::text, extract(epoch FROM t)::text, f::text, i::text, a::text, encode(b, 'hex') FROM sales.times"
    )
    assert shop.target.rows(key) == shop.source.rows(key)


def test_a_condition_means_what_it_means_to_its_author(shop: Pair) -> None:
    """Names and times in it are read as the role reads them, not as our pinned session does."""
    shop.source.execute(
        """CREATE TABLE sales.events (id int PRIMARY KEY, at timestamptz);
        INSERT INTO sales.events VALUES (1, '2026-01-01 23:30+09'), (2, '2026-01-02 00:30+09');
        CREATE FUNCTION sales.kept(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 > 0'"""
    )
    shop.source.execute(f"ALTER DATABASE {shop.source.name} SET search_path = sales, public")
    shop.source.execute(f"ALTER DATABASE {shop.source.name} SET TimeZone = 'Asia/Seoul'")
    for lane in ("psql", "libpq"):
        where = "at >= '2026-01-02' AND kept(id)"
        done = shop.pgsluice("sync", "--table", "sales.events", "--where", where, "--mode", "upsert", "--lane", lane)
        assert done.code == 0, done.out
        assert shop.target.rows("SELECT id FROM sales.events") == [(2,)]


def test_a_view_is_copied_with_a_key_that_the_user_names(shop: Pair) -> None:
    refused = shop.pgsluice("sync", "--table", "sales.totals")
    assert refused.code == 6
    assert "name the columns that do with --key a,b" in refused.out
    assert shop.pgsluice("sync", "--table", "sales.totals", "--key", "id").code == 0
    assert shop.target.image("sales.totals") == shop.source.image("sales.totals")


def test_progress_is_plain_lines_and_logs_are_json_when_nobody_watches(shop: Pair) -> None:
    done = shop.pgsluice("sync", "--table", "sales.orders", "--log-format", "json")
    events = [json.loads(line)["event"] for line in done.err.splitlines()]
    assert events[:2] == ["connected", "run_started"]
    assert events[-1] == "run_finished"
    assert "step_finished" in events
    assert shop.pgsluice("sync", "--table", "sales.orders", "--quiet").err == ""


def test_verbose_tells_each_step_and_twice_when_it_begins_and_json_logs_stay_what_they_are(shop: Pair) -> None:
    once = shop.pgsluice("sync", "--table", "sales.orders", "-v").err
    steps = re.findall(r"^sales.orders: (\w+) took \d+\.\d\d s$", once, re.MULTILINE)
    assert steps[0] == "staging"
    assert {"relay", "merge"} <= set(steps)
    assert "begins" not in once
    assert re.search(r"^sales.orders: done, 1,000 rows, .+ s$", once, re.MULTILINE)
    twice = shop.pgsluice("sync", "--table", "sales.orders", "-vv").err
    assert "sales.orders: relay begins, about 1,000 rows" in twice
    assert re.search(r"^run \w+: begins, 1 table$", twice, re.MULTILINE)
    logged = shop.pgsluice("sync", "--table", "sales.orders", "-vv", "--log-format", "json")
    assert {"event", "at"} <= set.intersection(*(set(json.loads(line)) for line in logged.err.splitlines()))


def test_quiet_and_verbose_at_once_are_refused(shop: Pair) -> None:
    done = shop.pgsluice("sync", "--table", "sales.orders", "-q", "-v")
    assert (done.code, "Leave one of them out." in done.err) == (2, True)


def test_options_come_from_the_environment_too(shop: Pair) -> None:
    done = run_cli(
        "sync", PGSLUICE_SOURCE=shop.source.dsn, PGSLUICE_TARGET=shop.target.dsn, PGSLUICE_TABLE="sales.orders"
    )
    assert done.code == 0, done.err


# --- what is refused, and how it is said


def refuse(pair: Pair, *arguments: str) -> tuple[int, str]:
    """Run a sync that must fail; the target's own tables stay as they are and nothing of staging remains."""
    census = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text !~ '^(pg_|pgsl|info)'"
    before = pair.target.rows(census)
    done = pair.pgsluice("sync", *arguments)
    assert "Traceback" not in done.err + done.out
    assert pair.target.rows(census) == before
    assert pair.target.staging_tables() == []
    return done.code, done.out + done.err


def test_an_unknown_table_gets_the_nearest_names(shop: Pair) -> None:
    code, text = refuse(shop, "--table", "sales.ordres")
    assert code == 2
    assert "there is no table sales.ordres on the source" in text
    assert "Did you mean sales.orders" in text


def test_a_pattern_that_matches_nothing_is_an_error(shop: Pair) -> None:
    code, text = refuse(shop, "--table", "nothing.*")
    assert (code, "matches no table" in text) == (2, True)


def test_a_table_without_any_key_is_refused_by_name(shop: Pair) -> None:
    shop.source.execute("CREATE TABLE sales.log (line text)")
    code, text = refuse(shop, "--table", "sales.log")
    assert code == 6
    assert "sales.log has no primary key and no unique index over NOT NULL columns" in text


def test_duplicate_and_null_keys_are_named(shop: Pair) -> None:
    shop.source.execute("CREATE TABLE sales.log (k int, line text)")
    shop.source.execute(
        "INSERT INTO sales.log SELECT i % 7, 'x' FROM generate_series(1, 20) i; INSERT INTO sales.log VALUES (NULL, 'y')"
    )
    code, text = refuse(shop, "--table", "sales.log", "--key", "k")
    assert code == 6
    assert "apart: keys that stand more than once: " in text
    code, text = refuse(shop, "--table", "sales.log", "--key", "k", "--show-row-data", "--quiet")
    assert code == 6
    assert text.count("stands") + text.count("is NULL") == 5


def test_source_and_target_may_not_be_the_same_table(shop: Pair) -> None:
    done = run_cli("sync", "--source", shop.source.dsn, "--target", shop.source.dsn, "--table", "sales.orders")
    assert done.code == 6
    assert "are the same table, sales.orders of database" in done.out
    assert shop.source.value("SELECT to_regnamespace('pgsluice') IS NULL"), "nothing was written, not even our schema"


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("id int PRIMARY KEY, note text, amount numeric(10,2), extra int NOT NULL", "Column extra of sales.orders is NOT NULL without a default"),
        ("id int PRIMARY KEY, amount numeric(10,2)", "The source has columns that sales.orders lacks: note text."),
        ("id int PRIMARY KEY, note text, amount numeric(8,1)", "amount is numeric(10,2) on the source and numeric(8,1) on the target"),
        ("id smallint PRIMARY KEY, note text, amount numeric(10,2)", "id is integer on the source and smallint on the target"),
        ("id int PRIMARY KEY, note varchar(3), amount numeric(10,2)", "note is text on the source"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name_before_the_first_write(shop: Pair, definition: str, message: str) -> None:
    shop.target.execute(f"CREATE SCHEMA sales; CREATE TABLE sales.orders ({definition})")
    code, text = refuse(shop, "--table", "sales.orders")
    assert code == 6
    assert message in text
    assert shop.target.value("SELECT to_regnamespace('pgsluice') IS NULL")


def test_every_refusal_is_told_at_once(shop: Pair) -> None:
    shop.target.execute("CREATE SCHEMA sales; CREATE TABLE sales.orders (id smallint, note int, extra int NOT NULL)")
    _, text = refuse(shop, "--table", "sales.orders", "--key", "nope")
    assert [word in text for word in ("Column id", "Column note", "Column extra", "The key names nope")] == [True] * 4


@pytest.mark.parametrize(
    "where", ["1=1); DROP TABLE sales.orders; --", "true) OR (true", "nope > 1", "id", "id = 1; SELECT 1", "id = /*"]
)
def test_a_broken_or_malicious_condition_runs_nowhere(shop: Pair, where: str) -> None:
    code, text = refuse(shop, "--table", "sales.orders", "--where", where)
    assert code == 2
    assert "the condition is not valid" in text
    assert shop.source.value("SELECT count(*) FROM sales.orders") == 1000


def test_a_condition_that_the_target_cant_answer_is_refused_where_rows_may_be_deleted(shop: Pair) -> None:
    shop.target.execute("CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY, note text)")
    code, text = refuse(shop, "--table", "sales.orders", "--where", "amount > 3")
    assert code == 6
    assert "can't be asked of the target" in text
    assert shop.pgsluice("sync", "--table", "sales.orders", "--where", "amount > 3", "--mode", "upsert").code == 0


def least_role(database: Database, grants: str = "") -> str:
    role = f"least_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'least'; {grants.format(role=role)}")
    return role


def test_a_missing_privilege_is_named_with_its_grant(shop: Pair) -> None:
    reader, writer = least_role(shop.source), least_role(shop.target)
    source = psycopg.conninfo.make_conninfo(shop.source.dsn, user=reader)
    target = psycopg.conninfo.make_conninfo(shop.target.dsn, user=writer)
    done = run_cli("sync", "--source", source, "--target", target, "--table", "sales.orders")
    assert done.code == 6
    assert f"GRANT USAGE ON SCHEMA sales TO {reader};" in done.out
    assert f"GRANT SELECT ON sales.orders TO {reader};" in done.out
    assert "GRANT CREATE ON DATABASE" in done.out
    shop.source.execute(f"GRANT USAGE ON SCHEMA sales TO {reader}; GRANT SELECT ON sales.orders TO {reader};")
    shop.target.execute(f"GRANT CREATE ON DATABASE {shop.target.name} TO {writer};")
    assert run_cli("sync", "--source", source, "--target", target, "--table", "sales.orders").code == 0
    shop.source.execute(f"DROP OWNED BY {reader}; DROP ROLE {reader}")
    shop.target.execute(f"DROP OWNED BY {writer}; DROP ROLE {writer}")


def test_a_wrong_password_exits_with_2_and_a_server_that_is_down_with_5(shop: Pair, source_cluster: Cluster) -> None:
    wrong = psycopg.conninfo.make_conninfo(source_cluster.tcp_dsn, password="wr0ng", dbname=shop.source.name)
    done = run_cli("sync", "--source", wrong, "--target", shop.target.dsn, "--table", "sales.orders")
    assert done.code == 2
    assert "password authentication failed" in done.err
    down = psycopg.conninfo.make_conninfo(source_cluster.tcp_dsn, port=1)
    ends = ("--source", down, "--target", shop.target.dsn)
    done = run_cli("sync", *ends, "--table", "sales.orders", "--retry-for", "1")
    assert done.code == 5
    assert "can't be reached" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("lane", ["psql", "libpq"])
def test_a_password_works_on_both_lanes_is_warned_of_and_is_never_shown(
    shop: Pair, source_cluster: Cluster, target_cluster: Cluster, lane: str
) -> None:
    def tcp(cluster: Cluster, database: Database) -> str:
        return psycopg.conninfo.make_conninfo(cluster.tcp_dsn, dbname=database.name)

    dsns = tcp(source_cluster, shop.source), tcp(target_cluster, shop.target)
    secrets = [str(psycopg.conninfo.conninfo_to_dict(dsn)["password"]) for dsn in dsns]
    done = run_cli("sync", "--source", dsns[0], "--target", dsns[1], "--table", "sales.orders", "--lane", lane)
    assert done.code == 0, done.err
    assert "warning: the password in --source stands in the process list" in done.err
    assert not any(secret in done.out + done.err for secret in secrets)
    history = shop.target.value("SELECT string_agg(r::text, '') FROM pgsluice.run_table r")
    assert not any(secret in history for secret in secrets)
    quiet = run_cli("sync", "--table", "sales.orders", PGSLUICE_SOURCE=dsns[0], PGSLUICE_TARGET=dsns[1])
    assert "warning" not in quiet.err


def test_psql_gets_its_password_neither_in_argv_nor_in_the_environment(shop: Pair, source_cluster: Cluster) -> None:
    shop.source.execute(
        "CREATE FUNCTION sales.slow(int) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT pg_sleep(0.01) IS NOT NULL'"
    )
    dsn = psycopg.conninfo.make_conninfo(source_cluster.tcp_dsn, dbname=shop.source.name)
    secret = str(psycopg.conninfo.conninfo_to_dict(dsn)["password"])
    process = start_cli(
        "sync", "--source", dsn, "--target", shop.target.dsn, "--table", "sales.orders", "--lane", "psql",
        "--where", "sales.slow(id)", "--mode", "upsert", "--log-format", "json",
    )  # fmt: skip
    seen = psql_of(process.pid)
    process.terminate()
    process.communicate(timeout=60)
    assert seen, "psql was seen at work"
    assert secret not in seen


def test_one_failing_table_does_not_stop_the_others(shop: Pair) -> None:
    shop.source.execute("CREATE TABLE sales.log (line text)")
    done = shop.pgsluice("sync", "--table", "sales.*", "--json")
    assert done.code == 3
    assert {line["target"]: line["status"] for line in done.lines[:-1]} == {
        "sales.log": "failed",
        "sales.orders": "done",
        'sales."Order Lines"': "done",
    }


def test_a_bad_row_is_named_by_line_and_column_without_its_value(shop: Pair) -> None:
    shop.target.execute("CREATE SCHEMA sales; CREATE DOMAIN sales.small AS text CHECK (length(value) < 9)")
    shop.source.execute("CREATE DOMAIN sales.small AS text; CREATE TABLE sales.d (id int PRIMARY KEY, v sales.small)")
    shop.source.execute(
        "INSERT INTO sales.d SELECT i, CASE WHEN i = 77 THEN 'far too secret' ELSE 'ok' END FROM generate_series(1, 100) i"
    )
    shop.target.execute("CREATE TABLE sales.d (id int PRIMARY KEY, v sales.small)")
    code, text = refuse(shop, "--table", "sales.d")
    assert code == 1
    assert "line 77" in text
    assert "23514" in text
    assert "far too secret" not in text


def test_options_that_make_no_sense_exit_with_2(shop: Pair) -> None:
    for arguments in (
        ("--table", "sales.orders", "--max-delete", "lots"),
        ("--table", "sales.orders", "--mode", "sideways"),
        ("--table", "a.b.c"),
        ("--table", "sales.*", "--to", "raw.one"),
        (),
    ):
        done = shop.pgsluice("sync", *arguments)
        assert done.code == 2, (arguments, done.out, done.err)
        assert "Traceback" not in done.err
    assert (
        run_cli("sync", "--source", "postgresql://me:s3cret@[", "--target", shop.target.dsn, "--table", "a.b").code == 2
    )
