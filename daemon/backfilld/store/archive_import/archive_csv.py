"""The CSVs in a published zip as trade frames, in the order of the file.

Owns the shapes that the archive is known to have: with and without a header, with and without ``M``, ``True`` and
``true``, milliseconds and microseconds, several CSVs in one zip. A value that no row may have refuses the whole file,
naming line and column. Memory does not grow with the file. The order of the rows is not checked here.
"""

import math
import zipfile
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
from pyarrow import compute

from backfilld.core.frame import SCHEMA
from backfilld.core.model import INT64_MAX
from backfilld.core.text import plain
from backfilld.errors import ArchiveError
from backfilld.store.archive_import.archive_zip import BLOCK_BYTES, csvs, opened, unpacking
from backfilld.store.atomic import translated

T = TypeVar("T")

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


def trade_frames(path: Path) -> Generator[pl.DataFrame, None, None]:
    """The trades of every CSV in the zip, in the order of the file, their values checked. Close it when you end early.

    Raises ArchiveError for a zip that is cut or damaged, which may show only after the last frame, and for a CSV
    that is not one of trades; StoreError if the disk refuses.
    """
    with translated(path, "read"), opened(path) as archive:
        for member in csvs(archive, path):
            yield from _frames(archive, member, path)


def _frames(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Iterator[pl.DataFrame]:
    shape = _shape_of(archive, member, path)
    if shape is None:
        return
    try:
        with (
            unpacking(archive, member) as packed,
            closing(ahead(_blocks(packed, has_header=shape.has_header), "unpacker")) as blocks,
            closing(ahead(map(shape.checked, blocks), "parser")) as frames,
        ):
            yield from frames
    except (pa.ArrowInvalid, _Impossible) as error:
        place = _place_of_the_fault(archive, member, shape) or str(error).splitlines()[0][:200]
        raise ArchiveError(f"{path.name}: {plain(member.filename, 80)}: {plain(place)}", kind="value") from error


def _blocks(packed: IO[bytes], *, has_header: bool) -> Iterator[bytes]:
    """The text without its header in blocks that end where a line ends: each is parsed for itself."""
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
        if block and not block.isspace():
            yield block
    if is_first:
        rest = b"" if has_header else rest.removeprefix(_BOM)
    if rest.strip():
        yield rest


def ahead(items: Iterator[T], name: str) -> Generator[T, None, None]:
    """The same, the next one being made by a thread while the one before is used."""
    with ThreadPoolExecutor(1, name) as thread:
        pending = thread.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = thread.submit(next, items, None)
            yield item


# -- shapes


@dataclass(frozen=True, slots=True)
class _Shape:
    """How one CSV is laid out."""

    columns: tuple[str, ...]
    has_header: bool

    def checked(self, block: bytes) -> pl.DataFrame:
        """The rows of whole lines as trades, of which none is impossible."""
        frame = _typed(self.parsed(block))
        _refuse_impossible(frame)
        return frame

    def parsed(self, block: bytes) -> pa.Table:
        """The rows of whole lines. Nothing stands for a null, so an empty field is an error."""
        return pc.read_csv(
            cast("IO[bytes]", pa.BufferReader(block)),
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
        raise _Impossible("a value that is negative or not a number")


def _place_of_the_fault(archive: zipfile.ZipFile, member: zipfile.ZipInfo, shape: _Shape) -> str | None:
    """Where the first wrong value stands. Arrow does not say, so the text is gone through again, line by line, and to
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
            return f"column {COLUMNS[name]}: {field[:60]!r} is not a value of it"
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
