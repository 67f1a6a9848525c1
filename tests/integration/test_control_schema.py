"""The control schema is used only where nobody else could have put anything into it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import ANY

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from psycopg.conninfo import make_conninfo
from servers import Outcome, Pair

from pgsluice import control, page, sqltext, sync
from pgsluice.cli import cli
from pgsluice.endpoint import Endpoint
from pgsluice.errors import PgsluiceError, RefusedError
from pgsluice.events import Event, RunStarted
from pgsluice.page.serving import Site
from pgsluice.steps import state

NO_CACHE = {"XDG_CACHE_HOME": os.devnull}
#: Where her function notes whose rights it was given; all may write there, so that it never fails.
SPY = """
CREATE SCHEMA spy; GRANT ALL ON SCHEMA spy TO PUBLIC;
CREATE TABLE spy.ran (who text, what text); GRANT ALL ON spy.ran TO PUBLIC;
"""
HERS = """
CREATE SCHEMA hers; GRANT USAGE ON SCHEMA hers TO PUBLIC;
CREATE FUNCTION hers.strikes() RETURNS text LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO spy.ran VALUES (current_user, 'strikes'); RETURN 'x'; END $$;
CREATE FUNCTION hers.agrees(anyelement) RETURNS boolean LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO spy.ran VALUES (current_user, 'agrees'); RETURN true; END $$;
CREATE FUNCTION hers.keeps(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
  BEGIN PERFORM hers.strikes(); RETURN $1; END $$;
CREATE FUNCTION hers.pulls() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO spy.ran VALUES (current_user, 'pulls'); RETURN new; END $$;
"""
DDL = sqltext.load("control").as_string(None).replace("{{}}", "{}")
PROPER = "CREATE SCHEMA pgsluice; GRANT ALL ON SCHEMA pgsluice TO PUBLIC;" + DDL.replace("{schema}", "pgsluice")
OPEN = "GRANT ALL ON ALL TABLES IN SCHEMA pgsluice TO PUBLIC;"
VIEWS = "CREATE VIEW pgsluice.runs AS SELECT 1 AS one; CREATE VIEW pgsluice.tables AS SELECT 1 AS one;"
WHOLE = PROPER + VIEWS


def disguised(kind: str) -> str:
    """Return what puts her own relations in the place of ours, with all the columns that ours have."""
    listed = (f"CREATE {kind} pgsluice.{name} AS {over_her_function(name)};" for name in NAMES)
    return "CREATE SCHEMA pgsluice; GRANT ALL ON SCHEMA pgsluice TO PUBLIC;" + "".join(listed) + VIEWS


def over_her_function(name: str) -> str:
    return f"SELECT t.* FROM (SELECT hers.strikes() AS x) f LEFT JOIN hers.{name} t ON true WHERE x IS NOT NULL"


NAMES = ("run", "run_table", "job_state", "target")
PARTITIONED = """
ALTER TABLE pgsluice.run RENAME TO run_old;
CREATE TABLE pgsluice.run (LIKE pgsluice.run_old INCLUDING DEFAULTS, PRIMARY KEY (run_id)) PARTITION BY HASH (run_id);
CREATE TABLE pgsluice.run_0 PARTITION OF pgsluice.run FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TRIGGER t BEFORE INSERT ON pgsluice.run_0 FOR EACH ROW EXECUTE FUNCTION hers.pulls();
"""
#: What mallory makes, as herself and before the tool comes, and the words that name it.
SHAPES = {
    "views over her function": (disguised("VIEW"), "is a view"),
    "materialized views of hers": (disguised("MATERIALIZED VIEW"), "is a materialized view"),
    "a trigger": (
        WHOLE + "CREATE TRIGGER t BEFORE INSERT ON pgsluice.run FOR EACH ROW EXECUTE FUNCTION hers.pulls();",
        "it has trigger t",
    ),
    "a rule": (
        WHOLE + "CREATE RULE r AS ON INSERT TO pgsluice.run_table DO ALSO SELECT hers.strikes();",
        "it has rule r",
    ),
    "a policy": (
        WHOLE
        + "ALTER TABLE pgsluice.run ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON pgsluice.run USING (hers.strikes() = 'x');",
        "row-level security",
    ),
    "a child": (
        WHOLE
        + "CREATE TABLE pgsluice.child () INHERITS (pgsluice.run);"
        + "INSERT INTO pgsluice.child (run_id, tables, version, status) VALUES ('99_forged', 1, '1', 'done');",
        "inherits",
    ),
    "a default": (WHOLE + "ALTER TABLE pgsluice.run ADD COLUMN more text DEFAULT hers.strikes();", "hers.strikes()"),
    "a check": (WHOLE + "ALTER TABLE pgsluice.run ADD CHECK (hers.agrees(run_id));", "run_run_id_check"),
    "a domain with a check": (
        WHOLE
        + "CREATE DOMAIN hers.version AS text CHECK (hers.agrees(value)); GRANT USAGE ON TYPE hers.version TO PUBLIC;"
        + "ALTER TABLE pgsluice.run ALTER COLUMN version TYPE hers.version;",
        "hers.version",
    ),
    "a generated column": (
        WHOLE + "ALTER TABLE pgsluice.run ADD COLUMN more text GENERATED ALWAYS AS (hers.keeps(run_id)) STORED;",
        "generated",
    ),
    "an index over her function": (WHOLE + "CREATE INDEX i ON pgsluice.run (hers.keeps(run_id));", "index"),
    "a table of partitions": (WHOLE + PARTITIONED, "is a partitioned table"),
    "nothing but its owner": (WHOLE, "belongs to"),
}


@dataclass(frozen=True)
class Attack:
    """A target on which mallory may make schemas, and a tool that logs in as somebody else."""

    pair: Pair
    mallory: str
    tool: str

    def strike(self, script: str, user: str = "") -> None:
        dsn = make_conninfo(self.pair.target.dsn, user=user or self.mallory)
        type(self.pair.target)(self.pair.target.cluster, self.pair.target.name, dsn).execute(script)

    def run(self, command: str, *arguments: str) -> Outcome:
        """Run the command line in this process, for it is asked often."""
        target = make_conninfo(self.pair.target.dsn, user=self.tool)
        source = ("--source", self.pair.source.dsn) if command in {"sync", "plan", "doctor", "verify"} else ()
        asked = [*command.split(), *source, "--target", target, *arguments]
        done = CliRunner(env=NO_CACHE).invoke(cli, asked, standalone_mode=False)
        if done.exception is None:
            return Outcome(int(done.return_value or 0), done.stdout, done.stderr)
        assert isinstance(done.exception, PgsluiceError), done.exc_info
        return Outcome(done.exception.exit_code, done.stdout, f"{done.stderr}{done.exception}")

    @property
    def ran(self) -> list[str]:
        """Return whose rights her functions were given, but her own."""
        return [who for (who,) in self.pair.target.rows("SELECT DISTINCT who FROM spy.ran") if who != self.mallory]


@pytest.fixture(params=["superuser", "plain role"])
def attack(request: pytest.FixtureRequest, pair: Pair) -> Iterator[Attack]:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1), (2)")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY);" + SPY)
    mallory, writer = f"mallory_{pair.target.name}", f"writer_{pair.target.name}"
    for role in (mallory, writer):
        pair.target.execute(f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {pair.target.name} TO {role}")
    pair.target.execute(f"GRANT USAGE ON SCHEMA s TO {writer}; GRANT ALL ON s.t TO {writer}")
    found = Attack(pair, mallory, "postgres" if request.param == "superuser" else writer)
    found.strike(HERS + DDL.replace("{schema}", "hers"))
    yield found
    for role in (mallory, writer):
        pair.target.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


TABLE = ("--table", "s.t")
#: What asks the control schema, and how.
COMMANDS: dict[str, tuple[str, ...]] = {"sync": TABLE, "status": ()}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_control_schema_that_somebody_else_made_is_refused_by_name_and_nothing_of_theirs_runs(
    attack: Attack, shape: str
) -> None:
    made, told = SHAPES[shape]
    attack.strike(made + OPEN)
    for command, arguments in COMMANDS.items():
        done = attack.run(command, *arguments)
        assert attack.ran == [], f"her function ran as {attack.ran} in {command}"
        assert done.code == 6, (command, done)
        assert "the control schema of the target can't be used" in done.err, (command, done)
        assert "pgsluice" in done.err
        assert told in done.err or f"belongs to {attack.mallory}" in done.err, (command, done)
        assert "ALTER SCHEMA pgsluice OWNER TO" in done.err, (command, done)
    assert attack.pair.target.value("SELECT count(*) FROM s.t") == 0


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "nothing but its owner"])
@pytest.mark.parametrize("attack", ["superuser"], indirect=True)
def test_what_is_wrong_with_a_table_is_said_whoever_owns_it(attack: Attack, shape: str) -> None:
    """An admin has taken the schema over as it was, which is no way to make it safe."""
    made, told = SHAPES[shape]
    attack.strike(made + OPEN)
    attack.pair.target.execute(
        f"REASSIGN OWNED BY {attack.mallory} TO postgres; ALTER SCHEMA hers OWNER TO {attack.mallory}"
    )
    with Endpoint(attack.pair.target.dsn, read_only=False).looking().open() as session:
        faults = control.look(session, "pgsluice").faults
    assert attack.ran == []
    assert any(told in fault for fault in faults), faults
    assert not any("belongs to" in fault for fault in faults)


def test_every_command_that_asks_the_control_schema_refuses_one_of_somebody_else(attack: Attack) -> None:
    made, _ = SHAPES["views over her function"]
    attack.strike(made + OPEN)
    for command, *arguments in (
        ("state show",),
        ("status", "--tables"),
        ("status", "--lag", "--source", attack.pair.source.dsn),
        ("status", "s.t"),
        ("status", "--max-age", "1h"),
        ("report", "-o", "-"),
        ("state reset", "s.t"),
        ("state set", "s.t", "7"),
        ("clean",),
        ("sync", *TABLE, "--resume", "last"),
        ("sync", *TABLE, "--mode", "incremental", "--cursor", "id"),
        ("plan", *TABLE),
        ("verify", *TABLE, "--as-of-run"),
    ):
        done = attack.run(command, *arguments)
        assert attack.ran == [], f"her function ran as {attack.ran} in {command} {arguments}"
        assert done.code == 6, (command, arguments, done)
        assert "the control schema of the target can't be used" in done.err, (command, done)


def test_doctor_names_what_is_wrong_with_the_control_schema_and_the_way_out(attack: Attack) -> None:
    made, _ = SHAPES["a trigger"]
    attack.strike(made + OPEN)
    done = attack.run("doctor", *TABLE, "--json")
    assert attack.ran == []
    assert done.code == 6, done
    found = [line["said"] for line in done.lines if line.get("subject") == "control schema"]
    assert any("it has trigger t" in said for said in found), done.out
    assert any(f"belongs to {attack.mallory}" in said for said in found)
    assert any(line.get("subject") == "connections" for line in done.lines), "the rest is looked at all the same"


def test_a_schema_that_we_have_made_is_what_is_expected_to_the_last_column(pair: Pair) -> None:
    """On both majors; whatever is added to the script is expected from then on."""
    for server in (pair.source, pair.target):
        with Endpoint(server.dsn, read_only=False).open() as session:
            assert control.missing(session, "pgsluice") == {"", *control.tables(), *control.VIEWS}
            state.ensure(session, "pgsluice")
            assert control.look(session, "pgsluice") == control.Look(frozenset(), (), ANY, versions=ANY)
        made = server.rows(
            """SELECT attrelid::regclass::text, attname::text, atttypid FROM pg_attribute
            WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'pgsluice'::regnamespace AND relkind = 'r')
            AND attnum > 0"""
        )
        expected = [
            (f"pgsluice.{table}", column, server.value("SELECT %s::regtype::oid", (type_,)))
            for table, columns in control.tables().items()
            for column, type_ in columns.items()
        ]
        assert sorted(made) == sorted(expected)


def test_what_an_older_release_has_made_gets_what_it_lacks(attack: Attack) -> None:
    target = attack.pair.target
    assert attack.run("sync", *TABLE).code == 0
    target.execute("DROP VIEW pgsluice.runs; ALTER TABLE pgsluice.run DROP COLUMN resumes")
    assert attack.run("sync", *TABLE).code == 0
    assert target.value("SELECT count(*) FROM pgsluice.run WHERE resumes IS NULL") == 2
    assert target.value("SELECT count(*) FROM pgsluice.runs") == 2


# --- what is let be --------------------------------------------------------------------------------------------------


def test_one_that_a_role_made_whose_rights_we_have_or_that_an_admin_made_is_used(attack: Attack) -> None:
    target = attack.pair.target
    attack.strike(WHOLE + OPEN + "DROP VIEW pgsluice.runs, pgsluice.tables;")
    if attack.tool == "postgres":
        target.execute(f"GRANT {attack.mallory} TO postgres")
        assert attack.run("sync", *TABLE).code == 6, "a superuser has everybody's rights, which says nothing"
        target.execute(f"REVOKE {attack.mallory} FROM postgres; REASSIGN OWNED BY {attack.mallory} TO postgres")
    else:
        assert attack.run("sync", *TABLE).code == 6
        target.execute(f"GRANT {attack.mallory} TO {attack.tool}")
    done = attack.run("sync", *TABLE)
    assert done.code == 0, done
    assert attack.run("status").code == 0


def test_what_a_role_with_create_in_the_schema_puts_there_is_not_taken_for_ours(attack: Attack) -> None:
    """The schema is an admin's, who lets several roles of the tool in; one of them is hers."""
    target = attack.pair.target
    target.execute("CREATE SCHEMA pgsluice; GRANT ALL ON SCHEMA pgsluice TO PUBLIC")
    attack.strike("CREATE VIEW pgsluice.run_table AS " + over_her_function("run_table"))
    for command, arguments in COMMANDS.items():
        done = attack.run(command, *arguments)
        assert (done.code, attack.ran) == (6, []), (command, done)
        assert f"pgsluice.run_table belongs to {attack.mallory}" in done.err
    target.execute("DROP VIEW pgsluice.run_table")
    attack.strike("CREATE VIEW pgsluice.runs AS SELECT hers.strikes()")
    done = attack.run("sync", *TABLE)
    assert (done.code, f"pgsluice.runs belongs to {attack.mallory}" in done.err) == (6, True), done


