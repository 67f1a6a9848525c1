"""What a Dask cluster can do to the process that uses it, and who stands on the way to it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import Daemons, daemons, fill_in_slices
from servers import Pair

from pgsluice import Options, sync
from pgsluice.daskclient import Cluster
from pgsluice.errors import PgsluiceError, StepError, TemporaryError, UsageError
from pgsluice.events import Warned
from pgsluice.sinks.recorder import Recorder

ROWS = 10_000
HOSTILE = str(Path(__file__).parents[1] / "hostile_dask.py")


@pytest.fixture
def shop(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    fill_in_slices(pair, monkeypatch, ROWS)
    return pair


def copied(pair: Pair, address: str, connect_timeout: float = 10) -> Any:
    options = Options(executor=address, connect_timeout=connect_timeout, retries=0)
    (report,) = sync(pair.source.dsn, pair.target.dsn, "s.t", options=options).tables
    return report


@contextlib.contextmanager
def hostile(folder: Path, way: str, **more: str) -> Iterator[tuple[Daemons, Path]]:
    """Start a cluster that lies in a way; return it with the file that its code writes."""
    mark = folder / "mark"
    mark.touch()
    preload, is_scheduler = ("--preload", HOSTILE), way == "identity"
    sides = (preload if is_scheduler else (), () if is_scheduler else preload)
    with daemons(folder, sides[0], sides[1], HOSTILE=way, HOSTILE_MARK=str(mark), **more) as cluster:
        yield cluster, mark


@pytest.mark.parametrize("way", ["result", "nested", "exception", "kind", "header", "warning", "identity"])
def test_what_a_cluster_that_was_taken_over_sends_runs_in_no_process_of_ours(
    shop: Pair, tmp_path: Path, way: str
) -> None:
    with hostile(tmp_path, way) as (cluster, mark):
        try:
            report, error = copied(shop, cluster.address), ""
        except PgsluiceError as raised:
            report, error = None, str(raised)
        ran_in = {int(pid) for pid in mark.read_text("utf-8").split()} - cluster.pids
    assert ran_in == set(), f"{os.getpid()} is the test's own"
    if report is not None:
        assert (report.status, report.exit_code) == ("failed", 1)
        error = report.error
    assert "pickle" in error
    assert shop.target.value("SELECT to_regclass('s.t')") is None
    assert shop.target.staging_tables() == []


@pytest.mark.parametrize(
    ("way", "lie", "told"),
    [
        ("plain", {"staging": {"ref": "s.other"}}, "not one that pgsluice gives"),
        ("plain", {"staging_count": ROWS + 1, "source_count": ROWS + 1}, f"and {ROWS} of them are in the target"),
        ("endless", {}, "not a text, or too long a one"),
    ],
    ids=["field", "number", "endless"],
)
def test_plain_answers_that_are_wrong_are_refused(
    shop: Pair, tmp_path: Path, way: str, lie: dict[str, Any], told: str
) -> None:
    with hostile(tmp_path, way, HOSTILE_LIE=json.dumps(lie)) as (cluster, _):
        report = copied(shop, cluster.address)
    assert report.status == "failed"
    assert told in report.error
    assert len(report.error) < 1_000
    assert shop.target.value("SELECT to_regclass('s.t')") is None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="a process's environment is read from /proc")
def test_the_process_that_speaks_with_the_cluster_knows_no_secret_and_its_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGPASSWORD", "PGSLUICE_TARGET", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__RETRY__COUNT", "0")
    with daemons(tmp_path) as started:
        cluster = Cluster(started.address, "time:sleep", 10)
        try:
            environment = Path(f"/proc/{cluster._process.pid}/environ").read_text("utf-8").split("\0")
            assert not [each for each in environment if "hunter2" in each]
            assert "DASK_DISTRIBUTED__COMM__RETRY__COUNT=0" in environment
            waiting = cluster.ask("never answered")
            cluster.give_up(waiting)
            assert isinstance(waiting.exception(), StepError)
            left = cluster.ask("nor this")
            os.kill(cluster._process.pid, signal.SIGKILL)
            assert isinstance(left.exception(timeout=30), (TemporaryError, StepError))
            assert isinstance(cluster.ask("too late").exception(timeout=30), TemporaryError)
        finally:
            cluster.close()


# --- the way there ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two authorities, ca and other, each with a certificate of its own: ours and theirs."""
    folder = tmp_path_factory.mktemp("certificates")
    for ca, name in (("ca", "ours"), ("other", "theirs")):
        new = ("req", "-newkey", "rsa:2048", "-nodes")
        openssl(folder, *new, "-x509", "-days", "2", "-subj", f"/CN={ca}", "-keyout", f"{ca}.key", "-out", f"{ca}.crt")
        openssl(folder, *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("-in", f"{name}.csr", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", "2")
        openssl(folder, "x509", "-req", *signed, "-out", f"{name}.crt")
    return folder


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def configure(monkeypatch: pytest.MonkeyPatch, certificates: Path, ca: str, name: str) -> None:
    """Give the client certificates, as Dask's own configuration does."""
    for setting, file in (("CA_FILE", f"{ca}.crt"), ("CLIENT__CERT", f"{name}.crt"), ("CLIENT__KEY", f"{name}.key")):
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{setting}", str(certificates / file))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_cluster_is_used_over_tls_by_who_has_its_certificates_and_by_nobody_else(
    shop: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: Path
) -> None:
    ours = tuple(f"--tls-{kind}={certificates / file}" for kind, file in (("ca-file", "ca.crt"), ("cert", "ours.crt"), ("key", "ours.key")))  # fmt: skip
    with daemons(tmp_path, scheduler=("--protocol", "tls", *ours), worker=("--protocol", "tls", *ours)) as cluster:
        assert cluster.address.startswith("tls://")
        plain = cluster.address.replace("tls://", "tcp://")
        with pytest.raises(UsageError, match=r"(?s)no Dask scheduler answers at tls://.*COMM__TLS__CA_FILE"):
            copied(shop, cluster.address, connect_timeout=2)
        for ca, name in (("ca", "theirs"), ("other", "ours")):
            configure(monkeypatch, certificates, ca, name)
            with pytest.raises(UsageError, match="no Dask scheduler answers"):
                copied(shop, cluster.address, connect_timeout=2)
        configure(monkeypatch, certificates, "ca", "ours")
        with pytest.raises(UsageError, match="no Dask scheduler answers at tcp://"):
            copied(shop, plain, connect_timeout=2)
        assert shop.target.value("SELECT to_regclass('s.t')") is None
        report = copied(shop, cluster.address)
    assert (report.status, report.slices > 2, report.error) == ("done", True, None)
    assert shop.target.image("s.t") == shop.source.image("s.t")


@pytest.mark.parametrize(
    ("address", "is_doubted"),
    [
        ("dask://db.invalid:8786", True),
        ("tcp://192.0.2.1:8786", True),
        ("tcp://[2001:db8::1]:8786", True),
        ("tls://db.invalid:8786", False),
        ("tcp://127.0.0.1:1", False),
        ("dask://localhost:1", False),
        ("tcp://[::1]:1", False),
    ],
)
def test_a_way_to_a_cluster_that_others_could_stand_on_is_warned_of(pair: Pair, address: str, is_doubted: bool) -> None:
    recorder = Recorder()
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)")
    with pytest.raises(UsageError, match="no Dask scheduler answers"):
        sync(
            pair.source.dsn, pair.target.dsn, "s.t", options=Options(executor=address, connect_timeout=1), sinks=[recorder]
        )  # fmt: skip
    told = [event.message for event in recorder.events if isinstance(event, Warned)]
    assert any("Dask cluster" in each and "is not encrypted" in each for each in told) == is_doubted
