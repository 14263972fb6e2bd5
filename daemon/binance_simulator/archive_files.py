"""The files of one archive day as bytes: the CSV in the market's habit, the zip, its sum.

Owns the text of a row and the container. Must not choose rows, nor decide when a file is published.
"""

import hashlib
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from io import BytesIO

import polars as pl

from binance_simulator.archive_defects import ArchiveDefect
from binance_simulator.decimals import SPOT_DIGITS, decimal_text
from binance_simulator.generation import Grid, digits_of
from binance_simulator.hostile_zips import hostile_zip
from binance_simulator.model import Instrument, Market

MICROSECONDS_SINCE = date(2025, 1, 1)
"""Spot days from here on have times in microseconds."""

HEADERS_SINCE = date(2022, 8, 11)
"""Futures days from here on have a header row."""

FUTURES_COLUMNS = (
    "agg_trade_id",
    "price",
    "quantity",
    "first_trade_id",
    "last_trade_id",
    "transact_time",
    "is_buyer_maker",
)
_DEFLATE_LEVEL = 1
"""The archive's own files are a quarter smaller; this level is what a test can wait for."""


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """A zip as it is published: ``name`` is its last path segment, ``sha256`` what its CHECKSUM says."""

    name: str
    content: bytes
    sha256: str
    etag: str
    padding: bytes = b""

    @property
    def checksum(self) -> bytes:
        """The text of its CHECKSUM: no newline at the end."""
        return f"{self.sha256}{self.padding.decode()}  {self.name}".encode()

    @property
    def checksum_etag(self) -> str:
        """The ETag of its CHECKSUM."""
        return _etag(self.checksum)


@dataclass(frozen=True, slots=True)
class CsvForm:
    """What differs between the CSV files of markets and dates."""

    header: bool
    microseconds: bool
    capital_booleans: bool

    @classmethod
    def of(cls, market: Market, day: date, defects: Collection[ArchiveDefect] = ()) -> "CsvForm":
        """The market's habit on that day, but for the defects that break it."""
        header = market is not Market.SPOT and day >= HEADERS_SINCE
        microseconds = market is Market.SPOT and day >= MICROSECONDS_SINCE
        capital = market is Market.SPOT
        return cls(
            header=(header or ArchiveDefect.WITH_HEADER in defects) and ArchiveDefect.NO_HEADER not in defects,
            microseconds=(microseconds or ArchiveDefect.MICROS in defects) and ArchiveDefect.MILLIS not in defects,
            capital_booleans=capital != (ArchiveDefect.WRONG_CASE in defects),
        )


def stem_of(instrument: Instrument, day: date) -> str:
    """The name of a day's files without their endings."""
    return f"{instrument.symbol}-aggTrades-{day.isoformat()}"


def csv_text(rows: pl.DataFrame, market: Market, grid: Grid, form: CsvForm) -> bytes:
    """Rows (SCHEMA) as the market's CSV; spot has the column of the best match, no market has nq."""
    price_digits, quantity_digits = digits_of(grid.tick), digits_of(grid.lot)
    is_spot = market is Market.SPOT
    columns = [
        pl.col("a"),
        decimal_text("p", price_digits, SPOT_DIGITS if is_spot else price_digits),
        decimal_text("q", quantity_digits, SPOT_DIGITS if is_spot else quantity_digits),
        pl.col("f"),
        pl.col("l"),
        _microseconds() if form.microseconds else pl.col("T"),
        _boolean("m", capital=form.capital_booleans),
    ]
    names = list(FUTURES_COLUMNS)
    if is_spot:
        columns.append(_boolean("M", capital=form.capital_booleans))
        names.append("is_best_match")
    written = BytesIO()
    table = rows.select(column.alias(name) for column, name in zip(columns, names, strict=True))
    table.write_csv(written, include_header=form.header)
    return written.getvalue()


def archive_file(
    instrument: Instrument, day: date, rows: pl.DataFrame, grid: Grid, defects: Collection[ArchiveDefect] = ()
) -> ArchiveFile:
    """The zip of a day's rows, with those of the defects that concern the form, the container and the sum."""
    stem = stem_of(instrument, day)
    form = CsvForm.of(instrument.market, day, defects)
    members = {f"{stem}.csv": rows}
    if ArchiveDefect.TWO_CSVS in defects:
        half = (rows.height + 1) // 2
        members = {f"{stem}.csv": rows.head(half), f"{stem}-2.csv": rows.slice(half)}
    texts = {name: csv_text(part, instrument.market, grid, form) for name, part in members.items()}
    content = hostile_zip(texts, defects) or _zipped(texts, day)
    if ArchiveDefect.CUT_ZIP in defects:
        content = content[: len(content) * 2 // 3]
    sha256 = hashlib.sha256(content)
    if ArchiveDefect.WRONG_CHECKSUM in defects:
        sha256.update(b"another file")
    padding = b" \r" * 10_000 if ArchiveDefect.BLANK_CHECKSUM in defects else b""
    return ArchiveFile(f"{stem}.zip", content, sha256.hexdigest(), _etag(content), padding)


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _microseconds() -> pl.Expr:
    """T with a rest below a millisecond that depends on T alone: rows of one ms stay in order."""
    return pl.col("T") * 1000 + pl.col("T") * 7919 % 1000


def _boolean(column: str, *, capital: bool) -> pl.Expr:
    if not capital:
        return pl.col(column)
    return pl.when(pl.col(column)).then(pl.lit("True")).otherwise(pl.lit("False"))


def _zipped(texts: dict[str, bytes], day: date) -> bytes:
    """A zip of the members, the same bytes in every run."""
    written = BytesIO()
    stamp = datetime(max(1980, day.year), day.month, day.day, tzinfo=UTC).timetuple()[:6]
    with zipfile.ZipFile(written, "w") as container:
        for name, text in texts.items():
            member = zipfile.ZipInfo(name, stamp)
            container.writestr(member, text, zipfile.ZIP_DEFLATED, _DEFLATE_LEVEL)
    return written.getvalue()