def test_a_trigger_that_came_by_a_privilege_is_seen_in_the_next_run(attack: Attack) -> None:
    assert attack.run("sync", *TABLE).code == 0
    attack.strike(
        f"GRANT TRIGGER ON pgsluice.run TO {attack.mallory}; GRANT USAGE ON SCHEMA pgsluice TO {attack.mallory}",
        attack.tool,
    )
    attack.strike("CREATE TRIGGER t BEFORE INSERT ON pgsluice.run FOR EACH ROW EXECUTE FUNCTION hers.pulls()")
    done = attack.run("sync", *TABLE)
    assert attack.ran == []
    assert (done.code, "it has trigger t" in done.err) == (6, True), done


TRIGGER = "CREATE TRIGGER t BEFORE INSERT ON pgsluice.run FOR EACH ROW EXECUTE FUNCTION public.pulls()"
#: What may come between two looks of a run, by a privilege or by whoever may alter the schema.
MEANWHILE = {
    "a trigger": TRIGGER,
    "a foreign key to it": "CREATE TABLE public.theirs (id text REFERENCES pgsluice.run)",
    "another table in its place": "ALTER TABLE pgsluice.run RENAME TO old; CREATE TABLE pgsluice.run (LIKE pgsluice.old)",
    "another schema in its place": "ALTER SCHEMA pgsluice RENAME TO old; CREATE SCHEMA pgsluice;"
    " CREATE TABLE pgsluice.run (LIKE old.run)",
    "nothing in its place": "DROP SCHEMA pgsluice CASCADE",
    "another owner of a table": "ALTER TABLE pgsluice.run OWNER TO pg_monitor",
    "another owner of the schema": "ALTER SCHEMA pgsluice OWNER TO pg_monitor",
    "a policy": "ALTER TABLE pgsluice.run ENABLE ROW LEVEL SECURITY",
    "a rule": "CREATE RULE r AS ON INSERT TO pgsluice.run DO ALSO NOTHING",
    "one table less": "DROP TABLE pgsluice.job_state",
}


