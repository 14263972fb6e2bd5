"""The CSVs in a published zip as trade frames, in the order of the file.

Owns the shapes that the archive is known to have: with and without a header, with and without ``M``, ``True`` and
``true``, milliseconds and microseconds, several CSVs in one zip. A value that no row may have refuses the whole file,
naming line and column. Memory does not grow with the file. What order the rows are in is not looked at.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
from pyarrow import compute

from backfilld.core.frame import SCHEMA
from backfilld.core.model import INT64_MAX
from backfilld.core.text import plain
from backfilld.errors import ArchiveError
from backfilld.store.atomic import translated

BLOCK_BYTES = 1 << 21
"""What is parsed at once: some 25,000 rows: with twice as many it is a tenth faster and takes 100 MB more."""

MOST_ENTRIES = 16
"""Entries of a zip; the archive's have one, some had two."""

MOST_CSV_BYTES = 2 << 30
"""Bytes that a zip may unpack to: a day of 2 million trades has 137 MB."""

MOST_RATIO = 100
"""How much larger than its packed form a member may be; CSVs of trades are six times as large."""

_END, _END_OF_ZIP64 = b"PK\x05\x06", b"PK\x06\x07"
_LONGEST_END_BYTES = 22 + 65_535 + 20
_LONGEST_ENTRY_BYTES = 4096
_LOCAL_HEADER_BYTES = 30

MICROSECONDS_FROM = 10**14
"""A time from here on is in microseconds: in milliseconds it would lie in the year 5138."""

COLUMNS = {
    "a": "agg_trade_id",
    "p": "price",
    "q": "quantity",
    "f": "first_trade_id",
    "l": "last_trade_id",
    "T": "transact_time",
    "m": "is_buyer_maker",
    "M": "is_best_match",
}
"""The columns in the order of the CSV, with the names that headers give them; futures lack the last one."""

_ARROW_TYPES = {"T": pa.int64(), "p": pa.float64(), "q": pa.float64(), "m": pa.bool_(), "M": pa.bool_()}
_TRUE, _FALSE = ["True", "true", "TRUE"], ["False", "false", "FALSE"]
_BOM = b"\xef\xbb\xbf"
_LONGEST_LINE_BYTES = 4096
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    UnicodeDecodeError,
    ValueError,
    OverflowError,
)
"""What :mod:`zipfile` raises on a zip that is cut, damaged, encrypted or packed in some way it does not know."""


def trade_frames(path: Path) -> Generator[pl.DataFrame, None, None]:
    """The trades of every CSV in the zip, in the order of the file, their values checked. Close it when you end early.

    Raises ArchiveError for a zip that is cut or damaged, which may show only after the last frame, and for a CSV that
    is none of trades; StoreError if the disk refuses.
    """
    with translated(path, "read"), _damage_named(path):
        _check_directory(path)
        yield from _frames_of(path)


def _frames_of(path: Path) -> Iterator[pl.DataFrame]:
    with zipfile.ZipFile(path) as archive:
        for member in _csvs(archive, path):
            yield from _frames(archive, member, path)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault; a decompressor raises OSError without a number
        reason = plain(str(error)) or "it cannot be unpacked"
        raise ArchiveError(f"{path.name} is cut or damaged: {reason}", kind="cut") from error


