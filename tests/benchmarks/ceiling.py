"""How much of the exchange's ceiling is reached, and how often it says 429: the daemon and two popular libraries.

Each meets an exchange of its own, with equal trades and Binance's weights of spot, but in windows of ten seconds (1,000
per 10 s are 6,000 a minute). The weight is read from the exchange's own ledger, in its full windows: those between the
first and the last in which something arrived. 100 % is the limit times the daemon's default share.

The libraries know of no share and ask one request after the other. They run where an interpreter has them: the one that
``BENCH_CCXT_PYTHON`` or ``BENCH_PYTHON_BINANCE_PYTHON`` names, by default this one.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
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
LATENCY_S = 0.02
RIVALS = {"ccxt": "BENCH_CCXT_PYTHON", "python-binance": "BENCH_PYTHON_BINANCE_PYTHON"}
"""The libraries, and the environment variables that name an interpreter with them."""
_SCRIPT = Path(__file__).with_name("rivals.py")


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


def measure(sizes: Sizes) -> list[Figure]:
    """Share reached, refusals and pace, of the daemon beside each library; a line for each that is not installed."""
    rows = sizes.ceiling_windows * int(LIMIT * SHARE) // PAGE_WEIGHT * PAGE_ROWS
    daemon = _daemon(rows)
    figures = [_unused(daemon), Figure("answers of 429 or 418", daemon.limited + daemon.banned, "", most=0)]
    for library, variable in RIVALS.items():
        rival = _rival(library, os.environ.get(variable) or sys.executable, rows, sizes.ceiling_windows * INTERVAL_S)
        figures += _beside(daemon, rival) if rival else [_skipped(daemon, library)]
    return figures


def _unused(daemon: _Reached) -> Figure:
    windows = f"{LIMIT:,} per {INTERVAL_S} s x {SHARE}, {len(daemon.percents)} full windows"
    worst = min(daemon.percents)
    return Figure(f"left unused of {windows}, worst {100 - worst:.1f}", 100 - daemon.percent, "%", most=5)


def _beside(daemon: _Reached, rival: _Reached) -> list[Figure]:
    refusals = f"{rival.name}: {rival.limited} of 429, {rival.banned} of 418"
    refused = daemon.limited + daemon.banned
    return [
        Figure("share of the ceiling reached", daemon.percent, "%", rival.name, rival.percent),
        Figure("answers of 429 or 418", refused, "", refusals, rival.limited + rival.banned),
        Figure(
            "us a trade, first to last request", 1e6 / daemon.trades_per_s, "us", rival.name, 1e6 / rival.trades_per_s
        ),
    ]


def _skipped(daemon: _Reached, library: str) -> Figure:
    return Figure("share of the ceiling reached", daemon.percent, "%", f"{library}: not installed, skipped")


def _daemon(rows: int) -> _Reached:
    with _exchange(rows) as exchange, tempfile.TemporaryDirectory() as cache_dir:
        exchange.run_daemon(cache_dir)
        return _reached("backfilld", exchange)


def _rival(library: str, python: str, rows: int, seconds: float) -> _Reached | None:
    """What the library reached in so many seconds and a window more, None where ``python`` does not have it."""
    with _exchange(rows) as exchange:
        ids = exchange.tape()["a"]
        words = [library, exchange.url, INSTRUMENT.symbol, ids[0], ids[-1], seconds + INTERVAL_S]
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


def _exchange(rows: int) -> AbstractContextManager[ServedExchange]:
    return served_exchange(rows, LATENCY_S, {"--limit": LIMIT, "--interval": f"{INTERVAL_S}S"})


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
