"""How much memory a day file may ask for: its pages are measured by their headers before Arrow decodes one.

Arrow allocates what a page header names, up to 2 GB for a page of a few kB, whatever the footer says. Owns the limits
and a reader of Thrift's compact protocol. The pages of encrypted files are not measured: only owners of the key can
have written them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow.parquet as pq

from backfilld.store.format.footer import UntrustedFile

MAX_CHUNK_BYTES = 4 << 20
"""Decoded bytes of one column of a row group: four times the 131,072 values of eight bytes that a group may have."""

MAX_HEADER_BYTES = 64 << 10
"""One page header; those of our files have about 100 bytes, statistics included."""

MAX_DEPTH = 4
"""Structs within structs in a page header; the format has two."""

_VARINT_BYTES = 10
_MORE = 0x80
"""The bit of a byte that says that the number goes on."""
_BYTE = 3
_INTEGERS = frozenset({4, 5, 6})
_BINARY = 8
_LISTS = frozenset({9, 10})
_STRUCT = 12
_BOOLEANS = frozenset({1, 2})
_BYTES_OF = {1: 0, 2: 0, _BYTE: 1, 7: 8}
"""What the value of a field takes, for the types of a fixed size: booleans, a byte, a double."""
_LONG_LIST = 0x0F
_UNCOMPRESSED, _COMPRESSED = 2, 3
"""The fields of a page header that name its sizes."""


def check_row_group(file: BinaryIO, metadata: pq.FileMetaData, number: int, *, is_encrypted: bool = False) -> None:
    """Refuse a row group whose pages would decode to more than a group of trades can have. Raises UntrustedFile."""
    group = metadata.row_group(number)
    for column in range(group.num_columns):
        chunk = group.column(column)
        start = chunk.data_page_offset
        if chunk.has_dictionary_page and chunk.dictionary_page_offset:
            start = min(start, chunk.dictionary_page_offset)
        if start < 0:
            raise UntrustedFile(f"a column of row group {number} begins before the file")
        if chunk.total_uncompressed_size > MAX_CHUNK_BYTES:
            raise UntrustedFile(f"a column of row group {number} names {chunk.total_uncompressed_size} bytes")
        if not is_encrypted:
            _check_pages(file, start, start + chunk.total_compressed_size, number)


def _check_pages(file: BinaryIO, start: int, stop: int, number: int) -> None:
    decoded = 0
    for uncompressed in _page_sizes(file, start, stop):
        decoded += uncompressed
        if decoded > MAX_CHUNK_BYTES:
            raise UntrustedFile(f"a page of row group {number} would decode to {uncompressed} bytes")


def _page_sizes(file: BinaryIO, start: int, stop: int) -> Iterator[int]:
    """The decoded size of each page between two places in the file."""
    while start < stop:
        file.seek(start)
        header = ThriftStruct(file.read(min(MAX_HEADER_BYTES, stop - start)))
        sizes = header.integers()
        uncompressed, compressed = sizes.get(_UNCOMPRESSED, -1), sizes.get(_COMPRESSED, -1)
        if uncompressed < 0 or compressed < 0:
            raise UntrustedFile("a page header names no sizes")
        yield uncompressed
        start += header.place + compressed


@dataclass(slots=True)
class ThriftStruct:
    """One struct in Thrift's compact protocol; ``place`` is behind what was read."""

    data: bytes
    place: int = 0

    def integers(self) -> dict[int, int]:
        """The integer fields of the struct by their number; all others are passed over."""
        return {field: value for field, value in self._fields() if isinstance(value, int)}

    def binaries(self) -> dict[int, bytes]:
        """The binary fields of the struct by their number; all others are passed over."""
        return {field: value for field, value in self._fields() if isinstance(value, bytes)}

    def _fields(self) -> Iterator[tuple[int, int | bytes]]:
        field = 0
        try:
            while head := self._byte():
                kind = head & 0x0F
                field = field + (head >> 4) if head >> 4 else self._zigzag()
                if kind in _INTEGERS:
                    yield field, self._zigzag()
                elif kind == _BINARY:
                    yield field, self._binary()
                else:
                    self._skip(kind, 0)
        # Every struct ends with a byte of its own, so whatever leads beyond the data meets its end here.
        except IndexError:
            raise UntrustedFile("a page header is cut off, or is too long") from None

    def _binary(self) -> bytes:
        count = self._varint()
        self.place += count
        return self.data[self.place - count : self.place]

    def _skip(self, kind: int, depth: int) -> None:
        if kind in _INTEGERS:
            self._varint()
        elif kind == _BINARY:
            self._binary()
        elif kind == _STRUCT:
            self._skip_struct(depth + 1)
        elif kind in _LISTS:
            self._skip_list(depth)
        elif kind in _BYTES_OF:
            self.place += _BYTES_OF[kind]
        else:
            raise UntrustedFile(f"a page header has a field of the unknown type {kind}")

    def _skip_struct(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise UntrustedFile("a page header is nested too deeply")
        while head := self._byte():
            if not head >> 4:
                self._varint()
            self._skip(head & 0x0F, depth)

    def _skip_list(self, depth: int) -> None:
        head = self._byte()
        count = self._varint() if head >> 4 == _LONG_LIST else head >> 4
        if count > len(self.data):
            raise UntrustedFile("a page header names a list longer than itself")
        for _ in range(count):
            kind = head & 0x0F
            # A boolean in a list takes a byte; as a field it takes none.
            self._skip(_BYTE if kind in _BOOLEANS else kind, depth + 1)

    def _byte(self) -> int:
        byte = self.data[self.place]
        self.place += 1
        return byte

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        byte = self.data[self.place]
        self.place += 1
        if byte < _MORE:
            return byte
        value = byte & 0x7F
        for shift in range(7, 7 * _VARINT_BYTES, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < _MORE:
                return value
        raise UntrustedFile("a page header has a number that does not end")
