"""What a person sees of a run while it goes on, from the events of runs and by a clock that stands still."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import pytest
from rich.cells import cell_len
from rich.console import Console

from pgsluice.events import (
    Event,
    RelayProgress,
    Retrying,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    TableFinished,
    Warned,
)
from pgsluice.model import Report, TableReport
from pgsluice.sinks.progress import LiveProgress, PlainProgress

HOSTILE = [
    "s.[bold]t[/bold]",
    "s.[/]",
    "s.:tada:",
    "s.{task}",
    "판매.[주문]",
    's."a\x1b[2Jb"',
    's."a\r\nb"',
    's."\u202egnp.exe"',
    's."\x00\x07"',
    f"s.{'long' * 100}",
    "",
]


class Clock:
    """A clock that somebody else moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Written:
    """Plain progress, its clock, and what it has written."""

    def __init__(self, verbosity: int = 0) -> None:
        self.clock, self._stream = Clock(), io.StringIO()
        self.sink = PlainProgress(self._stream, verbosity=verbosity, clock=self.clock)

    def tell(self, *events: Event) -> list[str]:
        before = self._stream.tell()
        for event in events:
            self.sink(event)
        return self._stream.getvalue()[before:].splitlines()

    def look(self) -> list[str]:
        before = self._stream.tell()
        self.sink.look()
        return self._stream.getvalue()[before:].splitlines()


class Drawn:
    """Live progress on a terminal of a size, and what is on it."""

    def __init__(self, width: int = 120, height: int = 24, verbosity: int = 0) -> None:
        self.clock = Clock()
        self.stream = io.StringIO()
        self._console = Console(
            file=self.stream, force_terminal=True, width=width, height=height, color_system=None, legacy_windows=False
        )
        self.sink = LiveProgress(self._console, verbosity, self.clock)

    def tell(self, *events: Event) -> str:
        before = self.stream.tell()
        for event in events:
            self.sink(event)
        return self.stream.getvalue()[before:]

    @property
    def picture(self) -> list[str]:
        lines = self._console.render_lines(self.sink, pad=False)
        return ["".join(segment.text for segment in line).rstrip() for line in lines]


def started(*tables: str) -> RunStarted:
    return RunStarted(run_id="r1", tables=tables)


def step(table: str, name: str, expected: int = -1) -> StepStarted:
    return StepStarted(run_id="r1", table=table, step=name, rows_expected=expected)


def ended(table: str, name: str, seconds: float = 0.5) -> StepFinished:
    return StepFinished(run_id="r1", table=table, step=name, seconds=seconds)


def relayed(table: str, rows: int) -> RelayProgress:
    return RelayProgress(run_id="r1", table=table, bytes=rows * 2, rows=rows)


def again(table: str | None, attempt: int, seconds: float) -> Retrying:
    return Retrying(
        run_id="r1", table=table, step="relay", attempt=attempt, seconds=seconds, reason="it broke", sqlstate="08006"
    )


def done(table: str, rows: int = 0) -> TableFinished:
    report = TableReport("r1", table, table, "full", "done", staging_count=rows, bytes=rows * 2, seconds=1.25)
    return TableFinished(run_id="r1", report=report)


def failed(table: str, reason: str = "it broke") -> TableFinished:
    report = TableReport("r1", table, table, "full", "failed", step="merge", error=reason, sqlstate="23505")
    return TableFinished(run_id="r1", report=report)


def skipped(table: str) -> TableFinished:
    return TableFinished(run_id="r1", report=TableReport("r1", table, table, "full", "skipped"))


def recorded(tables: int, at_once: int) -> Iterator[Event]:
    """Return the events of a run of so many tables, some of them at work side by side; every seventh fails."""
    names = [f"s.table_{number}" for number in range(tables)]
    yield started(*names)
    for number, name in enumerate(names):
        yield step(name, "staging")
        yield ended(name, "staging")
        yield step(name, "relay", 1000)
        yield relayed(name, 500)
        if number >= at_once - 1:
            first = names[number - at_once + 1]
            yield failed(first) if number % 7 == 0 else done(first, 1000)


# --- written ---------------------------------------------------------------------------------------------------------


def test_a_look_tells_of_the_run_and_of_each_table_at_work() -> None:
    written = Written()
    written.tell(started("s.a", "s.b", "s.c"), step("s.a", "relay", 10_000), step("s.b", "staging"))
    written.clock.now += 10
    written.tell(relayed("s.a", 2500))
    assert written.look() == [
        "0 of 3 tables done, 2 at work, 1 waiting, 2,500 rows, 4.9 KiB, 250 rows/s, 10s",
        "  s.a: relay, 25%, 2,500 rows, 4.9 KiB, 250 rows/s, 10s, ~30s left",
        "  s.b: staging, 10s",
    ]


def test_the_rate_is_that_of_the_recent_seconds() -> None:
    written = Written()
    written.tell(started("s.a"), step("s.a", "relay", 100_000))
    told = []
    for rows in (1000, 2000, 52_000, 52_000, 52_000):
        written.clock.now += 10
        written.tell(relayed("s.a", rows))
        told.append(written.look()[1])
    assert ["100 rows/s" in line for line in told] == [True, True, False, False, False]
    assert "5,000 rows/s, 30s, ~10s left" in told[2]
    assert told[4] == "  s.a: relay, 52%, 52,000 rows, 101.6 KiB, 50s"  # nothing moves: no rate, and no guess


