"""Published zips for the tests of the cache, plain or with any defect planted."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from backfilld.core.frame import SCHEMA
from backfilld.core.model import Market
from tests.store.frames import DAY

HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
MARKET = Market.SPOT


def lines_of(frame: pl.DataFrame, *, us: bool = False, futures: bool = False) -> list[str]:
    """The rows as the archive writes them: ``us`` for microseconds, ``futures`` without the last column."""
    return [
        ",".join(
            (
                f"{row['a']},{row['p']:.8f},{row['q']:.8f},{row['f']},{row['l']}",
                f"{row['T']}{row['a'] % 1000:03}" if us else str(row["T"]),
                str(row["m"]).lower() if futures else str(row["m"]),
                *([] if futures else [str(row["M"])]),
            )
        )
        for row in frame.iter_rows(named=True)
    ]


def zipped(path: Path, *texts: str | Sequence[str]) -> Path:
    """A zip with one CSV for each text, or list of lines."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, text in enumerate(texts):
            content = text if isinstance(text, str) else "".join(f"{line}\n" for line in text)
            archive.writestr(f"BTCUSDT-aggTrades-{DAY}{number or ''}.csv", content)
    return path


def published(path: Path, frame: pl.DataFrame) -> Path:
    """A sound zip of these trades."""
    return zipped(path, lines_of(frame))


def marker(trade_id: int, time_ms: int) -> pl.DataFrame:
    """A row that stands for no trade."""
    return pl.DataFrame([[time_ms], [trade_id], [0.0], [0.0], [-1], [-1], [True], [True]], schema=SCHEMA)
