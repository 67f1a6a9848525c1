"""What the engine returns: exit codes and plain types."""

from __future__ import annotations

import json

import pytest

from pgsluice.facts import Column
from pgsluice.job import TableRef
from pgsluice.model import MergeResult, Report, StagedData, StagingTable, TableReport


def table(status: str, code: int = 0) -> TableReport:
    return TableReport("r1", "s.t", "raw.t", "full", status, exit_code=code)


DONE, SKIPPED = table("done"), table("skipped")


@pytest.mark.parametrize(
    ("tables", "code", "status"),
    [
        ((), 0, "done"),
        ((DONE, DONE), 0, "done"),
        ((DONE, table("failed", 6)), 3, "partly done"),
        ((DONE, SKIPPED), 3, "partly done"),
        ((table("failed", 6),), 6, "failed"),
        ((table("failed", 6), table("failed", 6)), 6, "failed"),
        ((table("failed", 6), SKIPPED), 6, "failed"),
        ((table("failed", 6), table("failed", 5)), 1, "failed"),
        ((SKIPPED, SKIPPED), 1, "failed"),
        ((table("failed"),), 1, "failed"),  # a failure is never told as success
    ],
)
def test_the_exit_code_is_what_the_tables_have_in_common(
    tables: tuple[TableReport, ...], code: int, status: str
) -> None:
    report = Report("r1", tables, 1.0)
    assert (report.exit_code, report.to_dict()["status"], report.to_dict()["exit_code"]) == (code, status, code)


def test_what_is_not_done_has_failed() -> None:
    failed = table("failed", 1)
    assert Report("r1", (DONE, failed, SKIPPED), 1.0).failed == (failed, SKIPPED)


def test_a_report_is_plain_types_all_the_way_down() -> None:
    done = TableReport(
        "r1", "s.t", '"a.b".주문', "full", "done", steps={"relay": 1.23456}, notes=("x", "y"), inserted=3
    )
    plain = Report("r1", (done,), 2.34567).to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert list(plain) == ["run_id", "status", "exit_code", "seconds", "source_server", "target_server", "tables"]
    assert plain["seconds"] == 2.346
    told = plain["tables"][0]
    assert (told["target"], told["inserted"], told["steps"], told["notes"]) == (
        '"a.b".주문',
        3,
        {"relay": 1.235},
        ["x", "y"],
    )
    assert (told["source_count"], told["error"], told["sqlstate"]) == (-1, None, None)


def test_what_was_staged_and_merged_is_plain_types_too() -> None:
    staging = StagingTable(TableRef("pgsluice", "stg_1"), TableRef("raw", "t"), (Column("id", "int", "int"),), "r1")
    staged = StagedData(staging, "s.t", 10, 10, 1234, 0.98765, "psql", where="x > 1").to_dict()
    merged = MergeResult(10, 4, 3, 2, 1, 9, 0.55555, created=True).to_dict()
    assert json.loads(json.dumps([staged, merged])) == [staged, merged]
    assert (str(staging), staged["staging"], staged["seconds"]) == ("pgsluice.stg_1", "pgsluice.stg_1", 0.988)
    assert (merged["inserted"], merged["created"]) == (4, True)
