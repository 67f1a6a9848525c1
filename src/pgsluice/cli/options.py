"""Options that several commands share, and what they mean. Each has an environment variable ``PGSLUICE_*``."""

from __future__ import annotations

import contextlib
import functools
import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource as _Origin
from click.shell_completion import CompletionItem

from pgsluice.cli import FILE_NAME, completion
from pgsluice.cursors import CURSOR_TYPES
from pgsluice.endpoint import Dsn, Endpoint, parameters_of
from pgsluice.errors import SECRETS, UsageError
from pgsluice.job import (
    CopyFormat,
    Lane,
    Mode,
    Options,
    Selection,
    StagingKind,
    Strategy,
    SyncJob,
    TargetWriters,
    Verify,
    requested,
    sessions,
)
from pgsluice.policies import Drift, LatePolicy, NullCursors, OnLostState
from pgsluice.settings import options_of, treatment_of
from pgsluice.units import seconds_of

if TYPE_CHECKING:
    from pgsluice.config import Configuration

_STDIN = 0
#: Of a query.
_MOST_BYTES = 1 << 20
_F = TypeVar("_F", bound=Callable[..., Any])


def option(*names: str, **settings: Any) -> Callable[[_F], _F]:  # noqa: ANN401 - click's own settings
    """Return a click option that also reads ``PGSLUICE_<NAME>``."""
    long = next(name for name in names if name.startswith("--"))
    variable = "PGSLUICE_" + long.strip("-").split("/")[0].replace("-", "_").upper()
    return click.option(*names, envvar=variable, show_envvar=True, **settings)


