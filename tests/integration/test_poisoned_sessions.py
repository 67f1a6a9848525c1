"""A role whose table refers to a target has its triggers run in our session: what they leave there changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from psycopg import sql
from servers import Database, Pair, database

from pgsluice import Options, Report, Strategy, sync
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint
from pgsluice.session import Session

#: Functions and operators that our own statements might use, by bare name; each tells as whom it ran.
_FUNCTIONS = (
    "to_regclass(text) regclass pg_catalog.to_regclass($1)",
    "clock_timestamp() timestamptz pg_catalog.clock_timestamp()",
    "now() timestamptz pg_catalog.clock_timestamp()",
    "current_database() name 'none'",
    "current_setting(text) text 'none'",
    "set_config(text,text,bool) text 'none'",
    "pg_backend_pid() int4 0",
    "quote_ident(text) text 'none'",
    "merge_action() text 'INSERT'",
)
_OPERATORS = (
    *(
        (sign, type_)
        for sign in ("=", "<>", "<", ">")
        for type_ in ("text", "int4", "int8", "oid", "name", "timestamptz")
    ),
    ("=", '"char"'),
    ("||", "text"),
    ("+", "int8"),
)
POISON = {
    "search_path": "m, pg_catalog",
    "DateStyle": "SQL, DMY",
    "TimeZone": "Asia/Seoul",
    "row_security": "on",
    "standard_conforming_strings": "off",
    "default_transaction_read_only": "on",
    "quote_all_identifiers": "on",
    "lock_timeout": "1",
    "application_name": "nobody",
    "transform_null_equals": "on",
    "synchronous_commit": "off",
}


@dataclass(frozen=True)
class Mallory:
    """She may refer to `sales.o` of the target, and has a schema of her own there."""

    target: Database
    name: str

    def says(self, script: str) -> None:
        self.target.execute(f"SET ROLE {self.name}; {script}")

    def takes_names(self) -> None:
        """Give her schema functions, operators and a table by core's names, which note who runs them."""
        self.says("CREATE TABLE m.ran (who text, what text); GRANT INSERT ON m.ran TO PUBLIC")
        for number, (signature, type_, value) in enumerate(each.rsplit(" ", 2) for each in _FUNCTIONS):
            self._function(signature, type_, value, number)
        for number, (sign, type_) in enumerate(_OPERATORS):
            result = "bool" if sign in {"=", "<>", "<", ">"} else type_
            self._function(f"op{number}({type_}, {type_})", result, "NULL", sign)
            self.says(f"CREATE OPERATOR m.{sign} (LEFTARG = {type_}, RIGHTARG = {type_}, FUNCTION = m.op{number})")

    def _function(self, signature: str, type_: str, value: str, what: object) -> None:
        self.says(
            f"""CREATE FUNCTION m.{signature} RETURNS {type_} LANGUAGE plpgsql
            SET search_path = pg_catalog AS $$BEGIN
              INSERT INTO m.ran VALUES (current_user, '{signature} {what}');
              IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                ALTER ROLE {self.name} SUPERUSER;
              END IF;
              RETURN {value};
            END$$"""
        )

    def poisons(self, timing: str = "BEFORE DELETE OR UPDATE", **settings: str) -> None:
        """Have a trigger of her table change settings of the session that it runs in."""
        calls = "".join(f"PERFORM set_config('{name}', '{value}', false);" for name, value in settings.items())
        self.says(
            f"""CREATE FUNCTION m.poison() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN {calls.replace("set_config", "pg_catalog.set_config")}
              CREATE TEMP VIEW pg_class AS SELECT c.* FROM pg_catalog.pg_class c, m.spy();
              RETURN CASE WHEN tg_op = 'DELETE' THEN old ELSE new END;
            EXCEPTION WHEN duplicate_table THEN RETURN CASE WHEN tg_op = 'DELETE' THEN old ELSE new END; END$$;
            CREATE {"CONSTRAINT " * ("DEFERRABLE" in timing)}TRIGGER poison {timing.partition(" DEFERRABLE")[0]} ON m.child
            {"DEFERRABLE INITIALLY DEFERRED" * ("DEFERRABLE" in timing)} FOR EACH ROW EXECUTE FUNCTION m.poison()"""
        )

    @property
    def ran(self) -> list[tuple[Any, ...]]:
        """Return what of hers ran as somebody else."""
        return self.target.rows(f"SELECT DISTINCT who, what FROM m.ran WHERE who <> '{self.name}'")

    @property
    def is_superuser(self) -> bool:
        return bool(self.target.value(f"SELECT rolsuper FROM pg_roles WHERE rolname = '{self.name}'"))

    def gained_nothing(self) -> bool:
        assert self.ran == []
        assert not self.is_superuser
        return True


