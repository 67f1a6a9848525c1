"""How a session is opened: where a server is, by whom, with what patience. The only caller of `psycopg.connect`."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgsluice import sqltext, stopping
from pgsluice.errors import SECRETS, ConnectError, RefusedError, UsageError
from pgsluice.facts import NOT_BEHIND
from pgsluice.job import Options
from pgsluice.session import CORE_ONLY, RESTRICTION, Query, Session, in_one_piece, set_config
from pgsluice.unreachable import connect_error, place

Dsn = str | Callable[[], str]

#: What both ends must agree on for a value's text to mean one thing. A role's DateStyle=SQL,DMY turned 4 March into
#: 3 April without an error. https://www.postgresql.org/docs/current/runtime-config-client.html
PRELUDE: Mapping[str, str] = {
    "search_path": CORE_ONLY,
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "array_nulls": "on",
    "xmloption": "content",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",  # names and types of both sides are compared as they are printed
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",  # a statement of its own would wait for every serializable transaction
    "synchronize_seqscans": "off",
    "row_security": "off",
    "client_min_messages": "error",  # so that all a server says during COPY IN is an error
    "idle_in_transaction_session_timeout": "0",
}
#: What a superuser alone can set, so that we can't: rows that can't be read would look as if they were gone.
HIDING_DAMAGE = ("zero_damaged_pages", "ignore_checksum_failure")
_SINCE = {140000: "idle_session_timeout", 170000: "transaction_timeout"}

#: A statement whose client was killed is ended within this time, where the server can see that; elsewhere SET fails.
_CHECK_CLIENT = "client_connection_check_interval"
_CHECK_CLIENT_MS = "1000"
_CHECK_CLIENT_SINCE = 140000

#: A peer that vanishes is noticed within a minute, in either direction.
_TRANSPORT = {
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}


@dataclass(frozen=True, slots=True)
class Expected:
    """What a server has to be, by the word of whoever wrote it down.

    Attributes:
        database: its name, or None for any.
        system: the cluster's system identifier, or None for any.
        said_by: who expects it: "FILE:LINE".
    """

    database: str | None
    system: str | None
    said_by: str


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
        show_row_data: errors may hold what a server says of a row.
        application_name: shown in pg_stat_activity.
        pinned: parameters that lead to one server, laid over those of `dsn`.
        looks: nothing is written, and nothing but tables is read, as by commands that only tell what is there.
        expected: what the server has to be, or None.
    """

    dsn: Dsn
    read_only: bool
    connect_timeout: float = 10.0
    lock_timeout: float = 30.0
    stall_timeout: float = 300.0
    statement_timeout: float = 0.0
    show_row_data: bool = False
    application_name: str = "pgsluice"
    pinned: Mapping[str, str] | None = None
    looks: bool = False
    expected: Expected | None = None

    def looking(self) -> Endpoint:
        """Return the endpoint as a command uses it that only tells what is there."""
        return dataclasses.replace(self, looks=True)

    def named(self, run_id: str, options: Options) -> Endpoint:
        """Return the endpoint as one run uses it."""
        return dataclasses.replace(
            self,
            application_name=f"pgsluice {run_id}",
            connect_timeout=options.connect_timeout,
            lock_timeout=options.lock_timeout,
            stall_timeout=options.stall_timeout,
            statement_timeout=options.statement_timeout,
            show_row_data=options.show_row_data,
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
            RefusedError: a session there would not be what it has to be, or it is not the server that is expected.
        """
        parameters = self._parameters()
        reached = stopping.apart(lambda: self._reached(parameters), _let_go)
        if isinstance(reached, ConnectError):  # out here, it has no chain: the driver's text can hold the whole string
            raise reached
        session = Session(reached, self)
        try:
            self._begin(session)
        except BaseException:
            session.close()
            raise
        return session

    def _reached(self, parameters: Mapping[str, Any]) -> psycopg.Connection[Any] | ConnectError:
        try:
            return self.dial(parameters)
        except psycopg.OperationalError as error:
            return connect_error(error, self.side, parameters, self.connect_timeout)

    def dial(self, parameters: Mapping[str, Any]) -> psycopg.Connection[Any]:
        """Connect, and no more.

        Raises:
            psycopg.OperationalError: its text can hold the whole connection string.
        """
        return psycopg.connect(make_conninfo("", **parameters), autocommit=True, prepare_threshold=None)

    def renewed(self) -> Mapping[str, str]:
        """Return the secrets of a callable, asked again: a token may live for minutes, and a session for hours."""
        if not callable(self.dsn):
            return {}
        given = self._parameters()
        return {name: str(given[name]) for name in SECRETS if given.get(name)}

    def _parameters(self) -> dict[str, Any]:
        given = parameters_of(self.dsn() if callable(self.dsn) else self.dsn)
        if given is None:
            raise UsageError(f"the connection string of the {self.side} can't be read", hint=_FORMS)
        ours = {"connect_timeout": str(max(2, round(self.connect_timeout))), **_TRANSPORT}
        if not self.read_only and "," in f"{given.get('host', '')}{given.get('hostaddr', '')}":
            ours["target_session_attrs"] = "read-write"  # of several hosts the one that takes writes
        fixed = {"application_name": self.application_name, "client_encoding": "UTF8"}
        return {**ours, **given, **fixed, **(self.pinned or {})}

    def _begin(self, session: Session) -> None:
        """Run the prelude, keep what the role had before it, and see that it holds. Two round trips."""
        wanted = dict(PRELUDE) | {name: "0" for since, name in _SINCE.items() if session.version >= since}
        is_reader = self.read_only or self.looks
        wanted["default_transaction_read_only"] = "on" if is_reader else "off"
        if is_reader and session.can_restrict_relations:  # lifted where SQL of the user's is run, or a view read
            wanted[RESTRICTION] = NOT_BEHIND["r"]
        patience = {
            "lock_timeout": str(max(1, round(self.lock_timeout * 1000))),
            "statement_timeout": str(round(self.statement_timeout * 1000)),
        }
        search_path, time_zone, *_, durable, check = session.row(
            _prelude(tuple({**wanted, **patience}.items()), session.version)
        )
        *now, role, pid, started, port, database, in_recovery = session.row(_look_back((*wanted, *HIDING_DAMAGE)))
        if pid != session.pid:  # a pooler makes up the one it hands out, so that a pool of one server is told too
            raise RefusedError(
                f"a pooler (PgBouncer or the like) answers for the {self.side}: another process of the server than the"
                " one connected to",
                hint=f"Connect to the server itself, which listens on port {port} of its host. No mode of a pooler will"
                " do: locks, staging and snapshots of a run are its sessions' own, and it ends lost ones by their pid.",
                step="connect",
            )
        held = dict(zip((*wanted, *HIDING_DAMAGE), now, strict=True))
        if on := [name for name in HIDING_DAMAGE if held[name] == "on"]:
            raise RefusedError(
                f"rows that the {self.side} can't read would look as if they were gone: {', '.join(on)}",
                hint="Set it to off for the role, the database and the server.",
                step="connect",
            )
        lost = [name for name in wanted if not _same_setting(wanted[name], str(held[name]))]
        if lost:
            raise RefusedError(
                f"what a session of the {self.side} sets does not hold: {', '.join(lost)}",
                hint="A pooler stands in between, or something that changes settings; connect to the server itself.",
                step="connect",
            )
        session.role = role
        session.settings = {**wanted, **patience, "synchronous_commit": str(durable)} | (
            {_CHECK_CLIENT: _CHECK_CLIENT_MS} if check else {}
        )
        session.search_path, session.time_zone = core_first(str(search_path)), str(time_zone)
        session.started = str(started)
        session.database, session.in_recovery = str(database), bool(in_recovery)
        if self.expected:
            _refuse_another(session, self.expected)

    @property
    def place(self) -> str:
        """Return host, port and database, without secrets; a callable is not asked for it."""
        if callable(self.dsn):
            return "(callable)"
        parameters = parameters_of(self.dsn)
        if parameters is None:
            return "(unreadable)"
        database = parameters.get("dbname")
        return f"{place(parameters)}/{database}" if database else place(parameters)

    def __repr__(self) -> str:
        """Return the place without secrets."""
        return f"Endpoint({self.side} {self.place})"


def _refuse_another(session: Session, expected: Expected) -> None:
    """See that a server is the one that is expected. A round trip where its system identifier is.

    Raises:
        RefusedError: it is not, or can't be told.
    """
    there = f"the {session.side} is {session.described}"
    if expected.database not in {None, session.database}:
        raise RefusedError(
            f"{there}, and {expected.said_by} expects database {expected.database}", hint=_EXPECTED, step="connect"
        )
    if expected.system is None:
        return
    try:
        system = str(session.row(sqltext.load("identity"))[0])
    except psycopg.errors.InsufficientPrivilege:
        functions = ", ".join(f"pg_control_{name}()" for name in ("system", "checkpoint", "recovery"))
        raise RefusedError(
            f"{there}, which hides the system identifier that {expected.said_by} expects",
            hint=f"GRANT EXECUTE ON FUNCTION {functions} TO {sqltext.bare(session.role)};",
            step="connect",
        ) from None
    if system != expected.system:
        raise RefusedError(
            f"{there}, system identifier {system}, and {expected.said_by} expects {expected.system}",
            hint=_EXPECTED,
            step="connect",
        )


_EXPECTED = "Look at who sets the address (command line, file, PGSLUICE_* variables), or mend expect: in the file."
#: One name of a search_path, as SHOW prints it.
_SCHEMA = re.compile(r'"(?:[^"]|"")*"|[^\s,"]+')


def core_first(search_path: str) -> str:
    """Return a search_path in which PostgreSQL's own types and functions come first, and temporary relations last.

    A role's path that names pg_catalog behind a schema of somebody's lets that one say what ``text`` means, and one
    that does not name pg_temp lets any trigger say what ``pg_class`` means.
    """
    names: list[str] = _SCHEMA.findall(search_path)
    placed = {"pg_catalog", "pg_temp"}
    others = [name for name in names if (name[1:-1] if name[0] == '"' else name.lower()) not in placed]
    return ", ".join([*others, CORE_ONLY])


def parameters_of(dsn: str) -> dict[str, Any] | None:
    """Return the parameters of a connection string, or None where it can't be read, or means something else.

    libpq takes the first @ or / of a URI for the end of the password, so that the rest of one that holds such signs
    unencoded becomes host, port or database, and would be told as these.

    Args:
        dsn: URI, conninfo string or ``service=`` name. It is not repeated by whatever comes of it.
    """
    if (found := _URI.match(dsn)) and ("@" in found["path"] or not _PLACES.fullmatch(found["places"])):
        return None
    try:
        return conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        pass  # its text, and its chain, can hold the password
    return None


#: As libpq cuts it: a login, where an @ comes before any slash.
_URI = re.compile(r"postgres(?:ql)?://(?:[^@/]*@)?(?P<places>[^/?]*)(?P<path>[^?]*)")
_PLACE = r"(?:\[[^]]*\]|[^@:,\[\]]*)(?::\d*)?"
_PLACES = re.compile(rf"{_PLACE}(?:,{_PLACE})*")
_FORMS = (
    "Write postgresql://user@host:5432/database, 'host=.. dbname=..' or service=name; in a URI, signs of a password"
    " are encoded: %40 for @, %2F for /, %25 for %."
)


@functools.lru_cache
def _prelude(settings: tuple[tuple[str, str], ...], version: int) -> sql.SQL:
    """Return the query that puts settings in force, and returns the role's own search_path and TimeZone first."""
    # The select list runs left to right: the role's own settings are read before they are replaced.
    calls: list[Query] = [_current(name) for name in ("search_path", "TimeZone")]
    calls += [set_config(*item, is_local=False) for item in settings]
    calls.append(
        sql.SQL(  # a commit that the watermark stands on must be durable, whatever the role prefers
            "pg_catalog.set_config('synchronous_commit',"
            " CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off' THEN 'on'"
            " ELSE pg_catalog.current_setting('synchronous_commit') END, false)"
        )
    )
    calls.append(_client_check(version))
    return in_one_piece(sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls)))


