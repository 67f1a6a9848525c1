"""A table that is missing on the target is created as the source has it: types, defaults, sequences, what is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from servers import Database, Pair, database

from pgsluice import Options, sync
from pgsluice.embedded import Cluster
from pgsluice.job import StagingKind
from pgsluice.shape import Constant, Shape

TYPES = """
CREATE SCHEMA s; CREATE SCHEMA "t y";
CREATE TYPE s.mood AS ENUM ('sad', 'it''s "ok"', '기쁨');
CREATE COLLATION s.bytes (provider = libc, locale = 'POSIX');
CREATE DOMAIN s.code AS varchar(8) COLLATE s.bytes DEFAULT 'x' CHECK (VALUE <> '') CHECK (length(VALUE) < 8);
CREATE DOMAIN s.strict_code AS s.code NOT NULL;
CREATE TYPE "t y"."inner" AS (m s.mood, c s.code[], "n n" numeric(6,2));
CREATE TYPE "t y"."outer" AS (i "t y"."inner", many "t y"."inner"[]);
CREATE DOMAIN s.whole AS "t y"."outer" CHECK (VALUE IS NULL OR (VALUE).i IS NOT NULL);
CREATE TYPE s.fr AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = s.many_fr);
CREATE TYPE s.codes AS RANGE (subtype = text, collation = "C");
CREATE TABLE s.t (
  id bigserial PRIMARY KEY,
  m s.mood NOT NULL DEFAULT 'sad', ms s.mood[], c s.strict_code, cs s.code[], o "t y"."outer", os "t y"."outer"[],
  w s.whole, r s.fr, rr s.many_fr, k s.codes, t text COLLATE s.bytes);
INSERT INTO s.t (m, ms, c, cs, o, os, w, r, rr, k, t) VALUES
  ('sad', '{sad,"it''s \\"ok\\""}', 'AbC', '{a,NULL}', ROW(ROW('기쁨', '{q}', 1.50), '{}'), '{}',
   ROW(ROW('sad', '{}', 2), NULL), '[1,2.5)', '{[1,2),[3,4)}', '[a,b)', 'X'),
  ('기쁨', NULL, 'zz', NULL, NULL, NULL, NULL, 'empty', '{}', NULL, NULL);
"""


def types_of(database: Database, table: str) -> list[tuple[str, str]]:
    return database.rows(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (table,),
    )


@pytest.mark.parametrize("staging", ["unlogged", "temporary", "promoted"])
def test_types_of_ones_own_are_created_in_the_order_in_which_they_lean_on_each_other(pair: Pair, staging: str) -> None:
    pair.source.execute(TYPES)
    options = Options(staging=StagingKind(staging))
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options).tables
    assert (report.status, report.inserted) == ("done", 2)
    assert pair.target.image("s.t") == pair.source.image("s.t")
    assert types_of(pair.target, "s.t") == types_of(pair.source, "s.t")
    constraints = "SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid <> 0 AND contype = 'c' ORDER BY 1, 2"
    assert pair.target.rows(constraints) == pair.source.rows(constraints)
    again = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options).tables[0]
    assert (again.status, again.inserted, again.updated, again.unchanged) == ("done", 0, 0, 2)


def test_two_tables_may_need_the_same_types(pair: Pair) -> None:
    pair.source.execute(TYPES + "CREATE TABLE s.u AS SELECT * FROM s.t; ALTER TABLE s.u ADD PRIMARY KEY (id);")
    report = sync(pair.source.dsn, pair.target.dsn, "s.*")
    assert report.exit_code == 0
    assert pair.target.image("s.u") == pair.source.image("s.u")


def test_a_composite_whose_fields_stand_in_another_order_on_the_target_is_refused(pair: Pair) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TYPE s.point3 AS (x int, y int, z int);
        CREATE TABLE s.t (id int PRIMARY KEY, p s.point3[]); INSERT INTO s.t VALUES (1, '{"(1,2,3)"}')"""
    )
    pair.target.execute(
        "CREATE SCHEMA s; CREATE TYPE s.point3 AS (z int, y int, x int); CREATE TABLE s.t (id int PRIMARY KEY, p s.point3[])"
    )
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t").tables
    assert report.exit_code == 6
    assert (
        "p: s.point3 is (x integer, y integer, z integer) on the source and (z integer, y integer, x integer)"
        in str(report.error)
    )
    assert pair.target.rows("SELECT * FROM s.t") == []


