"""The daemon as a service: a socket in the manager's place, SIGHUP with other settings and other files, SIGTERM."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
import trio

from backfilld.core.model import Instrument
from binance_simulator import Exchange, ExchangeOptions, Pool
from tests.e2e.world import BTC, TODAY, Daemon, ended, exchange_at, generated, trade_requests

ETH = Instrument.parse("spot:ETHUSDT")


@dataclass
class Service:
    """A running daemon, its manager's socket, its configuration file and its log."""

    daemon: Daemon
    process: "subprocess.Popen[bytes]"
    ear: socket.socket
    config: Path
    log: Path
    heard: list[str] = field(default_factory=list)

    def listen(self) -> list[str]:
        """All messages to the manager so far, without signs of life and requests for time."""
        while True:
            try:
                message = self.ear.recv(4096).decode()
            except BlockingIOError:
                return self.heard
            if not message.startswith(("WATCHDOG", "EXTEND")):
                self.heard.append(message.partition("\n")[0])

    @property
    def words(self) -> list[str]:
        """The same without the status."""
        return [message for message in self.listen() if not message.startswith("STATUS=")]

    @property
    def status(self) -> str:
        """The status as the manager has it now."""
        return [message for message in self.listen() if message.startswith("STATUS=")][-1].removeprefix("STATUS=")

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def said(self, name: str) -> list[dict[str, Any]]:
        """The events of that name."""
        return [event for event in self.events if event["event"] == name]

    def reload(self, *instruments: Instrument, **settings: object) -> None:
        """Write another configuration and say so."""
        write(self.config, *instruments, **settings)
        self.process.send_signal(signal.SIGHUP)

    async def terminated(self) -> int:
        """Ask it to end, and wait."""
        self.process.terminate()
        return await ended(self.process)

    def holds_all(self, instrument: Instrument = BTC) -> bool:
        """Whether the day's file has every trade that the exchange shows."""
        manager = self.daemon.manager(instrument)
        if not manager.get_cache_path(TODAY).exists():
            return False
        trades = manager.load_cached_trades(TODAY)
        return trades is not None and trades.equals(self.daemon.tape_of_today(instrument))


