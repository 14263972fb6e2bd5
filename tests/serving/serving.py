"""An endpoint on a pipeline of fakes, and requests to it as bytes on a socket."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from backfilld.serving.endpoint import run_endpoint
from backfilld.serving.world import World
from backfilld.settings import Settings
from tests.fakes import FakeExchange, FakeStore
from tests.pipelines import World as Fakes


@dataclass
class Served:
    """An endpoint that listens, and how to ask it."""

    world: World
    port: int

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, text: str) -> tuple[int, dict[str, str], bytes]:
        """Send a request as it stands; the answer's status, headers, body."""
        async with await self.connect() as stream:
            await stream.send_all(text.encode("latin-1"))
            return await answer_from(stream)

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in ({"Host": "127.0.0.1"} | headers).items()]
        return await self.ask(f"GET {path} HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n")


async def answer_from(stream: trio.SocketStream) -> tuple[int, dict[str, str], bytes]:
    received = b""
    with trio.fail_after(10):
        while b"\r\n\r\n" not in received:
            more = await stream.receive_some()
            if not more:
                return 0, {}, received
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        wanted = int(headers.get("content-length", "0"))
        while len(body) < wanted:
            body += await stream.receive_some()
    return int(first.split()[1]), headers, body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def world_with(**settings: Any) -> World:
    """A daemon on fakes with these settings."""
    given = {"grace_seconds": 2.0} | settings
    return World(Settings(**given), Fakes(FakeExchange({}), FakeStore()).pipeline())


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Served]:
    """An endpoint that is up; it is stopped in order at the end."""
    port = free_port()
    world = world_with(api_listen=f"127.0.0.1:{port}", **settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_endpoint, world)
        await _until_up(port)
        yield Served(world, port)
        world.pipeline.stop.set()


async def _until_up(port: int) -> None:
    with trio.fail_after(30):
        while True:
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            except OSError:
                await trio.sleep(0.01)
            else:
                return
