"""One day of one instrument as a Parquet file: how it is encoded, and when it can be trusted.

Owns the file format; what the metadata says is the certificate's. Everything goes row group by row group, so memory
does not grow with the day.

Encoding, measured on generated tapes: DELTA_BINARY_PACKED for T, a, f and l and dictionaries for p and q make a day a
fifth of the bytes that polars' defaults take, whatever the codec. Every page carries a CRC, which is checked when read.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal, Self, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from backfilld.core.day.anomalies import Anomalies
from backfilld.core.day.certificate import REST, Certificate, Provenance, Source
from backfilld.core.ids import IdSet
from backfilld.core.model import SCHEMA, IdRange, Instrument, empty_trades
from backfilld.core.timespan import StoredSpan, joined
from backfilld.errors import StoreError
from backfilld.store.format.digest import BLANK, FILE_DIGEST_KEY, RowsDigest, file_digest_holds, stamp_file
from backfilld.store.format.footer import (
    METADATA_KEY,
    SCHEMA_VERSION,
    DayFacts,
    NewerSchema,
    UntrustedFile,
    decoded,
    encoded,
    facts_of,
)

__all__ = ["METADATA_KEY", "SCHEMA_VERSION", "DayFacts", "DayReader", "DayWriter", "Encoding", "UntrustedFile"]
__all__ += ["ROW_GROUP_ROWS", "spans_of", "warm_up"]

ROW_GROUP_ROWS = 131_072

_ARROW_SCHEMA: pa.Schema = empty_trades().to_arrow().schema
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How day files are compressed: zstd, snappy, lz4, gzip or none, and the level where the codec has one."""

    compression: Literal["zstd", "snappy", "lz4", "gzip", "none"] = "zstd"
    level: int | None = None

    @property
    def effective_level(self) -> int | None:
        """The level handed to the codec; zstd's default is 3."""
        return 3 if self.level is None and self.compression == "zstd" else self.level


def spans_of(trades: pl.DataFrame) -> list[StoredSpan]:
    """The spans of a frame that ascends strictly in ``a``."""
    ids, times = trades["a"], trades["T"]
    spans = []
    for id_range in IdSet.of_ids(ids).ranges:
        start = int(ids.search_sorted(id_range.first_id))
        spans.append(StoredSpan(id_range, times[start], times[start + len(id_range) - 1]))
    return spans


# -- writing


class DayWriter:
    """Writes one day file from pieces that ascend strictly in ``a``, from each to the next as well.

    Without ``digested`` the certificate has no digest, even of a sealed day: for those who know that it is not.
    """

    def __init__(self, path: Path | pa.BufferOutputStream, encoding: Encoding, *, digested: bool = True) -> None:
        self._path = path
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
        self._spans: list[StoredSpan] = []
        self._digest = RowsDigest() if digested else None
        self._evidence = Anomalies()
        self._finished = False

    def add(self, piece: pl.DataFrame) -> None:
        """Take the next trades."""
        self._spans = joined([*self._spans, *spans_of(piece)])
        self._pending = pl.concat([self._pending, piece], rechunk=False)
        while self._pending.height >= ROW_GROUP_ROWS:
            self._write(self._pending[:ROW_GROUP_ROWS])
            self._pending = self._pending[ROW_GROUP_ROWS:]

    def finish(
        self,
        day: date,
        instrument: Instrument | None,
        day_starts: Collection[int],
        *,
        source: Source = REST,
        known: Provenance | None = None,
    ) -> Certificate:
        """Write what is left and the certificate; return what the file holds. At least one trade must have been added.

        ``known`` tells what is known of the day besides; rows of which it names no source came from ``source``.
        """
        if self._pending.height:
            self._write(self._pending)
        known = known or Provenance()
        told = replace(known, day_starts={*known.day_starts, *day_starts}, source=source)
        record = replace(Certificate(day, tuple(self._spans)).told(told), findings=self._evidence.counts)
        digest = self._digest.hexdigest() if self._digest is not None else None
        certificate = encoded(facts_of(record, instrument, digest))
        self._file.add_key_value_metadata({METADATA_KEY: certificate, FILE_DIGEST_KEY: BLANK})
        self._finished = True
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._finished and isinstance(self._path, Path):
            stamp_file(self._path)

    def _write(self, trades: pl.DataFrame) -> None:
        whole = trades.rechunk()
        self._evidence.add(whole)
        if self._digest is not None:
            self._digest.add(whole)
        self._file.write_table(whole.to_arrow().cast(_ARROW_SCHEMA), row_group_size=ROW_GROUP_ROWS)


def warm_up() -> None:
    """Write a day of one trade to memory: the first use of the encoders takes longer than writing a day."""
    trade = pl.DataFrame([[0]] * 8, schema=SCHEMA, strict=False)
    with DayWriter(pa.BufferOutputStream(), Encoding()) as writer:
        writer.add(trade)
        writer.finish(date(1970, 1, 1), None, ())


