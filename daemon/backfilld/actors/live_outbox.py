"""Trades on their way from the sequencer to the merger, gathered so that a frame is made for many of them.

Owns what the merger has not taken yet, and its bound. Nothing here waits: while the disk fails, trades gather, and
beyond the bound the oldest are dropped. The plan of the instrument misses them then, and asks REST.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl
import structlog
import trio

from backfilld.actors.messages import MergerMessage, PageFetched, PagesStreamed, SchedulerMessage, SyncEvent
from backfilld.core.backfill.questions import Found
from backfilld.core.day.certificate import STREAM
from backfilld.core.live.trades import LiveTrade, frame_of
from backfilld.core.model import IdRange, Instrument
from backfilld.core.sync.events import Arrived

log = structlog.get_logger()

GATHER_S = 0.5
"""How long trades are gathered: twice a second one frame of all instruments costs little; a crash loses them, as it
loses what the merger has gathered."""

MOST_ROWS = 500_000
"""Rows that may wait for the merger, about 100 MB: four minutes at 2,000 a second."""

PACKED_ROWS = 1000
"""Trades of an instrument that make a frame where they wait for long: it needs a quarter of their memory."""


@dataclass(slots=True)
class _Waiting:
    """What waits of one instrument: frames, then trades, ascending; each frame is contiguous, and so are the trades."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    trades: list[LiveTrade] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(each.height for each in self.frames) + len(self.trades)

    def add(self, trades: list[LiveTrade]) -> None:
        if self.trades and (self.trades[-1].a + 1 != trades[0].a or len(self.trades) >= PACKED_ROWS):
            self.frames.append(frame_of(self.trades))
            self.trades = []
        self.trades += trades

    def drop_oldest(self) -> int:
        if self.frames:
            return self.frames.pop(0).height
        dropped, self.trades = len(self.trades), []
        return dropped


class LiveOutbox:
    """What goes to the merger and the scheduler."""

    def __init__(
        self, pages: trio.MemorySendChannel[MergerMessage], events: trio.MemorySendChannel[SchedulerMessage]
    ) -> None:
        self._pages = pages
        self._events = events
        self._waiting: dict[Instrument, _Waiting] = {}
        self._rows = 0
        self.due_at = float("inf")
        """When :meth:`flush` has something to do."""

    def add(self, instrument: Instrument, trades: list[LiveTrade], now: float) -> None:
        """Trades that follow those added before."""
        self._waiting.setdefault(instrument, _Waiting()).add(trades)
        self._rows += len(trades)
        self.due_at = min(self.due_at, now + GATHER_S)

    def flush(self, now: float) -> None:
        """Hand over everything if the merger takes it without waiting; else it is tried again soon."""
        if self._waiting and not self._has_room():
            self._drop_oldest()
            self.due_at = now + GATHER_S
            return
        self.due_at = float("inf")
        if self._waiting:
            pages = self._taken()
            self._pages.send_nowait(pages)
            self._announce(pages)

    async def flush_all(self) -> None:
        """Hand over everything, however long that takes."""
        if self._waiting:
            pages = self._taken()
            await self._pages.send(pages)
            self._announce(pages)

    def _has_room(self) -> bool:
        statistics = self._pages.statistics()
        has_place = statistics.current_buffer_used < statistics.max_buffer_size
        return has_place or statistics.tasks_waiting_receive > 0

    def _taken(self) -> PagesStreamed:
        """All that waits. What is new of all instruments is made one frame, of which each gets its part: a frame of few
        rows costs as much as one of hundreds."""
        waiting, self._waiting, self._rows = self._waiting, {}, 0
        new = frame_of([trade for each in waiting.values() for trade in each.trades])
        return PagesStreamed(tuple(_pages_of(waiting, new)))

    def _announce(self, pages: PagesStreamed) -> None:
        for page in pages.pages:
            ids, times = page.trades["a"], page.trades["T"]
            found = Found(IdRange(ids[0], ids[-1]), times[0], times[-1], page.trades.height)
            self._events.send_nowait(SyncEvent(page.instrument, Arrived(found)))

    def _drop_oldest(self) -> None:
        dropped = 0
        while self._rows > MOST_ROWS:
            fewer = max(self._waiting.values(), key=lambda each: each.rows).drop_oldest()
            dropped += fewer
            self._rows -= fewer
        if dropped:
            self._waiting = {instrument: each for instrument, each in self._waiting.items() if each.rows}
            log.warning("live_overflowed", trades=dropped, reason="the disk does not take them")


def _pages_of(waiting: dict[Instrument, _Waiting], new: pl.DataFrame) -> Iterator[PageFetched]:
    start = 0
    for instrument, each in waiting.items():
        stop = start + len(each.trades)
        parts = [*each.frames, new[start:stop]] if stop > start else each.frames
        yield from (PageFetched(instrument, part, STREAM) for part in parts)
        start = stop
