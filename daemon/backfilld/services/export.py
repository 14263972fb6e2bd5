"""Writing stored days to other programs' formats, in bounded memory: a day at a time, or bars alone.

Owns the three formats. Bars longer than a day are few, and are made by polars' streaming engine.
"""

from collections.abc import Iterator
from datetime import date
from io import BufferedIOBase
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather  # noqa: F401 - registers the codecs that a Feather file may use

from backfilld.core.day.start import ONE_DAY
from backfilld.core.model import Instrument, days_from
from backfilld.scanning import scan
from backfilld.services.bars import bars, shown
from backfilld.services.candles import Interval, candles
from backfilld.settings import Settings

Format = Literal["csv", "parquet", "feather"]


def exported(
    settings: Settings, instrument: Instrument, start: date, stop: date, every: str | None
) -> Iterator[pl.DataFrame]:
    """The bars (``every``) or trades (None) of the days, piece by piece, ascending. Without trades there is no bar.

    Raises SettingsError for an interval that cannot be, and BackfillIncomplete before the first piece if a day lacks
    something.
    """
    interval = None if every is None else Interval.parse(every)
    scan(instrument, start, stop, settings=settings)  # refuses the whole span before a line is written
    if every is not None and interval is not None and not interval.is_within_days:
        yield bars(instrument, start, stop, every=every, fill=False, settings=settings).collect(engine="streaming")
        return
    for day in days_from(start, stop - ONE_DAY):
        trades = scan(instrument, day, day + ONE_DAY, settings=settings, times=interval is None)
        yield (trades if interval is None else shown(candles(trades, interval))).collect()


def write_pieces(pieces: Iterator[pl.DataFrame], form: Format, file: BufferedIOBase) -> int:
    """Write the pieces to the file; return how many rows there were."""
    if form == "csv":
        return _write_csv(pieces, file)
    rows = 0
    writer: pq.ParquetWriter | pa.ipc.RecordBatchFileWriter | None = None
    for piece in pieces:
        table = piece.to_arrow(compat_level=pl.CompatLevel.oldest())
        if writer is None:
            writer = (
                pq.ParquetWriter(pa.PythonFile(file), table.schema)
                if form == "parquet"
                else pa.ipc.new_file(file, table.schema)
            )
        writer.write_table(table)
        rows += piece.height
    if writer is not None:
        writer.close()
    return rows


def _write_csv(pieces: Iterator[pl.DataFrame], file: BufferedIOBase) -> int:
    rows = 0
    for number, piece in enumerate(pieces):
        file.write(piece.write_csv(include_header=number == 0, datetime_format="%Y-%m-%dT%H:%M:%S%.3fZ").encode())
        rows += piece.height
    return rows
