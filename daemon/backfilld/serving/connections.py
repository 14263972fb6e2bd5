"""HTTP connections of the endpoint: hypercorn serves each, and none of them lives longer than its bounds.

Owns the sockets, how many there are, and their end. hypercorn shields what it writes from cancellation, so a client
that does not read is ended by closing its socket: nothing else would.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backfilld.serving.sockets import abort

log = structlog.get_logger()

MOST_CONNECTIONS = 512
"""Above it the connection that has been idle for longest is closed for a new one."""

HEADERS_WITHIN_S = 15.0
"""How long the head of a request may take, and an idle connection stays open."""

STALLED_S = 10.0
"""The connection of a client that takes nothing for this long is closed."""

ANSWER_WITHIN_S = 60.0
"""The longest that an answer may take in all, unless it is a stream of events."""

LOOK_S = 0.5

_STATE = "backfilld.connection"
_EVERY_REQUEST = 2**62


@dataclass(eq=False, slots=True)
class Connection:
    """One open connection. ``is_lasting`` says that its answer has no end."""

    stream: trio.SocketStream
    idle_since: float
    answering_since: float | None = None
    sending_since: float | None = None
    is_lasting: bool = False

    def is_overdue(self, now: float) -> bool:
        """Whether it is to be closed."""
        if self.sending_since is not None and now - self.sending_since > STALLED_S:
            return True
        is_answering = self.answering_since is not None and not self.is_lasting
        return is_answering and now - (self.answering_since or now) > ANSWER_WITHIN_S


def connection_of(scope: Scope) -> Connection | None:
    """The connection of a request; None in a test without sockets."""
    found = scope.get("state", {}).get(_STATE)
    return found if isinstance(found, Connection) else None


@dataclass(eq=False)
class Connections:
    """All open HTTP connections of an application."""

    application: ASGIApp
    open: set[Connection] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._context = WorkerContext(max_requests=None)
        self._config = _config()
        self._wrapped = ASGIWrapper(cast("ASGIFramework", self._watched))
        self._answered = trio.Event()

    async def accept(self, listeners: Sequence[trio.SocketListener], nursery: trio.Nursery) -> None:
        """Serve what connects until cancelled; the connections live in ``nursery``."""
        nursery.start_soon(self._sweep)
        await trio.serve_listeners(self.serve, list(listeners), handler_nursery=nursery)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection until it ends."""
        self._make_room()
        connection = Connection(stream, trio.current_time())
        state = ConnectionState({_STATE: connection})
        self.open.add(connection)
        try:
            # hypercorn's annotation names the TLS stream only; it serves a plain one as well.
            await TCPServer(self._wrapped, self._config, self._context, state, cast("Any", stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self.open.discard(connection)

    async def finish(self, wait_s: float) -> None:
        """Let requests in hand end for so long, then close every connection."""
        await self._context.terminated.set()
        with trio.move_on_after(wait_s):
            while any(each.answering_since is not None and not each.is_lasting for each in self.open):
                self._answered = trio.Event()
                await self._answered.wait()
        self.abort_all()

    def abort_all(self) -> None:
        """Close every connection at once."""
        for each in tuple(self.open):
            abort(each.stream)

    async def _watched(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, with note of when it answers and when it waits for the client."""
        connection = connection_of(scope)
        if connection is None:
            await self.application(scope, receive, send)
            return
        if not scope["http_version"].startswith("1"):
            # hypercorn speaks HTTP/2 to clients that begin with it, with many answers at a time on one connection.
            abort(connection.stream)
            return

        async def noted(message: Message) -> None:
            connection.sending_since = trio.current_time()
            try:
                await send(message)
            finally:
                connection.sending_since = None

        connection.answering_since = trio.current_time()
        try:
            await self.application(scope, receive, noted)
        finally:
            connection.answering_since, connection.is_lasting = None, False
            connection.idle_since = trio.current_time()
            self._answered.set()

    def _make_room(self) -> None:
        if len(self.open) < MOST_CONNECTIONS:
            return
        idle = [each for each in self.open if each.answering_since is None] or list(self.open)
        oldest = min(idle, key=lambda each: each.idle_since)
        log.info("client_dropped", reason="too many connections", from_id=None)
        self.open.discard(oldest)
        abort(oldest.stream)

    async def _sweep(self) -> None:
        """Close what is overdue, for ever."""
        while True:
            await trio.sleep(LOOK_S)
            now = trio.current_time()
            for each in [each for each in self.open if each.is_overdue(now)]:
                log.info("client_dropped", reason="it takes nothing", from_id=None)
                self.open.discard(each)
                abort(each.stream)


def _config() -> Config:
    config = Config()
    config.include_server_header = False
    config.keep_alive_timeout = HEADERS_WITHIN_S
    config.keep_alive_max_requests = _EVERY_REQUEST
    config.h11_max_incomplete_size = 32 * 1024
    config.websocket_max_message_size = 1024
    config.accesslog = None
    config.errorlog = logging.getLogger("backfilld.endpoint")
    return config