@pytest.fixture
def old_pair(source_cluster: Cluster) -> Iterator[Pair]:
    """Give a target older than 18, where AFTER triggers run as whoever ends the statement that set them off."""
    with database(source_cluster) as source, database(source_cluster) as target:
        yield Pair(source, target)


@pytest.fixture
def mallory(pair: Pair) -> Iterator[Mallory]:
    """Give her a table whose rows go along with those of a target that has been synced once."""
    made = Mallory(pair.target, f"mallory_{pair.target.name}")
    pair.source.execute(
        """CREATE SCHEMA sales; CREATE TABLE sales.o (id int PRIMARY KEY, v text, at timestamptz);
        INSERT INTO sales.o SELECT g, g, '2024-01-02 03:04:05+00' FROM generate_series(1, 100) g"""
    )
    assert sync(pair.source.dsn, pair.target.dsn, "sales.o").exit_code == 0
    pair.target.execute(
        f"""CREATE ROLE {made.name}; CREATE SCHEMA m AUTHORIZATION {made.name};
        GRANT USAGE ON SCHEMA m TO PUBLIC; GRANT USAGE ON SCHEMA sales TO {made.name};
        GRANT REFERENCES ON sales.o TO {made.name}"""
    )
    made.says(
        """CREATE TABLE m.child (id int REFERENCES sales.o ON DELETE CASCADE ON UPDATE CASCADE);
        INSERT INTO m.child SELECT generate_series(1, 100);
        CREATE FUNCTION m.spy() RETURNS int LANGUAGE plpgsql VOLATILE AS
        $$BEGIN INSERT INTO m.ran VALUES (current_user, 'spy'); RETURN 1; END$$"""
    )
    made.takes_names()
    yield made
    pair.target.execute(f"ALTER ROLE {made.name} NOSUPERUSER; DROP OWNED BY {made.name} CASCADE; DROP ROLE {made.name}")


def change(pair: Pair) -> None:
    pair.source.execute("DELETE FROM sales.o WHERE id > 95; UPDATE sales.o SET v = 'new', at = at + '1 d' WHERE id = 1")
    pair.source.execute("INSERT INTO sales.o VALUES (200, 'more', '2024-02-03 04:05:06+00')")


def is_alike(pair: Pair, table: str = "sales.o") -> bool:
    return pair.source.image(table) == pair.target.image(table)


def done(report: Report) -> bool:
    assert report.exit_code == 0, [table.error for table in report.tables]
    return True


MODES: dict[str, dict[str, Any]] = {
    "copy": {"options": Options(strategy=Strategy.COPY)},
    "diff": {"options": Options(strategy=Strategy.DIFF)},
    "upsert": {"mode": "upsert", "deletes": "sweep"},
    "incremental": {"mode": "incremental", "cursor": "at", "late_rows": "scan", "deletes": "sweep"},
    "append": {"mode": "append", "full_refresh": True, "max_delete": "100%"},
}


@pytest.mark.parametrize("mode", MODES)
def test_what_a_cascade_leaves_in_the_session_gives_nobody_our_rights(pair: Pair, mallory: Mallory, mode: str) -> None:
    mallory.poisons(**POISON)
    change(pair)
    report = sync(pair.source.dsn, pair.target.dsn, "sales.o", **MODES[mode])
    assert mallory.gained_nothing()
    assert done(report)
    assert is_alike(pair)


@pytest.mark.parametrize("is_atomic", [True, False])
def test_a_trigger_that_waits_for_the_end_leaves_nothing_in_the_session(
    pair: Pair, mallory: Mallory, is_atomic: bool
) -> None:
    mallory.poisons("AFTER DELETE OR UPDATE DEFERRABLE", **POISON)
    pair.source.execute("CREATE TABLE sales.p AS TABLE sales.o; ALTER TABLE sales.p ADD PRIMARY KEY (id)")
    change(pair)
    report = sync(pair.source.dsn, pair.target.dsn, "sales.*", options=Options(atomic=is_atomic))
    assert mallory.gained_nothing()
    assert done(report)
    assert is_alike(pair)
    assert is_alike(pair, "sales.p")


def settings_of(session: Session, *names: str) -> list[str]:
    shown = sql.SQL(", ").join(sql.SQL("pg_catalog.current_setting({})").format(sql.Literal(name)) for name in names)
    return list(session.row(sql.SQL("SELECT {}").format(shown)))


