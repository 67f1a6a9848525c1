"""What the engine returns, as frozen values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pgsluice.facts import Column
from pgsluice.job import SyncJob, TableRef

_PARTLY, _DIFFERENT = 3, 4


@dataclass(frozen=True, slots=True)
class StagingTable:
    """A staging table on the target.

    Attributes:
        ref: its name; the schema is ``pg_temp`` for a temporary one.
        target: the table it feeds.
        columns: in order, with the types they have in it.
        run_id: the run that owns it.
    """

    ref: TableRef
    target: TableRef
    columns: tuple[Column, ...]
    run_id: str

    def __str__(self) -> str:
        """Return the name as ``schema.table``."""
        return str(self.ref)


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a table that is copied by itself: a range of pages of its heap, or of one of its partitions.

    Attributes:
        number: from 1.
        first: page that it begins with.
        end: page that it ends before, or None for the last one, which has all that follow.
        leaf: the partition, or None for the table itself.
        bytes: about how many it has; -1 where unknown.
    """

    number: int
    first: int
    end: int | None
    leaf: TableRef | None = None
    bytes: int = -1


def ranges(pages: Sequence[int]) -> tuple[Slice, ...]:
    """Return the slices that begin with these pages, in order; the last one has no end."""
    bounds = zip(pages, [*pages[1:], None], strict=True)
    return tuple(Slice(number, first, end) for number, (first, end) in enumerate(bounds, 1))


