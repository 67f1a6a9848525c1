"""The pages are true: links lead somewhere, commands and examples run, tables match the code."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from psycopg.conninfo import make_conninfo
from servers import Outcome, Pair, run_cli

from pgsluice.cli import cli
from pgsluice.expressions import LISTED

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PACKAGE = ROOT / "src" / "pgsluice"

SOURCE = "postgresql://reader@source-host/shop"
TARGET = "postgresql://writer@target-host/lake"
SHOP = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id int PRIMARY KEY, placed timestamptz NOT NULL, amount numeric(10,2));
INSERT INTO sales.orders SELECT i, timestamptz '2023-12-01' + i * interval '1 day', i FROM generate_series(1, 900) i;
CREATE VIEW sales.totals AS SELECT id, amount FROM sales.orders;
"""
REFUSED = """
CREATE SCHEMA sales;
CREATE TABLE sales.orders (id int PRIMARY KEY, note text NOT NULL, amount numeric(10,2));
INSERT INTO sales.orders SELECT i, 'note', i FROM generate_series(1, 1000) i;
CREATE VIEW sales.totals AS SELECT id, amount FROM sales.orders;
CREATE TABLE sales.log (line text);
CREATE TABLE sales.j (j json);
CREATE TABLE sales.i (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION sales.is_small(text) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT length($1) < 9';
CREATE DOMAIN sales.small AS text CHECK (sales.is_small(VALUE));
CREATE TABLE sales.d (id int PRIMARY KEY, v sales.small);
CREATE TYPE sales.mood AS ENUM ('a', 'b');
CREATE TABLE sales.e (id int PRIMARY KEY, m sales.mood);
CREATE FUNCTION sales.f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';
CREATE TABLE sales.g (id int PRIMARY KEY, v int GENERATED ALWAYS AS (sales.f(id)) STORED);
"""
BESIDE_REFUSED = """
CREATE SCHEMA sales;
CREATE TABLE sales.i (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY);
CREATE TYPE sales.mood AS ENUM ('a');
CREATE TABLE sales.e (id int PRIMARY KEY, m sales.mood);
"""

_LINK = re.compile(r"\[(?P<text>[^]]+)\]\((?P<to>[^)\s]+)\)")
_BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def blocks(page: Path, *kinds: str) -> list[str]:
    return [match["body"] for match in _BLOCK.finditer(text_of(page)) if match["kind"] in kinds]


def commands(page: Path) -> Iterator[list[str]]:
    """Return the arguments of every ``pgsluice`` line that a reader could type."""
    for block in blocks(page, "sh", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words and Path(words[0]).name == "pgsluice":
                yield words[1:]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_a_heading_or_a_test_that_exists(page: Path) -> None:
    for link in _LINK.finditer(text_of(page)):
        if "://" in link["to"]:
            continue
        path, _, anchor = link["to"].partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.is_file(), f"{page.name} links to {link['to']}"
        if anchor:
            assert anchor in anchors(place), f"{page.name} links to {link['to']}"
        if link["text"].startswith("test_"):
            assert f"\ndef {link['text']}(" in text_of(place), f"{page.name} names {link['text']}"


def test_the_readme_links_every_page_of_the_docs() -> None:
    linked = {link["to"].partition("#")[0] for link in _LINK.finditer(text_of(ROOT / "README.md"))}
    assert {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")} <= linked


# --- commands and examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one_that_the_command_line_understands(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSLUICE_SOURCE", SOURCE)
    monkeypatch.setenv("PGSLUICE_TARGET", TARGET)
    for arguments in commands(page):
        with click.Context(cli, info_name="pgsluice") as context:
            name, command, rest = cli.resolve_command(context, arguments)
            assert command is not None, arguments
            command.make_context(name, rest, parent=context).close()


def test_the_commands_of_the_readme_do_what_it_says(pair: Pair, tmp_path: Path) -> None:
    pair.source.execute(SHOP)
    found = [arguments for arguments in commands(ROOT / "README.md") if arguments[0] != "demo"]
    assert {arguments[0] for arguments in found} == {
        "init", "doctor", "plan", "sync", "verify", "status", "clean",
    }  # fmt: skip
    for arguments in found:
        done = run_cli(*arguments, cwd=tmp_path, PGSLUICE_SOURCE=pair.source.dsn, PGSLUICE_TARGET=pair.target.dsn)
        assert done.code == 0, (arguments, done.out, done.err)
    for target in ("sales.orders", "raw.orders"):
        assert pair.target.image(target) == pair.source.image("sales.orders")
    assert pair.target.image("raw.totals") == pair.source.image("sales.totals")


def test_the_python_of_the_readme_copies_rows(pair: Pair) -> None:
    pair.source.execute(SHOP)
    (example,) = blocks(ROOT / "README.md", "python")
    assert SOURCE in example
    assert TARGET in example
    names: dict[str, object] = {}
    exec(example.replace(SOURCE, pair.source.dsn).replace(TARGET, pair.target.dsn), names)  # noqa: S102 - our own page
    result, report = names["result"], names["report"]
    since = pair.source.value("SELECT count(*) FROM sales.orders WHERE placed >= '2024-01-01'")
    assert 0 < since < 900
    assert getattr(result, "inserted", None) == since
    assert getattr(report, "exit_code", None) == 0
    assert pair.target.image("raw.orders") == pair.source.image("sales.orders")


def test_the_exit_codes_of_the_readme_are_those_of_the_command_line() -> None:
    table = text_of(ROOT / "README.md").partition("## Exit codes")[2].partition("## ")[0]
    listed = set(re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE))))
    told = (cli.help or "").partition("Exit codes:")[2]
    assert listed == set(re.findall(r"(?<![\w-])\d+(?!\w)", told))


