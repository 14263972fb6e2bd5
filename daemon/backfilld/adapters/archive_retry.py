"""Asking the public archive again, after what time may mend."""

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from backfilld.core.retry import Backoff
from backfilld.errors import TransientError, Unreachable

T = TypeVar("T")

TRIES_TO_CONNECT = 2


async def persistently(attempt: Callable[[], Awaitable[T]], backoff: Backoff) -> T:
    """What the first good attempt returns. Raises the last TransientError: after TRIES_TO_CONNECT attempts where no
    connection came about, otherwise when ``backoff`` allows no more."""
    failures, began_s = 0, trio.current_time()
    while True:
        try:
            return await attempt()
        except TransientError as error:
            failures += 1
            if isinstance(error, Unreachable) and failures >= TRIES_TO_CONNECT:
                raise
            jitter = random.random()  # noqa: S311 - it only spreads requests
            wait_s = backoff.wait_s(failures, trio.current_time() - began_s, jitter)
            if wait_s is None:
                raise
        await trio.sleep(wait_s)
