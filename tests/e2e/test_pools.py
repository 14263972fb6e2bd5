"""A pool whose weight is spent slows no other one: the real process, by what the exchange sees arrive."""

import signal
from itertools import pairwise
from pathlib import Path

import trio

from backfilld.core.model import Instrument
from binance_simulator import Exchange, ExchangeOptions, Market, Pool, RequestRecord
from tests.e2e.world import BTC, Daemon, ended, exchange_at, generated, locates, trade_requests

SOL = Instrument.parse("um:SOLUSDT")
POLL_S = 2.0
FUTURES_LIMIT = 200
"""Weight a minute, of which 0.8 are eight questions; sixty pages are missing."""


async def requests_of(instruments: list[Instrument], directory: Path) -> tuple[float, list[float]]:
    """Run the daemon until spot is stored and topped up for five polls; return how long the backfill took by the
    arrival of its requests, and when those after it arrived, in seconds. Each answer takes so long that the machine's
    own pace matters little."""
    tapes = {BTC: generated(60_000, live_rate_per_s=20.0), SOL: generated(60_000, seed=2)}
    options = ExchangeOptions(latency_s=0.3, limits={Pool.FUTURES: FUTURES_LIMIT})
    async with exchange_at(16, tapes, options) as exchange:
        settings = {"INSTRUMENTS": ",".join(map(str, instruments)), "POLL_SECONDS": str(POLL_S)}
        daemon = Daemon(exchange, directory, settings)
        missing = daemon.tape_of_today().height
        process = daemon.start("run")
        try:
            with trio.fail_after(120):
                while rows_of(spot_of(exchange)) < missing:
                    await trio.sleep(0.1)
                await trio.sleep(5 * POLL_S)
        finally:
            process.send_signal(signal.SIGTERM)
            await ended(process)
        if SOL in instruments:
            futures = [each for each in trade_requests(exchange) if each.market is Market.UM and not locates(each)]
            assert 0 < rows_of(futures) < 30_000, "its pool is spent, and most of it is still missing"
        return arrivals(spot_of(exchange), missing)


def spot_of(exchange: Exchange) -> list[RequestRecord]:
    return [each for each in trade_requests(exchange) if each.market is Market.SPOT]


def rows_of(requests: list[RequestRecord]) -> int:
    return sum(each.rows for each in requests if not locates(each))


def arrivals(spot: list[RequestRecord], missing: int) -> tuple[float, list[float]]:
    count = next(n for n in range(len(spot) + 1) if rows_of(spot[:n]) >= missing)
    at_s = [(each.arrived_ms - spot[0].arrived_ms) / 1000 for each in spot]
    return at_s[count - 1], at_s[count:]


async def test_spot_takes_as_long_beside_futures_whose_pool_is_spent_and_is_topped_up_on_time(tmp_path: Path) -> None:
    alone_s, _ = await requests_of([BTC], tmp_path / "alone")
    beside_s, topped_up_s = await requests_of([BTC, SOL], tmp_path / "beside")
    assert beside_s <= 1.2 * alone_s, f"{beside_s} s instead of {alone_s} s"
    pauses_s = [later - earlier for earlier, later in pairwise([beside_s, *topped_up_s])]
    assert len(pauses_s) >= 3
    assert max(pauses_s) <= 2 * POLL_S
