"""Bytes that a job takes on the target, from what the catalogs say."""

from __future__ import annotations

import dataclasses

import pytest
from handmade import AT, ID, MIB, NOTE, ORDERS, SOURCE, facts, moment, plan_of, refusals, state, table

from pgsluice.estimates import Estimate
from pgsluice.facts import Equality, Key, Leaf, Progress, TableInfo
from pgsluice.job import Mode, Options, SyncJob
from pgsluice.policies import DeletePolicy, Deletes, LatePolicy, LateRows

ROWS = 1_000_000
KEY = Key("the_pkey", ("id",), (Equality(),), primary=True, not_null=True, bytes=20 * MIB)
SOURCE_TABLE = dataclasses.replace(
    table(columns=(ID, NOTE, AT), keys=(KEY,), leaves=(Leaf(1000, 1),)), rows=ROWS, index_bytes=60 * MIB
)
TARGET_TABLE = dataclasses.replace(SOURCE_TABLE, oid=2000, rows=ROWS, index_bytes=40 * MIB)


def estimated(
    job: SyncJob | None = None, source: TableInfo = SOURCE_TABLE, target: TableInfo | None = TARGET_TABLE
) -> Estimate:
    found = plan_of(facts(source, target), job).estimate
    assert found is not None
    return found


def test_staging_takes_what_the_source_does_and_a_sixteenth() -> None:
    assert estimated().staging == estimated(target=None).staging == 100 * MIB * 17 // 16


@pytest.mark.parametrize("relkind", ["v", "f", "q"])
def test_what_shows_no_size_has_no_estimate_and_is_not_refused_for_it(relkind: str) -> None:
    source = dataclasses.replace(SOURCE_TABLE, relkind=relkind)
    job = SyncJob(ORDERS, ORDERS, key=("id",))
    assert plan_of(facts(source, TARGET_TABLE), job, Options(max_staging_bytes=1)).estimate is None


def test_a_new_table_takes_its_rows_and_its_keys_alone() -> None:
    found = estimated(target=None)
    assert found.target == found.staging + KEY.bytes
    assert found.wal == found.target + 32 * ROWS


def test_a_new_table_with_all_indexes_takes_as_much_for_them_as_the_source_does() -> None:
    found = plan_of(facts(SOURCE_TABLE, None), options=Options(indexes=True)).estimate
    assert found is not None
    assert found.target == found.staging + SOURCE_TABLE.index_bytes
    assert found.wal == found.target + 32 * ROWS


def test_a_key_that_the_source_has_no_index_for_takes_at_most_the_heap() -> None:
    found = estimated(SyncJob(ORDERS, ORDERS, key=("note",)), target=None)
    assert found.target == found.staging + KEY.bytes + SOURCE_TABLE.heap_bytes


def test_a_table_that_exists_is_met_page_by_page_and_each_index_gets_an_entry_a_row() -> None:
    found = estimated()
    assert found.target == found.staging + 60 * MIB
    assert found.wal == found.staging + 100 * ROWS + 4 * 40 * MIB + (100 + 40) * MIB


def test_a_target_with_fewer_rows_has_entries_of_the_same_size() -> None:
    smaller = dataclasses.replace(TARGET_TABLE, rows=ROWS // 4, index_bytes=10 * MIB)
    assert estimated(target=smaller).target == estimated().target


def test_an_empty_target_is_judged_by_the_indexes_of_the_source() -> None:
    empty = dataclasses.replace(TARGET_TABLE, rows=-1, bytes=0, index_bytes=8192)
    assert estimated(target=empty).target == estimated().staging + 90 * MIB


def test_an_append_replaces_no_row_and_meets_no_page_of_the_table() -> None:
    found = estimated(SyncJob(ORDERS, ORDERS, mode=Mode.APPEND))
    assert found.wal == found.staging + 32 * ROWS + 4 * 40 * MIB + 40 * MIB
    assert estimated(SyncJob(ORDERS, ORDERS, mode=Mode.APPEND), target=None).target == found.staging


def test_rows_that_were_never_counted_are_as_many_as_the_heap_can_hold() -> None:
    uncounted = dataclasses.replace(SOURCE_TABLE, rows=-1)
    found = estimated(source=uncounted, target=None)
    assert found.wal == found.target + uncounted.heap_bytes


# --- parts -----------------------------------------------------------------------------------------------------------


def reading_on(
    deletes: Deletes | None = None, keys: tuple[Key, ...] = (KEY,), options: Options | None = None
) -> Estimate:
    source = dataclasses.replace(SOURCE_TABLE, keys=keys)
    left = state(source, watermark="2024-01-01 00:00:00+00")
    known = facts(source, TARGET_TABLE, progress=Progress(moment(600), left, target_is_empty=False))
    late = LateRows(LatePolicy.SCAN)
    job = SyncJob(
        ORDERS, ORDERS, mode=Mode.INCREMENTAL, cursor="updated_at", late_rows=late, deletes=deletes, key=("id",)
    )
    found = plan_of(known, job, options).estimate
    assert found is not None
    return found


def test_how_large_a_part_is_shows_when_it_has_been_read() -> None:
    assert not estimated().is_part
    assert estimated(SyncJob(ORDERS, ORDERS, where="id > 1")).is_part
    assert reading_on().is_part
    assert str(reading_on()).startswith("not known; at most 106.2 MiB of staging, ")
    assert str(estimated()).startswith("at most 106.2 MiB of staging, ")


def test_a_sweep_stages_the_keys_too_judged_by_their_index() -> None:
    sweep = Deletes(DeletePolicy.SWEEP)
    assert reading_on(sweep).staging == estimated().staging + 2 * KEY.bytes
    assert reading_on(sweep, keys=()).staging == 2 * estimated().staging


# --- the limit -------------------------------------------------------------------------------------------------------


def test_staging_above_the_limit_is_refused_with_the_estimate_and_the_way_out() -> None:
    known = facts(SOURCE_TABLE, TARGET_TABLE)
    (refusal,) = refusals(known, options=Options(max_staging_bytes=100 * MIB))
    assert refusal == (
        "Staging would take up to 106.2 MiB on the target, and the limit is 100.0 MiB: raise --max-staging-bytes,"
        " or copy a part at a time, --where with --mode upsert."
    )
    assert plan_of(known, options=Options(max_staging_bytes=110 * MIB)).estimate is not None


def test_a_part_is_let_begin_whatever_the_whole_would_take() -> None:
    assert reading_on(options=Options(max_staging_bytes=1)).is_part
    narrowed = SyncJob(ORDERS, ORDERS, where="id > 1")
    assert plan_of(facts(SOURCE_TABLE, TARGET_TABLE), narrowed, Options(max_staging_bytes=1)).estimate is not None


def test_the_limits_travel_with_every_copy() -> None:
    copy = plan_of(facts(source=SOURCE), options=Options(max_staging_bytes=1 << 40, max_memory=5)).copy
    assert (copy.max_staging_bytes, copy.max_memory) == (1 << 40, 5)
