"""``pgsluice doctor`` says what would keep a run from going well, by name and with the way out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from servers import Pair, run_cli

from pgsluice import Options
from pgsluice.diagnosis import Verdict, diagnose
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint
from pgsluice.facts import Vitals
from pgsluice.steps import catalog, vitals

#: What servers that are thrown away may do without.
UNSAFE = {"fsync", "full_page_writes"}
TABLES = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int); CREATE TABLE s.keyless (v int);"


@pytest.fixture
def shop(pair: Pair) -> Pair:
    pair.source.execute(TABLES)
    return pair


def examined(pair: Pair, *arguments: str, code: int) -> dict[tuple[str, str], dict[str, Any]]:
    servers = ("--source", pair.source.dsn, "--target", pair.target.dsn)
    done = run_cli("doctor", *servers, *arguments, "--json")
    assert done.code == code, done
    return {(line["side"], line["subject"]): line for line in done.lines if "subject" in line}


def test_two_servers_that_are_well_are_found_so_and_nothing_is_written(shop: Pair) -> None:
    found = examined(shop, "--table", "s.t", code=0)
    assert {subject for (_, subject), line in found.items() if line["verdict"] != "ok"} <= UNSAFE
    assert found["target", "s.t"]["said"] == "can be copied from s.t (full)"
    assert found["source", "server"]["said"].startswith("PostgreSQL 16, role postgres, database ")
    assert shop.target.value("SELECT to_regnamespace('pgsluice') IS NULL AND to_regnamespace('s') IS NULL")


def test_what_is_refused_is_a_failure_with_its_way_out(shop: Pair) -> None:
    found = examined(shop, "--table", "s.*", code=6)
    assert found["target", "s.t"]["verdict"] == "ok"
    assert found["target", "s.keyless"]["verdict"] == "failure"
    assert "name the columns that do with --key a,b" in found["target", "s.keyless"]["said"]


def test_a_role_that_lacks_rights_and_sessions_is_told_what_to_grant(shop: Pair) -> None:
    role = f"poor_{shop.source.name}"
    shop.source.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 4; GRANT USAGE ON SCHEMA s TO {role}")
    try:
        dsn = shop.source.dsn.replace("postgres@", f"{role}@")
        done = run_cli("doctor", "--source", dsn, "--target", shop.target.dsn, "--table", "s.t", "--jobs", "4")
        assert done.code == 6, done
        lines = done.out.splitlines()
        assert f"FAILURE  target  s.t: Role {role} may not read the source: GRANT SELECT ON s.t TO {role};" in lines
        assert any(line.startswith("FAILURE  source  connections: 10 needed, ") for line in lines), lines
        assert any(f"GRANT pg_read_all_stats TO {role};" in line for line in lines)
        assert lines[-1].startswith("2 failures, ")
    finally:
        shop.source.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_servers_that_are_not_fit_are_told_by_each_of_their_faults(source_cluster: Cluster) -> None:
    with Endpoint(source_cluster.dsn, read_only=True).open() as session:
        well = vitals.look(session, catalog.server(session))
    well = dataclasses.replace(well, settings={**well.settings, **dict.fromkeys(UNSAFE, "on")})
    assert abs(well.clock) < 60
    assert well.free > 0

    def told(relations: int = 1, **changed: Any) -> dict[tuple[str, str], str]:
        ill = dataclasses.replace(well, **changed)
        found = diagnose(ill, ill, Options(jobs=1), relations)
        return {(each.side, each.subject): each.said for each in found if each.verdict is not Verdict.OK}

    def server(**changed: Any) -> dict[str, Any]:
        return {"server": dataclasses.replace(well.server, **changed)}

    def setting(name: str, value: str) -> dict[str, Any]:
        return {"settings": {**well.settings, name: value}}

    assert told() == {}
    assert ("source", "server") in told(**server(version=130000))
    assert ("target", "server") in told(**server(version=140000))
    assert "newer than what this release was tried on" in told(**server(version=190000))["source", "server"]
    assert "let NTP set both" in told(clock=-60.0)["source", "clock"]
    assert "raise max_connections" in told(connections=well.used + 2)["target", "connections"]
    assert ("source", "connections") in told(database=(3, 2))
    assert ("source", "connections") in told(role=(3, 2))
    assert "max_locks_per_transaction" in told(relations=well.locks)["source", "locks"]
    assert "connect to the primary" in told(**server(in_recovery=True))["target", "writes"]
    assert ("target", "writes") in told(**setting("default_transaction_read_only", "on"))
    assert ("target", "fsync") in told(**setting("fsync", "off"))
    standby = {**server(in_recovery=True), **setting("hot_standby_feedback", "off")}
    assert "hot_standby_feedback = on" in told(**standby)["source", "standby"]
    assert isinstance(well, Vitals)
