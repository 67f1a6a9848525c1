"""Pure: a job and the facts of both servers become one frozen plan, or a list of every reason to refuse it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from pgsluice import carrying, drift, encodings, estimates, fidelity, hashing, keys, replacing, sequences
from pgsluice.drift import Alteration
from pgsluice.errors import PlanError
from pgsluice.estimates import Estimate, Forecast
from pgsluice.facts import (
    NOT_BEHIND,
    SIZED,
    VIRTUAL_SINCE,
    Attachment,
    Column,
    Dependency,
    Facts,
    Key,
    Leaf,
    Origin,
    Read,
    ServerInfo,
    TableInfo,
)
from pgsluice.fidelity import Fidelity, Verdict
from pgsluice.hashing import Hashing, Part
from pgsluice.job import CopyFormat, Lane, Mode, Options, QuerySource, StagingKind, Strategy, SyncJob, TableRef, Verify
from pgsluice.model import Slice, ranges
from pgsluice.policies import DeletePolicy
from pgsluice.reading import Reading, decide
from pgsluice.refusals import every_refusal
from pgsluice.shape import Constant
from pgsluice.windows import Window

NEWEST_TRIED = 18

#: Below this a copy, its checks and its merge go through in one transaction on a temporary table: nothing can be left
#: behind. Above it, parallel plans over an unlogged table win.
TEMPORARY_BELOW_BYTES = 8 << 20
#: From here on a target is compared before it is touched: comparing runs in parallel, and what changes rows never does.
COMPARED_FROM_BYTES = 32 << 20
SLICES_AT_MOST = 1000  # each is a table, and the merge locks all of them

#: Below this, starting psql costs more than its cheaper reading saves (see benchmarks/lanes.py).
PSQL_FROM_BYTES = 32 << 20
#: From this size of both sides on they are compared by hashes before anything is copied ..
DIFF_FROM_BYTES = 64 << 20
#: .. and up to this share of rows in buckets that differ these are copied alone, at the cost of a scan more a side.
MOST_AFFECTED = 0.3
AS_ASKED = "as asked"


@dataclass(frozen=True, slots=True)
class Creation:
    """What is created on the target where the table is missing.

    Attributes:
        schemas: to create first.
        dependencies: types and collations to create first, in this order.
        columns: the table's definition, generated columns included.
        primary_key: its columns; empty for none.
        unique: columns of a UNIQUE constraint for a key that is not the primary one; empty for none.
        attachments: constraints and indexes that it gets besides.
        comment: on it, or None.
    """

    schemas: tuple[str, ...]
    dependencies: tuple[Dependency, ...]
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    unique: tuple[str, ...]
    attachments: tuple[Attachment, ...] = ()
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """How a job's rows travel into staging.

    Attributes:
        source: what is read.
        relkind: of the source, as in `TableInfo`.
        where: condition the rows are read under, or None.
        window: of these rows those that the run reads, or None for all.
        columns: what is copied, with the target's types: the staging table's definition.
        lane: `PSQL` or `LIBPQ`.
        lane_reason: one sentence.
        format: of the COPY stream.
        format_reason: one sentence.
        search_path: that names in the user's SQL, and in functions of views, domains and indexes, are looked up under.
        time_zone: that these mean, and what is cast or hashed; UTC where there is none of it.
        rows_expected: the planner's estimate; -1 where unknown.
        psql: path of the psql asked for, or None to look for one.
        max_staging_bytes: as in `Options`.
        max_memory: as in `Options`.
        origins: what the source is asked for in the place of each column; empty for the columns as they are.
        encodings: ENCODING of the COPY that reads and of the one that writes; None where the session's own serves.
        part: of the source, what this copy reads; None for all.
        buckets: of these rows, those that the target does not have alike; None for all.
        oid: of the source; 0 for a query.
        calls_functions: rows that are staged can have functions of the target called, which look up names by the
            search_path of its role.
    """

    source: TableRef | QuerySource
    relkind: str
    where: str | None
    window: Window | None
    columns: tuple[Column, ...]
    lane: Lane
    lane_reason: str
    format: CopyFormat
    format_reason: str
    search_path: str
    time_zone: str
    rows_expected: int
    psql: str | None
    max_staging_bytes: int | None = None
    max_memory: int | None = None
    origins: tuple[Origin | None, ...] = ()
    encodings: tuple[str | None, str | None] = (None, None)
    part: Slice | None = None
    buckets: Part | None = None
    oid: int = 0
    calls_functions: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the copied columns."""
        return tuple(column.name for column in self.columns)

    @property
    def read(self) -> Read:
        """Return what is read by name; a condition or a cast of the user's may lean on views."""
        if isinstance(self.source, QuerySource):
            return Read(None)
        is_plain = self.where is None and not any(origin.how == "cast" for origin in self.origins if origin)
        ref = self.part.leaf if self.part and self.part.leaf else self.source
        return Read(ref, self.oid, NOT_BEHIND.get(self.relkind, "") if is_plain else "")

    def only(self, part: Slice) -> CopyPlan:
        """Return how one slice travels: a small one is not worth the start of a psql."""
        is_small = self.lane_reason != AS_ASKED and 0 <= part.bytes < PSQL_FROM_BYTES
        return dataclasses.replace(self, part=part, lane=Lane.LIBPQ if is_small else self.lane)


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What will be done for one job.

    Attributes:
        job: as asked for.
        job_id: the same for the same source, target, condition, cursor and mode; names the job's state.
        facts: what the plan was made from.
        reading: which rows of the source are read, and why.
        alterations: how the target follows its source first.
        fidelity: what becomes of each column's values.
        copy: how its rows travel into staging.
        strategy: `DIFF` where buckets that differ are sought first, `SWAP` where the target is replaced, else `COPY`.
        strategy_reason: one sentence.
        slices: the parts that they are copied in, each by one worker; empty for all at once.
        sweep: how the source's keys travel, so that rows without one are found; None where staging has them all.
        key: what identifies a row, and by which equality; no columns in mode append.
        key_reason: where the key comes from.
        key_is_proven: the source enforces it, so staged rows need no look for NULL and duplicate keys.
        updatable: columns that a merge may change.
        sequences: columns whose sequences catch up with their values, each with what the source's gave last.
        staging: `UNLOGGED`, `TEMPORARY` or `PROMOTED`.
        staging_reason: one sentence.
        creation: what is created first, or None where the target exists.
        estimate: bytes that it takes on the target at most; None where the source shows no size.
        options: how it is carried out.
        notes: what the user should know.
        swap: what replaces the target, as (phase, SQL), with a name that stands for that of the staging table.
    """

    job: SyncJob
    job_id: str
    facts: Facts
    reading: Reading
    alterations: tuple[Alteration, ...]
    fidelity: tuple[Fidelity, ...]
    copy: CopyPlan
    strategy: Strategy
    strategy_reason: str
    slices: tuple[Slice, ...]
    sweep: CopyPlan | None
    key: Key
    key_reason: str
    key_is_proven: bool
    updatable: tuple[str, ...]
    sequences: tuple[tuple[str, int | None], ...]
    staging: StagingKind
    staging_reason: str
    creation: Creation | None
    estimate: Estimate | None
    options: Options
    notes: tuple[str, ...]
    swap: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return what is copied."""
        return self.copy.columns

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the copied columns."""
        return self.copy.names

    @property
    def compared(self) -> tuple[str, ...]:
        """Return the columns by which a row of the target is another row: not those that tell the moment of a run."""
        moments = {constant.column for constant in self.job.shape.constants if constant.is_moment}
        return tuple(name for name in self.updatable if name not in moments)

    @property
    def hashing(self) -> Hashing:
        """Return how source and target are compared by content: in the types that the rows have in the end."""
        columns = _in_the_end(self.facts, self.columns)
        return hashing.hashing(self.job, self.facts, columns, self.key.columns, self.options)

    @property
    def verified(self) -> SyncPlan:
        """Return the plan by which `verify` compares: what the target computes otherwise is looked at, too."""
        columns = (*self.columns, *(column for column, _ in _computed_otherwise(self.facts)))
        origins = _origins(self.facts.source_table, columns)
        return dataclasses.replace(self, copy=dataclasses.replace(self.copy, columns=columns, origins=origins))

    @property
    def untold(self) -> tuple[str, ...]:
        """Return the columns that no hash can compare, each with why."""
        return _untold(self.job, self.facts, self.columns)

    @property
    def forecast(self) -> Forecast:
        """Return what the strategy is expected to send over the network."""
        is_part = not self.reading.is_complete or self.job.where is not None
        return estimates.forecast(self.strategy, self.facts, is_part=is_part)

    @property
    def part(self) -> Part | None:
        """Return what of the table is copied, where that is not all of it."""
        return self.copy.buckets

    def narrowed(self, part: Part) -> SyncPlan:
        """Return how the buckets that differ are copied alone, or everything, where too many of them do."""
        share = part.rows / max(1, part.rows + part.alike)
        if share > MOST_AFFECTED and self.options.strategy is not Strategy.DIFF:
            reason = f"{100 * share:.0f} % of the rows lie in buckets that differ, so everything is copied"
            return dataclasses.replace(self, strategy=Strategy.COPY, strategy_reason=reason)
        bytes_ = round(self.facts.source_table.bytes * share)
        is_small = bytes_ < PSQL_FROM_BYTES and self.copy.lane_reason != AS_ASKED
        copy = dataclasses.replace(
            self.copy,
            buckets=part,
            rows_expected=part.rows,
            lane=Lane.LIBPQ if is_small else self.copy.lane,
            lane_reason="few rows differ, not worth the start of psql" if is_small else self.copy.lane_reason,
        )
        reason = f"{len(part.numbers):,} of {part.hashing.buckets:,} buckets differ, with {part.rows:,} rows"
        slices = self.slices if bytes_ >= 2 * PARALLEL_SLICE_BYTES[0] else ()
        return dataclasses.replace(self, copy=copy, slices=slices, strategy_reason=reason)

    @property
    def deletes(self) -> bool:
        """Tell whether the target's rows that are gone from the source are looked for."""
        return self.job.deletion.policy is not DeletePolicy.KEEP

    @property
    def mark(self) -> str | None:
        """Return the column of the target that marks a row as deleted, or None where rows are deleted or kept."""
        return self.job.deletion.column or None

    @property
    def keeps_slices(self) -> bool:
        """Tell whether each slice is committed as a table of its own, so that a killed run can be resumed."""
        return bool(self.slices) and _keeps_slices(self.facts.source_table, self.options, self.staging)

    @property
    def promoted(self) -> Creation | None:
        """Return what the staging table is to become, or None where its rows are merged."""
        return self.creation if self.staging is StagingKind.PROMOTED else None

    @property
    def replaces(self) -> bool:
        """Tell whether the staging table takes the place of a target that is there."""
        return self.strategy is Strategy.SWAP

    @property
    def compares_first(self) -> bool:
        """Tell whether what differs is sought out before the target is touched.

        It is worth it where every row was staged, of which few will differ. A row is told by its one counterpart, so
        the target has to enforce the key; and its rows by their place, so it has to be one table.
        """
        target = self.facts.target_table
        return (
            self.staging is StagingKind.UNLOGGED  # no parallel worker reads a temporary table
            and target is not None
            and target.relkind == "r"
            and target.bytes >= COMPARED_FROM_BYTES
            and self.job.mode is not Mode.APPEND
            and self.reading.is_complete
            and self.facts.target.can_use_temporary
            and keys.index_over(target, self.key.columns) is not None
        )

    @property
    def asks_target(self) -> bool:
        """Tell whether the job's condition is asked of the target too: it limits what may be deleted there."""
        return bool(self.job.where) and (self.deletes or self.reading.starts_over)

    @property
    def scope(self) -> tuple[Constant, ...]:
        """Return the constants that tell this job's rows of the target from those of others."""
        return self.job.shape.scope


