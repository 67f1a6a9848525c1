"""Reports as text for people."""

from __future__ import annotations

import dataclasses

from pgsluice.cli.render import run_summary, table_report
from pgsluice.model import Report, TableReport

DONE = TableReport(
    run_id="r1",
    source="sales.orders",
    target="raw.orders",
    mode="full",
    status="done",
    source_count=12345,
    staging_count=12345,
    target_count=12345,
    inserted=1000,
    updated=200,
    unchanged=11145,
    deleted=7,
    verified="count",
    bytes=5 << 20,
    seconds=1.234,
    steps={"staging": 0.01, "relay": 0.5},
    lane="libpq",
    lane_reason="the source has less than 32 MiB",
    format="binary",
    format_reason="every column is binary-safe",
    staging="temporary",
    peak_bytes=64 << 20,
    notes=("column x exists on the source only and is not copied",),
)
FAILED = TableReport(
    run_id="r1",
    source="(query)",
    target="raw.[orders]",
    mode="upsert",
    status="failed",
    seconds=0.5,
    error="refused, nothing was written:\n- No key.\n- No room.",
    hint="Do this.\nOr that.",
    step="plan",
    sqlstate="42P01",
    exit_code=6,
)


def test_a_done_table_tells_what_changed_how_and_how_it_was_checked() -> None:
    assert table_report(DONE).splitlines() == [
        "sales.orders -> raw.orders: done in 1.23 s (full)",
        "  inserted 1,000, updated 200, unchanged 11,145, deleted 7",
        "  relayed 12,345 rows, 5.0 MiB",
        "  counted 12,345 on the source, 12,345 staged; the target has 12,345",
        "  lane libpq: the source has less than 32 MiB",
        "  format binary: every column is binary-safe",
        "  staging temporary; memory at most 64.0 MiB",
        "  steps staging 0.01 s, relay 0.50 s",
        "  note: column x exists on the source only and is not copied",
    ]


def test_what_was_not_counted_is_not_told() -> None:
    text = table_report(dataclasses.replace(DONE, verified="", source_count=-1, target_count=-1))
    assert "counted" not in text
    assert "-1" not in text


def test_a_created_table_and_the_memory_of_psql_are_told() -> None:
    lines = table_report(dataclasses.replace(DONE, created=True, psql_peak_bytes=8 << 20)).splitlines()
    assert lines[1] == "  inserted 1,000, updated 200, unchanged 11,145, deleted 7; the table was created"
    assert lines[6] == "  staging temporary; memory at most 64.0 MiB; psql 8.0 MiB"


def test_a_failed_table_tells_where_why_and_the_way_out() -> None:
    assert table_report(FAILED).splitlines() == [
        "(query) -> raw.[orders]: failed in 0.50 s (upsert)",
        "  failed at step plan: refused, nothing was written:",
        "  - No key.",
        "  - No room. [SQLSTATE 42P01]",
        "  Do this.",
        "  Or that.",
    ]


def test_a_run_is_summed_up_in_a_line() -> None:
    assert run_summary(Report("r1", (DONE, DONE), 2.0)) == "run r1: 2 of 2 done, 24,690 rows relayed, 2.0 s"
    assert run_summary(Report("r1", (DONE, FAILED), 2.0)) == "run r1: 1 of 2 done, 1 failed, 12,345 rows relayed, 2.0 s"


READ_ON = dataclasses.replace(
    DONE,
    mode="incremental",
    target_count=-1,
    reading="from 2024-01-01 00:00:00+00 on",
    watermark="2024-06-01 11:59:00+00",
    late_rows="scan",
    late=1234,
    keys_swept=98765,
    notes=(),
)


def test_a_table_that_was_read_on_tells_from_where_how_far_and_what_was_late() -> None:
    assert table_report(READ_ON).splitlines()[1:6] == [
        "  inserted 1,000, updated 200, unchanged 11,145, deleted 7",
        "  read from 2024-01-01 00:00:00+00 on",
        "  relayed 12,345 rows, 5.0 MiB",
        "  watermark 2024-06-01 11:59:00+00; late rows: scan, 1,234 found",
        "  swept 98,765 keys",
    ]


def test_a_target_that_was_not_counted_leaves_the_counts_of_what_came() -> None:
    assert "  counted 12,345 on the source, 12,345 staged" in table_report(READ_ON).splitlines()


def test_a_job_without_a_watermark_yet_says_so_and_one_without_a_cursor_is_silent() -> None:
    none_yet = dataclasses.replace(READ_ON, watermark=None, late=0, keys_swept=0)
    assert "  watermark none; late rows: scan\n  swept 0 keys\n" in table_report(none_yet)
    by_transaction = dataclasses.replace(READ_ON, mode="xmin", watermark=None, late_rows=None, keys_swept=-1)
    text = table_report(by_transaction)
    assert "  read from" in text
    assert "watermark" not in text
    assert "swept" not in text


def test_a_full_sync_is_not_told_to_have_read_every_row() -> None:
    assert "read every" not in table_report(dataclasses.replace(DONE, reading="every row in scope"))
