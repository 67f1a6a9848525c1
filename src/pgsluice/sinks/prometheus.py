"""Numbers of runs for Prometheus: over HTTP while they go on, or as a file for the textfile collector."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pgsluice.errors import UsageError
from pgsluice.events import Event, RelayProgress, Retrying, RunFinished, StepFinished, TableFinished, Warned
from pgsluice.model import Report, TableReport


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
_PORTS = 1 << 16


class Prometheus:
    """A sink that counts."""

    def __init__(self, file: Path | None = None, address: str | None = None) -> None:
        """Open what is told; an address is bound before any work begins.

        Args:
            file: written when a run ends, in one piece, or None.
            address: ``HOST:PORT`` to listen at, or None.

        Raises:
            UsageError: the extra is not installed, or nobody can listen there.
        """
        try:
            self._library: Any = importlib.import_module("prometheus_client")
        except ImportError:
            raise UsageError("the extra for metrics is not installed", hint="pip install 'pgsluice[metrics]'") from None
        self._registry = self._library.CollectorRegistry()
        kinds = {"counter": self._library.Counter, "gauge": self._library.Gauge}
        self._metrics = {
            each.name: kinds[each.kind](each.name, each.meaning, each.labels, registry=self._registry)
            for each in METRICS
        }
        self._file = file
        if address:
            host, port = _place(address)
            try:
                self._library.start_http_server(port, host, registry=self._registry)
            except OSError as error:
                raise UsageError(
                    f"nobody can listen at {address}: {error.strerror}", hint="Choose another port."
                ) from None

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case RelayProgress():
                self._of("pgsluice_relay_rows", event.table).set(event.rows)
                self._of("pgsluice_relay_bytes", event.table).set(event.bytes)
            case StepFinished():
                self._of("pgsluice_step_seconds", event.table, event.step).set(event.seconds)
            case Retrying():
                self._of("pgsluice_retries_total", event.table or "", event.sqlstate or "").inc()
            case Warned():
                self._of("pgsluice_warnings_total").inc()
            case TableFinished():
                self._finished(event.report, event.at)
            case RunFinished():
                self._ended(event.report, event.at)

    def _of(self, name: str, *labels: str) -> Any:  # noqa: ANN401 - the library's own
        metric = self._metrics[name]
        return metric.labels(*labels) if labels else metric

    def _finished(self, report: TableReport, at: float) -> None:
        table, is_done = report.target, report.status == "done"
        self._of("pgsluice_tables_total", report.status).inc()
        self._of("pgsluice_table_success", table).set(is_done)
        self._of("pgsluice_table_seconds", table).set(report.seconds)
        self._of("pgsluice_table_locked_seconds", table).set(report.locked_seconds)
        self._of("pgsluice_relayed_bytes_total", table).inc(report.bytes)
        self._of("pgsluice_hash_bytes_total", table).inc(report.hash_bytes)
        if not is_done:
            return
        self._of("pgsluice_table_last_success_timestamp_seconds", table).set(at)
        for outcome in ("inserted", "updated", "unchanged", "deleted"):
            self._of("pgsluice_rows_total", table, outcome).inc(getattr(report, outcome))
        if report.target_count >= 0:
            self._of("pgsluice_table_rows", table).set(report.target_count)

    def _ended(self, report: Report, at: float) -> None:
        self._of("pgsluice_run_seconds").set(report.seconds)
        self._of("pgsluice_run_exit_code").set(report.exit_code)
        self._of("pgsluice_run_finished_timestamp_seconds").set(at)
        if self._file:
            self._library.write_to_textfile(str(self._file), self._registry)


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) >= _PORTS:
        raise UsageError(f"{address!r} is no address", hint="Write HOST:PORT, for example 127.0.0.1:9187.")
    return host.strip("[]"), int(port)
