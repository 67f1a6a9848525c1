"""A process that forks runs of the command line, and lets the N-th operation of one of them fail.

`sweeping.Runs` starts it and sends it a request a line. Everything is imported once, so that a run costs a fork. Nothing in `src`
knows of it: the forked child wraps what a run touches the servers through (connecting, statements, both directions of
COPY, psql) before it calls the command line, and each of these counts as one operation.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import io
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from pgsluice import cli, plan, session
from pgsluice.steps import relay

#: What a server's refusal is, by the action that asks for it.
SQLSTATES = {"retriable": "40P01", "permanent": "42501"}
#: The same while connecting, where libpq tells no SQLSTATE.
REFUSALS = {
    "retriable": "connection failed: FATAL:  sorry, too many clients already",
    "permanent": 'connection failed: FATAL:  password authentication failed for user "mover"',
}
SIGNALS = {"kill_self": signal.SIGKILL, "terminate_self": signal.SIGTERM}
_LINE = 160
_SECONDS = 10

_connect = psycopg.connect
_execute = psycopg.Connection.execute


@dataclass
class Link:
    """A connection of the run."""

    name: str
    side: str
    pgconn: psycopg.pq.abc.PGconn

    def shut(self, direction: int) -> None:
        """Cut the socket from within, as a network does: libpq finds out by itself."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.pgconn.socket)) as dup:
            dup.shutdown(direction)


@dataclass
class Operations:
    """Counts what a run does, and says which of it is to fail, and how."""

    faults: dict[int, str]
    tell: Callable[..., None]
    count: int = 0
    action: str = ""
    links: dict[psycopg.pq.abc.PGconn, Link] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tick(self, name: str) -> bool:
        """Count one operation; True where it is the one."""
        with self.lock:
            self.count += 1
            action = self.faults.get(self.count, "")
        if action:
            self.action = action
            self.tell(operation=" ".join(name.split())[:_LINE])
        return bool(action)

    def link(self, side: str, connection: psycopg.Connection[Any]) -> None:
        """Take note of a connection: the operations on it count."""
        self.links[connection.pgconn] = Link(self.next_name(side), side, connection.pgconn)

    def next_name(self, side: str) -> str:
        """Return what the next connection to a server will be called."""
        return f"{side} {sum(link.side == side for link in self.links.values()) + 1}"

    # --- what can be done to one -------------------------------------------------------------------------------------

    def strike(self, link: Link) -> None:
        """Do what was asked to a session, or to ourselves; what was to happen then meets it."""
        match self.action:
            case "cut":
                link.shut(socket.SHUT_RDWR)
            case "cut_answer":  # what is asked still arrives there; nothing comes back
                link.shut(socket.SHUT_RD)
            case "kill_backend":
                crash(link.side, link.pgconn.backend_pid)
            case _:
                self.strike_self()

    def strike_self(self) -> None:
        """Send ourselves the signal that was asked for."""
        os.kill(os.getpid(), SIGNALS[self.action])

    def strike_copy(self, link: Link) -> None:
        """Do it in the middle of a COPY, where the server's refusal can't be put in a statement's place."""
        match self.action:
            case "retriable":
                terminate(link.side, link.pgconn.backend_pid)
            case "permanent":
                raise psycopg.errors.lookup(SQLSTATES[self.action])("injected")
            case _:
                self.strike(link)

    @property
    def raising(self) -> str:
        """Return SQL that fails as asked for, so that the server itself fails the transaction."""
        return f"DO $$BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '{SQLSTATES[self.action]}'; END$$"


def crash(side: str, pid: int | None = None) -> None:
    """Kill -9 a backend, one of our own where none is named, and wait until its server takes all others down."""
    with _beside(side) as watch, _beside(side) as bystander:
        try:
            os.kill(pid or bystander.info.backend_pid, signal.SIGKILL)
        except ProcessLookupError:  # an earlier fault has ended it
            os.kill(bystander.info.backend_pid, signal.SIGKILL)
        select.select([watch.fileno()], [], [], _SECONDS)


def terminate(side: str, pid: int) -> None:
    with _beside(side) as other:
        _execute(other, "SELECT pg_terminate_backend(%s, 5000)", (pid,))


def _beside(side: str) -> psycopg.Connection[Any]:
    """Open a connection that does not count."""
    return _connect(os.environ[f"PGSLUICE_{side.upper()}"], autocommit=True)


# --- the seams -------------------------------------------------------------------------------------------------------


