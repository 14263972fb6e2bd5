"""The simulated streams against a client that is not ours: paths, payloads, limits and every fault."""

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import trio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.trio.client import ClientConnection, connect

from binance_simulator import (
    Cut,
    Exchange,
    ExchangeOptions,
    Instrument,
    Market,
    StreamOptions,
    Streams,
    Tape,
    open_exchange,
)
from binance_simulator.exchange import host_ms
from binance_simulator.streams import stream_name

SPOT, UM, CM = (Instrument.parse(name) for name in ("spot:BTCUSDT", "um:BTCUSDT", "cm:BTCUSD_PERP"))
FAST = StreamOptions(delay_ms=dict.fromkeys(Market, 0))


def growing(rate_per_s: float) -> dict[Instrument, Tape]:
    """Tapes whose live trades begin now."""
    now_ms = host_ms()
    lots = {SPOT: "0.00001", UM: "0.001", CM: "1"}
    return {
        each: Tape.generate(
            start_ms=now_ms - 60_000, stop_ms=now_ms, trades=100, first_id=1000, lot=lot, live_rate_per_s=rate_per_s
        )
        for each, lot in lots.items()
    }


@asynccontextmanager
async def streaming(options: StreamOptions = FAST, rate_per_s: float = 200) -> AsyncIterator[tuple[Exchange, Streams]]:
    async with open_exchange(growing(rate_per_s), streams=options) as exchange:
        yield exchange, exchange.streams


@asynccontextmanager
async def client(url: str, **given: Any) -> AsyncIterator[ClientConnection]:
    async with connect(url, proxy=None, close_timeout=0.2, **({"max_queue": None} | given)) as connection:
        yield connection


async def received(connection: ClientConnection, count: int) -> list[Any]:
    with trio.fail_after(10):
        return [json.loads(await connection.recv()) for _ in range(count)]


async def ended(connection: ClientConnection, messages: list[Any] | None = None) -> ConnectionClosed:
    """How the connection ended; ``messages`` gets what came before."""
    messages = [] if messages is None else messages
    with trio.fail_after(10):
        try:
            while True:
                messages.append(json.loads(await connection.recv()))
        except ConnectionClosed as end:
            return end


@pytest.mark.parametrize(
    ("instrument", "path", "keys"),
    [
        (SPOT, "/ws/btcusdt@aggTrade", "e E s a p q f l T m M"),
        (UM, "/market/ws/btcusdt@aggTrade", "e E a s p q nq f l T m st"),
        (CM, "/market/ws/btcusd_perp@aggTrade", "e E a s p q f l T m st"),
        (CM, "/ws/btcusd_perp@aggTrade", "e E a s p q f l T m st"),
    ],
)
async def test_a_payload_has_the_keys_of_its_market_in_their_places(
    instrument: Instrument, path: str, keys: str
) -> None:
    async with streaming() as (exchange, streams), client(streams.urls[instrument.market] + path) as connection:
        messages = await received(connection, 20)
        rows = exchange.tapes[instrument].frame
    assert {" ".join(message) for message in messages} == {keys}
    ids = [message["a"] for message in messages]
    assert ids == list(range(ids[0], ids[0] + 20))
    for message in messages:
        (row,) = rows.filter(pl.col("a") == message["a"]).rows(named=True)
        assert {name: message[name] for name in "aflTm"} == {name: row[name] for name in "aflTm"}
        assert (float(message["p"]), float(message["q"])) == (row["p"], row["q"])
        assert message["s"] == instrument.symbol
        assert message["E"] >= message["T"]
    if instrument is SPOT:
        assert all(len(message["p"].partition(".")[2]) == 8 for message in messages)
    else:
        assert {message["st"] for message in messages} == {1 if instrument is UM else 2}


