"""How slow an answer of the archive may be, and how its body is read while it is watched.

Owns the patience with one transfer. What is asked again, and how often, is the archive's.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import trio

from backfilld.adapters.answer import abandon
from backfilld.core.retry import Backoff
from backfilld.errors import ExchangeError


@dataclass(frozen=True, slots=True)
class Tempo:
    """How slow the archive may be. A transfer is given up when nothing came for ``silence_s``, or less than
    ``least_bytes_per_s`` over ``window_s``; then it goes on where it was, as often as ``backoff`` allows."""

    silence_s: float = 20.0
    window_s: float = 30.0
    least_bytes_per_s: float = 8_192.0
    backoff: Backoff = field(default_factory=lambda: Backoff(deadline_s=0, attempts=6, first_s=0.5, cap_s=15))


class Pace:
    """Cancels ``scope`` when nothing comes, or too little; ``complaint`` says which."""

    def __init__(self, tempo: Tempo) -> None:
        self._tempo = tempo
        self._since_s = trio.current_time()
        self._received = 0
        self.complaint = f"nothing came for {tempo.silence_s:g} s"
        self.scope = trio.CancelScope(deadline=self._since_s + tempo.silence_s)

    def waiting(self) -> None:
        """Something is waited for."""
        self.scope.deadline = trio.current_time() + self._tempo.silence_s

    def came(self, size: int) -> None:
        """Bytes came; what is done with them is not the archive's time."""
        self.scope.deadline = float("inf")
        self._received += size
        elapsed_s = trio.current_time() - self._since_s
        if elapsed_s < self._tempo.window_s:
            return
        if self._received < self._tempo.least_bytes_per_s * elapsed_s:
            self.complaint = f"only {self._received:,} bytes came in {elapsed_s:.0f} s"
            self.scope.cancel()
        self._since_s, self._received = trio.current_time(), 0


class Paced(httpx.AsyncByteStream):
    """A stream whose pace is watched."""

    def __init__(self, stream: httpx.AsyncByteStream, pace: Pace) -> None:
        self._stream = stream
        self._pace = pace

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._chunks = aiter(self._stream)
        return self

    async def __anext__(self) -> bytes:
        self._pace.waiting()
        chunk = await anext(self._chunks)
        self._pace.came(len(chunk))
        return chunk

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()


@asynccontextmanager
async def chunks_of(answer: httpx.Response) -> "AsyncIterator[AsyncIterator[bytes]]":
    """The body as it comes. httpx reads through several generators: where one is left, all must be ended."""
    chunks = answer.aiter_raw()
    try:
        yield chunks
    except ExchangeError:
        await abandon(chunks)
        raise
