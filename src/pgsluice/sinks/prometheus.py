"""Numbers of runs for Prometheus: over HTTP while they go on, or as a file for the textfile collector."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pgsluice.errors import UsageError, refuse_unwritable, writing
from pgsluice.events import Event, RunFinished
from pgsluice.sinks.numbers import METRICS, changes

_PORTS = 1 << 16


class Prometheus:
    """A sink that counts."""

    def __init__(self, file: Path | None = None, address: str | None = None) -> None:
        """Open what is told; an address is bound before any work begins.

        `lost` says why the file was not written when the run ended, or nothing.

        Args:
            file: written when a run ends, in one piece, or None.
            address: ``HOST:PORT`` to listen at, or None.

        Raises:
            UsageError: the extra is not installed, the file can't be written, or nobody can listen there.
        """
        try:
            self._library: Any = importlib.import_module("prometheus_client")
        except ImportError:
            raise UsageError("the extra for metrics is not installed", hint="pip install 'pgsluice[metrics]'") from None
        self._registry = self._library.CollectorRegistry()
        kinds = {"counter": self._library.Counter, "gauge": self._library.Gauge}
        self._metrics = {
            each.name: (kinds[each.kind](each.name, each.meaning, each.labels, registry=self._registry), each.kind)
            for each in METRICS
        }
        self._file = file
        self.lost = ""
        if file:
            refuse_unwritable(file, beside=True)
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
        for change in changes(event):
            metric, kind = self._metrics[change.name]
            metric = metric.labels(*change.labels) if change.labels else metric
            metric.inc(change.value) if kind == "counter" else metric.set(change.value)
        if isinstance(event, RunFinished) and self._file:
            try:
                with writing(self._file):
                    self._library.write_to_textfile(str(self._file), self._registry)
            except UsageError as error:
                self.lost = error.message


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) >= _PORTS:
        raise UsageError(f"{address!r} is no address", hint="Write HOST:PORT, for example 127.0.0.1:9187.")
    return host.strip("[]"), int(port)
