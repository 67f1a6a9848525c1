"""Secrets stay where they were put: with hostile passwords, in every form of a connection string, on both lanes."""

from __future__ import annotations

import functools
import io
import os
import pickle
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from servers import Database, Pair, run_cli, start_cli

from pgsluice import DatabaseOperations, Lane, Options, sync
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint, parameters_of
from pgsluice.errors import PgsluiceError
from pgsluice.sinks.jsonlog import JsonLog
from pgsluice.sinks.recorder import Recorder

PASSWORDS = {
    "percent": "p%zzS3cr3t%",
    "quotes": "S3cr3t'\"`$x",
    "blanks": " S3cr3t and more ",
    "backslash": "\\S3cr3t\\\\'\\",
    "unicode": "비밀S3cr3t🔑",
    "signs of a URI": "S3cr3t@/:?#&=[]",
    "an option": "S3cr3t password=S3cr3t sslmode=disable",
}


@pytest.fixture(params=PASSWORDS)
def locked(request: pytest.FixtureRequest, pair: Pair, source_cluster: Cluster) -> Iterator[tuple[Database, str, str]]:
    """Give a source with a table, and a role that reads it by a hostile password over TCP."""
    role, password = f"reader_{pair.source.name}", PASSWORDS[request.param]
    pair.source.execute(
        "CREATE SCHEMA s; CREATE TABLE s.t AS SELECT i AS id FROM generate_series(1, 9) i; ALTER TABLE s.t ADD PRIMARY KEY (id)"
    )
    with psycopg.connect(pair.source.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))
    pair.source.execute(f"GRANT USAGE ON SCHEMA s TO {role}; GRANT SELECT ON s.t TO {role}")
    yield pair.source, role, password
    pair.source.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def forms(source: Database, role: str, password: str, folder: Path) -> dict[str, str | Callable[[], str]]:
    """Return each way to say it; files are 0600."""
    port, name, host = source.cluster.port, source.name, "127.0.0.1"
    encoded = quote(password, safe="")
    plain = make_conninfo(host=host, port=port, user=role, dbname=name)
    passfile = folder / "pass"
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    passfile.write_text(f"{host}:{port}:{name}:{role}:{escaped}\n", "utf-8")
    passfile.chmod(0o600)
    return {
        "uri": f"postgresql://{role}:{encoded}@{host}:{port}/{name}",
        "uri, as a parameter": f"postgresql://{host}:{port}/{name}?user={role}&password={encoded}",
        "conninfo": make_conninfo(plain, password=password),
        "conninfo with options": make_conninfo(plain, password=password, options="-c app.password=S3cr3t"),
        "conninfo with a key's password": make_conninfo(plain, password=password, sslpassword=password),
        "passfile": make_conninfo(plain, passfile=str(passfile)),
        "callable": lambda: make_conninfo(plain, password=password),
    }


def secrets_in(text: str, password: str) -> list[str]:
    """Return what of a password is in a text: as it is, encoded, as a literal, or its middle."""
    return [form for form in (password, quote(password), repr(password)[1:-1], "S3cr3t") if form and form in text]


def whole(error: BaseException) -> str:
    chain, found = [], [error]
    while found:
        each = found.pop()
        chain.append(f"{each} {each!r} {vars(each)}")
        found += [other for other in (each.__cause__, each.__context__) if other is not None]
    return "".join([*chain, *traceback.format_exception(error), repr(pickle.dumps(error))])


@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
def test_every_form_of_a_connection_works_on_both_lanes_and_tells_no_secret(
    locked: tuple[Database, str, str], pair: Pair, tmp_path: Path, lane: Lane
) -> None:
    source, role, password = locked
    for name, dsn in forms(source, role, password, tmp_path).items():
        log, recorder = io.StringIO(), Recorder()
        report = sync(dsn, pair.target.dsn, "s.t", options=Options(lane=lane), sinks=(JsonLog(log), recorder))
        assert (report.exit_code, report.tables[0].lane) == (0, lane.value), (name, report)
        said = (
            f"{report}{report.to_dict()}{recorder.events}{DatabaseOperations(dsn, dsn)}{Endpoint(dsn, read_only=True)}"
        )
        assert not secrets_in(said + log.getvalue(), password), name
    told = pair.target.value("SELECT string_agg(t::text || r::text, '') FROM pgsluice.run_table t, pgsluice.run r")
    assert not secrets_in(told, password)


