"""Which servers a command speaks of: named first, kept in every record, and the ones that were meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from servers import Database, Outcome, Pair, database, run_cli

from pgsluice.embedded import Cluster

FILE = "source: ${SHOP}\ntarget: ${LAKE}\ntables: {s.t: {to: raw.t}}\n"


@pytest.fixture
def shop(pair: Pair) -> Pair:
    """Give both servers a login of their own name, with a password that nobody may see."""
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS id; ALTER TABLE s.t ADD PRIMARY KEY (id)")
    return Pair(
        *(
            Database(each.cluster, each.name, make_conninfo(each.dsn, password="S3cr3t"))
            for each in (pair.source, pair.target)
        )
    )


def named(where: Database, standing: str = "") -> str:
    parts = conninfo_to_dict(where.dsn)
    version = where.value("SELECT split_part(current_setting('server_version'), ' ', 1)")
    return f"{parts['user']}@{parts['host']}:{parts['port']}/{where.name} ({version}{standing})"


def ends(shop: Pair) -> str:
    return f"source {named(shop.source, ', primary')} -> target {named(shop.target)}"


def run(folder: Path, shop: Pair, *arguments: str, **environment: str) -> Outcome:
    dsns = {"SHOP": shop.source.dsn, "LAKE": shop.target.dsn, **environment}
    done = run_cli(*arguments, timeout=120, cwd=folder, **dsns)
    assert "S3cr3t" not in done.out + done.err
    return done


@pytest.mark.parametrize("command", ["plan", "sync", "verify", "doctor", "status"])
def test_a_command_says_first_which_servers_it_speaks_of(shop: Pair, tmp_path: Path, command: str) -> None:
    (tmp_path / "pgsluice.yaml").write_text(FILE)
    run(tmp_path, shop, "sync")
    done = run(tmp_path, shop, command)
    assert done.code == 0, done
    assert done.out.splitlines()[0] == (f"target {named(shop.target)}" if command == "status" else ends(shop))
    assert command != "sync" or ends(shop) in done.err.splitlines()
    summary = run(tmp_path, shop, command, "--json").lines[-1]
    assert summary["target_server"] == named(shop.target)
    assert command == "status" or summary["source_server"] == named(shop.source, ", primary")


def test_a_run_that_can_not_begin_has_said_where_it_looked(shop: Pair, tmp_path: Path) -> None:
    (tmp_path / "pgsluice.yaml").write_text(FILE.replace("s.t", "s.nothing"))
    for command in ("plan", "sync", "verify"):
        done = run(tmp_path, shop, command)
        assert done.code == 2, done
        assert ends(shop) in (done.out + done.err).splitlines()


def test_events_history_and_page_hold_the_servers(shop: Pair, tmp_path: Path) -> None:
    (tmp_path / "pgsluice.yaml").write_text(FILE)
    done = run(tmp_path, shop, "sync", "--log-format", "json")
    first = json.loads(done.err.splitlines()[0])
    servers = {"source_server": named(shop.source, ", primary"), "target_server": named(shop.target)}
    assert {"event": "connected", **servers}.items() <= first.items()
    last = json.loads(done.err.splitlines()[-1])["report"]
    assert servers.items() <= last.items()
    assert shop.target.rows("SELECT source_server, target_server FROM pgsluice.runs") == [tuple(servers.values())]
    (kept, _) = run(tmp_path, shop, "status", "--json").lines
    assert servers.items() <= kept.items()
    page = run(tmp_path, shop, "report", "-o", "-").out
    assert all(server in page for server in servers.values())


def test_a_history_without_the_servers_can_still_be_read(shop: Pair, tmp_path: Path) -> None:
    (tmp_path / "pgsluice.yaml").write_text(FILE)
    run(tmp_path, shop, "sync")
    shop.target.execute(
        "DROP VIEW pgsluice.runs; ALTER TABLE pgsluice.run DROP COLUMN source_server, DROP COLUMN target_server"
    )
    (kept, _) = run(tmp_path, shop, "status", "--json").lines
    assert (kept["status"], kept["source_server"]) == ("done", None)
    assert run(tmp_path, shop, "sync").code == 0
    assert run(tmp_path, shop, "status", "--json").lines[0]["target_server"] == named(shop.target)


@pytest.fixture
def other(target_cluster: Cluster) -> Iterator[Database]:
    with database(target_cluster) as other:
        yield other


def lands(database: Database) -> bool:
    return bool(database.value("SELECT to_regclass('raw.t') IS NOT NULL"))


@pytest.mark.parametrize("name", ["prod.yaml", "pgsluice.yaml"])
def test_a_variable_stands_below_a_named_file_and_above_the_folders(
    shop: Pair, other: Database, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(FILE)
    is_named = name != "pgsluice.yaml"
    done = run(tmp_path, shop, "sync", *(["-c", name] if is_named else []), PGSLUICE_TARGET=other.dsn)
    assert done.code == 0, done
    assert (lands(shop.target), lands(other)) == (is_named, not is_named)
    said = (
        f"PGSLUICE_TARGET is passed over: {name}:2 has target"
        if is_named
        else f"PGSLUICE_TARGET stands above target in {name}:2"
    )
    assert f"pgsluice: warning: {said}" in done.err.splitlines()
    status = run(tmp_path, shop, "status", *(["-c", name] if is_named else []), PGSLUICE_TARGET=other.dsn)
    assert status.out.splitlines()[0] == f"target {named(shop.target if is_named else other)}"
    assert said in status.err


def test_what_is_typed_stands_above_all_and_says_which_variable_it_passes_over(
    shop: Pair, other: Database, tmp_path: Path
) -> None:
    (tmp_path / "prod.yaml").write_text(FILE)
    done = run(tmp_path, shop, "sync", "-c", "prod.yaml", "--target", other.dsn, PGSLUICE_TARGET=shop.target.dsn)
    assert done.code == 0, done
    assert lands(other)
    assert "pgsluice: warning: PGSLUICE_TARGET is passed over: --target was typed" in done.err.splitlines()
    same = run(tmp_path, shop, "plan", "-c", "prod.yaml", PGSLUICE_TARGET=shop.target.dsn)
    assert "PGSLUICE_TARGET" not in same.err, "it says the same"


def test_variables_of_other_settings_stand_at_the_same_place(shop: Pair, tmp_path: Path) -> None:
    shop.source.execute("CREATE TABLE s.u (id int PRIMARY KEY)")
    text = "source: ${SHOP}\ntarget: ${LAKE}\nretries: 3\ntables:\n  s.t: {mode: upsert}\n  s.u: {}\n"
    (tmp_path / "prod.yaml").write_text(text)
    (tmp_path / "pgsluice.yaml").write_text(text)
    variables = {"PGSLUICE_MODE": "append", "PGSLUICE_TABLE": "s.nothing", "PGSLUICE_VERIFY": "hash"}
    done = run(tmp_path, shop, "sync", "-c", "prod.yaml", "--json", **variables)
    assert {line["target"]: (line["mode"], line["verified"]) for line in done.lines if "target" in line} == {
        "s.t": ("upsert", "hash"), "s.u": ("append", "hash"),
    }, done  # fmt: skip
    warned = [line for line in done.err.splitlines() if "PGSLUICE_" in line]
    assert [re.findall(r"PGSLUICE_\w+ is passed over: prod\.yaml\S*", line) for line in warned] == [
        ["PGSLUICE_MODE is passed over: prod.yaml:5"],
        ["PGSLUICE_TABLE is passed over: prod.yaml:4"],
    ]
    del variables["PGSLUICE_TABLE"]
    done = run(tmp_path, shop, "plan", "--json", **variables)
    assert {line["mode"] for line in done.lines if "target" in line} == {"append"}
    assert "PGSLUICE_MODE stands above mode in pgsluice.yaml:5" in done.err


EXPECTED = """
expect:
  database: {database}
  system_identifier: {system}
  source:
    database: {source}
