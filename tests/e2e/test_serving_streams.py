"""The endpoint's streams, as subscribers see them: each trade once and in order, candles, refusals, an orderly end."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.trio.client import ClientConnection, connect

from binance_simulator import Exchange
from tests.e2e.test_live import live_exchange, streamed, until_attached
from tests.e2e.world import BTC, ended


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def streams(exchange: Exchange, cache_dir: Path) -> AsyncIterator[str]:
    """A live daemon that serves streams; their base URL. It is stopped in order."""
    port = free_port()
    daemon = streamed(exchange, cache_dir, STREAM_LISTEN=f"127.0.0.1:{port}", GRACE_SECONDS="5")
    process = daemon.start("run")
    try:
        await until_attached(daemon)
        yield f"ws://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert await ended(process, 8) == 0


OPTIONS: dict[str, Any] = {"proxy": None, "max_queue": None}
"""The end of a connection of websockets 17.4 waits for ever where its queue is full."""


async def asked(connection: ClientConnection, **message: Any) -> dict[str, Any]:
    """The reply to a request, whatever else arrives before it."""
    await connection.send(json.dumps(message))
    with trio.fail_after(5):
        while True:
            found: dict[str, Any] = json.loads(await connection.recv())
            if found.get("id") == message["id"] and "e" not in found:
                return found


@pytest.mark.parametrize(
    "path", ["/ws/btcusdt@aggTrade", "/stream?streams=btcusdt@aggTrade", "/ws/7", "/ws", "/stream", "/stream/ws/0"]
)
async def test_each_trade_comes_once_and_in_order_by_every_path(path: str, tmp_path: Path) -> None:
    async with live_exchange(50.0) as exchange, streams(exchange, tmp_path / "cache") as url:
        async with connect(f"{url}{path}", **OPTIONS) as connection:
            if "aggTrade" not in path:
                reply = await asked(connection, method="SUBSCRIBE", params=["btcusdt@aggTrade"], id="a")
                assert reply == {"result": None, "id": "a"}
            found: list[dict[str, Any]] = []
            with trio.fail_after(15):
                while len(found) < 100:
                    message = json.loads(await connection.recv())
                    assert ("stream" in message) == path.startswith("/stream")
                    found.append(message.get("data", message))
        ids = [each["a"] for each in found]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        rows = exchange.visible(str(BTC)).rows_by_key("a", named=True, unique=True)
        for each in found:
            row = rows[each["a"]]
            assert (float(each["p"]), float(each["q"]), each["T"], each["m"]) == (
                row["p"],
                row["q"],
                row["T"],
                row["m"],
            )


async def test_a_name_that_is_not_served_is_never_acknowledged(tmp_path: Path) -> None:
    async with live_exchange(20.0) as exchange, streams(exchange, tmp_path / "cache") as url:
        async with connect(f"{url}/ws", **OPTIONS) as connection:
            for name in (
                "btcusdt@depth",
                "BTCUSDT@aggTrade",
                "nosuch@aggTrade",
                "btcusdt@kline_7m",
                "x",
                "../etc@aggTrade",
            ):
                reply = await asked(connection, method="SUBSCRIBE", params=[name], id=1)
                assert reply["error"]["code"] == 2, name
            assert await asked(connection, method="LIST_SUBSCRIPTIONS", id=2) == {"result": [], "id": 2}
        for path in ("/ws/btcusdt@depth", "/elsewhere"):
            with pytest.raises(InvalidStatus):
                async with connect(f"{url}{path}", **OPTIONS):
                    pass


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}])
async def test_a_page_of_another_site_gets_no_stream(headers: dict[str, str], tmp_path: Path) -> None:
    async with live_exchange(20.0) as exchange, streams(exchange, tmp_path / "cache") as url:
        port = int(url.rpartition(":")[2])
        lines = {"Host": "127.0.0.1", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        lines |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} | headers
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(f"GET /ws HTTP/1.1\r\n{text}\r\n".encode())
            assert (await stream.receive_some()).split()[1] in {b"421", b"403"}


async def test_candles_grow_and_a_flood_of_requests_is_cut_off(tmp_path: Path) -> None:
    async with live_exchange(50.0) as exchange, streams(exchange, tmp_path / "cache") as url:
        async with connect(f"{url}/ws/btcusdt@kline_1s", **OPTIONS) as connection:
            with trio.fail_after(15):
                while not (candle := json.loads(await connection.recv())["k"])["x"]:
                    pass
            assert candle["T"] - candle["t"] == 999
        with pytest.raises(ConnectionClosed) as closed:
            async with connect(f"{url}/ws", **OPTIONS) as connection:
                with trio.fail_after(15):
                    for number in range(10_000):
                        await connection.send(
                            json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": number})
                        )
                    while True:
                        await connection.recv()
        # A reset overtakes the reason where the flood was still on its way.
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1008


async def test_a_stop_is_announced_and_waits_for_nobody(tmp_path: Path) -> None:
    """A subscriber that never reads, and half a handshake, keep the daemon no longer than its grace."""
    async with live_exchange(50.0) as exchange:
        async with trio.open_nursery() as nursery:
            messages: list[str] = []

            async def listen(url: str) -> None:
                async with connect(f"{url}/ws/btcusdt@aggTrade", **OPTIONS) as connection:
                    with pytest.raises(ConnectionClosed) as closed:
                        while True:
                            messages.append(str(await connection.recv()))
                    messages.append(str(closed.value.rcvd and closed.value.rcvd.code))

            async with streams(exchange, tmp_path / "cache") as url:
                nursery.start_soon(listen, url)
                port = int(url.rpartition(":")[2])
                half = await trio.open_tcp_stream("127.0.0.1", port)
                await half.send_all(b"GET /ws HTTP/1.1\r\nHo")
                await trio.sleep(1)
            await half.aclose()
        assert "serverShutdown" in messages[-2]
        assert messages[-1] == "1001"