@pytest.mark.parametrize("name", MEANWHILE)
@pytest.mark.parametrize("before", ["", TRIGGER + "; DROP TRIGGER t ON pgsluice.run"], ids=["", "one was there before"])
def test_a_later_look_sees_what_came_since_the_first(pair: Pair, name: str, before: str) -> None:
    for server in (pair.source, pair.target):
        server.execute("CREATE FUNCTION public.pulls() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'")
        with Endpoint(server.dsn, read_only=False).open() as session:
            state.ensure(session, "pgsluice")
            if before:
                server.execute(before)
            seen = control.proven(session, "pgsluice")
            state.start_run(session, "pgsluice", "20261128t000000_abcdef", 1, "1", None)
            server.execute("ANALYZE pgsluice.run; CREATE TABLE pgsluice.stg_1 (id int)")
            assert control.is_as(session, "pgsluice", seen)
            server.execute(MEANWHILE[name])
            assert not control.is_as(session, "pgsluice", seen)


def test_a_trigger_that_comes_while_a_run_begins_is_not_run_by_the_note_of_its_failure(attack: Attack) -> None:
    assert attack.run("sync", *TABLE).code == 0

    def strike(event: Event) -> None:
        if isinstance(event, RunStarted):
            attack.pair.target.execute(
                "CREATE TRIGGER t BEFORE INSERT ON pgsluice.run_table FOR EACH ROW EXECUTE FUNCTION hers.pulls()"
            )

    target = make_conninfo(attack.pair.target.dsn, user=attack.tool)
    (report,) = sync(attack.pair.source.dsn, target, "s.t", sinks=(strike,)).tables
    assert (report.status, report.exit_code, attack.ran) == ("failed", 6, [])
    assert "it has trigger t" in str(report.error)


