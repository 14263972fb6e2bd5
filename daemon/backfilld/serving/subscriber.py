"""What waits for one subscriber of the streams, and when it is too slow.

Owns the queue and its bound. Frames are encoded once and shared by all subscribers, so a slow one costs its references.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio
from websockets.frames import Frame, Opcode

MOST_FRAMES = 4096
MOST_BYTES = 8 << 20
STALLED_S = 10.0
"""A subscriber that takes nothing for so long is closed."""

BATCH_BYTES = 65_536
"""Bytes that are handed to the socket at once: progress is seen after each."""


CHUNK_FRAMES = 64
"""Messages that are handed to every subscriber as one, where so many come at once."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Messages as WebSocket frames, alone and with the name of their stream; ``first_id`` is the first trade's."""

    raw: bytes
    combined: bytes
    first_id: int | None = None
    frames: int = 1


def in_chunks(messages: Sequence[Encoded]) -> list[Encoded]:
    """The same messages, many of them together: a burst costs each subscriber a few entries instead of hundreds."""
    chunks = (messages[at : at + CHUNK_FRAMES] for at in range(0, len(messages), CHUNK_FRAMES))
    return [
        Encoded(
            b"".join(each.raw for each in chunk),
            b"".join(each.combined for each in chunk),
            chunk[0].first_id,
            sum(each.frames for each in chunk),
        )
        for chunk in chunks
    ]


def encoded(text: str | bytes) -> bytes:
    """A text message as a frame of a server."""
    data = text.encode() if isinstance(text, str) else text
    return bytes(Frame(Opcode.TEXT, data).serialize(mask=False))


@dataclass(slots=True, eq=False)
class Outbox:
    """The frames that wait for a subscriber."""

    waiting: deque[tuple[bytes, int | None, int]] = field(default_factory=deque)
    size_bytes: int = 0
    frames: int = 0
    has_output: trio.Event = field(default_factory=trio.Event)
    progress_at: float = field(default_factory=trio.current_time)

    def push(self, data: bytes, first_id: int | None = None, frames: int = 1) -> None:
        """Add some frames; they are sent together."""
        if not self.waiting:
            self.progress_at = trio.current_time()
        self.waiting.append((data, first_id, frames))
        self.size_bytes += len(data)
        self.frames += frames
        self.has_output.set()

    @property
    def is_too_slow(self) -> bool:
        """Whether the subscriber has to go."""
        is_full = self.frames > MOST_FRAMES or self.size_bytes > MOST_BYTES
        return is_full or (bool(self.waiting) and trio.current_time() - self.progress_at > STALLED_S)

    def drop(self) -> int | None:
        """Forget what waits; return the id of the first trade among it."""
        first_id = next((first_id for _, first_id, _ in self.waiting if first_id is not None), None)
        self.waiting.clear()
        self.size_bytes = self.frames = 0
        return first_id

    async def next_batch(self) -> bytes:
        """Some of what waits, taken out, once there is something."""
        while not self.waiting:
            self.has_output = trio.Event()
            await self.has_output.wait()
        taken: list[bytes] = []
        size = 0
        while self.waiting and size < BATCH_BYTES:
            data, _, frames = self.waiting.popleft()
            taken.append(data)
            size += len(data)
            self.frames -= frames
        self.size_bytes -= size
        return taken[0] if len(taken) == 1 else b"".join(taken)