def test_rows_beyond_the_estimate_and_rows_of_no_estimate_end_the_guess_and_not_the_line() -> None:
    written = Written()
    written.tell(started("s.a", "s.b"), step("s.a", "relay", 1000), step("s.b", "relay"))
    written.clock.now += 10
    written.tell(relayed("s.a", 1500), relayed("s.b", 1500))
    assert written.look()[1:] == [f"  {name}: relay, 1,500 rows, 2.9 KiB, 150 rows/s, 10s" for name in ("s.a", "s.b")]


def test_a_table_that_waited_for_its_turn_to_be_read_is_not_taken_for_a_slow_one() -> None:
    written = Written()
    written.tell(started("s.a"), step("s.a", "relay", 1000))
    for _ in range(6):
        written.clock.now += 10
        written.look()
    written.clock.now += 2
    written.tell(relayed("s.a", 100))
    assert "50 rows/s" in written.look()[1]


def test_a_look_names_five_tables_and_counts_the_others_those_in_a_step_first() -> None:
    written = Written()
    names = [f"s.t{number}" for number in range(9)]
    written.tell(started(*names))
    for name in names:
        written.tell(step(name, "relay"))
    written.tell(*(ended(name, "relay") for name in names[:6]))
    lines = written.look()
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == ["s.t0", "s.t1", "s.t6", "s.t7", "s.t8"]
    assert lines[1] == "  s.t0: relay done, 0s"
    assert lines[-1] == "  and 4 more at work"


def test_a_table_that_ends_is_one_line_with_what_became_of_it() -> None:
    written = Written()
    assert written.tell(done("s.a", 1500)) == ["s.a: done, 1,500 rows, 2.9 KiB, 1.2 s"]
    assert written.tell(failed("s.b", "duplicate key\nDETAIL: two")) == [
        "s.b: failed at step merge: duplicate key DETAIL: two [SQLSTATE 23505]"
    ]
    assert written.tell(skipped("s.c")) == []


def test_three_hundred_tables_are_a_line_each_and_their_sum() -> None:
    written = Written()
    lines = written.tell(*recorded(300, at_once=4))
    assert len(lines) == 297
    assert sum("failed" in line for line in lines) == 42
    assert written.look()[0].startswith("255 of 300 tables done, 42 failed, 3 at work, 277,500 rows, ")


def test_what_a_failed_table_has_relayed_stays_counted_and_what_never_began_does_not_wait() -> None:
    written = Written()
    written.tell(started("s.a", "s.b"), step("s.a", "relay"), relayed("s.a", 700), failed("s.a"), skipped("s.b"))
    assert written.look() == ["0 of 2 tables done, 1 failed, 1 skipped, 700 rows, 1.4 KiB, 0s"]


def test_a_retry_is_told_at_once_and_stands_in_the_line_of_its_table() -> None:
    written = Written()
    written.tell(started("s.a"), step("s.a", "relay", 1000), relayed("s.a", 600))
    assert written.tell(again("s.a", 2, 30)) == ["s.a: relay failed: it broke [SQLSTATE 08006]; try 2 in 30.0 s"]
    written.clock.now += 10
    assert written.look()[1].startswith("  s.a: try 2 in 20s, 600 rows")
    written.clock.now += 20
    written.tell(step("s.a", "staging"), ended("s.a", "staging"), step("s.a", "relay", 1000), relayed("s.a", 100))
    assert written.look()[1].startswith("  s.a: relay, try 2, 10%, 100 rows")
    written.clock.now += 10
    written.tell(relayed("s.a", 300))
    assert "20 rows/s" in written.look()[1]
    assert written.tell(again(None, 2, 1)) == ["relay failed: it broke [SQLSTATE 08006]; try 2 in 1.0 s"]


def test_keys_that_are_swept_beside_the_rows_do_not_hide_them() -> None:
    written = Written()
    written.tell(started("s.a"), step("s.a", "relay", 1000), step("s.a", "sweep"), relayed("s.a", 600))
    assert written.look()[1].startswith("  s.a: relay, 60%, 600 rows")
    written.tell(ended("s.a", "relay"), relayed("s.a", 20))
    assert written.look()[1].startswith("  s.a: sweep, 600 rows")


def test_a_warning_is_told_at_once() -> None:
    written = Written()
    assert written.tell(Warned(run_id="r1", message="it was slow", table="s.t")) == ["warning: s.t: it was slow"]
    assert written.tell(Warned(run_id="r1", message="two\nlines")) == ["warning: two lines"]


