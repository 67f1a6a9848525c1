"""What users let run around their tables, and whom they let be told: pre_sql, post_sql, group, notify, max_connections."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from servers import Pair, run_cli


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY); CREATE TABLE s.b (id int PRIMARY KEY);
        INSERT INTO s.a VALUES (1), (2); INSERT INTO s.b VALUES (1)"""
    )
    pair.target.execute("CREATE TABLE told (at bigserial, what text, rows bigint)")
    return pair


def configured(shop: Pair, folder: Path, text: str, *arguments: str) -> Any:
    file = folder / "pgsluice.yaml"
    file.write_text(f"source: ${{SHOP}}\ntarget: ${{LAKE}}\n{text}")
    return run_cli("sync", "-c", str(file), *arguments, cwd=folder, SHOP=shop.source.dsn, LAKE=shop.target.dsn)


def test_pre_sql_and_post_sql_run_once_around_their_table_in_transactions_of_their_own(
    shop: Pair, tmp_path: Path
) -> None:
    file = """
tables:
  s.a:
    pre_sql: "SET search_path = s; INSERT INTO public.told (what) VALUES ('before; $1 %s {x} ${X}')"
    post_sql: INSERT INTO public.told (what, rows) SELECT 'after', count(*) FROM s.a
  s.b: {}
"""
    done = configured(shop, tmp_path, file, "--json")
    assert done.code == 0, done.err
    assert shop.target.rows("SELECT what, rows FROM told ORDER BY at") == [
        ("before; $1 %s {x} ${X}", None),
        ("after", 2),
    ]
    steps = {line["target"]: list(line["steps"]) for line in done.lines if "target" in line}
    assert ("pre_sql" in steps["s.a"], "post_sql" in steps["s.a"], "pre_sql" in steps["s.b"]) == (True, True, False)


def test_a_table_whose_pre_sql_fails_is_left_as_it_was(shop: Pair) -> None:
    assert shop.pgsluice("sync", "--table", "s.a").code == 0
    shop.source.execute("INSERT INTO s.a VALUES (3)")
    failed = shop.pgsluice(
        "sync", "--table", "s.a", "--pre-sql", "INSERT INTO public.told (what) VALUES ('x'); SELECT 1/0", "--json"
    )
    assert failed.code == 1
    assert (failed.lines[0]["step"], failed.lines[0]["sqlstate"]) == ("pre_sql", "22012")
    assert shop.target.value("SELECT count(*) FROM s.a") == 2
    assert shop.target.value("SELECT count(*) FROM told") == 0


def test_a_post_sql_that_fails_leaves_the_rows_and_is_told_until_a_run_does_it(shop: Pair) -> None:
    post = ("--post-sql", "INSERT INTO public.later SELECT count(*) FROM s.a")
    failed = shop.pgsluice("sync", "--table", "s.*", *post, "--json")
    assert failed.code == 1
    assert {line["target"]: (line["status"], line["step"]) for line in failed.lines if "target" in line} == {
        "s.a": ("failed", "post_sql"),
        "s.b": ("failed", "post_sql"),
    }
    assert failed.lines[0]["error"].startswith("the rows are committed, and what shall follow failed: relation ")
    assert shop.target.image("s.a") == shop.source.image("s.a")
    assert shop.target.rows("SELECT done, failed FROM pgsluice.runs") == [(0, 2)]
    shop.target.execute("CREATE TABLE later (n bigint)")
    again = shop.pgsluice("sync", "--table", "s.*", *post, "--resume", "last")
    assert again.code == 0, again.err
    assert shop.target.rows("SELECT n FROM later") == [(2,), (2,)]


def test_a_list_of_statements_runs_each_by_itself_so_that_vacuum_and_concurrent_indexes_work(
    shop: Pair, tmp_path: Path
) -> None:
    file = """
tables:
  s.a:
    pre_sql: [SET search_path = s, "INSERT INTO public.told (what) VALUES ('a;b'); INSERT INTO public.told (what) VALUES ('c')"]
    post_sql:
      - CREATE INDEX CONCURRENTLY by_id ON s.a (id)
      - VACUUM (ANALYZE) s.a;
      - "INSERT INTO public.told (what) VALUES ('once'); SELECT 1/0"
      - INSERT INTO public.told (what) VALUES ('never')
"""
    done = configured(shop, tmp_path, file, "--json")
    assert (done.code, done.lines[0]["step"], done.lines[0]["sqlstate"]) == (1, "post_sql", "22012"), done
    assert shop.target.rows("SELECT what FROM told ORDER BY at") == [("a;b",), ("c",)]
    assert shop.target.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 's.by_id'::regclass")
    assert shop.target.value("SELECT reltuples::int FROM pg_class WHERE oid = 's.a'::regclass") == 2
    again = shop.pgsluice(
        "sync",
        "--table",
        "s.a",
        "--post-sql",
        "VACUUM s.a",
        "--post-sql",
        "INSERT INTO public.told (what) VALUES ('ran')",
    )
    assert again.code == 0, again.err
    assert shop.target.value("SELECT count(*) FROM told WHERE what = 'ran'") == 1


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("ANALYZE public.Later", 'relation "public.later" does not exist'),
        ('VACUUM s."Not ""there"', 'relation "s.Not "there" does not exist'),
        ("ALTER TABLE s.a DROP COLUMN nope", 'column "nope" of relation "a" does not exist'),
        ("CREATE INDEX ON lost.a (id)", 'schema "lost" does not exist'),
        ("REFRESH MATERIALIZED VIEW s.gone", 'relation "s.gone" does not exist'),
        ("DROP TABLE s.x; DROP TABLE s.y", 'table "x" does not exist'),
        ("GRANT SELECT ON s.a TO nobody_here", 'role "nobody_here" does not exist'),
        ("DO $$BEGIN EXECUTE format('DROP TABLE s.%I', (SELECT 'se' || 'cret')); END$$", 'table "***" does not exist'),
        ("INSERT INTO s.a SELECT ('se' || 'cret')::int", 'invalid input syntax for type integer: "***"'),
    ],
)
def test_an_error_of_a_users_own_statement_shows_the_names_that_stand_in_it_and_no_value(
    shop: Pair, statement: str, message: str
) -> None:
    failed = shop.pgsluice("sync", "--table", "s.a", "--post-sql", statement, "--json")
    assert (failed.code, failed.lines[0]["step"]) == (1, "post_sql"), failed
    assert failed.lines[0]["error"] == f"the rows are committed, and what shall follow failed: {message}"


