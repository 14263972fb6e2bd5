"""A server on a loopback socket that answers with scripted bytes: what no well-behaved HTTP library would send."""

import gzip
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

Answer = Callable[[trio.SocketStream], Awaitable[bool]]
"""Sends something; true if the connection is kept for another request."""

JSON = {"content-type": "application/json;charset=UTF-8"}
HTML = {"content-type": "text/html"}


@dataclass
class RawServer:
    """Answers the n-th request with the n-th answer of ``script``, the last one again and again.

    ``requests`` are the heads that came, as text; ``connections`` counts those that were opened.
    """

    script: list[Answer]
    url: str = ""
    requests: list[str] = field(default_factory=list)
    connections: int = 0

    @property
    def target(self) -> str:
        """The path and query of the latest request."""
        return self.requests[-1].split(" ")[1]

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            kept = True
            while kept and (head := await _head(stream)):
                self.requests.append(head)
                answer = self.script[min(len(self.requests), len(self.script)) - 1]
                kept = await answer(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the client went away, as it may


@asynccontextmanager
async def raw_server(*script: Answer) -> AsyncIterator[RawServer]:
    """Serve on a free port of 127.0.0.1 until the end of the context."""
    server = RawServer(list(script))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()


def response(status: int, body: bytes | str = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A response with its length, as bytes."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in (JSON if headers is None else headers).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def gzipped(body: bytes) -> bytes:
    """A good response with a compressed body."""
    return response(200, gzip.compress(body), JSON | {"content-encoding": "gzip"})


def sent(content: bytes) -> Answer:
    """Send all of it and keep the connection."""

    async def answer(stream: trio.SocketStream) -> bool:
        await stream.send_all(content)
        return True

    return answer


def sent_and_closed(content: bytes) -> Answer:
    """Send all of it and close the connection in order."""

    async def answer(stream: trio.SocketStream) -> bool:
        await stream.send_all(content)
        await stream.aclose()
        return False

    return answer


def sent_and_reset(content: bytes) -> Answer:
    """Send all of it, then reset the connection."""

    async def answer(stream: trio.SocketStream) -> bool:
        if content:
            await stream.send_all(content)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()
        return False

    return answer


def dripped(content: bytes) -> Answer:
    """Send a byte every 20 ms, so that no silence is ever long."""

    async def answer(stream: trio.SocketStream) -> bool:
        for byte in content:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.02)
        return True

    return answer


async def silence(_: trio.SocketStream) -> bool:
    """Never answer."""
    await trio.sleep_forever()
    return True


async def _head(stream: trio.SocketStream) -> str:
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        part = await stream.receive_some(65536)
        if not part:
            return ""
        received += part
    return received.decode()
