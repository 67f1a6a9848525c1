"""Sinks listen; nothing they do can fail a run."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import re
from pathlib import Path

import pytest

from pgsluice import events
from pgsluice.events import (
    Emitter,
    Event,
    RelayProgress,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    TableFinished,
    Warned,
)
from pgsluice.model import Report, TableReport
from pgsluice.sinks.jsonlog import JsonLog
from pgsluice.sinks.recorder import Recorder

STARTED = RunStarted(run_id="r1", tables=("s.t",))
RELAY = StepStarted(run_id="r1", table="s.t", step="relay", rows_expected=1000)
DONE = TableReport("r1", "s.t", "raw.t", "full", "done", steps={"relay": 0.12345})


# --- the emitter -----------------------------------------------------------------------------------------------------


def test_every_sink_gets_every_event_in_order() -> None:
    one, two = Recorder(), Recorder()
    emit = Emitter([one, two])
    emit(STARTED)
    emit(RELAY)
    assert one.events == two.events == [STARTED, RELAY]
    assert one.of(StepStarted) == [RELAY]


def test_a_sink_that_raises_is_logged_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise ValueError("no paper")

    after = Recorder()
    with caplog.at_level(logging.ERROR, logger="pgsluice"):
        Emitter([broken, after])(STARTED)
    assert after.events == [STARTED]
    assert [record.getMessage() for record in caplog.records] == ["a sink failed on RunStarted"]
    assert "no paper" in caplog.text


def test_a_person_can_interrupt_a_sink() -> None:
    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Emitter([interrupted])(STARTED)


# --- JSON Lines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "name", "fields"),
    [
        (RunStarted(run_id="r", at=0.5, tables=("s.t", "판매.주문")), "run_started", {"tables": ["s.t", "판매.주문"]}),
        (StepFinished(run_id="r", at=0.5, table="s.t", step="merge", seconds=0.1), "step_finished", {"seconds": 0.1}),
        (RelayProgress(run_id="r", at=0.5, table="s.t", bytes=9, rows=2), "relay_progress", {"bytes": 9, "rows": 2}),
        (
            Warned(run_id="r", at=0.5, message="one\ntwo \u2028"),
            "warned",
            {"message": "one\ntwo \u2028", "table": None},
        ),
        (TableFinished(run_id="r", at=0.5, report=DONE), "table_finished", {"report": DONE.to_dict()}),
        (RunFinished(run_id="r", at=0.5, report=Report("r", (DONE,), 1.0)), "run_finished", {}),
    ],
)
def test_each_event_is_one_json_object_a_line(event: Event, name: str, fields: dict[str, object]) -> None:
    stream = io.StringIO()
    JsonLog(stream)(event)
    text = stream.getvalue()
    assert (text.count("\n"), text[-1]) == (1, "\n")
    line = json.loads(text)
    assert list(line)[:2] == ["event", "at"]
    assert line["event"] == name
    assert line["at"] == "1970-01-01T00:00:00.500+00:00"
    assert line["run_id"] == "r"
    assert {field: line[field] for field in fields} == fields


def test_the_page_on_logs_names_every_event_and_every_field_and_none_besides() -> None:
    page = (Path(__file__).parents[2] / "docs" / "logs.md").read_text("utf-8")
    told = set(re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? ?\|", page, re.MULTILINE))
    kinds = [each for each in vars(events).values() if isinstance(each, type) and issubclass(each, events.Event)]
    written = set()
    for kind in kinds:
        if kind is not events.Event:
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()
            own = {field.name for field in dataclasses.fields(kind)} - {"run_id", "at"}
            written |= {(name, ""), *((name, field) for field in own)}
    assert told == written
