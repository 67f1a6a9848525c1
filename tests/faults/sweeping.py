"""The N-th operation sweep: runs whose first, second, third .. operation fails, and what must hold after each.

`injecting` counts and fails the operations; here are the jobs that are swept, their two states of the target, and the
oracles: what is looked at after a fault, and again after one plain run.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from faulting import await_that
from psycopg import sql
from servers import Database, Pair, unmeasured

from pgsluice.embedded import Cluster

#: The one case to run, by its name: mode/action/n.
REPLAY = os.environ.get("PGSLUICE_SWEEP", "")
SECONDS = 60.0
PATIENCE = ("--retries", "5", "--retry-for", "60")
SECRET = "hunter2-and-more"
ROW_DATA = "rowdata"
_SHOWN = 10

#: What a run may end with, by what was done to it; '' stands for nothing.
CODES: Mapping[str, frozenset[int]] = {
    "": frozenset({0}),
    "retriable": frozenset({0}),
    "cut": frozenset({0}),
    "cut_answer": frozenset({0}),
    "kill_backend": frozenset({0}),
    "permanent": frozenset({0, 1, 2, 6}),
    "kill_self": frozenset({-9}),
    "terminate_self": frozenset({143}),
}
ACTIONS = tuple(filter(None, CODES))
FIRST_CONTACT = frozenset({"source 1: connect", "target 1: connect"})

#: What is to be done to which operation of a run, by its number.
Faults = Mapping[int, str]
NO_FAULTS: Faults = {}
#: The same for what is done to a link from outside, by how long it lasts.
CODES_OF_LINKS: Mapping[str, frozenset[int]] = {"passing": frozenset({0}), "lasting": frozenset({5})}

#: Operations without which a run is still a success, though it may have to warn. What a kept staging table says of its
#: slices is written again with each of them, for a run that resumes. A run lock whose table may not be read is taken by the
#: key of its name, and the plan says which privilege is missing.
DISPENSABLE = re.compile(
    r"advisory_unlock|pg_stat_progress_copy|SET lock_timeout|DROP TABLE IF EXISTS|SELECT 1$"
    r"|Take the run lock of a target|SELECT extract\(epoch FROM|COMMENT ON TABLE \"pgsluice\".\"stg_\w+\" IS '\{\"pgsluice\": 1"
)


# --- what is swept ---------------------------------------------------------------------------------------------------

_FIRST = f"""
CREATE ROLE mover LOGIN SUPERUSER PASSWORD '{SECRET}';
CREATE SCHEMA s;
CREATE TABLE s.t (id int NOT NULL, at timestamptz NOT NULL, version int NOT NULL, filler text);
INSERT INTO s.t SELECT i, '2024-01-01Z'::timestamptz + i * interval '1 minute', 1, '{ROW_DATA} ' || repeat(md5(i::text), {{repeats}})
FROM generate_series(1, 300) i;
"""
_KEY = "ALTER TABLE s.t ADD PRIMARY KEY (id);"
_GROWTH = """
INSERT INTO s.t SELECT i + 300, at + interval '1 day', 2, filler FROM s.t CROSS JOIN LATERAL (SELECT id) AS n (i) WHERE id <= 40;
INSERT INTO s.t SELECT i + 400, at - interval '1 day', 2, filler FROM s.t CROSS JOIN LATERAL (SELECT id) AS n (i) WHERE id <= 10;
"""  # the second are late: committed after the watermark and stamped before it
_CHANGES = f"""
UPDATE s.t SET version = 2, at = at + interval '2 days' WHERE id % 7 = 0;
DELETE FROM s.t WHERE id % 20 = 0;
{_GROWTH}
"""
_BESIDE = """
CREATE SCHEMA aside;
CREATE TABLE aside.other AS SELECT i AS id, 'of somebody else' AS what FROM generate_series(1, 50) i;
"""
_OWN_COLUMN = "ALTER TABLE s.t ADD COLUMN mine text; UPDATE s.t SET mine = 'mine ' || id;"
_OUT_OF_SCOPE = "INSERT INTO s.t VALUES (-1, '2020-01-01Z', 0, 'out of scope');"
_KEEP = "CREATE SCHEMA kept; CREATE TABLE kept.t AS TABLE s.t; CREATE TABLE kept.job_state AS TABLE pgsluice.job_state;"
_RESTORE = """
DO $$DECLARE left_over text; BEGIN
  FOR left_over IN SELECT relname FROM pg_class WHERE relname LIKE 'stg\\_%' LOOP
    EXECUTE format('DROP TABLE IF EXISTS pgsluice.%I CASCADE', left_over);
  END LOOP;
