"""Pages of a stored day from the endpoint: what one costs, and how late it is while older days are fetched and saved.

Beside each figure stands a server on the same stack that has the bytes ready.
"""

import tempfile
from pathlib import Path
from statistics import median

from tests.benchmarks.figures import Figure
from tests.benchmarks.live_world import LiveDaemon, live_exchange
from tests.benchmarks.serve_world import (
    ServingDaemon,
    clients,
    ended,
    percentile,
    reference_server,
    serving_daemon,
)
from tests.benchmarks.sizes import Sizes

TITLE = "Endpoint: pages of 1,000 stored trades"
CONNECTIONS = 8
RATE_PER_S = 100
PINGS_PER_S = 20
EXCHANGE = {"--days": 4, "--daily-trades": 400_000, "--live-rate": 20, "--latency": 0.1, "--archive-delay": 1e7}
BUSY = {"BACKFILL_DAYS": "4", "BACKFILL_MAX_CONCURRENT": "2", "BACKFILL_CHECKPOINT_SECONDS": "2"}
QUIET = {"BACKFILL_DAYS": "1"}


def measure(sizes: Sizes) -> list[Figure]:
    """CPU a page, and how late pages and pings are at a steady rate beside a backfill with a checkpoint every 2 s."""
    seconds = sizes.live_seconds / 5
    with tempfile.TemporaryDirectory() as directory, live_exchange(EXCHANGE) as urls, reference_server() as reference:
        with serving_daemon(urls, Path(directory), QUIET) as serving:
            stored = _stored(serving)
            rounds = [_costs(serving, stored, reference, seconds) for _ in range(3)]
        figures = [
            Figure(
                "CPU a page (500 a second of one core are 2 ms)",
                median(each[0] for each in rounds),
                "ms",
                "a server with the bytes ready",
                median(each[1] for each in rounds),
                most=2.0,
            ),
            Figure(
                "wall time a page, 8 connections",
                median(each[2] for each in rounds),
                "ms",
                "the same",
                median(each[3] for each in rounds),
            ),
        ]
        with serving_daemon(urls, Path(directory), BUSY) as serving:
            late = [_late(serving.url, reference[0], stored, seconds) for _ in range(3)]
            if b'"backfill_completed"' in serving.daemon.log.read_bytes():
                raise RuntimeError("the backfill of older days was over before the measurement was")
    return figures + [_lateness(late, *about) for about in LATENESS]


LATENESS = (
    (f"{RATE_PER_S} pages a second beside a backfill: p50", 0, 0.5, None),
    (f"{RATE_PER_S} pages a second beside a backfill: p99", 0, 0.99, 20.0),
    ("a ping meanwhile: p99", 1, 0.99, 50.0),
    ("a ping meanwhile: at most", 1, 1.0, None),
)


def _lateness(late: list[list[list[float]]], name: str, which: int, part: float, most: float | None) -> Figure:
    """Medians over the rounds."""
    ours, theirs = (median(percentile(each[at], part) for each in late) for at in (which, which + 2))
    return Figure(name, 1000 * ours, "ms", "the server with the bytes ready", 1000 * theirs, most=most)


def _late(url: str, reference_url: str, stored: range, seconds: float) -> list[list[float]]:
    """How late pages and pings of the endpoint and of the reference are, one after the other."""
    found: list[list[float]] = []
    for each in (url, reference_url):
        pages = clients("pages", each, stored.start, stored.stop, seconds, 4, RATE_PER_S)
        pings = clients("ping", each, seconds, PINGS_PER_S)
        found += [ended(pages), ended(pings)]
    return found


def _costs(
    serving: ServingDaemon, stored: range, reference: tuple[str, int], seconds: float
) -> tuple[float, float, float, float]:
    """CPU a page of the endpoint and of the reference, and wall time, in ms."""
    cpu, wall = [], []
    for url, pid in ((serving.url, serving.daemon.pid), reference):
        process = LiveDaemon(pid, Path(), Path())
        before = process.cpu_s
        took = ended(clients("pages", url, stored.start, stored.stop, seconds, CONNECTIONS, 0))
        cpu.append(1000 * (process.cpu_s - before) / len(took))
        wall.append(1000 * seconds / len(took))
    return cpu[0], cpu[1], wall[0], wall[1]


def _stored(serving: ServingDaemon) -> range:
    """Ids of stored trades: of the newest 300,000 those that come from the cache."""
    newest = serving.newest_id()
    first = newest - 300_000
    serving.daemon.await_logged(b'"backfill_completed"', 60)
    if serving.source_of(first) != "cache":
        raise RuntimeError("the day is not stored")
    return range(first, newest - 20_000)
