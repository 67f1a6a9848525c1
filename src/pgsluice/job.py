"""What a user asks for, as frozen values."""

from __future__ import annotations

import enum
import fnmatch
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pgsluice.errors import TableNameError, UsageError
from pgsluice.policies import DeletePolicy, Deletes, Drift, LatePolicy, LateRows, MaxDelete, NullCursors, OnLostState
from pgsluice.shape import Shape

#: What SQL is made of, as far as finding the semicolon that closes a statement takes.
_TOKEN = re.compile(
    r"""(?P<quoted>[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      | (?P<blank>\s+ | --[^\n]* | /\*.*?\*/)
      | (?P<semicolon>;)
      | .""",
    re.DOTALL | re.VERBOSE,
)
_NAME_PART = re.compile(r'"(?:[^"]|"")+"|[^".]+')
_GLOB = re.compile(r"[*?\[]")


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
        schema, name = map(_unquoted, _parts(text))
        return cls(schema, name)

    def __str__(self) -> str:
        """Return the name so that `parse` reads it back; a query's, which has no schema, as it is.

        Locks, state and history know a table by it.
        """
        return f"{_quoted(self.schema)}.{_quoted(self.name)}" if self.schema else self.name

    @property
    def typed(self) -> str:
        """Return the name as a user types it where a pattern may stand too: see `TablePattern`."""
        return f"{_quoted(self.schema, _GLOB)}.{_quoted(self.name, _GLOB)}"


@dataclass(frozen=True, slots=True)
class TablePattern:
    """Tables as a user names them: what is in double quotes is a name, whatever it holds; else ``*?[`` make a glob.

    Attributes:
        schema: as typed, quotes included.
        name: the same of the table.
    """

    schema: str
    name: str

    @classmethod
    def parse(cls, text: str) -> TablePattern:
        """Read ``schema.table``, ``schema.*`` or ``schema."*"``.

        Raises:
            TableNameError: not exactly two parts.
        """
        return cls(*_parts(text))

    @property
    def is_glob(self) -> bool:
        """Tell whether it may stand for several tables."""
        return _is_glob(self.schema) or _is_glob(self.name)

    @property
    def ref(self) -> TableRef:
        """Return the table of just this name, which is the one that is meant where it is no glob."""
        return TableRef(_unquoted(self.schema), _unquoted(self.name))

    def matches(self, ref: TableRef) -> bool:
        """Tell whether a table is meant."""
        return _matches(self.schema, ref.schema) and _matches(self.name, ref.name)


def known_as(text: str) -> str:
    """Return a table's name, however it is quoted, as `str` has it; any other text, such as a job's id, as it is."""
    try:
        return str(TableRef.parse(text))
    except TableNameError:
        return text


def _parts(text: str) -> tuple[str, str]:
    """Return schema and table as they are typed, quotes included."""
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
    return parts[0], parts[1]


def _is_glob(part: str) -> bool:
    return not part.startswith('"') and _GLOB.search(part) is not None


def _matches(part: str, name: str) -> bool:
    return fnmatch.fnmatchcase(name, part) if _is_glob(part) else _unquoted(part) == name


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def _quoted(part: str, too: re.Pattern[str] | None = None) -> str:
    """Return a part of a name in quotes where it needs them, and where it holds what `too` finds."""
    if part and not re.search(r'[".\s]', part) and not (too and too.search(part)):
        return part
    return '"' + part.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class QuerySource:
    """A SELECT as the source of a job."""

    sql: str

    @classmethod
    def parse(cls, text: str) -> QuerySource:
        """Take a SELECT as a user writes it; a closing semicolon is left off, with the comments behind it."""
        closing, is_empty = None, True
        for token in _TOKEN.finditer(text):
            if token["semicolon"]:
                closing = token.start() if closing is None else closing
            elif not token["blank"]:
                closing, is_empty = None, False
        return cls("" if is_empty else text[:closing].strip())

    def __str__(self) -> str:
        """Return the name that reports show."""
        return "(query)"


