"""A full sync that replaces its target: all that the table has but its rows is there again, or nothing is changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from faulting import At, await_that
from ladentable import ROWS, lay, portrait, rows
from servers import Pair

from pgsluice import MaxDelete, Options, StagingKind, Strategy, Verify, sync
from pgsluice.model import TableReport


@pytest.fixture
def full(pair: Pair) -> Pair:
    lay(pair.source, pair.target)
    return pair


@pytest.fixture
def plain(pair: Pair) -> Pair:
    for side in (pair.source, pair.target):
        side.execute(
            "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int);"
            "INSERT INTO s.t SELECT i, 1 FROM generate_series(1, 100) i"
        )
    pair.source.execute("UPDATE s.t SET v = 2; DELETE FROM s.t WHERE id = 1; INSERT INTO s.t VALUES (101, 3)")
    return pair


def swapped(pair: Pair, *, sink: Any = None, **given: Any) -> TableReport:
    options = Options(**{"strategy": Strategy.SWAP, **given.pop("options", {})})
    return sync(pair.source.dsn, pair.target.dsn, "s.t", options=options, sinks=[sink] if sink else [], **given).tables[
        0
    ]


@pytest.mark.parametrize("verify", Verify, ids=str)
def test_the_new_table_is_the_old_one_in_all_but_its_rows(full: Pair, verify: Verify) -> None:
    before, oid = portrait(full.target), full.target.value("SELECT 's.t'::regclass::oid")
    report = swapped(full, options={"verify": verify})
    assert report.status == "done", report.error
    assert (report.strategy, report.inserted, report.deleted, report.target_count) == ("swap", ROWS, 2, ROWS)
    assert rows(full.target) == rows(full.source)
    assert portrait(full.target) == before
    assert full.target.value("SELECT 's.t'::regclass::oid") != oid
    assert full.target.value("SELECT count(*) FROM other.on_view") == 1
    assert full.target.value("SELECT nextval('s.t_id_seq')") == 4003
    assert full.target.value("SELECT nextval('s.t_nr_seq')") == 70
    assert full.target.value("SELECT reltuples::int FROM pg_class WHERE oid = 's.t'::regclass") == ROWS
    assert full.target.staging_tables() == []
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        full.target.execute("INSERT INTO other.child VALUES (2, 999999)")
    again = swapped(full)
    assert again.status == "done", again.error
    assert portrait(full.target) >= {line for line in before if line[0] != "sequence"}


@pytest.mark.parametrize("option", ["pg_ver=1", "new_one=1"])
def test_options_that_no_user_sets_are_left_behind_and_those_that_users_set_come_along(full: Pair, option: str) -> None:
    """A server may keep things of its own beside what users set: Debian's 15.20 keeps pg_attver of each column."""
    before = portrait(full.target)
    full.target.execute(
        f"""UPDATE pg_attribute SET attoptions = attoptions || ARRAY['{option}'] WHERE attrelid = 's.t'::regclass AND attnum > 0;
        UPDATE pg_class SET reloptions = reloptions || ARRAY['{option}']
         WHERE oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 's.t'::regclass UNION SELECT 's.t'::regclass
                       UNION SELECT 's.v'::regclass
                       UNION SELECT reltoastrelid FROM pg_class WHERE oid = 's.t'::regclass)"""
    )
    report = swapped(full)
    assert report.status == "done", report.error
    assert rows(full.target) == rows(full.source)
    assert portrait(full.target) == before
    named = ["the table", "its TOAST table", "column code", "index by_code", "index one_code", "view s.v"]
    notes = [f"the new table does not get option new_one of {each}, which is not one that users set" for each in named]
    assert {note in report.notes for note in notes} == {option == "new_one=1"}


