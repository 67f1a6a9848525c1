"""When a run begins and ends by the clock: the same again and again in one process, and a time by which it is over."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import click

from pgsluice.errors import PgsluiceError, TemporaryError, UsageError
from pgsluice.units import span

#: Of the pause, so that the runs of many tables do not all begin at the full hour.
_JITTER = 0.05


@contextlib.contextmanager
def ended_by(deadline: str | None) -> Iterator[None]:
    """End the block as a signal would, where a time of day comes while it is at work.

    Args:
        deadline: ``HH:MM`` of this machine's clock, the next time that it comes, or None.

    Raises:
        TemporaryError: it came; what was under way has been rolled back.
    """
    if deadline is None:
        yield
        return
    has_come = False

    def come(*_: object) -> None:
        nonlocal has_come
        has_come = True
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGALRM, come)
    signal.setitimer(signal.ITIMER_REAL, seconds_to(deadline, datetime.now().astimezone()))
    try:
        yield
    except KeyboardInterrupt:
        if not has_come:
            raise
        raise TemporaryError(
            f"{deadline} has come: what was under way has been rolled back, and tables that are done stay done",
            hint="pgsluice status --last 1 says which; --resume last does the others.",
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def seconds_to(deadline: str, now: datetime) -> float:
    """Return for how long it is until a time of day comes next.

    Args:
        deadline: ``HH:MM``.
        now: with the time zone that is meant.

    Raises:
        UsageError: it is no time of day.
    """
    try:
        time_of_day = datetime.strptime(deadline, "%H:%M").time()  # noqa: DTZ007 - of the day that follows
    except ValueError:
        raise UsageError(f"{deadline!r} is no time of day", hint="Write HH:MM, for example 05:30.") from None
    comes = now.replace(hour=time_of_day.hour, minute=time_of_day.minute, second=0, microsecond=0)
    return (comes if comes > now else comes + timedelta(days=1)).timestamp() - now.timestamp()


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
