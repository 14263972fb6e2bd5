"""A world for the daemon to run in: an exchange whose clock stands at a chosen time of day, and the real command line.

The exchange's clock is the host's, shifted within its day, so that a test can have sixteen hours of today at any time.
"""

import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import trio

from backfilld.core.backfill.window_end import ANSWERS_IN_SILENCE
from backfilld.core.frame import SCHEMA
from backfilld.core.model import Instrument, day_start_ms
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from binance_simulator import Exchange, ExchangeOptions, RequestRecord, Tape, open_exchange
from binance_simulator.exchange import host_ms

TODAY = datetime.now(UTC).date()
START_MS = day_start_ms(TODAY)
HOUR_MS = 3_600_000
BTC = Instrument.parse("spot:BTCUSDT")


def at_hour(hour: float) -> int:
    """The instant of that hour of TODAY, in ms."""
    return START_MS + round(hour * HOUR_MS)


@asynccontextmanager
async def exchange_at(
    hour: float, tapes: Mapping[Instrument, Tape], options: ExchangeOptions | None = None
) -> AsyncIterator[Exchange]:
    """An exchange whose clock shows that hour of TODAY now (24 and more: of the days after)."""
    shift_ms = at_hour(hour) - host_ms()
    served = {str(instrument): tape for instrument, tape in tapes.items()}
    async with open_exchange(served, options, clock_ms=lambda: host_ms() + shift_ms) as exchange:
        yield exchange


def generated(trades: int, *, hours: float = 16.0, seed: int = 1, live_rate_per_s: float = 0.0) -> Tape:
    """A tape that begins an hour before TODAY, so that its first id is not the day's, and ends at that hour."""
    return Tape.generate(
        start_ms=START_MS - HOUR_MS, stop_ms=at_hour(hours), trades=trades, seed=seed, live_rate_per_s=live_rate_per_s
    )


def tape_at(times_ms: list[int], first_id: int = 1_000_000) -> Tape:
    """A tape with a trade at each of these times."""
    rows = len(times_ms)
    ids = range(first_id, first_id + rows)
    frame = pl.DataFrame(
        {
            "T": times_ms,
            "a": ids,
            "p": [(8_000_000 + trade_id % 977) / 100 for trade_id in ids],
            "q": [(1 + trade_id % 31) / 1000 for trade_id in ids],
            "f": [2 * trade_id for trade_id in ids],
            "l": [2 * trade_id + 1 for trade_id in ids],
            "m": [trade_id % 3 == 0 for trade_id in ids],
            "M": [True] * rows,
        }
    )
    return Tape.from_frame(frame.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items()))


@dataclass
class Daemon:
    """The command line on one exchange and one cache directory."""

    exchange: Exchange
    cache_dir: Path
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Nothing of the tester's own settings, and what the daemon is to know."""
        foreign = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
        url = self.exchange.url
        mine = {
            "SPOT_URL": url,
            "UM_URL": url,
            "CM_URL": url,
            "ARCHIVE_URL": url,
            "LIVE": "false",
            # Tests look at the files. What waits in a journal has tests of its own.
            "SAVE_SECONDS": "0",
            "CACHE_DIR": str(self.cache_dir),
        } | self.settings
        return foreign | {f"BACKFILL_{name}": value for name, value in mine.items()}

    async def run(self, *arguments: str, timeout_s: float = 150, more: Mapping[str, str] | None = None) -> "Ended":
        """Run a command to its end, with ``more`` in its environment."""
        with trio.fail_after(timeout_s):
            done = await trio.run_process(
                self.command(*arguments),
                env=self.environment() | dict(more or {}),
                cwd=self.cache_dir.parent,
                check=False,
                capture_stdout=True,
                capture_stderr=True,
            )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def once(self) -> "Ended":
        """Backfill once, well."""
        ended = await self.run("run", "--once")
        assert ended.code == 0, ended
        return ended

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start a command whose end the test decides."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment(),
            cwd=self.cache_dir.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @staticmethod
    def command(*arguments: str) -> list[str]:
        """The command line as a user has it."""
        return [sys.executable, "-m", "backfilld", *arguments]

    def manager(self, instrument: Instrument = BTC) -> BackfillCacheManager:
        """The day files of an instrument."""
        return BackfillCacheManager(instrument_directory(self.cache_dir, instrument), instrument)

    def day_file(self, day: date = TODAY) -> Path:
        """The file of a day."""
        return self.manager().get_cache_path(day)

    def stored(self, day: date = TODAY, instrument: Instrument = BTC) -> pl.DataFrame:
        """The trades on disk of a day; the file must be there and whole."""
        trades = self.manager(instrument).load_cached_trades(day)
        assert trades is not None
        return trades

    def tape_of_today(self, instrument: Instrument = BTC) -> pl.DataFrame:
        """What the exchange shows of TODAY."""
        return self.exchange.visible(str(instrument)).filter(pl.col("T") >= START_MS)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its log: every line of stdout must be a JSON object."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def event(self, name: str) -> dict[str, Any]:
        """The only event of that name."""
        (found,) = [event for event in self.events if event["event"] == name]
        return dict(found)


def trade_requests(exchange: Exchange) -> list[RequestRecord]:
    """The aggTrades requests so far."""
    return [record for record in exchange.requests if record.endpoint == "aggTrades"]


def locates(record: RequestRecord) -> bool:
    """Whether the request only finds an end of the window: its row is not kept, and comes with a page."""
    return "fromId" not in record.query and ("startTime" not in record.query or "limit=1&" in f"{record.query}&")


def served_twice(exchange: Exchange) -> list[int]:
    """The ids that were served more than once to be kept."""
    served: Counter[tuple[str, int]] = Counter()
    for record in trade_requests(exchange):
        if record.first_id is not None and record.last_id is not None and not locates(record):
            served.update((record.market, trade_id) for trade_id in range(record.first_id, record.last_id + 1))
    return [trade_id for (_, trade_id), times in served.items() if times > 1]


async def ended(process: "subprocess.Popen[bytes]", timeout_s: float = 30) -> int:
    """Wait for a started command."""
    with trio.fail_after(timeout_s):
        return await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)


async def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill -9."""
    process.send_signal(signal.SIGKILL)
    await ended(process)


def allowed_requests(missing: int, *, is_silent: bool = False) -> int:
    """The promise: a page a thousand trades, and at most six requests more; and where trading stopped though it should
    go on (``is_silent``), as many as must agree to that."""
    doubts = ANSWERS_IN_SILENCE if is_silent else 0
    return math.ceil(missing / 1000) + doubts + 6


async def until_stored(daemon: Daemon, rows: int) -> None:
    """Wait until the day file has that many rows."""
    with trio.fail_after(30):
        while not daemon.day_file().exists() or daemon.stored().height < rows:
            await trio.sleep(0.05)