# --- what if it dies

SIGKILLED = "137"  # the shell's word for it: no code of ours


def seen_rows(page: Path) -> Iterator[dict[str, str]]:
    """Return the rows of the tables whose last column says which test saw it."""
    header: list[str] = []
    for line in text_of(page).splitlines():
        cells = [cell.strip() for cell in line.split(" | ")] if line.startswith("| ") else []
        if cells and not header:
            header = [cell.strip("| ") for cell in cells]
        elif cells and header[-1] == "seen by":
            yield dict(zip(header, (cell.strip("| ") for cell in cells), strict=True))
        elif not line.startswith("|"):
            header = []


def test_every_row_of_what_if_was_seen_by_a_test_and_ends_with_a_code_of_the_readme() -> None:
    table = text_of(ROOT / "README.md").partition("## Exit codes")[2].partition("## ")[0]
    codes = {code for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in cell.split(", ")}
    rows = list(seen_rows(ROOT / "docs" / "what-if.md"))
    assert len(rows) > 30
    for row in rows:
        assert any(link["text"].startswith("test_") for link in _LINK.finditer(row["seen by"])), row
        assert set(row["exit"].split(", ")) <= codes | {SIGKILLED}, row


def test_every_row_of_the_threat_model_was_seen_by_a_test() -> None:
    rows = list(seen_rows(ROOT / "docs" / "security.md"))
    assert len(rows) > 25
    for row in rows:
        assert any(link["text"].startswith("test_") for link in _LINK.finditer(row["seen by"])), row
        assert row["could"], row
        assert row["what stops it"], row


def test_what_if_tells_of_every_step_of_a_run() -> None:
    page = ROOT / "docs" / "what-if.md"
    told = {step for row in seen_rows(page) for step in re.findall(r"\w+", row.get("step", ""))}
    assert "## COMMIT" in text_of(page)
    code = "".join(text_of(PACKAGE / name) for name in ("work.py", "landing.py", "commit.py"))
    steps = {name for pair in re.findall(r'\bstep\("(\w+)"|"(relay|sweep)":', code) for name in pair if name}
    assert {"staging", "relay", "merge", "cleanup"} < steps
    assert steps - {"commit"} <= told


# --- the control schema


