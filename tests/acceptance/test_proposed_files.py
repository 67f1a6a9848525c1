"""What `init` writes works against the target that it was made for; what can't is left out there, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from servers import Outcome, Pair, run_cli

SHOP = """CREATE SCHEMA s;
CREATE TABLE s.parents (id int PRIMARY KEY, v int);
CREATE TABLE s.children (id int PRIMARY KEY, p int NOT NULL REFERENCES s.parents);
CREATE TABLE s.grandchildren (id int PRIMARY KEY, c int NOT NULL REFERENCES s.children);
CREATE TABLE s.log (p int REFERENCES s.parents {}, line text);
CREATE TABLE s.notes (line text);
"""
ROWS = """INSERT INTO s.parents SELECT i, i FROM generate_series(1, 9) i; INSERT INTO s.children SELECT i, i FROM generate_series(1, 9) i;
INSERT INTO s.grandchildren SELECT i, i FROM generate_series(1, 9) i; INSERT INTO s.log VALUES (1, 'a'), (1, 'a');
INSERT INTO s.notes VALUES ('a'), ('a'); ANALYZE;
"""
TIED = ("s.parents", "s.children", "s.grandchildren")


def pgsluice(pair: Pair, folder: Path, *arguments: str, target: str | None = None) -> Outcome:
    servers = {"PGSLUICE_SOURCE": pair.source.dsn, "PGSLUICE_TARGET": target or pair.target.dsn}
    return run_cli(*arguments, cwd=folder, timeout=120, **servers)


def assert_equal(pair: Pair, *names: str) -> None:
    for name in names:
        assert pair.target.image(name) == pair.source.image(name), name


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute(SHOP.format("") + ROWS)
    return pair


def test_a_table_that_cannot_be_replaced_beside_its_parents_is_left_out_and_the_others_work(
    shop: Pair, tmp_path: Path
) -> None:
    shop.target.execute(SHOP.format(""))
    made = pgsluice(shop, tmp_path, "init")
    assert made.code == 0, made
    assert "left out: s.log can't be replaced (--strategy swap): it commits together with" in made.out
    assert "pgsluice.yaml names 4 tables; 1 that can't be done here is left out. Next: pgsluice plan" in made.out
    text = (tmp_path / "pgsluice.yaml").read_text()
    assert '  # "s.log":\n  #   strategy: "swap"\n' in text
    for _ in range(2):
        assert pgsluice(shop, tmp_path, "plan").code == 0
        done = pgsluice(shop, tmp_path, "sync")
        assert done.code == 0, done
        assert_equal(shop, *TIED, "s.notes")
        shop.source.execute("UPDATE s.parents SET v = v + 1; INSERT INTO s.notes VALUES ('b')")


def test_a_target_without_foreign_keys_takes_all_of_the_file(shop: Pair, tmp_path: Path) -> None:
    assert pgsluice(shop, tmp_path, "init").code == 0
    for _ in range(2):
        assert pgsluice(shop, tmp_path, "sync").code == 0
        assert_equal(shop, *TIED, "s.log", "s.notes")


def test_a_setting_that_the_target_has_no_column_for_gives_way_to_a_plain_copy(shop: Pair, tmp_path: Path) -> None:
    """A keyless table of the source whose target is a view can't be copied at all, others are."""
    shop.target.execute("CREATE SCHEMA s; CREATE VIEW s.parents AS SELECT 1 AS id, 2 AS v")
    made = pgsluice(shop, tmp_path, "init")
    assert made.code == 0, made
    assert "left out: s.parents is a view; only tables are written." in made.out
    assert pgsluice(shop, tmp_path, "sync").code == 0
    assert_equal(shop, "s.children", "s.log")


def test_a_target_that_does_not_answer_or_refuses_everything_is_told_and_the_file_is_written(
    shop: Pair, tmp_path: Path
) -> None:
    made = pgsluice(shop, tmp_path, "init", target="postgresql://127.0.0.1:1/nobody")
    assert (made.code, "the target was not asked: " in made.out) == (0, True), made
    assert '"s.log"' in (tmp_path / "pgsluice.yaml").read_text()
    (tmp_path / "pgsluice.yaml").unlink()
    shop.target.execute("CREATE SCHEMA s; CREATE VIEW s.notes AS SELECT 1")
    made = pgsluice(shop, tmp_path, "init", "--table", "s.notes")
    assert (made.code, "nothing of it can be done: s.notes is a view" in made.out) == (0, True), made
    assert '\n  "s.notes":\n' in (tmp_path / "pgsluice.yaml").read_text()


@pytest.mark.parametrize("action", ["", "ON DELETE CASCADE"])
def test_one_table_that_cannot_join_its_group_is_refused_alone_where_nothing_leans_on_it(
    shop: Pair, tmp_path: Path, action: str
) -> None:
    """A cascade would change its rows; without one, its rows only keep parents that they refer to."""
    shop.target.execute(SHOP.format(action))
    (tmp_path / "pgsluice.yaml").write_text(
        "tables:\n  s.*: {}\n  s.log: {strategy: swap}\n  s.notes: {strategy: swap}\n"
    )
    done = pgsluice(shop, tmp_path, "sync", "--json")
    tables = {line["target"]: line for line in done.lines if "target" in line}
    assert done.code == 3
    assert "can't be replaced (--strategy swap): it commits together with" in tables["s.log"]["error"]
    expected = "done" if not action else "failed"
    assert {tables[name]["status"] for name in TIED} == {expected}
    assert tables["s.notes"]["status"] == "done"
    if not action:
        assert_equal(shop, *TIED)
    alone = pgsluice(shop, tmp_path, "sync", "--select", "s.log")
    assert alone.code == (0 if not action else 1), alone


@pytest.mark.parametrize("how", ["--atomic", "group"])
def test_tables_that_are_to_commit_together_are_refused_together(shop: Pair, tmp_path: Path, how: str) -> None:
    shop.target.execute(SHOP.format(""))
    group = ", group: money" if how == "group" else ""
    (tmp_path / "pgsluice.yaml").write_text(
        f"tables:\n  s.parents: {{verify: count{group}}}\n  s.log: {{strategy: swap{group}}}\n"
    )
    done = pgsluice(shop, tmp_path, "sync", "--json", *(["--atomic"] if how == "--atomic" else []))
    assert done.code == 6, done
    assert [line["status"] for line in done.lines if "target" in line] == ["failed", "failed"]
