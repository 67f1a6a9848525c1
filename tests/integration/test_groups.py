"""Tables that foreign keys of the target tie commit together: all or none, parents written first and deleted last."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import psycopg
import pytest
from servers import Database, Pair

from pgsluice import Options, sync
from pgsluice.job import StagingKind
from pgsluice.model import Report

SHOP = """
CREATE SCHEMA s;
CREATE TABLE s.customer (id int PRIMARY KEY, name text);
CREATE TABLE s."order" (id int PRIMARY KEY, customer int NOT NULL REFERENCES s.customer);
CREATE TABLE s.a_line (id int PRIMARY KEY, "order" int NOT NULL REFERENCES s."order", n int);
CREATE TABLE s.apart (id int PRIMARY KEY, v int);
"""
ROWS = """
INSERT INTO s.customer SELECT g, 'c' || g FROM generate_series(1, 200) g;
INSERT INTO s."order" SELECT g, g FROM generate_series(1, 200) g;
INSERT INTO s.a_line SELECT g, g, 0 FROM generate_series(1, 200) g;
INSERT INTO s.apart SELECT g, 0 FROM generate_series(1, 200) g;
"""
TABLES = ("s.customer", 's."order"', "s.a_line", "s.apart")


def synced(pair: Pair, *tables: str, **asked: Any) -> Report:
    return sync(pair.source.dsn, pair.target.dsn, *(tables or ("s.*",)), **asked)


def images(server: Database) -> list[list[str]]:
    return [server.image(table) for table in TABLES]


@pytest.fixture
def tied(pair: Pair) -> Pair:
    pair.source.execute(SHOP + ROWS)
    pair.target.execute(SHOP)
    assert synced(pair).exit_code == 0
    assert images(pair.target) == images(pair.source)
    return pair


@pytest.mark.parametrize("staging", ["temporary", "unlogged"])
def test_parents_and_children_that_are_gone_are_deleted_in_one_run(tied: Pair, staging: str) -> None:
    tied.source.execute(
        """DELETE FROM s.a_line WHERE id <= 15; DELETE FROM s."order" WHERE id <= 10; DELETE FROM s.customer WHERE id <= 5;
        INSERT INTO s.customer VALUES (1000, 'new'); INSERT INTO s."order" VALUES (1000, 1000); UPDATE s.a_line SET "order" = 1000 WHERE id = 20"""
    )
    report = synced(tied, options=Options(staging=StagingKind(staging)))
    assert report.exit_code == 0, [table.error for table in report.tables]
    assert images(tied.target) == images(tied.source)
    found = {table.target: (table.inserted, table.updated, table.deleted) for table in report.tables}
    assert found == {"s.customer": (1, 0, 5), "s.order": (1, 0, 10), "s.a_line": (0, 1, 15), "s.apart": (0, 0, 0)}
    assert tied.target.staging_tables() == []


def test_a_cascade_of_the_target_leaves_the_counts_as_they_are(tied: Pair) -> None:
    tied.target.execute(
        """ALTER TABLE s.a_line DROP CONSTRAINT a_line_order_fkey, ADD FOREIGN KEY ("order") REFERENCES s."order" ON DELETE CASCADE"""
    )
    tied.source.execute('DELETE FROM s.a_line WHERE id <= 10; DELETE FROM s."order" WHERE id <= 10')
    found = {table.target: table.deleted for table in synced(tied).tables}
    assert (found["s.order"], found["s.a_line"]) == (10, 10)
    assert images(tied.target) == images(tied.source)


def test_a_reader_sees_the_old_state_of_all_or_the_new_one(tied: Pair) -> None:
    """With a foreign key that is not valid, so that nothing but the commit keeps the tables together."""
    seen: set[tuple[int, int]] = set()
    over = threading.Event()

    def poll() -> None:
        query = """SELECT (SELECT count(*) FROM s.customer WHERE name = 'new'), (SELECT count(*) FROM s.a_line WHERE n = 1)"""
        with psycopg.connect(tied.target.dsn, autocommit=True) as reader:
            while not over.is_set():
                seen.update(reader.execute(query).fetchall())

    reader = threading.Thread(target=poll)
    for value in range(4):
        text, number = ("new", 1) if value % 2 == 0 else ("old", 0)
        tied.source.execute(f"BEGIN; UPDATE s.customer SET name = '{text}'; UPDATE s.a_line SET n = {number}; COMMIT")
        if not value:
            reader.start()
        assert synced(tied, options=Options(staging=StagingKind.UNLOGGED)).exit_code == 0
    over.set()
    reader.join()
    assert seen == {(0, 0), (200, 200)}


def test_what_fails_in_one_of_them_rolls_all_back_and_each_says_why(tied: Pair) -> None:
    before = images(tied.target)
    tied.source.execute(
        "UPDATE s.customer SET name = 'x'; UPDATE s.apart SET v = 1; DELETE FROM s.a_line WHERE id > 100"
    )
    report = synced(tied)
    assert report.exit_code == 3
    found = {table.target: table for table in report.tables}
    assert [found[name].status for name in ("s.customer", "s.order", "s.a_line", "s.apart")] == ["failed"] * 3 + [
        "done"
    ]
    assert "100 of 200 rows (50 %) would be deleted" in str(found["s.a_line"].error)
    assert str(found["s.customer"].error).startswith(
        "rolled back with s.a_line, with which it commits: 100 of 200 rows"
    )
    assert found["s.customer"].updated == 0
    assert images(tied.target)[:3] == before[:3]
    assert tied.target.value("SELECT sum(v) FROM s.apart") == 200
    history = tied.target.rows(
        "SELECT target, status FROM pgsluice.run_table WHERE run_id = %s ORDER BY 1", (report.run_id,)
    )
    assert history == [("s.a_line", "failed"), ("s.apart", "done"), ("s.customer", "failed"), ("s.order", "failed")]


def test_a_table_that_is_refused_keeps_those_that_are_tied_to_it(tied: Pair) -> None:
    before = images(tied.target)
    tied.source.execute(
        "ALTER TABLE s.customer ADD extra text; DELETE FROM s.a_line WHERE id < 5; UPDATE s.apart SET v = 2"
    )
    report = synced(tied)
    assert report.exit_code == 3
    assert {table.target: table.exit_code for table in report.tables} == {
        "s.customer": 6, "s.order": 6, "s.a_line": 6, "s.apart": 0,
    }  # fmt: skip
    assert images(tied.target)[:3] == before[:3]


def test_tables_that_refer_to_each_other_in_a_circle_are_deferred_where_they_can_be(pair: Pair) -> None:
    circle = """CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, b int NOT NULL);
    CREATE TABLE s.b (id int PRIMARY KEY, a int NOT NULL REFERENCES s.a DEFERRABLE);
    ALTER TABLE s.a ADD FOREIGN KEY (b) REFERENCES s.b DEFERRABLE;"""
    for server in (pair.source, pair.target):
        server.execute(circle)
    fill = "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO s.a SELECT g, g FROM generate_series({0}, {1}) g; INSERT INTO s.b SELECT g, g FROM generate_series({0}, {1}) g; COMMIT"
    pair.source.execute(fill.format(1, 150))
    assert synced(pair).exit_code == 0
    pair.source.execute(fill.format(151, 160))
    pair.source.execute(
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; DELETE FROM s.a WHERE id <= 9; DELETE FROM s.b WHERE id <= 9; COMMIT"
    )
    report = synced(pair)
    assert [(table.inserted, table.deleted) for table in report.tables] == [(10, 9), (10, 9)]
    assert [pair.target.image(table) for table in ("s.a", "s.b")] == [
        pair.source.image(table) for table in ("s.a", "s.b")
    ]


def test_a_foreign_key_that_is_deferred_names_its_table_when_it_is_broken(tied: Pair) -> None:
    tied.target.execute(
        """ALTER TABLE s.a_line ALTER CONSTRAINT a_line_order_fkey DEFERRABLE INITIALLY DEFERRED; DELETE FROM s.a_line WHERE id = 7"""
    )
    tied.source.execute(
        'ALTER TABLE s.a_line DROP CONSTRAINT a_line_order_fkey; UPDATE s.a_line SET "order" = 9999 WHERE id = 7'
    )
    before = images(tied.target)
    found = {table.target: table for table in synced(tied).tables}
    assert found["s.a_line"].sqlstate == "23503"
    assert "a_line_order_fkey" in str(found["s.a_line"].error)
    assert found["s.customer"].status == "failed"
    assert images(tied.target) == before


def test_rows_of_one_table_that_refer_to_each_other_need_no_group(pair: Pair) -> None:
    tree = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, up int REFERENCES s.t);"
    for server in (pair.source, pair.target):
        server.execute(tree)
    pair.source.execute("INSERT INTO s.t SELECT g, nullif(g / 2, 0) FROM generate_series(1, 300) g")
    assert synced(pair).tables[0].inserted == 300
    pair.source.execute("UPDATE s.t SET up = 3 WHERE up = 2; DELETE FROM s.t WHERE id = 2")
    report = synced(pair).tables[0]
    assert (report.status, report.deleted, report.updated) == ("done", 1, 2), report.error
    assert pair.target.image("s.t") == pair.source.image("s.t")
    assert report.notes == ()


@pytest.mark.parametrize("action", ["NO ACTION", "RESTRICT", "CASCADE", "SET NULL"])
def test_children_that_move_to_another_parent_keep_what_only_the_target_has(tied: Pair, action: str) -> None:
    tied.target.execute(
        f"""ALTER TABLE s."order" DROP CONSTRAINT order_customer_fkey, ALTER customer DROP NOT NULL, ADD FOREIGN KEY (customer) REFERENCES s.customer ON DELETE {action};
        ALTER TABLE s."order" ADD seen text; UPDATE s."order" SET seen = 'yes'"""
    )
    tied.source.execute(
        """UPDATE s."order" SET customer = 1 WHERE customer <= 9; DELETE FROM s.customer WHERE id BETWEEN 2 AND 9"""
    )
    found = {
        table.target: (table.status, table.inserted, table.updated, table.deleted) for table in synced(tied).tables
    }
    assert found["s.customer"] == ("done", 0, 0, 8)
    assert found["s.order"] == ("done", 0, 8, 0)
    assert tied.target.value("""SELECT count(*) FROM s."order" WHERE seen = 'yes'""") == 200
    assert tied.target.rows("""SELECT id, customer FROM s."order" ORDER BY 1""") == tied.source.rows(
        """SELECT id, customer FROM s."order" ORDER BY 1"""
    )


def test_a_new_row_gets_what_was_unique_to_one_that_is_gone(tied: Pair) -> None:
    tied.target.execute("ALTER TABLE s.customer ADD UNIQUE (name)")
    tied.source.execute(
        """DELETE FROM s.a_line WHERE id = 3; DELETE FROM s."order" WHERE id = 3; DELETE FROM s.customer WHERE id = 3; INSERT INTO s.customer VALUES (300, 'c3')"""
    )
    assert synced(tied).exit_code == 0
    assert images(tied.target) == images(tied.source)


def test_every_mode_can_be_tied(tied: Pair) -> None:
    for mode in ("xmin", "upsert"):
        assert synced(tied, mode=mode, deletes="sweep").exit_code == 0
        tied.source.execute(
            'INSERT INTO s.customer SELECT max(id) + 1, $$n$$ FROM s.customer; INSERT INTO s."order" SELECT max(id), max(id) FROM s.customer; DELETE FROM s.a_line WHERE id = (SELECT min(id) FROM s.a_line)'
        )
        assert synced(tied, mode=mode, deletes="sweep").exit_code == 0
        assert images(tied.target) == images(tied.source)


def test_a_group_resumes_as_a_whole(tied: Pair) -> None:
    tied.source.execute(
        "UPDATE s.customer SET name = 'x'; UPDATE s.apart SET v = 1; DELETE FROM s.a_line WHERE id > 100"
    )
    assert synced(tied).exit_code == 3
    report = synced(tied, options=Options(resume="last"), max_delete="60%")
    assert [table.target for table in report.tables] == ["s.customer", "s.order", "s.a_line"]
    assert report.exit_code == 0
    assert images(tied.target) == images(tied.source)


def test_the_plan_says_what_commits_together(tied: Pair) -> None:
    out = tied.pgsluice("plan", "--table", "s.*").out
    assert "commits together with s.order, s.a_line (foreign keys)" in out
    assert out.count("commits together with s.customer and 1 other (foreign keys)") == 2
    assert out.count("commits together") == 3


def test_a_large_group_is_told_once(pair: Pair) -> None:
    names = [f"s.table_{number:02}" for number in range(60)]
    chain = "".join(
        f"CREATE TABLE {name} (id int PRIMARY KEY, p int REFERENCES {before});"
        for before, name in itertools.pairwise(names)
    )
    for side in (pair.source, pair.target):
        side.execute(f"CREATE SCHEMA s; CREATE TABLE {names[0]} (id int PRIMARY KEY); {chain}")
    texts = [pair.pgsluice("plan", "--table", "s.*", *how).out for how in ((), ("--json",))]
    texts.append(pair.pgsluice("sync", "--table", "s.*").out)
    texts.append(str(pair.target.rows("SELECT to_jsonb(r) FROM pgsluice.run_table r")))
    pair.target.execute("ALTER TABLE s.table_59 ADD must int NOT NULL")
    texts += [pair.pgsluice("plan", "--table", "s.*", "--json").out, pair.pgsluice("sync", "--table", "s.*").out]
    for text in texts:
        assert text.count("s.table_58") < 10
        assert text.count("commits together with s.table_00 and 58 others (foreign keys)") in {0, 58, 59}
    assert all("commits together with s.table_01, s.table_02" in text for text in texts[:4])


# --- --atomic --------------------------------------------------------------------------------------------------------


def test_all_tables_of_a_run_commit_at_once_where_that_is_asked_for(pair: Pair) -> None:
    pair.source.execute(SHOP + ROWS)
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.apart (id int PRIMARY KEY, v smallint)")
    outcome = pair.pgsluice("sync", "--table", "s.*", "--atomic")
    assert outcome.code == 6  # apart is refused, and with it all
    assert pair.target.value("SELECT to_regclass('s.customer') IS NULL")
    pair.target.execute("ALTER TABLE s.apart ALTER v TYPE int")
    assert pair.pgsluice("sync", "--table", "s.*", "--atomic", "--staging", "promoted").code == 0
    assert images(pair.target) == images(pair.source)


def test_types_that_two_new_tables_need_are_created_once_in_one_transaction(pair: Pair) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('a'); CREATE TABLE s.one (id int PRIMARY KEY, m s.mood);
        CREATE TABLE s.two (id int PRIMARY KEY, m s.mood); INSERT INTO s.one VALUES (1, 'a'); INSERT INTO s.two VALUES (1, 'a')"""
    )
    assert synced(pair, options=Options(atomic=True)).exit_code == 0
    assert pair.target.rows("SELECT m::text FROM s.two") == [("a",)]
