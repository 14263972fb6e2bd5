"""One candle that grows with each trade, in exact integers, and its message.

Owns the arithmetic of one trade. Units are those of :mod:`backfilld.core.serving.candles`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import msgspec

from backfilld.core.live.trades import LiveTrade
from backfilld.core.serving.stream_requests import StreamName
from backfilld.core.serving.stream_texts import number_text
from backfilld.core.serving.texts import DIGITS

NO_TRADE = -1
"""The first and the last trade id of a candle without trades."""


@dataclass(slots=True)
class LiveCandle:
    """A candle from ``open_ms`` up to, not including, ``stop_ms``; prices, volumes, and ids of single trades."""

    open_ms: int
    stop_ms: int
    opening: int
    high: int
    low: int
    close: int
    volume: int = 0
    quote: int = 0
    trades: int = 0
    taker_volume: int = 0
    taker_quote: int = 0
    first_trade: int = NO_TRADE
    last_trade: int = NO_TRADE

    @classmethod
    def empty(cls, open_ms: int, stop_ms: int, close: int) -> Self:
        """A candle without a trade: it repeats the last close."""
        return cls(open_ms, stop_ms, close, close, close, close)

    @classmethod
    def of(cls, open_ms: int, stop_ms: int, found: Mapping[str, int]) -> Self:
        """A candle of what bars add up to."""
        prices = (found[name] for name in ("o", "h", "l", "c"))
        sums = (found[name] for name in ("v", "x", "n", "tv", "tx", "fi", "la"))
        return cls(open_ms, stop_ms, *prices, *sums)

    def add(self, trade: LiveTrade) -> None:
        """The next trade."""
        price, quantity = _units(trade.p), _units(trade.q)
        if self.first_trade == NO_TRADE:
            self.opening = self.high = self.low = price
            self.first_trade = trade.f
        self.high, self.low, self.close = max(self.high, price), min(self.low, price), price
        self.volume += quantity
        self.quote += price * quantity
        self.trades += trade.l - trade.f + 1
        self.last_trade = trade.l
        if not trade.m:
            self.taker_volume += quantity
            self.taker_quote += price * quantity


def candle_text(name: StreamName, candle: LiveCandle, event_ms: int, *, is_over: bool) -> str:
    """The candle as the stream brings it."""
    symbol = name.instrument.symbol
    kline = {
        "t": candle.open_ms,
        "T": candle.stop_ms - 1,
        "s": symbol,
        "i": "" if name.interval is None else name.interval.name,
        "f": candle.first_trade,
        "L": candle.last_trade,
        "o": units_text(candle.opening),
        "c": units_text(candle.close),
        "h": units_text(candle.high),
        "l": units_text(candle.low),
        "v": units_text(candle.volume),
        "n": candle.trades,
        "x": is_over,
        "q": units_text(candle.quote // 10**DIGITS),
        "V": units_text(candle.taker_volume),
        "Q": units_text(candle.taker_quote // 10**DIGITS),
        "B": "0",
    }
    return msgspec.json.encode({"e": "kline", "E": event_ms, "s": symbol, "k": kline}).decode()


def units_text(value: int) -> str:
    """Units of the eighth decimal as the exchange's text."""
    whole, rest = divmod(value, 10**DIGITS)
    return f"{whole}.{rest:0{DIGITS}}"


@lru_cache(1024)
def _units(value: float) -> int:
    # A trade is added to many candles, one after the other.
    return int(number_text(value, DIGITS).replace(".", ""))
