"""Hundreds of instruments on one connection: what following them costs, and whether memory grows."""

import tempfile
import time
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.benchmarks.live_world import live_daemon, live_exchange
from tests.benchmarks.sizes import Sizes

TITLE = "Live: many instruments"
INSTRUMENTS = 300
RATE_PER_S = 2000
ATTACHED_WITHIN_S = 180.0
SETTLE_S = 15.0


def measure(sizes: Sizes) -> list[Figure]:
    """Percent of a core, and the growth of resident memory in the second half of the time."""
    names = [f"spot:COIN{number:03}USDT" for number in range(INSTRUMENTS)]
    options = {"--trades": 200, "--hours": 1, "--live-rate": RATE_PER_S / INSTRUMENTS}
    with tempfile.TemporaryDirectory() as directory, live_exchange(options, names) as urls:
        with live_daemon(urls, Path(directory), names=names) as daemon:
            daemon.await_attached(INSTRUMENTS, ATTACHED_WITHIN_S)
            time.sleep(SETTLE_S)
            cpu_s, memory_mb = daemon.cpu_s, []
            for _ in range(2):
                time.sleep(sizes.live_seconds / 2)
                memory_mb.append(daemon.resident_mb)
            cpu_s = daemon.cpu_s - cpu_s
        overflows = daemon.log.read_bytes().count(b'"live_overflowed"')
    about = f"{INSTRUMENTS} instruments, {RATE_PER_S:,} messages a second"
    return [
        Figure(f"{about}: CPU of one core", 100 * cpu_s / sizes.live_seconds, "%", most=40.0),
        Figure("memory at the end", memory_mb[1], "MB", "half of the time before", memory_mb[0], most_ratio=1.1),
        Figure("overflows", overflows, "", most=0.0),
    ]
