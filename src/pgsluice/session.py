"""The only caller of `psycopg.connect`: prelude, timeouts, transactions, and the source's snapshot."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgsluice.errors import (
    CommitUnknownError,
    ConnectError,
    LoginError,
    RefusedError,
    StalledError,
    StepError,
    UsageError,
)
from pgsluice.job import Options
from pgsluice.retry import Answer, classify
from pgsluice.watchdog import Party, Wait, watchdog

Dsn = str | Callable[[], str]
Query = sql.SQL | sql.Composed
Params = Sequence[Any] | Mapping[str, Any] | None

#: What both ends must agree on for a value's text to mean one thing. A role's DateStyle=SQL,DMY turned 4 March into
#: 3 April without an error. https://www.postgresql.org/docs/current/runtime-config-client.html
PRELUDE: Mapping[str, str] = {
    "search_path": "",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "array_nulls": "on",
    "xmloption": "content",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
    "synchronize_seqscans": "off",
    "row_security": "off",
    "client_min_messages": "error",  # so that all a server says during COPY IN is an error
    "idle_in_transaction_session_timeout": "0",
}
_SINCE = {140000: "idle_session_timeout", 170000: "transaction_timeout"}

#: A peer that vanishes is noticed within a minute, in either direction.
_TRANSPORT = {
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
_STILL_TEMPORARY = re.compile(
    r"too many|remaining connection slots|starting up|shutting down|recovery|timeout"
    r"|closed the connection|could not (?:receive|send)|connection refused|reset by peer",
    re.IGNORECASE,
)


#: A backend that waits for its client is not at work, nor one whose commit waits for a standby.
_WORKING = sql.SQL(
    "SET TimeZone = 'UTC'; SELECT pid FROM pg_catalog.pg_stat_activity WHERE {} AND state = 'active'"
    " AND pid <> pg_catalog.pg_backend_pid()"
    " AND wait_event_type IS DISTINCT FROM 'Client' AND wait_event IS DISTINCT FROM 'SyncRep'"
)


class Session:
    """One connection with the prelude in force, in autocommit outside `transaction`."""

    def __init__(self, connection: psycopg.Connection[Any], endpoint: Endpoint) -> None:
        """Wrap a connection; `Endpoint.open` makes them, and runs the prelude.

        `pid` and `started` name the server's backend; `pinned` are the parameters that lead to this very server,
        whatever a name or a host list gives next time; `settings` are in force; `search_path` and `time_zone` are the
        role's own, before the prelude; `ended` is the SQLSTATE that its server ended it with, as far as `answers` saw.

        Args:
            connection: in autocommit mode.
            endpoint: it leads to.
        """
        self._connection = connection
        self._endpoint = endpoint
        self._severed = ""
        self.pgconn = connection.pgconn
        self.pid = connection.pgconn.backend_pid
        self.pinned = _pinned(connection.info)
        self.started = ""
        self.ended: str | None = None
        self.settings: Mapping[str, str] = {}
        self.search_path = self.time_zone = ""

    @property
    def name(self) -> str:
        """Return the application_name, which holds the run's id."""
        return self._endpoint.application_name

    @property
    def version(self) -> int:
        """Return server_version_num."""
        return self.pgconn.server_version

    @property
    def alive(self) -> bool:
        """Tell whether the connection is open, as far as this side knows."""
        return not self._connection.closed and not self._severed

    @property
    def usable(self) -> bool:
        """Tell whether the connection is open and idle, as far as this side knows."""
        return self.alive and self.pgconn.transaction_status == pq.TransactionStatus.IDLE

    @property
    def parameters(self) -> dict[str, str]:
        """Return every parameter of the live connection, defaults of the environment included, secrets too."""
        found = {
            option.keyword.decode(): option.val.decode()
            for option in self.pgconn.info
            if option.val is not None and option.val != b""
        }
        return {**found, **self.pinned}

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

    def _run(self, query: Query, params: Params) -> psycopg.Cursor[Any]:
        with self.waiting():
            try:
                return self._connection.execute(query, params)
            except psycopg.Error as error:
                if isinstance(error.__context__, KeyboardInterrupt):  # psycopg cancelled, and met this error instead
                    raise KeyboardInterrupt from error
                raise

    @contextlib.contextmanager
    def waiting(self, *others: Party, seconds: float | None = None) -> Iterator[Wait]:
        """Watch the block, which waits for this session's server.

        Args:
            others: that it waits for as well: it is enough that one of them works.
            seconds: without a move or a sign of work; None for the endpoint's own.

        Raises:
            StalledError: the wait was ended.
        """
        limit = self._endpoint.stall_timeout if seconds is None else seconds
        try:
            with watchdog.watching(limit, self, *others) as wait:
                yield wait
        except psycopg.Error as error:
            if self._severed:
                who = "the relay stood still" if others else f"the {self._endpoint.side} went silent"
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
        who = sql.SQL("pid = {} AND backend_start::text = {}").format(sql.Literal(self.pid), sql.Literal(self.started))
        return bool(self.aside(_WORKING.format(who)))

    def run_is_working(self) -> bool:
        """Ask the same of every backend that bears the run's name."""
        who = sql.SQL("application_name = {}").format(sql.Literal(self._endpoint.application_name))
        return bool(self.aside(_WORKING.format(who)))

    def aside(self, query: sql.Composed) -> list[tuple[str, ...]]:
        """Ask this session's server something over a connection of its own, from any thread.

        Returns:
            Rows as text; none where there are none, and where no answer came within the time to connect.
        """
        try:
            with psycopg.connect(make_conninfo("", **self.parameters), autocommit=True) as other:
                return _asked(other.pgconn, query.as_string(None), self._endpoint.connect_timeout)
        except psycopg.Error:
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
        with self.waiting():
            for result in (self.pgconn.prepare(b"", query.encode()), self.pgconn.describe_prepared(b"")):
                if result.status != pq.ExecStatus.COMMAND_OK:
                    raise psycopg.errors.error_from_result(result, encoding="utf-8")
        return [((result.fname(i) or b"").decode(), result.ftype(i), result.fmod(i)) for i in range(result.nfields)]

    def text(self, query: sql.Composable) -> str:
        """Return a query as the text this connection would send."""
        return query.as_string(self._connection)

    @property
    def lock_seconds(self) -> float:
        """Return how long a statement waits for a lock."""
        return self._endpoint.lock_timeout

    def patience(self, seconds: float | None = None) -> None:
        """Wait at most so long for a lock until the transaction ends; None: as long as the session does."""
        value = self.settings["lock_timeout"] if seconds is None else str(max(1, round(seconds * 1000)))
        self.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(value)))

    def as_role(self, search_path: str, time_zone: str) -> None:
        """Look up names and read clocks, until the transaction ends, as the role does outside of this tool.

        The user's own SQL and the target's own triggers mean what they mean to their authors. Nothing that we write
        depends on it: our names and operators are qualified, and ISO output carries its offset.
        """
        self.rows(
            sql.SQL(
                "SELECT pg_catalog.set_config('search_path', %s, true), pg_catalog.set_config('TimeZone', %s, true)"
            ),
            (search_path, time_zone),
        )

    @contextlib.contextmanager
    def transaction(
        self,
        *,
        read_only: bool = False,
        provable: bool = False,
        committing: AbstractContextManager[None] | None = None,
    ) -> Iterator[None]:
        """Run the block in a READ COMMITTED transaction; commit it, or roll back on any exception.

        Args:
            read_only: as in BEGIN READ ONLY.
            provable: the caller can find out what became of a COMMIT that got no answer; others do the block again.
            committing: entered around COMMIT alone.

        Raises:
            CommitUnknownError: COMMIT was sent and its outcome is not known, where it is provable. Nothing else in
                the block leads to this error, so whoever gets it may look for what the block wrote.
        """
        access = sql.SQL("READ ONLY" if read_only else "READ WRITE")
        self.execute(sql.SQL("BEGIN ISOLATION LEVEL READ COMMITTED {}").format(access))
        try:
            yield
        except BaseException:
            self.rollback()
            raise
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
        except KeyboardInterrupt as interrupt:
            if not provable:
                raise
            raise CommitUnknownError("interrupted during COMMIT", step="commit") from interrupt
        if tag != "COMMIT":  # a COMMIT in a failed transaction answers ROLLBACK and raises nothing
            raise StepError("the transaction had failed before COMMIT and was rolled back", step="commit")

    def rollback(self) -> None:
        """Roll back if the connection still can; a broken one has been rolled back by its server."""
        with contextlib.suppress(psycopg.Error, StalledError):
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self.abandon()
            elif not self._connection.closed:
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


