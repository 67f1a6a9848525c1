"""A source that has got other columns than last time, and types that hold less than what comes."""

from __future__ import annotations

from typing import Any

import pytest
from servers import Pair

from pgsluice import Options, sync
from pgsluice.job import StagingKind
from pgsluice.model import TableReport

_UNLOGGED = StagingKind.UNLOGGED
BEGUN = """
CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, a int, note varchar(5), at timestamptz DEFAULT now());
INSERT INTO s.t (id, a, note) SELECT g, g, 'n' || g FROM generate_series(1, 9) g;
"""


def synced(pair: Pair, **asked: object) -> TableReport:
    return sync(pair.source.dsn, pair.target.dsn, "s.t", **asked).tables[0]  # type: ignore[arg-type]


@pytest.fixture
def begun(pair: Pair) -> Pair:
    pair.source.execute(BEGUN)
    assert synced(pair).status == "done"
    return pair


def test_a_column_that_only_the_source_has_is_refused_with_the_ways_out(begun: Pair) -> None:
    begun.source.execute("ALTER TABLE s.t ADD b text DEFAULT 'new'")
    before = begun.target.image("s.t")
    report = synced(begun)
    assert report.exit_code == 6
    assert (
        "The source has columns that s.t lacks: b text. Add them with --drift add, or leave them out with --drift ignore."
        in str(report.error)
    )
    assert begun.target.image("s.t") == before


@pytest.mark.parametrize("mode", ["full", "upsert", "xmin", "incremental"])
def test_a_column_that_is_added_brings_its_values(begun: Pair, mode: str) -> None:
    cursor = {"cursor": "at", "late_rows": "scan"} if mode == "incremental" else {}
    assert synced(begun, mode=mode, **cursor).status == "done"
    begun.source.execute(
        """CREATE TYPE s.mood AS ENUM ('a'); ALTER TABLE s.t ADD b text DEFAULT 'new', ADD "c %{}" numeric(5,2) NOT NULL DEFAULT 1.50"""
    )
    report = synced(begun, mode=mode, drift="add", **cursor)
    assert (report.status, report.updated) == ("done", 9)
    assert "column b is added on the target: text" in report.notes
    assert begun.target.image("s.t") == begun.source.image("s.t")
    again = synced(begun, mode=mode, **cursor)
    assert (again.status, again.updated, again.inserted) == ("done", 0, 0)


def test_a_column_that_is_ignored_is_told(begun: Pair) -> None:
    begun.source.execute("ALTER TABLE s.t ADD b text NOT NULL DEFAULT 'new'")
    report = synced(begun, drift="ignore")
    assert (report.status, report.updated) == ("done", 0)
    assert "column b exists on the source only and is not copied" in report.notes


def test_a_type_of_which_the_target_knows_nothing_is_not_added(begun: Pair) -> None:
    begun.source.execute("CREATE TYPE s.mood AS ENUM ('a'); ALTER TABLE s.t ADD m s.mood")
    report = synced(begun, drift="add")
    assert report.exit_code == 6
    assert "lacks the type or collation s.mood, which a column to be added needs" in str(report.error)


def test_wider_types_follow_where_that_is_wanted(begun: Pair) -> None:
    begun.source.execute(
        "ALTER TABLE s.t ALTER a TYPE bigint, ALTER note TYPE varchar(9); UPDATE s.t SET a = 1::bigint << 40, note = 'ninechars' WHERE id = 3"
    )
    refused = synced(begun, drift="add")
    assert refused.exit_code == 6
    assert "a is bigint on the source and integer on the target" in str(refused.error)
    report = synced(begun, drift="widen")
    assert (report.status, report.updated) == ("done", 1)
    assert begun.target.image("s.t") == begun.source.image("s.t")
    assert begun.target.rows(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 's.t'::regclass AND attname IN ('a', 'note') ORDER BY 1"
    ) == [("bigint",), ("character varying(9)",)]


def test_a_narrower_type_never_follows(begun: Pair) -> None:
    begun.source.execute("ALTER TABLE s.t ALTER a TYPE smallint")
    report = synced(begun, drift="widen")
    assert report.status == "done"
    assert report.columns["a"] == "castable without loss"
    assert (
        begun.target.value(
            "SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = 's.t'::regclass AND attname = 'a'"
        )
        == "integer"
    )


@pytest.mark.parametrize("drift", ["fail", "add", "widen"])
def test_a_dropped_or_renamed_column_is_never_guessed(begun: Pair, drift: str) -> None:
    begun.source.execute("ALTER TABLE s.t RENAME a TO amount; ALTER TABLE s.t DROP note")
    before = begun.target.image("s.t")
    report = synced(begun, drift=drift)
    assert report.exit_code == 6
    assert (
        "The source no longer has a, note, which the last run copied (a may be called amount now): dropped or renamed,"
        " which is not guessed. The source has id, amount, at; the target has id, a, note, at."
    ) in str(report.error)
    assert begun.target.image("s.t") == before
    begun.target.execute("ALTER TABLE s.t RENAME a TO amount; ALTER TABLE s.t DROP note")
    assert synced(begun, drift=drift).updated == 0


