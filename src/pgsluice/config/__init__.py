"""A file that says what is copied from where to where: read, checked as a whole, made into jobs."""

from __future__ import annotations

import difflib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pgsluice.config import document, files, references
from pgsluice.config.document import Document, Place
from pgsluice.config.model import ExpectSettings, FileSettings, ServerSettings, TableSettings
from pgsluice.endpoint import Dsn, Expected
from pgsluice.errors import UsageError
from pgsluice.job import Options, QuerySource, Selection, SyncJob, TablePattern, TableRef, filled, target_template
from pgsluice.settings import RUN_OPTIONS, options_of, parse, treatment_of
from pgsluice.shape import shape_of

#: SQL means itself: nothing of the environment gets into it.
SQL = frozenset({"where", "query", "pre_sql", "post_sql"})
#: Connection strings.
DSNS: frozenset[Place] = frozenset({("source",), ("target",)})
#: How a selection names a group instead of tables.
_GROUP = "group:"
_LISTS = frozenset({"columns", "exclude", "key"})
#: A value for each of some columns: as a list of COLUMN=VALUE, or as a map.
_PAIRS = frozenset({"rename", "cast", "constants", "mask"})

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
        path: of the file.
    """

    run: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    select: tuple[str, ...] = ()
    path: str = ""

    def told(self, pattern: str) -> str:
        """Return one of the patterns as a message begins that speaks of it: with its line."""
        line = next(entry.line for entry in self.entries if entry.pattern == pattern)
        return f"{self.path}:{line}: the pattern {pattern!r}"

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
    written = _written(found.plain, (), FileSettings, found, wrong)
    plain = _resolved(written, (), found, wrong, warn)
    settings = _checked(plain, found, wrong)
    entries = tuple(
        Entry(pattern, table.given() if table else {}, found.line(("tables", pattern)))
        for pattern, table in (settings.tables if settings else {}).items()
    )
    if settings:
        lines = {line for line, _ in wrong}  # of what could not be read, nothing more can be said
        wrong += [each for each in _unfit(settings, entries, found) if each[0] not in lines]
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
        path=str(path),
    )
    raw = written
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


def _written(
    node: Any,  # noqa: ANN401 - the tree
    place: Place,
    model: type[BaseModel],
    found: Document,
    wrong: list[tuple[int, str]],
) -> Any:  # noqa: ANN401
    """Return settings in which what is meant as text is as it is written, and maps of columns are lists."""
    if not isinstance(node, dict):
        return node
    made = dict(node)
    for name, value in node.items():
        here = (*place, name)
        if name in _PAIRS and isinstance(value, dict) and name in model.model_fields:
            made[name] = _pairs(value, here, found, wrong)
        elif model is FileSettings and name == "defaults":
            made[name] = _written(value, here, TableSettings, found, wrong)
        elif model is FileSettings and name == "tables" and isinstance(value, dict):
            made[name] = {each: _written(of, (*here, each), TableSettings, found, wrong) for each, of in value.items()}
        elif (field_ := model.model_fields.get(name)) and isinstance(value, int | float):
            kinds = get_args(field_.annotation)
            made[name] = found.texts[here] if str in kinds and type(value) not in kinds else value
    return made


def _pairs(columns: Mapping[str, Any], place: Place, found: Document, wrong: list[tuple[int, str]]) -> list[str]:
    """Return a map of columns as COLUMN=VALUE each."""
    pairs: list[str] = []
    for column, value in columns.items():
        here = (*place, column)
        text = "null" if value is None and place[-1] == "mask" else found.texts.get(here) if value is not None else None
        if text is None or isinstance(value, dict | list):
            wrong.append((found.line(here), f"{_path(here)}: lacks its value. Write {column}: VALUE."))
            continue
        found.lines[*place, len(pairs)] = found.line(here)
        pairs.append(f"{column}={text}")
    return pairs


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
        told: set[Place] = set()  # of a value that may be of several kinds, each says that it is not of its own
        for each in error.errors():
            if (place := _place(plain, each["loc"])) not in told:
                told.add(place)
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


def _said(error: Any, place: Place) -> str:  # noqa: ANN401, PLR0911 - as pydantic gives it; a sentence a kind
    """Return what is wrong with a value, in words of the file."""
    kind, value = str(error["type"]), error["input"]
    if kind == "extra_forbidden":
        return _unknown(place)
    if kind == "enum":
        words = [word.strip().strip("'") for word in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"{_shown(value)} is none of {', '.join(words)}{_nearest(str(value), words)}"
    if kind == "greater_than_equal":
        return f"{_shown(value)} is less than {error['ctx']['ge']}"
    if place == ("tables",):
        return "holds tables by name, each with a colon, and no list: write `sales.orders: {}` below it"
    if _SETTINGS.match(kind):
        lacking = _lacking(value) if isinstance(value, str) else ""
        return lacking or "holds settings, each with a colon: write `mode: full` below it, or {} for none"
    name = str(place[-1]) if place else ""
    if name in _LISTS:
        return f"holds names with commas, or a list of them, and this is {_shown(value)}"
    if name in _PAIRS:
        return f"holds a value for each of some columns: write `column: value` below it, and this is {_shown(value)}"
    for prefix, is_not in (("int", "is no whole number"), ("bool", "is neither true nor false")):
        if kind.startswith(prefix) and not isinstance(value, dict | list):
            return f"{_shown(value)} {is_not}"
    return f"holds one text, and this is {_shown(value)}"


#: Kinds of errors of a value that has to hold others.
_SETTINGS = re.compile("model|dict")


def _unknown(place: Place) -> str:
    """Return what to do about a setting that is not known where it stands."""
    name = str(place[-1])
    model: type[BaseModel] = TableSettings if place[0] in {"defaults", "tables"} else FileSettings
    if place[0] == "expect":
        model = ExpectSettings if len(place) == 2 else ServerSettings  # noqa: PLR2004 - expect, and a name
    if lacking := _lacking(name):
        return lacking
    if model is FileSettings and name in TableSettings.model_fields:
        return "belongs under defaults, or with a table: it concerns tables"
    if model is TableSettings and name in FileSettings.model_fields:
        return "concerns the run as a whole: write it at the top of the file"
    return f"there is no such setting{_nearest(name, model.model_fields)}"


def _lacking(text: str) -> str:
    """Return that a text lacks its colon, where it begins with a setting's name; else nothing."""
    name, _, value = text.partition(" ")
    is_known = name in TableSettings.model_fields or name in FileSettings.model_fields
    return f"{text!r} lacks its colon. Write {name}: {value}." if value and is_known else ""


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever stands in the file
    """Return a value as the file has it."""
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    return repr(value) if isinstance(value, str) else json.dumps(value)


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
    if not settings.tables and not found.plain.get("tables"):  # else they were told of
        faults.append((found.line(("tables",)), "tables: none is named; '*.*' means all"))
    yield from faults