@pytest.mark.parametrize(
    ("leaning", "named"),
    [
        ("CREATE MATERIALIZED VIEW s.m AS SELECT * FROM s.t", "materialized view s.m"),
        ("CREATE FUNCTION s.g(s.t) RETURNS int LANGUAGE sql AS 'SELECT 1'", "function s.g(s.t)"),
        ("CREATE FUNCTION s.g() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM s.t; END", "function s.g()"),
        ("CREATE TABLE s.k () INHERITS (s.t)", "it inherits from or to s.k"),
        ("CREATE VIEW s.v AS SELECT t FROM s.t", "column t of view s.v"),
        ("CREATE TABLE s.k (r s.t[])", "column r of table s.k"),
        ("CREATE TABLE s.k (i int); CREATE POLICY p ON s.k USING (i IN (SELECT id FROM s.t))", "policy p on table s.k"),
        ("ALTER TABLE s.t ADD CONSTRAINT c CHECK (id < 1000) NOT VALID", "constraint c is not validated"),
        ("ALTER TABLE s.t ADD note text DEFAULT 'mine'", "the values of note"),
    ],
)
def test_what_can_not_be_carried_over_is_refused_by_name_before_anything_is_written(
    plain: Pair, leaning: str, named: str
) -> None:
    plain.target.execute(leaning)
    before = plain.target.rows("SELECT * FROM s.t ORDER BY id")
    report = swapped(plain)
    assert (report.status, report.exit_code) == ("failed", 6)
    assert named in str(report.error) + report.hint
    assert plain.target.rows("SELECT * FROM s.t ORDER BY id") == before
    assert plain.target.value("SELECT to_regnamespace('pgsluice') IS NULL")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"mode": "upsert"}, "mode upsert"),
        ({"where": "id > 5"}, "condition"),
        ({"deletes": "keep"}, "--deletes keep"),
        ({"options": {"resumable": True}}, "--resumable"),
        ({"options": {"staging": StagingKind.TEMPORARY}}, "temporary staging"),
    ],
)
def test_what_would_lose_rows_is_refused(plain: Pair, given: dict[str, Any], why: str) -> None:
    report = swapped(plain, **given)
    assert (report.status, report.exit_code) == ("failed", 6)
    assert why in str(report.error) + report.hint
    assert plain.target.value("SELECT count(*) FROM s.t WHERE v = 1") == 100


def test_a_table_without_a_key_is_replaced(plain: Pair) -> None:
    for side in (plain.source, plain.target):
        side.execute("ALTER TABLE s.t DROP CONSTRAINT t_pkey")
    plain.source.execute("INSERT INTO s.t SELECT * FROM s.t WHERE id < 20")
    assert swapped(plain).status == "done"
    assert plain.target.image("s.t") == plain.source.image("s.t")


def test_a_target_that_is_missing_is_created(plain: Pair) -> None:
    plain.target.execute("DROP TABLE s.t")
    report = swapped(plain)
    assert (report.status, report.created, report.strategy) == ("done", True, "copy")
    assert plain.target.image("s.t") == plain.source.image("s.t")


def test_the_delete_guard_counts_what_does_not_come_back(plain: Pair) -> None:
    plain.source.execute("DELETE FROM s.t WHERE id > 50")
    report = swapped(plain)
    assert (report.status, report.exit_code, report.step) == ("failed", 6, "guard")
    assert "51 of 100 rows" in str(report.error)
    assert plain.target.value("SELECT count(*) FROM s.t WHERE v = 1") == 100
    assert swapped(plain, options={"max_delete": MaxDelete.parse("60%")}).status == "done"


def test_rows_that_others_refer_to_and_the_source_lacks_keep_the_old_table(plain: Pair) -> None:
    plain.target.execute("CREATE TABLE s.child (t int REFERENCES s.t); INSERT INTO s.child VALUES (1)")
    report = swapped(plain)
    assert (report.status, report.sqlstate) == ("failed", "23503")
    assert plain.target.value("SELECT count(*) FROM s.t WHERE v = 1") == 100
    assert plain.target.staging_tables() == []
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        plain.target.execute("DELETE FROM s.t WHERE id = 1")


@pytest.mark.parametrize(
    "change",
    [
        "CREATE INDEX meanwhile ON s.t (v)",
        "ALTER TABLE s.t ALTER v SET DEFAULT 5",
        "ALTER TABLE s.t ADD CONSTRAINT meanwhile CHECK (v < 1000)",
        "ALTER TABLE s.t ALTER v SET STATISTICS 77",
    ],
    ids=["index", "default", "check", "statistics"],
)
def test_what_the_target_gets_after_it_was_built_is_not_lost(plain: Pair, change: str) -> None:
    other = At("merge", lambda: plain.target.execute(change))
    report = swapped(plain, sink=other, options={"retries": 0})
    assert other.done
    assert report.status == "failed"
    before = portrait(plain.target)
    assert plain.target.value("SELECT count(*) FROM s.t WHERE v = 1") == 100
    assert swapped(plain).status == "done"
    assert portrait(plain.target) == before