@dataclass(frozen=True, slots=True)
class CommittedSlice:
    """A slice that is durably in staging, as its table says.

    Attributes:
        slice: which.
        rows: that were committed.
        bytes: of the COPY stream.
    """

    slice: Slice
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StagedData:
    """What a copy put into a staging table.

    Attributes:
        staging: where.
        source: what was read, as it was named.
        source_count: rows the source sent, by its own count; -1 where it was not counted.
        staging_count: rows the target took, by its COPY tag.
        bytes: of the COPY stream.
        seconds: of the relay.
        lane: "psql" or "libpq".
        psql_peak_bytes: peak resident memory of the psql process; 0 where unknown or none ran.
        where: the condition the rows were read under, or None.
    """

    staging: StagingTable
    source: str
    source_count: int
    staging_count: int
    bytes: int
    seconds: float
    lane: str
    psql_peak_bytes: int = 0
    where: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the value as plain types."""
        return _fields(self)


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge did to the target, in rows.

    Attributes:
        staged: rows merged from staging.
        inserted: rows that were new.
        updated: rows that differed, by image.
        unchanged: rows that were the same already, not written.
        deleted: rows the source no longer has.
        target_count: rows of the target table afterwards; -1 where it was not counted.
        seconds: of the whole transaction.
        created: the target table was created by it.
        locked_seconds: for which other writers of the target have waited until now; 0 where none has to.
    """

    staged: int
    inserted: int
    updated: int
    unchanged: int
    deleted: int
    target_count: int
    seconds: float
    created: bool = False
    locked_seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the value as plain types."""
        return _fields(self)


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a job has come with a merge.

    Attributes:
        watermark: highest value of the cursor that is durably there, as text, or None.
        held: every later commit has a stamp at or above it.
        nulls: staged rows without a cursor.
        future: staged rows whose cursor can't be a watermark yet: it lies in the future, or is infinite.
        late: staged rows below the watermark that the run began with.
    """

    watermark: str | None = None
    held: bool = False
    nulls: int = 0
    future: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class TableReport:
    """What became of one job.

    Attributes:
        run_id: the run it belongs to.
        source: as the user named it.
        target: ``schema.table``.
        mode: "full", "upsert", "incremental", "append" or "xmin".
        status: "done", "failed", "skipped" where the run ended before it, or "planned" where it was only counted what
            would be done.
        source_count: rows the source sent, by its own count; -1 where it was not counted.
        staging_count: rows staged.
        target_count: rows of the target table afterwards; -1 where it was not counted.
        inserted: rows that were new.
        updated: rows that differed, by image.
        unchanged: rows that were the same already, not written.
        deleted: rows the source no longer had.
        strategy: "diff" where both sides were compared by hashes first, else "copy"; why in `strategy_reason`.
        strategy_reason: one sentence.
        hash_bytes: of hashes that came over the network, from both sides.
        expected_rows: rows that the plan expected to copy; -1 where nothing told how much differs.
        expected_hash_bytes: of hashes, as the plan expected them.
        reading: which rows of the source were read, and why.
        watermark: value of the cursor that the next run reads on from, or None.
        late_rows: how rows that committed late were found, or None.
        null_cursors: rows without a cursor; copied in each run.
        future_cursors: rows whose cursor lies in the future; copied in each run until it does not.
        late: rows found below the watermark that the run began with.
        held_back: transactions open on the source that rows of mode append wait for.
        keys_swept: keys of the source that were streamed to find what is gone; -1 where none were.
        snapshot_xmin: 64-bit id of the oldest transaction that the source's snapshot could not be sure of.
        verified: what was compared inside the merge transaction, and agreed: "count", "hash", or "" for nothing.
        created: the target table was created.
        bytes: of the COPY stream.
        seconds: wall clock of the job.
        steps: seconds a step, in order.
        locked_seconds: for which other writers of the target had to wait; its readers never do.
        columns: what becomes of each column's values: "same type, binary", "same type, text", "castable without loss"
            or, where it is allowed, "narrowing".
        lane: "psql" or "libpq", and why in `lane_reason`.
        lane_reason: one sentence.
        format: "text" or "binary", and why in `format_reason`.
        format_reason: one sentence.
        staging: "unlogged", "temporary" or "promoted".
        estimate: bytes on the target at most, as the plan had them: "staging", "target", "wal"; empty where not known.
        peak_bytes: peak resident memory of this process.
        psql_peak_bytes: peak resident memory of psql; 0 where none ran or the system does not tell.
        attempts: tries that it took.
        slices: parts that a resumable table was copied in; 0 where it was copied at once.
        slices_reused: of these, those that an earlier try or run had left.
        notes: what the user should know: columns not copied, things not created.
        error: the message, or None.
        hint: the way out, or "".
        step: the step that failed, or None.
        sqlstate: of the failure, or None.
        exit_code: what the failure stands for on the command line; 0 where done.
    """

    run_id: str
    source: str
    target: str
    mode: str
    status: str = "skipped"
    source_count: int = -1
    staging_count: int = 0
    target_count: int = -1
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    strategy: str = ""
    strategy_reason: str = ""
    hash_bytes: int = 0
    expected_rows: int = -1
    expected_hash_bytes: int = 0
    reading: str = ""
    watermark: str | None = None
    late_rows: str | None = None
    null_cursors: int = 0
    future_cursors: int = 0
    late: int = 0
    held_back: int = 0
    keys_swept: int = -1
    snapshot_xmin: int = 0
    verified: str = ""
    created: bool = False
    bytes: int = 0
    seconds: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)
    locked_seconds: float = 0.0
    columns: dict[str, str] = field(default_factory=dict)
    lane: str = ""
    lane_reason: str = ""
    format: str = ""
    format_reason: str = ""
    staging: str = ""
    estimate: dict[str, int] = field(default_factory=dict)
    peak_bytes: int = 0
    psql_peak_bytes: int = 0
    attempts: int = 1
    slices: int = 0
    slices_reused: int = 0
    notes: tuple[str, ...] = ()
    error: str | None = None
    hint: str = ""
    step: str | None = None
    sqlstate: str | None = None
    exit_code: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the value as plain types."""
        return _fields(self)


#: What a shell says of a program that Ctrl-C has ended.
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a run.

    Attributes:
        run_id: sorts by time.
        tables: one report a job, in the order they were done: a table after those it refers to.
        seconds: wall clock.
        source_server: who read where: ``role@host:port/database (16.14, primary)``.
        target_server: who wrote where, the same way.
        is_interrupted: something from outside ended it; tables that it had not done are "skipped".
    """

    run_id: str
    tables: tuple[TableReport, ...]
    seconds: float
    source_server: str = ""
    target_server: str = ""
    is_interrupted: bool = False

    @property
    def failed(self) -> tuple[TableReport, ...]:
        """Return the jobs that were not done."""
        return tuple(table for table in self.tables if table.status not in {"done", "planned"})

    @property
    def exit_code(self) -> int:
        """Return 0 where all is done, 3 where some is, else what the failures share, or 1; 130 if interrupted."""
        if self.is_interrupted:
            return INTERRUPTED
        if not self.failed:
            return 0
        if len(self.failed) < len(self.tables):
            return 3
        codes = {table.exit_code for table in self.failed if table.status == "failed"}
        return (codes.pop() if len(codes) == 1 else 1) or 1

    def to_dict(self) -> dict[str, Any]:
        """Return the value as plain types."""
        return {
            "run_id": self.run_id,
            "status": {0: "done", 3: "partly done", INTERRUPTED: "interrupted"}.get(self.exit_code, "failed"),
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "source_server": self.source_server,
            "target_server": self.target_server,
            "tables": [table.to_dict() for table in self.tables],
        }


