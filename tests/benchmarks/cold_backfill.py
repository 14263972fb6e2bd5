"""A cold backfill of 16 hours over a slow line: the daemon against the guide's plan and against arithmetic.

Both run as processes against the same exchange, in turn. Start-up (the imports alone, in a process) is measured
separately and taken off where a figure says so. The bound is what five requests in flight allow when every page is full
and nothing takes time but the line.
"""

import json
import tempfile
from collections.abc import Callable
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
"""What importing the same takes in a bare interpreter; the daemon's own entry point takes about 0.1 s less."""
GUIDE_IMPORTS = "import httpx, polars, trio"


@dataclass(frozen=True, slots=True)
class _Cold:
    """One cold backfill: its process, the seconds that the imports alone took right after it, the requests it sent and
    the trades it stored in the end."""

    run: Run
    start_up_s: float
    requests: int
    trades: int


def measure(sizes: Sizes) -> list[Figure]:
    """Seconds, CPU, memory, requests and lost trades of both."""
    with served_exchange(sizes.day_rows, sizes.latency_s) as exchange:
        hours = (exchange.stop_ms - exchange.start_ms) / 3_600_000
        rounds = min(MOST_ROUNDS, sizes.process_rounds)
        daemon, guide = in_turn(rounds, lambda: _daemon_run(exchange), lambda: _guide_run(exchange))
    span = f"{sizes.day_rows:,} trades of {hours:.1f} h, {sizes.latency_s * 1000:.0f} ms away"
    bound_s = least_requests(sizes.day_rows) / IN_FLIGHT * sizes.latency_s

    def beside(name: str, unit: str, figure: Callable[[_Cold], float], most_ratio: float | None = None) -> Figure:
        return Figure(name, median_of(daemon, figure), unit, GUIDE, median_of(guide, figure), most_ratio=most_ratio)

    net = beside("without start-up", "s", lambda cold: cold.run.seconds - cold.start_up_s, most_ratio=1 / 1.5)
    lost, guide_lost = (max(sizes.day_rows - cold.trades for cold in colds) for colds in (daemon, guide))
    return [
        beside(f"{span}: process start to exit", "s", lambda cold: cold.run.seconds),
        beside("start-up, the imports alone", "s", lambda cold: cold.start_up_s),
        net,
        Figure(net.name, net.value, "s", f"full pages, {IN_FLIGHT} in flight, no CPU", bound_s, most_ratio=1.25),
        beside("CPU, start-up included", "s", lambda cold: cold.run.cpu_s),
        beside("peak memory", "MB", lambda cold: cold.run.peak_mb),
        beside("requests", "", lambda cold: cold.requests),
        Figure("trades lost without a word", lost, "", GUIDE, guide_lost, most=0),
    ]


def _daemon_run(exchange: ServedExchange) -> _Cold:
    before = len(exchange.requests())
    with tempfile.TemporaryDirectory() as cache_dir:
        run = exchange.run_daemon(cache_dir)
    requests = len(exchange.requests()) - before
    return _Cold(run, run_process(["-c", IMPORTS]).seconds, requests, exchange.rows)


def _guide_run(exchange: ServedExchange) -> _Cold:
    with tempfile.TemporaryDirectory() as directory:
        span = (str(exchange.start_ms), str(exchange.stop_ms))
        file = str(Path(directory) / "day.parquet")
        run = run_process(["-m", "tests.benchmarks.guide_plan", exchange.url, INSTRUMENT.symbol, *span, file])
    return _Cold(run, run_process(["-c", GUIDE_IMPORTS]).seconds, **json.loads(run.stdout))
