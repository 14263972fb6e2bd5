"""The world in the tests' hands: an exchange that plays a tape by the exchange's rules, a store that can fail, and
helpers for channels.

The fakes implement the ports; whatever is scripted here is a way in which the real world was seen to misbehave.
"""

import difflib
import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

import numpy as np
import polars as pl
import trio

from backfilld.adapters.ram_store import RamStore
from backfilld.core.backfill.outcome import UNKNOWN_SYMBOL
from backfilld.core.backfill.questions import At, Before, Newest, Page, Query, Since, Tail, brings_rows
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.figures import Figures
from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.core.markets import RULES, Pool
from backfilld.core.model import LATEST_MS, Instrument, Market, day_start_ms
from backfilld.core.timespan import TimeSpan
from backfilld.core.weight.limits import Limit
from backfilld.core.weight.weights import Endpoint
from backfilld.errors import DayLocked, ExchangeError, RequestRejected
from backfilld.ports import ArchiveSource, Forwarded, MarketInfo, Published, Reply, RestClient, Saved, Usage

T = TypeVar("T")

DAY = date(2025, 11, 7)
DAY_MS = day_start_ms(DAY)
"""2025-11-07T00:00:00Z: where tapes begin by default."""

BTC = Instrument(Market.SPOT, "BTCUSDT")
ETH = Instrument(Market.SPOT, "ETHUSDT")
SOL = Instrument(Market.UM, "SOLUSDT")


def starts_at(day: date, *ids: int) -> frozenset[DayStart]:
    """Starts with these ids, each of the day and of the next one: they prove whichever end of the day they touch."""
    return frozenset(DayStart(each, first_id) for first_id in ids for each in (day, day + ONE_DAY))


# -- tapes


def trade_frame(ids: Sequence[int], times: Sequence[int], markers: Collection[int] = ()) -> pl.DataFrame:
    """Trades with these ids and times, the rest made up from the id; ``markers`` are ids of marker rows."""
    # By numpy: polars divides a column of one row otherwise than a longer one, by the last bit.
    a = np.array(ids, np.int64)
    void = np.isin(a, np.array([*markers], np.int64))
    columns = {
        "T": np.array(times, np.int64),
        "a": a,
        "p": np.where(void, 0.0, (a % 1000 * 7919 % 1000 + 10_000) / 100),
        "q": np.where(void, 0.0, (a % 97 + 1) / 1000),
        "f": np.where(void, -1, a * 3),
        "l": np.where(void, -1, a * 3 + a % 3),
        "m": a % 2 == 0,
        "M": np.ones(len(a), np.bool_),
    }
    return pl.DataFrame(columns, schema=SCHEMA)


def trades_at(first_id: int, *times: int) -> pl.DataFrame:
    """Trades with ids from ``first_id`` on at these instants, in ms."""
    return trade_frame(range(first_id, first_id + len(times)), times)


