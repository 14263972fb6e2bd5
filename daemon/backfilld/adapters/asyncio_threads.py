"""Running a function on a thread beside an asyncio loop. Owns that hop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    """The result of the function, which runs on a thread of its own; the loop goes on meanwhile."""
    return await asyncio.to_thread(function)