class Mode(enum.StrEnum):
    """What the target shall be afterwards."""

    FULL = "full"
    UPSERT = "upsert"
    INCREMENTAL = "incremental"
    APPEND = "append"
    XMIN = "xmin"

    @property
    def reads_on(self) -> bool:
        """Tell whether a run reads on from where the last one stopped."""
        return self in {Mode.INCREMENTAL, Mode.APPEND, Mode.XMIN}


class StagingKind(enum.StrEnum):
    """Where rows land on the target before they are merged; promoted, where the target is missing, what becomes it."""

    AUTO = "auto"
    UNLOGGED = "unlogged"
    TEMPORARY = "temporary"
    PROMOTED = "promoted"


class Lane(enum.StrEnum):
    """Who reads the source: a psql process, or this process by libpq."""

    AUTO = "auto"
    PSQL = "psql"
    LIBPQ = "libpq"


class Strategy(enum.StrEnum):
    """How a target comes to equal its source.

    By what hashes tell to differ, by a merge of everything, by whichever of these is cheaper; or by a new table, filled
    and put in its place.
    """

    AUTO = "auto"
    DIFF = "diff"
    COPY = "copy"
    SWAP = "swap"


class Verify(enum.StrEnum):
    """What is compared before a commit: nothing, the rows' number on both sides, or a hash of all of them besides."""

    NONE = "none"
    COUNT = "count"
    HASH = "hash"


class Level(enum.StrEnum):
    """How closely two tables are looked at: rows counted, rows hashed, or those that differ named."""

    COUNT = "count"
    HASH = "hash"
    ROWS = "rows"


class TargetWriters(enum.StrEnum):
    """Who else may write a target while it is compared: `WAIT` lets them wait, `NONE` is the user's word for nobody."""

    WAIT = "wait"
    NONE = "none"


class CopyFormat(enum.StrEnum):
    """The format of the COPY stream."""

    AUTO = "auto"
    TEXT = "text"
    BINARY = "binary"


#: More than this is asked for, not assumed: each slice keeps a process busy on the source and one on the target.
_JOBS_ASSUMED = 4


def default_jobs() -> int:
    """Return how many slices are copied at once where nobody says: as many as this machine has cores, at most four."""
    return min(_JOBS_ASSUMED, os.cpu_count() or 1)


def sessions(workers: int) -> dict[str, int]:
    """Return how many sessions a run opens at most on each side: its own, a worker's, and a psql for each worker."""
    return {"source": 2 + 2 * workers, "target": 3 + workers}


