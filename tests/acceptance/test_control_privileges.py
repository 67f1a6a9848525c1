"""A role that may not use all of the control schema is told which privilege it lacks, and nothing that isn't known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from psycopg.conninfo import make_conninfo
from servers import Outcome, Pair, run_cli

WAYS = {
    "full": (),
    "append": ("--mode", "append"),
    "xmin": ("--mode", "xmin"),
    "incremental": ("--mode", "incremental", "--cursor", "id", "--late-rows", "trust"),
}
#: What may be taken from a writer, and the line that gives it back.
TAKEN = {
    "USAGE ON SCHEMA pgsluice": "GRANT USAGE, CREATE ON SCHEMA pgsluice TO {};",
    "SELECT ON pgsluice.target": "{0} lacks SELECT on pgsluice.target: GRANT SELECT, INSERT, UPDATE ON pgsluice.target TO {0};",
    "SELECT ON pgsluice.job_state": "GRANT SELECT, INSERT, UPDATE ON pgsluice.job_state TO {};",
    "INSERT, SELECT ON pgsluice.run_table": "{0} lacks SELECT, INSERT on pgsluice.run_table: GRANT SELECT, INSERT, ",
    "UPDATE ON pgsluice.run": "{0} lacks UPDATE on pgsluice.run: GRANT ",
}
#: What nobody can know who can't read the state.
CLAIMS = ("no state", "copied twice", "full-refresh", "first run", "every row", "read again")


@dataclass(frozen=True)
class Writer:
    """A role that writes beside the one that made the control schema."""

    pair: Pair
    name: str

    def run(self, command: str, *arguments: str) -> Outcome:
        target = make_conninfo(self.pair.target.dsn, user=self.name)
        return run_cli(command, "--source", self.pair.source.dsn, "--target", target, "--table", "s.t", *arguments)


@pytest.fixture
def writer(pair: Pair) -> Iterator[Writer]:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1), (2)")
    name = f"writer_{pair.target.name}"
    pair.target.execute(f"CREATE ROLE {name} LOGIN; CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)")
    for way in (way for mode, way in WAYS.items() if mode != "full"):
        pair.target.execute("TRUNCATE s.t")
        assert pair.pgsluice("sync", "--table", "s.t", *way).code == 0
    pair.target.execute(
        f"GRANT USAGE, CREATE ON SCHEMA pgsluice, s TO {name}; GRANT ALL ON ALL TABLES IN SCHEMA pgsluice, s TO {name}"
    )
    yield Writer(pair, name)
    pair.target.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


@pytest.mark.parametrize("taken", TAKEN)
def test_what_a_role_lacks_on_the_control_schema_is_all_that_it_is_told(writer: Writer, taken: str) -> None:
    writer.pair.target.execute(f"REVOKE {taken} FROM {writer.name}")
    before = writer.pair.target.rows("TABLE pgsluice.job_state ORDER BY 1")
    for mode, way in WAYS.items():
        for command in ("plan", "doctor", "sync"):
            done = writer.run(command, *way)
            said = done.out + done.err
            assert done.code == 6, (mode, command, done)
            assert TAKEN[taken].format(writer.name) in said, (mode, command, done)
            assert "42501" not in said, (mode, command, done)
            assert not [claim for claim in CLAIMS if claim in said], (mode, command, said)
    assert writer.pair.target.rows("TABLE pgsluice.job_state ORDER BY 1") == before
    writer.pair.target.execute(f"GRANT {taken} TO {writer.name}")
    done = writer.run("sync")
    assert done.code == 0, done


def test_a_role_without_update_on_the_history_of_tables_writes_all_the_same(writer: Writer) -> None:
    writer.pair.target.execute(f"REVOKE UPDATE, DELETE ON pgsluice.run_table FROM {writer.name}")
    done = writer.run("sync", "--mode", "append")
    assert done.code == 0, done
