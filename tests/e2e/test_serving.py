"""The endpoint in front of the exchange, as its clients see it: the same bytes, less weight."""

import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

import httpx
import trio

from backfilld.core.model import Instrument
from binance_simulator import Exchange, Market
from tests.e2e.world import BTC, HOUR_MS, START_MS, Daemon, ended, exchange_at, generated

ETH = Instrument.parse("spot:ETHUSDT")
QUESTIONS = int(os.environ.get("SERVING_QUESTIONS", "400"))
INTERVALS = ["1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def served(exchange: Exchange, cache_dir: Path, **settings: str) -> AsyncIterator[tuple[str, Daemon]]:
    """A daemon with its endpoint up; its URL. It is stopped in order."""
    port = free_port()
    daemon = Daemon(exchange, cache_dir, {"API_LISTEN": f"127.0.0.1:{port}"} | settings)
    process = daemon.start("run")
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(timeout=60) as client:
            with trio.fail_after(60):
                while True:
                    try:
                        if (await client.get(f"{url}/readyz")).status_code == 200:
                            break
                    except httpx.TransportError:
                        pass
                    await trio.sleep(0.1)
        yield url, daemon
    finally:
        process.terminate()
        assert await ended(process) == 0


def some_ms(dice: random.Random) -> int:
    """A time of the stored trades, or one before the listing, in the future, at an edge of the day."""
    odd = [START_MS - 10**11, START_MS - 1, START_MS, START_MS + 30 * HOUR_MS, START_MS + 10**10, 0, -1]
    return dice.choice([*[START_MS + dice.randrange(-HOUR_MS, 17 * HOUR_MS)] * 40, *odd])


def trades_query(dice: random.Random, ids: range) -> dict[str, object]:
    """A question for trades, ordinary or odd."""
    at_ms = some_ms(dice)
    some_id = dice.choice([dice.choice(ids), ids.start, ids.stop - 1, ids.stop, ids.start - 5, 0])
    kinds: list[dict[str, object]] = [
        {"fromId": some_id},
        {"fromId": dice.choice(ids), "limit": dice.choice([1, 7, 500, 1000, 1001, 0])},
        {"startTime": at_ms},
        {"endTime": at_ms, "limit": dice.randrange(1, 1001)},
        {"startTime": at_ms, "endTime": at_ms + dice.choice([0, 1, 1000, 60_000, HOUR_MS, 5 * HOUR_MS])},
        {"startTime": at_ms, "endTime": at_ms + 90_000, "limit": dice.randrange(1, 1001)},
        {"startTime": at_ms, "endTime": at_ms - 1},
        {"fromId": dice.choice(ids), dice.choice(["startTime", "endTime"]): at_ms},
        {"fromId": dice.choice(ids), "startTime": at_ms, "endTime": at_ms + 1},
        {"fromId": dice.choice([-1, "x", "007", "+5", "1e5", "5.0", 2**53 + 1, 2**63 - 1, 2**63])},
        {"limit": ""},
        {"startTime": at_ms * 1000},
        {"unknown": 1},
        {},
    ]
    return {"symbol": dice.choice(["BTCUSDT"] * 9 + ["btcusdt", "NOSUCH"])} | dice.choice(kinds)


def candles_query(dice: random.Random) -> dict[str, object]:
    """A question for candles, ordinary or odd."""
    at_ms, zone = some_ms(dice), dice.choice(["8", "+05:45", "-3:30", "14", "-12:00", "15", "x"])
    kinds: list[dict[str, object]] = [
        {"startTime": at_ms},
        {"startTime": at_ms - at_ms % 60_000, "limit": dice.randrange(1, 1001)},
        {"startTime": at_ms, "endTime": at_ms + dice.choice([0, 59_999, 60_000, HOUR_MS, 5 * HOUR_MS])},
        {"endTime": at_ms, "limit": dice.choice([1, 2, 10, 500])},
        {"endTime": at_ms, "limit": 5, "timeZone": zone},
        {"startTime": at_ms, "limit": 3, "timeZone": zone},
        {"limit": dice.choice([1, 5])} | dice.choice([{}, {"timeZone": zone}]),
        {"startTime": at_ms, "limit": dice.choice([0, -1, 1001, 1500])},
        {"startTime": at_ms, "endTime": at_ms - 1},
        {"interval": dice.choice(["7m", "1H", "1Mo", "60m", ""])},
        {"timeZone": "0", "endTime": at_ms, "limit": 3},
    ]
    return {"symbol": "BTCUSDT", "interval": dice.choice(INTERVALS)} | dice.choice(kinds)


def written(dice: random.Random, query: dict[str, object]) -> str:
    """The query as text: most often as every client writes it."""
    pairs = list(query.items())
    dice.shuffle(pairs)
    text = urlencode(pairs)
    name, value = dice.choice(pairs)
    spelt = "".join(f"%{byte:02x}" for byte in str(value).encode())
    odd = [
        f"{text}&",
        f"{text}&{name}={value}",
        f"{text}&{name}=",
        text.replace(f"={value}", f"={spelt}", 1),
        f"&{text}",
    ]
    return dice.choice([*[text] * 30, *odd])


async def test_every_answer_is_the_exchange_s_own_byte_for_byte(tmp_path: Path) -> None:
    """Random questions, odd ones included; what is not stored is forwarded, and the same too."""
    dice = random.Random(15)
    tape = generated(30_000, seed=3)
    async with exchange_at(16.5, {BTC: tape}) as exchange:
        async with served(exchange, tmp_path / "cache", POLL_SECONDS="3600", WEIGHT_SHARE="1") as (url, _):
            ids = range(int(tape.frame["a"][0]), int(tape.frame["a"][-1]) + 1)
            sources: Counter[tuple[str, str]] = Counter()
            async with httpx.AsyncClient(timeout=20) as client:
                for number in range(QUESTIONS):
                    path = dice.choice(["aggTrades", "klines", "uiKlines"])
                    query = trades_query(dice, ids) if path == "aggTrades" else candles_query(dice)
                    text = written(dice, query)
                    target = f"/api/v3/{path}?{text}"
                    ours = await client.get(f"{url}{target}")
                    theirs = exchange_answer(exchange, path, text)
                    assert (ours.status_code, ours.content) == theirs, (
                        number,
                        target,
                        ours.headers.get("x-backfilld"),
                        ours.content[:200],
                        theirs[1][:200],
                    )
                    sources[path, ours.headers["x-backfilld"]] += 1
            assert sources["aggTrades", "cache"] > 20, sources
            assert sources["klines", "cache"] + sources["uiKlines", "cache"] > 30, sources


def exchange_answer(exchange: Exchange, endpoint: str, query: str) -> tuple[int, bytes]:
    """What the exchange itself answers, at no weight of ours."""
    served = exchange._served(Market.SPOT, endpoint, query, exchange.now_ms(), 0)
    return served.reply.status, served.reply.body
