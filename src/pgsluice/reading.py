"""Pure: from where a job reads on, and where its position stands afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pgsluice import late
from pgsluice.cursors import Cursor, fit
from pgsluice.facts import NOT_COPIED, Column, Facts, JobState, Moment, Progress, SeenLeaf
from pgsluice.job import Mode, Options, SyncJob
from pgsluice.policies import DeletePolicy, LatePolicy, LateRows, OnLostState
from pgsluice.units import size
from pgsluice.windows import Window

#: Ids of transactions repeat after 2^32, and compare within half of that; some room is left for the run itself.
MOST_TRANSACTIONS = (1 << 31) - (1 << 24)


@dataclass(frozen=True, slots=True)
class Reading:
    """Which rows of the source a run reads.

    Attributes:
        window: of them, or None for every row in scope.
        reason: one sentence.
        cursor: of the job, or None.
        late: how rows that commit late are found, or None where nothing depends on it.
        late_reason: one sentence.
        moves: the job's position moves with the commit.
        starts_over: what the target holds in scope is replaced (mode append has no key to merge by).
        refusals: every reason not to read.
        notes: what the user should know.
    """

    window: Window | None = None
    reason: str = "every row in scope"
    cursor: Cursor | None = None
    late: LateRows | None = None
    late_reason: str = ""
    moves: bool = True
    starts_over: bool = False
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Tell whether every row in scope is read."""
        return self.window is None

    @property
    def is_thorough(self) -> bool:
        """Tell whether all that its snapshot shows has been read by now, whatever its cursor."""
        window = self.window
        return window is None or window.cursor is None or (window.since is not None and window.within is None)

    @property
    def is_held(self) -> bool:
        """Tell whether the watermark is held to the horizon."""
        return self.policy is LatePolicy.HORIZON

    @property
    def policy(self) -> LatePolicy | None:
        """Return the policy for late rows, or None."""
        return self.late.policy if self.late else None


def decide(job: SyncJob, facts: Facts, options: Options, columns: tuple[Column, ...]) -> Reading:
    """Decide which rows a run reads.

    Args:
        job: what the user asks for.
        facts: of both servers, with the job's progress.
        options: how.
        columns: what is copied.
    """
    if not job.mode.reads_on:
        return Reading()
    if not facts.progress.is_known:  # the refusals say which privilege is missing
        return Reading(reason="not known: the role may not read where the job stands")
    match job.mode:
        case Mode.INCREMENTAL:
            reading = _by_cursor(job, facts, facts.progress, options, columns)
        case Mode.APPEND:
            reading = _once(facts, facts.progress, options)
        case _:
            reading = _by_transaction(facts, facts.progress, options, columns)
    return replace(reading, notes=(*reading.notes, *_kept(job)))


# --- the three ways to read on ---------------------------------------------------------------------------------------


def _by_cursor(
    job: SyncJob, facts: Facts, progress: Progress, options: Options, columns: tuple[Column, ...]
) -> Reading:
    """Read from the watermark on, and what committed late."""
    cursor = fit(facts.source_table, str(job.cursor), job.cursor_type)
    reading = Reading(cursor=cursor)
    if obstacle := _not_copied(facts, cursor, columns):
        return _refused(reading, obstacle)
    if job.since is not None:
        window = Window(cursor, job.since, end=job.until)
        part = f"from {job.since} on" if job.until is None else f"from {job.since} to below {job.until}"
        return replace(reading, window=window, reason=f"once {part}; the watermark stays", moves=False)
    chosen = late.choose(job, facts, options, cursor)
    if isinstance(chosen, str):
        return _refused(reading, chosen)
    reading = replace(reading, late=chosen.rows, late_reason=chosen.reason, notes=chosen.notes)
    state = progress.state
    over = _starts_over(facts, progress, options, columns)
    if state is None and over is None and job.from_target and progress.highest is not None:
        window = Window(cursor, progress.highest)
        return replace(reading, window=window, reason=f"from the target's highest value on, {progress.highest}")
    if over or state is None:
        return _all(reading, over, options)
    return _from_watermark(job, facts, options, reading, state)


def _not_copied(facts: Facts, cursor: Cursor, columns: tuple[Column, ...]) -> str:
    """Return why staged rows would not hold the cursor, or ''."""
    theirs = facts.source_table.column(cursor.name)
    if theirs is not None and theirs.generated:
        return f"The cursor {cursor.name} is a generated column, which is not copied."
    if any(column.name == cursor.name for column in columns):
        return ""
    return f"The cursor {cursor.name} is not among the columns that both sides have."


