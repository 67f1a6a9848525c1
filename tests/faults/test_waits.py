"""Every wait has a deadline, and says who is in the way."""

from __future__ import annotations

import re

import psycopg
import pytest
from servers import Pair, run_cli


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int); INSERT INTO s.t VALUES (1, 1)")
    assert pair.pgsluice("sync", "--table", "s.t").code == 0
    pair.source.execute("UPDATE s.t SET v = 2")
    return pair


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_table_locked_by_others_ends_the_run_as_worth_trying_later(shop: Pair, side: str) -> None:
    dsn = (shop.source if side == "source" else shop.target).dsn
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE s.t IN ACCESS EXCLUSIVE MODE")
        done = shop.pgsluice("sync", "--table", "s.t", "--lock-timeout", "0.5", "--retries", "1")
    assert done.code == 5, done.out + done.err
    assert "55P03" in done.out + done.err
    assert "--lock-timeout" in done.out + done.err
    assert "idle in transaction since " in done.out + done.err, "who holds it is named"
    assert shop.target.rows("SELECT * FROM s.t") == [(1, 1)]
    assert shop.pgsluice("sync", "--table", "s.t").code == 0


@pytest.mark.parametrize("staging", ["unlogged", "temporary"])
def test_a_writer_that_does_not_finish_is_named(shop: Pair, staging: str) -> None:
    with psycopg.connect(shop.target.dsn, application_name="the culprit") as other:
        other.execute("UPDATE s.t SET v = 9")
        done = shop.pgsluice("sync", "--table", "s.t", "--lock-timeout", "0.5", "--retries", "1", "--staging", staging)
        other.rollback()
    assert done.code == 5
    assert re.search(r"held by pid \d+ \(\w+, the culprit, idle in transaction since ", done.out), done.out
    assert "s.t: merge failed: the lock on s.t was not to be had" in done.err
    assert shop.target.rows("SELECT * FROM s.t") == [(1, 1)]
    assert shop.target.staging_tables() == []


@pytest.mark.parametrize("lane", ["psql", "libpq"])
def test_timeouts_of_the_role_do_not_cut_a_copy_short(shop: Pair, lane: str) -> None:
    for database in (shop.source, shop.target):
        for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
            database.execute(f"ALTER DATABASE {database.name} SET {setting} = 20")
    where = ("--where", "pg_sleep(0.2) IS NOT NULL", "--mode", "upsert")
    done = shop.pgsluice("sync", "--table", "s.t", "--lane", lane, *where)
    assert done.code == 0, done.out


@pytest.mark.parametrize("lane", ["psql", "libpq"])
def test_a_transaction_timeout_of_the_source_is_lifted_on_both_lanes(shop: Pair, lane: str) -> None:
    shop.target.execute(f"ALTER DATABASE {shop.target.name} SET transaction_timeout = 50")
    done = run_cli(
        "sync", "--source", shop.target.dsn, "--target", shop.source.dsn, "--table", "s.t", "--lane", lane,
        "--to", "back.t", "--where", "pg_sleep(0.2) IS NOT NULL",
    )  # fmt: skip
    assert done.code == 0, done.out + done.err
    assert shop.source.rows("SELECT * FROM back.t") == [(1, 1)]
