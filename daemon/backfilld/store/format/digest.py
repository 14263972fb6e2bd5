"""Digests: of the rows of a day, whatever the file that holds them, and of a file, whatever the rows.

The canonical form of rows: in order of ``a`` they are cut into blocks of 131,072 rows, the last one shorter. Of each
block the columns T, a, p, q, f, l follow each other as little-endian 8-byte values (p and q IEEE 754), then m and M as
one byte a value, 0 or 1. The digest is the sha256 of all blocks in a row.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa

from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.store.format.ending import footer_and_ending

BLOCK_ROWS = 131_072
FILE_DIGEST_KEY = "backfilld_sha256"
"""The key of the file's metadata with the sha256 of the whole file, taken with its own 64 digits as zeros."""
BLANK = "0" * 64

_CHUNK_BYTES = 1 << 20


class RowsDigest:
    """The digest of rows that are given piece by piece, in order of ``a``."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._pending = empty_trades()

    def add(self, piece: pl.DataFrame) -> None:
        """Take the next rows, whatever their number."""
        self._pending = pl.concat([self._pending, piece], rechunk=False)
        while self._pending.height >= BLOCK_ROWS:
            self._take(self._pending[:BLOCK_ROWS])
            self._pending = self._pending[BLOCK_ROWS:]

    def hexdigest(self) -> str:
        """The digest of all rows given; no more may be added."""
        self._take(self._pending)
        self._pending = empty_trades()
        return self._hash.hexdigest()

    def _take(self, block: pl.DataFrame) -> None:
        for name in SCHEMA:
            self._hash.update(_values(block[name]))


def digest_of(trades: pl.DataFrame) -> str:
    """The digest of all rows of a day."""
    if trades.height <= BLOCK_ROWS:
        return next(digests_of(trades, [trades.height]))
    digest = RowsDigest()
    digest.add(trades)
    return digest.hexdigest()


def digests_of(trades: pl.DataFrame, rows: Iterable[int]) -> Iterator[str]:
    """The digests of days that follow each other in one frame, each of so many ``rows``: a block at most."""
    columns = [_values(trades[name]) for name in SCHEMA]
    widths = [len(values) // max(1, trades.height) for values in columns]
    start = 0
    for count in rows:
        stop = start + count
        found = hashlib.sha256()
        for values, width in zip(columns, widths, strict=True):
            found.update(values[start * width : stop * width])
        yield found.hexdigest()
        start = stop


def _values(column: pl.Series) -> memoryview:
    """The bytes of a column; Arrow's are little-endian on every machine that polars runs on."""
    typed = column.cast(pl.UInt8) if column.dtype == pl.Boolean else column
    array: pa.Array[Any] = typed.rechunk().to_arrow()
    values = array.buffers()[1]
    width = array.type.bit_width // 8
    return memoryview(values or b"")[array.offset * width : (array.offset + len(array)) * width]


def stamp_file(path: Path) -> None:
    """Put the file's digest in the place of the blank one in its footer."""
    with path.open("r+b") as file:
        footer_start, footer = footer_and_ending(file)
        place = footer.rfind(BLANK.encode())
        if place < 0:
            raise ValueError(f"{path} has no blank digest in its footer")
        digest = _hashed(file, footer_start, footer)
        file.seek(footer_start + place)
        file.write(digest.encode())


def file_digest_holds(file: BinaryIO, named: bytes) -> bool:
    """Whether the file is byte for byte the one whose digest ``named`` stands in its footer."""
    footer_start, footer = footer_and_ending(file)
    if len(named) != len(BLANK):
        return False
    return _hashed(file, footer_start, BLANK.encode().join(footer.rsplit(named, 1))) == named.decode(errors="replace")


def _hashed(file: BinaryIO, upto: int, rest: bytes) -> str:
    found = hashlib.sha256()
    file.seek(0)
    while upto:
        chunk = file.read(min(_CHUNK_BYTES, upto))
        if not chunk:
            break
        found.update(chunk)
        upto -= len(chunk)
    found.update(rest)
    return found.hexdigest()