def test_a_refused_login_and_a_server_that_is_down_tell_no_secret(
    locked: tuple[Database, str, str], pair: Pair, tmp_path: Path
) -> None:
    source, role, password = locked
    with psycopg.connect(source.dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER ROLE {} PASSWORD 'other'").format(sql.Identifier(role)))
    for name, dsn in forms(source, role, password, tmp_path).items():
        with pytest.raises(PgsluiceError) as raised:
            Endpoint(dsn, read_only=True).open()
        assert "refused the connection" in str(raised.value), name
        assert not secrets_in(whole(raised.value), password), name
    gone = make_conninfo(host="127.0.0.1", port=1, user=role, password=password)
    with pytest.raises(PgsluiceError) as raised:
        Endpoint(gone, read_only=True).open()
    assert not secrets_in(whole(raised.value), password)


BROKEN = [
    "postgresql://me:p%zzS3cr3t@db/shop",
    "postgresql://me:S3cr3t/S3cr3t@db/shop",
    "postgresql://me:12/S3cr3t@db/shop",
    "postgresql://me:S3cr3t@S3cr3t@db/shop",
    "postgresql://me:x@S3cr3t:S3cr3t@db/shop",
    "postgresql://me:a#S3cr3t@db/shop",
    "postgresql://me:a?S3cr3t/b@db/shop",
    "postgresql://me:S3cr3t",
    "postgresql://me:x S3cr3t@db:port/shop",
    "postgresql://db/shop?password=S3cr3t&nonsense=S3cr3t",
    "host=db password='S3cr3t",
    "host=db password=x S3cr3t",
    "host=db S3cr3t=1 password=x",
    "me:S3cr3t@db/shop",
]


@pytest.mark.parametrize("dsn", BROKEN)
def test_a_connection_string_that_is_none_is_refused_without_a_word_of_it(dsn: str) -> None:
    endpoint = Endpoint(dsn, read_only=True)
    with pytest.raises(PgsluiceError, match=r"can't be read|can't be reached|can't be connected") as raised:
        endpoint.open()
    assert "S3cr3t" not in whole(raised.value) + repr(endpoint) + repr(DatabaseOperations(dsn, dsn))
    done = run_cli("sync", "--table", "s.t", PGSLUICE_SOURCE=dsn, PGSLUICE_TARGET=dsn)
    assert done.code in (2, 5)
    assert "S3cr3t" not in done.out + done.err


@pytest.mark.parametrize(
    ("dsn", "host"),
    [
        ("postgresql://me:x@[::1]:5432/shop", "::1"),
        ("postgresql://me@a:1,b,[::1]:3/shop?sslmode=require", "a,b,::1"),
        ("postgresql://me:%40%2F@%2Ftmp/shop%40home", "/tmp"),  # noqa: S108
        ("postgresql:///shop?host=/tmp&password=a@b/c", "/tmp"),  # noqa: S108
        ("postgresql://me:a#b?c@db/shop", "db"),
        ("postgres://", None),
    ],
)
def test_a_connection_string_that_is_right_is_read(dsn: str, host: str | None) -> None:
    found = parameters_of(dsn)
    assert found is not None
    assert found.get("host") == host


def test_the_command_line_tells_no_secret_that_stands_in_the_wrong_place() -> None:
    uri = "postgresql://me:my S3cr3t@db/shop"
    for arguments in (
        ["sync", uri],
        ["sync", "--source", uri, "--target", uri, "--table", uri],
        ["sync", "--source", uri, "--target", uri, "--mode", uri],
        ["sync", "--source", uri, "--target", uri, "--table", "s.t", "--jobs", uri],
        ["status", "--target", uri, uri],
        [uri],
        ["clean", f"--nonsense={uri}"],
    ):
        done = run_cli(*arguments)
        assert done.code in (2, 5), done
        assert "S3cr3t" not in done.out + done.err, arguments


def test_psql_holds_no_secret_in_its_arguments_environment_or_folder_while_it_copies(
    pair: Pair, source_cluster: Cluster
) -> None:
    """Its parameters lie in a folder of its own, 0700, which is gone once it has connected."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc")
    password = "S3cr3t:\\'x"
    role = f"reader_{pair.source.name}"
    pair.source.execute(
        f"""CREATE SCHEMA s; CREATE TABLE s.t AS SELECT i AS id FROM generate_series(1, 900) i;
        CREATE FUNCTION s.slow(int) RETURNS bool LANGUAGE sql VOLATILE AS 'SELECT pg_sleep(0.05) IS NOT NULL';
        CREATE ROLE {role} LOGIN PASSWORD '{password.replace("'", "''")}'; GRANT USAGE ON SCHEMA s TO {role};
        GRANT SELECT ON s.t TO {role}"""
    )
    uri = f"postgresql://{role}:{quote(password, safe='')}@127.0.0.1:{source_cluster.port}/{pair.source.name}"
    try:
        os.environ.update(PGSLUICE_SOURCE=uri, PGSLUICE_TARGET=pair.target.dsn, PGPASSWORD="S3cr3t of another")
        process = start_cli(
            "sync", "--table", "s.t", "--key", "id", "--lane", "psql", "--where", "s.slow(id)", "--mode", "upsert"
        )
        seen = functools.reduce(lambda found, _: found or children(process.pid), range(600), "")
        process.terminate()
        said = process.communicate(timeout=60)
    finally:
        for name in ("PGSLUICE_SOURCE", "PGSLUICE_TARGET", "PGPASSWORD"):
            os.environ.pop(name, None)
        pair.source.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert "ON_ERROR_STOP=1" in seen
    assert not secrets_in(seen + said[0] + said[1], password)


def children(pid: int) -> str:
    """Return arguments and environment of the psql that a process has started, in whichever of its threads."""
    time.sleep(0.05)
    found = ""
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in listed.read_text().split():
                files = [Path(f"/proc/{child}/{name}").read_text("utf-8", "replace") for name in ("cmdline", "environ")]
                found += "".join(files) if "ON_ERROR_STOP" in files[0] else ""
        except OSError:
            continue
    return found
