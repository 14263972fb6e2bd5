"""The records of a journal, byte by byte.

A record is a prefix, a note and rows. The prefix has 20 bytes: a magic, the lengths of the note and of the rows, the
number of rows, and the CRC-32 of all that but the magic. The note is JSON (:class:`Note`). The rows are one Arrow
record batch with the columns of SCHEMA, uncompressed, ascending in ``a``. An encrypted record has another magic and no
note of its own: what stands for its rows is encrypted Parquet, with the batch as its only value and the note as its
metadata.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
import polars as pl
import pyarrow as pa

from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import REST, Source, Suspicion
from backfilld.core.day.start import DayStart
from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.core.inflate import crc32
from backfilld.core.model import MAX_ID, IdRange
from backfilld.core.text import plain
from backfilld.store.atomic import read_all
from backfilld.store.format.dayfile import ARROW_SCHEMA, arrow_table
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import KeyRing
from backfilld.store.format.plain_footer import opened
from backfilld.store.format.tables import table_as_bytes, value_from_bytes

HEADER = b"backfilld journal 2\n"
"""The first bytes of a journal; the number is the version of its format."""

_MOST_RECORD_BYTES = 64 << 20
"""A checkpoint of 131,072 rows takes 7 MB."""

_ANY_HEADER = b"backfilld journal "
_PLAIN = b"BfJ1"
_ENCRYPTED = b"BfJe"
_PREFIX = struct.Struct("<4sIIII")
_NOTE_KEY = "note"
_CELL_SCHEMA = pa.schema([("batch", pa.binary())])


class Note(msgspec.Struct, frozen=True):
    """What a save knows besides its rows: see :class:`backfilld.core.day.certificate.Provenance`. On disk it also names
    the ``place`` of its journal, so that the journal of another instrument or day is not taken for this one's."""

    source: Source = REST
    day_starts: tuple[DayStart, ...] = ()
    absent: tuple[IdRange, ...] = ()
    suspected: tuple[Suspicion, ...] = ()
    place: str = ""

    @classmethod
    def of(cls, addition: Addition) -> Self:
        """The note of one save."""
        absence = addition.absence
        return cls(addition.source, tuple(sorted(addition.day_starts)), absence.absent, absence.suspected)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands in the journal, in bytes: its note, its rows, its end; and how many rows it has."""

    note: int
    batch: int
    stop: int
    rows: int
    is_encrypted: bool


def encoded_record(note: Note, trades: pl.DataFrame, path: Path, keys: KeyRing) -> tuple[bytes, memoryview]:
    """A record as it stands in the journal at this path, encrypted if the ``keys`` say so. In two parts, which follow
    each other: to join them takes as long as to make them."""
    placed = msgspec.structs.replace(note, place=_place_of(path).decode(errors="replace"))
    text, batch, magic = msgspec.json.encode(placed), _batch_of(trades), _PLAIN
    if keys.writing is not None:
        metadata = {_NOTE_KEY: text.decode()}
        batch = memoryview(table_as_bytes(_cell_of(batch), keys, metadata=metadata, aad=_place_of(path), codec="none"))
        text, magic = b"", _ENCRYPTED
    prefix = _PREFIX.pack(magic, len(text), len(batch), trades.height, _check(trades.height, text, batch))
    return prefix + text, batch


def whole_records(descriptor: int) -> Iterator[tuple[Place, bytes, bytes]]:
    """The records up to the first that is torn or damaged, each with the bytes of its note and of its rows. Raises
    UntrustedFile for a journal of another version."""
    size = os.fstat(descriptor).st_size
    header = read_all(descriptor, len(HEADER), 0)
    if header != HEADER and len(header) == len(HEADER) and header.startswith(_ANY_HEADER):
        raise UntrustedFile("it is a journal of another version than 2")
    at = len(HEADER)
    while header == HEADER and at + _PREFIX.size <= size:
        prefix = read_all(descriptor, _PREFIX.size, at)
        if len(prefix) < _PREFIX.size:
            # Its writer has cut off a torn end meanwhile.
            return
        magic, note_bytes, batch_bytes, rows, check = _PREFIX.unpack(prefix)
        note = at + _PREFIX.size
        place = Place(note, note + note_bytes, note + note_bytes + batch_bytes, rows, magic == _ENCRYPTED)
        if magic not in {_PLAIN, _ENCRYPTED} or place.stop > min(size, at + _MOST_RECORD_BYTES):
            return
        text, batch = _content(descriptor, place)
        if len(batch) != batch_bytes or _check(rows, text, batch) != check:
            return
        yield place, text, batch
        at = place.stop


def has_first_record(path: Path) -> bool:
    """Whether a journal begins with a record that is all there, by its lengths alone."""
    with opened(path) as found:
        start = b"" if found is None else read_all(found[0], len(HEADER) + _PREFIX.size, 0)
    if not start.startswith(HEADER) or len(start) < len(HEADER) + _PREFIX.size:
        return False
    note_bytes: int
    _, note_bytes, batch_bytes, rows, _ = _PREFIX.unpack_from(start, len(HEADER))
    return bool(rows) and found is not None and len(start) + note_bytes + batch_bytes <= found[1]


def read_record(descriptor: int, place: Place, path: Path, keys: KeyRing) -> tuple[Note, pl.DataFrame]:
    """The note and the rows of a record of the journal at this path. Raises UntrustedFile for what this program did not
    write, and DayLocked for a record that no key opens."""
    return decoded_record(place, *_content(descriptor, place), path, keys)


def decoded_record(place: Place, text: bytes, body: bytes, path: Path, keys: KeyRing) -> tuple[Note, pl.DataFrame]:
    """The same, of a record whose bytes are at hand."""
    batch = pa.py_buffer(body)
    if place.is_encrypted:
        text, batch = _decrypted(body, path, keys)
    try:
        note = msgspec.json.decode(text, type=Note)
    except (ValueError, RecursionError) as error:
        raise UntrustedFile("it has a note that cannot be read") from error
    if note.place not in {"", _place_of(path).decode(errors="replace")}:
        raise UntrustedFile(f"it is the journal {plain(note.place)}")
    return msgspec.structs.replace(note, place=""), _trades_of(batch, place.rows)


def _content(descriptor: int, place: Place) -> tuple[bytes, bytes]:
    """The bytes of the note, and of the rows."""
    text = read_all(descriptor, place.batch - place.note, place.note)
    return text, read_all(descriptor, place.stop - place.batch, place.batch)


def _batch_of(trades: pl.DataFrame) -> memoryview:
    # Not select(): it wakes the thread pool, which costs more than the rest of an append.
    table = arrow_table(trades[ARROW_SCHEMA.names])
    batches = table.combine_chunks().to_batches()
    return memoryview(batches[0].serialize() if batches else b"")


def _cell_of(batch: memoryview) -> pa.Table:
    """A table of one value. From buffers: Arrow would load pandas, where it is installed, to look at a list."""
    offsets = struct.pack("<ii", 0, len(batch))
    cell = pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(batch)])
    return pa.Table.from_arrays([cell], schema=_CELL_SCHEMA)


def _decrypted(body: bytes, path: Path, keys: KeyRing) -> tuple[bytes, pa.Buffer]:
    """The note and the batch."""
    value, metadata = value_from_bytes(body, keys, path, _place_of(path))
    return metadata.get(_NOTE_KEY.encode(), b""), value


def _trades_of(batch: pa.Buffer, rows: int) -> pl.DataFrame:
    if not rows:
        return empty_trades()
    try:
        read = pa.ipc.read_record_batch(batch, ARROW_SCHEMA)
        read.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UntrustedFile("it has rows that cannot be read") from error
    trades = pl.from_arrow(pa.Table.from_batches([read]))
    if not isinstance(trades, pl.DataFrame) or not _is_sound(trades, rows):
        raise UntrustedFile("its rows are not trades in ascending sequence")
    return trades


def _is_sound(trades: pl.DataFrame, rows: int) -> bool:
    ids = trades["a"]
    return (
        trades.schema == SCHEMA
        and trades.height == rows
        and not any(column.null_count() for column in trades)
        and 0 <= ids[0] <= ids[-1] <= MAX_ID
        # Not by an expression: that wakes the thread pool, which costs more than the rest of a record.
        and ids.is_sorted()
        and ids.n_unique() == rows
    )


def _place_of(path: Path) -> bytes:
    """What binds a record to the journal of one instrument and day, wherever the cache is."""
    return "/".join(path.parts[-3:]).encode()


def _check(rows: int, text: bytes, batch: bytes | memoryview) -> int:
    lengths = struct.pack("<III", len(text), len(batch), rows)
    return crc32(batch, crc32(text, crc32(lengths, 0)))