def _from_watermark(job: SyncJob, facts: Facts, options: Options, reading: Reading, state: JobState) -> Reading:
    """Read on where the last run stopped, in the way that the policy for late rows asks for."""
    if state.watermark is None:
        return _all(reading, _Over("no row has moved the watermark yet"), options)
    window = Window(reading.cursor, state.watermark, back=job.late_rows.overlap, whole=_strange(facts, state))
    catches_up = reading.is_held and not state.held
    if catches_up:
        note = "the stored watermark was not held to the horizon, so this run looks at every row once"
        reading = replace(reading, notes=(*reading.notes, note))
    if catches_up or reading.policy is LatePolicy.SCAN:
        if over := late.no_transaction_ids(facts) or _too_far(facts, facts.progress, state):
            return _all(reading, over if isinstance(over, _Over) else _Over(over), options)
        window = replace(window, since=state.xmin, within=job.late_within)
    return replace(reading, window=window, reason=f"from {state.watermark} on")


def _by_transaction(facts: Facts, progress: Progress, options: Options, columns: tuple[Column, ...]) -> Reading:
    """Read what was written by transactions that the last snapshot had not seen."""
    reading, state = Reading(), progress.state
    obstacle, shows = late.no_transaction_ids(facts), late.shows_transaction_ids(facts.source_table)
    if shows and obstacle:
        return _refused(reading, f"Mode xmin can't work: {obstacle}.")
    over = _starts_over(facts, progress, options, columns)
    if obstacle and not options.full_refresh:
        over = _Over(obstacle, is_loss=True)
    if over or state is None or (over := _too_far(facts, progress, state)):
        return _all(reading, over, options)
    window = Window(since=state.xmin, whole=_strange(facts, state))
    return replace(reading, window=window, reason=f"what transaction {state.xmin} and later ones wrote")


def _once(facts: Facts, progress: Progress, options: Options) -> Reading:
    """Read the rows of transactions from the last snapshot's first doubt up to this one's: each of them once."""
    moment, state = progress.moment, progress.state
    reading = Reading(window=Window(until=moment.xmin), notes=tuple(_waiting(moment)))
    if obstacle := late.no_transaction_ids(facts):
        return _refused(reading, f"Mode append can't work: {obstacle}.")
    if options.full_refresh:
        return replace(reading, reason="every row: a full refresh was asked for", starts_over=True)
    if progress.target_is_empty:
        return replace(reading, reason=f"every row: {'the target is empty' if state else 'the first run'}")
    lost = _not_again(facts, progress)
    if lost or state is None:
        sentence = (
            f"Mode append can't tell which rows are new: {lost}. Everything again would be copied twice;"
            " --full-refresh empties the target's rows in scope and starts over."
        )
        return _refused(reading, sentence)
    if over := _truncated_target(facts, state):
        note = f"{over.reason}: rows that were appended before may be missing"
        reading = replace(reading, notes=(*reading.notes, note))
    window = Window(
        since=state.xmin,
        apart=tuple((oid, seen.xmin) for oid, seen in _present(facts, state).items() if seen.xmin != state.xmin),
        whole=_strange(facts, state),
        until=moment.xmin,
    )
    reason = f"what transactions {state.xmin} to {moment.xmin - 1} wrote"
    if state.xmin == moment.xmin and not (window.apart or window.whole):
        reason = f"nothing new: the last run read what transactions before {moment.xmin} wrote"
    return replace(reading, window=window, reason=reason)


def _not_again(facts: Facts, progress: Progress) -> str:
    """Return why the stored position does not tell which rows mode append has copied, or ''."""
    state = progress.state
    if moved := _moved_house(facts, progress.elsewhere):
        return moved
    if state is None:
        return "the target has rows and this job has no state"
    over = _replaced_target(facts, state) or _lost(facts, progress, state) or _too_far(facts, progress, state)
    return over.reason if over else _restamped(facts, state) or _repeated(progress.moment, state)


def _repeated(moment: Moment, state: JobState) -> str:
    """Return why rows that were copied long ago would look new, or ''."""
    if state.repeats_at is None or moment.xmin <= state.repeats_at:
        return ""
    return "transaction ids have come round (4,294,967,296), and rows copied then show the ids of now"


def _waiting(moment: Moment) -> Iterator[str]:
    if moment.running:
        yield (
            f"transactions open on the source: {moment.running}; rows of the oldest, {moment.xmin}, and of later ones"
            " wait for the next run"
        )


