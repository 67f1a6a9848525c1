"""Streaming standbys of embedded clusters, and waiting for them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping

import psycopg
from faulting import await_that
from psycopg import sql
from servers import Database

from pgsluice.embedded import Cluster
from pgsluice.embedded.binaries import environment
from pgsluice.embedded.cluster import _server_user, _setting_line


def as_server(cluster: Cluster, program: str, *arguments: str) -> None:
    """Run a program of the cluster's own as the user its server runs as."""
    user = _server_user()
    subprocess.run(
        [str(cluster.bin / program), *arguments],
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
        env=environment(),
        cwd=cluster.socket_dir,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )


class Standby(Cluster):
    """A streaming standby: its data folder begins as a copy of another cluster's."""

    def __init__(self, of: Cluster, settings: Mapping[str, str] | None = None) -> None:
        """Choose; `settings` come after those of the other cluster."""
        super().__init__(of.major)
        self._of, self._own = of, settings or {}

    def _initdb(self) -> None:
        where = ["--pgdata", str(self.data), "--dbname", self._of.dsn]
        as_server(self, "pg_basebackup", *where, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")

    def _configure(self) -> None:
        """Keep the settings that came with the copy, and add our own."""
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(_setting_line(name, value) for name, value in self._own.items())


def seen_from(cluster: Cluster, other: Database) -> Database:
    """Return the database of the same name on another cluster."""
    return Database(cluster, other.name, cluster.dsn_for(other.name))


def catch_up(standby: Cluster, primary: Cluster) -> None:
    """Wait until a standby has replayed all that its primary has done by now."""
    with psycopg.connect(primary.dsn, autocommit=True) as session:
        session.execute("SELECT pg_logical_emit_message(true, 'test', '')")  # flushes what nobody waited for
    await_replay(standby, primary)


def await_replay(standby: Cluster, primary: Cluster) -> None:
    """Wait until a standby has replayed what its primary has flushed."""
    with psycopg.connect(primary.dsn) as there, psycopg.connect(standby.dsn, autocommit=True) as here:
        ((flushed,),) = there.execute("SELECT pg_current_wal_flush_lsn()::text").fetchall()
        query = b"SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        await_that(lambda: here.execute(query, (flushed,)).fetchall() == [(True,)], "the standby to catch up")


def follow(standby: Cluster, primary: Cluster | None) -> None:
    """Let a standby stream from another primary, or from none."""
    where = sql.Literal(primary.dsn if primary else "")
    with psycopg.connect(standby.dsn, autocommit=True) as session:
        session.execute(sql.SQL("ALTER SYSTEM SET primary_conninfo = {}").format(where))
        session.execute("SELECT pg_reload_conf()")
        query = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"
        await_that(lambda: session.execute(query).fetchall() == [(int(primary is not None),)], "the standby to turn")


@contextlib.contextmanager
def replay_paused(standby: Cluster) -> Iterator[None]:
    with psycopg.connect(standby.dsn, autocommit=True) as session:
        session.execute("SELECT pg_wal_replay_pause()")
        query = "SELECT pg_get_wal_replay_pause_state()"
        try:
            await_that(lambda: session.execute(query).fetchall() == [("paused",)], "replay to pause")
            yield
        finally:
            session.execute("SELECT pg_wal_replay_resume()")
