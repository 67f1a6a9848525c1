"""Writers that commit in any order while syncs run back to back, and what became of both sides.

Each transaction leaves the sum of `amount` as it was. So wherever it is not zero, somebody has seen or copied a part
of a transaction: a target that equals one snapshot of its source always balances.
"""

from __future__ import annotations

import enum
import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import psycopg
from servers import Database

from pgsluice import Options, Report, StagingKind, sync

ROWS = 5_000
THREADS = 4
TABLE = "s.t"
WRITER = "writer"

Connection = psycopg.Connection[tuple[Any, ...]]

#: What two writers do to each other at times. The transaction is rolled back, and its writer goes on.
_COLLISIONS = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.UniqueViolation,
)


class Style(enum.Enum):
    """What writers do."""

    ANYTHING = "changes, some of which leave the stamp as it was or set one of their own"
    STAMPED = "changes that always move the stamp"
    INSERTS = "inserts alone"


class Writers:
    """Threads that write while the block runs. An error that is none of theirs to make comes out at its end.

    Where `may_be_killed`, a session that is lost is none, and its writer goes on with another.
    """

    def __init__(self, source: Database, style: Style, seed: int, *, may_be_killed: bool = False) -> None:
        self.commits = self.rollbacks = self.killed = 0
        self._source, self._style, self._may_be_killed = source, style, may_be_killed
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(seed + number,)) for number in range(THREADS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every transaction, by a commit or a rollback; twice is fine."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        while self._errors:
            raise self._errors.pop()

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not self._stopping.is_set():
                try:
                    self._write(chance)
                except psycopg.OperationalError:
                    if not self._may_be_killed:
                        raise
                    self.killed += 1
                    self._stopping.wait(0.2)
        except BaseException as error:  # noqa: BLE001 - it is raised where the threads are joined
            self._errors.append(error)

    def _write(self, chance: random.Random) -> None:
        options = "-c lock_timeout=300 -c deadlock_timeout=50"
        with psycopg.connect(self._source.dsn, options=options, application_name=WRITER) as connection:
            writer = _Writer(connection, chance, self._style, self._stopping.wait)
            while not self._stopping.is_set():
                committed = writer.transaction()
                with self._lock:
                    self.commits += committed
                    self.rollbacks += not committed


class _Writer:
    """One session, and what it does next."""

    def __init__(
        self, connection: Connection, chance: random.Random, style: Style, wait: Callable[[float], object]
    ) -> None:
        self._connection, self._chance, self._style, self._wait = connection, chance, style, wait
        self._balance = 0
        self._deleted: list[int] = []
        actions = {
            self._insert: 6,
            self._update: 8,
            self._delete: 3,
            self._bring_back: 2,
            self._rekey: 1,
            self._lock: 1,
        }
        self._actions = {self._insert: 1} if style is Style.INSERTS else actions

    def transaction(self) -> bool:
        """Write something, hold it for a while, and commit it; return whether that is how it ended."""
        self._balance = 0
        self._wait(self._chance.uniform(0, 0.01))
        try:
            for _ in range(self._chance.choice((1, 1, 2, 3, 5))):
                self._act()
            self._hold()
            self._settle()
        except _COLLISIONS:
            self._connection.rollback()
            return False
        if self._chance.random() < 0.1:
            self._connection.rollback()
            return False
        self._connection.commit()
        return True

    def _hold(self) -> None:
        """Keep the transaction open: mostly not at all, at times for longer than several syncs take."""
        if self._chance.random() < 0.2:
            self._wait(self._chance.random() * self._chance.choice((0.02, 0.02, 0.1, 0.1, 0.4, 1.5)))

    def _settle(self) -> None:
        if self._balance:
            self._put([-self._balance])

    def _act(self) -> None:
        """Do one thing; in a subtransaction at times, which may be rolled back, or hold another one."""
        if self._chance.random() > 0.3:
            (action,) = self._chance.choices(list(self._actions), list(self._actions.values()))
            action()
            return
        before = self._balance
        self._execute("SAVEPOINT here")
        self._act()
        self._hold()
        if self._chance.random() < 0.4:
            self._execute("ROLLBACK TO SAVEPOINT here")
            self._balance = before
        else:
            self._execute("RELEASE SAVEPOINT here")

    def _execute(self, statement: str, *params: object) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._connection.execute(statement.encode(), params or None)

    def _insert(self) -> None:
        self._put([self._chance.randint(-99, 99) for _ in range(self._chance.choice((1, 1, 2, 10)))])

    def _put(self, amounts: list[int]) -> None:
        self._execute(f"INSERT INTO {TABLE} (amount) SELECT unnest(%s::bigint[])", amounts)
        self._balance += sum(amounts)

    def _some_id(self) -> int:
        return self._chance.randint(1, ROWS) if self._chance.random() < 0.7 else self._newest()

    def _newest(self) -> int:
        return int(self._execute(f"SELECT max(id) - floor(random() * 50)::int FROM {TABLE}").fetchall()[0][0])

    def _stamp(self) -> str:
        moved = ["at = now()", "at = now()", "at = clock_timestamp()"]
        own = ["at = at"] * 3 + ["at = at - interval '1 day'"]
        odd = ["at = NULL", "at = now() + interval '2 seconds'"]
        if self._style is Style.STAMPED:
            return self._chance.choice(moved)
        return self._chance.choice(odd if self._chance.random() < 0.02 else moved + own)

    def _update(self) -> None:
        amount = self._chance.randint(-99, 99)
        done = self._execute(
            f"UPDATE {TABLE} SET amount = amount + %s, {self._stamp()} WHERE id = %s", amount, self._some_id()
        )
        self._balance += amount * done.rowcount

    def _delete(self) -> None:
        for id_, amount in self._execute(f"DELETE FROM {TABLE} WHERE id = %s RETURNING id, amount", self._some_id()):
            self._balance -= amount
            self._deleted.append(id_)

    def _bring_back(self) -> None:
        """Insert a key that was deleted before, by this transaction or an earlier one."""
        if self._deleted:
            id_ = self._deleted.pop(self._chance.randrange(len(self._deleted)))
            done = self._execute(f"INSERT INTO {TABLE} (id, amount) VALUES (%s, 7) ON CONFLICT DO NOTHING", id_)
            self._balance += 7 * done.rowcount

    def _rekey(self) -> None:
        self._execute(f"UPDATE {TABLE} SET id = nextval('s.t_id_seq'), {self._stamp()} WHERE id = %s", self._some_id())

    def _lock(self) -> None:
        strength = self._chance.choice(("UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE"))
        self._execute(f"SELECT FROM {TABLE} WHERE id = %s FOR {strength}", self._some_id())


@dataclass(frozen=True)
class Trial:
    """A way to read on, and the writers that it has to stand."""

    style: Style
    settings: dict[str, Any]


_SWEEPING = {"deletes": "sweep", "max_delete": "100%"}
TRIALS = {
    "scan": Trial(Style.ANYTHING, {"mode": "incremental", "cursor": "at", **_SWEEPING}),
    "horizon": Trial(Style.STAMPED, {"mode": "incremental", "cursor": "at", "late_rows": "horizon", **_SWEEPING}),
    "xmin": Trial(Style.ANYTHING, {"mode": "xmin", **_SWEEPING}),
    "append": Trial(Style.INSERTS, {"mode": "append"}),
}
#: What the writers are for: this one promises nothing, and they make it show.
CONTROL = Trial(Style.STAMPED, {"mode": "incremental", "cursor": "at", "late_rows": "trust", **_SWEEPING})


@dataclass
class Outcome:
    """What became of a trial. A share is of the rows that the target had afterwards."""

    seed: int
    commits: int = 0
    rollbacks: int = 0
    read: list[int] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    late: int = 0
    faults: list[str] = field(default_factory=list)
    are_equal: bool = False

    @property
    def syncs(self) -> int:
        return len(self.read)

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.commits} commits, {self.rollbacks} rollbacks, {self.syncs} syncs,"
            f" {statistics.median(self.read):g} rows read a sync (median; {statistics.median(self.shares):.1%} of the"
            f" table), {self.late} late rows found, {'equal' if self.are_equal else 'NOT EQUAL'} at the end"
        )