def _kept(job: SyncJob) -> Iterator[str]:
    """Name what may differ afterwards by the choice of what becomes of deletes."""
    if job.where:
        yield "a row that comes to meet the condition without being written (as time passes, say) is not seen"
    if job.mode is Mode.APPEND:
        yield "an update or delete of a row already copied is not carried on (an updated row arrives as another row)"
    elif job.deletion.policy is DeletePolicy.KEEP:
        where = " or no longer meet the condition" if job.where else ""
        yield f"rows that are gone from the source{where} stay on the target (--deletes keep)"


def since_run(facts: Facts, state: JobState, xmin: int) -> Window | str:
    """Return the rows that the source may have got since a run, or why they can't be told.

    Args:
        facts: of both servers now.
        state: of the job behind the run.
        xmin: `Moment.xmin` of the run's snapshot.
    """
    over = _replaced_target(facts, state) or _lost(facts, facts.progress, state)
    over = over or _too_far(facts, facts.progress, state)
    if reason := late.no_transaction_ids(facts) or (over and over.reason):
        return reason
    return Window(since=xmin, whole=_strange(facts, state) if state.leaves else ())


# --- where the stored position means nothing -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Over:
    """Why everything is read. A loss is what `OnLostState.FAIL` refuses; the rest explains itself."""

    reason: str
    is_loss: bool = False


def _all(reading: Reading, over: _Over | None, options: Options) -> Reading:
    reason = over.reason if over else "the first run"
    if over and over.is_loss and options.on_lost_state is OnLostState.FAIL:
        return _refused(
            reading,
            f"Everything would be read again: {reason}. Allow it with --on-lost-state reread, or start over with"
            " --full-refresh.",
        )
    notes = (f"everything is read again: {reason}",) if over and over.is_loss else ()
    return replace(reading, reason=f"every row: {reason}", notes=(*reading.notes, *notes))


def _refused(reading: Reading, sentence: str) -> Reading:
    return replace(reading, refusals=(*reading.refusals, sentence))


def _starts_over(facts: Facts, progress: Progress, options: Options, columns: tuple[Column, ...]) -> _Over | None:
    state = progress.state
    if options.full_refresh:
        return _Over("a full refresh was asked for")
    if moved := _moved_house(facts, progress.elsewhere):
        return _Over(moved, is_loss=True)
    if state is None:
        return None
    if progress.target_is_empty:
        return _Over("the target is empty")
    return (
        _altered(facts, state, columns)
        or _replaced_target(facts, state)
        or _truncated_target(facts, state)
        or _lost(facts, progress, state)
    )


def _altered(facts: Facts, state: JobState, columns: tuple[Column, ...]) -> _Over | None:
    """Return what DDL changed for every row, which no row's stamp shows."""
    now = _read_columns(facts)
    changed = [column.name for column in columns if state.columns.get(column.name) != now.get(column.name)]
    if changed:
        return _Over(f"column {', '.join(changed)} is new or has changed")
    if altered := facts.progress.altered:
        return _Over(f"column {', '.join(altered)} of the target is added or widened")
    if facts.source_table.leaves and not _present(facts, state):
        return _Over("the source table was rewritten or replaced")
    return None


def _moved_house(facts: Facts, elsewhere: JobState | None) -> str:
    if elsewhere is None:
        return ""
    return (
        f"the source is another cluster than last time (system identifier {facts.source.system or 'hidden'},"
        f" last time {elsewhere.system or 'hidden'})"
    )


def _replaced_target(facts: Facts, state: JobState) -> _Over | None:
    if facts.target_table is not None and facts.target_table.oid == state.target_oid:
        return None
    return _Over("the target is another table than last time", is_loss=True)


def _truncated_target(facts: Facts, state: JobState) -> _Over | None:
    """Return why rows that were merged once may be gone: TRUNCATE gives a table another file, as a rewrite does."""
    if facts.target_table and any(state.target_files.get(x.oid, x.file) != x.file for x in facts.target_table.leaves):
        return _Over("the target was truncated or rewritten since the last run", is_loss=True)
    return None


def _lost(facts: Facts, progress: Progress, state: JobState) -> _Over | None:
    """Return why the source is not the one that the position was taken on; a standby that lags is told elsewhere."""
    if facts.source.timeline != state.timeline:
        reason = f"the source is on timeline {facts.source.timeline}, last time {state.timeline}: a failover or restore"
        return _Over(reason, is_loss=True)
    if progress.moment.lsn < state.lsn or progress.moment.xmax < state.xmin:
        return _Over("the source is at an earlier point of its history than last time: a restore", is_loss=True)
    return None


