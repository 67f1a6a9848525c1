"""Source and target of a job compared by content: bucket by bucket, and row by row where buckets differ."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from psycopg import sql

from pgsluice import changes, slices, stopping
from pgsluice.errors import StepError
from pgsluice.facts import NOT_BEHIND, Read
from pgsluice.hashing import Digest, Hashing, Part, RowHash, Side
from pgsluice.model import Difference
from pgsluice.plan import SyncPlan
from pgsluice.servers import Servers
from pgsluice.session import Session
from pgsluice.snapshot import Exported, reading
from pgsluice.steps import audit
from pgsluice.windows import Window

_T = TypeVar("_T")
_WORK_MEM_MB = 64


@dataclass(frozen=True, slots=True)
class Buckets:
    """What the hashes of both sides say.

    Attributes:
        hashing: how they were made.
        target_rows: in scope.
        differing: numbers of the buckets that are not the same on both sides.
        mine_differing: rows of the source in these.
        mine_equal: rows of the source in all others.
        theirs: of these, rows and sum of hashes on the target.
        bytes: of hashes that came over the network.
        seconds: wall clock.
    """

    hashing: Hashing
    target_rows: int
    differing: tuple[int, ...]
    mine_differing: Digest
    mine_equal: Digest
    theirs: Mapping[int, tuple[int, int]]
    bytes: int
    seconds: float

    @property
    def source_rows(self) -> int:
        """Return the number of the source's rows in scope."""
        return self.mine_differing.rows + self.mine_equal.rows


@dataclass(frozen=True, slots=True)
class Differing:
    """The rows that differ, named as they come.

    Attributes:
        found: the buckets that they are in.
        mine: rows of these on the source.
        theirs: the same on the target.
        are_since: rows that only the target has may be gone from the source since the run that is asked about.
    """

    found: Buckets
    mine: audit.Rows
    theirs: audit.Rows
    are_since: bool

    def __iter__(self) -> Iterator[Difference]:
        """Name them."""
        names = [image.name for image in self.found.hashing.columns]
        for source, target in audit.paired(iter(self.mine), iter(self.theirs)):
            if source is None and target is not None:
                yield Difference("-", _values(target), is_since=self.are_since)
            elif target is None and source is not None:
                yield Difference("+", _values(source), is_since=source.is_since)
            elif source and target and source.hash != target.hash:
                hashes = zip(names, source.columns.split(","), target.columns.split(","), strict=True)
                columns = tuple(name for name, one, other in hashes if one != other)
                yield Difference("*", _values(source), columns, source.is_since)

    @property
    def unsettled(self) -> frozenset[int]:
        """Return those of the buckets that others have changed on the target meanwhile, once all rows are named."""
        return _changed(self.theirs.buckets, self.found.theirs)