class TableName(click.ParamType[str]):
    """A name or pattern; in the environment several stand with commas, for blanks belong to names."""

    name = "NAME"
    envvar_list_splitter = ","

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that are known, without asking a server."""
        offered = completion.selectable if param.name == "select" else completion.tables
        return [CompletionItem(name) for name in offered(ctx, incomplete)]


class Span(click.ParamType[float]):
    """A span of time in seconds, or with a unit."""

    name = "SPAN"

    def __init__(self, least: float = 0) -> None:
        """Take no span of fewer seconds than `least`."""
        self._least = least

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        try:
            seconds = float(value) if isinstance(value, int | float) else seconds_of(value)
        except UsageError as error:
            self.fail(f"{error.message}. {error.hint}", param, ctx)
        if seconds < self._least:
            self.fail(f"{value} is less than {self._least:g}s.", param, ctx)
        return seconds


source_option = option(
    "--source", metavar="URI", help="Where rows come from: a URI, a conninfo string or service=NAME."
)
_TARGET = option("--target", metavar="URI", help="Where rows go.")
_CONFIG = option(
    "--config",
    "-c",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A file that names servers and tables. Default: pgsluice.yaml of this folder, where no table is named.",
)
_SELECT = option(
    "--select",
    multiple=True,
    type=TableName(),
    help="Of the file's tables, those of this name or pattern, on the source or the target; again for more.",
)
json_output = option("--json", "as_json", is_flag=True, help="JSON Lines on stdout, the summary last.")
_SELECTION = (
    option(
        "--table",
        "tables",
        multiple=True,
        type=TableName(),
        help="A table (schema.table) or a pattern ('sales.*'); again for more (commas in the environment).",
    ),
    option(
        "--query-file",
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="FILE",
        help="A SELECT as the source, instead of tables ('-' reads stdin); needs --to and --key.",
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
    option("--columns", metavar="COLUMNS", help="Copy only these columns of the source, with commas."),
    option("--exclude", metavar="COLUMNS", help="Copy all columns but these."),
    option("--rename", multiple=True, metavar="OLD=NEW", help="Call a column otherwise on the target; again for more."),
    option("--cast", multiple=True, metavar="COLUMN=TYPE", help="Let the source cast a column; again for more."),
    option(
        "--constant",
        "constants",
        multiple=True,
        metavar="NAME=VALUE",
        help="Add a column with one value (NAME::TYPE=VALUE; @snapshot is the run's moment); deletes stay within it.",
    ),
    option(
        "--mask",
        multiple=True,
        metavar="COLUMN=HOW",
        help="Keep values from leaving the source: null, hash, hash:SALT or constant:VALUE; again for more.",
    ),
    option(
        "--mode",
        type=click.Choice([mode.value for mode in Mode]),
        default=Mode.FULL.value,
        show_default=True,
        help="full deletes rows gone from the source, upsert keeps them; incremental reads on by --cursor, xmin by"
        " the transactions that wrote, append each row once.",
    ),
    option("--cursor", metavar="COLUMN", help="What new and changed rows move forward, for --mode incremental."),
    option(
        "--cursor-type",
        type=click.Choice(list(CURSOR_TYPES)),
        help="What the cursor holds. Default: found from the catalog (yyyymmdd has to be named).",
    ),
    option(
        "--late-rows",
        default=LatePolicy.AUTO.value,
        show_default=True,
        metavar="POLICY",
        help="How rows are found that commit below the watermark: auto, scan, horizon, overlap:SPAN, trust.",
    ),
    option("--late-within", metavar="SPAN", help="Look for late rows only so far behind the watermark: 7d, 1000."),
    option(
        "--scan-limit",
        default="10GB",
        show_default=True,
        metavar="SIZE",
        help="Heap up to which --late-rows auto scans a table.",
    ),
    option("--since", metavar="VALUE", help="Read from this cursor on, once; the watermark stays where it is."),
    option("--until", metavar="VALUE", help="With --since, read no row at or above this cursor."),
    option("--full-refresh", is_flag=True, help="Forget the stored position and start over."),
    option(
        "--on-lost-state",
        type=click.Choice([choice.value for choice in OnLostState]),
        default=OnLostState.REREAD.value,
        show_default=True,
        help="Where the stored position means nothing any more (a restore, a failover).",
    ),
    option(
        "--null-cursors",
        type=click.Choice([choice.value for choice in NullCursors]),
        default=NullCursors.COPY.value,
        show_default=True,
        help="Rows without a cursor: copied in each run, or refused.",
    ),
    option(
        "--deletes",
        metavar="POLICY",
        help="Rows gone from the source: keep, sweep (compare all keys and delete), soft:COLUMN (mark them)."
        " Default: sweep for full, else keep.",
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
        help="Kind of staging table; promoted where the target is missing, and auto elsewhere.",
    ),
    option(
        "--lane",
        type=click.Choice([lane.value for lane in Lane]),
        default=Lane.AUTO.value,
        show_default=True,
        help="Who reads the source: a psql process or this one.",
    ),
    option(
        "--format",
        type=click.Choice([each.value for each in CopyFormat]),
        default=CopyFormat.AUTO.value,
        show_default=True,
        help="Of the COPY stream; auto is binary where every column's type is proven safe, and text elsewhere.",
    ),
    option(
        "--strategy",
        type=click.Choice([each.value for each in Strategy]),
        default=Strategy.AUTO.value,
        show_default=True,
        help="Modes full and upsert: compare by hashes first and copy what differs, or copy everything. For full also"
        " swap: fill a new table, and put it in the target's place.",
    ),
    option(
        "--target-writers",
        type=click.Choice([each.value for each in TargetWriters]),
        default=TargetWriters.WAIT.value,
        show_default=True,
        help="Do others who write a large target wait while it is compared? 'none' is your word that nobody writes it.",
    ),
    option(
        "--jobs",
        "-j",
        type=click.IntRange(1),
        default=None,
        help="Slices that are copied at once, of whatever tables.  [default: one a core, at most 4]",
    ),
    option(
        "--max-connections",
        type=click.IntRange(1),
        help="Sessions that a run may have open on each side; --jobs gives way.  [default: no limit]",
    ),
    option("--executor", metavar="URI", help="Copy slices on a Dask cluster instead: tls://scheduler:8786."),
    option("--max-rate", metavar="SIZE", help="Bytes a second that are copied at most, all slices together: 50MB."),
    option(
        "--max-lag",
        metavar="SIZE",
        help="Copying waits while a standby of the target is further behind than this; needs pg_monitor there.",
    ),
    option(
        "--drift",
        type=click.Choice([each.value for each in Drift]),
        default=Drift.FAIL.value,
        show_default=True,
        help="Columns that only the source has: refuse, add them to the target, follow wider types as well, or ignore.",
    ),
    option("--source-encoding", metavar="NAME", help="What a source in SQL_ASCII really holds: EUC_KR, LATIN1 .."),
    option("--target-encoding", metavar="NAME", help="The same of a target in SQL_ASCII."),
    option(
        "--allow-narrowing",
        is_flag=True,
        help="Copy into types that may not hold every value: what fits is rounded, what does not ends the table.",
    ),
    option("--indexes", is_flag=True, help="Give a table that is created the source's other constraints and indexes."),
    option(
        "--sequences",
        is_flag=True,
        help="Let sequences of an existing target's columns catch up too; those of a new table always do.",
    ),
    option(
        "--max-staging-bytes",
        metavar="SIZE",
        help="Refuse, or stop, a copy whose staging would take more of the target's disk: 20GB. Default: no limit.",
    ),
    option(
        "--max-memory",
        metavar="SIZE",
        help="Stop a copy for which this process and its psql would hold more memory: 1GB. Default: no limit.",
    ),
    option(
        "--show-row-data",
        is_flag=True,
        help="Let errors, reports and the run history say what they know of a row: values, keys, DETAIL.",
    ),
    option(
        "--pre-sql",
        multiple=True,
        metavar="SQL",
        help="Run on the target before each table is copied; again for more statements, each by itself.",
    ),
    option("--post-sql", multiple=True, metavar="SQL", help="The same, after each table is committed."),
    option("--psql", metavar="PATH", help="The psql to use. Default: the one on PATH."),
    option(
        "--verify",
        type=click.Choice([each.value for each in Verify]),
        default=Verify.COUNT.value,
        show_default=True,
        help="What is compared before the commit, else rolled back: rows counted on both sides, or hashed as well.",
    ),
    option(
        "--lock-timeout", type=Span(), default=30, show_default=True, help="How long to wait for locks: 500ms, 30s, 5m."
    ),
    option("--connect-timeout", type=Span(1), default=10, show_default=True, help="How long to wait to connect."),
    option(
        "--stall-timeout",
        type=Span(),
        default=300,
        show_default=True,
        help="Seconds in which nothing moves and a server does no work for us, before it is given up; 0: never.",
    ),
    option(
        "--statement-timeout",
        type=Span(),
        default=0,
        show_default=True,
        help="Seconds that one statement may take on either server; 0: as long as it takes.",
    ),
)
_PATIENCE = (
    option(
        "--retries",
        type=click.IntRange(0),
        default=10,
        show_default=True,
        help="Tries of a table after the first, where its failure may pass; counted anew when it gets further.",
    ),
    option(
        "--retry-for",
        type=Span(),
        default=600,
        show_default=True,
        help="Seconds after a failure in which they may begin, and for which a server that is away is waited for.",
    ),
    option(
        "--wait-for-lock",
        type=Span(),
        default=30,
        show_default=True,
        help="Seconds to wait for other runs that are at the same tables; 0: end with exit 11 at once.",
    ),
    option(
        "--atomic",
        is_flag=True,
        help="Commit all tables of the run in one transaction; else those that foreign keys of the target tie.",
    ),
    option("--fail-fast", is_flag=True, help="End the run with the first table that fails."),
    option(
        "--resumable",
        is_flag=True,
        help="Commit tables to staging in slices, and keep these where the run fails or dies, for --resume.",
    ),
    option(
        "--resume-keep", default="24h", show_default=True, metavar="SPAN", help="How long they are kept: 90m, 24h, 7d."
    ),
    option(
        "--keep-history",
        default="400d",
        show_default=True,
        metavar="SPAN",
        help="How long the target keeps what runs did; of each table its last run stays, and the last that was done.",
    ),
    option("--slice-bytes", default="256MB", show_default=True, metavar="SIZE", help="How large a slice is, about."),
    option(
        "--resume",
        metavar="RUN",
        help="Leave out the tables that this run has done: its id (see status), or 'last'; the rest of the command as"
        " it was.",
    ),
)


def target_only(command: _F) -> _F:
    """Give a command what `on_target` gives, and ``--json``."""
    return json_output(on_target(command))


def on_target(command: _F) -> _F:
    """Give a command ``--target``, or the file that names it, and the file's source where it asks for one.

    The file itself is the context's object.
    """

    @functools.wraps(command)
    def wrapped(target: str | None, config_file: Path | None, **given: Any) -> Any:  # noqa: ANN401 - as click calls
        _tell_passed_over()
        given, target = {name: utf8(value, name) for name, value in given.items()}, utf8(target, "target")
        path = config_file or _found(target and _came_from("target", _Origin.COMMANDLINE))
        file = configuration(path, was_named=bool(config_file)) if path else None
        click.get_current_context().obj = file
        rank = _Rank(file, is_named=bool(config_file))
        if "source" in given:
            is_known = given["source"] or (file and file.source)
            given["source"] = _end("--source", given["source"], rank) if is_known else None
        return command(target=_end("--target", target, rank), **given)

    return cast("_F", _with(wrapped, (_TARGET, _CONFIG)))


def patience(command: _F) -> _F:
    """Give a command that has `selection` what a run does about failures."""
    return _with(command, _PATIENCE)


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the two servers, the tables and the ways; it is called with source, target, selection, options.

    They come from what is typed, from a file that is named, from the environment, or from a file that is found: what
    stands first here stands above the others.
    """

    @functools.wraps(command)
    def wrapped(
        source: str | None,
        target: str | None,
        config_file: Path | None,
        select: tuple[str, ...],
        **given: Any,  # noqa: ANN401 - as click calls
    ) -> Any:  # noqa: ANN401
        _tell_passed_over()
        given = {name: utf8(value, name) for name, value in given.items()}
        source, target, select = utf8(source, "source"), utf8(target, "target"), utf8(select, "select")
        values = {name: given.pop(name) for name in _NAMES if name in given}
        named = [name for name in ("tables", "query_file") if values[name]]
        exported = {name: value for name, value in {**values, **given}.items() if _came_from(name, _Origin.ENVIRONMENT)}
        path = config_file or _found(*named)
        if path is None:
            if select:
                raise UsageError("--select chooses among the tables of a file", hint="Name the file: --config FILE.")
            if exported.keys() >= set(named) and _found():
                _warn(f"{' and '.join(map(_variable, named))} stands above {FILE_NAME}, which is not read")
            ends = (_end("--source", source, _Rank()), _end("--target", target, _Rank()))
            return command(*ends, _request(values), _with_room(options_of(values)), **given)
        if set(named) - exported.keys():
            raise UsageError(f"the tables are named by {path}", hint="Choose among them with --select.")
        typed = {name: value for name, value in {**values, **given}.items() if _came_from(name, _Origin.COMMANDLINE)}
        above, beneath = (typed, exported) if config_file else ({**exported, **typed}, {})
        file = configuration(
            path,
            {name: value for name, value in above.items() if name in values},
            select,
            was_named=bool(config_file),
            beneath={name: value for name, value in beneath.items() if name in values and name not in named},
        )
        rank = _Rank(file, is_named=bool(config_file))
        for name, value in exported.items():
            rank.tell(name, value)
        given |= {name: value for name, value in file.settings.given().items() if name in given and name not in above}
        ends = (_end("--source", source, rank), _end("--target", target, rank))
        return command(*ends, file.tables, _with_room(file.tables.options), **given)

    return _with(wrapped, (source_option, _TARGET, _CONFIG, _SELECT, *_SELECTION, json_output))


