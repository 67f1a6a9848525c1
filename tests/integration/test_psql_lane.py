"""What psql is told: every statement as it stands, out of sight of other users, and nothing that stays on disk."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest
from faulting import await_that
from psycopg import sql
from psycopg.conninfo import make_conninfo
from servers import Pair, psql_of, start_cli

from pgsluice import Lane, sync
from pgsluice.embedded import Cluster
from pgsluice.endpoint import Endpoint
from pgsluice.errors import PgsluiceError
from pgsluice.job import Options
from pgsluice.snapshot import Exported
from pgsluice.steps import relay

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


@pytest.fixture
def notes(pair: Pair) -> Pair:
    """Give a table whose values are what psql, a shell or a lexer would make something of."""
    with psycopg.connect(pair.source.dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA s")
        connection.execute("CREATE TABLE s.t (id int PRIMARY KEY, v text)")
        values = [*HOSTILE.values(), "anything else"]
        connection.cursor().executemany("INSERT INTO s.t VALUES (%s, %s)", list(enumerate(values)))
    return pair


#: Each stands for itself, between the quotes of a condition.
HOSTILE = {
    "a shell": r"\! touch /tmp/pgsluice-was-here",
    "an end": r"\q",
    "a variable": ":VERSION :'VERSION' :\"VERSION\" :{?VERSION}",
    "semicolons": "a; SELECT 1; --",
    "backticks": "`id`",
    "backslashes": "\\\\x\\' ",
    "quotes": 'it\'s "so"',
    "dollars": "$$ $x$ ${HOME} $1",
    "comments": "/* -- */ --",
    "lines": "one\n\\echo two\r\nthree\\.",
    "others": "naïve 비밀 🔑",
    "an end of data": "\n\\.\n",
}


@pytest.fixture(params=["of the system", "16", "18"])
def psql(request: pytest.FixtureRequest, source_cluster: Cluster, target_cluster: Cluster) -> str:
    found = {"16": source_cluster.bin / "psql", "18": target_cluster.bin / "psql"}.get(
        request.param
    ) or relay.find_psql()
    assert found
    return str(found)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def escaped(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


CONDITIONS = {
    "quoted": f"v = ANY (ARRAY[{', '.join(map(quoted, HOSTILE.values()))}])",
    "escaped": f"v IN ({', '.join(map(escaped, HOSTILE.values()))}) -- and no more; \\q",
    "dollars": "v IN ($of$" + "$of$, $of$".join(HOSTILE.values()) + "$of$) /* ; \\! id */",
    "colons": "(ARRAY[true, false])[1:1] = ARRAY[v <> 'anything else'::text] -- :VERSION",
    "lines": "v <> 'anything else'\n-- '\nAND\n\ntrue /* \n\\q\n */",
}


@pytest.mark.parametrize("where", CONDITIONS.values(), ids=CONDITIONS)
def test_a_condition_reaches_the_server_as_it_was_written(notes: Pair, psql: str, where: str) -> None:
    report = sync(notes.source.dsn, notes.target.dsn, "s.t", where=where, options=Options(lane=Lane.PSQL, psql=psql))
    assert (report.exit_code, report.tables[0].lane) == (0, "psql"), report
    assert notes.target.rows("SELECT id, v FROM s.t ORDER BY id") == list(enumerate(HOSTILE.values()))


def test_a_statement_may_be_longer_than_an_argument(notes: Pair, psql: str) -> None:
    where = f"v <> '{'x' * 3_000_000}' AND id < 5"
    report = sync(notes.source.dsn, notes.target.dsn, "s.t", where=where, options=Options(lane=Lane.PSQL, psql=psql))
    assert (report.exit_code, report.tables[0].lane) == (0, "psql"), report
    assert notes.target.value("SELECT count(*) FROM s.t") == 5


def test_what_does_not_find_the_snapshot_reads_nothing(notes: Pair, psql: str) -> None:
    """Each statement stands on the one before it."""
    with (
        Endpoint(notes.source.dsn, read_only=True).open() as source,
        Endpoint(notes.target.dsn, read_only=False).open() as target,
    ):
        target.execute(sql.SQL("CREATE TEMPORARY TABLE landed (id int, v text)"))
        writer = relay.Writer(target, "COPY pg_temp.landed FROM STDIN", lambda _: 0.0)
        with pytest.raises(PgsluiceError, match="read by psql") as raised:
            relay.by_psql(psql, source, Exported("00000003-0000FFFF-1"), "COPY s.t TO STDOUT", {}, writer)
        assert raised.value.sqlstate in {"22023", "42704"}
        assert writer.bytes == 0


def test_a_search_path_that_reads_like_a_statement_is_a_list_of_names(notes: Pair, psql: str) -> None:
    """Who owns the source's database can write it there, and we are the role that would run it."""
    with psycopg.connect(notes.source.dsn, autocommit=True) as owner:
        owner.execute("CREATE TABLE s.spoils (id int)")
        owner.execute(
            "SELECT set_config('search_path', 's;BEGIN/**/READ/**/WRITE;INSERT/**/INTO/**/s.spoils/**/VALUES(1);COMMIT', false)"
        )
        owner.execute(
            sql.SQL("ALTER DATABASE {} SET search_path FROM CURRENT").format(sql.Identifier(notes.source.name))
        )
    report = sync(
        notes.source.dsn, notes.target.dsn, "s.t", where="id >= 0", options=Options(lane=Lane.PSQL, psql=psql)
    )
    assert (report.exit_code, report.tables[0].lane) == (0, "psql"), report
    assert notes.source.rows("SELECT * FROM s.spoils") == []


