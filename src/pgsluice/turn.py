"""A run's turn at a target: its run lock is waited for, taken from runs that are dead, and kept from strangers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pgsluice import locks, presence, stopping
from pgsluice.errors import BusyError
from pgsluice.job import TableRef
from pgsluice.locks import Holder
from pgsluice.session import Session
from pgsluice.steps import state

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0
#: Who takes each new key sooner than we do is not got rid of by another one.
_MOST_KEYS = 3


def _untold(_message: str) -> None:
    """Tell nobody."""


class Turn:
    """What a run does to get the run locks of its targets."""

    def __init__(self, schema: str, seconds: float = 0.0, tell: Callable[[str], None] = _untold) -> None:
        """Keep what is needed.

        Args:
            schema: the control schema.
            seconds: to wait for other runs, all targets together; counted from the first wait on.
            tell: told whom it waits for, and what it has put out of the way.
        """
        self._schema = schema
        self._seconds = seconds
        self._tell = tell
        self._deadline: float | None = None

    def hold(self, session: Session, target: TableRef) -> None:
        """Take the run lock of a target, held until the session ends. One round trip where nobody has it.

        Between its tries it waits here, not in the server: no snapshot is held there meanwhile.

        Raises:
            BusyError: another run still holds it; says which session.
        """
        pause, keys, told = _FIRST_PAUSE, 0, False
        while not locks.take(session, self._schema, target):
            holders = locks.holders(session, self._schema, locks.run_key(session, target))
            if self._ended(session, holders):
                continue
            if holders and not any(holder.is_ours for holder in holders) and keys < _MOST_KEYS:
                self._replace(session, target, holders)
                keys += 1
                continue
            if not self._may_wait():
                raise _busy(target, holders)
            if holders and not told:
                self._tell(f"{_who(target, holders)}: waiting for it, for {self._seconds:g} s at most")
                told = True
            stopping.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def end_dead_runs(self, *sessions: Session) -> None:
        """End what runs left that died on this machine: on a server that does not notice it, it may go on for hours.

        A round trip each, where there are any.
        """
        if dead := presence.dead_runs():
            for session in sessions:
                if ended := locks.end_runs(session, dead):
                    self._tell(f"ended {ended} sessions that a killed run had left on the {session.side}")

    def _ended(self, session: Session, holders: Sequence[Holder]) -> bool:
        """End holders that are ours and lost: of a run that is dead, or of this one. Tell whether there were any."""
        ours = [holder for holder in holders if holder.is_ours and holder.pid is not None]
        lost = [holder.pid for holder in ours if holder.name == session.name and holder.pid]
        locks.end(session, lost)
        dead = presence.dead_runs() & {_run_of(holder) for holder in ours}
        ended = locks.end_runs(session, dead) if dead else 0
        if ended:
            self._tell(f"ended {ended} sessions that a killed run had left on the {session.side}")
        return bool(lost or ended)

    def _replace(self, session: Session, target: TableRef, holders: Sequence[Holder]) -> None:
        """Give the lock another key: whoever has it can't be a run."""
        state.ensure(session, self._schema)
        locks.replace(session, self._schema, target)
        who = "; ".join(map(str, holders))
        self._tell(f"the run lock of {target} was held by a stranger ({who}) and has got another key")

    def _may_wait(self) -> bool:
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self._seconds
        return now < self._deadline


def _run_of(holder: Holder) -> str:
    """Return the id of the run that a session says it belongs to."""
    return holder.name.split(" ")[1] if holder.name.startswith("pgsluice ") else ""


def _who(target: TableRef, holders: Sequence[Holder]) -> str:
    return f"another run holds {target} ({'; '.join(map(str, holders)) or 'just ended'})"


def _busy(target: TableRef, holders: Sequence[Holder]) -> BusyError:
    hint = "Wait for it (--wait-for-lock), or end that session."
    return BusyError(_who(target, holders), hint=hint, table=str(target))