async def test_two_raw_names_two_combined_names_and_a_subscription_deliver_the_same() -> None:
    async with streaming() as (_, streams):
        url = streams.urls[Market.SPOT]
        async with client(url + "/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade") as combined:
            (first,) = await received(combined, 1)
            assert first["stream"] == "btcusdt@aggTrade"
            assert first["data"]["e"] == "aggTrade"
        async with client(url + "/ws/btcusdt@aggTrade/ethusdt@aggTrade") as raw:
            assert (await received(raw, 1))[0]["e"] == "aggTrade"
        for path in ("/ws", "/ws/7", "/stream", "/stream/ws"):
            async with client(url + path) as connection:
                await connection.send(json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": "x"}))
                acknowledged, trade = await received(connection, 2)
                assert acknowledged == {"result": None, "id": "x"}
                assert ("stream" in trade) is path.startswith("/stream")


async def test_requests_are_answered_as_documented() -> None:
    async with streaming(rate_per_s=0.1) as (_, streams), client(streams.urls[Market.UM] + "/market/ws") as connection:
        requests: list[tuple[dict[str, Any], Any]] = [
            ({"method": "SUBSCRIBE", "params": ["a@aggTrade", "b@aggTrade"], "id": 1}, None),
            ({"method": "UNSUBSCRIBE", "params": ["b@aggTrade"], "id": None}, None),
            ({"method": "LIST_SUBSCRIPTIONS", "id": 3}, ["a@aggTrade"]),
            ({"method": "SET_PROPERTY", "params": ["combined", True], "id": 4}, None),
            ({"method": "GET_PROPERTY", "params": ["combined"], "id": 5}, True),
        ]
        for request, answer in requests:
            await connection.send(json.dumps(request))
            assert await received(connection, 1) == [{"result": answer, "id": request["id"]}]
        for text, code in [("{", 3), ('{"id": 1}', 2), ('{"method": "X", "id": 2}', 2)]:
            await connection.send(text)
            (refused,) = await received(connection, 1)
            assert refused["error"]["code"] == code


@pytest.mark.parametrize(
    ("market", "path", "name"),
    [
        (Market.UM, "/ws", "btcusdt@aggTrade"),
        (Market.UM, "/public/ws", "btcusdt@aggTrade"),
        (Market.SPOT, "/ws", "BTCUSDT@aggTrade"),
        (Market.SPOT, "/ws", "nosuchsymbol@aggTrade"),
    ],
)
async def test_what_is_not_routed_or_not_known_is_acknowledged_and_silent(market: Market, path: str, name: str) -> None:
    async with streaming() as (_, streams), client(streams.urls[market] + path) as connection:
        await connection.send(json.dumps({"method": "SUBSCRIBE", "params": [name], "id": 1}))
        assert await received(connection, 1) == [{"result": None, "id": 1}]
        with trio.move_on_after(0.3) as waited:
            await connection.recv()
        assert waited.cancelled_caught


async def test_unknown_paths_are_not_found() -> None:
    async with streaming() as (_, streams):
        with pytest.raises(InvalidStatus, match="404"):
            await client(streams.urls[Market.SPOT] + "/market/ws").__aenter__()


async def test_too_many_connects_are_refused() -> None:
    async with streaming(replace(FAST, connects=1)) as (_, streams):
        async with client(streams.urls[Market.SPOT] + "/ws"):
            pass
        with pytest.raises(InvalidStatus, match="429"):
            await client(streams.urls[Market.SPOT] + "/ws").__aenter__()


async def test_a_client_that_says_too_much_is_cut_off() -> None:
    async with streaming() as (_, streams), client(streams.urls[Market.SPOT] + "/ws") as connection:
        for number in range(6):
            await connection.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": number}))
        await ended(connection)
        assert streams.records[0].end == "too many messages"


async def test_more_streams_than_a_connection_may_have_are_refused() -> None:
    async with streaming(replace(FAST, streams_per_connection=2)) as (_, streams):
        async with client(streams.urls[Market.SPOT] + "/ws") as connection:
            names = [f"{letter}@aggTrade" for letter in "abc"]
            await connection.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
            assert "error" in (await received(connection, 1))[0]


async def test_dropped_doubled_and_shuffled_messages_are_the_share_that_was_asked_for() -> None:
    options = replace(FAST, drop_share=0.1, double_share=0.1, shuffle_share=0.1, garbage_share=0.0, seed=3)
    async with streaming(options, 2000) as (_, streams):
        async with client(streams.urls[Market.SPOT] + "/ws/btcusdt@aggTrade") as connection:
            ids = [message["a"] for message in await received(connection, 3000)]
    lacking = (max(ids) - min(ids) + 1) - len(set(ids))
    assert 150 < lacking < 600
    assert 150 < len(ids) - len(set(ids)) < 600
    assert sum(after < before for before, after in itertools.pairwise(ids)) > 100


async def test_garbage_comes_between_the_trades_and_takes_none_away() -> None:
    async with streaming(replace(FAST, garbage_share=0.5), 500) as (_, streams):
        async with client(streams.urls[Market.SPOT] + "/ws/btcusdt@aggTrade") as connection:
            with trio.fail_after(10):
                texts = [await connection.recv() for _ in range(200)]
    good, bad = [], 0
    for text in texts:
        try:
            good.append(json.loads(text)["a"] if len(json.loads(text)) == 11 else None)
        except (ValueError, KeyError, TypeError):
            bad += 1
    plain = [trade_id for trade_id in good if isinstance(trade_id, int) and 1000 < trade_id < 10**9]
    assert bad > 10
    assert plain == list(range(plain[0], plain[0] + len(plain)))


@pytest.mark.parametrize("how", list(Cut))
async def test_a_connection_is_cut_in_the_way_that_was_asked_for(how: Cut) -> None:
    async with streaming(replace(FAST, cut_every_s=0.2, cuts=(how,))) as (_, streams):
        async with client(streams.urls[Market.SPOT] + "/ws/btcusdt@aggTrade") as connection:
            end = await ended(connection)
            assert (end.rcvd is not None) is (how is Cut.CLOSE)
        assert streams.records[0].end == "cut"


async def test_a_silent_connection_acknowledges_only_and_the_next_one_delivers() -> None:
    async with streaming(replace(FAST, silent_connections=frozenset({1}))) as (_, streams):
        url = streams.urls[Market.SPOT] + "/ws/btcusdt@aggTrade"
        async with client(url) as connection:
            with trio.move_on_after(0.3) as waited:
                await connection.recv()
            assert waited.cancelled_caught
        async with client(url) as connection:
            await received(connection, 1)


async def test_a_half_open_connection_answers_no_ping() -> None:
    async with streaming(replace(FAST, half_open_after_s=0.2)) as (_, streams):
        url = streams.urls[Market.SPOT] + "/ws/btcusdt@aggTrade"
        async with client(url, ping_interval=0.3, ping_timeout=0.3) as connection:
            await received(connection, 1)
            assert (await ended(connection)).rcvd is None


@pytest.mark.parametrize("path", ["/ws/btcusdt@aggTrade", "/stream?streams=btcusdt@aggTrade"])
async def test_a_shutdown_is_announced_and_then_comes(path: str) -> None:
    options = replace(FAST, shutdown_every_s=0.2, shutdown_lead_s=0.2)
    async with streaming(options, 20) as (_, streams), client(streams.urls[Market.SPOT] + path) as connection:
        texts: list[Any] = []
        await ended(connection, texts)
        notices = [text for text in texts if "serverShutdown" in json.dumps(text)]
        assert len(notices) == 1
        notice = notices[0]
        assert (notice["stream"] == "!serverShutdown") if "stream" in path else (notice["e"] == "serverShutdown")


async def test_a_client_that_answers_no_ping_is_dropped_and_the_payload_is_copied() -> None:
    options = replace(FAST, pings=dict.fromkeys(Market, (0.1, 1.0)))
    async with streaming(options) as (_, streams):
        async with client(streams.urls[Market.SPOT] + "/ws/btcusdt@aggTrade") as connection:
            await received(connection, 200)
        assert streams.records[0].pongs >= 2


async def test_a_flood_reaches_a_client_that_reads() -> None:
    async with streaming(FAST, 20_000) as (_, streams):
        async with client(streams.urls[Market.SPOT] + "/ws/btcusdt@aggTrade") as connection:
            with trio.fail_after(60):
                ids = [json.loads(await connection.recv())["a"] for _ in range(5_000)]
    assert ids == list(range(ids[0], ids[0] + 5_000))


async def test_deflate_is_offered_when_asked_for() -> None:
    async with streaming(replace(FAST, deflate=True)) as (_, streams):
        async with client(streams.urls[Market.SPOT] + "/ws/btcusdt@aggTrade") as connection:
            assert connection.protocol.extensions
            await received(connection, 5)


def test_rest_lies_behind_the_stream_as_far_as_it_is_set() -> None:
    now_ms = host_ms()
    tape = Tape.generate(start_ms=now_ms - 10_000, stop_ms=now_ms, trades=1000, first_id=1000)
    exchange = Exchange({SPOT: tape}, ExchangeOptions(rest_lag_s=5), lambda: now_ms)
    exchange.answer(Market.SPOT, "aggTrades", "symbol=BTCUSDT&limit=1")
    newest = exchange.requests[-1].last_id
    exchange.options = ExchangeOptions()
    exchange.answer(Market.SPOT, "aggTrades", "symbol=BTCUSDT&limit=1")
    assert newest is not None
    assert exchange.requests[-1].last_id == 1999
    assert newest < 1950
    assert stream_name(SPOT) == "btcusdt@aggTrade"
