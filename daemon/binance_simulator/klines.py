"""klines and uiKlines: which candles answer a question, and their JSON.

Owns the parameters of these endpoints and the form of a row. The candles themselves are made in ``candles``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from binance_simulator.candles import INTERVALS, Candle, Steps, candles, exact_rows, parse_offset_ms
from binance_simulator.decimals import SPOT_DIGITS, units_text
from binance_simulator.generation import Grid, digits_of
from binance_simulator.market_data import MarketView
from binance_simulator.model import Market
from binance_simulator.pages import shown_digits
from binance_simulator.query import Refusal, limit_of, mandatory, refuse_empty, refuse_unknown, symbol_of, times_of

_MOST_ROWS = {Market.SPOT: 1000, Market.UM: 1500}
_KNOWN = frozenset(("symbol", "interval", "startTime", "endTime", "timeZone", "limit"))


@dataclass(frozen=True, slots=True)
class KlinesQuery:
    """One well-formed question; times filter the open time, both inclusive."""

    symbol: str
    steps: Steps
    limit: int
    start_ms: int | None
    end_ms: int | None


def parse_klines_query(market: Market, given: dict[str, str]) -> KlinesQuery:
    """Read the parameters. Raises Refusal with the exchange's code and words."""
    if market is Market.SPOT:
        refuse_unknown(given, _KNOWN)
    refuse_empty(given)
    symbol, interval = symbol_of(given), mandatory(given, "interval")
    if interval not in INTERVALS or (interval == "1s" and market is not Market.SPOT):
        raise Refusal(-1120, "Invalid interval.")
    offset_ms = _offset_ms(given) if market is Market.SPOT else 0
    limit = limit_of(given, _MOST_ROWS[market])
    return KlinesQuery(symbol, Steps(interval, offset_ms), limit, *times_of(market, given))


def klines(view: MarketView, given: dict[str, str]) -> list[list[Any]]:
    """The rows that answer a question: the oldest from ``startTime`` on if it is sent, else the newest."""
    query = parse_klines_query(view.market, given)
    tape = view.tape(query.symbol)
    traded = exact_rows(view.rows(query.symbol), tape.grid)
    if traded.is_empty():
        return []
    span = _span_ms(query, int(traded["T"].min()), view.now_ms)  # type: ignore[arg-type]
    if span is None:
        return []
    found = islice(candles(traded, query.steps, *span), query.limit)
    return [_row(candle, view.market, tape.grid) for candle in found]


def _span_ms(query: KlinesQuery, first_ms: int, now_ms: int) -> tuple[int, int] | None:
    """From the first open time that answers to the one behind the last, or None where nothing does."""
    steps = query.steps
    last_ms = steps.start_ms(now_ms if query.end_ms is None else min(query.end_ms, now_ms))
    first_ms = steps.start_ms(first_ms)
    if query.start_ms is not None:
        if query.start_ms > now_ms:
            return None
        asked_ms = steps.start_ms(query.start_ms)
        first_ms = max(first_ms, asked_ms if asked_ms == query.start_ms else steps.next_ms(asked_ms))
        stop_ms = first_ms
        for _ in range(query.limit):
            stop_ms = steps.next_ms(stop_ms)
        return (first_ms, min(stop_ms, steps.next_ms(last_ms))) if first_ms <= last_ms else None
    if last_ms < first_ms:
        return None
    start_ms = last_ms
    for _ in range(query.limit - 1):
        start_ms = steps.before_ms(start_ms)
    return max(start_ms, first_ms), steps.next_ms(last_ms)


def _offset_ms(given: Mapping[str, str]) -> int:
    try:
        return parse_offset_ms(given.get("timeZone", "0"))
    except ValueError as error:
        raise Refusal(-1130, "Data sent for parameter 'timeZone' is not valid.") from error


def _row(candle: Candle, market: Market, grid: Grid) -> list[Any]:
    price_digits, quantity_digits = digits_of(grid.tick), digits_of(grid.lot)
    price_shown, quantity_shown = shown_digits(market, grid)
    quote_digits = price_digits + quantity_digits
    quote_shown = SPOT_DIGITS if market is Market.SPOT else price_shown + quantity_shown
    prices = (candle.open, candle.high, candle.low, candle.close)
    return [
        candle.start_ms,
        *(units_text(price, price_digits, price_shown) for price in prices),
        units_text(candle.volume, quantity_digits, quantity_shown),
        candle.stop_ms - 1,
        units_text(candle.quote, quote_digits, quote_shown),
        candle.trades,
        units_text(candle.taker_volume, quantity_digits, quantity_shown),
        units_text(candle.taker_quote, quote_digits, quote_shown),
        "0",
    ]
