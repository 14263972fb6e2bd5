"""The footer of a plain day file, read without Arrow: for commands that look at years of files, and for a start.

Owns the short way alone: only a footer that is byte for byte of the form that :class:`DayWriter` gives it is read here.
For any other, such as that of a damaged file, an encrypted one or one of another version of Arrow, there is no answer,
and :class:`DayReader` says what the file is.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

from backfilld.core.day.certificate import Certificate
from backfilld.core.model import Instrument
from backfilld.errors import StoreError
from backfilld.store.format.ending import ENDING_BYTES, footer_bytes, varint
from backfilld.store.format.footer import NewerSchema, UntrustedFile, decoded
from backfilld.store.regular_file import open_regular

ROW_GROUP_ROWS = 131_072
MOST_GROUP_BYTES = 32 << 20
"""The most bytes of a row group before compression: eight columns of 131,072 values, their dictionaries, and as much
again."""

_TAIL_BYTES = 4096
"""Read first: the footer of a day of 300,000 trades, and its certificate."""
_MOST_FOOTER_BYTES = 1 << 20
_MAGIC = b"PAR1"
_MORE = 0x80
"""The bit of a byte that says that the number goes on."""

_LIST, _LONG = 12, 15
"""A list begins with its length and the type of structs in one byte; from this length on it stands apart."""

# Thrift's compact protocol. A number is bytes with the highest bit set, and one without.
NUMBER = rb"[\x80-\xff]{0,9}+[\x00-\x7f]"
TAKEN = rb"(" + NUMBER + rb")"
_INT64, _DOUBLE, _BOOLEAN = b"\x04", b"\x0a", b"\x00"
_COLUMNS = tuple(zip(b"TapqflmM", (_INT64,) * 2 + (_DOUBLE,) * 2 + (_INT64,) * 2 + (_BOOLEAN,) * 2, strict=True))
_ENCODINGS = {_INT64: b"%\x06\x0a", _DOUBLE: b"5\x00\x06\x10", _BOOLEAN: b"%\x06\x00"}
_PAGES = {
    _INT64: b"\x1c\x15\x00\x15\x0a\x15\x02\x00",
    _DOUBLE: b",\x15\x04\x15\x00\x15\x02\x00\x15\x00\x15\x10\x15\x02\x00",
    _BOOLEAN: b"\x1c\x15\x00\x15\x00\x15\x02\x00",
}
"""By the type of a column: the encodings of its values, and its pages, of which one has the values."""


def _column(name: int, kind: bytes) -> bytes:
    """The pattern of one column of a row group. It takes the number of values, the bytes of its pages, and where the
    page of values and the dictionary begin, if it has one."""
    value = rb"\x01." if kind == _BOOLEAN else rb"\x08.{8}"
    dictionary = rb"&" + TAKEN + rb"\x1c" if kind == _DOUBLE else rb"()<"
    return b"".join(
        (
            rb"&\x00\x1c\x15", re.escape(kind), rb"\x19", re.escape(_ENCODINGS[kind]), rb"\x19\x18\x01", bytes([name]),
            rb"\x15[\x00-\x0f]\x16", TAKEN, rb"\x16", NUMBER, rb"\x16", TAKEN, rb"&", TAKEN, dictionary,
            rb"\x18", value, rb"\x18", value, rb"\x16\x00\(", value, rb"\x18", value, rb"\x11\x11\x00",
            rb"\x19", re.escape(_PAGES[kind]), rb"<\)\x06\x19&\x00", NUMBER, rb"\x00\x00\x00",
        )
    )  # fmt: skip


_TAKEN_OF_COLUMN = 4
_HEAD = b"\x15\x04\x19\x9c5\x00\x18\x06schema\x15\x10\x00" + b"".join(
    b"\x15" + kind + b"%\x02\x18\x01" + bytes([name]) + b"\x00" for name, kind in _COLUMNS
)
_ROWS = re.compile(
    rb"\x16" + NUMBER + rb"\x19(?:([\x1c\x2c\x3c\x4c\x5c\x6c\x7c\x8c\x9c\xac\xbc\xcc\xdc\xec])|\xfc" + TAKEN + rb")",
    re.DOTALL,
)
_GROUP = re.compile(
    rb"\x19\x8c" + b"".join(_column(*each) for each in _COLUMNS)
    + rb"\x16" + TAKEN + rb"\x16" + TAKEN + rb"&" + NUMBER + rb"\x16" + NUMBER + rb"\x00",
    re.DOTALL,
)  # fmt: skip
_CERTIFICATE = re.compile(rb"\x19,\x18\x09backfilld\x18" + TAKEN, re.DOTALL)
_REST = re.compile(
    rb"\x00\x18\x10backfilld_sha256\x18@([0-9a-f]{64})\x00\x18[\x00-\x7f][ -~]{0,127}\x19\x8c(?:\x1c\x00\x00){8}\x00"
)


class Chunk(NamedTuple):
    """One column of a row group: where its pages begin and end in the file, how many values it has, and whether its
    first page is a dictionary."""

    start: int
    stop: int
    values: int
    has_dictionary: bool


@dataclass(frozen=True, slots=True)
class PlainFooter:
    """What a footer says: the certificate as text, the digest of the file, and the row groups."""

    certificate: bytes
    digest: bytes
    digest_at: int
    groups: tuple[re.Match[bytes], ...]

    @property
    def rows(self) -> int:
        """The rows of all groups."""
        return sum(signed(group[group.re.groups]) for group in self.groups)

    def chunks(self) -> Iterator[Chunk]:
        """The columns of each row group."""
        for number in range(len(self.groups)):
            yield from self.chunks_of(number)

    def chunks_of(self, number: int) -> Iterator[Chunk]:
        """The columns of one row group."""
        group = self.groups[number]
        for at in range(1, group.re.groups - 1, _TAKEN_OF_COLUMN):
            values, packed, data, dictionary = group.group(*range(at, at + _TAKEN_OF_COLUMN))
            start = signed(dictionary or data)
            yield Chunk(start, start + signed(packed), signed(values), bool(dictionary))

    def decoded(self, day: date, instrument: Instrument | None) -> Certificate | None:
        """The certificate, if it is of this day and this instrument, and the row groups are of possible sizes."""
        sizes = (group.group(group.re.groups - 1, group.re.groups) for group in self.groups)
        for size, rows in sizes:
            if not (0 < signed(rows) <= ROW_GROUP_ROWS and 0 <= signed(size) <= MOST_GROUP_BYTES):
                return None
        try:
            found = decoded(self.certificate)
        except (UntrustedFile, NewerSchema):
            return None
        named = (found.market, found.symbol)
        is_ours = instrument is None or named in {(None, None), (instrument.market, instrument.symbol)}
        return found if is_ours and found.day == day else None


def plain_footer(footer: bytes) -> PlainFooter | None:
    """The footer from its first byte to the one before its length; None for one of another form."""
    head = _ROWS.match(footer, len(_HEAD)) if footer.startswith(_HEAD) else None
    if head is None:
        return None
    place, groups = head.end(), []
    for _ in range(head[1][0] >> 4 if head[1] else _number(head[2])):
        group = _GROUP.match(footer, place)
        if group is None:
            return None
        groups.append(group)
        place = group.end()
    named = _CERTIFICATE.match(footer, place)
    if named is None:
        return None
    stop = named.end() + _number(named[1])
    rest = _REST.fullmatch(footer, stop)
    return rest and PlainFooter(footer[named.end() : stop], rest[1], rest.start(1), tuple(groups))


def plain_certificate(path: Path | str, day: date, instrument: Instrument | None) -> tuple[Certificate, int] | None:
    """What a plain day file says of itself, and its size; None where :class:`DayReader` has to look."""
    read, size = footer_of(path)
    certificate = read.decoded(day, instrument) if read is not None else None
    return None if certificate is None else (certificate, size)


def footer_of(path: Path | str) -> tuple[PlainFooter | None, int]:
    """The footer of a plain day file, and its size; None for one of another form, and for no file."""
    try:
        with opened(path) as found:
            footer, size = (None, 0) if found is None else (_read(*found), found[1])
    except OSError:
        return None, 0
    return plain_footer(footer) if footer is not None else None, size


def with_groups_before(groups: Sequence[re.Match[bytes]], text: bytes, start: int) -> bytes:
    """The footer ``text``, with these row groups before its own, which begin at ``start``. Raises StoreError for a
    footer of another form."""
    footer = plain_footer(text)
    if footer is None or next(footer.chunks()).start != start:
        raise StoreError("the footer of the rows that follow is of another form")
    every = (*groups, *footer.groups)
    count = bytes([len(every) << 4 | _LIST]) if len(every) < _LONG else bytes([_LONG << 4 | _LIST]) + varint(len(every))
    rows = sum(signed(group[group.re.groups]) for group in every)
    head = _HEAD + b"\x16" + varint(rows << 1) + b"\x19" + count
    return head + b"".join(group[0] for group in every) + text[footer.groups[-1].end() :]


@contextmanager
def opened(path: Path | str) -> Iterator[tuple[int, int] | None]:
    """The descriptor of a regular file, which no link names, and its size; None for no such file."""
    try:
        descriptor = open_regular(path)
    except OSError:
        yield None
        return
    try:
        yield descriptor, os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def footer_in(body: bytes) -> bytes | None:
    """The footer of a file of which all, or the end, is given; None if it is not in it."""
    needed = footer_bytes(body) + ENDING_BYTES
    if needed > len(body) or not body.endswith(_MAGIC):
        return None
    return body[-needed:-ENDING_BYTES]


def _read(descriptor: int, size: int) -> bytes | None:
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    needed = footer_bytes(tail) + ENDING_BYTES
    if len(tail) < needed <= min(size, _MOST_FOOTER_BYTES):
        tail = os.pread(descriptor, needed, size - needed)
    return footer_in(tail)


def _number(varint: bytes) -> int:
    """A length."""
    value = 0
    for place, byte in enumerate(varint):
        value |= (byte & ~_MORE) << 7 * place
    return value


def signed(varint: bytes) -> int:
    """A number of Thrift's compact protocol, whose sign is in the lowest bit."""
    value = _number(varint)
    return (value >> 1) ^ -(value & 1)
