"""Running a function that uses the disk on a thread beside the loop. Owns that hop. Whatever the disk refuses is a
StoreError behind it: an actor waits for it, or ends with its sentence."""

from collections.abc import Callable
from typing import TypeVar

import trio

from backfilld.store.atomic import refusals

T = TypeVar("T")


async def in_thread(function: Callable[[], T], *, is_waited_for: bool = False) -> T:
    """The result of the function, or its error. A cancellation does not wait for it, unless it ``is_waited_for``."""
    with refusals():
        return await trio.to_thread.run_sync(function, abandon_on_cancel=not is_waited_for)