# -- reading


class DayReader:
    """An open day file, checked as it is read.

    Raises UntrustedFile for whatever is not a whole file of this format, day and instrument, OSError for what the disk
    refuses, and StoreError for a file that a newer version of this program wrote.
    """

    def __init__(self, path: Path, day: date, instrument: Instrument | None) -> None:
        self._day = day
        if path.is_dir():
            raise UntrustedFile("it is a directory")
        self._handle = path.open("rb")
        try:
            self._file = _parsed(lambda: pq.ParquetFile(self._handle, page_checksum_verification=True))
            self._metadata: dict[bytes, bytes] = self._file.metadata.metadata or {}
            self.facts = self._certificate(path)
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
        for trades in self.pieces():
            ids = trades["a"]
            if ids.is_empty() or ids[0] <= last_id or not (ids.diff().drop_nulls() > 0).all():
                raise UntrustedFile("its ids do not ascend")
            last_id, rows = ids[-1], rows + trades.height
            yield trades
        if (rows, last_id) != (self.facts.rows, self.facts.last_id):
            raise UntrustedFile("its rows are not those that its metadata names")

    def pieces(self) -> Iterator[pl.DataFrame]:
        """The rows as they stand, a row group at a time, their order unchecked."""
        return map(self._row_group, range(self._file.num_row_groups))

    def trades(self) -> pl.DataFrame:
        """All trades."""
        return pl.concat(self.row_groups(), rechunk=True)

    def scan(self) -> Certificate:
        """Read all trades and say what they are, and what the metadata proves of them."""
        spans = joined(span for trades in self.row_groups() for span in spans_of(trades))
        return self.facts.record(self._day, tuple(spans))

    def recorded(self) -> Certificate:
        """As :meth:`scan`; a sealed day that is byte for byte as it was written is taken at its word, which takes a
        tenth of the time."""
        facts, bounds = self.facts, self.bounds_ms()
        if facts.schema == SCHEMA_VERSION and facts.sealed and not facts.absent and bounds and self.is_as_written():
            return facts.record(self._day, (StoredSpan(IdRange(facts.first_id, facts.last_id), *bounds),))
        return self.scan()

    def bounds_ms(self) -> tuple[int, int] | None:
        """The lowest and the highest T, off the statistics of the row groups; None where there are none."""
        bounds: list[int] = []
        for number in range(self._file.num_row_groups):
            found = self._file.metadata.row_group(number).column(0).statistics
            if found is None or not found.has_min_max:
                return None
            bounds += [found.min, found.max]  # type: ignore[list-item]  # of a column of integers
        return (min(bounds), max(bounds)) if bounds else None

    def is_as_written(self) -> bool:
        """Whether every byte of the file is as it was written; True for a file of version 1, which cannot tell."""
        named = self._metadata.get(FILE_DIGEST_KEY.encode())
        if named is None:
            return self.facts.schema == 1
        return file_digest_holds(self._handle, named)

    def _certificate(self, path: Path) -> DayFacts:
        found = self._metadata.get(METADATA_KEY.encode())
        if found is None:
            raise UntrustedFile("it was not written by backfilld")
        try:
            return decoded(found)
        except NewerSchema as newer:
            if FILE_DIGEST_KEY.encode() in self._metadata and not self.is_as_written():
                raise UntrustedFile(f"it says that it is of schema version {newer.version}, and is damaged") from newer
            raise StoreError(
                f"{path} is of schema version {newer.version}, and this backfilld knows none above {SCHEMA_VERSION}: "
                "update backfilld, or move the file away"
            ) from newer

    def _row_group(self, number: int) -> pl.DataFrame:
        # Without the metadata, which may be damaged: polars panics at what is no UTF-8.
        table = _parsed(lambda: self._file.read_row_group(number)).replace_schema_metadata(None)
        trades = pl.from_arrow(table)
        if not isinstance(trades, pl.DataFrame) or sum(trades.null_count().row(0)):
            raise UntrustedFile("it has nulls")
        return trades

    def _check_identity(self, day: date, instrument: Instrument | None) -> None:
        if not _parsed(lambda: self._file.schema_arrow.equals(_ARROW_SCHEMA)):
            raise UntrustedFile("its columns are others than those of a day of trades")
        if self.facts.day != day.isoformat():
            raise UntrustedFile(f"it is of the day {self.facts.day}")
        held = (self.facts.market, self.facts.symbol)
        if instrument is not None and held not in {(None, None), (instrument.market, instrument.symbol)}:
            raise UntrustedFile(f"it is of another instrument, {held[0]}:{held[1]}")


def _parsed(read: Callable[[], T]) -> T:
    """Run a reader of Arrow's: its complaints about content are OSErrors without an errno, or ValueErrors."""
    try:
        return read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UntrustedFile(f"it cannot be decoded ({str(error).splitlines()[0][:120]})") from error
