"""What the actors need of the world, as small async protocols.

Owns the line between decisions and adapters: actors see only these, adapters implement them, and fakes in the tests
pass the same conformance tests as the real ones.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

import polars as pl

from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.figures import Figures
from backfilld.core.day.start import DayStart
from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import Instrument
from backfilld.core.monitor.snapshot import Snapshot
from backfilld.ports.exchange import (
    USUAL,
    Cost,
    ExchangeClient,
    Forwarded,
    MarketInfo,
    NoPermit,
    OpenClient,
    OpenRestClient,
    Reply,
    RestClient,
    Undecoded,
    Urgency,
    Usage,
)

__all__ = [
    "USUAL",
    "ArchiveSource",
    "Cost",
    "DayPublished",
    "ExchangeClient",
    "Forwarded",
    "MarketInfo",
    "NoPermit",
    "OpenArchive",
    "OpenClient",
    "OpenRestClient",
    "OpenStream",
    "Published",
    "Reply",
    "RestClient",
    "Saved",
    "StateFile",
    "StreamBatch",
    "TradeStore",
    "TradeStream",
    "Undecoded",
    "Urgency",
    "Usage",
]


@dataclass(slots=True)
class StreamBatch:
    """What a stream brought at once: trades by instrument in order of arrival, the newest event time in ms, whether
    the exchange announced the end of the connection, refused requests, and how many messages could not be used."""

    trades: dict[Instrument, list[LiveTrade]] = field(default_factory=dict)
    event_ms: int = 0
    is_ending: bool = False
    refusals: list[str] = field(default_factory=list)
    garbage: int = 0


class TradeStream(Protocol):
    """One connection to the exchange's streams."""

    async def receive(self, wait_s: float) -> StreamBatch:
        """What has arrived; nothing if nothing comes for ``wait_s``. Raises StreamLost."""
        ...

    def subscribe(self, instruments: Collection[Instrument]) -> None:
        """Ask for these instruments too."""
        ...

    def unsubscribe(self, instruments: Collection[Instrument]) -> None:
        """Ask for these instruments no more."""
        ...


OpenStream = Callable[[str, Sequence[Instrument]], AbstractAsyncContextManager[TradeStream]]
"""Connects to a stream address for instruments of one market. Raises StreamLost."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What saving came to: the day as it stands now, and what became of the rows that were handed in; ``findings``
    count what was wrong with them, by name. The days ``beside`` got some of them."""

    record: Certificate
    file: str | None
    bytes: int
    cached: int
    duplicates: int
    conflicts: pl.DataFrame
    findings: Mapping[str, int] = field(default_factory=dict)
    beside: Sequence[Certificate] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """A day's file of the public archive, on disk at ``path``, verified: ``sha256`` is the one published."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class DayPublished:
    """A published day is on disk; so is the day ``following`` it, if it was published and is wanted too. ``is_first``
    if the day before was not asked for. ``day_starts`` are known from elsewhere."""

    instrument: Instrument
    day: date
    published: Published
    following: Published | None = None
    is_first: bool = False
    day_starts: frozenset[DayStart] = frozenset()


class ArchiveSource(Protocol):
    """The public archive: whole days as files, at no request weight. Raises ExchangeError."""

    async def fetch(self, instrument: Instrument, day: date) -> Published | None:
        """Have the day's file on disk, without a download if it is there; None while it is not published."""
        ...

    async def size(self, instrument: Instrument, day: date) -> int | None:
        """The bytes of the day's file; None while it is not published."""
        ...


OpenArchive = Callable[[], AbstractAsyncContextManager[ArchiveSource]]
"""Opens a connection to the archive."""


class StateFile(Protocol):
    """Where the governor's state outlives the process, and other processes see what the daemon does. Raises
    StoreError."""

    async def save(self, seen: Snapshot) -> None:
        """Keep this in place of what was kept."""
        ...


class TradeStore(Protocol):
    """Where the trades of days are kept. Raises StoreError."""

    async def open(self) -> None:
        """Make ready: create the place, sweep what a crash left."""
        ...

    async def days(self, instrument: Instrument) -> list[date]:
        """The days of which something is stored, ascending."""
        ...

    async def load(self, instrument: Instrument, day: date) -> Certificate | None:
        """Read and check what is stored of a day. What cannot be trusted is moved aside, and None returned."""
        ...

    async def recall(self, instrument: Instrument) -> ShownEnd | None:
        """What was kept by :meth:`remember`, if anything was."""
        ...

    async def remember(self, instrument: Instrument, shown: ShownEnd) -> None:
        """Keep the newest trade that the exchange has shown, for the next process."""
        ...

    async def load_known(self, instrument: Instrument, days: Collection[date]) -> Mapping[date, Certificate]:
        """Those of these days that are sealed, and as they were when they were last read in full: for a look each."""
        ...

    async def altered(self, instrument: Instrument) -> frozenset[date]:
        """The days that somebody else has changed, added or deleted since they were last loaded or saved here."""
        ...

    async def placed(
        self, instrument: Instrument, day: date, trades: pl.DataFrame
    ) -> Sequence[tuple[date, pl.DataFrame]]:
        """Trades of ``day`` by their time, each with the day that it belongs to by the ids that are stored."""
        ...

    async def save(self, addition: Addition) -> Saved:
        """Add this to the day, all or nothing."""
        ...

    async def append(self, addition: Addition) -> Saved:
        """The same, and as safe from a crash; but other programs may see the rows only after the next :meth:`save` of
        the day."""
        ...

    def waiting(self) -> Mapping[tuple[Instrument, date], float]:
        """The days to save for other programs, each with the latest time for that, in trio's time."""
        ...

    async def leave(self, instrument: Instrument) -> None:
        """The instrument was removed, and all of it is saved: nothing is written of it any more."""
        ...

    async def take(self, taken: DayPublished) -> Saved:
        """Join the rows of a published day with what is stored of it, which stays where they differ. The day
        ``following`` proves where it ends; where it begins the day before does, if that was asked for, or a day start.
        The published file is deleted then. Raises ArchiveError for a file that cannot be used, which is deleted too;
        nothing else is changed."""
        ...

    async def context(self, instrument: Instrument, start_ms: int, stop_ms: int, bin_size: float) -> Figures:
        """The figures of all trades stored with start_ms <= T < stop_ms."""
        ...

    async def read(self, instrument: Instrument, start_ms: int, stop_ms: int) -> pl.DataFrame:
        """All trades stored with start_ms <= T < stop_ms, by id."""
        ...

    async def distrust(self, instrument: Instrument, day: date, reason: str) -> None:
        """Move aside what is stored of a day: it is not what the exchange says."""
        ...

    async def delete(self, instrument: Instrument, day: date) -> bool:
        """Forget a day that has outlived its time; returns False for one that must stay, as it is not pushed yet."""
        ...
