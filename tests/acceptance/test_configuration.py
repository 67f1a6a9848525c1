"""One file says what is copied: every mistake in it is told at once, with its line, and its tables are copied its way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Outcome, Pair

TABLES = """
CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), note text);
CREATE TABLE sales.items (id int PRIMARY KEY, n int); CREATE TABLE sales.log (id int PRIMARY KEY, line text);
INSERT INTO sales.orders SELECT i, '2026-01-01Z'::timestamptz + i * interval '1 min', 'note ' || i FROM generate_series(1, 50) i;
INSERT INTO sales.items SELECT i, i FROM generate_series(1, 50) i; INSERT INTO sales.log VALUES (1, 'a');
"""
FILE = """
# what is copied every night
source: ${SHOP}
target: ${LAKE}
jobs: 2
defaults:
  to: raw.{schema}_{table}
  verify: hash
tables:
  sales.*: {}
  sales.orders:
    mode: incremental
    cursor: at
    deletes: sweep
  sales.log:
    skip: true
  raw.totals:
    query: SELECT n % 2 AS odd, count(*) AS n FROM sales.items GROUP BY 1
    key: [odd]
    verify: count
"""


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute(TABLES)
    return pair


def run(folder: Path, *arguments: str, **environment: str) -> Outcome:
    """Run the command line in a folder, without a server named."""
    done = subprocess.run(
        [sys.executable, "-m", "pgsluice", *arguments],
        cwd=folder,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("PGSLUICE_")}, **environment},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def in_shop(folder: Path, shop: Pair, *arguments: str) -> Outcome:
    return run(folder, *arguments, SHOP=shop.source.dsn, LAKE=shop.target.dsn)


def test_the_tables_of_a_file_are_copied_each_in_its_own_way(shop: Pair, tmp_path: Path) -> None:
    (tmp_path / "pgsluice.yaml").write_text(FILE)
    done = in_shop(tmp_path, shop, "sync", "--json")
    assert done.code == 0, done
    tables = {line["target"]: line for line in done.lines if "target" in line}
    assert {name: (line["mode"], line["verified"]) for name, line in tables.items()} == {
        "raw.sales_orders": ("incremental", "hash"),
        "raw.sales_items": ("full", "hash"),
        "raw.totals": ("full", "count"),
    }
    assert shop.target.image("raw.sales_orders") == shop.source.image("sales.orders")
    assert shop.target.rows("SELECT * FROM raw.totals ORDER BY 1") == [(0, 25), (1, 25)]
    shop.source.execute("DELETE FROM sales.orders WHERE id = 7; INSERT INTO sales.orders VALUES (51, now(), 'new')")
    again = in_shop(tmp_path, shop, "sync", "--json", "--select", "raw.sales_o*")
    (orders,) = [line for line in again.lines if "target" in line]
    assert (orders["inserted"], orders["deleted"], orders["staging_count"] < 50) == (1, 1, True)
    assert in_shop(tmp_path, shop, "verify", "--select", "sales.orders").code == 0
    assert "raw.sales_items" in in_shop(tmp_path, shop, "status").out
    assert "Nothing to drop" in in_shop(tmp_path, shop, "clean").out


def test_what_is_typed_stands_above_the_file(shop: Pair, tmp_path: Path) -> None:
    (tmp_path / "nightly.yaml").write_text(FILE)
    done = in_shop(tmp_path, shop, "sync", "-c", "nightly.yaml", "--verify", "none", "--to", "typed.{table}", "--json")
    assert done.code == 0, done
    assert {line["target"]: line["verified"] for line in done.lines if "target" in line} == {
        "typed.orders": "", "typed.items": "", "raw.totals": "",
    }  # fmt: skip
    planned = in_shop(tmp_path, shop, "plan", "-c", "nightly.yaml", "--select", "sales.items", "--json")
    assert [line["target"] for line in planned.lines if "target" in line] == ["raw.sales_items"]


MISTAKES = {
    "an unknown key": ("source: a\ntarget: b\nsorce: c\ntables: {s.t: {}}", "3: sorce: there is no such setting; did you mean source?"),
    "a key of a table": (
        "tables:\n  s.t:\n    moed: full",
        "3: tables.s.t.moed: there is no such setting; did you mean mode?",
    ),
    "a wrong word": (
        "defaults:\n  mode: fulll\ntables: {s.t: {}}",
        "2: defaults.mode: 'fulll' is none of full, upsert, incremental, append, xmin; did you mean full?",
    ),
    "a wrong type": (
        "jobs: many\ntables: {s.t: {}}",
        "1: jobs: 'many' is no whole number",
    ),
    "a missing variable": (
        "tables: {s.t: {}}\nsource: postgresql://${NOWHERE}/x",
        "2: source: the environment variable NOWHERE is not set. export NOWHERE=..",
    ),
    "a missing file": (
        "tables: {s.t: {}}\nsource: ${file:/nowhere/secret}",
        "2: source: the file /nowhere/secret can't be read: No such file or directory",
    ),
    "a program elsewhere": (
        "tables:\n  s.t:\n    to: ${cmd:echo x}",
        "3: tables.s.t.to: a program is asked for source and target alone",
    ),
    "no reference": (
        "source: ${a-b}\ntables: {s.t: {}}",
        "1: source: ${a-b} is no reference. Write ${NAME}, ${file:/path} or ${cmd:program argument}; $$ for $.",
    ),
    "a size": ("tables: {s.t: {}}\nmax_rate: fast", "2: max_rate: 'fast' is not a size. Write a number of bytes with its unit: 500MB, 10GB."),
    "no schema": ("tables:\n  orders: {}", "2: tables.orders: 'orders' lacks a schema. Write schema.table, for example public.orders."),
    "what does not go together": (
        "tables:\n  s.t:\n    mode: incremental",
        "2: tables.s.t: mode incremental needs a cursor column. Name it with cursor; mode xmin needs none.",
    ),
    "no table": ("source: a", "1: tables: none is named; '*.*' means all"),
    "a tab": ("tables:\n\ts.t: {}", "2: a tab, which YAML does not take for indentation"),
    "a key twice": ("tables:\n  s.t: {}\n  s.t: {}", "3: a key stands twice"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_the_way_out(tmp_path: Path, mistake: str) -> None:
    text, told = MISTAKES[mistake]
    (tmp_path / "pgsluice.yaml").write_text(text)
    done = run(tmp_path, "config", "check")
    assert done.code == 2
    assert done.err.splitlines()[0] == f"pgsluice: pgsluice.yaml:{told}"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "pgsluice.yaml").write_text(
        "jobs: 0\nsuorce: x\ntables:\n  s.t:\n    mode: ful\n  t: {max_delete: lots}\n"
    )
    lines = run(tmp_path, "config", "check").err.splitlines()
    assert [line.removeprefix("pgsluice: ").split(": ")[0] for line in lines] == [
        f"pgsluice.yaml:{number}" for number in (1, 2, 5, 6, 6)
    ]


def test_two_tables_of_one_target_and_patterns_of_nothing_are_refused(shop: Pair, tmp_path: Path) -> None:
    file = tmp_path / "pgsluice.yaml"
    file.write_text("source: ${SHOP}\ntarget: ${LAKE}\ntables:\n  sales.*: {to: raw.one}\n")
    done = in_shop(tmp_path, shop, "sync")
    assert (done.code, "would both be written to raw.one" in done.err) == (2, True)
    file.write_text("source: ${SHOP}\ntarget: ${LAKE}\ntables:\n  nothing.*: {}\n  sales.*: {}\n  salse.*: {}\n")
    told = in_shop(tmp_path, shop, "sync").err.splitlines()
    assert "pgsluice: pgsluice.yaml:4: the pattern 'nothing.*' matches no table. The database has no table" in told[-2]
    assert "pgsluice.yaml:6: the pattern 'salse.*' matches no table. Did you mean" in told[-1]
    file.write_text(FILE)
    done = in_shop(tmp_path, shop, "plan", "--select", "nowhere.*")
    assert (done.code, "no table of the file matches nowhere.*" in done.err) == (2, True)
    done = in_shop(tmp_path, shop, "plan", "-c", "pgsluice.yaml", "--table", "sales.items")
    assert (done.code, "Choose among them with --select" in done.err) == (2, True)


def test_secrets_come_from_files_and_programs_and_are_never_shown(shop: Pair, tmp_path: Path) -> None:
    secret, program = tmp_path / "secret", tmp_path / "say it"
    secret.write_text(shop.target.dsn + "\n")
    secret.chmod(0o644)
    asked = tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho asked >> {asked}\necho "$1"\n')
    program.chmod(0o700)
    (tmp_path / "pgsluice.yaml").write_text(
        f"source: \"${{cmd:'{program}' '{shop.source.dsn}'}}\"\ntarget: ${{file:{secret}}}\ntables: {{sales.items: {{}}}}\n"
    )
    shown = run(tmp_path, "config", "show", "--origin")
    assert shown.out.splitlines()[:2] == ["source: ***  # pgsluice.yaml:1", "target: ***  # pgsluice.yaml:2"]
    assert f"pgsluice: warning: {secret} can be read by others: chmod 600 {secret}" in shown.err
    assert not asked.exists()
    done = run(tmp_path, "sync")
    assert done.code == 0, done
    assert len(asked.read_text().split()) > 1  # at every connect
    program.write_text("#!/bin/sh\nexit 3\n")
    failed = run(tmp_path, "sync")
    assert (failed.code, "ended with 3" in failed.err) == (2, True), failed


def test_passwords_of_variables_are_hidden(tmp_path: Path) -> None:
    (tmp_path / "pgsluice.yaml").write_text("source: ${SHOP}\ntables: {s.t: {where: \"a = '${x}'\"}}\n")
    shown = run(tmp_path, "config", "show", SHOP="postgresql://u:S3cr3t@h/d")
    assert shown.out.splitlines() == ["source: postgresql://u:***@h/d", "tables.s.t.where: \"a = '${x}'\""]


def test_the_schema_knows_every_setting_of_the_command_line(tmp_path: Path) -> None:
    schema = json.loads(run(tmp_path, "config", "schema").out)
    known = set(schema["properties"]) | set(schema["$defs"]["TableSettings"]["properties"])
    helped = run(tmp_path, "sync", "--help").out
    flags = {word.strip(",.").removeprefix("--").replace("-", "_") for word in helped.split() if word.startswith("--")}
    once = {
        "table",
        "query_file",
        "config",
        "select",
        "since",
        "until",
        "full_refresh",
        "json",
        "resume",
        "quiet",
        "verbose",
        "log_format",
        "every",
        "help",
    }
    renamed = {"constant": "constants"}
    assert {renamed.get(flag, flag) for flag in flags - once} - {"key", ""} <= known, flags - once - known
    assert all("description" in each for each in schema["$defs"]["TableSettings"]["properties"].values())


def test_without_a_file_and_servers_it_says_what_is_missing(tmp_path: Path) -> None:
    done = run(tmp_path, "sync", "--table", "s.t")
    assert done.code == 2
    assert "Missing option '--source' (env var: 'PGSLUICE_SOURCE'), or a file that says it (--config)." in done.err


def test_a_file_is_proposed_for_a_source_and_copies_it(shop: Pair, tmp_path: Path) -> None:
    shop.source.execute(
        "CREATE TABLE sales.keyless (line text); INSERT INTO sales.keyless VALUES ('a'), ('a'); ANALYZE;"
        'CREATE TABLE sales."odd: name #1" (id int PRIMARY KEY); INSERT INTO sales."odd: name #1" VALUES (1)'
    )
    done = run(tmp_path, "init", "--source", shop.source.dsn, "--target", shop.target.dsn, "--to", "raw.{table}")
    assert done.code == 0, done
    assert "pgsluice.yaml names 5 tables. Next: pgsluice plan" in done.out
    text = (tmp_path / "pgsluice.yaml").read_text()
    reason = "about 2 rows, key none: no key tells its rows apart, so it is replaced as a whole"
    assert f'{reason}\n  "sales.keyless":\n    strategy: "swap"\n' in text
    for _ in range(2):
        done = run(tmp_path, "sync", "--json")
        assert done.code == 0, done
    for name in ("orders", "keyless", '"odd: name #1"'):
        assert shop.target.image(f"raw.{name}") == shop.source.image(f"sales.{name}")
    again = run(tmp_path, "init", "--source", shop.source.dsn)
    assert (again.code, "is there, and is left alone" in again.err) == (2, True)
    assert (tmp_path / "pgsluice.yaml").read_text() == text


def test_no_password_gets_into_a_file_that_is_proposed(shop: Pair, tmp_path: Path) -> None:
    secret = f"{shop.source.dsn}{'&' if '?' in shop.source.dsn else '?'}password=S3cr3t"
    assert run(tmp_path, "init", "--source", secret).code == 0
    text = (tmp_path / "pgsluice.yaml").read_text()
    assert "S3cr3t" not in text
    assert "source: ${PGSLUICE_SOURCE}\ntarget: ${PGSLUICE_TARGET}\n" in text


def test_the_plan_of_many_tables_is_a_line_each_and_says_what_all_of_it_takes(shop: Pair, tmp_path: Path) -> None:
    shop.source.execute("CREATE TABLE sales.keyless (v int); ANALYZE")
    (tmp_path / "pgsluice.yaml").write_text(FILE)
    done = in_shop(tmp_path, shop, "plan")
    assert done.code == 6
    _, *lines = done.out.splitlines()
    assert lines[0].split() == ["table", "mode", "strategy", "rows", "size", "staging", "format", "reads"]
    rows = {line.split()[0]: line.split()[1:4] for line in lines[1:5]}
    assert rows["raw.sales_orders"] == ["incremental", "create", "50"]
    assert rows["raw.sales_keyless"] == ["full", "refused"]
    assert "raw.sales_keyless:" in lines
    assert "  - sales.keyless has no primary key and no unique index over NOT NULL columns" in done.out
    assert lines[-1].startswith("3 planned, 1 refused; on the target at most ")
    assert lines[-1].endswith("at most 6 sessions on the source and 5 on the target")
    assert "COPY" not in done.out
    assert done.out.count("COPY") < in_shop(tmp_path, shop, "plan", "--sql").out.count("COPY (")
