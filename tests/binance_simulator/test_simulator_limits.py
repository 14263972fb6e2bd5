"""429 and 418 as a client meets them."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from binance_simulator import BanRule, Exchange, Pool, Quota, TenantOptions
from binance_simulator.model import Market
from binance_simulator.quotas import Interval

URL_OF = {
    "spot": "/api/v3/aggTrades?symbol=BTCUSDT&limit=1",
    "um": "/fapi/v1/aggTrades?symbol=BTCUSDT&limit=1",
}
REFUSED_TEXT = {
    "spot": "Too much request weight used; current limit is 8 request weight per 1 MINUTE. "
    "Please use WebSocket Streams for live updates to avoid polling the API.",
    "um": "Too many requests; current limit is 8 requests per minute. "
    "Please use WebSocket Streams for live updates to avoid polling the API.",
}
BANNED_TEXT = {
    "spot": "Way too much request weight used; IP banned until {}. "
    "Please use WebSocket Streams for live updates to avoid bans.",
    "um": "Way too many requests; IP(127.0.0.1) banned until {}. "
    "Please use WebSocket Streams for live updates to avoid bans.",
}


@pytest.mark.parametrize("market", ["spot", "um"])
async def test_who_goes_on_above_the_limit_is_refused_and_then_banned(
    client: httpx.AsyncClient, exchange: Exchange, clock: Any, market: str
) -> None:
    exchange.options = replace(exchange.options, limits={Pool.SPOT: 8, Pool.FUTURES: 8})
    exchange.weights[Market(market).pool].charge(8, clock.now_ms)
    clock.now_ms += 15_500
    refused = [await client.get(URL_OF[market]) for _ in range(3)]
    assert {answer.status_code for answer in refused} == {429}
    assert refused[0].json() == {"code": -1003, "msg": REFUSED_TEXT[market]}
    assert refused[0].headers["retry-after"] == "45"
    banned = await client.get(URL_OF[market])
    until_ms = clock.now_ms + 120_000
    assert banned.status_code == 418
    assert banned.json() == {"code": -1003, "msg": BANNED_TEXT[market].format(until_ms)}
    assert banned.headers["retry-after"] == "120"
    clock.now_ms = until_ms - 1
    assert (await client.get(URL_OF[market])).headers["retry-after"] == "1"
    clock.now_ms = until_ms + 60_000
    exchange.options = replace(exchange.options, limits={})
    assert (await client.get(URL_OF[market])).status_code == 200
    assert [record.status for record in exchange.requests] == [429, 429, 429, 418, 418, 200]


async def test_pools_are_counted_and_banned_apart(client: httpx.AsyncClient, exchange: Exchange) -> None:
    exchange.ban(Pool.SPOT, 30)
    assert (await client.get(URL_OF["spot"])).status_code == 418
    assert (await client.get(URL_OF["um"])).status_code == 200


async def test_the_two_futures_markets_share_one_count_and_one_ban(
    client: httpx.AsyncClient, exchange: Exchange
) -> None:
    """Since June 2026: the header of each shows what both used."""
    await client.get("/fapi/v1/aggTrades?symbol=BTCUSDT")
    answer = await client.get("/dapi/v1/aggTrades?symbol=BTCUSD_PERP")
    assert answer.headers["x-mbx-used-weight-1m"] == "40"
    exchange.ban(Pool.FUTURES, 30)
    assert [(await client.get(f"/{path}/v1/ping")).status_code for path in ("fapi", "dapi")] == [418, 418]
    assert (await client.get("/api/v3/ping")).status_code == 200


async def test_the_end_of_the_window_ends_the_refusals(
    client: httpx.AsyncClient, exchange: Exchange, clock: Any
) -> None:
    exchange.options = replace(exchange.options, limits={Pool.SPOT: 4}, bans=BanRule(after_refusals=10))
    statuses = []
    for _ in range(3):
        answer = await client.get(URL_OF["spot"])
        statuses.append(answer.status_code)
        clock.now_ms += int(answer.headers.get("retry-after", 0)) * 1000
    assert statuses == [200, 429, 200]


async def test_another_tenant_shows_in_the_header(client: httpx.AsyncClient, exchange: Exchange, clock: Any) -> None:
    clock.now_ms += 10_000
    exchange.options = replace(exchange.options, tenant=TenantOptions(weight_per_s=50))
    assert (await client.get(URL_OF["spot"])).headers["x-mbx-used-weight-1m"] == "504"


async def test_spot_counts_raw_requests_too(client: httpx.AsyncClient, exchange: Exchange) -> None:
    exchange.options = replace(exchange.options, raw_requests=Quota(1, Interval.parse("5M")))
    assert (await client.get(URL_OF["spot"])).status_code == 200
    refused = await client.get(URL_OF["spot"])
    assert refused.status_code == 429
    assert refused.json()["msg"] == "Too many requests; current limit is 1 raw requests per 5 MINUTE."
    assert (await client.get(URL_OF["um"])).status_code == 200


async def test_weight_is_charged_on_arrival_not_on_answer(exchange: Exchange, clock: Any) -> None:
    """A request in flight over the end of a window is counted where it began, and answers that count."""
    exchange.options = replace(exchange.options, latency_s=0.01)
    async with httpx.AsyncClient(base_url=exchange.url, timeout=60) as client:
        clock.now_ms += 59_999
        answer = await client.get(URL_OF["spot"])
    assert answer.headers["x-mbx-used-weight-1m"] == "4"
    (window,) = exchange.weights[Pool.SPOT].windows
    assert window.start_ms + 60_000 == clock.now_ms + 1
