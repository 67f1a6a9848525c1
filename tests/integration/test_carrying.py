"""What the source's tables compute is run on the target only where it does nothing but compute a value."""

from __future__ import annotations

import pytest
from servers import Database, Pair

from pgsluice import Options, Report, sync
from pgsluice.job import StagingKind

SECRET = """
CREATE SCHEMA secret; CREATE TABLE secret.kept AS SELECT 1 AS n; CREATE SEQUENCE secret.counted;
CREATE FUNCTION secret.wipe() RETURNS int LANGUAGE sql AS 'WITH gone AS (DELETE FROM secret.kept RETURNING n) SELECT count(*)::int FROM gone';
CREATE VIEW secret.wiping AS SELECT secret.wipe() AS n;
"""
#: Built-in functions that do more than compute a value, each in the shape of a condition on VALUE.
DOING = {
    "a query as text": "query_to_xml('select secret.wipe()', true, true, '') IS NOT NULL",
    "a view behind a stable function": "table_to_xml('secret.wiping', true, true, '') IS NOT NULL",
    "a large object": "lo_create(4711) > 0::oid",
    "a file": "lo_export(lo_from_bytea(4711, ''), '/tmp/nobody') > 0",
    "a setting": "set_config('default_transaction_read_only', 'on', false) IS NOT NULL",
    "a backend": "pg_terminate_backend(0) IS NOT NULL",
    "a sequence": "nextval('secret.counted') > 0",
    "behind CASE": "CASE WHEN VALUE > 100000 THEN true ELSE lo_create(4711) > 0::oid END",
    "in an array": "(ARRAY[1, lo_create(4711)::int4])[1] = 1",
    "in coalesce and a cast": "COALESCE(NULLIF(lo_create(4711)::text, ''), 'x') <> ''",
    "as a field": "(ROW(1)).f1 = 1 AND lo_create((4711)::oid)::text ~ '^4'",
}


def untouched(target: Database) -> bool:
    return bool(
        target.value(
            "SELECT (SELECT count(*) FROM secret.kept) = 1 AND NOT is_called"
            " AND NOT EXISTS (SELECT FROM pg_largeobject_metadata WHERE oid = 4711) FROM secret.counted"
        )
    )


@pytest.fixture
def guarded(pair: Pair) -> Pair:
    """Give two servers with the same secrets, of which the source's own are not used up by its inserts."""
    pair.source.execute(SECRET)
    pair.target.execute(SECRET)
    return pair


@pytest.mark.parametrize("what", DOING)
@pytest.mark.parametrize("place", ["domain", "domain over a domain", "array", "field"])
def test_a_check_of_a_domain_that_does_more_than_compute_a_value_is_never_run_on_the_target(
    guarded: Pair, what: str, place: str
) -> None:
    used = {"domain": "s.d", "domain over a domain": "s.outer", "array": "s.d[]", "field": "s.c"}[place]
    value = {"array": "'{1}'", "field": "ROW(1)"}.get(place, "1")
    guarded.source.execute(
        f"""CREATE SCHEMA s; CREATE DOMAIN s.d AS int; CREATE DOMAIN s.outer AS s.d; CREATE TYPE s.c AS (f s.d);
        CREATE TABLE s.t (id int PRIMARY KEY, v {used}); INSERT INTO s.t VALUES (1, {value});
        ALTER DOMAIN s.d ADD CONSTRAINT doing CHECK ({DOING[what]}) NOT VALID;"""
    )
    report = sync(guarded.source.dsn, guarded.target.dsn, "s.t").tables[0]
    assert untouched(guarded.target)
    assert report.exit_code == 6
    assert (
        "lacks the type or collation s.d, which s.t needs; its check doing can't be carried over because it calls"
        in (str(report.error))
    )
    assert guarded.target.value("SELECT to_regtype('s.d') IS NULL")


