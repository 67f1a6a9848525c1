"""What a person is told leads to what is wrong, and to a way out that works."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from servers import Pair

from pgsluice import Options, sync
from pgsluice.embedded import Cluster
from pgsluice.errors import TableNameError
from pgsluice.events import Retrying
from pgsluice.job import Strategy
from pgsluice.sinks.recorder import Recorder


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ("(NULL, 1), (NULL, 2), (3, 3)", {"WHERE"}),
        ("(1, 1), (1, 2), (3, 3)", {"GROUP BY"}),
        ("(1, 1), (1, 2), (NULL, 3)", {"WHERE", "GROUP BY"}),
    ],
)
def test_what_is_said_to_find_wrong_keys_finds_them(pair: Pair, rows: str, found: set[str]) -> None:
    pair.source.execute(f'CREATE SCHEMA s; CREATE TABLE s.t ("k 1" int, v int); INSERT INTO s.t VALUES {rows}')
    pair.target.execute('CREATE SCHEMA s; CREATE TABLE s.t ("k 1" int, v int)')
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.t", key=["k 1"]).tables
    assert table.exit_code == 6
    told = str(table.hint).partition("mend these rows on the source. ")[2].partition(" finds them")[0]
    clauses = told.split(" and ")
    assert {clause.split(' "k 1"')[0] for clause in clauses} == found
    for clause in clauses:
        assert pair.source.rows(f'SELECT "k 1" FROM s.t {clause}') in ([(None,)] * 1, [(None,)] * 2, [(1,)])


EXCHANGED = "UPDATE s.t SET email = 'm' || (id % 2) + 1, id = id"
REFERRING = {
    "cascade on the key": ("CREATE TABLE s.child (t int REFERENCES s.t ON DELETE CASCADE)", True),
    "the constraint itself": ("CREATE TABLE s.child (email text REFERENCES s.t (email) ON DELETE CASCADE)", False),
    "an index alone": ("CREATE TABLE s.child (t int REFERENCES s.t ON DELETE CASCADE)", False),
}


@pytest.mark.parametrize("case", REFERRING)
def test_rows_that_can_not_be_exchanged_are_told_a_way_that_the_server_takes(pair: Pair, case: str) -> None:
    child, can_be_deferrable = REFERRING[case]
    unique = (
        "CREATE UNIQUE INDEX t_email_key ON s.t (email)"
        if case == "an index alone"
        else "ALTER TABLE s.t ADD CONSTRAINT t_email_key UNIQUE (email)"
    )
    table = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, email text);"
    pair.source.execute(f"{table} INSERT INTO s.t VALUES (1, 'm1'), (2, 'm2')")
    pair.target.execute(f"{table} {unique}; INSERT INTO s.t VALUES (1, 'm1'), (2, 'm2'); {child}")
    pair.source.execute(EXCHANGED)
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t").tables
    assert (report.sqlstate, "Make the constraint deferrable" in str(report.hint)) == ("23505", can_be_deferrable)
    if can_be_deferrable:
        pair.target.execute(
            "ALTER TABLE s.t DROP CONSTRAINT t_email_key, ADD CONSTRAINT t_email_key UNIQUE (email) DEFERRABLE"
        )
    else:
        assert "ON DELETE NO ACTION" in str(report.hint)
        refers = "(email) REFERENCES s.t (email)" if case == "the constraint itself" else "(t) REFERENCES s.t"
        name = pair.target.value("SELECT conname FROM pg_constraint WHERE contype = 'f'")
        pair.target.execute(f"ALTER TABLE s.child DROP CONSTRAINT {name}, ADD FOREIGN KEY {refers}")
    assert sync(pair.source.dsn, pair.target.dsn, "s.t").exit_code == 0
    assert pair.target.image("s.t") == pair.source.image("s.t")


def test_a_json_that_jsonb_can_not_hold_is_no_matter_of_encodings(pair: Pair) -> None:
    pair.source.execute(r"""CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v json);
        INSERT INTO s.t VALUES (1, '{"a": "\u0000"}')""")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v jsonb)")
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=Options(allow_narrowing=True)).tables
    assert (table.sqlstate, r"\u0000" in str(table.hint), "encoding" in str(table.hint)) == ("22P05", True, False)


@pytest.mark.slow
def test_a_value_too_large_for_text_is_tried_once_and_the_column_that_makes_it_text_is_named(pair: Pair) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v bytea, lasts interval);
        INSERT INTO s.t VALUES (1, convert_to(repeat('x', 537000000), 'UTF8'), '1 day')"""
    )
    recorder = Recorder()
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.t", sinks=[recorder]).tables
    assert (table.status, table.attempts, recorder.of(Retrying)) == ("failed", 1, [])
    assert "larger than PostgreSQL can hold at once" in str(table.hint)
    assert "goes as text (lasts is interval, not proven safe in binary)" in str(table.hint)


WIDER = [
    ("integer", "s.whole"),
    ("s.whole", "integer"),
    ("s.whole", "bigint"),
    ("s.part", "integer"),
    ("character varying(5)", "s.word"),
    ("jsonb", "json"),
    ("integer", "double precision"),
    ("smallint", "real"),
]
TYPES = """CREATE SCHEMA s; CREATE DOMAIN s.whole AS integer CHECK (VALUE > 0); CREATE DOMAIN s.part AS s.whole;
    CREATE DOMAIN s.word AS varchar(5);"""


