"""What a hostile client sends as bytes: it is answered, refused or cut off, and the next one is served."""

import base64
import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from h2.connection import H2Connection

from tests.serving.serving import Served, free_port, serving

PING = b"GET /api/v3/ping HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def all_from(stream: trio.SocketStream, within_s: float = 2.0) -> tuple[bytes, bool]:
    """What comes, and whether the connection was ended."""
    received = b""
    with trio.move_on_after(within_s):
        try:
            while more := await stream.receive_some():
                received += more
        except trio.BrokenResourceError:
            pass
        return received, True
    return received, False


async def sent(served: Served, text: bytes, within_s: float = 1.0) -> tuple[bytes, bool]:
    async with await served.connect() as stream:
        await stream.send_all(text)
        return await all_from(stream, within_s)


async def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    async with serving() as served:
        received, _ = await sent(served, PING * 20)
        assert received.count(b"HTTP/1.1 200") == 20


def known_before() -> bytes:
    """A request by HTTP/2, without asking."""
    client = H2Connection()
    client.initiate_connection()
    names = {":method": "GET", ":scheme": "http", ":authority": "localhost", ":path": "/api/v3/ping"}
    client.send_headers(1, list(names.items()), end_stream=True)
    return bytes(client.data_to_send())


def upgraded_to() -> bytes:
    """A request that asks to go on by HTTP/2."""
    return PING[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"


@pytest.mark.parametrize("text", [known_before(), upgraded_to()], ids=["known before", "upgraded"])
async def test_nobody_is_answered_by_http_2(text: bytes) -> None:
    async with serving() as served:
        received, is_ended = await sent(served, text)
        assert b"{}" not in received
        assert is_ended


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (PING.replace(b"/api/v3/ping", b"/api/v3/ping?x=1#y"), 400),
        (PING.replace(b"/api/v3/ping", b"http://evil.example/api/v3/ping"), 404),
        (PING.replace(b"/api/v3/ping", b"/api/v3/%2e%2e/ping"), 404),
        (PING.replace(b"/api/v3/ping", b"/api/v3/ping%00"), 404),
        (PING.replace(b"/api/v3/ping", b"/static/%2e%2e/page.html"), 404),
        (PING.replace(b"GET", b"CONNECT"), 405),
        (PING.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\nContent-Length: 7\r\n\r\n"), 400),
        (PING.replace(b"\r\n\r\n", b"\r\nContent-Length: -1\r\n\r\n"), 400),
        (PING.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 413),
        (PING.replace(b"Host:", b"Host :"), 400),
        (PING.replace(b"localhost", b"localhost\r\nX: a\0b"), 400),
        (b"GET /api/v3/ping HTTP/1.0\r\n\r\n", 421),
        (b"GET /api/v3/ping HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 40_000, 431),
        (b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + b"\xaa" * 190, 400),
    ],
)
async def test_an_odd_request_is_refused(text: bytes, status: int) -> None:
    async with serving() as served:
        received, _ = await sent(served, text)
        assert int(received.split()[1]) == status
        assert (await served.get("/api/v3/ping"))[0] == 200


async def test_head_has_no_body_and_no_end_less_answer() -> None:
    async with serving() as served:
        for path in (b"/", b"/events", b"/metrics", b"/api/v3/ping"):
            received, _ = await sent(served, PING.replace(b"GET /api/v3/ping", b"HEAD " + path) + PING)
            assert received.count(b"HTTP/1.1 200") == 2, path
            assert received.endswith(b"{}"), path


# -- streams


def frame(opcode: int, data: bytes, *, fin: bool = True, masked: bool = True, claimed: int | None = None) -> bytes:
    size, mask = len(data) if claimed is None else claimed, os.urandom(4)
    head = bytes([fin << 7 | opcode])
    if size < 126:
        head += bytes([masked << 7 | size])
    else:
        head += bytes([masked << 7 | 127]) + struct.pack("!Q", size)
    return head + (mask + bytes(each ^ mask[at % 4] for at, each in enumerate(data)) if masked else data)


LIST = b'{"method":"LIST_SUBSCRIPTIONS","id":7}'
ANSWER = {"result": [], "id": 7}


@asynccontextmanager
async def subscriber(more: str = "") -> AsyncIterator[trio.SocketStream]:
    """A connection to the streams, after its handshake."""
    port = free_port()
    key = base64.b64encode(os.urandom(16)).decode()
    lines = f"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{more}"
    async with serving(stream_listen=f"127.0.0.1:{port}"):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(f"GET /ws HTTP/1.1\r\n{lines}Sec-WebSocket-Key: {key}\r\n\r\n".encode())
            yield stream


async def upgraded(stream: trio.SocketStream) -> bytes:
    """What follows the head of the answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += await stream.receive_some()
    assert received.startswith(b"HTTP/1.1 101")
    return received.partition(b"\r\n\r\n")[2]


async def test_a_message_in_parts_is_one_message() -> None:
    async with subscriber() as stream:
        await upgraded(stream)
        parts = frame(1, LIST[:9], fin=False) + frame(9, b"x") + frame(0, LIST[9:])
        await stream.send_all(parts)
        received, is_ended = await all_from(stream, 0.5)
        assert not is_ended
        assert json.loads(received[received.index(b"{") : received.rindex(b"}") + 1]) == ANSWER


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param(frame(1, LIST, masked=False), 1002, id="unmasked"),
        pytest.param(frame(0, LIST), 1002, id="continuation-first"),
        pytest.param(frame(3, b""), 1002, id="unknown-opcode"),
        pytest.param(frame(9, b"x" * 126), 1002, id="long-ping"),
        pytest.param(frame(1, b"x", claimed=1 << 40), 1009, id="huge-claim"),
        pytest.param(frame(1, b"x" * 40_000, fin=False) + frame(0, b"x" * 40_000), 1009, id="parts-too-large"),
        pytest.param(frame(9, b"x") * 2000, 1008, id="flood-of-pings"),
        pytest.param(frame(10, b"x") * 2000, 1008, id="flood-of-pongs"),
        pytest.param(frame(8, struct.pack("!H", 999)), 1002, id="wrong-close-code"),
    ],
)
async def test_broken_frames_and_floods_end_the_connection_with_a_reason(frames: bytes, code: int) -> None:
    async with subscriber() as stream:
        await upgraded(stream)
        await stream.send_all(frames)
        received, is_ended = await all_from(stream, 4)
        assert is_ended
        # A reset overtakes the reason where more was on its way.
        assert struct.pack("!H", code) in received or len(frames) > 4000


async def test_a_giant_handshake_is_cut_off_at_once() -> None:
    async with subscriber(f"X: {'y' * 200_000}\r\n") as stream:
        _, is_ended = await all_from(stream, 2)
        assert is_ended
