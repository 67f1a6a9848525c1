"""What a user decides about rows that commit late, are gone, or have no place in time: as frozen values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from pgsluice.errors import UsageError


class LatePolicy(enum.StrEnum):
    """What an incremental run reads beside ``cursor >= watermark``, for rows stamped before it and committed after."""

    AUTO = "auto"
    SCAN = "scan"
    HORIZON = "horizon"
    OVERLAP = "overlap"
    TRUST = "trust"


@dataclass(frozen=True, slots=True)
class LateRows:
    """A policy, and what the user vouches for with it.

    Attributes:
        policy: which.
        overlap: how far behind the watermark a row may still commit: an interval for times and dates (``2 hours``),
            a number for numbers; for `OVERLAP` alone.
    """

    policy: LatePolicy = LatePolicy.AUTO
    overlap: str | None = None

    @classmethod
    def parse(cls, text: str) -> LateRows:
        """Read ``auto``, ``scan``, ``horizon``, ``trust`` or ``overlap:2 hours``.

        Raises:
            UsageError: none of these.
        """
        name, separator, value = (part.strip() for part in text.partition(":"))
        try:
            policy = LatePolicy(name)
        except ValueError:
            policy = None
        if policy is None or (policy is LatePolicy.OVERLAP) != bool(value) or (separator and not value):
            raise UsageError(
                f"{text!r} says nothing about late rows",
                hint="Write auto, scan, horizon, trust, or overlap with what you vouch for: overlap:2h, overlap:1000.",
            )
        return cls(policy, value or None)

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        return f"{self.policy}:{self.overlap}" if self.overlap else self.policy.value


class Drift(enum.StrEnum):
    """What becomes of a target whose source has got columns or wider types that it lacks."""

    FAIL = "fail"
    ADD = "add"
    WIDEN = "widen"
    IGNORE = "ignore"


class DeletePolicy(enum.StrEnum):
    """What becomes of the target's rows that the source no longer has."""

    KEEP = "keep"
    SWEEP = "sweep"
    SOFT = "soft"


@dataclass(frozen=True, slots=True)
class Deletes:
    """A policy, and the column that marks a deleted row.

    Attributes:
        policy: which.
        column: of the target, boolean or timestamp; for `SOFT` alone.
    """

    policy: DeletePolicy = DeletePolicy.KEEP
    column: str = ""

    #: The mark where no column is named.
    MARK: ClassVar = "_deleted_at"

    @classmethod
    def parse(cls, text: str) -> Deletes:
        """Read ``keep``, ``sweep``, ``soft`` or ``soft:COLUMN``.

        Raises:
            UsageError: none of these.
        """
        name, separator, column = text.partition(":")
        if name == DeletePolicy.SOFT and (column or not separator):
            return cls(DeletePolicy.SOFT, column or cls.MARK)
        if not separator and name in {DeletePolicy.KEEP, DeletePolicy.SWEEP}:
            return cls(DeletePolicy(name))
        raise UsageError(f"{text!r} is nothing to do with deletes", hint="Write keep, sweep, soft or soft:COLUMN.")

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        return f"{self.policy}:{self.column}" if self.column else self.policy.value


class OnLostState(enum.StrEnum):
    """What to do where the stored position of a job means nothing any more."""

    REREAD = "reread"
    FAIL = "fail"


class NullCursors(enum.StrEnum):
    """What to do with rows whose cursor is NULL."""

    COPY = "copy"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class MaxDelete:
    """How much of the target a run may delete.

    Attributes:
        share: part of the target's rows in scope, 0.0 to 1.0, or None.
        rows: a number of rows, or None. Exactly one of the two is set.
    """

    share: float | None = 0.10
    rows: int | None = None

    #: A share says nothing about a handful of rows: below this size of the scope only emptiness is guarded.
    SMALL = 100

    @classmethod
    def parse(cls, text: str) -> MaxDelete:
        """Read ``10%`` or ``5000``.

        Raises:
            UsageError: neither a percentage from 0 to 100 nor a whole number of rows.
        """
        digits = text.strip()
        try:
            if digits.endswith("%"):
                share = float(digits[:-1]) / 100
                if 0 <= share <= 1:
                    return cls(share=share)
            elif int(digits) >= 0:
                return cls(share=None, rows=int(digits))
        except ValueError:
            pass
        raise UsageError(f"{text!r} is not a limit for deletes", hint="Write a share (10%) or a number of rows (5000).")

    def allows(self, gone: int, total: int, staged: int) -> bool:
        """Tell whether deleting `gone` of `total` rows in scope may go on when `staged` rows arrived."""
        if gone == 0:
            return True
        if self.rows is not None:
            return gone <= self.rows
        if staged and self.share and total < self.SMALL:
            return True
        return gone <= round((self.share or 0.0) * total, 6)

    def __str__(self) -> str:
        """Return the limit as it is written on the command line."""
        return f"{self.rows}" if self.rows is not None else f"{(self.share or 0) * 100:g}%"
