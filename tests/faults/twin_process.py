"""``python -m tests.faults.twin_process DIRECTORY``: a process that has a day and its twin, says ``ready``, and puts
more rows into the day once it gets a line."""

import sys
from pathlib import Path

import polars as pl

from backfilld.core.day.addition import Addition
from backfilld.core.frame import SCHEMA
from backfilld.core.model import Instrument, day_start_ms
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.waiting_days import WaitingDays
from tests.store.frames import DAY

BTC = Instrument.parse("spot:BTCUSDT")
ROWS = (132_000, 500, 500, 500)
"""What each save brings; the last one may not end. The first are more than a row group."""


def rows(start: int, stop: int) -> pl.DataFrame:
    """Trades with these ids."""
    a = pl.int_range(start, stop, eager=True)
    times = day_start_ms(DAY) + a
    columns = [times, a, 100.0 + a % 13, 1.0 + a % 7, a, a, a % 2 == 0, a % 3 == 0]
    return pl.DataFrame(
        [column.cast(kind).alias(name) for column, (name, kind) in zip(columns, SCHEMA.items(), strict=True)]
    )


def manager_at(directory: Path) -> BackfillCacheManager:
    """The days there."""
    return BackfillCacheManager(instrument_directory(directory, BTC), BTC)


def main(directory: Path) -> None:
    """Get ready, wait, rewrite."""
    manager, waiting, start = manager_at(directory), WaitingDays(300.0), 0
    for count in ROWS:
        waiting.append(manager, Addition(BTC, DAY, rows(start, start + count)), 0.0)
        start += count
        if count != ROWS[0] and start == sum(ROWS):
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            sys.stdin.readline()
        waiting.save(manager, Addition(BTC, DAY))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
