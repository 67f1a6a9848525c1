"""Which columns of a source are copied, under which names, and what becomes of their values before they leave it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, fields

from pgsluice.errors import UsageError

#: As a constant: the moment of the run's snapshot, by the source's clock.
SNAPSHOT_TIME = "@snapshot"


class Masking(enum.StrEnum):
    """What takes the place of a value that shall not leave the source."""

    NULL = "null"
    HASH = "hash"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class Mask:
    """A masked column.

    Attributes:
        column: of the source.
        by: what takes the place of its values.
        value: for `Masking.CONSTANT`, as text; for `Masking.HASH` the salt before it, which is no secret.
    """

    column: str
    by: Masking
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> Mask:
        """Read ``column=null``, ``column=hash``, ``column=hash:SALT`` or ``column=constant:VALUE``.

        Raises:
            UsageError: none of these.
        """
        column, what = _pair(text, "--mask")
        by, _, value = what.partition(":")
        if by not in set(Masking) or (value and by == Masking.NULL):
            raise UsageError(
                f"--mask {text!r} does not say how",
                hint="Write column=null, column=hash, column=hash:SALT, column=constant:VALUE.",
            )
        return cls(column, Masking(by), value)


@dataclass(frozen=True, slots=True)
class Constant:
    """A column that the source does not have, with one value in every row of the job.

    Attributes:
        column: its name on the target.
        value: as text, or `SNAPSHOT_TIME`.
        type: as SQL.
    """

    column: str
    value: str
    type: str = "text"

    @classmethod
    def parse(cls, text: str) -> Constant:
        """Read ``column=value`` (text), ``column::type=value`` or ``column=@snapshot`` (timestamptz).

        Raises:
            UsageError: none of these.
        """
        name, value = _pair(text, "--constant")
        column, _, type_ = name.partition("::")
        return cls(column, value, type_ or ("timestamptz" if value == SNAPSHOT_TIME else "text"))

    @property
    def is_moment(self) -> bool:
        """Tell whether it is another one in each run, so that it does not make a row another row."""
        return self.value == SNAPSHOT_TIME


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a job's rows; empty for that of the source.

    Attributes:
        columns: of the source that are copied; empty for all.
        exclude: of the source that are not.
        rename: (name on the source, name on the target) of columns.
        cast: (name on the source, type as SQL) of columns that the source casts.
        constants: columns that are added.
        mask: columns whose values do not leave the source.
    """

    columns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    cast: tuple[tuple[str, str], ...] = ()
    constants: tuple[Constant, ...] = ()
    mask: tuple[Mask, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether it differs from the source's."""
        return any(getattr(self, item.name) for item in fields(self))

    @property
    def scope(self) -> tuple[Constant, ...]:
        """Return the constants that tell this job's rows of the target from those of others."""
        return tuple(constant for constant in self.constants if not constant.is_moment)


def shape_of(  # noqa: PLR0913, PLR0917 - a setting each
    columns: str | None,
    exclude: str | None,
    rename: Iterable[str],
    cast: Iterable[str],
    constants: Iterable[str],
    mask: Iterable[str],
) -> Shape:
    """Read a shape as it is written on the command line.

    Args:
        columns: names with commas, or None.
        exclude: the same.
        rename: ``old=new`` each.
        cast: ``column=type`` each.
        constants: as `Constant.parse` reads them.
        mask: as `Mask.parse` reads them.

    Raises:
        UsageError: what can't be read.
    """
    return Shape(
        _names(columns, "--columns"),
        _names(exclude, "--exclude"),
        tuple(_pair(each, "--rename") for each in rename),
        tuple(_pair(each, "--cast") for each in cast),
        tuple(map(Constant.parse, constants)),
        tuple(map(Mask.parse, mask)),
    )


def _names(text: str | None, option: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",")) if text else ()
    if "" in names:
        raise UsageError(f"{option} {text!r} names an empty column", hint=f"Write {option} a,b.")
    return names


def _pair(text: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name.strip() and sign and (value.strip() or option == "--constant")):
        raise UsageError(f"{option} {text!r} lacks a part", hint=f"Write {option} column=value.")
    return name.strip(), value if option == "--constant" else value.strip()