def make_plan(job: SyncJob, facts: Facts, options: Options) -> SyncPlan:
    """Decide everything about a job.

    Args:
        job: what the user asks for.
        facts: of both servers.
        options: how.

    Raises:
        PlanError: it can't be done faithfully; holds every reason at once.
    """
    known = facts
    alterations = drift.alterations(job, facts)
    if facts.target_table and alterations:
        progress = dataclasses.replace(facts.progress, altered=tuple(each.column.name for each in alterations))
        altered = drift.altered(facts.target_table, alterations)
        facts = dataclasses.replace(facts, target_table=altered, progress=progress)
    source, target = facts.source_table, facts.target_table
    columns = _columns(source, target, facts.missing)
    key, key_reason = keys.choose(job, source, target, columns)
    if key is None and not job.key and options.strategy is Strategy.SWAP:
        key, key_reason = keys.NO_KEY, keys.UNTOLD
    reading = decide(job, facts, options, columns)
    is_part = reading.window is not None and reading.window.is_part
    replaces = options.strategy is Strategy.SWAP
    estimate = estimates.estimate(job, facts, key, is_part=is_part, indexes=options.indexes, replaces=replaces)
    refusals = (
        *every_refusal(job, facts, options, columns, key),
        *drift.refusals(job, known, alterations),
        *reading.refusals,
        *(replacing.refusals(job, facts, options) if options.strategy is Strategy.SWAP else ()),
        *estimates.refusals(estimate, options),
        *_format_refusals(facts, columns, options),
        *_hash_refusals(job, facts, columns, options),
    )
    if refusals or key is None:
        raise PlanError(str(job.target), refusals)
    obstacles = (*(["the target is altered first"] if alterations else []), *_untold(job, facts, columns))
    strategy, strategy_reason = _strategy(job, facts, options, reading, obstacles)
    creation = None if target else _creation(job, facts, columns, key, options)
    judged = _fidelity(facts, columns)
    staging, staging_reason = _staging(facts, options, creation)
    if strategy is Strategy.SWAP:
        staging, staging_reason = StagingKind.PROMOTED, "what is staged takes the target's place"
    slices = _slices(job, facts.source_table, options, staging, reading)
    copy = make_copy(job.source, job.where, facts, columns, options, reading.window)
    if strategy is Strategy.SWAP:  # checks, generated columns and some indexes of the target are there from the start
        copy = dataclasses.replace(copy, calls_functions=True)
    return SyncPlan(
        job=job,
        job_id=job_id(job, facts.source),
        facts=known,
        reading=reading,
        alterations=alterations,
        fidelity=judged,
        copy=copy,
        strategy=strategy,
        strategy_reason=strategy_reason,
        slices=slices,
        sweep=_sweep(job, facts, columns, key, options, reading),
        key=key,
        key_reason=key_reason,
        key_is_proven=keys.is_proven(key, source, columns),
        updatable=tuple(column.name for column in columns if column.identity != "a" or target is None),
        sequences=tuple(_sequences(facts, columns, creation, options)),
        staging=staging,
        staging_reason=staging_reason,
        creation=creation,
        estimate=estimate,
        options=options,
        notes=(
            *_notes(facts, key, creation, replaces=replaces),
            *_group_notes(facts, options),
            *(replacing.notes(facts) if strategy is Strategy.SWAP else ()),
            *drift.notes(known, alterations),
            *(each.reason for each in judged if each.verdict is Verdict.NARROWING),
            *reading.notes,
            *_resumption_notes(source, options, staging),
        ),
    )


