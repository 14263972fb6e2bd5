"""The archive's paths: day files under ``/data``, and the listing.

Owns the paths. Must not decide anything: each request goes to the exchange at once, and its answer, after the
archive's latency, to its delivery.
"""

import trio
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from binance_simulator.archive_listing import BUCKET
from binance_simulator.delivery import deliver
from binance_simulator.exchange import Exchange


def archive_routes(exchange: Exchange) -> list[BaseRoute]:
    """The routes of the archive; the listing also under the bucket's name, where S3 itself has it."""
    endpoint = _ArchiveEndpoint(exchange)
    return [Route(path, endpoint, methods=["GET", "HEAD"]) for path in ("/data/{key:path}", "/", f"/{BUCKET}")]


class _ArchiveEndpoint:
    """Every path of the archive, as an ASGI application."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = self._exchange
        query = scope["query_string"].decode("latin-1")
        reply = exchange.archive_answer(scope["method"], scope["path"], query)
        if exchange.options.archive_latency_s > 0:
            await trio.sleep(exchange.options.archive_latency_s)
        await deliver(reply, scope, receive, send, now_ms=exchange.now_ms(), may_compress=False)
