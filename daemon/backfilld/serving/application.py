"""The endpoint as an ASGI application: the guard before it, the exchange's paths, backfilld's own routes.

Owns what every answer has in common: refusals, counts, and that no failure of one request reaches the next.
"""

from collections.abc import Sequence

import structlog
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backfilld.core.serving.addresses import hosts_answered
from backfilld.core.serving.guard import Denial, Head, denial
from backfilld.core.text import plain
from backfilld.serving.answers import error_answer
from backfilld.serving.monitor.routes import monitor_routes
from backfilld.serving.throttle import Throttle
from backfilld.serving.traffic import Answered
from backfilld.serving.world import World

log = structlog.get_logger()

OTHER = "other"
"""The route of requests that no route took."""


def application(world: World, routes: Sequence[BaseRoute]) -> ASGIApp:
    """The application of one daemon; ``routes`` are those of the exchange's paths."""
    handlers = {404: _not_found, 405: _not_found, 500: _failed}
    inner = Starlette(routes=[*monitor_routes(world.watch), *routes], exception_handlers=handlers)
    return _Guarded(inner, world)


async def _not_found(_request: Request, _error: Exception) -> Response:
    return error_answer(404, 0, "there is no such path here; the documentation lists those that there are")


async def _failed(_request: Request, _error: Exception) -> Response:
    return error_answer(500, -1000, "backfilld failed at this request, and has logged why")


class _Guarded:
    def __init__(self, inner: ASGIApp, world: World) -> None:
        self._inner = inner
        self._world = world
        self._hosts = hosts_answered(world.settings.api_hosts)
        self._throttle = Throttle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # Streams have a listener of their own.
            await send({"type": "websocket.close", "code": 1008})
            return
        began, status = trio.current_time(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(scope, receive, noted)
        except Exception as error:  # noqa: BLE001 - one request must not end the endpoint
            log.error("endpoint_failed", error=plain(repr(error)), again_in_s=0.0)
        route = str(scope.get("backfilld.route", OTHER))
        source = scope.get("backfilld.source", "own")
        self._world.traffic.note(Answered(route, status, source, trio.current_time() - began))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _denial(scope, self._hosts)
        if found is None:
            await self._inner(scope, receive, send)
            return
        scope["backfilld.source"] = "refused"
        if self._throttle.may(found.reason):
            # Never the query: it can hold a signature.
            log.info("request_refused", reason=found.reason, status=found.status, path=plain(scope["path"], 60))
        await error_answer(found.status, found.code, found.message)(scope, receive, send)


def _denial(scope: Scope, hosts: frozenset[str]) -> Denial | None:
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
    return denial(Head(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), headers), hosts)
