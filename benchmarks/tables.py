"""Public data: TPC-H from its generator, which needs no file, and many small tables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql

CREATE = {
    "lineitem": """
CREATE TABLE public.lineitem (
    l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber integer NOT NULL,
    l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL,
    l_tax numeric(15,2) NOT NULL, l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL,
    l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL,
    l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL, l_comment varchar(44) NOT NULL
)
""",
    "orders": """
CREATE TABLE public.orders (
    o_orderkey bigint NOT NULL, o_custkey bigint NOT NULL, o_orderstatus char(1) NOT NULL,
    o_totalprice numeric(15,2) NOT NULL, o_orderdate date NOT NULL, o_orderpriority char(15) NOT NULL,
    o_clerk char(15) NOT NULL, o_shippriority integer NOT NULL, o_comment varchar(79) NOT NULL
)
""",
}
_KEYS = {"lineitem": ("l_orderkey", "l_linenumber"), "orders": ("o_orderkey",)}

SMALL = """
CREATE SCHEMA small;
DO $$BEGIN FOR number IN 1..{last} LOOP
  EXECUTE format('
    CREATE TABLE small.t%1$s (id bigint PRIMARY KEY, name text NOT NULL, amount numeric(12,2), at timestamptz);
    INSERT INTO small.t%1$s SELECT i, ''name '' || i, i / 7.0, ''2024-01-01Z''::timestamptz + i * interval ''1 minute''
    FROM generate_series(1, 1000) i; ANALYZE small.t%1$s', lpad(number::text, 3, '0'));
END LOOP; END$$
"""

#: A cursor column for lineitem, and rows that have changed since.
STAMP = (
    "ALTER TABLE lineitem ADD COLUMN changed timestamptz NOT NULL DEFAULT '2024-01-01Z'",
    "UPDATE lineitem SET changed = changed + l_orderkey * interval '1 second'",
    "CREATE INDEX ON lineitem (changed)",
    "VACUUM FULL ANALYZE lineitem",
)
CHANGE = "UPDATE lineitem SET l_quantity = l_quantity + 1, changed = now() WHERE l_orderkey % {every} = 0"

_MATCH = "t.l_orderkey = s.l_orderkey AND t.l_linenumber = s.l_linenumber"
_NAMES = (
    "l_partkey", "l_suppkey", "l_quantity", "l_extendedprice", "l_discount", "l_tax", "l_returnflag", "l_linestatus",
    "l_shipdate", "l_commitdate", "l_receiptdate", "l_shipinstruct", "l_shipmode", "l_comment", "changed",
)  # fmt: skip
_SET = ", ".join(f"{name} = s.{name}" for name in _NAMES)
_ALL = ", ".join(("l_orderkey", "l_linenumber", *_NAMES))
_VALUES = ", ".join(f"s.{name}" for name in _ALL.split(", "))
MERGE = (
    f"MERGE INTO lineitem t USING landing s ON {_MATCH} WHEN MATCHED THEN UPDATE SET {_SET}"
    f" WHEN NOT MATCHED THEN INSERT ({_ALL}) VALUES ({_VALUES})"
)
BY_HAND = f"""
BEGIN; SET LOCAL work_mem = '256MB';
DELETE FROM lineitem t WHERE NOT EXISTS (SELECT FROM landing s WHERE {_MATCH});
UPDATE lineitem t SET {_SET} FROM landing s WHERE {_MATCH} AND (t.*) IS DISTINCT FROM (s.*);
INSERT INTO lineitem SELECT * FROM landing s WHERE NOT EXISTS (SELECT FROM lineitem t WHERE {_MATCH});
COMMIT
"""
#: One row in so many, wherever they lie.
SCATTERED = "UPDATE lineitem SET l_comment = 'other' WHERE hashint8(l_orderkey * 8 + l_linenumber) % {every} = 0"
_ANY = "o_orderkey IN (SELECT o_orderkey FROM orders ORDER BY md5(o_orderkey::text)"
SPOILED = (
    f"UPDATE orders SET o_comment = 'other' WHERE {_ANY} LIMIT 100)",
    f"DELETE FROM orders WHERE {_ANY} OFFSET 200 LIMIT 100)",
    "VACUUM ANALYZE orders",
)
_BLOCK_BYTES = 1 << 20


def load(dsn: str, scale: float, names: Sequence[str] = ("lineitem", "orders")) -> None:
    """Fill tables of TPC-H, with their primary keys.

    Args:
        dsn: of the database.
        scale: 1 is 6 million rows of lineitem.
        names: of the tables.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name in names:
            table = sql.Identifier(name)
            connection.execute(sql.SQL(CREATE[name]))
            with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN (FORMAT csv, HEADER)").format(table)) as copy:
                _generate(name, scale, copy.write)
            key = sql.SQL(", ").join(map(sql.Identifier, _KEYS[name]))
            connection.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(table, key))
            connection.execute(sql.SQL("VACUUM ANALYZE {}").format(table))


def _generate(name: str, scale: float, write: Callable[[bytes], None]) -> None:
    folders = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
    program = shutil.which("tpchgen-cli", path=folders)
    if program is None:
        sys.exit("tpchgen-cli was not found: pip install 'pgsluice[benchmarks]'")
    command = [program, "csv", "--scale-factor", str(scale), "--tables", name, "--stdout", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as generator:
        if generator.stdout:
            while block := generator.stdout.read(_BLOCK_BYTES):
                write(block)
    if generator.returncode != 0:
        sys.exit(f"tpchgen-cli ended with {generator.returncode}")
