"""How an answer travels: whole and compressed, or cut, dripping, silent, reset.

Owns the ASGI messages of an answer. Must not choose its content.
"""

import gzip
from collections.abc import Awaitable, Callable
from email.utils import formatdate

import trio
import trio.lowlevel
from starlette.types import Receive, Scope, Send

from binance_simulator.faults import Fault
from binance_simulator.replies import Reply

Headers = list[tuple[bytes, bytes]]
ABORT = "abort_connection"
"""Under this key the server leaves, in the scope's state, a function that resets the connection."""

_SMALLEST_COMPRESSED_BYTES = 1024
_SILENCE_S = 60.0
_DRIP_EVERY_S = 0.2
_BLANKS = b" " * 2**16
_Sender = Callable[[bytes, Send, trio.CancelScope], Awaitable[None]]


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
    is_encoded = any(name == b"content-encoding" for name, _ in reply.headers)
    body, encoding = _encoded(reply.body, scope, may_compress=may_compress and not is_encoded)
    is_endless = reply.delivery is Fault.ENDLESS_BODY
    length = [] if is_endless else [(b"content-length", str(len(body)).encode())]
    headers = [
        (b"date", formatdate(now_ms / 1000, usegmt=True).encode()),
        (b"server", b"nginx" if reply.from_exchange else b"CloudFront"),
        (b"content-type", reply.content_type),
        *length,
        *encoding,
    ]
    own = {name for name, _ in reply.headers}
    headers = [pair for pair in headers if pair[0] not in own] + list(reply.headers)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if scope["method"] == "HEAD":
        await send({"type": "http.response.body", "body": b""})
        return
    match reply.delivery:
        case Fault.CUT_BODY:
            # The server closes a connection whose application ends before the body it announced.
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        case Fault.ENDLESS_BODY:
            await _while_connected(_repeat, body, receive, send)
        case Fault.DRIP:
            await _while_connected(_drip, body, receive, send)
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


async def _while_connected(sender: _Sender, body: bytes, receive: Receive, send: Send) -> None:
    """Send the body in the sender's way, and stop when the client has left."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender, body, send, nursery.cancel_scope)
        await _wait_gone(receive)
        nursery.cancel_scope.cancel()


async def _repeat(body: bytes, send: Send, _done: trio.CancelScope) -> None:
    """The body, and then blanks without an end: a JSON reader waits for more until it stops at a bound."""
    while True:
        await send({"type": "http.response.body", "body": body or _BLANKS, "more_body": True})
        body = _BLANKS
        await trio.lowlevel.checkpoint()


async def _drip(body: bytes, send: Send, done: trio.CancelScope) -> None:
    for place in range(len(body)):
        await send({"type": "http.response.body", "body": body[place : place + 1], "more_body": True})
        await trio.sleep(_DRIP_EVERY_S)
    await send({"type": "http.response.body", "body": b""})
    done.cancel()
