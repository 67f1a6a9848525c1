"""Schemas as they are in the field: odd names, partitions, differing column orders, keys of all kinds, both directions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Pair, database

from pgsluice import Lane, Options, Report, StagingKind, sync
from pgsluice.embedded import Cluster


@pytest.fixture(params=["16 to 18", "18 to 16"])
def either_way(request: pytest.FixtureRequest, source_cluster: Cluster, target_cluster: Cluster) -> Iterator[Pair]:
    """Both directions: before 17 a MERGE can't return what it did."""
    clusters = (source_cluster, target_cluster) if request.param == "16 to 18" else (target_cluster, source_cluster)
    with database(clusters[0]) as source, database(clusters[1]) as target:
        yield Pair(source, target)


def synced(pair: Pair, *tables: str, staging: StagingKind = StagingKind.AUTO, **request: str) -> Report:
    report = sync(pair.source.dsn, pair.target.dsn, *tables, options=Options(staging=staging), **request)  # type: ignore[arg-type]
    assert report.exit_code == 0, [(table.target, table.error, table.hint) for table in report.tables]
    return report


def counts(report: Report) -> tuple[int, int, int, int]:
    table = report.tables[0]
    return table.inserted, table.updated, table.unchanged, table.deleted


@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.TEMPORARY])
def test_counts_are_exact_in_both_directions(either_way: Pair, staging: StagingKind) -> None:
    either_way.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v text)")
    either_way.source.execute("INSERT INTO s.t SELECT i, 'v' FROM generate_series(1, 1000) i")
    assert counts(synced(either_way, "s.t", staging=staging)) == (1000, 0, 0, 0)
    either_way.source.execute("UPDATE s.t SET v = 'w' WHERE id <= 7; DELETE FROM s.t WHERE id > 970")
    either_way.source.execute("INSERT INTO s.t SELECT i, 'n' FROM generate_series(2001, 2005) i")
    assert counts(synced(either_way, "s.t", staging=staging)) == (5, 7, 963, 30)
    assert either_way.target.image("s.t") == either_way.source.image("s.t")


