"""The simulated exchange as a process of its own, so that its CPU and memory are not the daemon's."""

import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import polars as pl

from backfilld.core.model import Instrument, Market, day_of, day_start_ms
from tests.benchmarks.measure import Run, run_process

INSTRUMENT = Instrument(Market.SPOT, "BTCUSDT")
BOUNDLESS_WEIGHT = 60_000
"""A minute. A higher limit is not believed: it is ten times the documented one."""
SPAN_MS = 16 * 3_600_000


@dataclass(frozen=True, slots=True)
class ServedExchange:
    """A running exchange whose tape ends before it started and does not grow."""

    url: str
    start_ms: int
    stop_ms: int
    rows: int

    def requests(self) -> list[dict[str, Any]]:
        """Every request so far."""
        answer: list[dict[str, Any]] = self._get("requests").json()
        return answer

    def tape(self, instrument: Instrument = INSTRUMENT) -> pl.DataFrame:
        """All the trades it has of an instrument."""
        frame = self._get(f"tape?market={instrument.market}&symbol={instrument.symbol}").content
        return pl.read_ipc(io.BytesIO(frame))

    def windows(self) -> list[dict[str, Any]]:
        """The meter's windows in which something arrived, oldest first."""
        windows: list[dict[str, Any]] = self._get("weights").json()[INSTRUMENT.market]["windows"]
        return windows

    def run_daemon(self, cache_dir: str) -> Run:
        """``backfilld run --once`` as a process. Raises RuntimeError unless it then holds the whole tape."""
        environment = {
            "BACKFILL_SPOT_URL": self.url,
            "BACKFILL_CACHE_DIR": cache_dir,
            "BACKFILL_LOG_FORMAT": "json",
            "BACKFILL_LIVE": "false",
        }
        run = run_process(["-m", "backfilld", "run", "--once", "--instrument", str(INSTRUMENT)], environment)
        events = map(json.loads, run.stdout.splitlines())
        stored = [event["trades"] for event in events if event["event"] == "backfill_completed"]
        if stored != [self.rows]:
            raise RuntimeError(f"the daemon holds {stored} of {self.rows} trades: has the UTC day turned meanwhile?")
        return run

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}/simulator/{path}", timeout=60).raise_for_status()


@contextmanager
def served_exchange(
    rows: int,
    latency_s: float = 0.0,
    options: Mapping[str, object] | None = None,
    instruments: Sequence[Instrument] = (INSTRUMENT,),
) -> Iterator[ServedExchange]:
    """Serve ``rows`` trades of today of each instrument, gzip on, by a clock that stands at 16:00; with unlimited
    weight, unless ``options`` of the simulator's command line say otherwise."""
    start_ms, stop_ms = todays_span_ms()
    arguments = {
        "--trades": rows,
        "--hours": (stop_ms - start_ms) / 3_600_000,
        "--until": datetime.fromtimestamp(stop_ms / 1000, UTC).isoformat(),
        "--live-rate": 0,
        "--skew-ms": stop_ms - time.time_ns() // 1_000_000,
        "--latency": latency_s,
        "--limit": BOUNDLESS_WEIGHT,
    } | dict(options or {})
    words = [word for each in instruments for word in ("--instrument", str(each))]
    words += [str(word) for pair in arguments.items() for word in pair]
    command = [sys.executable, "-m", "binance_simulator", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise RuntimeError("the simulated exchange did not start")
            yield ServedExchange(json.loads(line)["url"], start_ms, stop_ms, rows)
        finally:
            process.terminate()


def todays_span_ms() -> tuple[int, int]:
    """The first 16 hours of the host's day."""
    midnight_ms = day_start_ms(day_of(time.time_ns() // 1_000_000))
    return midnight_ms, midnight_ms + SPAN_MS


def least_requests(rows: int) -> int:
    """The full pages that hold so many trades: nobody can do with less."""
    return math.ceil(rows / 1000)
