"""How long after the exchange's own stream a trade is in a subscriber's hands, while older days are backfilled.

The exchange, the daemon and every subscriber are processes of their own. All subscribers listen at the same time to the
same trades; each is compared with a bare WebSocket client, trade by trade, which takes the network and the machine out.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

from tests.benchmarks.ceiling import RIVALS
from tests.benchmarks.exchange import INSTRUMENT
from tests.benchmarks.figures import Figure
from tests.benchmarks.live_world import live_daemon, live_exchange
from tests.benchmarks.sizes import Sizes

TITLE = "Live: from the exchange's stream to a subscriber"
RATE_PER_S = 200
SETTLE_S = 4.0
ATTACHED_WITHIN_S = 60.0
EXCHANGE = {"--days": 3, "--daily-trades": 400_000, "--live-rate": RATE_PER_S, "--latency": 0.1, "--archive-delay": 1e7}
"""Answers take a while and the archive is empty, so that the backfill goes on."""

DAEMON = {"BACKFILL_DAYS": "3", "BACKFILL_MAX_CONCURRENT": "2"}
BINS_MS = (1, 2, 5, 10, 20, 50, 100)

_SCRIPT = Path(__file__).with_name("live_subscribers.py")


def measure(sizes: Sizes) -> list[Figure]:
    """The lag of ``follow`` and of rivals behind a bare client, in ms, and the daemon's CPU."""
    seconds = sizes.live_seconds
    with tempfile.TemporaryDirectory() as directory, live_exchange(EXCHANGE) as urls:
        with live_daemon(urls, Path(directory), DAEMON) as daemon:
            daemon.await_attached(1, ATTACHED_WITHIN_S)
            cpu_s = daemon.cpu_s
            arrived = _subscribed(urls, daemon.cache_dir, seconds)
            cpu_s = daemon.cpu_s - cpu_s
            if b'"backfill_completed"' in daemon.log.read_bytes():
                raise RuntimeError("the backfill of older days was over before the measurement was")
    bare = arrived.pop("websockets")
    figures = [Figure("CPU of the daemon, of one core", 100 * cpu_s / (seconds + SETTLE_S), "%")]
    for name, times in arrived.items():
        figures += _figures(name, times, bare)
    return figures


def _figures(name: str, times: dict[str, int], bare: dict[str, int]) -> Iterator[Figure]:
    lags_ms = sorted((times[each] - bare[each]) / 1e6 for each in times.keys() & bare.keys())
    if len(lags_ms) < RATE_PER_S:
        raise RuntimeError(f"{name} got {len(lags_ms)} of {len(bare)} trades")
    cuts = quantiles(lags_ms, n=100)
    goals = {50: 5.0, 99: 50.0} if name.startswith("follow") else {}
    against = f"a bare client ({len(lags_ms):,} trades)"
    for at in (50, 99):
        yield Figure(f"{name}: p{at}", cuts[at - 1], "ms", against, most=goals.get(at))
    yield Figure(f"{name}: {_histogram(lags_ms)}", lags_ms[-1], "ms at most")


def _histogram(lags_ms: list[float]) -> str:
    """The share of the trades up to each bound."""
    shares = [100 * sum(lag <= bound for lag in lags_ms) / len(lags_ms) for bound in BINS_MS]
    return ", ".join(f"≤{bound} ms {share:.1f} %" for bound, share in zip(BINS_MS, shares, strict=True))


def _subscribed(urls: tuple[str, str], cache: Path, seconds: float) -> dict[str, dict[str, int]]:
    """When each trade arrived, by subscriber; without those whose library is not installed."""
    url, stream_url = urls
    kinds = {"websockets": (sys.executable, stream_url), "follow": (sys.executable, str(cache))}
    for library, variable in RIVALS.items():
        place = f"{stream_url} {url}" if library == "ccxt" else stream_url
        kinds[library] = (os.environ.get(variable, sys.executable), place)
    processes = {
        kind: subprocess.Popen(
            [python, str(_SCRIPT), kind, place, INSTRUMENT.symbol, str(seconds + SETTLE_S)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind, (python, place) in kinds.items()
    }
    arrived = {}
    for kind, process in processes.items():
        said = json.loads(process.communicate(timeout=seconds + 60)[0] or "null")
        if said is not None:
            arrived[kind if kind == "websockets" else f"{kind} {said['version']}"] = said["arrived"]
    return arrived
