"""The exchange on a loopback socket: hypercorn's connections in a trio nursery.

Owns the sockets and their end. Must not know what is asked or answered.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState

from binance_simulator.delivery import ABORT
from binance_simulator.exchange import Exchange, host_ms
from binance_simulator.model import Instrument
from binance_simulator.options import ExchangeOptions
from binance_simulator.rest import rest_application
from binance_simulator.sockets import abort
from binance_simulator.stream_options import StreamOptions
from binance_simulator.streams import serve_streams
from binance_simulator.tape import Tape

LOOPBACK = "127.0.0.1"
_EVERY_REQUEST = 2**62


@asynccontextmanager
async def open_exchange(
    instruments: Mapping[Instrument, Tape] | Mapping[str, Tape],
    options: ExchangeOptions | None = None,
    *,
    port: int = 0,
    clock_ms: Callable[[], int] = host_ms,
    streams: StreamOptions | None = None,
) -> AsyncIterator[Exchange]:
    """Serve the instruments (or their names, ``spot:BTCUSDT``) on 127.0.0.1; ``exchange.url`` is the address.

    ``exchange.streams.urls`` are the addresses of its streams, by market. ``port`` 0 takes a free one;
    OSError if the port is taken. ``clock_ms`` stands in for the host's clock. At the end every connection is reset,
    also those that wait for an answer. What the body raises comes out as it is.
    """
    exchange = Exchange(instruments, options or ExchangeOptions(), clock_ms)
    connections = _Connections(exchange)
    listeners = await trio.open_tcp_listeners(port, host=LOOPBACK)
    exchange.url = f"http://{LOOPBACK}:{listeners[0].socket.getsockname()[1]}"
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, connections.serve, listeners, handler_nursery=nursery))
        exchange.streams = await nursery.start(serve_streams, exchange, streams or StreamOptions())
        try:
            yield exchange
        except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery that would wrap it
            failure = error
        finally:
            connections.abort_all()
            exchange.streams.abort_all()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class _Connections:
    """The open connections, each served by hypercorn."""

    def __init__(self, exchange: Exchange) -> None:
        self._application = ASGIWrapper(cast("ASGIFramework", rest_application(exchange)))
        self._config = _quiet_config()
        self._context = WorkerContext(max_requests=None)
        self._open: set[trio.SocketStream] = set()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one connection's requests until it ends."""
        state = ConnectionState({ABORT: partial(abort, stream)})
        self._open.add(stream)
        try:
            # hypercorn's annotation names the TLS stream only; it serves a plain one as well.
            await TCPServer(self._application, self._config, self._context, state, cast("Any", stream))
        finally:
            self._open.discard(stream)

    def abort_all(self) -> None:
        """Reset every connection, so that nothing is left to be sent."""
        for stream in self._open:
            abort(stream)


def _quiet_config() -> Config:
    """Settings of hypercorn: our own Date and Server, connections kept as nginx keeps them, only errors logged."""
    config = Config()
    config.include_date_header = False
    config.include_server_header = False
    config.keep_alive_timeout = 75.0
    config.keep_alive_max_requests = _EVERY_REQUEST
    config.accesslog = None
    config.errorlog = logging.getLogger("binance_simulator")
    return config
