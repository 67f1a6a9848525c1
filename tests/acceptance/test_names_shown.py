"""No name, and no value of a row, commands the terminal it is shown on, or adds a line of ours to it."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from servers import Outcome, Pair, run_cli

from pgsluice.job import TableRef

#: Each in the middle of a name: what it is, and how it is shown.
COMMANDS = {
    "clear screen": ("\x1b[2J", "\\u001b[2J"),
    "clipboard": ("\x1b]52;c;aWQ=\x07", "\\u001b]52;c;aWQ=\\u0007"),
    "title in C1": ("\x9d0;owned\x9c", "\\u009d0;owned\\u009c"),
    "line": ("\nFAILURE  forged: \r\n", "\\nFAILURE  forged: \\u000d\\n"),
    "NEL, LS and PS": ("\x85\u2028\u2029", "\\u0085\\u2028\\u2029"),
    "backspaces and tab": ("\x08\x08\x7f\t\x0b\x0c", "\\u0008\\u0008\\u007f\\t\\u000b\\u000c"),
    "bidi": ("\u202e\u2066\u2069\u200f\u061c", "\\u202e\\u2066\\u2069\\u200f\\u061c"),
    "zero width": ("\u200b\u2060\ufeff", "\\u200b\\u2060\\ufeff"),
    "markup": ("[red][link=x]", "[red][link=x]"),
    "ordinary": ("주é🛒", "주é🛒"),
}


class Odd:
    """Tables whose schemas, names and columns hold one of the commands each."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.sources = {TableRef(f"s{command}x", f"t{command}x"): f"c{command}x" for command, _ in COMMANDS.values()}
        self.targets = {TableRef("raw", ref.name) for ref in self.sources}
        self.shown = [f"t{shown}x" for _, shown in COMMANDS.values()]
        self.columns_shown = [f"c{shown}x" for _, shown in COMMANDS.values()]

    def script(self, text: str, *, on_target: bool = False) -> None:
        """Do something to each of the tables."""
        with psycopg.connect((self.pair.target if on_target else self.pair.source).dsn, autocommit=True) as connection:
            for source, column in self.sources.items():
                ref = TableRef("raw", source.name) if on_target else source
                names = {"schema": sql.Identifier(ref.schema), "table": sql.Identifier(ref.schema, ref.name)}
                query = sql.SQL(text).format(**names, column=sql.Identifier(column))
                connection.execute(query, prepare=False)

    def run(self, command: str, *more: str) -> Outcome:
        ends = ("--source", self.pair.source.dsn, "--target", self.pair.target.dsn)
        return run_cli(command, *ends, "--table", "s*.*", "--to", "raw.{table}", *more)

    def ask(self, *command: str) -> Outcome:
        return run_cli(*command, "--target", self.pair.target.dsn)

    def each_is_in(self, text: str) -> bool:
        """Tell whether every table is named, as it is shown."""
        return not [shown for shown in self.shown if shown not in text]


@pytest.fixture
def odd(pair: Pair) -> Odd:
    made = Odd(pair)
    made.script(
        "CREATE SCHEMA {schema}; CREATE TABLE {table} (id int CONSTRAINT k PRIMARY KEY, {column} text NOT NULL DEFAULT 'a');"
        "INSERT INTO {table} SELECT generate_series(1, 3)"
    )
    return made


def harmless(done: Outcome, *codes: int) -> str:
    """Return all that was printed, in which nothing commands a terminal."""
    assert done.code in (codes or (0,)), done
    text = done.out + done.err
    assert "fault of ours" not in text
    found = {
        ascii(each) for each in text if unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and each != "\n"
    }
    assert not found, text
    assert not [line for line in text.split("\n") if line.startswith("FAILURE  forged")]
    return text


def test_what_tables_are_called_is_shown_by_plan_doctor_and_sync(odd: Odd) -> None:
    for command in (("plan",), ("plan", "--sql"), ("plan", "--exact"), ("doctor",), ("sync", "-vv"), ("sync",)):
        assert odd.each_is_in(harmless(odd.run(*command))), command


def test_what_tables_are_called_is_shown_by_verify_status_state_and_clean(odd: Odd) -> None:
    (tables, *_) = odd.sources.items()
    assert odd.each_is_in(harmless(odd.run("sync", "--mode", "xmin")))
    odd.script("UPDATE {table} SET {column} = 'b'", on_target=True)
    text = harmless(odd.run("verify", "--level", "rows"), 4)
    assert odd.each_is_in(text)
    assert not [shown for shown in odd.columns_shown if shown not in text]
    for asked in (("status",), ("status", "--tables"), ("state", "show")):
        assert odd.each_is_in(harmless(odd.ask(*asked))), asked
    harmless(odd.ask("clean"))
    one = TableRef("raw", tables[0].name)
    assert odd.shown[0] in harmless(odd.ask("state", "reset", str(one)))