def write(config: Path, *instruments: Instrument, **settings: object) -> None:
    """A configuration as an operator writes it: whole, and renamed into its place."""
    lines = [f"instruments = {json.dumps(list(map(str, instruments)))}"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    draft = config.with_suffix(".new")
    draft.write_text("\n".join(lines) + "\n")
    draft.rename(config)


def started(daemon: Daemon, config: Path, place: Path, stdout: IO[str]) -> "subprocess.Popen[bytes]":
    """The daemon with a manager's socket in its environment; it is to give a sign of life every second."""
    return subprocess.Popen(
        daemon.command("run", "--config", str(config)),
        env=daemon.environment() | {"NOTIFY_SOCKET": str(place / "notify"), "WATCHDOG_USEC": "1000000"},
        stdout=stdout,
        stderr=stdout,
        cwd=place,
    )


@asynccontextmanager
async def served(
    exchange: Exchange, place: Path, *instruments: Instrument, **settings: object
) -> AsyncIterator[Service]:
    """A daemon under a manager; it is killed at the end if it has not ended."""
    config, log = place / "backfilld.toml", place / "log"
    write(config, *instruments, **settings)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, log.open("w") as stdout:
        ear.bind(str(place / "notify"))
        ear.setblocking(False)
        daemon = Daemon(exchange, place / "cache", {"POLL_SECONDS": "0.4"})
        process = started(daemon, config, place, stdout)
        try:
            yield Service(daemon, process, ear, config, log)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


async def until(holds: Callable[[], object], timeout_s: float = 20) -> None:
    """Wait until it holds."""
    with trio.fail_after(timeout_s):
        while not holds():
            await trio.sleep(0.02)


async def test_ready_once_complete_then_a_new_instrument_then_one_less(tmp_path: Path) -> None:
    """Under one process: what was there is not fetched again, what is removed stays on disk."""
    tapes = {BTC: generated(20_000), ETH: generated(5_000, seed=2)}
    async with exchange_at(16, tapes) as exchange, served(exchange, tmp_path, BTC) as service:
        await until(lambda: service.words == ["READY=1"])
        assert service.holds_all()
        asked = len(trade_requests(exchange))
        service.reload(BTC, ETH, weight_share=0.5, max_concurrent=9)
        await until(lambda: service.words == ["READY=1", "RELOADING=1", "READY=1"])
        await until(lambda: service.status.startswith("2 of 2 instruments complete"))
        assert service.holds_all(ETH)
        assert len(trade_requests(exchange)) - asked < 60
        service.reload(ETH)
        await until(lambda: service.said("instrument_removed"))
        await until(lambda: service.status.startswith("1 of 1 instruments complete"))
        assert service.holds_all()
        assert await service.terminated() == 0
        assert service.words[-1] == "STOPPING=1"


async def test_a_bad_configuration_is_refused_with_its_reason_and_the_old_one_goes_on(tmp_path: Path) -> None:
    async with (
        exchange_at(16, {BTC: generated(3_000, live_rate_per_s=50)}) as exchange,
        served(exchange, tmp_path, BTC) as service,
    ):
        await until(lambda: service.words == ["READY=1"])
        service.reload(BTC, days=-1)
        await until(lambda: service.words == ["READY=1", "RELOADING=1", "READY=1"])
        (refused,) = service.said("reload_refused")
        assert refused["level"] == "error"
        assert "days = -1" in refused["error"]
        service.config.write_text("what is this")
        service.process.send_signal(signal.SIGHUP)
        await until(lambda: len(service.said("reload_refused")) == 2)
        service.config.unlink()
        service.process.send_signal(signal.SIGHUP)
        await until(lambda: len(service.said("reload_refused")) == 3)
        assert "No such file" in service.said("reload_refused")[2]["error"]
        asked = len(trade_requests(exchange))
        await until(lambda: len(trade_requests(exchange)) > asked + 2)
        assert await service.terminated() == 0


def damage(file: Path) -> None:
    body = bytearray(file.read_bytes())
    middle = len(body) // 2
    body[middle : middle + 64] = bytes(64)
    file.write_bytes(body)


BREAKS: list[Callable[[Path], object]] = [
    Path.unlink,
    lambda file: file.write_bytes(file.read_bytes()[:5000]),
    lambda file: file.write_bytes(b"x" * 9000),
    damage,
]


@pytest.mark.parametrize("breaks", BREAKS, ids=["deleted", "cut", "foreign", "damaged"])
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "unannounced"])
async def test_a_file_that_an_operator_deletes_or_damages_is_made_whole(
    breaks: Callable[[Path], object], announced: bool, tmp_path: Path
) -> None:
    """At SIGHUP at once; without it at the next save, which trades that go on bring about."""
    tape = generated(8_000, live_rate_per_s=0.0 if announced else 30.0)
    async with exchange_at(16, {BTC: tape}) as exchange, served(exchange, tmp_path, BTC) as service:
        await until(lambda: service.words == ["READY=1"])
        rows = service.daemon.stored().height
        breaks(service.daemon.day_file())
        if announced:
            service.process.send_signal(signal.SIGHUP)
            await until(lambda: service.said("files_changed"))
        await until(lambda: service.daemon.day_file().exists() and service.said("backfill_started")[1:])
        await until(lambda: service.said("fetch_planned")[1:])
        await trio.sleep(0.5)
        await until(lambda: service.daemon.day_file().exists() and service.daemon.stored().height >= rows)
        assert await service.terminated() == 0
        stored = service.daemon.stored()
        assert stored.equals(service.daemon.tape_of_today().head(stored.height))
        assert bool(service.said("day_quarantined")) == (breaks is not Path.unlink)
        assert service.said("pipeline_crashed") == []


