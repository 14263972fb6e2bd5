"""One day of one instrument as a Parquet file: how it is encoded, what its metadata says, and when it can be trusted.

Owns the file format. Everything goes row group by row group, so memory does not grow with the day.

Encoding, measured on generated tapes: DELTA_BINARY_PACKED for T, a, f and l and dictionaries for p and q make a day a
fifth of the bytes that polars' defaults take, whatever the codec. Every page carries a CRC, which is checked when read.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, Self, TypeVar

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from backfilld.core.daybook import DayRecord
from backfilld.core.ledger import Coverage
from backfilld.core.model import SCHEMA, Instrument, empty_trades
from backfilld.core.window import Span, joined

SCHEMA_VERSION = 1
ROW_GROUP_ROWS = 131_072
METADATA_KEY = "backfilld"
"""The key of the file's metadata under which :class:`DayFacts` stand as JSON."""

_ARROW_SCHEMA: pa.Schema = empty_trades().to_arrow().schema
T = TypeVar("T")


class DayFacts(msgspec.Struct, frozen=True):
    """What a day file says of itself. ``holes`` and ``sources`` are inclusive id ranges; ``opened`` and ``closed`` say
    whether first and last id are proven to be the day's; ``sealed`` that the day is complete and over."""

    schema: int
    market: str | None
    symbol: str | None
    day: str
    first_id: int
    last_id: int
    rows: int
    holes: list[tuple[int, int]]
    opened: bool
    closed: bool
    sealed: bool
    sources: list[tuple[str, int, int]]


class UntrustedFile(Exception):
    """The file cannot be trusted; the message says why."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How day files are compressed: zstd, snappy, lz4, gzip or none, and the level where the codec has one."""

    compression: Literal["zstd", "snappy", "lz4", "gzip", "none"] = "zstd"
    level: int | None = None

    @property
    def effective_level(self) -> int | None:
        """The level handed to the codec; zstd's default is 3."""
        return 3 if self.level is None and self.compression == "zstd" else self.level


def spans_of(trades: pl.DataFrame) -> list[Span]:
    """The spans of a frame that ascends strictly in ``a``."""
    ids, times = trades["a"], trades["T"]
    spans = []
    for id_range in Coverage.of_ids(ids).ranges:
        start = int(ids.search_sorted(id_range.first_id))
        spans.append(Span(id_range, times[start], times[start + len(id_range) - 1]))
    return spans


# -- writing


class DayWriter:
    """Writes one day file from pieces that ascend strictly in ``a``, from each to the next as well."""

    def __init__(self, path: Path | pa.BufferOutputStream, encoding: Encoding) -> None:
        self._file = pq.ParquetWriter(
            path,
            _ARROW_SCHEMA,
            compression=encoding.compression,
            compression_level=encoding.effective_level,
            use_dictionary=["p", "q"],  # type: ignore[arg-type]  # the stubs know only the boolean
            column_encoding=dict.fromkeys(("T", "a", "f", "l"), "DELTA_BINARY_PACKED"),
            write_page_checksum=True,
            store_schema=False,
        )
        self._pending = empty_trades()
        self._spans: list[Span] = []

    def add(self, piece: pl.DataFrame) -> None:
        """Take the next trades."""
        self._spans = joined([*self._spans, *spans_of(piece)])
        self._pending = pl.concat([self._pending, piece], rechunk=False)
        while self._pending.height >= ROW_GROUP_ROWS:
            self._write(self._pending[:ROW_GROUP_ROWS])
            self._pending = self._pending[ROW_GROUP_ROWS:]

    def finish(self, day: date, instrument: Instrument | None, day_starts: Collection[int]) -> DayRecord:
        """Write what is left and the metadata; return what the file holds. At least one trade must have been added."""
        if self._pending.height:
            self._write(self._pending)
        record = DayRecord(day, tuple(self._spans)).proven_by(day_starts)
        facts = msgspec.json.encode(_facts_of(record, instrument))
        self._file.add_key_value_metadata({METADATA_KEY: facts.decode()})
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _write(self, trades: pl.DataFrame) -> None:
        self._file.write_table(trades.rechunk().to_arrow().cast(_ARROW_SCHEMA), row_group_size=ROW_GROUP_ROWS)


