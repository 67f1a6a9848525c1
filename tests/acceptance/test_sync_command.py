"""`pgsluice sync` as a user types it."""

from __future__ import annotations

from conftest import Pair

ORDERS = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id int PRIMARY KEY, note text NOT NULL, amount numeric(10,2));
INSERT INTO sales.orders SELECT i, 'note ' || i, i * 1.5 FROM generate_series(1, 1000) i;
"""


def test_a_missing_table_is_created_and_filled(pair: Pair) -> None:
    pair.source.execute(ORDERS)
    done = pair.pgsluice("sync", "--table", "sales.orders")
    assert done.code == 0, done.err
    assert pair.target.image("sales.orders") == pair.source.image("sales.orders")
    assert pair.target.staging_tables() == []
