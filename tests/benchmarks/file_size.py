"""Bytes a trade on disk: our day files, by codec, against polars' snappy Parquet of the same trades."""

import tempfile
from pathlib import Path

import polars as pl

from backfilld.cache import BackfillCacheManager
from backfilld.cache.dayfile import Encoding
from backfilld.core.model import day_of
from tests.benchmarks.figures import Figure
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tapes import tape_of_today

TITLE = "File size"


def measure(sizes: Sizes) -> list[Figure]:
    """Both codecs, for the largest number of trades."""
    tape = tape_of_today(sizes.cached_rows[-1])
    reference = _polars_bytes(tape) / tape.height
    encodings = {"zstd": Encoding("zstd"), "snappy": Encoding("snappy")}
    return [
        Figure(
            f"bytes a trade, {codec}, {tape.height:,} trades",
            _our_bytes(tape, encoding) / tape.height,
            "B",
            "polars, snappy",
            reference,
        )
        for codec, encoding in encodings.items()
    ]


def _our_bytes(tape: pl.DataFrame, encoding: Encoding) -> int:
    with tempfile.TemporaryDirectory() as directory:
        return BackfillCacheManager(directory, encoding=encoding).append(day_of(tape["T"][0]), tape).bytes


def _polars_bytes(tape: pl.DataFrame) -> int:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "polars.parquet"
        tape.write_parquet(path, compression="snappy")
        return path.stat().st_size
