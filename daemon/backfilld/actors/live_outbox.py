"""Trades on their way from the sequencer to the merger, gathered so that a frame is made for many of them.

Owns what the merger has not taken yet, and its bound. Nothing here waits: while the disk fails, trades gather, and
beyond the bound the oldest are dropped. The plan of the instrument misses them then, and asks REST.
"""

from collections import deque

import structlog
import trio

from backfilld.actors.messages import MergerMessage, PageFetched, RowsArrived, SchedulerMessage
from backfilld.core.backfill.questions import Found
from backfilld.core.day.certificate import STREAM
from backfilld.core.live.trades import LiveTrade, frame_of
from backfilld.core.model import IdRange, Instrument

log = structlog.get_logger()

GATHER_S = 0.5
"""How long trades are gathered: twice a second a frame of each instrument costs little; a crash loses them, as it loses
what the merger has gathered."""

MOST_ROWS = 500_000
"""Rows that may wait for the merger, about 30 MB: four minutes at 2,000 a second."""


class LiveOutbox:
    """What goes to the merger and the scheduler."""

    def __init__(
        self, pages: trio.MemorySendChannel[MergerMessage], events: trio.MemorySendChannel[SchedulerMessage]
    ) -> None:
        self._pages = pages
        self._events = events
        self._gathered: dict[Instrument, list[LiveTrade]] = {}
        self._gathered_at = self._again_at = float("inf")
        self._waiting: deque[PageFetched] = deque()
        self._rows = 0

    @property
    def due_at(self) -> float:
        """When :meth:`flush` has something to do."""
        return min(self._gathered_at + GATHER_S, self._again_at)

    def add(self, instrument: Instrument, trades: list[LiveTrade], now: float) -> None:
        """Trades that follow those added before."""
        gathered = self._gathered.setdefault(instrument, [])
        if gathered and gathered[-1].a + 1 != trades[0].a:
            self._frame(instrument)
            gathered = self._gathered.setdefault(instrument, [])
        gathered += trades
        self._gathered_at = min(self._gathered_at, now)

    def flush(self, now: float) -> None:
        """Hand over what the merger takes without waiting; the rest is tried again soon."""
        self._frame_all()
        self._again_at = float("inf")
        while self._waiting:
            try:
                self._pages.send_nowait(self._waiting[0])
            except trio.WouldBlock:
                self._drop_oldest()
                self._again_at = now + GATHER_S
                return
            self._handed_over()

    async def flush_all(self) -> None:
        """Hand over everything, however long that takes."""
        self._frame_all()
        while self._waiting:
            await self._pages.send(self._waiting[0])
            self._handed_over()

    def _frame_all(self) -> None:
        for instrument in tuple(self._gathered):
            self._frame(instrument)
        self._gathered_at = float("inf")

    def _frame(self, instrument: Instrument) -> None:
        trades = self._gathered.pop(instrument)
        self._waiting.append(PageFetched(instrument, frame_of(trades), STREAM))
        self._rows += len(trades)

    def _handed_over(self) -> None:
        page = self._waiting.popleft()
        trades = page.trades
        self._rows -= trades.height
        ids, times = trades["a"], trades["T"]
        found = Found(IdRange(ids[0], ids[-1]), times[0], times[-1], trades.height)
        self._events.send_nowait(RowsArrived(page.instrument, found))

    def _drop_oldest(self) -> None:
        dropped = 0
        while self._rows > MOST_ROWS:
            page = self._waiting.popleft()
            dropped += page.trades.height
            self._rows -= page.trades.height
        if dropped:
            log.warning("live_overflowed", trades=dropped, reason="the disk does not take them")
