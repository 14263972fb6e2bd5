"""Clients of the endpoint, as processes of their own and of nothing but the standard library.

``serve_clients.py pages URL FIRST_ID LAST_ID SECONDS CONNECTIONS RATE`` asks for pages of 1,000 trades at random, RATE
a second in all, 0 for as many as come back. ``serve_clients.py ping URL SECONDS RATE`` asks for nothing.
``serve_clients.py streams URL COUNT SECONDS`` opens COUNT WebSockets. Each prints one line of JSON: the seconds that
each answer took from when it was due, or ``{id: [ns since the epoch, ...]}`` of every tenth trade.
"""

import asyncio
import base64
import json
import os
import random
import re
import selectors
import socket
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

Paths = Callable[[], str]

EVERY = 10
_ID = re.compile(rb'"a":(\d+)0,')


def main(kind: str, url: str, *numbers: str) -> None:
    """Run one kind of clients."""
    given = [float(each) for each in numbers]
    if kind == "streams":
        found: object = _arrived(url, int(given[0]), given[1])
    elif kind == "ping":
        found = asyncio.run(_asked(url, lambda: "/api/v3/ping", given[0], 1, given[1]))
    else:
        first, last, seconds, connections, rate = given
        dice = random.Random(1)

        def page() -> str:
            return f"/api/v3/aggTrades?symbol=BTCUSDT&fromId={dice.randrange(int(first), int(last) - 1000)}&limit=1000"

        found = asyncio.run(_asked(url, page, seconds, int(connections), rate))
    sys.stdout.write(json.dumps(found) + "\n")


async def _asked(url: str, path: Paths, seconds: float, connections: int, rate: float) -> list[float]:
    took: list[float] = []
    until = time.monotonic() + seconds
    every = connections / rate if rate else 0.0
    await asyncio.gather(*(_ask(url, path, until, every, number / connections, took) for number in range(connections)))
    return took


async def _ask(url: str, path: Paths, until: float, every: float, phase: float, took: list[float]) -> None:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=1 << 20)
    due = time.monotonic() + phase * every
    while (due if every else time.monotonic()) < until:
        await asyncio.sleep(due - time.monotonic() if every else 0)
        began = due if every else time.monotonic()
        due += every
        writer.write(f"GET {path()} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head[:20] or b"x-backfilld: forwarded" in head:
            raise RuntimeError(head.decode())
        await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        took.append(time.monotonic() - began)
    writer.close()


def _arrived(url: str, count: int, seconds: float) -> dict[int, list[int]]:
    arrived: dict[int, list[int]] = {}
    ready = selectors.DefaultSelector()
    for _ in range(count):
        ready.register(_subscribed(url), selectors.EVENT_READ)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for key, _ in ready.select(0.5):
            data = key.fileobj.recv(65_536)  # type: ignore[union-attr]  # it is a socket
            now = time.time_ns()
            if not data:
                raise RuntimeError("the subscriber was dropped")
            for found in _ID.findall(data):
                arrived.setdefault(int(found) * EVERY, []).append(now)
    return arrived


def _subscribed(url: str) -> socket.socket:
    place = urlsplit(url)
    opened = socket.create_connection((place.hostname or "", place.port or 80))
    key = base64.b64encode(os.urandom(16)).decode()
    words = "Host: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
    words += f"\r\nSec-WebSocket-Key: {key}"
    opened.sendall(f"GET /ws/btcusdt@aggTrade HTTP/1.1\r\n{words}\r\n\r\n".encode())
    answer = opened.recv(4096)
    if b" 101 " not in answer[:20]:
        raise RuntimeError(answer.decode())
    return opened


if __name__ == "__main__":
    main(*sys.argv[1:])