def wrap_everything(ops: Operations) -> None:
    """Let every operation count."""
    psycopg.connect = functools.partial(_connecting, ops)
    psycopg.Connection.execute = functools.partialmethod(_executing, ops)  # type: ignore[assignment]
    wrap(psycopg.Connection, "cancel_safe", functools.partial(_cancelling, ops))
    wrap(session.Session, "describe", functools.partial(_describing, ops))
    wrap(relay, "_start", functools.partial(_starting, ops))
    wrap(relay, "_put", functools.partial(_putting, ops))
    wrap(relay, "_coalesced", functools.partial(_reading, ops))
    wrap(relay, "_finish", functools.partial(_finishing, ops))
    wrap(relay._PsqlReader, "__enter__", functools.partial(_starting_psql, ops))
    wrap(relay._PsqlReader, "blocks", functools.partial(_reading_psql, ops))
    wrap(relay._PsqlReader, "_check_exit", functools.partial(_ending_psql, ops))


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Put `around` in the place of a function; it gets the original first, then what that is called with."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args: Any, **named: Any) -> Any:
        return around(original, *args, **named)

    setattr(owner, name, wrapped)


def _connecting(ops: Operations, conninfo: str = "", **parameters: Any) -> psycopg.Connection[Any]:
    parameters = {**conninfo_to_dict(conninfo), **parameters}
    side = parameters["dbname"]  # named so by `sweeping`
    if ops.tick(f"{ops.next_name(side)}: connect"):
        match ops.action:
            case "retriable" | "permanent":
                raise psycopg.OperationalError(REFUSALS[ops.action])
            case "cut" | "cut_answer":
                _connect_to_nobody(parameters)
            case "kill_backend":
                crash(side)
            case _:
                ops.strike_self()
    connection = _connect(**parameters)
    ops.link(side, connection)
    return connection


def _connect_to_nobody(parameters: dict[str, Any]) -> None:
    """Connect to a socket that hangs up, as a server or balancer does that is about to go."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(folder, ".s.PGSQL.5432")))
        listener.listen()
        threading.Thread(target=_hang_up, args=(listener,), daemon=True).start()
        _connect(**{**parameters, "host": folder, "port": "5432"})


def _hang_up(listener: socket.socket) -> None:
    listener.accept()[0].close()


def _executing(connection: psycopg.Connection[Any], ops: Operations, query: Any, *args: Any, **named: Any) -> Any:
    link = ops.links.get(connection.pgconn)
    if link is not None:
        text = query if isinstance(query, str) else query.as_string(connection)
        if ops.tick(f"{link.name}: {text}"):
            if ops.action not in SQLSTATES:
                ops.strike(link)
            elif text == "ROLLBACK":  # no server refuses that
                ops.tell(certain=False)
            else:
                _refusing(ops, connection, text)
    return _execute(connection, query, *args, **named)


def _refusing(ops: Operations, connection: psycopg.Connection[Any], text: str) -> None:
    try:
        _execute(connection, ops.raising)
    finally:
        if text == "COMMIT":  # one that fails ends its transaction
            _execute(connection, "ROLLBACK")


def _cancelling(ops: Operations, original: Callable[..., None], self: Any, **named: Any) -> None:
    if ops.tick(f"{ops.links[self.pgconn].name}: cancel"):
        ops.tell(certain=False)
        if ops.action not in {*SIGNALS, "kill_backend"}:
            raise psycopg.OperationalError("cancellation failed: connection refused")
        ops.strike(ops.links[self.pgconn])
    original(self, **named)


def _describing(ops: Operations, original: Callable[..., Any], self: session.Session, query: str) -> Any:
    link = ops.links[self.pgconn]
    if ops.tick(f"{link.name}: describe {query}"):
        if ops.action in SQLSTATES:
            _execute(self._connection, ops.raising)
        ops.strike(link)
    return original(self, query)


def _starting(ops: Operations, original: Callable[..., None], pgconn: Any, statement: str, expected: Any) -> None:
    link = ops.links[pgconn]
    if ops.tick(f"{link.name}: {statement}"):
        if ops.action in SQLSTATES:
            original(pgconn, ops.raising, expected)
        ops.strike(link)
    original(pgconn, statement, expected)


def _putting(ops: Operations, original: Callable[..., bool], pgconn: Any, block: bytes) -> bool:
    if ops.tick(f"{ops.links[pgconn].name}: COPY block in"):
        ops.strike_copy(ops.links[pgconn])
    return original(pgconn, block)


def _reading(ops: Operations, original: Callable[..., Iterator[bytes]], pgconn: Any) -> Iterator[bytes]:
    for block in original(pgconn):
        if ops.tick(f"{ops.links[pgconn].name}: COPY block out"):
            ops.strike_copy(ops.links[pgconn])
        yield block


def _finishing(ops: Operations, original: Callable[..., int], pgconn: Any) -> int:
    if ops.tick(f"{ops.links[pgconn].name}: COPY outcome"):
        ops.strike_copy(ops.links[pgconn])
    return original(pgconn)


# --- psql: a process and a session of its own ------------------------------------------------------------------------


def _starting_psql(ops: Operations, original: Callable[..., Any], self: Any) -> Any:
    is_it = ops.tick(f"psql: {self._statements[-1]}")
    if is_it and ops.action in SQLSTATES:
        self._statements[-1] = ops.raising
    if is_it and ops.action in SIGNALS:
        ops.strike_self()
    started = original(self)
    if is_it and ops.action not in SQLSTATES:
        _strike_psql(ops, self)
    return started


def _reading_psql(ops: Operations, original: Callable[..., Iterator[bytes]], self: Any) -> Iterator[bytes]:
    for block in _filled(original(self)):
        if ops.tick("psql: COPY block out"):
            _strike_psql(ops, self)
        yield block


def _filled(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Join what a pipe happens to hand out into whole blocks, so that each run has as many."""
    held = b""
    for block in blocks:
        held += block
        if len(held) >= relay.BLOCK_BYTES:
            yield held
            held = b""
    if held:
        yield held


