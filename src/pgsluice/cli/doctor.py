"""``pgsluice doctor``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence

import click

from pgsluice import control, transport
from pgsluice.cli.completion import remember
from pgsluice.cli.options import selection
from pgsluice.cli.render import Header, say
from pgsluice.diagnosis import Finding, Verdict, diagnose
from pgsluice.endpoint import Endpoint
from pgsluice.errors import PgsluiceError, PlanError
from pgsluice.job import Options, Selection, SyncJob
from pgsluice.plan import SyncPlan
from pgsluice.retry import translated
from pgsluice.run import Run
from pgsluice.steps import catalog, relay, vitals
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.units import several

_FAILED = 6
_SIGNS = {Verdict.OK: "ok     ", Verdict.WARNING: "warning", Verdict.FAILURE: "FAILURE"}
#: Of a table, beside itself: its TOAST, and some indexes.
_LOCKS_A_RELATION = 4


@click.command()
@selection
def doctor(
    source: Endpoint,
    target: Endpoint,
    chosen: Selection | tuple[SyncJob, ...],
    options: Options,
    as_json: bool,
) -> int:
    """Look at both servers and every table, and say what would keep a run from going well.

    Nothing is written. Exit 0 where nothing would, 6 where something would.

    \b
    pgsluice doctor --source service=shop --target service=lake --table 'sales.*'
    """
    header = Header(as_json=as_json)
    findings = list(_findings(source, target, chosen, options, header))
    for finding in findings:
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(finding), ensure_ascii=False))
        else:
            say(_as_text(finding))
    failed = sum(finding.verdict is Verdict.FAILURE for finding in findings)
    warned = sum(finding.verdict is Verdict.WARNING for finding in findings)
    if as_json:
        summary = {"failures": failed, "warnings": warned, "exit_code": _FAILED if failed else 0}
        click.echo(json.dumps({**summary, **header.summary}))
    else:
        click.echo(f"{several(failed, 'failure')}, {several(warned, 'warning')}")
    return _FAILED if failed else 0


def _findings(
    source: Endpoint, target: Endpoint, chosen: Selection | Sequence[SyncJob], options: Options, header: Header
) -> Iterator[Finding]:
    with translated("doctor"), source.open() as here, target.looking().open() as there:
        header.tell(here.described, there.described)
        ours = control.look(there, CONTROL_SCHEMA)
    unfit = (*ours.faults, f"{control.UNFIT}. {ours.hint}") if ours.faults else ()
    yield from (Finding(Verdict.FAILURE, "target", "control schema", said) for said in unfit)
    outcomes = () if unfit else Run(source, target, options).plan(chosen)  # which the same keeps from being made
    remember(source, (job.source for job, _ in outcomes))
    plans = [outcome for _, outcome in outcomes if isinstance(outcome, SyncPlan)]
    leaves = sum(max(1, len(plan.facts.source_table.leaves)) for plan in plans)
    with translated("doctor"), source.open() as here, target.open() as there:
        looked = [vitals.look(session, catalog.server(session)) for session in (here, there)]
        yield from diagnose(looked[0], looked[1], options, leaves * _LOCKS_A_RELATION)
        for session in (here, there):
            doubt = transport.doubt(session.side, session.live)
            yield Finding(
                Verdict.WARNING if doubt else Verdict.OK, session.side, "transport", doubt or "protected, or local"
            )
        obstacle = relay.psql_obstacle(here, options.psql)
    yield Finding(
        Verdict.WARNING if obstacle else Verdict.OK, "here", "psql",
        f"{obstacle}: large tables are read by this process, which takes more of its time" if obstacle else "found",
    )  # fmt: skip
    for job, outcome in outcomes:
        if isinstance(outcome, PgsluiceError):
            reasons = outcome.refusals if isinstance(outcome, PlanError) else (f"{outcome.message} {outcome.hint}",)
            for reason in reasons:
                yield Finding(Verdict.FAILURE, "target", str(job.target), reason.strip())
        else:
            yield Finding(Verdict.OK, "target", str(job.target), f"can be copied from {job.source} ({job.mode})")


def _as_text(finding: Finding) -> str:
    return f"{_SIGNS[finding.verdict]}  {finding.side:<6}  {finding.subject}: {finding.said}"
