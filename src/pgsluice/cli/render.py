"""Values as text for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import click

from pgsluice import visible
from pgsluice.events import Connected, Event, between
from pgsluice.job import Mode, Verify
from pgsluice.model import Report, TableReport
from pgsluice.units import several, size

_WORTH_TELLING = 0.1  # seconds


def say(*lines: str) -> None:
    """Print lines for a person: no name and no value in one of them ends it, or commands the terminal."""
    click.echo(_text(lines))


def _text(lines: Iterable[str]) -> str:
    return "\n".join(map(visible.one_line, lines))


class Header:
    """A sink that says which servers a command speaks of, as its first line, before it can fail.

    Attributes:
        as_json: the command prints JSON: its summary names them instead.
        summary: the same, for that.
    """

    def __init__(self, *, as_json: bool) -> None:
        """Print a line, but where the command prints JSON."""
        self.as_json = as_json
        self.summary: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        """Look for the event that names the servers."""
        if isinstance(event, Connected) and not self.summary:
            self.tell(event.source_server, event.target_server)

    def tell(self, source_server: str, target_server: str) -> None:
        """Say which they are; "" for one that was not asked."""
        ends = {"source_server": source_server, "target_server": target_server}
        self.summary = {name: server for name, server in ends.items() if server}
        if not self.as_json:
            say(between(source_server, target_server) if source_server else f"target {target_server}")


def table_report(report: TableReport) -> str:
    """Return one job's report."""
    return _text(_table_lines(report))


def table_line(report: TableReport) -> str:
    """Return the report of one that is done among others: a line, and its notes."""
    created = ", created" if report.created else ""
    changed = f"{report.inserted:,} inserted, {report.updated:,} updated, {report.deleted:,} deleted{created}"
    name = report.target if report.source == report.target else f"{report.source} -> {report.target}"
    line = f"{name}: {report.status}, {changed}, in {report.seconds:.2f} s"
    return _text([line, *(f"  note: {note}" for note in report.notes)])


def _table_lines(report: TableReport) -> Iterator[str]:
    yield f"{report.source} -> {report.target}: {report.status} in {report.seconds:.2f} s ({report.mode})"
    if report.error:
        where = f" at step {report.step}" if report.step else ""
        state = f" [SQLSTATE {report.sqlstate}]" if report.sqlstate else ""
        yield from indented(f"failed{where}: {report.error}{state}")
        if report.hint:
            yield from indented(report.hint)
    else:
        created = "; the table was created" if report.created else ""
        yield (
            f"  inserted {report.inserted:,}, updated {report.updated:,}, unchanged {report.unchanged:,},"
            f" deleted {report.deleted:,}{created}"
        )
        if report.reading and Mode(report.mode).reads_on:
            yield f"  read {report.reading}"
        yield f"  relayed {several(report.staging_count, 'row')}, {size(report.bytes)}"
        yield from _reached(report)
        yield from _verified(report)
        if report.columns:
            verdicts = Counter(report.columns.values())
            yield "  columns " + ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
        yield from _strategy(report)
        yield f"  lane {report.lane}: {report.lane_reason}"
        yield f"  format {report.format}: {report.format_reason}"
        memory = f"; psql {size(report.psql_peak_bytes)}" if report.psql_peak_bytes else ""
        yield f"  staging {report.staging}; memory at most {size(report.peak_bytes)}{memory}"
    if report.slices:
        reused = f", {report.slices_reused} of them were there already" if report.slices_reused else ""
        yield f"  {several(report.slices, 'slice')}{reused}"
    if report.attempts > 1:
        yield f"  took {report.attempts} tries" if not report.error else f"  given up after {report.attempts} tries"
    if report.estimate:
        most = {name: size(bytes_) for name, bytes_ in report.estimate.items()}
        yield f"  estimated: {most['staging']} of staging, {most['target']} more in the target, {most['wal']} of WAL"
    yield from _spent(report)
    for note in report.notes:
        yield f"  note: {note}"


def _verified(report: TableReport) -> Iterator[str]:
    if report.verified:
        total = f"; the target has {report.target_count:,}" if report.target_count >= 0 else ""
        yield f"  counted {report.source_count:,} on the source, {report.staging_count:,} staged{total}"
    if report.verified == Verify.HASH:
        yield "  hashed: every row is on the target what it is on the source"


def _spent(report: TableReport) -> Iterator[str]:
    if report.locked_seconds >= _WORTH_TELLING:
        yield f"  other writers of the target waited {report.locked_seconds:.1f} s at most"
    if report.steps:
        yield "  steps " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in report.steps.items())


def _reached(report: TableReport) -> Iterator[str]:
    """Say how far a job that reads on has come."""
    if report.late_rows:
        found = f", {report.late:,} found" if report.late else ""
        yield f"  watermark {report.watermark or 'none'}; late rows: {report.late_rows}{found}"
    if report.keys_swept >= 0:
        yield f"  swept {several(report.keys_swept, 'key')}"


def run_summary(report: Report) -> str:
    """Return the line that closes a run."""
    done = sum(table.status == "done" for table in report.tables)
    rows = sum(table.staging_count for table in report.tables)
    failed = f", {len(report.failed)} failed" if report.failed else ""
    total = f"{done} of {len(report.tables)} done{failed}"
    return f"run {report.run_id}: {total}, {several(rows, 'row')} relayed, {report.seconds:.1f} s"


def _strategy(report: TableReport) -> Iterator[str]:
    if report.strategy and not report.created:
        yield f"  strategy {report.strategy}: {report.strategy_reason}"
    if report.hash_bytes:
        rows = f"about {report.expected_rows:,}" if report.expected_rows >= 0 else "not known"
        yield (
            f"  hashed {size(report.hash_bytes)} (expected {size(report.expected_hash_bytes)}), copied"
            f" {several(report.staging_count, 'row')} (expected {rows})"
        )


def indented(text: str) -> Iterator[str]:
    """Yield the lines of an error, or of its hint, each further in."""
    yield from (f"  {line}" for line in text.split("\n"))
