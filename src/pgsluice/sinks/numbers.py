"""The numbers of a run, and how events change them: the same for whoever is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgsluice.events import Event, RelayProgress, Retrying, RunFinished, StepFinished, TableFinished, Warned
from pgsluice.model import TableReport


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that is told.

    Attributes:
        kind: "counter" or "gauge".
        name: with its unit.
        meaning: one sentence.
        labels: that tell its values apart.
    """

    kind: str
    name: str
    meaning: str
    labels: tuple[str, ...] = ()


#: Everything that is told; docs/metrics.md lists it.
METRICS = (
    Metric("counter", "pgsluice_rows_total", "Rows of the target, by what became of them.", ("table", "outcome")),
    Metric("counter", "pgsluice_relayed_bytes_total", "Bytes of COPY streams.", ("table",)),
    Metric("counter", "pgsluice_hash_bytes_total", "Bytes of hashes, from both sides.", ("table",)),
    Metric("counter", "pgsluice_retries_total", "Tries after a failure that might pass.", ("table", "sqlstate")),
    Metric("counter", "pgsluice_warnings_total", "Things that a person should know.", ()),
    Metric("counter", "pgsluice_tables_total", "Tables that ended, by how.", ("status",)),
    Metric("gauge", "pgsluice_table_success", "1 where the table's last run was done, else 0.", ("table",)),
    Metric("gauge", "pgsluice_table_last_success_timestamp_seconds", "When the table was done last.", ("table",)),
    Metric("gauge", "pgsluice_table_seconds", "Wall clock of the table's last run.", ("table",)),
    Metric("gauge", "pgsluice_table_rows", "Rows of the target after its last run, where counted.", ("table",)),
    Metric("gauge", "pgsluice_table_locked_seconds", "For which its other writers waited.", ("table",)),
    Metric("gauge", "pgsluice_step_seconds", "Wall clock of a step of the table's last run.", ("table", "step")),
    Metric("gauge", "pgsluice_relay_rows", "Rows relayed by now, of the run that goes on.", ("table",)),
    Metric("gauge", "pgsluice_relay_bytes", "Bytes relayed by now, of the run that goes on.", ("table",)),
    Metric("gauge", "pgsluice_run_seconds", "Wall clock of the last run.", ()),
    Metric("gauge", "pgsluice_run_exit_code", "What the last run came to, as on the command line.", ()),
    Metric("gauge", "pgsluice_run_finished_timestamp_seconds", "When the last run ended.", ()),
)


@dataclass(frozen=True, slots=True)
class Change:
    """What an event does to a number.

    Attributes:
        name: of the number.
        value: that a gauge has now, or that a counter grows by.
        labels: in the order of `Metric.labels`.
    """

    name: str
    value: float
    labels: tuple[str, ...] = ()


def changes(event: Event) -> Iterator[Change]:
    """Return what an event does to the numbers."""
    match event:
        case RelayProgress():
            yield Change("pgsluice_relay_rows", event.rows, (event.table,))
            yield Change("pgsluice_relay_bytes", event.bytes, (event.table,))
        case StepFinished():
            yield Change("pgsluice_step_seconds", event.seconds, (event.table, event.step))
        case Retrying():
            yield Change("pgsluice_retries_total", 1, (event.table or "", event.sqlstate or ""))
        case Warned():
            yield Change("pgsluice_warnings_total", 1)
        case TableFinished():
            yield from _finished(event.report, event.at)
        case RunFinished():
            yield Change("pgsluice_run_seconds", event.report.seconds)
            yield Change("pgsluice_run_exit_code", event.report.exit_code)
            yield Change("pgsluice_run_finished_timestamp_seconds", event.at)


def _finished(report: TableReport, at: float) -> Iterator[Change]:
    table, is_done = (report.target,), report.status == "done"
    yield Change("pgsluice_tables_total", 1, (report.status,))
    yield Change("pgsluice_table_success", int(is_done), table)
    yield Change("pgsluice_table_seconds", report.seconds, table)
    yield Change("pgsluice_table_locked_seconds", report.locked_seconds, table)
    yield Change("pgsluice_relayed_bytes_total", report.bytes, table)
    yield Change("pgsluice_hash_bytes_total", report.hash_bytes, table)
    if not is_done:
        return
    yield Change("pgsluice_table_last_success_timestamp_seconds", at, table)
    for outcome in ("inserted", "updated", "unchanged", "deleted"):
        yield Change("pgsluice_rows_total", getattr(report, outcome), (report.target, outcome))
    if report.target_count >= 0:
        yield Change("pgsluice_table_rows", report.target_count, table)
