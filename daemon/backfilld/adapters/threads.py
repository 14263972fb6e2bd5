"""Running a function on a thread beside the loop. Owns that hop."""

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    """The result of the function, or its error. A cancellation does not wait for it."""
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
