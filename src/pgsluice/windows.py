"""Pure: which rows of a source a run reads, as a condition."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from pgsluice.cursors import Cursor


@dataclass(frozen=True, slots=True)
class Window:
    """The rows that one run reads on: those that meet a condition up to `whole`, but for those of `end` and `until`.

    Transactions are told by `Moment.xmin`, 64-bit ids.

    Attributes:
        cursor: the column that `start` `end` and `within` speak of.
        start: a row at or above this value of the cursor, or without one, is read.
        end: a row at or above this value of the cursor is not read, or None.
        back: moves `start` back by so much, or None.
        since: a row that this transaction or a later one wrote is read.
        within: of the rows of `since`, only those this far behind `start`, or None for all.
        apart: (oid, transaction): the rows of a leaf that were written by a later or that one are read.
        whole: oids of leaves that are read whole.
        until: a row that this transaction or a later one wrote waits for the next run.
    """

    cursor: Cursor | None = None
    start: str | None = None
    end: str | None = None
    back: str | None = None
    since: int | None = None
    within: str | None = None
    apart: tuple[tuple[int, int], ...] = ()
    whole: tuple[int, ...] = ()
    until: int | None = None

    @property
    def is_part(self) -> bool:
        """Tell whether it leaves out more than what waits for the next run."""
        return self.start is not None or self.since is not None

    @property
    def condition(self) -> sql.Composed:
        """Return it as it stands behind WHERE, in brackets."""
        wanted = self._wanted()
        parts = [sql.SQL("({})").format(sql.SQL("\n OR ").join(wanted))] if wanted else []
        if self.cursor is not None and self.end is not None:  # a row without a cursor is
            parts.append(sql.SQL("({}) IS NOT TRUE").format(self.cursor.at_least(self.end)))
        if self.until is not None:
            parts.append(sql.SQL("NOT ({})").format(_since(self.until)))
        return sql.SQL("({})").format(sql.SQL("\n AND ").join(parts))

    def _wanted(self) -> list[sql.Composed]:
        wanted = []
        if self.cursor is not None and self.start is not None:
            wanted.append(self.cursor.at_least(self.start, self.back))
            wanted.append(sql.SQL("{} IS NULL").format(sql.Identifier(self.cursor.name)))
            if self.cursor.misfit is not None:  # it sorts anywhere, and is to be found
                wanted.append(self.cursor.misfit)
        if self.since is not None:
            wanted.append(self._late(self.since))
        for oid, transaction in self.apart:
            wanted.append(sql.SQL("{} AND {}").format(_in((oid,)), _since(transaction)))
        if self.whole:
            wanted.append(_in(self.whole))
        return wanted

    def _late(self, since: int) -> sql.Composed:
        if self.cursor is None or self.start is None or self.within is None:
            return _since(since)
        return sql.SQL("{} AND {}").format(self.cursor.at_least(self.start, self.within), _since(since))


def _since(transaction: int) -> sql.Composed:
    """Return the condition for rows that a transaction or a later one wrote.

    All that a snapshot could not see was written by its xmin or later: ids of subtransactions are larger than their
    parent's. ``age`` counts from the same id on both sides, so the comparison is that of the ids themselves as long
    as fewer than 2^31 lie between. Frozen rows keep their old id: past 2^31 its age is negative, hence the 0.
    https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
    """
    return sql.SQL(
        "(pg_catalog.age(xmin) OPERATOR(pg_catalog.>=) 0"
        " AND pg_catalog.age(xmin) OPERATOR(pg_catalog.<=) pg_catalog.age({}::pg_catalog.xid8::pg_catalog.xid))"
    ).format(sql.Literal(str(transaction)))


def _in(leaves: tuple[int, ...]) -> sql.Composed:
    listed = "{" + ",".join(map(str, leaves)) + "}"
    return sql.SQL("tableoid OPERATOR(pg_catalog.=) ANY ({}::pg_catalog.oid[])").format(sql.Literal(listed))
