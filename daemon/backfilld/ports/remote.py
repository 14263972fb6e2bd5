"""What the actors need of a bucket: objects under conditions, and the sealed days in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

from backfilld.core.day.certificate import Certificate
from backfilld.core.model import Instrument
from backfilld.core.replication import Standing
from backfilld.ports import Saved


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of an object store: its key, its size, and the tag that its content had when it was seen."""

    key: str
    bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class ObjectContent:
    """What was read of an object: ``body`` is all of it, or its last bytes."""

    object: StoredObject
    body: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)


class ObjectStore(Protocol):
    """Objects under keys, written whole and only under a condition. Nothing here can delete or overwrite unseen.

    Raises RemoteUnreachable for what time may mend and RemoteDenied for what it will not.
    """

    async def probe(self, *, writes: bool) -> None:
        """Find out whether the bucket is there and lets us in; with ``writes`` also whether it keeps to conditions."""
        ...

    async def put_if_absent(self, key: str, body: bytes, attributes: Mapping[str, str]) -> StoredObject | None:
        """Create an object. None if there is one under this key already: another one, or this one, whose answer was
        lost."""
        ...

    async def put_if_match(
        self, key: str, body: bytes, attributes: Mapping[str, str], etag: str
    ) -> StoredObject | None:
        """Replace the object that has this tag; None if there is none, or if it has another tag by now."""
        ...

    async def get(self, key: str, *, limit_bytes: int) -> ObjectContent | None:
        """The object; None if there is none. ObjectRefused for one above ``limit_bytes``, of which nothing is read."""
        ...

    async def tail(self, key: str, *, tail_bytes: int) -> ObjectContent | None:
        """The last bytes of the object, all of it if it is shorter; None if there is none."""
        ...

    async def head(self, key: str) -> StoredObject | None:
        """What the store says of the object; None if there is none."""
        ...

    async def objects(self, prefix: str, *, after: str | None = None) -> Sequence[StoredObject]:
        """The objects in the folder ``prefix`` and below, by key; only those ``after`` this key."""
        ...

    async def folders(self, prefix: str) -> Sequence[str]:
        """The folders right in the folder ``prefix``, by name, as keys without a slash at their end."""
        ...


@dataclass(frozen=True, slots=True)
class Pushed:
    """What pushing a day came to: ``theirs`` is the digest of the object that is there, if it has other rows."""

    standing: Standing
    digest: str
    bytes: int
    theirs: str | None = None


@dataclass(frozen=True, slots=True)
class StagedDay:
    """A day out of the bucket, checked, in a file at ``path`` beside the place that it is to take."""

    path: str
    record: Certificate
    bytes: int


class RemoteDays(Protocol):
    """The sealed days on disk and in the bucket. Raises RemoteError for the bucket and StoreError for the disk."""

    async def probe(self) -> None:
        """Find out whether the bucket can be used as it is meant to be. RemoteDenied if not."""
        ...

    async def unpushed(self, instrument: Instrument) -> Sequence[date]:
        """The sealed days on disk that are not known to be in the bucket, oldest first."""
        ...

    async def push(self, instrument: Instrument, day: date) -> Pushed | None:
        """Create the day's object, or find what is there; None if the day is not on disk, whole and sealed, any
        more."""
        ...

    async def publish(self, instrument: Instrument) -> None:
        """Put what is known of the instrument's days in the bucket into its manifest, and remember it here."""
        ...

    async def stage(self, instrument: Instrument, day: date) -> StagedDay | None:
        """Download a day and check all of it; None if the bucket does not have it. ObjectRefused if it is not what it
        should be."""
        ...

    async def admit(self, instrument: Instrument, day: date, staged: StagedDay) -> Saved:
        """Put a staged day in its place in the cache. ObjectRefused if rows are stored that it does not have."""
        ...
