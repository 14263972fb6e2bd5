"""The streams: who is subscribed to what, and every message encoded once for all of them.

Owns the subscribers and their number. A message goes into queues only; each subscriber empties its own.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import structlog
import trio

from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import Instrument, Market
from backfilld.core.serving.stream_requests import StreamName
from backfilld.core.serving.stream_texts import combined, trade_text
from backfilld.serving.candle_streams import CandleStream
from backfilld.serving.clock import Clock
from backfilld.serving.hub import Hub
from backfilld.serving.library import Library
from backfilld.serving.sockets import abort
from backfilld.serving.stream_connection import StreamConnection
from backfilld.serving.subscriber import Encoded, encoded, in_chunks
from backfilld.serving.symbols import Symbols
from backfilld.serving.throttle import Throttle
from backfilld.serving.traffic import FramesSent, SubscriberDropped, Traffic

log = structlog.get_logger()

MOST_SUBSCRIBERS = 512
MOST_CANDLE_STREAMS = 1024
MOST_OF_INSTRUMENT = 48
"""Streams of candles of one instrument: each of its trades is added to all of them. Every interval in three zones."""
LOOK_S = 0.25
"""How often slow subscribers and due candles are looked for."""

CANDLE_WITHIN_S = 3.0
"""How long a subscriber waits for the trades of the current candle: just after a start some are on their way to the
disk. Less than a handshake may take."""


class StreamServer:
    """Serves subscribers. ``hosts`` are the Host names that are answered."""

    def __init__(
        self, hub: Hub, library: Library, symbols: Symbols, clock: Clock, hosts: frozenset[str], traffic: Traffic
    ) -> None:
        self._hub = hub
        self._library = library
        self._symbols = symbols
        self._clock = clock
        self._hosts = hosts
        self._traffic = traffic
        self._throttle = Throttle()
        self._left = trio.Event()
        self._open: set[StreamConnection] = set()
        self._trades: defaultdict[Instrument, dict[str, set[StreamConnection]]] = defaultdict(dict)
        self._candles: dict[StreamName, tuple[CandleStream, set[StreamConnection]]] = {}

    async def accept(self, listeners: Sequence[trio.SocketListener], nursery: trio.Nursery) -> None:
        """Serve what connects until cancelled; the connections live in ``nursery``."""
        nursery.start_soon(self._look)
        await trio.serve_listeners(self._serve, list(listeners), handler_nursery=nursery)

    def shut_down(self) -> None:
        """Announce the end to everybody."""
        for connection in tuple(self._open):
            connection.shut_down()

    async def finish(self, wait_s: float) -> None:
        """Wait up to ``wait_s`` for the announcements to be sent."""
        with trio.move_on_after(wait_s):
            while self._open:
                self._left = trio.Event()
                await self._left.wait()

    def abort_all(self) -> None:
        """End every connection at once."""
        for connection in tuple(self._open):
            connection.abort()

    def on_gap(self, instrument: Instrument, next_id: int) -> None:
        """What follows does not adjoin what was sent: a listener has to go on from this id."""
        listening = {each for names in self._trades[instrument].values() for each in names}
        for name, (_, connections) in list(self._candles.items()):
            if name.instrument == instrument:
                listening |= connections
        for connection in listening:
            self._dropped("gap", next_id)
            connection.close(1012, f"trades are missing; continue with fromId={next_id}")

    # -- what connections ask for

    async def add(self, connection: StreamConnection, name: StreamName) -> str | None:
        """Subscribe to a stream; returns why not."""
        if not self._hub.follows(name.instrument):
            return f"backfilld does not follow {name.instrument}: add it to its instruments"
        if name.interval is not None:
            return await self._add_candles(connection, name)
        await self._symbols.digits(name.instrument)
        names = self._trades[name.instrument]
        if not names:
            self._hub.listeners[name.instrument].append(partial(self._send_trades, name.instrument))
        names.setdefault(name.text, set()).add(connection)
        return None

    def remove(self, connection: StreamConnection, name: StreamName) -> None:
        """Unsubscribe from a stream."""
        if name.interval is None:
            self._trades[name.instrument].get(name.text, set()).discard(connection)
            return
        found = self._candles.get(name)
        if found is None:
            return
        found[1].discard(connection)
        if not found[1]:
            del self._candles[name]
            self._hub.listeners[name.instrument].remove(found[0].add)

    async def _add_candles(self, connection: StreamConnection, name: StreamName) -> str | None:
        if name not in self._candles:
            if len(self._candles) >= MOST_CANDLE_STREAMS:
                return f"at most {MOST_CANDLE_STREAMS} streams of candles"
            if sum(each.instrument == name.instrument for each in self._candles) >= MOST_OF_INSTRUMENT:
                return f"at most {MOST_OF_INSTRUMENT} streams of candles of one instrument"
            stream = await self._begun(name)
            if stream is None:
                return "the trades of the current candle are not all stored yet; try again soon"
            if name not in self._candles:
                self._candles[name] = stream, set()
                self._hub.listeners[name.instrument].append(stream.add)
                stream.add(self._library.live_since(name.instrument, stream.next_id))
        self._candles[name][1].add(connection)
        return None

    async def _begun(self, name: StreamName) -> CandleStream | None:
        """A stream of candles; None where the trades of the current one do not come together in time."""
        for _ in range(round(CANDLE_WITHIN_S / LOOK_S)):
            found = await self._library.current_candle(name)
            if found is not None:
                return CandleStream(name, self._clock, *found)
            await trio.sleep(LOOK_S)
        return None

    # -- sending

    async def _serve(self, stream: trio.SocketStream) -> None:
        if len(self._open) >= MOST_SUBSCRIBERS:
            self._dropped("too many connections", None)
            abort(stream)
            return
        connection = StreamConnection(stream, self, self._hosts, self._now_ms, self._refused)
        self._open.add(connection)
        self._traffic.subscribers = len(self._open)
        try:
            await connection.serve()
        finally:
            self._open.discard(connection)
            self._traffic.subscribers = len(self._open)
            self._left.set()

    def _now_ms(self) -> int:
        return self._clock.now_ms(Market.SPOT)

    def _refused(self, reason: str, status: int, path: str) -> None:
        if self._throttle.may(reason):
            log.info("request_refused", reason=reason, status=status, path=path)

    def _send_trades(self, instrument: Instrument, trades: Sequence[LiveTrade]) -> None:
        names = {text: to for text, to in self._trades[instrument].items() if to}
        if not names:
            return
        digits, event_ms = self._symbols.known_digits(instrument), self._clock.now_ms(instrument.market)
        texts = [(trade_text(instrument, each, digits, event_ms), each.a) for each in trades]
        for name, connections in names.items():
            messages = [Encoded(encoded(text), encoded(combined(name, text)), a) for text, a in texts]
            self._send(messages, connections)

    def _send(self, messages: Sequence[Encoded], connections: set[StreamConnection]) -> None:
        for chunk in in_chunks(messages):
            for connection in connections:
                connection.push(chunk)
        self._traffic.note(FramesSent(len(messages) * len(connections)))

    async def _look(self) -> None:
        """Close slow subscribers and send candles that are due, for ever."""
        while True:
            await trio.sleep(LOOK_S)
            for connection in tuple(self._open):
                before = connection.end_reason
                next_id = connection.close_if_slow()
                if connection.end_reason is not before:
                    self._dropped("too slow", next_id)
            self._send_candles()

    def _send_candles(self) -> None:
        for name, (stream, connections) in list(self._candles.items()):
            texts = stream.due_texts()
            self._send([Encoded(encoded(text), encoded(combined(name.text, text))) for text in texts], connections)

    def _dropped(self, reason: str, from_id: int | None) -> None:
        self._traffic.note(SubscriberDropped(reason))
        if self._throttle.may(f"dropped {reason}"):
            log.warning("client_dropped", reason=reason, from_id=from_id)
