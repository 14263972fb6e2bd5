"""The simulator's own paths: what tests ask of it when it runs as a process."""

from typing import Any

import httpx
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from binance_simulator import Exchange, Fault, Pool
from binance_simulator.model import Instrument

URL = "/api/v3/aggTrades?symbol=BTCUSDT&fromId=100000&limit=3"


async def test_the_log_tells_each_request(client: httpx.AsyncClient, clock: Any) -> None:
    await client.get(URL)
    await client.get("/fapi/v1/time")
    first, second = (await client.get("/simulator/requests")).json()
    assert first == {
        "number": 1,
        "arrived_ms": clock.now_ms,
        "market": "spot",
        "endpoint": "aggTrades",
        "query": "symbol=BTCUSDT&fromId=100000&limit=3",
        "status": 200,
        "weight": 4,
        "used_weight": 4,
        "rows": 3,
        "first_id": 100_000,
        "last_id": 100_002,
        "fault": None,
    }
    assert (second["number"], second["market"], second["endpoint"], second["rows"]) == (2, "um", "time", 0)


async def test_the_windows_of_each_pool_can_be_read(client: httpx.AsyncClient, clock: Any) -> None:
    await client.get(URL)
    weights = (await client.get("/simulator/weights")).json()
    assert weights["spot"]["totals"]["max_used_weight"] == 4
    (window,) = weights["spot"]["windows"]
    assert (window["start_ms"], window["used_by_us"], window["used_by_others"]) == (clock.now_ms, 4, 0)
    assert weights["futures"]["windows"] == []
    assert weights.keys() == {"spot", "futures"}


async def test_the_visible_tape_can_be_fetched_whole(client: httpx.AsyncClient, exchange: Exchange, clock: Any) -> None:
    clock.now_ms -= 1_800_000
    answer = await client.get("/simulator/tape?market=spot&symbol=BTCUSDT")
    expected = exchange.visible(Instrument.parse("spot:BTCUSDT"))
    assert 0 < expected.height < 2500
    assert_frame_equal(pl.read_ipc(answer.content), expected)
    assert (await client.get("/simulator/tape?market=spot&symbol=NONE")).status_code == 404


async def test_options_can_be_changed_while_it_runs(client: httpx.AsyncClient, exchange: Exchange) -> None:
    changes = {
        "latency_s": 0.001,
        "limits": {"spot": 50},
        "interval": {"num": 10, "unit": "SECOND"},
        "tenant": {"weight_per_s": 1},
        "lookback_hours": {"um": None},
        "faults": {"by_number": {"1": "status_500"}},
    }
    answer = await client.post("/simulator/options", json=changes)
    assert answer.status_code == 200
    assert answer.json() == (await client.get("/simulator/options")).json()
    assert exchange.options.faults.by_number == {1: Fault.STATUS_500}
    failed = await client.get(URL)
    assert (failed.status_code, failed.headers["x-mbx-used-weight-10s"]) == (500, "4")


async def test_a_ban_can_be_ordered(client: httpx.AsyncClient) -> None:
    await client.post("/simulator/options", json={"ban": {"pool": "spot", "seconds": 30}})
    assert (await client.get(URL)).headers["retry-after"] == "30"


@pytest.mark.parametrize(
    "changes", [{"latency": 1}, {"latency_s": "slow"}, {"ban": {"pool": "x", "seconds": 1}}, [], {"ban": {}}]
)
async def test_changes_that_cannot_be_are_refused_whole(
    client: httpx.AsyncClient, exchange: Exchange, changes: Any
) -> None:
    before = exchange.options
    answer = await client.post("/simulator/options", json=changes)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert exchange.options is before


async def test_the_simulators_own_paths_cost_nothing(client: httpx.AsyncClient, exchange: Exchange) -> None:
    for path in ("requests", "weights", "options", "tape?market=spot&symbol=BTCUSDT"):
        assert (await client.get(f"/simulator/{path}")).status_code == 200
    assert not exchange.requests
    assert not any(meter.windows for meter in exchange.weights.values())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({}, 200),
    ],
)
async def test_a_page_in_a_browser_cannot_change_the_exchange(
    client: httpx.AsyncClient, exchange: Exchange, headers: dict[str, str], status: int
) -> None:
    body = b'{"ban": {"pool": "spot", "seconds": 30}}'
    sent = {"content-type": "application/json"} | headers
    answer = await client.post("/simulator/options", content=body, headers=sent)
    assert answer.status_code == status
    assert (exchange.weights[Pool.SPOT].totals().bans == 1) == (status == 200)