def test_a_session_of_a_command_that_only_reads_can_neither_write_nor_look_behind_a_view(pair: Pair) -> None:
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int); CREATE VIEW s.v AS SELECT * FROM s.t")
    with Endpoint(pair.target.dsn, read_only=False).looking().open() as session:
        assert session.can_restrict_relations
        assert session.rows(sql.SQL("SELECT * FROM s.t")) == []
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            session.execute(sql.SQL("INSERT INTO s.t VALUES (1)"))
        with pytest.raises(psycopg.Error, match='non-system view "v" is restricted'):
            session.rows(sql.SQL("SELECT * FROM s.v"))


def test_a_superuser_looks_at_the_schema_of_a_role_by_being_that_role(attack: Attack) -> None:
    if attack.tool == "postgres":
        pytest.skip("the schema is its own")
    assert attack.run("sync", *TABLE).code == 0
    target = attack.pair.target.dsn
    asked = CliRunner().invoke(cli, ["status", "--target", target], standalone_mode=False)
    assert f"belongs to {attack.tool}" in str(asked.exception)
    asked = CliRunner().invoke(
        cli, ["status", "--target", make_conninfo(target, options=f"-c role={attack.tool}")], standalone_mode=False
    )
    assert "1 of 1 done" in asked.stdout


@dataclass(frozen=True)
class _Staged:
    """What makes a staging table that is not ours look like one, by whom, and the words that pass it over."""

    made: str
    by_mallory: bool
    told: str


