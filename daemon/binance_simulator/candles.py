"""Candles of a tape: the grid of each interval, and what the trades of each of its steps add up to.

Owns the arithmetic, in integers of the last decimal. Must not know of queries, nor of JSON.

A row belongs to the candle that holds its T; open and close are its first and last row in the order of ids. Marker rows
count for nothing. A step without trades repeats the last close with volume 0, from the first trade on.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from binance_simulator.decimals import integer_units
from binance_simulator.generation import Grid, digits_of
from binance_simulator.model import MS_PER_DAY, MS_PER_HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_MS = 60_000
_SPANS_MS = {
    "1s": 1000,
    **{f"{minutes}m": minutes * _MINUTE_MS for minutes in (1, 3, 5, 15, 30)},
    **{f"{hours}h": hours * MS_PER_HOUR for hours in (1, 2, 4, 6, 8, 12)},
    "1d": MS_PER_DAY,
    "3d": 3 * MS_PER_DAY,
    "1w": 7 * MS_PER_DAY,
}
_MONTH = "1M"
INTERVALS = (*_SPANS_MS, _MONTH)
_MONDAY_MS = 4 * MS_PER_DAY
"""1970-01-05, the first Monday after the epoch: weeks begin on Mondays."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The grid of an interval: where the candle that holds an instant begins, and where the next one does."""

    interval: str
    offset_ms: int = 0
    """The time zone: so much local midnight is ahead of that of UTC."""

    def start_ms(self, time_ms: int) -> int:
        """The open time of the candle that holds the instant."""
        local_ms = time_ms + self.offset_ms
        if self.interval == _MONTH:
            month = (_EPOCH + timedelta(milliseconds=local_ms)).replace(
                day=1, hour=0, minute=0, second=0, microsecond=0
            )
            return (month - _EPOCH) // timedelta(milliseconds=1) - self.offset_ms
        phase_ms = _MONDAY_MS if self.interval == "1w" else 0
        return local_ms - (local_ms - phase_ms) % _SPANS_MS[self.interval] - self.offset_ms

    def next_ms(self, start_ms: int) -> int:
        """The open time of the candle after the one that begins at ``start_ms``."""
        if self.interval == _MONTH:
            return self.start_ms(start_ms + 32 * MS_PER_DAY)
        return start_ms + _SPANS_MS[self.interval]

    def before_ms(self, start_ms: int) -> int:
        """The open time of the candle before."""
        return self.start_ms(start_ms - 1)


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle: prices and volumes in units of their last decimal, the quote volume in units of both together."""

    start_ms: int
    stop_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    quote: int = 0
    trades: int = 0
    taker_volume: int = 0
    taker_quote: int = 0


def exact_rows(rows: pl.DataFrame, grid: Grid) -> pl.DataFrame:
    """The rows that are trades, with p and q in integers of their last decimal."""
    units = {"p": integer_units("p", digits_of(grid.tick)), "q": integer_units("q", digits_of(grid.lot))}
    return rows.filter(pl.col("f") >= 0).with_columns(**units)


def candles(traded: pl.DataFrame, steps: Steps, start_ms: int, stop_ms: int) -> Iterator[Candle]:
    """The candles that begin at ``start_ms`` (a step of the grid) or later, and before ``stop_ms``, ascending.

    ``traded`` are ``exact_rows``; those before ``start_ms`` are needed too, for the close that an empty step repeats.
    """
    before = traded.filter(pl.col("T") < start_ms)
    close = None if before.is_empty() else int(before["p"][-1])
    sums = _sums(traded.filter(pl.col("T").is_between(start_ms, stop_ms, closed="left")), steps)
    step_ms = start_ms
    while step_ms < stop_ms:
        next_ms = steps.next_ms(step_ms)
        found = sums.get(step_ms)
        if found is not None:
            close = found["close"]
            yield Candle(step_ms, next_ms, **found)
        elif close is not None:
            yield Candle(step_ms, next_ms, close, close, close, close)
        step_ms = next_ms


def span_candle(traded: pl.DataFrame, start_ms: int, stop_ms: int) -> Candle | None:
    """One candle of any span (half-open), or None where nothing was traded."""
    rows = traded.filter(pl.col("T").is_between(start_ms, stop_ms, closed="left"))
    return (
        None if rows.is_empty() else Candle(start_ms, stop_ms, **_integers(rows.select(**_TOTALS).row(0, named=True)))
    )


def _sums(traded: pl.DataFrame, steps: Steps) -> dict[int, dict[str, int]]:
    """By open time, what the rows of a candle add up to."""
    seconds = (traded["T"] // 1000).unique().to_list()
    starts = {second: steps.start_ms(second * 1000) for second in seconds}
    start = (pl.col("T") // 1000).replace_strict(starts, return_dtype=pl.Int64)
    grouped = traded.with_columns(start=start).group_by("start", maintain_order=True).agg(**_TOTALS)
    return {row.pop("start"): _integers(row) for row in grouped.to_dicts()}


def _integers(row: dict[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in row.items()}


_TAKER = ~pl.col("m")
_TOTALS = {
    "open": pl.col("p").first(),
    "high": pl.col("p").max(),
    "low": pl.col("p").min(),
    "close": pl.col("p").last(),
    "volume": pl.col("q").sum(),
    "quote": (pl.col("p") * pl.col("q")).sum(),
    "trades": (pl.col("l") - pl.col("f") + 1).sum(),
    "taker_volume": pl.col("q").filter(_TAKER).sum(),
    "taker_quote": (pl.col("p") * pl.col("q")).filter(_TAKER).sum(),
}
"""The members of a Candle, over rows in the order of their ids."""


def parse_offset_ms(text: str) -> int:
    """A time zone (``0``, ``8``, ``-1:00``, ``+05:45``) in ms. Raises ValueError beyond -12:00 to +14:00."""
    match = re.fullmatch(r"([+-]?)(\d{1,2})(?::([0-5]\d))?", text)
    if match is None:
        raise ValueError(text)
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    minutes = -minutes if match[1] == "-" else minutes
    if not -12 * 60 <= minutes <= 14 * 60:
        raise ValueError(text)
    return minutes * _MINUTE_MS
