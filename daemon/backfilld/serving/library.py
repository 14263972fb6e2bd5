"""What is stored and what is live as one: the answer to a question, where it is provably whole.

Owns the joint of disk and memory. Whatever cannot be proven, and whatever goes wrong with a file, is None: the exchange
is asked then.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import msgspec
import polars as pl

from backfilld.adapters.served_days import ServedDays
from backfilld.adapters.served_shelf import MOST_DAYS, Wanted, around_id, around_span
from backfilld.core.live.trades import LiveTrade, trades_of
from backfilld.core.markets import RULES
from backfilld.core.model import INT64_MAX, MS_PER_DAY, IdRange, Instrument, Market, day_of
from backfilld.core.serving.candles import Bars, Span, candles, current, pieces_for, span_asked
from backfilld.core.serving.intervals import Interval
from backfilld.core.serving.live_candles import LiveCandle
from backfilld.core.serving.questions import CandlesQuestion, TradesQuestion
from backfilld.core.serving.selection import select
from backfilld.core.serving.stream_requests import StreamName
from backfilld.core.serving.texts import LACKING, Digits, trades_text
from backfilld.core.serving.timeline import Piece, Timeline
from backfilld.errors import DayLocked, StoreError
from backfilld.serving.clock import Clock
from backfilld.serving.tails import Tails
from backfilld.store.day_pieces import FrameKey
from backfilld.store.format.footer import UntrustedFile

MOST_READ = 16
"""Row groups that one question for candles may have read: a second of work. More is two units of weight upstream."""

MOST_SPAN_MS = (MOST_DAYS - 4) * MS_PER_DAY
"""The longest span of candles that is looked for: its days, and those beside it."""

_UNUSABLE = (UntrustedFile, DayLocked, StoreError, ValueError, pl.exceptions.PolarsError)

CACHE, LIVE = "cache", "live"


@dataclass(frozen=True, slots=True)
class Found:
    """An answer, and whether live trades are in it. ``is_whole``: the exchange would not say more."""

    body: bytes
    source: str
    is_whole: bool = True


class Library:
    """Answers questions."""

    def __init__(self, days: ServedDays, tails: Tails, clock: Clock) -> None:
        self._days = days
        self._tails = tails
        self._clock = clock

    async def has(self, instrument: Instrument) -> bool:
        """Whether anything of an instrument is stored or live."""
        now = day_of(self._clock.now_ms(instrument.market))
        stored = await self._days.timeline(instrument, around_span(now, now))
        return instrument in self._tails.of or bool(stored.pieces)

    async def trades(self, question: TradesQuestion, digits: Digits) -> Found | None:
        """The answer to a question for trades."""
        return await self._tried(question.instrument, partial(self._trades, question, digits))

    async def candles(self, question: CandlesQuestion) -> Found | None:
        """The answer to a question for candles."""
        span = span_asked(question, *self._clock.bounds_ms(Market.SPOT))
        if span is None or span[0] < 0 or span[1] - span[0] > MOST_SPAN_MS:
            return None
        return await self._tried(question.instrument, partial(self._candles, question, span))

    async def _tried(self, instrument: Instrument, answer: Callable[[], Awaitable[Found | None]]) -> Found | None:
        """The answer; once more where a file was replaced while it was read, which happens at each checkpoint."""
        for _ in range(2):
            try:
                return await answer()
            except _UNUSABLE:
                self._days.look_again(instrument)
        return None

    async def _trades(self, question: TradesQuestion, digits: Digits) -> Found | None:
        upto_id = None if question.from_id is None else question.from_id + 2 * question.limit
        timeline = await self._timeline(question.instrument, self._wanted(question), upto_id)
        chosen = await self._selected(select(question, timeline))
        if chosen is None:
            return None
        body = trades_text(question.instrument, chosen, digits)
        return Found(body, self._source(question.instrument, chosen), self._is_whole(question.instrument, chosen))

    async def _candles(self, question: CandlesQuestion, span: Span) -> Found | None:
        wanted = around_span(day_of(span[0]), day_of(span[1] - 1))
        timeline = await self._timeline(question.instrument, wanted)
        pieces = pieces_for(span, timeline)
        if pieces is None or self._to_read(pieces) > MOST_READ:
            return None
        rows = candles(question.interval, span, await self._bars(question.interval, pieces))
        is_live = any(isinstance(piece.key, FrameKey) for piece in pieces)
        return None if rows is None else Found(msgspec.json.encode(rows), LIVE if is_live else CACHE)

    async def current_candle(self, name: StreamName) -> tuple[LiveCandle, int] | None:
        """The candle of an interval that goes on now, and the id of the first trade that is not in it."""
        interval, tail = name.interval, self._tails.of.get(name.instrument)
        if interval is None or tail is None or tail.next_id is None:
            return None
        now_ms = self._clock.now_ms(Market.SPOT)
        open_ms = interval.open_ms(now_ms)
        if now_ms - open_ms > MOST_SPAN_MS:
            return None
        wanted = around_span(day_of(open_ms), day_of(now_ms))
        timeline = await self._timeline(name.instrument, wanted)
        pieces = pieces_for((open_ms, now_ms + 1), replace(timeline, is_live=True))
        if not pieces or timeline.next_id != tail.next_id:
            return None
        try:
            bars = await self._bars(interval, pieces)
            candle = current((open_ms, interval.next_ms(open_ms)), bars)
        except _UNUSABLE:
            return None
        return None if candle is None else (candle, pieces[-1].ids.last_id + 1)

    def live_since(self, instrument: Instrument, trade_id: int) -> list[LiveTrade]:
        """The live trades from an id on."""
        tail = self._tails.of.get(instrument)
        pieces = [] if tail is None else tail.pieces()
        keys = [piece.key for piece in pieces if piece.ids.last_id >= trade_id]
        frames = [key.trades for key in keys if isinstance(key, FrameKey)]
        return [trade for frame in frames for trade in trades_of(frame) if trade.a >= trade_id]

    async def _bars(self, interval: Interval, pieces: Sequence[Piece]) -> list[Bars]:
        days = self._days
        if interval.is_below_minutes:
            return [await days.bars(piece, interval.span_ms) for piece in pieces]
        return [await days.minutes(piece) for piece in pieces]

    def _to_read(self, pieces: Sequence[Piece]) -> int:
        return sum(not self._days.has_bars(piece) for piece in pieces)

    async def _selected(self, selecting: Generator[Piece, pl.DataFrame, pl.DataFrame | None]) -> pl.DataFrame | None:
        try:
            piece = next(selecting)
            while True:
                piece = selecting.send(await self._days.rows(piece))
        except StopIteration as done:
            chosen: pl.DataFrame | None = done.value
            return chosen

    def _wanted(self, question: TradesQuestion) -> Wanted:
        if question.from_id is not None:
            return around_id(question.from_id, question.limit)
        now = day_of(self._clock.bounds_ms(question.instrument.market)[1])
        first_ms = question.start_ms if question.start_ms is not None else question.end_ms
        first = now if first_ms is None else min(now, day_of(first_ms))
        back = 0 if question.start_ms is not None else 1
        return around_span(first - timedelta(days=back), first)

    async def _timeline(self, instrument: Instrument, wanted: Wanted, upto_id: int | None = None) -> Timeline:
        """What is stored, with the live trades behind it. Those make no difference to a question that ends before the
        first of them, at ``upto_id``; to make pieces of the newest takes as long as a page."""
        stored = await self._days.timeline(instrument, wanted)
        tail = self._tails.of.get(instrument)
        live = [] if tail is None or tail.begins_behind(upto_id) else tail.pieces()
        is_live = bool(live) and tail is not None and tail.is_fresh() and self._clock.is_attached(instrument)
        pieces = _joined(stored.pieces, live)
        is_first = bool(pieces) and pieces[0].ids.first_id == RULES[instrument.market].first_id
        return replace(stored, pieces=pieces, is_live=is_live, is_first=is_first)

    def _is_whole(self, instrument: Instrument, chosen: pl.DataFrame) -> bool:
        """Whether nothing is lacking in stored trades; of those that the exchange does not answer for any more, nobody
        has more."""
        if instrument.market not in LACKING or chosen.is_empty():
            return True
        lookback_ms = RULES[instrument.market].lookback_ms
        edge_ms = self._clock.bounds_ms(instrument.market)[0] - (lookback_ms or INT64_MAX)
        return bool(chosen["T"][0] < edge_ms)

    def _source(self, instrument: Instrument, chosen: pl.DataFrame) -> str:
        tail = self._tails.of.get(instrument)
        if chosen.is_empty():
            return CACHE if tail is None else LIVE
        is_live = tail is not None and bool(tail.rows) and chosen["a"][-1] >= (tail.next_id or 0) - tail.rows
        return LIVE if is_live else CACHE


def _joined(stored: Sequence[Piece], live: Sequence[Piece]) -> list[Piece]:
    """Pieces from disk up to where the live ones begin, then those."""
    if not live:
        return list(stored)
    first_id, last_id = live[0].ids.first_id, live[-1].ids.last_id
    before = [piece if piece.ids.last_id < first_id else _cut(piece, first_id) for piece in stored]
    # Days that a question touches may end long before the live trades begin: then the ids do not adjoin.
    behind = [piece for piece in stored if piece.ids.first_id > last_id]
    return [piece for piece in before if piece is not None] + ([] if behind else list(live))


def _cut(piece: Piece, stop_id: int) -> Piece | None:
    """The part of a piece below an id. How late its last trade is, is then not known better than before."""
    if piece.ids.first_id >= stop_id:
        return None
    return replace(piece, ids=IdRange(piece.ids.first_id, stop_id - 1), closes=False)
