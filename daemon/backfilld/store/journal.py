"""The journal of one day: what arrived since the day file was written, appended and synced at each checkpoint.

The file is ``HEADER``, then records (:mod:`backfilld.store.journal_records`).

* A record counts once all of it is there and its CRC is right. The first record that is not ends the journal: a crash
  tore it off. Readers ignore it and what follows; the next writer cuts it off. REST brings those rows back.
* The rows of a journal may be in the day file too, if a crash came between its rewrite and the removal of the journal.
  Readers join the two by id. They must read the journal BEFORE the file: what has left the journal is then in the file.

Owns the file. Must not decide when the day file is rewritten (:mod:`backfilld.core.day.saving`).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import polars as pl

from backfilld.core.frame import empty_trades
from backfilld.core.merge import Merged, deduplicate
from backfilld.core.timespan import StoredSpan
from backfilld.store.atomic import read_all, sync_directory, translated, write_all
from backfilld.store.format.dayfile import spans_of
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import NO_KEYS, KeyRing
from backfilld.store.journal_records import (
    HEADER,
    Note,
    Place,
    decoded_record,
    encoded_record,
    read_record,
    whole_records,
)
from backfilld.store.regular_file import NotRegular, open_regular

KEPT_ROWS = 32_768
"""Rows of a journal that stay in memory once they are read. A journal may have twice those of its day: the others are
read again."""


@dataclass(frozen=True, slots=True)
class Record:
    """One save: its note, the spans of its rows, and the rows, which may be read again. Usable inside of
    :func:`reading_journal`."""

    note: Note
    spans: tuple[StoredSpan, ...]
    read: Callable[[], pl.DataFrame]

    @classmethod
    def of(cls, note: Note, trades: pl.DataFrame) -> Self:
        """A record of rows in memory."""
        return cls(note, tuple(spans_of(trades)), lambda: trades)


class JournalWriter:
    """Appends to a journal, which is made if there is none. Use it as a context manager. Raises StoreError.

    ``known_bytes`` is the size after this process appended last, which spares reading it all; 0 for a journal that it
    does not know. The next append cuts off a failed one. Records are encrypted if the ``keys`` say so.
    """

    def __init__(self, path: Path, known_bytes: int = 0, keys: KeyRing = NO_KEYS) -> None:
        self._path = path
        self._keys = keys
        self.size_bytes = known_bytes
        with translated(path, "write"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            with translated(path, "write"):
                if not len(HEADER) <= known_bytes <= os.fstat(self._descriptor).st_size:
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
        record = encoded_record(note, trades, self._path, self._keys)
        with translated(self._path, "write"):
            # An earlier append that failed, of a full disk perhaps, may have left a part of its record.
            os.ftruncate(self._descriptor, self.size_bytes)
            stop = self.size_bytes
            for part in record:
                write_all(self._descriptor, part, stop)
                stop += len(part)
            os.fdatasync(self._descriptor)
        self.size_bytes = stop

    def close(self) -> None:
        """Close the file; it stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _begin(self) -> None:
        is_ours = read_all(self._descriptor, len(HEADER), 0) == HEADER
        self.size_bytes = len(HEADER)
        for place, _, _ in whole_records(self._descriptor):
            self.size_bytes = place.stop
        if not is_ours:
            os.ftruncate(self._descriptor, 0)
            write_all(self._descriptor, HEADER, 0)
        # The append that follows syncs the file.
        os.ftruncate(self._descriptor, self.size_bytes)
        sync_directory(self._path.parent)


@contextmanager
def reading_journal(path: Path, keys: KeyRing = NO_KEYS) -> Iterator[list[Record]]:
    """Yield the records of a journal, as they were appended; none if there is no journal.

    A torn end is ignored and left where it is: this is for readers beside a writer. Raises StoreError, UntrustedFile
    for what is not a regular file, for a journal of a newer version or with a whole record that this program did not
    write, and DayLocked for one with a record that no key opens.
    """
    descriptor = _opened_to_read(path)
    if descriptor is None:
        yield []
        return
    try:
        with translated(path, "read"):
            records = list(_records(descriptor, path, keys))
        yield records
    finally:
        os.close(descriptor)


def _opened_to_read(path: Path) -> int | None:
    with translated(path, "read"):
        try:
            return open_regular(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except NotRegular as error:
            raise UntrustedFile("it is not a regular file") from error


def remove_journal(path: Path, *, is_final: bool = False) -> None:
    """Delete a journal; nothing if there is none. Raises StoreError.

    ``is_final`` syncs it: without, a power cut may bring the journal back, which is harmless if its rows stand in the
    day file.
    """
    with translated(path, "delete"):
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        if is_final:
            sync_directory(path.parent)


def ascending(records: Sequence[Record]) -> Iterator[Merged]:
    """The rows of all records, each id once, in ascending pieces. Of two rows under one id the first appended stays; a
    row that differs from it is among the conflicts of its piece.

    A record is read when its first id is reached. Only records whose ids interleave are in memory together.
    """
    numbered = [(number, each) for number, each in enumerate(records) if each.spans]
    open_frames: dict[int, pl.DataFrame] = {}
    for number, record in sorted(numbered, key=lambda each: each[1].spans[0].ids):
        first_id = record.spans[0].ids.first_id
        yield from _joined(frame[: _below(frame, first_id)] for _, frame in sorted(open_frames.items()))
        left = {each: frame[_below(frame, first_id) :] for each, frame in open_frames.items()}
        open_frames = {each: frame for each, frame in left.items() if frame.height} | {number: record.read()}
    yield from _joined(frame for _, frame in sorted(open_frames.items()))


def _below(trades: pl.DataFrame, trade_id: int) -> int:
    """How many rows have a lower id."""
    return int(trades["a"].search_sorted(trade_id, side="left"))


def _joined(frames: Iterable[pl.DataFrame]) -> Iterator[Merged]:
    """The rows of the frames as one piece, of two under one id that of the earlier frame; none for no rows."""
    pieces = [each for each in frames if each.height]
    if len(pieces) == 1:
        yield Merged(pieces[0], 0, empty_trades())
    elif pieces:
        yield deduplicate(pl.concat(pieces, rechunk=False))


def _records(descriptor: int, path: Path, keys: KeyRing) -> Iterator[Record]:
    rows = 0
    for place, text, batch in whole_records(descriptor):
        note, trades = decoded_record(place, text, batch, path, keys)
        record = Record.of(note, trades)
        rows += place.rows
        yield record if rows <= KEPT_ROWS else replace(record, read=partial(_rows, descriptor, place, path, keys))


def _rows(descriptor: int, place: Place, path: Path, keys: KeyRing) -> pl.DataFrame:
    return read_record(descriptor, place, path, keys)[1]