def test_what_tables_and_columns_are_called_is_shown_by_errors(odd: Odd) -> None:
    for asked in (("--key", "nothing"), ("--mode", "incremental", "--cursor", "nothing")):
        assert odd.each_is_in(harmless(odd.run("sync", *asked), 1, 2, 6)), asked
    odd.script("ALTER TABLE {table} DROP CONSTRAINT k")
    for command in ("plan", "sync", "doctor"):
        assert odd.each_is_in(harmless(odd.run(command), 6)), command
    assert odd.each_is_in(harmless(odd.ask("status"))) or "No run" in odd.ask("status").out
    (first, *_), (shown, *_) = odd.sources, odd.shown
    ends = ("--source", odd.pair.source.dsn, "--target", odd.pair.target.dsn)
    assert f'Did you mean \'"s{shown[1:]}"."{shown}"\'?' in harmless(
        run_cli("plan", *ends, "--table", f"n.{first.name}"), 2
    )


def test_failures_that_were_written_down_are_shown_by_status_and_in_notifications(odd: Odd, tmp_path: Path) -> None:
    odd.script(
        "CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE {table} (id int PRIMARY KEY, {column} text CHECK ({column} <> 'b'))",
        on_target=True,
    )
    harmless(odd.run("sync"))
    odd.script("UPDATE {table} SET {column} = 'b'")
    program = tmp_path / "told"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/said\n")
    program.chmod(0o700)
    harmless(odd.run("sync", "--notify", str(program)), 1)
    said = (tmp_path / "said").read_text()
    assert said.isprintable()
    assert {each["target"] for each in json.loads(said)["failed"]} == set(map(str, odd.targets))
    assert sum(shown in json.loads(said)["text"] for shown in odd.shown) == 5
    for asked in (("status",), ("status", "--tables")):
        assert odd.each_is_in(harmless(odd.ask(*asked))), asked
    harmless(odd.ask("status", str(min(odd.targets))))


def test_machines_get_the_very_names(odd: Odd) -> None:
    targets = set(map(str, odd.targets))
    planned = odd.run("plan", "--json")
    harmless(planned)
    assert {line["target"] for line in planned.lines[:-1]} == targets
    assert {name for line in planned.lines[:-1] for name in line["columns"]} == {"id", *odd.sources.values()}
    synced = odd.run("sync", "--json", "--log-format", "json")
    harmless(synced)
    assert {line["target"] for line in synced.lines[:-1]} == targets
    assert {json.loads(line).get("table") for line in synced.err.splitlines()} >= targets
    assert {line["target"] for line in odd.run("verify", "--json").lines[:-1]} == targets
    assert {name for (name,) in odd.pair.target.rows("SELECT target FROM pgsluice.run_table")} == targets
    tables = odd.ask("status", "--tables", "--json")
    harmless(tables)
    assert {line["target"] for line in tables.lines[:-1]} == targets


def test_the_page_holds_no_name_that_reorders_it(odd: Odd) -> None:
    harmless(odd.run("sync"))
    assert odd.each_is_in(harmless(odd.ask("report", "-o", "-")))


def test_the_sql_of_a_plan_names_the_very_tables_in_lines_of_its_own(odd: Odd) -> None:
    text = harmless(odd.run("plan", "--sql", "--staging", "unlogged"))
    created = re.findall(r"-- staging \(target\)\n(.*?;)\n", text, re.DOTALL)
    assert len(created) == len(COMMANDS)
    for number, statement in enumerate(created):
        named = re.sub(r"CREATE (UNLOGGED )?TABLE .*? \(", f"CREATE TABLE public.made_{number} (", statement, count=1)
        odd.pair.target.execute(named)
    columns = "SELECT attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE relname ~ '^made_' AND attnum > 0"
    assert {name for (name,) in odd.pair.target.rows(columns)} == {"id", *odd.sources.values()}


def test_the_value_of_a_key_is_shown_in_a_line_of_its_own(pair: Pair) -> None:
    for database in (pair.source, pair.target):
        database.execute("CREATE SCHEMA s; CREATE TABLE s.t (k text PRIMARY KEY)")
    pair.source.execute(r"INSERT INTO s.t VALUES (E'a\n1 of 1 equal\x1b[2J\u202e')")
    text = harmless(pair.pgsluice("verify", "--table", "s.t", "--level", "rows"), 4)
    assert "+ k=a\\n1 of 1 equal\\u001b[2J\\u202e" in text


def test_what_is_drawn_on_a_terminal_holds_no_command_of_a_name(odd: Odd) -> None:
    ends = ("--source", odd.pair.source.dsn, "--target", odd.pair.target.dsn)
    drawn = "".join(on_a_terminal("sync", *ends, "--table", "s*.*", "--to", "raw.{table}"))
    assert f"{len(COMMANDS)} of {len(COMMANDS)} done" in drawn
    left = re.sub(r"\x1b\[(?:\?25[lh]|[\d;]*m|2K|1A)|[\r\n]", "", drawn)  # what draws
    assert not [ascii(each) for each in left if unicodedata.category(each) in {"Cc", "Cf", "Zl", "Zp"}], left


def on_a_terminal(*arguments: str) -> Iterator[str]:
    """Run the command line on a terminal, and yield what it writes there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "50", "XDG_CACHE_HOME": os.devnull}
    command = [sys.executable, "-m", "pgsluice", *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        while piece := os.read(ours, 1 << 16):
            yield piece.decode("utf-8", "replace")
    except OSError as error:  # how Linux tells that the other end is closed
        assert error.errno == errno.EIO  # noqa: PT017
    finally:
        os.close(ours)
        assert process.wait(60) == 0
