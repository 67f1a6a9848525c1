"""Counts and hashes of both sides: compared before the commit, and by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from pgsluice import changes, sqltext
from pgsluice.errors import VerifyError
from pgsluice.hashing import Digest, Hashing, Side
from pgsluice.job import Mode
from pgsluice.model import MergeResult, StagingTable
from pgsluice.plan import SyncPlan
from pgsluice.policies import DeletePolicy
from pgsluice.session import Session

#: Up to this size of the target a run that reads on counts its rows.
COUNTED_BYTES = 1 << 30


def rows(session: Session, relation: sql.SQL | sql.Composed, condition: sql.SQL | sql.Composed) -> int:
    """Return the number of rows of a relation under a condition. One scan."""
    query = sql.SQL("SELECT pg_catalog.count(*) FROM {} WHERE {}").format(relation, condition)
    return int(session.row(query)[0])


def image(
    session: Session,
    names: tuple[str, ...],
    relation: sql.SQL | sql.Composed,
    condition: sql.SQL | sql.Composed | None = None,
) -> tuple[int, int]:
    """Return the number of rows and a sum over their hashes, in any order. One scan.

    Each row is hashed as one text, so that a value moved to another row or column changes the sum. The hash function
    gives the same on all versions; texts of one value can differ where types, encodings or settings do, and then the
    images differ as well: equal images are equal rows, not the other way round.
    """
    query = sql.SQL(
        "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(pg_catalog.hashtextextended("
        '(ROW({})::text) COLLATE "C", 0)), 0)::numeric FROM {} WHERE {}'
    ).format(sqltext.names(names), relation, condition or sql.SQL("TRUE"))
    rows_, hashed = session.row(query)
    return int(rows_), int(hashed)


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


def arrived(
    session: Session, plan: SyncPlan, staging: StagingTable, merged: MergeResult, triggers: Sequence[str] = ()
) -> int:
    """See, inside the merge transaction, that every staged row is in the target, and return the target's rows.

    A full run without a condition leaves nothing else there, so one count does; otherwise staged keys are looked up
    (one join). Mode append leans on the INSERT's own count. A run that reads on shall not cost a scan of a large
    target, whose rows are then not counted.

    Args:
        session: on the target.
        plan: of the job.
        staging: its rows, merged.
        merged: what the merge did.
        triggers: of the target, to name.

    Returns:
        Rows of the target, or -1 where they were not counted.

    Raises:
        VerifyError: they are not: a trigger of the target took rows away again, or its key is not unique.
    """
    table = plan.facts.target_table
    target = sqltext.relation(plan.job.target, table.relkind if table else "r")
    everything = sql.SQL("TRUE")
    if plan.creation or (
        plan.job.deletion.policy is DeletePolicy.SWEEP
        and plan.reading.is_complete
        and not plan.job.where
        and not plan.scope
        and not plan.part
    ):
        total = found = rows(session, target, everything)
    else:
        total = rows(session, target, everything) if _is_worth_counting(plan) else -1
        found = merged.inserted if plan.job.mode is Mode.APPEND else _found(session, plan, staging, target)
    if found != merged.staged:
        raise VerifyError(
            f"{merged.staged} rows were staged and {found} of them are in the target after the merge",
            hint=f"All was rolled back. {_named(triggers)} changes what arrives, or its key is not unique.",
            step="verify",
        )
    return total


def _named(triggers: Sequence[str]) -> str:
    names = ", ".join(triggers)
    return f"A trigger of the target ({names})" if names else "A trigger of the target"


def _is_worth_counting(plan: SyncPlan) -> bool:
    table = plan.facts.target_table
    return plan.reading.is_complete or table is None or table.bytes <= COUNTED_BYTES


def _found(session: Session, plan: SyncPlan, staging: StagingTable, target: sql.SQL | sql.Composed) -> int:
    """Return how many pairs of a staged row and a row of the target have the same key."""
    match = sqltext.key_match(plan.key, "t", "s")
    query = sql.SQL("SELECT pg_catalog.count(*) FROM {} AS s JOIN {} AS t ON {}")
    return int(session.row(query.format(sqltext.table(staging.ref), target, match))[0])


def filled(session: Session, staging: StagingTable, staged: int) -> None:
    """See that a staging table that is to become the target holds what was staged. One count.

    Raises:
        VerifyError: it does not.
    """
    with session.playing_role(session.search_path):  # functions of its indexes are looked into by the planner
        found = rows(session, sqltext.table(staging.ref), sql.SQL("TRUE"))
    if found != staged:
        raise VerifyError(
            f"{staged} rows were staged and {found} of them are in the new table",
            hint="All was rolled back. Run again.",
            step="verify",
        )


def same(  # noqa: PLR0913, PLR0917 - both sides, and what to say of them
    session: Session,
    plan: SyncPlan,
    staging: StagingTable,
    hashing: Hashing,
    expected: Digest,
    triggers: Sequence[str] = (),
) -> None:
    """See, inside the merge transaction, that the target's rows are those of the source, value by value. One scan.

    Args:
        session: on the target.
        plan: of the job.
        staging: its rows, merged.
        hashing: how the source's rows were hashed.
        expected: what they came to.
        triggers: of the target, to name.

    Raises:
        VerifyError: they are not.
    """
    query = hashing.digest_sql(Side.TARGET, changes.landed(plan, staging))
    copy = plan.copy
    # the text of an array of times shows the zone: the same one on both sides
    with session.playing_role(session.search_path, copy.time_zone):
        found = digest(session, query)
    if found != expected:
        what = (
            f"the source has {expected.rows} rows and the target {found.rows}"
            if found.rows != expected.rows
            else f"of the {found.rows} rows some are not on the target what they are on the source"
        )
        raise VerifyError(
            f"after the merge, {what}, by their hashes",
            hint=f"All was rolled back. {_named(triggers)} changes rows, or others wrote it meanwhile;"
            " `pgsluice verify --level rows` names the rows that differ.",
            step="verify",
        )


# --- hashes ----------------------------------------------------------------------------------------------------------

_FETCHED_ROWS = 5000


@dataclass(frozen=True, slots=True)
class Hashes:
    """The buckets of one side.

    Attributes:
        found: by the number of each: its rows, and the sum of their hashes.
        bytes: that came over the network.
    """

    found: dict[int, tuple[int, int]]
    bytes: int

    @property
    def rows(self) -> int:
        """Return the rows of all."""
        return sum(rows_ for rows_, _ in self.found.values())


@dataclass(frozen=True, slots=True)
class HashedRow:
    """A row of one side.

    Attributes:
        place: bucket, and the key's text in bytes: the order that both sides have.
        key: its values as texts in a JSON array.
        hash: of the row.
        columns: a hash of each column, with commas.
        is_since: it was written since the run that is asked about.
    """

    place: tuple[int, bytes]
    key: str
    hash: int
    columns: str
    is_since: bool = False


def hashes(session: Session, query: sql.Composed) -> Hashes:
    """Run a query for (bucket, rows, sum of their hashes as text). One scan."""
    found = session.rows(query)
    # a row of the answer: its length, the number of its values, and of each its length and text
    sent_ = sum(19 + len(str(number)) + len(str(rows_)) + len(sum_) for number, rows_, sum_ in found)
    return Hashes({number: (rows_, int(sum_)) for number, rows_, sum_ in found}, sent_)


def digest(session: Session, query: sql.Composed) -> Digest:
    """Run a query for (rows, sum of their hashes as text). One scan."""
    rows_, sum_ = session.row(query)
    return Digest(rows_, int(sum_))


def probe(session: Session) -> tuple[int, ...] | None:
    """Return hashes of values that are known, or None where the server lacks a function. One round trip.

    What two servers answer alike here, they hash alike: builds differ by the order of bytes in a word.
    """
    try:
        return tuple(session.row(sqltext.load("hash_probe")))
    except (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedObject):
        return None


class Rows:
    """Rows of one side with their hashes, in the order of their places; some thousand at a time are held here.

    Attributes:
        buckets: of those handed out, as in `Hashes.found`.
    """

    _CURSOR = sql.Identifier("pgsluice_rows")
    _FETCH = sql.SQL("FETCH FORWARD {} FROM {}").format(sql.Literal(_FETCHED_ROWS), _CURSOR)

    def __init__(self, session: Session, query: sql.Composed) -> None:
        """Run the query, in the open transaction, as far as its first rows. One scan and a sort."""
        self.buckets: dict[int, tuple[int, int]] = {}
        self._session = session
        session.execute(sql.SQL("DECLARE {} NO SCROLL CURSOR FOR {}").format(self._CURSOR, query))
        self._found = session.rows(self._FETCH)

    def __iter__(self) -> Iterator[HashedRow]:
        """Hand them out."""
        while self._found:
            for bucket, place, key, hash_, columns, mark in self._found:
                rows_, sum_ = self.buckets.get(bucket, (0, 0))
                self.buckets[bucket] = rows_ + 1, sum_ + hash_
                yield HashedRow((bucket, place), key, hash_, columns, mark)
            self._found = self._session.rows(self._FETCH)


def paired(
    mine: Iterator[HashedRow], theirs: Iterator[HashedRow]
) -> Iterator[tuple[HashedRow | None, HashedRow | None]]:
    """Pair the rows of two sides by their place, in which both are ordered; what only one has stands alone."""
    one, other = next(mine, None), next(theirs, None)
    while one or other:
        if other is None or (one and one.place < other.place):
            yield one, None
            one = next(mine, None)
        elif one is None or other.place < one.place:
            yield None, other
            other = next(theirs, None)
        else:
            yield one, other
            one, other = next(mine, None), next(theirs, None)
