"""Reading what Binance's REST API answers: rows, exchangeInfo, headers and refusals.

Owns the translation of bytes, status codes and headers into the project's values and errors, by the exchange's own
rules: 429 and 418 with Retry-After in whole seconds, error bodies ``{"code": int, "msg": str}``, used weight in
``X-MBX-USED-WEIGHT-<n><letter>`` headers of any case, server time in ``Date``. Every value
is bounded here. Pure: nothing is sent from here.
"""

import difflib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import wraps
from ipaddress import ip_address
from typing import Annotated, Any, ParamSpec, TypeVar

import httpx
import msgspec
import polars as pl

from backfilld.adapters.answer import Answer
from backfilld.core.backfill.outcome import CLOSED_TO_US, UNKNOWN_SYMBOL
from backfilld.core.model import EARLIEST_MS, LATEST_MS, SCHEMA
from backfilld.core.text import plain
from backfilld.core.weight.limits import INTERVAL_MS, Limit
from backfilld.errors import ExchangeError, RateLimited, RequestRejected, TransientError, UnexpectedAnswer
from backfilld.ports import MarketInfo, Precision, Usage

T = TypeVar("T")
P = ParamSpec("P")

LONGEST_PAUSE_S = 3 * 86_400.0
"""Binance's longest ban. A longer one that an answer names is not one of Binance's."""

MOST_USED_WEIGHTS = 16
"""Used-weight headers of an answer that are read: the exchange sends one per interval, two at most so far."""

MOST_LIMITS = 16
"""Limiters of exchangeInfo that are read; it names four."""

MOST_SYMBOLS = 20_000
"""Symbols of one exchangeInfo; spot lists some 3,500 with all that trade no more."""

MOST_LIMIT = 10_000_000
"""The largest limit of a limiter that is believed: the largest in use is 300,000."""

LARGEST_ID = 2**53
"""An aggregate trade id is exact in every JSON reader up to here; the largest in use is below 2^33."""

_TRANSIENT_CODES = {-1000, -1001, -1003, -1006, -1007, -1008, -1016}
_USED_WEIGHT = re.compile(r"x-mbx-used-weight-([0-9]{1,3}[smhd])")
_NUMBER = re.compile(r"[0-9]{1,9}")
_SECONDS = re.compile(r"[0-9]+")
_DATE = re.compile(r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")
_ADDRESS = re.compile(r"(?<![\w.:])[0-9a-f:.]{3,45}(?![\w:])", re.IGNORECASE)
"""What may be an IP address; whether it is one, :mod:`ipaddress` knows."""

DEFAULT_TICK = 0.01
"""The price bin of a symbol whose tick size the exchange does not name."""

_TICKS = (1e-12, 1e9)
_LONGEST_TICK = 40

_Id = Annotated[int, msgspec.Meta(ge=-1, le=LARGEST_ID)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=LATEST_MS)]


class _Row(msgspec.Struct, gc=False):
    """One trade as it comes; fields that are not named here (``nq``) are ignored, ``M`` is missing on futures."""

    a: _Id
    p: float
    q: float
    f: _Id
    l: _Id  # noqa: E741 - the exchange's name
    T: _Time
    m: bool
    M: bool = True


class _Filter(msgspec.Struct):
    filterType: Any = None
    tickSize: Any = None


class _Symbol(msgspec.Struct):
    """Only the name must be right: whatever else is wrong of a symbol is as good as absent."""

    symbol: str
    filters: list[_Filter] = []
    status: Any = None
    contractStatus: Any = None
    onboardDate: Any = None
    pricePrecision: Any = None
    quantityPrecision: Any = None
    quotePrecision: Any = None
    baseAssetPrecision: Any = None


class _RateLimit(msgspec.Struct):
    rateLimitType: Any = None
    interval: Any = None
    intervalNum: Any = None
    limit: Any = None


class _ExchangeInfo(msgspec.Struct):
    rateLimits: list[_RateLimit]
    symbols: list[_Symbol]
    serverTime: Any = None


class _Refusal(msgspec.Struct):
    code: Annotated[int, msgspec.Meta(ge=-99_999, le=99_999)]
    msg: str = ""


_ROWS = msgspec.json.Decoder(list[_Row], strict=False)
_INFO = msgspec.json.Decoder(_ExchangeInfo)
_REFUSAL = msgspec.json.Decoder(_Refusal)


def _never_raising(decode: Callable[P, T | ExchangeError]) -> Callable[P, T | ExchangeError]:
    """The same function, for which any exception is the answer's fault: a body must not crash the daemon."""

    @wraps(decode)
    def decoded(*args: P.args, **values: P.kwargs) -> T | ExchangeError:
        try:
            return decode(*args, **values)
        except Exception as error:  # noqa: BLE001 - whatever a body provokes
            return UnexpectedAnswer(f"the answer cannot be read: {type(error).__name__}: {plain(str(error))}")

    return decoded


