"""Taking over flat day files without a certificate, as programs before this one wrote them.

Owns what is accepted of such a file, and how it goes into the cache. The originals are only read.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from backfilld.core.day.anomalies import MARKER
from backfilld.core.day.certificate import ADOPTED, day_starts
from backfilld.core.frame import SCHEMA
from backfilld.core.merge import deduplicate, merge
from backfilld.core.model import EARLIEST_MS, LATEST_MS, MAX_ID, MS_PER_DAY, day_of
from backfilld.errors import StoreError
from backfilld.store.format.footer import METADATA_KEY, UntrustedFile
from backfilld.store.manager import BackfillCacheManager

_TEXT = (pl.String(),)
_ACCEPTED = {
    "T": (pl.Datetime, *_TEXT),
    **dict.fromkeys("afl", _TEXT),
    **dict.fromkeys("pq", (pl.Decimal, *_TEXT)),
    "m": _TEXT,
    "M": (pl.Null(), *_TEXT),
}
"""What may stand for a column's own type, besides any integer for a number."""


class NotTaken(Exception):
    """The file cannot be taken over; the message says why."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of the rows of one file.

    ``rows`` were read, ``doubled`` of them collapsed, ``added`` are new in the cache; ``strays`` are the days other
    than the file's own, with their rows, which went to the files of those days; ``conflicts`` counts rows that differ
    from another under the same id, which stayed. ``days`` are those written.
    """

    path: Path
    day: date
    rows: int
    doubled: int
    added: int
    strays: dict[date, int]
    conflicts: int
    days: tuple[date, ...]


def adopt_file(manager: BackfillCacheManager, path: Path, day: date) -> Adopted:
    """Merge the file's trades into the cache. Raises NotTaken, and StoreError; of such a file nothing was taken, but
    for whole days before the one that the disk refused."""
    trades = read_legacy(path)
    merged = deduplicate(trades)
    cut = dict(_by_day(merged.trades))
    for each, rows in cut.items():
        manager.record(each)  # a stored file that cannot be trusted is moved aside first
        _refuse_strangers(manager, each, rows)
    added, conflicts = 0, merged.conflicts.height
    for each, rows in cut.items():
        appended = manager.append(each, rows, source=ADOPTED)
        added += appended.record.rows - appended.cached
        conflicts += appended.conflicts.height
    for each, rows in _by_day(merged.conflicts):
        # So that the certificate names these ids as well.
        manager.append(each, rows.unique("a", keep="first").sort("a"), source=ADOPTED)
    strays = {each: rows.height for each, rows in cut.items() if each != day}
    return Adopted(path, day, trades.height, merged.duplicates, added, strays, conflicts, tuple(sorted(cut)))


def join_days(manager: BackfillCacheManager, days: set[date]) -> list[date]:
    """Let the days and their neighbours prove each other's ends; return those that are sealed by it."""
    near = sorted({day + timedelta(days=n) for day in days for n in (-1, 0, 1)} & set(manager.days()))
    records = {day: record for day in near if (record := manager.record(day)) is not None}
    starts = day_starts(records.values())
    sealed = []
    for day, record in records.items():
        proven = record.proven_by(starts)
        if proven != record:
            manager.append(day, pl.DataFrame(schema=SCHEMA), starts)
        if proven.sealed and not record.sealed:
            sealed.append(day)
    return sealed


def read_legacy(path: Path) -> pl.DataFrame:
    """The rows of a flat file with the columns of SCHEMA, in the order of the file. Raises NotTaken.

    Numbers may be text, T a timestamp; M may be missing; other columns are left out.
    """
    table = _table(path)
    twice = [name for name in SCHEMA if table.column_names.count(name) > 1]
    if twice:
        raise NotTaken(f"it has the column {', '.join(twice)} twice")
    missing = [name for name in SCHEMA if name != "M" and name not in table.column_names]
    if missing:
        raise NotTaken(f"it has no column {', '.join(missing)}")
    table = table.select([name for name in SCHEMA if name in table.column_names])
    for column in table.schema:
        if not _is_flat(column.type):
            raise NotTaken(f"its column {column.name} is of the type {column.type}, which no such file has")
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise NotTaken("it is not a table")
    if "M" not in frame.columns:
        frame = frame.with_columns(M=pl.lit(value=True))
    typed = frame.select(_converted(frame, name) for name in SCHEMA)
    _check_rows(typed)
    return typed


