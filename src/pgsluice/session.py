"""The only caller of `psycopg.connect`: prelude, timeouts, transactions, and the source's snapshot."""

from __future__ import annotations

import contextlib
import dataclasses
import re
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
    StepError,
    UsageError,
)
from pgsluice.job import Options
from pgsluice.retry import Answer, classify

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
    "statement_timeout": "0",
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
    r"too many|remaining connection slots|starting up|shutting down|recovery|timeout", re.IGNORECASE
)


class Session:
    """One connection with the prelude in force, in autocommit outside `transaction`."""

    def __init__(
        self, connection: psycopg.Connection[Any], settings: Mapping[str, str], search_path: str, time_zone: str
    ) -> None:
        """Wrap a connection; `Endpoint.open` makes them. `pid` is that of the server's backend.

        Args:
            connection: in autocommit mode.
            settings: the prelude, as it is in force.
            search_path: of the role, before the prelude.
            time_zone: of the role, before the prelude.
        """
        self._connection = connection
        self.settings = settings
        self.pgconn = connection.pgconn
        self.search_path = search_path
        self.time_zone = time_zone
        self.pid = connection.pgconn.backend_pid

    @property
    def version(self) -> int:
        """Return server_version_num."""
        return self.pgconn.server_version

    @property
    def alive(self) -> bool:
        """Tell whether the connection is open, as far as this side knows."""
        return not self._connection.closed

    @property
    def usable(self) -> bool:
        """Tell whether the connection is open and idle, as far as this side knows."""
        return not self._connection.closed and self.pgconn.transaction_status == pq.TransactionStatus.IDLE

    @property
    def pinned(self) -> dict[str, str]:
        """Return the parameters that lead to this very server, whatever a name or a host list gives next time."""
        info = self._connection.info
        place = {"host": info.host, "port": str(info.port)}
        return {**place, "hostaddr": info.hostaddr} if info.hostaddr else place

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
        try:
            return self._connection.execute(query, params)
        except psycopg.Error as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # psycopg cancelled, and met this error instead
                raise KeyboardInterrupt from error
            raise

    def describe(self, query: str) -> list[tuple[str, int, int]]:
        """Parse one statement by the extended protocol, without running it.

        Returns:
            (name, type oid, type modifier) of each column it would return.

        Raises:
            psycopg.Error: the server refuses it; more than one statement is a syntax error here.
        """
        for result in (self.pgconn.prepare(b"", query.encode()), self.pgconn.describe_prepared(b"")):
            if result.status != pq.ExecStatus.COMMAND_OK:
                raise psycopg.errors.error_from_result(result, encoding="utf-8")
        return [((result.fname(i) or b"").decode(), result.ftype(i), result.fmod(i)) for i in range(result.nfields)]

    def text(self, query: sql.Composable) -> str:
        """Return a query as the text this connection would send."""
        return query.as_string(self._connection)

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
        self, *, read_only: bool = False, committing: AbstractContextManager[None] | None = None
    ) -> Iterator[None]:
        """Run the block in a READ COMMITTED transaction; commit it, or roll back on any exception.

        Args:
            read_only: as in BEGIN READ ONLY.
            committing: entered around COMMIT alone.

        Raises:
            CommitUnknownError: COMMIT was sent and its outcome is not known. Nothing else in the
                block leads to this error, so whoever gets it may look for what the block wrote.
        """
        access = sql.SQL("READ ONLY" if read_only else "READ WRITE")
        self.execute(sql.SQL("BEGIN ISOLATION LEVEL READ COMMITTED {}").format(access))
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        with committing or contextlib.nullcontext():
            self._commit()

    def _commit(self) -> None:
        try:
            tag = self._connection.execute("COMMIT").statusmessage
        except psycopg.Error as error:
            if classify(error.sqlstate, "commit") is not Answer.UNKNOWN:
                raise
            raise CommitUnknownError(step="commit", sqlstate=error.sqlstate) from error
        except KeyboardInterrupt as interrupt:
            raise CommitUnknownError("interrupted during COMMIT", step="commit") from interrupt
        if tag != "COMMIT":  # a COMMIT in a failed transaction answers ROLLBACK and raises nothing
            raise StepError("the transaction had failed before COMMIT and was rolled back", step="commit")

    def rollback(self) -> None:
        """Roll back if the connection still can; a broken one has been rolled back by its server."""
        with contextlib.suppress(psycopg.Error):
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self.abandon()
            elif not self._connection.closed:
                self._connection.execute("ROLLBACK")

    def abandon(self) -> None:
        """Stop what the server is doing for this session, and close, without waiting for either side to drain."""
        with contextlib.suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=5)
        self.close()

    def close(self) -> None:
        """Close; twice is fine."""
        self._connection.close()

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server as the user gave it, and how sessions on it are opened.

    Attributes:
        dsn: URI, conninfo string, ``service=`` name, or a callable that returns one, asked at every connect.
        read_only: every transaction is, unless it says otherwise.
        connect_timeout: seconds.
        lock_timeout: seconds that any statement waits for a lock: the catalog's functions take them too.
        application_name: shown in pg_stat_activity.
        pinned: parameters that lead to one server, laid over those of `dsn`.
    """

    dsn: Dsn
    read_only: bool
    connect_timeout: float = 10.0
    lock_timeout: float = 30.0
    application_name: str = "pgsluice"
    pinned: Mapping[str, str] | None = None

    def named(self, run_id: str, options: Options) -> Endpoint:
        """Return the endpoint as one run uses it."""
        return dataclasses.replace(
            self,
            application_name=f"pgsluice {run_id}",
            connect_timeout=options.connect_timeout,
            lock_timeout=options.lock_timeout,
        )

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
        try:
            return _begin(connection, self.read_only, self.lock_timeout)
        except BaseException:
            connection.close()
            raise

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
        fixed = {"application_name": self.application_name, "client_encoding": "UTF8"}
        return {**ours, **given, **fixed, **(self.pinned or {})}

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


def _begin(connection: psycopg.Connection[Any], read_only: bool, lock_timeout: float) -> Session:  # noqa: FBT001
    version = connection.pgconn.server_version
    wanted = dict(PRELUDE) | {name: "0" for since, name in _SINCE.items() if version >= since}
    wanted["default_transaction_read_only"] = "on" if read_only else "off"
    # The select list runs left to right: the role's own settings are read before they are replaced.
    calls: list[Query] = [
        sql.SQL("pg_catalog.current_setting({})").format(sql.Literal(name)) for name in ("search_path", "TimeZone")
    ]
    calls += [
        sql.SQL("pg_catalog.set_config({}, {}, false)").format(sql.Literal(name), sql.Literal(value))
        for name, value in wanted.items()
    ]
    patience = str(max(1, round(lock_timeout * 1000)))
    calls.append(sql.SQL("pg_catalog.set_config('lock_timeout', {}, false)").format(sql.Literal(patience)))
    calls.append(
        sql.SQL(  # a commit that the watermark stands on must be durable, whatever the role prefers
            "pg_catalog.set_config('synchronous_commit', CASE pg_catalog.current_setting('synchronous_commit')"
            " WHEN 'off' THEN 'on' ELSE pg_catalog.current_setting('synchronous_commit') END, false)"
        )
    )
    role_settings = connection.execute(sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls))).fetchone()
    readers: list[Query] = [sql.SQL("pg_catalog.current_setting({})").format(sql.Literal(name)) for name in wanted]
    readers.append(sql.SQL("pg_catalog.pg_backend_pid()"))
    now = connection.execute(sql.SQL("SELECT {}").format(sql.SQL(", ").join(readers))).fetchone()
    if role_settings is None or now is None:  # a SELECT without FROM has one row
        raise StepError("the server did not answer the session's first query", step="connect")
    lost = [name for name, value in zip(wanted, now, strict=False) if not _same_setting(wanted[name], str(value))]
    if (
        now[-1] != connection.pgconn.backend_pid
    ):  # locks of the session, staging and snapshot need a server of one's own
        lost.append("the server's process")
    if lost:
        raise RefusedError(
            f"what a session sets does not hold: {', '.join(lost)}",
            hint="A pooler in transaction mode stands in between; connect to the server's own port.",
            step="connect",
        )
    settings = {**wanted, "lock_timeout": patience}
    return Session(connection, settings, str(role_settings[0]), str(role_settings[1]))


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
