"""``pgsluice init``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from pgsluice.cli import FILE_NAME
from pgsluice.cli.completion import remember
from pgsluice.cli.options import TableName, option, utf8
from pgsluice.cli.render import say
from pgsluice.config import Configured, Entry, references
from pgsluice.config.document import remark, scalar
from pgsluice.endpoint import Endpoint, parameters_of
from pgsluice.errors import SECRETS, PgsluiceError, PlanError, UsageError, refuse_unwritable, writing
from pgsluice.facts import TableInfo
from pgsluice.job import Options, TableRef, target_template
from pgsluice.prepare import each_described
from pgsluice.proposals import Proposal, described, propose
from pgsluice.retry import translated
from pgsluice.run import Run
from pgsluice.steps import catalog
from pgsluice.steps.state import CONTROL_SCHEMA
from pgsluice.units import several

_REASONS = 3


@click.command()
@option("--source", required=True, metavar="URI", help="Where rows come from; it is looked at, and nothing is copied.")
@option("--target", metavar="URI", help="Where rows go; it is asked whether that would work, and not written.")
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=TableName(),
    default=("*.*",),
    show_default=True,
    help="Tables or patterns.",
)
@click.option("--to", default="{schema}.{table}", show_default=True, metavar="NAME", help="Names on the target.")
@click.option(
    "--config",
    "-c",
    "config_file",
    type=click.Path(path_type=Path),
    default=FILE_NAME,
    show_default=True,
    metavar="FILE",
    help="The file to write; one that is there is left alone.",
)
def init(source: str, target: str | None, tables: tuple[str, ...], to: str, config_file: Path) -> int:
    """Look at the source, and write a file that says how each of its tables might be copied, and why.

    Where the target is named, all of it is planned first: what can't be done there is left out, with the reason.

    \b
    pgsluice init --source service=shop --target service=lake --to 'raw.{table}'
    """
    if config_file.exists():
        raise UsageError(f"{config_file} is there, and is left alone", hint="Name another file with --config.")
    source, target, to = utf8(source, "source"), utf8(target, "target"), utf8(to, "to")
    tables = tuple(utf8(table, "table") for table in tables)
    target_template(to)
    refuse_unwritable(config_file)
    endpoint = Endpoint(source, read_only=True)
    with translated("init"), endpoint.open() as session:
        named = catalog.find(session, tables, CONTROL_SCHEMA)
        found, odd = each_described(session, named, leaves_out_locked=True)
    readable = [table for table in found if table.schema_usage and "SELECT" in table.privileges]
    proposals = {table.ref: propose(table) for table in readable}
    proposals |= _refused(endpoint, target, to, proposals) if target and proposals else {}
    with writing(config_file), config_file.open("x", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in _lines(source, target, to, readable, proposals))
    remember(endpoint, (table.ref for table in found))
    for reason in odd.values():
        say(f"left out: {reason}")
    refused = [reason for proposal in proposals.values() for reason in proposal.refusals]
    say(*(f"left out: {reason}" for reason in refused))
    undone = sum(bool(proposal.refusals) for proposal in proposals.values())
    left = len(found) - len(readable)
    told = f"; {undone} that can't be done here is left out" if undone == 1 else ""
    told = f"; {undone} that can't be done here are left out" if undone > 1 else told
    told += f"; {left} that the role may not read are left out" if left else ""
    click.echo(f"{config_file} names {several(len(readable) - undone, 'table')}{told}. Next: pgsluice plan")
    return 0


def _refused(
    source: Endpoint, target: str, to: str, proposals: Mapping[TableRef, Proposal]
) -> dict[TableRef, Proposal]:
    """Plan what is proposed, and return what the target can't take, with its reasons; nothing where that is all."""
    entries = tuple(Entry(ref.typed, proposal.settings, 0) for ref, proposal in proposals.items())
    whole = Configured(tuple(entry.pattern for entry in entries), defaults={"to": to}, entries=entries)
    try:
        outcomes = Run(source, Endpoint(target, read_only=False), Options(retries=0)).plan(whole)
    except PgsluiceError as error:
        say(f"the target was not asked: {error.message}")
        return {}
    refused = {job.source: _reasons(outcome) for job, outcome in outcomes if isinstance(outcome, PgsluiceError)}
    if len(refused) == len(outcomes):
        reasons = list(dict.fromkeys(reason for each in refused.values() for reason in each))
        say(f"nothing of it can be done: {' '.join(reasons[:_REASONS])}")
        return {}
    return {ref: replace(proposals[ref], refusals=refused[ref]) for ref in proposals if ref in refused}


def _reasons(error: PgsluiceError) -> tuple[str, ...]:
    return tuple(error.refusals) if isinstance(error, PlanError) else (error.message,)


def _lines(
    source: str,
    target: str | None,
    to: str,
    tables: Sequence[TableInfo],
    proposals: Mapping[TableRef, Proposal],
) -> Iterator[str]:
    yield "# What is copied from where to where: `pgsluice plan` shows what would be done, `pgsluice sync` does it."
    yield "# Every setting: `pgsluice config schema`. Secrets: ${NAME}, ${file:/path} or ${cmd:program argument}."
    yield f"source: {_end('PGSLUICE_SOURCE', source)}"
    yield f"target: {_end('PGSLUICE_TARGET', target)}"
    yield ""
    yield "defaults:"
    yield f"  to: {_value(to)}"
    yield ""
    yield "tables:"
    for table in sorted(tables, key=lambda each: each.ref):
        proposal = proposals[table.ref]
        yield f"  {remark(f'{described(table)}: {proposal.reason}')}"
        for reason in proposal.refusals:
            yield f"  {remark(f'left out: {reason}')}"
        begin = "  # " if proposal.refusals else "  "
        yield f"{begin}{scalar(table.ref.typed)}:" + ("" if proposal.settings else " {}")
        for setting, value in proposal.settings.items():
            yield f"{begin}  {setting}: {_value(value)}"


def _value(text: str) -> str:
    """Return a value that holds no reference: only what a person writes into the file is one."""
    return scalar(references.literal(text))


def _end(variable: str, dsn: str | None) -> str:
    """Return a server as it stands in the file: no password gets there."""
    known = parameters_of(dsn) if dsn else None
    if not dsn or known is None or not known.keys().isdisjoint(SECRETS):
        return f"${{{variable}}}"
    return _value(dsn)
