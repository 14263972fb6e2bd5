"""Trades for the tests of the cache: every column is a function of the id, so that any piece of a tape can be made."""

from collections.abc import Iterable
from datetime import date

import polars as pl

from backfilld.core.frame import SCHEMA
from backfilld.core.model import Instrument, day_start_ms

DAY = date(2025, 11, 7)
SPOT = Instrument.parse("spot:BTCUSDT")
FIRST_ID = 1000


def day_frame(ids: Iterable[int], day: date = DAY) -> pl.DataFrame:
    """One row per id; T follows the id, 7 ms a step from FIRST_ID at 1 s past midnight."""
    each = list(ids)
    start_ms = day_start_ms(day) + 1000
    columns = {
        "T": [start_ms + (trade_id - FIRST_ID) * 7 for trade_id in each],
        "a": each,
        "p": [100 + trade_id % 13 / 10 for trade_id in each],
        "q": [(trade_id % 7 + 1) / 1000 for trade_id in each],
        "f": [trade_id * 2 for trade_id in each],
        "l": [trade_id * 2 + 1 for trade_id in each],
        "m": [trade_id % 3 == 0 for trade_id in each],
        "M": [trade_id % 5 != 0 for trade_id in each],
    }
    return pl.DataFrame(columns, schema=SCHEMA)


def as_binance(frame: pl.DataFrame) -> list[dict[str, object]]:
    """The rows as the exchange's JSON has them: prices and quantities are text, the order of fields is its own."""
    return [
        {"a": row["a"], "p": f"{row['p']:.8f}", "q": f"{row['q']:.8f}"}
        | {"f": row["f"], "l": row["l"], "T": row["T"], "m": row["m"], "M": row["M"]}
        for row in frame.iter_rows(named=True)
    ]