def test_a_dropped_column_is_left_as_it_is_where_that_is_wanted(begun: Pair) -> None:
    begun.source.execute("ALTER TABLE s.t DROP note; UPDATE s.t SET a = 0 WHERE id = 1")
    assert synced(begun, drift="ignore").updated == 1
    assert begun.target.rows("SELECT note FROM s.t WHERE id = 1") == [("n1",)]


def test_columns_of_the_target_alone_are_no_drift(begun: Pair) -> None:
    begun.target.execute("ALTER TABLE s.t ADD seen timestamptz")
    assert synced(begun).status == "done"


def test_who_does_not_own_the_target_may_not_alter_it(begun: Pair) -> None:
    role = f"loader_{begun.target.name}"
    begun.source.execute("ALTER TABLE s.t ADD b text")
    begun.target.execute(
        f"CREATE ROLE {role} LOGIN; GRANT ALL ON SCHEMA s, pgsluice TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA s, pgsluice TO {role}"
    )
    report = sync(begun.source.dsn, begun.target.dsn.replace("postgres@", f"{role}@"), "s.t", drift="add").tables[0]
    begun.target.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert f"Only the owner of s.t may alter it: GRANT postgres TO {role};" in str(report.error)


# --- narrowing -------------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow(pair: Pair) -> Pair:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id bigint PRIMARY KEY, n numeric(10,3), at timestamptz); INSERT INTO s.t VALUES (1, 1.255, '2024-01-02 03:04:05.678+00')"
    )
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, n numeric(8,1), at date)")
    return pair


def test_narrowing_is_refused_with_every_column_at_once(narrow: Pair) -> None:
    report = synced(narrow)
    assert report.exit_code == 6
    for column in ("id is bigint", "n is numeric(10,3)", "at is timestamp with time zone"):
        assert column in str(report.error)
    assert "--allow-narrowing" in str(report.error)


def test_narrowing_that_is_allowed_rounds_and_settles(narrow: Pair) -> None:
    report = synced(narrow, options=Options(allow_narrowing=True))
    assert (report.status, report.inserted) == ("done", 1)
    assert report.columns == {"id": "narrowing", "n": "narrowing", "at": "narrowing"}
    assert narrow.target.rows("SELECT id, n::text, at::text FROM s.t") == [(1, "1.3", "2024-01-02")]
    again = synced(narrow, options=Options(allow_narrowing=True))
    assert (again.updated, again.unchanged) == (0, 1)
    narrow.source.execute("INSERT INTO s.t VALUES (3000000000, 1, NULL)")
    failed = synced(narrow, options=Options(allow_narrowing=True))
    assert (failed.status, failed.sqlstate) == ("failed", "22003")
    assert narrow.target.value("SELECT count(*) FROM s.t") == 1


def test_what_can_never_fit_is_refused_all_the_same(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, u uuid, o oid)")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, u inet, o oid)")
    report = synced(pair, options=Options(allow_narrowing=True))
    assert report.exit_code == 6
    assert "u is uuid on the source and inet on the target" in str(report.error)
    assert "o is oid" not in str(report.error)


def test_the_number_of_an_object_is_refused_unless_it_is_allowed(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, o oid, c regclass); INSERT INTO s.t VALUES (1, 16384, 'pg_class')"
    )
    report = synced(pair)
    assert "o is oid, the number of an object of the source alone" in str(report.error)
    assert synced(pair, options=Options(allow_narrowing=True)).status == "done"
    assert pair.target.rows("SELECT o::text, c::text FROM s.t") == [("16384", "pg_class")]


# --- a target that changes meanwhile ---------------------------------------------------------------------------------


def test_a_type_in_the_roles_own_search_path_is_the_same_type(begun: Pair) -> None:
    for server in (begun.source, begun.target):
        server.execute("CREATE TYPE public.mood AS ENUM ('a'); ALTER TABLE s.t ADD m public.mood")
    begun.source.execute("UPDATE s.t SET m = 'a'")
    assert synced(begun).updated == 9