def _unread(values: Mapping[str, Any], place: Place, found: Document) -> Iterator[tuple[int, str]]:
    for name, value in values.items():
        if name in _PAIRS and isinstance(value, list):
            yield from _unread_pairs(name, value, (*place, name), found)
            continue
        try:
            parse(name, _joined(name, value))
        except (UsageError, ValueError) as error:
            said = _sentence(error) if isinstance(error, UsageError) else str(error)
            yield found.line((*place, name)), f"{_path((*place, name))}: {said}"


def _unread_pairs(name: str, pairs: Iterable[str], place: Place, found: Document) -> Iterator[tuple[int, str]]:
    for number, pair in enumerate(pairs):
        try:
            shape_of(None, None, **{**dict.fromkeys(_PAIRS, ()), name: [pair]})
        except UsageError as error:
            yield found.line((*place, number)), f"{_path(place)}: {_sentence(error)}"


def _sentence(error: UsageError) -> str:
    """Return an error in the words of the file, where settings have the names of the command's options."""
    return _OPTION.sub(_as_setting, f"{error.message}. {error.hint}" if error.hint else error.message)


_OPTION = re.compile(r"--([a-z][a-z-]*)(?P<value> (?=['\"\w{]))?")


def _as_setting(option: re.Match[str]) -> str:
    name = option[1].replace("-", "_")
    return f"{name}: " if option["value"] and not option.string[option.end() :].startswith(_PROSE) else name


#: Words that go on with a sentence behind an option's name.
_PROSE = ("or ", "and ", "for ", "to ", "in ", "by ", "is ", "as ", "needs ", "reads ")


def _path(place: Place) -> str:
    return ".".join(map(str, place)) or "the file"
