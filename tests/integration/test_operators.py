"""Nobody else's operator or cast runs as our role: equality is that of the type's own operator class."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql
from servers import Database, Pair

from pgsluice import Level, Options, Report, Strategy, Verify, sync, verify
from pgsluice.endpoint import Endpoint
from pgsluice.job import StagingKind, SyncJob, TableRef
from pgsluice.plan import SyncPlan
from pgsluice.run import Run, statements
from pgsluice.shape import Constant, Mask, Masking, Shape

#: Type, what makes it, and values of it: two rows stay as they are, one is changed, one goes, one comes.
SHAPES = {
    "varchar": ("varchar(10)", "", ("a", "b", "c", "d", "e")),
    "character": ("character(3)", "", ("a", "b", "c", "d", "e")),
    "cidr": ("cidr", "", ("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16")),
    "domain over text": ("s.code", "CREATE DOMAIN s.code AS text", ("a", "b", "c", "d", "e")),
    "domain over varchar": ("s.code", "CREATE DOMAIN s.code AS varchar(5)", ("a", "b", "c", "d", "e")),
    "enum": ("s.mood", "CREATE TYPE s.mood AS ENUM ('a', 'b', 'c', 'd', 'e')", ("a", "b", "c", "d", "e")),
    "domain over enum": (
        "s.felt",
        "CREATE TYPE s.mood AS ENUM ('a', 'b', 'c', 'd', 'e'); CREATE DOMAIN s.felt AS s.mood",
        ("a", "b", "c", "d", "e"),
    ),
    "array": ("int[]", "", ("{1}", "{2}", "{1,2}", "{}", "{3}")),
    "array of enum": ("s.mood[]", "CREATE TYPE s.mood AS ENUM ('a', 'b')", ("{a}", "{b}", "{a,b}", "{}", "{b,a}")),
    "composite": ("s.pair", "CREATE TYPE s.pair AS (a int, b text)", ("(1,a)", "(2,b)", "(3,c)", "(4,d)", "(5,e)")),
    "range": ("int4range", "", ("[1,2)", "[2,3)", "[3,4)", "[4,5)", "[5,6)")),
    "own range": (
        "s.span",
        "CREATE TYPE s.span AS RANGE (subtype = int4)",
        ("[1,2)", "[2,3)", "[3,4)", "[4,5)", "[5,6)"),
    ),
    "extension's": ("public.vector", "", ("[1]", "[2]", "[3]", "[4]", "[5]")),
    "domain over an extension's": (
        "s.point",
        "CREATE DOMAIN s.point AS public.vector",
        ("[1]", "[2]", "[3]", "[4]", "[5]"),
    ),
}
_OPERATORS = ("=", "<>", "<", "<=", ">", ">=")


@dataclass(frozen=True)
class Mallory:
    """A role that owns a schema, may create in `public`, and may use the types of others."""

    pair: Pair

    def says(self, side: Database, script: str) -> None:
        side.execute(f"SET ROLE {self.name(side)}; {script}")

    @staticmethod
    def name(side: Database) -> str:
        return f"mallory_{side.name}"

    def takes_over(self, *types: tuple[str, str]) -> None:
        """Make each comparison of two types there is, in her own schema and in `public`; each fails by telling of it."""
        for side in (self.pair.source, self.pair.target):
            taken = set(side.rows("SELECT oprname::text, oprleft, oprright FROM pg_operator"))
            for left, right in types:
                self.says(
                    side,
                    f"""CREATE FUNCTION sandbox.cmp(l {left}, r {right}) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
                    $$BEGIN RAISE EXCEPTION 'mallory compares as %', current_user; END$$""",
                )
                oids = side.rows(f"SELECT '{left}'::regtype::oid, '{right}'::regtype::oid")[0]
                for schema in ("sandbox", "public"):
                    for operator in _OPERATORS:
                        if schema == "public" and (operator, *oids) in taken and "vector" in left:
                            continue
                        self.says(
                            side,
                            f"CREATE OPERATOR {schema}.{operator} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = sandbox.cmp)",
                        )


@pytest.fixture
def mallory(pair: Pair) -> Iterator[Mallory]:
    made = Mallory(pair)
    for side in (pair.source, pair.target):
        side.execute(
            f"""CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO PUBLIC; CREATE EXTENSION vector SCHEMA public;
            CREATE ROLE {made.name(side)}; CREATE SCHEMA sandbox AUTHORIZATION {made.name(side)};
            GRANT CREATE ON SCHEMA public TO {made.name(side)}"""
        )
    yield made
    for side in (pair.source, pair.target):
        side.execute(f"DROP OWNED BY {made.name(side)} CASCADE; DROP ROLE {made.name(side)}")


def bare(type_: str) -> str:
    return type_.partition("(")[0]


def fill(pair: Pair, shape: str) -> str:
    """Make a table whose key nothing enforces on either side, with rows; return the key's type."""
    type_, script, (one, two, three, four, _) = SHAPES[shape]
    for side in (pair.source, pair.target):
        side.execute(f"{script}; CREATE TABLE s.t (k {type_} NOT NULL, v int)")
        side.execute("INSERT INTO s.t VALUES (%s, 1), (%s, 2), (%s, 3), (%s, 4)", (one, two, three, four))
    return type_