def test_a_target_that_gets_other_columns_on_the_way_is_not_written(begun: Pair) -> None:
    begun.source.execute("UPDATE s.t SET a = a + 1")

    def change(event: object) -> None:
        if type(event).__name__ == "StepFinished" and getattr(event, "step", "") == "relay":
            begun.target.execute("ALTER TABLE s.t ALTER a TYPE bigint")

    report = sync(begun.source.dsn, begun.target.dsn, "s.t", sinks=[change], options=Options(staging=_UNLOGGED)).tables[
        0
    ]
    assert (report.status, report.updated) == ("failed", 0)
    assert "got other columns (a) while the rows were on their way" in str(report.error)
    assert begun.target.value("SELECT a FROM s.t WHERE id = 1") == 1


@pytest.mark.parametrize(
    ("kind", "mine", "theirs", "value"),
    [
        ("DOMAIN", "AS numeric(12,4)", "AS numeric(12,2)", "1.2345"),
        ("DOMAIN", "AS timestamp", "AS date", "2024-01-01 12:34:56"),
        ("DOMAIN", "AS varchar(50)", "AS char(2)", "x"),
        ("TYPE", "AS RANGE (subtype = timestamp)", "AS RANGE (subtype = date)", "[2024-01-01 12:34:56,)"),
    ],
)
@pytest.mark.parametrize("there", [True, False], ids=["table is there", "table is missing"])
def test_a_type_of_the_same_name_that_holds_less_is_refused(
    pair: Pair, kind: str, mine: str, theirs: str, value: str, there: bool
) -> None:
    pair.source.execute(
        f"CREATE SCHEMA s; CREATE {kind} s.m {mine}; CREATE TABLE s.t (id int PRIMARY KEY, v s.m, a s.m[])"
    )
    pair.source.execute(f"INSERT INTO s.t VALUES (1, '{value}', ARRAY['{value}'::s.m])")
    pair.target.execute(f"CREATE SCHEMA s; CREATE {kind} s.m {theirs}")
    if there:
        pair.target.execute("CREATE TABLE s.t (id int PRIMARY KEY, v s.m, a s.m[])")
    report = sync(pair.source.dsn, pair.target.dsn, "s.t").tables[0]
    assert report.exit_code == 6
    assert "make them the same" in str(report.error)


def test_a_domain_of_the_same_name_that_holds_more_is_no_obstacle(pair: Pair) -> None:
    for side, base in ((pair.source, "numeric(8,2)"), (pair.target, "numeric(12,4)")):
        side.execute(f"CREATE SCHEMA s; CREATE DOMAIN s.m AS {base}; CREATE TABLE s.t (id int PRIMARY KEY, v s.m)")
    pair.source.execute("INSERT INTO s.t VALUES (1, 1.25)")
    assert sync(pair.source.dsn, pair.target.dsn, "s.t").exit_code == 0
    assert pair.target.rows("SELECT v FROM s.t WHERE v = 1.25") != []


@pytest.mark.parametrize(
    "mode", [{"mode": "xmin"}, {"mode": "incremental", "cursor": "id"}], ids=["xmin", "incremental"]
)
def test_a_column_that_the_target_gets_back_is_filled_in_every_row(pair: Pair, mode: dict[str, Any]) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, a int, z int)")
    pair.source.execute("INSERT INTO s.t SELECT g, g, g FROM generate_series(1, 5) g")
    assert sync(pair.source.dsn, pair.target.dsn, "s.t", **mode).exit_code == 0
    pair.target.execute("ALTER TABLE s.t DROP z")
    assert sync(pair.source.dsn, pair.target.dsn, "s.t", drift="add", **mode).exit_code == 0
    assert pair.target.image("s.t") == pair.source.image("s.t")


def test_values_that_were_cut_are_read_again_when_their_column_is_widened(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, a numeric(10,3)); INSERT INTO s.t VALUES (1, 1.234)"
    )
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, a numeric(8,1))")
    narrow = Options(allow_narrowing=True)
    assert sync(pair.source.dsn, pair.target.dsn, "s.t", mode="xmin", options=narrow).exit_code == 0
    assert sync(pair.source.dsn, pair.target.dsn, "s.t", mode="xmin", drift="widen").exit_code == 0
    assert pair.target.image("s.t") == pair.source.image("s.t")


def test_a_column_that_is_widened_keeps_its_collation(pair: Pair) -> None:
    pair.source.execute('CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, a varchar(10) COLLATE "C")')
    assert sync(pair.source.dsn, pair.target.dsn, "s.t").exit_code == 0
    pair.source.execute(
        "ALTER TABLE s.t ALTER a TYPE varchar(20) COLLATE \"C\"; INSERT INTO s.t VALUES (1, repeat('x', 20))"
    )
    assert sync(pair.source.dsn, pair.target.dsn, "s.t", drift="widen").exit_code == 0
    found = pair.target.value(
        "SELECT attcollation::regcollation::text FROM pg_attribute WHERE attrelid = 's.t'::regclass AND attname = 'a'"
    )
    assert found == '"C"'


