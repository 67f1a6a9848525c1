"""A file that says what is copied from where to where: read, checked as a whole, made into jobs."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pgsluice.config import document, files, references
from pgsluice.config.document import Document, Place
from pgsluice.config.model import FileSettings, ServerSettings, TableSettings
from pgsluice.endpoint import Dsn, Expected
from pgsluice.errors import UsageError
from pgsluice.job import Options, QuerySource, Selection, SyncJob, TablePattern, TableRef, filled, target_template
from pgsluice.settings import RUN_OPTIONS, options_of, parse, treatment_of

#: SQL means itself: nothing of the environment gets into it.
SQL = frozenset({"where", "query", "pre_sql", "post_sql"})
#: Connection strings.
DSNS: frozenset[Place] = frozenset({("source",), ("target",)})
#: How a selection names a group instead of tables.
_GROUP = "group:"
_LISTS = frozenset({"columns", "exclude", "key"})

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One of the file's tables, or a pattern of them.

    Attributes:
        pattern: as in the file.
        settings: by name.
        line: of it.
    """

    pattern: str
    settings: Mapping[str, Any]
    line: int

    def check(self) -> None:
        """See that its name is one.

        Raises:
            UsageError: it is none, or is to be filled where nothing fills it.
        """
        TableRef.parse(self.pattern)
        if "query" in self.settings and "{" in self.pattern:
            raise UsageError("a query needs a name for its target, without braces", hint="Write raw.name.")

    def matches(self, ref: TableRef) -> bool:
        """Tell whether a table of the source is meant."""
        return TablePattern.parse(self.pattern).matches(ref)