def change(pair: Pair, shape: str) -> None:
    pair.source.execute("UPDATE s.t SET v = 30 WHERE v = 3; DELETE FROM s.t WHERE v = 4")
    pair.source.execute("INSERT INTO s.t VALUES (%s, 5)", (SHAPES[shape][2][4],))


def counts(report: Report) -> tuple[Any, ...]:
    (table,) = report.tables
    return (table.error, table.inserted, table.updated, table.deleted)


WAYS: dict[str, dict[str, Any]] = {
    "temporary": {"options": Options(staging=StagingKind.TEMPORARY, retries=0)},
    "unlogged, hashed": {"options": Options(staging=StagingKind.UNLOGGED, verify=Verify.HASH, retries=0)},
    "diff": {"options": Options(strategy=Strategy.DIFF, retries=0)},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_key_that_nothing_enforces_is_compared_by_the_types_own_equality(
    mallory: Mallory, pair: Pair, shape: str, way: str
) -> None:
    type_ = bare(fill(pair, shape))
    mallory.takes_over((type_, type_))
    change(pair, shape)
    assert counts(sync(pair.source.dsn, pair.target.dsn, "s.t", key=["k"], **WAYS[way])) == (None, 1, 1, 1)
    assert pair.target.image("s.t") == pair.source.image("s.t")


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("shape", SHAPES)
def test_verify_compares_by_nobody_elses_operator(mallory: Mallory, pair: Pair, shape: str, level: Level) -> None:
    type_ = bare(fill(pair, shape))
    mallory.takes_over((type_, type_))
    pair.source.execute("UPDATE s.t SET v = 30 WHERE v = 3")
    (found,) = verify(pair.source.dsn, pair.target.dsn, "s.t", key=["k"], level=level).tables
    assert (found.error, found.status) == (None, "equal" if level is Level.COUNT else "different")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_that_tells_rows_apart_is_compared_by_the_types_own_equality(
    mallory: Mallory, pair: Pair, shape: str
) -> None:
    type_, script, values = SHAPES[shape]
    for side in (pair.source, pair.target):
        side.execute(script) if script else None
    pair.source.execute("CREATE TABLE s.t (id int PRIMARY KEY, v int); INSERT INTO s.t VALUES (1, 1), (2, 2), (3, 3)")
    pair.target.execute(f"CREATE TABLE s.t (id int, v int, src {type_} NOT NULL, PRIMARY KEY (id))")
    pair.target.execute("ALTER TABLE s.t DROP CONSTRAINT t_pkey")
    pair.target.execute("INSERT INTO s.t VALUES (1, 7, %s)", (values[1],))
    mallory.takes_over((bare(type_), bare(type_)))
    job = SyncJob(TableRef("s", "t"), TableRef("s", "t"), shape=Shape(constants=(Constant("src", values[0], type_),)))
    ends = Endpoint(pair.source.dsn, read_only=True), Endpoint(pair.target.dsn, read_only=False)
    options = Options(allow_narrowing=True, retries=0)
    assert counts(Run(*ends, options).sync([job])) == (None, 3, 0, 0)
    pair.source.execute(
        "UPDATE s.t SET v = 9 WHERE id = 1; DELETE FROM s.t WHERE id = 2; INSERT INTO s.t VALUES (4, 4)"
    )
    assert counts(Run(*ends, options).sync([job])) == (None, 1, 1, 1)
    assert pair.target.rows("SELECT id, v FROM s.t ORDER BY 1, 2") == [(1, 7), (1, 9), (3, 3), (4, 4)]


# --- casts -----------------------------------------------------------------------------------------------------------

CASTS = {
    "enum": ("sandbox.mine", "CREATE TYPE sandbox.mine AS ENUM ('a', 'b', 'c')", ("a", "b", "c")),
    "domain over enum": (
        "sandbox.felt",
        "CREATE TYPE sandbox.mine AS ENUM ('a', 'b', 'c'); CREATE DOMAIN sandbox.felt AS sandbox.mine",
        ("a", "b", "c"),
    ),
    "composite": ("sandbox.mine", "CREATE TYPE sandbox.mine AS (a int, b text)", ("(1,a)", "(2,b)", "(3,)")),
    "range": ("sandbox.mine", "CREATE TYPE sandbox.mine AS RANGE (subtype = int4)", ("[1,2)", "[2,3)", "empty")),
    "array": ("sandbox.mine[]", "CREATE TYPE sandbox.mine AS ENUM ('a', 'b', 'c')", ("{a}", "{b}", "{NULL}")),
}
_CAST = """
CREATE FUNCTION sandbox.to_{to}(v {type}) RETURNS {to} LANGUAGE plpgsql IMMUTABLE AS
$$BEGIN RAISE EXCEPTION 'mallory casts as %', current_user; END$$;
CREATE CAST ({type} AS {to}) WITH FUNCTION sandbox.to_{to} {how}"""


def make_casts(mallory: Mallory, shape: str, how: str = "") -> str:
    type_, script, _ = CASTS[shape]
    mine = "sandbox.mine[]" if shape == "array" else "sandbox.mine"
    for side in (mallory.pair.source, mallory.pair.target):
        mallory.says(side, script)
        for to in ("text", "json", "varchar"):
            mallory.says(side, _CAST.format(type=mine, to=to, how=how))
    return type_


@pytest.mark.parametrize("strategy", [Strategy.COPY, Strategy.DIFF])
@pytest.mark.parametrize("shape", CASTS)
def test_a_key_of_a_type_with_a_cast_of_its_own_is_told_apart_and_named_without_it(
    mallory: Mallory, pair: Pair, shape: str, strategy: Strategy
) -> None:
    type_, values = make_casts(mallory, shape), CASTS[shape][2]
    for side in (pair.source, pair.target):
        side.execute(f"CREATE TABLE s.t (k {type_} NOT NULL, v int)")
        side.execute("INSERT INTO s.t VALUES (%s, 1), (%s, 2)", values[:2])
    pair.source.execute("UPDATE s.t SET v = 9 WHERE v = 2")
    pair.source.execute("INSERT INTO s.t VALUES (%s, 3)", values[2:])
    (found,) = verify(pair.source.dsn, pair.target.dsn, "s.t", key=["k"], level=Level.ROWS).tables
    assert (found.error, sorted(str(each.key[0]) for each in found.differences)) == (None, sorted(values[1:]))
    options = Options(strategy=strategy, verify=Verify.HASH, retries=0)
    assert counts(sync(pair.source.dsn, pair.target.dsn, "s.t", key=["k"], options=options)) == (None, 1, 1, 0)
    pair.source.execute("INSERT INTO s.t VALUES (%s, 4)", values[2:])
    options = Options(show_row_data=True, retries=0)
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.t", key=["k"], options=options).tables
    assert f"({values[2]}) stands 2 times" in str(table.error)


@pytest.mark.parametrize("shape", CASTS)
def test_a_column_with_a_cast_of_its_own_is_hashed_and_masked_without_it(
    mallory: Mallory, pair: Pair, shape: str
) -> None:
    """As text on the target, as a mask, and beside it."""
    type_, values = make_casts(mallory, shape), CASTS[shape][2]
    pair.source.execute(f"CREATE TABLE s.t (id int PRIMARY KEY, v {type_}); INSERT INTO s.t VALUES (4, NULL)")
    for number, value in enumerate(values):
        pair.source.execute("INSERT INTO s.t VALUES (%s, %s)", (number, value))
    pair.target.execute("CREATE TABLE s.t (id int PRIMARY KEY, v text)")
    for options in (Options(verify=Verify.HASH, retries=0), Options(strategy=Strategy.DIFF, retries=0)):
        (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options).tables
        assert report.error is None
    assert pair.target.rows("SELECT v FROM s.t ORDER BY id") == [(value,) for value in (*values, None)]
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", shape=Shape(mask=(Mask("v", Masking.HASH),))).tables
    hashes = pair.target.rows("SELECT v FROM s.t ORDER BY id")
    wanted = pair.target.rows(
        "SELECT encode(sha256(convert_to(v, 'UTF8')), 'hex') FROM unnest(%s::text[]) WITH ORDINALITY AS given (v, n) ORDER BY n",
        ([*values, None],),
    )
    assert (report.error, hashes) == (None, wanted)


_WANTED = {
    "enum": ("sandbox.mine", "CREATE TYPE sandbox.mine AS ENUM ('1', '22', '333')", ("1", "22", "333")),
    "domain over enum": (
        "sandbox.felt",
        "CREATE TYPE sandbox.mine AS ENUM ('1', '22', '333'); CREATE DOMAIN sandbox.felt AS sandbox.mine",
        ("1", "22", "333"),
    ),
    "composite": ("sandbox.mine", "CREATE TYPE sandbox.mine AS (a int, b text)", ("(1,a)", "(2,b)", "(3,)")),
    "array of enum": ("sandbox.mine[]", "CREATE TYPE sandbox.mine AS ENUM ('1', '22')", ("{1}", "{22,1}", "{NULL}")),
    "array of domain": ("sandbox.mine[]", "CREATE DOMAIN sandbox.mine AS int", ("{1}", "{22,1}", "{NULL}")),
    "range": ("sandbox.mine", "CREATE TYPE sandbox.mine AS RANGE (subtype = int4)", ("[1,2)", "[2,3)", "empty")),
}
_CAST_OF = """CREATE FUNCTION sandbox.{name}(v {given}) RETURNS {wanted} LANGUAGE plpgsql IMMUTABLE AS
$$BEGIN RAISE EXCEPTION 'mallory casts as %', current_user; END$$;
CREATE CAST ({given} AS {wanted}) WITH FUNCTION sandbox.{name} AS IMPLICIT"""


def casts(mallory: Mallory, pair: Pair, given: str, wanted: str) -> None:
    """Make her cast, and see that PostgreSQL would use it."""
    number = pair.source.value("SELECT count(*) FROM pg_cast")
    kind = (
        given.replace("sandbox.felt", "sandbox.mine"),
        wanted.partition("(")[0].replace("sandbox.felt", "sandbox.mine"),
    )
    mallory.says(pair.source, _CAST_OF.format(name=f"cast_{number}", given=kind[0], wanted=kind[1]))
    with pytest.raises(psycopg.errors.RaiseException):
        pair.source.rows(f"SELECT v::{wanted} FROM s.t WHERE v IS NOT NULL")


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        *itertools.product(_WANTED, ["text", "varchar(2)"]),
        *itertools.product(["enum", "domain over enum"], ["int"]),
        *itertools.product(["array of enum", "array of domain"], ["int[]"]),
    ],
)
def test_a_column_is_cast_without_the_cast_of_its_types_owner(
    mallory: Mallory, pair: Pair, shape: str, wanted: str
) -> None:
    type_, script, values = _WANTED[shape]
    mallory.says(pair.source, script)
    pair.source.execute(f"CREATE TABLE s.t (id int PRIMARY KEY, v {type_}); INSERT INTO s.t VALUES (4, NULL)")
    for number, value in enumerate(values):
        pair.source.execute("INSERT INTO s.t VALUES (%s, %s)", (number, value))
    casts(mallory, pair, type_, wanted)
    pair.target.execute(f"CREATE TABLE s.t (id int PRIMARY KEY, v {wanted}); INSERT INTO s.t VALUES (9, NULL)")
    asked = Shape(cast=(("v", wanted),))
    for strategy in (Strategy.DIFF, Strategy.COPY):
        options = Options(strategy=strategy, verify=Verify.HASH, retries=0, show_row_data=True)
        (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", shape=asked, options=options).tables
        assert report.error is None
    found = pair.target.rows("SELECT v::text FROM s.t ORDER BY id")
    assert found == pair.target.rows(
        f"SELECT v::{wanted}::text FROM unnest(%s::text[]) WITH ORDINALITY AS given (v, n) ORDER BY n",
        ([*values, None],),
    )
    (compared,) = verify(pair.source.dsn, pair.target.dsn, "s.t", shape=asked, level=Level.ROWS).tables
    assert (compared.error, compared.differences) == (None, ())


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        *itertools.product(_WANTED, ["text", "sandbox.other"]),
        *itertools.product(["array of enum", "array of domain"], ["int[]"]),
    ],
)
def test_a_column_is_cast_to_somebodys_type_without_the_cast_of_its_owner(
    mallory: Mallory, pair: Pair, shape: str, given: str
) -> None:
    type_, script, values = _WANTED[shape]
    for side in (pair.source, pair.target):
        mallory.says(side, script)
    labels = ", ".join(f"'{value}'" for value in values)
    mallory.says(pair.source, f"CREATE TYPE sandbox.other AS ENUM ({labels})")
    pair.source.execute(f"CREATE TABLE s.t (id int PRIMARY KEY, v {given}); INSERT INTO s.t VALUES (4, NULL)")
    for number, value in enumerate(values):
        pair.source.execute("INSERT INTO s.t VALUES (%s, %s)", (number, value))
    casts(mallory, pair, given, type_)
    base = type_.replace("felt", "mine")  # no SELECT yields a domain
    pair.target.execute(f"CREATE TABLE s.t (id int PRIMARY KEY, v {base})")
    options = Options(verify=Verify.HASH, retries=0, show_row_data=True)
    asked = Shape(cast=(("v", type_),))
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", shape=asked, options=options).tables
    assert report.error is None
    assert pair.target.rows("SELECT v::text FROM s.t ORDER BY id") == [(value,) for value in (*values, None)]