def create(source: Database, style: Style) -> None:
    """Create the table that writers of a style write to, filled."""
    key = "" if style is Style.INSERTS else "PRIMARY KEY"  # without a key, a row that comes twice stays twice
    source.execute(
        f"""CREATE SCHEMA s;
        CREATE TABLE {TABLE} (id bigint GENERATED BY DEFAULT AS IDENTITY {key}, amount bigint NOT NULL,
            at timestamptz DEFAULT now());
        INSERT INTO {TABLE} (amount, at) SELECT mod(i, 2) * 2 - 1, timestamptz '2024-01-01' + i * interval '1 minute'
            FROM generate_series(1, {ROWS}) i;
        CREATE INDEX ON {TABLE} (at);"""
    )


def strange(style: Style, target: Database) -> list[str]:
    """Say what no snapshot of a source can look like under writers of a style."""
    ((doubled, balance),) = target.rows(
        f"SELECT count(*) - count(DISTINCT id), coalesce(sum(amount), 0)::bigint FROM {TABLE}"
    )
    found = [f"{doubled} rows stand there twice"] if doubled else []
    if balance and style is not Style.INSERTS:
        found.append(f"the books are out by {balance}, so this is no snapshot of the source")
    return found


def carry_out(trial: Trial, source: Database, target: Database, seconds: float, seed: int) -> Outcome:
    """Sync back to back while others write; then, when they have stopped, once more, and compare both sides."""
    create(source, trial.style)
    outcome = Outcome(seed)
    chance = random.Random(seed)
    _succeeded(_synced(trial, source, target, chance))
    deadline = time.monotonic() + seconds
    with Writers(source, trial.style, seed) as writers:
        while time.monotonic() < deadline and not outcome.faults:
            _look(trial, _synced(trial, source, target, chance), target, outcome)
            if chance.random() < 0.05:
                source.execute(f"VACUUM (FREEZE) {TABLE}")
        writers.stop()
    outcome.commits, outcome.rollbacks = writers.commits, writers.rollbacks
    _succeeded(_synced(trial, source, target, chance))
    outcome.are_equal = source.image(TABLE) == target.image(TABLE)
    return outcome


def _synced(trial: Trial, source: Database, target: Database, chance: random.Random) -> Report:
    options = Options(staging=chance.choice((StagingKind.TEMPORARY, StagingKind.UNLOGGED)))
    return sync(source.dsn, target.dsn, TABLE, options=options, **trial.settings)


def _succeeded(report: Report) -> None:
    assert report.exit_code == 0, report.tables[0].error


def _look(trial: Trial, report: Report, target: Database, outcome: Outcome) -> None:
    """Note what a sync did, and what it should not have."""
    (table,) = report.tables
    rows = target.value(f"SELECT count(*) FROM {TABLE}")
    outcome.read.append(table.staging_count)
    outcome.shares.append(table.staging_count / rows)
    outcome.late += table.late
    if table.error:
        outcome.faults.append(table.error)
    outcome.faults += [f"sync {outcome.syncs}: {each}" for each in strange(trial.style, target)]
