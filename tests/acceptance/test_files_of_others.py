"""A file that nobody has named is read where it is one's own or root's, and no file keeps a command waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from servers import Outcome, Pair, run_cli, unmeasured

from pgsluice import config
from pgsluice.config import files, references
from pgsluice.errors import UsageError

#: Any user that is neither root nor runs the tests.
MALLORY = 54_321
TABLES = "tables: {s.t: {}}\n"
#: Every command that finds the file by itself, as it is typed where the file says all the rest.
FINDING = (
    ("status",),
    ("status", "--lag"),
    ("plan",),
    ("sync",),
    ("verify",),
    ("doctor",),
    ("clean",),
    ("report",),
    ("serve", "--port", "0"),
    ("state", "show", "s.t"),
    ("config", "check"),
    ("config", "show"),
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def trap(folder: Path, name: str = "pgsluice.yaml") -> Path:
    """Return a file whose program leaves a trace, and nowhere to connect to."""
    file = folder / name
    program = folder / "trap.sh"
    program.write_text(f"#!/bin/sh\ntouch {folder}/sprung\necho 'host=/nowhere'\n")
    program.chmod(0o755)
    file.write_text(f"source: ${{cmd:{program}}}\ntarget: ${{cmd:{program}}}\n{TABLES}")
    return file


def sprung(folder: Path) -> bool:
    return (folder / "sprung").exists()


def run(folder: Path, *arguments: str, **environment: str) -> Outcome:
    return run_cli(*arguments, timeout=60, cwd=folder, **environment)


# --- whose file it is ------------------------------------------------------------------------------------------------


@as_root
@pytest.mark.parametrize("command", FINDING, ids=" ".join)
def test_a_file_of_another_user_is_refused_by_every_command_that_finds_it(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    os.chown(trap(tmp_path), MALLORY, MALLORY)
    done = run(tmp_path, *command)
    assert (done.code, sprung(tmp_path)) == (2, False), done
    assert done.err.splitlines() == [
        f"pgsluice: pgsluice.yaml belongs to user {MALLORY}, and may name programs that run as root: it is not read where it was not named",
        "If you trust what it says, name it: --config pgsluice.yaml. If it is yours, chown it.",
    ]


@as_root
def test_a_file_of_another_user_is_read_where_it_was_named(tmp_path: Path) -> None:
    file = trap(tmp_path)
    os.chown(file, MALLORY, MALLORY)
    assert run(tmp_path, "config", "check", "-c", "pgsluice.yaml").code == 0
    for named in ({"PGSLUICE_CONFIG": str(file)}, {}):
        done = run(tmp_path, "status", *(() if named else ("-c", "pgsluice.yaml")), **named)
        assert (done.code, sprung(tmp_path)) == (5, True), done
        (tmp_path / "sprung").unlink()


@as_root
@pytest.mark.parametrize("leading", ["to our own file", "to root's file by two links", "to the stranger's file"])
def test_a_link_is_its_owners_word_too(tmp_path: Path, leading: str) -> None:
    file = trap(tmp_path, "elsewhere.yaml")
    link = tmp_path / "pgsluice.yaml"
    if leading == "to root's file by two links":
        (tmp_path / "between").symlink_to(file)
        os.lchown(tmp_path / "between", MALLORY, MALLORY)
    link.symlink_to("between" if "two" in leading else file)
    if leading == "to the stranger's file":
        os.chown(file, MALLORY, MALLORY)
    else:
        os.lchown(link, MALLORY, MALLORY)
    done = run(tmp_path, "status")
    assert (done.code, sprung(tmp_path), "it is not read" in done.err) == (2, False, True), done
    os.lchown(link, 0, 0)
    os.chown(file, 0, 0)
    if "two" not in leading:
        assert run(tmp_path, "config", "check").code == 0


def test_roots_file_is_read_by_anybody_and_ones_own_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("pgsluice.yaml")
    file.write_text(TABLES)
    assert config.load(file, was_named=False).tables.patterns == ("s.t",)
    monkeypatch.setattr(os, "geteuid", lambda: MALLORY)
    if file.stat().st_uid == 0:
        os.chmod(tmp_path, 0o755)  # noqa: PTH101, S103 - as /etc/pgsluice is
        assert config.load(file, was_named=False).tables.patterns == ("s.t",)
        os.chown(file, 12_345, 12_345)
    with pytest.raises(UsageError, match="it is not read where it was not named"):
        config.load(file, was_named=False)


@as_root
def test_completion_passes_over_a_file_of_another_user_without_a_word(tmp_path: Path) -> None:
    os.chown(trap(tmp_path), MALLORY, MALLORY)
    assert offered(tmp_path, "pgsluice plan --select ") == []
    assert offered(tmp_path, "pgsluice plan -c pgsluice.yaml --select ") == ["s.t"]
    os.chown(tmp_path / "pgsluice.yaml", 0, 0)
    assert offered(tmp_path, "pgsluice plan --select ") == ["s.t"]
    assert not sprung(tmp_path)


OPEN = {
    "the file to all": ("pgsluice.yaml", 0o666, "pgsluice.yaml"),
    "the file to a group": ("pgsluice.yaml", 0o664, "pgsluice.yaml"),
    "the folder to all": (".", 0o777, "."),
    "the folder to a group": (".", 0o775, "."),
    "the folder behind the link": ("behind", 0o777, "behind"),
}


@pytest.mark.parametrize("to", OPEN)
def test_what_others_can_write_to_is_warned_of_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.setattr(files, "_is_private", lambda *_: False)
    monkeypatch.chdir(tmp_path)
    opened, mode, told = OPEN[to]
    behind = tmp_path / "behind" / "pgsluice.yaml"
    behind.parent.mkdir()
    behind.write_text(TABLES)
    file = Path("pgsluice.yaml")
    file.symlink_to(behind) if "behind" in to else file.write_text(TABLES)
    Path(opened).chmod(mode)
    said: list[str] = []
    assert config.load(file, warn=said.append, was_named=False).tables.patterns == ("s.t",)
    place = Path(told) if told == "pgsluice.yaml" else Path(told).absolute()
    assert [text.split(",")[0] for text in said] == [f"others can write to {place}"]
    said.clear()
    config.load(file, warn=said.append)
    assert said == [], "it was named"


@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o700])
def test_a_folder_where_nobody_can_replace_the_file_is_not_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(mode)
    Path("pgsluice.yaml").write_text(TABLES)
    with warnings.catch_warnings(action="error"):
        config.load(Path("pgsluice.yaml"), was_named=False)


@as_root
def test_a_folder_of_another_user_is_warned_of(tmp_path: Path) -> None:
    trap(tmp_path)
    os.chown(tmp_path, MALLORY, MALLORY)
    done = run(tmp_path, "config", "check")
    assert (done.code, f"pgsluice: warning: others can write to {tmp_path}, " in done.err) == (0, True), done


# --- what has no end -------------------------------------------------------------------------------------------------

ENDLESS = ("/dev/zero", "/dev/urandom", "folder", "fifo", "socket", "large", "none")


def made(folder: Path, kind: str) -> Path:
    path = folder / kind
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            import socket  # noqa: PLC0415 - this one needs it

            socket.socket(socket.AF_UNIX).bind(str(path))
        case "large":
            path.touch()
            os.truncate(path, 1 << 40)
    return Path(kind) if kind.startswith("/") else path


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("place", ["--config", "${file:}", "--query-file"])
def test_nothing_but_a_file_that_ends_is_read(tmp_path: Path, kind: str, place: str) -> None:
    path = made(tmp_path, kind)
    (tmp_path / "pgsluice.yaml").write_text(f"{TABLES}source: ${{file:{path}}}\n")
    servers = ("--source", "host=/nowhere", "--target", "host=/nowhere")
    arguments = {
        "--config": ("config", "check", "-c", str(path)),
        "${file:}": ("config", "check"),
        "--query-file": ("plan", *servers, "--query-file", str(path), "--to", "raw.x", "--key", "id"),
    }[place]
    done = run(tmp_path, *arguments)
    reasons = {"folder": "is a folder, not a file", "fifo": "is a pipe, not a file", "socket": "can't be read: No such device or address"}  # fmt: skip
    reasons |= {"large": "KiB", "none": "can't be read: No such file or directory"}
    assert (done.code, reasons.get(kind, "is a device, not a file") in done.err) == (2, True), done.err


def test_what_a_shell_puts_in_the_place_of_a_file_is_read(tmp_path: Path) -> None:
    command = f"{sys.executable} -m pgsluice config check -c <(printf 'tables: {{s.t: {{}}}}')"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "1 entry, every setting known" in done.stdout) == (0, True), done
    endless = f"{sys.executable} -m pgsluice config check -c <(yes '# nothing')"
    done = subprocess.run(["bash", "-c", endless], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "has more than 1024 KiB" in done.stderr) == (2, True), done


def test_an_open_pipe_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(files, "SECONDS", 0.1)
    os.write(writing, TABLES.encode())
    try:
        with pytest.raises(UsageError, match=r"can't be read: it did not end within 0\.1 s"):
            config.load(Path(f"/dev/fd/{reading}"))
    finally:
        os.close(writing)
        os.close(reading)


# --- programs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["yes", "cat /dev/zero", "sh -c 'yes & wait'"])
def test_a_program_that_prints_without_end_is_killed_with_what_it_started(command: str) -> None:
    with pytest.raises(UsageError, match="prints more than 64 KiB"):
        references.resolve(f"${{cmd:{command}}}", warnings.warn)


@pytest.mark.parametrize(
    "kind", ["it sleeps", "it ignores signals", "what it started keeps its output", "output closed"]
)
def test_a_program_that_never_ends_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(files, "SECONDS", 1.0)
    script = tmp_path / "program"
    started = f"sh -c 'echo $$ >> {tmp_path}/pids; exec sleep 600'"
    script.write_text(
        "#!/bin/sh\n"
        + {
            "it sleeps": f"{started}\n",
            "it ignores signals": f"trap '' TERM INT HUP\n{started}\n",
            "what it started keeps its output": f"{started} &\nwhile ! [ -s {tmp_path}/pids ]; do :; done\n",
            "output closed": f"exec >&-\n{started}\n",
        }[kind]
    )
    script.chmod(0o700)
    with pytest.raises(UsageError, match="it took more than 1 s"):
        references.resolve(f"${{cmd:{script}}}", warnings.warn)
    (pid,) = (tmp_path / "pids").read_text().split()
    assert has_ended(int(pid))


def test_a_signal_ends_the_program_that_is_asked_for_a_server(tmp_path: Path) -> None:
    script = tmp_path / "program"
    script.write_text(
        f"#!/bin/sh\nsh -c 'echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 600'\n"
    )
    script.chmod(0o700)
    (tmp_path / "pgsluice.yaml").write_text(f"target: ${{cmd:{script}}}\n{TABLES}")
    asking = subprocess.Popen(
        [sys.executable, "-m", "pgsluice", "status"], cwd=tmp_path, stderr=subprocess.PIPE, env=unmeasured()
    )
    while not (tmp_path / "pid").exists():
        time.sleep(0.05)
    asking.send_signal(signal.SIGTERM)
    asking.communicate(timeout=60)
    assert asking.returncode == 143
    assert has_ended(int((tmp_path / "pid").read_text()))


def has_ended(pid: int) -> bool:
    """Wait for a process that was killed to be gone: its new parent has to notice."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_what_a_program_left_running_on_purpose_stays(tmp_path: Path) -> None:
    script = tmp_path / "program"
    script.write_text(f"#!/bin/sh\nsleep 600 >&- 2>&- &\necho $! > {tmp_path}/pid\necho host=/nowhere\n")
    script.chmod(0o700)
    assert references.resolve(f"${{cmd:{script}}}", warnings.warn) == "host=/nowhere"
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"a\xed\xa0\x80"])
def test_what_is_no_text_is_told(tmp_path: Path, text: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(text)
    secret.chmod(0o600)
    for reference in (f"${{file:{secret}}}", f"${{cmd:cat {secret}}}"):
        with pytest.raises(UsageError, match="is not UTF-8"):
            references.resolve(reference, warnings.warn)


# --- a TAB -----------------------------------------------------------------------------------------------------------


def offered(folder: Path, line: str) -> list[str]:
    """Return what bash gets for a line."""
    asked = {"_PGSLUICE_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = run(folder, **asked)
    assert (done.code, done.err) == (0, "")
    return [word.removeprefix("plain,") for word in done.out.splitlines() if word]


def test_completion_waits_for_nothing_and_runs_nothing(tmp_path: Path) -> None:
    trap(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert offered(tmp_path, "pgsluice plan --select ") == ["s.t"]
    for line in (
        "-c fifo --select ",
        "--query-file fifo --table ",
        "--query-file - --table ",
        "-c /dev/zero --select ",
    ):
        assert offered(tmp_path, f"pgsluice plan {line}") == []
    for secret in ("${file:fifo}", "${file:/dev/zero}"):
        (tmp_path / "pgsluice.yaml").write_text(f"{TABLES}source: {secret}\n")
        assert offered(tmp_path, "pgsluice plan --select ") == []
    assert not sprung(tmp_path)


def test_a_query_by_an_open_pipe_is_copied(pair: Pair) -> None:
    pair.source.execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1), (2)")
    command = (
        f"{sys.executable} -m pgsluice sync --source '{pair.source.dsn}' --target '{pair.target.dsn}' --to raw.x"
        " --key id --quiet --query-file <(echo 'SELECT id FROM s.t')"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert pair.target.rows("SELECT id FROM raw.x ORDER BY 1") == [(1,), (2,)]