def test_a_constant_is_looked_at_without_the_cast_of_its_types_owner(mallory: Mallory, pair: Pair) -> None:
    type_ = make_casts(mallory, "enum")
    pair.source.execute("CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)")
    pair.target.execute(f"CREATE TABLE s.t (id int PRIMARY KEY, k {type_})")
    asked = Shape(constants=(Constant("k", "b", type_),))
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", shape=asked, options=Options(retries=0)).tables
    assert (report.error, pair.target.rows("SELECT id, k::name::text FROM s.t")) == (None, [(1, "b")])


@pytest.mark.parametrize("shape", CASTS)
def test_an_implicit_cast_does_not_take_equality_over(mallory: Mallory, pair: Pair, shape: str) -> None:
    """At worst the table fails: its type's owner has made the comparison ambiguous."""
    type_, values = make_casts(mallory, shape, "AS IMPLICIT"), CASTS[shape][2]
    for side in (pair.source, pair.target):
        side.execute(f"CREATE TABLE s.t (k {type_} NOT NULL, v int)")
        side.execute("INSERT INTO s.t VALUES (%s, 1), (%s, 2)", values[:2])
    pair.source.execute("UPDATE s.t SET v = 9 WHERE v = 2")
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", key=["k"], options=Options(retries=0)).tables
    assert "mallory" not in str(report.error)
    assert report.error is None or "is not unique" in report.error


