"""The text of stream messages, as the exchange writes them.

Owns key order and the text of one number. What is not stored is left out: ``nq`` of USD-M futures.
"""

from decimal import Decimal

import msgspec

from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import Instrument, Market
from backfilld.core.serving.texts import DIGITS, Digits

SHUTDOWN = "!serverShutdown"
_EXACT_BELOW = 1e5
_SETS = {Market.UM: 1, Market.CM: 2}
"""The field ``st`` of the futures markets."""


def number_text(value: float, digits: int | None) -> str:
    """One number with so many digits behind the point; with None as many as it needs."""
    if digits == DIGITS and value < _EXACT_BELOW:
        return f"{value:.8f}"
    exact = Decimal(repr(value))
    if digits is None:
        return format(exact.normalize(), "f")
    return format(exact.quantize(Decimal(1).scaleb(-digits)), "f")


def trade_text(instrument: Instrument, trade: LiveTrade, digits: Digits | None, event_ms: int) -> str:
    """An aggregate trade as the stream of its market brings it."""
    price = number_text(trade.p, None if digits is None else digits.price)
    quantity = number_text(trade.q, None if digits is None else digits.quantity)
    maker = "true" if trade.m else "false"
    ids = f'"f":{trade.f},"l":{trade.l},"T":{trade.T},"m":{maker}'
    symbol = instrument.symbol
    if instrument.market is Market.SPOT:
        best = "true" if trade.M else "false"
        head = f'{{"e":"aggTrade","E":{event_ms},"s":"{symbol}","a":{trade.a},"p":"{price}","q":"{quantity}",'
        return f'{head}{ids},"M":{best}}}'
    head = f'{{"e":"aggTrade","E":{event_ms},"a":{trade.a},"s":"{symbol}","p":"{price}","q":"{quantity}",'
    return f'{head}{ids},"st":{_SETS[instrument.market]}}}'


def combined(name: str, data: str) -> str:
    """A message as the combined streams wrap it."""
    return f'{{"stream":{msgspec.json.encode(name).decode()},"data":{data}}}'


def shutdown_text(event_ms: int, *, is_combined: bool) -> str:
    """The announcement that the server ends the connection."""
    data = f'{{"e":"serverShutdown","E":{event_ms}}}'
    return combined(SHUTDOWN, data) if is_combined else data
