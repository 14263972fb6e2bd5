"""One subscriber of the streams: handshake, requests, pings, bounds, and its end.

Owns the socket of the connection and the names that it is subscribed to. A push into it never waits.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog
import trio
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as HttpRequest
from websockets.protocol import State
from websockets.server import ServerProtocol

from backfilld.core.serving.credit import Credit
from backfilld.core.serving.guard import MOST_URL_BYTES, foreign, is_signed
from backfilld.core.serving.stream_requests import (
    MOST_STREAMS,
    SERVED,
    BadRequest,
    Request,
    StreamName,
    Target,
    names_of,
    parse_name,
    parse_request,
    parse_target,
    refusal,
    result,
)
from backfilld.core.serving.stream_texts import shutdown_text
from backfilld.core.text import plain
from backfilld.serving.sockets import abort
from backfilld.serving.subscriber import Encoded, Outbox, encoded

log = structlog.get_logger()

HANDSHAKE_WITHIN_S = 5.0
PING_EVERY_S = 20.0
PONG_WITHIN_S = 60.0
LARGEST_REQUEST_BYTES = 65_536
LINGER_S = 1.0
"""How long a close frame may take to leave."""


class Subscriptions(Protocol):
    """Where names are subscribed to."""

    async def add(self, connection: "StreamConnection", name: StreamName) -> str | None:
        """Subscribe; returns why not."""
        ...

    def remove(self, connection: "StreamConnection", name: StreamName) -> None:
        """Unsubscribe."""
        ...


class StreamConnection:
    """A subscriber. :meth:`push` never waits."""

    def __init__(
        self,
        stream: trio.SocketStream,
        subscriptions: Subscriptions,
        hosts: frozenset[str],
        now_ms: Callable[[], int],
        on_refused: Callable[[str, int, str], None],
    ) -> None:
        self.names: dict[str, StreamName] = {}
        self.outbox = Outbox()
        self.end_reason: str | None = None
        self._stream = stream
        self._subscriptions = subscriptions
        self._hosts = hosts
        self._now_ms = now_ms
        self._on_refused = on_refused
        self._protocol = ServerProtocol(max_size=LARGEST_REQUEST_BYTES)
        self._parts: list[bytes] = []
        self._is_combined = False
        self._target: Target | None = None
        self._pong_at = trio.current_time()
        self._credit = Credit(trio.current_time())
        self._scope = trio.CancelScope()

    @property
    def is_open(self) -> bool:
        """Whether messages reach it."""
        return self._protocol.state is State.OPEN and self.end_reason is None

    async def serve(self) -> None:
        """Until the connection ends; its socket is closed then."""
        try:
            with self._scope:
                with trio.move_on_after(HANDSHAKE_WITHIN_S) as handshake:
                    await self._handshake()
                if not handshake.cancelled_caught and self._protocol.state is State.OPEN:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._write)
                        nursery.start_soon(self._ping)
                        await self._read()
                        nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError):
            pass
        finally:
            for name in tuple(self.names.values()):
                self._subscriptions.remove(self, name)
            abort(self._stream)

    def push(self, message: Encoded) -> None:
        """Send messages, unless the subscriber is too slow for them."""
        if self.end_reason is None:
            data = message.combined if self._is_combined else message.raw
            self.outbox.send(self._stream.socket.fileno(), data, message.first_id, message.frames)

    def close(self, code: int, reason: str) -> None:
        """Say why, and end; nothing more is sent."""
        if self.end_reason is not None:
            return
        self.end_reason = reason
        if self._protocol.state is State.OPEN:
            with suppress(ProtocolError):
                self._protocol.send_close(code, reason)
            self._flush()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + LINGER_S)

    def close_if_slow(self) -> int | None:
        """Close a subscriber that does not keep up; returns the id that it has to go on from, None if there is none."""
        if self.end_reason is not None or not self.outbox.is_too_slow:
            return None
        first_id = self.outbox.drop()
        more = "" if first_id is None else f"; continue with fromId={first_id}"
        self.close(1008, f"too slow{more}")
        return first_id

    def shut_down(self) -> None:
        """Announce the end, as the exchange does, and end."""
        if self.is_open:
            text = shutdown_text(self._now_ms(), is_combined=self._is_combined)
            self.outbox.push(encoded(text))
        self.close(1001, "backfilld is stopping")

    def abort(self) -> None:
        """End at once."""
        self.end_reason = self.end_reason or "aborted"
        self._scope.cancel()
        abort(self._stream)

    # -- handshake

    async def _handshake(self) -> None:
        request = await self._request()
        if request is None:
            return
        found = self._denied(request) or await self._refused_names()
        if found is None:
            self._protocol.send_response(self._protocol.accept(request))
        else:
            status, reason, message = found
            self._on_refused(reason, status, plain(request.path.partition("?")[0], 60))
            self._protocol.send_response(self._protocol.reject(status, f"{message}\n"))
        with trio.move_on_after(LINGER_S):
            await self._stream.send_all(b"".join(self._protocol.data_to_send()))

    async def _request(self) -> HttpRequest | None:
        while True:
            data = await self._stream.receive_some(16_384)
            if not data:
                return None
            self._protocol.receive_data(data)
            if self._protocol.parser_exc is not None or self._protocol.handshake_exc is not None:
                return None
            for event in self._protocol.events_received():
                if isinstance(event, HttpRequest):
                    return event

    def _denied(self, request: HttpRequest) -> tuple[int, str, str] | None:
        headers = [(name.lower(), value) for name, value in request.headers.raw_items()]
        stranger = foreign(headers, self._hosts)
        if stranger is not None:
            return stranger.status, stranger.reason, stranger.message
        path, _, query = request.path.partition("?")
        if len(request.path) > MOST_URL_BYTES or is_signed(path, query):
            return 403, "signed", "only public market streams are served"
        self._target = parse_target(request.path)
        if self._target is None:
            return 404, "path", f"there is no such path; {SERVED}"
        return None

    async def _refused_names(self) -> tuple[int, str, str] | None:
        assert self._target is not None  # noqa: S101 - it was set just before
        self._is_combined = self._target.is_combined
        if len(self._target.names) > MOST_STREAMS:
            return 400, "names", f"at most {MOST_STREAMS} streams"
        for text in self._target.names:
            name = parse_name(self._target.market, text)
            why = SERVED if name is None else await self._subscribed(name)
            if why is not None:
                return 400, "names", f"{plain(text, 80)}: {why}"
        return None

    async def _subscribed(self, name: StreamName) -> str | None:
        """Why a name cannot be subscribed to."""
        if name.text in self.names:
            return None
        if len(self.names) >= MOST_STREAMS:
            return f"at most {MOST_STREAMS} streams"
        why = await self._subscriptions.add(self, name)
        if why is None:
            self.names[name.text] = name
        return why

    # -- afterwards

    async def _read(self) -> None:
        while True:
            data = await self._stream.receive_some(65_536)
            if not data:
                return
            self._protocol.receive_data(data)
            for event in self._protocol.events_received():
                if isinstance(event, Frame):
                    await self._heard(event)
            self._flush()
            if self._protocol.close_expected():
                self._scope.deadline = min(self._scope.deadline, trio.current_time() + LINGER_S)

    async def _heard(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self._pong_at = trio.current_time()
        if not self._credit.take(trio.current_time()):
            self.close(1008, "too many messages")
        elif frame.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT} and self.end_reason is None:
            # The protocol bounds a message with all its parts.
            self._parts.append(bytes(frame.data))
            if frame.fin:
                text = b"".join(self._parts)
                self._parts.clear()
                self.outbox.push(encoded(await self._reply(text)))

    async def _reply(self, text: bytes) -> bytes:
        try:
            request = parse_request(text)
            return result(await self._carried_out(request), request.id)
        except BadRequest as error:
            return refusal(error)

    async def _carried_out(self, request: Request) -> object:
        assert self._target is not None  # noqa: S101 - the handshake set it
        match request.method, list(request.params):
            case "SUBSCRIBE", _:
                for name in names_of(request, self._target.market):
                    why = await self._subscribed(name)
                    if why is not None:
                        raise BadRequest(2, f"Invalid request: {name.text}: {why}", request.id)
            case "UNSUBSCRIBE", _:
                for name in names_of(request, self._target.market):
                    if self.names.pop(name.text, None) is not None:
                        self._subscriptions.remove(self, name)
            case "LIST_SUBSCRIPTIONS", _:
                return list(self.names)
            case "SET_PROPERTY", ["combined", bool(value)]:
                self._is_combined = value
            case "GET_PROPERTY", ["combined"]:
                return self._is_combined
            case _:
                raise BadRequest(2, f"Invalid request: {plain(request.method, 40)} or its params", request.id)
        return None

    def _flush(self) -> None:
        """Hand over what the protocol has to say: pongs, closes."""
        for data in self._protocol.data_to_send():
            if data:
                self.outbox.push(data)

    async def _write(self) -> None:
        while True:
            data = await self.outbox.next_batch()
            await self._stream.send_all(data)
            self.outbox.progress_at = trio.current_time()
            if self.end_reason is not None and not self.outbox.waiting:
                with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._stream.send_eof()

    async def _ping(self) -> None:
        while True:
            await trio.sleep(PING_EVERY_S)
            if trio.current_time() - self._pong_at > PONG_WITHIN_S:
                self.close(1011, "no pong in time")
                return
            if self._protocol.state is State.OPEN:
                self._protocol.send_ping(b"%d" % self._now_ms())
                self._flush()
