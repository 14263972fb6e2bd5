"""Tickers, the order book, single trades and the average price, made of the tape.

Owns these documents. The book is invented, but a function of the last trade alone: a bid and an ask a tick beside its
price, and more behind them. Must not charge weight, and must not know how an answer travels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from binance_simulator.candles import Candle, exact_rows, span_candle
from binance_simulator.decimals import SPOT_DIGITS, units_text
from binance_simulator.generation import Grid, digits_of
from binance_simulator.model import MS_PER_DAY, Instrument, Market
from binance_simulator.pages import shown_digits
from binance_simulator.query import Refusal, limit_of, mandatory, refuse_empty, symbol_of
from binance_simulator.tape import Tape

_AVERAGE_MINUTES = 5
_FUTURES_DEPTHS = (5, 10, 20, 50, 100, 500, 1000)
_MOST_LEVELS = 5000

Document = Any


@dataclass(frozen=True, slots=True)
class MarketView:
    """One market at one instant: its tapes, and of each the rows that the exchange shows now."""

    market: Market
    tapes: Mapping[Instrument, Tape]
    now_ms: int
    visible: Callable[[Instrument], pl.DataFrame]

    def tape(self, symbol: str) -> Tape:
        """The tape of a symbol. Raises Refusal -1121."""
        return self.tapes[self.instrument(symbol)]

    def rows(self, symbol: str) -> pl.DataFrame:
        """The visible rows of a symbol. Raises Refusal -1121."""
        return self.visible(self.instrument(symbol))

    def instrument(self, symbol: str) -> Instrument:
        """The instrument of a symbol. Raises Refusal -1121."""
        instrument = Instrument(self.market, symbol)
        if instrument not in self.tapes:
            raise Refusal(-1121, "Invalid symbol.")
        return instrument

    def symbols(self, given: Mapping[str, str]) -> list[str]:
        """The symbols that ``symbol`` or ``symbols`` names, or all. Raises Refusal."""
        listed = [instrument.symbol for instrument in self.tapes if instrument.market is self.market]
        names = symbols_asked(given)
        return listed if names is None else [self.instrument(name).symbol for name in names]


def symbols_asked(given: Mapping[str, str]) -> list[str] | None:
    """The names in ``symbol`` or ``symbols``, or None where neither was sent. Raises Refusal."""
    if "symbol" in given and "symbols" in given:
        raise Refusal(-1128, "Combination of optional parameters invalid.")
    if "symbol" in given:
        return [symbol_of(dict(given))]
    if "symbols" not in given:
        return None
    try:
        return msgspec.json.decode(given["symbols"], type=list[str])
    except msgspec.MsgspecError as error:
        legal = '^[\\[\\]\\w",]+$'
        raise Refusal(-1100, f"Illegal characters found in parameter 'symbols'; legal range is '{legal}'.") from error


def per_symbol(make: Callable[[MarketView, str], Document]) -> Callable[[MarketView, dict[str, str]], Document]:
    """An endpoint that answers one object for ``symbol``, and a list for several or all."""

    def answer(view: MarketView, given: dict[str, str]) -> Document:
        refuse_empty(given)
        found = [make(view, symbol) for symbol in view.symbols(given)]
        return found[0] if "symbol" in given and view.market is not Market.CM else found

    return answer


def ticker_price(view: MarketView, symbol: str) -> Document:
    """The last price."""
    quote = _Quote.of(view, symbol)
    timed = {} if view.market is Market.SPOT else {"time": quote.time_ms}
    return {"symbol": symbol, "price": quote.price_text(quote.price)} | timed


def book_ticker(view: MarketView, symbol: str) -> Document:
    """The best bid and ask."""
    quote = _Quote.of(view, symbol)
    timed = {} if view.market is Market.SPOT else {"time": quote.time_ms}
    return {"symbol": symbol} | quote.best() | timed


def ticker_24hr(view: MarketView, symbol: str) -> Document:
    """What the last 24 hours add up to."""
    quote, rows = _Quote.of(view, symbol), exact_rows(view.rows(symbol), view.tape(symbol).grid)
    start_ms = view.now_ms - MS_PER_DAY
    day = span_candle(rows, start_ms, view.now_ms + 1) or Candle(start_ms, view.now_ms + 1, *[quote.price] * 4)
    of_day = rows.filter(pl.col("T") >= start_ms)
    average = day.quote // day.volume if day.volume else day.close
    percent = units_text(round((day.close - day.open) * 10**5 / day.open), 3, 3)
    spot_only = {"prevClosePrice": quote.price_text(day.open)} | quote.best() if view.market is Market.SPOT else {}
    return {
        "symbol": symbol,
        "priceChange": quote.price_text(day.close - day.open),
        "priceChangePercent": percent,
        "weightedAvgPrice": quote.price_text(average),
        "lastPrice": quote.price_text(day.close),
        "lastQty": quote.quantity_text(quote.quantity),
        **spot_only,
        "openPrice": quote.price_text(day.open),
        "highPrice": quote.price_text(day.high),
        "lowPrice": quote.price_text(day.low),
        "volume": quote.quantity_text(day.volume),
        "quoteVolume": units_text(day.quote, *quote.quote_digits()),
        "openTime": start_ms,
        "closeTime": view.now_ms,
        "firstId": int(of_day["f"][0]) if of_day.height else -1,
        "lastId": int(of_day["l"][-1]) if of_day.height else -1,
        "count": day.trades,
    }


def depth(view: MarketView, given: dict[str, str]) -> Document:
    """The order book."""
    refuse_empty(given)
    is_spot = view.market is Market.SPOT
    quote = _Quote.of(view, symbol_of(given))
    levels = limit_of(given, _MOST_LEVELS, 100 if is_spot else 500)
    if not is_spot and levels not in _FUTURES_DEPTHS:
        raise Refusal(-4021, f"{levels} is not valid depth limit.")
    timed = {} if is_spot else {"E": view.now_ms, "T": quote.time_ms}
    bids = [quote.level(quote.price - place * quote.step) for place in range(1, levels + 1)]
    asks = [quote.level(quote.price + place * quote.step) for place in range(1, levels + 1)]
    return {"lastUpdateId": quote.last_id} | timed | {"bids": [bid for bid in bids if bid], "asks": asks}


def single_trades(view: MarketView, given: dict[str, str]) -> Document:
    """The newest single trades: each aggregate trade is cut into its ``l - f + 1`` parts, the rest in the last one."""
    refuse_empty(given)
    symbol, limit = symbol_of(given), limit_of(given, 1000)
    grid = view.tape(symbol).grid
    quote = _Quote(view.market, grid)
    found: list[Document] = []
    for row in exact_rows(view.rows(symbol), grid).tail(limit).to_dicts():
        parts = row["l"] - row["f"] + 1
        share = row["q"] // parts
        for place in range(parts):
            quantity = share if place < parts - 1 else row["q"] - share * (parts - 1)
            best = {"isBestMatch": row["M"]} if view.market is Market.SPOT else {}
            found.append(
                {
                    "id": row["f"] + place,
                    "price": quote.price_text(row["p"]),
                    "qty": quote.quantity_text(quantity),
                    "quoteQty": units_text(row["p"] * quantity, *quote.quote_digits()),
                    "time": row["T"],
                    "isBuyerMaker": row["m"],
                }
                | best
            )
    return found[-limit:]


def average_price(view: MarketView, given: dict[str, str]) -> Document:
    """The average over five minutes, or the last price."""
    symbol = mandatory(given, "symbol")
    quote = _Quote.of(view, symbol)
    rows = exact_rows(view.rows(symbol), view.tape(symbol).grid)
    span = span_candle(rows, view.now_ms - _AVERAGE_MINUTES * 60_000, view.now_ms + 1)
    price = span.quote // span.volume if span is not None and span.volume else quote.price
    return {"mins": _AVERAGE_MINUTES, "price": quote.price_text(price), "closeTime": quote.time_ms}


@dataclass(frozen=True, slots=True)
class _Quote:
    """The last trade in integers of its decimals, and how the market writes them."""

    market: Market
    grid: Grid
    price: int = 0
    quantity: int = 0
    time_ms: int = 0
    last_id: int = 0

    @classmethod
    def of(cls, view: MarketView, symbol: str) -> "_Quote":
        grid = view.tape(symbol).grid
        last = exact_rows(view.rows(symbol).tail(1000), grid).tail(1).to_dicts()
        if not last:
            return cls(view.market, grid, price=1)
        (row,) = last
        return cls(view.market, grid, int(row["p"]), int(row["q"]), row["T"], row["a"])

    @property
    def step(self) -> int:
        """The tick in units of the last decimal."""
        return int(self.grid.tick.scaleb(digits_of(self.grid.tick)))

    def price_text(self, units: int) -> str:
        return units_text(int(units), digits_of(self.grid.tick), shown_digits(self.market, self.grid)[0])

    def quantity_text(self, units: int) -> str:
        return units_text(int(units), digits_of(self.grid.lot), shown_digits(self.market, self.grid)[1])

    def quote_digits(self) -> tuple[int, int]:
        """Decimals of a product of price and quantity: those that it has, those that are shown."""
        shown = SPOT_DIGITS if self.market is Market.SPOT else sum(shown_digits(self.market, self.grid))
        return digits_of(self.grid.tick) + digits_of(self.grid.lot), shown

    def level(self, price: int) -> list[str]:
        """A level of the book; none below the lowest price."""
        lots = (price * 7919 + self.last_id * 31) % 997 + 1
        units = lots * int(self.grid.lot.scaleb(digits_of(self.grid.lot)))
        return [self.price_text(price), self.quantity_text(units)] if price > 0 else []

    def best(self) -> dict[str, str]:
        bid, ask = self.level(max(self.step, self.price - self.step)), self.level(self.price + self.step)
        return {"bidPrice": bid[0], "bidQty": bid[1], "askPrice": ask[0], "askQty": ask[1]}
