"""Reading what Binance's REST API answers: rows, exchangeInfo, headers and refusals.

Owns the translation of bytes, status codes and headers into the project's values and errors, by the exchange's own
rules: 429 and 418 with Retry-After in whole seconds, error bodies ``{"code": int, "msg": str}``, used weight in
``X-MBX-USED-WEIGHT-<n><letter>`` headers of any case, server time in ``Date``. Pure: nothing is sent from here.
"""

import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Annotated, Any, TypeVar

import httpx
import msgspec
import polars as pl

from backfilld.core.backfill.outcome import CLOSED_TO_US, UNKNOWN_SYMBOL
from backfilld.core.model import INT64_MAX, SCHEMA
from backfilld.core.weight.limits import INTERVAL_MS, Limit
from backfilld.errors import ExchangeError, RateLimited, RequestRejected, TransientError, UnexpectedAnswer
from backfilld.ports import MarketInfo, Usage

T = TypeVar("T")

_TRANSIENT_CODES = {-1000, -1001, -1003, -1006, -1007, -1008, -1016}
_USED_WEIGHT = re.compile(r"x-mbx-used-weight-(\d+[smhd])", re.IGNORECASE)
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")
_ADDRESS = re.compile(r"(?<![\w.:])[0-9a-f:.]{3,45}(?![\w:])", re.IGNORECASE)
"""What may be an IP address; whether it is one, :mod:`ipaddress` knows."""

DEFAULT_TICK = 0.01
"""The price bin of a symbol whose tick size the exchange does not tell."""

_Id = Annotated[int, msgspec.Meta(ge=-1, le=INT64_MAX)]


class _Row(msgspec.Struct, gc=False):
    """One trade as it comes; fields that are not named here (``nq``) are ignored, ``M`` is missing on futures."""

    a: _Id
    p: float
    q: float
    f: _Id
    l: _Id  # noqa: E741 - the exchange's name
    T: _Id
    m: bool
    M: bool = True


class _Filter(msgspec.Struct):
    filterType: str
    tickSize: str | None = None


class _Symbol(msgspec.Struct):
    symbol: str
    filters: list[_Filter] = []


class _RateLimit(msgspec.Struct):
    rateLimitType: str
    interval: str
    intervalNum: int
    limit: int


class _ExchangeInfo(msgspec.Struct):
    rateLimits: list[_RateLimit]
    symbols: list[_Symbol]
    serverTime: int | None = None


class _Refusal(msgspec.Struct):
    code: int
    msg: str = ""


_ROWS = msgspec.json.Decoder(list[_Row], strict=False)
_INFO = msgspec.json.Decoder(_ExchangeInfo)
_REFUSAL = msgspec.json.Decoder(_Refusal)


def usage_of(answer: httpx.Response) -> Usage:
    """Used weight by interval, and the server's clock, from the headers of an answer."""
    used = {
        match[1].lower(): int(value)
        for name, value in answer.headers.items()
        if (match := _USED_WEIGHT.fullmatch(name)) and value.isdecimal()
    }
    return Usage(used, _date_ms(answer.headers.get("date")))


def decode_trades(body: bytes) -> pl.DataFrame | ExchangeError:
    """A page's rows as a frame with the columns of SCHEMA, in the order of the answer."""
    rows = _decoded(_ROWS, body, "list of trades")
    if isinstance(rows, ExchangeError):
        return rows
    return pl.DataFrame(
        {
            "T": [row.T for row in rows],
            "a": [row.a for row in rows],
            "p": [row.p for row in rows],
            "q": [row.q for row in rows],
            "f": [row.f for row in rows],
            "l": [row.l for row in rows],
            "m": [row.m for row in rows],
            "M": [row.M for row in rows],
        },
        schema=SCHEMA,
    )


