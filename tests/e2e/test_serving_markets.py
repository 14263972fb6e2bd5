"""Futures through the endpoint: the same status, body and headers as the exchange, asked directly."""

import random
from collections import Counter
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from backfilld.core.model import Instrument
from binance_simulator import ExchangeOptions, Pool
from tests.e2e.test_serving import served, trades_query
from tests.e2e.world import exchange_at, generated

QUESTIONS = 150
PLENTY = ExchangeOptions(limits={Pool.FUTURES: 100_000})


@pytest.mark.parametrize(("name", "path"), [("um:BTCUSDT", "/fapi/v1"), ("cm:BTCUSD_PERP", "/dapi/v1")])
async def test_every_answer_of_futures_is_the_exchange_s_own(name: str, path: str, tmp_path: Path) -> None:
    """USD-M trades carry a field that is not stored, so they are asked for; COIN-M trades come from the cache."""
    dice, instrument = random.Random(16), Instrument.parse(name)
    tape = generated(20_000, seed=4)
    async with exchange_at(16.5, {instrument: tape}, PLENTY) as exchange:
        settings = {"POLL_SECONDS": "3600", "WEIGHT_SHARE": "1", "INSTRUMENTS": name}
        async with served(exchange, tmp_path / "cache", **settings) as (url, _):
            ids = range(int(tape.frame["a"][0]), int(tape.frame["a"][-1]) + 1)
            sources: Counter[str] = Counter()
            async with httpx.AsyncClient(timeout=20) as client:
                for _ in range(QUESTIONS):
                    query = trades_query(dice, ids) | ({"symbol": instrument.symbol} if dice.random() < 0.9 else {})
                    target = f"{path}/aggTrades?{urlencode(query)}"
                    ours, theirs = await client.get(f"{url}{target}"), await client.get(f"{exchange.url}{target}")
                    about = target, ours.headers.get("x-backfilld"), ours.content[:200], theirs.content[:200]
                    assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content), about
                    assert ours.headers["content-type"] == theirs.headers["content-type"], about
                    sources[ours.headers["x-backfilld"]] += 1
                for question in ("klines?interval=1m&limit=5&", "depth?limit=5&", "ticker/price?", "premiumIndex?"):
                    target = f"{path}/{question}symbol={instrument.symbol}"
                    ours, theirs = await client.get(f"{url}{target}"), await client.get(f"{exchange.url}{target}")
                    assert ours.status_code == theirs.status_code, target
                    assert ours.headers["x-backfilld"] == "forwarded"
            assert (sources["cache"] > 20) == (path == "/dapi/v1"), sources


async def test_while_the_exchange_refuses_what_is_stored_is_served_without_the_field_that_is_not(
    tmp_path: Path,
) -> None:
    instrument = Instrument.parse("um:BTCUSDT")
    async with exchange_at(16.5, {instrument: generated(5_000, seed=4)}, PLENTY) as exchange:
        settings = {"POLL_SECONDS": "3600", "INSTRUMENTS": str(instrument), "API_WEIGHT_SHARE": "0.0001"}
        async with served(exchange, tmp_path / "cache", API_WAIT_SECONDS="0.1", **settings) as (url, _):
            async with httpx.AsyncClient(timeout=20) as client:
                first_id = int(exchange.visible(str(instrument))["a"][2000])
                target = f"/fapi/v1/aggTrades?symbol=BTCUSDT&limit=3&fromId={first_id}"
                whole = (await client.get(f"{exchange.url}{target}")).json()
                for _ in range(3):
                    ours = await client.get(f"{url}{target}")
                    assert ours.status_code == 200
                assert ours.headers["x-backfilld"] == "cache"
                assert ours.json() == [{key: of[key] for key in of if key != "nq"} for of in whole]
                refused = await client.get(f"{url}/fapi/v1/depth?symbol=BTCUSDT")
                assert (refused.status_code, refused.json()["code"]) == (429, -1003)
                assert int(refused.headers["retry-after"]) >= 1