class Tape:
    """The trades of one symbol, ascending in id and time, and how the exchange selects of them."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self.ids: list[int] = frame["a"].to_list()
        self.times: list[int] = frame["T"].to_list()
        self._is_chronological = frame["T"].is_sorted()

    @classmethod
    def of(
        cls, first_id: int, times: Sequence[int], absent: Collection[int] = (), markers: Collection[int] = ()
    ) -> "Tape":
        """A trade at each instant, ids from ``first_id`` on; ``absent`` are ids that the exchange does not have."""
        frame = trade_frame(range(first_id, first_id + len(times)), times, markers)
        return cls(frame.filter(~pl.col("a").is_in([*absent])) if absent else frame)

    @classmethod
    def even(cls, rows: int, *, start_ms: int = DAY_MS, step_ms: int = 10, first_id: int = 0) -> "Tape":
        """A trade every ``step_ms``."""
        return cls.of(first_id, range(start_ms, start_ms + rows * step_ms, step_ms))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        ends = f"ids {self.ids[0]}..{self.ids[-1]}, T {self.times[0]}..{self.times[-1]}" if self.ids else "empty"
        return f"Tape({len(self)} rows, {ends})"

    def head(self, rows: int) -> "Tape":
        """The oldest rows: the tape as it was earlier."""
        return Tape(self.frame.head(rows))

    def until(self, now_ms: float) -> "Tape":
        """The tape as it stood at that instant."""
        return self.head(bisect_right(self.times, now_ms))

    def ids_in(self, window: TimeSpan) -> set[int]:
        """The ids with a time in the window."""
        stop_ms = math.inf if window.stop_ms is None else window.stop_ms
        return {a for a, at in zip(self.ids, self.times, strict=True) if window.start_ms <= at < stop_ms}

    def _between(self, start_ms: int | None, stop_ms: int | None) -> pl.DataFrame:
        """The rows with a time in between, by id."""
        if not self._is_chronological:
            at = pl.col("T")
            return self.frame.filter(at >= (start_ms or 0), at < (stop_ms or LATEST_MS))
        start = 0 if start_ms is None else bisect_left(self.times, start_ms)
        return self.frame[start : len(self) if stop_ms is None else bisect_left(self.times, stop_ms)]

    def answer(self, query: Query) -> pl.DataFrame:
        """The rows that the exchange answers, by its rules of selection."""
        match query:
            case Page() | Tail():
                start = bisect_left(self.ids, query.first_id)
            case At(first_id):
                start = bisect_left(self.ids, first_id)
            case Since(start_ms, rows):
                return self._between(start_ms, None).head(rows)
            case Before(stop_ms, rows):
                return self._between(None, stop_ms).tail(rows)
            case Newest(stop_ms=stop_ms, rows=rows):
                return self._between(None, stop_ms).tail(rows)
        return self.frame[start : start + query.rows]


# -- the exchange

Trick = Callable[[Query | None, Reply[pl.DataFrame]], Reply[pl.DataFrame]]


def refuse(error: ExchangeError) -> Trick:
    """Answer with an error; the request is charged all the same."""
    return lambda _, reply: Reply(reply.usage, error)


def lose(error: ExchangeError) -> Trick:
    """No answer comes, so nothing is known of usage either."""
    return lambda _, __: Reply(Usage(), error)


def mangle(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Trick:
    """Answer 200 with other rows than were asked for."""

    def trick(_: Query | None, reply: Reply[pl.DataFrame]) -> Reply[pl.DataFrame]:
        rows = reply.read()
        return reply if isinstance(rows, ExchangeError) else Reply(reply.usage, change(rows))

    return trick


@dataclass
class Misbehaviour:
    """A trick that is played on the questions that ``on`` picks, at most ``times`` times.

    ``on`` gets the instrument and the query, and None for the query where exchangeInfo is read.
    """

    trick: Trick
    on: Callable[[Instrument, Query | None], bool] = lambda _, query: query is not None
    times: float = 1


@dataclass
class FakeExchange:
    """Tapes behind :class:`backfilld.ports.RestClient`, on trio's clock. Its time is ``epoch_ms`` at virtual 0."""

    tapes: Mapping[Instrument, Tape]
    epoch_ms: int = DAY_MS + 43_200_000
    latency_s: float = 0.05
    limits: tuple[Limit, ...] = (Limit(6000, 1, "MINUTE"),)
    tick: float = 0.01
    grows: bool = False
    mute: bool = False
    misbehaves: list[Misbehaviour] = field(default_factory=list)
    asked: list[tuple[Instrument, Query]] = field(default_factory=list)
    described: list[tuple[str, ...]] = field(default_factory=list)
    sent: defaultdict[Instrument, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """How often each id was sent in answers that do more than locate."""
    _shown_ms: int = 0
    open_connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    weight_by_minute: Counter[int] = field(default_factory=Counter)
    weight_by_pool: Counter[tuple[Pool, int]] = field(default_factory=Counter)
    limits_of: Mapping[Market, tuple[Limit, ...]] = field(default_factory=dict)

    @asynccontextmanager
    async def open_client(self) -> AsyncIterator[RestClient]:
        """One connection; all share this exchange."""
        self.open_connections += 1
        try:
            yield self
        finally:
            self.open_connections -= 1

    @property
    def now_ms(self) -> int:
        """The exchange's clock."""
        return int(self.epoch_ms + trio.current_time() * 1000)

    async def trades(self, instrument: Instrument, query: Query) -> Reply[pl.DataFrame]:
        """Answer one question, or play the first trick that fits it."""
        self.asked.append((instrument, query))
        usage = await self._travel(instrument.market, RULES[instrument.market].weights[Endpoint.TRADES])
        if instrument not in self.tapes:
            return self._played(instrument, query, Reply(usage, unknown_symbol()))
        # A clock that steps back takes back no trade.
        self._shown_ms = max(self._shown_ms, self.now_ms)
        tape = self.tapes[instrument].until(self._shown_ms) if self.grows else self.tapes[instrument]
        rows = tape.answer(query)
        if brings_rows(query):
            self.sent[instrument].update(rows["a"].to_list())
        return self._played(instrument, query, Reply(usage, rows))

    async def market_info(self, market: Market, symbols: Sequence[str], *, whole: bool = False) -> Reply[MarketInfo]:
        """Answer exchangeInfo; one unknown symbol spoils the answer for all. The ``whole`` list has the next name."""
        self.described.append(tuple(symbols))
        usage = await self._travel(market, RULES[market].weights[Endpoint.INFO])
        asked = [Instrument(market, symbol) for symbol in symbols]
        if not all(each in self.tapes for each in asked):
            return Reply(usage, self._unlisted(symbols[0]) if whole else unknown_symbol())
        played = self._played(asked[0], None, Reply(usage, pl.DataFrame()))
        if isinstance(played.result, ExchangeError):
            return Reply(played.usage, played.result)
        return Reply(usage, MarketInfo(self.limits_of.get(market, self.limits), dict.fromkeys(symbols, self.tick)))

    def _unlisted(self, symbol: str) -> RequestRejected:
        near = difflib.get_close_matches(symbol, [each.symbol for each in self.tapes], n=1)
        hint = f". Did you mean {near[0]}?" if near else ""
        return RequestRejected(f"-1121 {symbol} is not listed{hint}", status=200, code=UNKNOWN_SYMBOL)

    async def forward(self, market: Market, target: str, headers: Mapping[str, str]) -> Reply[Forwarded]:  # noqa: ARG002
        """Answer that the target was asked for; 2 weight."""
        usage = await self._travel(market, 2)
        return Reply(usage, Forwarded(200, {"content-type": "application/json"}, f"{market} {target}".encode()))

    async def _travel(self, market: Market, weight: int) -> Usage:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await trio.sleep(self.latency_s / 2)
            if self.mute:
                await trio.sleep_forever()
            self.weight_by_minute[self.now_ms // 60_000] += weight
            minute = RULES[market].pool, self.now_ms // 60_000
            self.weight_by_pool[minute] += weight
            usage = Usage({"1m": self.weight_by_pool[minute]}, self.now_ms // 1000 * 1000)
            await trio.sleep(self.latency_s / 2)
        finally:
            self.in_flight -= 1
        return usage

    def _played(self, instrument: Instrument, query: Query | None, reply: Reply[pl.DataFrame]) -> Reply[pl.DataFrame]:
        for each in self.misbehaves:
            if each.times > 0 and each.on(instrument, query):
                each.times -= 1
                return each.trick(query, reply)
        return reply


def unknown_symbol() -> RequestRejected:
    """What the exchange says of a symbol that it does not list."""
    return RequestRejected("-1121 Invalid symbol.", status=400, code=UNKNOWN_SYMBOL)


# -- the archive


@dataclass
class FakeArchive:
    """Published days behind :class:`backfilld.ports.ArchiveSource`. What is in them is the store's to know.

    ``failing`` are the days that are not available, ``asked`` the days that were asked for, in order; ``breaks`` is
    raised by every question.
    """

    published: set[tuple[Instrument, date]]
    failing: dict[tuple[Instrument, date], ExchangeError] = field(default_factory=dict)
    latency_s: float = 0.0
    breaks: BaseException | None = None
    asked: list[tuple[Instrument, date]] = field(default_factory=list)
    open_connections: int = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ArchiveSource]:
        """One connection."""
        self.open_connections += 1
        try:
            yield self
        finally:
            self.open_connections -= 1

    async def fetch(self, instrument: Instrument, day: date) -> Published | None:
        """What was set, after ``latency_s``."""
        self.asked.append((instrument, day))
        await trio.sleep(self.latency_s)
        if self.breaks is not None:
            raise self.breaks
        if (instrument, day) in self.failing:
            raise self.failing[instrument, day]
        return self.file_of(instrument, day) if (instrument, day) in self.published else None

    async def size(self, instrument: Instrument, day: date) -> int | None:
        """1,000 bytes."""
        await trio.sleep(self.latency_s)
        return 1000 if (instrument, day) in self.published else None

    @staticmethod
    def file_of(instrument: Instrument, day: date) -> Published:
        """What is on disk of a day."""
        return Published(f"{instrument}-{day}.zip", "ab" * 32, 1000)


# -- the store


class FakeStore(RamStore):
    """Days in memory that can be slow or fail: ``fails`` is raised by the operations it names.

    ``saves`` and ``deleted`` are what was done, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.delay_s = 0.0
        self.fails: dict[str, BaseException] = {}
        self.saves: list[tuple[Instrument, date, int, frozenset[DayStart]]] = []
        self.deleted: list[tuple[Instrument, date]] = []
        self.contexts: list[tuple[Instrument, int, int, float]] = []
        self.loaded: list[tuple[Instrument, date]] = []
        self.locked: set[Instrument] = set()
        self.left: list[Instrument] = []

    async def days(self, instrument: Instrument) -> list[date]:
        """The days stored; a locked instrument has one that cannot be read."""
        self._raise("load")
        return [*await super().days(instrument), *([DAY] if instrument in self.locked else [])]

    async def open(self) -> None:
        """What was set."""
        self._raise("open")
        await super().open()

    async def load(self, instrument: Instrument, day: date) -> Certificate | None:
        """What was set."""
        self._raise("load")
        if instrument in self.locked:
            raise DayLocked(f"{instrument} {day} is encrypted, and no key opens it")
        self.loaded.append((instrument, day))
        return await super().load(instrument, day)

    async def save(self, addition: Addition) -> Saved:
        """What was set, after ``delay_s``."""
        await trio.sleep(self.delay_s)
        self._raise("save")
        self.saves.append((addition.instrument, addition.day, addition.trades.height, addition.day_starts))
        return await super().save(addition)

    async def leave(self, instrument: Instrument) -> None:
        """Note it."""
        self.left.append(instrument)
        await super().leave(instrument)

    async def context(self, instrument: Instrument, start_ms: int, stop_ms: int, bin_size: float) -> Figures:
        """What was set."""
        self._raise("context")
        self.contexts.append((instrument, start_ms, stop_ms, bin_size))
        return await super().context(instrument, start_ms, stop_ms, bin_size)

    async def delete(self, instrument: Instrument, day: date) -> bool:
        """What was set."""
        self._raise("delete")
        self.deleted.append((instrument, day))
        return await super().delete(instrument, day)

    def ids(self, instrument: Instrument) -> list[int]:
        """All ids stored of an instrument, ascending."""
        frames = [frame for (stored, _), frame in sorted(self._days.items()) if stored == instrument]
        return [trade_id for frame in frames for trade_id in frame["a"].to_list()]

    def record(self, instrument: Instrument, day: date) -> Certificate:
        """The record of a day that is stored."""
        return self._records[instrument, day]

    def trades(self, instrument: Instrument) -> pl.DataFrame:
        """All trades that are stored of an instrument, by day."""
        frames = [frame for (stored, _), frame in sorted(self._days.items()) if stored == instrument]
        return pl.concat([empty_trades(), *frames])

    def records(self, instrument: Instrument) -> list[Certificate]:
        """The records of all days that are stored, ascending."""
        return [record for (stored, _), record in sorted(self._records.items()) if stored == instrument]

    def hold(self, instrument: Instrument, trades: pl.DataFrame, record: Certificate) -> None:
        """Hold a day from before."""
        self._days[instrument, record.day] = trades
        self._records[instrument, record.day] = record

    def _raise(self, operation: str) -> None:
        if operation in self.fails:
            raise self.fails[operation]


# -- channels


def drained(channel: trio.MemoryReceiveChannel[T]) -> list[T]:
    """What waits in the channel now."""
    messages: list[T] = []
    while True:
        try:
            messages.append(channel.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            return messages


def is_closed(channel: trio.MemorySendChannel[T]) -> bool:
    """Whether the other end of the channel is closed."""
    return channel.statistics().open_receive_channels == 0


def has_ended(channel: trio.MemoryReceiveChannel[T]) -> bool:
    """Whether all that could send into the channel is closed and nothing waits in it."""
    statistics = channel.statistics()
    return statistics.open_send_channels == 0 and statistics.current_buffer_used == 0
