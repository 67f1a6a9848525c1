"""Why a server could not be connected to: what passes by itself, and what a person has to correct."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from pgsluice.errors import SECRETS, ConnectError, LoginError
from pgsluice.retry import Answer, classify

#: Words of libpq and the driver, which are English; those of a server follow its language, so its SQLSTATE comes first.
_STILL_TEMPORARY = re.compile(
    r"too many|remaining connection slots|starting up|shutting down|recovery|timeout"
    r"|closed the connection|SSL SYSCALL|could not (?:receive|send)|connection refused|reset by peer"
    r"|session is (?:not )?read-only|server is (?:not )?in hot standby mode",  # no host is yet as asked for
    re.IGNORECASE,
)
_QUOTED = re.compile(r'"[^"]*"')

#: A line of libpq's trace. The message stands behind the code, so nothing in it is taken for one.
_REFUSAL = re.compile(rb'^B\t\S+\tErrorResponse\t S "[^"]*"(?: V "[^"]*")? C "([0-9A-Z]{5})"', re.MULTILINE)


def connect_error(
    error: psycopg.OperationalError, side: str, parameters: Mapping[str, Any], seconds: float
) -> ConnectError:
    """Return why a connection failed: a LoginError where trying again would fail the same way.

    Args:
        error: of the driver; its text can hold the whole connection string.
        side: "source" or "target".
        parameters: of the connection.
        seconds: that a server has to answer in.
    """
    reason = " ".join(_without_secrets(str(error), parameters).split())
    where = f"{side} {place(parameters)}"
    code = None if isinstance(error, psycopg.errors.ConnectionTimeout) else _sqlstate(parameters, seconds)
    if code:
        is_refused = classify(code, "connect") in {Answer.NEVER, Answer.PERSON}
        return _login_error(where, reason, code) if is_refused else _not_reached(where, reason, code)
    if _STILL_TEMPORARY.search(_QUOTED.sub("", reason)):
        return _not_reached(where, reason)
    answer = _ping(parameters)
    if answer == pq.Ping.NO_ATTEMPT:
        return LoginError(
            f"the {where} can't be connected to as it is written: {reason}",
            hint="Check the service's name and the parameters of the connection.",
            step="connect",
        )
    if answer == pq.Ping.OK:
        return _login_error(where, reason)
    if answer == pq.Ping.NO_RESPONSE and _listens(parameters):
        return LoginError(
            f"the {where} can't be trusted as it is asked for: {reason}",
            hint="Check sslmode, sslrootcert, and that host is a name of its certificate; through a tunnel, host is the"
            " server's name and hostaddr the tunnel's end.",
            step="connect",
        )
    return _not_reached(where, reason)


def place(parameters: Mapping[str, Any]) -> str:
    """Return host and port of a connection, or what names them."""
    host = parameters.get("host") or parameters.get("service") or "(local socket)"
    return f"{host}:{parameters['port']}" if parameters.get("port") else str(host)


def _login_error(where: str, reason: str, code: str | None = None) -> LoginError:
    return LoginError(
        f"the {where} refused the connection: {reason}",
        hint="Check user, password, database and pg_hba.conf; try the same with psql.",
        step="connect",
        sqlstate=code,
    )


def _not_reached(where: str, reason: str, code: str | None = None) -> ConnectError:
    hint = (
        "Raise max_connections, or the limit of the role or database; or open fewer sessions at once (--jobs)."
        if code == psycopg.errors.TooManyConnections.sqlstate
        else "Check that the server runs and that host and port are right; trying again later can help."
    )
    return ConnectError(f"the {where} can't be reached: {reason}", hint=hint, step="connect", sqlstate=code)


def _sqlstate(parameters: Mapping[str, Any], seconds: float) -> str | None:
    """Log in once more and return the SQLSTATE of the server's refusal, of which the driver keeps the words alone.

    Only libpq's trace has it, and only on Linux. It holds what is sent, too, so it is kept in memory and not a moment
    longer than needed.
    """
    if not hasattr(os, "memfd_create"):
        return None
    trace = os.memfd_create("pgsluice")
    pgconn = pq.PGconn.connect_start(make_conninfo("", **parameters).encode())
    try:
        pgconn.trace(trace)
        pgconn.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS | pq.Trace.REGRESS_MODE)
        _log_in(pgconn, time.monotonic() + seconds)
        pgconn.untrace()
        found = _REFUSAL.findall(os.pread(trace, os.fstat(trace).st_size, 0))
    except (psycopg.Error, OSError):
        return None
    finally:
        pgconn.finish()
        os.close(trace)
    return found[-1].decode() if found else None


def _log_in(pgconn: pq.abc.PGconn, deadline: float) -> None:
    over = {pq.PollingStatus.OK, pq.PollingStatus.FAILED}
    while pgconn.status != pq.ConnStatus.BAD and (state := pgconn.connect_poll()) not in over:
        poller = select.poll()
        poller.register(pgconn.socket, select.POLLIN if state == pq.PollingStatus.READING else select.POLLOUT)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return


#: What a server says stands behind its severity and two blanks; the library's own words have one there, and no secret.
_SERVER_SAYS = re.compile(r"(?<=:  )\S.*", re.DOTALL)
#: PostgreSQL's own words to whom it refuses, around the names that we gave.
_OWN_WORDS = (
    r'(?:password|\S+) authentication failed for user "{user}"',
    r'(?:no pg_hba.conf entry|pg_hba.conf rejects connection) for host "\S*", user "{user}", database "{dbname}"{tls}',
    r'role "{user}" (?:does not exist|is not permitted to log in)',
    r'database "{dbname}" (?:does not exist|is not currently accepting connections)',
    r'permission denied for database "{dbname}"',
    r'too many connections for (?:role "{user}"|database "{dbname}")',
    r"sorry, too many clients already|remaining connection slots are reserved for [\w\s\"]+",
    r"the database system is (?:starting up|shutting down|in recovery mode|not (?:yet )?accepting connections)",
)
_DETAIL = (
    r"(?:\s+\w+:  (?:User does not have CONNECT privilege\.|Consistent recovery state has not been yet reached\.))?"
)


def _without_secrets(reason: str, parameters: Mapping[str, Any]) -> str:
    """Return a message of a connection that failed; what the server says is left out where a secret may stand in it.

    Nothing is taken out of the midst of it: a word that is missing there would tell a secret that is a word.
    """
    names = {name: re.escape(str(parameters[name])) if parameters.get(name) else ".*" for name in ("user", "dbname")}
    names["tls"] = "(?:, (?:no|SSL|GSS) (?:encryption|off|on))?"
    own = re.compile(f"(?:{'|'.join(_OWN_WORDS).format(**names)}){_DETAIL}\\s*")
    secrets = [str(parameters[name]) for name in SECRETS if parameters.get(name)]

    def told(said: re.Match[str]) -> str:
        if own.fullmatch(said[0]) or not any(secret in said[0] for secret in secrets):
            return said[0]
        return "what the server says is left out, for the password may stand in it"

    return _SERVER_SAYS.sub(told, reason)


def _ping(parameters: Mapping[str, Any]) -> pq.Ping:
    """Ask whether a server listens there: its refusals carry no SQLSTATE, and their text follows its language."""
    known = {name: value for name, value in parameters.items() if name not in SECRETS}
    return pq.Ping(pq.PGconn.ping(make_conninfo("", **known).encode()))


def _listens(parameters: Mapping[str, Any]) -> bool:
    """Ask the same without TLS, and as nobody: nothing of ours goes to a server that was not proven."""
    known = {name: parameters[name] for name in ("host", "hostaddr", "port", "connect_timeout") if name in parameters}
    plain = make_conninfo("", **known, user="nobody", dbname="nobody", sslmode="disable", gssencmode="disable")
    return pq.Ping(pq.PGconn.ping(plain.encode())) == pq.Ping.OK
