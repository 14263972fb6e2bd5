"""The sums behind bars: trades in, prices and exact integers out, a row per interval with trades.

Owns the intervals and the arithmetic. Sums are made of integers of 1e-8, so they do not depend on the sequence of their
parts. The exchange's markers are left out.
"""

import re
from dataclasses import dataclass
from functools import partial

import polars as pl

from backfilld.core.day.anomalies import MARKER
from backfilld.core.model import MS_PER_DAY
from backfilld.core.serving.texts import units
from backfilld.core.text import plain
from backfilld.errors import SettingsError

UNITS = 100_000_000
"""Prices and quantities have at most eight decimals: as integers of 1e-8 their sums are exact."""

_ROUNDS_RIGHT_BELOW = 2.0**25
"""Up to here a float of eight decimals, times 1e8, is less than half from the integer that is meant."""

_INT64_BELOW = 2.0**62
_CENT = 1_000_000
PIECE_ROWS = 1 << 17
"""How many trades are summed up at a time: this many stay in the processor's cache."""

_SUMS = ("q", "quote", "trades", "bought", "bought_quote")
_PARTS: dict[str, pl.DataType] = {
    **dict.fromkeys(("t", "first_id"), pl.Int64()),
    **dict.fromkeys(("open", "high", "low", "close"), pl.Float64()),
    **dict.fromkeys(_SUMS, pl.Int128()),
    "trades": pl.Int64(),
}

_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": MS_PER_DAY, "w": 7 * MS_PER_DAY}
_MONDAY_MS = 4 * MS_PER_DAY
"""The first Monday since the epoch, which was a Thursday: weeks begin there."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The length of a bar: ``every_ms``, or a calendar month for None."""

    every_ms: int | None

    @classmethod
    def parse(cls, text: object) -> "Interval":
        """Read ``1s``, ``5m``, ``1h``, ``3d``, ``1w`` or ``1M`` as Binance writes them. Raises SettingsError."""
        match = re.fullmatch(r"([1-9]\d{0,4})([smhdw])", str(text))
        if text == "1M":
            return cls(None)
        if match is None:
            raise SettingsError(
                f"every = {plain(str(text), 40)}: write an interval such as 1s, 1m, 5m, 1h, 1d, 1w or 1M"
            )
        return cls(int(match[1]) * _UNIT_MS[match[2]])

    @property
    def is_within_days(self) -> bool:
        """Whether no bar of this length reaches over a midnight."""
        return self.every_ms is not None and MS_PER_DAY % self.every_ms == 0

    def opening(self, time: pl.Expr) -> pl.Expr:
        """The open time, in ms, of the bar that a time in ms falls into."""
        if self.every_ms is None:
            return pl.from_epoch(time, time_unit="ms").dt.truncate("1mo").dt.epoch("ms")
        origin_ms = _MONDAY_MS if self.every_ms % _UNIT_MS["w"] == 0 else 0
        return time - (time - origin_ms) % self.every_ms

    def openings(self, first: pl.Expr, last: pl.Expr) -> pl.Expr:
        """The open times, in ms, from the first to the last; none where both are null."""
        first, last = first.fill_null(0), last.fill_null(-1)
        if self.every_ms is not None:
            return pl.int_range(first, last + 1, self.every_ms)
        first, last = (pl.from_epoch(each, time_unit="ms") for each in (first, last))
        return pl.datetime_range(first, last, interval="1mo", time_unit="ms").dt.epoch("ms")


def candles(trades: pl.LazyFrame, interval: Interval) -> pl.LazyFrame:
    """The bars of trades in order of id: ``t`` in ms, prices, and exact sums of integers."""
    parts = trades.select("T", "p", "q", "f", "l", "m").map_batches(
        partial(_parts, interval=interval),
        predicate_pushdown=False,
        projection_pushdown=False,
        slice_pushdown=False,
        schema=_PARTS,
        streamable=True,
    )
    first, last = pl.col("first_id").arg_min(), pl.col("first_id").arg_max()
    whole = parts.group_by("t").agg(
        pl.col("open").get(first),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").get(last),
        *(pl.col(name).sum() for name in _SUMS),
    )
    return whole.sort("t")


def _parts(trades: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    """The bars of each piece of the trades: a bar over the edge of two pieces is there twice."""
    parts = [_part(each, interval) for each in trades.iter_slices(PIECE_ROWS)]
    return pl.concat(parts) if parts else pl.DataFrame(schema=_PARTS)


def _part(trades: pl.DataFrame, interval: Interval) -> pl.DataFrame:
    # Nearly no day has a marker, and a filter copies all.
    has_markers = bool((trades["f"] < 0).any())
    rows = trades.filter(~MARKER) if has_markers else trades
    opening = rows.select(interval.opening(pl.col("T")))["T"]
    quantity = _integers(rows["q"])
    price, unit = _multipliers(_integers(rows["p"]), quantity)
    bought = quantity * (~rows["m"]).cast(pl.Int64)
    columns = {
        # Runs of equal keys need no hash table. Times go back in a few days only.
        "t": opening.set_sorted() if opening.is_sorted() else opening,
        "first_id": rows["f"],
        "p": rows["p"],
        "trades": rows["l"] - rows["f"] + 1,
        "q": quantity,
        "quote": price * quantity,
        "bought": bought,
        "bought_quote": price * bought,
    }
    found = (
        pl.DataFrame(columns)
        .group_by("t")
        .agg(
            pl.col("first_id").first(),
            open=pl.col("p").first(),
            high=pl.col("p").max(),
            low=pl.col("p").min(),
            close=pl.col("p").last(),
            **{name: pl.col(name).sum() for name in _SUMS},
        )
    )
    whole = found.select(pl.col(name).cast(dtype) for name, dtype in _PARTS.items())
    return whole if unit == 1 else whole.with_columns(pl.col("quote", "bought_quote") * unit)


def _integers(values: pl.Series) -> pl.Series:
    """The numbers as integers of 1e-8, exactly, in a type that holds their sum."""
    most = values.max() or 0.0
    if most < _ROUNDS_RIGHT_BELOW:  # type: ignore[operator]  # a float column has a float maximum
        found = (values * UNITS + 0.5).cast(pl.Int64)
        return found if most * UNITS * len(values) < _INT64_BELOW else found.cast(pl.Int128)  # type: ignore[operator]
    whole = values.floor()
    if (values == whole).all():
        return whole.cast(pl.Int128) * pl.Series([UNITS], dtype=pl.Int128)
    return units(values).to_physical().cast(pl.Int128)


def _multipliers(price: pl.Series, quantity: pl.Series) -> tuple[pl.Series, int]:
    """The prices in a type that holds the sum of their products with the quantities, and the unit that they are in:
    most prices have two decimals, and 64 bits are half the work of 128."""
    if price.dtype == quantity.dtype == pl.Int64 and (price % _CENT == 0).all():
        cents = price // _CENT
        if float(cents.max() or 0) * float(quantity.sum()) < _INT64_BELOW:  # type: ignore[arg-type]
            return cents, _CENT
    return price.cast(pl.Int128), 1