def _found(*named: object) -> Path | None:
    """Return this folder's file, where nothing is named that it would say."""
    file = Path(FILE_NAME)
    with contextlib.suppress(OSError):  # a folder that we may not look into
        return file if not any(named) and file.is_file() else None
    return None


def configuration(
    file: Path,
    typed: Mapping[str, Any] | None = None,
    select: tuple[str, ...] = (),
    *,
    was_named: bool,
    beneath: Mapping[str, Any] | None = None,
) -> Configuration:
    """Read the file that a command goes by, and warn on stderr.

    Args:
        file: its path.
        typed: settings that stand above the file's.
        select: patterns of its tables that are meant.
        was_named: by the user; one that a command found by itself must be the user's own, or root's.
        beneath: settings that hold where the file says nothing.

    Raises:
        UsageError: everything that is wrong with it.
    """
    from pgsluice import config  # noqa: PLC0415 - who needs no file need not wait for what reads it

    return config.load(file, typed, select, _warn, was_named=was_named, beneath=beneath)


_Value = TypeVar("_Value")


def utf8(value: _Value, name: str) -> _Value:
    """Return a text, or several, as UTF-8 has it: Python takes arguments by the locale, which may know no such signs.

    Args:
        value: of a parameter; a path, which is a file's whatever its bytes mean, and all but texts stay as they are.
        name: of the parameter, for an error.

    Raises:
        UsageError: it is not UTF-8.
    """
    made: Any = value
    try:
        if isinstance(value, str) and name != "psql":
            made = value.encode(errors="surrogateescape").decode()
        elif isinstance(value, tuple):
            made = tuple(utf8(each, name) for each in value)
    except UnicodeError:
        option = f"--{name.removesuffix('s').replace('_', '-')}"
        raise UsageError(f"{option} is not UTF-8", hint="Write names as UTF-8, whatever the locale is.") from None
    return cast("_Value", made)