def make_copy(  # noqa: PLR0913, PLR0917 - all that a copy depends on
    source: TableRef | QuerySource,
    where: str | None,
    facts: Facts,
    columns: tuple[Column, ...],
    options: Options,
    window: Window | None = None,
) -> CopyPlan:
    """Decide how rows travel into a staging table that holds `columns`.

    Args:
        source: what is read.
        where: condition the rows are read under, or None.
        facts: of which the source's side and psql are looked at.
        columns: of the staging table.
        options: how.
        window: of the rows under `where`, those to read; None for all.
    """
    lane, lane_reason = _lane(facts, options, window)
    format_, format_reason = _format(facts, columns, options)
    return CopyPlan(
        source=source,
        relkind=facts.source_table.relkind,
        where=where,
        window=window,
        columns=columns,
        lane=lane,
        lane_reason=lane_reason,
        format=format_,
        format_reason=format_reason,
        search_path=facts.source.search_path,
        time_zone=_time_zone(where, facts, columns),
        rows_expected=-1 if window and window.is_part else facts.source_table.rows,
        psql=options.psql,
        max_staging_bytes=options.max_staging_bytes,
        max_memory=options.max_memory,
        origins=_origins(facts.source_table, columns),
        encodings=encodings.of_copy(facts, options),
        oid=facts.source_table.oid,
        calls_functions=any(column.is_own_type and column.kind in _MADE_OF_OTHERS for column in columns),
    )


