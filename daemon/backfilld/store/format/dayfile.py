"""One day of one instrument as a Parquet file: how it is written.

Owns the encoding. Everything goes row group by row group, so memory does not grow with the day.

Encoding, measured on generated tapes: DELTA_BINARY_PACKED for T, a, f and l and dictionaries for p and q make a day a
fifth of the bytes that polars' defaults take, whatever the codec. Every page carries a CRC, which is checked when read.
A column chunk is one page, which reads faster, and which every reader of encrypted Parquet understands.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Literal, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from backfilld.core.day.anomalies import Anomalies
from backfilld.core.day.certificate import Certificate, Provenance
from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.core.ids import IdSet
from backfilld.core.model import EARLIEST_MS, Instrument
from backfilld.core.timespan import StoredSpan, joined
from backfilld.store.atomic import replacing
from backfilld.store.format.digest import BLANK, FILE_DIGEST_KEY, RowsDigest, stamp_file
from backfilld.store.format.footer import METADATA_KEY, certificate_text
from backfilld.store.format.keys import NO_KEYS, KeyRing, write_key_text
from backfilld.store.format.plain_footer import ROW_GROUP_ROWS

ARROW_SCHEMA: pa.Schema = empty_trades().to_arrow().schema

_USES_PER_GROUP = 20
"""How often a row group uses the key: for the header and the body of eight pages, and of two dictionaries."""

_PAGE_BYTES = 64 << 20
"""More than a column chunk of ROW_GROUP_ROWS can have, so that the writer never cuts one into pages."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How day files are compressed and encrypted: zstd, snappy, lz4, gzip or none, and the level where the codec has
    one; and the keys, which also open what is encrypted."""

    compression: Literal["zstd", "snappy", "lz4", "gzip", "none"] = "zstd"
    level: int | None = None
    keys: KeyRing = NO_KEYS

    @property
    def effective_level(self) -> int | None:
        """The level handed to the codec; zstd's default is 3."""
        return 3 if self.level is None and self.compression == "zstd" else self.level


def arrow_table(trades: pl.DataFrame) -> pa.Table:
    """The trades as Arrow has them, in one piece. They are cast where that is needed only: the first cast loads all of
    Arrow's functions."""
    table = trades.rechunk().to_arrow()
    return table if table.schema.equals(ARROW_SCHEMA) else table.cast(ARROW_SCHEMA)


def spans_of(trades: pl.DataFrame) -> list[StoredSpan]:
    """The spans of a frame that ascends strictly in ``a``."""
    times, spans, start = trades["T"], [], 0
    for id_range in IdSet.of_ids(trades["a"]).ranges:
        stop = start + len(id_range)
        spans.append(StoredSpan(id_range, times[start], times[stop - 1]))
        start = stop
    return spans