def test_partitioned_tables_differ_in_partitions_and_rows_move_between_them(either_way: Pair) -> None:
    either_way.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.p (id int, region text, v int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
        CREATE TABLE s.p_kr PARTITION OF s.p FOR VALUES IN ('kr'); CREATE TABLE s.p_rest PARTITION OF s.p DEFAULT;
        INSERT INTO s.p SELECT i, CASE i % 3 WHEN 0 THEN 'kr' ELSE 'us' END, i FROM generate_series(1, 300) i; ANALYZE"""
    )
    either_way.target.execute(
        """CREATE SCHEMA s; CREATE TABLE s.p (v int, id int PRIMARY KEY, region text) PARTITION BY RANGE (id);
        CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES FROM (0) TO (100);
        CREATE TABLE s.p2 PARTITION OF s.p FOR VALUES FROM (100) TO (10000)"""
    )
    columns = "SELECT id, region, v FROM s.p ORDER BY id"
    assert counts(synced(either_way, "s.p", key=["id"])) == (300, 0, 0, 0)  # type: ignore[arg-type]
    either_way.source.execute("UPDATE s.p SET region = 'us' WHERE id = 3; DELETE FROM s.p WHERE id = 4")
    assert counts(synced(either_way, "s.*", key=["id"])) == (0, 1, 298, 1)  # type: ignore[arg-type]
    assert either_way.target.rows(columns) == either_way.source.rows(columns)


def test_a_row_whose_partition_key_changes_moves_on_the_target(either_way: Pair) -> None:
    for side in (either_way.source, either_way.target):
        side.execute(
            """CREATE SCHEMA s; CREATE TABLE s.p (id int, part int, v int) PARTITION BY LIST (part);
            CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES IN (1); CREATE TABLE s.p2 PARTITION OF s.p FOR VALUES IN (2)"""
        )
    either_way.source.execute("INSERT INTO s.p SELECT i, 1, i FROM generate_series(1, 50) i")
    synced(either_way, "s.p", key=["id"])  # type: ignore[arg-type]
    either_way.source.execute("UPDATE s.p SET part = 2 WHERE id <= 5; INSERT INTO s.p VALUES (51, 2, 51)")
    assert counts(synced(either_way, "s.p", key=["id"])) == (1, 5, 45, 0)  # type: ignore[arg-type]
    assert either_way.target.image("s.p2") == either_way.source.image("s.p2")


HOSTILE = [
    'quote"d',
    "semi;colon",
    "new\nline",
    "--dash",
    "select",
    "MixedCase",
    "1digit",
    "per%cent %s",
    "br{a}ces {}",
    "dot.ted",
    "<script>alert(1)</script>",
    "back\\slash",
    "'apos'",
    "[bold]x[/bold]",
    "가나다라마바사아자차카타파하거너더러머버서",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_every_kind_go_through(pair: Pair, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    script = f"CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} ({quoted} int PRIMARY KEY, other text);"
    pair.source.execute(script + f"INSERT INTO {quoted}.{quoted} VALUES (1, 'a'), (2, 'b')")
    done = pair.pgsluice("sync", "--table", f"{quoted}.{quoted}")
    assert done.code == 0, done.out + done.err
    pair.source.execute(f"UPDATE {quoted}.{quoted} SET other = 'c' WHERE {quoted} = 2".replace("%", "%"))
    where = pair.pgsluice(
        "sync", "--table", f"{quoted}.{quoted}", "--where", f"{quoted} > 1", "--staging", "unlogged", "--json"
    )
    assert where.lines[0]["updated"] == 1, where.out
    assert pair.target.image(f"{quoted}.{quoted}") == pair.source.image(f"{quoted}.{quoted}")
    assert pair.pgsluice("plan", "--table", f"{quoted}.{quoted}").code == 0
    assert pair.pgsluice("status").code == 0


def test_columns_are_matched_by_name_whatever_their_order_and_dropped_ones_are_gone(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (gone int, a int, b text, id int PRIMARY KEY)")
    pair.source.execute("ALTER TABLE s.t DROP COLUMN gone; INSERT INTO s.t VALUES (10, 'x', 1), (20, 'y', 2)")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, b text, gone int, a int)")
    pair.target.execute("ALTER TABLE s.t DROP COLUMN gone")
    synced(pair, "s.t")
    assert pair.target.rows("SELECT id, a, b FROM s.t ORDER BY id") == [(1, 10, "x"), (2, 20, "y")]


def test_a_nullable_column_of_the_source_only_is_told_and_left_out(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, extra text); INSERT INTO s.t VALUES (1, 'x')"
    )
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)")
    report = synced(pair, "s.t")
    assert "column extra exists on the source only and is not copied" in report.tables[0].notes


def test_a_unique_index_over_not_null_columns_serves_as_the_key(pair: Pair) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (a int NOT NULL, b text NOT NULL, c int);
        CREATE UNIQUE INDEX loose ON s.t (c); CREATE UNIQUE INDEX both_of_them ON s.t (a, b);
        INSERT INTO s.t SELECT i, 'b' || i, NULL FROM generate_series(1, 20) i"""
    )
    assert counts(synced(pair, "s.t")) == (20, 0, 0, 0)
    pair.source.execute("UPDATE s.t SET c = a")
    assert counts(synced(pair, "s.t")) == (0, 20, 0, 0)
    assert pair.target.image("s.t") == pair.source.image("s.t")


def test_identity_serial_and_default_columns_are_created_as_what_they_are(pair: Pair) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('sad', 'it''s ok', '한글');
        CREATE TABLE s.t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int GENERATED BY DEFAULT AS IDENTITY,
          old serial, at timestamptz DEFAULT now(), m s.mood NOT NULL DEFAULT 'sad', ms s.mood[], c char(3) DEFAULT 'x',
          sum int GENERATED ALWAYS AS (old * 2) STORED);
        INSERT INTO s.t (m, ms) VALUES ('한글', '{"it''s ok",sad}'), ('sad', NULL)"""
    )
    synced(pair, "s.t")
    assert pair.target.value("SELECT pg_get_serial_sequence('s.t', 'old')") == "s.t_old_seq"
    assert pair.target.image("s.t") == pair.source.image("s.t")
    identity = "SELECT attname::text, attidentity::text FROM pg_attribute WHERE attrelid = 's.t'::regclass AND attidentity <> '' ORDER BY 1"
    assert pair.target.rows(identity) == [("id", "a"), ("n", "d")]
    pair.source.execute("UPDATE s.t SET m = 'sad', n = 77")
    assert counts(synced(pair, "s.t")) == (0, 2, 0, 0)
    pair.target.execute("INSERT INTO s.t (id, old, n, m) OVERRIDING SYSTEM VALUE VALUES (99, 1, 1, DEFAULT)")


def test_a_failed_creation_leaves_neither_type_nor_schema_behind(pair: Pair) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('sad'); CREATE VIEW s.v AS SELECT 1 AS id, 'sad'::s.mood AS m
        UNION ALL SELECT 1, 'sad'"""
    )
    report = sync(pair.source.dsn, pair.target.dsn, "s.v", key=["id"])
    assert (report.exit_code, report.tables[0].step) == (6, "gate")
    assert pair.target.value("SELECT to_regnamespace('s') IS NULL AND to_regtype('s.mood') IS NULL")


