"""Generated trades of today, for benchmarks that need no exchange."""

import polars as pl

from backfilld.simulator import Tape
from tests.benchmarks.exchange import todays_span_ms


def tape_of_today(rows: int) -> pl.DataFrame:
    """So many trades, as the simulated exchange would have them."""
    start_ms, stop_ms = todays_span_ms()
    return Tape.generate(start_ms=start_ms, stop_ms=stop_ms, trades=rows, seed=7).frame
