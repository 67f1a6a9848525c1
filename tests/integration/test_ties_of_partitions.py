"""Foreign keys of the target between partitions: they tie tables, order them and spare rows as those of whole tables do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Pair, database

from pgsluice import MaxDelete, Options, Report, sync
from pgsluice.embedded import Cluster

TABLES = """CREATE SCHEMA s;
CREATE TABLE s.z_parent (id int PRIMARY KEY, v int) {parent};
CREATE TABLE s.child (id int PRIMARY KEY, p int) {child};
"""
PARENTS = """CREATE TABLE s.z1 PARTITION OF s.z_parent FOR VALUES FROM (0) TO (10);
CREATE TABLE s.z2 PARTITION OF s.z_parent FOR VALUES FROM (10) TO (1000);
"""
CHILDREN = """CREATE TABLE s.c1 PARTITION OF s.child FOR VALUES FROM (0) TO (500) PARTITION BY RANGE (id);
CREATE TABLE s.c11 PARTITION OF s.c1 FOR VALUES FROM (0) TO (500);
CREATE TABLE s.c2 PARTITION OF s.child FOR VALUES FROM (500) TO (1000);
"""
ROWS = "INSERT INTO s.z_parent SELECT i, i FROM generate_series(1, 6) i; INSERT INTO s.child SELECT i, i FROM generate_series(1, 6) i"

#: Which of the two are partitioned, and what refers to what.
DECLARED = {
    "a leaf to a table": ("child", "c11", "z_parent"),
    "a partition with partitions to a table": ("child", "c1", "z_parent"),
    "a table to a leaf": ("parent", "child", "z1"),
    "a leaf to a leaf": ("child parent", "c11", "z1"),
    "a leaf to a partitioned table": ("child parent", "c11", "z_parent"),
    "both whole": ("child parent", "child", "z_parent"),
}


def tables(partitioned: str, refers: str, referred: str, action: str) -> str:
    by = {name: "PARTITION BY RANGE (id)" if name in partitioned else "" for name in ("parent", "child")}
    parts = PARENTS * ("parent" in partitioned) + CHILDREN * ("child" in partitioned)
    return f"{TABLES.format(**by)}{parts}ALTER TABLE s.{refers} ADD FOREIGN KEY (p) REFERENCES s.{referred} {action};"


def synced(pair: Pair, *names: str) -> Report:
    report = sync(
        pair.source.dsn,
        pair.target.dsn,
        *(names or ("s.child", "s.z_parent")),
        options=Options(max_delete=MaxDelete.parse("100%")),
    )
    assert report.exit_code == 0, [(table.target, table.error) for table in report.tables]
    return report


def assert_equal(pair: Pair, *names: str) -> None:
    for name in names or ("s.child", "s.z_parent"):
        assert pair.target.image(name) == pair.source.image(name), name


@pytest.mark.parametrize("action", ["", "ON DELETE CASCADE", "DEFERRABLE INITIALLY DEFERRED"])
@pytest.mark.parametrize("declared", DECLARED)
def test_parents_and_children_come_and_go_in_one_run(pair: Pair, declared: str, action: str) -> None:
    pair.source.execute(f"{TABLES.format(parent='', child='')}{ROWS}")
    pair.target.execute(tables(*DECLARED[declared], action))
    synced(pair)
    assert_equal(pair)
    pair.source.execute(
        """INSERT INTO s.z_parent VALUES (7, 7); INSERT INTO s.child VALUES (7, 7);
        UPDATE s.child SET p = 7 WHERE id = 2; DELETE FROM s.child WHERE id = 1; DELETE FROM s.z_parent WHERE id <= 2"""
    )
    report = synced(pair)
    assert_equal(pair)
    counts = {table.target: (table.inserted, table.updated, table.deleted) for table in report.tables}
    assert counts["s.z_parent"] == (1, 0, 2)
    if action != "ON DELETE CASCADE":
        assert counts["s.child"] == (1, 1, 1)


@pytest.mark.parametrize("targets", [("s.c11", "s.z1"), ("s.child", "s.z1"), ("s.c11", "s.z_parent")], ids=" ".join)
def test_a_key_of_whole_tables_ties_the_partitions_that_are_synced_alone(pair: Pair, targets: tuple[str, str]) -> None:
    sources = (
        "CREATE SCHEMA s; CREATE TABLE {} (id int PRIMARY KEY, p int); CREATE TABLE {} (id int PRIMARY KEY, v int);"
    )
    pair.source.execute(sources.format(*targets))
    pair.target.execute(tables(*DECLARED["both whole"], ""))
    pair.source.execute("INSERT INTO {1} VALUES (1, 1), (2, 2); INSERT INTO {0} VALUES (1, 1), (2, 2)".format(*targets))
    synced(pair, *targets)
    pair.source.execute(
        "INSERT INTO {1} VALUES (3, 3); INSERT INTO {0} VALUES (3, 3);"
        "DELETE FROM {0} WHERE id = 1; DELETE FROM {1} WHERE id = 1".format(*targets)
    )
    synced(pair, *targets)
    assert_equal(pair, *targets)


def test_rows_of_other_partitions_do_not_keep_a_parent(pair: Pair) -> None:
    """Only c11 refers, and to z1 alone: a row of c2, and one of z2, is nobody's child and nobody's parent."""
    pair.source.execute(f"{TABLES.format(parent='', child='')}{ROWS}; INSERT INTO s.child VALUES (600, 1), (601, 50)")
    pair.source.execute("INSERT INTO s.z_parent VALUES (50, 50)")
    pair.target.execute(tables("child parent", "c11", "z1", "ON DELETE CASCADE"))
    synced(pair)
    pair.source.execute("DELETE FROM s.child WHERE id = 1; DELETE FROM s.z_parent WHERE id IN (1, 50)")
    report = synced(pair)
    assert [table.deleted for table in report.tables if table.target == "s.z_parent"] == [2]
    assert_equal(pair)


def test_a_row_is_not_exchanged_where_that_would_delete_the_child_of_a_partition(pair: Pair) -> None:
    """Rows that exchange what is unique are deleted and inserted again, which a cascade would not survive."""
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.p (id int PRIMARY KEY, u int); INSERT INTO s.p VALUES (1, 1), (2, 2)"
    )
    pair.target.execute(
        """CREATE SCHEMA s; CREATE TABLE s.p (id int PRIMARY KEY, u int) PARTITION BY RANGE (id);
        CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES FROM (0) TO (10); ALTER TABLE s.p1 ADD UNIQUE (u);
        CREATE TABLE s.child (p int REFERENCES s.p1 ON DELETE CASCADE)"""
    )
    synced(pair, "s.p")
    pair.target.execute("INSERT INTO s.child VALUES (1), (2)")
    pair.source.execute(
        "BEGIN; UPDATE s.p SET u = 3 WHERE id = 1; UPDATE s.p SET u = 1 WHERE id = 2; UPDATE s.p SET u = 2 WHERE id = 1; COMMIT"
    )
    (table,) = sync(pair.source.dsn, pair.target.dsn, "s.p").tables
    assert "would set off child_p_fkey of s.child" in str(table.error)
    assert pair.target.value("SELECT count(*) FROM s.child") == 2
    pair.target.execute("ALTER TABLE s.child DROP CONSTRAINT child_p_fkey")
    synced(pair, "s.p")
    assert_equal(pair, "s.p")


@pytest.fixture
def old_pair(source_cluster: Cluster) -> Iterator[Pair]:
    """Give a target older than 18, where AFTER triggers run as whoever ends the statement that set them off."""
    with database(source_cluster) as source, database(source_cluster) as target:
        yield Pair(source, target)


@pytest.mark.parametrize("referred", ["sales.o1", "sales.o"])
def test_no_trigger_on_a_partition_of_others_runs_as_our_role(old_pair: Pair, referred: str) -> None:
    source, target = old_pair.source, old_pair.target
    source.execute(
        "CREATE SCHEMA sales; CREATE TABLE sales.o (id int PRIMARY KEY); INSERT INTO sales.o VALUES (1), (2)"
    )
    role = f"{target.name}_m"
    target.execute(
        f"""CREATE SCHEMA sales; CREATE TABLE sales.o (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE sales.o1 PARTITION OF sales.o DEFAULT; INSERT INTO sales.o VALUES (1), (2);
        CREATE ROLE {role}; CREATE SCHEMA m AUTHORIZATION {role}; GRANT USAGE ON SCHEMA sales TO {role};
        GRANT REFERENCES ON ALL TABLES IN SCHEMA sales TO {role};
        SET ROLE {role};
        CREATE TABLE m.ran (who text); CREATE TABLE m.child (id int) PARTITION BY LIST (id);
        CREATE TABLE m.c1 PARTITION OF m.child DEFAULT; INSERT INTO m.child VALUES (1);
        ALTER TABLE m.c1 ADD FOREIGN KEY (id) REFERENCES {referred} ON DELETE CASCADE;
        CREATE FUNCTION m.spy() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN INSERT INTO m.ran VALUES (current_user); RETURN NULL; END$$;
        CREATE TRIGGER spy AFTER DELETE ON m.c1 FOR EACH ROW EXECUTE FUNCTION m.spy()"""
    )
    source.execute("DELETE FROM sales.o WHERE id = 1")
    (table,) = sync(source.dsn, target.dsn, "sales.o").tables
    seen, left = target.rows("SELECT who FROM m.ran"), target.value("SELECT count(*) FROM sales.o")
    target.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
    assert (seen, left) == ([], 2)
    assert f"m.c1 of {role}" in str(table.error)
