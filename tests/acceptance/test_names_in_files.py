"""What a catalog says gets into the file that `init` writes as names and remarks, and as nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from servers import Database, Pair, run_cli

from pgsluice import config
from pgsluice.job import SyncJob, TableRef

#: Ends of lines: of a file, of YAML 1.1 and 1.2, of Unicode.
LINE_ENDS = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
#: What YAML takes for a value of another type, or for something other than a value.
YAML = (
    "null", "~", "yes", "No", "true", "1e3", "0x1f", "1_000", "1.5", ".inf", "2024-01-01", "2024-01-01T00:00:00Z", "<<", "=", "",
    "- a", "? a", ": a", "a: b", "a #b", "# a", "%YAML 1.1", "@a", "`a", "{a: b}", "[a]", "&a b", "*a", "!!python/name:os.system",
    "| a", "> a", "'a'", '"a"', "--- a", "...", "a\\nb", "a\\u000ab", " a ", "\ta", "a\u00a0", "\ufeffa", "a\x1b[2Jb", "a\x7f",
    "\u202ea", "a\uffff", "\U000e0041", "한글", "é", "🛒", "x" * 63,
)  # fmt: skip
REFERENCES = (
    "${file:secret}", "${cmd:touch PWNED}", "${HOME}", "$${file:secret}", "$$${cmd:touch PWNED}", "$", "$$", "${", "${}", "$HOME",
)  # fmt: skip


def create(source: Database, schema: str, table: str, column: str = "id") -> None:
    """Make a table with one column, which is its key."""
    script = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}; CREATE TABLE {} ({} int PRIMARY KEY)")
    with psycopg.connect(source.dsn, autocommit=True) as connection:
        connection.execute(
            script.format(sql.Identifier(schema), sql.Identifier(schema, table), sql.Identifier(column)), prepare=False
        )


def proposed(pair: Pair, folder: Path) -> str:
    """Let `init` write a file, and return it."""
    done = run_cli("init", "--source", pair.source.dsn, "--target", pair.target.dsn, cwd=folder)
    assert done.code == 0, done
    return (folder / "pgsluice.yaml").read_bytes().decode()


def jobs(pair: Pair, folder: Path) -> tuple[SyncJob, ...]:
    """Return the jobs that the proposed file makes of the source's tables."""
    tables = "SELECT schemaname::text, tablename::text FROM pg_tables WHERE schemaname !~ '^(pg_catalog|information_)'"
    found = [TableRef(*names) for names in pair.source.rows(tables)]
    known = config.load(folder / "pgsluice.yaml")
    assert len(known.tables.entries) == len(found)
    return known.tables.jobs(found)


def test_a_column_cannot_end_the_remark_that_names_it(pair: Pair, tmp_path: Path) -> None:
    for number, end in enumerate(LINE_ENDS):
        create(pair.source, "m", f"t{number}", f"""id{end}  "m.*": {{}}{end}notify: >{end}  sh -c 'id>PWNED' x""")
    text = proposed(pair, tmp_path)
    assert len(text.splitlines()) == text.count("\n") == 9 + 2 * len(LINE_ENDS)
    assert {job.source for job in jobs(pair, tmp_path)} == {TableRef("m", f"t{n}") for n in range(len(LINE_ENDS))}
    pair.source.execute("DROP SCHEMA m CASCADE")
    assert run_cli("sync", cwd=tmp_path).code == 2
    assert {path.name for path in tmp_path.iterdir()} == {"pgsluice.yaml"}


def test_no_schema_and_no_table_can_end_the_line_that_names_it(pair: Pair, tmp_path: Path) -> None:
    named = {TableRef("m", f't{end}notify: "sh"{end}') for end in LINE_ENDS}
    named |= {TableRef(f's{end}  "m.x": {{skip: true}}{end}', "t") for end in LINE_ENDS}
    for ref in named:
        create(pair.source, ref.schema, ref.name)
    text = proposed(pair, tmp_path)
    assert len(text.splitlines()) == text.count("\n") == 9 + 4 * len(LINE_ENDS)
    assert {(job.source, job.target) for job in jobs(pair, tmp_path)} == {(ref, ref) for ref in named}
    assert config.load(tmp_path / "pgsluice.yaml").settings.given().keys() == {"source", "target", "defaults", "tables"}


def test_names_that_mean_something_to_yaml_come_back_as_they_are(pair: Pair, tmp_path: Path) -> None:
    named = {TableRef("m", name) for name in YAML if name} | {TableRef(name, "t") for name in YAML if name}
    for ref in named:
        create(pair.source, ref.schema, ref.name, column=ref.name)
    text = proposed(pair, tmp_path)
    assert all(each.replace("\u00a0", " ").isprintable() for each in text.split("\n"))
    assert all(f'"m.{name}": {{}}' in text for name in ("한글", "é", "🛒"))
    assert {(job.source, job.target) for job in jobs(pair, tmp_path)} == {(ref, ref) for ref in named}


def test_a_cursor_is_never_taken_for_a_reference(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is as large as its file says: one that is mostly a hole is large enough to be proposed a cursor."""
    monkeypatch.chdir(tmp_path)
    Path("secret").write_text("S3cr3t")
    Path("secret").chmod(0o600)
    names = dict(enumerate(f"updated_{each}" for each in (*REFERENCES, *YAML[:-1], *LINE_ENDS)))
    pair.source.execute("CREATE SCHEMA m")
    make = sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, {} timestamptz NOT NULL)")
    with psycopg.connect(pair.source.dsn, autocommit=True) as connection:
        for number, name in names.items():
            connection.execute(make.format(sql.Identifier("m", f"t{number}"), sql.Identifier(name)))
    holes = [pair.source.cluster.data / path for (path,) in pair.source.rows(
        "SELECT pg_relation_filepath(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'm'::regnamespace"
    )]  # fmt: skip
    for hole in holes:
        os.truncate(hole, 1 << 30)
    proposed(pair, tmp_path)
    for hole in holes:
        os.truncate(hole, 0)
    assert {job.target.name: job.cursor for job in jobs(pair, tmp_path)} == {f"t{n}": name for n, name in names.items()}
    done = run_cli("plan", cwd=tmp_path)
    assert done.code == 0, done
    assert "S3cr3t" not in done.out + done.err
    assert {path.name for path in tmp_path.iterdir()} == {"pgsluice.yaml", "secret"}


def test_the_name_of_a_target_that_was_typed_is_no_reference(pair: Pair, tmp_path: Path) -> None:
    create(pair.source, "m", "t")
    done = run_cli("init", "--source", pair.source.dsn, "--to", "raw.${HOME}{table}", cwd=tmp_path)
    assert (done.code, "{HOME}, which stands for nothing" in done.err) == (2, True), done
    done = run_cli("init", "--source", pair.source.dsn, "--to", "raw.$HOME ${{table}", cwd=tmp_path)
    assert done.code == 0, done
    text = (tmp_path / "pgsluice.yaml").read_text()
    (tmp_path / "pgsluice.yaml").write_text(text.replace("${PGSLUICE_TARGET}", "service=x"))
    (job,) = jobs(pair, tmp_path)
    assert job.target == TableRef("raw", "$HOME ${t")
