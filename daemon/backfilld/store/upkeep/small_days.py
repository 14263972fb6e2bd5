"""Many small day files inspected together: column by column over all of their rows, in place of file by file.

Owns the short way alone. It finds that a file is in every way as it claims, or that it has to be inspected by itself;
it never says what is wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from backfilld.core.day.anomalies import MARKER
from backfilld.core.day.certificate import Certificate
from backfilld.core.model import IdRange, Instrument, day_start_ms, day_stop_ms
from backfilld.core.timespan import StoredSpan
from backfilld.errors import BackfillError
from backfilld.store.format.day_reader import DayReader
from backfilld.store.format.digest import digest_of
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import NO_KEYS, KeyRing
from backfilld.store.upkeep.inspection import Inspected, inspect_day, misstatements

DayFile = tuple[Path, date, Instrument, Path]
"""A day file, its day, its instrument, and where its journal would be."""

SMALL_BYTES = 128 << 10
"""Above this the rows of a file take longer than what surrounds them."""

TOGETHER = 100
"""Files that are looked at together: some 10 MB of rows at most."""

_A_ROW_GROUP = 131_072


@dataclass(frozen=True, slots=True)
class _Small:
    """A file whose bytes are as they were written, and its rows."""

    place: int
    size: int
    facts: Certificate
    trades: pl.DataFrame


def inspect_days(files: Sequence[DayFile], keys: KeyRing = NO_KEYS) -> list[Inspected | None]:
    """The verdict on each file as :func:`inspect_day` gives it; None where there is no such file (any more)."""
    verdicts: dict[int, Inspected] = dict(_good_ones(files, keys))
    return [verdicts[place] if place in verdicts else inspect_day(*file, keys=keys) for place, file in enumerate(files)]


def _good_ones(files: Sequence[DayFile], keys: KeyRing) -> Iterator[tuple[int, Inspected]]:
    """The files that are small and have nothing wrong, by their place among the files."""
    small = [each for place, file in enumerate(files) if (each := _read(place, file, keys)) is not None]
    if not small:
        return
    for each, seen in zip(small, _seen(small), strict=True):
        _, day, instrument, _ = files[each.place]
        if _is_as_claimed(each, seen):
            yield each.place, Inspected(instrument, day, each.facts, each.trades.height, each.size, ())


def _read(place: int, file: DayFile, keys: KeyRing) -> _Small | None:
    """The rows of a small file without a hole; None for one that is to be looked at by itself."""
    path, day, instrument, journal = file
    try:
        size = path.stat().st_size
        if size > SMALL_BYTES or journal.exists():
            return None
        with DayReader(path, day, instrument, keys) as reader:
            facts = reader.checked()
            is_odd = len(facts.spans) > 1 or facts.rows > _A_ROW_GROUP
            if is_odd or (keys.writing is not None and reader.key is None):
                return None
            pieces = list(reader.pieces())
    except (BackfillError, UntrustedFile, OSError):
        return None
    return _Small(place, size, facts, pieces[0]) if len(pieces) == 1 else None


def _seen(small: Sequence[_Small]) -> list[dict[str, Any]]:
    """What the rows of each file say, in one pass over all of them."""
    facts = pl.DataFrame(
        {
            "file": range(len(small)),
            "rows": [each.trades.height for each in small],
            "start_ms": [day_start_ms(each.facts.day) for each in small],
            "stop_ms": [day_stop_ms(each.facts.day) for each in small],
        }
    )
    of_row = facts.select(pl.col("file", "start_ms", "stop_ms").repeat_by("rows").explode())
    rows = pl.concat([pl.concat([each.trades for each in small]), of_row], how="horizontal")
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


def _is_as_claimed(each: _Small, seen: dict[str, Any]) -> bool:
    if seen["wrong"] or seen["steps_by_one"] != seen["rows"] - 1:
        return False
    span = StoredSpan(IdRange(seen["first_id"], seen["last_id"]), seen["first_ms"], seen["last_ms"])
    odd = {name: seen[name] for name in ("markers", "zero_quantities", "time_inversions", "fl_breaks") if seen[name]}
    return not any(misstatements(each.facts, (span,), odd, lambda: digest_of(each.trades)))
