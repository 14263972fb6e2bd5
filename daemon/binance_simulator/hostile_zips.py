"""Zips that a careless reader takes for a day: bombs, overlapping entries, foreign methods, crowds of members.

Owns their bytes. Must not decide which day is served so.
"""

import bz2
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from io import BytesIO

from binance_simulator.archive_defects import ArchiveDefect

_BOMB_BYTES = 2 * 2**30
_LONG_LINE_BYTES = 2**30
_BLOCK_BYTES = 2**20
_OVERLAPS = 30_000
_MEMBERS = 20_000
_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")

Texts = Mapping[str, bytes]


def hostile_zip(texts: Texts, defects: Collection[ArchiveDefect]) -> bytes | None:
    """The zip that one of the defects makes of the day's members (name to text), or None."""
    return next((make(texts) for defect, make in _MAKERS.items() if defect in defects), None)


def _repeated(text: bytes, total: int) -> tuple[bytes, int, int]:
    """A deflate stream of a text so many times, the CRC and the length of what it unpacks to."""
    block = text * max(1, _BLOCK_BYTES // len(text))
    packer, blocks, checked = zlib.compressobj(9, zlib.DEFLATED, -15), max(1, total // len(block)), 0
    piece = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(blocks):
        checked = zlib.crc32(block, checked)
    return piece * blocks + packer.flush(), checked, blocks * len(block)


def _bomb(texts: Texts) -> bytes:
    name, text = next(iter(texts.items()))
    return _container(name, *_repeated(text.splitlines(keepends=True)[-1], _BOMB_BYTES), zipfile.ZIP_DEFLATED)


def _long_line(texts: Texts) -> bytes:
    return _container(next(iter(texts)), *_repeated(b"1", _LONG_LINE_BYTES), zipfile.ZIP_DEFLATED)


def _overlapping(texts: Texts) -> bytes:
    name, text = next(iter(texts.items()))
    return _container(name, *_repeated(text, 100 * len(text)), zipfile.ZIP_DEFLATED, _OVERLAPS)


def _packed(pack: Callable[[bytes], bytes], method: int) -> Callable[[Texts], bytes]:
    """The first member packed by another method, with a hole of zeros in the middle of its data."""

    def make(texts: Texts) -> bytes:
        name, text = next(iter(texts.items()))
        packed = pack(text)
        hole = slice(len(packed) // 2, len(packed) // 2 + 16)
        damaged = packed[: hole.start] + bytes(16) + packed[hole.stop :]
        return _container(name, damaged, zlib.crc32(text), len(text), method)

    return make


def _many(texts: Texts) -> bytes:
    written = BytesIO()
    with zipfile.ZipFile(written, "w") as container:
        for name, text in texts.items():
            container.writestr(name, text, zipfile.ZIP_DEFLATED)
        for number in range(_MEMBERS):
            container.writestr(str(number), b"")
    return written.getvalue()


def _container(name: str, data: bytes, crc: int, length: int, method: int, entries: int = 1) -> bytes:
    """A zip of one member by hand, which ``entries`` entries of the directory point at."""
    text = name.encode()
    sizes = (crc, len(data), length % 2**32)
    local = _LOCAL.pack(0x04034B50, 20, 0x800, method, 0, 0x21, *sizes, len(text), 0) + text
    directory = b"".join(
        _CENTRAL.pack(0x02014B50, 20, 20, 0x800, method, 0, 0x21, *sizes, len(entry), 0, 0, 0, 0, 0, 0) + entry
        for entry in (text if number == 0 else f"{number}.csv".encode() for number in range(entries))
    )
    begins, counted = len(local) + len(data), min(entries, 0xFFFF)
    return local + data + directory + _END.pack(0x06054B50, 0, 0, counted, counted, len(directory), begins, 0)


_MAKERS: Mapping[ArchiveDefect, Callable[[Texts], bytes]] = {
    ArchiveDefect.ZIP_BOMB: _bomb,
    ArchiveDefect.LONG_LINE: _long_line,
    ArchiveDefect.OVERLAPPING: _overlapping,
    ArchiveDefect.MANY_MEMBERS: _many,
    ArchiveDefect.BZIP2: _packed(bz2.compress, zipfile.ZIP_BZIP2),
    ArchiveDefect.LZMA: _packed(lambda text: b"\x09\x04\x05\x00" + _raw_lzma(text), zipfile.ZIP_LZMA),
}


def _raw_lzma(text: bytes) -> bytes:
    """The properties and the stream of LZMA as a zip holds them."""
    packed = lzma.compress(text, lzma.FORMAT_ALONE)
    return packed[:5] + packed[13:]
