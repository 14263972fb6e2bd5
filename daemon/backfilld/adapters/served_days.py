"""Stored days for the endpoint: which pieces there are around a question, and their rows, a few row groups in memory.

Owns the threads, and the bounds of what is kept. Trades never change under their ids, so a row group that was read
stays right. Which days there are is looked up again every second, beside the requests: none of them waits for it.
"""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import polars as pl
import trio

from backfilld.adapters.served_shelf import Shelf, Wanted, looked_at_disk
from backfilld.core.model import Instrument
from backfilld.core.serving.candles import MINUTE_MS, Bars, bars_of
from backfilld.core.serving.timeline import Piece, Timeline
from backfilld.store.day_pieces import FrameKey, GroupKey, group_rows, rows_of
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.manager import BackfillCacheManager

KEPT_GROUPS = 12
"""Row groups in memory, 6.3 MB each at most."""
KEPT_BARS = 4096
"""Pieces whose candles are in memory, about 20 kB each."""
KEPT_INSTRUMENTS = 256
USABLE_S = 5.0
"""Requests are answered from what is known, while a thread looks, until the look is overdue for so long."""
MOST_READERS = 2
"""Threads that read at a time, so that a burst of requests leaves the disk to the writer."""

K = TypeVar("K")
V = TypeVar("V")
OpenManager = Callable[[Instrument], BackfillCacheManager]


class Kept(OrderedDict[K, V]):
    """The values that were used last, up to a number."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def used(self, key: K) -> V | None:
        """The value, which then counts as used."""
        if key not in self:
            return None
        self.move_to_end(key)
        return self[key]

    def keep(self, key: K, value: V) -> V:
        """Keep the value in place of the one not used for longest."""
        self[key] = value
        self.move_to_end(key)
        while len(self) > self._most:
            self.popitem(last=False)
        return value


class ServedDays:
    """The stored days of all instruments, read through ``manager``; None where nothing is stored on disk. ``nursery``
    is where a thread is waited for that looks at days again."""

    def __init__(self, manager: OpenManager | None, nursery: trio.Nursery) -> None:
        self._manager = manager
        self._nursery = nursery
        self._shelves: Kept[Instrument, Shelf] = Kept(KEPT_INSTRUMENTS)
        self._groups: Kept[GroupKey, pl.DataFrame] = Kept(KEPT_GROUPS)
        self._minutes: Kept[Piece, Bars] = Kept(KEPT_BARS)
        self._looking: dict[Instrument, trio.Event] = {}
        self._reading: dict[GroupKey, trio.Event] = {}
        self._readers = trio.CapacityLimiter(MOST_READERS)

    async def timeline(self, instrument: Instrument, wanted: Wanted) -> Timeline:
        """The pieces of the days that a question touches."""
        if self._manager is None:
            return Timeline([])
        while True:
            shelf = self._shelves.used(instrument) or Shelf()
            days = shelf.chosen(wanted)
            overdue_s = float("inf") if days is None else shelf.overdue_s(days, trio.current_time())
            if days is not None and overdue_s < USABLE_S:
                if overdue_s >= 0 and instrument not in self._looking:
                    self._looking[instrument] = trio.Event()
                    self._nursery.start_soon(self._refresh, self._manager, instrument, wanted)
                return shelf.timeline(days)
            if instrument not in self._looking:
                self._looking[instrument] = trio.Event()
                return await self._look(self._manager, instrument, wanted)
            await self._looking[instrument].wait()

    def look_again(self, instrument: Instrument) -> None:
        """What is known of the instrument's files is old."""
        shelf = self._shelves.used(instrument)
        if shelf is not None:
            self._shelves.keep(instrument, shelf.doubted())

    async def _refresh(self, manager: OpenManager, instrument: Instrument, wanted: Wanted) -> None:
        # Whoever has to wait for the next look meets what is wrong.
        with suppress(Exception):
            await self._look(manager, instrument, wanted)

    async def _look(self, manager: OpenManager, instrument: Instrument, wanted: Wanted) -> Timeline:
        shelf = self._shelves.used(instrument) or Shelf()
        look = partial(looked_at_disk, manager(instrument), instrument, shelf, wanted, trio.current_time())
        try:
            found, days = await self._on_thread(look)
        finally:
            self._looking.pop(instrument).set()
        if found.days:
            self._shelves.keep(instrument, found)
        return found.timeline(days)

    async def _on_thread(self, read: Callable[[], V]) -> V:
        """Nothing is written there, so a shutdown does not wait for a disk that hangs."""
        return await trio.to_thread.run_sync(read, limiter=self._readers, abandon_on_cancel=True)

    async def rows(self, piece: Piece) -> pl.DataFrame:
        """The trades of a piece. Raises UntrustedFile, DayLocked, StoreError."""
        if isinstance(piece.key, FrameKey):
            return piece.key.rows(piece.ids)
        assert isinstance(piece.key, GroupKey)  # noqa: S101 - the only two kinds that there are
        rows = rows_of(await self._group(piece.key), piece.ids)
        if rows.height != len(piece.ids) or rows["a"][0] != piece.ids.first_id or rows["a"][-1] != piece.ids.last_id:
            raise UntrustedFile("its rows are not those that its certificate names")
        return rows

    async def minutes(self, piece: Piece) -> Bars:
        """The bars of a minute of a piece; those of a row group are kept."""
        key = piece.key
        if isinstance(key, FrameKey) and len(piece.ids) == key.trades.height:
            key.minutes = bars_of(key.trades, MINUTE_MS) if key.minutes is None else key.minutes
            return key.minutes
        known = self._minutes.used(piece)
        if known is not None:
            return known
        bars = await self.bars(piece, MINUTE_MS)
        return self._minutes.keep(piece, bars) if isinstance(key, GroupKey) else bars

    async def bars(self, piece: Piece, span_ms: int) -> Bars:
        """The bars of a piece."""
        trades = await self.rows(piece)
        return await self._on_thread(partial(bars_of, trades, span_ms))

    def has_bars(self, piece: Piece) -> bool:
        """Whether the bars of a piece cost no reading."""
        return piece in self._minutes or not isinstance(piece.key, GroupKey) or piece.key in self._groups

    async def _group(self, key: GroupKey) -> pl.DataFrame:
        if self._manager is None:
            raise UntrustedFile("nothing is stored on disk")
        while (found := self._groups.used(key)) is None:
            if key in self._reading:
                await self._reading[key].wait()
                continue
            done = self._reading[key] = trio.Event()
            try:
                read = partial(group_rows, self._manager(key.instrument), key)
                return self._groups.keep(key, await self._on_thread(read))
            finally:
                del self._reading[key]
                done.set()
        return found
