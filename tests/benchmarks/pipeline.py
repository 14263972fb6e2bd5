"""CPU and memory of the whole pipeline without latency: HTTP, gzip, decoding, checks, merging, checkpoints, Parquet.

The daemon is a process of its own; the exchange is another. The floor is the decoding of the same pages to frames and
nothing else. CPU between two sizes leaves start-up out.
"""

import json
import tempfile
from collections.abc import Sequence
from itertools import pairwise

from tests.benchmarks.exchange import INSTRUMENT, served_exchange
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import Run, median_of, run_process
from tests.benchmarks.sizes import Sizes

TITLE = "CPU and memory of the pipeline"
MOST_GROWTH_MB = 150
FLOOR_ROUNDS = 3


def measure(sizes: Sizes) -> list[Figure]:
    """CPU per trade and peak memory, by the length of the backfill."""
    runs: list[Run] = []
    floors_us: list[float] = []
    for rows in sizes.pipeline_rows:
        with served_exchange(rows) as exchange, tempfile.TemporaryDirectory() as cache_dir:
            floors_us.append(_floor_us(exchange.url))
            runs.append(exchange.run_daemon(cache_dir))
            floors_us.append(_floor_us(exchange.url))
    floor_us = median_of(floors_us, float)
    return _cpu_figures(sizes.pipeline_rows, runs, floor_us) + _memory_figures(sizes.pipeline_rows, runs)


def _cpu_figures(rows: Sequence[int], runs: Sequence[Run], floor_us: float) -> list[Figure]:
    against = "msgspec decode to frames"
    figures = [
        Figure(f"CPU a trade, {n:,} trades, start-up included", run.cpu_s / n * 1e6, "µs", against, floor_us)
        for n, run in zip(rows, runs, strict=True)
    ]
    steps = [(n - m, m, n, after.cpu_s - before.cpu_s) for (m, before), (n, after) in pairwise(zip(rows, runs))]  # noqa: B905
    figures += [
        Figure(f"CPU a trade from {m:,} to {n:,}", cpu_s / more * 1e6, "µs", against, floor_us)
        for more, m, n, cpu_s in steps
    ]
    return figures


def _memory_figures(rows: Sequence[int], runs: Sequence[Run]) -> list[Figure]:
    peaks = [Figure(f"peak memory, {n:,} trades", run.peak_mb, "MB") for n, run in zip(rows, runs, strict=True)]
    growth_mb = runs[-1].peak_mb - runs[-2].peak_mb
    name = f"growth of the peak from {rows[-2]:,} to {rows[-1]:,} trades"
    return [*peaks, Figure(name, growth_mb, "MB", most=MOST_GROWTH_MB)]


def _floor_us(url: str) -> float:
    run = run_process(["-m", "tests.benchmarks.decode_floor", url, INSTRUMENT.symbol])
    return float(json.loads(run.stdout)["us_per_trade"])
