"""What a forwarded request costs, by its path and parameters, as Binance documents it, and how long its answer keeps.

Owns the table. A path that it does not know is charged high; the headers of the answers correct the count.
"""

from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from backfilld.core.model import Market

UNKNOWN_WEIGHT = 40
MOST_SYMBOLS_WEIGHT = 200

INFO_KEPT_S = 300.0
"""How long exchangeInfo is kept: what it says changes a few times a day."""

WEIGHT_A_SECOND = 20
"""A ticker is kept for a second, and a dear one for as long as makes it cost this much: six programs that ask for all
tickers as fast as they can then use up a fifth of the limit of spot."""

_TICKERS = frozenset(("avgPrice", "ticker/24hr", "ticker/price", "ticker", "ticker/tradingDay"))
"""What the exchange itself computes anew about once a second. The best bid and ask are not among them."""

PREFIXES: Mapping[str, Market] = {
    "/api/": Market.SPOT,
    "/fapi/": Market.UM,
    "/futures/": Market.UM,
    "/dapi/": Market.CM,
}
"""Which market a path belongs to."""

_WRONG_COUNTS = frozenset(("/fapi/v1/ticker/bookTicker", "/fapi/v2/ticker/bookTicker", "/fapi/v2/ticker/price"))

_VERSIONS = frozenset(("v1", "v2", "v3"))

Weight = Callable[[Mapping[str, str]], int]


def market_of(path: str) -> Market | None:
    """The market of a path; None if it is none of the exchange's public ones."""
    return next((market for prefix, market in PREFIXES.items() if path.startswith(prefix)), None)


def endpoint_of(path: str) -> str:
    """The endpoint without its version: ``ticker/24hr`` of ``/api/v3/ticker/24hr``."""
    return "/".join(path.strip("/").split("/")[2:])


def route_of(path: str) -> str:
    """A name for the kind of request, of which there are few: the path of a documented endpoint, otherwise its
    market's."""
    market = market_of(path)
    if market is None:
        return "other"
    is_known = path.split("/")[2] in _VERSIONS and endpoint_of(path) in _WEIGHTS[market]
    return path if is_known else f"{market}:other"


def weight_of(path: str, query: str) -> int:
    """The request weight of a GET."""
    market = market_of(path)
    weight = None if market is None else _WEIGHTS[market].get(endpoint_of(path))
    if weight is None:
        return UNKNOWN_WEIGHT
    return weight(dict(parse_qsl(query, keep_blank_values=True)))


def kept_s(path: str, query: str) -> float:
    """For how many seconds the answer to a GET may be given to others who ask the same; 0 where it may not."""
    endpoint = endpoint_of(path)
    if market_of(path) is None or path.split("/")[2] not in _VERSIONS:
        return 0.0
    if endpoint == "exchangeInfo":
        return INFO_KEPT_S
    return max(1.0, weight_of(path, query) / WEIGHT_A_SECOND) if endpoint in _TICKERS else 0.0


def has_true_count(path: str) -> bool:
    """Whether the used weight in the header of an answer is the count of this address: on some futures paths the
    exchange says that it is not."""
    return path not in _WRONG_COUNTS


def _always(weight: int) -> Weight:
    return lambda _given: weight


def _by_limit(default: int, *steps: tuple[int, int]) -> Weight:
    """The weight of the first step whose limit is not below the one asked for."""

    def weight(given: Mapping[str, str]) -> int:
        text = given.get("limit", "")
        limit = int(text) if text.isascii() and text.isdigit() and len(text) < len(str(10**9)) else default
        return next((weight for most, weight in steps if limit <= most), steps[-1][1])

    return weight


def _by_symbols(one: int, every: int, *steps: tuple[int, int]) -> Weight:
    """``one`` for a symbol; with several the step of their number; ``every`` for all or more."""

    def weight(given: Mapping[str, str]) -> int:
        if "symbols" in given:
            number = given["symbols"].count(",") + 1
            return next((weight for most, weight in steps if number <= most), every)
        return one if given.get("symbol") or given.get("pair") else every

    return weight


def _four_a_symbol(given: Mapping[str, str]) -> int:
    """4 per symbol, up to MOST_SYMBOLS_WEIGHT."""
    return min(MOST_SYMBOLS_WEIGHT, 4 * (given.get("symbols", "").count(",") + 1))


_KLINES = _by_limit(500, (99, 1), (499, 2), (1000, 5), (1500, 10))
_DEPTH = _by_limit(500, (50, 2), (100, 5), (500, 10), (1000, 20))

_FUTURES: Mapping[str, Weight] = {
    "ping": _always(1),
    "time": _always(1),
    "exchangeInfo": _always(1),
    "openInterest": _always(1),
    "constituents": _always(2),
    "aggTrades": _always(20),
    "trades": _always(5),
    "historicalTrades": _always(200),
    "depth": _DEPTH,
    **dict.fromkeys(
        ("klines", "continuousKlines", "indexPriceKlines", "markPriceKlines", "premiumIndexKlines"), _KLINES
    ),
    "ticker/24hr": _by_symbols(1, 40),
    "ticker/price": _by_symbols(1, 2),
    "ticker/bookTicker": _by_symbols(2, 5),
    # Limits of their own, 500 in five minutes.
    "fundingRate": _always(1),
    "fundingInfo": _always(1),
}

_WEIGHTS: Mapping[Market, Mapping[str, Weight]] = {
    Market.SPOT: {
        "ping": _always(1),
        "time": _always(1),
        "exchangeInfo": _always(20),
        "depth": _by_limit(100, (100, 5), (500, 25), (1000, 50), (5000, 250)),
        "trades": _always(25),
        "historicalTrades": _always(25),
        "aggTrades": _always(4),
        "klines": _always(2),
        "uiKlines": _always(2),
        "avgPrice": _always(2),
        "ticker/24hr": _by_symbols(2, 80, (20, 2), (100, 40)),
        "ticker/price": _by_symbols(2, 4, (10**9, 4)),
        "ticker/bookTicker": _by_symbols(2, 4, (10**9, 4)),
        "ticker": _four_a_symbol,
        "ticker/tradingDay": _four_a_symbol,
    },
    Market.UM: {**_FUTURES, "premiumIndex": _by_symbols(1, 10)},
    Market.CM: {**_FUTURES, "premiumIndex": _always(10)},
}
