"""How an answer travels: whole and compressed, or cut, dripping, silent, reset.

Owns the ASGI messages of an answer. Must not choose its content.
"""

import gzip
from collections.abc import Callable
from email.utils import formatdate

import trio
from starlette.types import Receive, Scope, Send

from binance_simulator.faults import Fault
from binance_simulator.replies import Reply

Headers = list[tuple[bytes, bytes]]
ABORT = "abort_connection"
"""Under this key the server leaves, in the scope's state, a function that resets the connection."""

_SMALLEST_COMPRESSED_BYTES = 1024
_SILENCE_S = 60.0
_DRIP_EVERY_S = 0.2


async def deliver(reply: Reply, scope: Scope, receive: Receive, send: Send, *, now_ms: int, may_compress: bool) -> None:
    """Send the answer, or what its delivery fault makes of it. ``now_ms`` is the server's clock, for ``Date``."""
    match reply.delivery:
        case Fault.RESET:
            _abort_connection(scope)
            return
        case Fault.SILENCE:
            with trio.move_on_after(_SILENCE_S):
                await _wait_gone(receive)
            _abort_connection(scope)
            return
        case _:
            pass
    body, encoding = _encoded(reply.body, scope, may_compress=may_compress)
    headers = [
        (b"date", formatdate(now_ms / 1000, usegmt=True).encode()),
        (b"server", b"nginx" if reply.from_exchange else b"CloudFront"),
        (b"content-type", reply.content_type),
        (b"content-length", str(len(body)).encode()),
        *encoding,
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if scope["method"] == "HEAD":
        await send({"type": "http.response.body", "body": b""})
        return
    match reply.delivery:
        case Fault.CUT_BODY:
            # The server closes a connection whose application ends before the body it announced.
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        case Fault.DRIP:
            await _drip_while_connected(body, receive, send)
        case _:
            await send({"type": "http.response.body", "body": body})


def _encoded(body: bytes, scope: Scope, *, may_compress: bool) -> tuple[bytes, Headers]:
    if may_compress and len(body) > _SMALLEST_COMPRESSED_BYTES and _accepts_gzip(scope):
        return gzip.compress(body, compresslevel=1, mtime=0), [(b"content-encoding", b"gzip")]
    return body, []


def _accepts_gzip(scope: Scope) -> bool:
    return any(name == b"accept-encoding" and b"gzip" in value for name, value in scope["headers"])


def _abort_connection(scope: Scope) -> None:
    abort: Callable[[], None] = scope["state"][ABORT]
    abort()


async def _wait_gone(receive: Receive) -> None:
    """Return when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drip_while_connected(body: bytes, receive: Receive, send: Send) -> None:
    """Send the body byte by byte, and stop when the client has left."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drip, body, send, nursery.cancel_scope)
        await _wait_gone(receive)
        nursery.cancel_scope.cancel()


async def _drip(body: bytes, send: Send, done: trio.CancelScope) -> None:
    for place in range(len(body)):
        await send({"type": "http.response.body", "body": body[place : place + 1], "more_body": True})
        await trio.sleep(_DRIP_EVERY_S)
    await send({"type": "http.response.body", "body": b""})
    done.cancel()
