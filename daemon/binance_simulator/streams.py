"""The exchange's WebSocket streams on loopback: one listener per market, and the pump that feeds every connection.

Owns the listeners and the pump. A connection keeps its own limits and its own end.
"""

from collections import defaultdict, deque
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import trio

from binance_simulator.model import Instrument, Market
from binance_simulator.sockets import abort
from binance_simulator.stream_connection import StreamConnection
from binance_simulator.stream_options import Cut, StreamOptions
from binance_simulator.stream_requests import StreamRecord
from binance_simulator.stream_texts import trade_writer

if TYPE_CHECKING:
    from binance_simulator.exchange import Exchange

LOOPBACK = "127.0.0.1"
_CONNECT_WINDOW_S = 300.0
_REMEMBERED = 10_000


def stream_name(instrument: Instrument) -> str:
    """The name of an instrument's aggregate trades: lower case, ``btcusdt@aggTrade``."""
    return f"{instrument.symbol.lower()}@aggTrade"


class Streams:
    """The streams of an exchange. ``urls`` are the bases by market; ``options`` may be replaced while they run, which
    concerns later messages and connections."""

    def __init__(self, exchange: "Exchange", options: StreamOptions) -> None:
        self.urls: dict[Market, str] = {}
        self.options = options
        self.records: deque[StreamRecord] = deque(maxlen=_REMEMBERED)
        self._exchange = exchange
        self._open: set[StreamConnection] = set()
        self._numbers = count(1)
        self._connects: defaultdict[Market, deque[float]] = defaultdict(deque)
        self._sent_rows: dict[Instrument, int] = {}
        self._writers = {each: trade_writer(each, tape.grid) for each, tape in exchange.tapes.items()}
        self._names = {each: stream_name(each) for each in exchange.tapes}

    def connections(self, market: Market | None = None) -> list[StreamConnection]:
        """The connections that are open now."""
        return [each for each in self._open if each.is_open and market in {None, each.market}]

    def cut(self, how: Cut = Cut.RESET, market: Market | None = None) -> None:
        """End every connection at once."""
        for connection in self.connections(market):
            connection.end(how, "cut")

    async def serve(self, market: Market, stream: trio.SocketStream) -> None:
        """Serve one client until it is gone."""
        connection = StreamConnection(stream, market, next(self._numbers), lambda: self.options, self._exchange.now_ms)
        self.records.append(connection.record)
        self._open.add(connection)
        try:
            await connection.serve(partial(self._may_connect, market))
        finally:
            self._open.discard(connection)

    def _may_connect(self, market: Market) -> bool:
        now, times = trio.current_time(), self._connects[market]
        while times and times[0] <= now - _CONNECT_WINDOW_S:
            times.popleft()
        times.append(now)
        return len(times) <= self.options.connects

    async def pump(self) -> None:
        """Send what is new, for ever."""
        while True:
            await trio.sleep(self.options.tick_s)
            self._send_new()

    def _send_new(self) -> None:
        wanted: defaultdict[tuple[Market, str], list[StreamConnection]] = defaultdict(list)
        for connection in self._open:
            if connection.is_open:
                for name in connection.names:
                    wanted[connection.market, name].append(connection)
        now_ms = self._exchange.now_ms()
        for instrument, name in self._names.items():
            listeners = wanted.get((instrument.market, name))
            if not listeners:
                self._sent_rows.pop(instrument, None)
                continue
            texts = self._new_texts(instrument, now_ms)
            for connection in listeners:
                if connection.delivers:
                    late = list(connection.deviations.rest())
                    messages = [*connection.deviations.applied(texts, instrument.symbol), *late]
                    if messages:
                        connection.push(name, messages)

    def _new_texts(self, instrument: Instrument, now_ms: int) -> list[str]:
        """The messages of what can be seen since the last time; nothing for the first listener's first time."""
        tape = self._exchange.tapes[instrument]
        rows = tape.rows_visible(now_ms - self.options.delay_ms[instrument.market])
        sent = self._sent_rows.get(instrument, rows)
        self._sent_rows[instrument] = rows
        if rows <= sent:
            return []
        absent = self._exchange.options.absent_ids_of(instrument)
        write = self._writers[instrument]
        return [
            write(row, now_ms)
            for row in tape.frame.slice(sent, rows - sent).iter_rows()
            if not any(first <= row[1] <= last for first, last in absent)
        ]

    def abort_all(self) -> None:
        """Reset every connection."""
        for connection in self._open:
            abort(connection._stream)  # noqa: SLF001 - one package


async def serve_streams(
    exchange: "Exchange",
    options: StreamOptions,
    task_status: trio.TaskStatus[Streams] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the streams of ``exchange`` until cancelled; the task's value are the streams."""
    streams = Streams(exchange, options)
    async with trio.open_nursery() as nursery:
        for market in Market:
            listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
            streams.urls[market] = f"ws://{LOOPBACK}:{listeners[0].socket.getsockname()[1]}"
            serve = partial(streams.serve, market)
            nursery.start_soon(partial(trio.serve_listeners, serve, listeners, handler_nursery=nursery))
        nursery.start_soon(streams.pump)
        task_status.started(streams)
