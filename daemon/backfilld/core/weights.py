"""The request weight of what backfilld asks, as the exchange documents it (spot since 2025-03-10, futures as of
2026-08)."""

from backfilld.core.model import Market

TRADES_WEIGHT = {Market.SPOT: 4, Market.UM: 20, Market.CM: 20}
"""Weight of one aggTrades request, whatever its limit."""

INFO_WEIGHT = {Market.SPOT: 20, Market.UM: 1, Market.CM: 1}
"""Weight of one exchangeInfo request."""
