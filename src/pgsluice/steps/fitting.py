"""Sees on the source that what a shape makes of columns is possible, before anything is written."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

import psycopg
from psycopg import sql

from pgsluice import fidelity, sqltext
from pgsluice.errors import TemporaryError, UserSqlError
from pgsluice.facts import Column
from pgsluice.retry import step_error
from pgsluice.session import Session

#: Stands for the moment of the snapshot while there is none.
A_MOMENT = "2000-01-01 00:00:00+00"

_MOVING = re.compile(r"\b(?:now|today|tomorrow|yesterday)\b", re.IGNORECASE)
_TEXTS, _TIMES, _NUMBERS = frozenset("SV"), "D", "N"  # typcategory


def check(session: Session, relation: sql.Composable, column: Column) -> str | None:
    """See that the source can give a shaped column; return a constant as the server writes it, else None.

    Four round trips, none for a column that is only renamed.

    Args:
        session: on the source, idle.
        relation: what stands behind FROM.
        column: of the shape.

    Raises:
        UserSqlError: it can't, or the constant is another one in each run, or its type would cut or round it.
    """
    origin = column.origin
    if origin is None or not origin.how:
        return None
    if origin.how in {"cast", "hash"}:
        probe = sql.SQL("SELECT {} FROM {}").format(sqltext.selection([column.name], [origin]), relation)
        what = f"Column {origin.column} can't be cast to {column.type}" if origin.how == "cast" else _mask(column)
        with _judging(what, session):
            session.describe(session.text(probe))
        return None
    what = _mask(column) if origin.column else f"The constant {column.name}"
    if origin.how == "constant" and origin.column is None and fidelity.lacks_equality(column):
        raise UserSqlError(f"{what} is {column.type}, which has no equality to tell rows by: choose another type")
    with _judging(f"{what} is not valid", session):
        written, category = session.row(
            sql.SQL(
                "SELECT {text}, (SELECT t.typcategory::pg_catalog.text FROM pg_catalog.pg_type AS t"
                " WHERE t.oid OPERATOR(pg_catalog.=) pg_catalog.pg_typeof(v)::pg_catalog.oid)"
                " FROM (SELECT {value}::{type} AS v) AS given"
            ).format(
                text=sqltext.text_of(sql.Identifier("v"), is_own_type=column.may_have_casts),
                value=sql.Literal(origin.value),
                type=sqltext.verbatim(column.type),
            )
        )
    if written is None or origin.value is None or origin.how == "moment":
        return None
    if category == _TIMES and _MOVING.search(origin.value):
        raise UserSqlError(
            f"{what}, {origin.value}, is another one in each run: write a fixed value, or @snapshot in a constant"
            " column for the moment of the run"
        )
    if not _is_kept(origin.value, written, category):
        raise UserSqlError(f"{what}, {origin.value}, would be {written} as {column.type}: choose a type that holds it")
    return str(written)


def _mask(column: Column) -> str:
    return f"The mask of column {column.origin.column if column.origin else column.name}"


def _is_kept(value: str, written: str, category: str) -> bool:
    """Tell whether a type neither cut nor rounded a value: two sources could become one."""
    if category in _TEXTS:
        return written.rstrip(" ") == value.rstrip(" ")
    if category == _NUMBERS:
        with contextlib.suppress(InvalidOperation):
            one, other = Decimal(value), Decimal(written)
            return one == other or (one.is_nan() and other.is_nan())
    return True


@contextlib.contextmanager
def _judging(what: str, session: Session) -> Iterator[None]:
    """Do the block as the role would, and take what the server refuses for the user's fault, unless it may pass."""
    try:
        with session.transaction(read_only=True):
            session.as_role(session.search_path, session.time_zone)
            yield
    except psycopg.Error as error:
        if isinstance(step_error(error, "plan", None), TemporaryError):
            raise
        reason = error.diag.message_primary or error
        raise UserSqlError(f"{what}: {reason}", step="plan", sqlstate=error.sqlstate) from None
