"""``backfilld demo --page``: the real daemon live on the embedded exchange, and its page, until Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

import click
import structlog
import trio

from backfilld.core.model import MS_PER_DAY, Instrument, Market, day_of, day_start_ms
from backfilld.errors import EXIT_DONE, EXIT_INCOMPLETE
from binance_simulator import Exchange, ExchangeOptions, StreamOptions, Tape, open_exchange

log = structlog.get_logger()

LIVE_TRADES_PER_S = {
    Instrument(Market.SPOT, "BTCUSDT"): 12.0,
    Instrument(Market.SPOT, "ETHUSDT"): 5.0,
    Instrument(Market.UM, "BTCUSDT"): 8.0,
}

STREAMS = StreamOptions(drop_share=0.002, double_share=0.002, cut_every_s=45.0)
"""Streams that lose a little, so that there are holes to see, and how long they stood."""

PORT = 8190
START_S = 30.0


async def run_page_demo(trades: int, cache_dir: Path | None) -> int:
    """Show the page until SIGINT or SIGTERM; return an exit code."""
    tapes = {str(each): _tape(trades, place, rate) for place, (each, rate) in enumerate(LIVE_TRADES_PER_S.items())}
    is_up = True  # Ctrl-C while it starts is not a failure.
    with (
        tempfile.TemporaryDirectory(prefix="backfilld-demo-") as temporary,
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
    ):
        async with open_exchange(tapes, ExchangeOptions(latency_s=0.02), streams=STREAMS) as exchange:
            port = _free_port()
            environment = _environment(exchange, cache_dir or Path(temporary), f"127.0.0.1:{port}")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_signal, signals, nursery.cancel_scope)
                daemon = await nursery.start(partial(_run_daemon, environment))
                is_up = await _is_up(daemon, port)
                if not is_up:
                    nursery.cancel_scope.cancel()
    return EXIT_DONE if is_up else EXIT_INCOMPLETE


def _tape(trades: int, place: int, rate: float) -> Tape:
    """``trades`` from the beginning of yesterday up to now, and then so many a second."""
    now_ms = int(time.time() * 1000)
    start_ms = day_start_ms(day_of(now_ms)) - MS_PER_DAY
    return Tape.generate(start_ms=start_ms, stop_ms=now_ms, trades=trades, seed=11 + place, live_rate_per_s=rate)


async def _run_daemon(environment: Mapping[str, str], task_status: trio.TaskStatus[trio.Process]) -> None:
    """Run it until it ends; a cancellation sends it SIGTERM, and waits for what it saves."""
    command = [sys.executable, "-P", "-m", "backfilld", "run"]
    # In a session of its own: Ctrl-C reaches us alone, and we end it in order.
    await trio.run_process(
        command,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        task_status=task_status,
    )


def _environment(exchange: Exchange, cache_dir: Path, address: str) -> Mapping[str, str]:
    streams = {str(market): url for market, url in exchange.streams.urls.items()}
    mine = {
        "SPOT_URL": exchange.url,
        "UM_URL": exchange.url,
        "ARCHIVE_URL": exchange.url,
        "SPOT_STREAM_URL": streams["spot"],
        "UM_STREAM_URL": streams["um"] + "/market",
        "INSTRUMENTS": ",".join(map(str, LIVE_TRADES_PER_S)),
        "CACHE_DIR": str(cache_dir),
        "CACHE_ENABLED": "true",
        "ENCRYPTION": "none",
        "DAYS": "1",
        "LIVE": "true",
        "CHECKPOINT_SECONDS": "2",
        "API_LISTEN": address,
        "LOG_FORMAT": "json",
    }
    return os.environ | {f"BACKFILL_{name}": value for name, value in mine.items()}


def _free_port() -> int:
    """The usual one, or any that is free."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return PORT


async def _is_up(daemon: trio.Process, port: int) -> bool:
    """Say where the page is once it is there; whether that was so in time."""
    with trio.move_on_after(START_S):
        while daemon.poll() is None:
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            except OSError:
                await trio.sleep(0.1)
            else:
                _say(f"http://127.0.0.1:{port}/")
                return True
    return False


async def _until_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
        return


def _say(url: str) -> None:
    if sys.stdout.isatty():
        click.secho(f"The page is at {url}", bold=True)
        click.echo("Three instruments are live on an embedded exchange whose streams lose a little. Ctrl-C ends it.")
    else:
        log.info("demo_page_opened", url=url)