def test_triggers_of_the_target_mean_what_their_authors_meant(pair: Pair) -> None:
    """Their functions look names up as their role does; an empty search_path would break them."""
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1), (2)")
    pair.target.execute(
        """CREATE TABLE seen (id int); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql
          AS $$ BEGIN INSERT INTO seen VALUES (NEW.id); RETURN NEW; END $$;
        CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY);
        CREATE TRIGGER noting AFTER INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION note()"""
    )
    report = synced(pair, "s.t")
    assert "triggers of s.t will fire: noting" in report.tables[0].notes
    assert pair.target.rows("SELECT id FROM seen ORDER BY 1") == [(1,), (2,)]


def test_a_trigger_that_holds_rows_back_is_found_before_the_commit(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1), (2)")
    pair.target.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); CREATE FUNCTION s.no() RETURNS trigger LANGUAGE plpgsql
          AS $$ BEGIN RETURN CASE WHEN NEW.id = 1 THEN NULL ELSE NEW END; END $$;
        CREATE TRIGGER no BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.no()"""
    )
    for mode in ("full", "upsert"):
        report = sync(pair.source.dsn, pair.target.dsn, "s.t", mode=mode)
        assert (report.exit_code, report.tables[0].step) == (4, "verify")
        assert pair.target.value("SELECT count(*) FROM s.t") == 0


def test_row_level_security_is_refused_not_filtered(pair: Pair) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1), (2);
        ALTER TABLE s.t ENABLE ROW LEVEL SECURITY; ALTER TABLE s.t FORCE ROW LEVEL SECURITY;
        CREATE POLICY one ON s.t USING (id = 1); CREATE ROLE policed LOGIN;
        GRANT USAGE ON SCHEMA s TO policed; GRANT SELECT ON s.t TO policed"""
    )
    dsn = pair.source.cluster.dsn_for(pair.source.name, user="policed")
    report = sync(dsn, pair.target.dsn, "s.t")
    pair.source.execute("DROP OWNED BY policed; DROP ROLE policed")
    assert report.exit_code == 6
    assert "Row-level security of s.t would hide rows" in str(report.tables[0].error)


def test_a_table_of_1600_columns_goes_through(pair: Pair) -> None:
    columns = ", ".join(f"c{i} int" for i in range(1599))
    pair.source.execute(f"CREATE SCHEMA s; CREATE TABLE s.wide (id int PRIMARY KEY, {columns})")
    pair.source.execute("INSERT INTO s.wide (id, c0, c1598) VALUES (1, 2, 3), (4, 5, 6)")
    synced(pair, "s.wide")
    pair.source.execute("UPDATE s.wide SET c1598 = 7 WHERE id = 4; INSERT INTO s.wide (id) VALUES (8)")
    assert counts(synced(pair, "s.wide")) == (1, 1, 1, 0)
    assert pair.target.image("s.wide") == pair.source.image("s.wide")


def test_key_columns_alone_make_a_table(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (a int, b int, PRIMARY KEY (a, b)); INSERT INTO s.t VALUES (1, 2)"
    )
    synced(pair, "s.t")
    pair.source.execute("INSERT INTO s.t VALUES (3, 4)")
    assert counts(synced(pair, "s.t")) == (1, 0, 1, 0)


def test_a_target_without_an_index_on_the_key_is_told_and_its_own_duplicates_are_found(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int); INSERT INTO s.t VALUES (1, 1), (2, 2)"
    )
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int, v int); INSERT INTO s.t VALUES (1, 0), (1, 9)")
    for mode in ("full", "upsert"):
        report = sync(pair.source.dsn, pair.target.dsn, "s.t", mode=mode)
        assert (report.exit_code, report.tables[0].step) == (4, "verify")
        assert any("no unique index of s.t covers the key (id)" in note for note in report.tables[0].notes)
        assert pair.target.rows("SELECT * FROM s.t ORDER BY v") == [(1, 0), (1, 9)]


