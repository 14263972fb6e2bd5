"""The plan of faults, and each fault as a client meets it."""

import socket
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from binance_simulator import ORDINARY_FAULTS, Exchange, ExchangeOptions, Fault, FaultPlan, Tape, open_exchange

URL = "/api/v3/aggTrades?symbol=BTCUSDT&fromId=100000&limit=100"
EXPECTED_IDS = list(range(100_000, 100_100))


def plan_of(fault: Fault) -> FaultPlan:
    return FaultPlan(by_number={1: fault})


async def answer_with(exchange: Exchange, client: httpx.AsyncClient, fault: Fault) -> httpx.Response:
    exchange.options = replace(exchange.options, faults=plan_of(fault))
    return await client.get(URL)


@settings(deadline=None)
@given(seed=st.integers(), number=st.integers(1, 10**6), share=st.floats(0, 1))
def test_a_plan_is_a_function_of_its_seed(seed: int, number: int, share: float) -> None:
    plan = FaultPlan(share=share, seed=seed)
    assert plan.fault_of(number) == plan.fault_of(number)
    assert FaultPlan(share=0, seed=seed).fault_of(number) is None
    assert FaultPlan(share=1, kinds=(Fault.HOLE,), seed=seed).fault_of(number) is Fault.HOLE
    assert FaultPlan(share=share, seed=seed, by_number={number: Fault.DRIP}).fault_of(number) is Fault.DRIP


def test_a_share_of_the_requests_meets_faults_of_all_kinds() -> None:
    met = [FaultPlan(share=0.25, seed=3).fault_of(number) for number in range(1, 4001)]
    assert 900 < sum(fault is not None for fault in met) < 1100
    assert set(met) == {None, *ORDINARY_FAULTS}


async def test_faults_are_numbered_from_the_setting_of_the_plan(exchange: Exchange, client: httpx.AsyncClient) -> None:
    """Other endpoints do not count, refusals for weight do not, and another latency leaves the numbers alone."""
    await client.get(URL)
    exchange.options = replace(exchange.options, faults=FaultPlan(by_number={2: Fault.STATUS_500}))
    await client.get("/api/v3/time")
    statuses = [(await client.get(URL)).status_code]
    exchange.options = replace(exchange.options, latency_s=0.001)
    statuses += [(await client.get(URL)).status_code for _ in range(2)]
    assert statuses == [200, 500, 200]
    assert [record.fault for record in exchange.requests][-2:] == [Fault.STATUS_500, None]


@pytest.mark.parametrize(
    ("fault", "status", "code", "has_weight"),
    [
        (Fault.STATUS_500, 500, -1000, True),
        (Fault.STATUS_451, 451, 0, True),
        (Fault.ERROR_1007, 504, -1007, True),
        (Fault.ERROR_1008, 503, -1008, True),
        (Fault.STATUS_502_HTML, 502, None, False),
        (Fault.STATUS_503_HTML, 503, None, False),
        (Fault.STATUS_403_HTML, 403, None, False),
        (Fault.STATUS_200_HTML, 200, None, False),
    ],
)
async def test_errors_and_pages_replace_the_answer(
    exchange: Exchange, client: httpx.AsyncClient, fault: Fault, status: int, code: int | None, has_weight: bool
) -> None:
    answer = await answer_with(exchange, client, fault)
    assert answer.status_code == status
    assert ("x-mbx-used-weight-1m" in answer.headers) == has_weight
    if code is None:
        assert answer.headers["content-type"] == "text/html"
        assert answer.text.startswith("<html>")
    else:
        assert answer.json()["code"] == code


async def test_bodies_that_are_not_rows(exchange: Exchange, client: httpx.AsyncClient) -> None:
    plan = FaultPlan(by_number={1: Fault.OBJECT_BODY, 2: Fault.OBJECT_BODY, 3: Fault.GARBAGE_BODY})
    exchange.options = replace(exchange.options, faults=plan)
    assert [(await client.get(URL)).json() for _ in range(2)] == [{"code": 0}, {}]
    garbage = await client.get(URL)
    assert garbage.headers["content-type"].startswith("application/json")
    with pytest.raises(ValueError, match=r"decode|Invalid|Expecting|Unterminated"):
        garbage.json()


async def rows_with(exchange: Exchange, client: httpx.AsyncClient, fault: Fault) -> list[dict[str, Any]]:
    answer = await answer_with(exchange, client, fault)
    assert answer.status_code == 200
    rows: list[dict[str, Any]] = answer.json()
    return rows


