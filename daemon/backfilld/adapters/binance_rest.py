"""Asking Binance's REST API, on httpx's transport: connections, URLs, deadlines.

Owns how a question becomes a request and how a connection fails. What answers mean is read by
:mod:`backfilld.adapters.binance_answers`.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from math import inf
from typing import TypeVar
from urllib.parse import quote

import httpx
import polars as pl
import trio

from backfilld.adapters.answer import Answer, headers_in, received
from backfilld.adapters.binance_answers import decode_info, decode_trades
from backfilld.adapters.binance_refusals import REFUSAL_BYTES, pause_of, refusal_in, usage_of
from backfilld.adapters.hosts import Hosts
from backfilld.adapters.routes import Route
from backfilld.core.backfill.outcome import CLOSED_TO_US
from backfilld.core.backfill.questions import At, Before, Newest, Page, Query, Since, Tail
from backfilld.core.markets import RULES
from backfilld.core.model import Instrument, Market
from backfilld.errors import (
    ExchangeError,
    RateLimited,
    RequestRejected,
    TransientError,
    UnexpectedAnswer,
    Unreachable,
)
from backfilld.ports import Forwarded, MarketInfo, OpenRestClient, Reply, Undecoded, Usage

T = TypeVar("T")
Decode = Callable[[bytes], T | ExchangeError]

TRADES_BYTES = 8 << 20
"""The largest page that is read: a full one has 120 kB."""

INFO_BYTES = 64 << 20
"""The largest exchangeInfo that is read: all of spot has 13 MB."""

BAN_BODY_S = 0.25
"""How long a 429 or 418 waits for its body, which can only name a later instant than its headers. Until it is over,
other requests may still leave: it comes with the head, or it is not worth a request in a ban."""

_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]{0,8192}")
"""A path with its query: printable ASCII, no fragment."""


def opener(base_urls: Mapping[Market, Sequence[str]], timeout_s: float) -> OpenRestClient:
    """A function that opens one client of the exchange, for each fetcher its own.

    Each market has its base URLs in order of preference. ``timeout_s`` bounds each request in all, from its first byte
    to the last of the answer. Raises SettingsError for a proxy that cannot be used.
    """
    # What one client learns of a host, all know.
    hosts = {market: Hosts(urls, trio.current_time) for market, urls in base_urls.items()}

    @asynccontextmanager
    async def open_client() -> AsyncIterator[BinanceRest]:
        client = BinanceRest(hosts, timeout_s)
        try:
            yield client
        finally:
            await client.aclose()

    return open_client


class BinanceRest:
    """Connections to the markets that are asked. Implements :class:`backfilld.ports.RestClient`."""

    def __init__(self, hosts: Mapping[Market, Hosts], timeout_s: float) -> None:
        self._routes: dict[str, Route] = {}
        self._hosts = hosts
        self._timeout_s = timeout_s

    async def aclose(self) -> None:
        """Close the connections."""
        for route in self._routes.values():
            await route.transport.aclose()

    async def trades(self, instrument: Instrument, query: Query) -> Reply[pl.DataFrame]:
        """Ask aggTrades one question."""
        path = RULES[instrument.market].rest_path
        target = f"{path}/aggTrades?symbol={quote(instrument.symbol)}&{_parameters(query)}"
        return await self._ask(instrument.market, target, decode_trades, TRADES_BYTES)

    async def market_info(self, market: Market, symbols: Sequence[str], *, whole: bool = False) -> Reply[MarketInfo]:
        """Read exchangeInfo. Spot is asked for the symbols alone, unless the ``whole`` list is wanted; futures always
        answer all."""
        target = f"{RULES[market].rest_path}/exchangeInfo{'' if whole else _symbol_parameters(market, symbols)}"
        return await self._ask(market, target, partial(decode_info, symbols=symbols), INFO_BYTES)

    async def forward(self, market: Market, target: str, headers: Mapping[str, str]) -> Reply[Forwarded]:
        """GET any target; whatever the exchange answers is passed on. Raises ValueError for one that is not a path."""
        if not _TARGET.fullmatch(target):
            raise ValueError(f"{target[:60]!r} is not a path of the exchange")
        usage, answer = await self._get(market, target, INFO_BYTES, headers)
        if isinstance(answer, ExchangeError):
            return Reply(usage, answer)
        body = answer.body(INFO_BYTES)
        if answer.status == httpx.codes.OK and isinstance(body, ExchangeError):
            return Reply(usage, body)
        refusal = None if answer.status == httpx.codes.OK else refusal_in(answer)
        limited = refusal if isinstance(refusal, RateLimited) else None
        known = b"" if isinstance(body, ExchangeError) else body
        return Reply(usage, Forwarded(answer.status, answer.headers, known, limited))

    def _route(self, base: str) -> Route:
        if base not in self._routes:
            self._routes[base] = Route(base)
        return self._routes[base]

    async def _ask(self, market: Market, target: str, decode: Decode[T], limit: int) -> Reply[T]:
        usage, answer = await self._get(market, target, limit)
        if isinstance(answer, ExchangeError):
            return Reply(usage, answer)
        if answer.status == httpx.codes.OK:
            return Reply(usage, Undecoded(lambda: _decoded(answer, decode, limit, self._hosts[market])))
        return Reply(usage, _explained(answer, refusal_in(answer), self._hosts[market]))

    async def _get(
        self, market: Market, target: str, limit: int, headers: Mapping[str, str] | None = None
    ) -> tuple[Usage, Answer | ExchangeError]:
        hosts = self._hosts[market]
        base = hosts.preferred()
        route = self._route(base)
        usage = Usage()
        try:
            with trio.fail_after(self._timeout_s):
                response = await route.transport.handle_async_request(route.get(target, headers))
                try:
                    answer = Answer(
                        base, target.partition("?")[0], response.status_code, headers_in(response.headers.raw)
                    )
                    usage = usage_of(answer)
                    hosts.reached(base)
                    return usage, await _with_body(response, answer, limit)
                finally:
                    await response.aclose()
        except trio.TooSlowError:
            hosts.unreachable(base)
            return usage, TransientError(f"{base} did not answer {_name(target)} within {self._timeout_s:g} s")
        except ExchangeError as error:
            return usage, type(error)(f"{base}: {error}")
        except (httpx.ConnectError, httpx.ProxyError) as error:
            hosts.unreachable(base)
            return usage, Unreachable(route.failure(error))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return usage, TransientError(route.failure(error))


async def _with_body(response: httpx.Response, answer: Answer, limit: int) -> Answer:
    """The answer with its body. That of a 429 or 418 may fail in any way: the pause is known from its head."""
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise TypeError(f"httpx answered with {type(stream).__name__}")
    if answer.status == httpx.codes.OK:
        return replace(answer, packed=await received(stream, limit))
    with trio.move_on_after(inf if pause_of(answer) is None else BAN_BODY_S):
        try:
            return replace(answer, packed=await received(stream, REFUSAL_BYTES))
        except UnexpectedAnswer:
            return answer  # too large to be a refusal of Binance: its status says all
        except httpx.HTTPError:
            if pause_of(answer) is None:
                raise
    return answer


def _explained(answer: Answer, refusal: ExchangeError, hosts: Hosts) -> ExchangeError:
    """The refusal, in the light of what is known of the host."""
    if not isinstance(refusal, RequestRejected):
        return refusal
    if answer.status == CLOSED_TO_US and refusal.code is not None:
        if hosts.closed(answer.base):
            return TransientError(f"{refusal}, and another one is asked")
        return RequestRejected(f"{hosts}: {CLOSED_TO_US}: closed to us here", status=CLOSED_TO_US, code=refusal.code)
    if refusal.code is None and hosts.is_proven(answer.base):
        # A proxy, a portal or a broken CDN spoke: the base URL was right before, and one page does not end a daemon.
        return TransientError(f"{answer.base}: {answer.status} on {answer.path}, which is not an answer of Binance")
    return refusal


def _decoded(answer: Answer, decode: Decode[T], limit: int, hosts: Hosts) -> T | ExchangeError:
    """The result; what cannot be read names the host, which may be no exchange at all."""
    body = answer.body(limit)
    result = body if isinstance(body, ExchangeError) else decode(body)
    if isinstance(result, TransientError | UnexpectedAnswer):
        return type(result)(f"{answer.base}: {result}")
    if not isinstance(result, ExchangeError):
        hosts.answered_well(answer.base)
    return result


# -- asking


def _name(target: str) -> str:
    """The endpoint of a target, for sentences."""
    return target.partition("?")[0].rpartition("/")[2]


def _parameters(query: Query) -> str:
    match query:
        case Page() | Tail():
            where = f"fromId={query.first_id}&"
        case At(trade_id):
            where = f"fromId={trade_id}&"
        case Since(start_ms):
            where = f"startTime={start_ms}&"
        case Before(stop_ms) | Newest(stop_ms=stop_ms):
            where = _until(stop_ms)
    return f"{where}limit={query.rows}"


def _until(stop_ms: int | None) -> str:
    """The exchange's ends are inclusive."""
    return "" if stop_ms is None else f"endTime={stop_ms - 1}&"


def _symbol_parameters(market: Market, symbols: Sequence[str]) -> str:
    if not RULES[market].describes_symbols:
        return ""
    if len(symbols) == 1:
        return f"?symbol={quote(symbols[0])}"
    return f"?symbols={quote(json.dumps(list(symbols), ensure_ascii=False, separators=(',', ':')))}"
