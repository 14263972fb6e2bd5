"""The exchange's REST interface and its archive as a Starlette application.

Owns the paths. Must not decide anything: each request goes to the Exchange at once, and its answer, after the latency,
to its delivery.
"""

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from binance_simulator.archive_routes import archive_routes
from binance_simulator.control import control_routes
from binance_simulator.delivery import deliver
from binance_simulator.endpoints import PATH_OF, served_paths
from binance_simulator.exchange import Exchange
from binance_simulator.model import Market
from binance_simulator.replies import html_reply


class _Endpoint:
    """One path of one market, as an ASGI application."""

    def __init__(self, exchange: Exchange, market: Market, endpoint: str) -> None:
        self._exchange = exchange
        self._market = market
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = self._exchange
        query, (_, connection) = scope["query_string"].decode("latin-1"), scope["client"]
        reply = exchange.answer(self._market, self._endpoint, query, connection)
        latency_s = exchange.latency_s()
        if latency_s > 0:
            await trio.sleep(latency_s)
        now_ms, may_compress = exchange.now_ms(), exchange.options.gzip
        await deliver(reply, scope, receive, send, now_ms=now_ms, may_compress=may_compress)


def rest_application(exchange: Exchange) -> Starlette:
    """All paths of the three markets and of the archive, and the simulator's own under ``/simulator``; HTML else."""
    routes: list[BaseRoute] = [
        Route(f"{PATH_OF[market]}/{endpoint}", _Endpoint(exchange, market, endpoint), methods=["GET"])
        for market, endpoint in served_paths()
    ]
    routes += [*archive_routes(exchange), *control_routes(exchange)]
    return Starlette(routes=routes, exception_handlers={404: _not_found})


async def _not_found(_request: Request, _error: Exception) -> Response:
    """What a foreign web server says."""
    return HTMLResponse(html_reply(404, "404 Not Found", "nginx").body, status_code=404)
