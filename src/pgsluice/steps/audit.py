"""Counts on both sides, compared before the commit."""

from __future__ import annotations

from psycopg import sql

from pgsluice import sqltext
from pgsluice.errors import VerifyError
from pgsluice.job import Mode
from pgsluice.model import StagingTable
from pgsluice.plan import SyncPlan
from pgsluice.session import Session


def rows(session: Session, relation: sql.SQL | sql.Composed, where: str | None = None) -> int:
    """Return the number of rows of a relation under a condition. One scan."""
    query = sql.SQL("SELECT pg_catalog.count(*) FROM {} WHERE {}").format(relation, sqltext.condition(where))
    return int(session.row(query)[0])


def sent(source_count: int, staging_count: int) -> None:
    """See that as many rows were staged as the source has in scope.

    Raises:
        VerifyError: they differ.
    """
    if source_count != staging_count:
        raise VerifyError(
            f"the source has {source_count} rows in scope and {staging_count} were staged",
            hint="Nothing was merged. A condition on volatile functions can do this; otherwise run again.",
            step="verify",
        )


def arrived(session: Session, plan: SyncPlan, staging: StagingTable, staged_rows: int) -> int:
    """See, inside the merge transaction, that every staged row is in the target, and return the target's rows.

    A full run without a condition leaves nothing else there, so one count does; otherwise staged keys are looked up
    (one join).

    Raises:
        VerifyError: they are not: a trigger or rule of the target held rows back, or its key is not unique.
    """
    target = sqltext.relation(plan.job.target, plan.facts.target_table.relkind if plan.facts.target_table else "r")
    if plan.creation or (plan.job.mode is Mode.FULL and not plan.job.where):
        total = found = rows(session, target)
    else:
        match = sqltext.key_match(plan.key.columns, plan.key.operators, "t", "s")
        query = sql.SQL(
            "SELECT pg_catalog.count(*), pg_catalog.count(s.{}) FROM {} AS t LEFT JOIN {} AS s ON {}"
        ).format(sql.Identifier(plan.key.columns[0]), target, sqltext.table(staging.ref), match)
        total, found = session.row(query)
    if found != staged_rows:
        raise VerifyError(
            f"{staged_rows} rows were staged and {found} of them are in the target after the merge",
            hint="All was rolled back. A trigger of the target holds rows back, or its key is not unique.",
            step="verify",
        )
    return int(total)