def test_foreign_and_materialized_sources_are_read_like_tables(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1), (2);"
        "CREATE MATERIALIZED VIEW s.m AS SELECT id, id * 2 AS twice FROM s.t"
    )
    synced(pair, "s.m", key=["id"])  # type: ignore[arg-type]
    assert pair.target.rows("SELECT id, twice FROM s.m ORDER BY 1") == [(1, 2), (2, 4)]


def test_an_inheritance_parent_is_read_without_its_children(pair: Pair) -> None:
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); CREATE TABLE s.child () INHERITS (s.t);"
        "INSERT INTO s.t VALUES (1); INSERT INTO s.child VALUES (2)"
    )
    synced(pair, "s.t")
    assert pair.target.rows("SELECT id FROM s.t") == [(1,)]


def test_children_of_a_target_are_neither_counted_nor_touched(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); CREATE TABLE s.c () INHERITS (s.t)")
    pair.target.execute("INSERT INTO s.c VALUES (7)")
    synced(pair, "s.t")
    assert pair.target.rows("SELECT id FROM s.t ORDER BY 1") == [(1,), (7,)]


def test_tables_go_after_those_they_refer_to(pair: Pair) -> None:
    schema = """CREATE SCHEMA s; CREATE TABLE s.z_parents (id int PRIMARY KEY);
      CREATE TABLE s.m_middle (id int PRIMARY KEY REFERENCES s.z_parents);
      CREATE TABLE s.a_children (id int PRIMARY KEY REFERENCES s.m_middle, self int REFERENCES s.a_children);"""
    pair.target.execute(schema)
    pair.source.execute(schema + "INSERT INTO s.z_parents VALUES (1), (2); INSERT INTO s.m_middle VALUES (1), (2)")
    pair.source.execute("INSERT INTO s.a_children VALUES (1, 2), (2, 1)")
    report = synced(pair, "s.*")
    assert [table.target for table in report.tables] == ["s.z_parents", "s.m_middle", "s.a_children"]
    assert pair.target.image("s.a_children") == pair.source.image("s.a_children")


def test_tables_that_refer_to_each_other_in_a_circle_are_tried_as_they_come(pair: Pair) -> None:
    schema = """CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, b int); CREATE TABLE s.b (id int PRIMARY KEY, a int);
      ALTER TABLE s.a ADD FOREIGN KEY (b) REFERENCES s.b; ALTER TABLE s.b ADD FOREIGN KEY (a) REFERENCES s.a"""
    for database_ in (pair.source, pair.target):
        database_.execute(schema)
    pair.source.execute("INSERT INTO s.a VALUES (1, NULL); INSERT INTO s.b VALUES (1, NULL)")
    assert sorted(table.target for table in synced(pair, "s.*").tables) == ["s.a", "s.b"]
    assert pair.target.image("s.b") == pair.source.image("s.b")


@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
@pytest.mark.parametrize("encoding", ["EUC_KR", "LATIN1"])
def test_text_is_the_same_text_in_a_database_of_another_encoding(
    source_cluster: Cluster, target_cluster: Cluster, lane: Lane, encoding: str
) -> None:
    words = {"EUC_KR": "한글 가나다", "LATIN1": "Größe à l'œuvre"}[encoding].replace("œ", "oe")
    with (
        database(source_cluster, f"ENCODING '{encoding}' LOCALE 'C'") as source,
        database(target_cluster) as target,
    ):
        source.execute(
            "CREATE SCHEMA s; CREATE DOMAIN s.words AS text; CREATE TABLE s.t (id int PRIMARY KEY, a text, b text[])"
        )
        source.execute("INSERT INTO s.t VALUES (1, %s, ARRAY[%s])", (words, words))
        for format_of in ("in_binary", "in_text"):
            report = sync(source.dsn, target.dsn, "s.t", to=f"{format_of}.t", options=Options(lane=lane))
            assert report.exit_code == 0, report.tables[0].error
            assert target.rows(f"SELECT a, b[1] FROM {format_of}.t") == [(words, words)]
            assert report.tables[0].format == format_of.removeprefix("in_")
            source.execute(
                "ALTER TABLE s.t ADD IF NOT EXISTS c interval DEFAULT '1 day'"
            )  # travels as text, and all with it


def test_an_empty_table_arrives_as_an_empty_table(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)")
    assert counts(synced(pair, "s.t")) == (0, 0, 0, 0)
    assert pair.target.value("SELECT count(*) FROM s.t") == 0
    assert counts(synced(pair, "s.t")) == (0, 0, 0, 0)