@pytest.mark.parametrize("drift", [None, "add"])
def test_a_type_that_is_there_under_the_same_name_and_means_something_else_is_refused(
    pair: Pair, drift: str | None
) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TYPE s.p AS (x int, y int); CREATE TYPE s.mood AS ENUM ('a', 'b');
        CREATE TABLE s.t (id int PRIMARY KEY, p s.p, m s.mood)"""
    )
    pair.target.execute("CREATE SCHEMA s; CREATE TYPE s.p AS (y int, x int); CREATE TYPE s.mood AS ENUM ('a')")
    if drift:
        pair.target.execute("CREATE TABLE s.t (id int PRIMARY KEY)")
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", drift=drift or "fail").tables
    assert report.exit_code == 6
    assert "p: s.p is (x integer, y integer) on the source and (y integer, x integer) on the target" in str(
        report.error
    )
    assert "m: the target's s.mood lacks 'b'" in str(report.error)


def test_a_key_whose_periods_do_not_overlap_is_a_key(pair: Pair) -> None:
    if pair.target.cluster.major < 18:
        pytest.skip("WITHOUT OVERLAPS is of 18")
    newer = Pair(pair.target, pair.source)
    newer.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (a int4range, during daterange, v int, PRIMARY KEY (a, during WITHOUT OVERLAPS));
        INSERT INTO s.t VALUES ('[1,2)', '[2024-01-01,2024-02-01)', 1), ('[1,2)', '[2024-02-01,2024-03-01)', 2)"""
    )
    assert sync(newer.source.dsn, newer.target.dsn, "s.t").tables[0].inserted == 2
    newer.source.execute("UPDATE s.t SET v = 3 WHERE v = 2; DELETE FROM s.t WHERE v = 1")
    report = sync(newer.source.dsn, newer.target.dsn, "s.t", max_delete="50%").tables[0]
    assert (report.status, report.updated, report.deleted) == ("done", 1, 1)
    back = sync(newer.target.dsn, newer.source.dsn, "s.t", max_delete="90%").tables[0]
    assert (back.status, back.unchanged) == ("done", 1)
    newer.target.execute("UPDATE s.t SET during = '[2024-02-15,2024-04-01)'")  # overlaps what stood there
    moved = sync(newer.target.dsn, newer.source.dsn, "s.t", max_delete="100%").tables[0]
    assert (moved.status, moved.inserted, moved.deleted) == ("done", 1, 1)
    assert newer.target.image("s.t") == newer.source.image("s.t")


def test_a_generated_column_that_is_computed_otherwise_on_the_target_is_told(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED); INSERT INTO s.t VALUES (1)"
    )
    pair.target.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 3) STORED)"
    )
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t").tables
    told = (
        "g is computed as (id * 2) on the source and is computed as (id * 3) on the target: its values are not copied"
    )
    assert told in report.notes


@pytest.mark.parametrize("drift", ["fail", "add", "widen", "ignore"])
def test_each_column_of_the_source_that_is_not_copied_is_told(pair: Pair, drift: str) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, net int, gross int, "createdAt" int,
          twice int GENERATED ALWAYS AS (net * 2) STORED); INSERT INTO s.t VALUES (1, 10, 12)"""
    )
    pair.target.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, net int, created_at int,
          gross int GENERATED ALWAYS AS (net * 2) STORED)"""
    )
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", drift=drift).tables
    told = "\n".join(report.notes)
    assert report.status == "done", report.error
    assert "gross is a plain column on the source and is computed as (net * 2) on the target" in told
    assert "column twice is generated, exists on the source only and is not copied" in told
    near = "column createdAt exists on the source only and is not copied (the target has created_at: --rename"
    assert (near in told) == (drift in {"fail", "ignore"}), told
    planned = pair.pgsluice("plan", "--table", "s.t", "--drift", drift).out
    copied = 3 if drift in {"add", "widen"} else 2
    assert f"  columns  {copied} of 5: same type, binary" in planned
    assert "           gross: computed on the target" in planned
    assert "           twice: not copied" in planned