def test_verbosity_tells_of_steps_and_twice_of_all_that_is_known() -> None:
    events = [
        started("s.a"),
        step("s.a", "relay", 1000),
        ended("s.a", "relay", 0.25),
        done("s.a", 10),
        RunFinished(run_id="r1", report=Report("r1", (), 2.0)),
    ]
    assert Written().tell(*events) == ["s.a: done, 10 rows, 20 B, 1.2 s"]
    assert Written(1).tell(*events) == ["s.a: relay took 0.25 s", "s.a: done, 10 rows, 20 B, 1.2 s"]
    begun, first, last, finished, over = Written(2).tell(*events)
    assert begun == "run r1: begins, 1 table"
    assert (first, last) == ("s.a: relay begins, about 1,000 rows", "s.a: relay took 0.25 s")
    assert "lane" in finished
    assert over == "run r1: ended with 0 in 2.00 s"


def test_the_clock_of_a_pipe_ticks_until_the_run_is_over() -> None:
    looked = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            looked.set()
            return super().write(text)

    with PlainProgress(Stream(), every=0.01) as sink:
        assert looked.wait(30)
    assert not sink._ticker.is_alive()


# --- drawn -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [1, 2, 3, 5, 24])
@pytest.mark.parametrize("at_once", [1, 4, 200])
def test_the_picture_never_outgrows_the_terminal_and_the_run_is_last(height: int, at_once: int) -> None:
    drawn = Drawn(height=height)
    for event in recorded(200, at_once):
        drawn.tell(event)
        picture = drawn.picture
        assert len(picture) <= max(1, height - 1)
        assert " tables done" in picture[-1]
    if at_once == 200 and height > 3:
        assert picture[-2] == f"and {200 - 1 - (height - 3)} more at work"


@pytest.mark.parametrize("width", [1, 2, 10, 30, 60, 100, 300])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_and_no_narrowness_breaks_a_line(width: int, name: str) -> None:
    drawn = Drawn(width=width)
    written = drawn.tell(started(name), step(name, "relay", 1000), relayed(name, 500), done(name), failed(name, name))
    drawn.tell(step(name, "relay", 1000), relayed(name, 500))
    assert len(drawn.picture) == 2
    for line in (*drawn.picture, *written.splitlines()):
        assert cell_len(line) <= width
        assert line.isprintable()
    assert len(written.splitlines()) == 2


@pytest.mark.parametrize("name", HOSTILE[:5])
def test_names_and_warnings_mean_nothing_to_the_terminal_but_themselves(name: str) -> None:
    drawn = Drawn(width=200)
    drawn.tell(started(name), step(name, "relay", 1000))
    assert drawn.picture[0].startswith(name)
    warned = drawn.tell(Warned(run_id="r1", message=f"odd {name}", table=name))
    assert warned == f"warning: {name}: odd {name}\n"
    assert drawn.tell(done(name)).startswith(f"{name}: done, ")


def test_what_a_terminal_would_obey_is_shown_as_an_escape() -> None:
    drawn = Drawn(width=200)
    name = 's."a\x1b[2Jb\u202e"'
    drawn.tell(started(name), step(name, "relay"))
    assert drawn.picture[0].startswith('s."a\\u001b[2Jb\\u202e"  relay')


def test_nothing_moves_sideways_while_numbers_grow() -> None:
    drawn = Drawn(width=140)
    drawn.tell(started("s.a", "s.a_longer_name"), step("s.a", "relay", 100_000_000))
    places = set()
    for rows in (10, 9_000, 800_000, 70_000_000):
        drawn.clock.now += 9
        drawn.tell(relayed("s.a", rows))
        line = drawn.picture[0]
        places.add((line.index("%"), line.index(" rows "), line.index(" rows/s"), line.index("left") > 0))
    assert len(places) == 1


def test_only_tables_at_work_are_drawn_and_those_that_end_stand_above() -> None:
    drawn = Drawn()
    drawn.tell(started("s.a", "s.b", "s.c"), step("s.a", "relay"), step("s.b", "merge"))
    assert [line.split()[0] for line in drawn.picture] == ["s.a", "s.b", "0"]
    assert drawn.tell(done("s.a", 10)) == "s.a: done, 10 rows, 20 B, 1.2 s\n"
    assert [line.split()[0] for line in drawn.picture] == ["s.b", "1"]
    assert drawn.picture[-1] == "1 of 3 tables done, 1 at work, 1 waiting, 10 rows, 20 B, 0s"


def test_a_failure_is_a_word_and_a_line_and_a_retry_is_told_in_full() -> None:
    drawn = Drawn(width=50)
    drawn.tell(started("s.a"), step("s.a", "relay"))
    assert "try 2 in 3.0 s" in " ".join(drawn.tell(again("s.a", 2, 3)).split())
    assert "try 2 in 3s" in drawn.picture[0]
    line = drawn.tell(failed("s.a", "a reason that is longer than the terminal is wide"))
    assert line.startswith("s.a: failed at step merge: a reason")
    assert line.endswith("…\n")


def test_the_picture_is_gone_when_the_run_is_over_and_what_ended_stays() -> None:
    drawn = Drawn()
    with drawn.sink:
        for event in recorded(20, 4):
            drawn.sink(event)
    last = drawn.stream.getvalue().rsplit("\x1b[2K", 1)[-1]  # what follows the last line wiped out
    assert "tables done" not in last
    assert "s.table_0: done" in drawn.stream.getvalue()