@pytest.mark.parametrize(
    ("timing", "ends_early"),
    [
        ("BEFORE DELETE OR UPDATE", False),
        ("AFTER DELETE OR UPDATE DEFERRABLE", False),
        ("AFTER DELETE OR UPDATE DEFERRABLE", True),
    ],
    ids=["at once", "deferred", "deferred to a statement"],
)
def test_all_settings_are_ours_behind_a_change_and_its_commit(
    pair: Pair, mallory: Mallory, timing: str, ends_early: bool
) -> None:
    mallory.poisons(timing, **POISON)
    with Endpoint(pair.target.dsn, read_only=False).open() as session:
        before = settings_of(session, *POISON)
        with session.transaction():
            session.as_role("sales", "Asia/Tokyo")
            session.local(work_mem="123MB")
            within = settings_of(session, *POISON, "work_mem")
            assert session.execute(sql.SQL("DELETE FROM sales.o WHERE id = 1")) == 1
            assert settings_of(session, *POISON, "work_mem") == within
            if ends_early:  # what was deferred to the end, else, is done at COMMIT
                session.execute(sql.SQL("SET CONSTRAINTS ALL IMMEDIATE"))
                assert settings_of(session, *POISON, "work_mem") == within
        assert settings_of(session, *POISON) == before


def test_a_cast_of_a_table_that_refers_to_the_target_leaves_nothing_in_the_session(
    pair: Pair, mallory: Mallory
) -> None:
    mallory.says(
        """DROP TABLE m.child; CREATE TYPE m.number AS (i int);
        CREATE FUNCTION m.as_int(n m.number) RETURNS int LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_catalog.set_config('search_path', 'm, pg_catalog', false); RETURN (n).i; END$$;
        CREATE CAST (m.number AS int) WITH FUNCTION m.as_int AS IMPLICIT;
        CREATE TABLE m.child (id m.number REFERENCES sales.o ON DELETE RESTRICT); INSERT INTO m.child VALUES (ROW(1))"""
    )
    change(pair)
    report = sync(pair.source.dsn, pair.target.dsn, "sales.o")
    assert mallory.gained_nothing()
    assert done(report)
    assert is_alike(pair)


def test_rows_that_are_marked_as_gone_are_marked_under_our_own_settings(pair: Pair, mallory: Mallory) -> None:
    mallory.says("DROP TABLE m.child; CREATE TABLE m.child (v text)")
    pair.target.execute("ALTER TABLE sales.o ADD gone timestamptz, ADD UNIQUE (v)")
    mallory.says("DROP TABLE m.child; CREATE TABLE m.child (v text REFERENCES sales.o (v) ON UPDATE CASCADE)")
    mallory.says("INSERT INTO m.child SELECT generate_series(1, 100)")
    mallory.poisons(**POISON)
    change(pair)
    report = sync(pair.source.dsn, pair.target.dsn, "sales.o", mode="upsert", deletes="soft:gone")
    assert mallory.gained_nothing()
    assert done(report)
    assert pair.target.value("SELECT count(*) FROM sales.o WHERE gone IS NOT NULL") == 5


def test_what_follows_a_merge_is_done_under_our_own_settings(pair: Pair, mallory: Mallory) -> None:
    """A row whose mark is taken off again is updated behind the MERGE."""
    mallory.says("DROP TABLE m.child; CREATE TABLE m.child (v text)")
    pair.target.execute("ALTER TABLE sales.o ADD gone timestamptz, ADD UNIQUE (v)")
    mallory.says("DROP TABLE m.child; CREATE TABLE m.child (v text REFERENCES sales.o (v) ON UPDATE CASCADE)")
    mallory.says("INSERT INTO m.child VALUES (1)")
    mode: dict[str, Any] = {"mode": "incremental", "cursor": "at", "late_rows": "scan", "deletes": "soft:gone"}
    assert done(sync(pair.source.dsn, pair.target.dsn, "sales.o", **mode))
    pair.target.execute(
        """UPDATE sales.o SET gone = now() WHERE id = 50; CREATE TABLE public.seen (style text, search_path text);
        CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
          INSERT INTO public.seen SELECT current_setting('DateStyle'), current_setting('search_path'); RETURN NULL;
        END$$; CREATE TRIGGER note BEFORE UPDATE ON sales.o FOR EACH STATEMENT EXECUTE FUNCTION public.note()"""
    )
    mallory.poisons(**POISON)
    change(pair)
    assert done(sync(pair.source.dsn, pair.target.dsn, "sales.o", **mode))
    assert mallory.gained_nothing()
    assert pair.target.rows("SELECT DISTINCT * FROM public.seen") == [("ISO, MDY", '"$user", public, pg_temp')]
    assert pair.target.value("SELECT count(*) FROM sales.o WHERE id = 50 AND gone IS NULL") == 1


