"""``pgsluice report``."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.core import ParameterSource

from pgsluice import page
from pgsluice.cli.options import on_target, option
from pgsluice.endpoint import Endpoint
from pgsluice.errors import UsageError, refuse_unwritable, writing
from pgsluice.retry import translated
from pgsluice.units import seconds_of, several


@click.command()
@on_target
@click.argument("run", required=False)
@option("--last", default="30d", show_default=True, metavar="SPAN", help="Runs of so long are in the page.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, allow_dash=True), default="report.html", show_default=True,
    help="File that is written; '-' is stdout.",
)  # fmt: skip
def report(target: Endpoint, run: str | None, last: str, output: Path) -> int:
    """Write a page of HTML about a RUN, or the last one, and what runs did lately.

    It is one file that needs nothing from elsewhere, and shows what the run history knows.

    \b
    pgsluice report --target service=lake -o night.html
    """
    if str(output) != "-":
        _check(output)
    with translated("report"), target.looking().open() as session:
        history = page.look_up(session, target.place, seconds_of(last), run)
    text = page.render(history)
    if str(output) == "-":
        click.echo(text)
        return 0
    _write(output, text)
    click.echo(f"{output}: {several(len(history.runs), 'run')}, {several(len(history.tables), 'table')}", err=True)
    return 0


def _check(output: Path) -> None:
    """See that the page can be written. A link that was not named is not followed: anybody may have put it there.

    Raises:
        UsageError: it is a link, or can't be written.
    """
    if not _is_named() and output.is_symlink():
        raise UsageError(f"{output} is a link, and nobody named it", hint=f"Write -o {output} to follow it.")
    refuse_unwritable(output)


def _is_named() -> bool:
    return click.get_current_context().get_parameter_source("output") is not ParameterSource.DEFAULT


def _write(output: Path, text: str) -> None:
    """Write the page.

    Raises:
        UsageError: it can't be written, or is a link by now that was not named.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | (0 if _is_named() else os.O_NOFOLLOW)
    with writing(output), os.fdopen(os.open(output, flags, 0o666), "w", encoding="utf-8") as file:
        file.write(text)