class DayWriter:
    """Writes one day file from pieces that ascend strictly in ``a``, from each to the next as well.

    Without ``digested`` the certificate has no digest, even of a sealed day: for a caller that knows it is not sealed.
    With ``ahead`` a second thread encodes one row group while the caller makes the next one; what the disk refuses is
    then raised by a later call.
    """

    def __init__(
        self,
        path: Path | pa.NativeFile,
        day: date,
        instrument: Instrument | None = None,
        encoding: Encoding | None = None,
        *,
        digested: bool = True,
        ahead: bool = False,
    ) -> None:
        encoding = encoding or Encoding()
        self._thread = ThreadPoolExecutor(1, "day-writer") if ahead else None
        self._in_hand: Future[None] | None = None
        self._path = path
        self._day = day
        self._instrument = instrument
        self._keys = encoding.keys
        key = encoding.keys.writing
        self._file = pq.ParquetWriter(
            path,
            ARROW_SCHEMA,
            compression=encoding.compression,
            compression_level=encoding.effective_level,
            use_dictionary=["p", "q"],  # type: ignore[arg-type]  # the stubs know only the boolean
            column_encoding=dict.fromkeys(("T", "a", "f", "l"), "DELTA_BINARY_PACKED"),
            write_page_checksum=True,
            store_schema=False,
            data_page_size=_PAGE_BYTES,
            dictionary_pagesize_limit=_PAGE_BYTES,
            max_rows_per_page=ROW_GROUP_ROWS,
            encryption_properties=None if key is None else key.encryption(),
        )
        self._pending = empty_trades()
        self._spans: list[StoredSpan] = []
        self._digest = RowsDigest() if digested else None
        self._anomalies = Anomalies()
        self._known_rows = 0
        """So many of the rows to come were counted when they were written before."""
        self._is_finished = False
        self._uses = 1
        self.last_id = -1
        """The last id that the file has before the first piece."""
        self.bytes = 0
        """The size of the file, once it is closed."""

    def add(self, piece: pl.DataFrame) -> None:
        """Take the next trades."""
        self._spans = joined([*self._spans, *spans_of(piece)])
        self._pending = pl.concat([self._pending, piece], rechunk=False)
        while self._pending.height >= ROW_GROUP_ROWS:
            self._write(self._pending[:ROW_GROUP_ROWS])
            self._pending = self._pending[ROW_GROUP_ROWS:]

    def finish(
        self, known: Provenance, earlier: Certificate | None = None, later: Certificate | None = None
    ) -> Certificate:
        """Write what is left and the certificate; return it. At least one trade must have been added.

        ``known`` is what is known of the day besides its rows; ``earlier`` and ``later`` are the nearest stored days,
        which may prove its ends.
        """
        if self._pending.height:
            self._write(self._pending)
        self._settle()
        rows = Certificate(
            self._day,
            tuple(self._spans),
            findings=self._anomalies.counts,
            market=None if self._instrument is None else str(self._instrument.market),
            symbol=None if self._instrument is None else self._instrument.symbol,
        )
        certificate = rows.with_provenance(known).proven_beside(earlier, later)
        if self._digest is not None and certificate.sealed:
            certificate = replace(certificate, digest=self._digest.hexdigest())
        plain = {} if self._keys.writing else {FILE_DIGEST_KEY: BLANK}
        self._file.add_key_value_metadata({METADATA_KEY: certificate_text(certificate), **plain})
        self._is_finished = True
        return certificate

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        self._file.close()
        if self._is_finished and isinstance(self._path, Path):
            if key := self._keys.writing:
                write_key_text(self._path, key)
                self._keys.used(key, self._uses)
            stamp_file(self._path)
            self.bytes = self._path.stat().st_size

    def _write(self, trades: pl.DataFrame) -> None:
        if self._thread is None:
            self._encode(trades)
            return
        self._settle()
        self._in_hand = self._thread.submit(self._encode, trades)

    def _settle(self) -> None:
        """Wait for the row group in hand; raise what its thread has raised."""
        if self._in_hand is not None:
            self._in_hand.result()

    def _encode(self, trades: pl.DataFrame) -> None:
        whole = trades.rechunk()
        news, self._known_rows = whole[self._known_rows :], 0
        if news.height:
            self._anomalies.add(news)
        if self._digest is not None:
            self._digest.add(whole)
        self._uses += _USES_PER_GROUP
        self._file.write_table(arrow_table(whole), row_group_size=ROW_GROUP_ROWS)


@contextmanager
def rewriting(
    path: Path, day: date, instrument: Instrument | None, encoding: Encoding, *, digested: bool = True
) -> Iterator[DayWriter]:
    """Yield the writer of a day file that replaces ``path`` at the end of the block: the one way to change a day.

    Raises StoreError. When the block fails, the file is as before.
    """
    with replacing(path) as temporary, DayWriter(temporary, day, instrument, encoding, digested=digested) as writer:
        yield writer


def warm_up() -> None:
    """Write a day of one trade to memory: the first use of the encoders takes longer than writing a day."""
    trade = pl.DataFrame([[EARLIEST_MS]] * 8, schema=SCHEMA, strict=False)
    with DayWriter(pa.BufferOutputStream(), date(1970, 1, 1)) as writer:
        writer.add(trade)
        writer.finish(Provenance())
