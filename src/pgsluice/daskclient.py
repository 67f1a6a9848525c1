"""Both ends of a pipe to a process that is the client of a Dask cluster, and unpickles nothing that calls anything.

Dask's client unpickles whatever a scheduler or a worker says is a pickle, before its caller can look at it: results,
exceptions, types, warnings, any part of any message. So it gets a process of its own, without our sessions and our
environment, in which an audit hook stops every pickle that names a function or a class. Texts alone go in and out.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import io
import json
import os
import subprocess
import sys
import threading
from asyncio import CancelledError
from collections.abc import Callable
from concurrent.futures import Future
from typing import IO, Any

from pgsluice.errors import StepError, TemporaryError, UsageError

#: What the process gets of our environment, beside Dask's own settings: no password, token or address of a server.
_PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"}
)
_REASON_CHARACTERS = 500
_LINE_CHARACTERS = 1 << 18
_FAREWELL_SECONDS = 5.0


class Cluster:
    """A Dask cluster, whose workers call one function with a text, and answer with a text."""

    def __init__(self, address: str, function: str, seconds: float) -> None:
        """Start the process, and wait until the scheduler has answered it.

        Args:
            address: of the scheduler, ``tcp://..`` or ``tls://..``.
            function: ``module:name``, which is there on the workers too.
            seconds: to wait for the scheduler.

        Raises:
            UsageError: it did not answer.
        """
        self._pending: dict[int, Future[str]] = {}
        self._asked = 0
        self._over: Exception | None = None
        self._changing = threading.Lock()
        self._listener = threading.Thread(target=self._listen, name="pgsluice dask", daemon=True)
        self._process = subprocess.Popen(  # noqa: S603 - this module, and an address that is given to Dask's client alone
            [sys.executable, "-P", "-m", __name__, address, function, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=_environment(),
            start_new_session=True,  # the Ctrl-C that ends a run is not for it: what it does is cancelled first
        )
        self._input, self._output = _pipes(self._process)
        said = self._heard()
        if "ready" not in said:
            self.close()
            raise UsageError(
                f"no Dask scheduler answers at {address}: {said.get('failed', 'the process that asks it has ended')}",
                hint="Look at --executor, and whether the cluster runs; tls:// takes the certificates of Dask's own"
                " configuration (DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ..__TLS__CLIENT__CERT, ..__TLS__CLIENT__KEY).",
            )
        self._listener.start()

    def ask(self, text: str) -> Future[str]:
        """Have a worker called with a text; what it answers, or why it does not, comes with the future."""
        answer: Future[str] = Future()
        with self._changing:
            self._asked += 1
            number = self._asked
            self._pending[number] = answer
            over = self._over
        if over or not self._say(number=number, text=text):
            self._settle(number, over or TemporaryError(_ENDED, step="relay"))
        return answer

    def give_up(self, answer: Future[str]) -> None:
        """Wait no longer, and have the scheduler told; that nobody hears us does not hold us up."""
        with self._changing:
            number = next((each for each, pending in self._pending.items() if pending is answer), None)
        if number is not None:
            self._settle(number, StepError("the slice was given up", step="relay"))
            self._say(number=number)

    def close(self) -> None:
        """Leave the cluster, and see the process end."""
        with contextlib.suppress(OSError):
            self._input.close()
        try:
            self._process.wait(_FAREWELL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._listener.ident:
            self._listener.join()
        self._output.close()

    def _say(self, **message: object) -> bool:
        with self._changing:
            try:
                self._input.write(f"{json.dumps(message)}\n")
                self._input.flush()
            except (OSError, ValueError):
                return False
            return True

    def _heard(self) -> dict[str, Any]:
        """Return the next message; an empty one where there is none any more, or it is none."""
        try:
            said = json.loads(self._output.readline(_LINE_CHARACTERS))
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}

    def _listen(self) -> None:
        over: Exception = TemporaryError(_ENDED, step="relay")
        while said := self._heard():
            number, became = said.get("number"), _meaning(said)
            if number is None and isinstance(became, Exception):
                over = became
                break
            self._settle(number, became)
        with self._changing:
            self._over = over
            left = list(self._pending)
        for each in left:
            self._settle(each, over)

    def _settle(self, number: int | None, became: str | Exception) -> None:
        with self._changing:
            answer = self._pending.pop(number or 0, None)
        if answer is None:
            return
        if isinstance(became, str):
            answer.set_result(became)
        else:
            answer.set_exception(became)


_ENDED = "the process that speaks with the Dask cluster has ended"
_UNTAKEN = (
    "Install the same version of pgsluice on the workers as here, and look at their logs; if that is right, look at who"
    " runs them."
)


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None:
        raise LookupError("it was started with both")
    return process.stdin, process.stdout


def _meaning(said: dict[str, Any]) -> str | Exception:
    """Return the answer that a message brings, or the error that it is."""
    if isinstance(answer := said.get("answer"), str):
        return answer
    if "lost" in said:
        return TemporaryError(f"the Dask worker was lost: {said['lost']}", hint="Look at its log.", step="relay")
    reason = f"what the Dask cluster answered is not taken: {said.get('failed')}"
    return StepError(reason, hint=_UNTAKEN, step="relay")


def _environment() -> dict[str, str]:
    """Return what the process may know: where things are, and Dask's settings."""
    kept = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("DASK_")}
    return kept | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


