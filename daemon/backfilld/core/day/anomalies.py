"""What is odd in the rows of a day and yet no error: the exchange's own peculiarities, counted.

``markers``           rows with p = q = 0 and f = l = -1, which fill ids that stand for nothing
``zero_quantities``   trades of quantity zero
``time_inversions``   rows whose time is before that of the row before
``fl_breaks``         trades whose first trade id does not follow the last one of the aggregate trade before
"""

from dataclasses import dataclass, field

import polars as pl

from backfilld.core.frame import empty_trades

MARKER = (pl.col("p") == 0) & (pl.col("q") == 0) & (pl.col("f") == -1) & (pl.col("l") == -1)
"""Whether a row is the exchange's filler and no trade."""


@dataclass(slots=True)
class Anomalies:
    """Counts over pieces that follow each other in order of ``a``."""

    counts: dict[str, int] = field(default_factory=dict)
    _last: pl.DataFrame = field(default_factory=empty_trades)

    def add(self, piece: pl.DataFrame) -> None:
        """Count in the next trades; what is counted zero times is left out."""
        own = piece.select(markers=MARKER.sum(), zero_quantities=((pl.col("q") == 0) & ~MARKER).sum())
        pair = (pl.col("a").diff() == 1) & ~MARKER & ~MARKER.shift()
        between = pl.concat([self._last, piece], rechunk=False).select(
            time_inversions=(pl.col("T").diff() < 0).sum(),
            fl_breaks=(pair & (pl.col("f") - pl.col("l").shift() != 1)).sum(),
        )
        for name, count in (own.row(0, named=True) | between.row(0, named=True)).items():
            if count:
                self.counts[name] = self.counts.get(name, 0) + count
        self._last = piece[-1:]
