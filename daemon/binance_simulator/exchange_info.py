"""The answer of exchangeInfo: limits, symbols, and the grids of price and quantity.

Owns the shape of that document. Must not hold state.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from binance_simulator.generation import Grid
from binance_simulator.model import Instrument, Market
from binance_simulator.options import ExchangeOptions
from binance_simulator.query import Refusal, parameters
from binance_simulator.quotas import Interval, IntervalUnit, Quota

_QUOTES = ("USDT", "USDC", "BUSD", "FDUSD", "USD", "BTC", "ETH", "BNB", "EUR")
_ORDERS = {
    Market.SPOT: (Quota(100, Interval(10, IntervalUnit.SECOND)), Quota(200_000, Interval(1, IntervalUnit.DAY))),
    Market.UM: (Quota(1200), Quota(300, Interval(10, IntervalUnit.SECOND))),
    Market.CM: (Quota(1200),),
}


def exchange_info(
    market: Market, query: str, grids: Mapping[Instrument, Grid], options: ExchangeOptions, now_ms: int
) -> dict[str, Any]:
    """The document for one market. Raises Refusal -1121 if spot is asked for a symbol that it does not list.

    Only spot knows the parameters ``symbol`` and ``symbols``; the futures markets ignore what they are sent.
    """
    listed = [instrument for instrument in grids if instrument.market is market]
    if market is Market.SPOT:
        listed = _asked_for(query, listed)
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": _rate_limits(market, options),
        "exchangeFilters": [],
        "symbols": [
            _symbol(instrument, grids[instrument], options.statuses.get(str(instrument), "TRADING"))
            for instrument in listed
        ],
    }


def _asked_for(query: str, listed: list[Instrument]) -> list[Instrument]:
    given = parameters(query)
    if "symbol" in given and "symbols" in given:
        raise Refusal(-1128, "Combination of optional parameters invalid.")
    if "symbol" in given:
        names = [given["symbol"]]
    elif "symbols" in given:
        names = _symbol_list(given["symbols"])
    else:
        return listed
    by_name = {instrument.symbol: instrument for instrument in listed}
    if not all(name in by_name for name in names):
        raise Refusal(-1121, "Invalid symbol.")
    return [by_name[name] for name in names]


def _symbol_list(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError as error:
        raise Refusal(
            -1100, "Illegal characters found in parameter 'symbols'; legal range is '^[\\[\\]\\w\",]+$'."
        ) from error


def _rate_limits(market: Market, options: ExchangeOptions) -> list[dict[str, Any]]:
    weight = Quota(options.announced_limit(market.pool), options.interval)
    limits = [_rate_limit("REQUEST_WEIGHT", weight), *(_rate_limit("ORDERS", quota) for quota in _ORDERS[market])]
    if market is Market.SPOT and options.raw_requests is not None:
        limits.append(_rate_limit("RAW_REQUESTS", options.raw_requests))
    return limits


def _rate_limit(kind: str, quota: Quota) -> dict[str, Any]:
    interval = quota.interval
    return {
        "rateLimitType": kind,
        "interval": str(interval.unit),
        "intervalNum": interval.num,
        "limit": quota.limit,
    }


def _symbol(instrument: Instrument, grid: Grid, status: str) -> dict[str, Any]:
    pair = instrument.symbol.partition("_")[0]
    quote = next((quote for quote in _QUOTES if pair.endswith(quote) and pair != quote), "")
    # COIN-M alone calls it contractStatus.
    status_field = "contractStatus" if instrument.market is Market.CM else "status"
    tick, lot = _step_text(grid.tick, instrument.market), _step_text(grid.lot, instrument.market)
    return {
        "symbol": instrument.symbol,
        status_field: status,
        "baseAsset": pair.removesuffix(quote),
        "quoteAsset": quote,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "stepSize": lot},
        ],
    }


def _step_text(step: Decimal, market: Market) -> str:
    """A step as the market writes it: spot with eight digits, futures with those it needs."""
    return f"{step:.8f}" if market is Market.SPOT else f"{step:f}"
