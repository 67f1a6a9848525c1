"""What a TAB offers: commands, options, and the names of tables that earlier commands have seen."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from servers import Outcome, Pair, run_cli

SHOP = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id int PRIMARY KEY);
CREATE TABLE sales.lines (id int PRIMARY KEY);
CREATE TABLE sales."odd name" (id int PRIMARY KEY);
CREATE SCHEMA "판매";
CREATE TABLE "판매"."주문" (id int PRIMARY KEY);
"""


class Shell:
    """A user with a cache and a folder, who types and presses TAB."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.folder = folder / "work"
        self.folder.mkdir()

    @property
    def file(self) -> Path:
        return self.cache / "pgsluice" / "tables.json"

    def run(self, *arguments: str, **environment: str) -> Outcome:
        done = run_cli(*arguments, timeout=120, cwd=self.folder, XDG_CACHE_HOME=str(self.cache), **environment)
        assert done.code == 0, done.err
        return done

    def tab(self, line: str, **environment: str) -> list[str]:
        """Return what click's script of bash gets for a line whose last word is being typed."""
        words = line.split(" ")
        asked = {"_PGSLUICE_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        done = run_cli(timeout=120, cwd=self.folder, XDG_CACHE_HOME=str(self.cache), **asked, **environment)
        assert (done.code, done.err) == (0, "")
        return [offered.removeprefix("plain,") for offered in done.out.splitlines() if offered]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def synced(pair: Pair, shell: Shell) -> Pair:
    pair.source.execute(SHOP)
    servers = ("--source", pair.source.dsn, "--target", pair.target.dsn)
    shell.run("sync", *servers, "--table", "*.*", "--to", "raw.{table}", "--quiet")
    return pair


def test_commands_and_options_and_choices_are_completed(shell: Shell) -> None:
    assert shell.tab("pgsluice s") == ["sync", "status", "serve", "state"]
    assert shell.tab("pgsluice state ") == ["reset", "set", "show"]
    assert shell.tab("pgsluice sync --mo") == ["--mode"]
    assert shell.tab("pgsluice sync --mode x") == ["xmin"]


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: Shell, shell_name: str) -> None:
    script = shell.run("completion", shell_name).out
    assert "_PGSLUICE_COMPLETE" in script
    assert f"{shell_name}_complete" in script
    if shutil.which(shell_name):
        subprocess.run([shell_name, "-n"], input=script.encode(), check=True)


def test_tables_that_a_run_has_seen_are_completed_without_a_server(shell: Shell, synced: Pair) -> None:
    closed = {"PGSLUICE_SOURCE": make_conninfo(synced.source.dsn, user="nobody there")}
    assert shell.tab("pgsluice sync --table ", **closed) == ["sales.lines", "sales.orders", "판매.주문"]
    assert shell.tab("pgsluice sync --table sales.or", **closed) == ["sales.orders"]
    assert shell.tab("pgsluice plan --mode full --table 판", **closed) == ["판매.주문"]
    assert shell.tab("pgsluice state reset raw.o", PGSLUICE_TARGET=synced.target.dsn) == ["raw.orders"]
    assert shell.tab("pgsluice state show sales.", PGSLUICE_TARGET=synced.target.dsn) == []


def test_of_an_unknown_server_all_that_was_seen_anywhere_is_offered(shell: Shell, synced: Pair) -> None:
    assert shell.tab("pgsluice sync --table raw.o") == ["raw.orders"]
    assert shell.tab("pgsluice sync --table sales.o", PGSLUICE_SOURCE="service=never-seen") == ["sales.orders"]


@pytest.mark.parametrize("command", ["plan", "doctor", "init"])
def test_commands_that_look_at_the_source_note_its_tables(pair: Pair, shell: Shell, command: str) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.seen (id int PRIMARY KEY)")
    shell.run(command, "--source", pair.source.dsn, "--target", pair.target.dsn, "--table", "s.*")
    assert shell.tab("pgsluice sync --table ", PGSLUICE_SOURCE=pair.source.dsn) == ["s.seen"]


def test_select_completes_the_tables_of_the_file_by_both_names(shell: Shell, synced: Pair) -> None:
    (shell.folder / "pgsluice.yaml").write_text(
        f"source: {synced.source.dsn}\ntarget: ${{cmd:touch ran}}\ndefaults:\n  to: lake.{{table}}\n"
        "tables:\n  sales.*: {}\n  sales.lines: {skip: true}\n  other.one: {}\n"
    )
    assert shell.tab("pgsluice sync --select ") == ["lake.one", "lake.orders", "other.one", "sales.orders"]
    assert shell.tab("pgsluice sync --select sales.") == ["sales.orders"]
    assert not (shell.folder / "ran").exists(), "no program is run for a TAB"


def test_a_broken_file_or_cache_offers_nothing_and_says_nothing(shell: Shell, synced: Pair) -> None:
    (shell.folder / "pgsluice.yaml").write_text("tables: [")
    assert shell.tab("pgsluice sync --select ") == []
    for broken in ("", "[1]", '{"a": 1}', '{"a": {"b": "c"}}'):
        shell.file.write_text(broken)
        assert shell.tab("pgsluice sync --table ") == []
        shell.run("plan", "--source", synced.source.dsn, "--target", synced.target.dsn, "--table", "sales.orders")
        assert shell.tab("pgsluice sync --table ") == ["sales.orders"]


def test_what_is_noted_is_for_its_user_alone_and_holds_no_server(shell: Shell, pair: Pair) -> None:
    pair.source.execute(SHOP)
    source = make_conninfo(pair.source.dsn, password="s3cret")
    shell.run("plan", "--source", source, "--target", pair.target.dsn, "--table", "sales.*")
    assert stat.S_IMODE(shell.file.stat().st_mode) == 0o600
    noted = shell.file.read_text("utf-8")
    assert "sales.orders" in noted
    for told in ("s3cret", pair.source.name, "host", "postgres"):
        assert told not in noted
    assert [path.name for path in shell.file.parent.iterdir()] == ["tables.json"]


def test_names_that_were_not_seen_for_a_season_are_forgotten(shell: Shell, synced: Pair) -> None:
    old = shell.file.read_text("utf-8")
    shell.file.write_text('{"gone": {"s.gone": 1.0}, ' + old[1:])
    assert shell.tab("pgsluice sync --table s.g") == ["s.gone"]
    shell.run("plan", "--source", synced.source.dsn, "--target", synced.target.dsn, "--table", "sales.orders")
    assert "s.gone" not in shell.file.read_text("utf-8")
    assert "sales.lines" in shell.file.read_text("utf-8")
