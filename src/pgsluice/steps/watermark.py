"""How far a job has come: a cursor's highest value, and what the staged rows say of the next watermark."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from pgsluice import sqltext
from pgsluice.cursors import Cursor, fit
from pgsluice.errors import CursorError, GateError
from pgsluice.facts import NOT_BEHIND, Column, Moment, TableInfo
from pgsluice.job import QuerySource
from pgsluice.model import Reached, StagingTable
from pgsluice.plan import SyncPlan
from pgsluice.policies import NullCursors
from pgsluice.session import Session

_SAMPLE_ROWS = 1000


def cursor_of(
    session: Session, table: TableInfo, field: str, named: str | None, query: QuerySource | None = None
) -> Cursor:
    """Return the cursor of a table, its kind found from the catalog or as named.

    Args:
        session: on the server that has the table.
        table: as that server's catalog describes it.
        field: the column.
        named: its kind, or None.
        query: what `table` describes, where it is no table.

    Raises:
        UsageError: no such column or kind.
        CursorError: the two do not fit; shows a value where it may.
    """
    try:
        return fit(table, field, named)
    except CursorError as error:
        if not session.shows_row_data:
            raise
        relation = sqltext.relation(query or table.ref, table.relkind)
        sample = _sample(session, relation, field, NOT_BEHIND.get(table.relkind, ""))
        shown = f" (one value is {sample!r})" if sample is not None else ""
        raise CursorError(f"{error.message}{shown}", hint=error.hint) from None


def _sample(session: Session, relation: sql.SQL | sql.Composed, field: str, not_behind: str) -> str | None:
    """Return a value of a column as text, from the first rows that come."""
    query = sql.SQL("SELECT v::text FROM (SELECT {} AS v FROM {} LIMIT {}) AS sample WHERE v IS NOT NULL LIMIT 1")
    with session.transaction(read_only=True):
        session.as_role(session.search_path, session.time_zone, not_behind)
        found = session.rows(query.format(sql.Identifier(field), relation, sql.Literal(_SAMPLE_ROWS)))
    return str(found[0][0]) if found else None


def check_value(session: Session, cursor: Cursor, value: str) -> str:
    """Return a value given by a user as the server writes it.

    Raises:
        CursorError: it is not of the cursor's kind.
    """
    literal = cursor.literal(value)
    misfit = cursor.misfit_of(literal) or sql.SQL("FALSE")
    try:
        text, is_misfit = session.row(sql.SQL("SELECT {}::text, {}").format(literal, misfit))
    except psycopg.DataError:
        is_misfit = True
    if is_misfit:
        raise CursorError(
            f"{value!r} is no value of {cursor.name}, which is {cursor.column_type} read as {cursor.kind.name}"
        )
    return str(text)


def check_distance(session: Session, cursor: Cursor, distance: str) -> None:
    """See that a span given by a user is one, and not below zero.

    Raises:
        CursorError: it is not.
    """
    kind = cursor.kind.distance
    hint = {"interval": "Write an interval: '2 hours', 7d.", "numeric": "Write a number: 1000."}.get(
        kind, "There is no arithmetic on it: scan, or trust."
    )
    try:
        query = sql.SQL("SELECT {}::{type} >= '0'::{type}").format(sql.Literal(distance), type=sqltext.verbatim(kind))
        fits = bool(kind) and bool(session.row(query)[0])
    except psycopg.DataError:
        fits = False
    if not fits:
        raise CursorError(f"{distance!r} is no span on {cursor.name}, which is {cursor.column_type}", hint=hint)


def highest(session: Session, table: TableInfo, cursor: Cursor) -> str | None:
    """Return the highest value as text, or None where there is none. Four round trips; one index look, or one scan.

    Args:
        session: on the server that has the table, outside of a transaction.
        table: as that server's catalog describes it; no table that became a view meanwhile is looked behind.
        cursor: of the table.

    Raises:
        CursorError: a value is not of the cursor's kind; shows it where it may. One scan more.
    """
    with session.looking_at_tables(NOT_BEHIND.get(table.relkind, "")):
        return _highest(session, sqltext.relation(table.ref, table.relkind), cursor)


def _highest(session: Session, relation: sql.SQL | sql.Composed, cursor: Cursor) -> str | None:
    if cursor.misfit is not None:
        name = sql.Identifier(cursor.name)
        query = sql.SQL("SELECT {}::text FROM {} WHERE {} LIMIT 1").format(name, relation, cursor.misfit)
        for (value,) in session.rows(query):
            raise CursorError(_not_of_kind(session, cursor, value), hint="Mend these values, or name another type.")
    # qualified: ORDER BY would take the bare name for the text of the output
    top = sql.SQL("SELECT t.{field}::text FROM {table} AS t WHERE t.{field} IS NOT NULL ORDER BY {order} DESC LIMIT 1")
    found = session.rows(top.format(field=sql.Identifier(cursor.name), table=relation, order=cursor.column_of("t")))
    return None if not found else str(found[0][0])


def _not_of_kind(session: Session, cursor: Cursor, value: str) -> str:
    shown = repr(value) if session.shows_row_data else "a value that is none (--show-row-data shows it)"
    return f"column {cursor.name} is read as {cursor.kind.name} and holds {shown}"


# --- the next watermark ----------------------------------------------------------------------------------------------


def settle_sql(plan: SyncPlan, cursor: Cursor, staging: StagingTable) -> sql.Composed:
    """Return the query that looks at the staged cursors once: NULL, in the future, late, highest, next, held."""
    value = cursor.as_staged(_staged_column(plan, cursor))
    progress, hold = plan.facts.progress, _hold(plan)
    stored = progress.state.watermark if progress.state else None
    before = cursor.literal(stored) if stored is not None else sql.SQL("NULL::{}").format(_type(cursor))
    beyond = _beyond(cursor, progress.moment, value)
    capped: sql.SQL | sql.Composed = sql.SQL("top.value")
    if hold:  # LEAST would make the bound of no rows at all the next watermark
        capped = sql.SQL("CASE WHEN top.value OPERATOR(pg_catalog.>) {bound} THEN {bound} ELSE top.value END").format(
            bound=cursor.literal(hold)
        )
    afresh = stored is not None and plan.reading.is_complete  # a position that was void does not bind the next one
    following = sql.SQL("COALESCE({}, {})" if afresh else "GREATEST({}, {})").format(capped, cursor.collated(before))
    held: sql.SQL | sql.Composed = sql.SQL("FALSE")
    if hold:
        held = sql.SQL("({} OPERATOR(pg_catalog.<=) {}) IS TRUE").format(following, cursor.literal(hold))
    return sql.SQL(
        "SELECT top.nulls, top.future, top.late, ({next})::text, {held}\n"
        "FROM (SELECT pg_catalog.count(*) FILTER (WHERE {value} IS NULL) AS nulls,"
        " pg_catalog.count(*) FILTER (WHERE {beyond}) AS future,"
        " pg_catalog.count(*) FILTER (WHERE {value} OPERATOR(pg_catalog.<) {before}) AS late,"
        " {highest} AS value FROM {staging}) AS top"
    ).format(
        next=following,
        held=held,
        value=value,
        beyond=beyond,
        before=before,
        highest=cursor.highest(value, sql.SQL("NOT {}").format(beyond)),
        staging=sqltext.table(staging.ref),
    )


def _type(cursor: Cursor) -> sql.SQL:
    return sqltext.verbatim(cursor.value_type)


def _staged_column(plan: SyncPlan, cursor: Cursor) -> Column:
    return next(column for column in plan.columns if column.name == cursor.name)


def _hold(plan: SyncPlan) -> str | None:
    """Return the bound that the watermark is held to, or None."""
    horizon = plan.facts.progress.horizon
    return horizon.bound if plan.reading.is_held and horizon else None


def _beyond(cursor: Cursor, moment: Moment, value: sql.Composed) -> sql.Composed:
    """Return the condition for values that can't be a watermark: in the future, NaN, infinity."""
    if cursor.type == "numeric":
        return sql.SQL("({} OPERATOR(pg_catalog.>=) 'Infinity'::numeric)").format(value)
    if not cursor.kind.is_time:
        return sql.SQL("FALSE").format()
    latest = {"timestamp with time zone": moment.clock, "timestamp without time zone": moment.local}.get(
        cursor.type, moment.today if cursor.kind.name == "date" else moment.today.replace("-", "")
    )
    return sql.SQL("({} OPERATOR(pg_catalog.>) {})").format(value, cursor.literal(latest))


