"""CPU and memory of the whole pipeline without latency: HTTP, gzip, decoding, checks, merging, checkpoints, Parquet.

The daemon is a process of its own; the exchange is another. The floor is the decoding of the same pages to frames and
nothing else. CPU between two sizes leaves start-up out.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.benchmarks.exchange import INSTRUMENT, ServedExchange, served_exchange
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import median_of, run_process
from tests.benchmarks.sizes import Sizes

TITLE = "CPU and memory of the pipeline"
MOST_GROWTH = 1.3
"""Of the peak, however long the backfill."""
MOST_PEAK_MB = {1_000_000: 245.0}
ONCE_ABOVE_ROWS = 1_000_000
"""Longer backfills are run once, the others several times: CPU is then the median, and the peak the highest."""


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a backfill of ``rows`` trades took, and the CPU a trade of decoding alone, measured beside it."""

    rows: int
    cpu_s: float
    peak_mb: float
    floor_us: float


def measure(sizes: Sizes) -> list[Figure]:
    """CPU per trade and peak memory, by the length of the backfill."""
    costs = [_cost(rows, 1 if rows > ONCE_ABOVE_ROWS else sizes.process_rounds) for rows in sizes.pipeline_rows]
    return _cpu_figures(costs) + _memory_figures(costs)


def _cost(rows: int, rounds: int) -> _Cost:
    with served_exchange(rows) as exchange:
        runs, floors_us = [], [_floor_us(exchange)]
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as cache_dir:
                runs.append(exchange.run_daemon(cache_dir))
            floors_us.append(_floor_us(exchange))
    return _Cost(
        rows=rows,
        cpu_s=median_of(runs, lambda run: run.cpu_s),
        peak_mb=max(run.peak_mb for run in runs),
        floor_us=median_of(floors_us, float),
    )


def _floor_us(exchange: ServedExchange) -> float:
    run = run_process(["-m", "tests.benchmarks.decode_floor", exchange.url, INSTRUMENT.symbol])
    return float(json.loads(run.stdout)["us_per_trade"])


def _cpu_figures(costs: Sequence[_Cost]) -> list[Figure]:
    def figure(name: str, cpu_s: float, trades: int, floor_us: float) -> Figure:
        return Figure(f"CPU a trade, {name}", cpu_s / trades * 1e6, "µs", "msgspec decode to frames", floor_us)

    whole = [figure(f"{c.rows:,} trades, start-up included", c.cpu_s, c.rows, c.floor_us) for c in costs]
    steps = [
        figure(f"from {less.rows:,} to {more.rows:,}", more.cpu_s - less.cpu_s, more.rows - less.rows, more.floor_us)
        for less, more in pairwise(costs)
    ]
    return whole + steps


def _memory_figures(costs: Sequence[_Cost]) -> list[Figure]:
    few = costs[0]
    least = [Figure(f"peak memory, {few.rows:,} trades", few.peak_mb, "MB", most=MOST_PEAK_MB.get(few.rows))]
    return least + [
        Figure(
            f"peak memory, {each.rows:,} trades",
            each.peak_mb,
            "MB",
            f"{before.rows:,} trades",
            before.peak_mb,
            MOST_PEAK_MB.get(each.rows),
            MOST_GROWTH if before is not few else None,
        )
        for before, each in pairwise(costs)
    ]