@dataclass(frozen=True, slots=True)
class Options:
    """How a job is carried out; the same for every job of a run.

    Attributes:
        jobs: slices that are copied at once, of whatever tables; with 1, one table after the other.
        max_connections: sessions that a run may have open on each side, at the cost of `jobs`; None for no limit.
        executor: where slices are copied: None for this process, or a Dask cluster, ``tls://host:port`` or ``tcp://``.
        staging: where rows land first.
        lane: who reads the source.
        strategy: whether both sides are compared by hashes first, and only buckets that differ are copied; or the
            target is replaced by a new table.
        format: of the COPY stream; binary is refused where it is not proven safe.
        target_writers: whether a large target is compared under its lock, or before it.
        max_delete: the delete guard.
        verify: what of both sides is compared before the commit.
        lock_timeout: seconds to wait for a table lock, all tries together.
        wait_for_lock: seconds to wait for other runs that are at the same targets, all together; 0 not to wait.
        connect_timeout: seconds to wait for a connection.
        stall_timeout: seconds in which nothing moves and the server does no work for us, before a wait is ended; 0 for
            never.
        statement_timeout: seconds that one statement of ours may take on either server; 0 for as long as it takes.
        retries: tries of a table after its first, while nothing moves forward.
        retry_for: seconds after the first failure in which they may begin, and a server that is away is waited for.
        pre_sql: run on the target before a table is copied, one text after the other: each alone, without a transaction
            around it, where it is one statement, else in a transaction of its own. One may stand without a sequence.
        post_sql: the same, after it is committed.
        group: tables of one name commit in one transaction; None where only foreign keys tie them.
        atomic: all tables of a run commit in one transaction; else those that foreign keys of the target tie.
        fail_fast: the first table that fails ends the run.
        resumable: keep what is staged when a table fails, or the run dies, so that `resume` finds it.
        resume_keep: seconds for which it is kept.
        keep_history: seconds for which the target keeps what runs did.
        slice_bytes: size of the parts that a resumable table is copied in.
        resume: a run whose tables that are done are left out, by its id, or "last".
        max_staging_bytes: that the staging tables of a run may take on the target's disk; None for no limit.
        max_memory: resident bytes that this process and its psql may hold together; None for no limit.
        max_rate: bytes a second that all copies of a run take together; None for no limit.
        max_lag: bytes of WAL that a standby of the target may be behind while rows are copied; None for no limit.
        psql: path of the psql to use, or None to look for one.
        full_refresh: forget the stored position and start over.
        on_lost_state: where the stored position means nothing any more.
        null_cursors: where a row's cursor is NULL.
        scan_limit: bytes of heap up to which `LatePolicy.AUTO` reads the whole table for late rows.
        indexes: a table that is created gets the source's unique and exclusion constraints and its indexes too.
        source_encoding: what the bytes of a source in SQL_ASCII mean, by its user's word.
        target_encoding: the same of the target.
        allow_narrowing: copy into types that may not hold every value: it is rounded, or ends the table.
        show_row_data: let errors say what they know of a row: the server's DETAIL and CONTEXT, values, keys.
        sequences: sequences of an existing target's columns catch up with their values; those of a new one always do.
    """

    jobs: int = field(default_factory=default_jobs)
    max_connections: int | None = None
    executor: str | None = None
    staging: StagingKind = StagingKind.AUTO
    lane: Lane = Lane.AUTO
    format: CopyFormat = CopyFormat.AUTO
    target_writers: TargetWriters = TargetWriters.WAIT
    strategy: Strategy = Strategy.AUTO
    max_delete: MaxDelete = field(default_factory=MaxDelete)
    verify: Verify = Verify.COUNT
    lock_timeout: float = 30.0
    wait_for_lock: float = 30.0
    connect_timeout: float = 10.0
    stall_timeout: float = 300.0
    statement_timeout: float = 0.0
    retries: int = 10
    retry_for: float = 600.0
    fail_fast: bool = False
    pre_sql: str | Sequence[str] = ()
    post_sql: str | Sequence[str] = ()
    group: str | None = None
    atomic: bool = False
    resumable: bool = False
    resume_keep: float = 86_400.0
    keep_history: float = 400 * 86_400.0
    slice_bytes: int = 256 << 20
    resume: str | None = None
    max_staging_bytes: int | None = None
    max_memory: int | None = None
    max_rate: int | None = None
    max_lag: int | None = None
    psql: str | None = None
    full_refresh: bool = False
    on_lost_state: OnLostState = OnLostState.REREAD
    null_cursors: NullCursors = NullCursors.COPY
    scan_limit: int = 10 << 30
    source_encoding: str | None = None
    target_encoding: str | None = None
    allow_narrowing: bool = False
    indexes: bool = False
    sequences: bool = False
    show_row_data: bool = False

    @property
    def workers(self) -> int:
        """Return how many slices are copied at once: `jobs`, or as many as `max_connections` leaves room for."""
        fitting = (
            n for n in range(self.jobs, 1, -1) if max(sessions(n).values()) <= (self.max_connections or math.inf)
        )
        return next(fitting, 1)

    @property
    def keeps_staging(self) -> bool:
        """Tell whether staging is made to outlive the run that fills it."""
        return self.resumable or self.resume is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """What shall become of a table's rows.

    Attributes:
        mode: `FULL` deletes what the source lacks, `UPSERT` does not; the others read what is new since the last run:
            by a cursor column (`INCREMENTAL`), by the transactions that wrote (`XMIN`), each row once (`APPEND`).
        where: SQL condition that limits what is read and what may be deleted, or None.
        key: columns that identify a row; empty to take them from the catalog.
        cursor: the column that new and changed rows move forward, for `INCREMENTAL`.
        cursor_type: what kind of values it holds; None to find it from the catalog.
        late_rows: what is read for rows that committed late, for `INCREMENTAL`.
        late_within: how far behind the watermark late rows are looked for (``7 days``, or a number), or None for all.
        deletes: what becomes of rows gone from the source; None for the mode's own way.
        since: read from this value of the cursor on, once, and leave the watermark alone.
        until: with `since`, read no row at or above this value.
        from_target: without a stored watermark, begin at the target's highest value instead of reading everything.
        drift: what becomes of a target that lacks columns of the source, or holds narrower types.
        shape: which columns are copied, under which names, and how.
    """

    mode: Mode = Mode.FULL
    where: str | None = None
    key: tuple[str, ...] = ()
    cursor: str | None = None
    cursor_type: str | None = None
    late_rows: LateRows = field(default_factory=LateRows)
    late_within: str | None = None
    deletes: Deletes | None = None
    since: str | None = None
    until: str | None = None
    from_target: bool = False
    drift: Drift = Drift.FAIL
    shape: Shape = field(default_factory=Shape)

    @property
    def deletion(self) -> Deletes:
        """Return what becomes of rows gone from the source: as asked, else the mode's own way."""
        return self.deletes or Deletes(DeletePolicy.SWEEP if self.mode is Mode.FULL else DeletePolicy.KEEP)

    def treatment(self) -> dict[str, Any]:
        """Return the settings by name, for another value that has them too."""
        return {item.name: getattr(self, item.name) for item in fields(Treatment)}

    def check(self) -> None:
        """See that what was asked for goes together.

        Raises:
            UsageError: it does not.
        """
        mode = self.mode
        if mode is Mode.INCREMENTAL and not self.cursor:
            raise UsageError(
                "mode incremental needs a cursor column", hint="Name it with --cursor; mode xmin needs none."
            )
        given = {
            "a cursor": self.cursor,
            "a cursor type": self.cursor_type,
            "a policy for late rows": self.late_rows != LateRows(),
            "a span for late rows": self.late_within,
            "a value to read from (since)": self.since,
            "a value to read up to (until)": self.until,
        }
        for name, value in given.items():
            if value and mode is not Mode.INCREMENTAL:
                raise UsageError(f"{name} belongs to mode incremental, not to {mode}")
        if self.until and not self.since:
            raise UsageError("until ends a part that since begins", hint="Say from which value on: --since.")
        if (self.late_rows.policy is LatePolicy.OVERLAP) != bool(self.late_rows.overlap):
            raise UsageError("an overlap needs the span you vouch for", hint="For example overlap:2h, overlap:1000.")
        if self.deletion.policy is DeletePolicy.SOFT and not self.deletion.column:
            raise UsageError("soft deletes need the column that marks a row", hint="For example soft:deleted_at.")
        if self.late_within and self.late_rows.policy not in {LatePolicy.AUTO, LatePolicy.SCAN}:
            raise UsageError(f"a span for late rows limits their scan, and {self.late_rows} does none")
        if mode is Mode.APPEND and self.deletion.policy is not DeletePolicy.KEEP:
            raise UsageError("mode append knows no key, so it can't tell which rows are gone", hint="Use incremental.")
        if mode is Mode.APPEND and self.key:
            raise UsageError("mode append takes no key: each row arrives once", hint="Use incremental to merge by key.")


