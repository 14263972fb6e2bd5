"""What waits for one subscriber of the streams, and when it is too slow.

Owns the queue and its bound. Frames are encoded once and shared by all subscribers, so a slow one costs its references.
"""

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio
from websockets.frames import Frame, Opcode

MOST_FRAMES = 4096
MOST_BYTES = 8 << 20
STALLED_S = 10.0
"""The connection of a subscriber that takes nothing for this long is closed."""

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
    rest: bytes = b""
    """What was sent in part. It goes before all that waits, and is never dropped: it ends in the middle of a frame."""
    is_idle: bool = False
    """Whether the writer has sent everything and waits for more."""
    has_output: trio.Event = field(default_factory=trio.Event)
    progress_at: float = field(default_factory=trio.current_time)

    def push(self, data: bytes, first_id: int | None = None, frames: int = 1) -> None:
        """Add some frames; they are sent together."""
        if not (self.waiting or self.rest):
            self.progress_at = trio.current_time()
        self.waiting.append((data, first_id, frames))
        self.size_bytes += len(data)
        self.frames += frames
        self.has_output.set()

    def send(self, descriptor: int, data: bytes, first_id: int | None = None, frames: int = 1) -> None:
        """Send some frames at once where nothing waits for this socket, which takes a system call; to wake the writer
        takes several times as long. Otherwise they wait."""
        try:
            is_turn = self.is_idle and not (self.waiting or self.rest)
            sent = os.write(descriptor, data) if is_turn else 0
        except OSError:  # it is full, or gone: the writer finds out
            sent = 0
        if not sent:
            self.push(data, first_id, frames)
        elif sent < len(data):
            self.rest = data[sent:]
            self.progress_at = trio.current_time()
            self.has_output.set()

    @property
    def is_too_slow(self) -> bool:
        """Whether the subscriber has to go."""
        is_full = self.frames > MOST_FRAMES or self.size_bytes > MOST_BYTES
        return is_full or (bool(self.waiting or self.rest) and trio.current_time() - self.progress_at > STALLED_S)

    def drop(self) -> int | None:
        """Forget what waits; return the id of the first trade among it."""
        first_id = next((first_id for _, first_id, _ in self.waiting if first_id is not None), None)
        self.waiting.clear()
        self.size_bytes = self.frames = 0
        return first_id

    async def next_batch(self) -> bytes:
        """Some of what waits, taken out, once there is something."""
        while not (self.waiting or self.rest):
            self.has_output = trio.Event()
            self.is_idle = True
            await self.has_output.wait()
        self.is_idle = False
        if self.rest:
            data, self.rest = self.rest, b""
            return data
        taken: list[bytes] = []
        size = 0
        while self.waiting and size < BATCH_BYTES:
            data, _, frames = self.waiting.popleft()
            taken.append(data)
            size += len(data)
            self.frames -= frames
        self.size_bytes -= size
        return taken[0] if len(taken) == 1 else b"".join(taken)