def settle(session: Session, plan: SyncPlan, staging: StagingTable) -> Reached:
    """Say how far the job comes with the staged rows. One scan of them.

    A watermark never goes back: no rows, or only older ones, leave it where it is. Where everything was read it begins
    anew, from the rows that are there.

    Args:
        session: in the merge transaction, behind the gate.
        plan: of the job.
        staging: holds the rows.

    Raises:
        GateError: cursors that are NULL and refused, or not of their kind.
    """
    state = plan.facts.progress.state
    stored = Reached(state.watermark, state.held) if state else Reached()
    cursor = plan.reading.cursor
    if cursor is None:
        return stored
    if cursor.misfit is not None:
        query = sql.SQL("SELECT {}::text FROM {} WHERE {} LIMIT 1").format(
            sql.Identifier(cursor.name), sqltext.table(staging.ref), cursor.misfit
        )
        for (value,) in session.rows(query):
            raise GateError(
                f"{_not_of_kind(session, cursor, value)}; nothing was merged",
                hint="Mend these values, or name another type with --cursor-type.",
                step="gate",
            )
    nulls, future, late, following, held = session.row(settle_sql(plan, cursor, staging))
    if nulls and plan.options.null_cursors is NullCursors.REFUSE:
        raise GateError(
            f"{nulls} rows have no {cursor.name}; nothing was merged",
            hint="Fill the column, or let such rows be copied in each run with --null-cursors copy.",
            step="gate",
        )
    frozen = not plan.reading.moves or (plan.reading.is_held and _hold(plan) is None)
    if frozen:
        following, held = stored.watermark, stored.held
    return Reached(following, held, nulls, future, 0 if plan.reading.is_complete else late)


def notes(plan: SyncPlan, reached: Reached) -> Iterator[str]:
    """Say what the staged cursors show that a person should know."""
    if (cursor := plan.reading.cursor) is None:
        return
    if reached.nulls:
        yield f"rows without {cursor.name}: {reached.nulls}, copied again in each run"
    if reached.future:
        yield (
            f"rows whose {cursor.name} is no watermark yet, in the future or infinite: {reached.future}, copied again"
            " in each run until it is"
        )
    if plan.reading.is_held and plan.reading.moves and _hold(plan) is None:
        horizon = plan.facts.progress.horizon
        yield f"the watermark stays where it was: {horizon.reason if horizon else 'the horizon is not known'}"