END$$;
TRUNCATE s.t, pgsluice.job_state, pgsluice.run_table, pgsluice.run;
INSERT INTO s.t TABLE kept.t; INSERT INTO pgsluice.job_state TABLE kept.job_state;
"""


@dataclass(frozen=True)
class Swept:
    """A way of syncing ``s.t`` that is swept.

    Attributes:
        arguments: of ``pgsluice sync``.
        changes: SQL for the source, between the first sync and the swept one.
        repeats: how wide a row is.
        keyed: the table has a primary key.
        exists: the target has the table, with a column of its own; else not even our schema.
        own: SQL for what the target has besides; a column of its own, where it is not replaced.
        resumes: the run after a fault resumes what that one has left, where it was written down.
    """

    arguments: tuple[str, ...]
    changes: str = _CHANGES
    repeats: int = 1
    keyed: bool = True
    exists: bool = True
    own: str = _OWN_COLUMN
    resumes: bool = False


MODES: Mapping[str, Swept] = {
    "full": Swept(
        ("--table", "s.t", "--where", "id > 0", "--staging", "unlogged", "--lane", "psql"),
        repeats=16,
        own=_OWN_COLUMN + _OUT_OF_SCOPE,
    ),
    "diff": Swept(("--table", "s.t", "--strategy", "diff", "--verify", "hash", "--staging", "unlogged")),
    "swap": Swept(
        ("--table", "s.t", "--strategy", "swap"),
        own="CREATE VIEW s.v AS SELECT id FROM s.t; CREATE INDEX ON s.t (at); COMMENT ON TABLE s.t IS 'kept';",
    ),
    "new": Swept(("--table", "s.t", "--staging", "promoted"), exists=False),
    "incremental": Swept(
        ("--table", "s.t", "--mode", "incremental", "--cursor", "at", "--deletes", "sweep", "--staging", "unlogged")
    ),
    "append": Swept(("--table", "s.t", "--mode", "append"), changes=_GROWTH, keyed=False),
    "resumable": Swept(
        ("--table", "s.t", "--where", "id > 0", "--resumable", "--slice-bytes", "128kB"), repeats=16, resumes=True
    ),
    "sliced": Swept(
        ("--table", "s.t", "--where", "id > 0", "--staging", "unlogged", "--jobs", "2"),
        repeats=16,
        own=_OWN_COLUMN + _OUT_OF_SCOPE,
    ),
    "sliced new": Swept(("--table", "s.t", "--staging", "promoted", "--jobs", "2"), repeats=16, exists=False),
    "query": Swept(("--query-file", "{folder}/query.sql", "--to", "s.t", "--key", "id", "--staging", "temporary")),
}
PART = re.compile(r"_(s\d+|pkey)$")
QUERY = "SELECT id, at, version, filler FROM s.t WHERE id > 0"


# --- one run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        code: its exit code; below 0 the signal that ended it.
        out: stdout.
        err: stderr.
        hung: it did not end by itself.
        operations: those that were failed, as far as it came.
        certain: what was done must show; False where it may have come too late to.
        total: operations in all; None where it did not live to say.
    """

    code: int
    out: str
    err: str
    hung: bool
    operations: Sequence[str] = ()
    certain: bool = True
    total: int | None = None

    @property
    def said(self) -> str:
        """Return all it printed."""
        return self.out + self.err

    @property
    def failure(self) -> dict[str, Any]:
        """Return the line of stdout that tells what failed, or nothing."""
        lines = [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]
        return next((line for line in lines if line.get("error")), {})


