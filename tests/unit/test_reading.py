"""From where a job reads on: what it remembers, what makes that worthless, and what is said about it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from handmade import (
    AT,
    ID,
    NOTE,
    ORDERS,
    SAME,
    SOURCE,
    enum,
    facts,
    moment,
    plan_of,
    refusals,
    seen,
    stamps,
    state,
    table,
)

from pgsluice.facts import NOT_COPIED, Column, Facts, Horizon, JobState, Leaf, Progress, SeenLeaf, ServerInfo, TableInfo
from pgsluice.job import Lane, Mode, Options, SyncJob
from pgsluice.policies import Deletes, LateRows, OnLostState
from pgsluice.reading import MOST_TRANSACTIONS, Reading, lag, remembered
from pgsluice.windows import Window

MARK = "2024-01-01 00:00:00+00"
COLUMNS = (ID, NOTE, AT)
ORIGIN = table(columns=COLUMNS, leaves=(Leaf(1000, 1),))
COPY = dataclasses.replace(SAME, columns=COLUMNS)
VIEW = dataclasses.replace(ORIGIN, relkind="v", leaves=())
FOREIGN = dataclasses.replace(ORIGIN, relkind="f", leaves=(Leaf(1000, 0, heap=False),))
PARTS = dataclasses.replace(ORIGIN, relkind="p", leaves=(Leaf(1, 11, "FOR a"), Leaf(2, 12, "FOR b")))
NOW = moment(1000, begun=5)
THEN = state(ORIGIN, watermark=MARK)
AGAIN = state(PARTS, watermark=MARK)
STAMPED = stamps("BEGIN NEW.updated_at := now(); RETURN NEW; END")
HORIZON = Horizon("2024-06-01 11:59:00+00")

INCREMENTAL = SyncJob(ORDERS, ORDERS, mode=Mode.INCREMENTAL, cursor="updated_at", late_rows=LateRows.parse("scan"))
XMIN = SyncJob(ORDERS, ORDERS, mode=Mode.XMIN)
APPEND = SyncJob(ORDERS, ORDERS, mode=Mode.APPEND)
ONCE_MORE = dataclasses.replace(INCREMENTAL, since="2023-12-01 00:00:00+00")
FIRST_FROM_TARGET = dataclasses.replace(INCREMENTAL, from_target=True)
FAIL = Options(on_lost_state=OnLostState.FAIL)
FRESH = Options(full_refresh=True)

STAY = "rows that are gone from the source stay on the target (--deletes keep)"
ONCE = "an update or delete of a row already copied is not carried on (an updated row arrives as another row)"


def incremental(late_rows: str, **more: Any) -> SyncJob:
    return dataclasses.replace(INCREMENTAL, late_rows=LateRows.parse(late_rows), **more)


def known(
    then: JobState | None = THEN,
    source_table: TableInfo = ORIGIN,
    target_table: TableInfo | None = COPY,
    server: ServerInfo = SOURCE,
    **progress: Any,
) -> Facts:
    progress = {"moment": NOW, "target_is_empty": False, "stamps": STAMPED, "horizon": HORIZON, **progress}
    return facts(source_table, target_table, source=server, progress=Progress(state=then, **progress))


def read(what: Facts, job: SyncJob = INCREMENTAL, options: Options | None = None) -> Reading:
    return plan_of(what, job, options).reading


def restarted(**changes: Any) -> ServerInfo:
    return dataclasses.replace(SOURCE, **changes)


def is_whole(reading: Reading) -> bool:
    """Tell whether every row of the snapshot is read, but for those that mode append lets wait."""
    return reading.window in {None, Window(until=NOW.xmin)}


# --- where nothing is remembered, and where all goes well ------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.UPSERT])
def test_a_mode_that_does_not_read_on_reads_every_row(mode: Mode) -> None:
    reading = read(known(), SyncJob(ORDERS, ORDERS, mode=mode))
    assert reading == Reading()
    assert (reading.is_complete, reading.reason) == (True, "every row in scope")


@pytest.mark.parametrize("target", [COPY, None])
@pytest.mark.parametrize("job", [INCREMENTAL, XMIN, APPEND])
def test_the_first_run_reads_every_row(job: SyncJob, target: TableInfo | None) -> None:
    reading = read(known(None, target_table=target, target_is_empty=True), job, FAIL)
    assert is_whole(reading)
    assert (reading.reason, reading.moves, reading.starts_over) == ("every row: the first run", True, False)


def test_an_incremental_run_reads_from_the_watermark_on_and_what_committed_late() -> None:
    reading = read(known())
    assert reading.window == Window(reading.cursor, MARK, since=500)
    assert (reading.reason, reading.moves) == (f"from {MARK} on", True)
    assert reading.late_reason == "as asked; reads 100.0 MiB of heap a run, transfers only new and late rows"
    assert reading.notes == (STAY,)


def test_mode_xmin_reads_what_the_last_snapshot_could_not_see() -> None:
    reading = read(known(), XMIN)
    assert reading.window == Window(since=500)
    assert (reading.reason, reading.notes) == ("what transaction 500 and later ones wrote", (STAY,))


def test_mode_append_reads_what_lies_between_two_snapshots() -> None:
    reading = read(known(), APPEND)
    assert reading.window == Window(since=500, until=1000)
    assert (reading.reason, reading.notes) == ("what transactions 500 to 999 wrote", (ONCE,))


@pytest.mark.parametrize("job", [INCREMENTAL, XMIN, APPEND])
def test_a_leaf_that_ddl_brought_is_read_whole(job: SyncJob) -> None:
    attached = dataclasses.replace(PARTS, leaves=(*PARTS.leaves, Leaf(3, 13, "FOR c"), Leaf(4, 14, "FOR d")))
    window = read(known(AGAIN, attached), job).window
    assert window is not None
    assert (window.whole, window.since, window.apart) == ((3, 4), 500, ())


@pytest.mark.parametrize("job", [INCREMENTAL, XMIN])
def test_a_leaf_that_was_rewritten_is_read_whole(job: SyncJob) -> None:
    rewritten = dataclasses.replace(PARTS, leaves=(PARTS.leaves[0], Leaf(2, 99, "FOR b")))
    window = read(known(AGAIN, rewritten), job).window
    assert window is not None
    assert window.whole == (2,)


def test_a_watermark_that_no_row_has_moved_is_no_place_to_read_from() -> None:
    reading = read(known(dataclasses.replace(THEN, watermark=None)), options=FAIL)
    assert (reading.window, reading.reason) == (None, "every row: no row has moved the watermark yet")


def test_what_may_differ_afterwards_is_noted() -> None:
    narrowed = dataclasses.replace(XMIN, where="id > 1")
    comes = "a row that comes to meet the condition without being written (as time passes, say) is not seen"
    leaves = "rows that are gone from the source or no longer meet the condition stay on the target (--deletes keep)"
    assert read(known(), narrowed).notes == (comes, leaves)
    assert read(known(), dataclasses.replace(narrowed, deletes=Deletes.parse("sweep"))).notes == (comes,)
    assert read(known(), dataclasses.replace(APPEND, where="id > 1")).notes == (comes, ONCE)


# --- where the stored position means nothing -------------------------------------------------------------------------

RENAMED = Column("mood", "s.mood", "s.mood", kind="e", dependencies=enum("s", "mood", "sad", "glad"), number=4)
MOOD = dataclasses.replace(RENAMED, dependencies=enum("s", "mood", "sad", "happy"))
WITH_MOOD = dataclasses.replace(ORIGIN, columns=(*COLUMNS, RENAMED))
COPIED_MOOD = dataclasses.replace(COPY, columns=(*COLUMNS, RENAMED))
READ_BEFORE = {**THEN.columns, "mood": (4, "s.mood 'sad', 'happy'")}

#: What explains itself: nothing was lost, and nobody has to allow it.
EXPLAINED = {
    "emptied target": (known(target_is_empty=True), "the target is empty"),
    "dropped target": (known(target_table=None, target_is_empty=True), "the target is empty"),
    "new column": (
        known(dataclasses.replace(THEN, columns={"id": (0, "bigint"), "updated_at": (0, AT.type)})),
        "column note is new or has changed",
    ),
    "other types": (
        known(dataclasses.replace(THEN, columns=dict.fromkeys(THEN.columns, (0, "integer")))),
        "column id, note, updated_at is new or has changed",
    ),
    "column dropped and added": (
        known(dataclasses.replace(THEN, columns={**THEN.columns, "note": (7, "text")})),
        "column note is new or has changed",
    ),
    "renamed label": (
        known(dataclasses.replace(THEN, columns=READ_BEFORE), WITH_MOOD, COPIED_MOOD),
        "column mood is new or has changed",
    ),
    "rewritten source": (
        known(source_table=dataclasses.replace(ORIGIN, leaves=(Leaf(1000, 2),))),
        "the source table was rewritten or replaced",
    ),
    "all partitions rewritten": (
        known(AGAIN, dataclasses.replace(PARTS, leaves=(Leaf(1, 21, "FOR a"), Leaf(2, 22, "FOR b")))),
        "the source table was rewritten or replaced",
    ),
}
#: What somebody may want to know of before everything is read again.
LOST = {
    "other target": (
        known(target_table=dataclasses.replace(COPY, oid=2001)),
        "the target is another table than last time",
    ),
    "other timeline": (
        known(server=restarted(timeline=2)),
        "the source is on timeline 2, last time 1: a failover or restore",
    ),
    "earlier log": (
        known(moment=dataclasses.replace(NOW, lsn=THEN.lsn - 1)),
        "the source is at an earlier point of its history than last time: a restore",
    ),
    "earlier transactions": (
        known(moment=moment(490, begun=9)),
        "the source is at an earlier point of its history than last time: a restore",
    ),
    "other cluster": (
        known(None, server=restarted(system="3333"), elsewhere=THEN),
        "the source is another cluster than last time (system identifier 3333, last time 1111)",
    ),
    "back from another cluster": (
        known(elsewhere=dataclasses.replace(THEN, system=None)),
        "the source is another cluster than last time (system identifier 1111, last time hidden)",
    ),
}
#: A loss for those ways alone that tell rows by their transactions.
TOO_MANY = (
    known(moment=moment(1000, begun=500 - 1000 + MOST_TRANSACTIONS)),
    "2,130,706,432 transactions began since the last run, more than their ids can tell",
)


@pytest.mark.parametrize("job", [INCREMENTAL, incremental("trust"), incremental("horizon"), XMIN])
@pytest.mark.parametrize("case", EXPLAINED)
def test_what_explains_itself_has_everything_read_whatever_is_asked_of_losses(job: SyncJob, case: str) -> None:
    what, reason = EXPLAINED[case]
    for options in (None, FAIL):
        reading = read(what, job, options)
        assert (reading.window, reading.reason, reading.moves) == (None, f"every row: {reason}", True)
        assert not [note for note in reading.notes if "again" in note]


@pytest.mark.parametrize("job", [INCREMENTAL, incremental("trust"), incremental("horizon"), XMIN])
@pytest.mark.parametrize("case", LOST)
def test_a_lost_position_has_everything_read_and_noted_or_refused_where_asked(job: SyncJob, case: str) -> None:
    what, reason = LOST[case]
    reading = read(what, job)
    assert (reading.window, reading.reason, reading.moves) == (None, f"every row: {reason}", True)
    assert f"everything is read again: {reason}" in reading.notes
    assert refusals(what, job, FAIL) == (
        (
            f"Everything would be read again: {reason}. Allow it with --on-lost-state reread, or start over with"
            " --full-refresh."
        ),
    )


@pytest.mark.parametrize("job", [INCREMENTAL, XMIN])
def test_more_transactions_than_ids_can_tell_have_everything_read(job: SyncJob) -> None:
    what, reason = TOO_MANY
    assert read(what, job).reason == f"every row: {reason}"
    (sentence,) = refusals(what, job, FAIL)
    assert reason in sentence
    one_less = known(moment=moment(1000, begun=500 - 1000 + MOST_TRANSACTIONS - 1))
    assert read(one_less, job, FAIL).window is not None


@pytest.mark.parametrize("job", [INCREMENTAL, XMIN])
def test_a_leaf_that_was_read_long_ago_counts_as_long_ago(job: SyncJob) -> None:
    leaves = {1: SeenLeaf(11, "FOR a", 400), 2: SeenLeaf(12, "FOR b", 500)}
    what = known(dataclasses.replace(AGAIN, leaves=leaves), PARTS, moment=TOO_MANY[0].progress.moment)
    assert "2,130,706,532 transactions" in read(what, job).reason


@pytest.mark.parametrize("late_rows", ["trust", "overlap:2h", "horizon"])
def test_a_way_that_asks_no_transaction_ids_reads_on_after_any_number_of_them(late_rows: str) -> None:
    held = dataclasses.replace(THEN, held=True)
    reading = read(known(held, moment=TOO_MANY[0].progress.moment), incremental(late_rows), FAIL)
    assert reading.reason == f"from {MARK} on"


def test_the_very_point_where_the_last_run_stood_is_no_earlier_one() -> None:
    same = dataclasses.replace(moment(490, begun=10), lsn=THEN.lsn)
    assert read(known(moment=same), options=FAIL).reason == f"from {MARK} on"


@pytest.mark.parametrize("case", EXPLAINED | LOST)
@pytest.mark.parametrize("job", [INCREMENTAL, XMIN])
def test_a_full_refresh_reads_everything_and_asks_nothing(job: SyncJob, case: str) -> None:
    what, _ = (EXPLAINED | LOST)[case]
    options = dataclasses.replace(FAIL, full_refresh=True)
    reading = read(what, job, options)
    assert (reading.window, reading.reason) == (None, "every row: a full refresh was asked for")
    assert reading.notes == (STAY,)


# --- asked to begin elsewhere ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", EXPLAINED | LOST)
def test_since_reads_from_a_value_on_and_leaves_the_position_alone(case: str) -> None:
    what, _ = (EXPLAINED | LOST)[case]
    for facts_ in (known(), what):
        reading = read(facts_, ONCE_MORE, FAIL)
        assert reading.window == Window(reading.cursor, "2023-12-01 00:00:00+00")
        assert reading.reason == "once from 2023-12-01 00:00:00+00 on; the watermark stays"
        assert not reading.moves
        assert (reading.late, reading.notes) == (None, (STAY,))


def test_the_targets_highest_value_stands_for_a_watermark_until_there_is_one() -> None:
    highest = "2023-06-01 00:00:00+00"
    reading = read(known(None, highest=highest), FIRST_FROM_TARGET)
    assert reading.window == Window(reading.cursor, highest)
    assert reading.reason == f"from the target's highest value on, {highest}"
    assert reading.moves
    assert read(known(None), FIRST_FROM_TARGET).reason == "every row: the first run"
    assert read(known(None, highest=highest), INCREMENTAL).reason == "every row: the first run"
    assert read(known(highest=highest), FIRST_FROM_TARGET).reason == f"from {MARK} on"
    assert (
        read(known(None, highest=highest), FIRST_FROM_TARGET, FRESH).reason == "every row: a full refresh was asked for"
    )


def test_a_source_that_was_replaced_is_told_though_the_target_has_a_highest_value() -> None:
    what = known(None, server=restarted(system="3333"), elsewhere=THEN, highest=MARK)
    assert "another cluster" in read(what, FIRST_FROM_TARGET).reason


def test_a_cursor_that_is_not_copied_is_refused_by_name() -> None:
    narrow = dataclasses.replace(COPY, columns=(ID, NOTE))
    assert refusals(known(target_table=narrow), INCREMENTAL) == (
        "The cursor updated_at is not among the columns that both sides have.",
    )


# --- mode xmin -------------------------------------------------------------------------------------------------------

HIDES = (
    "the source hides its system identifier, so its transaction ids can't be told from those of a server restored in"
    " its place: GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint(), pg_control_recovery() TO"
    " reader;"
)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (VIEW, "a view"),
        (FOREIGN, "a foreign table"),
        (
            dataclasses.replace(PARTS, leaves=(*PARTS.leaves, Leaf(3, heap=False))),
            "a part of it is a foreign table or kept by another access method",
        ),
    ],
)
def test_mode_xmin_reads_everything_of_what_shows_no_transactions(source: TableInfo, kind: str) -> None:
    reason = f"sales.orders does not show which transactions wrote its rows ({kind})"
    what = known(source_table=source)
    reading = read(what, XMIN)
    assert (reading.window, reading.reason) == (None, f"every row: {reason}")
    assert reading.notes == (f"everything is read again: {reason}", STAY)
    (sentence,) = refusals(what, XMIN, FAIL)
    assert sentence.startswith(f"Everything would be read again: {reason}. Allow it with")


def test_a_full_refresh_of_what_shows_no_transactions_asks_nothing() -> None:
    options = dataclasses.replace(FAIL, full_refresh=True)
    assert read(known(source_table=VIEW), XMIN, options).reason == "every row: a full refresh was asked for"


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (XMIN, f"Mode xmin can't work: {HIDES}."),
        (APPEND, f"Mode append can't work: {HIDES}."),
        (INCREMENTAL, f"Late rows can't be found by scan: {HIDES}."),
    ],
)
@pytest.mark.parametrize("options", [Options(), FRESH])
def test_a_server_that_hides_its_identity_can_not_be_read_by_transactions(
    job: SyncJob, sentence: str, options: Options
) -> None:
    for then, is_empty in ((None, True), (THEN, False)):
        what = known(then, server=restarted(system=None), target_is_empty=is_empty)
        assert refusals(what, job, options) == (sentence,)


# --- mode append -----------------------------------------------------------------------------------------------------

TWICE = ". Everything again would be copied twice; --full-refresh empties the target's rows in scope and starts over."
UNTOLD = "Mode append can't tell which rows are new: "


def test_mode_append_lets_the_rows_of_open_transactions_wait() -> None:
    waiting = known(moment=moment(1000, begun=5, running=3))
    reading = read(waiting, APPEND)
    assert reading.window == Window(since=500, until=1000)
    assert reading.notes == (
        "transactions open on the source: 3; rows of the oldest, 1000, and of later ones wait for the next run",
        ONCE,
    )
    first = known(None, target_is_empty=True, moment=moment(1000, begun=5, running=3))
    assert read(first, APPEND).window == Window(until=1000)


def test_an_emptied_target_is_appended_to_from_the_start() -> None:
    """Whatever was lost meanwhile, nothing can be copied twice."""
    for what in (known(target_is_empty=True), known(target_is_empty=True, server=restarted(timeline=2))):
        reading = read(what, APPEND, FAIL)
        assert (reading.window, reading.reason) == (Window(until=1000), "every row: the target is empty")
        assert not reading.starts_over


def on_parts(*leaves: Leaf, **changes: Any) -> Facts:
    return known(dataclasses.replace(AGAIN, **changes), dataclasses.replace(PARTS, leaves=leaves))


A, B = PARTS.leaves
#: What makes rows look new that were copied.
RESTAMPED = {
    "foreign rows": (known(None), "the target has rows and this job has no state"),
    "rewritten": (
        known(source_table=dataclasses.replace(ORIGIN, leaves=(Leaf(1000, 2),))),
        "sales.orders was rewritten or truncated since the last run (another file node), which restamps its rows",
    ),
    "partition rewritten": (
        on_parts(A, Leaf(2, 99, "FOR b")),
        (
            "partition FOR b of sales.orders was rewritten or truncated since the last run (another file node), which"
            " restamps its rows"
        ),
    ),
    "replaced": (
        known(source_table=dataclasses.replace(ORIGIN, oid=1001, leaves=(Leaf(1001, 1),))),
        "sales.orders was replaced by another table since the last run",
    ),
    "partition replaced": (
        on_parts(A, Leaf(3, 13, "FOR b")),
        "partition FOR b of sales.orders was replaced by another table since the last run",
    ),
    "ids come round": (
        known(dataclasses.replace(THEN, repeats_at=999)),
        "transaction ids have come round (4,294,967,296), and rows copied then show the ids of now",
    ),
    "too many": TOO_MANY,
    **LOST,
}


@pytest.mark.parametrize("options", [Options(), FAIL])
@pytest.mark.parametrize("case", RESTAMPED)
def test_mode_append_refuses_what_would_copy_rows_twice(case: str, options: Options) -> None:
    what, reason = RESTAMPED[case]
    assert refusals(what, APPEND, options) == (f"{UNTOLD}{reason}{TWICE}",)


@pytest.mark.parametrize("case", RESTAMPED)
def test_a_full_refresh_of_mode_append_replaces_what_the_target_holds(case: str) -> None:
    what, _ = RESTAMPED[case]
    reading = read(what, APPEND, FRESH)
    assert reading.starts_over
    assert reading.window == Window(until=what.progress.moment.xmin)
    assert (reading.reason, reading.notes) == ("every row: a full refresh was asked for", (ONCE,))


def test_ids_repeat_only_behind_the_transaction_that_was_told() -> None:
    assert read(known(dataclasses.replace(THEN, repeats_at=1000)), APPEND).window == Window(since=500, until=1000)


@pytest.mark.parametrize("job", [APPEND, XMIN])
def test_a_column_that_came_or_a_leaf_that_went_leaves_the_rest_to_be_read_on(job: SyncJob) -> None:
    """Mode append carries no change of rows that it has copied, so a new column changes nothing."""
    assert read(on_parts(A), job).window == read(on_parts(A, B), job).window
    if job is APPEND:
        fewer = dataclasses.replace(THEN, columns={"id": (0, "bigint")})
        assert read(known(fewer), job).window == Window(since=500, until=1000)


def test_a_leaf_that_came_back_is_read_from_where_it_left() -> None:
    """It was last seen by an older snapshot than the rest: what was written since, even while detached, is new."""
    leaves = {**seen(PARTS, 500), 2: SeenLeaf(12, "FOR b", 300)}
    reading = read(on_parts(A, B, leaves=leaves), APPEND)
    assert reading.window == Window(since=500, apart=((2, 300),), until=1000)


def test_a_leaf_that_takes_the_place_of_one_that_left_may_be_its_copy() -> None:
    leaves = {**seen(PARTS, 500), 2: SeenLeaf(12, "FOR b", 300)}
    (sentence,) = refusals(on_parts(A, Leaf(3, 13, "FOR b"), leaves=leaves), APPEND)
    assert "partition FOR b of sales.orders was replaced by another table" in sentence


@pytest.mark.parametrize(("what", "options"), [(known(target_is_empty=True), Options()), (known(), FRESH)])
def test_a_run_of_mode_append_that_reads_everything_goes_by_the_lane_for_that(what: Facts, options: Options) -> None:
    copy = plan_of(what, APPEND, options).copy
    assert (copy.lane, copy.rows_expected) == (Lane.PSQL, 1000)


# --- rows that commit late -------------------------------------------------------------------------------------------


def test_the_policy_says_what_is_read_beside_the_watermark() -> None:
    windows = {
        late_rows: read(known(dataclasses.replace(THEN, held=True)), incremental(late_rows)).window
        for late_rows in ("scan", "overlap:2h", "trust", "horizon")
    }
    cursor = read(known()).cursor
    assert windows == {
        "scan": Window(cursor, MARK, since=500),
        "overlap:2h": Window(cursor, MARK, back="2h"),
        "trust": Window(cursor, MARK),
        "horizon": Window(cursor, MARK),
    }


def test_a_scan_can_be_kept_to_a_span() -> None:
    reading = read(known(), incremental("auto", late_within="7 days"))
    assert reading.window == Window(reading.cursor, MARK, since=500, within="7 days")
    assert reading.notes[0].startswith("late rows are found up to 7 days behind the watermark, not beyond")


def test_the_choice_of_auto_goes_by_size_and_is_told() -> None:
    small, large = Options(), Options(scan_limit=1)
    assert read(known(), incremental("auto"), small).late == LateRows.parse("scan")
    held = read(known(dataclasses.replace(THEN, held=True)), incremental("auto"), large)
    assert held.late == LateRows.parse("horizon")
    assert held.is_held
    assert "is more than is scanned unasked (1 B)" in held.late_reason
    (choices,) = refusals(known(stamps=stamps()), incremental("auto"), large)
    assert choices.startswith("Rows of sales.orders that commit late need a choice of yours, --late-rows:")


CATCHES_UP = "the stored watermark was not held to the horizon, so this run looks at every row once"


def test_a_watermark_that_was_not_held_to_the_horizon_has_every_row_looked_at_once() -> None:
    reading = read(known(), incremental("horizon"))
    assert reading.window == Window(reading.cursor, MARK, since=500)
    assert CATCHES_UP in reading.notes
    held = read(known(dataclasses.replace(THEN, held=True)), incremental("horizon"))
    assert held.window == Window(held.cursor, MARK)
    assert CATCHES_UP not in held.notes


@pytest.mark.parametrize(
    ("what", "reason", "is_loss"),
    [
        (known(server=restarted(system=None)), HIDES, False),
        (TOO_MANY[0], TOO_MANY[1], True),
    ],
)
def test_where_ids_tell_nothing_every_row_is_read_to_hold_to_the_horizon(
    what: Facts, reason: str, is_loss: bool
) -> None:
    reading = read(what, incremental("horizon"))
    assert (reading.window, reading.reason) == (None, f"every row: {reason}")
    if is_loss:
        assert reason in refusals(what, incremental("horizon"), FAIL)[0]
    else:
        assert read(what, incremental("horizon"), FAIL) == reading


# --- what is remembered ----------------------------------------------------------------------------------------------


def kept(what: Facts, job: SyncJob, options: Options | None = None) -> tuple[int, dict[int, SeenLeaf]]:
    plan = plan_of(what, job, options)
    here = remembered(job, what, plan.reading, plan.columns)
    assert here.columns == {"id": (0, "bigint"), "note": (0, "text"), "updated_at": (0, AT.type)}
    return here.xmin, dict(here.leaves)


@pytest.mark.parametrize("job", [INCREMENTAL, XMIN, APPEND])
def test_a_thorough_run_leaves_its_own_snapshot(job: SyncJob) -> None:
    attached = dataclasses.replace(PARTS, leaves=(*PARTS.leaves, Leaf(3, 13, "FOR c")))
    assert kept(known(AGAIN, attached), job) == (1000, seen(attached, 1000))


@pytest.mark.parametrize(
    "job",
    [
        incremental("trust"),
        incremental("overlap:2h"),
        incremental("horizon"),
        incremental("scan", late_within="7 days"),
    ],
)
def test_a_run_that_may_miss_rows_leaves_the_place_from_which_a_scan_finds_them(job: SyncJob) -> None:
    held = dataclasses.replace(THEN, held=True)
    assert kept(known(held), job) == (500, seen(ORIGIN, 500))
    assert kept(known(held, target_is_empty=True), job) == (1000, seen(ORIGIN, 1000))
    assert kept(known(None), job) == (1000, seen(ORIGIN, 1000))


def test_a_run_that_looks_at_every_row_once_is_thorough() -> None:
    assert kept(known(), incremental("horizon")) == (1000, seen(ORIGIN, 1000))


def test_a_run_that_began_at_the_targets_highest_value_leaves_all_to_a_scan() -> None:
    assert kept(known(None, highest=MARK), FIRST_FROM_TARGET) == (0, seen(ORIGIN, 0))


def test_mode_append_remembers_a_leaf_that_left_and_the_others_forget_it() -> None:
    leaves = {**seen(PARTS, 500), 2: SeenLeaf(12, "FOR b", 300)}
    gone = on_parts(A, leaves=leaves)
    left = dataclasses.replace(PARTS, leaves=(A,))
    assert kept(gone, APPEND) == (1000, {**seen(left, 1000), 2: SeenLeaf(12, "FOR b", 300)})
    assert kept(gone, XMIN) == (1000, seen(left, 1000))


def test_an_enum_is_remembered_with_its_labels() -> None:
    what = known(None, WITH_MOOD, COPIED_MOOD)
    plan = plan_of(what, XMIN)
    assert remembered(XMIN, what, plan.reading, plan.columns).columns["mood"] == (4, "s.mood 'sad', 'glad'")


def test_what_the_target_lacks_is_remembered_as_not_copied() -> None:
    """A column that it gets later is new to it, and read whole then."""
    what = known(None, target_table=dataclasses.replace(COPY, columns=(ID, AT)))
    plan = plan_of(what, XMIN)
    columns = remembered(XMIN, what, plan.reading, plan.columns).columns
    assert columns["note"] == (0, NOT_COPIED)
    wider = known(dataclasses.replace(THEN, columns=columns))
    assert read(wider, XMIN).reason == "every row: column note is new or has changed"


def test_a_mode_that_does_not_read_on_remembers_where_it_was() -> None:
    here = remembered(SyncJob(ORDERS, ORDERS), known(), Reading(), COLUMNS)
    assert (here.xmin, set(here.columns), here.leaves) == (1000, {"id", "note", "updated_at"}, {})


# --- a standby that is behind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "lsn", "behind"),
    [
        (restarted(in_recovery=True), 4000 - 2048, "2.0 KiB"),
        (restarted(in_recovery=True), 4000, None),
        (restarted(in_recovery=True, timeline=2), 1000, None),  # another history, not a delay
        (SOURCE, 1000, None),
    ],
)
def test_a_standby_is_behind_where_it_has_yet_to_replay_what_was_read(
    server: ServerInfo, lsn: int, behind: str | None
) -> None:
    what = known(server=server, moment=dataclasses.replace(NOW, lsn=lsn))
    sentence = f"the source is a standby that has yet to replay {behind} of what the last run has read"
    assert lag(what) == (sentence if behind else None)


def test_a_standby_that_no_run_has_read_is_not_behind() -> None:
    assert lag(known(None, server=restarted(in_recovery=True), moment=moment(1, lsn=0))) is None