@functools.lru_cache
def _look_back(names: tuple[str, ...]) -> sql.SQL:
    """Return the query that reads settings back, and says which role, backend and port of the server this is."""
    return in_one_piece(
        sql.SQL(
            "SELECT {}, current_user::text, pg_catalog.pg_backend_pid(), (SELECT backend_start::text"
            " FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()),"
            " pg_catalog.current_setting('port'), pg_catalog.current_database()::text, pg_catalog.pg_is_in_recovery()"
        ).format(sql.SQL(", ").join(map(_current, names)))
    )


def _current(name: str) -> sql.Composed:
    return sql.SQL("pg_catalog.current_setting({})").format(sql.Literal(name))


def _client_check(version: int) -> Query:
    """Return what sets the check of the client, or NULL where the server can't do it: older than 14, or no Linux."""
    if version < _CHECK_CLIENT_SINCE:
        return sql.SQL("NULL")
    check = set_config(_CHECK_CLIENT, _CHECK_CLIENT_MS, is_local=False)
    return sql.SQL("CASE WHEN pg_catalog.version() OPERATOR(pg_catalog.~~) '%linux%' THEN {} END").format(check)


def _let_go(late: psycopg.Connection[Any] | ConnectError) -> None:
    """Close a connection that nobody waits for any more."""
    if not isinstance(late, ConnectError):
        late.close()


def _same_setting(wanted: str, shown: str) -> bool:
    return shown.strip('"') == wanted or shown.startswith(f"{wanted},")  # DateStyle shows as "ISO, MDY"