def lag(facts: Facts) -> str | None:
    """Return how far behind the last run a standby of the very same history is, or None where it is not."""
    progress, server = facts.progress, facts.source
    state = progress.state
    if state is None or not server.in_recovery or server.timeline != state.timeline or progress.moment.lsn >= state.lsn:
        return None
    missing = size(state.lsn - progress.moment.lsn)
    return f"the source is a standby that has yet to replay {missing} of what the last run has read"


def _too_far(facts: Facts, progress: Progress, state: JobState) -> _Over | None:
    """Return why transaction ids can't tell new rows from old ones."""
    begun = progress.moment.xmax - min([state.xmin, *(seen.xmin for seen in _present(facts, state).values())])
    if begun < MOST_TRANSACTIONS:
        return None
    return _Over(f"{begun:,} transactions began since the last run, more than their ids can tell", is_loss=True)


def _present(facts: Facts, state: JobState) -> dict[int, SeenLeaf]:
    """Return the leaves that are what they were when a run saw them."""
    known = ((leaf, state.leaves.get(leaf.oid)) for leaf in facts.source_table.leaves)
    return {leaf.oid: seen for leaf, seen in known if seen is not None and seen.file == leaf.file}


def _strange(facts: Facts, state: JobState) -> tuple[int, ...]:
    """Return the leaves to read whole: rows that DDL brings or rewrites keep their stamp, and may be old."""
    present = _present(facts, state)
    return tuple(leaf.oid for leaf in facts.source_table.leaves if leaf.oid not in present)


def _restamped(facts: Facts, state: JobState) -> str:
    """Return why rows that were copied once would look new, or ''."""
    if facts.source_table.oid != state.source_oid:
        return f"{facts.source_table.ref} was replaced by another table since the last run"
    now = {leaf.oid: leaf for leaf in facts.source_table.leaves}
    gone = {seen.bound for oid, seen in state.leaves.items() if oid not in now}
    for leaf in now.values():
        part = f"partition {leaf.bound} of {facts.source_table.ref}" if leaf.bound else str(facts.source_table.ref)
        if leaf.oid in state.leaves and state.leaves[leaf.oid].file != leaf.file:
            return f"{part} was rewritten or truncated since the last run (another file node), which restamps its rows"
        if leaf.oid not in state.leaves and leaf.bound in gone:
            return f"{part} was replaced by another table since the last run"
    return ""


# --- what is remembered ----------------------------------------------------------------------------------------------


def _read_columns(facts: Facts) -> dict[str, tuple[int, str]]:
    """Return what a row's values depend on beside the row: another label or expression changes all, and stamps none."""
    return {column.name: (column.number, _meaning(column)) for column in facts.source_table.columns}


def _meaning(column: Column) -> str:
    meaning = f"{column.type} {', '.join(map(repr, column.labels))}" if column.labels else column.type
    return f"{meaning} AS {column.computed}" if column.computed else meaning


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the next run compares with.

    Attributes:
        xmin: `Moment.xmin` of the last snapshot of which every row was read; 0 where there was none.
        columns: attribute number and type of each column of the source; `NOT_COPIED` as the type of one left out.
        leaves: by oid, as that snapshot saw them.
    """

    xmin: int
    columns: Mapping[str, tuple[int, str]]
    leaves: Mapping[int, SeenLeaf]


def remembered(job: SyncJob, facts: Facts, reading: Reading, columns: tuple[Column, ...]) -> Remembered:
    """Return what the next run compares with.

    Args:
        job: what the user asks for.
        facts: with the job's progress.
        reading: of this run.
        columns: what is copied.
    """
    state, moment = facts.progress.state, facts.progress.moment
    copied = {column.name for column in columns}
    read = {
        name: (number, meaning if name in copied else NOT_COPIED)
        for name, (number, meaning) in _read_columns(facts).items()
    }
    if not job.mode.reads_on:
        return Remembered(moment.xmin, read, {})
    # a policy that may miss rows leaves the place from which a scan finds them
    xmin = moment.xmin if reading.is_thorough else (state.xmin if state else 0)
    # what was appended stays, so a partition that is detached and comes back was read before; elsewhere its rows may
    # have been swept meanwhile, and it is read whole
    known = dict(state.leaves) if state and job.mode is Mode.APPEND else {}
    known |= {leaf.oid: SeenLeaf(leaf.file, leaf.bound, xmin) for leaf in facts.source_table.leaves}
    return Remembered(xmin, read, known)