class Comparison:
    """The two sides of a job, whose source is seen in one snapshot."""

    def __init__(self, servers: Servers, plan: SyncPlan, snapshot: Exported) -> None:
        """Keep what is needed; nothing is asked yet.

        Args:
            servers: of the run; the reader and the writer of its own thread are idle.
            plan: of a job with a key, whose target is there.
            snapshot: of the source.
        """
        self._servers = servers
        self._plan = plan
        self._snapshot = snapshot

    def counts(self) -> tuple[int, int]:
        """Return the rows of both sides. One scan of each, both at the same time."""
        return self._both(lambda side, session: audit.rows(session, rows(self._plan, side), sql.SQL("TRUE")))

    def buckets(self) -> Buckets:
        """Compare the hashes of all buckets. One scan of each side, both at the same time."""
        started = time.monotonic()
        hashing = self._known_to_both()
        mine, theirs = self._both(
            lambda side, session: audit.hashes(session, hashing.buckets_sql(side, rows(self._plan, side)))
        )
        numbers = {number for number, _ in mine.found.items() ^ theirs.found.items()}
        differing = tuple(sorted(numbers))
        return Buckets(
            hashing=hashing,
            target_rows=theirs.rows,
            differing=differing,
            mine_differing=_sum(found for number, found in mine.found.items() if number in numbers),
            mine_equal=_sum(found for number, found in mine.found.items() if number not in numbers),
            theirs={number: theirs.found[number] for number in differing if number in theirs.found},
            bytes=mine.bytes + theirs.bytes,
            seconds=time.monotonic() - started,
        )

    def part(self) -> tuple[Part, int]:
        """Return the buckets that differ, as a part that can be copied alone, and the bytes of hashes it took."""
        found = self.buckets()
        part = Part(found.hashing, found.differing, found.mine_differing, found.mine_equal, found.target_rows)
        return part, found.bytes

    def sent(self) -> tuple[Hashing, Digest]:
        """Return what the rows come to that this run copies, and how they are hashed. One scan of the source.

        None, where the buckets have told it.
        """
        plan = self._plan
        if part := plan.part:
            return part.hashing, part.differing + part.equal if plan.deletes else part.differing
        hashing = self._known_to_both()
        with self._asking(Side.SOURCE) as session:
            return hashing, audit.digest(session, hashing.digest_sql(Side.SOURCE, slices.rows(plan.copy)))

    def unsettled(self, found: Buckets) -> frozenset[int]:
        """Return those of the differing buckets that others change on the target meanwhile. One scan."""
        if not found.differing:
            return frozenset()
        within = found.hashing.within(Side.TARGET, found.differing)
        scope = sql.SQL("(SELECT * FROM {} WHERE {}) AS unsettled").format(rows(self._plan, Side.TARGET), within)
        with self._asking(Side.TARGET) as session:
            now = audit.hashes(session, found.hashing.buckets_sql(Side.TARGET, scope))
        return _changed(now.found, found.theirs)

    @contextlib.contextmanager
    def differences(self, found: Buckets, since: Window | None = None) -> Iterator[Differing]:
        """Name the rows that differ, bucket by bucket and in the order of their keys. One scan of each side, sorted.

        Neither side is held in memory: both are streams in the same order.

        Args:
            found: by `buckets`; some differ.
            since: rows that the source may have got after the target had its own.
        """
        with contextlib.ExitStack() as asking, ThreadPoolExecutor(len(Side), "pgsluice comparison") as pool:
            asked = [(asking.enter_context(self._asking(side)), self._rows_sql(found, side, since)) for side in Side]
            begun = [pool.submit(audit.Rows, *each) for each in asked]
            mine, theirs = (each.result() for each in begun)
            yield Differing(found, mine, theirs, are_since=since is not None)

    def _rows_sql(self, found: Buckets, side: Side, since: Window | None) -> sql.Composed:
        hashing, marks = found.hashing, list[sql.Composed]()
        if since and side is Side.SOURCE:
            marks = [sql.SQL("{} AS {}").format(since.condition, sql.Identifier(hashing.mark))]
        return hashing.rows_sql(side, rows(self._plan, side, *marks), found.differing, is_marked=bool(marks))

    # --- how they are asked ------------------------------------------------------------------------------------------

    def _known_to_both(self) -> Hashing:
        """Return how both sides hash: by functions that give the same on both, which is tried on known values.

        Raises:
            StepError: some column can't be compared by any.
        """
        if untold := self._plan.untold:
            raise StepError(
                f"the rows can't be compared by hashes: {'; '.join(untold)}",
                hint="Give both sides the same type, or leave these columns out (--exclude), or use --level count.",
                step="verify",
            )
        hashing = self._plan.hashing
        mine, theirs = (audit.probe(session) for session in (self._servers.reader, self._servers.writer))
        return hashing if mine is not None and mine == theirs else dataclasses.replace(hashing, by=RowHash.MD5)

    @property
    def _target(self) -> Read:
        """Return what is read on the target; the job's condition may lean on views there too."""
        job, table = self._plan.job, self._plan.facts.target_table
        if table is None:
            raise LookupError(f"there is no table {job.target}")
        return Read(job.target, table.oid, "" if job.where else NOT_BEHIND.get(table.relkind, ""))

    @contextlib.contextmanager
    def _asking(self, side: Side) -> Iterator[Session]:
        """Give the session of one side, in a transaction that sees one moment, where the user's SQL has its meaning."""
        copy = self._plan.copy
        if side is Side.SOURCE:
            with self._snapshot.joined(self._servers.reader, copy):
                yield _with_memory(self._servers.reader)
            return
        writer = self._servers.writer
        writer.execute(Exported.BEGIN)
        try:
            # the text of an array of times shows the zone: the same one on both sides
            with reading(writer, self._target, writer.search_path, copy.time_zone):
                yield _with_memory(writer)
        finally:
            writer.rollback()

    def _both(self, ask: Callable[[Side, Session], _T]) -> tuple[_T, _T]:
        """Ask both sides at the same time."""

        def asked(side: Side) -> _T:
            with self._asking(side) as session:
                return ask(side, session)

        self._servers.reader, self._servers.writer  # noqa: B018 - opened by this thread
        with ThreadPoolExecutor(1, "pgsluice comparison") as pool:
            mine = pool.submit(asked, Side.SOURCE)
            try:
                theirs = asked(Side.TARGET)
                return stopping.result(mine), theirs
            except BaseException:
                if not mine.done():
                    self._servers.reader.sever("the other side failed")
                raise


def rows(plan: SyncPlan, side: Side, *more: sql.Composable) -> sql.Composed:
    """Return the rows of one side that a job has in scope, as they stand behind FROM.

    Args:
        plan: of the job.
        side: of it.
        more: columns of the source that are wanted too.
    """
    if side is Side.SOURCE:
        return slices.rows(dataclasses.replace(plan.copy, window=None, buckets=None), *more)
    return changes.rows_in_scope(plan)


def _values(row: audit.HashedRow) -> tuple[str | None, ...]:
    return tuple(json.loads(row.key))


def _sum(buckets: Iterable[tuple[int, int]]) -> Digest:
    counted = list(buckets)
    return Digest(sum(rows_ for rows_, _ in counted), sum(hashes for _, hashes in counted))


def _changed(now: Mapping[int, tuple[int, int]], then: Mapping[int, tuple[int, int]]) -> frozenset[int]:
    return frozenset(number for number, _ in now.items() ^ then.items())


def _with_memory(session: Session) -> Session:
    session.execute(sql.SQL("SET LOCAL work_mem = {}").format(sql.Literal(f"{_WORK_MEM_MB}MB")))
    return session
