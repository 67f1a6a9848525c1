"""A table of the source is renamed, moved or dropped while a run begins: that one fails, and the others are copied."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from servers import Database, Pair

from pgsluice import sync

_execute = psycopg.Connection.execute

#: What becomes of s.b, or of the schema of o.b.
WAYS = {
    "renamed": ("s.b", "ALTER TABLE s.b RENAME TO c"),
    "moved": ("s.b", "ALTER TABLE s.b SET SCHEMA public"),
    "dropped": ("s.b", "DROP TABLE s.b"),
    "in a schema that is renamed": ("o.b", "ALTER SCHEMA o RENAME TO p"),
}


class Strike:
    """Does something to the source just before one of the statements between the look at its tables and their lock."""

    def __init__(self, source: Database, script: str, place: int) -> None:
        self.source, self.script, self.place = source, script, place
        self.count: int | None = None
        self.is_done = False

    def __call__(self, connection: psycopg.Connection[Any], query: Any, *args: Any, **named: Any) -> Any:
        text = query if isinstance(query, str) else query.as_string(connection)
        if connection.info.dbname == self.source.name and not self.is_done and self.count is not None:
            self.count += 1
            is_last = text.startswith("LOCK TABLE")
            if self.count == self.place or is_last:
                self.is_done = True
                with psycopg.connect(self.source.dsn, autocommit=True) as other:
                    _execute(other, self.script)
        if text.startswith("-- Which unique indexes"):
            self.count = self.count or 0
        return _execute(connection, query, *args, **named)


@pytest.mark.parametrize("place", [1, 2, 99], ids=["after the look", "later", "at the lock"])
@pytest.mark.parametrize("way", WAYS)
def test_a_table_that_goes_while_a_run_begins_fails_alone(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, way: str, place: int
) -> None:
    name, script = WAYS[way]
    pair.source.execute(
        """CREATE SCHEMA s; CREATE SCHEMA o; CREATE TABLE s.a (id int PRIMARY KEY); INSERT INTO s.a VALUES (1), (2);
        CREATE TABLE s.b (id int PRIMARY KEY); CREATE TABLE o.b (id int PRIMARY KEY); CREATE TABLE s.z (id int PRIMARY KEY);
        INSERT INTO s.z VALUES (3)"""
    )
    strike = Strike(pair.source, script, place)

    def execute(connection: psycopg.Connection[Any], *args: Any, **named: Any) -> Any:
        return strike(connection, *args, **named)

    monkeypatch.setattr(psycopg.Connection, "execute", execute)
    report = sync(pair.source.dsn, pair.target.dsn, "s.a", name, "s.z")
    assert strike.is_done
    outcomes = {table.source: (table.status, table.exit_code) for table in report.tables}
    assert outcomes == {"s.a": ("done", 0), "s.z": ("done", 0), name: ("failed", 2)}, report.tables
    assert report.exit_code == 3
    (failed,) = report.failed
    assert f"there is no table {name} on the source any more" in str(failed.error)
    assert pair.target.image("s.a") == pair.source.image("s.a")
    assert pair.target.image("s.z") == pair.source.image("s.z")
