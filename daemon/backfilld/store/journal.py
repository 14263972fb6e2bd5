"""The journal of one day: what arrived since the day file was written, appended and synced at each checkpoint.

The file is ``HEADER``, then records. A record is a prefix, a note and rows. The prefix has 20 bytes: a magic, the
lengths of the note and of the rows, the number of rows, and the CRC-32 of all that but the magic. The note is JSON
(:class:`Note`). The rows are one Arrow record batch with the columns of SCHEMA, uncompressed, ascending in ``a``.

* A record counts once all of it is there and its CRC is right. The first record that is not ends the journal: a crash
  tore it off. Readers ignore it and what follows; the next writer cuts it off. REST brings those rows back.
* The rows of a journal may be in the day file too, if a crash came between its rewrite and the removal of the journal.
  Readers join the two by id. They must read the journal BEFORE the file: what has left the journal is then in the file.

Owns the format. Must not decide when the file is rewritten (:mod:`backfilld.core.day.saving`).
"""

import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
import polars as pl
import pyarrow as pa

from backfilld.core.day.certificate import REST, Source, Suspicion
from backfilld.core.merge import Merged, deduplicate
from backfilld.core.model import IdRange, empty_trades
from backfilld.store.atomic import translated

HEADER = b"backfilld journal 1\n"
"""The first bytes of a journal; the number is the version of its format."""

_MAGIC = b"BfJ1"
_PREFIX = struct.Struct("<4sIIII")
_ARROW_SCHEMA: pa.Schema = empty_trades().to_arrow().schema


