"""``pgsluice config``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pgsluice.cli import FILE_NAME
from pgsluice.cli.options import configuration
from pgsluice.cli.render import say
from pgsluice.config import DSNS, SQL, Configuration, references
from pgsluice.config.model import FileSettings

_FILE = click.option(
    "--config",
    "-c",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"The file. Default: {FILE_NAME} of this folder.",
)


@click.group()
def config() -> None:
    """Look at the file that names servers and tables, and at what it may hold.

    \b
    pgsluice config check
    """


@config.command()
def schema() -> None:
    """Print the JSON Schema of the file, by which editors complete and check it.

    \b
    pgsluice config schema > pgsluice.schema.json
    """
    click.echo(json.dumps(FileSettings.model_json_schema(), indent=2))


@config.command()
@_FILE
def check(config_file: Path | None) -> None:
    """Read the file, and tell everything that is wrong with it; no server is asked.

    \b
    pgsluice config check -c pgsluice.yaml
    """
    known = _read(config_file)
    entries = len(known.tables.entries)
    click.echo(f"{known.path} is fine: {entries} {'entry' if entries == 1 else 'entries'}, every setting known.")


@config.command()
@_FILE
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
def show(config_file: Path | None, origin: bool) -> None:
    """Print the file's settings, references resolved, secrets as ***; what it leaves out is as `sync --help` says.

    \b
    pgsluice config show --origin
    """
    for place, value, line in _settings(known := _read(config_file)):
        say(f"{place}: {value}" + (f"  # {known.path}:{line}" if origin else ""))


def _read(named: Path | None) -> Configuration:
    return configuration(named or Path(FILE_NAME), was_named=bool(named))


def _settings(known: Configuration) -> Iterator[tuple[str, str, int]]:
    for place, value in _leaves(known.document.plain, ()):
        is_sql = place[-1] in SQL
        is_text = isinstance(value, str) and not is_sql
        shown = references.shown(value, is_dsn=place in DSNS) if is_text else json.dumps(value)
        yield ".".join(place), shown, known.document.line(place)


def _leaves(node: Any, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 - any value
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _leaves(value, (*place, str(name)))
    else:
        yield place, node