def test_a_plan_shows_them_and_a_preview_leaves_them_out(shop: Pair) -> None:
    around = ("--pre-sql", "INSERT INTO public.told (what) VALUES ('before')", "--post-sql", "SELECT 'after'")
    told = shop.pgsluice("plan", "--table", "s.a", *around).out
    assert told.index("INSERT INTO public.told (what) VALUES ('before')") < told.index("SELECT 'after'")
    assert shop.pgsluice("plan", "--table", "s.a", "--exact", *around).code == 0
    assert shop.target.value("SELECT count(*) FROM told") == 0


def test_tables_of_a_group_commit_together_and_are_chosen_by_its_name(shop: Pair, tmp_path: Path) -> None:
    shop.source.execute("CREATE TABLE s.c (id int PRIMARY KEY)")
    file = "tables:\n  s.*: {}\n  s.a: {group: nightly}\n  s.c: {group: nightly}\n"
    chosen = configured(shop, tmp_path, file, "--select", "group:nightly", "--json")
    assert [line["target"] for line in chosen.lines if "target" in line] == ["s.a", "s.c"]
    shop.target.execute("ALTER TABLE s.c ADD CHECK (id < 10)")
    shop.source.execute("INSERT INTO s.a VALUES (3); INSERT INTO s.b VALUES (3); INSERT INTO s.c VALUES (30)")
    failed = configured(shop, tmp_path, file, "--json")
    assert failed.code == 3
    assert {line["target"]: line["status"] for line in failed.lines if "target" in line} == {
        "s.a": "failed",
        "s.b": "done",
        "s.c": "failed",
    }
    assert shop.target.value("SELECT count(*) FROM s.a") == 2
    unknown = configured(shop, tmp_path, file, "--select", "group:weekly")
    assert unknown.code == 2
    assert "no table of the file matches group:weekly" in unknown.err


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Listen as a chat's webhook does, and keep what comes."""
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if self.path == "/s3cret" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/s3cret", heard
        server.shutdown()
        thread.join()


def test_a_url_is_told_of_a_failure_and_of_its_end_and_of_nothing_else(
    shop: Pair, tmp_path: Path, hook: tuple[str, list[dict[str, Any]]]
) -> None:
    url, heard = hook
    file = f"notify: {url}\ntables: {{s.*: {{}}}}\n"
    assert configured(shop, tmp_path, file).code == 0
    assert heard == []
    shop.source.execute("DELETE FROM s.a")
    assert configured(shop, tmp_path, file).code == 3
    assert [(each["status"], [table["target"] for table in each["failed"]]) for each in heard] == [("failed", ["s.a"])]
    assert "2 of 2 rows (100 %) would be deleted" in heard[0]["text"]
    assert configured(shop, tmp_path, file, "--max-delete", "100%").code == 0
    assert configured(shop, tmp_path, file).code == 0
    assert [(each["status"], each["recovered"]) for each in heard[1:]] == [("recovered", ["s.a"])]
    gone = run_cli(
        "sync", "--source", "host=127.0.0.1 port=1", "--target", shop.target.dsn, "--table", "s.a", "--notify", url,
        "--retries", "0",
    )  # fmt: skip
    assert gone.code != 0
    assert heard[-1]["text"].startswith("pgsluice: a run could not begin: ")


def test_a_program_is_told_on_its_stdin_and_what_it_does_wrong_is_a_warning(shop: Pair, tmp_path: Path) -> None:
    script = tmp_path / "tell.py"
    script.write_text("import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())")
    told = tmp_path / "told; rm -rf x.json"
    file = f"notify: [{sys.executable}, {script}, '{told}']\ntables: {{s.nothing: {{}}}}\n"
    assert configured(shop, tmp_path, file).code == 2
    assert json.loads(told.read_text())["status"] == "failed"
    wrong = shop.pgsluice("sync", "--table", "s.nothing", "--notify", "/no/such/program s3cret")
    assert wrong.code == 2
    assert "warning: the notification could not be delivered" in wrong.err
    assert "s3cret" not in wrong.err


def test_a_run_opens_no_more_sessions_than_it_may(shop: Pair) -> None:
    shop.target.execute(f"ALTER DATABASE {shop.target.name} CONNECTION LIMIT 4")
    limited = shop.pgsluice("sync", "--table", "s.*", "--jobs", "8", "--max-connections", "4")
    assert limited.code == 0, limited.err
    few = shop.pgsluice("sync", "--table", "s.*", "--max-connections", "3")
    assert (few.code, few.err) == (
        2,
        "pgsluice: a run opens up to 4 sessions on a side, and 3 may be open\nAllow more of them.\n",
    )
