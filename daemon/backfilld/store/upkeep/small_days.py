"""Many small day files inspected together: column by column over all of their rows, in place of file by file.

Owns the short way alone. It finds that a file is in every way as it claims, or that it has to be inspected by itself;
it never says what is wrong.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from backfilld.core.day.anomalies import MARKER
from backfilld.core.day.certificate import Certificate
from backfilld.core.frame import SCHEMA
from backfilld.core.model import IdRange, Instrument, day_start_ms, day_stop_ms
from backfilld.core.timespan import StoredSpan
from backfilld.errors import BackfillError, StoreError
from backfilld.store.atomic import is_there
from backfilld.store.format.day_reader import DayReader
from backfilld.store.format.digest import digests_of
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import NO_KEYS, KeyRing
from backfilld.store.format.plain_file import body_of, certificate_of
from backfilld.store.format.plain_footer import ROW_GROUP_ROWS
from backfilld.store.upkeep.inspection import Inspected, inspect_day, misstatements

DayFile = tuple[Path, date, Instrument, Path]
"""A day file, its day, its instrument, and where its journal would be."""

SMALL_BYTES = 128 << 10
"""Above this the rows of a file take longer than what surrounds them."""

TOGETHER_FILES = 500
TOGETHER_BYTES = 4 << 20
"""Files that are looked at together, at most, and their bytes: some 30 MB of rows."""


@dataclass(frozen=True, slots=True)
class _Small:
    """A file whose bytes are as they were written. Its rows are those of ``body``, or ``opened`` by a key."""

    place: int
    size: int
    facts: Certificate
    body: bytes = b""
    opened: pl.DataFrame | None = None


def groups_of(files: Iterable[tuple[DayFile, int]]) -> Iterator[list[DayFile]]:
    """The files, of which the sizes are known, in groups that are looked at together."""
    group: list[DayFile] = []
    total = 0
    for file, size in files:
        if group and (len(group) == TOGETHER_FILES or total + size > TOGETHER_BYTES):
            yield group
            group, total = [], 0
        group.append(file)
        total += size
    if group:
        yield group


def inspect_days(files: Sequence[DayFile], keys: KeyRing = NO_KEYS) -> list[Inspected | None]:
    """What :func:`inspect_day` finds of each file; None where there is no such file (any more)."""
    found: dict[int, Inspected] = dict(_good_ones(files, keys))
    return [found[place] if place in found else inspect_day(*file, keys=keys) for place, file in enumerate(files)]


def _good_ones(files: Sequence[DayFile], keys: KeyRing) -> Iterator[tuple[int, Inspected]]:
    """The files that are small and have nothing wrong, by their place among the files."""
    small = [each for place, file in enumerate(files) if (each := _read(place, file, keys)) is not None]
    rows = _rows_of(small) if small else None
    if rows is None:
        return
    digests = digests_of(rows, [each.facts.rows for each in small])
    for each, seen, digest in zip(small, _seen(_by_file(small, rows)), digests, strict=True):
        _, day, instrument, _ = files[each.place]
        if _is_as_claimed(each, seen, digest):
            yield each.place, Inspected(instrument, day, each.facts, each.facts.rows, each.size, ())


def _read(place: int, file: DayFile, keys: KeyRing) -> _Small | None:
    """A small file without a hole; None for one that is to be looked at by itself."""
    path, day, instrument, journal = file
    body = body_of(path, SMALL_BYTES)
    try:
        if body is None or is_there(journal):
            return None
    except StoreError:
        return None
    facts = certificate_of(body, day, instrument)
    if facts is None:
        return _opened(place, file, keys) if keys.keys else None
    is_plain_enough = keys.writing is None and len(facts.spans) == 1
    return _Small(place, len(body), facts, body) if is_plain_enough else None


def _opened(place: int, file: DayFile, keys: KeyRing) -> _Small | None:
    """The same of an encrypted file."""
    path, day, instrument, _ = file
    try:
        with DayReader(path, day, instrument, keys) as reader:
            facts = reader.checked()
            if reader.key is None or len(facts.spans) > 1 or facts.rows > ROW_GROUP_ROWS:
                return None
            trades = list(reader.pieces())
            size = len(reader.body())
    except (BackfillError, UntrustedFile, OSError):
        return None
    return _Small(place, size, facts, opened=trades[0]) if len(trades) == 1 else None


def _rows_of(small: Sequence[_Small]) -> pl.DataFrame | None:
    """The rows of all of the files; None if some cannot be decoded."""
    try:
        if all(each.opened is None for each in small):
            frame = pl.read_parquet([each.body for each in small], hive_partitioning=False).rechunk()
        else:
            frame = pl.concat([pl.read_parquet(each.body) if each.opened is None else each.opened for each in small])
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    is_whole = frame.height == sum(each.facts.rows for each in small) and not any(frame.null_count().row(0))
    return frame if is_whole and frame.schema == SCHEMA else None


def _by_file(small: Sequence[_Small], trades: pl.DataFrame) -> pl.DataFrame:
    """The rows of all files, each with its file and the ends of that file's day."""
    facts = pl.DataFrame(
        {
            "file": range(len(small)),
            "rows": [each.facts.rows for each in small],
            "start_ms": [day_start_ms(each.facts.day) for each in small],
            "stop_ms": [day_stop_ms(each.facts.day) for each in small],
        }
    )
    of_row = facts.select(pl.col("file", "start_ms", "stop_ms").repeat_by("rows").explode())
    return pl.concat([trades, of_row], how="horizontal")


def _seen(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """What the rows of each file say, in one pass over all of them."""
    is_number = pl.all_horizontal([pl.col(name).is_finite() & (pl.col(name) >= 0) for name in ("p", "q")])
    is_inside = pl.col("T").is_between(pl.col("start_ms"), pl.col("stop_ms"), closed="left")
    marker_before = pl.col("is_marker").shift()
    return (
        rows.lazy()
        .with_columns(is_marker=MARKER, is_wrong=~is_number | ~(MARKER | is_inside))
        .group_by("file", maintain_order=True)
        .agg(
            rows=pl.len(),
            first_ms=pl.col("T").first(),
            last_ms=pl.col("T").last(),
            first_id=pl.col("a").first(),
            last_id=pl.col("a").last(),
            steps_by_one=(pl.col("a").diff() == 1).sum(),
            wrong=pl.col("is_wrong").sum(),
            markers=pl.col("is_marker").sum(),
            zero_quantities=((pl.col("q") == 0) & ~pl.col("is_marker")).sum(),
            time_inversions=(pl.col("T").diff() < 0).sum(),
            fl_breaks=(
                (pl.col("a").diff() == 1)
                & ~pl.col("is_marker")
                & ~marker_before
                & (pl.col("f") - pl.col("l").shift() != 1)
            ).sum(),
        )
        .collect()
        .to_dicts()
    )


def _is_as_claimed(each: _Small, seen: dict[str, Any], digest: str) -> bool:
    if seen["wrong"] or seen["steps_by_one"] != seen["rows"] - 1:
        return False
    span = StoredSpan(IdRange(seen["first_id"], seen["last_id"]), seen["first_ms"], seen["last_ms"])
    odd = {name: seen[name] for name in ("markers", "zero_quantities", "time_inversions", "fl_breaks") if seen[name]}
    return not any(misstatements(each.facts, (span,), odd, lambda: digest))
