"""One connection: statements, transactions, and waits that end."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, Self

import psycopg
from psycopg import generators, pq, sql

from pgsluice import rowdata
from pgsluice.errors import CommitUnknownError, StalledError, StepError
from pgsluice.retry import Answer, classify
from pgsluice.watchdog import Party, Wait, watchdog

Query = sql.SQL | sql.Composed
Params = Sequence[Any] | Mapping[str, Any] | None

#: What keeps a SELECT from looking behind views, or into foreign tables (CVE-2024-7348).
RESTRICTION = "restrict_nonsystem_relation_kind"
_RESTRICTS = {14: 140013, 15: 150008, 16: 160004}

#: A backend that waits for its client is not at work, nor one whose commit waits for a standby.
_WORKING = sql.SQL(
    "SELECT pid FROM pg_catalog.pg_stat_activity WHERE {} AND state = 'active'"
    " AND pid <> pg_catalog.pg_backend_pid()"
    " AND wait_event_type IS DISTINCT FROM 'Client' AND wait_event IS DISTINCT FROM 'SyncRep'"
)


#: Where bare names are looked up, after pg_catalog: in nothing of anybody's. Temporary relations would else come first.
CORE_ONLY = "pg_temp"
#: Tags of statements that can set off triggers, and so code of others, which may leave other settings in the session.
_STIRRING = ("INSERT ", "UPDATE ", "DELETE ", "MERGE ")


#: Where a server finds a second statement in the extended protocol: before it runs the first.
_ONE_STATEMENT_ONLY = "exec_parse_message"


class OneStatement(psycopg.Cursor[Any]):
    """Sends every text by the extended protocol, in which a server takes one statement and refuses a second (42601).

    The driver chooses the simple protocol for a text without parameters. In that one, whatever closes a bracket of
    ours and begins a statement of its own is run.
    """

    is_extended = False

    def _execute_send(self, *query: Any, **named: Any) -> None:  # noqa: ANN401 - types of the driver's own
        """Say what the driver has no public word for."""
        self.is_extended = True
        super()._execute_send(*query, **{**named, "force_extended": True})


class Terms(Protocol):
    """What a session was opened on; `Endpoint` says what each is."""

    @property
    def side(self) -> str:
        """Return "source" or "target"."""

    @property
    def application_name(self) -> str:
        """Return what it is called on the server."""

    @property
    def connect_timeout(self) -> float:
        """Return seconds."""

    @property
    def lock_timeout(self) -> float:
        """Return seconds."""

    @property
    def stall_timeout(self) -> float:
        """Return seconds."""

    @property
    def show_row_data(self) -> bool:
        """Tell whether errors may hold what a server says of a row."""

    def renewed(self) -> Mapping[str, str]:
        """Return what is secret and has to be asked for again before another connection is opened."""

    def dial(self, parameters: Mapping[str, Any]) -> psycopg.Connection[Any]:
        """Open another connection."""


class Session:
    """One connection with the prelude in force, in autocommit outside `transaction`."""

    def __init__(self, connection: psycopg.Connection[Any], terms: Terms) -> None:
        """Wrap a connection; `Endpoint.open` makes them, and runs the prelude.

        `pid` and `started` name the server's backend; `pinned` are the parameters that lead to this very server,
        whatever a name or a host list gives next time; `database` is its name, and `in_recovery` says that the server
        is a standby; `settings` are in force; `search_path` and `time_zone` are the
        role's own, before the prelude; `role` is whose rights it has; `ended` is the SQLSTATE that its server ended it
        with, as far as `answers` saw; `run_locks` are the keys of the run locks that it has asked for, by target.

        Args:
            connection: in autocommit mode.
            terms: that it was opened on.
        """
        self._connection = connection
        connection.cursor_factory = OneStatement
        self._terms = terms
        self._severed = ""
        self.pgconn = connection.pgconn
        self.pid = connection.pgconn.backend_pid
        self.pinned = _pinned(connection.info)
        self.started = ""
        self.database, self.in_recovery = "", False
        self.ended: str | None = None
        self.settings: Mapping[str, str] = {}
        self.search_path = self.time_zone = self.role = ""
        self._local: dict[str, str] = {}
        self._stirred = self._changed_rows = False
        self.run_locks: dict[str, int] = {}

    @property
    def name(self) -> str:
        """Return the application_name, which holds the run's id."""
        return self._terms.application_name

    @property
    def side(self) -> str:
        """Return "source" or "target"."""
        return self._terms.side

    @property
    def shows_row_data(self) -> bool:
        """Tell whether errors may hold what a server says of a row."""
        return self._terms.show_row_data

    @property
    def version(self) -> int:
        """Return server_version_num."""
        return self.pgconn.server_version

    @property
    def described(self) -> str:
        """Return whom the session is, where, and what kind of server that is: ``role@host:port/database (18.4)``."""
        major, minor = divmod(self.version, 10_000)
        is_told = self.side == "source" or self.in_recovery  # a target that takes writes is no standby
        standing = f", {'standby' if self.in_recovery else 'primary'}" if is_told else ""
        place = f"{self.pinned['host']}:{self.pinned['port']}/{self.database}"
        return f"{self.role}@{place} ({major}.{minor}{standing})"

    @property
    def alive(self) -> bool:
        """Tell whether the connection is open, as far as this side knows."""
        return not self._connection.closed and not self._severed

    @property
    def usable(self) -> bool:
        """Tell whether the connection is open and idle, as far as this side knows."""
        return self.alive and self.pgconn.transaction_status == pq.TransactionStatus.IDLE

    @property
    def live(self) -> dict[str, str]:
        """Return every parameter of the live connection, defaults of the environment included, secrets too."""
        found = {
            option.keyword.decode(): option.val.decode()
            for option in self.pgconn.info
            if option.val is not None and option.val != b""
        }
        return {**found, **self.pinned}

    @property
    def parameters(self) -> dict[str, str]:
        """Return what another connection like this one is opened with: secrets that are asked for are asked again."""
        return {**self.live, **self._terms.renewed()}

    @property
    def explicit(self) -> dict[str, str]:
        """Return `parameters` without those that libpq assumes anyway: an older psql does not know newer ones."""
        assumed = {"sslcertmode": "allow"}  # filled in by libpq 16+, though not as a compiled default
        assumed |= {
            option.keyword.decode(): option.compiled.decode()
            for option in self.pgconn.info
            if option.compiled is not None
        }
        return {name: value for name, value in self.parameters.items() if assumed.get(name) != value}

    @property
    def encrypted(self) -> bool:
        """Tell whether the connection runs over TLS."""
        return bool(self.pgconn.ssl_in_use)

    def rows(self, query: Query, params: Params = None) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        return self._run(query, params).fetchall()

    def row(self, query: Query, params: Params = None) -> tuple[Any, ...]:
        """Run a query and return its first row.

        Raises:
            LookupError: there is none.
        """
        found = self._run(query, params).fetchone()
        if found is None:
            raise LookupError("the query returned no row")
        return tuple(found)

    def execute(self, query: Query, params: Params = None) -> int:
        """Run a statement and return the number of rows in its command tag."""
        return self._run(query, params).rowcount

    def script(self, text: Query) -> None:
        """Run several statements in one round trip: only a text of our own files, or one that the user wrote as code.

        This is the one way to the simple protocol, so nothing that a server printed may stand in the text.
        """
        self._scripted(text)

    def as_written(self, text: Query) -> None:
        """Run what the user wrote as code: one statement by itself, as VACUUM wants it; several in a transaction."""
        try:
            self._run(text, None)
        except psycopg.errors.SyntaxError as error:
            if error.diag.source_function != _ONE_STATEMENT_ONLY:
                raise
            with self.transaction():
                self.script(text)

    def _scripted(self, text: Query) -> psycopg.Cursor[Any]:
        self._settle()  # which is a script itself, so it can't come once the factory is another
        self._connection.cursor_factory = psycopg.Cursor
        try:
            return self._run(text, None)
        finally:
            self._connection.cursor_factory = OneStatement

    def _run(self, query: Query, params: Params) -> psycopg.Cursor[Any]:
        self._settle()
        cursor = self._ran(query, params)
        tag = cursor.statusmessage or ""
        if tag.startswith(_STIRRING) and not tag.endswith(" 0"):
            self.stirred()
        elif tag == "SET CONSTRAINTS":  # which sets off what was deferred
            self._stirred = self._changed_rows
        return cursor

    def stirred(self) -> None:
        """Note that code of others may have run in the session: `_run` sees it where the tag of a statement tells."""
        self._stirred = self._changed_rows = True

    def _settle(self) -> None:
        """Put all settings back, before anything else is sent, where code of others may have changed them.

        A trigger on a table that refers to the target runs as the owner of that table, and in our session: a
        search_path that it leaves there would have our next statement call its owner's functions, with our rights.

        Raises:
            StepError: the session has the rights of another role.
        """
        if not self._stirred or self.pgconn.transaction_status == pq.TransactionStatus.INERROR:  # takes ROLLBACK only
            return
        self._stirred = False
        cursor = self._scripted(_putting_back(tuple(self.settings.items()), tuple(self._local.items())))
        cursor.nextset()
        if str((cursor.fetchone() or ("",))[0]) != self.role:
            raise StepError(f"a trigger gave our session on the {self.side} the rights of another role")

    def _ran(self, query: Query, params: Params) -> psycopg.Cursor[Any]:
        with self.waiting(statement=query):
            try:
                cursor = self._connection.execute(query, params)
            except psycopg.Error as error:
                if isinstance(error.__context__, KeyboardInterrupt):  # psycopg cancelled, and met this error instead
                    raise KeyboardInterrupt from error
                raise
        if isinstance(cursor, OneStatement) and not cursor.is_extended:  # as the prelude of every session shows
            raise StepError("this release of psycopg does not send a statement alone", hint="Install another one.")
        return cursor

    @contextlib.contextmanager
    def waiting(self, *others: Party, seconds: float | None = None, statement: Query | None = None) -> Iterator[Wait]:
        """Watch the block, which waits for this session's server; its errors hold no row data unless they may.

        Args:
            others: that it waits for as well: it is enough that one of them works.
            seconds: without a move or a sign of work; None for those of its terms.
            statement: that was sent: what stands in it is of no row.

        Raises:
            StalledError: the wait was ended.
        """
        limit = self._terms.stall_timeout if seconds is None else seconds
        try:
            with watchdog.watching(limit, self, *others) as wait:
                yield wait
        except psycopg.Error as error:
            if not self._terms.show_row_data:
                rowdata.leave_out(error, statement.as_string(None) if statement else "")
            if self._severed:
                who = "the relay stood still" if others else f"the {self._terms.side} went silent"
                raise StalledError(
                    f"{who}: {self._severed}",
                    hint="Look at the server and at what stands between; --stall-timeout sets the patience.",
                    sqlstate=error.sqlstate,
                ) from error
            raise

    def answers(self, seconds: float = 5) -> bool:
        """Ask for a sign of life; False closes the session. One round trip."""
        try:
            with self.waiting(seconds=seconds):
                self._connection.execute("SELECT 1")
        except psycopg.errors.InFailedSqlTransaction:  # an answer all the same
            return True
        except (psycopg.Error, StalledError) as error:
            self.ended = self.ended or error.sqlstate
            self.close()
        return not self._connection.closed

    def is_working(self) -> bool:
        """Ask whether this session's backend is at work for us."""
        who = sql.SQL("pid = {} AND backend_start = {}::timestamptz").format(
            sql.Literal(self.pid), sql.Literal(self.started)
        )
        return bool(self.aside(_WORKING.format(who)))

    def run_is_working(self) -> bool:
        """Ask the same of every backend that bears the run's name."""
        who = sql.SQL("application_name = {}").format(sql.Literal(self._terms.application_name))
        return bool(self.aside(_WORKING.format(who)))

    def aside(self, query: sql.Composed) -> list[tuple[str, ...]]:
        """Ask this session's server something over a connection of its own, from any thread.

        Returns:
            Rows as text; none where there are none, and where no answer came within the time to connect.
        """
        options = self.live.get("options", "")
        try:
            with self._terms.dial({**self.parameters, "options": f"{options} -c search_path="}) as other:
                return _asked(other.pgconn, query.as_string(None), self._terms.connect_timeout)
        except Exception:  # noqa: BLE001 - who gives out secrets can fail in ways of its own
            return []

    def sever(self, reason: str) -> None:
        """Shut the socket under the connection, from any thread: whoever waits for it gets an error."""
        self._severed = reason
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.pgconn.socket)) as other:
            other.shutdown(socket.SHUT_RDWR)

    def describe(self, query: str) -> list[tuple[str, int, int]]:
        """Parse one statement by the extended protocol, without running it.

        Returns:
            (name, type oid, type modifier) of each column it would return.

        Raises:
            psycopg.Error: the server refuses it; more than one statement is a syntax error here.
        """
        pgconn = self.pgconn
        self._settle()
        with self.waiting():  # sent and awaited: the driver's own describe holds every thread of the process meanwhile
            pgconn.send_prepare(b"", query.encode())
            self._awaited()
            pgconn.send_describe_prepared(b"")
            result = self._awaited()
        return [((result.fname(i) or b"").decode(), result.ftype(i), result.fmod(i)) for i in range(result.nfields)]

    def _awaited(self) -> pq.abc.PGresult:
        """Return the server's answer to what was sent.

        Raises:
            psycopg.Error: the server refused it.
        """
        result: pq.abc.PGresult
        (result,) = self._connection.wait(generators.execute(self.pgconn))
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result, encoding="utf-8")
        return result

    def text(self, query: sql.Composable) -> str:
        """Return a query as the text this connection would send."""
        return query.as_string(self._connection)

    @property
    def lock_seconds(self) -> float:
        """Return how long a statement waits for a lock."""
        return self._terms.lock_timeout

    def patience(self, seconds: float | None = None) -> None:
        """Wait at most so long for a lock until the transaction ends; None: as long as the session does."""
        value = self.settings["lock_timeout"] if seconds is None else str(max(1, round(seconds * 1000)))
        self.local(lock_timeout=value)

    def local(self, **settings: str) -> tuple[Any, ...]:
        """Put settings in force until the transaction ends, whatever runs in between; return them as they are then."""
        self._local |= settings
        calls = [set_config(*item, is_local=True) for item in settings.items()]
        return self.row(sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls)))

    def as_role(self, search_path: str, time_zone: str, not_behind: str | None = "") -> None:
        """Look up names and read clocks, until the transaction ends, as the role does outside of this tool.

        The user's own SQL and the target's own triggers mean what they mean to their authors. Nothing that we write
        depends on it: our names and operators are qualified, and ISO output carries its offset.

        Args:
            search_path: of the role.
            time_zone: of the role.
            not_behind: kinds of relations that may not be looked behind, as in `facts.Read`; None: as before.
        """
        settings = {"search_path": search_path or CORE_ONLY, "TimeZone": time_zone}
        if not_behind is not None and self.can_restrict_relations:
            settings[RESTRICTION] = not_behind
        self.local(**settings)

    @contextlib.contextmanager
    def playing_role(self, search_path: str = "", time_zone: str = "UTC") -> Iterator[None]:
        """Do so while the block runs, and as before from then on.

        With an empty search_path, names mean what they did where a server printed them, and bare ones are core's.
        """
        in_force = {**self.settings, **self._local}
        self.as_role(search_path, time_zone, None)
        yield
        self.as_role(in_force["search_path"], in_force["TimeZone"], None)

    @property
    def can_restrict_relations(self) -> bool:
        """Tell whether the server knows restrict_nonsystem_relation_kind, which minor releases of August 2024 have."""
        return self.version >= _RESTRICTS.get(self.version // 10000, 170000)

    @contextlib.contextmanager
    def looking_at_tables(self, not_behind: str) -> Iterator[None]:
        """Run the block in a READ ONLY transaction that may not look behind relations of some kinds.

        Functions of views and indexes mean what they mean to the role.
        """
        with self.transaction(read_only=True):
            self.as_role(self.search_path, "UTC" if not_behind else self.time_zone, not_behind)
            yield

    @contextlib.contextmanager
    def transaction(
        self,
        *,
        read_only: bool = False,
        provable: bool = False,
        committing: AbstractContextManager[None] | None = None,
        keep: bool = True,
    ) -> Iterator[None]:
        """Run the block in a READ COMMITTED transaction; commit it, or roll back on any exception.

        Args:
            read_only: as in BEGIN READ ONLY.
            provable: the caller can find out what became of a COMMIT that got no answer; others do the block again.
            committing: entered around COMMIT alone.
            keep: False to roll back in any case: a COMMIT after a row was locked can wait for a standby.

        Raises:
            CommitUnknownError: COMMIT was sent and its outcome is not known, where it is provable. Nothing else in
                the block leads to this error, so whoever gets it may look for what the block wrote.
        """
        access = sql.SQL("READ ONLY" if read_only else "READ WRITE")
        self.execute(sql.SQL("BEGIN ISOLATION LEVEL READ COMMITTED {}").format(access))
        self._local, self._changed_rows = {}, False
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        if not keep:
            self.rollback()
            return
        with committing or contextlib.nullcontext():
            self._commit(provable=provable)

    def _commit(self, *, provable: bool) -> None:
        try:
            with self.waiting():
                tag = self._connection.execute("COMMIT").statusmessage
        except (psycopg.Error, StalledError) as error:
            if not provable or classify(error.sqlstate, "commit") is not Answer.UNKNOWN:
                raise
            raise CommitUnknownError(step="commit", sqlstate=error.sqlstate) from error
        except BaseException as interrupt:  # whatever a signal's handler or a task's runner raises
            if not provable:
                raise
            raise CommitUnknownError("interrupted during COMMIT", step="commit") from interrupt
        self._local = {}
        self._stirred = self._changed_rows  # what was deferred to the end has run by now
        if tag != "COMMIT":  # a COMMIT in a failed transaction answers ROLLBACK and raises nothing
            raise StepError("the transaction had failed before COMMIT and was rolled back", step="commit")

    def rollback(self) -> None:
        """Roll back if the connection still can; a broken one has been rolled back by its server."""
        with contextlib.suppress(psycopg.Error, StalledError):
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self.abandon()
            elif not self._connection.closed:
                self._local, self._stirred = {}, False  # ROLLBACK takes back all that was set since BEGIN
                self.execute(sql.SQL("ROLLBACK"))

    def abandon(self) -> None:
        """Stop what the server is doing for this session, and close, without waiting for either side to drain."""
        with contextlib.suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=5)
        self.close()

    def close(self) -> None:
        """Close; twice is fine."""
        self._connection.close()
        self.pgconn.finish()  # which the driver leaves out for a lost one: its socket, and the row it was filling, stay

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def set_config(name: str, value: str, *, is_local: bool) -> sql.Composed:
    """Return the call that sets a setting, whatever the search_path: for the transaction, or for the session."""
    return sql.SQL("pg_catalog.set_config({}, {}, {})").format(
        sql.Literal(name), sql.Literal(value), sql.SQL("true" if is_local else "false")
    )


