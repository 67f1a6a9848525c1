"""One exported snapshot of the source, taken behind its locks, that every reader of a run shares."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from psycopg import pq, sql

from pgsluice import blockers, sqltext
from pgsluice.errors import StepError
from pgsluice.facts import Moment, Read
from pgsluice.job import TableRef
from pgsluice.plan import CopyPlan
from pgsluice.session import Session


@dataclass(frozen=True, slots=True)
class Exported:
    """A snapshot by its name, which any session of the same server can join while its exporter lives.

    Attributes:
        id: for SET TRANSACTION SNAPSHOT.
    """

    BEGIN: ClassVar = sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    id: str

    @property
    def join(self) -> sql.Composed:
        """Return the statement that lets a transaction just begun see what this snapshot sees."""
        return sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self.id))

    @contextlib.contextmanager
    def joined(self, session: Session, copy: CopyPlan) -> Iterator[None]:
        """Let `session` see what this snapshot sees while the block reads what is copied, and nothing in its place."""
        session.execute(self.BEGIN)
        try:
            session.execute(self.join)
            with reading(session, copy.read, copy.search_path, copy.time_zone):
                yield
        finally:
            session.rollback()


@contextlib.contextmanager
def reading(session: Session, read: Read, search_path: str, time_zone: str) -> Iterator[None]:
    """Let the block read a relation by name, in the open transaction, and see that it stays what it is. One round trip.

    Our lock on a table does not keep its schema from being renamed, and what has its name then from being a view, or
    another table. Where the server can't be told to look behind no view, it is asked before the block as well.

    Args:
        session: on either side.
        read: the relation.
        search_path: that names in the user's SQL are looked up under.
        time_zone: that the user's SQL means.

    Raises:
        StepError: the name means another relation.
    """
    session.as_role(search_path, time_zone, read.not_behind)
    if not (read.not_behind and session.can_restrict_relations):
        see_that_it_is(session, read)
    yield
    see_that_it_is(session, read)


def see_that_it_is(session: Session, read: Read) -> None:
    """See that a name still means the relation that it did. One round trip; none for a query.

    Raises:
        StepError: it does not.
    """
    if read.ref is None:
        return
    name = session.text(sqltext.table(read.ref))
    if not session.row(sqltext.load("still"), {"name": name, "oid": read.oid})[0]:
        raise StepError(
            f"{read.ref} of the {session.side} is another relation now than when the run looked at it: it, or its"
            " schema, was renamed or replaced",
            hint="Nothing was changed; run again.",
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of the source, alive while its session is.

    Attributes:
        session: holds it.
        exported: what others join it by.
        moment: where the source stands.
    """

    session: Session
    exported: Exported
    moment: Moment

    def lives(self) -> bool:
        """Ask whether others can still join it: not where its transaction has failed. One round trip."""
        in_transaction = self.session.pgconn.transaction_status == pq.TransactionStatus.INTRANS
        return in_transaction and self.session.answers()


@contextlib.contextmanager
def snapshot(session: Session, tables: Sequence[TableRef]) -> Iterator[Snapshot]:
    """Lock the tables, then take and export one snapshot: in that order.

    The other way round, a source that does ``BEGIN; TRUNCATE; INSERT; COMMIT`` is read as empty: TRUNCATE is not
    MVCC-safe (https://www.postgresql.org/docs/current/mvcc-caveats.html). LOCK TABLE itself takes no snapshot.

    Args:
        session: on the source, idle.
        tables: what can be locked (tables and views).
    """
    session.execute(Exported.BEGIN)
    try:
        if tables:
            listed = sql.SQL(", ").join(sqltext.table(ref) for ref in tables)
            with blockers.named(session, session.lock_seconds):
                session.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(listed))
        exported, *moment = session.row(sqltext.load("moment"), {"zone": session.time_zone})
        yield Snapshot(session, Exported(str(exported)), Moment(*moment))
    finally:
        session.rollback()