def decode_info(body: bytes, symbols: Sequence[str]) -> MarketInfo | ExchangeError:
    """The limits, and the tick sizes of ``symbols``; RequestRejected for one that is not listed."""
    info = _decoded(_INFO, body, "exchangeInfo")
    if isinstance(info, ExchangeError):
        return info
    ticks = {each.symbol: _tick(each) for each in info.symbols if each.symbol in set(symbols)}
    unlisted = [symbol for symbol in symbols if symbol not in ticks]
    if unlisted:
        return RequestRejected(f"{UNKNOWN_SYMBOL} {unlisted[0]} is not listed", status=200, code=UNKNOWN_SYMBOL)
    return MarketInfo(tuple(_limits(info.rateLimits)), ticks, info.serverTime)


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T | ExchangeError:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        return UnexpectedAnswer(f"an answer that is no {what}: {error}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return TransientError(f"an answer that is no JSON: {error}")


def _limits(limits: Sequence[_RateLimit]) -> list[Limit]:
    return [
        Limit(each.limit, each.intervalNum, each.interval, by_weight=each.rateLimitType == "REQUEST_WEIGHT")
        for each in limits
        if each.rateLimitType in {"REQUEST_WEIGHT", "RAW_REQUESTS"} and each.interval in INTERVAL_MS
    ]


def _tick(symbol: _Symbol) -> float:
    texts = [each.tickSize for each in symbol.filters if each.filterType == "PRICE_FILTER" and each.tickSize]
    try:
        size = float(texts[0])
    except (IndexError, ValueError):
        return DEFAULT_TICK
    return size if 0 < size < float("inf") else DEFAULT_TICK


# -- reading refusals


def host_of(answer: httpx.Response) -> str:
    """The base URL that gave the answer."""
    return f"{answer.request.url.scheme}://{answer.request.url.netloc.decode()}"


def refusal_in(answer: httpx.Response) -> ExchangeError | None:
    """What an answer with another status than 200 means, by who can act: time, the governor, or the operator."""
    status = answer.status_code
    if status == httpx.codes.OK:
        return None
    refusal = _decoded_refusal(answer)
    said = without_addresses(f"{refusal.code} {refusal.msg}" if refusal else _kind(answer))
    where = host_of(answer)
    if status in {429, 418}:
        banned = status == httpx.codes.IM_A_TEAPOT
        return RateLimited(f"{where}: {status} {said}", retry_after_s=_retry_after_s(answer), banned=banned)
    if status in {403, 503} and refusal is None and "html" in _kind(answer):
        # The CDN's own page: it never reached the exchange, and no time is named.
        return RateLimited(f"{where}: {status} {said}, a page of the CDN", retry_after_s=None, blocked=True)
    if httpx.codes.is_server_error(status) or status in {403, 408} or (refusal and refusal.code in _TRANSIENT_CODES):
        return TransientError(f"{where}: {status} {said}")
    if refusal is None:
        reason = f"{where}: {status} {said} on {answer.request.url.path}: this is no base URL of Binance's REST API"
        return RequestRejected(reason, status=status, code=None)
    if status == CLOSED_TO_US:
        said = f"{where}: {status} {said}: this host is closed to us, name another one"
    return RequestRejected(said, status=status, code=refusal.code)


def _decoded_refusal(answer: httpx.Response) -> _Refusal | None:
    try:
        return _REFUSAL.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _kind(answer: httpx.Response) -> str:
    return str(answer.headers.get("content-type", "an answer without a type")).partition(";")[0]


def without_addresses(text: str) -> str:
    """The text without IP addresses: bans name ours, and logs travel."""
    return _ADDRESS.sub(lambda match: "<address>" if _is_address(match[0]) else match[0], text)


def _is_address(text: str) -> bool:
    try:
        ip_address(text.rstrip("."))
    except ValueError:
        return False
    return True


def _retry_after_s(answer: httpx.Response) -> float | None:
    """The later of Retry-After (whole seconds) and the body's ``banned until`` (server ms)."""
    waits = []
    header = str(answer.headers.get("retry-after", ""))
    if header.isdecimal():
        waits.append(float(header))
    banned_until = _BANNED_UNTIL.search(answer.text)
    server_ms = _date_ms(answer.headers.get("date"))
    if banned_until and server_ms is not None:
        waits.append(max(0.0, (int(banned_until[1]) - server_ms) / 1000))
    return max(waits, default=None)


def _date_ms(header: Any) -> int | None:
    try:
        return int(parsedate_to_datetime(header).timestamp() * 1000) if header else None
    except (ValueError, OverflowError):
        return None
