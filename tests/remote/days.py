"""Sealed days for the tests: a run of days of one instrument whose ends prove each other."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl

from backfilld.core.model import Instrument, day_start_ms
from backfilld.store.format.dayfile import Encoding
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from tests.fakes import BTC, DAY, starts_at, trade_frame


def day_trades(day: date, rows: int = 500, first_id: int | None = None) -> pl.DataFrame:
    """The trades of a day; their ids follow those of the day before."""
    first = (day - DAY).days * rows + 1_000_000 if first_id is None else first_id
    step_ms = 86_400_000 // rows
    start_ms = day_start_ms(day)
    return trade_frame(range(first, first + rows), range(start_ms, start_ms + rows * step_ms, step_ms))


def manager_of(cache_dir: Path, instrument: Instrument = BTC, encoding: Encoding | None = None) -> BackfillCacheManager:
    return BackfillCacheManager(instrument_directory(cache_dir, instrument), instrument, encoding)


def seal(
    cache_dir: Path,
    day: date = DAY,
    *,
    instrument: Instrument = BTC,
    rows: int = 500,
    trades: pl.DataFrame | None = None,
    encoding: Encoding | None = None,
) -> BackfillCacheManager:
    """Write a sealed day; both of its ends are proven."""
    manager = manager_of(cache_dir, instrument, encoding)
    frame = day_trades(day, rows) if trades is None else trades
    manager.append(day, frame, starts_at(day, frame["a"][0], frame["a"][-1] + 1))
    assert manager.facts(day).sealed
    return manager


def days(count: int, first: date = DAY) -> list[date]:
    return [first + timedelta(days=number) for number in range(count)]
