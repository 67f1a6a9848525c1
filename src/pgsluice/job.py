"""What a user asks for, as frozen values."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pgsluice.errors import TableNameError, UsageError

_NAME_PART = re.compile(r'"(?:[^"]|"")+"|[^".]+')


@dataclass(frozen=True, slots=True, order=True)
class TableRef:
    """A table by schema and name, as the catalog spells them (no quotes, case kept)."""

    schema: str
    name: str

    @classmethod
    def parse(cls, text: str) -> TableRef:
        """Read ``schema.table``; a part that holds a dot or a quote stands in double quotes.

        Args:
            text: the name as a user writes it. Unquoted parts are taken as they are, case included.

        Raises:
            TableNameError: not exactly two parts.
        """
        parts = _NAME_PART.findall(text.strip())
        if ".".join(parts) != text.strip():
            raise TableNameError(
                f"{text!r} is not a table name", hint='Write schema.table; quote odd parts: \'"my.schema"."t 1"\'.'
            )
        if len(parts) == 1:
            raise TableNameError(f"{text!r} lacks a schema", hint=f"Write schema.table, for example public.{text}.")
        if len(parts) != 2:  # noqa: PLR2004 - schema and table
            raise TableNameError(
                f"{text!r} has {len(parts)} parts; a table is named schema.table",
                hint="The database is part of the connection (--source, --target), not of the name.",
            )
        schema, name = (_unquoted(part) for part in parts)
        return cls(schema, name)

    def __str__(self) -> str:
        """Return the name so that `parse` reads it back."""
        return f"{_quoted(self.schema)}.{_quoted(self.name)}"


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def _quoted(part: str) -> str:
    if part and not re.search(r'[".\s]', part):
        return part
    return '"' + part.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class QuerySource:
    """A SELECT as the source of a job."""

    sql: str

    @classmethod
    def parse(cls, text: str) -> QuerySource:
        """Take a SELECT as a user writes it; one closing semicolon is left off."""
        return cls(text.strip().removesuffix(";").rstrip())

    def __str__(self) -> str:
        """Return the name that reports show."""
        return "(query)"


class Mode(enum.StrEnum):
    """What the target shall be afterwards."""

    FULL = "full"
    UPSERT = "upsert"


class StagingKind(enum.StrEnum):
    """Where rows land on the target before they are merged."""

    AUTO = "auto"
    UNLOGGED = "unlogged"
    TEMPORARY = "temporary"


class Lane(enum.StrEnum):
    """Who reads the source: a psql process, or this process by libpq."""

    AUTO = "auto"
    PSQL = "psql"
    LIBPQ = "libpq"


class CopyFormat(enum.StrEnum):
    """The format of the COPY stream."""

    TEXT = "text"
    BINARY = "binary"


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


@dataclass(frozen=True, slots=True)
class Options:
    """How a job is carried out; the same for every job of a run.

    Attributes:
        staging: where rows land first.
        lane: who reads the source.
        max_delete: the delete guard.
        verify: whether rows are counted on both sides before the commit.
        lock_timeout: seconds to wait for a table lock, all tries together.
        connect_timeout: seconds to wait for a connection.
        psql: path of the psql to use, or None to look for one.
    """

    staging: StagingKind = StagingKind.AUTO
    lane: Lane = Lane.AUTO
    max_delete: MaxDelete = field(default_factory=MaxDelete)
    verify: bool = True
    lock_timeout: float = 30.0
    connect_timeout: float = 10.0
    psql: str | None = None


@dataclass(frozen=True, slots=True)
class SyncJob:
    """One table (or one query) from source to target, as a user asks for it.

    Attributes:
        source: the table or query that is read.
        target: the table that is written; created where it is missing.
        mode: `FULL` deletes what the source lacks, `UPSERT` does not.
        where: SQL condition that limits what is read and what may be deleted, or None.
        key: columns that identify a row; empty to take them from the catalog.
    """

    source: TableRef | QuerySource
    target: TableRef
    mode: Mode = Mode.FULL
    where: str | None = None
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tables of the source, and what becomes of each.

    Attributes:
        patterns: ``schema.table`` or globs; names are resolved by the source's catalog.
        to: template of the target's name, with ``{schema}`` and ``{table}`` of the source.
        mode: for each of them.
        where: for each of them.
        key: for each of them.
    """

    patterns: tuple[str, ...]
    to: str = "{schema}.{table}"
    mode: Mode = Mode.FULL
    where: str | None = None
    key: tuple[str, ...] = ()

    def jobs(self, found: Iterable[TableRef]) -> tuple[SyncJob, ...]:
        """Return one job a table found.

        Raises:
            UsageError: two of them would write the same target.
        """
        template = TableRef.parse(self.to)
        unknown = set(re.findall(r"\{[^{}]*\}", str(template))) - {"{schema}", "{table}"}
        if unknown:
            raise UsageError(f"--to knows no {', '.join(sorted(unknown))}", hint="It knows {schema} and {table}.")
        jobs = tuple(
            SyncJob(
                ref,
                TableRef(_filled(template.schema, ref), _filled(template.name, ref)),
                self.mode,
                self.where,
                self.key,
            )
            for ref in found
        )
        first: dict[TableRef, SyncJob] = {}
        for job in jobs:
            other = first.setdefault(job.target, job)
            if other is not job:
                raise UsageError(
                    f"{other.source} and {job.source} would both be written to {job.target}",
                    hint="Use {schema} or {table} in --to, for example --to 'raw.{schema}_{table}'.",
                )
        return jobs


def _filled(template: str, ref: TableRef) -> str:
    """Fill a name's template in one pass, so that braces in a table's own name stay what they are."""
    values = {"{schema}": ref.schema, "{table}": ref.name}
    return re.sub(r"\{schema\}|\{table\}", lambda match: values[match.group()], template)
