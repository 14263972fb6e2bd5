"""A subscriber that does not read is closed, and what it reads afterwards ends just before the id that it was named."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import connect

from backfilld.core.serving.addresses import hosts_answered
from backfilld.core.serving.stream_requests import StreamName
from backfilld.serving.stream_connection import StreamConnection
from backfilld.serving.subscriber import Encoded, encoded

FILLER = "x" * 20_000


class Everybody:
    """Takes every subscription."""

    async def add(self, _connection: StreamConnection, _name: StreamName) -> str | None:
        return None

    def remove(self, _connection: StreamConnection, _name: StreamName) -> None:
        return None


def message(trade_id: int) -> Encoded:
    frame = encoded(f'{{"a":{trade_id},"filler":"{FILLER}"}}')
    return Encoded(frame, frame, trade_id)


@asynccontextmanager
async def server() -> AsyncIterator[tuple[str, list[StreamConnection]]]:
    """The URL of a stream, and the connections that are made to it."""
    made: list[StreamConnection] = []

    async def serve(stream: trio.SocketStream) -> None:
        made.append(
            StreamConnection(stream, Everybody(), hosts_answered([]), lambda: 0, lambda _reason, _status, _path: None)
        )
        await made[-1].serve()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/ws/btcusdt@aggTrade", made
        nursery.cancel_scope.cancel()


async def test_a_subscriber_that_never_reads_is_closed_with_the_id_to_go_on_from() -> None:
    async with server() as (url, made):
        async with connect(url, proxy=None, max_queue=1, compression=None) as client:
            (connection,) = made
            trade_id, next_id = 0, None
            with trio.fail_after(20):
                while next_id is None:
                    connection.push(message(trade_id))
                    trade_id += 1
                    next_id = connection.close_if_slow()
                    await trio.lowlevel.checkpoint()
            assert connection.outbox.size_bytes < 1000, "what waited is forgotten"
            connection.push(message(trade_id))
            received: list[int] = []
            with trio.fail_after(20), pytest.raises(ConnectionClosed) as closed:
                while True:
                    received.append(int(re.findall(r'"a":(\d+)', str(await client.recv()))[0]))
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
            assert closed.value.rcvd.reason == f"too slow; continue with fromId={next_id}"
            assert received == list(range(next_id))


async def test_messages_are_sent_at_once_while_none_waits_and_arrive_whole_and_in_order() -> None:
    """Pushed without a pause, so that the socket takes some in part and the writer the others."""
    async with server() as (url, made):
        async with connect(url, proxy=None, max_queue=None, compression=None) as client:
            await trio.testing.wait_all_tasks_blocked()
            (connection,) = made
            connection.push(message(0))
            assert not connection.outbox.waiting, "the socket has taken it"
            for trade_id in range(1, 300):
                connection.push(message(trade_id))
            assert connection.outbox.waiting, "more than the socket takes"
            received: list[int] = []
            with trio.fail_after(20):
                while len(received) < 300:
                    received.append(int(re.findall(r'"a":(\d+)', str(await client.recv()))[0]))
            assert received == list(range(300))


async def test_one_that_stays_stuck_is_ended_with_its_socket() -> None:
    done = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        connection = StreamConnection(
            stream, Everybody(), hosts_answered([]), lambda: 0, lambda _reason, _status, _path: None
        )
        async with trio.open_nursery() as within:
            within.start_soon(connection.serve)
            while not connection.is_open:
                await trio.sleep(0.01)
            while connection.close_if_slow() is None:
                connection.push(message(1))
                await trio.lowlevel.checkpoint()
        done.set()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        async with await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]) as stuck:
            lines = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            await stuck.send_all(
                f"GET /ws HTTP/1.1\r\n{lines}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            with trio.fail_after(20):
                await done.wait()
        nursery.cancel_scope.cancel()
