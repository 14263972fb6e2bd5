"""Tickers, book and single trades agree with the aggregate trades of the same exchange."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from binance_simulator import Exchange

PREFIX = {"spot": "/api/v3", "um": "/fapi/v1"}


async def get(client: httpx.AsyncClient, market: str, path: str, **query: Any) -> Any:
    return (await client.get(f"{PREFIX[market]}/{path}", params={"symbol": "BTCUSDT"} | query)).json()


@pytest.mark.parametrize("market", ["spot", "um"])
async def test_the_last_trade_is_the_price_and_lies_between_bid_and_ask(client: httpx.AsyncClient, market: str) -> None:
    (last,) = await get(client, market, "aggTrades", limit=1)
    price = await get(client, market, "ticker/price")
    book, day = await get(client, market, "ticker/bookTicker"), await get(client, market, "ticker/24hr")
    depth = await get(client, market, "depth", limit=5)
    assert price["price"] == day["lastPrice"] == last["p"]
    assert Decimal(book["bidPrice"]) < Decimal(last["p"]) < Decimal(book["askPrice"])
    assert [book["bidPrice"], book["bidQty"]] == depth["bids"][0]
    assert [book["askPrice"], book["askQty"]] == depth["asks"][0]
    assert len(depth["bids"]) == len(depth["asks"]) == 5
    assert depth == await get(client, market, "depth", limit=5) | {key: depth[key] for key in depth if key in "ET"}


@pytest.mark.parametrize("market", ["spot", "um"])
async def test_a_day_is_the_sum_of_its_trades(client: httpx.AsyncClient, exchange: Exchange, market: str) -> None:
    day = await get(client, market, "ticker/24hr")
    rows = exchange.visible(f"{market}:BTCUSDT")
    rows = rows.filter(rows["f"] >= 0)
    assert day["count"] == (rows["l"] - rows["f"] + 1).sum()
    assert (day["firstId"], day["lastId"]) == (rows["f"][0], rows["l"][-1])
    assert float(day["highPrice"]) == rows["p"].max()
    assert float(day["volume"]) == pytest.approx(rows["q"].sum())
    change = Decimal(day["lastPrice"]) - Decimal(day["openPrice"])
    assert Decimal(day["priceChange"]) == change


async def test_single_trades_are_the_parts_of_the_aggregates(client: httpx.AsyncClient) -> None:
    trades = await get(client, "spot", "trades", limit=200)
    ids = [trade["id"] for trade in trades]
    assert ids == list(range(ids[0], ids[0] + 200))
    for row in await get(client, "spot", "aggTrades", limit=50):
        parts = [trade for trade in trades if row["f"] <= trade["id"] <= row["l"]]
        if len(parts) == row["l"] - row["f"] + 1:
            assert sum(Decimal(part["qty"]) for part in parts) == Decimal(row["q"])
            assert {part["price"] for part in parts} == {row["p"]}


@pytest.mark.parametrize(
    ("path", "weight"),
    [
        ("/api/v3/klines?symbol=BTCUSDT&interval=1m", 2),
        ("/api/v3/trades?symbol=BTCUSDT", 25),
        ("/api/v3/avgPrice?symbol=BTCUSDT", 2),
        ("/api/v3/depth?symbol=BTCUSDT", 5),
        ("/api/v3/depth?symbol=BTCUSDT&limit=101", 25),
        ("/api/v3/depth?symbol=BTCUSDT&limit=5000", 250),
        ("/api/v3/ticker/24hr?symbol=BTCUSDT", 2),
        ("/api/v3/ticker/24hr", 80),
        ("/api/v3/ticker/price", 4),
        ("/api/v3/ticker/bookTicker?symbol=BTCUSDT", 2),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=99", 1),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1m", 5),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1500", 10),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=50", 2),
        ("/fapi/v1/depth?symbol=BTCUSDT", 10),
        ("/fapi/v1/ticker/24hr", 40),
        ("/fapi/v1/ticker/bookTicker", 5),
    ],
)
async def test_each_endpoint_costs_what_is_documented(client: httpx.AsyncClient, path: str, weight: int) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-mbx-used-weight-1m"] == str(weight)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v3/ticker/price?symbol=NONE", -1121),
        ("/api/v3/ticker/price?symbol=BTCUSDT&symbols=%5B%22BTCUSDT%22%5D", -1128),
        ("/api/v3/ticker/24hr?symbols=BTCUSDT", -1100),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=7", -4021),
        ("/api/v3/depth", -1102),
        ("/api/v3/trades?symbol=BTCUSDT&limit=0", -1130),
    ],
)
async def test_broken_parameters_are_refused(client: httpx.AsyncClient, path: str, code: int) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
