"""One day of one instrument as a Parquet file: how it is read, and when it can be trusted.

Owns the one door through which Parquet is opened. Nothing is allocated for a file before its certificate, its row
counts and its sizes agree with each other and with the bounds of a day file.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import BinaryIO, Self, TypeVar, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from backfilld.core.day.certificate import Certificate
from backfilld.core.frame import SCHEMA
from backfilld.core.model import IdRange, Instrument
from backfilld.errors import DayLocked, StoreError
from backfilld.store.format.bounds import MAX_CHUNK_BYTES, check_row_group
from backfilld.store.format.dayfile import ARROW_SCHEMA
from backfilld.store.format.digest import FILE_DIGEST_KEY, file_digest_holds
from backfilld.store.format.ending import footer_bytes, last_bytes
from backfilld.store.format.footer import METADATA_KEY, SCHEMA_VERSION, NewerSchema, UntrustedFile, decoded
from backfilld.store.format.keys import ENCRYPTED_MAGIC, NO_KEYS, Key, KeyRing, KeyText, key_text_in
from backfilld.store.format.plain_footer import MOST_GROUP_BYTES, ROW_GROUP_ROWS
from backfilld.store.format.tail import MAX_FOOTER_BYTES
from backfilld.store.regular_file import NotRegular, open_regular

T = TypeVar("T")

_FEW_ROWS = 16_384
"""Up to this many rows, one thread decodes faster than several."""

_SMALL_BYTES = 128 << 10
"""A file up to this size is read whole when it is opened."""

_SPARE_BYTES = 1 << 20
"""What a file may have besides its pages and its footer. A sparse one of terabytes is not hashed for hours."""

_AGE = b"age-encryption.org/"
"""With these bytes a file begins that age has encrypted as a whole."""


@dataclass(frozen=True, slots=True)
class GroupEdges:
    """The lowest and the highest id of a row group, and its least and its greatest time in ms."""

    ids: IdRange
    first_ms: int
    last_ms: int


class DayReader:
    """An open day file, checked as it is read.

    Raises UntrustedFile for whatever is not a whole file of this format, day and instrument, DayLocked for an encrypted
    file that none of the ``keys`` opens, OSError for what the disk refuses, and StoreError for a file that a newer
    version of this program wrote.
    """

    def __init__(self, path: Path, day: date, instrument: Instrument | None, keys: KeyRing = NO_KEYS) -> None:
        self._handle = _in_memory(_opened(path))
        try:
            self._parquet = opened_parquet(path, self._handle, keys)
            self._file, self.key = self._parquet.file, self._parquet.key
            self._metadata: dict[bytes, bytes] = self._file.metadata.metadata or {}
            self.certificate = self._decoded(path)
            self._check_identity(day, instrument)
            self._check_sizes()
        except BaseException:
            self._handle.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def row_groups(self, after_id: int = -1) -> Iterator[pl.DataFrame]:
        """The trades behind this id, a row group at a time, in strictly ascending sequence of ``a`` throughout."""
        self._check_count()
        last_id = after_id
        for trades in self.pieces() if after_id < 0 else self._pieces_after(after_id):
            ids = trades["a"]
            if ids.is_empty() or ids[0] <= last_id or not (ids.diff().drop_nulls() > 0).all():
                raise UntrustedFile("its ids do not ascend")
            last_id = ids[-1]
            yield trades
        if last_id != self.certificate.last_id:
            raise UntrustedFile("its rows are not those that its certificate names")

    def pieces(self) -> Iterator[pl.DataFrame]:
        """The rows as they stand, a row group at a time, their sequence unchecked."""
        return map(self.row_group, range(self._file.num_row_groups))

    def _pieces_after(self, after_id: int) -> Iterator[pl.DataFrame]:
        for number, edges in enumerate(self.edges()):
            if edges.ids.last_id > after_id:
                trades = self.row_group(number)
                yield trades[int(trades["a"].search_sorted(after_id, side="right")) :]

    def edges(self) -> list[GroupEdges]:
        """The ends of each row group, as the file's footer has them: no row is decoded. Raises UntrustedFile for a file
        without statistics."""
        return [self._edges(number) for number in range(self._file.num_row_groups)]

    def _edges(self, number: int) -> GroupEdges:
        group = self._file.metadata.row_group(number)
        times, ids = (group.column(list(SCHEMA).index(name)).statistics for name in ("T", "a"))
        ends = [] if times is None or ids is None else [ids.min, ids.max, times.min, times.max]
        first_id, last_id, first_ms, last_ms = ends or [None] * 4
        if first_id is None or last_id is None or first_ms is None or last_ms is None or first_id > last_id:
            raise UntrustedFile("it has no statistics")
        return GroupEdges(IdRange(first_id, last_id), first_ms, last_ms)

    def trades(self) -> pl.DataFrame:
        """All trades of a file that is as it was written."""
        self.checked()
        return pl.concat(self.row_groups(), rechunk=True)

    def checked(self) -> Certificate:
        """The certificate of a file whose every byte is as it was written; no row is decoded for it. Raises
        UntrustedFile for another file: its rows may have been altered, whatever its certificate says."""
        if not self.is_as_written():
            raise UntrustedFile("its bytes are not those that were written")
        self._check_count()
        return self.certificate

    def body(self) -> bytes:
        """Every byte of the file, as it was when it was opened."""
        self._handle.seek(0)
        return self._handle.read()

    def is_as_written(self) -> bool:
        """Whether every byte of the file is as it was written."""
        if self.key is None:
            named = self._metadata.get(FILE_DIGEST_KEY.encode())
        else:
            text = self._parquet.key_text
            named = None if text is None else text.sha256.encode()
        return named is not None and file_digest_holds(self._handle, named)

    def _decoded(self, path: Path) -> Certificate:
        found = self._metadata.get(METADATA_KEY.encode())
        if found is None:
            raise UntrustedFile("it was not written by backfilld")
        try:
            return decoded(found)
        except NewerSchema as newer:
            if self._names_digest and not self.is_as_written():
                raise UntrustedFile(f"it says that it is of schema version {newer.version}, and is damaged") from newer
            raise StoreError(
                f"{path} is of schema version {newer.version}, and this backfilld knows none above {SCHEMA_VERSION}: "
                "update backfilld, or move the file away"
            ) from newer

    @property
    def _names_digest(self) -> bool:
        return FILE_DIGEST_KEY.encode() in self._metadata or self._parquet.key_text is not None

    def row_group(self, number: int) -> pl.DataFrame:
        """The trades of one row group."""
        check_row_group(self._handle, self._file.metadata, number, is_encrypted=self.key is not None)
        # Without the metadata, which may be damaged: polars panics at text that is not UTF-8.
        uses_threads = self._file.metadata.row_group(number).num_rows > _FEW_ROWS
        read = _parsed(lambda: self._file.read_row_group(number, use_threads=uses_threads))
        table = read.replace_schema_metadata(None)
        trades = pl.from_arrow(table)
        if not isinstance(trades, pl.DataFrame) or any(column.null_count for column in table.columns):
            raise UntrustedFile("it has nulls")
        return trades

    def _check_identity(self, day: date, instrument: Instrument | None) -> None:
        if not _parsed(lambda: self._file.schema_arrow.equals(ARROW_SCHEMA)):
            raise UntrustedFile("its columns are others than those of a day of trades")
        if self.certificate.day != day:
            raise UntrustedFile(f"it is of the day {self.certificate.day}")
        named = (self.certificate.market, self.certificate.symbol)
        if instrument is not None and named not in {(None, None), (instrument.market, instrument.symbol)}:
            raise UntrustedFile(f"it is of another instrument, {named[0]}:{named[1]}")

    def _check_sizes(self) -> None:
        """Refuse what would allocate more than a day file's row group does."""
        footer = self._file.metadata
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        if not all(0 < group.num_rows <= ROW_GROUP_ROWS for group in groups):
            raise UntrustedFile(f"it has row groups of another size than 1 to {ROW_GROUP_ROWS} rows")
        if any(not 0 <= group.total_byte_size <= MOST_GROUP_BYTES for group in groups):
            raise UntrustedFile(f"it has a row group of more than {MOST_GROUP_BYTES} bytes")
        chunks = (group.column(at).total_compressed_size for group in groups for at in range(len(SCHEMA)))
        pages = sum(min(each, 2 * MAX_CHUNK_BYTES) for each in chunks)
        size = self._handle.seek(0, os.SEEK_END)
        if size > pages + footer.serialized_size + _SPARE_BYTES:
            raise UntrustedFile(f"it has {size} bytes, and its row groups take {pages} of them")

    def _check_count(self) -> None:
        groups = range(self._file.num_row_groups)
        rows = sum(self._file.metadata.row_group(number).num_rows for number in groups)
        if rows != self.certificate.rows:
            raise UntrustedFile(f"it has {rows} rows, and its certificate names {self.certificate.rows}")