def usage_of(answer: Answer) -> Usage:
    """Used weight by interval, and the server's clock, from the headers of an answer."""
    found = ((_USED_WEIGHT.fullmatch(name), value) for name, value in answer.headers.items())
    used = [(match[1], int(value)) for match, value in found if match and _NUMBER.fullmatch(value)]
    return Usage(dict(used[:MOST_USED_WEIGHTS]), _date_ms(answer))


@_never_raising
def decode_trades(body: bytes) -> pl.DataFrame | ExchangeError:
    """A page's rows as a frame with the columns of SCHEMA, in the order of the answer."""
    rows = _decoded(_ROWS, body, "a list of trades")
    if isinstance(rows, ExchangeError):
        return rows
    columns: dict[str, Sequence[Any]] = {
        "T": [row.T for row in rows],
        "a": [row.a for row in rows],
        "p": [row.p for row in rows],
        "q": [row.q for row in rows],
        "f": [row.f for row in rows],
        "l": [row.l for row in rows],
        "m": [row.m for row in rows],
        "M": [row.M for row in rows],
    }
    # From series: a frame from lists goes through each list once more to guess its type.
    return pl.DataFrame([pl.Series(name, values, SCHEMA[name]) for name, values in columns.items()])


@_never_raising
def decode_info(body: bytes, symbols: Sequence[str]) -> MarketInfo | ExchangeError:
    """The limits, and what is said of ``symbols``; RequestRejected for one that is not listed."""
    info = _decoded(_INFO, body, "exchangeInfo")
    if isinstance(info, ExchangeError):
        return info
    if len(info.symbols) > MOST_SYMBOLS:
        return UnexpectedAnswer(f"exchangeInfo lists {len(info.symbols):,} symbols, more than {MOST_SYMBOLS:,}")
    wanted = set(symbols)
    found = {each.symbol: each for each in info.symbols if each.symbol in wanted}
    for symbol in symbols:
        if symbol not in found:
            return _unlisted(symbol, [each.symbol for each in info.symbols])
    return MarketInfo(
        tuple(_limits(info.rateLimits)),
        {name: _tick(each) for name, each in found.items()},
        _instant_ms(info.serverTime),
        {name: ms for name, each in found.items() if (ms := _instant_ms(each.onboardDate)) is not None},
        {name: digits for name, each in found.items() if (digits := _precision(each)) is not None},
        {name: status for name, each in found.items() if (status := _status(each))},
    )