def test_tables_that_commit_together_are_all_written_under_our_own_settings(pair: Pair, mallory: Mallory) -> None:
    pair.source.execute(
        "CREATE TABLE sales.p (id int PRIMARY KEY REFERENCES sales.o); INSERT INTO sales.p VALUES (1), (2)"
    )
    assert done(sync(pair.source.dsn, pair.target.dsn, "sales.p"))
    mallory.poisons(**POISON)
    change(pair)
    pair.source.execute("INSERT INTO sales.p VALUES (200)")
    report = sync(pair.source.dsn, pair.target.dsn, "sales.*", options=Options(atomic=True))
    assert mallory.gained_nothing()
    assert done(report)
    assert is_alike(pair)
    assert is_alike(pair, "sales.p")


def test_a_repair_goes_on_under_our_own_settings(pair: Pair, mallory: Mallory) -> None:
    pair.target.execute("INSERT INTO sales.o VALUES (300, 'too much'), (301, 'too much')")
    pair.target.execute("INSERT INTO m.child VALUES (300)")
    mallory.poisons(**POISON)
    outcome = pair.pgsluice("verify", "--table", "sales.o", "--repair")
    assert mallory.gained_nothing()
    assert outcome.code == 0, outcome.out
    assert is_alike(pair)


def test_where_a_job_stands_is_written_as_ever_under_settings_of_others(pair: Pair, mallory: Mallory) -> None:
    pair.target.execute("TRUNCATE pgsluice.job_state")
    mode: dict[str, Any] = {"mode": "incremental", "cursor": "at", "late_rows": "scan", "deletes": "sweep"}
    assert done(sync(pair.source.dsn, pair.target.dsn, "sales.o", **mode))
    mallory.poisons(**{name: value for name, value in POISON.items() if name != "search_path"})
    change(pair)
    assert done(sync(pair.source.dsn, pair.target.dsn, "sales.o", **mode))
    assert pair.target.value("SELECT watermark FROM pgsluice.job_state").startswith("2024-02-03 04:05:06")


@pytest.mark.parametrize(
    "trigger",
    [
        "TRIGGER spy AFTER DELETE ON m.child FOR EACH ROW",
        "TRIGGER spy AFTER DELETE ON m.child FOR EACH STATEMENT",
        "CONSTRAINT TRIGGER spy AFTER DELETE ON m.child DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
        "TRIGGER spy AFTER UPDATE ON m.grandchild FOR EACH ROW",
    ],
    ids=["row", "statement", "deferred", "grandchild"],
)
def test_no_trigger_of_others_runs_as_our_role_on_an_older_target(old_pair: Pair, trigger: str) -> None:
    source, target = old_pair.source, old_pair.target
    for side in (source, target):
        side.execute(
            "CREATE SCHEMA sales; CREATE TABLE sales.o (id int PRIMARY KEY); INSERT INTO sales.o VALUES (1), (2)"
        )
    target.execute(
        f"""CREATE ROLE {target.name}_m; CREATE SCHEMA m AUTHORIZATION {target.name}_m;
        GRANT USAGE ON SCHEMA sales TO {target.name}_m; GRANT REFERENCES ON sales.o TO {target.name}_m;
        SET ROLE {target.name}_m;
        CREATE TABLE m.ran (who text); CREATE TABLE m.child (id int PRIMARY KEY REFERENCES sales.o ON DELETE CASCADE);
        CREATE TABLE m.grandchild (id int REFERENCES m.child ON DELETE SET NULL);
        INSERT INTO m.child VALUES (1); INSERT INTO m.grandchild VALUES (1);
        CREATE FUNCTION m.spy() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN INSERT INTO m.ran VALUES (current_user); RETURN NULL; END$$;
        CREATE {trigger} EXECUTE FUNCTION m.spy()"""
    )
    source.execute("DELETE FROM sales.o WHERE id = 1")
    (table,) = sync(source.dsn, target.dsn, "sales.o").tables
    assert target.rows("SELECT who FROM m.ran") == []
    assert f"m.child of {target.name}_m" in str(table.error)
    assert target.value("SELECT count(*) FROM sales.o") == 2
    target.execute(
        f"REASSIGN OWNED BY {target.name}_m TO CURRENT_USER; DROP OWNED BY {target.name}_m; DROP ROLE {target.name}_m"
    )
    assert done(sync(source.dsn, target.dsn, "sales.o"))
    assert is_alike(old_pair)
