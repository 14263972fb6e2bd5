"""Reading the bodies of Binance's REST API: pages of trades and exchangeInfo.

Owns the translation of bytes into frames and :class:`~backfilld.ports.MarketInfo`. Every value is bounded here, and no
body raises. Pure: nothing is sent from here.
"""

import difflib
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar

import msgspec
import polars as pl

from backfilld.core.backfill.outcome import UNKNOWN_SYMBOL
from backfilld.core.frame import SCHEMA
from backfilld.core.model import EARLIEST_MS, LATEST_MS, MAX_ID
from backfilld.core.text import plain
from backfilld.core.weight.limits import INTERVAL_MS, MOST_LIMITS, MOST_UNITS, Limit
from backfilld.errors import ExchangeError, RequestRejected, TransientError, UnexpectedAnswer
from backfilld.ports import MarketInfo

T = TypeVar("T")
P = ParamSpec("P")

MOST_SYMBOLS = 20_000
"""Symbols of one exchangeInfo; spot lists some 3,500 with all that trade no more."""

MOST_LIMIT = 10_000_000
"""The largest limit of a limiter that is believed: the largest in use is 300,000."""

DEFAULT_TICK = 0.01
"""The price bin of a symbol whose tick size the exchange does not name."""

_TYPES = {name: dtype.base_type() for name, dtype in SCHEMA.items()}
"""The classes: polars compares an instance in twice the time, a dozen times for each column."""

_TICKS = (1e-12, 1e9)
_LONGEST_TICK = 40

_Id = Annotated[int, msgspec.Meta(ge=-1, le=MAX_ID)]
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
    onboardDate: Any = None


class _RateLimit(msgspec.Struct):
    rateLimitType: Any = None
    interval: Any = None
    intervalNum: Any = None
    limit: Any = None


class _ExchangeInfo(msgspec.Struct):
    rateLimits: list[_RateLimit]
    symbols: list[_Symbol]
    serverTime: Any = None


_ROWS = msgspec.json.Decoder(list[_Row], strict=False)
_INFO = msgspec.json.Decoder(_ExchangeInfo)


def _never_raising(decode: Callable[P, T | ExchangeError]) -> Callable[P, T | ExchangeError]:
    """The same function, for which any exception is the answer's fault: a body must not crash the daemon."""

    @wraps(decode)
    def decoded(*args: P.args, **values: P.kwargs) -> T | ExchangeError:
        try:
            return decode(*args, **values)
        except Exception as error:  # noqa: BLE001 - whatever a body provokes
            return UnexpectedAnswer(f"the answer cannot be read: {type(error).__name__}: {plain(str(error))}")

    return decoded


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
    return pl.DataFrame([pl.Series(name, values, _TYPES[name]) for name, values in columns.items()])


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
        and _is_within(each.intervalNum, 1, MOST_UNITS)
        and _is_within(each.limit, 1, MOST_LIMIT)
    ]


def _is_within(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _instant_ms(value: Any) -> int | None:
    return value if _is_within(value, EARLIEST_MS, LATEST_MS) else None


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
