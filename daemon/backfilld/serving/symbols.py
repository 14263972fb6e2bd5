"""How many digits the exchange writes for a symbol, as exchangeInfo says. Owns the reading of it."""

from typing import Any

import msgspec

from backfilld.core.model import Instrument, Market
from backfilld.core.serving.texts import DIGITS, Digits
from backfilld.ports import Forwarded
from backfilld.serving.relay import Relay, Wish

_PATHS = {Market.UM: "/fapi/v1/exchangeInfo", Market.CM: "/dapi/v1/exchangeInfo"}


class _Symbol(msgspec.Struct):
    symbol: str
    pricePrecision: Any = None  # noqa: N815 - the exchange's name
    quantityPrecision: Any = None  # noqa: N815 - the exchange's name


class _Info(msgspec.Struct):
    symbols: list[_Symbol]


class Symbols:
    """Asks exchangeInfo of futures by ``relay``, which keeps it; spot always writes eight digits."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._read: dict[Market, tuple[Forwarded, dict[str, Digits]]] = {}

    async def digits(self, instrument: Instrument) -> Digits | None:
        """The digits of an instrument, None where the exchange does not say."""
        if instrument.market is Market.SPOT:
            return Digits()
        answer = (await self._relay.ask(Wish(instrument.market, _PATHS[instrument.market]))).answer
        if not isinstance(answer, Forwarded):
            return None
        known = self._read.get(instrument.market)
        if known is None or known[0] is not answer:
            known = self._read[instrument.market] = (answer, _digits_in(answer))
        return known[1].get(instrument.symbol)

    def known_digits(self, instrument: Instrument) -> Digits | None:
        """The same without asking."""
        if instrument.market is Market.SPOT:
            return Digits()
        return self._read[instrument.market][1].get(instrument.symbol) if instrument.market in self._read else None


def _digits_in(answer: Forwarded) -> dict[str, Digits]:
    try:
        symbols = msgspec.json.decode(answer.body, type=_Info).symbols
    except msgspec.DecodeError:
        return {}
    return {
        each.symbol: Digits(each.pricePrecision, each.quantityPrecision)
        for each in symbols
        if _is_plausible(each.pricePrecision) and _is_plausible(each.quantityPrecision)
    }


def _is_plausible(digits: object) -> bool:
    return isinstance(digits, int) and not isinstance(digits, bool) and 0 <= digits <= DIGITS
