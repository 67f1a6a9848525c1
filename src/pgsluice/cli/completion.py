"""``pgsluice completion``, and the names of tables that shells complete: those that earlier commands have seen.

A TAB never waits for a server. The commands that look at one note the names they saw in a file of this user.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from pgsluice.cli import COMPLETE_VARIABLE, FILE_NAME
from pgsluice.endpoint import Endpoint
from pgsluice.errors import UsageError
from pgsluice.job import TablePattern, TableRef

if TYPE_CHECKING:
    from pgsluice.config import Configuration

_KEPT_SECONDS = 90 * 86_400
#: Any other name would have to be quoted, each shell in its own way, or would be taken for an option.
_PLAIN_NAME = re.compile(r"(?!-)[\w.-]+")
#: No folder, no space, no right, no home.
_NO_CACHE = (OSError, RuntimeError)

#: Of each server, by the hash of its place: its tables, and when they were seen last.
_Seen = dict[str, dict[str, float]]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script by which a shell completes commands, options and the names of tables.

    \b
    pgsluice completion bash > ~/.local/share/bash-completion/completions/pgsluice
    pgsluice completion zsh > ~/.zfunc/_pgsluice    # a folder of $fpath
    pgsluice completion fish > ~/.config/fish/completions/pgsluice.fish
    """
    program = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three
    click.echo(kind(program, {}, "pgsluice", COMPLETE_VARIABLE).source())


# --- what was seen ---------------------------------------------------------------------------------------------------


def remember(endpoint: Endpoint, tables: Iterable[object]) -> None:
    """Note names of tables of a server, for shells to complete. Where that can't be done, nothing is told of it.

    Args:
        endpoint: the server; one whose connection string a callable gives has no place to know it by.
        tables: `TableRef`, or names as they print. What names no table is left out.
    """
    names = {str(table) for table in tables if _is_name(str(table))}
    if callable(endpoint.dsn) or not names:
        return
    now = time.time()
    known = _read()
    known.setdefault(_key(endpoint), {}).update(dict.fromkeys(names, now))
    recent = {
        server: {name: at for name, at in seen.items() if at > now - _KEPT_SECONDS} for server, seen in known.items()
    }
    with contextlib.suppress(*_NO_CACHE):
        _write({server: seen for server, seen in recent.items() if seen})


def _is_name(text: str) -> bool:
    with contextlib.suppress(UsageError):
        return bool(TableRef.parse(text))
    return False


def _key(endpoint: Endpoint) -> str:
    return hashlib.sha256(endpoint.place.encode()).hexdigest()[:32]


def _file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pgsluice" / "tables.json"


def _read() -> _Seen:
    """Return what is known; nothing where the file is not there, or not ours to understand."""
    with contextlib.suppress(*_NO_CACHE, ValueError, AttributeError, TypeError):
        known = json.loads(_file().read_text("utf-8"))
        return {server: {name: float(at) for name, at in seen.items()} for server, seen in known.items()}
    return {}


def _write(known: _Seen) -> None:
    """Put a new file in the place of the old one, for this user alone; of two at once, one is lost: no harm."""
    _file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=_file().parent, prefix=".tables-")  # of mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(known, file, ensure_ascii=False)
        Path(name).replace(_file())
    except BaseException:
        Path(name).unlink()
        raise


# --- what is offered -------------------------------------------------------------------------------------------------


def tables(ctx: click.Context, incomplete: str) -> list[str]:
    """Return the tables of the source that a word may stand for."""
    return _offered(incomplete, lambda: _seen(ctx, "source", _configured(ctx)))


def selectable(ctx: click.Context, incomplete: str) -> list[str]:
    """Return the tables of the file that a word may stand for, by their names on the source and on the target."""
    return _offered(incomplete, lambda: _named_by_file(ctx))


def jobs(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the targets of jobs that a word may stand for."""
    return _offered(incomplete, lambda: _seen(ctx, "target", _configured(ctx)))


def _offered(incomplete: str, names: Callable[[], Iterable[str]]) -> list[str]:
    """Return those that begin so; whatever goes wrong, a shell's line is no place to say it."""
    with contextlib.suppress(Exception):
        return sorted({name for name in names() if name.startswith(incomplete) and _PLAIN_NAME.fullmatch(name)})
    return []


def _configured(ctx: click.Context) -> Configuration | None:
    """Return the file that the command would read, where it can be read; no program of it is run."""
    named = ctx.params.get("config_file")
    file = named or Path(FILE_NAME)
    if not file.is_file():
        return None
    from pgsluice import config  # noqa: PLC0415 - a TAB without a file need not wait for what reads it

    with contextlib.suppress(UsageError):
        return config.load(file, warn=lambda _: None, was_named=bool(named))
    return None


def _seen(ctx: click.Context, side: str, file: Configuration | None) -> Iterable[str]:
    """Return what was seen of a server; of all of them, where it is not known which, or nothing of it is."""
    known = _read()
    dsn = ctx.params.get(side) or getattr(file, side, None)
    of_it = known.get(_key(Endpoint(dsn, read_only=True))) if isinstance(dsn, str) else None
    return of_it if of_it is not None else (name for seen in known.values() for name in seen)


def _named_by_file(ctx: click.Context) -> Iterator[str]:
    file = _configured(ctx)
    if file is None:
        return
    entries = [entry for entry in file.tables.entries if "query" not in entry.settings]
    named = {pattern.ref for entry in entries if not (pattern := TablePattern.parse(entry.pattern)).is_glob}
    found = [
        ref
        for ref in named.union(map(TableRef.parse, _seen(ctx, "source", file)))
        if any(entry.matches(ref) for entry in entries)
    ]
    for job in file.tables.jobs(found):
        yield str(job.target)
        if isinstance(job.source, TableRef):
            yield str(job.source)
