"""The command line: one file a command, imported when it is typed."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import IO, BinaryIO, NoReturn, TextIO, cast

import click
from click.shell_completion import CompletionItem

from pgsluice import visible
from pgsluice.cli import streams
from pgsluice.errors import PgsluiceError, UsageError, scrub
from pgsluice.version import __version__

#: Each command and the first line of its help, which `--help` shows without importing what the command needs.
COMMANDS = {
    "sync": "Make tables of the target equal to those of the source.",
    "plan": "Print what `sync` would do with the same options: of one table all, SQL included, of several a line each.",
    "verify": "Compare tables of the target with those of the source, row by row, and write nothing.",
    "init": "Look at the source, and write a file that says how each of its tables might be copied, and why.",
    "doctor": "Look at both servers and every table, and say what would keep a run from going well.",
    "config": "Look at the file that names servers and tables, and at what it may hold.",
    "status": "Show the last runs, of all or of a JOB (its id, target or source), or what became of each table last.",
    "report": "Write a page of HTML about a RUN, or the last one, and what runs did lately.",
    "serve": "Serve the page of `report`, always as of now, with JSON and numbers for Prometheus beside it.",
    "state": "Look at where jobs that read on stand, and move them.",
    "forget": "Forget that a TARGET was ever to be done, and where its jobs stand; its history and its rows stay.",
    "clean": "Drop the staging tables that dead runs have left, and only those.",
    "completion": "Print the script by which a shell completes commands, options and the names of tables.",
    "demo": "Copy a sample shop between two servers of its own, and compare every row.",
}


#: What is read where no table is named.
FILE_NAME = "pgsluice.yaml"
#: What the script of `completion` asks by; it also works for `python -m pgsluice`, whose name click would take.
COMPLETE_VARIABLE = "_PGSLUICE_COMPLETE"


class _Commands(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"pgsluice.cli.{name}"), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands from the list above, for a TAB is not to import them all."""
        found = [CompletionItem(name, help=said) for name, said in COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="pgsluice")
def cli() -> None:
    """Copy tables between PostgreSQL servers.

    Rows stream into a staging table on the target, are counted and checked there, and pass into the final table in
    one transaction.

    \b
    pgsluice sync --source service=shop --target service=lake --table 'sales.*'

    \b
    Exit codes: 0 done, 1 failed, 2 usage, 3 some tables failed, 4 verification found a difference,
    5 worth trying later, 6 refused (nothing written), 11 another run holds the table, 129/130/143 interrupted.
    """


class _Cleaned(io.TextIOBase):
    """A stream to which text gets cleaned, whoever printed it; what draws on a terminal writes to `drawing`."""

    def __init__(self, stream: TextIO, clean: Callable[[str], str], drawing: TextIO | _Cleaned | None = None) -> None:
        self._stream = stream
        self._clean = clean
        self.drawing = drawing or stream

    def write(self, text: str) -> int:
        return self._stream.write(self._clean(text))

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def buffer(self) -> BinaryIO:
        return self._stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


def _clean_streams() -> None:
    """Let no password of a connection string through to stderr, and nothing that commands a terminal to either."""
    if COMPLETE_VARIABLE not in os.environ:  # click writes bytes for a shell then: words that `completion` has chosen
        sys.stdout = _Cleaned(sys.stdout, visible.lines)
    drawing = _Cleaned(sys.stderr, scrub)
    sys.stderr = _Cleaned(sys.stderr, lambda text: visible.lines(scrub(text)), drawing)


def drawing(stream: TextIO) -> IO[str]:
    """Return where to draw on a terminal, by what commands it; names are shown there as `visible` has them."""
    return cast("IO[str]", stream.drawing if isinstance(stream, _Cleaned) else stream)


class _Signals:
    """Turns the first signal to end into KeyboardInterrupt; later ones find the clean-up under way."""

    def __init__(self) -> None:
        self.caught: int | None = None

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # a closed terminal; `nohup` keeps its meaning
            signal.signal(signal.SIGHUP, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.caught is None:
            self.caught = number
            raise KeyboardInterrupt
        print("pgsluice: rolling back and cleaning up, a moment please", file=sys.stderr)


def main() -> NoReturn:
    """Run the command line and exit with the code that its help tells."""
    signals = _Signals()
    signals.install()
    streams.steady()
    _clean_streams()
    try:
        code = cli.main(standalone_mode=False, complete_var=COMPLETE_VARIABLE)
    except click.exceptions.Exit as asked:
        code = asked.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except PgsluiceError as error:
        _show(error)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = 128 + (signals.caught or signal.SIGINT)
        print("pgsluice: interrupted; what was begun has been rolled back", file=sys.stderr)
        # An interrupt inside an exec(), as dataclasses make while they are imported, lets `python -m` end by SIGINT
        # whatever the code, unless another one went well since.
        exec("")  # noqa: S102 - runs nothing
    except Exception as error:
        if os.environ.get("PGSLUICE_DEBUG"):
            raise
        reason = scrub(f"{type(error).__name__}: {error}")
        if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
            _show(UsageError("no more files can be opened", hint="Let the process open more: ulimit -n 256."))
            sys.exit(UsageError.exit_code)
        _show(PgsluiceError(f"unexpected: {reason}", hint="That is a fault of ours; PGSLUICE_DEBUG=1 shows where."))
        code = 1
    code = code if isinstance(code, int) else 0
    if reason := streams.lost():
        print(f"pgsluice: what was printed could not be written: {reason}", file=sys.stderr)
        code = code or 1
    sys.exit(code)


def _show(error: PgsluiceError) -> None:
    print(f"pgsluice: {error}", file=sys.stderr)
    if "--json" in sys.argv:
        line = {"status": "failed", "exit_code": error.exit_code, "error": error.message, "hint": error.hint}
        print(json.dumps({**line, "step": error.step, "table": error.table, "sqlstate": error.sqlstate}))
