"""Pure: what the control schema holds as JSON, read so that nothing in it can break a command.

Whoever may write there may write anything. Each of these returns what is to be used, or says what is wrong with it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pgsluice.errors import UsageError
from pgsluice.job import TableRef
from pgsluice.model import CommittedSlice, Slice, TableReport

#: What is told of a report that can't be read stands under this name, in its place.
UNREADABLE = "unreadable"
_BLANK = TableReport("", "", "", "").to_dict()
_ONE_BELOW_UNKNOWN = -2
_MOST = 1 << 63
_MOST_SECONDS = 1e12
_YEAR_10000 = 253_402_300_800

_Fits = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Tag:
    """What the COMMENT of a staging table says.

    Attributes:
        run: that owns it.
        target: that it feeds.
        lock: advisory lock that its run holds for as long as it lives.
        until: seconds since the epoch until which it waits for a run that resumes; 0 where it does not.
        job: that it serves, where it waits; as the two below.
        made_from: what has to agree before its rows can be used.
        pages: first page of each slice, in order.
    """

    run: str
    target: TableRef
    lock: int
    until: int = 0
    job: str = ""
    made_from: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pages: tuple[int, ...] = ()


class _Odd(ValueError):  # noqa: N818 - a finding, which does not leave this module
    """What is wrong with a text."""


# --- reports ---------------------------------------------------------------------------------------------------------


def report(text: str | None, known: Mapping[str, str]) -> dict[str, Any]:
    """Return a report of a table as plain types, every field of the type that we write.

    Args:
        text: of the report; None for one that is longer than any of ours.
        known: what stands beside it, where it does not say so itself: "run_id", "source", "target", "status".

    Returns:
        Its fields; those that can't be used are as if nothing were known, and named under `UNREADABLE`.
    """
    blank = {**_BLANK, **known}
    try:
        given = _object(text)
    except _Odd as odd:
        return {**blank, UNREADABLE: str(odd)}
    wrong = sorted(name for name in given.keys() & _BLANK.keys() if not _FIELDS[name](given[name]))
    kept = {name: given[name] for name in given.keys() & _BLANK.keys() if name not in wrong}
    told = {UNREADABLE: f"not as pgsluice writes it: {', '.join(wrong)}"} if wrong else {}
    return {**blank, **kept, **told}


def _object(text: str | None) -> dict[str, Any]:
    if text is None:
        raise _Odd("it is longer than any of ours")
    try:
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _Odd("it is not JSON, or nested too deeply") from None
    if not isinstance(found, dict):
        raise _Odd("it is not a JSON object")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _is_text(value: object) -> bool:
    """Tell whether it can be printed, and sent to a server."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and _ONE_BELOW_UNKNOWN < value < _MOST


def _is_span(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST_SECONDS


def _each(fits: _Fits) -> _Fits:
    """Return what tells whether all values of an object are so, and its names texts."""
    return lambda value: isinstance(value, dict) and all(_is_text(name) and fits(value[name]) for name in value)


def _is_anything(_value: object) -> bool:
    return True


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_KINDS: Mapping[str, _Fits] = {
    "str": _is_text,
    "str | None": lambda value: value is None or _is_text(value),
    "bool": lambda value: isinstance(value, bool),
    "int": _is_count,
    "float": _is_span,
    "tuple[str, ...]": _is_texts,
    "dict[str, str]": _each(_is_text),
    "dict[str, int]": _each(_is_count),
    "dict[str, float]": _each(_is_span),
}
_FIELDS: Mapping[str, _Fits] = {field.name: _KINDS[str(field.type)] for field in dataclasses.fields(TableReport)}


# --- comments --------------------------------------------------------------------------------------------------------


def tag(text: str | None) -> Tag | str:
    """Return what the COMMENT of a staging table says, or why it is none of ours."""
    try:
        return _tag(_object(text))
    except _Odd as odd:
        return f"its COMMENT is not ours: {odd}"


def _tag(given: Mapping[str, Any]) -> Tag:
    _demand(given, {"pgsluice": _is_count, "run": _is_text, "target": _is_text, "lock": _is_key})
    try:
        found = Tag(given["run"], TableRef.parse(given["target"]), given["lock"])
    except UsageError:
        raise _Odd("target") from None
    if "until" not in given:
        return found
    _demand(given, {"until": _is_time, "job": _is_text, "made_from": _each(_is_anything), "pages": _is_pages})
    waits = {name: given[name] for name in ("until", "job", "made_from")}
    return dataclasses.replace(found, **waits, pages=tuple(given["pages"]))


def slice_of(text: str | None) -> CommittedSlice | str:
    """Return what the COMMENT of a slice's table says that it holds, or why that can't be told."""
    try:
        given = _object(text)
        counts = dict.fromkeys(("slice", "first", "rows", "bytes"), _is_count)
        _demand(given, {**counts, "end": lambda value: value is None or _is_count(value)})
    except _Odd as odd:
        return f"its COMMENT is not ours: {odd}"
    return CommittedSlice(Slice(given["slice"], given["first"], given["end"]), given["rows"], given["bytes"])


def _demand(given: Mapping[str, Any], wanted: Mapping[str, _Fits]) -> None:
    wrong = [name for name, fits in wanted.items() if name not in given or not fits(given[name])]
    if wrong:
        raise _Odd(f"not as pgsluice writes it: {', '.join(wrong)}")


def _is_key(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -_MOST <= value < _MOST


def _is_time(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _YEAR_10000


def _is_pages(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_count, value)) and value == sorted(set(value))
