"""The page over HTTP, with JSON and numbers for Prometheus beside it. Whatever is asked, nothing is written."""

from __future__ import annotations

import base64
import dataclasses
import hmac
import importlib
import json
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pgsluice import page, visible
from pgsluice.errors import PgsluiceError, UsageError, scrub
from pgsluice.sinks.numbers import METRICS
from pgsluice.steps.state import RunRow

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

#: Seconds for which one look at the target answers everybody.
_FRESH = 2.0
#: Seconds after which a look that is still under way is waited for by whoever began it, and by nobody else.
_PROMPT = 1.0
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),  # the rest stands in the page itself
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
_HTML, _JSON, _TEXT = "text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"

#: Asks the target; takes the run that is meant, or None.
Look = Callable[[str | None], page.History]


class _Refused(Exception):  # noqa: N818 - an answer, not a fault
    def __init__(self, status: HTTPStatus, said: str) -> None:
        super().__init__(said)
        self.status = status


class _Looks:
    """Looks at the target, one at a time, whoever asks; one that takes long keeps a single thread."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._changed = threading.Condition()
        self._began: float | None = None
        self._known: dict[str | None, tuple[float, page.History | PgsluiceError]] = {}

    def history(self, run_id: str | None) -> page.History:
        """Return what the target said a moment ago, or says now."""
        with self._changed:
            answer = self._settled(run_id)
            if answer is None:
                self._began = time.monotonic()
        if answer is None:
            answer = self._asked(run_id)
        if isinstance(answer, PgsluiceError):
            raise answer
        return answer

    def _settled(self, run_id: str | None) -> page.History | PgsluiceError | None:
        """Return what is known, waiting for a look that is under way; None where it is ours to look."""
        while True:
            now = time.monotonic()
            self._known = {key: value for key, value in self._known.items() if now - value[0] < _FRESH}
            if run_id in self._known or self._began is None:
                return self._known.get(run_id, (now, None))[1]
            if now - self._began >= _PROMPT:
                raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the target is being asked, and has not answered yet")
            self._changed.wait(self._began + _PROMPT - now)

    def _asked(self, run_id: str | None) -> page.History | PgsluiceError:
        found: page.History | PgsluiceError | None = None
        try:
            found = self._look(run_id)
        except PgsluiceError as error:  # whoever waits behind us need not try the same
            found = error
        finally:
            with self._changed:
                self._began = None
                if found is not None:
                    self._known[run_id] = (time.monotonic(), found)
                self._changed.notify_all()
        return found


class Site:
    """A WSGI application."""

    def __init__(self, look: Look, hosts: Iterable[str], token: bytes | None) -> None:
        """Keep what is needed; the target is asked when somebody asks.

        Args:
            look: asks it.
            hosts: by which it may be called; a page elsewhere, whose name is made to lead here, has another.
            token: to be given as a bearer token or as the password of any user; None where everybody may read.
        """
        self._history = _Looks(look).history
        self._hosts = frozenset(host.lower() for host in hosts)
        self._token = token

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> list[bytes]:
        """Answer one request."""
        status, kind, text = HTTPStatus.OK, _TEXT, ""
        headers = list(_HEADERS)
        try:
            kind, text = self._answer(environ)
        except _Refused as refused:
            status, text = refused.status, f"{refused}\n"
        except UsageError as error:
            status, text = HTTPStatus.NOT_FOUND, f"{error}\n"
        except PgsluiceError as error:
            status, text = HTTPStatus.SERVICE_UNAVAILABLE, scrub(f"{error}\n")
        if status == HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", 'Basic realm="pgsluice", charset="UTF-8"'))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "GET, HEAD"))
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(("Retry-After", str(round(_FRESH))))
        body = text.encode()
        start(f"{status.value} {status.phrase}", [("Content-Type", kind), ("Content-Length", str(len(body))), *headers])
        return [body] if environ["REQUEST_METHOD"] != "HEAD" else []

    def _answer(self, environ: WSGIEnvironment) -> tuple[str, str]:
        """Return kind and text of what is asked for."""
        path = environ.get("PATH_INFO", "/")
        if path == "/healthz":  # whoever looks after the process has neither token nor name, and learns that it lives
            _only_reading(environ)
            return _TEXT, "ok\n"
        self._admit(environ)
        if path == "/metrics":
            return _TEXT, metrics(self._history(None))
        if path == "/tables.json":
            return _JSON, _json([dataclasses.asdict(each) for each in self._history(None).tables])
        if path == "/runs.json":
            return _JSON, _json([_without_tables(run) for run in self._history(None).runs])
        run_id = path.removeprefix("/runs/").removesuffix(".json") if path.startswith("/runs/") else None
        if path != "/" and not run_id:
            raise _Refused(
                HTTPStatus.NOT_FOUND,
                "there is /, /runs/RUN, /runs.json, /runs/RUN.json, /tables.json, /metrics, /healthz",
            )
        history = self._history(run_id)
        if path.endswith(".json"):
            return _JSON, _json(dataclasses.asdict(history.run) if history.run else None)
        return _HTML, page.render(history, live=True)

    def _admit(self, environ: WSGIEnvironment) -> None:
        """Let in who may read, by a name that is ours, and nobody who wants more."""
        host = _name_of(environ.get("HTTP_HOST", ""))
        if host not in self._hosts:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, f"not served by the name {host!r}: --allow-host lets it be")
        if self._token and not hmac.compare_digest(_given(environ.get("HTTP_AUTHORIZATION", "")), self._token):
            raise _Refused(
                HTTPStatus.UNAUTHORIZED, "the token, please: as a bearer token, or as the password of any user"
            )
        _only_reading(environ)


def metrics(history: page.History) -> str:
    """Return numbers of what became of each table last, and of the last run, for Prometheus."""
    try:
        library: Any = importlib.import_module("prometheus_client")
    except ImportError:
        raise _Refused(
            HTTPStatus.NOT_IMPLEMENTED, "the extra is not installed: pip install 'pgsluice[metrics]'"
        ) from None
    registry = library.CollectorRegistry()
    known = {each.name: each for each in METRICS}

    def gauge(name: str) -> Any:  # noqa: ANN401 - the library's own
        return library.Gauge(name, known[name].meaning, known[name].labels, registry=registry)

    success, done_at = gauge("pgsluice_table_success"), gauge("pgsluice_table_last_success_timestamp_seconds")
    seconds, rows = gauge("pgsluice_table_seconds"), gauge("pgsluice_table_rows")
    for each in history.tables:
        success.labels(each.target).set(each.status == "done")
        seconds.labels(each.target).set(each.report["seconds"])
        if each.age is not None:
            done_at.labels(each.target).set(time.time() - each.age)
        if each.report["target_count"] >= 0:
            rows.labels(each.target).set(each.report["target_count"])
    if history.run and history.run.seconds is not None:
        gauge("pgsluice_run_seconds").set(history.run.seconds)
        gauge("pgsluice_run_exit_code").set(history.run.exit_code or 0)
        gauge("pgsluice_run_finished_timestamp_seconds").set(history.run.started_at + history.run.seconds)
    return str(library.generate_latest(registry).decode())


def _only_reading(environ: WSGIEnvironment) -> None:
    if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "everything in here is to be read")


def _json(value: object) -> str:
    return visible.lines(json.dumps(value, ensure_ascii=False)) + "\n"


def _without_tables(run: RunRow) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(run).items() if name != "tables"}


def _name_of(host: str) -> str:
    """Return the name of a Host header, without its port."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name.strip("[]").lower()


def _given(authorization: str) -> bytes:
    """Return the token that a request brings."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")  # bytes as they came (PEP 3333)
    try:
        return base64.b64decode(value, validate=True).partition(b":")[2] if scheme.lower() == "basic" else b""
    except ValueError:
        return b""
