"""A fleet on one machine: the embedded exchange's archive, a real S3 server, and the real command line."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import trio

from backfilld.adapters.object_store import RemoteLocation
from backfilld.core.model import Instrument
from binance_simulator import Exchange, ExchangeOptions, Tape
from tests.e2e.world import Ended, at_hour, exchange_at

FIRST = date(2026, 6, 1)
SYMBOLS = [Instrument.parse(f"{market}:{name}USDT") for market in ("spot", "um") for name in "ABCDEFGHIJ"]


@asynccontextmanager
async def archive_of(
    instruments: list[Instrument], months: int, rows: int, options: ExchangeOptions | None = None
) -> AsyncIterator[tuple[Exchange, date, date]]:
    """An exchange whose archive has the days of so many months, and some before and after; and the first and the last
    of these days."""
    first, last = FIRST, FIRST.replace(month=FIRST.month + months) - timedelta(days=1)
    tapes = {
        each: Tape.generate_days(
            first_day=first - timedelta(days=2), stop_ms=at_hour(0), trades_per_day=rows, seed=number
        )
        for number, each in enumerate(instruments)
    }
    async with exchange_at(16, tapes, options or ExchangeOptions(archive_delay_s=0)) as exchange:
        yield exchange, first, last


@dataclass
class Fleet:
    """The command line of a fleet."""

    exchange: Exchange
    location: RemoteLocation
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    dask: list[str] = field(default_factory=list)
    """Options of Dask's own for scheduler and workers, such as those of TLS."""
    protocol: str = "tcp"

    def environment(self, machine: str = "client") -> dict[str, str]:
        """What a machine's commands find in their environment."""
        foreign = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
        url = self.exchange.url
        known = {
            "SPOT_URL": url,
            "UM_URL": url,
            "CM_URL": url,
            "ARCHIVE_URL": url,
            "REMOTE_URL": self.location.url,
            "REMOTE_ENDPOINT": self.location.endpoint or "",
            "REMOTE_REGION": self.location.region or "",
            "REQUEST_TIMEOUT_SECONDS": "30",  # of a busy machine
            "CACHE_DIR": str(self.directory / machine),
            "STATE_DIR": str(self.directory / machine / "state"),
        }
        (self.directory / machine).mkdir(parents=True, exist_ok=True)
        return foreign | {f"BACKFILL_{name}": value for name, value in (known | self.settings).items()}

    async def run(self, *arguments: str, timeout_s: float = 900) -> Ended:
        """Run a command of the fleet to its end."""
        with trio.fail_after(timeout_s):
            done = await trio.run_process(
                [sys.executable, "-m", "backfilld", "fleet", *arguments],
                env=self.environment(),
                check=False,
                capture_stdout=True,
                capture_stderr=True,
            )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextmanager
    def scheduler(self, port: int) -> Iterator["subprocess.Popen[bytes]"]:
        """A scheduler on loopback."""
        host = "127.0.0.1" if self.protocol == "tcp" else f"{self.protocol}://127.0.0.1"
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", host, "--port", str(port),
                   "--no-dashboard", *self.dask]  # fmt: skip
        with self._running(command, "scheduler") as process:
            yield process

    @contextmanager
    def worker(self, port: int, machine: str) -> Iterator["subprocess.Popen[bytes]"]:
        """The worker of a machine."""
        address = f"{self.protocol}://127.0.0.1:{port}"
        command = [sys.executable, "-m", "backfilld", "fleet", "worker", "--scheduler", address, *self.dask]
        with self._running(command, machine) as process:
            yield process

    @contextmanager
    def _running(self, command: list[str], machine: str) -> Iterator["subprocess.Popen[bytes]"]:
        environment = self.environment(machine)
        with (self.directory / f"{machine}.log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def scratch(self) -> list[Path]:
        """What tasks have left behind on any machine."""
        return list(self.directory.glob("*/state/scratch/*"))


def span(first: date, last: date, instruments: list[Instrument]) -> list[str]:
    """The options of a plan or a fill."""
    return ["--from", str(first), "--to", str(last), "--instruments", ",".join(map(str, instruments))]


def weight_of(exchange: Exchange) -> int:
    """The request weight that was spent."""
    return sum(record.weight for record in exchange.requests)


Figures = Mapping[str, Any]


def free_port() -> int:
    """A port on loopback that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
