"""Figures of a span of trades: VWAP, point of control, range, cumulative delta.

Owns their definitions. A :class:`Figures` is a sum: the figures of two spans add up to those of both together, so a day
can be read piece by piece. Marker rows (p = q = 0) count as trades and are left out of every figure.
"""

from dataclasses import dataclass, field

import polars as pl

_NO_VOLUME: pl.DataFrame = pl.DataFrame(schema={"bin": pl.Int64, "volume": pl.Float64})

HIGHEST_BIN = 2.0**62
"""Prices that fit no number of a bin are counted in the highest; none is one of an exchange's."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over a span of trades. Prices in the quote asset, quantities in the base asset (contracts on COIN-M)."""

    bin_size: float
    trades: int = 0
    volume: float = 0.0
    notional: float = 0.0
    delta: float = 0.0
    low: float | None = None
    high: float | None = None
    volume_by_bin: pl.DataFrame = field(default_factory=_NO_VOLUME.clone)

    @classmethod
    def of(cls, trades: pl.DataFrame, bin_size: float) -> "Figures":
        """The figures of a trade frame, with price bins of ``bin_size``."""
        real = trades.lazy().filter(pl.col("p") > 0)
        price, quantity = pl.col("p"), pl.col("q")
        sums = real.select(
            volume=quantity.sum(),
            notional=(price * quantity).sum(),
            delta=pl.when("m").then(-quantity).otherwise(quantity).sum(),
            low=price.min(),
            high=price.max(),
        )
        index = (price / bin_size + 1e-6).floor().clip(upper_bound=HIGHEST_BIN).cast(pl.Int64)
        by_bin = real.group_by(bin=index).agg(volume=quantity.sum())
        figures, volume_by_bin = pl.collect_all([sums, by_bin])
        return cls(bin_size, trades.height, **figures.row(0, named=True), volume_by_bin=volume_by_bin)

    def __add__(self, other: "Figures") -> "Figures":
        """The figures of both spans together. Both must have the same bin size."""
        both = pl.concat([self.volume_by_bin, other.volume_by_bin])
        return Figures(
            bin_size=self.bin_size,
            trades=self.trades + other.trades,
            volume=self.volume + other.volume,
            notional=self.notional + other.notional,
            delta=self.delta + other.delta,
            low=min((x for x in (self.low, other.low) if x is not None), default=None),
            high=max((x for x in (self.high, other.high) if x is not None), default=None),
            volume_by_bin=both.group_by("bin").agg(pl.col("volume").sum()),
        )

    @property
    def vwap(self) -> float | None:
        """sum(p q) / sum(q); None without volume."""
        return self.notional / self.volume if self.volume else None

    @property
    def poc(self) -> float | None:
        """Point of control: the lower edge of the price bin with the most volume; of equals the lowest."""
        if self.volume_by_bin.is_empty():
            return None
        best: int = self.volume_by_bin.sort(["volume", "bin"], descending=[True, False])["bin"][0]
        return round(best * self.bin_size, 10)

    @property
    def price_range(self) -> float | None:
        """Highest minus lowest price."""
        return None if self.high is None or self.low is None else self.high - self.low