def test_a_label_that_an_enum_lacks_does_not_follow_by_widening(pair: Pair) -> None:
    for side, labels in ((pair.source, "'a', 'b'"), (pair.target, "'a'")):
        side.execute(
            f"CREATE SCHEMA s; CREATE TYPE s.e AS ENUM ({labels}); CREATE TABLE s.t (id int PRIMARY KEY, v s.e)"
        )
    error = str(sync(pair.source.dsn, pair.target.dsn, "s.t").tables[0].error)
    assert "lacks 'b'" in error
    assert "--drift widen" not in error


#: What uses a column so that PostgreSQL does not alter its type, and its name in the refusal.
USERS = {
    "a view": ("CREATE VIEW s.v AS SELECT id, a + 1 AS b FROM s.t", "view s.v"),
    "a view in another schema": ('CREATE VIEW public."V w" AS SELECT 1 AS x FROM s.t WHERE a > 5', 'view public."V w"'),
    "a materialized view": ("CREATE MATERIALIZED VIEW s.m AS SELECT a FROM s.t", "materialized view s.m"),
    "a rule": ("CREATE RULE r AS ON DELETE TO s.t WHERE OLD.a = 0 DO ALSO NOTHING", "rule r on table s.t"),
    "a trigger": (
        """CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER g BEFORE UPDATE OF a ON s.t FOR EACH ROW EXECUTE FUNCTION s.f()""",
        "trigger g on table s.t",
    ),
    "a policy": ("CREATE POLICY p ON s.t USING (a > 0)", "policy p on table s.t"),
    "a publication": (
        "CREATE PUBLICATION p FOR TABLE s.t WHERE (id > 0 AND a > 0)",
        "publication of table s.t in publication p",
    ),
    "a function": ("CREATE FUNCTION s.g() RETURNS bigint BEGIN ATOMIC SELECT sum(a) FROM s.t; END", "function s.g()"),
    "a generated column": (
        "ALTER TABLE s.t ADD g int GENERATED ALWAYS AS (a * 2) STORED",
        "default value for column g",
    ),
}


@pytest.mark.parametrize("user", USERS)
def test_a_column_whose_type_can_not_be_altered_is_refused_in_the_plan_by_what_uses_it(begun: Pair, user: str) -> None:
    script, named = USERS[user]
    begun.target.execute(f"ALTER TABLE s.t ALTER note TYPE varchar(4); {script}")
    if "publication" in script.lower():
        begun.target.execute("ALTER TABLE s.t REPLICA IDENTITY FULL")
    begun.source.execute("ALTER TABLE s.t ALTER a TYPE bigint; UPDATE s.t SET a = 5000000000 WHERE id = 1")
    before = begun.target.image("s.t")
    report = synced(begun, drift="widen")
    assert (report.status, report.exit_code, report.step) == ("failed", 6, "plan"), report
    assert f"Column a of s.t can't become bigint, which --drift widen wants, while it is used by {named}" in str(
        report.error
    )
    assert begun.target.image("s.t") == before


@pytest.mark.parametrize(
    "user",
    [
        "CREATE INDEX ON s.t (a, (a + 1)) WHERE a > 0",
        "ALTER TABLE s.t ADD CHECK (a > -1)",
        "CREATE STATISTICS s.x ON a, id FROM s.t",
    ],
)
def test_what_postgresql_makes_anew_keeps_no_column_from_being_widened(begun: Pair, user: str) -> None:
    begun.target.execute(user)
    begun.source.execute("ALTER TABLE s.t ALTER a TYPE bigint; UPDATE s.t SET a = 5000000000 WHERE id = 1")
    assert synced(begun, drift="widen").status == "done"
    assert begun.target.image("s.t") == begun.source.image("s.t")


def test_rules_are_named_where_they_keep_rows_from_being_merged_and_nowhere_else(begun: Pair) -> None:
    hint = "MERGE takes no table with rules"
    begun.source.execute("UPDATE s.t SET a = 0")
    begun.target.execute("CREATE RULE r AS ON UPDATE TO s.t WHERE OLD.id = 0 DO ALSO NOTHING")
    ruled = synced(begun)
    assert (ruled.status, ruled.sqlstate) == ("failed", "0A000")
    assert hint in ruled.hint
    begun.target.execute("DROP RULE r ON s.t")
    raising = """CREATE FUNCTION s.f() RETURNS trigger LANGUAGE plpgsql AS
      $$BEGIN RAISE 'not here' USING ERRCODE = 'feature_not_supported'; END$$;
      CREATE TRIGGER g BEFORE UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION s.f()"""
    begun.target.execute(raising)
    other = synced(begun)
    assert (other.status, other.sqlstate) == ("failed", "0A000")
    assert hint not in other.hint
