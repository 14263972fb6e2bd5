"""Six bots on one address: refused by the exchange when each asks it, served in full when all ask the endpoint."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trio

from binance_simulator import Exchange, ExchangeOptions, Pool, Tape, open_exchange
from binance_simulator.exchange import host_ms
from binance_simulator.quotas import Interval
from tests.clients.running import need_clients, run_program
from tests.e2e.test_live import PROMPT, streamed, until_attached
from tests.e2e.test_serving import free_port
from tests.e2e.world import BTC, START_MS, at_hour, ended

LIMIT, WINDOW_S, WINDOWS = 1000, 10, 3
"""The limit of spot, 6,000 a minute, in windows of ten seconds."""

SECONDS = WINDOW_S * WINDOWS
LEAST_LOOPS = 3
"""Each bot asks its four questions so often, at least: on a machine that is busy with other things."""

PRICES = {"ccxt": 28, "python-binance": 106, "binance-sdk": 28}
"""The weight of the four questions of each client."""

LOOP = """
import json, time
{begin}
done = refused = 0
until = time.monotonic() + {seconds}
while time.monotonic() < until:
    for ask in {asks}:
        try:
            assert ask()
        except Exception as error:
            if not any(code in repr(error) for code in ("429", "418", "-1003")): raise
            refused += 1
    done += 1
    time.sleep(0.2)
print(json.dumps({{"loops": done, "refused": refused}}))
"""

CCXT = """
import ccxt
exchange = ccxt.binance({{'options': {{'defaultType': 'spot', 'fetchMarkets': {{'types': ['spot']}}}}}})
{lines}
"""
CCXT_ASKS = """(
    lambda: exchange.fetch_ohlcv('BTC/USDT', '1m', limit=200), lambda: exchange.fetch_trades('BTC/USDT', limit=500),
    lambda: exchange.load_markets(True), lambda: exchange.fetch_ticker('BTC/USDT'))"""
PYTHON_BINANCE = """
from binance.client import Client
client = Client(ping=False)
{lines}
"""
PYTHON_BINANCE_ASKS = """(
    lambda: client.get_klines(symbol='BTCUSDT', interval='5m'), lambda: client.get_aggregate_trades(symbol='BTCUSDT'),
    lambda: client.get_exchange_info(), lambda: client.get_ticker())"""
SDK = "{lines}"
SDK_ASKS = """(
    lambda: client.rest_api.klines(symbol='BTCUSDT', interval='1h', limit=24).data(),
    lambda: client.rest_api.agg_trades(symbol='BTCUSDT', limit=100).data(),
    lambda: client.rest_api.exchange_info(symbol='BTCUSDT').data(),
    lambda: client.rest_api.ticker24hr(symbol='BTCUSDT').data())"""

BOTS = {
    "ccxt": (CCXT, CCXT_ASKS),
    "python-binance": (PYTHON_BINANCE, PYTHON_BINANCE_ASKS),
    "binance-sdk": (SDK, SDK_ASKS),
}


@dataclass(frozen=True)
class Upstream:
    """What the exchange saw of the six, and what their questions cost if each is sent."""

    loops: int
    price: int
    refused: int
    weight: int
    statuses: frozenset[int]


async def six_bots(exchange: Exchange, lines: Mapping[str, str], directory: Path) -> Upstream:
    """Two bots of each client, for three windows from the beginning of one on."""
    await trio.sleep(WINDOW_S - (exchange.now_ms() / 1000) % WINDOW_S)
    first = len(exchange.requests)
    results: list[dict[str, Any]] = []

    async def run(client: str) -> None:
        begin, asks = BOTS[client]
        script = LOOP.format(begin=begin.format(lines=lines[client]), asks=asks, seconds=SECONDS)
        found = await run_program(script, directory, SECONDS + 60)
        results.append(found | {"price": found["loops"] * PRICES[client]})

    async with trio.open_nursery() as nursery:
        for client in [*BOTS, *BOTS]:
            nursery.start_soon(run, client)
    seen = list(exchange.requests)[first:]
    return Upstream(
        min(each["loops"] for each in results),
        sum(each["price"] for each in results),
        sum(each["refused"] for each in results),
        sum(each.weight for each in seen),
        frozenset(each.status for each in seen),
    )


def exchange_options() -> ExchangeOptions:
    return ExchangeOptions(limits={Pool.SPOT: LIMIT}, interval=Interval.parse(f"{WINDOW_S}S"))


def live_tape() -> tuple[Tape, int]:
    """Trades of today up to ten o'clock, and ten a second from then on; and how far the clock is shifted."""
    start_ms = at_hour(10)
    tape = Tape.generate(
        start_ms=START_MS - 3_600_000, stop_ms=start_ms, trades=5000, first_id=1000, live_rate_per_s=10.0
    )
    return tape, start_ms - host_ms()


async def test_six_bots_share_one_cache_one_stream_and_one_budget(tmp_path: Path) -> None:
    need_clients()
    tape, shift_ms = live_tape()
    async with open_exchange(
        {str(BTC): tape}, exchange_options(), clock_ms=lambda: host_ms() + shift_ms, streams=PROMPT
    ) as exchange:
        api, streams = free_port(), free_port()
        listen = {"API_LISTEN": f"127.0.0.1:{api}", "STREAM_LISTEN": f"127.0.0.1:{streams}"}
        daemon = streamed(exchange, tmp_path / "cache", **listen)
        process = daemon.start("run")
        try:
            await until_attached(daemon)
            lines = {client: (await daemon.run("connect", client)).stdout for client in BOTS}
            served = await six_bots(exchange, lines, tmp_path)
            async with httpx.AsyncClient() as client:
                metrics = (await client.get(f"http://127.0.0.1:{api}/metrics")).text
        finally:
            process.terminate()
            assert await ended(process) == 0
    tape, shift_ms = live_tape()
    async with open_exchange(
        {str(BTC): tape}, exchange_options(), clock_ms=lambda: host_ms() + shift_ms, streams=PROMPT
    ) as exchange:
        direct = {client: each.replace(f"http://127.0.0.1:{api}", exchange.url) for client, each in lines.items()}
        alone = await six_bots(exchange, direct, tmp_path)
    logging.getLogger(__name__).warning("served %s; alone %s", served, alone)
    assert alone.refused > 0
    assert alone.statuses & {418, 429}
    assert served.statuses == {200}
    assert served.refused == 0
    assert served.loops >= LEAST_LOOPS
    assert served.weight <= served.price / 4, "what the same questions cost without backfilld"
    assert served.weight <= alone.weight / 4
    assert 'source="live"' in metrics or 'source="cache"' in metrics
