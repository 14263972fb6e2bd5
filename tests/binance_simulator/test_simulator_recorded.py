"""The simulator's answers have the shape of recorded ones: the same members of the same types."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from binance_simulator import Exchange
from binance_simulator.model import Pool

RECORDED = Path(__file__).parents[3] / "shared" / "data"

TRADES = {
    "rest/spot_BTCUSDT_2021-10-22_limit10.json": "/api/v3/aggTrades?symbol=BTCUSDT",
    "rest/spot_BTCUSDT_fromId202790190_limit1000.json": "/api/v3/aggTrades?symbol=BTCUSDT",
    "um/CLUSDT-um-2026-05-01.rest.json": "/fapi/v1/aggTrades?symbol=BTCUSDT",
    "rest/cm_BTCUSD_PERP_limit5.json": "/dapi/v1/aggTrades?symbol=BTCUSD_PERP",
}
LIMITS = {"spot": "/api/v3/exchangeInfo", "um": "/fapi/v1/exchangeInfo", "cm": "/dapi/v1/exchangeInfo"}
DECIMAL = re.compile(r"\d+(\.\d+)?")


def recorded(name: str) -> Any:
    path = RECORDED / name
    if not path.exists():
        pytest.skip(f"the recorded answer {name} is not here: it belongs to the exchange, not to this repository")
    return json.loads(path.read_bytes())


def shape(row: dict[str, Any]) -> dict[str, str]:
    """Members and their types, decimals apart from other strings."""
    return {
        key: "decimal" if isinstance(value, str) and DECIMAL.fullmatch(value) else type(value).__name__
        for key, value in row.items()
    }


@pytest.mark.parametrize("name", list(TRADES))
async def test_rows_have_the_recorded_shape(client: httpx.AsyncClient, name: str) -> None:
    document = recorded(name)
    expected = document["body"] if isinstance(document, dict) else document
    rows = (await client.get(TRADES[name])).json()
    assert {tuple(sorted(shape(row).items())) for row in rows} == {
        tuple(sorted(shape(row).items())) for row in expected
    }


@pytest.mark.parametrize("market", list(LIMITS))
async def test_rate_limits_have_the_recorded_shape_and_numbers(client: httpx.AsyncClient, market: str) -> None:
    """But RAW_REQUESTS, which was raised after the recording."""
    expected = recorded(f"rest/{market}_exchangeInfo_rateLimits.json")
    found = (await client.get(LIMITS[market])).json()
    assert {key: type(found[key]) for key in expected} == {key: type(expected[key]) for key in expected}

    def limits(document: dict[str, Any]) -> set[tuple[Any, ...]]:
        return {
            (limit["rateLimitType"], limit["interval"], limit["intervalNum"], limit["limit"])
            for limit in document["rateLimits"]
            if limit["rateLimitType"] != "RAW_REQUESTS"
        }

    assert limits(found) == limits(expected)
    assert {frozenset(shape(limit).items()) for limit in found["rateLimits"]} == {
        frozenset(shape(limit).items()) for limit in expected["rateLimits"]
    }


async def test_errors_have_the_recorded_shape_and_opening_words(client: httpx.AsyncClient, exchange: Exchange) -> None:
    expected = {
        (entry["status"], entry["body"]["msg"].split(" until ")[0].split("(")[0][:22])
        for entry in recorded("rest/errors_observed.json")["errors"]
        if entry["status"] in {418, 429}
    }
    found = set()
    for pool, path in ((Pool.SPOT, "/api/v3/ping"), (Pool.FUTURES, "/fapi/v1/ping")):
        exchange.weights[pool].charge(10_000, exchange.now_ms())
        for _ in range(3):
            answer = await client.get(path)
            assert shape(answer.json()) == {"code": "int", "msg": "str"}
            found.add((answer.status_code, answer.json()["msg"].split(" until ")[0].split("(")[0][:22]))
    assert found == expected
