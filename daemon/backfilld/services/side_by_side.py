"""Doing one thing after the other for many, some of them at a time."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

from backfilld.supervisor import cause_of

T = TypeVar("T")


async def side_by_side(items: Iterable[T], at_once: int, work: Callable[[T], Awaitable[object]]) -> None:
    """Do the work for each item, in their sequence, at most ``at_once`` at a time. What one of them raises ends the
    others, and is raised by itself."""
    waiting = iter(items)

    async def lane() -> None:
        for item in waiting:
            await work(item)

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(lane)
    except BaseExceptionGroup as group:
        raise cause_of(group) from None