# --- in the process --------------------------------------------------------------------------------------------------


def main(address: str, function: str, seconds: str) -> None:
    """Be the client until the input ends: a line ``{number, text}`` asks for a call, ``{number}`` gives it up."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else prints something does not get between the answers
    say = functools.partial(_say, out, threading.Lock())
    try:
        call, distributed = _named(function), importlib.import_module("distributed")
        sys.addaudithook(functools.partial(_refuse_calls, say))  # behind the imports: Dask's pickle things of their own
        client = _connected(distributed, address, float(seconds))
    except Exception as error:  # noqa: BLE001 - whoever started us says it
        say(failed=_reason(error))
        return
    say(ready=True)
    futures: dict[int, Any] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "text" in asked:
            future = client.submit(call, asked["text"], pure=False, retries=0)
            futures[asked["number"]] = future
            future.add_done_callback(functools.partial(_answered, say, futures, asked["number"]))
        elif future := futures.get(asked["number"]):
            future.cancel()
    client.close(timeout=_FAREWELL_SECONDS / 2)


def _connected(distributed: Any, address: str, seconds: float) -> Any:  # noqa: ANN401 - Dask says nothing of its types
    security = distributed.Security(require_encryption=address.startswith("tls://") or None)
    return distributed.Client(address, timeout=seconds, security=security, set_as_default=False)


def _named(function: str) -> Any:  # noqa: ANN401 - whatever stands there
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def _say(out: io.TextIOBase, lock: threading.Lock, **message: object) -> None:
    with lock, contextlib.suppress(OSError):  # nobody listens any more: the input ends as well
        out.write(f"{json.dumps(message)}\n")
        out.flush()


def _answered(say: Callable[..., None], futures: dict[int, Any], number: int, future: Any) -> None:  # noqa: ANN401 - as above
    """Tell what became of a call."""
    futures.pop(number, None)
    scheduler = importlib.import_module("distributed.scheduler")
    try:
        answer = future.result()
    except (scheduler.KilledWorker, CancelledError, OSError) as error:
        say(number=number, lost=_reason(error))
    except Exception as error:  # noqa: BLE001 - the same
        say(number=number, failed=_reason(error))
    else:
        is_text = isinstance(answer, str) and len(answer) < _LINE_CHARACTERS // len("\\u0000")
        say(number=number, **({"answer": answer} if is_text else {"failed": "it is not a text, or too long a one"}))


def _reason(error: BaseException) -> str:
    if error.args and isinstance(error.args[0], (bytes, bytearray)):
        return "an exception in a pickle, which is not opened here"
    return f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS]


def _refuse_calls(say: Callable[..., None], event: str, arguments: tuple[Any, ...]) -> None:
    """Stop a pickle before it gets hold of anything that could be called.

    Python asks audit hooks at every global that a pickle names (https://docs.python.org/3/library/audit_events.html);
    without one, a pickle builds numbers, texts, bytes and containers of these, and no more.

    Raises:
        TypeError: it names one that is not among the few that can do nothing.
    """
    if event != "pickle.find_class" or _is_harmless(*map(str, arguments)):
        return
    reason = f"a pickle that names {'.'.join(map(str, arguments))[:100]!r} is not opened"
    if not str(arguments[0]).startswith("tblib"):  # the traceback of an honest failure, which can be done without
        say(failed=reason)  # Dask itself would leave whoever waits for an answer waiting
    raise TypeError(reason)


def _is_harmless(module: str, name: str) -> bool:
    """Tell whether it is text, bytes, an exception of Python's own, or that of Dask for a worker that has died."""
    found = vars(builtins).get(name) if module == "builtins" else None
    return (isinstance(found, type) and issubclass(found, (str, bytes, BaseException))) or (
        (module, name) == ("distributed.scheduler", "KilledWorker")
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