def test_what_comes_to_lean_on_the_target_meanwhile_keeps_the_old_one(plain: Pair) -> None:
    other = At("merge", lambda: plain.target.execute("CREATE MATERIALIZED VIEW s.m AS SELECT * FROM s.t"))
    report = swapped(plain, sink=other, options={"retries": 0})
    assert report.status == "failed"
    assert "materialized view s.m leans on it" in str(report.error)
    assert plain.target.value("SELECT count(*) FROM s.m WHERE v = 1") == 100


def test_a_reader_holds_it_up_and_is_waited_for(plain: Pair) -> None:
    with psycopg.connect(plain.target.dsn) as reader:
        reader.execute("SELECT * FROM s.t")
        failed = swapped(plain, options={"lock_timeout": 0.3, "retries": 0})
        assert (failed.status, failed.sqlstate) == ("failed", "55P03")
        assert plain.target.staging_tables() == []
        found: list[TableReport] = []
        run = threading.Thread(target=lambda: found.append(swapped(plain)))
        run.start()
        waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 's.t'::regclass)"
        await_that(lambda: bool(plain.target.value(waiting)), "the swap to wait for the reader")
        reader.rollback()
    run.join(60)
    assert found[0].status == "done", found[0].error
    assert plain.target.image("s.t") == plain.source.image("s.t")


def test_readers_see_all_of_the_old_table_or_all_of_the_new_one(plain: Pair) -> None:
    seen: set[tuple[int, int]] = set()
    over = threading.Event()

    def read() -> None:
        with psycopg.connect(plain.target.dsn, autocommit=True) as connection:
            while not over.is_set():
                seen.add(connection.execute("SELECT count(*), sum(v) FROM s.t").fetchone())  # type: ignore[arg-type]

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert all(swapped(plain).status == "done" for _ in range(3))
    finally:
        over.set()
        reader.join(30)
    assert seen <= {(100, 100), (100, 201)}
    assert (100, 201) in seen


def test_what_differs_is_rolled_back_where_hashes_are_compared(plain: Pair) -> None:
    """A default can't do it, for a copy fills each column; a generated column of the target is not compared."""
    plain.target.execute("ALTER TABLE s.t ALTER v TYPE smallint")
    report = swapped(plain, options={"verify": Verify.HASH, "allow_narrowing": True})
    assert (report.status, report.verified) == ("done", "hash"), report.error


def test_the_plan_shows_every_statement(plain: Pair) -> None:
    plain.target.execute("CREATE VIEW s.v AS SELECT * FROM s.t; COMMENT ON TABLE s.t IS 'it'")
    done = plain.pgsluice("plan", "--table", "s.t", "--strategy", "swap")
    assert done.code == 0, done
    for text in (
        "strategy swap: as asked",
        "LIKE s.t INCLUDING ALL",
        "LOCK TABLE s.t IN ACCESS EXCLUSIVE MODE",
        "CREATE OR REPLACE VIEW s.v",
        "RENAME TO t",
        "COMMENT ON TABLE s.t IS 'it'",
        "REPEATABLE READ",
    ):
        assert text in done.out, text