def _opened(path: Path) -> BinaryIO:
    """The file, open for reading. A link, a pipe or a directory of its name is refused without waiting for it."""
    try:
        return os.fdopen(open_regular(path), "rb")
    except NotRegular as error:
        raise UntrustedFile("it is not a regular file") from error


def _in_memory(file: BinaryIO) -> BinaryIO:
    """The same, read at once if it is small: Arrow then needs no call of Python's for each piece of it."""
    if os.fstat(file.fileno()).st_size > _SMALL_BYTES:
        return file
    with file:
        return cast("BinaryIO", pa.BufferReader(file.read()))


@dataclass(frozen=True, slots=True)
class OpenedParquet:
    """A Parquet file, and the key that opened it, None for a plain one; ``key_text`` is what it says of its key."""

    file: pq.ParquetFile
    key: Key | None = None
    key_text: KeyText | None = None


def opened_parquet(path: Path, file: BinaryIO, keys: KeyRing, aad: bytes | None = None) -> OpenedParquet:
    """Open a Parquet file, plain or encrypted. Raises DayLocked where no key opens it, and UntrustedFile."""
    begin = file.read(len(_AGE))
    file.seek(max(0, file.seek(0, os.SEEK_END) - len(ENCRYPTED_MAGIC)))
    is_encrypted = file.read() == ENCRYPTED_MAGIC
    file.seek(0)
    if begin == _AGE:
        raise DayLocked(
            f"{path} is encrypted, and no key opens it: age encrypted it as a whole; the file stays as it is"
        )
    if not is_encrypted:
        return OpenedParquet(_parquet(file))
    if not begin.startswith(ENCRYPTED_MAGIC):
        raise UntrustedFile("it begins as a plain file, and ends as an encrypted one")
    text = key_text_in(file)
    for key in keys.candidates(text):
        with suppress(UntrustedFile):
            return OpenedParquet(_parquet(file, key, aad), key, text)
    if keys.has(text):
        raise UntrustedFile("its footer cannot be decrypted by its key")
    raise DayLocked(f"{path} {keys.lock_reason(text)}; the file stays as it is")


def _parquet(file: BinaryIO, key: Key | None = None, aad: bytes | None = None) -> pq.ParquetFile:
    _check_footer_length(file)
    decryption = None if key is None else key.decryption(aad)
    return _parsed(lambda: pq.ParquetFile(file, page_checksum_verification=True, decryption_properties=decryption))


def _check_footer_length(file: BinaryIO) -> None:
    """Arrow reads as much as the file names, which may be gigabytes of a sparse file."""
    _, ending = last_bytes(file)
    file.seek(0)
    named = footer_bytes(ending)
    if ending[4:] in {b"PAR1", ENCRYPTED_MAGIC} and named > MAX_FOOTER_BYTES:
        raise UntrustedFile(f"it names a footer of {named} bytes")


def _parsed(read: Callable[[], T]) -> T:
    """Run a reader of Arrow's: its complaints about content are OSErrors without an errno, or ValueErrors."""
    try:
        return read()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UntrustedFile(f"it cannot be decoded ({(str(error).splitlines() or [''])[0][:120]})") from error