def _csvs(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
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


def _frames(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Iterator[pl.DataFrame]:
    shape = _shape_of(archive, member, path)
    if shape is None:
        return
    try:
        with archive.open(member) as packed:
            for block in _blocks(packed, has_header=shape.has_header):
                frame = _typed(shape.parsed(block))
                _refuse_impossible(frame)
                yield frame
    except (pa.ArrowInvalid, _Impossible) as error:
        place = _place_of_the_fault(archive, member, shape) or str(error).splitlines()[0][:200]
        raise ArchiveError(f"{path.name}: {plain(member.filename, 80)}: {plain(place)}", kind="value") from error


def _blocks(packed: IO[bytes], *, has_header: bool) -> Iterator[bytes]:
    """The text without its header in blocks that end where a line ends: each is parsed for itself, on this thread."""
    rest, is_first = b"", True
    while chunk := packed.read(BLOCK_BYTES):
        text = rest + chunk
        end = text.rfind(b"\n") + 1
        if not end and len(text) > BLOCK_BYTES:
            raise _Impossible(f"a line is longer than {BLOCK_BYTES:,} bytes")
        block, rest = text[:end], text[end:]
        if is_first and block:
            block, is_first = block.removeprefix(_BOM), False
            block = block.partition(b"\n")[2] if has_header else block
        if block.strip():
            yield block
    if is_first:
        rest = b"" if has_header else rest.removeprefix(_BOM)
    if rest.strip():
        yield rest


# -- shapes


@dataclass(frozen=True, slots=True)
class _Shape:
    """How one CSV is laid out."""

    columns: tuple[str, ...]
    has_header: bool

    def parsed(self, block: bytes) -> pa.Table:
        """The rows of whole lines. Nothing stands for a null, so an empty field is an error."""
        return pc.read_csv(
            io.BytesIO(block),
            pc.ReadOptions(column_names=list(self.columns), use_threads=False, block_size=len(block) + 1),
            pc.ParseOptions(quote_char=False),
            pc.ConvertOptions(
                column_types={name: _ARROW_TYPES.get(name, pa.int64()) for name in self.columns},
                null_values=[],
                true_values=_TRUE,
                false_values=_FALSE,
            ),
        )


def _shape_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> _Shape | None:
    """The shape by the first line: it is a header iff it does not begin with a digit. None for a file without rows."""
    with archive.open(member) as stream:
        beginning = stream.read(_LONGEST_LINE_BYTES).removeprefix(_BOM)
    line, _, rest = beginning.partition(b"\n")
    has_header = not beginning[:1].isdigit()
    if not (rest if has_header else beginning).strip():
        return None
    fields = [field.strip() for field in line.decode(errors="replace").split(",")]
    columns = tuple(COLUMNS)[: len(fields)]
    if len(fields) not in {len(COLUMNS), len(COLUMNS) - 1} or (has_header and not _fits(fields)):
        raise ArchiveError(
            f"{path.name}: {plain(member.filename, 80)} begins with {line[:120]!r}: "
            f"the columns of aggregate trades are {', '.join(COLUMNS.values())}, the last one optional",
            kind="shape",
        )
    return _Shape(columns, has_header)


def _fits(header: list[str]) -> bool:
    """Whether every name that is known stands in its place."""
    names = list(COLUMNS.values())
    return all(name == names[place] for place, name in enumerate(header) if name in names)


# -- values


class _Impossible(Exception):
    """A value that no row may have."""


def _typed(table: pa.Table) -> pl.DataFrame:
    """The columns of SCHEMA, times in ms. Arrow's arithmetic, for polars' wakes its thread pool for each batch."""
    (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    columns = {name: batch.column(name) for name in batch.schema.names}
    columns["T"] = _in_ms(columns["T"])
    columns.setdefault("M", pa.repeat(True, batch.num_rows))
    frame = pl.from_arrow(pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA], names=list(SCHEMA)))
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"polars makes no frame of {type(batch)}")
    return frame


def _in_ms(times: "pa.Array[Any]") -> "pa.Array[Any]":
    """µs become ms by integer division; each value's unit follows from its magnitude."""
    lowest, highest = (compute.min_max(times)[name].as_py() or 0 for name in ("min", "max"))
    if highest < MICROSECONDS_FROM:
        return times
    divided = compute.divide(times, pa.scalar(1000))
    if lowest >= MICROSECONDS_FROM:
        return divided
    return cast(
        "pa.Array[Any]", compute.if_else(compute.greater_equal(times, pa.scalar(MICROSECONDS_FROM)), divided, times)
    )


def _refuse_impossible(frame: pl.DataFrame) -> None:
    """Nothing here wakes polars' thread pool, which costs more than the comparisons."""
    if frame.is_empty():
        return
    lowest = {"T": 0, "a": 0, "p": 0, "q": 0, "f": -1, "l": -1}
    within = all(frame[name].min() >= least for name, least in lowest.items())  # type: ignore[operator]
    # NaN and the infinities survive a sum.
    if not (within and math.isfinite(frame["p"].sum()) and math.isfinite(frame["q"].sum())):
        raise _Impossible("a value that is negative or no number")


def _place_of_the_fault(archive: zipfile.ZipFile, member: zipfile.ZipInfo, shape: _Shape) -> str | None:
    """Where the first wrong value stands. Arrow does not tell, so the text is gone through again, line by line, and to
    its end: if it is not the text that was packed, the zip is to blame."""
    place = None
    with archive.open(member) as stream:
        number = 0
        while place is None and (line := stream.readline(_LONGEST_LINE_BYTES)):
            number += 1
            text = line.removeprefix(_BOM).decode(errors="replace").rstrip("\r\n")
            if text and not (shape.has_header and number == 1) and (fault := _fault_in(text, shape.columns)):
                place = f"line {number}, {fault}"
        while stream.read(BLOCK_BYTES):
            pass
    return place


def _fault_in(line: str, columns: tuple[str, ...]) -> str | None:
    fields = line.split(",")
    if len(fields) != len(columns):
        return f"{line[:120]!r}: {len(fields)} columns where the first line has {len(columns)}"
    for name, field in zip(columns, fields, strict=True):
        if not _is_possible(name, field):
            return f"column {COLUMNS[name]}: {field[:60]!r} is no value of it"
    return None


def _is_possible(name: str, field: str) -> bool:
    if name in {"m", "M"}:
        return field in _TRUE or field in _FALSE
    read: Callable[[str], float] = float if name in {"p", "q"} else int
    try:
        value = read(field)
    except ValueError:
        return False
    return (-1 if name in {"f", "l"} else 0) <= value <= INT64_MAX and field.strip() == field