def _unlisted(symbol: str, listed: Sequence[str]) -> RequestRejected:
    near = difflib.get_close_matches(symbol, listed, n=1)
    hint = f". Did you mean {plain(near[0], 60)}?" if near else ""
    return RequestRejected(f"{UNKNOWN_SYMBOL} {symbol} is not listed{hint}", status=200, code=UNKNOWN_SYMBOL)


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T | ExchangeError:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        return UnexpectedAnswer(f"the answer is not {what}: {plain(str(error))}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return TransientError(f"the answer is not JSON: {plain(str(error))}")


def _limits(limits: Sequence[_RateLimit]) -> list[Limit]:
    """The limiters that make sense; of one that does not, the exchange has said nothing."""
    return [
        Limit(each.limit, each.intervalNum, each.interval, by_weight=each.rateLimitType == "REQUEST_WEIGHT")
        for each in limits[:MOST_LIMITS]
        if each.rateLimitType in ("REQUEST_WEIGHT", "RAW_REQUESTS")
        and isinstance(each.interval, str)
        and each.interval in INTERVAL_MS
        and _is_within(each.intervalNum, 1, 60)
        and _is_within(each.limit, 1, MOST_LIMIT)
    ]


def _is_within(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _instant_ms(value: Any) -> int | None:
    return value if _is_within(value, EARLIEST_MS, LATEST_MS) else None


def _precision(symbol: _Symbol) -> Precision | None:
    """Futures name the digits of prices and quantities; spot those of the quote and the base asset."""
    price = symbol.quotePrecision if symbol.pricePrecision is None else symbol.pricePrecision
    quantity = symbol.baseAssetPrecision if symbol.quantityPrecision is None else symbol.quantityPrecision
    return Precision(price, quantity) if _is_within(price, 0, 18) and _is_within(quantity, 0, 18) else None


def _status(symbol: _Symbol) -> str:
    status = symbol.status if symbol.status is not None else symbol.contractStatus
    return plain(status, 40) if isinstance(status, str) else ""


def _tick(symbol: _Symbol) -> float:
    texts = [each.tickSize for each in symbol.filters if each.filterType == "PRICE_FILTER"]
    text = texts[0] if texts else None
    if not isinstance(text, str) or len(text) > _LONGEST_TICK:
        return DEFAULT_TICK
    try:
        size = float(text)
    except ValueError:
        return DEFAULT_TICK
    return size if _TICKS[0] <= size <= _TICKS[1] else DEFAULT_TICK


# -- reading refusals


def pause_of(answer: Answer) -> RateLimited | None:
    """The pause that a 429 or 418 asks for, from its head alone: no body can take it away."""
    if answer.status not in {429, 418}:
        return None
    return _limited(answer, "", _retry_after_s(answer))


def refusal_in(answer: Answer) -> ExchangeError:
    """What an answer with another status than 200 means, by who can act: time, the governor, or the operator."""
    status, where = answer.status, answer.base
    text = _text_of(answer)
    refusal = _decoded_refusal(text)
    sentence = without_addresses(plain(f"{refusal.code} {refusal.msg}") if refusal else _kind(answer))
    if status in {429, 418}:
        named = [wait_s for wait_s in (_retry_after_s(answer), _ban_s(answer, text)) if wait_s is not None]
        return _limited(answer, sentence, max(named, default=None))
    if status in {403, 503} and refusal is None and "html" in _kind(answer):
        # The CDN's own page: it never reached the exchange, and no time is named.
        return RateLimited(f"{where}: {status} {sentence}, a page of the CDN", retry_after_s=None, blocked=True)
    if httpx.codes.is_server_error(status) or status in {403, 408} or (refusal and refusal.code in _TRANSIENT_CODES):
        return TransientError(f"{where}: {status} {sentence}")
    if refusal is None:
        reason = f"{where}: {status} {sentence} on {answer.path}: this is not a base URL of Binance's REST API"
        return RequestRejected(reason, status=status, code=None)
    if status == CLOSED_TO_US:
        sentence = f"{sentence}: this host is closed to us, name another one"
    return RequestRejected(
        f"{where}: {status} {sentence}" if status == CLOSED_TO_US else sentence, status=status, code=refusal.code
    )


def _limited(answer: Answer, sentence: str, wait_s: float | None) -> RateLimited:
    banned = answer.status == httpx.codes.IM_A_TEAPOT
    return RateLimited(f"{answer.base}: {answer.status} {sentence}".rstrip(), retry_after_s=wait_s, banned=banned)


def _text_of(answer: Answer) -> str:
    """The body as UTF-8, whatever charset it claims; empty if it cannot be unpacked."""
    body = answer.body(_REFUSAL_BYTES)
    return "" if isinstance(body, ExchangeError) else body.decode(errors="replace")


_REFUSAL_BYTES = 64 << 10
"""Bytes of an unpacked refusal; Binance's have 200."""


def _decoded_refusal(text: str) -> _Refusal | None:
    try:
        return _REFUSAL.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _kind(answer: Answer) -> str:
    return plain(answer.headers.get("content-type", "an answer without a type").partition(";")[0], 80)


def without_addresses(text: str) -> str:
    """The text without IP addresses: bans name ours, and logs travel."""
    return _ADDRESS.sub(lambda match: "<address>" if _is_address(match[0]) else match[0], text)


def _is_address(text: str) -> bool:
    try:
        ip_address(text.rstrip("."))
    except ValueError:
        return False
    return True


def _retry_after_s(answer: Answer) -> float | None:
    """Retry-After, whole seconds, at most LONGEST_PAUSE_S; None for any other text."""
    text = answer.headers.get("retry-after", "").strip()
    if not _SECONDS.fullmatch(text):
        return None
    # Python refuses to read thousands of digits.
    return min(LONGEST_PAUSE_S, float(text)) if len(text) <= len("999999999") else LONGEST_PAUSE_S


def _ban_s(answer: Answer, text: str) -> float | None:
    """Seconds until the instant in ``banned until``, which is the server's time."""
    until, server_ms = _BANNED_UNTIL.search(text), _date_ms(answer)
    if until is None or server_ms is None:
        return None
    return min(LONGEST_PAUSE_S, max(0.0, (int(until[1]) - server_ms) / 1000))


def _date_ms(answer: Answer) -> int | None:
    """The server's time by its ``Date``; None for one that is not a date of our time."""
    found = _DATE.fullmatch(answer.headers.get("date", ""))
    if found is None or found[2] not in _MONTHS:
        return None
    day, month, year, hour, minute, second = found.groups()
    try:
        instant = datetime(
            int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC
        )
    except ValueError:
        return None
    return _instant_ms(int(instant.timestamp()) * 1000)