TAG = """COMMENT ON TABLE pgsluice.stg_x IS '{"pgsluice": 1, "run": "r", "target": "s.t", "lock": 7%s}'"""
LURE = """, "until": 9999999999, "job": "j", "made_from": {}, "pages": [0]"""
STAGED = {
    "hers": _Staged("CREATE TABLE pgsluice.stg_x (id int);" + TAG % "", True, "it belongs to mallory_"),
    "hers, to be resumed": _Staged(
        "CREATE TABLE pgsluice.stg_x (id int);" + TAG % LURE, True, "it belongs to mallory_"
    ),
    "with her trigger": _Staged(
        "CREATE TABLE pgsluice.stg_x (id int);"
        "CREATE TRIGGER t BEFORE INSERT ON pgsluice.stg_x FOR EACH ROW EXECUTE FUNCTION hers.pulls();" + TAG % LURE,
        False,
        "it has a trigger",
    ),
    "a view": _Staged(
        "CREATE VIEW pgsluice.stg_x AS SELECT hers.strikes() AS id;" + (TAG % LURE).replace("TABLE", "VIEW"),
        False,
        "it is no ordinary table",
    ),
    "not JSON": _Staged("CREATE TABLE pgsluice.stg_x (); COMMENT ON TABLE pgsluice.stg_x IS 'mine'", False, "not JSON"),
    "a list": _Staged(
        "CREATE TABLE pgsluice.stg_x (); COMMENT ON TABLE pgsluice.stg_x IS '[1]'", False, "not a JSON object"
    ),
    "nested": _Staged(
        f"CREATE TABLE pgsluice.stg_x (); COMMENT ON TABLE pgsluice.stg_x IS '{'[' * 99_999}'",
        False,
        "nested too deeply",
    ),
    "without end": _Staged("CREATE TABLE pgsluice.stg_x ();" + TAG % """, "until": 1e999""", False, "until"),
    "far away": _Staged(
        "CREATE TABLE pgsluice.stg_x ();" + (TAG % LURE).replace("9999999999", "9" * 30),
        False,
        "not as pgsluice writes it: until",
    ),
    "without a job": _Staged(
        "CREATE TABLE pgsluice.stg_x ();" + TAG % """, "until": 9999999999""", False, "job, made_from, pages"
    ),
    "half a sign": _Staged(
        "CREATE TABLE pgsluice.stg_x ();" + (TAG % "").replace('"r"', r'"\ud800"'),
        False,
        "not as pgsluice writes it: run",
    ),
    "a key too long": _Staged(
        "CREATE TABLE pgsluice.stg_x ();" + (TAG % "").replace("7", "9" * 20), False, "not as pgsluice writes it: lock"
    ),
    "no target": _Staged(
        "CREATE TABLE pgsluice.stg_x ();" + (TAG % "").replace('"s.t"', '"t"'), False, "its COMMENT is not ours: target"
    ),
}


