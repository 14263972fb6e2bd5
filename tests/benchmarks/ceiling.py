"""How much of the exchange's ceiling is reached, and how often it says 429: the daemon and two popular libraries.

Each meets an exchange of its own, with equal trades and Binance's weights of spot, but in windows of ten seconds (1,000
per 10 s are 6,000 a minute). The weight is the exchange's own count, in its full windows: those between the first and
the last in which something arrived. 100 % is the limit times the daemon's default share.

The libraries know of no share and ask one request after the other: beyond 100 % they take what the share leaves to
other programs on the IP. After a 429 they wait as long as it says, which neither does by itself. They run where an
interpreter has them: the one that ``BENCH_CCXT_PYTHON`` or ``BENCH_PYTHON_BINANCE_PYTHON`` names, by default this one.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from backfilld.settings import Settings
from tests.benchmarks.exchange import INSTRUMENT, ServedExchange, served_exchange
from tests.benchmarks.figures import Figure
from tests.benchmarks.sizes import Sizes

TITLE = "The exchange's ceiling"
LIMIT = 1000
INTERVAL_S = 10
SHARE: float = Settings.model_fields["weight_share"].default
PAGE_WEIGHT = 4
PAGE_ROWS = 1000
LATENCIES_S = (0.02, 0.1)
"""Near the exchange one request after the other is fast enough to be refused; far from it, too slow."""
RIVALS = {"ccxt": "BENCH_CCXT_PYTHON", "python-binance": "BENCH_PYTHON_BINANCE_PYTHON"}
"""The libraries, and the environment variables that name an interpreter with them."""
_SCRIPT = Path(__file__).with_name("rivals.py")


@dataclass(frozen=True, slots=True)
class _Place:
    """So many trades, so far away."""

    rows: int
    latency_s: float

    def __str__(self) -> str:
        return f"{self.latency_s * 1000:.0f} ms away"

    def exchange(self) -> AbstractContextManager[ServedExchange]:
        """An exchange with nothing used yet."""
        return served_exchange(self.rows, self.latency_s, {"--limit": LIMIT, "--interval": f"{INTERVAL_S}S"})


@dataclass(frozen=True, slots=True)
class _Reached:
    """What an exchange saw of one contender: percent of the share used in each full window, answers of 429 and 418,
    and trades served in a second between the first request and the last."""

    name: str
    percents: tuple[float, ...]
    limited: int
    banned: int
    trades_per_s: float

    @property
    def percent(self) -> float:
        """Of the full windows together."""
        return statistics.fmean(self.percents)

    @property
    def refused(self) -> int:
        """Answers of 429 and 418 together."""
        return self.limited + self.banned


def measure(sizes: Sizes) -> list[Figure]:
    """Share reached, refusals and pace, of the daemon beside each library; a line for each that is not installed."""
    return [figure for latency_s in LATENCIES_S for figure in _measure_at(latency_s, sizes.ceiling_windows)]


def _measure_at(latency_s: float, windows: int) -> list[Figure]:
    place = _Place(windows * int(LIMIT * SHARE) // PAGE_WEIGHT * PAGE_ROWS, latency_s)
    daemon = _daemon(place)
    figures = [_unused(daemon), Figure("answers of 429 or 418", daemon.refused, "", most=0)]
    for library, variable in RIVALS.items():
        rival = _rival(library, os.environ.get(variable) or sys.executable, place, (windows + 1) * INTERVAL_S)
        figures += _beside(daemon, rival) if rival else [_skipped(daemon, library)]
    return [replace(figure, name=f"{place}: {figure.name}") for figure in figures]


def _unused(daemon: _Reached) -> Figure:
    windows = f"{LIMIT:,} per {INTERVAL_S} s x {SHARE}, {len(daemon.percents)} full windows"
    worst = min(daemon.percents)
    return Figure(f"left unused of {windows}, worst {100 - worst:.1f}", 100 - daemon.percent, "%", most=5)


def _beside(daemon: _Reached, rival: _Reached) -> list[Figure]:
    us, rival_us = (1e6 / each.trades_per_s for each in (daemon, rival))
    refusals = f"{rival.name}: {rival.limited} of 429, {rival.banned} of 418"
    return [
        Figure("share of the ceiling reached", daemon.percent, "%", rival.name, rival.percent),
        Figure("answers of 429 or 418", daemon.refused, "", refusals, rival.refused),
        Figure("time a trade, first to last request", us, "us", rival.name, rival_us),
    ]


def _skipped(daemon: _Reached, library: str) -> Figure:
    return Figure("share of the ceiling reached", daemon.percent, "%", f"{library}: not installed, skipped")


def _daemon(place: _Place) -> _Reached:
    with place.exchange() as exchange, tempfile.TemporaryDirectory() as cache_dir:
        exchange.run_daemon(cache_dir)
        return _reached("backfilld", exchange)


def _rival(library: str, python: str, place: _Place, seconds: float) -> _Reached | None:
    """What the library reached in so many seconds, None where ``python`` does not have it."""
    with place.exchange() as exchange:
        ids = exchange.tape()["a"]
        words = [library, exchange.url, INSTRUMENT.symbol, ids[0], ids[-1], seconds]
        done = subprocess.run(
            [python, "-I", str(_SCRIPT), *map(str, words)],
            env=os.environ | {"NO_PROXY": "*", "no_proxy": "*"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{library} in {python} ended with {done.returncode}: {done.stderr[-2000:]}")
        answer = json.loads(done.stdout)
        return _reached(f"{library} {answer['version']}", exchange) if answer else None


def _reached(name: str, exchange: ServedExchange) -> _Reached:
    """Raises RuntimeError if no window was used from edge to edge."""
    used = {window["start_ms"]: window["used_by_us"] for window in exchange.windows()}
    full = range(min(used) + INTERVAL_S * 1000, max(used), INTERVAL_S * 1000)
    if not full:
        raise RuntimeError(f"{name} was through before a window was full: give it more trades")
    requests = exchange.requests()
    statuses = [request["status"] for request in requests]
    seconds = (requests[-1]["arrived_ms"] - requests[0]["arrived_ms"]) / 1000
    return _Reached(
        name,
        tuple(100 * used.get(start_ms, 0) / (LIMIT * SHARE) for start_ms in full),
        statuses.count(429),
        statuses.count(418),
        sum(request["rows"] for request in requests) / seconds,
    )