def _with_room(options: Options) -> Options:
    """Return options of a run for which this process may open enough files; it takes what it may have.

    Raises:
        UsageError: it may not.
    """
    needed = _FILES + _FILES_A_WORKER * options.workers + sum(sessions(options.workers).values())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UsageError(
            f"this process may open {hard} files, and a run with {options.workers} jobs opens up to {needed}",
            hint=f"ulimit -n {needed}, or fewer --jobs.",
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return options


#: Beside its sessions, what a process has open, and what a worker's psql takes: pipes, and files without a name.
_FILES, _FILES_A_WORKER = 16, 8


def _warn(text: str) -> None:
    print(f"pgsluice: warning: {text}", file=sys.stderr)


def _came_from(name: str, origin: _Origin) -> bool:
    return click.get_current_context().get_parameter_source(name) is origin


def _variable(name: str) -> str:
    """Return the environment variable of a parameter."""
    parameters = click.get_current_context().command.params
    return str(next(parameter.envvar for parameter in parameters if parameter.name == name))


def _tell_passed_over() -> None:
    """Warn of each variable that says otherwise than what was typed."""
    context = click.get_current_context()
    for parameter in context.command.params:
        exported = parameter.value_from_envvar(context)
        if exported is None or not _came_from(str(parameter.name), _Origin.COMMANDLINE):
            continue
        with contextlib.suppress(click.ClickException):  # a value that it could not have
            if parameter.type_cast_value(context, exported) == context.params[str(parameter.name)]:
                continue
        _warn(f"{parameter.envvar} is passed over: {parameter.opts[0]} was typed")


@dataclass(frozen=True, slots=True)
class _Rank:
    """What stands above what: a file that was named above variables, and these above one that was found.

    Attributes:
        file: that is read, or None.
        is_named: it was, by the user.
    """

    file: Configuration | None = None
    is_named: bool = False

    def tell(self, name: str, exported: object) -> None:
        """Warn where a variable and the file say two things; values may be secrets, and are not shown."""
        said = [place for value, place in (self.file.says(name) if self.file else ()) if value != exported]
        if said and self.is_named:
            _warn(f"{_variable(name)} is passed over: {said[0]} has {name}")
        elif said:
            _warn(f"{_variable(name)} stands above {name} in {said[0]}")

    def end(self, side: str, given: str | None) -> Dsn | None:
        """Return how to reach the "source" or the "target": as typed, exported or in the file."""
        known: Dsn | None = getattr(self.file, side, None)
        if given and known and _came_from(side, _Origin.ENVIRONMENT):
            self.tell(side, given)
            return known if self.is_named else given
        return given or known


def _end(name: str, given: str | None, rank: _Rank) -> Endpoint:
    """Return a server: as typed or exported, or as the file, where there is one, names it.

    Raises:
        click.UsageError: nothing does.
    """
    side = name.strip("-")
    dsn = rank.end(side, given)
    if not dsn:
        where = f"(env var: '{_variable(side)}'), or a file that says it (--config)"
        raise click.UsageError(f"Missing option '{name}' {where}.{'' if rank.file else _about_files()}")
    if isinstance(dsn, str) and dsn is given:
        _warn_of_password(dsn, name)
    expected = rank.file.expected.get(side) if rank.file else None
    return Endpoint(dsn, read_only=side == "source", expected=expected)


def _about_files() -> str:
    """Return what to do where no file was read: this folder's is not, where tables are named."""
    if _found():
        return f" {FILE_NAME} is read where no --table is named; --select NAME chooses among its tables."
    return f" And no {FILE_NAME} was found in this folder: `pgsluice init` writes one."


def _with(command: _F, options: tuple[Callable[[Any], Any], ...]) -> _F:
    for add in reversed(options):
        command = add(command)
    return command


#: The parameters that _SELECTION and _PATIENCE give a command, by name.
_NAMES = tuple(
    parameter.name for parameter in _with(click.Command("any", callback=print), (*_SELECTION, *_PATIENCE)).params
)


def _request(values: dict[str, Any]) -> Selection | tuple[SyncJob, ...]:
    treatment = treatment_of(values)
    query = _query(values["query_file"]) if values["query_file"] else None
    if query is None and not values["tables"]:
        raise UsageError("nothing to copy was named", hint="Give --table schema.table, or --query-file FILE.")
    return requested(values["tables"], query, values["to"], treatment)


def _query(path: Path) -> str:
    from pgsluice.config import files  # noqa: PLC0415 - who needs no file need not wait for what reads it

    if str(path) == "-":
        return files.text(_STDIN, _MOST_BYTES, "the query on stdin", seconds=None)
    return files.read(path, _MOST_BYTES, f"the query in {path}", pipes=True)


def _warn_of_password(dsn: str, name: str) -> None:
    """Warn of a password that stands where every user of the machine can read it."""
    typed = any(dsn in argument for argument in sys.argv)
    given = parameters_of(dsn) or {}  # one that can't be read is told of when it is used
    if typed and not given.keys().isdisjoint(SECRETS):
        _warn(
            f"the password in {name} stands in the process list and the shell's history; better: {name} service=NAME,"
            f" a passfile (~/.pgpass), or the environment variable {_variable(name.strip('-'))}"
        )
