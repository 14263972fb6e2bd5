"""One connection of a client of the streams: handshake, requests, pings, limits, and its end.

Owns the socket of the connection and what it is subscribed to. The pump pushes messages into it; it never waits for the
client, who is cut off when too slow.
"""

from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import Any

import trio
from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as HttpRequest
from websockets.protocol import State
from websockets.server import ServerProtocol

from binance_simulator.model import Market
from binance_simulator.sockets import abort
from binance_simulator.stream_faults import Deviations
from binance_simulator.stream_options import Cut, StreamOptions
from binance_simulator.stream_requests import (
    BadRequest,
    StreamRecord,
    Target,
    names_of,
    parse_request,
    parse_target,
    refusal,
    result,
)
from binance_simulator.stream_texts import combined, shutdown_text

_MOST_WAITING_BYTES = 32 * 2**20
_LINGER_S = 0.5
"""After the last byte: the client may still read it."""

_LARGEST_REQUEST_BYTES = 65_536


class StreamConnection:
    """A connection as the pump sees it: ``names`` it is subscribed to, and :meth:`push`."""

    def __init__(
        self,
        stream: trio.SocketStream,
        market: Market,
        number: int,
        options: Callable[[], StreamOptions],
        now_ms: Callable[[], int],
    ) -> None:
        self.market = market
        self.record = StreamRecord(number, market, "", now_ms())
        self.names = self.record.names
        self.deviations = Deviations(options(), number)
        self._stream = stream
        self._options = options
        self._now_ms = now_ms
        extensions = [ServerPerMessageDeflateFactory()] if options().deflate else None
        self._protocol = ServerProtocol(extensions=extensions, max_size=_LARGEST_REQUEST_BYTES)
        self._target = Target("", is_combined=False)
        self._is_combined = False
        self._is_frozen = False
        self._is_ending = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._has_output = trio.Event()
        self._heard_at: deque[float] = deque()
        self._pong_at = inf
        self._scope = trio.CancelScope()

    @property
    def is_open(self) -> bool:
        """Whether messages can be pushed."""
        return self._protocol.state is State.OPEN and not self._is_frozen

    @property
    def delivers(self) -> bool:
        """Whether aggregate trades are sent on this connection."""
        routed = self._options().routed_prefixes.get(self.market, ("",))
        return self.is_open and self._target.prefix in routed and not self.deviations.is_silent

    async def serve(self, may_connect: Callable[[], bool]) -> None:
        """Until the connection ends."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._handshake(may_connect())
                    for task in (self._ping, self._age, self._announce, self._freeze):
                        nursery.start_soon(task)
                    await self._read()
                    nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.record.end = self.record.end or "broken"
        finally:
            self.record.end = self.record.end or "left"
            abort(self._stream)

    def push(self, name: str, texts: Iterable[str | bytes]) -> None:
        """Send messages of a stream."""
        for text in texts:
            if isinstance(text, bytes):
                self._protocol.send_binary(text)
            else:
                self._protocol.send_text((combined(name, text) if self._is_combined and text else text).encode())
            self.record.sent += 1
        self._flush()

    def end(self, how: Cut, why: str) -> None:
        """End the connection at once."""
        if self.record.end is not None:
            return
        self.record.end = why
        if how is Cut.RESET:
            abort(self._stream)
        elif how is Cut.CLOSE and self._protocol.state is State.OPEN:
            self._protocol.send_close(1011, why)
            self._flush()
            return
        self._scope.cancel() if how is Cut.RESET else self._stream.socket.close()

    def shut_down(self) -> None:
        """Announce the end, as the exchange does before it restarts a server."""
        if self.is_open:
            self._protocol.send_text(shutdown_text(self._now_ms(), is_combined=self._is_combined).encode())
            self._flush()

    # -- sending

    def _flush(self) -> None:
        data = self._protocol.data_to_send()
        if self._is_frozen or not data:
            return
        # The protocol asks for the end of the stream by an empty piece.
        self._is_ending |= not all(data)
        self._waiting += data
        self._waiting_bytes += sum(map(len, data))
        if self._waiting_bytes > _MOST_WAITING_BYTES:
            self.end(Cut.RESET, "too slow")
        self._has_output.set()

    async def _write(self) -> None:
        while True:
            await self._has_output.wait()
            self._has_output = trio.Event()
            data, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
            with trio.move_on_after(self._options().slow_after_s) as patience:
                await self._stream.send_all(data)
            if patience.cancelled_caught:
                self.end(Cut.RESET, "too slow")
            if self._is_ending:
                await self._stream.send_eof()
                await trio.sleep(_LINGER_S)
                self._scope.cancel()

    # -- receiving

    async def _handshake(self, may_connect: bool) -> None:
        while True:
            self._take(await self._stream.receive_some(65_536))
            for event in self._protocol.events_received():
                if isinstance(event, HttpRequest):
                    self._answer(event, may_connect=may_connect)
                    return

    def _answer(self, request: HttpRequest, *, may_connect: bool) -> None:
        self.record.path = request.path
        target = parse_target(request.path)
        known = self._options().routed_prefixes
        prefixes = {""} if self.market is Market.SPOT else {"", "/market", "/public", "/private", *known[self.market]}
        if target is None or target.prefix not in prefixes:
            response = self._protocol.reject(404, "Not Found\n")
        elif not may_connect:
            response = self._protocol.reject(429, "Too many connections\n")
        else:
            response = self._protocol.accept(request)
            self._target, self._is_combined = target, target.is_combined
            self._subscribe(target.names, None)
        self._protocol.send_response(response)
        self._flush()

    def _take(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        if isinstance(self._protocol.parser_exc, ProtocolError):
            self.record.end = f"protocol error: {self._protocol.parser_exc}"
        self._flush()

    async def _read(self) -> None:
        while self._protocol.state is not State.CLOSED:
            if self._is_frozen:
                await trio.sleep_forever()
            data = await self._stream.receive_some(65_536)
            if self._is_frozen:
                continue
            self._take(data)
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    self._act_on(event)
            if not data:
                return

    def _act_on(self, frame: Frame) -> None:
        if frame.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG}:
            self._count()
        if frame.opcode is Opcode.PONG:
            self.record.pongs += 1
            self._pong_at = trio.current_time()
        elif frame.opcode in {Opcode.TEXT, Opcode.BINARY} and self._protocol.state is State.OPEN:
            self.record.requests += 1
            self._protocol.send_text(self._replied(bytes(frame.data)))
            self._flush()

    def _count(self) -> None:
        now = trio.current_time()
        self._heard_at.append(now)
        while self._heard_at[0] <= now - 1.0:
            self._heard_at.popleft()
        if len(self._heard_at) > self._options().messages_per_s[self.market]:
            self.record.end = "too many messages"
            self._protocol.fail(1008, "Too many requests")
            self._flush()

    def _replied(self, text: bytes) -> bytes:
        try:
            request = parse_request(text)
            return result(self._done(request.method, request), request.id)
        except BadRequest as error:
            return refusal(error)

    def _done(self, method: str, request: Any) -> Any:
        match method, request.params:
            case "SUBSCRIBE", _:
                self._subscribe(names_of(request), request.id)
                return None
            case "UNSUBSCRIBE", _:
                self.names.difference_update(names_of(request))
                return None
            case "LIST_SUBSCRIPTIONS", _:
                return sorted(self.names)
            case "SET_PROPERTY", ["combined", bool(value)]:
                self._is_combined = value
                return None
            case "GET_PROPERTY", ["combined"]:
                return self._is_combined
            case "SET_PROPERTY" | "GET_PROPERTY", _:
                raise BadRequest(0, "Unknown property", request.id)
            case _:
                raise BadRequest(2, f"Invalid request: unknown variant `{method}`", request.id)

    def _subscribe(self, names: tuple[str, ...], request_id: int | str | None) -> None:
        if len(self.names.union(names)) > self._options().streams_per_connection:
            raise BadRequest(2, "Invalid request: too many streams on this connection", request_id)
        self.names.update(names)

    # -- time

    async def _ping(self) -> None:
        every_s, within_s = self._options().pings[self.market]
        self._pong_at = trio.current_time()
        while True:
            await trio.sleep(every_s)
            if self._protocol.state is State.OPEN:
                self._protocol.send_ping(str(self._now_ms()).encode())
                self._flush()
            if trio.current_time() > self._pong_at + within_s:
                self.end(Cut.RESET, "no pong")

    async def _age(self) -> None:
        """The exchange's own end of a connection, or the cut that this one meets before."""
        life_s = self._options().life_s
        await trio.sleep(min(life_s, self.deviations.lives_s))
        if self.deviations.lives_s < life_s:
            self.end(self.deviations.cut(), "cut")
        else:
            self.end(Cut.CLOSE, "24 hours")

    async def _announce(self) -> None:
        options = self._options()
        await trio.sleep(options.shutdown_every_s or inf)
        self.shut_down()
        await trio.sleep(options.shutdown_lead_s)
        self.end(Cut.CLOSE, "shutdown")

    async def _freeze(self) -> None:
        await trio.sleep(self._options().half_open_after_s or inf)
        self.freeze()

    def freeze(self) -> None:
        """Neither read nor write from now on: the peer is gone, and nothing said so."""
        self._is_frozen = True
        self.record.end = "half-open"
