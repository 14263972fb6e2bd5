"""The simulator's own paths, for tests that run it as a process. They cost no weight and are not logged.

* ``GET /simulator/requests``: the log, one object per request.
* ``GET /simulator/archive-requests``: the log of the archive, one object per request.
* ``GET /simulator/weights``: by pool, the count's totals and its windows.
* ``GET /simulator/tape?market=spot&symbol=BTCUSDT``: the visible trades, as an Arrow IPC file.
* ``GET /simulator/options``: the options in force.
* ``POST /simulator/options``: a JSON object of options to change; members of ExchangeOptions, each replaced whole
  (``{"latency_s": 0.2, "faults": {"by_number": {"1": "reset"}}}``), and ``"ban": {"pool": "spot", "seconds": 30}``
  to ban at once. Answers the options in force; 400 with a sentence for what they cannot be.

A request is refused with 403 unless its Host is this address and it has no Origin: a page that a browser shows on this
machine may not change the exchange. A change must be ``application/json``, else 415.

Owns the form of these answers. Must not hold state.
"""

from collections.abc import Awaitable, Callable
from dataclasses import fields
from io import BytesIO
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from binance_simulator.exchange import Exchange
from binance_simulator.model import Pool
from binance_simulator.options import ExchangeOptions

_Endpoint = Callable[[Request], Awaitable[Response]]
ARROW_TYPE = "application/vnd.apache.arrow.file"


class Ban(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ban to pronounce at once."""

    pool: Pool
    seconds: float


def control_routes(exchange: Exchange) -> list[BaseRoute]:
    """The routes under ``/simulator``."""

    async def requests(_request: Request) -> Response:
        return _json(list(exchange.requests))

    async def archive_requests(_request: Request) -> Response:
        return _json(list(exchange.archive_requests))

    async def weights(_request: Request) -> Response:
        meters = exchange.weights.items()
        return _json({pool: {"totals": meter.totals(), "windows": meter.windows} for pool, meter in meters})

    async def tape(request: Request) -> Response:
        asked = f"{request.query_params.get('market')}:{request.query_params.get('symbol')}"
        instrument = next((instrument for instrument in exchange.tapes if str(instrument) == asked), None)
        if instrument is None:
            return _json({"error": f"no tape of {asked}"}, status=404)
        written = BytesIO()
        exchange.visible(instrument).write_ipc(written)
        return Response(written.getvalue(), media_type=ARROW_TYPE)

    async def options(request: Request) -> Response:
        if request.method == "POST":
            try:
                change_options(exchange, await request.body())
            except ClientDisconnect:
                return Response(status_code=400)
            except ValueError as error:
                return _json({"error": str(error)}, status=400)
        return _json(msgspec.to_builtins(exchange.options, str_keys=True))

    return [
        Route("/simulator/requests", _guarded(exchange, requests)),
        Route("/simulator/archive-requests", _guarded(exchange, archive_requests)),
        Route("/simulator/weights", _guarded(exchange, weights)),
        Route("/simulator/tape", _guarded(exchange, tape)),
        Route("/simulator/options", _guarded(exchange, options), methods=["GET", "POST"]),
    ]


def _guarded(exchange: Exchange, endpoint: _Endpoint) -> _Endpoint:
    """The endpoint for programs of this machine: requests of a browser's pages are refused."""

    async def answer(request: Request) -> Response:
        port = exchange.url.rpartition(":")[2]
        hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        if request.headers.get("host") not in hosts or "origin" in request.headers:
            return _json({"error": "only programs of this machine may ask: wrong Host, or an Origin"}, status=403)
        kind = request.headers.get("content-type", "").partition(";")[0]
        if request.method == "POST" and kind != "application/json":
            return _json({"error": "a change is application/json"}, status=415)
        return await endpoint(request)

    return answer


def change_options(exchange: Exchange, body: bytes) -> None:
    """Apply a JSON object of changes, all of them or none. Raises ValueError for what cannot be."""
    changes = msgspec.json.decode(body, type=dict[str, Any])
    ban = msgspec.convert(changes.pop("ban", None), Ban | None, strict=False)
    unknown = changes.keys() - {field.name for field in fields(ExchangeOptions)}
    if unknown:
        raise ValueError(f"no such option: {', '.join(sorted(unknown))}")
    current = msgspec.to_builtins(exchange.options, str_keys=True)
    exchange.options = msgspec.convert(current | changes, ExchangeOptions, strict=False)
    if ban is not None:
        exchange.ban(ban.pool, ban.seconds)


def _json(document: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")
