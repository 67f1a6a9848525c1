"""A pattern means every table that it matches, whatever these are called; in double quotes, one table by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from servers import Outcome, Pair, run_cli

from pgsluice import config
from pgsluice.job import TableRef

#: Of schema m, each with one row.
NAMES = ("*", "?", "[ab]", "a*", "*.*", '"*"', "a", "b", "ab")
EVERY = frozenset(NAMES)
#: What is typed, and the tables of m that it means.
TYPED = [
    ("m.*", EVERY),
    ("*.*", EVERY),
    ("m.?", {"*", "?", "a", "b"}),
    ("m.[ab]", {"a", "b"}),
    ("m.a*", {"a*", "a", "ab"}),
    ('m."*"', {"*"}),
    ('"m"."?"', {"?"}),
    ('m."[ab]"', {"[ab]"}),
    ('m."a*"', {"a*"}),
    ('m."*.*"', {"*.*"}),
    ('m."""*"""', {'"*"'}),
    ('*."*"', {"*"}),
]


@pytest.fixture
def odd(pair: Pair) -> Pair:
    with psycopg.connect(pair.source.dsn, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA m; CREATE SCHEMA "*"; CREATE TABLE "*".other (id int PRIMARY KEY)')
        for name in NAMES:
            made = sql.SQL("CREATE TABLE {0} (id int PRIMARY KEY); INSERT INTO {0} VALUES (1)")
            connection.execute(made.format(sql.Identifier("m", name)), prepare=False)
    return pair


def planned(done: Outcome) -> set[str]:
    """Return the tables of m that a command has taken up."""
    assert done.code == 0, done
    sources = [TableRef.parse(line["source"]) for line in done.lines if "source" in line]
    assert len(sources) == len(set(sources))
    return {source.name for source in sources if source.schema == "m"}


def file_of(odd: Pair, folder: Path, *entries: str) -> Path:
    """Write a configuration with these entries, as a user quotes them."""
    head = f"source: {odd.source.dsn}\ntarget: {odd.target.dsn}\ntables:\n"
    (folder / "pgsluice.yaml").write_text(head + "".join(f"  '{entry}': {{}}\n" for entry in entries))
    return folder


def state(odd: Pair, *arguments: str) -> list[dict[str, Any]]:
    """Ask for what a job remembers."""
    done = run_cli("state", *arguments, "--target", odd.target.dsn, "--json")
    assert done.code == 0, done
    return done.lines


@pytest.mark.parametrize(("typed", "meant"), TYPED)
def test_a_table_is_meant_by_name_or_pattern_on_the_command_line(odd: Pair, typed: str, meant: set[str]) -> None:
    assert planned(odd.pgsluice("plan", "--json", "--table", typed)) == meant


@pytest.mark.parametrize(("typed", "meant"), TYPED)
def test_a_table_is_meant_by_name_or_pattern_in_a_file(odd: Pair, tmp_path: Path, typed: str, meant: set[str]) -> None:
    assert planned(run_cli("plan", "--json", cwd=file_of(odd, tmp_path, typed))) == meant


@pytest.mark.parametrize(("typed", "meant"), TYPED)
def test_a_table_is_meant_by_name_or_pattern_in_a_selection(tmp_path: Path, typed: str, meant: set[str]) -> None:
    (tmp_path / "pgsluice.yaml").write_text("tables: {m.*: {to: 'raw.{table}'}}")
    tables = config.load(tmp_path / "pgsluice.yaml", select=[typed]).tables
    assert {job.target.name for job in tables.jobs(TableRef("m", name) for name in NAMES)} == meant


def test_a_schema_called_like_a_pattern_hides_no_other(odd: Pair) -> None:
    everything = odd.pgsluice("plan", "--json", "--table", "*.*").lines[:-1]
    assert {line["source"] for line in everything} >= {"*.other", "m.a"}
    one = odd.pgsluice("plan", "--json", "--table", '"*".*').lines[:-1]
    assert [line["source"] for line in one] == ["*.other"]


def test_a_run_copies_all_that_its_pattern_matches_and_verify_compares_as_many(odd: Pair) -> None:
    done = odd.pgsluice("sync", "--table", "m.*", "--to", "raw.{table}")
    assert (done.code, f"{len(NAMES)} of {len(NAMES)} done" in done.out) == (0, True)
    for name in NAMES:
        with psycopg.connect(odd.target.dsn) as connection:
            query = sql.SQL("SELECT id FROM {}").format(sql.Identifier("raw", name))
            assert connection.execute(query).fetchall() == [(1,)]
    compared = odd.pgsluice("verify", "--table", "m.*", "--to", "raw.{table}", "--json")
    summary = {"tables": 9, "equal": 9, "different": 0, "failed": 0, "exit_code": 0}
    assert {name: compared.lines[-1][name] for name in summary} == summary
    one = odd.pgsluice("verify", "--table", 'm."*"', "--to", "raw.{table}", "--json")
    assert [line["target"] for line in one.lines[:-1]] == ["raw.*"]
    for typed in ('raw."*"', '"raw"."*"', "raw.*"):  # a job's name is no pattern
        history = odd.pgsluice("status", typed, "--json")
        assert [line["target"] for line in history.lines] == ["raw.*"], history


def test_init_names_tables_so_that_none_is_a_pattern(odd: Pair, tmp_path: Path) -> None:
    asked = ("--source", odd.source.dsn, "--target", odd.target.dsn)
    assert run_cli("init", *asked, "--table", "m.*", cwd=tmp_path).code == 0
    tables = config.load(tmp_path / "pgsluice.yaml").tables
    assert len(tables.entries) == len(NAMES)
    for entry in tables.entries:
        assert sum(entry.matches(TableRef("m", name)) for name in NAMES) == 1
    assert planned(run_cli("plan", "--json", cwd=tmp_path)) == EVERY
    (tmp_path / "pgsluice.yaml").unlink()
    assert run_cli("init", *asked, "--table", 'm."*"', cwd=tmp_path).code == 0
    assert planned(run_cli("plan", "--json", cwd=tmp_path)) == {"*"}


def test_what_is_proposed_in_place_of_a_name_can_be_pasted_into_a_shell(odd: Pair) -> None:
    odd.source.execute('DROP TABLE m.a; DROP TABLE m.b; CREATE TABLE m."$(id)" (id int PRIMARY KEY)')
    done = odd.pgsluice("plan", "--table", "m.[ab]")
    assert done.code == 2
    assert """Did you mean 'm."[ab]"'""" in done.err
    assert "Did you mean 'm.$(id)'" in odd.pgsluice("plan", "--table", "m.$(ID)").err


def test_the_state_of_a_job_is_found_by_its_name_in_quotes(odd: Pair) -> None:
    done = odd.pgsluice("sync", "--table", 'm."*"', "--mode", "incremental", "--cursor", "id")
    assert done.code == 0, done
    for typed in ('m."*"', "m.*"):
        assert [line["target"] for line in state(odd, "show", typed)] == ["m.*"]
    assert [line["done"] for line in state(odd, "reset", 'm."*"')] == ["forgotten: its next run reads everything"]
    assert state(odd, "show", 'm."*"') == []