class Runs:
    """Runs of the command line, forked from one process that has imported everything."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("injecting.py"))],
            env=unmeasured(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # the end of its requests is its end

    def run(self, arguments: list[str], environment: dict[str, str], folder: str, faults: Faults) -> Ending:
        """Run it, and let these of its operations fail."""
        request = {
            "arguments": arguments,
            "environment": environment,
            "folder": folder,
            "faults": faults,
            "block_bytes": 64 << 10,
            "seconds": SECONDS,
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ending(**json.loads(self._process.stdout.readline()))


# --- what is looked at -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """What a target shows: its table, how far its jobs say they have come, and what is no business of ours."""

    table: list[str] | None
    watermarks: list[tuple[Any, ...]]
    beside: list[str]


def state_of(target: Database) -> State:
    """Look at a target."""
    has_table, has_state = target.rows(
        "SELECT to_regclass('s.t') IS NOT NULL, to_regclass('pgsluice.job_state') IS NOT NULL"
    )[0]
    watermarks = "SELECT job_id, watermark, snapshot_xmin, snapshot_lsn, seq FROM pgsluice.job_state ORDER BY 1"
    return State(
        target.image("s.t") if has_table else None,
        target.rows(watermarks) if has_state else [],
        target.image("aside.other"),
    )


class Reader(threading.Thread):
    """Reads the target's table as its users do, in single statements, for as long as the block lasts."""

    QUERY = "SELECT count(*)::int, coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM s.t AS t"
    EVERY_SECONDS = 0.004

    def __init__(self, target: Database) -> None:
        super().__init__(daemon=True)
        self._target = target
        self._ended = threading.Event()
        self.seen: set[object] = set()

    def look(self, connection: psycopg.Connection[Any]) -> object:
        try:
            return connection.execute(self.QUERY).fetchone()
        except psycopg.errors.UndefinedTable:
            return None

    def run(self) -> None:
        while not self._ended.wait(self.EVERY_SECONDS):
            with (
                contextlib.suppress(psycopg.OperationalError),
                psycopg.connect(self._target.dsn, autocommit=True) as connection,
            ):
                while not self._ended.wait(self.EVERY_SECONDS):
                    self.seen.add(self.look(connection))

    def now(self) -> object:
        """Look once."""
        with psycopg.connect(self._target.dsn, autocommit=True) as connection:
            return self.look(connection)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


_SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %'"
_LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


def answers(database: Database) -> bool:
    """Tell whether a server has recovered."""
    try:
        return bool(database.value("SELECT true"))
    except psycopg.OperationalError:
        return False


def nothing_left(database: Database) -> bool:
    """Tell whether a server has no session and no lock of ours any more."""
    return not database.value(_SESSIONS) + database.value(_LOCKS)


Dsns = Callable[[Database], str]


def _direct(database: Database) -> str:
    return database.cluster.dsn_for(database.name, "mover", SECRET)