@pytest.mark.parametrize(("theirs", "ours"), WIDER)
@pytest.mark.parametrize("verify", ["hash", "count"])
def test_a_type_that_holds_every_value_is_not_said_to_lose_any(pair: Pair, theirs: str, ours: str, verify: str) -> None:
    value = {"jsonb": """'{"a": 1.50}'""", "character varying(5)": "'abc'", "smallint": "32767"}.get(
        theirs, "2147483647"
    )
    pair.source.execute(
        f"{TYPES} CREATE TABLE s.t (id int PRIMARY KEY, v {theirs}); INSERT INTO s.t VALUES (1, {value})"
    )
    pair.target.execute(f"{TYPES} CREATE TABLE s.t (id int PRIMARY KEY, v {ours})")
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.t").tables
    assert (table.status, table.error) == ("done", None)
    as_text = "SELECT v::text FROM s.t"
    assert pair.target.rows(as_text) == pair.source.rows(as_text)
    assert pair.pgsluice("verify", "--table", "s.t", "--level", verify).code == 0


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("bigint", "s.whole"), ("character varying(9)", "s.word"), ("bigint", "double precision"), ("json", "jsonb")],
)
def test_a_type_that_may_lose_a_value_is_still_said_to(pair: Pair, theirs: str, ours: str) -> None:
    pair.source.execute(f"{TYPES} CREATE TABLE s.t (id int PRIMARY KEY, v {theirs})")
    pair.target.execute(f"{TYPES} CREATE TABLE s.t (id int PRIMARY KEY, v {ours})")
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.t").tables
    assert (table.exit_code, "may not hold every value" in str(table.error)) == (6, True)


@pytest.mark.parametrize("strategy", [Strategy.SWAP, Strategy.COPY])
def test_a_report_says_one_thing_of_triggers(pair: Pair, strategy: Strategy) -> None:
    for side in (pair.source, pair.target):
        side.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)")
    pair.target.execute(
        """CREATE FUNCTION s.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER noting AFTER INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.note()"""
    )
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=Options(strategy=strategy)).tables
    told = [note for note in table.notes if "triggers" in note]
    assert len(told) == 1, told
    assert ("do not fire" in told[0]) == (strategy is Strategy.SWAP)


@pytest.mark.parametrize("mode", ["full", "upsert", "append"])
def test_a_unique_constraint_that_refuses_a_row_talks_of_append_in_append_alone(pair: Pair, mode: str) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int); INSERT INTO s.t VALUES (1, 1), (2, 1)"
    )
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int UNIQUE)")
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.t", mode=mode).tables
    assert (table.sqlstate, "append" in str(table.hint)) == ("23505", mode == "append")


def test_too_many_connections_are_no_matter_of_host_and_port(pair: Pair, source_cluster: Cluster) -> None:
    name = f"crowd_{pair.source.name}"
    role = sql.Identifier(name)
    with psycopg.connect(pair.source.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'crowd' CONNECTION LIMIT 0").format(role))
        try:
            crowd = make_conninfo(source_cluster.tcp_dsn, user=name, password="crowd", dbname=pair.source.name)
            with pytest.raises(Exception, match="too many connections") as raised:
                sync(crowd, pair.target.dsn, "s.t", options=Options(retries=0))
        finally:
            admin.execute(sql.SQL("DROP ROLE {}").format(role))
    assert ("max_connections" in str(raised.value), "host and port" in str(raised.value)) == (True, False)


@pytest.mark.parametrize(("typed", "hint"), [("products", "Did you mean sales.products?"), ("nosuch", "public.nosuch")])
def test_a_name_without_its_schema_is_told_where_the_table_is(pair: Pair, typed: str, hint: str) -> None:
    pair.source.execute("CREATE SCHEMA sales; CREATE TABLE sales.products (id int PRIMARY KEY)")
    with pytest.raises(TableNameError, match="lacks a schema") as raised:
        sync(pair.source.dsn, pair.target.dsn, typed)
    assert hint in raised.value.hint
    told = pair.pgsluice("plan", "--table", typed)
    assert (told.code, hint in told.err) == (2, True), told.err


def test_a_session_in_the_way_whose_state_is_hidden_is_told_without_question_marks(pair: Pair) -> None:
    mover = f"mover_{pair.target.name}"
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)")
    pair.target.execute(
        f"""CREATE ROLE {mover} LOGIN; CREATE SCHEMA s AUTHORIZATION {mover}; CREATE TABLE s.t (id int PRIMARY KEY);
        ALTER TABLE s.t OWNER TO {mover}; GRANT CREATE ON DATABASE {pair.target.name} TO {mover}"""
    )
    with psycopg.connect(pair.target.dsn, application_name="psql") as other:
        other.execute("LOCK TABLE s.t IN SHARE MODE")
        pid = other.info.backend_pid
        target = make_conninfo(pair.target.dsn, user=mover)
        (table,) = sync(pair.source.dsn, target, "s.t", options=Options(retries=0, lock_timeout=1)).tables
    assert f"held by pid {pid} (postgres, psql)" in str(table.error)
    assert "pg_read_all_stats" in str(table.hint)
    pair.target.execute(f"DROP OWNED BY {mover} CASCADE; DROP ROLE {mover}")