@dataclass(frozen=True, slots=True)
class SyncJob(Treatment):
    """One table (or one query) from source to target, as a user asks for it.

    Attributes:
        source: the table or query that is read.
        target: the table that is written; created where it is missing.
        options: how it is carried out, where that is not as the run's.
    """

    source: TableRef | QuerySource
    target: TableRef
    options: Options | None = None


@dataclass(frozen=True, slots=True)
class Selection(Treatment):
    """Which tables of the source, and what becomes of each: the same for all of them.

    Attributes:
        patterns: ``schema.table`` or globs; names are resolved by the source's catalog.
        to: template of the target's name, with ``{schema}`` and ``{table}`` of the source.
    """

    patterns: tuple[str, ...]
    to: str = "{schema}.{table}"

    def told(self, pattern: str) -> str:
        """Return one of the patterns as a message begins that speaks of it."""
        return f"the pattern {pattern!r}"

    def jobs(self, found: Iterable[TableRef]) -> tuple[SyncJob, ...]:
        """Return one job a table found.

        Raises:
            UsageError: two of them would write the same target.
        """
        template = target_template(self.to)
        jobs = tuple(SyncJob(ref, filled(template, ref), **self.treatment()) for ref in found)
        return self.distinct(jobs)

    @staticmethod
    def distinct(jobs: tuple[SyncJob, ...]) -> tuple[SyncJob, ...]:
        """Return the jobs.

        Raises:
            UsageError: two of them would write the same target.
        """
        first: dict[TableRef, SyncJob] = {}
        for job in jobs:
            other = first.setdefault(job.target, job)
            if other is not job:
                raise UsageError(
                    f"{other.source} and {job.source} would both be written to {job.target}",
                    hint="Use {schema} or {table} in --to, for example --to 'raw.{schema}_{table}'.",
                )
        return jobs


