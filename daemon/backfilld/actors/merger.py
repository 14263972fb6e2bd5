"""The merger: gathers pages by instrument and day, puts them in order, and hands whole stretches to the writer.

Owns the trades that are not on disk yet, and the promise of how old and how many they may get. It never sees what is on
disk; joining with that is the writer's. Must not fetch or write.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise

import polars as pl
import trio

from backfilld.actors.messages import (
    DayMerged,
    DaysFlushed,
    FlushDays,
    MergerMessage,
    PageFetched,
    PagesStreamed,
    StartsProven,
    WriterMessage,
)
from backfilld.core.day.absences import NO_ABSENCES
from backfilld.core.day.certificate import Source
from backfilld.core.frame import empty_trades
from backfilld.core.merge import Merged, deduplicate
from backfilld.core.model import Instrument, day_of, day_stop_ms

CHECKPOINT_MARGIN = 0.7
"""A checkpoint begins after this part of its interval: what is left is for writing it."""

NOTHING_NEW = Merged(empty_trades(), 0, empty_trades())


async def run_merger(
    pages: trio.MemoryReceiveChannel[MergerMessage],
    days: trio.MemorySendChannel[WriterMessage],
    *,
    checkpoint_s: Callable[[], float],
    checkpoint_rows: int,
) -> None:
    """Gather pages; hand all over when asked to, when the oldest page is ``checkpoint_s()`` old or ``checkpoint_rows``
    are held, and when there are no more pages."""
    merger = _Merger()
    async with pages, days:
        while True:
            message: MergerMessage | None = None
            try:
                with trio.move_on_at(merger.oldest_at + checkpoint_s() * CHECKPOINT_MARGIN):
                    message = await pages.receive()
            except trio.EndOfChannel:
                # Outside of the deadline above: what was handed over and did not find room would be lost.
                await _send_all(days, merger.hand_over())
                return
            if isinstance(message, FlushDays):
                await _send_all(days, merger.flush(message))
                continue
            if message is not None:
                merger.take(message, trio.current_time())
            if message is None or merger.rows >= checkpoint_rows:
                await _send_all(days, merger.hand_over())


async def _send_all(days: trio.MemorySendChannel[WriterMessage], messages: Iterator[WriterMessage]) -> None:
    for message in messages:
        await days.send(message)


@dataclass(slots=True)
class _Held:
    """One instrument's pages by day and source, and the ids known to begin a day."""

    pages: defaultdict[tuple[date, Source], list[pl.DataFrame]] = field(default_factory=lambda: defaultdict(list))
    day_starts: set[int] = field(default_factory=set)

    @property
    def rows(self) -> int:
        return sum(page.height for pages in self.pages.values() for page in pages)

    def hand_over(self, instrument: Instrument) -> Iterator[DayMerged]:
        pages, self.pages = self.pages, defaultdict(list)
        starts = frozenset(self.day_starts)
        for day, source in sorted(pages, key=lambda key: (key[0], key[1].name)):
            yield DayMerged(instrument, day, _in_order(pages[day, source]), starts, source=source)


class _Merger:
    def __init__(self) -> None:
        self._held: defaultdict[Instrument, _Held] = defaultdict(_Held)
        self.rows = 0
        self.oldest_at = float("inf")

    def take(self, message: PageFetched | PagesStreamed | StartsProven, now: float) -> None:
        match message:
            case StartsProven(instrument, day_starts):
                self._held[instrument].day_starts |= day_starts
            case PagesStreamed(pages):
                for page in pages:
                    self._take(page, now)
            case _:
                self._take(message, now)

    def _take(self, page: PageFetched, now: float) -> None:
        held = self._held[page.instrument]
        parts = list(_by_day(page.trades))
        for day, trades in parts:
            held.pages[day, page.source].append(trades)
        held.day_starts.update(trades["a"][0] for _, trades in parts[1:])
        self.rows += page.trades.height
        self.oldest_at = min(self.oldest_at, now)

    def flush(self, command: FlushDays) -> Iterator[WriterMessage]:
        """What is held of the instrument, then its days to renew, and the end mark. The others keep gathering: handed
        over as often as any of hundreds is flushed, each would be written a row at a time."""
        handed = set()
        held = self._held[command.instrument]
        self.rows -= held.rows
        if not self.rows:
            self.oldest_at = float("inf")
        for message in held.hand_over(command.instrument):
            handed.add(message.day)
            yield message
        starts = frozenset(held.day_starts)
        for day in sorted((command.renew - handed) | command.absences.keys()):
            absence = command.absences.get(day, NO_ABSENCES)
            yield DayMerged(command.instrument, day, NOTHING_NEW, starts, absence)
        yield DaysFlushed(command.instrument)

    def hand_over(self) -> Iterator[DayMerged]:
        self.rows, self.oldest_at = 0, float("inf")
        for instrument, held in self._held.items():
            yield from held.hand_over(instrument)


def _by_day(trades: pl.DataFrame) -> Iterator[tuple[date, pl.DataFrame]]:
    """Cut a page at midnights. A trade never belongs to an earlier day than the one before it, whatever its time says:
    marker rows keep the time of another trade."""
    times = trades["T"].cum_max()
    start, day = 0, day_of(times[0])
    while times[-1] >= day_stop_ms(day):
        stop = int(times.search_sorted(day_stop_ms(day), side="left"))
        if stop > start:
            yield day, trades[start:stop]
        start, day = stop, day + timedelta(days=1)
    yield day, trades[start:]


def _in_order(pages: list[pl.DataFrame]) -> Merged:
    pages.sort(key=lambda page: page["a"][0])
    trades = pl.concat(pages, rechunk=True)
    disjoint = all(left["a"][-1] < right["a"][0] for left, right in pairwise(pages))
    return Merged(trades, 0, empty_trades()) if disjoint else deduplicate(trades)
