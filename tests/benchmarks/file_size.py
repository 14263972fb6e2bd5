"""Bytes a trade on disk: our day files, by codec, against polars' snappy Parquet of the same trades.

Generated trades repeat prices and quantities somewhat more than real ones do, and the roughened ones never do: a real
day lies between the two.
"""

import tempfile
from pathlib import Path

import polars as pl

from backfilld.core.model import day_of
from backfilld.store.format.dayfile import Encoding
from backfilld.store.manager import BackfillCacheManager
from tests.benchmarks.figures import Figure
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tapes import roughened, tape_of_today

TITLE = "File size"
ENCODINGS = {"zstd": Encoding("zstd"), "snappy": Encoding("snappy")}


def measure(sizes: Sizes) -> list[Figure]:
    """Both codecs on both tapes, for the largest number of trades."""
    tape = tape_of_today(sizes.cached_rows[-1])
    name = f"{tape.height:,} trades"
    return [*_sizes(f"{name}, generated", tape), *_sizes(f"{name}, roughened", roughened(tape))]


def _sizes(name: str, tape: pl.DataFrame) -> list[Figure]:
    reference = _polars_bytes(tape) / tape.height
    return [
        Figure(
            f"{name}: bytes a trade, {codec}",
            _our_bytes(tape, encoding) / tape.height,
            "B",
            "polars, snappy",
            reference,
        )
        for codec, encoding in ENCODINGS.items()
    ]


def _our_bytes(tape: pl.DataFrame, encoding: Encoding) -> int:
    with tempfile.TemporaryDirectory() as directory:
        return BackfillCacheManager(directory, encoding=encoding).append(day_of(tape["T"][0]), tape).bytes


def _polars_bytes(tape: pl.DataFrame) -> int:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "polars.parquet"
        tape.write_parquet(path, compression="snappy")
        return path.stat().st_size