class Note(msgspec.Struct, frozen=True):
    """What a save knows besides its rows: see :class:`backfilld.core.day.certificate.Provenance`."""

    source: Source = REST
    day_starts: tuple[int, ...] = ()
    absent: tuple[IdRange, ...] = ()
    suspected: tuple[Suspicion, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One save: its note, and its rows, which share the memory of the journal that was read."""

    note: Note
    trades: pl.DataFrame


class JournalWriter:
    """Appends to a journal, which is made if there is none. Use it as a context manager. Raises StoreError.

    ``cut_bytes`` is how much of a torn end was cut off. A failed append is cut off by the next one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with translated(path, "write"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = _opened(path, os.O_RDWR | os.O_CREAT)
        try:
            with translated(path, "write"):
                self._begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, note: Note, trades: pl.DataFrame) -> None:
        """Append a record and sync it: once this returns, a crash no longer loses it."""
        record = _encoded(note, trades)
        with translated(self._path, "write"):
            # An earlier append that failed, of a full disk perhaps, may have left a part of its record.
            os.ftruncate(self._descriptor, self.size_bytes)
            _write_all(self._descriptor, record, self.size_bytes)
            os.fdatasync(self._descriptor)
        self.size_bytes += len(record)
        self.entries += 1
        self.rows += trades.height

    def close(self) -> None:
        """Close the file; it stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _begin(self) -> None:
        body = _read_all(self._descriptor)
        records = list(_whole_records(body))
        self.size_bytes = records[-1].stop if records else len(HEADER)
        self.cut_bytes = max(0, len(body) - self.size_bytes) if body.startswith(HEADER) else len(body)
        self.entries, self.rows = len(records), sum(each.rows for each in records)
        if not body.startswith(HEADER):
            os.ftruncate(self._descriptor, 0)
            _write_all(self._descriptor, HEADER, 0)
        os.ftruncate(self._descriptor, self.size_bytes)
        os.fsync(self._descriptor)
        _sync_directory(self._path.parent)


def read_journal(path: Path) -> list[Record]:
    """The records of a journal, as they were appended; none if there is no journal. Raises StoreError.

    A torn end is ignored and left where it is: this is for readers beside a writer.
    """
    with translated(path, "read"):
        try:
            descriptor = _opened(path, os.O_RDONLY)
        except FileNotFoundError:
            return []
        try:
            body = _read_all(descriptor)
        finally:
            os.close(descriptor)
    return [_decoded(body, place) for place in _whole_records(body)]


def remove_journal(path: Path) -> None:
    """Delete a journal whose rows stand in the day file; nothing if there is none. Raises StoreError."""
    with translated(path, "delete"):
        path.unlink(missing_ok=True)


def ascending(records: list[Record]) -> Iterator[Merged]:
    """The rows of all records, each id once, in ascending pieces. Of two rows under one id the first appended stays; a
    row that differs from it is among the conflicts of its piece.

    Only records whose ids interleave are copied together, so the pieces stay as small as the records.
    """
    numbered = [(number, each.trades) for number, each in enumerate(records) if each.trades.height]
    open_frames: dict[int, pl.DataFrame] = {}
    for number, trades in sorted(numbered, key=lambda each: int(each[1]["a"][0])):
        first_id = int(trades["a"][0])
        yield from _joined(frame[: _below(frame, first_id)] for _, frame in sorted(open_frames.items()))
        left = {each: frame[_below(frame, first_id) :] for each, frame in open_frames.items()}
        open_frames = {each: frame for each, frame in left.items() if frame.height} | {number: trades}
    yield from _joined(frame for _, frame in sorted(open_frames.items()))


def _below(trades: pl.DataFrame, trade_id: int) -> int:
    """How many rows have a lower id."""
    return int(trades["a"].search_sorted(trade_id, side="left"))


def _joined(frames: Iterable[pl.DataFrame]) -> Iterator[Merged]:
    """The rows of the frames as one piece, of two under one id that of the earlier frame; none for no rows."""
    rows = pl.concat([empty_trades(), *frames], rechunk=False)
    if rows.height:
        yield deduplicate(rows)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a record stands in the journal, in bytes: its note, its rows, its end."""

    note: int
    batch: int
    stop: int
    rows: int


def _encoded(note: Note, trades: pl.DataFrame) -> bytes:
    text = msgspec.json.encode(note)
    table = trades.select(list(_ARROW_SCHEMA.names)).rechunk().to_arrow().cast(_ARROW_SCHEMA)
    batches = table.combine_chunks().to_batches()
    batch = batches[0].serialize().to_pybytes() if batches else b""
    check = _check(trades.height, text, batch)
    return _PREFIX.pack(_MAGIC, len(text), len(batch), trades.height, check) + text + batch


def _check(rows: int, text: bytes | memoryview, batch: bytes | memoryview) -> int:
    lengths = struct.pack("<III", len(text), len(batch), rows)
    return zlib.crc32(batch, zlib.crc32(text, zlib.crc32(lengths)))


def _whole_records(body: bytes) -> Iterator[_Place]:
    """The records up to the first that is torn or damaged."""
    view, at = memoryview(body), len(HEADER)
    while body.startswith(HEADER) and at + _PREFIX.size <= len(body):
        magic, note_bytes, batch_bytes, rows, check = _PREFIX.unpack_from(body, at)
        note = at + _PREFIX.size
        batch, stop = note + note_bytes, note + note_bytes + batch_bytes
        is_whole = magic == _MAGIC and stop <= len(body)
        if not is_whole or _check(rows, view[note:batch], view[batch:stop]) != check:
            return
        yield _Place(note, batch, stop, rows)
        at = stop


def _decoded(body: bytes, place: _Place) -> Record:
    note = msgspec.json.decode(body[place.note : place.batch], type=Note)
    if not place.rows:
        return Record(note, empty_trades())
    batch = pa.ipc.read_record_batch(pa.py_buffer(memoryview(body)[place.batch : place.stop]), _ARROW_SCHEMA)
    trades = pl.from_arrow(pa.Table.from_batches([batch]))
    assert isinstance(trades, pl.DataFrame)  # noqa: S101 - a table makes a frame; for the type checker
    return Record(note, trades)


def _opened(path: Path, flags: int) -> int:
    """A descriptor of a plain file: links are not followed, and a FIFO does not block."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is not a regular file")
    return descriptor


def _read_all(descriptor: int) -> bytes:
    with open(os.dup(descriptor), "rb") as file:  # noqa: PTH123 - of a descriptor
        file.seek(0)
        return file.read()


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    left = memoryview(content)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
