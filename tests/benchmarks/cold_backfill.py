"""A cold backfill of up to 16 hours over a slow line: the daemon against the guide's plan and against arithmetic.

Both run as processes against the same exchange, in turn. Start-up (the imports alone, in a process) is measured
separately and taken off where a figure says so. The bound is what five requests in flight allow when every page is full
and nothing takes time but the line.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.exchange import INSTRUMENT, ServedExchange, least_requests, served_exchange
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import Run, in_turn, median_of, run_process
from tests.benchmarks.sizes import Sizes

TITLE = "Cold backfill"
MOST_ROUNDS = 3
IN_FLIGHT = 5
GUIDE = "the guide's plan"
IMPORTS = "import backfilld.surfaces.cli, backfilld.surfaces.running"
GUIDE_IMPORTS = "import httpx, polars, trio"


@dataclass(frozen=True, slots=True)
class _Cold:
    """One cold backfill: its process, the requests it sent and the trades it held in the end."""

    run: Run
    requests: int
    trades: int


def measure(sizes: Sizes) -> list[Figure]:
    """Seconds, CPU, memory, requests and lost trades of both."""
    with served_exchange(sizes.day_rows, sizes.latency_s) as exchange:
        hours = (exchange.stop_ms - exchange.start_ms) / 3_600_000
        rounds = min(MOST_ROUNDS, sizes.process_rounds)
        daemon, guide = in_turn(rounds, lambda: _daemon_run(exchange), lambda: _guide_run(exchange))
    span = f"{sizes.day_rows:,} trades of {hours:.1f} h, {sizes.latency_s * 1000:.0f} ms away"
    return _time_figures(span, sizes, daemon, guide) + _cost_figures(sizes.day_rows, daemon, guide)


def _time_figures(span: str, sizes: Sizes, daemon: Sequence[_Cold], guide: Sequence[_Cold]) -> list[Figure]:
    start_up, guide_start_up = in_turn(
        sizes.process_rounds,
        lambda: run_process(["-c", IMPORTS]).seconds,
        lambda: run_process(["-c", GUIDE_IMPORTS]).seconds,
    )
    whole_s, guide_whole_s = (median_of(colds, lambda cold: cold.run.seconds) for colds in (daemon, guide))
    start_up_s, guide_start_up_s = median_of(start_up, float), median_of(guide_start_up, float)
    net_s, guide_net_s = whole_s - start_up_s, guide_whole_s - guide_start_up_s
    bound_s = least_requests(sizes.day_rows) / IN_FLIGHT * sizes.latency_s
    return [
        Figure(f"{span}: process start to exit", whole_s, "s", GUIDE, guide_whole_s, most_ratio=1),
        Figure("start-up, the imports alone", start_up_s, "s", GUIDE, guide_start_up_s),
        Figure("without start-up", net_s, "s", GUIDE, guide_net_s, most_ratio=1),
        Figure("without start-up", net_s, "s", f"full pages, {IN_FLIGHT} in flight, no CPU", bound_s),
    ]


def _cost_figures(rows: int, daemon: Sequence[_Cold], guide: Sequence[_Cold]) -> list[Figure]:
    cpu_s, guide_cpu_s = (median_of(colds, lambda cold: cold.run.cpu_s) for colds in (daemon, guide))
    peak_mb, guide_peak_mb = (median_of(colds, lambda cold: cold.run.peak_mb) for colds in (daemon, guide))
    requests, guide_requests = (median_of(colds, lambda cold: cold.requests) for colds in (daemon, guide))
    lost, guide_lost = (max(rows - cold.trades for cold in colds) for colds in (daemon, guide))
    return [
        Figure("CPU, start-up included", cpu_s, "s", GUIDE, guide_cpu_s),
        Figure("peak memory", peak_mb, "MB", GUIDE, guide_peak_mb),
        Figure("requests", requests, "", GUIDE, guide_requests),
        Figure("trades lost without a word", lost, "", GUIDE, guide_lost, most=0),
    ]


def _daemon_run(exchange: ServedExchange) -> _Cold:
    before = len(exchange.requests())
    with tempfile.TemporaryDirectory() as cache_dir:
        run = exchange.run_daemon(cache_dir)
    return _Cold(run, len(exchange.requests()) - before, exchange.rows)


def _guide_run(exchange: ServedExchange) -> _Cold:
    with tempfile.TemporaryDirectory() as directory:
        span = (str(exchange.start_ms), str(exchange.stop_ms))
        file = str(Path(directory) / "day.parquet")
        run = run_process(["-m", "tests.benchmarks.guide_plan", exchange.url, INSTRUMENT.symbol, *span, file])
    return _Cold(run, **json.loads(run.stdout))
