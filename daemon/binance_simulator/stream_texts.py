"""The text of stream messages: an aggregate trade as each market sends it, and the messages that no client can use.

Owns key order and the text of numbers (spot: always 8 decimals; futures: those of the grid). Must not choose rows.
"""

from collections.abc import Callable
from decimal import Decimal

from binance_simulator.generation import Grid, digits_of
from binance_simulator.model import Instrument, Market

_SPOT_DIGITS = 8
_EVERY_NTH_WITHOUT_RPI = 41
"""One row in so many has ``nq`` zero while q is not: the exchange has such rows."""

_ST = {Market.UM: 1, Market.CM: 2}

SHUTDOWN = "!serverShutdown"

Row = tuple[int, int, float, float, int, int, bool, bool]
"""One row of a tape: the columns of SCHEMA."""


def trade_writer(instrument: Instrument, grid: Grid) -> Callable[[Row, int], str]:
    """A function that writes a row as the market's aggTrade message, sent at ``event_ms``."""
    market, symbol = instrument.market, instrument.symbol
    is_spot = market is Market.SPOT
    price_step = Decimal(1).scaleb(-(_SPOT_DIGITS if is_spot else digits_of(grid.tick)))
    quantity_step = Decimal(1).scaleb(-(_SPOT_DIGITS if is_spot else digits_of(grid.lot)))

    def write(row: Row, event_ms: int) -> str:
        time_ms, trade_id, price, quantity, first, last, is_maker, is_best = row
        p, q = _text(price, price_step), _text(quantity, quantity_step)
        maker = "true" if is_maker else "false"
        ids = f'"f":{first},"l":{last},"T":{time_ms},"m":{maker}'
        if is_spot:
            best = "true" if is_best else "false"
            head = f'{{"e":"aggTrade","E":{event_ms},"s":"{symbol}","a":{trade_id},"p":"{p}","q":"{q}",'
            return f'{head}{ids},"M":{best}}}'
        nq = ""
        if market is Market.UM:
            nq = f'"nq":"{"0" if trade_id % _EVERY_NTH_WITHOUT_RPI == 0 else q}",'
        head = f'{{"e":"aggTrade","E":{event_ms},"a":{trade_id},"s":"{symbol}","p":"{p}","q":"{q}",{nq}'
        return f'{head}{ids},"st":{_ST[market]}}}'

    return write


def _text(value: float, step: Decimal) -> str:
    """The shortest decimal that reads back as this float, with zeros up to the step's digits."""
    return format(Decimal(repr(value)).quantize(step), "f")


def combined(name: str, data: str) -> str:
    """A message as the combined streams wrap it."""
    return f'{{"stream":"{name}","data":{data}}}'


def shutdown_text(event_ms: int, *, is_combined: bool) -> str:
    """The announcement that the server will end the connection."""
    data = f'{{"e":"serverShutdown","E":{event_ms}}}'
    return combined(SHUTDOWN, data) if is_combined else data


def garbage(number: int, symbol: str) -> str | bytes:
    """A message that no client can use; ``number`` chooses which."""
    kinds: list[str | bytes] = [
        "",
        "not JSON at all",
        "[1,2,3]",
        "{}",
        "null",
        '{"e":"aggTrade","E":1,"s":"' + symbol + '"}',
        '{"e":"aggTrade","E":1,"s":"' + symbol + '","a":"x","p":"1","q":"1","f":1,"l":1,"T":1,"m":true,"M":true}',
        '{"e":"aggTrade","E":1,"s":"' + symbol + '","a":1,"p":"NaN","q":"1","f":1,"l":1,"T":1,"m":true,"M":true}',
        '{"e":"trade","E":1,"s":"' + symbol + '","t":1,"p":"1","q":"1","T":1,"m":true,"M":true}',
        '{"stream":"x@aggTrade","data":null}',
        '{"e":"aggTrade","E":1,"s":"NOSUCHSYMBOL","a":5,"p":"1","q":"1","f":1,"l":1,"T":1767225600000,"m":true}',
        b"\x00\xff\xfe binary",
        '{"e":"aggTrade","E":1,"s":"' + symbol + '","a":9000000000000000000,"p":"1","q":"1","f":1,"l":1,'
        '"T":1767225600000,"m":true,"M":true}',
        '{"e":"aggTrade","s":"\x1b[31m","a":1}',
    ]
    return kinds[number % len(kinds)]
