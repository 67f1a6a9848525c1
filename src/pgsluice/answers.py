"""What a worker on another machine answers: plain JSON, checked field by field, which can be wrong but not act."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pgsluice.errors import (
    ConnectError,
    LimitError,
    LoginError,
    PgsluiceError,
    RefusedError,
    StalledError,
    StepError,
    TemporaryError,
    UsageError,
    VerifyError,
)
from pgsluice.model import StagedData, StagingTable

#: Characters of an answer; more is not even looked at.
MOST_CHARACTERS = 32_768
_TEXT_CHARACTERS = 4_000
_KINDS: dict[str, type[PgsluiceError]] = {
    kind.__name__: kind
    for kind in (
        ConnectError, LimitError, LoginError, PgsluiceError, RefusedError, StalledError, StepError, TemporaryError,
        UsageError, VerifyError,
    )
}  # fmt: skip

_Count = Annotated[int, Field(ge=0, lt=1 << 63)]
_Text = Annotated[str, Field(max_length=_TEXT_CHARACTERS)]
_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Staged(BaseModel):
    """The numbers of a `StagedData`; what was read and where it landed is what we asked for."""

    model_config = _STRICT

    source_count: Annotated[int, Field(ge=-1, lt=1 << 63)]
    staging_count: _Count
    bytes: _Count
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    lane: Literal["psql", "libpq"]
    psql_peak_bytes: _Count


class _Failed(BaseModel):
    """One of our errors."""

    model_config = _STRICT

    kind: Literal[tuple(_KINDS)]  # type: ignore[valid-type] # names, of which there are as many as kinds
    message: _Text
    hint: _Text
    step: _Text | None
    table: _Text | None
    sqlstate: Annotated[str, Field(pattern=r"\A[0-9A-Z]{5}\z")] | None


_ANSWER: TypeAdapter[_Staged | _Failed] = TypeAdapter(_Staged | _Failed)


def answer(copy: Callable[[], StagedData]) -> str:
    """Return what became of a slice, as text; nothing is raised, for an exception could travel as a pickle alone.

    Args:
        copy: copies it.
    """
    try:
        staged = copy()
    except Exception as error:  # noqa: BLE001 - it is told, whatever it is
        return _failed(error).model_dump_json()
    told = {name: getattr(staged, name) for name in _Staged.model_fields}
    return json.dumps(told)


def staged_by(text: str, table: StagingTable, source: str, where: str | None) -> StagedData:
    """Return what an answer says was staged.

    Args:
        text: as it came.
        table: where the slice was to land.
        source: what was to be read.
        where: under which condition.

    Raises:
        PgsluiceError: the worker's own, or that the answer is none of those that `answer` gives.
    """
    try:
        found = _ANSWER.validate_json(text) if len(text) <= MOST_CHARACTERS else None
    except ValidationError:  # its text repeats what came
        found = None
    if found is None:
        raise StepError(
            "a Dask worker's answer is not one that pgsluice gives; nothing of it was used",
            hint="Install the same version of pgsluice on the workers as here; if it is, look at who runs them.",
            step="relay",
        )
    if isinstance(found, _Failed):
        raise _KINDS[found.kind](
            found.message, hint=found.hint, step=found.step, table=found.table, sqlstate=found.sqlstate
        )
    return StagedData(staging=table, source=source, where=where, **found.model_dump())


def _failed(error: Exception) -> _Failed:
    if not isinstance(error, PgsluiceError):
        error = StepError(f"the Dask worker failed: {type(error).__name__}: {error}", step="relay")
    kind = next(each for each in type(error).__mro__ if _KINDS.get(each.__name__) is each)
    return _Failed(
        kind=kind.__name__,
        message=error.message[:_TEXT_CHARACTERS],
        hint=error.hint[:_TEXT_CHARACTERS],
        step=error.step,
        table=error.table and error.table[:_TEXT_CHARACTERS],
        sqlstate=error.sqlstate,
    )