#: Domains, and kinds of types that can hold one: their checks are functions of somebody's. So are those of a range.
_MADE_OF_OTHERS = "dcrm"


def _time_zone(where: str | None, facts: Facts, columns: tuple[Column, ...]) -> str:
    """Return the zone that the source is read under: the role's own, where what its user wrote may mean it."""
    # a query, a view and what a wrapper reads are SQL of somebody's too
    has_user_sql = where is not None or facts.source_table.relkind not in NOT_BEHIND
    origins = _origins(facts.source_table, columns)
    has_user_types = any(origin.how in {"cast", "hash"} for origin in origins if origin)  # their text shows the zone
    return facts.source.time_zone if has_user_sql or has_user_types else "UTC"


def _untold(job: SyncJob, facts: Facts, columns: tuple[Column, ...]) -> tuple[str, ...]:
    """Return the columns that no hash can compare, each with why."""
    time_zone = _time_zone(job.where, facts, columns)
    return hashing.untold(facts, _in_the_end(facts, columns), time_zone)


def _origins(source: TableInfo, columns: tuple[Column, ...]) -> tuple[Origin | None, ...]:
    theirs = (source.column(column.name) for column in columns)
    origins = tuple(column.origin if column else None for column in theirs)
    return origins if any(origins) else ()


def _sweep(  # noqa: PLR0913, PLR0917 - all that it depends on
    job: SyncJob, facts: Facts, columns: tuple[Column, ...], key: Key, options: Options, reading: Reading
) -> CopyPlan | None:
    """Return how the keys travel; where every row is read, staging has them already."""
    if job.deletion.policy is DeletePolicy.KEEP or reading.is_complete:
        return None
    named = tuple(column for column in columns if column.name in key.columns)
    return make_copy(job.source, job.where, facts, named, options)