def _ending_psql(ops: Operations, original: Callable[..., None], self: Any) -> None:
    if ops.tick("psql: exit"):
        _strike_psql(ops, self)
    original(self)


def _strike_psql(ops: Operations, reader: Any) -> None:
    """Do it to psql or its session, which may have sent everything and be gone."""
    ops.tell(certain=False)
    match ops.action:
        case "cut" | "cut_answer":
            reader._process.kill()
        case "kill_backend":
            crash("source")
        case "retriable" | "permanent":
            end = {"retriable": "pg_terminate_backend(pid, 5000)", "permanent": "pg_cancel_backend(pid)"}[ops.action]
            ours = [
                link.pgconn.backend_pid for link in ops.links.values() if link.pgconn.status == psycopg.pq.ConnStatus.OK
            ]
            with _beside("source") as other:
                find = sql.SQL(
                    f"SELECT {end} FROM pg_stat_activity WHERE application_name LIKE 'pgsluice %%' AND pid <> ALL(%s)"
                )
                _execute(other, find, (ours,))
        case _:
            ops.strike_self()


# --- one run, and the server of them ---------------------------------------------------------------------------------


def run(request: dict[str, Any], tell: Callable[..., None]) -> NoReturn:
    """Be the command line, in a child of its own."""
    code: Any = 70
    try:
        os.environ.update(request["environment"])
        tempfile.tempdir = request["folder"]
        relay.BLOCK_BYTES = request["block_bytes"]
        plan.COMPARED_FROM_BYTES = 0  # small tables go the way of large ones
        if "--jobs" in request["arguments"]:
            plan.PARALLEL_SLICE_BYTES = (1 << 16, 1 << 30)
        ops = Operations({int(n): action for n, action in request["faults"].items()}, tell)
        wrap_everything(ops)
        sys.argv = ["pgsluice", *request["arguments"]]
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
        tell(total=ops.count)
    except BaseException:  # noqa: BLE001 - shown to whoever reads the output
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def forked(request: dict[str, Any]) -> dict[str, Any]:
    """Run one request in a child and return how it ended; one that hangs shows where, and is killed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            faulthandler.register(signal.SIGUSR1, file=2)
            run(request, functools.partial(_tell, writer))
        os.close(writer)
        told, hung = _until_end(reader, time.monotonic() + request["seconds"])
        if hung:
            os.kill(pid, signal.SIGUSR1)
            time.sleep(0.5)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(reader)
        lines = [json.loads(line) for line in told.splitlines()]
        facts = {name: value for line in lines for name, value in line.items() if name != "operation"}
        facts["operations"] = [line["operation"] for line in lines if "operation" in line]
        texts = {"out": _text(out), "err": _text(err)}
    return {**facts, **texts, "code": os.waitstatus_to_exitcode(status), "hung": hung}


def _tell(writer: int, **facts: Any) -> None:
    os.write(writer, json.dumps(facts).encode() + b"\n")


def _until_end(reader: int, deadline: float) -> tuple[bytes, bool]:
    """Read what a child tells until its end of the pipe is closed, which is when it has ended."""
    told = b""
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            if not (some := os.read(reader, 65536)):
                return told, False
            told += some
    return told, True


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "replace"))


def serve() -> None:
    """Take a request a line and answer each with a line, until there are no more."""
    answers = io.TextIOWrapper(os.fdopen(os.dup(1), "wb"))
    for line in sys.stdin:
        answers.write(json.dumps(forked(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