def test_the_privileges_of_the_page_are_enough_to_sync_and_to_read_the_history(pair: Pair) -> None:
    page = ROOT / "docs" / "control-schema.md"
    grants = {block.partition("\n")[0]: block for block in blocks(page, "sql")}
    reader, writer = f"shop_reader_{pair.source.name}", f"lake_writer_{pair.target.name}"
    other = f"lake_other_{pair.target.name}"

    def script(title: str) -> str:
        script = grants[f"-- {title}"].replace("shop_reader", reader).replace("lake_writer", writer)
        return script.replace("DATABASE lake", f"DATABASE {pair.target.name}").replace("lake_admin", "postgres")

    def sync(*more: str, role: str = writer) -> Outcome:
        source = make_conninfo(pair.source.dsn, user=reader)
        target = make_conninfo(pair.target.dsn, user=role)
        return run_cli("sync", "--source", source, "--target", target, "--table", "sales.orders", *more)

    pair.source.execute(SHOP)
    pair.target.execute("CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY, placed timestamptz)")
    pair.source.execute(script("source"))
    pair.target.execute(script("target"))
    try:
        first = sync()
        assert first.code == 0, first.out + first.err
        pair.target.execute(script("target, after the first run"))
        for staging in ("temporary", "unlogged"):
            again = sync("--staging", staging)
            assert again.code == 0, again.out + again.err
        pair.target.execute("DROP SCHEMA pgsluice CASCADE")
        pair.target.execute(script("target").replace(writer, other))
        first = sync(role=other)
        assert first.code == 0, first.out + first.err
        pair.target.execute(f"GRANT USAGE, CREATE ON SCHEMA pgsluice TO {writer}")
        refused = sync()
        assert (refused.code, f"pgsluice belongs to {other}" in refused.err) == (6, True), refused
        for role in (writer, other):
            pair.target.execute(script("target, beside another role").replace(writer, role))
        for role in (writer, other):
            for staging in ("temporary", "unlogged"):
                again = sync("--staging", staging, role=role)
                assert again.code == 0, again.out + again.err
        pair.target.execute(grants["-- the last runs"])
    finally:
        pair.source.execute(f"DROP OWNED BY {reader}; DROP ROLE {reader}")
        for role in (writer, other):
            pair.target.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_the_columns_of_the_page_are_those_of_the_control_schema(pair: Pair) -> None:
    pair.source.execute(SHOP)
    assert pair.pgsluice("sync", "--table", "sales.orders").code == 0
    page = text_of(ROOT / "docs" / "control-schema.md")
    for table in ("job_state", "run", "run_table"):
        section = page.partition(f"### `{table}`")[2].partition("\n#")[0]
        cells = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
        told = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
        query = "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
        assert told == [name for (name,) in pair.target.rows(query, (f"pgsluice.{table}",))], table
    section = page.partition("### `runs` and `tables`")[2].partition("\n#")[0]
    for view in ("runs", "tables"):
        (cell,) = re.findall(rf"^\| `{view}` \| (.+) \|$", section, re.MULTILINE)
        told = re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", cell))
        assert told == [name for (name,) in pair.target.rows(query, (f"pgsluice.{view}",))], view


# --- what is refused

NEEDED = ["--table", "sales.orders"]
MESSAGES = {
    "unknown table": ["--table", "sales.ordres"],
    "pattern": ["--table", "nothing.*"],
    "no schema": ["--table", "orders"],
    "database": ["--table", "db.sales.orders"],
    "one place": ["--table", "sales.log", "--table", "sales.orders", "--to", "raw.one"],
    "empty key": [*NEEDED, "--key", "a,,b"],
    "limit": [*NEEDED, "--max-delete", "lots"],
    "choice": [*NEEDED, "--mode", "sideways"],
    "missing option": [],
    "unknown column": [*NEEDED, "--where", "nope > 1"],
    "no condition": [*NEEDED, "--where", "id"],
    "second statement": [*NEEDED, "--where", "id = 1; SELECT 1"],
    "bracket": [*NEEDED, "--where", "true) OR (true"],
    "no key": ["--table", "sales.log"],
    "key": [*NEEDED, "--key", "nope"],
    "json key": ["--table", "sales.j", "--key", "j"],
    "identity": ["--table", "sales.i"],
    "domain": ["--table", "sales.d"],
    "enum": ["--table", "sales.e"],
    "generated": ["--table", "sales.g", "--to", "raw.g"],
    "psql": [*NEEDED, "--lane", "psql", "--psql", "/nosuch"],
}
DEFINITIONS = {
    "extra": "TABLE sales.orders (id int PRIMARY KEY, note text, amount numeric(10,2), extra int NOT NULL)",
    "lacking": "TABLE sales.orders (id int PRIMARY KEY, amount numeric(10,2))",
    "narrow": "TABLE sales.orders (id int PRIMARY KEY, note text, amount numeric(8,1))",
    "used": "TABLE sales.orders (id int PRIMARY KEY, note text, amount numeric(8,1));"
    "CREATE VIEW sales.v AS SELECT amount FROM sales.orders",
    "view": "VIEW sales.orders AS SELECT 1 AS id, 'x'::text AS note, 1::numeric(10,2) AS amount",
    "condition": "TABLE sales.orders (id int PRIMARY KEY, note text)",
}


def on_the_page(done: Outcome) -> None:
    """See that the page quotes what the program said."""
    assert "Traceback" not in done.err
    said = (done.out + done.err).replace("python -m ", "")
    page = text_of(ROOT / "docs" / "what-is-refused.md")
    messages = [message for message in re.findall(r"`([^`\n]{20,})`", page) if message in said]
    assert messages, f"not on the page: {said}"


