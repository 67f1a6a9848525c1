"""A run as spans and numbers of OpenTelemetry: in memory, and as a collector gets them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext
from servers import Pair

from pgsluice import Options, sync
from pgsluice.sinks.numbers import METRICS
from pgsluice.sinks.opentelemetry import OpenTelemetry


@pytest.fixture
def shop(pair: Pair) -> Pair:
    for side in (pair.source, pair.target):
        side.execute("CREATE SCHEMA s; CREATE TABLE s.keyless (v int)")
    pair.source.execute(
        """CREATE TABLE s.t (id int PRIMARY KEY, v int); INSERT INTO s.t SELECT i, i FROM generate_series(1, 90) i;
        CREATE TABLE s.u (id int PRIMARY KEY); INSERT INTO s.u VALUES (1)"""
    )
    return pair


def parent_of(span: ReadableSpan, spans: list[ReadableSpan]) -> ReadableSpan | None:
    return next(
        (each for each in spans if span.parent and each.context and each.context.span_id == span.parent.span_id), None
    )


def test_a_run_is_a_tree_of_spans_whatever_is_done_side_by_side(shop: Pair) -> None:
    kept, reader = InMemorySpanExporter(), InMemoryMetricReader()
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(kept))
    sink = OpenTelemetry(traces, MeterProvider([reader]))
    report = sync(shop.source.dsn, shop.target.dsn, "s.*", options=Options(jobs=2), sinks=[sink])
    assert report.exit_code == 3
    spans = list(kept.get_finished_spans())
    (run,) = [span for span in spans if span.parent is None]
    assert (run.name, run.attributes and run.attributes["pgsluice.run_id"]) == ("pgsluice run", report.run_id)
    assert run.status.description == "1 of 3 tables failed"
    tables = {span.name: span for span in spans if parent_of(span, spans) is run}
    assert set(tables) == {"s.t", "s.u"}  # what the plan refuses begins no step
    done = dict(tables["s.t"].attributes or {})
    assert (done["pgsluice.status"], done["pgsluice.inserted"]) == ("done", 90)
    for name, table in tables.items():
        steps = {span.name for span in spans if parent_of(span, spans) is table}
        assert steps >= {"staging", "relay", "merge", "commit"}, name
    assert all(span.end_time and span.start_time and span.end_time >= span.start_time for span in spans)
    found = reader.get_metrics_data()
    assert found is not None
    told = {metric.name: metric.data.data_points for metric in found.resource_metrics[0].scope_metrics[0].metrics}
    assert set(told) <= {metric.name for metric in METRICS}
    inserted = {
        point.attributes["table"]: point.value
        for point in told["pgsluice_rows_total"]
        if isinstance(point, NumberDataPoint) and point.attributes and point.attributes["outcome"] == "inserted"
    }
    assert inserted == {"s.t": 90, "s.u": 1}


CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("current", "named", "joined"),
    [
        (True, "", "current"),
        (False, "00-{}-{}-01", "named"),
        (True, "00-{}-{}-01", "current"),
        (False, "", ""),
        (False, "00-{}", ""),
    ],
)
def test_a_run_joins_the_trace_of_whoever_started_it(
    shop: Pair, monkeypatch: pytest.MonkeyPatch, current: bool, named: str, joined: str
) -> None:
    monkeypatch.setenv("TRACEPARENT", named.format(*CALLER))
    kept = InMemorySpanExporter()
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(kept))
    sink = OpenTelemetry(traces, MeterProvider([InMemoryMetricReader()]))
    around = traces.get_tracer("caller").start_as_current_span("task") if current else contextlib.nullcontext()
    with around:
        assert sync(shop.source.dsn, shop.target.dsn, "s.t", "s.u", sinks=[sink]).exit_code == 0
    spans = {span.name: span for span in kept.get_finished_spans()}
    parent = spans["pgsluice run"].parent
    expected = {
        "current": spans["task"].context if current else None,
        "named": SpanContext(int(CALLER[0], 16), int(CALLER[1], 16), is_remote=True),
        "": None,
    }[joined]
    assert (parent and (parent.trace_id, parent.span_id)) == (expected and (expected.trace_id, expected.span_id))
    assert len({span.context.trace_id for span in spans.values() if span.context}) == 1


def test_what_a_run_never_ended_is_ended_with_it(shop: Pair) -> None:
    kept = InMemorySpanExporter()
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(kept))
    sink = OpenTelemetry(traces, MeterProvider([InMemoryMetricReader()]))
    shop.target.execute("CREATE TABLE s.t (id int PRIMARY KEY, v int CHECK (v < 0))")
    assert sync(shop.source.dsn, shop.target.dsn, "s.t", sinks=[sink]).exit_code == 1
    failed = next(span for span in kept.get_finished_spans() if span.name == "s.t")
    assert failed.status.description is not None
    assert "violates check constraint" in failed.status.description
    assert dict(failed.attributes or {})["db.response.status_code"] == "23514"
    assert "merge" in {span.name for span in kept.get_finished_spans()}


@pytest.fixture
def collector() -> Iterator[tuple[str, dict[str, bytes]]]:
    heard: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard[self.path] = heard.get(self.path, b"") + self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()
        thread.join()


def test_a_collector_gets_spans_and_numbers_of_a_run_that_is_typed(
    shop: Pair, collector: tuple[str, dict[str, bytes]]
) -> None:
    address, heard = collector
    caller = "00-{}-{}-01".format(*CALLER)
    done = shop.pgsluice("sync", "--table", "s.t", "--otel", OTEL_EXPORTER_OTLP_ENDPOINT=address, TRACEPARENT=caller)
    assert done.code == 0, done.err
    assert set(heard) == {"/v1/traces", "/v1/metrics"}
    for word in (b"pgsluice run", b"s.t", b"relay", b"service.name", *map(bytes.fromhex, CALLER)):
        assert word in heard["/v1/traces"]
    assert b"pgsluice_rows_total" in heard["/v1/metrics"]


def test_a_collector_that_is_gone_fails_no_run(shop: Pair) -> None:
    done = shop.pgsluice("sync", "--table", "s.t", "--otel", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert done.code == 0, done.err
    assert shop.target.image("s.t") == shop.source.image("s.t")