"""


@pytest.mark.parametrize("wrong", ["", "database", "system", "source"])
def test_a_file_that_expects_another_server_refuses_this_one_by_name(shop: Pair, tmp_path: Path, wrong: str) -> None:
    system = shop.target.value("SELECT system_identifier::text FROM pg_control_system()")
    right = {"database": shop.target.name, "system": system, "source": shop.source.name}
    asked = {**right, **({wrong: "1234567"} if wrong else {})}
    (tmp_path / "pgsluice.yaml").write_text(FILE + EXPECTED.format(**asked))
    for command in ("plan", "sync", "verify", "doctor", "status", "report", "clean"):
        done = run(tmp_path, shop, command)
        if not wrong or (wrong == "source" and command in ("status", "report", "clean")):
            assert done.code == 0, done
        else:
            server = shop.source if wrong == "source" else shop.target
            assert done.code == 6, done
            assert named(server, ", primary" if wrong == "source" else "") in done.err
            assert "1234567" in done.err
    assert lands(shop.target) == (not wrong)


def test_a_server_that_hides_its_identity_is_not_the_one_expected(shop: Pair, tmp_path: Path) -> None:
    role = f"blind_{shop.target.name}"
    shop.target.execute(f"CREATE ROLE {role} LOGIN; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    try:
        (tmp_path / "pgsluice.yaml").write_text(FILE + "expect: {system_identifier: 7}\n")
        done = run(tmp_path, shop, "status", LAKE=make_conninfo(shop.target.dsn, user=role))
        assert done.code == 6, done
        assert f"pg_control_recovery() TO {role};" in done.err
    finally:
        shop.target.execute(f"GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC; DROP ROLE {role}")
