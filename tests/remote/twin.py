"""An object store in memory that keeps to the same rules as a real one, and fails as it is asked to.

It passes the conformance suite of :mod:`tests.remote.conformance`.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import trio

from backfilld.errors import ObjectRefused, RemoteError
from backfilld.ports.remote import ObjectContent, StoredObject


@dataclass(frozen=True)
class LostAnswer:
    """The deed is done, and its answer is lost: ``error`` is raised instead of it."""

    error: RemoteError


@dataclass(frozen=True)
class Held:
    """The deed waits for the event."""

    until: trio.Event


Trick = RemoteError | LostAnswer | Held


@dataclass
class TwinStore:
    """Objects in memory. ``tricks`` by deed (put, get, head, list) are played one per call; ``calls`` counts calls."""

    contents: dict[str, tuple[bytes, dict[str, str], int]] = field(default_factory=dict)
    tricks: dict[str, deque[Trick]] = field(default_factory=dict)
    is_down: RemoteError | None = None
    denied: RemoteError | None = None
    calls: Counter[str] = field(default_factory=Counter)
    _versions: int = 0

    def trick(self, deed: str, *tricks: Trick) -> None:
        """Play these at the next calls of the deed."""
        self.tricks.setdefault(deed, deque()).extend(tricks)

    def plant(self, key: str, body: bytes, attributes: Mapping[str, str] | None = None) -> StoredObject:
        """Put an object there, as somebody else would."""
        self._versions += 1
        self.contents[key] = (body, dict(attributes or {}), self._versions)
        return self._object(key)

    def body(self, key: str) -> bytes:
        """What is stored under a key."""
        return self.contents[key][0]

    async def probe(self, *, writes: bool) -> None:
        """Say what is wrong, if anything is."""
        await self._begin("probe for writes" if writes else "probe")
        if self.denied is not None:
            raise self.denied

    async def put_if_absent(self, key: str, body: bytes, attributes: Mapping[str, str]) -> StoredObject | None:
        """Create."""
        lost = await self._begin("put")
        if key in self.contents:
            return None
        made = self.plant(key, body, attributes)
        if lost is not None:
            raise lost.error
        return made

    async def put_if_match(
        self, key: str, body: bytes, attributes: Mapping[str, str], etag: str
    ) -> StoredObject | None:
        """Replace."""
        lost = await self._begin("put")
        if key not in self.contents or self._object(key).etag != etag:
            return None
        made = self.plant(key, body, attributes)
        if lost is not None:
            raise lost.error
        return made

    async def get(self, key: str, *, limit_bytes: int) -> ObjectContent | None:
        """Read."""
        await self._begin("get")
        if key not in self.contents:
            return None
        found = self._object(key)
        if found.bytes > limit_bytes:
            raise ObjectRefused(f"{key}: it has {found.bytes} bytes, and the limit is {limit_bytes}")
        body, attributes, _ = self.contents[key]
        return ObjectContent(found, body, attributes)

    async def tail(self, key: str, *, tail_bytes: int) -> ObjectContent | None:
        """Read the end."""
        await self._begin("get")
        if key not in self.contents:
            return None
        body, attributes, _ = self.contents[key]
        return ObjectContent(self._object(key), body[-tail_bytes:], attributes)

    async def head(self, key: str) -> StoredObject | None:
        """Look."""
        await self._begin("head")
        return self._object(key) if key in self.contents else None

    async def objects(self, prefix: str, *, after: str | None = None) -> Sequence[StoredObject]:
        """List."""
        await self._begin("list")
        folder = f"{prefix}/" if prefix else ""
        return [self._object(key) for key in sorted(self.contents) if key.startswith(folder) and key > (after or "")]

    async def folders(self, prefix: str) -> Sequence[str]:
        """List folders."""
        await self._begin("list")
        folder = f"{prefix}/" if prefix else ""
        inner = {key.removeprefix(folder) for key in self.contents if key.startswith(folder)}
        return sorted({folder + key.split("/")[0] for key in inner if "/" in key})

    async def _begin(self, deed: str) -> LostAnswer | None:
        self.calls[deed] += 1
        await trio.lowlevel.checkpoint()
        waiting = self.tricks.get(deed)
        trick = waiting.popleft() if waiting else self.is_down
        match trick:
            case RemoteError():
                raise trick
            case Held(until):
                await until.wait()
            case LostAnswer():
                return trick
        return None

    def _object(self, key: str) -> StoredObject:
        body, _, version = self.contents[key]
        return StoredObject(key, len(body), f'"{version}"')
