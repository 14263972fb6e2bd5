"""What is odd in the rows of a day and yet no error: the exchange's own peculiarities, counted.

``markers``           rows with p = q = 0 and f = l = -1, which fill ids that stand for nothing
``zero_quantities``   trades of quantity zero
``time_inversions``   rows whose time is before that of the row before
``fl_breaks``         trades whose first trade id does not follow the last one of the aggregate trade before
"""

from collections.abc import Iterator
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
        for counts in self._counted(piece):
            for name, count in counts.items():
                if count:
                    self.counts[name] = self.counts.get(name, 0) + count
        self._last = piece[-1:]

    def _counted(self, piece: pl.DataFrame) -> Iterator[dict[str, int]]:
        if _has_quantities(piece) and _has_quantities(self._last):
            yield _between(pl.concat([self._last, piece[:1]], rechunk=True))
            yield _between(piece)
            return
        yield piece.select(markers=MARKER.sum(), zero_quantities=((pl.col("q") == 0) & ~MARKER).sum()).row(
            0, named=True
        )
        pair = (pl.col("a").diff() == 1) & ~MARKER & ~MARKER.shift()
        yield (
            pl.concat([self._last, piece], rechunk=False)
            .select(
                time_inversions=(pl.col("T").diff() < 0).sum(),
                fl_breaks=(pair & (pl.col("f") - pl.col("l").shift() != 1)).sum(),
            )
            .row(0, named=True)
        )


def _has_quantities(trades: pl.DataFrame) -> bool:
    """Whether no row has the quantity zero: then none is a marker either. So it is with nearly all pieces."""
    return trades.is_empty() or bool(trades["q"].min() > 0)  # type: ignore[operator]


def _between(trades: pl.DataFrame) -> dict[str, int]:
    """What is odd between rows of which none is a marker. By columns: an expression wakes polars' thread pool, which
    takes several times as long."""
    a, times, f, last = (trades[name] for name in ("a", "T", "f", "l"))
    breaks = f[1:] - last[:-1] != 1
    if trades.height and a[-1] - a[0] + 1 != trades.height:
        breaks &= a[1:] - a[:-1] == 1
    return {"time_inversions": int((times[1:] < times[:-1]).sum()), "fl_breaks": int(breaks.sum())}
