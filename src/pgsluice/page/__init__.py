"""What runs did, as one page of HTML that needs nothing from elsewhere: no network, no file, no script to be read."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup
from psycopg import sql

from pgsluice import visible
from pgsluice.errors import UsageError
from pgsluice.records import UNREADABLE
from pgsluice.session import Session
from pgsluice.steps import state
from pgsluice.steps.state import CONTROL_SCHEMA, RunRow, TableRow
from pgsluice.units import size, span

#: More bars than that can't be told apart on a phone.
_MOST_BARS = 40
_MOST_RUNS = 120
_SLOWEST = 10
#: Of 100, what can still be seen.
_LEAST_WIDTH = 0.4
#: The steps in their order, which jsonb does not keep, each with what kind of work it is.
_KINDS = {
    "resume": "other",
    "hash": "other",
    "staging": "other",
    "relay": "copying",
    "sweep": "copying",
    "keys": "changing",
    "merge": "changing",
    "verify": "changing",
    "watermark": "changing",
    "state": "changing",
    "commit": "changing",
    "cleanup": "other",
}


@dataclass(frozen=True, slots=True)
class History:
    """What is shown.

    Attributes:
        place: where the target is, without secrets.
        at: when the target was asked, with offset, as text.
        run: the run that is looked at closely, with its reports, or None where there was none.
        runs: newest first, without reports.
        tables: what became of each last.
    """

    place: str
    at: str
    run: RunRow | None
    runs: tuple[RunRow, ...]
    tables: tuple[TableRow, ...]

    @property
    def failures(self) -> tuple[dict[str, Any], ...]:
        """Return the reports of what failed: in the run, and elsewhere where no later run has done it."""
        here = [report for report in self.run.tables if report["status"] == "failed"] if self.run else []
        known = {(report["source"], report["target"]) for report in (self.run.tables if self.run else ())}
        since = [
            each.report for each in self.tables if each.status != "done" and (each.source, each.target) not in known
        ]
        return (*here, *since)

    @property
    def unreadable(self) -> tuple[tuple[str, str], ...]:
        """Return the tables whose reports are passed over, and why."""
        reports = [*(self.run.tables if self.run else ()), *(each.report for each in self.tables)]
        found = {(report["run_id"], report["target"]): report for report in reports if UNREADABLE in report}
        return tuple((f"{target}, in run {run}", found[run, target][UNREADABLE]) for run, target in found)

    @property
    def age_of(self) -> dict[tuple[str, str], float | None]:
        """Return for how many seconds each table was not done, by source and target."""
        return {(each.source, each.target): each.age for each in self.tables}

    @property
    def slowest(self) -> tuple[dict[str, Any], ...]:
        """Return the reports of the run's tables that took longest."""
        reports = self.run.tables if self.run else ()
        return tuple(sorted(reports, key=lambda report: -report["seconds"])[:_SLOWEST])

    @property
    def compared(self) -> dict[str, int]:
        """Return how many tables of the run were compared before their commit, by how."""
        done = [report for report in (self.run.tables if self.run else ()) if report["status"] == "done"]
        words = {"count": "counted on both sides", "hash": "hashed on both sides", "": "not compared"}
        return Counter(words.get(report["verified"], report["verified"]) for report in done)