@pytest.mark.parametrize("shape", STAGED)
@pytest.mark.parametrize("attack", ["superuser"], indirect=True)
def test_a_staging_table_that_is_not_ours_is_named_and_passed_over_by_every_command(attack: Attack, shape: str) -> None:
    staged = STAGED[shape]
    assert attack.run("sync", *TABLE).code == 0
    attack.pair.target.execute("GRANT ALL ON SCHEMA pgsluice TO PUBLIC")
    attack.strike(staged.made, user=attack.mallory if staged.by_mallory else "postgres")
    for command, *arguments in (
        ("status",),
        ("clean", "--kept"),
        ("sync", *TABLE, "--resume", "last"),
        ("sync", *TABLE),
    ):
        done = attack.run(command, *arguments)
        assert (done.code, attack.ran) == (0, []), (command, done)
        if (
            command == "sync" and staged.by_mallory
        ):  # as of any role that syncs here too, which would be told each night
            continue
        assert f"passed over pgsluice.stg_x: {'it' if staged.told.startswith('it ') else ''}" in done.out + done.err
        assert staged.told in done.out + done.err, (command, done)
    assert "pgsluice.stg_x" in attack.run("clean", "--json").out
    assert attack.pair.target.staging_tables() == ["stg_x"]


REPORTS = {
    "text": '"hello"',
    "a list": '[1, {"bytes": 5}]',
    "null": "null",
    "texts for numbers": '{"bytes": "many", "staging_count": "x", "inserted": [], "created": "maybe", "seconds": {}}',
    "huge numbers": '{"bytes": 1e300, "staging_count": %s, "seconds": 1e200, "inserted": 1e30}' % ("9" * 5000),
    "negative": '{"seconds": -5, "bytes": -7, "steps": {"relay": -1}}',
    "steps of anything": '{"steps": {"relay": "x"}, "notes": "n", "error": 5, "columns": [], "target": null}',
    "nested": "[" * 5000 + "]" * 5000,
    "very long": '{"error": "%s"}' % ("x" * 2_000_000),
}


@pytest.mark.parametrize("shape", REPORTS)
@pytest.mark.parametrize("attack", ["superuser"], indirect=True)
def test_a_report_that_is_none_of_ours_is_named_and_breaks_no_command(
    attack: Attack, shape: str, tmp_path: Path
) -> None:
    target = attack.pair.target
    attack.pair.source.execute("CREATE TABLE s.other (id int PRIMARY KEY); INSERT INTO s.other VALUES (5)")
    assert attack.run("sync", *TABLE, "--table", "s.other").code == 0
    target.execute("UPDATE pgsluice.run_table SET report = %s::jsonb WHERE target = 's.t'", (REPORTS[shape],))
    page = tmp_path / "page.html"
    for command, *arguments in (
        ("status",),
        ("status", "--tables"),
        ("status", "s.t"),
        ("state show",),
        ("report", "-o", str(page)),
        ("clean",),
    ):
        done = attack.run(command, *arguments)
        assert done.code == 0, (command, done)
        if command == "status":
            assert "passed over what its report says: " in done.out, (arguments, done)
    assert "passed over" in page.read_text("utf-8")
    (line, *_) = attack.run("status", "--json").lines
    assert line["done"] == 2
    assert line["rows"] >= 1
    assert [bool(table.get("unreadable")) for table in sorted(line["tables"], key=lambda each: each["target"])] == [
        False,
        True,
    ]
    assert target.value("SELECT count(*) FROM pgsluice.runs, pgsluice.tables") == 2
    last = attack.run("sync", *TABLE, "--resume", "last")
    assert last.code == 0, last
    assert attack.run("sync", *TABLE).code == 0


