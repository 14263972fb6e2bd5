"""What may be unpacked of a published zip: bounds of its directory and members, checked before anything is unpacked.

A zip that is cut, damaged or larger than any of the archive's becomes an ArchiveError that names it.
"""

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from backfilld.core.inflate import DAMAGE, inflater
from backfilld.core.text import plain
from backfilld.errors import ArchiveError

BLOCK_BYTES = 1 << 21
"""What is parsed at once: some 25,000 rows: with twice as many it is a tenth faster and takes 100 MB more."""

MOST_ENTRIES = 16
"""Entries of a zip; the archive's have one, some had two."""

MOST_CSV_BYTES = 2 << 30
"""Bytes that a zip may unpack to: a day of 2 million trades has 137 MB."""

MOST_RATIO = 100
"""How much larger than its packed form a member may be; CSVs of trades are six times as large."""

_RAW = -15
"""zlib's number for deflated bytes without a wrapper."""

_END, _END_OF_ZIP64 = b"PK\x05\x06", b"PK\x06\x07"
_LONGEST_END_BYTES = 22 + 65_535 + 20
_LONGEST_ENTRY_BYTES = 4096
_LOCAL_HEADER_BYTES = 30

_DAMAGE: tuple[type[Exception], ...] = (
    *DAMAGE,
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    UnicodeDecodeError,
    OverflowError,
    OSError,
)
"""What :mod:`zipfile` raises on a zip that is cut, damaged, encrypted or packed in some way it does not know."""


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The zip, its directory checked. Raises ArchiveError, also for damage that shows only while it is unpacked."""
    with _damage_named(path):
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            yield archive


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault; a decompressor raises OSError without a number
        reason = plain(str(error)) or "it cannot be unpacked"
        raise ArchiveError(f"{path.name} is cut or damaged: {reason}", kind="cut") from error


def csvs(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """The CSVs, by the directory of the zip alone: nothing is unpacked before all of it is within its bounds."""
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    stop = archive.start_dir
    for member in reversed(members):
        fault = _fault_of(member, stop)
        if fault:
            raise ArchiveError(f"{path.name}: {plain(member.filename, 80)}: {fault}", kind="shape")
        stop = member.header_offset
    if sum(member.file_size for member in members) > MOST_CSV_BYTES:
        raise ArchiveError(f"{path.name} unpacks to more than {MOST_CSV_BYTES:,} bytes", kind="large")
    found = [member for member in archive.infolist() if member.filename.lower().endswith(".csv")]
    if not found:
        raise ArchiveError(f"{path.name} holds no CSV", kind="shape")
    return found


def unpacking(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    """The member, to be read. All of :mod:`zipfile`'s checks hold; what is deflated is unpacked faster than by it."""
    packed = archive.open(member)
    if member.compress_type == zipfile.ZIP_DEFLATED:
        packed._decompressor = inflater(_RAW)  # type: ignore[attr-defined]  # noqa: SLF001 - it has no other way in
    return packed


def _fault_of(member: zipfile.ZipInfo, stop: int) -> str | None:
    """Why a member is not read, if ``stop`` is where the one behind it begins."""
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return "it is neither stored nor deflated"
    if member.header_offset < 0 or member.header_offset + _LOCAL_HEADER_BYTES + member.compress_size > stop:
        return "it overlaps with what follows it"
    if member.file_size > MOST_RATIO * member.compress_size + BLOCK_BYTES:
        return f"it unpacks to {member.file_size:,} bytes from {member.compress_size:,}"
    return None


def _check_directory(path: Path) -> None:
    """Raise ArchiveError for a zip of many entries before :mod:`zipfile` reads its whole directory into memory."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _LONGEST_END_BYTES))
        tail = file.read()
    has_comment = tail[-22:-18] != _END or tail[-2:] != b"\0\0"
    start = tail.rfind(_END) if has_comment else len(tail) - 22
    if start < 0 or len(tail) < start + 22:
        raise ArchiveError(f"{path.name} is cut or damaged: it is not a zip", kind="cut")
    entries, directory_bytes = struct.unpack("<HI", tail[start + 10 : start + 16])
    is_large = start >= 20 and tail[start - 20 : start - 16] == _END_OF_ZIP64  # noqa: PLR2004 - its length
    if is_large or entries > MOST_ENTRIES or directory_bytes > MOST_ENTRIES * _LONGEST_ENTRY_BYTES:
        raise ArchiveError(f"{path.name} has more than {MOST_ENTRIES} entries", kind="shape")
