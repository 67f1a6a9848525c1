"""What `status --max-age` calls late: jobs that are meant to be done, and none that nobody wants."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Outcome, Pair, run_cli

FILE = (
    "source: ${SHOP}\ntarget: ${LAKE}\ntables: {s.t: {to: 'raw.{table}'}, raw.sums: {query: SELECT 1 AS id, key: id}}\n"
)
LATE = ("status", "--max-age", "26h", "--json")


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, at timestamptz DEFAULT now() NOT NULL)")
    pair.source.execute("INSERT INTO s.t VALUES (1), (2)")
    return pair


def ages(shop: Pair) -> None:
    shop.target.execute("UPDATE pgsluice.run_table SET recorded_at = recorded_at - interval '27 hours'")


def told(done: Outcome) -> dict[str, bool]:
    return {line["target"]: line["is_late"] for line in done.lines if "target" in line}


def in_folder(folder: Path, shop: Pair, *arguments: str) -> Outcome:
    return run_cli(*arguments, cwd=folder, timeout=120, SHOP=shop.source.dsn, LAKE=shop.target.dsn)


def test_status_with_a_file_speaks_of_the_jobs_of_the_file(shop: Pair, tmp_path: Path) -> None:
    assert shop.pgsluice("sync", "--table", "s.t", "--to", "lab.try").code == 0
    ages(shop)
    file = tmp_path / "nightly.yaml"
    file.write_text(FILE)
    assert told(never := in_folder(tmp_path, shop, *LATE, "-c", file.name)) == {"raw.t": True, "raw.sums": True}
    assert never.code == 1
    assert in_folder(tmp_path, shop, "sync", "-c", file.name, "--select", "raw.t").code == 0
    assert told(in_folder(tmp_path, shop, *LATE, "-c", file.name)) == {"raw.t": False, "raw.sums": True}
    assert in_folder(tmp_path, shop, "sync", "-c", file.name).code == 0
    done = in_folder(tmp_path, shop, *LATE, "-c", file.name)
    assert (done.code, told(done)) == (0, {"raw.t": False, "raw.sums": False})
    assert told(shop.pgsluice(*LATE)) == {"lab.try": True, "raw.t": False, "raw.sums": False}
    runs = in_folder(tmp_path, shop, "status", "-c", file.name, "--json").lines
    assert [{table["target"] for table in run["tables"]} for run in runs[:-1]] == [{"raw.sums", "raw.t"}, {"raw.t"}]
    file.write_text(FILE.replace("s.t: {to: 'raw.{table}'}", "s.*: {to: 'raw.{table}'}, s.u: {skip: true}"))
    assert told(in_folder(tmp_path, shop, *LATE, "-c", file.name)) == {"raw.t": False, "raw.sums": False}
    file.write_text(FILE.replace("s.t", "other.*"))
    done = in_folder(tmp_path, shop, *LATE, "-c", file.name)
    assert (done.code, told(done)) == (1, {"raw.{table}": True, "raw.sums": False})


def test_what_its_plan_refuses_is_no_job_that_could_be_late(shop: Pair) -> None:
    shop.source.execute("CREATE TABLE s.bare (v int)")
    shop.target.execute("CREATE SCHEMA s; CREATE TABLE s.bare (v int)")
    assert shop.pgsluice("sync", "--table", "s.t").code == 0
    assert shop.pgsluice("sync", "--table", "s.bare").code == 6
    assert shop.pgsluice("sync", "--table", "s.t", "--where", "nonsense").code == 2
    done = shop.pgsluice(*LATE)
    assert (done.code, told(done)) == (0, {"s.bare": False, "s.t": False})
    shop.target.execute("ALTER TABLE s.bare ADD UNIQUE (v)")
    shop.source.execute("INSERT INTO s.bare VALUES (NULL)")
    assert shop.pgsluice("sync", "--table", "s.bare", "--key", "v").code == 6  # by its rows
    assert told(shop.pgsluice(*LATE)) == {"s.bare": True, "s.t": False}


def test_forget_takes_a_targets_position_and_lateness_and_leaves_its_history(shop: Pair) -> None:
    way = ("--table", "s.t", "--mode", "incremental", "--cursor", "at", "--late-rows", "trust")
    assert shop.pgsluice("sync", *way, "--to", "lab.try").code == 0
    assert shop.pgsluice("sync", *way).code == 0
    ages(shop)
    assert shop.pgsluice(*LATE).code == 1
    asked = shop.pgsluice("forget", "lab.try")
    assert (asked.code, "--yes" in asked.err) == (2, True)
    assert shop.pgsluice("sync", *way).code == 0
    (said,) = shop.pgsluice("forget", "lab.try", "--yes", "--json").lines
    assert (said["target"], said["positions"], said["sources"]) == ("lab.try", 1, ["s.t"])
    done = shop.pgsluice(*LATE)
    assert (done.code, told(done)) == (0, {"s.t": False})
    assert shop.target.rows("SELECT target FROM pgsluice.job_state") == [("s.t",)]
    assert shop.target.rows("SELECT target FROM pgsluice.tables") == [("s.t",)]
    assert shop.target.rows("SELECT count(*) FROM lab.try") == [(2,)]
    history = shop.pgsluice("status", "lab.try").out.splitlines()[1:]
    assert ["forgotten" in line for line in history] == [True, False]
    again = shop.pgsluice("forget", "lab.try", "--yes")
    assert (again.code, "no job" in again.err) == (2, True)
    assert shop.pgsluice("sync", *way, "--to", "lab.try").code == 0
    assert told(shop.pgsluice(*LATE)) == {"lab.try": False, "s.t": False}
    shop.source.execute("ALTER TABLE s.t ADD CHECK (true); INSERT INTO s.t VALUES (3)")
    assert shop.pgsluice("sync", *way, "--to", "lab.try", "--keep-history", "1d").code == 0
    assert told(shop.pgsluice(*LATE)) == {"lab.try": False, "s.t": False}


def test_forget_asks_on_a_terminal(shop: Pair) -> None:
    assert shop.pgsluice("sync", "--table", "s.t").code == 0
    for answer, left in (("n", 1), ("y", 0)):
        outer, inner = pty.openpty()
        os.write(outer, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "pgsluice", "forget", "s.t", "--target", shop.target.dsn],
            stdin=inner, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        os.close(outer)
        os.close(inner)
        assert done.returncode == (1 if left else 0), done
        assert len([line for line in shop.pgsluice(*LATE).lines if "target" in line]) == left
    assert json.loads(shop.pgsluice(*LATE).out)["tables"] == 0
