"""The stream adapter against the simulator's streams, and against servers that no exchange would be."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

import pytest
import trio
from websockets.trio.server import ServerConnection, serve

from backfilld.adapters import binance_stream
from backfilld.adapters.binance_stream import BinanceStream, open_stream
from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import Instrument
from backfilld.errors import StreamLost
from backfilld.ports import StreamBatch
from binance_simulator import Cut, Exchange, Market, StreamOptions, Tape, open_exchange
from binance_simulator.exchange import host_ms

SPOT = [Instrument.parse(f"spot:{name}USDT") for name in ("BTC", "ETH", "SOL")]
UM = Instrument.parse("um:BTCUSDT")
CM = Instrument.parse("cm:BTCUSD_PERP")
HAN = Instrument.parse("spot:测试USDT")
FAST = StreamOptions(delay_ms=dict.fromkeys(Market, 0))


@asynccontextmanager
async def exchange_of(*instruments: Instrument, streams: StreamOptions = FAST) -> AsyncIterator[Exchange]:
    now_ms = host_ms()
    tapes = {
        str(each): Tape.generate(
            start_ms=now_ms - 1000, stop_ms=now_ms, trades=10, first_id=100, seed=place, live_rate_per_s=300
        )
        for place, each in enumerate(instruments)
    }
    async with open_exchange(tapes, streams=streams) as exchange:
        yield exchange


async def trades_until(stream: BinanceStream, rows: int, *instruments: Instrument) -> dict[Instrument, list[LiveTrade]]:
    """What comes until each instrument has that many."""
    got: dict[Instrument, list[LiveTrade]] = {each: [] for each in instruments}
    with trio.fail_after(10):
        while any(len(trades) < rows for trades in got.values()):
            for instrument, trades in (await stream.receive(1.0)).trades.items():
                got.setdefault(instrument, []).extend(trades)
    return got


async def until_lost(stream: BinanceStream) -> None:
    """Receive until it raises."""
    with trio.fail_after(10):
        while True:
            await stream.receive(1.0)


@pytest.mark.parametrize(("instrument", "prefix"), [(SPOT[0], ""), (UM, "/market"), (CM, "/market"), (HAN, "")])
async def test_trades_of_every_market_come_as_the_tape_has_them(instrument: Instrument, prefix: str) -> None:
    async with exchange_of(instrument) as exchange:
        url = exchange.streams.urls[Market(instrument.market)] + prefix
        async with open_stream(url, [instrument]) as stream:
            trades = (await trades_until(stream, 100, instrument))[instrument]
        rows = {row["a"]: row for row in exchange.tape(str(instrument)).frame.iter_rows(named=True)}
    for trade in trades:
        assert {name: getattr(trade, name) for name in rows[trade.a]} == rows[trade.a]
    ids = [trade.a for trade in trades]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


async def test_more_streams_than_a_url_holds_are_subscribed_to_by_messages_within_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(binance_stream, "FIRST_NAMES", 1)
    monkeypatch.setattr(binance_stream, "NAMES_A_REQUEST", 1)
    async with exchange_of(*SPOT) as exchange:
        async with open_stream(exchange.streams.urls[Market.SPOT], SPOT) as stream:
            await trades_until(stream, 20, *SPOT)
            stream.unsubscribe(SPOT[:1])
            await trades_until(stream, 200, *SPOT[1:])
            assert SPOT[0] not in (await stream.receive(1.0)).trades
        (record,) = exchange.streams.records
        assert record.end != "too many messages"
        assert record.requests == 3


async def test_raw_messages_are_read_as_well() -> None:
    async with exchange_of(SPOT[0]) as exchange:
        # A server that ignores the wrapping: /ws in place of /stream.
        async with open_stream(exchange.streams.urls[Market.SPOT] + "/ws/btcusdt@aggTrade/x?", SPOT[:1]) as stream:
            await trades_until(stream, 20, SPOT[0])


async def test_garbage_is_counted_and_takes_no_trade_away() -> None:
    async with exchange_of(SPOT[0], streams=replace(FAST, garbage_share=0.3)) as exchange:
        async with open_stream(exchange.streams.urls[Market.SPOT], SPOT[:1]) as stream:
            garbage = 0
            ids: list[int] = []
            with trio.fail_after(10):
                while len(ids) < 300:
                    batch = await stream.receive(1.0)
                    garbage += batch.garbage
                    ids += [trade.a for trade in batch.trades.get(SPOT[0], [])]
    ids = [each for each in ids if each < 10**12]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert garbage > 20


@pytest.mark.parametrize("how", list(Cut))
async def test_a_cut_comes_out_as_a_reason_after_what_had_arrived(how: Cut) -> None:
    async with exchange_of(SPOT[0]) as exchange:
        with pytest.raises(StreamLost):
            async with open_stream(exchange.streams.urls[Market.SPOT], SPOT[:1]) as stream:
                await trades_until(stream, 20, SPOT[0])
                exchange.streams.cut(how)
                await until_lost(stream)


async def test_a_half_open_connection_is_noticed_by_our_pings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the library's traceback goes to a logger that has a handler: nothing of it is printed on stderr."""
    monkeypatch.setattr(binance_stream, "PING_EVERY_S", 0.2)
    monkeypatch.setattr(binance_stream, "PING_TIMEOUT_S", 0.2)
    async with exchange_of(SPOT[0], streams=replace(FAST, half_open_after_s=0.3)) as exchange:
        with pytest.raises(StreamLost):
            async with open_stream(exchange.streams.urls[Market.SPOT], SPOT[:1]) as stream:
                await until_lost(stream)
    assert {each.name for each in caplog.records if each.exc_info} == {"backfilld.websockets"}
    assert logging.getLogger("backfilld.websockets").handlers


