"""The answer of exchangeInfo: limits, symbols, and what each symbol's prices and quantities look like.

Owns the shape of that document. Must not hold state.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from binance_simulator.market_data import symbols_asked
from binance_simulator.model import Instrument, Market
from binance_simulator.options import ExchangeOptions
from binance_simulator.query import Refusal, parameters
from binance_simulator.quotas import Interval, IntervalUnit, Quota
from binance_simulator.tape import Tape

_QUOTES = ("USDT", "USDC", "BUSD", "FDUSD", "USD", "BTC", "ETH", "BNB", "EUR")
_ORDERS = {
    Market.SPOT: (Quota(100, Interval(10, IntervalUnit.SECOND)), Quota(200_000, Interval(1, IntervalUnit.DAY))),
    Market.UM: (Quota(1200), Quota(300, Interval(10, IntervalUnit.SECOND))),
    Market.CM: (Quota(1200),),
}
_LISTED_LONG_AGO_MS = 1_569_398_400_000
"""2019-09-25, when BTCUSDT perpetuals began: of a tape that begins in the middle of a history."""

_NEVER_MS = 4_133_404_800_000
"""2100-12-25: how the exchange writes that a perpetual contract is not delivered."""

_MOST = "9000000"


def exchange_info(
    market: Market, query: str, tapes: Mapping[Instrument, Tape], options: ExchangeOptions, now_ms: int
) -> dict[str, Any]:
    """The document for one market. Raises Refusal -1121 if spot is asked for a symbol that it does not list.

    Only spot knows the parameters ``symbol`` and ``symbols``; the futures markets ignore what they are sent.
    """
    listed = {instrument.symbol: instrument for instrument in tapes if instrument.market is market}
    names = symbols_asked(parameters(query)) if market is Market.SPOT else None
    if not set(names or ()) <= listed.keys():
        raise Refusal(-1121, "Invalid symbol.")
    chosen = [listed[name] for name in (listed if names is None else names)]
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": _rate_limits(market, options),
        "exchangeFilters": [],
        "symbols": [
            _symbol(instrument, tapes[instrument], options.statuses.get(str(instrument), "TRADING"))
            for instrument in chosen
        ],
    }


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


def _symbol(instrument: Instrument, tape: Tape, status: str) -> dict[str, Any]:
    market, grid = instrument.market, tape.grid
    pair = instrument.symbol.partition("_")[0]
    quote = next((quote for quote in _QUOTES if pair.endswith(quote) and pair != quote), "")
    base = pair.removesuffix(quote)
    tick, lot = _step_text(grid.tick, market), _step_text(grid.lot, market)
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": _MOST, "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": _MOST, "stepSize": lot},
        {"filterType": "MARKET_LOT_SIZE", "minQty": lot, "maxQty": _MOST, "stepSize": lot},
    ]
    document = {"symbol": instrument.symbol, "baseAsset": base, "quoteAsset": quote, "filters": filters}
    if market is Market.SPOT:
        return document | {"status": status} | _SPOT_MEMBERS
    # COIN-M alone calls it contractStatus.
    status_member = "status" if market is Market.UM else "contractStatus"
    contract = {"contractSize": 100} if market is Market.CM else {}
    return document | {
        "pair": pair,
        "contractType": "PERPETUAL",
        "deliveryDate": _NEVER_MS,
        "onboardDate": _onboard_ms(tape),
        status_member: status,
        "marginAsset": quote if market is Market.UM else base,
        "pricePrecision": grid.price_precision,
        "quantityPrecision": grid.quantity_precision,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        **contract,
    }


_SPOT_MEMBERS = {
    "baseAssetPrecision": 8,
    "quotePrecision": 8,
    "quoteAssetPrecision": 8,
    "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
    "isSpotTradingAllowed": True,
    "isMarginTradingAllowed": False,
    "permissions": [],
    "permissionSets": [["SPOT"]],
    "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
}


def _onboard_ms(tape: Tape) -> int:
    """When the symbol was listed: at its first trade, if the tape holds that one (its id is 0 or 1)."""
    is_whole = bool(tape.ids) and tape.ids[0] <= 1
    return tape.times_ms[0] if is_whole else _LISTED_LONG_AGO_MS


def _step_text(step: Decimal, market: Market) -> str:
    """A step as the market writes it: spot with eight digits, futures with those it needs."""
    return f"{step:.8f}" if market is Market.SPOT else f"{step:f}"