def forged(attack: Attack) -> None:
    """Let her put tables of the same columns in the place of ours, by renaming the schema that is hers."""
    attack.pair.target.execute(f"ALTER SCHEMA pgsluice OWNER TO {attack.mallory}")
    attack.strike("ALTER SCHEMA pgsluice RENAME TO pgsluice_old;" + WHOLE + OPEN)


def owned(attack: Attack) -> None:
    attack.pair.target.execute(
        f"ALTER SCHEMA pgsluice OWNER TO {attack.mallory}; GRANT USAGE, CREATE ON SCHEMA pgsluice TO {attack.tool}"
    )


def taken(attack: Attack) -> None:
    attack.pair.target.execute(f"ALTER TABLE pgsluice.job_state OWNER TO {attack.mallory}")


@pytest.mark.parametrize("done_by", [forged, owned, taken])
def test_a_schema_that_was_ours_and_is_not_any_more_is_refused(
    attack: Attack, done_by: Callable[[Attack], None]
) -> None:
    assert attack.run("sync", *TABLE).code == 0
    done_by(attack)
    done = attack.run("sync", *TABLE)
    assert (done.code, f"belongs to {attack.mallory}" in done.err) == (6, True), done


def test_the_python_interface_refuses_it_too(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)")
    pair.target.execute("CREATE SCHEMA pgsluice; CREATE VIEW pgsluice.run AS SELECT 1 AS run_id")
    with pytest.raises(RefusedError, match=r"pgsluice\.run is a view: DROP VIEW pgsluice\.run;"):
        sync(pair.source.dsn, pair.target.dsn, "s.t")


def test_what_is_wrong_is_told_a_line_each_with_statements_that_mend_it(attack: Attack) -> None:
    """All but the owner is mended by what the message says, pasted as it stands, whatever the shape."""
    for shape, (made, _) in SHAPES.items():
        attack.strike(made + OPEN)
        for _round in range(3):  # what has to be dropped hides what else is wrong with it
            done = attack.run("status")
            lines = [line for line in done.err.split("\n") if line.startswith("- ")]
            assert "\\n" not in done.err, done.err
            if done.code == 0:
                break
            assert lines, (shape, done)
            statements = [line.rpartition(": ")[2] for line in lines]
            assert all(each.endswith(";") for each in statements), (shape, lines)
            for statement in statements:
                attack.pair.target.execute(statement)
        assert attack.run("status").code == 0, shape
        assert attack.ran == [], shape
        attack.pair.target.execute("DROP SCHEMA pgsluice CASCADE")


def test_the_way_out_that_breaks_nothing_comes_first_and_dropping_last(attack: Attack) -> None:
    attack.strike(WHOLE)
    done = attack.run("status")
    hint = done.err.split("\n")[-1]
    role = attack.tool
    assert hint.startswith(f"To look only, connect as {attack.mallory}, or with options='-c role={attack.mallory}'.")
    assert f"belong to {role}, to a role whose rights {role} has, to a superuser, or (for roles that are" in hint
    assert -1 < hint.find("docs/control-schema.md#privileges") < hint.find("DROP SCHEMA pgsluice CASCADE;")
    assert "loses every job's position and the history" in hint
    assert "pgsluice.run belongs to" in done.err
    assert "ALTER TABLE pgsluice.run OWNER TO postgres;" in done.err, "whom all of them trust"
    told = attack.run("doctor", *TABLE, "--json").out
    assert told.count("can't be used") == 1, told


def test_the_message_of_an_unfit_schema_keeps_its_lines_in_the_answers_of_serve(attack: Attack) -> None:
    attack.strike(WHOLE)
    target = make_conninfo(attack.pair.target.dsn, user=attack.tool)

    def look(run_id: str | None) -> page.History:
        with Endpoint(target, read_only=False).looking().open() as session:
            return page.look_up(session, "here", 1.0, run_id)

    def start(status: str, _headers: list[tuple[str, str]], *_more: object) -> None:
        statuses.append(status)

    statuses: list[str] = []
    asked = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_HOST": "here"}
    body = b"".join(Site(look, ["here"], None)(asked, start)).decode()  # type: ignore[arg-type]
    assert statuses == ["503 Service Unavailable"]
    assert ("\n- pgsluice belongs to" in body, "\\n" in body) == (True, False), body