def test_the_messages_of_the_page_are_those_of_the_program(pair: Pair) -> None:
    pair.source.execute(REFUSED)
    pair.target.execute(BESIDE_REFUSED)
    for title, arguments in MESSAGES.items():
        done = pair.pgsluice("sync", *arguments)
        assert done.code in (2, 6), title
        on_the_page(done)


def test_the_messages_of_the_page_on_tables_that_do_not_fit_are_those_of_the_program(pair: Pair) -> None:
    pair.source.execute(REFUSED)
    for title, definition in DEFINITIONS.items():
        pair.target.execute(f"DROP SCHEMA IF EXISTS sales CASCADE; CREATE SCHEMA sales; CREATE {definition}")
        more = {"condition": ["--where", "amount > 3"], "used": ["--drift", "widen"]}.get(title, [])
        done = pair.pgsluice("sync", *NEEDED, *more)
        assert done.code == 6, title
        on_the_page(done)


def test_the_messages_of_the_page_at_the_gate_are_those_of_the_program(pair: Pair) -> None:
    pair.source.execute(REFUSED)
    assert pair.pgsluice("sync", *NEEDED).code == 0
    for remaining in (500, 0):
        pair.source.execute(f"DELETE FROM sales.orders WHERE id > {remaining}")
        done = pair.pgsluice("sync", *NEEDED)
        assert done.code == 6
        on_the_page(done)
    pair.source.execute("INSERT INTO sales.log VALUES ('twice'), ('twice')")
    done = pair.pgsluice("sync", "--table", "sales.log", "--key", "line")
    assert done.code == 6
    on_the_page(done)


# --- the floors


def modules() -> set[str]:
    """Return the modules of the package, as the floors name them: packages by their name, steps one by one."""
    found = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    steps = {f"steps.{path.stem}" for path in (PACKAGE / "steps").glob("*.py")}
    return (found | steps) - {"__init__", "steps", "steps.__init__"}


def floors() -> list[tuple[int, str]]:
    section = text_of(ROOT / "docs" / "architecture.md").partition("## Floors")[2].partition("\n## ")[0]
    return [(int(floor), name) for floor, name in re.findall(r"^\| (\d+) \| `([\w.]+)` \|", section, re.MULTILINE)]


def layers() -> list[set[str]]:
    """Return the layers of the import contract, the lowest first."""
    settings = tomllib.loads(text_of(ROOT / "pyproject.toml"))
    (contract,) = [each for each in settings["tool"]["importlinter"]["contracts"] if each["id"] == "floors"]
    return [set(layer.split(" | ")) for layer in reversed(contract["layers"])]


def test_the_floors_of_the_architecture_name_exactly_the_modules_that_exist() -> None:
    named = [name for _, name in floors()]
    assert len(named) == len(set(named))
    assert set(named) == modules()


def test_the_floors_of_the_architecture_are_the_layers_of_the_import_contract() -> None:
    described: dict[int, set[str]] = {}
    for floor, name in floors():
        described.setdefault(floor, set()).add(name.partition(".")[0])
    assert [described[floor] for floor in sorted(described)] == layers()


def test_the_floors_of_contributing_are_the_layers_of_the_import_contract() -> None:
    section = text_of(ROOT / "CONTRIBUTING.md").partition("## Floors")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?`) +\|", section, re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in reversed(rows)] == layers()


def test_every_file_of_a_package_is_named_in_its_floor() -> None:
    page = text_of(ROOT / "docs" / "architecture.md")
    for package in ("cli", "embedded", "sinks"):
        for path in (PACKAGE / package).glob("*.py"):
            assert path.stem == "__init__" or f"`{package}.{path.stem}`" in page, os.fspath(path)


def test_the_page_lists_every_function_that_a_default_may_call() -> None:
    section = text_of(ROOT / "docs" / "limits.md").partition("### What a default may call")[2].partition("\n## ")[0]
    functions, _, words = section.partition("and the words")
    assert set(re.findall(r"`(\w+)`", functions)) == LISTED
    assert {"CURRENT_USER", "SESSION_USER", "CURRENT_ROLE", "USER"} <= set(re.findall(r"`(\w+)`", words))


def test_no_row_stands_apart_from_its_table() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        lines = text_of(page).split("\n")
        for above, line, below in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
            if line.startswith("| ") and not above.startswith("|"):
                assert re.match(r"\| ?:?--", below), (page.name, line)