async def test_rows_out_of_order_doubled_missing_or_later(exchange: Exchange, client: httpx.AsyncClient) -> None:
    found = {
        fault: [row["a"] for row in await rows_with(exchange, client, fault)]
        for fault in (Fault.SHUFFLED, Fault.DOUBLED_ROW, Fault.HOLE, Fault.LATER_RANGE)
    }
    assert found[Fault.SHUFFLED] != EXPECTED_IDS
    assert sorted(found[Fault.SHUFFLED]) == EXPECTED_IDS
    assert found[Fault.DOUBLED_ROW] == EXPECTED_IDS[:51] + EXPECTED_IDS[50:]
    assert found[Fault.HOLE] == EXPECTED_IDS[:50] + EXPECTED_IDS[51:]
    assert found[Fault.LATER_RANGE] == [row_id + 50 for row_id in EXPECTED_IDS]


@pytest.mark.parametrize(
    ("fault", "field", "value"),
    [
        (Fault.MISSING_FIELD, "T", "absent"),
        (Fault.NULL_FIELD, "p", None),
        (Fault.BEYOND_INT64, "l", 2**63),
        (Fault.NAN_PRICE, "p", "NaN"),
        (Fault.WRONG_TYPE, "a", "100050"),
    ],
)
async def test_the_middle_row_is_spoiled_and_no_other(
    exchange: Exchange, client: httpx.AsyncClient, fault: Fault, field: str, value: Any
) -> None:
    right = (await client.get(URL)).json()
    wrong = await rows_with(exchange, client, fault)
    assert wrong[50].get(field, "absent") == value
    assert wrong[:50] + wrong[51:] == right[:50] + right[51:]


async def test_a_page_without_rows_cannot_be_spoiled(exchange: Exchange, client: httpx.AsyncClient) -> None:
    exchange.options = replace(exchange.options, faults=plan_of(Fault.HOLE))
    assert (await client.get("/api/v3/aggTrades?symbol=BTCUSDT&fromId=999999999")).json() == []


async def test_the_right_rows_without_a_weight_header(exchange: Exchange, client: httpx.AsyncClient) -> None:
    answer = await answer_with(exchange, client, Fault.NO_WEIGHT_HEADER)
    assert [row["a"] for row in answer.json()] == EXPECTED_IDS
    assert not [name for name in answer.headers if name.startswith("x-mbx")]


async def test_a_cut_body_breaks_the_protocol(exchange: Exchange, client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        await answer_with(exchange, client, Fault.CUT_BODY)
    assert [row["a"] for row in (await client.get(URL)).json()] == EXPECTED_IDS, "the server lives on"


async def test_a_reset_ends_the_connection_without_a_word(exchange: Exchange, client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ReadError):
        await answer_with(exchange, client, Fault.RESET)
    assert exchange.requests[-1].status == 0
    assert [row["a"] for row in (await client.get(URL)).json()] == EXPECTED_IDS, "the server lives on"


async def test_silence_lasts_until_the_client_leaves(exchange: Exchange, client: httpx.AsyncClient) -> None:
    exchange.options = replace(exchange.options, faults=plan_of(Fault.SILENCE))
    with pytest.raises(httpx.ReadTimeout):
        await client.get(URL, timeout=0.2)
    assert [row["a"] for row in (await client.get(URL)).json()] == EXPECTED_IDS, "the server lives on"


async def test_a_dripping_answer_arrives_byte_by_byte(exchange: Exchange, client: httpx.AsyncClient) -> None:
    exchange.options = replace(exchange.options, faults=plan_of(Fault.DRIP))
    text = b""
    async with await connected(exchange) as stream:
        await stream.send_all(question(100))
        while not text.endswith(b'[{"'):
            text += await stream.receive_some()
            assert len(text.partition(b"\r\n\r\n")[2]) <= 3
    assert [row["a"] for row in (await client.get(URL)).json()] == EXPECTED_IDS, "the server lives on"


async def connected(exchange: Exchange) -> trio.SocketStream:
    host, port = exchange.url.removeprefix("http://").split(":")
    return await trio.open_tcp_stream(host, int(port))


def question(limit: int) -> bytes:
    return f"GET {URL.replace('limit=100', f'limit={limit}')} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_the_server_ends_at_once_with_clients_hanging(tapes: dict[Any, Tape]) -> None:
    """One client waits in a silence, one reads nothing of much that it asked for, one is idle."""
    options = ExchangeOptions(faults=FaultPlan(by_number={1: Fault.SILENCE}))
    async with open_exchange(tapes, options) as exchange:
        waiting, reading_nothing, idle = [await connected(exchange) for _ in range(3)]
        await waiting.send_all(question(100))
        await until_requests(exchange, 1)
        reading_nothing.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        await reading_nothing.send_all(question(1000) * 20)
        await until_requests(exchange, 2)
        ends_at = time.monotonic()
    assert time.monotonic() - ends_at < 1
    for stream in (waiting, reading_nothing, idle):
        with pytest.raises(trio.BrokenResourceError):
            await read_to_the_end(stream)
        await stream.aclose()


async def read_to_the_end(stream: trio.SocketStream) -> None:
    while await stream.receive_some():
        pass


async def until_requests(exchange: Exchange, number: int) -> None:
    with trio.fail_after(5):
        while len(exchange.requests) < number:
            await trio.sleep(0.001)
