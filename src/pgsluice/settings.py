"""Pure: settings as people write them, by the names of the command's options, become what the engine takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pgsluice.errors import UsageError
from pgsluice.job import (
    CopyFormat,
    Lane,
    Mode,
    Options,
    StagingKind,
    Strategy,
    TargetWriters,
    Treatment,
    Verify,
    sessions,
    target_template,
)
from pgsluice.policies import Deletes, Drift, LateRows, MaxDelete, NullCursors, OnLostState
from pgsluice.shape import shape_of
from pgsluice.units import bytes_of, seconds_of

_Parsers = Mapping[str, Callable[[Any], Any]]


#: A date, a moment or a number, as a condition by itself: someone forgot the column.
_A_VALUE = re.compile(r"\s*(?:[-+]?\d[\d_.]*|\d{4}-\d\d?-\d\d?(?:[ T][\d:.]+(?:Z|[-+][\d:]+)?)?)\s*")


def _as_it_is(value: Any) -> Any:  # noqa: ANN401 - whatever it is
    return value


def _texts(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _columns(value: str | list[str]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else tuple(value)
    if "" in names:
        raise UsageError(f"--key {value!r} names an empty column", hint="Write --key a,b.")
    return names


def _condition(value: str) -> str:
    if _A_VALUE.fullmatch(value):
        raise UsageError(f"{value!r} is a value, and no condition", hint="Write one: updated_at >= '2024-01-01'.")
    return value


def _span(value: str | float) -> float:
    return seconds_of(value) if isinstance(value, str) else float(value)


def _connect_span(value: str | float) -> float:
    if (seconds := _span(value)) < 1:
        raise UsageError(f"{seconds:g} s is less than 1 s", hint="A connection takes its time.")
    return seconds


def _bytes(value: str | int) -> int:
    return bytes_of(str(value))


def _sessions(value: int) -> int:
    if value < max(sessions(1).values()):
        raise UsageError(
            f"a run opens up to {max(sessions(1).values())} sessions on a side, and {value} may be open",
            hint="Allow more of them.",
        )
    return value


#: What is none of an engine's, and can be read wrong all the same.
_NAMES: _Parsers = {"to": target_template}
_TREATMENT: _Parsers = {
    "mode": Mode,
    "where": _condition,
    "key": _columns,
    "cursor": _as_it_is,
    "cursor_type": _as_it_is,
    "late_rows": LateRows.parse,
    "late_within": _as_it_is,
    "deletes": Deletes.parse,
    "since": _as_it_is,
    "until": _as_it_is,
    "drift": Drift,
}
#: What a table may have its own way of.
TABLE_OPTIONS: _Parsers = {
    "staging": StagingKind,
    "lane": Lane,
    "format": CopyFormat,
    "strategy": Strategy,
    "target_writers": TargetWriters,
    "max_delete": lambda value: MaxDelete.parse(str(value)),
    "verify": Verify,
    "lock_timeout": _span,
    "full_refresh": bool,
    "pre_sql": _texts,
    "post_sql": _texts,
    "group": _as_it_is,
    "on_lost_state": OnLostState,
    "null_cursors": NullCursors,
    "scan_limit": _bytes,
    "allow_narrowing": bool,
    "indexes": bool,
    "sequences": bool,
}
#: What holds for a run as a whole.
RUN_OPTIONS: _Parsers = {
    "jobs": int,
    "max_connections": _sessions,
    "executor": _as_it_is,
    "wait_for_lock": _span,
    "connect_timeout": _connect_span,
    "stall_timeout": _span,
    "statement_timeout": _span,
    "retries": int,
    "retry_for": _span,
    "atomic": bool,
    "fail_fast": bool,
    "resumable": bool,
    "resume": _as_it_is,
    "resume_keep": seconds_of,
    "keep_history": seconds_of,
    "slice_bytes": _bytes,
    "max_staging_bytes": _bytes,
    "max_memory": _bytes,
    "max_rate": _bytes,
    "max_lag": _bytes,
    "psql": _as_it_is,
    "source_encoding": _as_it_is,
    "target_encoding": _as_it_is,
    "show_row_data": bool,
}


def treatment_of(values: Mapping[str, Any]) -> Treatment:
    """Return what shall become of a table's rows.

    Args:
        values: by name; what is missing, None or empty is left to itself.

    Raises:
        UsageError: a value that can't be read, or settings that do not go together.
    """
    columns, exclude = (values.get(name) or None for name in ("columns", "exclude"))
    lists = {name: values.get(name) or () for name in ("rename", "cast", "constants", "mask")}
    treatment = Treatment(**_parsed(values, _TREATMENT), shape=shape_of(columns, exclude, **lists))
    treatment.check()
    return treatment


def options_of(values: Mapping[str, Any]) -> Options:
    """Return how a job is carried out.

    Args:
        values: by name; what is missing, None or empty is left to itself.

    Raises:
        UsageError: a value that can't be read.
    """
    return Options(**_parsed(values, TABLE_OPTIONS), **_parsed(values, RUN_OPTIONS))


def parse(name: str, value: Any) -> object:  # noqa: ANN401 - as it was written
    """Read one setting by its name; one that is made of several, or unknown here, is taken as it is.

    Raises:
        UsageError: it can't be read.
        ValueError: it is none of the words that are known.
    """
    parser = _NAMES.get(name) or _TREATMENT.get(name) or TABLE_OPTIONS.get(name) or RUN_OPTIONS.get(name)
    return parser(value) if parser else value


def _parsed(values: Mapping[str, Any], parsers: _Parsers) -> dict[str, Any]:
    given = ((name, values.get(name)) for name in parsers)
    return {name: parsers[name](value) for name, value in given if value is not None and value not in ("", ())}