def _fields(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass of this module
    return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}


def _plain(value: Any) -> Any:  # noqa: ANN401 - walks any value of this module
    if isinstance(value, TableRef):
        return str(value)
    if isinstance(value, StagingTable):
        return str(value.ref)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not the same on both sides.

    Attributes:
        sign: ``+`` missing on the target, ``-`` on the target alone, ``*`` another row.
        key: values of its key, as text.
        columns: that differ, of a row that both have.
        is_since: the source's row was written, or is gone, since the run that is asked about.
    """

    sign: str
    key: tuple[str | None, ...]
    columns: tuple[str, ...] = ()
    is_since: bool = False


@dataclass(frozen=True, slots=True)
class TableComparison:
    """What a comparison of one job's source and target came to.

    Attributes:
        source: as the user named it.
        target: ``schema.table``.
        level: "count", "hash" or "rows".
        status: "equal", "different", or "failed" where they could not be compared.
        as_of_run: the run as of which they are compared, or None: as they are now.
        key: columns that name a row.
        source_rows: in scope, in one snapshot; -1 where they were not counted.
        target_rows: in scope; -1 where they were not counted.
        buckets: that the rows were put into by their key; 0 where none were.
        differing: of these, those that are not the same on both sides.
        unsettled: of those that differ, those that others changed on the target while they were compared.
        missing: rows that only the source has; -1 where rows were not looked at, as the two below.
        extra: rows that only the target has.
        changed: rows that both have, and that differ.
        changed_since: rows that the source got or changed since the run, and that are no difference as of it; -1 where
            no run was asked about, as the one below.
        gone_since: rows that only the target has, for the source may have lost them since the run.
        differences: the first of these, as many as asked for.
        hashed_by: "record", or "md5" where the servers' own hashes of a row can't be compared.
        bytes: of hashes that came over the network.
        seconds: wall clock.
        error: why it failed, or None.
        hint: the way out, or "".
        exit_code: what it stands for on the command line: 0 equal, 4 different, else the failure's.
        notes: what was not compared.
    """

    source: str
    target: str
    level: str
    status: str = "failed"
    as_of_run: str | None = None
    key: tuple[str, ...] = ()
    source_rows: int = -1
    target_rows: int = -1
    buckets: int = 0
    differing: int = 0
    unsettled: int = 0
    missing: int = -1
    extra: int = -1
    changed: int = -1
    changed_since: int = -1
    gone_since: int = -1
    differences: tuple[Difference, ...] = ()
    hashed_by: str = ""
    bytes: int = 0
    seconds: float = 0.0
    error: str | None = None
    hint: str = ""
    exit_code: int = 0
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**dataclasses.asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification came to.

    Attributes:
        tables: in order.
        differing: the jobs of those that differ, as a sync of everything in scope.
        seconds: wall clock.
        source_server: who read where: ``role@host:port/database (16.14, primary)``.
        target_server: who read where, the same way.
    """

    tables: tuple[TableComparison, ...]
    differing: tuple[SyncJob, ...]
    seconds: float
    source_server: str = ""
    target_server: str = ""

    @property
    def exit_code(self) -> int:
        """Return 0 where all are equal, 4 where some differ, else 3 where some could not be compared."""
        return _DIFFERENT if any(table.status == "different" for table in self.tables) else self.failed_code

    @property
    def failed_code(self) -> int:
        """Return 0 where all could be compared, 3 where some could not, or what none could be compared for."""
        codes = {table.exit_code for table in self.tables}
        failed = codes - {0, _DIFFERENT}
        if not failed:
            return 0
        return failed.pop() if len(codes) == 1 else _PARTLY
