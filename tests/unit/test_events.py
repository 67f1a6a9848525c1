"""Sinks listen; nothing they do can fail a run."""

from __future__ import annotations

import io
import json
import logging
import threading

import pytest
from rich.console import Console

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
from pgsluice.sinks.progress import LiveProgress, PlainProgress
from pgsluice.sinks.recorder import Recorder

STARTED = RunStarted(run_id="r1", tables=("s.t",))
RELAY = StepStarted(run_id="r1", table="s.t", step="relay", rows_expected=1000)
DONE = TableReport("r1", "s.t", "raw.t", "full", "done", steps={"relay": 0.12345})


class Watched(io.StringIO):
    """A stream that tells when a word has been written."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self._word = word
        self.seen = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._word in self.getvalue():
            self.seen.set()
        return written


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


# --- for people ------------------------------------------------------------------------------------------------------


def test_plain_progress_tells_the_table_at_work_when_the_clock_ticks() -> None:
    stream = Watched("s.t: relay, 1,500 rows, 2.0 KiB")
    with PlainProgress(stream, every=0.01) as sink:
        sink(STARTED)
        sink(RELAY)
        sink(RelayProgress(run_id="r1", table="s.t", bytes=2048, rows=1500))
        assert stream.seen.wait(30), stream.getvalue()


def test_plain_progress_tells_a_warning_at_once() -> None:
    stream = io.StringIO()
    sink = PlainProgress(stream, every=3600)
    sink(Warned(run_id="r1", message="a dead run's table was dropped"))
    sink(Warned(run_id="r1", message="it was slow", table="s.t"))
    assert stream.getvalue() == "warning: a dead run's table was dropped\nwarning: s.t: it was slow\n"


def live(*events: Event) -> str:
    stream = io.StringIO()
    with LiveProgress(Console(file=stream, force_terminal=True, width=200, color_system=None)) as sink:
        for event in events:
            sink(event)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["s.[bold]t[/bold]", "s.[red]t", "s.[/]", "s.{task}", "s.:tada:", "판매.[주문]"])
def test_live_progress_shows_names_and_warnings_literally(name: str) -> None:
    started = RunStarted(run_id="r1", tables=(name,))
    step = StepStarted(run_id="r1", table=name, step="relay", rows_expected=1000)
    assert name in live(started, step, RelayProgress(run_id="r1", table=name, bytes=10, rows=5))
    warning = live(started, Warned(run_id="r1", message=f"odd {name}", table=name))
    assert f"warning: {name}: odd {name}" in warning


def test_live_progress_leaves_what_became_of_each_table() -> None:
    done = TableReport("r1", "s.t", "s.t", "full", "done", staging_count=1000, bytes=2048)
    failed = TableReport("r1", "s.u", "s.u", "full", "failed")
    finished = [TableFinished(run_id="r1", report=report) for report in (done, failed)]
    drawn = live(RunStarted(run_id="r1", tables=("s.t", "s.u")), RELAY, *finished)
    last = drawn.rsplit("\x1b[2K", 1)[-1].splitlines()  # what follows the last line wiped out
    assert "s.t" in last[0]
    assert "done, 1,000 rows, 2.0 KiB" in last[0]
    assert "s.u" in last[1]
    assert "failed" in last[1]
