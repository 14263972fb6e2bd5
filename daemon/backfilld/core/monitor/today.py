"""The figures of one instrument's day, minute by minute: price, VWAP, cumulative delta and the volume profile.

Owns their definitions, which are those of :mod:`backfilld.core.day.figures`, for a day that grows. Marker rows are left
out. Trades come in order of id; what was counted before is passed over.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import polars as pl

from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import day_of

MINUTE_MS = 60_000

MOST_BINS = 40
"""Bins of the profile: about as many as there are lines beside the chart."""


@dataclass(slots=True)
class Minute:
    """Sums over the trades of a minute, and its last price."""

    close: float
    volume: float = 0.0
    notional: float = 0.0
    delta: float = 0.0


@dataclass(frozen=True, slots=True)
class Point:
    """The day as it stood at the end of the minute that began at ``start_ms``; ``vwap`` and ``delta`` are of the day
    up to there."""

    start_ms: int
    price: float
    vwap: float
    delta: float


@dataclass(frozen=True, slots=True)
class Bin:
    """The volume of the trades with low <= price < high."""

    low: float
    high: float
    volume: float
    is_poc: bool


class Today:
    """The figures of one day so far. ``next_id`` is the id that is counted next, None before the first trade;
    ``missing`` is how many ids were not there when later ones came."""

    def __init__(self, day: date) -> None:
        self.day = day
        self.next_id: int | None = None
        self.trades = 0
        self.missing = 0
        self._minutes: dict[int, Minute] = {}
        self._profile = Profile()

    def take_frame(self, frame: pl.DataFrame) -> None:
        """Count stored trades, a frame with SCHEMA in order of id."""
        new = frame if self.next_id is None else frame.filter(pl.col("a") >= self.next_id)
        if new.is_empty():
            return
        self._saw_ids(int(new["a"][0]), int(new["a"][-1]), new.height)
        real = new.lazy().filter(pl.col("p") > 0)
        notional, delta = pl.col("p") * pl.col("q"), pl.when("m").then(-pl.col("q")).otherwise(pl.col("q"))
        minutes = (
            real.group_by(minute=pl.col("T") // MINUTE_MS * MINUTE_MS)
            .agg(pl.col("p").last(), pl.col("q").sum(), notional.sum().alias("n"), delta.sum().alias("d"))
            .sort("minute")
        )
        by_price = real.group_by("p").agg(pl.col("q").sum())
        for_minutes, for_prices = pl.collect_all([minutes, by_price])
        for start_ms, close, volume, value, bought in for_minutes.iter_rows():
            self._add(start_ms, close, volume, value, bought)
        for price, volume in for_prices.iter_rows():
            self._profile.add(price, volume)

    def take(self, trades: Iterable[LiveTrade]) -> None:
        """Count trades of the day that came live."""
        for trade in trades:
            if (self.next_id is not None and trade.a < self.next_id) or day_of(trade.T) != self.day:
                continue
            self._saw_ids(trade.a, trade.a, 1)
            if trade.p > 0:
                start_ms = trade.T // MINUTE_MS * MINUTE_MS
                self._add(start_ms, trade.p, trade.q, trade.p * trade.q, -trade.q if trade.m else trade.q)
                self._profile.add(trade.p, trade.q)

    @property
    def points(self) -> list[Point]:
        """The day by minutes with trades, ascending."""
        return list(self._points())

    @property
    def poc(self) -> float | None:
        """The price with the most volume; of equals the lowest."""
        return self._profile.poc

    @property
    def bins(self) -> list[Bin]:
        """The volume by price in at most MOST_BINS bins of a round width, ascending."""
        return self._profile.bins

    def _points(self) -> Iterator[Point]:
        volume = notional = delta = 0.0
        for start_ms, minute in sorted(self._minutes.items()):
            volume, notional, delta = volume + minute.volume, notional + minute.notional, delta + minute.delta
            yield Point(start_ms, minute.close, notional / volume if volume else minute.close, delta)

    def _saw_ids(self, first_id: int, last_id: int, rows: int) -> None:
        expected = first_id if self.next_id is None else self.next_id
        self.missing += last_id + 1 - expected - rows
        self.next_id = last_id + 1
        self.trades += rows

    def _add(self, start_ms: int, close: float, volume: float, notional: float, delta: float) -> None:
        minute = self._minutes.setdefault(start_ms, Minute(close))
        minute.close = close
        minute.volume += volume
        minute.notional += notional
        minute.delta += delta


class Profile:
    """Volume by price, kept up to date trade by trade: a busy day has a hundred thousand prices, and is looked at twice
    a second."""

    def __init__(self) -> None:
        self.poc: float | None = None
        self._volumes: dict[float, float] = {}
        self._width = 0.0
        self._bins: dict[int, float] = {}

    def add(self, price: float, volume: float) -> None:
        """Count a trade, or several at one price."""
        total = self._volumes[price] = self._volumes.get(price, 0.0) + volume
        most = -1.0 if self.poc is None else self._volumes[self.poc]
        if total > most or (total == most and price < (self.poc or 0.0)):
            self.poc = price
        self._width = self._width or _round_up(price * 1e-7)
        place = self._place(price)
        self._bins[place] = self._bins.get(place, 0.0) + volume
        if place in {min(self._bins), max(self._bins)} and max(self._bins) - min(self._bins) >= MOST_BINS:
            self._widen()

    @property
    def bins(self) -> list[Bin]:
        """From the lowest price to the highest, those without volume too."""
        if self.poc is None:
            return []
        at, width = self._place(self.poc), self._width
        places = range(min(self._bins), max(self._bins) + 1)
        return [Bin(n * width, (n + 1) * width, self._bins.get(n, 0.0), n == at) for n in places]

    def _widen(self) -> None:
        """Fewer bins, out of the prices: bins of 2 do not add up to bins of 5."""
        low, high = min(self._volumes), max(self._volumes)
        self._width = max(_round_up((high - low) / (MOST_BINS - 1)), _round_up(self._width * 1.01))
        self._bins = {}
        for price, volume in self._volumes.items():
            place = self._place(price)
            self._bins[place] = self._bins.get(place, 0.0) + volume

    def _place(self, price: float) -> int:
        return math.floor(price / self._width + 1e-6)


def _round_up(width: float) -> float:
    """The next of 1, 2, 5, 10 ... times a power of ten."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width * (1 - 1e-9))
