"""Generated trades of today, for benchmarks that need no exchange: as the simulated exchange has them, or rougher."""

import polars as pl

from binance_simulator import Tape
from tests.benchmarks.exchange import todays_span_ms


def tape_of_today(rows: int) -> pl.DataFrame:
    """So many trades, as the simulated exchange would have them."""
    start_ms, stop_ms = todays_span_ms()
    return Tape.generate(start_ms=start_ms, stop_ms=stop_ms, trades=rows, seed=7).frame


def roughened(tape: pl.DataFrame) -> pl.DataFrame:
    """The same trades with a quantity out of a million at random, and prices that jump with every trade.

    No dictionary helps with these: no real day can be as hard to compress.
    """
    lots = pl.col("a").hash(1) % 1_000_000 + 1
    jump_ticks = pl.col("a").hash(2) % 1_000
    return tape.with_columns(p=(pl.col("p") + jump_ticks / 100).round(2), q=(lots / 100_000).round(5))