# --- what else is compared -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["varchar(20)", "character(8)", "s.code", "s.day", "timestamp", "int"])
def test_a_cursor_is_compared_by_postgresqls_own_operators(mallory: Mallory, pair: Pair, type_: str) -> None:
    """Merge statements run under the role's own search_path, which names `public`."""
    for side in (pair.source, pair.target):
        side.execute("CREATE DOMAIN s.code AS varchar(20); CREATE DOMAIN s.day AS date")
        side.execute(f"CREATE TABLE s.t (id int PRIMARY KEY, at {type_} NOT NULL)")
    text = ["20240101", "20240102", "20240103"]
    values = ["1", "2", "3"] if type_ == "int" else text
    own = bare(type_) if type_ != "timestamp" else "timestamp"
    mallory.takes_over((own, own), *([] if own in {"int", "s.day", "timestamp"} else [(own, "text"), ("text", own)]))
    if own == "s.day":
        mallory.takes_over(("s.day", "date"), ("date", "s.day"))
    pair.source.execute("INSERT INTO s.t VALUES (1, %s), (2, %s)", tuple(values[:2]))
    how: dict[str, Any] = {"mode": "incremental", "cursor": "at", "deletes": "sweep", "options": Options(retries=0)}
    assert counts(sync(pair.source.dsn, pair.target.dsn, "s.t", **how)) == (None, 2, 0, 0)
    pair.source.execute("DELETE FROM s.t WHERE id = 1")
    pair.source.execute("INSERT INTO s.t VALUES (3, %s)", (values[2],))
    assert counts(sync(pair.source.dsn, pair.target.dsn, "s.t", **how)) == (None, 1, 0, 1)
    assert pair.target.image("s.t") == pair.source.image("s.t")


