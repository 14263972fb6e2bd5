"""Asking Binance's REST API, on httpx: connections, URLs, deadlines.

Owns how a question becomes a request and how a connection fails. What answers mean is told by
:mod:`backfilld.adapters.binance_answers`.
"""

import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import TypeVar

import httpx
import polars as pl
import trio

from backfilld.adapters.binance_answers import (
    decode_info,
    decode_trades,
    host_of,
    refusal_in,
    usage_of,
    without_addresses,
)
from backfilld.adapters.hosts import Hosts
from backfilld.core.backfill.outcome import CLOSED_TO_US
from backfilld.core.backfill.questions import Before, Later, Newest, Page, Query, Since, Tail
from backfilld.core.markets import RULES
from backfilld.core.model import Instrument, Market
from backfilld.errors import ExchangeError, RequestRejected, TransientError, UnexpectedAnswer
from backfilld.ports import MarketInfo, OpenClient, Reply, Undecoded, Usage

T = TypeVar("T")


def opener(base_urls: Mapping[Market, Sequence[str]], timeout_s: float) -> OpenClient:
    """A function that opens one connection to the exchange, for each fetcher its own.

    Each market has its base URLs in order of preference. ``timeout_s`` bounds each request in all, from its first byte
    to the last of the answer.
    """
    # What one connection learns of a host, all know.
    hosts = {market: Hosts(urls, trio.current_time) for market, urls in base_urls.items()}
    # One for all connections: each httpx client would load the CA bundle again. Plain HTTP needs none in it.
    plain, certified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cache(httpx.create_ssl_context)

    def connect(market: Market) -> httpx.AsyncClient:
        urls = base_urls[market]
        needs_tls = any(url.startswith("https:") for url in urls)
        limits = httpx.Limits(max_connections=len(urls), max_keepalive_connections=len(urls))
        headers = {"accept-encoding": "gzip", "user-agent": "backfilld"}
        verify = certified() if needs_tls else plain
        return httpx.AsyncClient(verify=verify, limits=limits, timeout=None, headers=headers)

    @asynccontextmanager
    async def open_client() -> AsyncIterator[BinanceRest]:
        client = BinanceRest(connect, hosts, timeout_s)
        try:
            yield client
        finally:
            await client.aclose()

    return open_client


class BinanceRest:
    """One connection to each market that is asked. Implements :class:`backfilld.ports.ExchangeClient`."""

    def __init__(
        self, connect: Callable[[Market], httpx.AsyncClient], hosts: Mapping[Market, Hosts], timeout_s: float
    ) -> None:
        self._connect = connect
        self._connections: dict[Market, httpx.AsyncClient] = {}
        self._hosts = hosts
        self._timeout_s = timeout_s

    async def aclose(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            await connection.aclose()

    async def trades(self, instrument: Instrument, query: Query) -> Reply[pl.DataFrame]:
        """Ask aggTrades one question."""
        parameters = {"symbol": instrument.symbol, **_parameters(query)}
        return await self._ask(instrument.market, "aggTrades", parameters, decode_trades)

    async def market_info(self, market: Market, symbols: Sequence[str]) -> Reply[MarketInfo]:
        """Read exchangeInfo; spot is asked for the symbols alone, futures answer all in any case."""
        parameters = _symbol_parameters(market, symbols)
        return await self._ask(market, "exchangeInfo", parameters, partial(decode_info, symbols=symbols))

    def _connection(self, market: Market) -> httpx.AsyncClient:
        if market not in self._connections:
            self._connections[market] = self._connect(market)
        return self._connections[market]

    async def _ask(
        self,
        market: Market,
        endpoint: str,
        parameters: Mapping[str, str | int],
        decode: Callable[[bytes], T | ExchangeError],
    ) -> Reply[T]:
        answer = await self._get(market, endpoint, parameters)
        if isinstance(answer, ExchangeError):
            return Reply(Usage(), answer)
        undecoded = Undecoded(lambda: _naming_host(decode(answer.content), answer))
        refusal = refusal_in(answer)
        if answer.status_code == CLOSED_TO_US and isinstance(refusal, RequestRejected):
            refusal = self._closed(market, answer, refusal)
        return Reply(usage_of(answer), refusal or undecoded)

    def _closed(self, market: Market, answer: httpx.Response, refusal: RequestRejected) -> ExchangeError:
        hosts = self._hosts[market]
        if hosts.closed(host_of(answer)):
            return TransientError(f"{refusal}, and another one is asked")
        return RequestRejected(f"{hosts}: {CLOSED_TO_US}: closed to us here", status=CLOSED_TO_US, code=refusal.code)

    async def _get(
        self, market: Market, endpoint: str, parameters: Mapping[str, str | int]
    ) -> httpx.Response | ExchangeError:
        hosts = self._hosts[market]
        base = hosts.preferred()
        try:
            with trio.fail_after(self._timeout_s):
                answer = await self._connection(market).get(
                    f"{base}{RULES[market].rest_path}/{endpoint}", params=dict(parameters)
                )
        except trio.TooSlowError:
            hosts.unreachable(base)
            return TransientError(f"{base} did not answer {endpoint} within {self._timeout_s:g} s")
        except (httpx.TransportError, httpx.DecodingError) as error:
            if isinstance(error, httpx.ConnectError):
                hosts.unreachable(base)
            return TransientError(f"{base} is out of reach: {_cause(error)}")
        hosts.reached(base)
        return answer


# -- asking


def _parameters(query: Query) -> Mapping[str, str | int]:
    match query:
        case Page(ids):
            where: dict[str, int | None] = {"fromId": ids.first_id}
        case Tail(first_id):
            where = {"fromId": first_id}
        case Since(start_ms, stop_ms=stop_ms):
            where = {"startTime": start_ms, "endTime": _last_ms(stop_ms)}
        case Later(after_ms):
            where = {"startTime": after_ms}
        case Before(stop_ms) | Newest(stop_ms=stop_ms):
            where = {"endTime": _last_ms(stop_ms)}
    return {name: value for name, value in where.items() if value is not None} | {"limit": query.rows}


def _last_ms(stop_ms: int | None) -> int | None:
    """The exchange's ends are inclusive."""
    return None if stop_ms is None else stop_ms - 1


def _symbol_parameters(market: Market, symbols: Sequence[str]) -> dict[str, str | int]:
    if not RULES[market].describes_symbols:
        return {}
    if len(symbols) == 1:
        return {"symbol": symbols[0]}
    return {"symbols": json.dumps(list(symbols), ensure_ascii=False, separators=(",", ":"))}


def _naming_host(result: T | ExchangeError, answer: httpx.Response) -> T | ExchangeError:
    """What cannot be read names who said it: it may be no exchange at all."""
    if isinstance(result, TransientError | UnexpectedAnswer):
        return type(result)(f"{host_of(answer)}: {result}")
    return result


def _cause(error: Exception) -> str:
    return without_addresses(str(error)) or type(error).__name__