class Sweep:
    """One mode on a pair of its own: its target can be made old again, and any of its operations failed."""

    def __init__(
        self, mode: str, pair: Pair, runs: Runs, folder: Path, *, way: Swept | None = None, link: Dsns | None = None
    ) -> None:
        """Make both states of the target known.

        Args:
            mode: its name in `MODES`, or any where `way` is given.
            pair: of its own.
            runs: that carry it out.
            folder: of its own.
            way: another one than those of `MODES`.
            link: how runs reach the servers, where that is not the shortest way.
        """
        self.mode = mode
        self._way = way or MODES[mode]
        self._pair = pair
        self._runs = runs
        self._folder = folder
        self._environment = {
            f"PGSLUICE_{side.upper()}": (link or _direct)(database)
            for side, database in (("source", pair.source), ("target", pair.target))
        }
        self.runs = 0
        self._files: list[str] = []
        self._prepare()

    def _prepare(self) -> None:
        source, target = self._pair.source, self._pair.target
        (self._folder / "query.sql").write_text(QUERY, encoding="utf-8")
        source.execute(_FIRST.format(repeats=self._way.repeats) + (_KEY if self._way.keyed else ""))
        target.execute(_BESIDE)
        target.execute(f"CREATE ROLE mover LOGIN SUPERUSER PASSWORD '{SECRET}'")
        if self._way.exists:
            first = self.run()
            assert first.code == 0, first
            target.execute(self._way.own + _KEEP)
        source.execute(self._way.changes)
        self.reset()
        self.old, self._old_read = state_of(target), Reader(target).now()
        done = self.run()
        assert done.code == 0, done
        self.new, self._new_read = state_of(target), Reader(target).now()
        self.total = done.total or 0
        columns = "(SELECT id, at, version, filler FROM s.t WHERE id > 0)"
        assert target.image(columns) == source.image(columns)
        assert self.old.table != self.new.table
        assert self.old.watermarks != self.new.watermarks

    def reset(self) -> None:
        """Make the target old again."""
        self._pair.target.execute(_RESTORE if self._way.exists else "DROP SCHEMA IF EXISTS s, pgsluice CASCADE")

    def run(self, faults: Faults = NO_FAULTS, *more: str) -> Ending:
        """Run the job, with faults; with `more` arguments."""
        self.runs += 1
        way = [argument.format(folder=self._folder) for argument in self._way.arguments]
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            command = ["sync", *way, *PATIENCE, "--json", "--log-format", "json", *more]
            ending = self._runs.run(command, self._environment, folder, faults)
            self._files = [path.name for path in Path(folder).rglob("*") if path.is_file()]
            return ending

    def case(self, faults: Faults) -> tuple[Ending, list[str]]:
        """Run with faults, look, run once more, look again; return how it ended and what is wrong."""
        actions = [faults[n] for n in sorted(faults)]
        return self.examined(lambda: self.run(faults), lambda ending: actions[: len(ending.operations)])

    def examined(self, run: Callable[[], Ending], done: Callable[[Ending], Sequence[str]]) -> tuple[Ending, list[str]]:
        """Carry out a run that something is done to, look, run once more, look again.

        Args:
            run: carries it out.
            done: says what was done to it, in the words of `CODES` and `CODES_OF_LINKS`.
        """
        self.reset()
        with Reader(self._pair.target) as reader:
            ending = run()
        wrong = [*self._wrong(ending, done(ending)), *self._mixed(reader)]
        again = self.run(NO_FAULTS, *self._to_resume())
        wrong += [f"run again: {what}" for what in self._wrong(again, [])]
        return ending, wrong

    def _to_resume(self) -> tuple[str, ...]:
        target = self._pair.target
        await_that(functools.partial(answers, target), "the server to recover")
        written_down = self._way.resumes and target.value("SELECT EXISTS (SELECT FROM pgsluice.run)")
        return ("--resume", "last") if written_down else ()

    # --- the oracles -------------------------------------------------------------------------------------------------

    def _wrong(self, ending: Ending, actions: Sequence[str]) -> Iterator[str]:
        for database in (self._pair.source, self._pair.target):
            await_that(functools.partial(answers, database), "the server to recover")
        now, staging = state_of(self._pair.target), self._pair.target.staging_tables()
        is_new, moved = now.table == self.new.table, now.watermarks != self.old.watermarks
        reached = [row[:2] for row in now.watermarks] == [row[:2] for row in self.new.watermarks]
        told = "kill_self" in actions or (actions and all(PART.sub("", table) in ending.said for table in staging))
        checks = {
            f"it hung for {SECONDS:g} s": ending.hung,
            "the table is neither old nor new": not is_new and now.table != self.old.table,
            f"the job's state moved and its rows did not: {now.watermarks}": moved and not is_new,
            f"the rows moved and the watermark did not: {now.watermarks}": is_new and not reached,
            "another table was touched": now.beside != self.old.beside,
            "it reported success and the rows are not there": ending.code == 0 and not is_new,
            "it reported a rollback and the rows are there": "was rolled back" in ending.out and is_new,
            f"staging tables remain: {staging}": staging and not told,
            f"temporary files remain: {self._files}": self._files and "kill_self" not in actions,
            "it printed a secret or a row": SECRET in ending.said or ROW_DATA in ending.said,
        }
        yield from (what for what, found in checks.items() if found)
        yield from _ended_wrongly(ending, actions)
        yield from self._remains()

    def _remains(self) -> Iterator[str]:
        for database in (self._pair.source, self._pair.target):
            try:
                await_that(functools.partial(nothing_left, database), "sessions and locks to go", 10)
            except AssertionError:
                yield f"sessions or advisory locks remain on the {database.name}"

    def _mixed(self, reader: Reader) -> Iterator[str]:
        if strange := reader.seen - {self._old_read, self._new_read}:
            yield f"a reader saw neither old nor new: {strange}"


