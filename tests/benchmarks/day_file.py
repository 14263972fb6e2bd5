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
    held, tail = tape[:rows], tape[rows:]
    overlapping = tape[rows - sizes.new_rows // 2 : rows + sizes.new_rows // 2]
    ceiling = MERGE_CEILING_MS if rows == CEILING_ROWS else None
    return [
        _load(held, sizes.rounds),
        _merge(f"merge {tail.height:,} at the tail", held, tail, sizes.rounds, ceiling),
        _merge(f"merge {overlapping.height:,} overlapping by half", held, overlapping, sizes.rounds, ceiling),
        _append(held, tail, sizes.rounds, ceiling),
    ]


def _load(held: pl.DataFrame, rounds: int) -> Figure:
    with tempfile.TemporaryDirectory() as directory:
        day, manager = day_of(held["T"][0]), BackfillCacheManager(directory)
        path = manager.save_trades_to_cache(held, day)
        ours, theirs = medians_ms(rounds, lambda: manager.load_cached_trades(day), lambda: pl.read_parquet(path))
    ceiling = LOAD_CEILING_MS if held.height == CEILING_ROWS else None
    return Figure(f"{held.height:,} cached: load", ours, "ms", "polars.read_parquet, same file", theirs, most=ceiling)


def _merge(name: str, held: pl.DataFrame, new: pl.DataFrame, rounds: int, ceiling: float | None) -> Figure:
    if not merge(held, new).trades.equals(_guide_merge(held, new)):
        raise RuntimeError("the two ways to merge disagree")
    ours, theirs = medians_ms(rounds, lambda: merge(held, new), lambda: _guide_merge(held, new))
    return Figure(f"{held.height:,} cached: {name}", ours, "ms", "concat, unique, sort", theirs, most=ceiling)


def _append(held: pl.DataFrame, tail: pl.DataFrame, rounds: int, ceiling: float | None) -> Figure:
    with tempfile.TemporaryDirectory() as directory:
        ours, theirs = medians_ms(rounds, _our_append(directory, held, tail), _guide_append(directory, held, tail))
    name = f"{held.height:,} cached: append {tail.height:,}, fsync and rename included"
    return Figure(name, ours, "ms", "read, concat, unique, sort, write snappy", theirs, most=ceiling)


def _our_append(directory: str, held: pl.DataFrame, tail: pl.DataFrame) -> Callable[[], object]:
    """Each time from the same file, which replacing leaves alone: another name keeps it."""
    day, manager = day_of(held["T"][0]), BackfillCacheManager(directory)
    manager.append(day, held)
    path, kept = manager.get_cache_path(day), Path(directory) / "kept"
    path.rename(kept)

    def append() -> None:
        path.unlink(missing_ok=True)
        path.hardlink_to(kept)
        manager.append(day, tail)

    return append


def _guide_append(directory: str, held: pl.DataFrame, tail: pl.DataFrame) -> Callable[[], object]:
    before, after = Path(directory) / "before.parquet", Path(directory) / "after.parquet"
    held.write_parquet(before, compression="snappy")
    return lambda: _guide_merge(pl.read_parquet(before), tail).write_parquet(after, compression="snappy")


def _guide_merge(held: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([held, new]).unique().sort("a")
