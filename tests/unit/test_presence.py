"""Which runs of this machine live, and which have died: locked files of real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgsluice import presence

RUN = "20261128t000000_abcdef"
#: Announces a run, starts a program that outlives it, says where the run's marker is, and waits to be killed.
PROGRAM = """
import subprocess, sys, time
from pgsluice import presence
with presence.announced(sys.argv[1]) as marker:
    child = subprocess.Popen(["sleep", "60"], start_new_session=True, stdout=subprocess.DEVNULL)
    print(child.pid, marker, flush=True)
    time.sleep(60)
"""

WATCHER = """
import os, sys
from pgsluice import presence
print("ready", flush=True)
seen = set()
while not os.path.exists(sys.argv[1]):
    seen |= presence.dead_runs()
print("seen dead:", sorted(seen))
"""

Started = tuple[subprocess.Popen[str], Path]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a temporary folder of its own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def start() -> Iterator[Callable[[], Started]]:
    """Start a process that announces the run; end it, and the program it started, afterwards."""
    processes: list[subprocess.Popen[str]] = []
    children: list[int] = []

    def started() -> Started:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, RUN], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout
        child, marker = process.stdout.readline().split(maxsplit=1)
        children.append(int(child))
        return process, Path(marker.strip())

    yield started
    for process in processes:
        process.kill()
        process.communicate()
    for child in children:
        os.kill(child, signal.SIGKILL)


def killed(started: Started) -> Path:
    process, marker = started
    process.kill()
    process.wait()
    return marker


def test_a_run_that_lives_is_not_dead_and_one_that_was_killed_is(start: Callable[[], Started]) -> None:
    process, marker = start()
    assert presence.dead_runs() == frozenset()
    assert marker.is_file()
    assert marker.name.startswith(f"{RUN}.")
    killed((process, marker))
    assert presence.dead_runs() == {RUN}  # though the program that it started lives on
    assert marker.is_file()


def test_a_run_that_ended_leaves_nothing(place: Path) -> None:
    with presence.announced(RUN) as marker:
        assert marker is not None
        assert marker.stat().st_mode & 0o777 == 0o600
        assert marker.parent.stat().st_mode & 0o777 == 0o700
    assert presence.dead_runs() == frozenset()
    assert list(place.iterdir()) == []


def test_a_sweep_remembers_a_run_that_died(start: Callable[[], Started]) -> None:
    marker = killed(start())
    presence.sweep()
    assert marker.is_file()
    assert presence.dead_runs() == {RUN}


@pytest.mark.parametrize("days", [0, 30])
def test_a_sweep_leaves_a_living_run_alone(start: Callable[[], Started], days: int) -> None:
    _, marker = start()
    since = time.time() - days * 86_400
    os.utime(marker, (since, since))
    presence.sweep()
    assert marker.is_file()


def test_a_run_that_died_long_ago_is_forgotten(start: Callable[[], Started]) -> None:
    marker = killed(start())
    long_ago = time.time() - 30 * 86_400
    os.utime(marker, (long_ago, long_ago))
    presence.sweep()
    assert not marker.exists()
    assert presence.dead_runs() == frozenset()


def test_a_run_of_another_machine_is_never_called_dead(start: Callable[[], Started]) -> None:
    marker = killed(start())
    marker.rename(marker.with_name(f"{RUN}.0123456789abcdef"))  # as a shared folder shows it
    assert presence.dead_runs() == frozenset()


@pytest.mark.parametrize("kind", ["a folder", "a link", "a pipe"])
def test_what_is_no_file_says_of_no_run_that_it_died(start: Callable[[], Started], kind: str) -> None:
    marker = killed(start())
    elsewhere = marker.rename(marker.with_name("elsewhere"))
    if kind == "a folder":
        marker.mkdir()
    elif kind == "a link":
        marker.symlink_to(elsewhere)
    else:
        os.mkfifo(marker)
    assert presence.dead_runs() == frozenset()


def test_a_run_is_not_called_dead_while_it_begins_or_ends(place: Path) -> None:
    """Another process looks all the time, while runs come and go."""
    is_over = place / "over"
    watcher = subprocess.Popen([sys.executable, "-c", WATCHER, is_over], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout
    assert watcher.stdout.readline() == "ready\n"
    for _ in range(1500):
        with presence.announced(RUN):
            pass
    is_over.touch()
    said, _ = watcher.communicate(timeout=30)
    assert said == "seen dead: []\n"


@pytest.mark.parametrize("made", ["a link", "open to others", "of another user"])
def test_a_folder_that_is_not_ours_alone_is_not_trusted(place: Path, start: Callable[[], Started], made: str) -> None:
    marker = killed(start())
    base = marker.parent
    if made == "a link":
        base.rename(place / "elsewhere")
        base.symlink_to(place / "elsewhere")
    elif made == "open to others":
        base.chmod(0o770)
    elif os.geteuid() == 0:
        os.chown(base, 12345, -1)
    else:
        pytest.skip("only root can give a folder away")
    assert presence.dead_runs() == frozenset()
    with presence.announced(RUN) as own:
        assert own is None


def test_the_runtime_folder_serves_where_the_temporary_one_can_not(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / f"pgsluice-{os.geteuid()}").write_text("in the way")
    (place / "runtime").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / "runtime"))
    with presence.announced(RUN) as marker:
        assert marker is not None
        assert marker.parent == place / "runtime" / "pgsluice"
