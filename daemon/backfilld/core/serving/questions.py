"""What a request for trades or candles asks, where it is an ordinary one.

Owns which requests may be answered from what is stored. Whatever is odd in the least, an unknown parameter, a number
with a sign, a limit of 0, is None here: the exchange answers it, in its own words.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from backfilld.core.model import EARLIEST_MS, INT64_MAX, LATEST_MS, MAX_ID, PAGE_ROWS, Instrument, Market
from backfilld.core.serving.intervals import Interval, interval_named
from backfilld.errors import SettingsError

DEFAULT_LIMIT = 500
MOST_CANDLES = 1000
FUTURES_SPAN_MS = 3_600_000
"""On futures a span of this length or more is refused, by the documents."""

_TRADES = frozenset(("symbol", "fromId", "startTime", "endTime", "limit"))
_CANDLES = frozenset(("symbol", "interval", "startTime", "endTime", "timeZone", "limit"))
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class TradesQuestion:
    """Trades of an instrument: from an id on, or by time in ms, both ends inclusive; at most ``limit``.

    With ``from_id`` or ``start_ms`` the oldest that match are answered, otherwise the newest.
    """

    instrument: Instrument
    limit: int = DEFAULT_LIMIT
    from_id: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None


@dataclass(frozen=True, slots=True)
class CandlesQuestion:
    """Candles of an instrument whose open time lies in the span, both ends inclusive; at most ``limit``.

    With ``start_ms`` the oldest that match are answered, otherwise the newest.
    """

    instrument: Instrument
    interval: Interval
    limit: int = DEFAULT_LIMIT
    start_ms: int | None = None
    end_ms: int | None = None


def trades_question(market: Market, query: str) -> TradesQuestion | None:
    """The question of an ordinary aggTrades request."""
    given = _parameters(query, _TRADES)
    instrument = _instrument(market, given)
    numbers = _numbers(given, ("fromId", "startTime", "endTime", "limit"))
    if given is None or instrument is None or numbers is None:
        return None
    limit, from_id = numbers.get("limit", DEFAULT_LIMIT), numbers.get("fromId")
    start_ms, end_ms = numbers.get("startTime"), numbers.get("endTime")
    is_by_time = start_ms is not None or end_ms is not None
    if not 0 < limit <= PAGE_ROWS or (from_id is not None and (is_by_time or from_id > MAX_ID)):
        return None
    most_ms = INT64_MAX if market is Market.SPOT else FUTURES_SPAN_MS
    if not _is_ordinary_span(start_ms, end_ms, most_ms):
        return None
    return TradesQuestion(instrument, limit, from_id, start_ms, end_ms)


def candles_question(query: str) -> CandlesQuestion | None:
    """The question of an ordinary klines request on spot."""
    given = _parameters(query, _CANDLES)
    instrument = _instrument(Market.SPOT, given)
    numbers = _numbers(given, ("startTime", "endTime", "limit"))
    if given is None or instrument is None or numbers is None:
        return None
    interval = interval_named(given.get("interval", ""), given.get("timeZone", "0"))
    limit = numbers.get("limit", DEFAULT_LIMIT)
    start_ms, end_ms = numbers.get("startTime"), numbers.get("endTime")
    if interval is None or not 0 < limit <= MOST_CANDLES or not _is_ordinary_span(start_ms, end_ms):
        return None
    return CandlesQuestion(instrument, interval, limit, start_ms, end_ms)


def _parameters(query: str, known: frozenset[str]) -> dict[str, str] | None:
    """The parameters, None if one is unknown, doubled or empty."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict") if query else []
    except ValueError:
        return None
    given = dict(pairs)
    is_ordinary = len(given) == len(pairs) and known.issuperset(given) and all(given.values())
    return given if is_ordinary else None


def _instrument(market: Market, given: Mapping[str, str] | None) -> Instrument | None:
    if given is None or "symbol" not in given:
        return None
    try:
        return Instrument.parse(f"{market}:{given['symbol']}")
    except SettingsError:
        return None


def _numbers(given: Mapping[str, str] | None, names: tuple[str, ...]) -> dict[str, int] | None:
    """The numbers among the parameters, None if one is not written as the exchange would write it."""
    texts = {name: given[name] for name in names if name in given} if given is not None else {}
    if not all(_NUMBER.fullmatch(text) for text in texts.values()):
        return None
    return {name: int(text) for name, text in texts.items()}


def _is_ordinary_span(start_ms: int | None, end_ms: int | None, most_ms: int = INT64_MAX) -> bool:
    """Whether both ends are times in ms, in order, and less than so much apart."""
    if not all(EARLIEST_MS <= each <= LATEST_MS for each in (start_ms, end_ms) if each is not None):
        return False
    return start_ms is None or end_ms is None or 0 <= end_ms - start_ms < most_ms
