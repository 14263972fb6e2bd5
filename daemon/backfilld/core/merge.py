"""Joining trades by id: order, duplicates, conflicts.

Owns the rule that an aggregate trade id stands for exactly one trade. Identical rows collapse; two different rows under
one id are a conflict: the stored row stays, both are reported.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import polars as pl

from backfilld.core.frame import SCHEMA, empty_trades


@dataclass(frozen=True, slots=True)
class Merged:
    """The outcome of a merge.

    ``trades`` ascends strictly in ``a``; ``duplicates`` counts the identical rows that collapsed; ``conflicts`` has
    the refused rows, whose id is stored with other values.
    """

    trades: pl.DataFrame
    duplicates: int
    conflicts: pl.DataFrame


def merge(stored: pl.DataFrame, new: pl.DataFrame) -> Merged:
    """Merge ``new`` into ``stored``; both must ascend strictly in ``a``.

    Rows that extend the end are appended without a copy; otherwise only the stretch of ``stored`` that ``new`` reaches
    into is looked at. On a conflict the stored row stays.
    """
    if stored.is_empty() or new.is_empty() or new["a"][0] > stored["a"][-1]:
        return Merged(pl.concat([stored, new], rechunk=False), 0, empty_trades())
    if new["a"][-1] < stored["a"][0]:
        return Merged(pl.concat([new, stored], rechunk=False), 0, empty_trades())
    start = bisect_left(stored["a"], new["a"][0])
    stop = bisect_right(stored["a"], new["a"][-1])
    joined = deduplicate(pl.concat([stored[start:stop], new], rechunk=False))
    trades = pl.concat([stored[:start], joined.trades, stored[stop:]], rechunk=False)
    return Merged(trades, joined.duplicates, joined.conflicts)


def deduplicate(trades: pl.DataFrame) -> Merged:
    """Order any trades by ``a`` and keep one row per id: the first one given, where rows differ."""
    ordered = trades.sort("a", maintain_order=True)
    repeats = ordered["a"].diff().eq(0).fill_null(value=False)
    if not repeats.any():
        return Merged(ordered, 0, empty_trades())
    kept = ordered.filter(~repeats)
    others = ordered.filter(repeats)
    differing = others.join(kept, on=list(SCHEMA), how="anti", maintain_order="left")
    return Merged(kept, others.height - differing.height, differing)


def typed(trades: pl.DataFrame | list[dict[str, object]]) -> pl.DataFrame:
    """Trades as Binance sends them (a list of dicts, prices as text) or any frame, as the columns of SCHEMA.

    ``M`` is true where it is missing; other fields than those of SCHEMA are dropped. Raises what polars raises on
    values that do not fit (``pl.exceptions.PolarsError``) and KeyError on a missing field.
    """
    if isinstance(trades, list):
        if not trades:
            return empty_trades()
        columns = {name: [row.get(name, True) if name == "M" else row[name] for row in trades] for name in SCHEMA}
        trades = pl.DataFrame(columns, strict=False)
    if "M" not in trades.columns:
        trades = trades.with_columns(M=pl.lit(value=True))
    return trades.select(pl.col(name).cast(dtype, strict=True) for name, dtype in SCHEMA.items())
