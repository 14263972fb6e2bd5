"""The merger: gathers pages by instrument and day, puts them in order, and hands whole stretches to the writer.

Owns the trades that are not on disk yet, and the promise of how old and how many they may get. It never sees what is on
disk; joining with that is the writer's. Must not fetch or write.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise

import polars as pl
import trio

from backfilld.actors.messages import (
    DayMerged,
    DaysFlushed,
    MergerMessage,
    PageFetched,
    PagesStreamed,
    SyncAction,
    WriterMessage,
)
from backfilld.core.day.absences import NO_ABSENCES
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import REST, Source
from backfilld.core.day.division import divided, starts_within
from backfilld.core.day.start import DayStart
from backfilld.core.frame import empty_trades
from backfilld.core.merge import Merged, deduplicate
from backfilld.core.model import Instrument
from backfilld.core.sync.events import Flush, Prove

CHECKPOINT_MARGIN = 0.7
"""A checkpoint begins after this part of its interval: what is left is for writing it."""


async def run_merger(
    pages: trio.MemoryReceiveChannel[MergerMessage],
    days: trio.MemorySendChannel[WriterMessage],
    *,
    checkpoint_s: Callable[[], float],
    checkpoint_rows: int,
) -> None:
    """Gather pages; hand all over when asked to, when the oldest page is ``checkpoint_s()`` old or ``checkpoint_rows``
    wait, and when there are no more pages."""
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
            if isinstance(message, SyncAction) and isinstance(message.action, Flush):
                await _send_all(days, merger.flush(message.instrument, message.action))
                continue
            if message is not None:
                merger.take(message, trio.current_time())
            if message is None or merger.rows >= checkpoint_rows:
                await _send_all(days, merger.hand_over())


async def _send_all(days: trio.MemorySendChannel[WriterMessage], messages: Iterator[WriterMessage]) -> None:
    for message in messages:
        await days.send(message)


@dataclass(slots=True)
class _Waiting:
    """One instrument's pages, each with its source, and the day starts that are known."""

    pages: list[tuple[Source, pl.DataFrame]] = field(default_factory=list)
    day_starts: set[DayStart] = field(default_factory=set)

    @property
    def rows(self) -> int:
        return sum(page.height for _, page in self.pages)

    def forget(self) -> None:
        """Drop the rows that answers to questions brought, and the day starts that follow from them."""
        self.pages = [(source, page) for source, page in self.pages if source != REST]
        self.day_starts.clear()

    def _taken(self) -> list[tuple[Source, pl.DataFrame]]:
        pages, self.pages = self.pages, []
        return pages

    def hand_over(self, instrument: Instrument) -> Iterator[DayMerged]:
        """All pages, later days first: the store knows a day that is over by what is stored behind it."""
        by_day = _by_day(self._taken(), self.day_starts)
        starts = frozenset(self.day_starts)
        for day, source in sorted(by_day, key=lambda key: (key[0], key[1].name), reverse=True):
            merged = by_day[day, source]
            addition = Addition(instrument, day, merged.trades, starts, source=source)
            yield DayMerged(addition, merged.duplicates, merged.conflicts)


class _Merger:
    def __init__(self) -> None:
        self._waiting: defaultdict[Instrument, _Waiting] = defaultdict(_Waiting)
        self.rows = 0
        self.oldest_at = float("inf")

    def take(self, message: MergerMessage, now: float) -> None:
        match message:
            case SyncAction(instrument, Prove(day_starts)):
                self._waiting[instrument].day_starts |= day_starts
            case PagesStreamed(pages):
                for page in pages:
                    self._take(page, now)
            case PageFetched():
                self._take(message, now)

    def _take(self, page: PageFetched, now: float) -> None:
        self._waiting[page.instrument].pages.append((page.source, page.trades))
        self.rows += page.trades.height
        self.oldest_at = min(self.oldest_at, now)

    def flush(self, instrument: Instrument, command: Flush) -> Iterator[WriterMessage]:
        """What waits of the instrument, then its days to renew, and the end mark. The others keep gathering: handed
        over as often as any of hundreds is flushed, each would be written a row at a time."""
        waiting = self._waiting[instrument]
        self.rows -= waiting.rows
        if command.forgets:
            waiting.forget()
        if not self.rows:
            self.oldest_at = float("inf")
        yield from waiting.hand_over(instrument)
        starts = frozenset(waiting.day_starts)
        for day in sorted(command.renew | command.absences.keys()):
            absence = command.absences.get(day, NO_ABSENCES)
            addition = Addition(instrument, day, day_starts=starts, absence=absence)
            yield DayMerged(addition, writes_file=day in command.renew)
        yield DaysFlushed(instrument)

    def hand_over(self) -> Iterator[DayMerged]:
        self.rows, self.oldest_at = 0, float("inf")
        for instrument, waiting in self._waiting.items():
            yield from waiting.hand_over(instrument)


def _by_day(pages: list[tuple[Source, pl.DataFrame]], starts: set[DayStart]) -> dict[tuple[date, Source], Merged]:
    """The pages by day and source, cut where days begin; the starts that they prove are added. All pages are looked at
    together: what one of them has of a midnight may be in another one."""
    if not pages:
        return {}
    whole = _in_order([trades for _, trades in pages])
    parts = divided(whole.trades, starts)
    starts |= starts_within(parts, starts)
    if len(parts) == 1 and len({source for source, _ in pages}) == 1:
        return {(parts[0][0], pages[0][0]): whole}
    found: defaultdict[tuple[date, Source], list[pl.DataFrame]] = defaultdict(list)
    firsts = [trades["a"][0] for _, trades in parts[1:]]
    for source, page in pages:
        rows = [0, *(bisect_left(page["a"], each) for each in firsts), page.height]
        for (day, _), (start, stop) in zip(parts, pairwise(rows), strict=True):
            if start < stop:
                found[day, source].append(page[start:stop])
    return {key: _in_order(of_day) for key, of_day in found.items()}


def _in_order(pages: list[pl.DataFrame]) -> Merged:
    pages.sort(key=lambda page: page["a"][0])
    trades = pl.concat(pages, rechunk=True)
    disjoint = all(left["a"][-1] < right["a"][0] for left, right in pairwise(pages))
    return Merged(trades, 0, empty_trades()) if disjoint else deduplicate(trades)