HANGUL = "아주긴이름을가진테이블이라서육십삼바이트"  # 60 bytes
SHAPES = {
    "long names": (
        f'CREATE TABLE s.t (id int CONSTRAINT "{HANGUL}가" PRIMARY KEY, v int GENERATED BY DEFAULT AS IDENTITY);'
        f'ALTER SEQUENCE s.t_v_seq RENAME TO "{HANGUL}나";'
        f'CREATE INDEX "{HANGUL}다" ON s.t (v); ALTER TABLE s.t ADD CONSTRAINT "{HANGUL}라" CHECK (v > 0);'
    ),
    "unlogged": "CREATE UNLOGGED TABLE s.t (id int PRIMARY KEY, v int);",
    "no key": "CREATE TABLE s.t (id int, v int); CREATE INDEX ON s.t (v, id);",
    "one that refers to itself": (
        "CREATE TABLE s.t (id int PRIMARY KEY, v int, CONSTRAINT self FOREIGN KEY (id) REFERENCES s.t);"
    ),
    "a partitioned table that refers to it": (
        "CREATE TABLE s.t (id int PRIMARY KEY, v int); CREATE TABLE s.p (i int REFERENCES s.t) PARTITION BY LIST (i);"
        "CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES IN (2); INSERT INTO s.t VALUES (2, 9); INSERT INTO s.p VALUES (2);"
    ),
    "one that refers to a partitioned table": (
        "CREATE TABLE s.p (i int PRIMARY KEY) PARTITION BY LIST (i); CREATE TABLE s.p1 PARTITION OF s.p DEFAULT;"
        "INSERT INTO s.p SELECT generate_series(1, 10); CREATE TABLE s.t (id int PRIMARY KEY, v int REFERENCES s.p);"
    ),
    "views of views": (
        "CREATE TABLE s.t (id int PRIMARY KEY, v int); CREATE VIEW s.a WITH (security_invoker = true, check_option = local)"
        ' AS SELECT id AS "An id", v FROM s.t WHERE v > 0; CREATE VIEW s.b AS SELECT a.*, t.v AS other FROM s.a a JOIN s.t t'
        ' ON t.id = a."An id"; CREATE MATERIALIZED VIEW s.m AS SELECT * FROM s.b; ALTER VIEW s.a RENAME v TO w;'
        "CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;"
        "CREATE TRIGGER instead INSTEAD OF DELETE ON s.b FOR EACH ROW EXECUTE FUNCTION s.f();"
        "ALTER VIEW s.a ALTER w SET DEFAULT 7; CREATE VIEW s.r AS WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1"
        " FROM r JOIN s.t ON id = n) SELECT n FROM r, s.t WHERE t IS NOT NULL;"
    ),
    "triggers of every kind": (
        "CREATE TABLE s.t (id int PRIMARY KEY, v int); CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RETURN NULL; END$$; CREATE TRIGGER a AFTER TRUNCATE ON s.t EXECUTE FUNCTION s.f();"
        "CREATE TRIGGER b AFTER UPDATE ON s.t REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION s.f();"
        "CREATE TRIGGER c BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.f('it''s', '%s {}'); ALTER TABLE s.t ENABLE"
        " ALWAYS TRIGGER a, ENABLE REPLICA TRIGGER b;"
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_tables_of_other_shapes_are_replaced_too(plain: Pair, shape: str) -> None:
    plain.target.execute("DROP TABLE s.t; " + SHAPES[shape])
    before = portrait(plain.target)
    for _ in range(2):
        report = swapped(plain, options={"max_delete": MaxDelete.parse("100%")})
        assert report.status == "done", report.error
        assert plain.target.rows("SELECT id, v FROM s.t ORDER BY 1") == plain.source.rows(
            "SELECT * FROM s.t ORDER BY 1"
        )
        assert {line for line in portrait(plain.target) ^ before if line[0] != "sequence"} == set()


def test_tables_of_one_run_whose_parts_have_the_same_names_are_replaced_side_by_side(pair: Pair) -> None:
    for side in (pair.source, pair.target):
        side.execute(
            "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (id int PRIMARY KEY, v int UNIQUE);"
            "CREATE TABLE b.t (id int PRIMARY KEY, v int UNIQUE);"
        )
    pair.source.execute("INSERT INTO a.t SELECT i, i FROM generate_series(1, 50) i; INSERT INTO b.t TABLE a.t")
    options = Options(strategy=Strategy.SWAP, jobs=2)
    report = sync(pair.source.dsn, pair.target.dsn, "?.t", options=options)
    assert [table.status for table in report.tables] == ["done", "done"], [table.error for table in report.tables]
    for name in ("a.t", "b.t"):
        assert pair.target.image(name) == pair.source.image(name)
        assert pair.target.rows(
            "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype <> 'n' ORDER BY 1", (name,)
        ) == [("t_pkey",), ("t_v_key",)]


def test_a_member_of_the_owner_replaces_a_table_and_it_stays_the_owners(pair: Pair) -> None:
    owner, loader, reader = (f"{role}_{pair.target.name}" for role in ("owner", "loader", "reader"))
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v serial); INSERT INTO s.t VALUES (1, 1)"
    )
    pair.target.execute(
        f"CREATE ROLE {owner}; CREATE ROLE {loader} LOGIN IN ROLE {owner}; CREATE ROLE {reader};"
        f"CREATE SCHEMA s AUTHORIZATION {owner}; CREATE SCHEMA pgsluice AUTHORIZATION {loader};"
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {loader} GRANT ALL ON TABLES TO {reader}, PUBLIC;"
        f"SET ROLE {owner}; CREATE TABLE s.t (id int PRIMARY KEY, v serial); GRANT SELECT (id) ON s.t TO {reader};"
        f"CREATE VIEW s.v AS SELECT * FROM s.t; REVOKE ALL ON s.t FROM {owner}; GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES"
        f" ON s.t TO {owner}; RESET ROLE"
    )
    try:
        before = portrait(pair.target)
        dsn = pair.target.dsn.replace("postgres@", f"{loader}@")
        options = Options(strategy=Strategy.SWAP)
        (report,) = sync(pair.source.dsn, dsn, "s.t", options=options).tables
        assert report.status == "done", report.error
        assert pair.target.image("s.t") == pair.source.image("s.t")
        assert portrait(pair.target) == before
        pair.target.execute(
            f"REVOKE {owner} FROM {loader}; GRANT ALL ON s.t, s.v TO {loader}; GRANT ALL ON SCHEMA s TO {loader}"
        )
        (report,) = sync(pair.source.dsn, dsn, "s.t", options=options).tables
        assert (report.status, report.exit_code) == ("failed", 6)
        assert f"role {loader} does not own it" in str(report.error)
        assert "does not own the view s.v" in str(report.error)
    finally:
        pair.target.execute(
            f"DROP SCHEMA s, pgsluice CASCADE; DROP OWNED BY {owner}, {loader}, {reader}; DROP ROLE {loader}, {owner}, {reader}"
        )


