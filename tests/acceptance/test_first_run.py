"""docs/first-run.md: what a new user types, and what comes of it. PGSLUICE_WRITE_TRANSCRIPT=1 writes it anew."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from servers import unmeasured
from test_demo import Demo, needs_wheel, own_tmp

PAGE = Path(__file__).parents[2] / "docs" / "first-run.md"
_BLOCK = re.compile(r"^```console\n\$ (?P<command>pgsluice .+)\n(?P<out>[\s\S]*?)^```$", re.MULTILINE)
#: What differs from one time to the next: addresses, names of runs, numbers with their units, widths of columns.
_VARIES = re.compile(r"@\S+:\d+(?=/)|\d{8}t\d{6}_[0-9a-f]{6}|\d[\d,.]*(?: (?:B|KiB|MiB|s)\b|[smh]\b)?| {2,}")

__all__ = ["own_tmp"]


def steady(text: str) -> str:
    return _VARIES.sub(lambda match: "  " if match[0].isspace() else "#", text)


@needs_wheel
def test_a_new_user_gets_from_an_empty_folder_to_a_report_in_six_commands(own_tmp: Path) -> None:
    transcript: list[tuple[str, str]] = []
    page = PAGE.read_text("utf-8")
    demo_line, *commands = [match["command"] for match in _BLOCK.finditer(page)]
    assert len(commands) <= 7
    folder = own_tmp / "empty"
    folder.mkdir()
    with Demo(own_tmp, *shlex.split(demo_line)[2:]) as demo:
        demo.await_line("Both servers stay up. Ctrl-C stops both servers and removes them.")
        ends = dict(line.split()[1].split("=", 1) for line in demo.out.splitlines() if line.startswith("  export "))
        servers = {name: shlex.split(value)[0] for name, value in ends.items()}
        transcript.append((demo_line, demo.out[demo.out.index("Your turn:") :].partition("\nLook into")[0]))
        for command in commands:
            done = subprocess.run(
                [sys.executable, "-m", *shlex.split(command)],
                cwd=folder,
                env={**unmeasured(), **servers, "COLUMNS": "120"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, (command, done.stdout)
            transcript.append((command, done.stdout))
        assert sorted(path.name for path in folder.iterdir()) == ["pgsluice.yaml", "report.html"]
        demo.end(signal.SIGINT)
    said = iter(transcript)

    def block(match: re.Match[str]) -> str:
        command, out = next(said)
        assert command == match["command"]
        out = re.sub(r"'postgresql://\S+'", "'postgresql://..'", out).strip("\n")
        return f"```console\n$ {command}\n{out}\n```"

    found = _BLOCK.sub(block, page)
    if os.environ.get("PGSLUICE_WRITE_TRANSCRIPT"):
        PAGE.write_text(found, "utf-8")
    assert steady(found) == steady(page)


@pytest.mark.parametrize(
    ("text", "same"), [("run 20261123t233149_68d9d2: 0.1 s", "run 20250101t000000_aaaaaa: 12.5 s")]
)
def test_what_varies_is_left_out_and_words_are_not(text: str, same: str) -> None:
    assert steady(text) == steady(same)
    assert steady(text) != steady(text.replace("run", "runs"))
