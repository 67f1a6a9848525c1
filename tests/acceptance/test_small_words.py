"""What a newcomer reads first says what is so, and what to do."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers import Pair

from pgsluice.cli import cli


def asked(folder: Path, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    done = CliRunner(env={"PGSLUICE_SOURCE": None, "PGSLUICE_TARGET": None, "XDG_CACHE_HOME": os.devnull}).invoke(
        cli, [*arguments]
    )
    assert done.exit_code == 2, done.output
    return done.output


@pytest.mark.parametrize("command", ["sync", "plan", "verify", "doctor", "status", "report"])
def test_a_bare_command_without_a_file_says_that_none_was_found_and_names_init(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = asked(tmp_path, command, monkeypatch=monkeypatch)
    assert "no pgsluice.yaml was found in this folder" in said
    assert "pgsluice init" in said


@pytest.mark.parametrize("command", ["sync", "plan"])
def test_a_table_that_is_named_beside_a_file_learns_of_select(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pgsluice.yaml").write_text("source: service=shop\ntarget: service=lake\ntables: {s.t: {}}\n")
    said = asked(tmp_path, command, "--table", "s.t", monkeypatch=monkeypatch)
    assert "Missing option '--source'" in said
    assert "--select" in said
    assert "no pgsluice.yaml was found" not in said


def test_a_plan_of_append_with_nothing_new_names_no_range_that_runs_backwards(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)")
    way = ("--table", "s.t", "--mode", "append")
    assert pair.pgsluice("sync", *way).code == 0
    told = pair.pgsluice("plan", *way)
    assert not re.search(r"transactions \d+ to", told.out)
    assert "nothing new: the last run read what transactions before" in told.out, told


def test_the_hint_of_a_refusal_is_no_second_reason(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); CREATE TABLE s.u (id int PRIMARY KEY)")
    for tables in (("--table", "s.t"), ("--table", "s.t", "--table", "s.u")):
        told = pair.pgsluice("plan", *tables, "--mode", "incremental", "--cursor", "nowhere")
        bullets = [line.strip() for line in told.out.split("\n") if line.strip().startswith("- ")]
        assert len(bullets) == len(tables) // 2, told
        assert len({line.strip() for line in told.out.split("\n")}) > len(bullets) + 1
