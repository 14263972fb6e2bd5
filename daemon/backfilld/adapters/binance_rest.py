"""Asking Binance's REST API, on httpx: connections, URLs, deadlines.

Owns how a question becomes a request and how a connection fails. What answers mean is told by
:mod:`backfilld.adapters.binance_answers`.
"""

import json
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
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
from backfilld.core.model import Instrument, Market
from backfilld.core.query import Before, Later, Newest, Page, Query, Since, Tail
from backfilld.errors import ExchangeError, TransientError, UnexpectedAnswer
from backfilld.ports import MarketInfo, OpenClient, Reply, Usage

T = TypeVar("T")

PATHS = {Market.SPOT: "/api/v3", Market.UM: "/fapi/v1", Market.CM: "/dapi/v1"}


def opener(base_urls: Mapping[Market, str], timeout_s: float) -> OpenClient:
    """A function that opens one connection to the exchange, for each fetcher its own.

    ``timeout_s`` bounds each request in all, from its first byte to the last of the answer.
    """
    needs_tls = any(url.startswith("https:") for url in base_urls.values())
    # One for all connections: each httpx client would load the CA bundle again. Plain HTTP needs none in it.
    verify = httpx.create_ssl_context() if needs_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    @asynccontextmanager
    async def open_client() -> AsyncIterator[BinanceRest]:
        limits = httpx.Limits(max_connections=len(base_urls), max_keepalive_connections=len(base_urls))
        headers = {"accept-encoding": "gzip", "user-agent": "backfilld"}
        async with httpx.AsyncClient(verify=verify, limits=limits, timeout=None, headers=headers) as http:
            yield BinanceRest(http, base_urls, timeout_s)

    return open_client


class BinanceRest:
    """One connection. Implements :class:`backfilld.ports.ExchangeClient`."""

    def __init__(self, http: httpx.AsyncClient, base_urls: Mapping[Market, str], timeout_s: float) -> None:
        self._http = http
        self._base_urls = base_urls
        self._timeout_s = timeout_s

    async def trades(self, instrument: Instrument, query: Query) -> Reply[pl.DataFrame]:
        """Ask aggTrades one question."""
        parameters = {"symbol": instrument.symbol} | _parameters(query)
        answer = await self._get(instrument.market, "aggTrades", parameters)
        if isinstance(answer, ExchangeError):
            return Reply(Usage(), answer)
        refusal = refusal_in(answer)
        return Reply(
            usage_of(answer), _naming_host(decode_trades(answer.content), answer) if refusal is None else refusal
        )

    async def market_info(self, market: Market, symbols: Sequence[str]) -> Reply[MarketInfo]:
        """Read exchangeInfo; spot is asked for the symbols alone, futures answer all in any case."""
        answer = await self._get(market, "exchangeInfo", _symbol_parameters(market, symbols))
        if isinstance(answer, ExchangeError):
            return Reply(Usage(), answer)
        refusal = refusal_in(answer)
        info = decode_info(answer.content, symbols) if refusal is None else refusal
        return Reply(usage_of(answer), _naming_host(info, answer) if refusal is None else info)

    async def _get(
        self, market: Market, endpoint: str, parameters: Mapping[str, str | int]
    ) -> httpx.Response | ExchangeError:
        base = self._base_urls[market].rstrip("/")
        try:
            with trio.fail_after(self._timeout_s):
                return await self._http.get(f"{base}{PATHS[market]}/{endpoint}", params=dict(parameters))
        except trio.TooSlowError:
            return TransientError(f"{base} did not answer {endpoint} within {self._timeout_s:g} s")
        except (httpx.TransportError, httpx.DecodingError) as error:
            return TransientError(f"{base} is out of reach: {_cause(error)}")


# -- asking


def _parameters(query: Query) -> dict[str, str | int]:
    match query:
        case Page(ids):
            return {"fromId": ids.first_id, "limit": query.rows}
        case Tail(first_id, rows):
            return {"fromId": first_id, "limit": rows}
        case Since(start_ms, rows):
            return {"startTime": start_ms, "limit": rows}
        case Later():
            return {"startTime": query.after_ms, "limit": query.rows}
        case Before(stop_ms, rows):
            return {"endTime": stop_ms - 1, "limit": rows}
        case Newest():
            return {"limit": query.rows}


def _symbol_parameters(market: Market, symbols: Sequence[str]) -> dict[str, str | int]:
    if market is not Market.SPOT:
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