def test_a_label_that_an_enum_inside_a_composite_lacks_is_named(pair: Pair) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('a', 'b'); CREATE TYPE s.c AS (m s.mood);
        CREATE TABLE s.t (id int PRIMARY KEY, c s.c)"""
    )
    pair.target.execute(
        "CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('a'); CREATE TYPE s.c AS (m s.mood); CREATE TABLE s.t (id int PRIMARY KEY, c s.c)"
    )
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t").tables
    assert report.exit_code == 6
    assert "c: the target's s.mood lacks 'b': add the label there" in str(report.error)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "CREATE FUNCTION s.ok(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT true'; CREATE DOMAIN s.d AS int CHECK (s.ok(VALUE));",
            "its checks or its default call functions of their own",
        ),
        ("CREATE TABLE s.d (a int);", "it is the row type of a relation"),
    ],
)
def test_a_type_that_the_catalog_does_not_tell_whole_is_refused_by_name(pair: Pair, script: str, reason: str) -> None:
    pair.source.execute(f"CREATE SCHEMA s; {script} CREATE TABLE s.t (id int PRIMARY KEY, d s.d)")
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t").tables
    assert report.exit_code == 6
    assert f"lacks the type or collation s.d, which s.t needs; it can't be created from here, for {reason}" in str(
        report.error
    )
    assert pair.target.value("SELECT to_regclass('s.t') IS NULL AND to_regtype('s.d') IS NULL")


SERIAL = """
CREATE SCHEMA s; CREATE SEQUENCE s.shared;
CREATE TABLE s.t (id serial PRIMARY KEY, small smallserial, by_tens int GENERATED BY DEFAULT AS IDENTITY (INCREMENT 10),
  shared int DEFAULT nextval('s.shared'), n int DEFAULT 7);
INSERT INTO s.t (n) SELECT g FROM generate_series(1, 40) g; DELETE FROM s.t WHERE id > 30;
COMMENT ON TABLE s.t IS 'it''s a "table"'; COMMENT ON COLUMN s.t.n IS '숫자';
"""


@pytest.mark.parametrize("staging", ["temporary", "unlogged", "promoted"])
def test_a_new_tables_sequences_go_on_where_the_sources_are(pair: Pair, staging: str) -> None:
    pair.source.execute(SERIAL)
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=Options(staging=StagingKind(staging))).tables
    assert report.status == "done"
    given = "INSERT INTO s.t DEFAULT VALUES RETURNING id, small, by_tens, n"
    assert pair.target.rows(given) == pair.source.rows(given) == [(41, 41, 401, 7)]
    assert pair.target.value("SELECT pg_get_serial_sequence('s.t', 'id')") == "s.t_id_seq"
    assert pair.target.value("SELECT obj_description('s.t'::regclass)") == 'it\'s a "table"'
    assert pair.target.value("SELECT col_description('s.t'::regclass, 5)") == "숫자"
    assert [note for note in report.notes if "shared" in note] == [
        "the default of shared is not created because it leans on other objects: nextval('s.shared'::regclass)"
    ]


def test_sequences_of_an_existing_table_catch_up_where_it_is_asked_for_and_never_go_back(pair: Pair) -> None:
    pair.source.execute(SERIAL)
    pair.target.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (id serial PRIMARY KEY, small smallint, by_tens int,
           shared int GENERATED BY DEFAULT AS IDENTITY, n int); SELECT setval('s.t_shared_seq', 5000)"""
    )
    before = sync(pair.source.dsn, pair.target.dsn, "s.t").tables[0]
    assert (before.status, pair.target.value("SELECT last_value FROM s.t_id_seq")) == ("done", 1)
    assert sync(pair.source.dsn, pair.target.dsn, "s.t", options=Options(sequences=True)).exit_code == 0
    assert pair.target.rows("SELECT nextval('s.t_id_seq'), nextval('s.t_shared_seq')") == [(41, 5001)]


ATTACHED = """
CREATE SCHEMA s; CREATE TABLE s.parent (id int PRIMARY KEY);
CREATE FUNCTION s.f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
CREATE TABLE s.t (id int PRIMARY KEY, email text, a int, b int, p int REFERENCES s.parent, during int4range,
  CONSTRAINT "one e-mail" UNIQUE NULLS NOT DISTINCT (email), UNIQUE (a, b) DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT apart EXCLUDE USING gist (during WITH &&), CONSTRAINT positive CHECK (a > 0));
CREATE INDEX "by USING b" ON s.t USING btree (b DESC NULLS LAST) INCLUDE (a) WHERE b > 3;
CREATE UNIQUE INDEX lower_email ON s.t (lower(email));
CREATE INDEX by_f ON s.t (s.f(a));
CREATE RULE nothing AS ON UPDATE TO s.t WHERE false DO INSTEAD NOTHING;
GRANT SELECT ON s.t TO PUBLIC;
INSERT INTO s.t SELECT g, 'm' || g, g, g, NULL, int4range(g, g + 1) FROM generate_series(1, 50) g;
"""
_INDEXES = "SELECT indexname::text, indexdef FROM pg_indexes WHERE schemaname = 's' AND tablename = 't' AND indexname <> 'by_f' ORDER BY 1"
_CONSTRAINTS = "SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 's.t'::regclass AND contype IN ('p', 'u', 'x') ORDER BY 1"


