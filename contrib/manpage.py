"""Writes pgsluice.1, the manual page, from what the commands say of themselves: ``manpage.py FOLDER``."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from pgsluice.cli import cli
from pgsluice.version import __version__


def page() -> str:
    """Return the whole page, as roff."""
    top = click.Context(cli, info_name="pgsluice", max_content_width=1000)
    summary, _, rest = _help_of(cli).partition("\n\n")
    lines = [
        f'.TH PGSLUICE 1 "" "pgsluice {__version__}" "User Commands"',
        *(".SH NAME", f"pgsluice \\- {_text(summary.rstrip('.'))}"),
        *(".SH SYNOPSIS", *_usage(top)),
        *(".SH DESCRIPTION", *_paragraphs(rest)),
        *(".SH OPTIONS", *_options(top)),
        ".SH COMMANDS",
        *(line for context in _commands(top) for line in _command(context)),
    ]
    return "\n".join(lines) + "\n"


def _commands(context: click.Context) -> Iterator[click.Context]:
    """Return the contexts of all commands, those of groups behind their group."""
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            if command := group.get_command(context, name):
                inner = click.Context(command, info_name=name, parent=context)
                yield inner
                yield from _commands(inner)


def _command(context: click.Context) -> Iterator[str]:
    yield f".SS {_text(context.command_path)}"
    yield from _usage(context)
    yield from _paragraphs(_help_of(context.command))
    yield from _options(context)


def _usage(context: click.Context) -> Iterator[str]:
    yield f".B {_text(context.command_path)}"
    yield _text(" ".join(context.command.collect_usage_pieces(context)))


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.params:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record:
            yield from (".TP", f".B {_text(record[0])}", _text(record[1]))


def _paragraphs(text: str) -> Iterator[str]:
    """Return paragraphs; one that click is told not to wrap keeps its lines."""
    for paragraph in filter(None, re.split(r"\n\s*\n", text)):
        is_kept = paragraph.startswith("\b")
        yield from (".PP", ".nf") if is_kept else (".PP",)
        yield from map(_text, paragraph.strip("\b\n").splitlines())
        yield from (".fi",) if is_kept else ()


def _help_of(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "")


def _text(text: str) -> str:
    """Return a line that means nothing to roff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pgsluice.1").write_text(page(), "utf-8")