def _pinned(info: psycopg.ConnectionInfo) -> dict[str, str]:
    place = {"host": info.host, "port": str(info.port)}
    return {**place, "hostaddr": info.hostaddr} if info.hostaddr else place


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server as the user gave it, and how sessions on it are opened.

    Attributes:
        dsn: URI, conninfo string, ``service=`` name, or a callable that returns one, asked at every connect.
        read_only: every transaction is, unless it says otherwise.
        connect_timeout: seconds.
        lock_timeout: seconds that any statement waits for a lock: the catalog's functions take them too.
        stall_timeout: seconds in which nothing moves and no work is seen on the server, before a wait is ended.
        statement_timeout: seconds that a statement may take; 0 for as long as it takes.
        application_name: shown in pg_stat_activity.
        pinned: parameters that lead to one server, laid over those of `dsn`.
    """

    dsn: Dsn
    read_only: bool
    connect_timeout: float = 10.0
    lock_timeout: float = 30.0
    stall_timeout: float = 300.0
    statement_timeout: float = 0.0
    application_name: str = "pgsluice"
    pinned: Mapping[str, str] | None = None

    def named(self, run_id: str, options: Options) -> Endpoint:
        """Return the endpoint as one run uses it."""
        return dataclasses.replace(
            self,
            application_name=f"pgsluice {run_id}",
            connect_timeout=options.connect_timeout,
            lock_timeout=options.lock_timeout,
            stall_timeout=options.stall_timeout,
            statement_timeout=options.statement_timeout,
        )

    def as_worker(self, number: int) -> Endpoint:
        """Return the endpoint as a worker on another machine uses it: its sessions can be told from the others."""
        return dataclasses.replace(self, application_name=f"{self.application_name} worker {number}")

    @property
    def side(self) -> str:
        """Return "source" or "target"."""
        return "source" if self.read_only else "target"

    def open(self) -> Session:
        """Connect, run the prelude, and read it back.

        Raises:
            UsageError: the connection string can't be read.
            LoginError: the server answered and refused.
            ConnectError: nobody answered, or not yet.
        """
        parameters = self._parameters()
        try:
            connection = psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as error:
            raise _connect_error(error, self.side, parameters) from None  # its text can hold the whole string
        session = Session(connection, self)
        try:
            self._begin(session)
        except BaseException:
            session.close()
            raise
        return session

    def _parameters(self) -> dict[str, Any]:
        dsn = self.dsn() if callable(self.dsn) else self.dsn
        try:
            given = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError:
            raise UsageError(
                f"the connection string of the {self.side} can't be read",
                hint="Write postgresql://user@host:5432/database, 'host=.. dbname=..' or service=name.",
            ) from None
        ours = {"connect_timeout": str(max(2, round(self.connect_timeout))), **_TRANSPORT}
        if not self.read_only and "," in f"{given.get('host', '')}{given.get('hostaddr', '')}":
            ours["target_session_attrs"] = "read-write"  # of several hosts the one that takes writes
        fixed = {"application_name": self.application_name, "client_encoding": "UTF8"}
        return {**ours, **given, **fixed, **(self.pinned or {})}

    def _begin(self, session: Session) -> None:
        """Run the prelude, keep what the role had before it, and see that it holds. Two round trips."""
        wanted = dict(PRELUDE) | {name: "0" for since, name in _SINCE.items() if session.version >= since}
        wanted["default_transaction_read_only"] = "on" if self.read_only else "off"
        patience = {
            "lock_timeout": str(max(1, round(self.lock_timeout * 1000))),
            "statement_timeout": str(round(self.statement_timeout * 1000)),
        }
        # The select list runs left to right: the role's own settings are read before they are replaced.
        calls: list[Query] = [
            sql.SQL("pg_catalog.current_setting({})").format(sql.Literal(name)) for name in ("search_path", "TimeZone")
        ]
        calls += [
            sql.SQL("pg_catalog.set_config({}, {}, false)").format(sql.Literal(name), sql.Literal(value))
            for name, value in {**wanted, **patience}.items()
        ]
        calls.append(
            sql.SQL(  # a commit that the watermark stands on must be durable, whatever the role prefers
                "pg_catalog.set_config('synchronous_commit', CASE pg_catalog.current_setting('synchronous_commit')"
                " WHEN 'off' THEN 'on' ELSE pg_catalog.current_setting('synchronous_commit') END, false)"
            )
        )
        search_path, time_zone, *_ = session.row(sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls)))
        readers: list[Query] = [sql.SQL("pg_catalog.current_setting({})").format(sql.Literal(name)) for name in wanted]
        *now, pid, started = session.row(
            sql.SQL(
                "SELECT {}, pg_catalog.pg_backend_pid(), (SELECT backend_start::text"
                " FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid())"
            ).format(sql.SQL(", ").join(readers))
        )
        lost = [name for name, value in zip(wanted, now, strict=True) if not _same_setting(wanted[name], str(value))]
        if pid != session.pid:  # locks of the session, staging and snapshot need a server of one's own
            lost.append("the server's process")
        if lost:
            raise RefusedError(
                f"what a session sets does not hold: {', '.join(lost)}",
                hint="A pooler in transaction mode stands in between; connect to the server's own port.",
                step="connect",
            )
        session.settings = {**wanted, **patience}
        session.search_path, session.time_zone, session.started = str(search_path), str(time_zone), str(started)

    @property
    def place(self) -> str:
        """Return host, port and database, without secrets; a callable is not asked for it."""
        if callable(self.dsn):
            return "(callable)"
        try:
            parameters = conninfo_to_dict(self.dsn)
        except psycopg.ProgrammingError:
            return "(unreadable)"
        database = parameters.get("dbname")
        return f"{_place(parameters)}/{database}" if database else _place(parameters)

    def __repr__(self) -> str:
        """Return the place without secrets."""
        return f"Endpoint({self.side} {self.place})"


def _asked(pgconn: pq.abc.PGconn, query: str, seconds: float) -> list[tuple[str, ...]]:
    """Return the rows of a query as text; none where they do not come in time, whatever the server does."""
    deadline = time.monotonic() + seconds
    rows: list[tuple[str, ...]] = []
    pgconn.send_query(query.encode())
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


def _same_setting(wanted: str, shown: str) -> bool:
    return shown.strip('"') == wanted or shown.startswith(f"{wanted},")  # DateStyle shows as "ISO, MDY"


def _connect_error(error: psycopg.OperationalError, side: str, parameters: Mapping[str, Any]) -> ConnectError:
    reason = " ".join(str(error).split())
    password = parameters.get("password")
    if password:
        reason = reason.replace(str(password), "***")
    place = f"{side} {_place(parameters)}"
    answer = _ping(parameters)
    if answer == pq.Ping.NO_ATTEMPT:
        return LoginError(
            f"the {place} can't be connected to as it is written: {reason}",
            hint="Check the service's name and the parameters of the connection.",
            step="connect",
        )
    if answer == pq.Ping.OK and not _STILL_TEMPORARY.search(reason):
        return LoginError(
            f"the {place} refused the connection: {reason}",
            hint="Check user, password, database and pg_hba.conf; try the same with psql.",
            step="connect",
        )
    return ConnectError(
        f"the {place} can't be reached: {reason}",
        hint="Check that the server runs and that host and port are right; trying again later can help.",
        step="connect",
    )


def _place(parameters: Mapping[str, Any]) -> str:
    host = parameters.get("host") or parameters.get("service") or "(local socket)"
    return f"{host}:{parameters['port']}" if parameters.get("port") else str(host)


def _ping(parameters: Mapping[str, Any]) -> pq.Ping:
    """Ask whether a server listens there: its refusals carry no SQLSTATE, and their text follows its language."""
    known = {name: value for name, value in parameters.items() if name != "password"}
    return pq.Ping(pq.PGconn.ping(make_conninfo("", **known).encode()))
