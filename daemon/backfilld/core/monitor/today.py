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
        self._volumes: dict[float, float] = {}

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
            self._volumes[price] = self._volumes.get(price, 0.0) + volume

    def take(self, trades: Iterable[LiveTrade]) -> None:
        """Count trades of the day that came live."""
        for trade in trades:
            if (self.next_id is not None and trade.a < self.next_id) or day_of(trade.T) != self.day:
                continue
            self._saw_ids(trade.a, trade.a, 1)
            if trade.p > 0:
                start_ms = trade.T // MINUTE_MS * MINUTE_MS
                self._add(start_ms, trade.p, trade.q, trade.p * trade.q, -trade.q if trade.m else trade.q)
                self._volumes[trade.p] = self._volumes.get(trade.p, 0.0) + trade.q

    @property
    def points(self) -> list[Point]:
        """The day by minutes with trades, ascending."""
        return list(self._points())

    @property
    def poc(self) -> float | None:
        """The price with the most volume; of equals the lowest."""
        return min(self._volumes, key=lambda price: (-self._volumes[price], price), default=None)

    def profile(self, most: int = 40) -> list[Bin]:
        """The volume by price in at most so many bins of a round width, ascending."""
        if not self._volumes:
            return []
        low, high = min(self._volumes), max(self._volumes)
        width = _round_up((high - low) / (most - 1)) if high > low else max(low * 1e-6, 1e-8)
        first = math.floor(low / width + 1e-6)
        volumes = [0.0] * (math.floor(high / width + 1e-6) - first + 1)
        for price, volume in self._volumes.items():
            volumes[math.floor(price / width + 1e-6) - first] += volume
        poc = self.poc
        edges = [(first + place) * width for place in range(len(volumes) + 1)]
        at = -1 if poc is None else math.floor(poc / width + 1e-6) - first
        return [Bin(edges[n], edges[n + 1], volume, n == at) for n, volume in enumerate(volumes)]

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


def _round_up(width: float) -> float:
    """The next of 1, 2, 5, 10 ... times a power of ten."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width * (1 - 1e-9))
