"""What a client asks of aggTrades, read as strictly as the exchange reads it.

Owns the parameters, their rules and the error codes of requests that break them. Must not look at any trade.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from binance_simulator.model import INT64_MAX, MS_PER_HOUR, PAGE_ROWS, Market

DEFAULT_LIMIT = 500
_KNOWN = frozenset(("symbol", "fromId", "startTime", "endTime", "limit"))
_NUMBER_RANGE = "^[0-9]{1,20}$"
_SYMBOL_RANGE = r"^[\w\-._&&[^a-z]]{1,50}$"
_SYMBOL = re.compile(r"(?:[^\Wa-z]|[\-.]){1,50}")
_LEAST_MICROSECONDS = 10**14
"""Above it a time is in microseconds: as milliseconds it would be the year 5138."""


class Refusal(Exception):
    """The exchange refuses the request: HTTP ``status``, the exchange's ``code`` and its words."""

    def __init__(self, code: int, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class TradesQuery:
    """One well-formed question: times inclusive and in ms, ``limit`` rows at most."""

    symbol: str
    limit: int = DEFAULT_LIMIT
    from_id: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None

    @property
    def oldest_kept(self) -> bool:
        """Whether the oldest rows are answered, where more than ``limit`` rows fit; else the newest."""
        return self.from_id is not None or self.start_ms is not None


def parse_trades_query(market: Market, query: str) -> TradesQuery:
    """Read a query string. Raises Refusal with the exchange's code and words."""
    given = parameters(query)
    if market is Market.SPOT:
        refuse_unknown(given, _KNOWN)
    refuse_empty(given)
    symbol = symbol_of(given)
    limit, from_id = limit_of(given, PAGE_ROWS), number(given, "fromId")
    start_ms, end_ms = times_of(market, given)
    if from_id is not None:
        if market is Market.SPOT and (start_ms is not None or end_ms is not None):
            raise Refusal(-1128, "Combination of optional parameters invalid.")
        start_ms = end_ms = None
    if market is not Market.SPOT and start_ms is not None and end_ms is not None and end_ms - start_ms >= MS_PER_HOUR:
        raise Refusal(-1127, "More than 1 hours between startTime and endTime.")
    return TradesQuery(symbol, limit, from_id, start_ms, end_ms)


def limit_of(given: dict[str, str], most: int, default: int = DEFAULT_LIMIT) -> int:
    """The parameter ``limit``, at most ``most``. Raises Refusal -1130 for 0."""
    limit = number(given, "limit")
    if limit == 0:
        raise Refusal(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(default if limit is None else limit, most)


def times_of(market: Market, given: dict[str, str]) -> tuple[int | None, int | None]:
    """The parameters ``startTime`` and ``endTime`` in ms; spot takes microseconds too."""
    start, end = number(given, "startTime"), number(given, "endTime")
    return _in_ms(market, start, round_up=True), _in_ms(market, end, round_up=False)


def parameters(query: str) -> dict[str, str]:
    """The parameters of a query string. Raises Refusal for one given twice."""
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    if len(given) < len(pairs):
        raise Refusal(-1101, "Duplicate values for a parameter detected.")
    return given


def number(given: dict[str, str], name: str) -> int | None:
    """A parameter as an integer, None where it was not sent. Raises Refusal for anything but digits."""
    text = given.get(name)
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,20}", text) is None:
        raise Refusal(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{_NUMBER_RANGE}'.")
    if int(text) > INT64_MAX:
        raise Refusal(-1130, f"Data sent for parameter '{name}' is not valid.")
    return int(text)


def refuse_unknown(given: dict[str, str], known: frozenset[str]) -> None:
    """Raise Refusal -1101 for parameters that the endpoint does not have."""
    expected = len(known & given.keys())
    if expected < len(given):
        raise Refusal(-1101, f"Too many parameters; expected '{expected}' and received '{len(given)}'.")


def refuse_empty(given: dict[str, str]) -> None:
    """Raise Refusal -1105 for a parameter without a value."""
    for name, text in given.items():
        if not text:
            raise Refusal(-1105, f"Parameter '{name}' was empty.")


def mandatory(given: dict[str, str], name: str) -> str:
    """A parameter that must be sent. Raises Refusal -1102."""
    if name not in given:
        raise Refusal(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return given[name]


def symbol_of(given: dict[str, str]) -> str:
    """The parameter ``symbol``. Raises Refusal -1102 or -1100."""
    symbol = mandatory(given, "symbol")
    if _SYMBOL.fullmatch(symbol) is None:
        raise Refusal(-1100, f"Illegal characters found in parameter 'symbol'; legal range is '{_SYMBOL_RANGE}'.")
    return symbol


def _in_ms(market: Market, time: int | None, *, round_up: bool) -> int | None:
    """A time in ms or in microseconds, recognized by magnitude, as ms that select the same rows."""
    if market is not Market.SPOT or time is None or time < _LEAST_MICROSECONDS:
        return time
    return -(-time // 1000) if round_up else time // 1000