@dataclass(frozen=True, slots=True)
class Configured(Selection):
    """Tables by a file, each with its own treatment and options.

    Attributes:
        run: settings of the run.
        defaults: of every table.
        entries: in the order of the file.
        overrides: settings that stand above all of the file's.
        select: patterns of tables, of which those in the file that match are meant; empty for all.
    """

    run: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    select: tuple[str, ...] = ()

    @property
    def options(self) -> Options:
        """Return how the run is carried out."""
        return options_of({**self.run, **self.overrides})

    def jobs(self, found: Iterable[TableRef]) -> tuple[SyncJob, ...]:
        """Return one job a table found, and one a query.

        Raises:
            UsageError: two of them would write the same target, or nothing is left.
        """
        jobs = [job for ref in found if (job := self._table(ref))]
        jobs += [self._query(entry) for entry in self.entries if "query" in entry.settings]
        chosen = tuple(job for job in jobs if self._is_selected(job))
        if not chosen:
            known = ", ".join(sorted(str(job.target) for job in jobs)) or "none"
            raise UsageError(f"no table of the file matches {', '.join(self.select) or 'it'}", hint=f"It has {known}.")
        return self.distinct(chosen)

    def among(self, known: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Return those of sources and targets, as reports name them, that are this file's."""
        return frozenset(pair for pair in known if pair in self._named(pair[0]))

    def unknown(self, known: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Yield the source and target, or the patterns of these, of each entry of which none is known."""
        ours = self.among(known)
        for entry in self.entries:
            if "query" in entry.settings:
                pair = (str(QuerySource("")), str(TableRef.parse(entry.pattern)))
                if pair not in ours:
                    yield pair
                continue
            of_it = [source for source, _ in ours if (ref := _table_named(source)) and entry.matches(ref)]
            ref = TablePattern.parse(entry.pattern).ref
            if not of_it and (job := self._table(ref)):
                is_glob = TablePattern.parse(entry.pattern).is_glob
                to = str(self._merged(entry.settings).get("to") or self.to)
                yield (entry.pattern, to) if is_glob else (str(ref), str(job.target))

    def _named(self, source: str) -> Iterator[tuple[str, str]]:
        ref = _table_named(source)
        jobs = [self._table(ref)] if ref else [self._query(each) for each in self.entries if "query" in each.settings]
        yield from ((str(job.source), str(job.target)) for job in jobs if job)

    def _table(self, ref: TableRef) -> SyncJob | None:
        matching = [entry for entry in self.entries if "query" not in entry.settings and entry.matches(ref)]
        values = self._merged(*(entry.settings for entry in matching))
        if values.get("skip"):
            return None
        target = filled(target_template(values.get("to") or self.to), ref)
        return SyncJob(ref, target, options_of({**self.run, **values}), **treatment_of(values).treatment())

    def _query(self, entry: Entry) -> SyncJob:
        values = self._merged(entry.settings)
        source, target = QuerySource.parse(values["query"]), TableRef.parse(entry.pattern)
        return SyncJob(source, target, options_of({**self.run, **values}), **treatment_of(values).treatment())

    def _merged(self, *settings: Mapping[str, Any]) -> dict[str, Any]:
        merged = dict(self.defaults)
        for each in settings:
            merged |= each
        merged |= self.overrides
        return {name: _joined(name, value) for name, value in merged.items()}

    def _is_selected(self, job: SyncJob) -> bool:
        names = [ref for ref in (job.source, job.target) if isinstance(ref, TableRef)]
        groups = {f"{_GROUP}{job.options.group}"} if job.options else set()
        return not self.select or any(
            each in groups if each.startswith(_GROUP) else Entry(each, {}, 0).matches(ref)
            for each in self.select
            for ref in names
        )


@dataclass(frozen=True, slots=True)
class Configuration:
    """A file that was read and checked.

    Attributes:
        path: of it.
        source: where rows come from, or None where the file does not say.
        target: where they go, or None.
        tables: what is copied.
        settings: as the file has them, references unresolved.
        document: with lines.
        expected: what "source" and "target" have to be, where the file says.
    """

    path: str
    source: Dsn | None
    target: Dsn | None
    tables: Configured
    settings: FileSettings
    document: Document
    expected: Mapping[str, Expected] = field(default_factory=dict)

    def says(self, name: str) -> tuple[tuple[Any, str], ...]:
        """Return the values that the file has for a setting, of the run or of tables, each with its "FILE:LINE"."""
        places = sorted((line, place) for place, line in self.document.lines.items() if _has(place, name))
        ends = {"source": self.source, "target": self.target}
        return tuple((ends.get(name) or self._at(place), f"{self.path}:{line}") for line, place in places)

    def _at(self, place: Place) -> Any:  # noqa: ANN401 - any value
        found: Any = self.document.plain
        for part in place:
            found = found[part]
        return found


def load(  # noqa: PLR0913 - what stands above and below a file
    path: Path,
    overrides: Mapping[str, Any] | None = None,
    select: Iterable[str] = (),
    warn: Warn = warnings.warn,
    *,
    was_named: bool = True,
    beneath: Mapping[str, Any] | None = None,
) -> Configuration:
    """Read a file, and tell everything that is wrong with it.

    Args:
        path: of the file.
        overrides: settings that stand above all of the file's: those typed.
        select: patterns of the tables that are meant; all where empty.
        warn: told what is no error.
        was_named: by the user, whose word for it is taken; else it must be the user's own, or root's.
        beneath: settings that hold where the file says nothing.

    Raises:
        UsageError: everything that is wrong, each with its line.
    """
    beneath = beneath or {}

    def check(opened: os.stat_result) -> None:
        if not was_named:
            files.refuse_strangers(path, opened)
            _warn_of_others(path, opened, warn)

    found = document.read(path, check)
    wrong: list[tuple[int, str]] = []
    plain = _resolved(found.plain, (), found, wrong, warn)
    settings = _checked(plain, found, wrong)
    entries = tuple(
        Entry(pattern, table.given() if table else {}, found.line(("tables", pattern)))
        for pattern, table in (settings.tables if settings else {}).items()
    )
    if settings:
        wrong += _unfit(settings, entries, found)
    if wrong or settings is None:
        raise UsageError(tuple(f"{path}:{line}: {text}" for line, text in sorted(set(wrong))))
    given = settings.given()
    tables = Configured(
        patterns=tuple(entry.pattern for entry in entries if "query" not in entry.settings and not _only_skips(entry)),
        run={name: value for name, value in {**beneath, **given}.items() if name in RUN_OPTIONS},
        defaults={**beneath, **settings.defaults.given()},
        entries=entries,
        overrides=dict(overrides or {}),
        select=tuple(select),
    )
    raw = found.plain
    return Configuration(
        path=str(path),
        source=_dsn(raw.get("source"), settings.source),
        target=_dsn(raw.get("target"), settings.target),
        tables=tables,
        settings=settings,
        document=found,
        expected=dict(_expected(str(path), settings, found)),
    )


def _has(place: Place, name: str) -> bool:
    """Tell whether a place in the tree is that of a setting, of the run or of tables."""
    return place == (name,) or (place[-1] == name and (place[:-1] == ("defaults",) or place[:-2] == ("tables",)))


def _expected(path: str, settings: FileSettings, found: Document) -> Iterator[tuple[str, Expected]]:
    if not settings.expect:
        return
    servers: dict[str, tuple[ServerSettings | None, Place]] = {
        "target": (settings.expect, ("expect",)),
        "source": (settings.expect.source, ("expect", "source")),
    }
    for side, (server, place) in servers.items():
        if server and (given := {name: str(value) for name, value in server.given().items() if name != "source"}):
            said_by = f"{path}:{found.line(place)}"
            yield side, Expected(given.get("database"), given.get("system_identifier"), said_by)


def _warn_of_others(path: Path, opened: os.stat_result, warn: Warn) -> None:
    if place := files.open_to_others(path, opened):
        warn(f"others can write to {place}, and what {path} says runs as you: chmod go-w {place}, or name it: --config")


def _table_named(source: str) -> TableRef | None:
    """Return the table of a report's source, or None for a query."""
    try:
        return TableRef.parse(source)
    except UsageError:
        return None


def _only_skips(entry: Entry) -> bool:
    """Tell whether an entry names tables only to leave them out: they need not be there."""
    return bool(entry.settings.get("skip"))


def _joined(name: str, value: Any) -> Any:  # noqa: ANN401 - a setting
    return ",".join(value) if name in _LISTS and isinstance(value, list) else value


def _dsn(raw: Any, resolved: str | None) -> Dsn | None:  # noqa: ANN401 - as it stands in the file
    """Return a connection string; one that a program tells is asked for at every connect."""
    if isinstance(raw, str) and references.has_command(raw):
        return lambda: references.resolve(raw, _silent, is_dsn=True)
    return resolved


def _silent(_: str) -> None:
    """Say nothing: it was told when the file was read."""


# --- what is wrong with a file ---------------------------------------------------------------------------------------


def _resolved(node: Any, place: Place, found: Document, wrong: list[tuple[int, str]], warn: Warn) -> Any:  # noqa: ANN401
    """Return the tree with its references replaced; what can't be is noted."""
    if isinstance(node, dict):
        return {key: _resolved(value, (*place, key), found, wrong, warn) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolved(value, (*place, number), found, wrong, warn) for number, value in enumerate(node)]
    if not isinstance(node, str) or SQL.intersection(map(str, place)):
        return node
    is_command, is_dsn = references.has_command(node), place in DSNS
    if is_command and not is_dsn:
        wrong.append((found.line(place), f"{_path(place)}: a program is asked for source and target alone"))
        return node
    try:
        return references.checked(node, warn) if is_command else references.resolve(node, warn, is_dsn=is_dsn)
    except UsageError as error:
        wrong.append((found.line(place), f"{_path(place)}: {_sentence(error)}"))
        return node


def _checked(plain: dict[str, Any], found: Document, wrong: list[tuple[int, str]]) -> FileSettings | None:
    """Return the settings; where some are wrong, those that are not, so that these are looked at too."""
    try:
        return FileSettings.model_validate(plain)
    except ValidationError as error:
        for each in error.errors():
            place = _place(plain, each["loc"])
            wrong.append((found.line(place), f"{_path(place)}: {_said(each, place)}"))
        for each in error.errors():
            _leave_out(plain, _place(plain, each["loc"]))
    try:
        return FileSettings.model_validate(plain)
    except ValidationError:
        return None


def _place(plain: Any, loc: Iterable[str | int]) -> Place:  # noqa: ANN401 - the tree
    """Return where in the tree an error is: a model's own words for a union are not in it."""
    place: list[str | int] = []
    for part in loc:
        if isinstance(plain, Mapping) and part in plain:
            plain = plain[str(part)]
        elif isinstance(plain, list) and isinstance(part, int) and part < len(plain):
            plain = plain[part]
        else:
            continue
        place.append(part)
    return tuple(place)


def _leave_out(plain: Any, place: Place) -> None:  # noqa: ANN401 - the tree
    for part in place[:-1]:
        plain = plain[part]
    if isinstance(plain, dict) and place:
        plain.pop(place[-1], None)


def _said(error: Any, place: Place) -> str:  # noqa: ANN401 - as pydantic gives it
    if error["type"] == "extra_forbidden":
        model: type[BaseModel] = TableSettings if place[0] in {"defaults", "tables"} else FileSettings
        return f"there is no such setting{_nearest(str(place[-1]), model.model_fields)}"
    if error["type"] == "enum":
        words = [word.strip().strip("'") for word in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"{error['input']!r} is none of {', '.join(words)}{_nearest(str(error['input']), words)}"
    message = str(error["msg"])
    return f"{message[:1].lower()}{message[1:]}, and this is {error['input']!r}"


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _unfit(settings: FileSettings, entries: Iterable[Entry], found: Document) -> Iterator[tuple[int, str]]:
    """Name every value that can't be read, and settings that do not go together."""
    defaults = settings.defaults.given()
    runs = {name: value for name, value in settings.given().items() if name in RUN_OPTIONS}
    faults = [*_unread(runs, (), found), *_unread(defaults, ("defaults",), found)]
    for entry in entries:
        place: Place = ("tables", entry.pattern)
        unread = list(_unread(entry.settings, place, found))
        faults += unread
        try:
            entry.check()
            if not unread and not entry.settings.get("skip"):
                treatment_of({name: _joined(name, value) for name, value in {**defaults, **entry.settings}.items()})
        except UsageError as error:
            faults.append((entry.line, f"{_path(place)}: {_sentence(error)}"))
    if not settings.tables:
        faults.append((found.line(("tables",)), "tables: none is named; '*.*' means all"))
    yield from faults


def _unread(values: Mapping[str, Any], place: Place, found: Document) -> Iterator[tuple[int, str]]:
    for name, value in values.items():
        try:
            parse(name, _joined(name, value))
        except (UsageError, ValueError) as error:
            said = _sentence(error) if isinstance(error, UsageError) else str(error)
            yield found.line((*place, name)), f"{_path((*place, name))}: {said}"


def _sentence(error: UsageError) -> str:
    return f"{error.message}. {error.hint}".strip() if error.hint else error.message


def _path(place: Place) -> str:
    return ".".join(map(str, place)) or "the file"
