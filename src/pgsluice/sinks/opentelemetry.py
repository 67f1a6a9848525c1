"""Runs, tables and steps as spans, and the numbers of a run, for whatever OpenTelemetry speaks to."""

from __future__ import annotations

import importlib
import os
from typing import Any

from pgsluice.errors import UsageError
from pgsluice.events import (
    Event,
    Retrying,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    TableFinished,
    Warned,
)
from pgsluice.model import TableReport
from pgsluice.sinks.numbers import METRICS, changes
from pgsluice.version import __version__

_FLUSH_MILLISECONDS = 5_000


class OpenTelemetry:
    """A sink that makes a span of each run, table and step, within the caller's span or that of ``TRACEPARENT``.

    Spans are tied by what they belong to, for tables are at work side by side.
    """

    def __init__(self, traces: Any = None, meters: Any = None) -> None:  # noqa: ANN401 - the library's own
        """Open what is told; where it goes is said by ``OTEL_EXPORTER_OTLP_ENDPOINT`` and its like.

        Args:
            traces: a TracerProvider, or None for one of its own.
            meters: a MeterProvider, or None for one of its own.

        Raises:
            UsageError: the extra is not installed.
        """
        try:
            self._trace: Any = importlib.import_module("opentelemetry.trace")
            self._traces = traces or _tracer_provider()
            self._meters = meters or _meter_provider()
        except ImportError:
            raise UsageError(
                "the extra for OpenTelemetry is not installed", hint="pip install 'pgsluice[otel]'"
            ) from None
        self._tracer = self._traces.get_tracer("pgsluice", __version__)
        meter = self._meters.get_meter("pgsluice", __version__)
        makers = {"counter": meter.create_counter, "gauge": meter.create_gauge}
        self._numbers = {each.name: makers[each.kind](each.name, description=each.meaning) for each in METRICS}
        self._labels = {each.name: each.labels for each in METRICS}
        self._open: dict[tuple[str, ...], Any] = {}

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        for change in changes(event):
            labels = dict(zip(self._labels[change.name], change.labels, strict=True))
            number = self._numbers[change.name]
            (number.add if hasattr(number, "add") else number.set)(change.value, labels)
        match event:
            case RunStarted():
                self._begin(event, (), "pgsluice run", {"pgsluice.tables": len(event.tables)})
            case StepStarted():
                if (event.table,) not in self._open:
                    self._begin(event, (event.table,), event.table, {"pgsluice.table": event.table})
                self._begin(event, (event.table, event.step), event.step, {"pgsluice.table": event.table})
            case StepFinished():
                self._end(event, (event.table, event.step))
            case Retrying() | Warned():
                self._note(event)
            case TableFinished():
                self._finished(event, event.report)
            case RunFinished():
                self._told((), "pgsluice.exit_code", event.report.exit_code)
                self._told((), "pgsluice.source_server", event.report.source_server)
                self._told((), "pgsluice.target_server", event.report.target_server)
                if event.report.failed:
                    self._failed((), f"{len(event.report.failed)} of {len(event.report.tables)} tables failed")
                self._end(event, ())
                self.close()

    def close(self) -> None:
        """End what was not ended, and send all of it: for so long at most."""
        for place in sorted(self._open, key=len, reverse=True):
            self._open.pop(place).end()
        for provider in (self._traces, self._meters):
            provider.force_flush(_FLUSH_MILLISECONDS)

    def _begin(self, event: Event, place: tuple[str, ...], name: str, told: dict[str, Any]) -> None:
        """Begin the span of a place: the run is (), a table (target,), a step (target, step)."""
        if place in self._open:  # another try of it
            self._end(event, place)
        parent = self._open.get(place[:-1]) if place else None
        self._open[place] = self._tracer.start_span(
            name,
            context=self._trace.set_span_in_context(parent) if parent else self._around(),
            start_time=_nanoseconds(event),
            attributes={"db.system.name": "postgresql", "pgsluice.run_id": event.run_id, **told},
        )

    def _around(self) -> Any:  # noqa: ANN401 - the library's own
        """Return the context of whoever started the run: a span of this thread, else what the environment names."""
        context: Any = importlib.import_module("opentelemetry.context").get_current()
        if self._trace.get_current_span(context).get_span_context().is_valid:
            return context
        carrier = {
            name: os.environ[name.upper()] for name in ("traceparent", "tracestate") if name.upper() in os.environ
        }
        propagation: Any = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
        return propagation.TraceContextTextMapPropagator().extract(carrier, context)

    def _end(self, event: Event, place: tuple[str, ...]) -> None:
        """End the span of a place, and those of what belongs to it and was not ended."""
        for inner in [each for each in self._open if each[: len(place)] == place]:
            self._open.pop(inner).end(_nanoseconds(event))

    def _note(self, event: Retrying | Warned) -> None:
        span = self._open.get((event.table,) if event.table else ()) or self._open.get(())
        if span is None:
            return
        if isinstance(event, Warned):
            span.add_event("warning", {"message": event.message}, _nanoseconds(event))
        else:
            told = {
                "step": event.step,
                "attempt": event.attempt,
                "reason": event.reason,
                "sqlstate": event.sqlstate or "",
            }
            span.add_event("retry", told, _nanoseconds(event))

    def _finished(self, event: Event, report: TableReport) -> None:
        place = (report.target,)
        for name in ("source", "mode", "status", "strategy", "inserted", "updated", "unchanged", "deleted", "bytes"):
            self._told(place, f"pgsluice.{name}", getattr(report, name))
        if report.error:
            self._failed(place, report.error)
            self._told(place, "db.response.status_code", report.sqlstate or "")
            self._told(place, "pgsluice.step", report.step or "")
        self._end(event, place)

    def _told(self, place: tuple[str, ...], name: str, value: object) -> None:
        if span := self._open.get(place):
            span.set_attribute(name, value)

    def _failed(self, place: tuple[str, ...], reason: str) -> None:
        if span := self._open.get(place):
            span.set_status(self._trace.StatusCode.ERROR, reason)


def _nanoseconds(event: Event) -> int:
    return int(event.at * 1_000_000_000)


def _tracer_provider() -> Any:  # noqa: ANN401 - the library's own
    sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
    export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
    otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    provider = sdk.TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    return provider


def _meter_provider() -> Any:  # noqa: ANN401 - the library's own
    sdk: Any = importlib.import_module("opentelemetry.sdk.metrics")
    export: Any = importlib.import_module("opentelemetry.sdk.metrics.export")
    otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    reader = export.PeriodicExportingMetricReader(otlp.OTLPMetricExporter())
    return sdk.MeterProvider([reader], resource=_resource(), shutdown_on_exit=False)


def _resource() -> Any:  # noqa: ANN401 - the library's own
    resources: Any = importlib.import_module("opentelemetry.sdk.resources")
    found = resources.Resource.create({"service.version": __version__})
    named = found.attributes.get("service.name", "")
    is_named = named and not str(named).startswith("unknown_service")
    return found if is_named else found.merge(resources.Resource({"service.name": "pgsluice"}))
