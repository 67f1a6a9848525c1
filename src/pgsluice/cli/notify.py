"""Tells a program or a URL that a run failed, or that one has mended what failed before."""

from __future__ import annotations

import json
import shlex
import subprocess
import urllib.error
import urllib.request
from typing import Any

import click
import psycopg

from pgsluice import visible
from pgsluice.endpoint import Endpoint
from pgsluice.errors import PgsluiceError, UsageError, scrub
from pgsluice.model import Report
from pgsluice.steps import state
from pgsluice.steps.state import CONTROL_SCHEMA

_SECONDS = 30.0
_NAMED = 5


class Notifier:
    """Whom to tell. That it can't be told is a warning, and changes nothing of the run."""

    def __init__(self, whom: str | list[str], target: Endpoint) -> None:
        """Keep it.

        Args:
            whom: a URL, which gets JSON by POST, or a program with its arguments, which gets it on its stdin.
            target: whose history knows what failed before.

        Raises:
            UsageError: it is neither.
        """
        self._url = whom if isinstance(whom, str) and whom.startswith(("http://", "https://")) else None
        try:
            self._command = [] if self._url else shlex.split(whom) if isinstance(whom, str) else list(whom)
        except ValueError as error:
            raise UsageError(f"--notify can't be read as a program with its arguments: {error}") from None
        self._target = target

    def not_begun(self, error: PgsluiceError) -> None:
        """Tell that a run could not begin."""
        said = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
        self._tell("failed", f"pgsluice: a run could not begin: {error.message}", **said)

    def ended(self, report: Report) -> None:
        """Tell what failed in a run, or what it has mended; nothing, where all is well as it was."""
        mended = [] if report.failed else self._mended(report.run_id)
        if not report.failed and not mended:
            return
        whole = report.to_dict()
        names = ("source", "target", "status", "step", "sqlstate", "error", "hint")
        failed = [{name: table.to_dict()[name] for name in names} for table in report.failed]
        what, tables = ("failed", [each["target"] for each in failed]) if failed else ("recovered", mended)
        shown = ", ".join(map(visible.one_line, tables[:_NAMED])) + (
            f" and {len(tables) - _NAMED} more" if len(tables) > _NAMED else ""
        )
        text = f"pgsluice: run {report.run_id}: {len(tables)} of {len(report.tables)} tables {what}: {shown}"
        reasons = [f"{visible.one_line(each['target'])}: {each['error']}" for each in failed[:_NAMED] if each["error"]]
        said = {name: whole[name] for name in ("run_id", "exit_code", "seconds")}
        self._tell(what, "\n".join([text, *reasons]), **said, failed=failed, recovered=mended)

    def _mended(self, run_id: str) -> list[str]:
        try:
            with self._target.looking().open() as session:
                return list(state.mended(session, CONTROL_SCHEMA, run_id))
        except (psycopg.Error, PgsluiceError):
            return []

    def _tell(self, status: str, text: str, **more: Any) -> None:  # noqa: ANN401 - what JSON takes
        said = {"text": visible.lines(scrub(text)), "status": status, **more}
        body = visible.lines(json.dumps(said, ensure_ascii=False, default=str))
        try:
            self._post(scrub(body)) if self._url else self._run(scrub(body))
        except (OSError, ValueError, subprocess.SubprocessError) as error:  # the address may be a secret itself
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            click.echo(f"pgsluice: warning: the notification could not be delivered: {reason}", err=True)

    def _post(self, body: str) -> None:
        request = urllib.request.Request(  # noqa: S310 - http or https, see above
            str(self._url), body.encode(), {"Content-Type": "application/json", "User-Agent": "pgsluice"}
        )
        urllib.request.urlopen(request, timeout=_SECONDS).close()  # noqa: S310 - the same

    def _run(self, body: str) -> None:
        subprocess.run(  # noqa: S603 - without a shell, and what its user wrote
            self._command, input=body, text=True, timeout=_SECONDS, check=True, stdout=subprocess.DEVNULL
        )
