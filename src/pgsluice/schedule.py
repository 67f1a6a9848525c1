"""Which jobs come next: large tables are copied ahead of their turn, side by side, and merged one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait

from pgsluice import stopping
from pgsluice.work import Work

_LOOK_SECONDS = 0.5


class Schedule:
    """The jobs of a run, each given out once, when its turn has come.

    With one worker they come in their order. With more, as many large ones are begun ahead, the largest first, and
    given out when they are staged; meanwhile come those that need no worker. Tables that refer to each other are one.
    """

    def __init__(self, works: Sequence[Work], ahead: int) -> None:
        """Keep what is needed; nothing is begun yet. `left` are those not given out.

        Args:
            works: in an order in which they could be done.
            ahead: how many may be begun ahead of their turn.
        """
        self.left = list(works)
        self._ahead = sorted((work for work in works if work.weight), key=lambda work: -work.weight) if ahead else []
        self._most = ahead

    def __iter__(self) -> Iterator[Work]:
        """Give out each job in its turn. It is done, or has failed, when the next one is asked for."""
        while self.left:
            self._begin()
            work = self._next()
            self.left.remove(work)
            if work in self._ahead:
                self._ahead.remove(work)
            yield work

    def abandon(self) -> None:
        """Clean up after those that were begun, and are not to be done any more."""
        for work in self._begun():
            work.abandon()

    def _begun(self) -> list[Work]:
        return [work for work in self.left if work.is_begun]

    def _begin(self) -> None:
        while self._ahead and len(self._begun()) < self._most:
            self._ahead.pop(0).begin()

    def _next(self) -> Work:
        while True:
            begun = self._begun()
            for work in begun:
                work.look()
            turn = next((work for work in self.left if work in begun and work.is_over), None)
            turn = turn or next((work for work in self.left if work not in begun and work not in self._ahead), None)
            pending = [outcome for work in begun for outcome in work.pending]
            if turn or not pending:
                return turn or self.left[0]
            wait(pending, _LOOK_SECONDS, FIRST_COMPLETED)
            stopping.heed()
