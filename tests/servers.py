"""Databases of a test, and the command line in a process of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from psycopg import sql

from pgsluice.embedded import Cluster

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """A database of a test: how to reach it, and short ways to ask it."""

    cluster: Cluster
    name: str
    dsn: str

    def execute(self, script: str, params: tuple[Any, ...] | None = None) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL(script), params)

    def rows(self, query: str, params: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(sql.SQL(query), params).fetchall()

    def value(self, query: str, params: tuple[Any, ...] | None = None) -> Any:
        return self.rows(query, params)[0][0]

    def image(self, table: str) -> list[str]:
        """Return every row of a table as text, sorted: equal images are equal tables."""
        with psycopg.connect(
            self.dsn, autocommit=True, options="-c extra_float_digits=3 -c TimeZone=UTC"
        ) as connection:
            found = connection.execute(sql.SQL(f'SELECT t::text COLLATE "C" FROM {table} t ORDER BY 1'))
            return [row[0] for row in found]

    def staging_tables(self) -> list[str]:
        """Return what is left of staging anywhere in the database."""
        return [
            name for (name,) in self.rows("SELECT relname::text FROM pg_class WHERE relname LIKE 'stg\\_%' ORDER BY 1")
        ]


@dataclass(frozen=True)
class Pair:
    """A source of an older major and a target of a newer one."""

    source: Database
    target: Database

    def pgsluice(self, command: str, *arguments: str, timeout: float = 120, **environment: str) -> Outcome:
        """Run the command line in a process of its own, against this pair."""
        servers = ["--target", self.target.dsn]
        if command in ("sync", "plan", "verify"):
            servers += ["--source", self.source.dsn]
        return run_cli(command, *servers, *arguments, timeout=timeout, cwd=None, **environment)


@dataclass(frozen=True)
class Outcome:
    """What a process left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Return stdout as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]


#: Names of throw-away tables are nobody's to complete: what would be noted for shells has no place to go.
_NO_CACHE = {"XDG_CACHE_HOME": os.devnull}


def run_cli(*arguments: str, timeout: float = 120, cwd: Path | None = None, **environment: str) -> Outcome:
    """Run ``pgsluice`` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pgsluice", *arguments],
        cwd=cwd,
        env={**os.environ, **_NO_CACHE, **environment},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def unmeasured() -> dict[str, str]:
    """Return the environment without coverage: a signal that meets its tracer inside its lock never gets out again."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def start_cli(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start ``pgsluice``, for a signal to end, and return while it runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "pgsluice", *arguments],
        env={**unmeasured(), **_NO_CACHE, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def running_cli(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Do so, and end it behind the block, however that ends."""
    with start_cli(*arguments) as process:
        try:
            yield process
        finally:
            process.kill()


def psql_of(pid: int, seconds: float = 30) -> str:
    """Return arguments and environment of the psql that a process starts, in whichever of its threads: "" for none."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # either has just ended
                for child in listed.read_text().split():
                    argv, environ = (
                        Path(f"/proc/{child}/{each}").read_text("utf-8") for each in ("cmdline", "environ")
                    )
                    if "ON_ERROR_STOP" in argv:
                        return argv + environ
        time.sleep(0.01)
    return ""


#: What a test may leave in a database that dropping its schemas does not take along.
_LASTING = """
SELECT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database())
    OR EXISTS (SELECT FROM pg_database WHERE datname = current_database() AND (datacl IS NOT NULL OR datconnlimit <> -1))
    OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database())
    OR EXISTS (SELECT FROM pg_default_acl)
    OR EXISTS (SELECT FROM pg_extension WHERE extname <> 'plpgsql')
    OR EXISTS (SELECT FROM pg_publication)
    OR EXISTS (SELECT FROM pg_event_trigger)
    OR EXISTS (SELECT FROM pg_foreign_data_wrapper)
    OR EXISTS (SELECT FROM pg_largeobject_metadata)
    OR EXISTS (SELECT FROM pg_cast WHERE oid >= 16384)
"""
_OTHERS = "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE oid >= 16384 OR nspname = 'public'"


class database:  # noqa: N801 - reads as the thing it opens
    """A database as fresh as a new one, for a copy of the template costs more than most tests."""

    _spare: ClassVar[dict[int, list[str]]] = {}

    def __init__(self, cluster: Cluster, options: str = "") -> None:
        self._cluster = cluster
        self._options = options
        self._spares = self._spare.setdefault(id(cluster), []) if not options else []

    def __enter__(self) -> Database:
        self._name = f"t{next(_numbers)}"
        if not self._renames_a_spare():
            self._admin(f"CREATE DATABASE {self._name} TEMPLATE template0 {self._options}")
        return Database(self._cluster, self._name, self._cluster.dsn_for(self._name))

    def __exit__(self, *_: object) -> None:
        if not self._options and self._is_wiped():
            self._spares.append(self._name)
        else:
            self._admin(f"DROP DATABASE {self._name} WITH (FORCE)")

    def _renames_a_spare(self) -> bool:
        """Give a spare one a name of its own, for roles are called after it."""
        try:
            self._admin(f"ALTER DATABASE {self._spares.pop()} RENAME TO {self._name}")
        except (IndexError, psycopg.Error):
            return False
        return True

    def _is_wiped(self) -> bool:
        """Drop every schema; False where that is not all."""
        try:
            with psycopg.connect(self._cluster.dsn_for(self._name), autocommit=True) as connection:
                connection.execute(_OTHERS)
                if connection.execute(_LASTING).fetchone() != (False,):
                    return False
                for (schema,) in connection.execute(_SCHEMAS).fetchall():
                    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
                connection.execute("CREATE SCHEMA public AUTHORIZATION pg_database_owner")
                connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
        except psycopg.Error:
            return False
        return True

    def _admin(self, statement: str) -> None:
        with psycopg.connect(self._cluster.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL(statement))