def test_a_sequence_is_found_by_postgresqls_own_operator(mallory: Mallory, pair: Pair) -> None:
    mallory.takes_over(("oid", "regclass"), ("regclass", "oid"), ("regclass", "regclass"))
    pair.source.execute("CREATE TABLE s.t (id serial PRIMARY KEY, v int); INSERT INTO s.t (v) VALUES (1), (2)")
    options = Options(sequences=True, retries=0)
    for _ in range(2):
        (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options).tables
        assert report.error is None
    assert pair.target.value("SELECT nextval(pg_get_serial_sequence('s.t', 'id'))") == 3


@pytest.mark.parametrize("shape", ["varchar", "domain over varchar", "domain over an extension's", "domain over enum"])
def test_what_an_operator_is_given_still_finds_rows_by_an_index(mallory: Mallory, pair: Pair, shape: str) -> None:
    fill(pair, shape)
    pair.target.execute("CREATE UNIQUE INDEX ON s.t (k); CREATE TABLE s.l AS TABLE s.t")
    job = SyncJob(TableRef("s", "t"), TableRef("s", "t"), key=("k",))
    ends = Endpoint(pair.source.dsn, read_only=True), Endpoint(pair.target.dsn, read_only=False)
    ((_, plan),) = Run(*ends).plan([job])
    assert isinstance(plan, SyncPlan)
    merge = next(text for step, text in statements(plan) if text.startswith("MERGE"))
    condition = merge.partition(" ON ")[2].partition("\n")[0]
    condition = condition.replace('"pgsluice_staged"."k"', "(SELECT k FROM s.l LIMIT 1)")
    with psycopg.connect(pair.target.dsn, options="-c enable_seqscan=off") as asking:
        explained = asking.execute(sql.SQL(f"EXPLAIN SELECT FROM s.t WHERE {condition}")).fetchall()
    assert any("Index Cond" in line and "InitPlan" in line for (line,) in explained), explained