DEFAULTS = {
    "a query as text": ("xml", "query_to_xml('select secret.wipe()', true, true, '')"),
    "a large object": ("bigint", "lo_create(4711)::int8"),
    "a file": ("text", "pg_read_file('/etc/hostname')"),
    "a setting": ("text", "set_config('default_transaction_read_only', 'on', false)"),
    "a stranger": ("text", "current_setting('data_directory')"),
    "behind CASE": ("int", "CASE WHEN random() < 2 THEN lo_create(4711)::int4 ELSE 1 END"),
    "in an array": ("int[]", "ARRAY[1, lo_create(4711)::int4]"),
    "in a row": ("text", "ROW(lo_create(4711))::text"),
}


@pytest.mark.parametrize("what", DEFAULTS)
@pytest.mark.parametrize("staging", ["temporary", "promoted"])
def test_a_default_that_does_more_than_compute_a_value_is_left_out_and_named(
    guarded: Pair, what: str, staging: str
) -> None:
    type_, default = DEFAULTS[what]
    guarded.source.execute(
        f"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, fine int DEFAULT 7, v {type_} DEFAULT {default});
        INSERT INTO s.t VALUES (1, 1, NULL)"""
    )
    planned = guarded.pgsluice("plan", "--table", "s.t")
    assert planned.code == 0
    assert "the default of v is not created because it calls" in " ".join(planned.out.split())
    options = Options(staging=StagingKind(staging))
    report = sync(guarded.source.dsn, guarded.target.dsn, "s.t", options=options).tables[0]
    assert (report.status, report.inserted) == ("done", 1)
    assert any(note.startswith("the default of v is not created because it calls ") for note in report.notes)
    guarded.target.execute("INSERT INTO s.t (id) VALUES (2)")
    assert guarded.target.rows("SELECT fine, v IS NULL FROM s.t WHERE id = 2") == [(7, True)]
    assert untouched(guarded.target)


def test_a_default_of_a_domain_that_does_more_than_compute_a_value_is_left_out_and_named(guarded: Pair) -> None:
    guarded.source.execute(
        """CREATE SCHEMA s; CREATE DOMAIN s.d AS bigint DEFAULT lo_create(4711)::int8 CHECK (VALUE > 0); CREATE DOMAIN s.e AS int DEFAULT 5;
        CREATE TABLE s.t (id int PRIMARY KEY, v s.d, w s.e); INSERT INTO s.t VALUES (1, 1, 1)"""
    )
    report = sync(guarded.source.dsn, guarded.target.dsn, "s.t").tables[0]
    assert report.status == "done"
    assert any("the default of s.d is not created because it calls lo_create" in note for note in report.notes)
    guarded.target.execute("INSERT INTO s.t (id) VALUES (2)")
    assert guarded.target.rows("SELECT v, w FROM s.t WHERE id = 2") == [(None, 5)]
    assert untouched(guarded.target)


#: What schemas out there say, and what a target that is created from them has to say too.
COMMON = """
CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('sad', 'it''s \\ok');
CREATE DOMAIN s.email AS text CHECK (VALUE ~ '^[^@\\s]+@[^@\\s]+\\.[a-z]{2,}$') CHECK (length(VALUE) < 80 AND lower(VALUE) = VALUE);
CREATE DOMAIN s.country AS text COLLATE "C" CHECK (VALUE IN ('de', 'kr', 'O''') OR VALUE LIKE 'x%');
CREATE DOMAIN s.born AS date CHECK (VALUE BETWEEN '1900-01-01' AND CURRENT_DATE + 1) CHECK (EXTRACT(year FROM VALUE) > 1899);
CREATE DOMAIN s.doc AS jsonb DEFAULT '{"a": [1, 2]}' CHECK (VALUE ? 'a' AND jsonb_typeof(VALUE -> 'a') = 'array');
CREATE DOMAIN s.score AS numeric(6,2) NOT NULL DEFAULT 1.5 CHECK (CASE WHEN VALUE IS NULL THEN false ELSE round(VALUE, 1) = VALUE END);
CREATE DOMAIN s.tags AS text[] CHECK (cardinality(VALUE) <= 3 AND VALUE[1] IS DISTINCT FROM 'no' AND NOT 'x' = ANY (VALUE));
CREATE TABLE s.t (
  id bigint PRIMARY KEY, e s.email, c s.country, b s.born, d s.doc, n s.score, g s.tags,
  made timestamptz DEFAULT now(), made2 timestamp DEFAULT CURRENT_TIMESTAMP, utc timestamp DEFAULT timezone('utc', now()),
  utc2 timestamp DEFAULT (now() AT TIME ZONE 'utc'), day date DEFAULT (CURRENT_DATE - 1), day2 date DEFAULT date_trunc('month', now()),
  in_an_hour timestamptz DEFAULT (clock_timestamp() + '01:00:00'::interval hour to second), by text DEFAULT CURRENT_USER,
  token uuid DEFAULT gen_random_uuid(), chance float8 DEFAULT random(), bits bit(3) DEFAULT B'101', raw bytea DEFAULT '\\x00ff',
  j jsonb DEFAULT '{}', j2 jsonb DEFAULT jsonb_build_object('at', 'x', 'n', ARRAY[1, 2]), amount numeric(10,2) DEFAULT 1,
  less int DEFAULT -1, many int[] DEFAULT '{}', more text[] DEFAULT ARRAY['a', E'b\\'c'], mood s.mood DEFAULT 'it''s \\ok',
  label text DEFAULT upper(left('abc', 2)) || lpad('7', 3, '0'), hash text DEFAULT md5('x'), span interval DEFAULT '1 day 02:00',
  made_by text COLLATE "C" DEFAULT 'x', during tstzrange DEFAULT tstzrange(NULL, NULL, '[]'), at_noon time(3) DEFAULT '12:00', flag bool DEFAULT (NOT true),
  half int GENERATED ALWAYS AS (less / 2) STORED, words tsvector GENERATED ALWAYS AS (to_tsvector('english', coalesce(label, ''))) STORED,
  full_name text GENERATED ALWAYS AS (btrim((label || ' '::text) || made_by)) STORED);
INSERT INTO s.t (id, e, c, b, g) VALUES (1, 'a@b.de', 'kr', '2000-02-03', '{a,b}'), (2, NULL, 'xy', NULL, '{}');
"""
DEFINED = """
SELECT attname::text, pg_get_expr(adbin, adrelid) FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = adrelid AND a.attnum = adnum
 WHERE adrelid = 's.t'::regclass
UNION ALL SELECT typname::text, typdefault FROM pg_type WHERE typtype = 'd' AND typnamespace = 's'::regnamespace
UNION ALL SELECT conname::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid <> 0 AND contype = 'c' ORDER BY 1, 2
"""


@pytest.mark.parametrize("staging", ["temporary", "promoted"])
def test_what_schemas_commonly_compute_is_created_as_it_is(pair: Pair, staging: str) -> None:
    pair.source.execute(COMMON)
    if staging == "promoted":  # types that are there already let the staging table become the target
        pair.target.execute(COMMON + "DROP TABLE s.t")
    report = sync(pair.source.dsn, pair.target.dsn, "s.t", options=Options(staging=StagingKind(staging))).tables[0]
    assert (report.error, report.inserted, report.notes) == (None, 2, ())
    assert pair.target.image("s.t") == pair.source.image("s.t")
    assert pair.target.rows(DEFINED) == pair.source.rows(DEFINED)
    pair.target.execute("INSERT INTO s.t (id) VALUES (3)")


def test_a_check_by_an_operator_written_in_c_is_carried_over_and_one_by_anybodys_is_not(pair: Pair) -> None:
    for database in (pair.source, pair.target):  # as an extension makes them, citext for one
        database.execute(
            """CREATE SCHEMA s; CREATE SCHEMA lib;
            CREATE FUNCTION lib.matches(text, text) RETURNS bool IMMUTABLE LANGUAGE internal AS 'textregexeq';
            CREATE OPERATOR lib.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = lib.matches)"""
        )
    pair.source.execute(
        """CREATE DOMAIN s.email AS text CHECK (VALUE OPERATOR(lib.~) '^[a-z]+@[a-z.]+$');
        CREATE TABLE s.t (id int PRIMARY KEY, e s.email); INSERT INTO s.t VALUES (1, 'who@where.de')"""
    )
    assert sync(pair.source.dsn, pair.target.dsn, "s.t").exit_code == 0
    assert pair.target.image("s.t") == pair.source.image("s.t")
    for database in (pair.source, pair.target):
        database.execute(
            """CREATE FUNCTION lib.eq(int, int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
            CREATE OPERATOR lib.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = lib.eq)"""
        )
    pair.source.execute(
        """CREATE DOMAIN s.odd AS int CHECK (VALUE OPERATOR(lib.===) 3);
        CREATE TABLE s.u (id int PRIMARY KEY, e s.odd); INSERT INTO s.u VALUES (1, 3)"""
    )
    report = sync(pair.source.dsn, pair.target.dsn, "s.u").tables[0]
    assert report.exit_code == 6
    assert "because it calls lib.===, which may do more than compute a value" in str(report.error)


#: It fits an array of integers better than core's, which takes any array, wherever the search_path has core's schema.
BETTER = """
CREATE SCHEMA IF NOT EXISTS sandbox; CREATE TABLE IF NOT EXISTS sandbox.ran (n int);
CREATE FUNCTION sandbox.array_length(int[], int) RETURNS int LANGUAGE sql VOLATILE AS
'INSERT INTO sandbox.ran VALUES (1); SELECT 0';
"""


@pytest.mark.parametrize("staging", ["temporary", "unlogged", "promoted"])
def test_what_is_created_calls_core_functions_whatever_the_search_path_of_the_targets_role(
    pair: Pair, staging: str
) -> None:
    pair.target.execute(
        """CREATE SCHEMA sandbox; CREATE TABLE sandbox.ran (n int);
        CREATE FUNCTION sandbox.lower(text) RETURNS text LANGUAGE sql VOLATILE AS 'INSERT INTO sandbox.ran VALUES (1); SELECT $1';
        CREATE DOMAIN sandbox.text AS pg_catalog.text CHECK (sandbox.lower(VALUE) IS NOT NULL);"""
        + BETTER
    )
    pair.target.execute(f"ALTER DATABASE {pair.target.name} SET search_path = sandbox, pg_catalog")
    pair.source.execute(
        """CREATE SCHEMA s; CREATE DOMAIN s.d AS text DEFAULT lower('D') CHECK (lower(VALUE) = VALUE);
        CREATE TABLE s.t (id int PRIMARY KEY, plain text DEFAULT lower('P'), d s.d,
          n int DEFAULT array_length(ARRAY[1, 2], 1)); CREATE INDEX ON s.t (lower(plain));
        INSERT INTO s.t VALUES (1, 'x', 'x')"""
    )
    if staging == "promoted":
        pair.target.execute("CREATE SCHEMA s; CREATE DOMAIN s.d AS pg_catalog.text")
    options = Options(staging=StagingKind(staging), indexes=True)
    assert sync(pair.source.dsn, pair.target.dsn, "s.t", options=options).exit_code == 0
    assert pair.target.value("SELECT count(*) FROM sandbox.ran") == 0
    pair.target.execute("INSERT INTO s.t (id) VALUES (2)")
    assert pair.target.value("SELECT count(*) FROM sandbox.ran") == 0
    assert pair.target.value("SELECT n FROM s.t WHERE id = 2") == 2


def test_a_column_that_is_added_has_the_type_of_core_whatever_the_search_path_of_the_targets_role(pair: Pair) -> None:
    pair.target.execute("CREATE SCHEMA sandbox; CREATE DOMAIN sandbox.text AS pg_catalog.text CHECK (false)")
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)")
    assert sync(pair.source.dsn, pair.target.dsn, "s.t").exit_code == 0
    pair.target.execute(f"ALTER DATABASE {pair.target.name} SET search_path = sandbox, pg_catalog")
    pair.source.execute("ALTER TABLE s.t ADD more text DEFAULT 'x'")
    report: Report = sync(pair.source.dsn, pair.target.dsn, "s.t", drift="add")
    assert report.exit_code == 0
    assert pair.target.rows("SELECT more::pg_catalog.text, pg_typeof(more)::pg_catalog.text FROM s.t") == [
        ("x", "pg_catalog.text")
    ]