#: What mallory, who may use schema s and refer to its table, has put on the target: it runs her function as whoever re-makes it.
OF_MALLORY = {
    "a foreign key through a cast of hers": (
        (
            "CREATE TYPE {m}.ty AS (a int); CREATE FUNCTION {m}.f({m}.ty) RETURNS int LANGUAGE plpgsql AS"
            " $$BEGIN PERFORM {m}.note(); RETURN $1.a; END$$; CREATE CAST ({m}.ty AS int) WITH FUNCTION {m}.f({m}.ty) AS IMPLICIT;"
            "CREATE TABLE {m}.child AS SELECT ROW(2)::{m}.ty AS x; ALTER TABLE {m}.child ADD FOREIGN KEY (x) REFERENCES s.t"
        ),
        "{m}.child, which refers to it,",
    ),
    "a foreign key of a table with an index of hers": (
        (
            "CREATE FUNCTION {m}.f(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN PERFORM {m}.note(); RETURN i; END$$;"
            "CREATE TABLE {m}.child (x int REFERENCES s.t); INSERT INTO {m}.child VALUES (2);"
            "CREATE INDEX ON {m}.child ((x + {m}.f(1)))"
        ),
        "{m}.child, which refers to it,",
    ),
    "a partition of hers": (
        (
            "RESET ROLE; CREATE TABLE s.child (x int REFERENCES s.t) PARTITION BY LIST (x);"
            "CREATE TABLE {m}.part PARTITION OF s.child DEFAULT; ALTER TABLE {m}.part OWNER TO {m}; SET ROLE {m};"
            "CREATE FUNCTION {m}.f(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN PERFORM {m}.note(); RETURN i; END$$;"
            "CREATE INDEX ON {m}.part ((x + {m}.f(1)))"
        ),
        "{m}.part, which refers to it,",
    ),
    "a view with a constant that a check of hers looks at": (
        (
            "CREATE FUNCTION {m}.f(i int) RETURNS bool LANGUAGE plpgsql AS $$BEGIN PERFORM {m}.note(); RETURN true; END$$;"
            "CREATE DOMAIN {m}.d AS int CHECK ({m}.f(VALUE)); CREATE VIEW {m}.v AS SELECT id, '{{1}}'::{m}.d[] AS one FROM s.t"
        ),
        "the view {m}.v, which shows it,",
    ),
    "a table of hers that it refers to": (
        (
            "CREATE TABLE {m}.parent (v int PRIMARY KEY); INSERT INTO {m}.parent VALUES (1), (2), (3); RESET ROLE;"
            "ALTER TABLE s.t ADD FOREIGN KEY (v) REFERENCES {m}.parent; SET ROLE {m};"
            "CREATE FUNCTION {m}.f(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN PERFORM {m}.note(); RETURN i; END$$;"
            "CREATE INDEX ON {m}.parent ((v + {m}.f(1)))"
        ),
        "{m}.parent, which it refers to,",
    ),
    "statistics of hers": (
        "RESET ROLE; CREATE STATISTICS s.st (ndistinct) ON id, v FROM s.t; ALTER STATISTICS s.st OWNER TO {m}",
        "the statistics object s.st, which is kept of it,",
    ),
    "a publication of hers": (
        "RESET ROLE; CREATE PUBLICATION p_{m} FOR TABLE s.t; ALTER PUBLICATION p_{m} OWNER TO {m}",
        "the publication p_{m}, which sends it,",
    ),
}
_NOTES = """CREATE FUNCTION {m}.note() RETURNS void LANGUAGE plpgsql AS
$$BEGIN IF current_user <> '{m}' THEN RAISE EXCEPTION 'mallory runs as %', current_user; END IF; END$$;"""


