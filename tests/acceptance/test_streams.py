"""What becomes of the output changes no exit code: closed streams, readers that leave, a full disk."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Pair, unmeasured

#: As typed behind a command, by what is done to its streams.
GONE = {
    "stderr closed": "2>&-",
    "stdout closed": ">&-",
    "both closed": ">&- 2>&-",
    "all closed": "<&- >&- 2>&-",
    "stderr on a full disk": "2>/dev/full",
    "stdout not to be written": "1</dev/null",
    "a reader that leaves": "| :",
    "a reader of both that leaves": "2>&1 | :",
}
ROWS = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v text); INSERT INTO s.t SELECT i, 'v' || i FROM generate_series(1, 500) i"


def bash(command: str, tail: str, folder: Path | None = None) -> tuple[int, str, str]:
    """Return the exit code of a command with a tail of redirections, and what was seen of it all the same."""
    line = f"{shlex.join([sys.executable, '-m', 'pgsluice'])} {command} {tail}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env=unmeasured(),
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("gone", GONE)
def test_a_sync_is_done_and_says_so_by_its_exit_code_whoever_reads_it(pair: Pair, gone: str) -> None:
    pair.source.execute(ROWS)
    servers = shlex.join(["--source", pair.source.dsn, "--target", pair.target.dsn])
    code, _, err = bash(f"sync {servers} --table s.t -vv --json", GONE[gone])
    assert (code, "fault of ours" in err) == (0, False), err
    assert pair.target.image("s.t") == pair.source.image("s.t")
    code, _, _ = bash(f"sync {servers} --table s.t --log-format json", GONE[gone])
    assert code == 0
    pair.target.execute("TRUNCATE s.t; ALTER TABLE s.t DROP COLUMN v, ADD COLUMN other int NOT NULL")
    assert bash(f"sync {servers} --table s.t", GONE[gone])[0] == 6, "a refusal is one still"


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize(
    ("command", "code"), [("--help", 0), ("config schema", 0), ("config check", 2), ("sync --table", 2), ("status", 2)]
)
def test_every_command_keeps_its_exit_code(tmp_path: Path, gone: str, command: str, code: int) -> None:
    assert bash(command, GONE[gone], tmp_path)[0] == code


def test_output_that_a_full_disk_took_is_told_and_fails_what_went_well(tmp_path: Path) -> None:
    code, _, err = bash("config schema", ">/dev/full", tmp_path)
    assert (code, err) == (1, "pgsluice: what was printed could not be written: No space left on device\n")
    assert bash("config check", ">/dev/full", tmp_path)[0] == 2
    assert bash("config schema", ">/dev/full 2>/dev/full", tmp_path)[0] == 1


def test_a_closed_stderr_is_not_what_the_next_connection_gets(pair: Pair) -> None:
    """Were it so, the warning of a typed password would be sent to the server as a message of the protocol."""
    pair.source.execute(ROWS)
    asked = (
        "import os, sys; from pgsluice.cli import streams; streams.steady(); from pgsluice.endpoint import Endpoint\n"
        "with Endpoint(sys.argv[1], read_only=True).open() as session:\n"
        "    print('a secret of ours', file=sys.stderr, flush=True)\n"
        "    os._exit(0 if os.readlink('/proc/self/fd/2') == os.devnull and os.readlink('/proc/self/fd/0') == os.devnull else 1)"
    )
    line = f"{shlex.join([sys.executable, '-c', asked, pair.source.dsn])} <&- 2>&-"
    assert subprocess.run(["bash", "-c", line], timeout=60, check=False).returncode == 0