@functools.lru_cache
def _putting_back(settings: tuple[tuple[str, str], ...], local: tuple[tuple[str, str], ...]) -> sql.SQL:
    """Return the script that puts settings back, those of the session and those of the transaction."""
    # the session's first: what is local hides them, and they alone are left after COMMIT
    calls = [set_config(*item, is_local=False) for item in settings]
    calls += [set_config(*item, is_local=True) for item in local]
    return in_one_piece(sql.SQL("RESET ALL; SELECT current_user, {}").format(sql.SQL(", ").join(calls)))


def in_one_piece(query: sql.Composed) -> sql.SQL:
    """Return a query, which holds no names and binds no values, as what is sent again and again without more work."""
    return sql.SQL(query.as_string(None))


def _pinned(info: psycopg.ConnectionInfo) -> dict[str, str]:
    place = {"host": info.host, "port": str(info.port)}
    return {**place, "hostaddr": info.hostaddr} if info.hostaddr else place


def _asked(pgconn: pq.abc.PGconn, query: str, seconds: float) -> list[tuple[str, ...]]:
    """Return the rows of a query as text; none where they do not come in time, whatever the server does."""
    deadline = time.monotonic() + seconds
    rows: list[tuple[str, ...]] = []
    pgconn.send_query_params(query.encode(), None)
    while True:
        events = select.POLLIN | (select.POLLOUT if pgconn.flush() else 0)
        if not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                return rows
            width = range(result.nfields)
            rows += [
                tuple((result.get_value(row, i) or b"").decode("utf-8", "replace") for i in width)
                for row in range(result.ntuples)
            ]
            continue
        poller = select.poll()
        poller.register(pgconn.socket, events)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return []
        pgconn.consume_input()
