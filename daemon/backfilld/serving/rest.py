"""The exchange's paths: from what is stored where that is whole, otherwise from the exchange.

Owns which source answers, and the headers and refusals that clients of the exchange expect.
"""

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backfilld.core.model import Instrument, Market
from backfilld.core.serving.questions import candles_question, trades_question
from backfilld.core.serving.texts import Digits
from backfilld.core.serving.weights import market_of, route_of
from backfilld.core.text import plain
from backfilld.errors import ExchangeError, RateLimited
from backfilld.ports import Forwarded
from backfilld.serving.answers import error_answer, json_answer
from backfilld.serving.clock import Clock
from backfilld.serving.library import CACHE, Found, Library
from backfilld.serving.relay import Relay, Wish
from backfilld.serving.symbols import Symbols
from backfilld.serving.throttle import Throttle

log = structlog.get_logger()

_PATH = re.compile(r"(?:/[A-Za-z0-9_-]{1,40}){3,6}")
_QUERY = re.compile(r"[\x21\x22\x24-\x7e]*")
_TRADES = {"/api/v3/aggTrades": Market.SPOT, "/fapi/v1/aggTrades": Market.UM, "/dapi/v1/aggTrades": Market.CM}
_CANDLES = frozenset(("/api/v3/klines", "/api/v3/uiKlines"))
_CLOCKS = frozenset(("/api/v3/time", "/api/v1/time", "/fapi/v1/time", "/dapi/v1/time"))
_PINGS = frozenset(("/api/v3/ping", "/api/v1/ping", "/fapi/v1/ping", "/dapi/v1/ping"))

PASSED_HEADERS = ("x-mbx-time-unit", "x-mbx-sbe")
"""Headers of a client that change the exchange's answer. No other one is passed on, an API key least of all."""

_RETURNED = ("content-type", "retry-after", "x-mbx-sbe-deprecated")
_TOO_MANY, _BANNED = 429, 418
_STREAMS = "Please use WebSocket Streams for live updates to avoid"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where answers come from. ``used_weight`` is the governor's count of a market's minute."""

    library: Library
    relay: Relay
    symbols: Symbols
    clock: Clock
    used_weight: Callable[[Market], int]
    forwards: bool = True


def exchange_routes(sources: Sources) -> list[Route]:
    """The routes of the exchange's paths."""
    answer = _Exchange(sources)
    return [Route(f"{prefix}{{rest:path}}", answer.answer) for prefix in ("/api/", "/fapi/", "/dapi/", "/futures/")]


class _Exchange:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._throttle = Throttle()

    async def answer(self, request: Request) -> Response:
        path = request.scope.get("raw_path", request.scope["path"].encode()).decode("latin-1").partition("?")[0]
        query = request.scope["query_string"].decode("latin-1")
        market = market_of(path)
        request.scope["backfilld.route"] = route_of(path)
        if market is None or not _PATH.fullmatch(path):
            return error_answer(404, 0, "there is no such path at the exchange")
        if not _QUERY.fullmatch(query):
            return error_answer(400, -1100, "Illegal characters found in a parameter: percent-encode them")
        passed = tuple((name, request.headers[name]) for name in PASSED_HEADERS if name in request.headers)
        found = None if passed else await self._own(path, query, market)
        if found is not None and (found.is_whole or not self._sources.forwards):
            return self._marked(request, market, json_answer(found.body), found.source)
        if not self._sources.forwards:
            return error_answer(404, 0, "this is not stored here, and api_forward is off")
        relayed = await self._sources.relay.ask(Wish(market, path, query, _with_accept(passed, request)))
        if found is not None and not _is_answered(relayed.answer):
            # Less than the exchange would say is more than a refusal.
            return self._marked(request, market, json_answer(found.body), found.source)
        return self._marked(request, market, self._relayed(path, relayed.answer), relayed.source)

    async def _own(self, path: str, query: str, market: Market) -> Found | None:
        """The answer from here, None where only the exchange has it."""
        sources = self._sources
        if path in _PINGS and not query:
            return Found(b"{}", CACHE)
        if path in _CLOCKS and not query:
            return Found(msgspec.json.encode({"serverTime": sources.clock.now_ms(market)}), CACHE)
        if path in _TRADES:
            question = trades_question(market, query)
            digits = None if question is None else await self._digits(question.instrument)
            return None if question is None or digits is None else await sources.library.trades(question, digits)
        if path in _CANDLES:
            asked = candles_question(query)
            return None if asked is None else await sources.library.candles(asked)
        return None

    async def _digits(self, instrument: Instrument) -> Digits | None:
        known = self._sources.symbols.known_digits(instrument)
        if known is not None or not self._sources.forwards or not await self._sources.library.has(instrument):
            return known
        return await self._sources.symbols.digits(instrument)

    def _relayed(self, path: str, answer: Forwarded | ExchangeError) -> Response:
        if isinstance(answer, Forwarded):
            headers = {name: answer.headers[name] for name in _RETURNED if name in answer.headers}
            return Response(answer.body, answer.status, headers | {"x-content-type-options": "nosniff"})
        if isinstance(answer, RateLimited):
            if self._throttle.may("weight"):
                status = _BANNED if answer.banned else _TOO_MANY
                log.info("request_refused", reason="weight", status=status, path=route_of(path))
            return _limited(answer)
        return error_answer(504, -1007, f"backfilld has no answer of Binance: {plain(str(answer))}")

    def _marked(self, request: Request, market: Market, response: Response, source: str) -> Response:
        request.scope["backfilld.source"] = source
        used = str(self._sources.used_weight(market))
        if market is Market.SPOT:
            response.headers["x-mbx-used-weight"] = used
        response.headers["x-mbx-used-weight-1m"] = used
        response.headers["x-backfilld"] = source
        return response


def _is_answered(answer: Forwarded | ExchangeError) -> bool:
    return isinstance(answer, Forwarded) and answer.status == HTTPStatus.OK


def _with_accept(passed: tuple[tuple[str, str], ...], request: Request) -> tuple[tuple[str, str], ...]:
    """SBE is asked for by two headers together."""
    if any(name == "x-mbx-sbe" for name, _ in passed) and "accept" in request.headers:
        return (*passed, ("accept", request.headers["accept"]))
    return passed


def _limited(refusal: RateLimited) -> Response:
    wait_s = max(1, math.ceil(refusal.retry_after_s or 1))
    headers: Mapping[str, str] = {"retry-after": str(wait_s)}
    if refusal.banned:
        until_ms = round(time.time() * 1000) + wait_s * 1000
        message = f"Way too much request weight used; IP banned until {until_ms}. {_STREAMS} bans."
        return error_answer(_BANNED, -1003, message, headers)
    message = "Too much request weight used; the weight that backfilld leaves to other programs is spent."
    return error_answer(_TOO_MANY, -1003, f"{message} {_STREAMS} polling the API.", headers)
