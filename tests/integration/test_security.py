"""Secrets stay where they were put, roles need no more than the page grants, and staging is closed."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from faulting import At
from psycopg import sql
from psycopg.conninfo import make_conninfo
from servers import Database, Pair, psql_of, run_cli, start_cli

from pgsluice import DatabaseOperations, Lane, Options, TableReport, sync
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint, parameters_of
from pgsluice.errors import LoginError, PgsluiceError, StepError
from pgsluice.job import StagingKind, SyncJob, TableRef
from pgsluice.model import StagingTable
from pgsluice.plan import SyncPlan
from pgsluice.retry import translated
from pgsluice.run import Run
from pgsluice.servers import Servers
from pgsluice.sinks.jsonlog import JsonLog
from pgsluice.sinks.recorder import Recorder
from pgsluice.slices import relay_slice
from pgsluice.snapshot import snapshot

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


@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
def test_a_secret_that_is_asked_for_is_asked_for_again_by_whoever_connects(
    pair: Pair, source_cluster: Cluster, lane: Lane
) -> None:
    """A token of a cloud service lives for minutes; here, until the next one is asked for."""
    role = f"reader_{pair.source.name}"
    pair.source.execute(f"CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); CREATE ROLE {role} LOGIN SUPERUSER")
    pair.source.execute("INSERT INTO s.t SELECT generate_series(1, 9)")
    tokens: list[str] = []

    def token() -> str:
        tokens.append(f"token{len(tokens)}")
        pair.source.execute(f"ALTER ROLE {role} PASSWORD '{tokens[-1]}'")
        return make_conninfo(source_cluster.tcp_dsn, user=role, password=tokens[-1], dbname=pair.source.name)

    try:
        report = sync(token, pair.target.dsn, "s.t", options=Options(lane=lane, jobs=1))
        assert (report.exit_code, report.tables[0].lane) == (0, lane.value), report
        with Endpoint(token, read_only=True).open() as session:
            token()
            assert session.aside(sql.SQL("SELECT {}").format(sql.Literal(1))) == [("1",)]
    finally:
        pair.source.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


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
    done = run_cli("sync", "--table", "s.t", "--retries", "0", PGSLUICE_SOURCE=dsn, PGSLUICE_TARGET=dsn)
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


def test_psql_holds_no_secret_in_its_arguments_or_environment_while_it_copies(
    pair: Pair, source_cluster: Cluster
) -> None:
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
        seen = psql_of(process.pid)
        process.terminate()
        said = process.communicate(timeout=60)
    finally:
        for name in ("PGSLUICE_SOURCE", "PGSLUICE_TARGET", "PGPASSWORD"):
            os.environ.pop(name, None)
        pair.source.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert "ON_ERROR_STOP=1" in seen
    assert not secrets_in(seen + said[0] + said[1], password)


# --- what the roles may do -------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
ORDERS = "(id int PRIMARY KEY, placed timestamptz NOT NULL, note text)"


def grants(title: str, pair: Pair) -> str:
    """Return a block of the page, for the roles and databases of a test."""
    blocks: list[tuple[str, str]] = re.findall(
        r"^```sql\n-- (.*?)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (found,) = [script for name, script in blocks if name == title]
    names = {"shop_reader": f"reader_{pair.source.name}", "lake_writer": f"writer_{pair.target.name}"}
    names |= {"DATABASE shop": f"DATABASE {pair.source.name}", "DATABASE lake": f"DATABASE {pair.target.name}"}
    return functools.reduce(lambda script, name: script.replace(name, names[name]), names, found)


@dataclass(frozen=True)
class Least:
    """Two databases that give nothing to PUBLIC, and roles with what the page grants."""

    pair: Pair

    def sync(self, table: str = "sales.orders", **how: Any) -> TableReport:
        source = make_conninfo(self.pair.source.dsn, user=f"reader_{self.pair.source.name}")
        target = make_conninfo(self.pair.target.dsn, user=f"writer_{self.pair.target.name}")
        (report,) = sync(source, target, table, **how).tables
        return report


@pytest.fixture
def least(pair: Pair) -> Iterator[Least]:
    for each in (pair.source, pair.target):
        each.execute(f"REVOKE ALL ON DATABASE {each.name} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC")
        each.execute(f"CREATE SCHEMA sales; CREATE TABLE sales.orders {ORDERS}")
    pair.source.execute(
        "INSERT INTO sales.orders SELECT i, '2024-01-01'::timestamptz + i * interval '1 h', 'x' FROM generate_series(1, 900) i"
    )
    pair.source.execute(grants("source", pair))
    pair.target.execute(grants("target", pair))
    yield Least(pair)
    for each, role in ((pair.source, f"reader_{pair.source.name}"), (pair.target, f"writer_{pair.target.name}")):
        each.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "upsert with deletes": {"mode": "upsert", "deletes": "sweep"},
    "incremental": {"mode": "incremental", "cursor": "placed", "deletes": "sweep"},
    "xmin": {"mode": "xmin"},
}


@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
@pytest.mark.parametrize("way", WAYS)
def test_the_privileges_of_the_page_are_enough_for_each_way_on_both_lanes(least: Least, way: str, lane: Lane) -> None:
    options = Options(lane=lane)
    assert least.sync(**WAYS[way], options=options).status == "done"
    least.pair.source.execute(
        "UPDATE sales.orders SET note = 'y', placed = now() WHERE id < 9; INSERT INTO sales.orders VALUES (1000, now())"
    )
    least.pair.source.execute(f"DELETE FROM sales.orders WHERE id = {20 if way != 'xmin' else -1}")
    report = least.sync(**WAYS[way], options=options)
    assert (report.status, report.lane, report.inserted, report.updated) == ("done", lane.value, 1, 8), report
    assert least.pair.target.image("sales.orders") == least.pair.source.image("sales.orders")


def test_each_privilege_of_the_page_is_needed(least: Least) -> None:
    """TEMPORARY is not among them: without it, small tables are staged like large ones."""
    assert least.sync().staging == "unlogged"
    least.pair.source.execute("DELETE FROM sales.orders WHERE id = 7; UPDATE sales.orders SET note = 'z' WHERE id = 8")
    for side, role in (
        (least.pair.source, f"reader_{least.pair.source.name}"),
        (least.pair.target, f"writer_{least.pair.target.name}"),
    ):
        title = "source" if side is least.pair.source else "target"
        given = re.findall(r"^GRANT (.*) ON (.*) TO ", grants(title, least.pair), re.MULTILINE)
        assert given
        for privileges, thing in given:
            for privilege in privileges.split(", "):
                side.execute(f"REVOKE {privilege} ON {thing} FROM {role}")
                with contextlib.suppress(LoginError):  # without CONNECT
                    assert least.sync().exit_code == 6, (privilege, thing)
                side.execute(f"GRANT {privilege} ON {thing} TO {role}")
    assert least.sync().deleted == 1


@pytest.mark.parametrize("staging", [StagingKind.AUTO, StagingKind.PROMOTED])
def test_what_the_page_grants_to_create_tables_is_enough_and_needed(least: Least, staging: StagingKind) -> None:
    least.pair.target.execute("DROP TABLE sales.orders")
    assert least.sync(options=Options(staging=staging)).exit_code == 6
    least.pair.target.execute(grants("target, to create tables", least.pair))
    report = least.sync(options=Options(staging=staging))
    assert (report.status, report.created) == ("done", True), report
    assert least.pair.target.image("sales.orders") == least.pair.source.image("sales.orders")


def test_temporary_staging_needs_what_the_page_says(least: Least) -> None:
    assert least.sync(options=Options(staging=StagingKind.TEMPORARY)).exit_code == 6
    least.pair.target.execute(grants("target, to stage small tables in temporary tables", least.pair))
    assert least.sync().staging == "temporary"


@pytest.mark.parametrize("staging", [StagingKind.UNLOGGED, StagingKind.PROMOTED])
def test_staging_is_closed_to_everybody_else_while_a_run_is_on(least: Least, staging: StagingKind) -> None:
    """Also where the schema's default privileges would open it to PUBLIC."""
    writer = f"writer_{least.pair.target.name}"
    least.pair.target.execute(grants("target, to create tables", least.pair))
    for schema in ("pgsluice", "sales"):
        least.pair.target.execute(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {writer} IN SCHEMA {schema} GRANT ALL ON TABLES TO PUBLIC"
        )
    if staging is StagingKind.PROMOTED:
        least.pair.target.execute("DROP TABLE sales.orders")
    seen: list[tuple[Any, ...]] = []
    query = (
        "SELECT relname::text, g.grantee::regrole::text, pg_get_userbyid(relowner)::text"
        " FROM pg_class c, aclexplode(coalesce(relacl, acldefault('r', relowner))) g WHERE relname LIKE 'stg\\_%%'"
    )
    look = At("relay", lambda: seen.extend(least.pair.target.rows(query, ())))
    assert least.sync(options=Options(staging=staging), sinks=(look,)).status == "done"
    assert seen
    assert {(grantee, owner) for _, grantee, owner in seen} == {(writer, writer)}


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", [Lane.PSQL, Lane.LIBPQ])
def test_a_view_in_the_place_of_a_table_is_not_looked_behind(pair: Pair, lane: Lane) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS id; CREATE VIEW s.v AS SELECT * FROM s.t")
    pair.target.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int); CREATE TABLE s.landed (id int)")
    ends = Endpoint(pair.source.dsn, read_only=True), Endpoint(pair.target.dsn, read_only=False)
    job = SyncJob(TableRef("s", "t"), TableRef("s", "t"), key=("id",))
    ((_, plan),) = Run(*ends, Options(lane=lane)).plan([job])
    assert isinstance(plan, SyncPlan)
    landed = StagingTable(TableRef("s", "landed"), job.target, plan.columns, "a run")
    with Servers(*ends) as servers, snapshot(servers.source, []) as shared, translated("relay"):
        relay_slice(servers.main, plan.copy, landed, shared.exported, lambda _: 0)
        swapped = dataclasses.replace(plan.copy, source=TableRef("s", "v"))
        with pytest.raises((StepError, psycopg.Error), match='access to non-system view "v" is restricted'):
            relay_slice(servers.main, swapped, landed, shared.exported, lambda _: 0)


def test_tables_beside_views_and_what_leans_on_them_are_copied_as_before(pair: Pair) -> None:
    pair.source.execute(
        """CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t SELECT generate_series(1, 9);
        CREATE VIEW s.v AS SELECT * FROM s.t"""
    )
    for table, how in (("s.t", {"where": "id IN (SELECT id FROM s.v)"}), ("s.v", {"key": ["id"]})):
        (report,) = sync(pair.source.dsn, pair.target.dsn, table, **how).tables
        assert (report.status, report.staging_count) == ("done", 9), report