# --- whose types and functions a bare name means -----------------------------------------------------------------------

BEHIND = ("sandbox, pg_catalog", 'sandbox, "pg_catalog", public', "sandbox,PG_CATALOG")


@pytest.mark.parametrize("path", BEHIND)
@pytest.mark.parametrize("mode", ["full", "incremental", "append"])
def test_a_search_path_that_names_pg_catalog_last_lets_no_type_take_a_core_types_place(
    mallory: Mallory, pair: Pair, mode: str, path: str
) -> None:
    """Statements that the target's triggers hang on, and the user's condition, run under the role's search_path."""
    for side in (pair.source, pair.target):
        side.execute("CREATE TABLE s.t (id int PRIMARY KEY, at text NOT NULL, day date, who uuid)")
        mallory.says(
            side,
            """CREATE FUNCTION sandbox.sees(pg_catalog.text) RETURNS bool LANGUAGE plpgsql AS
            $$BEGIN RAISE EXCEPTION 'mallory sees as %', current_user; END$$;
            CREATE DOMAIN sandbox.text AS pg_catalog.text CHECK (sandbox.sees(VALUE));
            CREATE DOMAIN sandbox.date AS pg_catalog.date CHECK (sandbox.sees(VALUE::pg_catalog.text));
            CREATE DOMAIN sandbox.uuid AS pg_catalog.uuid CHECK (sandbox.sees(VALUE::pg_catalog.text));
            CREATE DOMAIN sandbox.oid AS pg_catalog.oid CHECK (sandbox.sees(VALUE::pg_catalog.text));
            GRANT USAGE ON SCHEMA sandbox TO PUBLIC;
            CREATE FUNCTION sandbox.equal(pg_catalog.text, pg_catalog.text) RETURNS bool LANGUAGE plpgsql AS
            $$BEGIN RAISE EXCEPTION 'mallory compares as %', current_user; END$$""",
        )
        for operator in _OPERATORS:
            mallory.says(
                side,
                f"CREATE OPERATOR sandbox.{operator} (LEFTARG = text, RIGHTARG = text, FUNCTION = sandbox.equal)",
            )
        side.execute(f"ALTER DATABASE {side.name} SET search_path = {path}")
    how: dict[str, Any] = {"mode": mode, "options": Options(verify=Verify.HASH, retries=0)}
    if mode == "full":
        how["where"] = "at <> 'x'::text"
    elif mode == "incremental":
        how |= {"cursor": "at", "deletes": "sweep"}
    for number in (1, 2):
        pair.source.execute(
            f"SET search_path = public; INSERT INTO s.t VALUES ({number}, '2024010{number}', '2024-01-01', gen_random_uuid())"
        )
        assert counts(sync(pair.source.dsn, pair.target.dsn, "s.t", **how))[:2] == (None, 1)
    assert pair.target.value("SELECT count(*) FROM s.t") == 2