def _table(path: Path) -> pa.Table:
    try:
        with _opened(path) as handle:
            file = pq.ParquetFile(handle, page_checksum_verification=True)
            if METADATA_KEY.encode() in (file.metadata.metadata or {}):
                raise NotTaken("backfilld wrote it: copy it into the directory of its instrument instead")
            return file.read().replace_schema_metadata(None)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise NotTaken(f"it cannot be read ({(str(error).splitlines() or [''])[0][:120]})") from error


def _opened(path: Path) -> BinaryIO:
    """The file, or the one that a link leads to. A pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotTaken("it is not a regular file")
    return os.fdopen(descriptor, "rb")


def _is_flat(kind: pa.DataType) -> bool:
    """Whether the values stand for themselves, one a row; polars panics at some types."""
    kinds = pa.types
    return (
        kinds.is_integer(kind)
        or kinds.is_floating(kind)
        or kinds.is_decimal128(kind)
        or kinds.is_boolean(kind)
        or kinds.is_timestamp(kind)
        or kinds.is_null(kind)
        or kind in {pa.string(), pa.large_string(), pa.string_view()}
    )


def _converted(frame: pl.DataFrame, name: str) -> pl.Series:
    column, wanted = frame[name], SCHEMA[name]
    number = name not in "mM" and column.dtype.is_integer()
    if column.dtype != wanted and not number and column.dtype not in _ACCEPTED[name]:
        raise NotTaken(f"its column {name} is of the type {column.dtype}, not {wanted}")
    if name == "M":
        column = column.cast(pl.String).fill_null("true")
    if isinstance(column.dtype, pl.Datetime):
        return column.dt.epoch("ms").alias(name)
    if name in "mM" and column.dtype == pl.String:
        column = column.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None)
    converted = column.cast(wanted, strict=False)
    bad = converted.is_null().arg_true()
    if bad.len():
        raise NotTaken(f"row {bad[0] + 1} has no {name} that can be read: {frame[name][bad[0]]!r}")
    return converted


def _check_rows(trades: pl.DataFrame) -> None:
    a, p, q, f, last, t = (pl.col(name) for name in ("a", "p", "q", "f", "l", "T"))
    rules = {
        f"an aggregate trade id that is not from 0 to {MAX_ID}": ~a.is_between(0, MAX_ID),
        "a T that is not a time in ms": ~(t.is_between(EARLIEST_MS, LATEST_MS) | MARKER),
        "a price that is not a positive number": ~(p.is_finite() & ((p > 0) | MARKER)),
        "a quantity that is not a number of 0 or more": ~(q.is_finite() & (q >= 0)),
        "trade ids f and l that are not a range": ~(((f >= 0) & (f <= last)) | MARKER),
    }
    for said, rule in rules.items():
        bad = trades.select(rule.arg_true()).to_series()
        if bad.len():
            raise NotTaken(f"row {bad[0] + 1} has {said}, id {trades['a'][bad[0]]}")
    if trades.is_empty():
        raise NotTaken("it has no rows")


def _by_day(trades: pl.DataFrame) -> Iterator[tuple[date, pl.DataFrame]]:
    """The rows of each day, by id; a marker, whose time means nothing, goes with the trade before it."""
    if trades.is_empty():
        return
    time = pl.when(MARKER).then(None).otherwise("T").forward_fill().backward_fill().fill_null(pl.col("T"))
    dated = trades.with_columns(_day=time // MS_PER_DAY)
    for rows in dated.partition_by("_day", maintain_order=True):
        yield day_of(int(rows["_day"][0]) * MS_PER_DAY), rows.drop("_day")


def _refuse_strangers(manager: BackfillCacheManager, day: date, rows: pl.DataFrame) -> None:
    """Refuse rows that cannot be of this instrument, by what the cache holds of it."""
    shared = differing = 0
    for group in manager.row_groups(day):
        met = merge(group, rows.filter(pl.col("a").is_between(group["a"][0], group["a"][-1])))
        shared += met.duplicates + met.conflicts.height
        differing += met.conflicts.height
    if differing * 2 > shared:
        raise NotTaken(f"{differing:,} of {shared:,} ids that the cache holds of {day} have other trades in it")
    first_id, last_id = rows["a"][0], rows["a"][-1]
    for other in manager.days():
        if other == day:
            continue
        try:
            facts = manager.facts(other)
        except (UntrustedFile, StoreError):
            continue
        if (facts.first_id >= first_id) if other < day else (facts.last_id <= last_id):
            raise NotTaken(
                f"its ids of {day}, {first_id} to {last_id}, are not {'above' if other < day else 'below'} "
                f"those that the cache holds of {other}, {facts.first_id} to {facts.last_id}"
            )
