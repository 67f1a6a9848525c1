"""Functions that look up names by the role's search_path work wherever a run has them called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from servers import Database, Pair, database

from pgsluice import Lane, MaxDelete, Mode, Options, StagingKind, Strategy, TableReport, Verify, sync, verify
from pgsluice.embedded import Cluster
from pgsluice.shape import shape_of

#: `app` is on the path of every role that comes to the database, and its functions lean on that.
APP = """
CREATE SCHEMA s; CREATE SCHEMA app; CREATE TABLE app.known (v text); INSERT INTO app.known SELECT generate_series(1, 50);
CREATE FUNCTION app.half(i int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT i / 2';
CREATE FUNCTION app.even(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 2 * half(i); END';
CREATE FUNCTION app.same(i int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT half(2 * i)';
CREATE FUNCTION app.is_known(w text) RETURNS boolean LANGUAGE plpgsql AS
  'BEGIN RETURN EXISTS (SELECT FROM known WHERE known.v = w); END';
CREATE DOMAIN app.word AS text CHECK (app.is_known(VALUE));
"""
ALL = MaxDelete.parse("100%")


def _lay(side: Database, *scripts: str) -> None:
    side.execute(f"ALTER DATABASE {side.name} SET search_path = app, public")
    for script in (APP, *scripts):
        side.execute(script)


@pytest.fixture(params=["16 to 18", "18 to 16"])
def pair(request: pytest.FixtureRequest, source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    """Both directions: from 17 on, CREATE INDEX and ANALYZE look up names in pg_catalog alone."""
    clusters = (source_cluster, target_cluster) if request.param == "16 to 18" else (target_cluster, source_cluster)
    with database(clusters[0]) as source, database(clusters[1]) as target:
        yield Pair(source, target)


def _synced(pair: Pair, table: str = "s.t", *, mode: str = "full", **options: Any) -> TableReport:
    how = Options(**{"max_delete": ALL, "retries": 0, **options})
    given: dict[str, Any] = {"cursor": "n"} if mode == Mode.INCREMENTAL else {}
    given |= {"key": ["id"]} if table == "s.v" else {}
    given |= {"late_rows": "trust"} if given.keys() == {"cursor", "key"} else {}
    (report,) = sync(pair.source.dsn, pair.target.dsn, table, mode=mode, options=how, **given).tables
    return report


WAYS: dict[str, dict[str, Any]] = {
    "temporary": {"staging": StagingKind.TEMPORARY},
    "unlogged": {"staging": StagingKind.UNLOGGED},
    "psql": {"lane": Lane.PSQL},
    "diff": {"strategy": Strategy.DIFF, "verify": Verify.HASH},
    "swap": {"strategy": Strategy.SWAP, "verify": Verify.HASH},
    "upsert": {"mode": "upsert"},
    "incremental": {"mode": "incremental"},
    "append": {"mode": "append"},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_domain_of_the_target_whose_check_leans_on_the_search_path_is_staged(pair: Pair, way: str) -> None:
    _lay(pair.source, "CREATE TABLE s.t (id int PRIMARY KEY, n int NOT NULL, v app.word, w app.word[])")
    _lay(
        pair.target,
        """CREATE TABLE s.t (id int PRIMARY KEY, n int NOT NULL CHECK (app.even(n) >= 0), v app.word, w app.word[],
          g int GENERATED ALWAYS AS (app.even(n)) STORED)""",
    )
    for side in (pair.source, pair.target):
        if side.cluster.major < 17:  # whose planner looks into it, whatever is asked of the table
            side.execute("CREATE INDEX ON s.t (app.same(n))")
    pair.source.execute("INSERT INTO s.t SELECT i, i, i::text, ARRAY[i::text] FROM generate_series(1, 20) i")
    assert _synced(pair, **WAYS[way]).status == "done"
    pair.source.execute("INSERT INTO s.t SELECT i + 20, i + 20, i::text, '{1, 2}' FROM generate_series(1, 20) i")
    report = _synced(pair, **WAYS[way])
    assert report.status == "done", report.error
    assert pair.target.value("SELECT count(*) FROM s.t WHERE g = app.even(n)") == 40
    pair.source.execute("INSERT INTO app.known VALUES ('unheard')")
    pair.source.execute("INSERT INTO s.t VALUES (99, 99, 'unheard', '{unheard}')")
    assert _synced(pair, **WAYS[way]).sqlstate == "23514"


@pytest.mark.parametrize("way", ["temporary", "psql", "diff", "upsert", "incremental"])
def test_a_view_of_the_source_whose_functions_lean_on_the_search_path_is_read(pair: Pair, way: str) -> None:
    _lay(
        pair.source,
        "CREATE TABLE s.t (id int PRIMARY KEY, n int NOT NULL); INSERT INTO s.t SELECT i, i FROM generate_series(1, 20) i",
        "CREATE VIEW s.v AS SELECT id, app.same(n) AS n, app.even(id) AS e FROM s.t",
    )
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.v (id int PRIMARY KEY, n int, e int)")
    for _ in range(2):
        report = _synced(pair, "s.v", **WAYS[way])
        assert report.status == "done", report.error
        pair.source.execute("UPDATE s.t SET n = 50 WHERE id = 3")
    assert pair.target.image("s.v") == pair.source.image("s.v")
    found = verify(pair.source.dsn, pair.target.dsn, "s.v", key=["id"], level="rows")
    assert found.exit_code == 0, found


@pytest.mark.parametrize("cast", ["cast", "constant"])
def test_a_value_becomes_a_domain_of_the_source_whose_check_leans_on_the_search_path(pair: Pair, cast: str) -> None:
    _lay(pair.source, "CREATE TABLE s.t (id int PRIMARY KEY, v text); INSERT INTO s.t VALUES (1, '5'), (2, '6')")
    _lay(pair.target)
    casts, constants = (["v=app.word"], []) if cast == "cast" else ([], ["k::app.word=7"])
    shape = shape_of(None, None, rename=[], cast=casts, constants=constants, mask=[])
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", shape=shape).tables
    assert report.status == "done", report.error


INDEXES = {
    "expression": "CREATE INDEX i ON s.t (app.even(n))",
    "predicate": "CREATE UNIQUE INDEX i ON s.t (n) WHERE app.even(id) > 0",
    "twice": "CREATE INDEX i ON s.t (app.even(n)); CREATE INDEX j ON s.t (app.even(n)); CREATE INDEX k ON s.t (n)",
    "in SQL": 'CREATE INDEX "a USING b" ON s.t (app.same(n)) WHERE app.same(n) > 0',
    "constraint": "ALTER TABLE s.t ADD CONSTRAINT i EXCLUDE USING btree (app.even(n + id) WITH =)",
    "statistics": "CREATE STATISTICS s.i ON app.even(n), id FROM s.t",
}


@pytest.mark.parametrize("index", INDEXES)
def test_a_table_is_replaced_whose_indexes_call_functions_that_lean_on_the_search_path(pair: Pair, index: str) -> None:
    _lay(
        pair.source,
        "CREATE TABLE s.t (id int PRIMARY KEY, n int); INSERT INTO s.t SELECT i, i FROM generate_series(1, 20) i",
    )
    if index == "in SQL" and pair.target.cluster.major >= 17:
        pytest.skip("from 17 on, no index calls such a function in SQL")
    _lay(
        pair.target,
        f"CREATE TABLE s.t (id int PRIMARY KEY, n int); {INDEXES[index]}; INSERT INTO s.t SELECT i, i FROM generate_series(1, 20) i",
    )
    report = _synced(pair, strategy=Strategy.SWAP, verify=Verify.HASH)
    assert report.status == "done", report.error
    assert pair.target.image("s.t") == pair.source.image("s.t")
    assert pair.target.rows("SELECT id FROM s.t WHERE app.even(n) = 8 ORDER BY 1") == [(8,), (9,)]
    assert any("ANALYZE is left out" in note for note in report.notes) == (pair.target.cluster.major >= 17)
    assert pair.target.staging_tables() == []
