"""Databases of a test, and the command line in a process of its own."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

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
        if command in ("sync", "plan"):
            servers += ["--source", self.source.dsn]
        return run_cli(command, *servers, *arguments, timeout=timeout, **environment)


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


def run_cli(*arguments: str, timeout: float = 120, **environment: str) -> Outcome:
    """Run ``pgsluice`` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pgsluice", *arguments],
        env={**os.environ, **environment},
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


def start_cli(*arguments: str) -> subprocess.Popen[str]:
    """Start ``pgsluice``, for a signal to end, and return while it runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "pgsluice", *arguments],
        env=unmeasured(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class database:  # noqa: N801 - reads as the thing it opens
    """A fresh database on a cluster, dropped at the end."""

    def __init__(self, cluster: Cluster, options: str = "") -> None:
        self._cluster = cluster
        self._options = options
        self._name = f"t{next(_numbers)}"

    def __enter__(self) -> Database:
        self._admin(f"CREATE DATABASE {self._name} TEMPLATE template0 {self._options}")
        return Database(self._cluster, self._name, self._cluster.dsn_for(self._name))

    def __exit__(self, *_: object) -> None:
        self._admin(f"DROP DATABASE {self._name} WITH (FORCE)")

    def _admin(self, statement: str) -> None:
        with psycopg.connect(self._cluster.dsn, autocommit=True) as connection:
            connection.execute(sql.SQL(statement))