async def test_an_announced_end_is_seen_wrapped_and_raw() -> None:
    for path in ("", "/ws/btcusdt@aggTrade/x?"):
        async with exchange_of(SPOT[0], streams=replace(FAST, shutdown_every_s=0.2)) as exchange:
            async with open_stream(exchange.streams.urls[Market.SPOT] + path, SPOT[:1]) as stream:
                with trio.fail_after(30):
                    while not (await stream.receive(1.0)).is_ending:
                        pass


async def test_nothing_comes_from_a_silent_connection_and_leaving_does_not_wait() -> None:
    async with exchange_of(SPOT[0], streams=replace(FAST, silent_connections=frozenset({1}))) as exchange:
        with trio.fail_after(5):
            async with open_stream(exchange.streams.urls[Market.SPOT], SPOT[:1]) as stream:
                assert await stream.receive(0.2) == StreamBatch()


async def test_leaving_does_not_hang_where_thousands_of_messages_are_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Websockets 17.4 would wait for ever: it has stopped reading, and its end of the connection with it."""
    monkeypatch.setattr(binance_stream, "MOST_FRAMES", 16)
    async with exchange_of(SPOT[0]) as exchange:
        with trio.fail_after(5):
            async with open_stream(exchange.streams.urls[Market.SPOT], SPOT[:1]) as stream:
                await stream.receive(1.0)
                await trio.sleep(0.5)


async def test_an_address_where_nobody_listens_and_one_that_refuses_are_reasons() -> None:
    with pytest.raises(StreamLost, match="127"):
        async with open_stream("ws://127.0.0.1:1", SPOT[:1]):
            pass
    async with exchange_of(SPOT[0]) as exchange:
        with pytest.raises(StreamLost, match="404"):
            async with open_stream(exchange.streams.urls[Market.SPOT] + "/nowhere", SPOT[:1]):
                pass


@asynccontextmanager
async def serving(handler: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve, handler, 0, host="127.0.0.1"))
        yield f"ws://127.0.0.1:{server.listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_a_message_beyond_the_bound_ends_the_connection() -> None:
    async def giant(connection: ServerConnection) -> None:
        await connection.send("x" * (binance_stream.MOST_BYTES + 1))
        await trio.sleep(5)

    async with serving(giant) as url:
        with pytest.raises(StreamLost):
            async with open_stream(url, SPOT[:1]) as stream:
                await until_lost(stream)


def message_of(trade_id: int, **changed: object) -> dict[str, object]:
    """An aggregate trade with its keys in another sequence, and some that nobody knows."""
    values: dict[str, object] = {"st": 1, "l": trade_id, "f": trade_id, "T": 1_767_225_600_000, "m": True, "nq": "1.0"}
    return (
        values | {"q": "2.0", "p": "1.5", "s": "BTCUSDT", "a": trade_id, "E": 5, "e": "aggTrade", "X": [{}]} | changed
    )


async def test_a_message_in_several_frames_does_not_hold_up_those_before_it() -> None:
    async def fragments(text: str) -> AsyncIterator[str]:
        for start in range(0, len(text), 7):
            yield text[start : start + 7]

    async def talk(connection: ServerConnection) -> None:
        for trade_id in range(50):
            await connection.send(fragments(json.dumps(message_of(trade_id))))
        await trio.sleep(60)

    async with serving(talk) as url:
        async with open_stream(url, SPOT[:1]) as stream:
            ids: list[int] = []
            with trio.fail_after(30):
                while len(ids) < 50:
                    batch = await stream.receive(60.0)
                    ids += [each.a for each in batch.trades[SPOT[0]]]
            assert ids == list(range(50))


async def test_what_a_server_may_do_otherwise_changes_nothing() -> None:
    """Other keys, numbers in place of text, symbols in lower case, binary frames, a late ACK, trades that nobody asked
    for, lists."""

    async def talk(connection: ServerConnection) -> None:
        await connection.send(json.dumps({"stream": "x", "data": message_of(1, q=2, p=1.5, a="1")}))
        await connection.send(json.dumps(message_of(2, s="btcusdt")))
        await connection.send(json.dumps(message_of(3)).encode())
        await connection.send(json.dumps({"result": None, "id": 7}))
        await connection.send(json.dumps(message_of(9, s="DOGEUSDT")))
        await connection.send(json.dumps({"data": message_of(4), "stream": "btcusdt@aggTrade", "time": 5}))
        await connection.send(json.dumps([message_of(5)]))
        await trio.sleep(5)

    async with serving(talk) as url:
        async with open_stream(url, SPOT[:1]) as stream:
            got = await trades_until(stream, 4, SPOT[0])
    assert [(each.a, each.p, each.q) for each in got[SPOT[0]]] == [(each, 1.5, 2.0) for each in (1, 2, 3, 4)]
    assert list(got) == SPOT[:1]


async def test_refusals_and_foreign_text_come_out_plain() -> None:
    async def refuse(connection: ServerConnection) -> None:
        await connection.send(json.dumps({"error": {"code": 2, "msg": "no \x1b[31m\n" + "x" * 1000}, "id": 1}))
        await trio.sleep(5)

    async with serving(refuse) as url:
        async with open_stream(url, SPOT[:1]) as stream:
            batch = await stream.receive(2.0)
    (refusal,) = batch.refusals
    assert refusal.isprintable()
    assert len(refusal) <= 200


async def test_messages_nested_without_end_are_garbage_and_refusals_without_end_are_named_twenty_times() -> None:
    async def talk(connection: ServerConnection) -> None:
        for text in ('{"data":' * 500, "[" * 4000, '{"a":' * 600 + "1" + "}" * 600):
            await connection.send(text)
        for number in range(100):
            await connection.send(json.dumps({"error": {"code": 2, "msg": f"no {number}"}, "id": number}))
        await connection.send(json.dumps(message_of(7, E=10**30)))
        await connection.send(json.dumps(message_of(8, E=-5)))
        await trio.sleep(5)

    async with serving(talk) as url:
        async with open_stream(url, SPOT[:1]) as stream:
            batches = [await stream.receive(1.0)]
            while not batches[-1].trades:
                batches.append(await stream.receive(1.0))
    assert sum(len(each.refusals) for each in batches) == binance_stream.MOST_REFUSALS
    assert sum(each.garbage for each in batches) == 3 + 100 - binance_stream.MOST_REFUSALS
    assert [each.event_ms for each in batches if each.trades] == [0]


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """A server that answers a handshake with any bytes; its port."""

    async def serve_one(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async with stream:
                request = b""
                while not request.startswith(b"\x16") and b"\r\n\r\n" not in request:
                    request += await stream.receive_some(4096)
                await stream.send_all(answer(request))
                while await stream.receive_some(4096):
                    pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve_one, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("place", ["ws://x:99999/", "ws://x:abc/", "ws://[::1", f"ws://{'a' * 300}/", ""])
async def test_a_redirect_to_no_address_is_a_reason(place: str) -> None:
    redirect = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {place}\r\n\r\n".encode()
    async with answering(lambda _: redirect) as port:
        with pytest.raises(StreamLost):
            async with open_stream(f"ws://127.0.0.1:{port}", SPOT[:1]):
                pass


async def test_a_server_that_speaks_no_tls_is_a_reason() -> None:
    async with answering(lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        with pytest.raises(StreamLost, match="TLS failed"):
            async with open_stream(f"wss://127.0.0.1:{port}", SPOT[:1]):
                pass


async def test_a_message_of_fragments_without_end_is_a_reason() -> None:
    async def fragments() -> AsyncGenerator[str, None]:
        for _ in range(6000):
            yield "x"

    async def talk(connection: ServerConnection) -> None:
        async with aclosing(fragments()) as parts:
            await connection.send(parts)
        await trio.sleep(5)

    async with serving(talk) as url:
        with pytest.raises(StreamLost):
            async with open_stream(url, SPOT[:1]) as stream:
                await until_lost(stream)
