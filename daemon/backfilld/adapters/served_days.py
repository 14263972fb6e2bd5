"""Stored days for the endpoint: which pieces there are around a question, and their rows, a few row groups in memory.

Owns the threads, and the bounds of what is kept. Trades never change under their ids, so a row group that was read
stays right; which days there are is looked up again every second.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import TypeVar

import polars as pl
import trio

from backfilld.core.ids import IdSet
from backfilld.core.model import Instrument
from backfilld.core.serving.candles import MINUTE_MS, Bars, bars_of
from backfilld.core.serving.timeline import Piece, Timeline
from backfilld.errors import DayLocked, StoreError
from backfilld.store.day_pieces import DayPieces, FrameKey, GroupKey, day_pieces, group_rows, rows_of, stamps_of
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.manager import BackfillCacheManager

KEPT_GROUPS = 12
"""Row groups in memory, 6.3 MB each at most."""
KEPT_BARS = 4096
"""Pieces whose candles are in memory, about 20 kB each."""
KEPT_DAYS = 2048
"""Days of an instrument whose pieces are known, about 2 kB each."""
KEPT_INSTRUMENTS = 256
FRESH_S = 1.0
"""How old the knowledge of which days are stored may be."""
MOST_READERS = 2
"""Threads that read at a time, so that a burst of requests leaves the disk to the writer."""
MOST_DAYS = 40
"""Days that one question may touch."""

K = TypeVar("K")
V = TypeVar("V")


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


@dataclass(slots=True)
class _Shelf:
    """What is known of one instrument."""

    days: Sequence[date] = ()
    known: Mapping[date, DayPieces] = field(default_factory=dict)
    looked_at: float = float("-inf")


Wanted = Callable[[Sequence[date], Callable[[date], DayPieces]], Sequence[date]]
"""Which of the stored days a question touches; it may look into days."""


def around_id(trade_id: int) -> Wanted:
    """The day with this id, the one before, and two after."""

    def wanted(days: Sequence[date], look: Callable[[date], DayPieces]) -> Sequence[date]:
        def last_id(day: date) -> int:
            pieces = look(day).pieces
            return pieces[-1].ids.last_id if pieces else -1

        at = bisect_left(days, trade_id, key=last_id)
        return days[max(0, at - 1) : at + 3]

    return wanted


def around_span(first: date, last: date) -> Wanted:
    """The stored days of the span, one before and two after."""

    def wanted(days: Sequence[date], _look: Callable[[date], DayPieces]) -> Sequence[date]:
        start, stop = bisect_left(days, first), bisect_right(days, last)
        return days[max(0, start - 1) : stop + 2]

    return wanted


class ServedDays:
    """The stored days of all instruments, read through ``manager``; None where nothing is stored on disk."""

    def __init__(self, manager: Callable[[Instrument], BackfillCacheManager] | None) -> None:
        self._manager = manager
        self._shelves: Kept[Instrument, _Shelf] = Kept(KEPT_INSTRUMENTS)
        self._groups: Kept[GroupKey, pl.DataFrame] = Kept(KEPT_GROUPS)
        self._minutes: Kept[Piece, Bars] = Kept(KEPT_BARS)
        self._reading: dict[GroupKey, trio.Event] = {}
        self._readers = trio.CapacityLimiter(MOST_READERS)

    async def timeline(self, instrument: Instrument, wanted: Wanted) -> Timeline:
        """The pieces of the days that a question touches."""
        if self._manager is None:
            return Timeline([])
        shelf = self._shelves.used(instrument) or _Shelf()
        now = trio.current_time()
        chosen = _chosen(shelf, wanted) if now - shelf.looked_at < FRESH_S else None
        if chosen is not None:
            return _timeline([shelf.known[day] for day in chosen])
        look = partial(_looked, self._manager(instrument), instrument, shelf, wanted)
        found, days = await trio.to_thread.run_sync(look, limiter=self._readers)
        if found.days:
            self._shelves.keep(instrument, replace(found, looked_at=now))
        return _timeline([found.known[day] for day in days])

    def look_again(self, instrument: Instrument) -> None:
        """What is known of the instrument's files is old."""
        shelf = self._shelves.used(instrument)
        if shelf is not None:
            shelf.looked_at = float("-inf")

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
        return await trio.to_thread.run_sync(bars_of, trades, span_ms, limiter=self._readers)

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
                return self._groups.keep(key, await trio.to_thread.run_sync(read, limiter=self._readers))
            finally:
                del self._reading[key]
                done.set()
        return found


def _chosen(shelf: _Shelf, wanted: Wanted) -> Sequence[date] | None:
    """The days that are wanted, None if one of them is to be read first."""
    try:
        days = wanted(shelf.days, shelf.known.__getitem__)
    except KeyError:
        return None
    return days if all(day in shelf.known for day in days) else None


def _looked(
    manager: BackfillCacheManager, instrument: Instrument, shelf: _Shelf, wanted: Wanted
) -> tuple[_Shelf, Sequence[date]]:
    """What is stored now; days whose files are as they were are not read again. On a thread."""
    days = manager.days()
    known: dict[date, DayPieces] = {}

    def look(day: date) -> DayPieces:
        if day not in known:
            before = shelf.known.get(day)
            is_same = before is not None and before.stamps == stamps_of(manager, day)
            known[day] = before if before is not None and is_same else _read(manager, instrument, day)
        return known[day]

    chosen = list(wanted(days, look))[:MOST_DAYS]
    for day in chosen:
        look(day)
    kept = {day: each for day, each in shelf.known.items() if day in set(days)} if len(shelf.known) < KEPT_DAYS else {}
    return _Shelf(days, kept | known), chosen


def _read(manager: BackfillCacheManager, instrument: Instrument, day: date) -> DayPieces:
    """The pieces of a day; none of one that cannot be trusted, or is gone."""
    try:
        return day_pieces(manager, instrument, day)
    except (UntrustedFile, DayLocked, StoreError):
        return DayPieces(stamps_of(manager, day), is_chronological=False)


def _timeline(days: Sequence[DayPieces]) -> Timeline:
    """Days in a row. A day beside one whose times are out of order is not asked by time either: a filler row may lie on
    the other side of midnight."""
    ordered = [each.is_chronological for each in days]
    pieces: list[Piece] = []
    for at, each in enumerate(days):
        is_ordered = all(ordered[max(0, at - 1) : at + 2])
        pieces += [piece if is_ordered else replace(piece, is_chronological=False) for piece in each.pieces]
    absent = IdSet.of(ids for each in days for ids in each.absent)
    ascending = [each for at, each in enumerate(pieces) if at + 1 == len(pieces) or _ascends(each, pieces[at + 1])]
    return Timeline(ascending, absent)


def _ascends(piece: Piece, after: Piece) -> bool:
    return piece.ids.last_id < after.ids.first_id
