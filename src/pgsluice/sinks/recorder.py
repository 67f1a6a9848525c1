"""Keeps every event, for the tests of programs that use pgsluice."""

from __future__ import annotations

from typing import TypeVar

from pgsluice.events import Event

_E = TypeVar("_E", bound=Event)


class Recorder:
    """A sink that remembers.

    Attributes:
        events: all of them, in order.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Remember `event`."""
        self.events.append(event)

    def of(self, kind: type[_E]) -> list[_E]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]