@pytest.fixture
def mallory(plain: Pair) -> Iterator[str]:
    """A role that owns a schema on the target; what it finds run as somebody else it tells by an error."""
    name = f"mallory_{plain.target.name}"
    plain.target.execute(
        f"CREATE ROLE {name}; CREATE SCHEMA AUTHORIZATION {name}; GRANT USAGE ON SCHEMA s TO {name};"
        f"GRANT CREATE ON SCHEMA s TO {name}; GRANT REFERENCES, SELECT ON s.t TO {name};"
        f"GRANT CREATE ON DATABASE {plain.target.name} TO {name}"
    )
    yield name
    plain.target.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


@pytest.mark.parametrize("moment", ["before the run", "while rows are copied"])
@pytest.mark.parametrize("made", OF_MALLORY)
def test_what_somebody_else_has_made_of_the_target_never_runs_as_our_role(
    plain: Pair, mallory: str, made: str, moment: str
) -> None:
    script, named = (text.format(m=mallory) for text in OF_MALLORY[made])
    script = f"SET ROLE {mallory}; {_NOTES.format(m=mallory)} {script}"
    other = At("merge", lambda: plain.target.execute(script))
    if moment == "before the run":
        other.action()
    report = swapped(plain, sink=other if moment == "while rows are copied" else None, options={"retries": 0})
    assert report.status == "failed"
    assert f"{named} belongs to {mallory}" in str(report.error) + report.hint
    assert plain.target.value("SELECT count(*) FROM s.t WHERE v = 1") == 100


@pytest.mark.parametrize("strategy", [Strategy.COPY, Strategy.DIFF])
def test_what_somebody_else_has_made_of_the_target_runs_as_theirs_where_it_is_not_replaced(
    plain: Pair, mallory: str, strategy: Strategy
) -> None:
    made = OF_MALLORY["a foreign key through a cast of hers"][0].format(m=mallory)
    plain.target.execute(f"SET ROLE {mallory}; {_NOTES.format(m=mallory)} {made}")
    report = swapped(plain, options={"strategy": strategy})
    assert report.status == "done", report.error
    assert plain.target.image("s.t") == plain.source.image("s.t")


@pytest.mark.parametrize("owner", ["the owner of the target", "another superuser"])
def test_what_the_targets_owner_or_a_superuser_has_made_of_it_is_carried_over(
    plain: Pair, mallory: str, owner: str
) -> None:
    give = (
        f"ALTER TABLE s.t OWNER TO {mallory}"
        if owner == "the owner of the target"
        else f"ALTER ROLE {mallory} SUPERUSER"
    )
    plain.target.execute(
        f"{give}; SET ROLE {mallory}; CREATE TABLE {mallory}.child (x int REFERENCES s.t); CREATE VIEW {mallory}.v AS TABLE s.t"
    )
    report = swapped(plain)
    assert report.status == "done", report.error
    assert plain.target.value(f"SELECT count(*) FROM {mallory}.v") == 100