def warm_up() -> None:
    """Write a day of one trade to memory: the first use of the encoders takes longer than writing a day."""
    trade = pl.DataFrame([[0]] * 8, schema=SCHEMA, strict=False)
    with DayWriter(pa.BufferOutputStream(), Encoding()) as writer:
        writer.add(trade)
        writer.finish(date(1970, 1, 1), None, ())


def _facts_of(record: DayRecord, instrument: Instrument | None) -> DayFacts:
    return DayFacts(
        schema=SCHEMA_VERSION,
        market=None if instrument is None else str(instrument.market),
        symbol=None if instrument is None else instrument.symbol,
        day=record.day.isoformat(),
        first_id=record.first_id,
        last_id=record.last_id,
        rows=record.rows,
        holes=[(hole.first_id, hole.last_id) for hole in record.holes],
        opened=record.opened,
        closed=record.closed,
        sealed=record.sealed,
        sources=[("rest", span.ids.first_id, span.ids.last_id) for span in record.spans],
    )


# -- reading


class DayReader:
    """An open day file, checked as it is read.

    Raises UntrustedFile for whatever is not a whole file of this format, day and instrument, and OSError for what the
    disk refuses.
    """

    def __init__(self, path: Path, day: date, instrument: Instrument | None) -> None:
        self._day = day
        if path.is_dir():
            raise UntrustedFile("it is a directory")
        self._handle = path.open("rb")
        try:
            self._file = _decoded(lambda: pq.ParquetFile(self._handle, page_checksum_verification=True))
            self.facts = _facts(self._file)
            self._check_identity(day, instrument)
        except BaseException:
            self._handle.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def row_groups(self) -> Iterator[pl.DataFrame]:
        """The trades, a row group at a time, in strictly ascending order of ``a`` throughout."""
        last_id, rows = -1, 0
        for number in range(self._file.num_row_groups):
            trades = self._row_group(number)
            ids = trades["a"]
            if ids.is_empty() or ids[0] <= last_id or not (ids.diff().drop_nulls() > 0).all():
                raise UntrustedFile("its ids do not ascend")
            last_id, rows = ids[-1], rows + trades.height
            yield trades
        if (rows, last_id) != (self.facts.rows, self.facts.last_id):
            raise UntrustedFile("its rows are not those that its metadata names")

    def trades(self) -> pl.DataFrame:
        """All trades."""
        return pl.concat(self.row_groups(), rechunk=True)

    def scan(self) -> DayRecord:
        """Read all trades and say what they are, and what the metadata proves of them."""
        spans = joined(span for trades in self.row_groups() for span in spans_of(trades))
        return DayRecord(self._day, tuple(spans), self.facts.opened, self.facts.closed)

    def _row_group(self, number: int) -> pl.DataFrame:
        trades = pl.from_arrow(_decoded(lambda: self._file.read_row_group(number)))
        if not isinstance(trades, pl.DataFrame) or sum(trades.null_count().row(0)):
            raise UntrustedFile("it has nulls")
        return trades

    def _check_identity(self, day: date, instrument: Instrument | None) -> None:
        if not _decoded(lambda: self._file.schema_arrow.equals(_ARROW_SCHEMA)):
            raise UntrustedFile("its columns are others than those of a day of trades")
        if self.facts.day != day.isoformat():
            raise UntrustedFile(f"it is of the day {self.facts.day}")
        held = (self.facts.market, self.facts.symbol)
        if instrument is not None and held not in {(None, None), (instrument.market, instrument.symbol)}:
            raise UntrustedFile(f"it is of another instrument, {held[0]}:{held[1]}")


def _facts(file: pq.ParquetFile) -> DayFacts:
    found = (file.metadata.metadata or {}).get(METADATA_KEY.encode())
    if found is None:
        raise UntrustedFile("it was not written by backfilld")
    try:
        facts = msgspec.json.decode(found, type=DayFacts)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UntrustedFile("its metadata cannot be read") from error
    if facts.schema != SCHEMA_VERSION:
        raise UntrustedFile(f"it is of schema version {facts.schema}, not {SCHEMA_VERSION}")
    return facts


def _decoded(read: Callable[[], T]) -> T:
    """Run a reader of Arrow's: its complaints about content are OSErrors without an errno, or ValueErrors."""
    try:
        return read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UntrustedFile(f"it cannot be decoded ({str(error).splitlines()[0][:120]})") from error
