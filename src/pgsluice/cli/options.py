"""Options that several commands share, and what they mean. Each has an environment variable ``PGSLUICE_*``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgsluice.errors import UsageError
from pgsluice.job import Lane, MaxDelete, Mode, Options, Selection, StagingKind
from pgsluice.session import Endpoint

_F = TypeVar("_F", bound=Callable[..., Any])


def option(*names: str, **settings: Any) -> Callable[[_F], _F]:  # noqa: ANN401 - click's own settings
    """Return a click option that also reads ``PGSLUICE_<NAME>``."""
    long = next(name for name in names if name.startswith("--"))
    variable = "PGSLUICE_" + long.strip("-").split("/")[0].replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, **settings)


class _TableName(click.ParamType[str]):
    """A name or pattern; in the environment several stand with commas, for blanks belong to names."""

    name = "NAME"
    envvar_list_splitter = ","


_SOURCE = option(
    "--source", required=True, metavar="URI", help="Where rows come from: a URI, a conninfo string or service=NAME."
)
_TARGET = option("--target", required=True, metavar="URI", help="Where rows go.")
json_output = option("--json", "as_json", is_flag=True, help="JSON Lines on stdout, the summary last.")
_SELECTION = (
    option(
        "--table",
        "tables",
        required=True,
        multiple=True,
        type=_TableName(),
        help="A table (schema.table) or a pattern ('sales.*'); again for more (commas in the environment).",
    ),
    option(
        "--to",
        default="{schema}.{table}",
        show_default=True,
        metavar="NAME",
        help="Name on the target; {schema} and {table} stand for the source's.",
    ),
    option("--where", metavar="SQL", help="Condition that limits what is read, and what may be deleted."),
    option("--key", metavar="COLUMNS", help="Columns that tell rows apart, with commas. Default: the primary key."),
    option(
        "--mode",
        type=click.Choice([mode.value for mode in Mode]),
        default=Mode.FULL.value,
        show_default=True,
        help="full deletes rows gone from the source, upsert keeps them.",
    ),
    option(
        "--max-delete",
        default="10%",
        show_default=True,
        metavar="SHARE|ROWS",
        help="Refuse to delete more than this; a share is not asked of targets under 100 rows.",
    ),
    option(
        "--staging",
        type=click.Choice([kind.value for kind in StagingKind]),
        default=StagingKind.AUTO.value,
        show_default=True,
        help="Kind of staging table.",
    ),
    option(
        "--lane",
        type=click.Choice([lane.value for lane in Lane]),
        default=Lane.AUTO.value,
        show_default=True,
        help="Who reads the source: a psql process or this one.",
    ),
    option("--psql", metavar="PATH", help="The psql to use. Default: the one on PATH."),
    option("--verify/--no-verify", default=True, show_default=True, help="Count both sides before the commit."),
    option(
        "--lock-timeout", type=click.FloatRange(0), default=30, show_default=True, help="Seconds to wait for locks."
    ),
    option(
        "--connect-timeout", type=click.FloatRange(1), default=10, show_default=True, help="Seconds to wait to connect."
    ),
)


def target_only(command: _F) -> _F:
    """Give a command ``--target`` and ``--json``."""
    return _with(command, (_TARGET, json_output))


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the two servers, the tables and the ways; it is called with source, target, selection, options."""

    @functools.wraps(command)
    def wrapped(source: str, target: str, **given: Any) -> Any:  # noqa: ANN401 - as click calls
        names = ("tables", "to", "where", "key", "mode", "max_delete", "staging", "lane", "psql", "verify")
        values = {name: given.pop(name) for name in (*names, "lock_timeout", "connect_timeout")}
        return command(
            Endpoint(_warned(source, "--source"), read_only=True),
            Endpoint(_warned(target, "--target"), read_only=False),
            _selection(values),
            _options(values),
            **given,
        )

    return _with(wrapped, (_SOURCE, _TARGET, *_SELECTION, json_output))


def _with(command: _F, options: tuple[Callable[[Any], Any], ...]) -> _F:
    for add in reversed(options):
        command = add(command)
    return command


def _selection(values: dict[str, Any]) -> Selection:
    key = tuple(name.strip() for name in values["key"].split(",")) if values["key"] else ()
    if "" in key:
        raise UsageError(f"--key {values['key']!r} names an empty column", hint="Write --key a,b.")
    return Selection(values["tables"], values["to"], Mode(values["mode"]), values["where"] or None, key)


def _options(values: dict[str, Any]) -> Options:
    return Options(
        staging=StagingKind(values["staging"]),
        lane=Lane(values["lane"]),
        max_delete=MaxDelete.parse(values["max_delete"]),
        verify=values["verify"],
        lock_timeout=values["lock_timeout"],
        connect_timeout=values["connect_timeout"],
        psql=values["psql"],
    )


def _warned(dsn: str, name: str) -> str:
    """Warn of a password that stands where every user of the machine can read it."""
    typed = any(dsn in argument for argument in sys.argv)
    try:
        has_password = "password" in conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # told in full when it is used
        return dsn
    if typed and has_password:
        variable = f"PGSLUICE_{name.strip('-').upper()}"
        print(
            f"pgsluice: warning: the password in {name} stands in the process list and the shell's history;"
            f" better: {name} service=NAME, a passfile (~/.pgpass), or the environment variable {variable}",
            file=sys.stderr,
        )
    return dsn
