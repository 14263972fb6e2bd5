"""A hundred subscribers of one stream: how far behind a bare client of the exchange each message is."""

import tempfile
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.benchmarks.live_world import live_exchange
from tests.benchmarks.serve_world import clients, ended, percentile, serving_daemon
from tests.benchmarks.sizes import Sizes

TITLE = "Endpoint: a hundred subscribers"
SUBSCRIBERS = 100
RATE_PER_S = 500
PINGS_PER_S = 20
EXCHANGE = {"--trades": 5000, "--hours": 1, "--live-rate": RATE_PER_S}


def measure(sizes: Sizes) -> list[Figure]:
    """The lag of each delivery behind a bare client, pings meanwhile, and the daemon's CPU."""
    seconds = sizes.live_seconds / 2
    with tempfile.TemporaryDirectory() as directory, live_exchange(EXCHANGE) as urls:
        with serving_daemon(urls, Path(directory), {}) as serving:
            bare = clients("streams", urls[1].replace("ws://", "http://"), 1, seconds + 2)
            cpu_s = serving.daemon.cpu_s
            every = clients("streams", serving.stream_url, SUBSCRIBERS, seconds)
            alone = clients("ping", serving.url, seconds, PINGS_PER_S)
            pings = ended(alone)
            arrived, first = ended(every), ended(bare)
            cpu_s = serving.daemon.cpu_s - cpu_s
    shared = arrived.keys() & first.keys()
    lags_ms = [(each - first[name][0]) / 1e6 for name in shared for each in arrived[name]]
    if len(lags_ms) < 0.8 * seconds * RATE_PER_S / 10 * SUBSCRIBERS:
        raise RuntimeError(f"only {len(lags_ms)} deliveries were seen")
    about = f"{SUBSCRIBERS} subscribers, {RATE_PER_S} messages a second"
    against = f"a bare client of the exchange ({len(lags_ms):,} deliveries)"
    return [
        Figure(f"{about}: p50", percentile(lags_ms, 0.5), "ms", against),
        Figure(f"{about}: p99", percentile(lags_ms, 0.99), "ms", against, most=20.0),
        Figure("a ping meanwhile: p99", 1000 * percentile(pings, 0.99), "ms", most=50.0),
        Figure("CPU of the daemon, of one core", 100 * cpu_s / seconds, "%"),
    ]
