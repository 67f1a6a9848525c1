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
#: Announces a run, starts a program that outlives it, says where the run's folder is, and waits to be killed.
PROGRAM = """
import subprocess, sys, time
from pgsluice import presence
with presence.announced(sys.argv[1]) as folder:
    child = subprocess.Popen(["sleep", "60"], start_new_session=True, stdout=subprocess.DEVNULL)
    (folder / "secret").write_text("s3cr3t")
    (folder / "more").mkdir()
    print(child.pid, folder, flush=True)
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
        child, folder = process.stdout.readline().split(maxsplit=1)
        children.append(int(child))
        return process, Path(folder.strip())

    yield started
    for process in processes:
        process.kill()
        process.communicate()
    for child in children:
        os.kill(child, signal.SIGKILL)


def killed(started: Started) -> Path:
    process, folder = started
    process.kill()
    process.wait()
    return folder


def test_a_run_that_lives_is_not_dead_and_one_that_was_killed_is(start: Callable[[], Started]) -> None:
    process, folder = start()
    assert presence.dead_runs() == frozenset()
    assert folder.is_dir()
    assert folder.name.startswith(f"{RUN}.")
    killed((process, folder))
    assert presence.dead_runs() == {RUN}  # though the program that it started lives on
    assert folder.is_dir()


def test_a_run_that_ended_leaves_nothing(place: Path) -> None:
    with presence.announced(RUN) as folder:
        assert folder is not None
        assert folder.stat().st_mode & 0o777 == 0o700
    assert presence.dead_runs() == frozenset()
    assert list(place.iterdir()) == []


def test_a_sweep_removes_what_a_dead_run_left_and_remembers_that_it_died(start: Callable[[], Started]) -> None:
    folder = killed(start())
    presence.sweep()
    assert [left.name for left in folder.iterdir()] == ["lock"]
    assert presence.dead_runs() == {RUN}


def test_a_sweep_leaves_a_living_run_alone(start: Callable[[], Started]) -> None:
    _, folder = start()
    presence.sweep()
    assert {left.name for left in folder.iterdir()} == {"lock", "secret", "more"}


def test_a_run_that_died_long_ago_is_forgotten(start: Callable[[], Started]) -> None:
    folder = killed(start())
    long_ago = time.time() - 30 * 86_400
    os.utime(folder, (long_ago, long_ago))
    presence.sweep()
    assert not folder.exists()
    assert presence.dead_runs() == frozenset()


def test_a_run_of_another_machine_is_never_called_dead(start: Callable[[], Started]) -> None:
    folder = killed(start())
    folder.rename(folder.with_name(f"{RUN}.0123456789abcdef"))  # as a shared folder shows it
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
    folder = killed(start())
    base = folder.parent
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
    with presence.announced(RUN) as folder:
        assert folder is not None
        assert folder.parent == place / "runtime" / "pgsluice"