async def test_the_level_of_the_log_changes_at_a_reload(tmp_path: Path) -> None:
    async with (
        exchange_at(16, {BTC: generated(3_000, live_rate_per_s=50)}) as exchange,
        served(exchange, tmp_path, BTC, log_level="error") as service,
    ):
        await until(lambda: service.words == ["READY=1"])
        assert service.events == []
        service.reload(BTC, log_level="info")
        await until(lambda: service.said("day_saved"))
        service.reload(BTC, log_level="warning")
        await until(lambda: len(service.words) == 5)
        lines = len(service.events)
        asked = len(trade_requests(exchange))
        await until(lambda: len(trade_requests(exchange)) > asked + 3)
        assert len(service.events) == lines
        assert await service.terminated() == 0


async def test_twenty_reloads_in_the_first_backfill_fetch_nothing_twice(tmp_path: Path) -> None:
    options = ExchangeOptions(latency_s=0.05)
    async with (
        exchange_at(16, {BTC: generated(60_000)}, options) as exchange,
        served(exchange, tmp_path, BTC) as service,
    ):
        await until(lambda: len(exchange.requests) > 5)
        for _ in range(20):
            service.process.send_signal(signal.SIGHUP)
            await trio.sleep(0.03)
        await until(lambda: "READY=1" in service.words)
        assert service.holds_all()
        assert await service.terminated() == 0
        assert len([record for record in trade_requests(exchange) if record.rows >= 1000]) <= 61


async def test_a_stop_in_a_ban_is_prompt_and_no_failure(tmp_path: Path) -> None:
    options = ExchangeOptions(latency_s=0.02)
    async with (
        exchange_at(16, {BTC: generated(60_000)}, options) as exchange,
        served(exchange, tmp_path, BTC, checkpoint_seconds=1) as service,
    ):
        await until(lambda: len(exchange.requests) > 10)
        exchange.ban(Pool.SPOT, 600)
        await until(lambda: "spot banned for" in service.status)
        began = time.monotonic()
        assert await service.terminated() == 0
        assert time.monotonic() - began < 5
        assert service.words == ["STOPPING=1"]
        assert service.daemon.stored().height > 0


async def test_a_reload_while_it_stops_does_not_end_it_otherwise(tmp_path: Path) -> None:
    options = ExchangeOptions(latency_s=0.5)
    async with (
        exchange_at(16, {BTC: generated(60_000)}, options) as exchange,
        served(exchange, tmp_path, BTC) as service,
    ):
        await until(lambda: len(exchange.requests) > 10)
        service.process.terminate()
        await until(lambda: service.words == ["STOPPING=1"])
        service.process.send_signal(signal.SIGHUP)
        assert await ended(service.process) == 0
        assert len(service.said("reload_ignored")) <= 1
        assert service.said("settings_reloaded") == []


async def test_the_second_instance_ends_with_75_and_names_the_first(tmp_path: Path) -> None:
    """Reading commands need no lock."""
    async with exchange_at(16, {BTC: generated(3_000)}) as exchange, served(exchange, tmp_path, BTC) as service:
        await until(lambda: service.words == ["READY=1"])
        second = await service.daemon.run("run")
        assert second.code == 75
        assert f"process {service.process.pid}" in second.stderr
        assert (await service.daemon.run("status", "--json")).code == 0
        assert await service.terminated() == 0


async def test_signs_of_life_come_while_it_idles_and_none_while_it_is_frozen(tmp_path: Path) -> None:
    async with exchange_at(16, {BTC: generated(3_000)}) as exchange, served(exchange, tmp_path, BTC) as service:
        await until(lambda: service.words == ["READY=1"])

        def signs() -> int:
            count = 0
            while True:
                try:
                    count += service.ear.recv(4096).startswith(b"WATCHDOG=1")
                except BlockingIOError:
                    return count

        signs()
        await trio.sleep(2)
        assert signs() >= 4
        service.process.send_signal(signal.SIGSTOP)
        await trio.sleep(0.3)
        signs()
        await trio.sleep(1.5)
        assert signs() == 0
        service.process.send_signal(signal.SIGCONT)
        await trio.sleep(1)
        assert signs() > 0
        assert await service.terminated() == 0
