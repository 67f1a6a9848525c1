"""The same again and again, in one process: never two at once, and ended cleanly."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import click

from pgsluice.errors import PgsluiceError, UsageError
from pgsluice.units import span

#: Of the pause, so that the runs of many tables do not all begin at the full hour.
_JITTER = 0.05


def repeated(every: float, once: Callable[[], int]) -> int:
    """Do something at once, and again whenever so much time has passed; return 0 when a signal ends a pause.

    What takes longer than that begins again at once. A failure does not end it, but a request that can't be understood.

    Args:
        every: seconds from one beginning to the next.
        once: returns an exit code.

    Raises:
        UsageError: the request can't be understood.
        KeyboardInterrupt: a signal came while it was at work, which has been rolled back.
    """
    while True:
        begun = time.monotonic()
        try:
            code = once()
        except UsageError:
            raise
        except PgsluiceError as error:
            click.echo(f"pgsluice: {error}", err=True)
            code = error.exit_code
        pause = max(0.0, every * random.uniform(1, 1 + _JITTER) - (time.monotonic() - begun))  # noqa: S311 - no secret
        click.echo(f"pgsluice: ended with {code}; again in {span(pause)}", err=True)
        try:
            time.sleep(pause)
        except KeyboardInterrupt:
            click.echo("pgsluice: ended while nothing was under way", err=True)
            return 0