def look_up(session: Session, place: str, seconds: float, run_id: str | None = None) -> History:
    """Return what the control schema knows, at one moment. Ten round trips, and one scan of the history.

    Args:
        session: on the target.
        place: of it, without secrets.
        seconds: since runs began that are told of.
        run_id: the run that is looked at closely; the last one where None.

    Raises:
        UsageError: there is no such run.
    """
    at = session.row(sql.SQL("SELECT clock_timestamp()::timestamptz(0)::text"))[0]
    with session.transaction(read_only=True):
        session.execute(sql.SQL("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        found = state.runs(session, CONTROL_SCHEMA, run_id=run_id or "last", limit=1)
        if run_id and not found:
            raise UsageError(
                f"there is no run {run_id}", hint="`pgsluice status --last 50` lists the runs of this target."
            )
        return History(
            place=place,
            at=at,
            run=found[0] if found else None,
            runs=state.runs(session, CONTROL_SCHEMA, seconds=seconds, reports=False),
            tables=state.last_tables(session, CONTROL_SCHEMA),
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """A step of a table, on a line from 0 to 100.

    Attributes:
        step: its name.
        kind: "copying", "changing" or "other".
        start: where it begins.
        width: of it.
    """

    step: str
    kind: str
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Line:
    """A table on the way through its run.

    Attributes:
        report: of it.
        segments: its steps.
        told: the same in words.
    """

    report: dict[str, Any]
    segments: tuple[Segment, ...]
    told: str


def timeline(run: RunRow) -> tuple[Line, ...]:
    """Return when which table of a run was at which step: as they began, of many those that took longest."""
    longest = sorted(run.tables, key=lambda report: -report["seconds"])[:_MOST_BARS]
    begun = min((_begun(report) for report in run.tables), default=0.0)
    whole = max((report["ended_at"] - begun for report in run.tables), default=0) or 1
    lines = (Line(report, tuple(_segments(report, begun, whole)), _steps(report)) for report in longest)
    return tuple(sorted(lines, key=lambda line: _begun(line.report)))


def _begun(report: dict[str, Any]) -> float:
    return float(report["ended_at"] - report["seconds"])


def _segments(report: dict[str, Any], begun: float, whole: float) -> Iterator[Segment]:
    """Return the steps one after the other, as they mostly are; those that overlapped share their time."""
    steps = report["steps"]
    scale = 100 / whole * min(1.0, report["seconds"] / (sum(steps.values()) or 1))
    at = (_begun(report) - begun) / whole * 100
    for step, taken in sorted(steps.items(), key=_order):
        start = min(at, 100 - _LEAST_WIDTH)
        width = min(max(_LEAST_WIDTH, taken * scale), 100 - start)
        yield Segment(step, _KINDS.get(step, "other"), round(start, 2), round(width, 2))
        at += taken * scale


def _order(step: tuple[str, float]) -> int:
    names = list(_KINDS)
    return names.index(step[0]) if step[0] in names else len(names)


def _steps(report: dict[str, Any]) -> str:
    """Return the steps that took most of a table's time, in words."""
    longest = sorted(report["steps"].items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{step} {_seconds(taken)}" for step, taken in longest) or "no step was begun"


def bars(runs: Sequence[RunRow], what: str) -> tuple[tuple[RunRow, float], ...]:
    """Return runs from the oldest on, each with how high its bar is, of 100: the last ones of many.

    Args:
        runs: newest first.
        what: "rows" or "bytes".
    """
    shown = runs[:_MOST_RUNS][::-1]
    most = max((getattr(run, what) for run in shown), default=0) or 1
    return tuple((run, round(getattr(run, what) / most * 100, 2)) for run in shown)


def render(history: History, *, live: bool = False) -> str:
    """Return the page.

    Args:
        history: what it shows.
        live: it asks the server that it came from again, every few seconds.
    """
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src {_source_of(style)}; script-src {_source_of(script)}; img-src data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    return _template().render(
        history=history,
        run=history.run,
        lines=timeline(history.run) if history.run else (),
        charts=[(name, unit, bars(history.runs, name)) for name, unit in (("rows", _count), ("bytes", size))],
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy,
        live=live,
    )


def _source_of(text: str) -> str:
    """Return how a Content-Security-Policy allows this text and none else, however a table is called."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@functools.cache
def _asset(name: str) -> str:
    return files("pgsluice.page").joinpath(name).read_text("utf-8")


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.filters |= {
        "size": size,
        "span": span,
        "seconds": _seconds,
        "count": _count,
        "lines": _lines,
        "shell": visible.shell,
    }
    return environment.from_string(_asset("page.html"))


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever the template holds
    """Return what the template puts out; text that is no HTML yet can't reorder what stands around it."""
    return visible.one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(value: str) -> Markup:
    """Return a text of several lines as HTML."""
    return Markup("\n").join(map(visible.one_line, value.split("\n")))  # which escapes them


def _seconds(value: float) -> str:
    """Return a short span with its tenths, or in thousandths, and a longer one as people say it."""
    if value >= 60:  # noqa: PLR2004 - a minute
        return span(value)
    return f"{value:.1f} s" if value >= 0.1 else f"{value * 1000:.0f} ms"  # noqa: PLR2004 - less would be 0.0


def _count(value: float) -> str:
    return f"{value:,.0f}"
