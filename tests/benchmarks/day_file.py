"""The day file in memory and on disk: load, merge and append, each against the guide's way with polars.

Load: :meth:`load_cached_trades` (which checks checksums, ids and nulls) against a bare ``read_parquet`` of the same
file. Merge: :func:`backfilld.core.merge.merge` against concat, unique, sort. Append: merging into the file and
replacing it safely (fsync, rename) against read, concat, unique, sort, write in place.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl

from backfilld.core.merge import merge
from backfilld.core.model import day_of
from backfilld.store.manager import BackfillCacheManager
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import medians_ms
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tapes import tape_of_today

TITLE = "Day file"
LOAD_CEILING_MS = 100
MERGE_CEILING_MS = 500
CEILING_ROWS = 100_000
"""The guide promises its ceilings for a day of so many trades."""


def measure(sizes: Sizes) -> list[Figure]:
    """All three, by the number of trades cached."""
    return [figure for rows in sizes.cached_rows for figure in _measure(rows, sizes)]


def _measure(rows: int, sizes: Sizes) -> list[Figure]:
    tape = tape_of_today(rows + sizes.new_rows)
    stored, tail = tape[:rows], tape[rows:]
    overlapping = tape[rows - sizes.new_rows // 2 : rows + sizes.new_rows // 2]
    ceiling = MERGE_CEILING_MS if rows == CEILING_ROWS else None
    return [
        _load(stored, sizes.rounds),
        _merge(f"merge {tail.height:,} at the tail", stored, tail, sizes.rounds, ceiling),
        _merge(f"merge {overlapping.height:,} overlapping by half", stored, overlapping, sizes.rounds, ceiling),
        _append(stored, tail, sizes.rounds, ceiling),
    ]


def _load(stored: pl.DataFrame, rounds: int) -> Figure:
    with tempfile.TemporaryDirectory() as directory:
        day, manager = day_of(stored["T"][0]), BackfillCacheManager(directory)
        path = manager.save_trades_to_cache(stored, day)
        ours, theirs = medians_ms(rounds, lambda: manager.load_cached_trades(day), lambda: pl.read_parquet(path))
    ceiling = LOAD_CEILING_MS if stored.height == CEILING_ROWS else None
    return Figure(f"{stored.height:,} cached: load", ours, "ms", "polars.read_parquet, same file", theirs, most=ceiling)


def _merge(name: str, stored: pl.DataFrame, new: pl.DataFrame, rounds: int, ceiling: float | None) -> Figure:
    if not merge(stored, new).trades.equals(_guide_merge(stored, new)):
        raise RuntimeError("the two ways to merge disagree")
    ours, theirs = medians_ms(rounds, lambda: merge(stored, new), lambda: _guide_merge(stored, new))
    return Figure(f"{stored.height:,} cached: {name}", ours, "ms", "concat, unique, sort", theirs, most=ceiling)


def _append(stored: pl.DataFrame, tail: pl.DataFrame, rounds: int, ceiling: float | None) -> Figure:
    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = medians_ms(rounds, _our_append(directory, stored, tail), _guide_append(directory, stored, tail))
    name = f"{stored.height:,} cached: append {tail.height:,}, fsync and rename included"
    return Figure(name, ours, "ms", "read, concat, unique, sort, write snappy", theirs, most=ceiling)


def _our_append(directory: str, stored: pl.DataFrame, tail: pl.DataFrame) -> Callable[[], object]:
    """Each time from the same file, which replacing leaves alone: another name keeps it."""
    day, manager = day_of(stored["T"][0]), BackfillCacheManager(directory)
    manager.append(day, stored)
    path, kept = manager.get_cache_path(day), Path(directory) / "kept"
    path.rename(kept)

    def append() -> None:
        path.unlink(missing_ok=True)
        path.hardlink_to(kept)
        manager.append(day, tail)

    return append


def _guide_append(directory: str, stored: pl.DataFrame, tail: pl.DataFrame) -> Callable[[], object]:
    before, after = Path(directory) / "before.parquet", Path(directory) / "after.parquet"
    stored.write_parquet(before, compression="snappy")
    return lambda: _guide_merge(pl.read_parquet(before), tail).write_parquet(after, compression="snappy")


def _guide_merge(stored: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([stored, new]).unique().sort("a")