def _ended_wrongly(ending: Ending, actions: Sequence[str]) -> Iterator[str]:
    """Compare exit code, step and SQLSTATE with what was done."""
    if ending.code not in _codes(ending, actions):
        yield f"exit code {ending.code} after {' and '.join(actions) or 'nothing was done'}"
    if "Traceback" in ending.said or "a fault of ours" in ending.said:
        yield "it did not expect that"
    if actions == ["permanent"] and ending.certain:
        yield from _not_told(ending, ending.operations[0])


def _codes(ending: Ending, actions: Sequence[str]) -> frozenset[int]:
    """Return what a run may end with."""
    codes = frozenset[int]().union(*({**CODES, **CODES_OF_LINKS}[action] for action in actions or [""]))
    first_contact = not FIRST_CONTACT.isdisjoint(ending.operations)  # who knows whether that ever passes
    return codes | {5} if first_contact or len(actions) > 1 else codes


def _not_told(ending: Ending, operation: str) -> Iterator[str]:
    """See that a permanent error is told, or is one of those that a run may pass over."""
    if ending.code == 0:
        is_told = "the run history is not up to date: " in ending.said
        if not is_told and not DISPENSABLE.search(operation) and not _tried_again_to_drop(ending):
            yield "it passed over a permanent error"
        return
    states = {"42501", None} if ending.code == 6 or operation.endswith(": connect") else {"42501"}
    if ending.failure.get("sqlstate") not in states:
        yield f"the SQLSTATE is not told: {ending.failure.get('sqlstate')}"
    if not ending.failure.get("step"):
        yield "the step is not told"


def _tried_again_to_drop(ending: Ending) -> bool:
    """Tell whether a staging table could not be dropped at once: it was at the end, or the run said that it remains."""
    begun, ended = (len(re.findall(rf'"{event}".*"step": "cleanup"', ending.said)) for event in CLEANUP_EVENTS)
    return begun > ended


CLEANUP_EVENTS = ("step_started", "step_finished")


@contextlib.contextmanager
def pair_on(source: Cluster, target: Cluster) -> Iterator[Pair]:
    """Two fresh databases whose names say which is which."""
    databases = [
        Database(source, "source", source.dsn_for("source")),
        Database(target, "target", target.dsn_for("target")),
    ]
    for database in databases:
        _admin(database, "CREATE DATABASE {} TEMPLATE template0")
    try:
        yield Pair(*databases)
    finally:
        for database in databases:
            await_that(functools.partial(answers, database), "the server to recover")
            _admin(database, "DROP DATABASE {} WITH (FORCE)")
            _admin(database, "DROP ROLE mover")


def _admin(database: Database, statement: str) -> None:
    with psycopg.connect(database.cluster.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(database.name)))


# --- many cases ------------------------------------------------------------------------------------------------------


def replayed() -> Iterator[Faults]:
    """Read a case's name back: actions and numbers, several with a plus in between."""
    _, actions, numbers = REPLAY.split("/")
    yield dict(zip(map(int, numbers.split("+")), actions.split("+"), strict=True))


def carry_out(sweep: Sweep, cases: Iterable[Faults], record_property: Callable[[str, object], None]) -> Ending | None:
    """Run the cases, up to the first that comes untouched to its end; fail with all that is wrong, each with its name."""
    started, failed, found, ending = time.monotonic(), 0, [], None
    for faults in cases:
        ending, wrong = sweep.case(faults)
        failed += len(ending.operations)
        if wrong:
            name = "/".join([sweep.mode, "+".join(faults.values()), "+".join(map(str, faults))])
            found.append(_told(name, ending, wrong))
        if not ending.operations:
            break
    record_property("sweep", (failed, sweep.runs, time.monotonic() - started))
    if found:
        pytest.fail("\n\n".join([f"{len(found)} cases went wrong", *found[:_SHOWN]]), pytrace=False)
    return ending


def _told(name: str, ending: Ending, wrong: list[str]) -> str:
    lines = [f"PGSLUICE_SWEEP={name}", *(f"failed at: {operation}" for operation in ending.operations), *wrong]
    return "\n  ".join(lines) + f"\n{ending.out[-3000:]}\n{ending.err[-3000:]}"
