"""The columns of a trade frame. Owns their names, types and sequence."""

import polars as pl

SCHEMA: dict[str, pl.DataType] = {
    "T": pl.Int64(),
    "a": pl.Int64(),
    "p": pl.Float64(),
    "q": pl.Float64(),
    "f": pl.Int64(),
    "l": pl.Int64(),
    "m": pl.Boolean(),
    "M": pl.Boolean(),
}
"""Columns of a trade frame, in file order: T trade time in ms since the epoch, a aggregate trade id, p price,
q quantity, f and l first and last trade id, m whether the buyer was the maker, M best match (true where the market
has no such field)."""


_EMPTY = pl.DataFrame(schema=SCHEMA)


def empty_trades() -> pl.DataFrame:
    """A trade frame of no rows."""
    return _EMPTY.clone()
