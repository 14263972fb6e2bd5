"""Bars and volume profiles out of stored trades, as LazyFrames.

Owns their definitions. A bar is what Binance calls a kline: on spot its fields equal the exchange's own. On futures the
count of trades and the volumes may differ a little, because liquidations are in klines but not in aggregate trades, and
an aggregate trade belongs whole to the bar in which it began. The exchange's markers are left out.
"""

from pathlib import Path

import polars as pl

from backfilld.core.day.anomalies import MARKER
from backfilld.core.model import Instrument
from backfilld.core.moments import Moment
from backfilld.errors import SettingsError
from backfilld.scanning import Incomplete, scan
from backfilld.services.candles import UNITS, Interval, candles
from backfilld.settings import Settings


def bars(
    instrument: Instrument | str,
    start: Moment,
    stop: Moment,
    *,
    every: str = "1m",
    fill: bool = True,
    cache_dir: str | Path | None = None,
    settings: Settings | None = None,
    incomplete: Incomplete = "raise",
) -> pl.LazyFrame:
    """Bars of the trades with start <= T < stop, ascending in ``time``, the open time (UTC).

    Columns: time, open, high, low, close, volume, quote_volume, trades, taker_buy_volume, taker_buy_quote_volume,
    taker_sell_volume, vwap (null in a bar without trades). ``every`` is an interval as Binance writes it. With ``fill``
    an interval without trades between two others repeats the last close with zeros, as Binance does; without it there
    is no row. Arguments and errors otherwise as for ``scan``.

    Examples:
        >>> hours = bars("spot:BTCUSDT", "2025-11-07", "2025-11-08", every="1h").collect()
        >>> hours.height, hours["time"][1].hour
        (24, 1)
        >>> (hours["low"] <= hours["vwap"]).all()
        True
    """
    interval = Interval.parse(every)
    trades = scan(instrument, start, stop, cache_dir=cache_dir, settings=settings, incomplete=incomplete)
    return shown(filled(candles(trades, interval), interval) if fill else candles(trades, interval))


def filled(candles: pl.LazyFrame, interval: Interval) -> pl.LazyFrame:
    """The bars with those between them that have no trades."""
    every_t = candles.select(t=interval.openings(pl.col("t").min(), pl.col("t").max()))
    close = pl.col("close").forward_fill()
    sums = ("q", "quote", "trades", "bought", "bought_quote")
    return every_t.join(candles, on="t", how="left", maintain_order="left").with_columns(
        *(pl.col(name).fill_null(close) for name in ("open", "high", "low", "close")),
        *(pl.col(name).fill_null(0) for name in sums),
    )


def shown(candles: pl.LazyFrame) -> pl.LazyFrame:
    """The bars as people read them."""
    volume, quote = _decimal(pl.col("q")), _decimal(pl.col("quote") // UNITS)
    return candles.select(
        pl.col("t").cast(pl.Datetime("ms", "UTC")).alias("time"),
        "open",
        "high",
        "low",
        "close",
        volume=volume,
        quote_volume=quote,
        trades="trades",
        taker_buy_volume=_decimal(pl.col("bought")),
        taker_buy_quote_volume=_decimal(pl.col("bought_quote") // UNITS),
        taker_sell_volume=_decimal(pl.col("q") - pl.col("bought")),
        vwap=pl.when(pl.col("q") > 0).then(quote / volume),
    )


def _decimal(units: pl.Expr) -> pl.Expr:
    """The number nearest to ``units`` of 1e-8. Beyond 2^53 units the whole part and the fraction are apart, as each
    of them is exact."""
    # A column, because polars multiplies by the reciprocal of a single divisor, which is not the nearest number.
    divisor = (units * 0 + UNITS).cast(pl.Float64)
    apart = (units // UNITS).cast(pl.Float64) + (units % UNITS).cast(pl.Float64) / divisor
    return pl.when(units < 2**53).then(units.cast(pl.Float64) / divisor).otherwise(apart)


_MARKED_BINS = {
    "bin": pl.Int64(),
    "q": pl.Int128(),
    "bought": pl.Int128(),
    "is_poc": pl.Boolean(),
    "inside": pl.Boolean(),
}
"""The columns of what :func:`_marked` returns."""


def profile(
    instrument: Instrument | str,
    start: Moment,
    stop: Moment,
    *,
    bin_size: float = 1.0,
    value_area: float = 0.7,
    cache_dir: str | Path | None = None,
    settings: Settings | None = None,
    incomplete: Incomplete = "raise",
) -> pl.LazyFrame:
    """The volume by price of the trades with start <= T < stop, ascending in ``price``, the lower edge of each bin.

    Columns: price, volume, taker_buy_volume, taker_sell_volume, is_poc (the bin with the most volume; of equals the
    lowest), in_value_area (the bins around it that make up this part of the volume). Raises SettingsError for a bin
    size that is not above 0, or a value area outside of 0 to 1; otherwise as ``bars``.

    Examples:
        >>> levels = profile("spot:BTCUSDT", "2025-11-07", "2025-11-08", bin_size=10).collect()
        >>> levels.filter("is_poc").height
        1
    """
    if not bin_size > 0:
        raise SettingsError(f"bin_size = {bin_size}: it must be above 0")
    if not 0 < value_area <= 1:
        raise SettingsError(f"value_area = {value_area}: it must be above 0 and at most 1")
    trades = scan(instrument, start, stop, cache_dir=cache_dir, settings=settings, incomplete=incomplete)
    marked = _by_bin(trades, bin_size).map_batches(lambda bins: _marked(bins, value_area), schema=_MARKED_BINS)
    return marked.select(
        price=(pl.col("bin") * bin_size).round(10),
        volume=_decimal(pl.col("q")),
        taker_buy_volume=_decimal(pl.col("bought")),
        taker_sell_volume=_decimal(pl.col("q") - pl.col("bought")),
        is_poc="is_poc",
        in_value_area="inside",
    )


def _by_bin(trades: pl.LazyFrame, bin_size: float) -> pl.LazyFrame:
    """The units traded, and of them those that takers bought, in each bin, ascending."""
    # The small part of a bin keeps a price that lies exactly on an edge in the bin above it.
    index = (pl.col("p") / bin_size + 1e-6).floor().cast(pl.Int64)
    quantity = (pl.col("q") * UNITS).round().cast(pl.Int128)
    return (
        trades.filter(~MARKER)
        .group_by(bin=index)
        .agg(q=quantity.sum(), bought=(quantity * (~pl.col("m")).cast(pl.Int64)).sum())
        .sort("bin")
    )


def _marked(bins: pl.DataFrame, value_area: float) -> pl.DataFrame:
    """The bins with the point of control and the value area: from the former on, the heavier neighbour joins."""
    volumes = bins["q"].to_list()
    poc = max(range(len(volumes)), key=volumes.__getitem__, default=0)
    low, high = poc, poc + 1
    wanted, inside = value_area * sum(volumes), sum(volumes[low:high])
    while inside < wanted and high - low < len(volumes):
        below = volumes[low - 1] if low else -1
        above = volumes[high] if high < len(volumes) else -1
        inside += max(below, above)
        low, high = (low - 1, high) if below > above else (low, high + 1)
    places = pl.int_range(bins.height, eager=True)
    return bins.with_columns(is_poc=places == poc, inside=places.is_between(low, high - 1))
