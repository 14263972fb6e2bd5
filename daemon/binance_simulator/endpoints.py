"""The exchange's public endpoints: what each costs and what it answers, by market.

Owns the table. A weight follows from the parameters alone and is charged whether the request is refused or not.
"""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import msgspec

from binance_simulator.klines import klines
from binance_simulator.market_data import (
    MarketView,
    average_price,
    book_ticker,
    depth,
    per_symbol,
    single_trades,
    ticker_24hr,
    ticker_price,
)
from binance_simulator.model import Market

Parameters = Mapping[str, str]
Weight = Callable[[Parameters], int]
Answer = Callable[[MarketView, dict[str, str]], Any]

PATH_OF = {Market.SPOT: "/api/v3", Market.UM: "/fapi/v1", Market.CM: "/dapi/v1"}
"""Where each market's endpoints live."""


def _always(weight: int) -> Weight:
    return lambda _given: weight


def _by_limit(default: int, *steps: tuple[int, int]) -> Weight:
    """The weight of the first step whose limit is not below the one asked for; of the last one beyond them."""

    def weight(given: Parameters) -> int:
        text = given.get("limit", "")
        limit = int(text) if text.isdecimal() else default
        return next((weight for most, weight in steps if limit <= most), steps[-1][1])

    return weight


def _by_symbols(one: int, every: int, *steps: tuple[int, int]) -> Weight:
    """``one`` with ``symbol``; with ``symbols`` the step of their number; ``every`` for all."""

    def weight(given: Parameters) -> int:
        if "symbol" in given:
            return one
        number = given["symbols"].count(",") + 1 if "symbols" in given else None
        return every if number is None else next((weight for most, weight in steps if number <= most), every)

    return weight


_FUTURES_KLINES = _by_limit(500, (99, 1), (499, 2), (1000, 5), (1500, 10))
_FUTURES_DEPTH = _by_limit(500, (50, 2), (100, 5), (500, 10), (1000, 20))

WEIGHTS: Mapping[Market, Mapping[str, Weight]] = {
    Market.SPOT: {
        "aggTrades": _always(4),
        "exchangeInfo": _always(20),
        "time": _always(1),
        "ping": _always(1),
        "klines": _always(2),
        "uiKlines": _always(2),
        "trades": _always(25),
        "historicalTrades": _always(25),
        "avgPrice": _always(2),
        "depth": _by_limit(100, (100, 5), (500, 25), (1000, 50), (5000, 250)),
        "ticker/24hr": _by_symbols(2, 80, (20, 2), (100, 40)),
        "ticker/price": _by_symbols(2, 4),
        "ticker/bookTicker": _by_symbols(2, 4),
    },
    Market.UM: {
        "aggTrades": _always(20),
        "exchangeInfo": _always(1),
        "time": _always(1),
        "ping": _always(1),
        "klines": _FUTURES_KLINES,
        "trades": _always(5),
        "depth": _FUTURES_DEPTH,
        "ticker/24hr": _by_symbols(1, 40),
        "ticker/price": _by_symbols(1, 2),
        "ticker/bookTicker": _by_symbols(2, 5),
    },
    Market.CM: {
        "aggTrades": _always(20),
        "exchangeInfo": _always(1),
        "time": _always(1),
        "ping": _always(1),
        "trades": _always(5),
        "depth": _FUTURES_DEPTH,
        "ticker/24hr": _by_symbols(1, 40),
        "ticker/price": _by_symbols(1, 2),
        "ticker/bookTicker": _by_symbols(2, 5),
    },
}
"""What a request costs, as documented, by market and endpoint."""

ANSWERS: Mapping[str, Answer] = {
    "time": lambda view, _given: {"serverTime": view.now_ms},
    "ping": lambda _view, _given: msgspec.Raw(b"{}"),
    "klines": klines,
    "uiKlines": klines,
    "trades": single_trades,
    "historicalTrades": single_trades,
    "avgPrice": average_price,
    "depth": depth,
    "ticker/24hr": per_symbol(ticker_24hr),
    "ticker/price": per_symbol(ticker_price),
    "ticker/bookTicker": per_symbol(book_ticker),
}
"""What an endpoint answers, but for aggTrades and exchangeInfo, which the exchange itself answers."""


def served_paths() -> list[tuple[Market, str]]:
    """Every market with every endpoint that it has."""
    return list(chain.from_iterable(((market, endpoint) for endpoint in WEIGHTS[market]) for market in Market))
