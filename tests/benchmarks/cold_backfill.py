"""A cold backfill of up to 16 hours over a slow line: the daemon against the guide's plan and against arithmetic.

Both run as processes against the same exchange, in turn. Start-up (the imports alone, in a process) is measured
separately and taken off where a figure says so. The bound is what five requests in flight allow when every page is full
and nothing takes time but the line.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.exchange import INSTRUMENT, ServedExchange, least_requests, served_exchange
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import Run, in_turn, median_of, run_process
from tests.benchmarks.sizes import Sizes

TITLE = "Cold backfill"
IN_FLIGHT = 5


@dataclass(frozen=True, slots=True)
class _Cold:
    """One cold backfill: its process, and what it asked for and held."""

    run: Run
    requests: int
    trades: int


def measure(sizes: Sizes) -> list[Figure]:
    """Seconds, requests and lost trades of both."""
    with served_exchange(sizes.day_rows, sizes.latency_s) as exchange:
        daemon, guide = in_turn(
            min(3, sizes.process_rounds), lambda: _daemon_run(exchange), lambda: _guide_run(exchange)
        )
    start_up, guide_start_up = in_turn(
        sizes.process_rounds,
        lambda: run_process(["-c", "import backfilld.surfaces.cli, backfilld.surfaces.running"]).seconds,
        lambda: run_process(["-c", "import httpx, polars, trio"]).seconds,
    )
    whole_s, guide_whole_s = (median_of(runs, lambda cold: cold.run.seconds) for runs in (daemon, guide))
    net_s = whole_s - median_of(start_up, float)
    guide_net_s = guide_whole_s - median_of(guide_start_up, float)
    bound_s = least_requests(sizes.day_rows) / IN_FLIGHT * sizes.latency_s
    span = f"{sizes.day_rows:,} trades, {sizes.latency_s * 1000:.0f} ms away"
    return [
        Figure(f"{span}: process start to exit", whole_s, "s", "the guide's plan", guide_whole_s, most_ratio=1),
        Figure("the same without start-up", net_s, "s", "the guide's plan", guide_net_s, most_ratio=1),
        Figure("the same without start-up", net_s, "s", f"full pages, {IN_FLIGHT} in flight, no CPU", bound_s),
        Figure(
            "requests",
            median_of(daemon, lambda cold: cold.requests),
            "",
            "the guide's plan",
            median_of(guide, lambda cold: cold.requests),
        ),
        Figure(
            "trades lost",
            max(sizes.day_rows - cold.trades for cold in daemon),
            "",
            "the guide's plan",
            max(sizes.day_rows - cold.trades for cold in guide),
            most=0,
        ),
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
