"""``pgsluice sync``."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from pgsluice.cli import drawing
from pgsluice.cli.completion import remember
from pgsluice.cli.notify import Notifier
from pgsluice.cli.options import option, patience, selection
from pgsluice.cli.render import run_summary, say, table_line, table_report
from pgsluice.cli.timetable import ended_by, repeated
from pgsluice.endpoint import Endpoint
from pgsluice.errors import PgsluiceError, UsageError
from pgsluice.events import Sink, between
from pgsluice.job import Options, Selection, SyncJob
from pgsluice.model import Report
from pgsluice.run import Run
from pgsluice.sinks.jsonlog import JsonLog
from pgsluice.sinks.opentelemetry import OpenTelemetry
from pgsluice.sinks.prometheus import Prometheus
from pgsluice.units import seconds_of


@click.command()
@selection
@patience
@option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="On stderr: progress for people, or one JSON object an event.",
)
@option(
    "--verbose",
    "-v",
    "verbosity",
    count=True,
    help="Beside progress: each step of a table as it ends; -vv: as it begins too, and how tables were copied.",
)
@option("--quiet", "-q", "quiet", is_flag=True, help="No progress and no warnings of the run on stderr.")
@option("--metrics-file", type=click.Path(path_type=Path), metavar="FILE", help="Numbers of the run, for Prometheus.")
@option("--metrics-addr", metavar="HOST:PORT", help="Answer Prometheus there while the run goes on.")
@option("--otel", is_flag=True, help="Spans and numbers for OpenTelemetry, to where its OTEL_* variables say.")
@option("--notify", metavar="URL|PROGRAM", help="Tell it where a run failed, and where one mends that.")
@option("--deadline", metavar="HH:MM", help="When that comes, roll back what is under way and end; done stays done.")
@option("--every", metavar="SPAN", help="Again and again, this long from beginning to beginning: 15m. SIGTERM ends it.")
def sync(
    source: Endpoint,
    target: Endpoint,
    chosen: Selection | tuple[SyncJob, ...],
    options: Options,
    as_json: bool,
    log_format: str,
    verbosity: int,
    quiet: bool,
    metrics_file: Path | str | None,
    metrics_addr: str | None,
    otel: bool,
    every: str | None,
    notify: str | list[str] | None,
    deadline: str | None,
) -> int:
    """Make tables of the target equal to those of the source.

    \b
    pgsluice sync --source service=shop --target service=lake --table 'sales.*' --to 'raw.{table}'
    """
    if quiet and verbosity:
        raise UsageError("--quiet says nothing, and --verbose more", hint="Leave one of them out.")
    numbers = (
        Prometheus(Path(metrics_file) if metrics_file else None, metrics_addr) if metrics_file or metrics_addr else None
    )
    told: list[Sink] = [numbers] if numbers else []
    tracer = OpenTelemetry() if otel else None
    told += [tracer] if tracer else []
    seconds = seconds_of(every) if every else 0.0
    if seconds and (options.resume or options.full_refresh):
        raise UsageError("--every does the same each time, and --resume and --full-refresh are for once")

    notifier = Notifier(notify, target) if notify else None

    def once() -> int:
        with listening(log_format, quiet=quiet, verbosity=verbosity) as sinks:
            try:
                with ended_by(deadline):
                    report = Run(source, target, options, (*sinks, *told)).sync(chosen)
            except PgsluiceError as error:
                if notifier:
                    notifier.not_begun(error)
                raise
            finally:
                if tracer:
                    tracer.close()
        if notifier:
            notifier.ended(report)
        remember(source, (table.source for table in report.tables))
        remember(target, (table.target for table in report.tables))
        _tell(report, as_json=as_json, whole=verbosity > 0)
        if numbers and numbers.lost:
            print(f"pgsluice: {numbers.lost}", file=sys.stderr)
            return report.exit_code or 1  # the tables are done; that they were counted is lost
        return report.exit_code

    return repeated(seconds, once) if seconds else once()


def _tell(report: Report, *, as_json: bool, whole: bool) -> None:
    if as_json:
        for table in report.tables:
            click.echo(json.dumps(table.to_dict(), ensure_ascii=False))
        summary = report.to_dict()
        click.echo(json.dumps({**summary, "tables": len(report.tables)}, ensure_ascii=False))
    else:
        say(between(report.source_server, report.target_server))
        for table in sorted(report.tables, key=lambda each: each.status == "done"):  # what failed comes first
            is_whole = whole or len(report.tables) == 1 or table.status != "done"
            click.echo(table_report(table) if is_whole else table_line(table))
        click.echo(run_summary(report))


@contextlib.contextmanager
def listening(log_format: str, *, quiet: bool, verbosity: int = 0) -> Iterator[tuple[Sink, ...]]:
    """Return the sinks that suit stderr."""
    if log_format == "json":
        yield (JsonLog(sys.stderr),)
        return
    if quiet:
        yield ()
        return
    from rich.console import Console  # noqa: PLC0415 - who draws nothing need not wait for it

    from pgsluice.sinks.progress import LiveProgress, PlainProgress  # noqa: PLC0415

    console = Console(file=drawing(sys.stderr))
    if sys.stderr.isatty() and not console.is_dumb_terminal:
        with LiveProgress(console, verbosity) as live:
            yield (live,)
    else:
        with PlainProgress(sys.stderr, verbosity=verbosity) as plain:
            yield (plain,)