@pytest.mark.parametrize("staging", ["temporary", "unlogged", "promoted"])
def test_a_new_table_gets_the_constraints_and_indexes_where_it_is_asked_for(pair: Pair, staging: str) -> None:
    pair.source.execute(ATTACHED)
    options = Options(staging=StagingKind(staging), indexes=True)
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options).tables
    assert report.status == "done"
    assert pair.target.image("s.t") == pair.source.image("s.t")
    assert pair.target.rows(_INDEXES) == pair.source.rows(_INDEXES)
    assert pair.target.rows(_CONSTRAINTS) == pair.source.rows(_CONSTRAINTS)
    assert report.notes == (
        "not created on the target: check positive; foreign key t_p_fkey; grants to PUBLIC; index by_f; rule nothing",
    )


def test_indexes_of_a_table_of_another_name_are_named_by_the_server(pair: Pair) -> None:
    pair.source.execute(ATTACHED)
    pair.target.execute("CREATE SCHEMA raw; CREATE TABLE raw.lower_email (n int)")
    report = sync(pair.source.dsn, pair.target.dsn, "s.t", to="raw.u", options=Options(indexes=True))
    assert report.exit_code == 0
    assert pair.target.value("SELECT count(*) FROM pg_indexes WHERE schemaname = 'raw'") == 6