def job_id(job: SyncJob, server: ServerInfo) -> str:
    """Name the job by what it means on this cluster, so that a changed condition or cursor is another job."""
    return _digest(server.system or server.address, same_job(job, server))


def same_job(job: SyncJob, server: ServerInfo) -> str:
    """Name the job whatever cluster it reads: a source that was restored or replaced is recognised by it."""
    what = job.source.sql if isinstance(job.source, QuerySource) else str(job.source)
    shape = [repr(job.shape)] if job.shape else []  # so that a job without one keeps the id that it always had
    return _digest(server.database, what, str(job.target), job.where, job.mode, job.cursor, *shape)


def _digest(*parts: str | None) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


# --- columns ---------------------------------------------------------------------------------------------------------


def _columns(source: TableInfo, target: TableInfo | None, missing: frozenset[str]) -> tuple[Column, ...]:
    """Return the columns both sides have, by name, as the target defines them; generated ones compute themselves."""
    if target is None:
        return tuple(_staged(column, missing) for column in source.columns if not column.generated)
    return tuple(column for column in target.columns if not column.generated and source.column(column.name) is not None)


def _in_the_end(facts: Facts, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Return the columns with the types that they have on the target in the end, not those that they are staged in."""
    if facts.target_table:
        return columns
    theirs = (facts.source_table.column(column.name) or column for column in columns)
    return tuple(facts.on_target(column) for column in theirs)


def _fidelity(facts: Facts, columns: tuple[Column, ...]) -> tuple[Fidelity, ...]:
    """Judge what becomes of each column's values."""
    judged = ((facts.source_table.column(column.name), column) for column in _in_the_end(facts, columns))
    return tuple(fidelity.judge(theirs, column) for theirs, column in judged if theirs)


def _staged(column: Column, missing: frozenset[str]) -> Column:
    """Return the column as it is staged: a value of a type that the merge will create waits there as its text."""
    if missing.isdisjoint(dependency.sql for dependency in column.dependencies):
        return column
    return Column(column.name, "text", "text", identity=column.identity, number=column.number)


# --- slices -----------------------------------------------------------------------------------------------------------

#: PostgreSQL's own block size; where another was compiled in, slices are larger or smaller, and still right.
PAGE_BYTES = 8192


#: Slices that are copied side by side: not so small that the start of a psql would show, nor so large that much is
#: copied again where one fails, and several for each worker, so that all of them come to their end at about one time.
PARALLEL_SLICE_BYTES = (32 << 20, 1 << 30)
_SLICES_A_WORKER = 4


def _keeps_slices(source: TableInfo, options: Options, staging: StagingKind) -> bool:
    is_plain = not any(column.origin for column in source.columns)  # what is hashed again is the source's own columns
    return options.keeps_staging and staging is StagingKind.UNLOGGED and _is_one_heap(source) and is_plain


def _is_one_heap(source: TableInfo) -> bool:
    return source.relkind in {"r", "m"} and len(source.leaves) == 1 and source.leaves[0].heap


def _slices(
    job: SyncJob, source: TableInfo, options: Options, staging: StagingKind, reading: Reading
) -> tuple[Slice, ...]:
    """Cut a heap into ranges of pages, and a partitioned table into such of its partitions.

    They are sized by heap and TOAST together, for a small heap can carry a terabyte. A partition is read by its own
    name, which the user's condition need not know.
    """
    if _keeps_slices(source, options, staging):
        return _cut([_whole(source)], options.slice_bytes)
    smallest, largest = PARALLEL_SLICE_BYTES
    if (
        options.workers == 1
        or staging is StagingKind.TEMPORARY
        or not reading.is_thorough
        or source.bytes < 2 * smallest
    ):
        return ()
    wanted = max(
        smallest, min(largest, source.bytes // (options.workers * _SLICES_A_WORKER)), source.bytes // SLICES_AT_MOST
    )
    if _is_one_heap(source):
        return _cut([_whole(source)], wanted)
    if source.relkind == "p" and not job.where and source.leaves and all(leaf.readable for leaf in source.leaves):
        return _cut([leaf for leaf in source.leaves if leaf.ref], wanted)
    return ()


def _whole(source: TableInfo) -> Leaf:
    return dataclasses.replace(source.leaves[0], ref=None, bytes=source.bytes, heap_bytes=source.heap_bytes)


def _cut(leaves: list[Leaf], wanted: int) -> tuple[Slice, ...]:
    """Return slices of about as many bytes as wanted."""
    slices: list[Slice] = []
    for leaf in leaves:
        pages = max(1, leaf.heap_bytes // PAGE_BYTES) if leaf.heap else 1
        parts = max(1, min(-(-leaf.bytes // max(1, wanted)), pages, SLICES_AT_MOST))
        firsts = [pages * part // parts for part in range(parts)]
        for part in ranges(firsts):
            number = len(slices) + 1
            slices.append(dataclasses.replace(part, number=number, leaf=leaf.ref, bytes=leaf.bytes // parts))
    return tuple(slices)


def _resumption_notes(source: TableInfo, options: Options, staging: StagingKind) -> Iterator[str]:
    if options.keeps_staging and not _keeps_slices(source, options, staging):
        why = (
            f"its staging is {staging.value}"
            if staging is not StagingKind.UNLOGGED
            else "only a table of one heap, copied as it is, has pages to cut it by"
        )
        yield f"a run that is killed starts this table over: {why}"


# --- how it travels --------------------------------------------------------------------------------------------------


def _strategy(
    job: SyncJob, facts: Facts, options: Options, reading: Reading, obstacles: tuple[str, ...]
) -> tuple[Strategy, str]:
    """Decide whether both sides are compared by hashes first."""
    if options.strategy is Strategy.COPY or (options.strategy is Strategy.SWAP and facts.target_table):
        return options.strategy, AS_ASKED
    if obstacle := _diff_obstacle(job, facts, options, reading) or next(iter(obstacles), None):
        return Strategy.COPY, obstacle
    return (Strategy.DIFF, AS_ASKED) if options.strategy is Strategy.DIFF else _cheaper(facts)


def _cheaper(facts: Facts) -> tuple[Strategy, str]:
    """Decide by size, and by how much the last run has changed."""
    target, limit = facts.target_table, f"{DIFF_FROM_BYTES >> 20} MiB"
    if target is None or min(facts.source_table.bytes, target.bytes) < DIFF_FROM_BYTES:
        return Strategy.COPY, f"one side has less than {limit}, which is copied as soon as it is hashed"
    forecast = estimates.forecast(Strategy.DIFF, facts)
    share = forecast.rows / max(1, facts.source_table.rows)
    if share > MOST_AFFECTED:
        return (
            Strategy.COPY,
            f"last time {forecast.changed:,} rows changed, in about {100 * share:.0f} % of the buckets",
        )
    return Strategy.DIFF, f"both sides have {limit} or more"


def _diff_obstacle(job: SyncJob, facts: Facts, options: Options, reading: Reading) -> str | None:
    """Return why buckets can't be copied alone, or None."""
    reasons = {
        "the target is missing": facts.target_table is None,
        f"mode {job.mode} knows what is new": job.mode not in {Mode.FULL, Mode.UPSERT} or not reading.is_complete,
        "a view, a query or a foreign table can give other rows when it is read twice": (
            facts.source_table.relkind not in SIZED
        ),
        "columns are shaped on the source": bool(job.shape),
        "the run can be resumed": options.keeps_staging,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _staging(facts: Facts, options: Options, creation: Creation | None) -> tuple[StagingKind, str]:
    source, asked = facts.source_table, options.staging
    is_sized = source.relkind in SIZED
    is_small = is_sized and source.bytes < TEMPORARY_BELOW_BYTES
    limit = f"{TEMPORARY_BELOW_BYTES >> 20} MiB"
    if asked in (StagingKind.UNLOGGED, StagingKind.TEMPORARY):
        return asked, AS_ASKED
    if options.keeps_staging:
        return StagingKind.UNLOGGED, "so that a killed run can be resumed"
    if creation and not creation.dependencies and (asked is StagingKind.PROMOTED or not is_small):
        return StagingKind.PROMOTED, "the target is missing, so what is staged becomes it"
    if not is_small:
        known = f"the source has {limit} or more"
        return StagingKind.UNLOGGED, known if is_sized else "the size of the source is not known"
    if facts.target.can_use_temporary:
        return StagingKind.TEMPORARY, f"the source has less than {limit}"
    return StagingKind.UNLOGGED, f"role {facts.target.role} lacks TEMPORARY on the target"


def _lane(facts: Facts, options: Options, window: Window | None) -> tuple[Lane, str]:
    if options.lane is not Lane.AUTO:
        return options.lane, AS_ASKED
    if window is not None and window.is_part:
        return Lane.LIBPQ, "only what is new is read, which needs no psql and no second scan to count it"
    if facts.source_table.relkind not in ("r", "p", "m"):
        return Lane.LIBPQ, "the size of the source is not known"
    if facts.source_table.bytes < PSQL_FROM_BYTES:
        return Lane.LIBPQ, f"the source has less than {PSQL_FROM_BYTES >> 20} MiB, not worth the start of psql"
    if facts.psql:
        return Lane.LIBPQ, facts.psql
    return Lane.PSQL, f"the source has {PSQL_FROM_BYTES >> 20} MiB or more"


def _format(facts: Facts, columns: tuple[Column, ...], options: Options) -> tuple[CopyFormat, str]:
    if options.format is CopyFormat.TEXT:
        return CopyFormat.TEXT, AS_ASKED
    if obstacle := _binary_obstacle(facts, columns):
        return CopyFormat.TEXT, obstacle
    return CopyFormat.BINARY, "every column has the same, binary-safe type on both sides"


def _binary_obstacle(facts: Facts, columns: tuple[Column, ...]) -> str | None:
    """Return why values could change in a binary stream, which nobody checks, or None where they can't."""
    if unknown := encodings.obstacle(facts):
        return unknown
    for column in columns:
        theirs = facts.source_table.column(column.name)
        if theirs and column.leaf == "text" and theirs.dependencies:
            return f"{column.name} is {theirs.type}, staged as text"
        if theirs is None or theirs.type != column.type:
            came = theirs.type if theirs else "nothing"
            return f"{column.name} is {came} on the source and {column.type} on the target"
        if obstacle := fidelity.binary_obstacle(theirs):
            return obstacle
    return None


def _hash_refusals(job: SyncJob, facts: Facts, columns: tuple[Column, ...], options: Options) -> Iterator[str]:
    for each in _untold(job, facts, columns) if options.verify is Verify.HASH else ():
        yield f"{each}, so --verify hash can't compare it: give both sides the same type, or use --verify count."


def _format_refusals(facts: Facts, columns: tuple[Column, ...], options: Options) -> Iterator[str]:
    if options.format is CopyFormat.BINARY and (obstacle := _binary_obstacle(facts, columns)):
        yield f"Binary was asked for and is not safe here: {obstacle}. Use --format auto."


# --- what is created, what is told -----------------------------------------------------------------------------------


def _creation(job: SyncJob, facts: Facts, columns: tuple[Column, ...], key: Key, options: Options) -> Creation:
    source = facts.source_table
    copied = {column.name for column in columns}
    primary = next((k.columns for k in source.keys if k.primary and copied.issuperset(k.columns)), ())
    if job.mode is Mode.APPEND:  # an updated row arrives as another row
        primary = ()
    dependencies = tuple(carrying.dependency(each, facts) for each in source.dependencies if each.sql in facts.missing)
    unique = () if set(primary) == set(key.columns) else key.columns
    lacking = [job.target.schema] if facts.target_schema is None else []
    lacking += [each.schema for each in dependencies if each.schema not in facts.schemas]
    return Creation(
        schemas=tuple(dict.fromkeys(lacking)),
        dependencies=dependencies,
        columns=(*(carrying.column(_created(column, key), facts) for column in source.columns), *_mark(job)),
        primary_key=primary,
        unique=unique,
        attachments=tuple(_attached(job, facts, options, unique)),
        comment=source.comment,
    )


def _attached(job: SyncJob, facts: Facts, options: Options, unique: tuple[str, ...]) -> Iterator[Attachment]:
    """Yield the constraints and indexes that the new table gets, where they are asked for.

    They keep their names where the table keeps its own: within a schema these are unique on the source too, unless the
    target would cut them.
    """
    keeps_names = job.target == facts.source_table.ref
    for each in facts.attachments if options.indexes else ():
        if each.kind in _CREATED_KINDS and carrying.is_carried(each, facts) and not _is_key(each, unique):
            keeps = keeps_names and not encodings.is_long(each.name, facts.target)
            yield each if keeps else dataclasses.replace(each, name="")


def _is_key(attachment: Attachment, unique: tuple[str, ...]) -> bool:
    """Tell whether it would enforce what the constraint for the job's key does already."""
    return bool(unique) and attachment.unique and attachment.columns == unique


_CREATED_KINDS = frozenset({"index", "unique constraint", "exclusion constraint"})


def _mark(job: SyncJob) -> Iterator[Column]:
    if job.deletion.column:
        yield Column(job.deletion.column, "timestamp with time zone", "timestamp with time zone")


def _created(column: Column, key: Key) -> Column:
    """Return the column as the new table gets it: ALWAYS would forbid the next run to update what is no key."""
    if column.identity == "a" and column.name not in key.columns:
        return dataclasses.replace(column, identity="d")
    return column


def _sequences(
    facts: Facts, columns: tuple[Column, ...], creation: Creation | None, options: Options
) -> Iterator[tuple[str, int | None]]:
    """Yield the columns whose sequences catch up: always those of a new table, of another where it is asked for."""
    if creation:
        filled = {column.name for column in creation.columns if column.identity or sequences.serial_type(column)}
    elif options.sequences and facts.target_table:
        filled = {each.name for each in facts.target_table.columns if each.sequence and each.sequence.may_set}
    else:
        return
    for column in columns:
        if column.name in filled:
            theirs = facts.source_table.column(column.name)
            yield column.name, theirs.sequence.last if theirs and theirs.sequence else None


def _notes(facts: Facts, key: Key, creation: Creation | None, *, replaces: bool) -> Iterator[str]:
    target = facts.target_table
    yield from filter(None, dict.fromkeys((facts.source.transport, facts.target.transport)))
    if facts.source.major > NEWEST_TRIED or facts.target.major > NEWEST_TRIED:
        yield f"PostgreSQL {max(facts.source.major, facts.target.major)} is newer than what this release was tried on"
    if target is not None:
        if key.columns and keys.index_over(target, key.columns) is None:
            yield (
                f"no unique index of {target.ref} covers the key ({', '.join(key.columns)}):"
                " the merge is slower, and other writers can add duplicates"
            )
        yield from computed_notes(facts)
        if target.triggers and not replaces:
            yield f"triggers of {target.ref} will fire: {', '.join(target.triggers)}"
    yield from inheritance_notes(facts)
    if creation is not None:
        yield from _creation_notes(facts, creation)


def inheritance_notes(facts: Facts) -> Iterator[str]:
    """Say which rows of either side no copy and no comparison sees: those of tables that inherit from it."""
    source, target = facts.source_table, facts.target_table
    if source.heirs:
        named = f"not read with it; name these too: {', '.join(source.heirs)}"
        yield f"rows of tables that inherit from the source's {source.ref} are {named}"
    if target and target.heirs:
        yield f"rows of tables that inherit from the target's {target.ref} are left alone: {', '.join(target.heirs)}"


def computed_notes(facts: Facts) -> Iterator[str]:
    """Say which columns the target computes otherwise than the source has them."""
    for column, has in _computed_otherwise(facts):
        there = f"computed as {column.default} on the target"
        yield f"{column.name} is {has} on the source and is {there}: its values are not copied"


def _computed_otherwise(facts: Facts) -> Iterator[tuple[Column, str]]:
    """Yield columns that the target computes, and what they are on the source where their values can be others."""
    for column in facts.target_table.columns if facts.target_table else ():
        theirs = facts.source_table.column(column.name)
        if not (column.generated and theirs) or theirs.origin:
            continue
        if not theirs.generated:
            yield column, "a plain column"
        elif theirs.default != column.default:
            yield column, f"computed as {theirs.default}"


def _group_notes(facts: Facts, options: Options) -> Iterator[str]:
    if facts.together:
        why = "--atomic" if options.atomic else f"group {options.group}" if options.group else "foreign keys"
        others = ", ".join(map(str, facts.together)) if facts.leads else replacing.others(facts)
        yield f"commits together with {others} ({why})"


def _creation_notes(facts: Facts, creation: Creation) -> Iterator[str]:
    for column in creation.columns:
        theirs = facts.source_table.column(column.name)
        if theirs and not sequences.serial_type(column) and (reason := carrying.default_obstacle(theirs, facts)):
            yield f"the default of {column.name} is not created because {reason}: {column.default}"
        if column.generated == "v" and facts.target.major < VIRTUAL_SINCE:
            yield f"{column.name} is a virtual generated column; on PostgreSQL {facts.target.major} it is stored"
        if column.identity != (theirs or column).identity:
            yield f"{column.name} becomes GENERATED BY DEFAULT, for ALWAYS would forbid the next run to update it"
    for domain in facts.source_table.dependencies:
        if domain.sql in facts.missing and (reason := carrying.default_obstacle(domain, facts)):
            yield f"the default of {domain.sql} is not created because {reason}: {domain.default}"
    yield from _left_out(facts, creation)


def _left_out(facts: Facts, creation: Creation) -> Iterator[str]:
    """List what the source's table has and the new one does not get."""
    created = {(each.kind, each.definition) for each in creation.attachments}
    left: dict[str, list[str]] = {}
    for each in facts.attachments:
        if (each.kind, each.definition) not in created and not _is_key(each, creation.unique):
            reason = carrying.attachment_obstacle(each, facts)
            left.setdefault(each.kind, []).append(f"{each.name} ({reason})" if reason else each.name)
    listed = "; ".join(f"{kind} {', '.join(names)}" for kind, names in left.items())
    if listed:
        yield f"not created on the target: {listed}"
    if facts.source_table.relkind == "p":
        yield "the new table is not partitioned"