def left_in(folder: Path) -> list[Path]:
    """Return the files in a folder, but for the empty marker by whose lock others know that a run has died."""
    markers = set(folder.glob(f"pgsluice-{os.geteuid()}/*"))
    return [each for each in folder.rglob("*") if each.is_file() and (each not in markers or each.stat().st_size)]


@needs_proc
def test_other_users_see_nothing_of_a_statement_and_a_killed_run_leaves_no_file(
    notes: Pair, source_cluster: Cluster, tmp_path: Path
) -> None:
    dsn = make_conninfo(source_cluster.tcp_dsn, dbname=notes.source.name)
    process = start_cli(
        "sync", "--source", dsn, "--target", notes.target.dsn, "--table", "s.t", "--lane", "psql",
        "--where", "pg_sleep(600) IS NOT NULL AND v <> 'of mine'", "--mask", "v=hash:pepper", "--mode", "upsert",
        TMPDIR=str(tmp_path),
    )  # fmt: skip
    asleep = (
        "FROM pg_stat_activity WHERE query LIKE 'COPY %' AND wait_event = 'PgSleep' AND datname = current_database()"
    )
    try:
        seen = psql_of(process.pid)
        await_that(lambda: bool(notes.source.rows(f"SELECT {asleep}")), "psql to read")
        assert seen
        assert [word for word in ("of mine", "pepper", "pg_sleep", "COPY", '"t"') if word in seen] == []
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert left_in(tmp_path) == []
    finally:
        process.kill()
        notes.source.rows(f"SELECT pg_terminate_backend(pid, 5000) {asleep}")


@needs_proc
def test_a_run_killed_before_psql_has_connected_leaves_no_file(notes: Pair, tmp_path: Path) -> None:
    """Psql is held where it stands as soon as it is there."""
    slow = tmp_path / "slow-psql"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o700)
    (empty := tmp_path / "tmp").mkdir()
    process = start_cli(
        "sync", "--source", notes.source.dsn, "--target", notes.target.dsn, "--table", "s.t", "--lane", "psql",
        "--psql", str(slow), TMPDIR=str(empty),
    )  # fmt: skip
    stray = 0
    try:

        def started() -> bool:
            nonlocal stray
            for listed in Path(f"/proc/{process.pid}/task").glob("*/children"):
                for child in listed.read_text().split():
                    if "sleep" in Path(f"/proc/{child}/cmdline").read_text():
                        stray = int(child)
            return stray > 0

        await_that(started, "a psql to be started")
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert left_in(empty) == []
    finally:
        process.kill()
        if stray:
            os.kill(stray, signal.SIGKILL)


def test_where_no_file_can_be_handed_on_libpq_reads(
    notes: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_DESCRIPTORS", tmp_path)
    with Endpoint(notes.source.dsn, read_only=True).open() as source:
        assert relay.psql_obstacle(source) == (
            f"no file can be opened by its descriptor under {tmp_path}, which is how psql gets its parameters"
        )
    report = sync(notes.source.dsn, notes.target.dsn, "s.t", options=Options(lane=Lane.PSQL))
    assert "The psql lane was asked for and no file can be opened" in str(report.tables[0].error)
