"""Pure: things in an order in which each comes behind what it leans on, however long the chain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

_Thing = TypeVar("_Thing")


def behind(things: Iterable[_Thing], leant_on: Callable[[_Thing], Iterable[_Thing]]) -> list[_Thing]:
    """Return the things and all that they lean on, each once and behind what it leans on itself.

    A circle is opened where it is entered. Chains are as long as who makes them likes, so nothing here calls itself.

    Args:
        things: to begin with, in the order that is kept where nothing speaks against it.
        leant_on: by one thing, in order.
    """
    ordered: dict[_Thing, None] = {}
    begun: set[_Thing] = set()
    waiting = [(thing, False) for thing in reversed(list(things))]
    while waiting:
        thing, is_reached = waiting.pop()
        if is_reached:
            ordered[thing] = None
        elif thing not in begun:
            begun.add(thing)
            waiting += [(thing, True), *((inner, False) for inner in reversed(list(leant_on(thing))))]
    return list(ordered)