@pytest.mark.parametrize("staging", ["temporary", "promoted"])
def test_an_index_is_created_without_options_that_no_user_sets(pair: Pair, staging: str) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int, r int4range,
          CONSTRAINT apart EXCLUDE USING gist (r WITH &&)); INSERT INTO s.t VALUES (1, 2);
        CREATE INDEX by_v ON s.t (v) WITH (fillfactor = 70) WHERE v > 0; CREATE INDEX by_r ON s.t USING gist (r);
        UPDATE pg_class SET reloptions = reloptions || ARRAY['pg_version=1', 'new_one=a b']
         WHERE relnamespace = 's'::regnamespace AND relkind = 'i'"""
    )
    options = Options(staging=StagingKind(staging), indexes=True)
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options).tables
    assert report.status == "done", report.error
    assert pair.target.rows(
        "SELECT relname, reloptions FROM pg_class WHERE relnamespace = 's'::regnamespace AND relkind = 'i' ORDER BY 1"
    ) == [("apart", None), ("by_r", None), ("by_v", ["fillfactor=70"]), ("t_pkey", None)]
    assert any("option new_one of s.apart, new_one of s.by_r, new_one of s.by_v" in note for note in report.notes)


def test_what_a_new_table_does_not_get_is_listed_by_name(pair: Pair) -> None:
    pair.source.execute(ATTACHED)
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t").tables
    (listed,) = report.notes
    assert listed == (
        "not created on the target: check positive; exclusion constraint apart; foreign key t_p_fkey; grants to PUBLIC;"
        " index by USING b, by_f, lower_email; rule nothing; unique constraint one e-mail, t_a_b_key"
    )
    assert pair.target.value("SELECT count(*) FROM pg_indexes WHERE schemaname = 's'") == 1


LONG_NAMES = {
    "a table": ("s.t", "s." + "a" * 64),
    "a schema": ("s.t", "a" * 64 + ".t"),
    "a table of other letters": ("s.t", "s." + "한" * 22),
    "a table that is as long as the prefix makes it": ("s." + "b" * 60, "s.raw_" + "b" * 60),
    "both": ("s.t", "a" * 64 + "." + "b" * 100),
}


@pytest.mark.parametrize(("source", "target"), LONG_NAMES.values(), ids=LONG_NAMES)
def test_a_name_that_the_target_would_cut_is_refused_in_the_plan(pair: Pair, source: str, target: str) -> None:
    pair.source.execute(f"CREATE SCHEMA s; CREATE TABLE {source} (id int PRIMARY KEY); INSERT INTO {source} VALUES (1)")
    refused = pair.pgsluice("plan", "--table", source, "--to", target)
    assert (refused.code, "bytes, and the target would cut it at 63: use a shorter one (--to)" in refused.out) == (
        6,
        True,
    )
    assert pair.pgsluice("sync", "--table", source, "--to", target).code == 6
    assert pair.target.value("SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relkind = 'r'") == 0


_LONG = "한" * 22  # 22 letters, 66 bytes
LONG_COLUMNS: dict[str, tuple[dict[str, Any], str]] = {
    "a mark": ({"deletes": f"soft:{_LONG}"}, "--deletes soft:COLUMN"),
    "a rename": ({"shape": Shape(rename=(("v", _LONG),))}, "--rename"),
    "a rename that the target follows": ({"shape": Shape(rename=(("v", _LONG),)), "drift": "add"}, "--rename"),
    "a constant": ({"shape": Shape(constants=(Constant(_LONG, "1"),))}, "--constant"),
    "a constant that the target follows": (
        {"shape": Shape(constants=(Constant(_LONG, "1"),)), "drift": "widen"},
        "--constant",
    ),
    "a moment": ({"shape": Shape(constants=(Constant(_LONG, "@snapshot", "timestamptz"),))}, "--constant"),
}


@pytest.mark.parametrize(("how", "way"), LONG_COLUMNS.values(), ids=LONG_COLUMNS)
@pytest.mark.parametrize("exists", [True, False], ids=["to a table", "to a new table"])
def test_a_column_that_the_target_would_cut_is_refused_in_the_plan(
    pair: Pair, exists: bool, how: dict[str, Any], way: str
) -> None:
    for side in (pair.source, pair.target)[: 1 + exists]:
        side.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int); INSERT INTO s.t VALUES (1, 1)")
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.t", **how).tables
    said = f"Column {_LONG} of s.t has a name of 66 bytes, and the target would cut it at 63: use a shorter one ({way})"
    assert (table.exit_code, table.step) == (6, "plan")
    assert said in str(table.error), table.error
    assert "ALTER TABLE" not in str(table.error)
    columns = pair.target.rows("SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('s.t') AND attnum > 0")
    assert columns == ([("id",), ("v",)] if exists else [])


def test_names_that_are_longer_in_the_targets_encoding_are_refused_or_shortened(
    source_cluster: Cluster, target_cluster: Cluster
) -> None:
    name = "é" * 40  # 40 bytes there, 80 here
    with database(source_cluster, "ENCODING 'LATIN1' LOCALE 'C'") as source, database(target_cluster) as target:
        source.execute(
            f"""CREATE SCHEMA s; CREATE TYPE s.e AS ENUM ('{name}'); CREATE TYPE s.c AS ("{name}" int);
            CREATE TABLE s.t (id int PRIMARY KEY); CREATE INDEX "{name}a" ON s.t (id); CREATE INDEX "{name}b" ON s.t (id);
            CREATE TABLE s.of_enum (id int PRIMARY KEY, e s.e); CREATE TABLE s.of_fields (id int PRIMARY KEY, c s.c);
            CREATE TABLE s.follows (id int PRIMARY KEY, "{name}" int)"""
        )
        target.execute("CREATE SCHEMA s; CREATE TABLE s.follows (id int PRIMARY KEY)")
        options = Options(indexes=True)
        tables = {
            table.target: table for table in sync(source.dsn, target.dsn, "s.*", options=options, drift="add").tables
        }
        for refused in ("s.of_enum", "s.of_fields", "s.follows"):
            assert "a name of 80 bytes, and the target would cut it at 63" in str(tables[refused].error)
        assert tables["s.t"].status == "done", tables["s.t"].error
        assert target.value("SELECT count(*) FROM pg_indexes WHERE schemaname = 's' AND tablename = 't'") == 3
        left_out = sync(source.dsn, target.dsn, "s.follows").tables[0]
        assert (left_out.status, any("source only" in note for note in left_out.notes)) == ("done", True)


@pytest.mark.parametrize("name", ["a" * 63, "한" * 21])
def test_a_name_as_long_as_can_be_is_found_again(pair: Pair, name: str) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)")
    for _ in range(2):
        assert pair.pgsluice("sync", "--table", "s.t", "--to", f"{name}.{name}").code == 0
    assert pair.target.image(f'"{name}"."{name}"') == ["(1)"]


@pytest.mark.parametrize(("encoding", "code"), [("LATIN1", 0), ("UTF8", 6)])
def test_a_name_is_as_long_as_it_is_in_the_targets_encoding(
    source_cluster: Cluster, target_cluster: Cluster, encoding: str, code: int
) -> None:
    options = f"ENCODING '{encoding}' LOCALE 'C'"
    with database(source_cluster, options) as source, database(target_cluster, options) as target:
        source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)")
        name = f"s.{'é' * 40}"
        assert Pair(source, target).pgsluice("sync", "--table", "s.t", "--to", name).code == code
        assert target.value("SELECT count(*) FROM pg_class WHERE relname = repeat('é', 40)") == (code == 0)
