"""A pooler between us and a server is refused by name, in whatever mode it works, before anything is written."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import pq
from servers import Database, Pair, run_cli

from pgsluice.embedded.cluster import _free_port, _server_user

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
PGBOUNCER = shutil.which("pgbouncer", path=PATH)
pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (Debian: apt install pgbouncer)")


@contextlib.contextmanager
def pooled(database: Database, mode: str, size: int) -> Iterator[str]:
    """Run a PgBouncer before a database, and return how it is reached."""
    port, user = _free_port(), _server_user()
    folder = Path(tempfile.mkdtemp(prefix="pgsluice-pool-", dir="/tmp"))
    server = f"host={database.cluster.socket_dir} port={database.cluster.port} user=postgres"
    settings = {
        "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "any",
        "pool_mode": mode, "default_pool_size": size, "logfile": folder / "log", "pidfile": folder / "pid",
    }  # fmt: skip
    lines = [f"{name} = {value}" for name, value in settings.items()]
    (folder / "ini").write_text("\n".join(["[databases]", f"* = {server}", "[pgbouncer]", *lines, ""]))
    if user:
        for path in (folder, folder / "ini"):
            os.chown(path, user.pw_uid, user.pw_gid)
    process = subprocess.Popen(
        [str(PGBOUNCER), "-q", str(folder / "ini")],
        user=user.pw_uid if user else None,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    dsn = f"host=127.0.0.1 port={port} user=postgres dbname={database.name}"
    try:
        deadline = time.monotonic() + 20
        while pq.PGconn.ping(dsn.encode()) != pq.Ping.OK and time.monotonic() < deadline:
            time.sleep(0.02)
        yield dsn
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder)


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
@pytest.mark.parametrize("size", [1, 5])
def test_a_pooler_is_refused_by_name_and_the_servers_own_port_is_told(pair: Pair, mode: str, size: int) -> None:
    """With one server in its pool, settings of a session look as if they held."""
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1)")
    for side in ("source", "target"):
        database: Database = getattr(pair, side)
        with pooled(database, mode, size) as dsn:
            dsns = {"source": pair.source.dsn, "target": pair.target.dsn, side: dsn}
            done = run_cli("sync", "--source", dsns["source"], "--target", dsns["target"], "--table", "s.t")
        assert done.code == 6, done.err
        assert f"a pooler (PgBouncer or the like) answers for the {side}" in done.err
        assert f"listens on port {database.cluster.port} " in done.err
    assert pair.target.value("SELECT to_regnamespace('pgsluice') IS NULL AND to_regclass('s.t') IS NULL")