def one_or_more(texts: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return texts of which one may stand without a sequence, and without those that are empty."""
    return tuple(filter(None, (texts,) if isinstance(texts, str) else texts or ()))


def target_template(text: str) -> TableRef:
    """Read a target's name with places for ``{schema}`` and ``{table}`` of the source.

    Raises:
        UsageError: it is no name, or has braces around something else.
    """
    template = TableRef.parse(text)
    if unknown := re.search(r"\{[^{}]*\}", _PLACE.sub("", f"{template.schema}.{template.name}")):
        raise UsageError(
            f"{text!r} has {unknown[0]}, which stands for nothing", hint="{schema} and {table} stand for the source's."
        )
    return template


_PLACE = re.compile(r"\{schema\}|\{table\}")


def filled(template: TableRef, ref: TableRef) -> TableRef:
    """Fill a name's template in one pass, so that braces in a table's own name stay what they are."""
    values = {"{schema}": ref.schema, "{table}": ref.name}
    return TableRef(*(_PLACE.sub(lambda match: values[match[0]], part) for part in (template.schema, template.name)))


def requested(
    tables: Sequence[str], query: str | None, to: str, treatment: Treatment
) -> Selection | tuple[SyncJob, ...]:
    """Return what a run is asked for: tables by name or pattern, or one query.

    Args:
        tables: ``schema.table`` or globs.
        query: a SELECT, or None.
        to: template of the target's name; with a query, the name itself.
        treatment: of each.

    Raises:
        UsageError: both, neither, or a query without a name for its target.
    """
    if query is None:
        if not tables:
            raise UsageError("nothing to copy was named", hint="Name tables, or give a query.")
        return Selection(tuple(tables), to, **treatment.treatment())
    if tables:
        raise UsageError("tables and a query were both given", hint="Copy them by two calls.")
    if "{" in to:
        raise UsageError("a query needs a name for its target", hint="Give it with --to raw.name.")
    return (SyncJob(QuerySource.parse(query), TableRef.parse(to), **treatment.treatment()),)
