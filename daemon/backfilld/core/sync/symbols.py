"""What exchangeInfo says about the instruments, and what to ask it next.

Owns tick sizes, which symbols are not listed, and when each market was described. Must not know channels or syncs.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from urllib.parse import quote

import msgspec

from backfilld.core.backfill.outcome import is_unknown_symbol
from backfilld.core.markets import RULES, Pool
from backfilld.core.model import Instrument, Market
from backfilld.errors import ExchangeError

DESCRIBE_EVERY_S = 86_400.0
"""How often to read exchangeInfo again: limits change without notice."""

MOST_QUERY_BYTES = 6000
"""How many bytes of one URL the symbols may take: servers refuse URLs above about 8 kB."""


class DescribeMarket(msgspec.Struct, frozen=True):
    """Read from exchangeInfo the limits of a market and the tick sizes of these symbols; ``whole`` asks for all symbols
    that it lists."""

    market: Market
    symbols: tuple[str, ...]
    whole: bool = False


class SymbolInfo:
    """Questions to exchangeInfo and their answers."""

    def __init__(self) -> None:
        self.ticks: dict[Instrument, float] = {}
        self._questions: deque[DescribeMarket] = deque()
        self._described_at: dict[Market, float] = {}
        self._refused: dict[Instrument, ExchangeError] = {}

    def ask(self, *instruments: Instrument) -> None:
        """Queue questions about instruments, as few per market as their URLs allow."""
        for market in dict.fromkeys(instrument.market for instrument in instruments):
            symbols = [each.symbol for each in instruments if each.market is market]
            self._questions.extend(DescribeMarket(market, part) for part in _chunks(symbols))

    def refresh(self, asked: Instrument, instruments: Iterable[Instrument], now_s: float) -> None:
        """Ask about an instrument that was not described yet; once a day about all ``instruments`` of its market."""
        if asked not in self.ticks:
            self.ask(asked)
        market = asked.market
        if self._described_at.get(market, now_s) + DESCRIBE_EVERY_S <= now_s:
            self._described_at[market] = now_s
            self.ask(*(each for each in instruments if each.market is market))

    def next_question(self, busy: Collection[Pool] = ()) -> DescribeMarket | None:
        """Take the next question that spends none of the ``busy`` pools."""
        found = next((each for each in self._questions if RULES[each.market].pool not in busy), None)
        if found is not None:
            self._questions.remove(found)
        return found

    def described(self, market: Market, ticks: Mapping[str, float], now_s: float) -> tuple[Instrument, ...]:
        """Take an answer; return the instruments that it describes."""
        self._described_at[market] = now_s
        new = {Instrument(market, symbol): tick for symbol, tick in ticks.items()}
        self.ticks |= new
        return tuple(new)

    def failed(self, asked: DescribeMarket, error: ExchangeError) -> tuple[tuple[Instrument, ExchangeError], ...]:
        """Take a failure; return the instruments that it is final for, each with the error.

        One unknown symbol spoils the answer for all, so each is then asked for by itself. One answer does not prove
        that a symbol is unknown: we ask for the whole list as well, which also has the nearest name.
        """
        instruments = tuple(Instrument(asked.market, symbol) for symbol in asked.symbols)
        is_unknown = is_unknown_symbol(error)
        if is_unknown and len(instruments) > 1:
            self._questions.extend(DescribeMarket(asked.market, (each,)) for each in asked.symbols)
            return ()
        if is_unknown and not asked.whole:
            self._refused[instruments[0]] = error
            self._questions.append(DescribeMarket(asked.market, asked.symbols, whole=True))
            return ()
        refused = self._refused.pop(instruments[0], error)
        return tuple((each, error if is_unknown else refused) for each in instruments)


def _chunks(symbols: Iterable[str]) -> Iterator[tuple[str, ...]]:
    chunk: list[str] = []
    size = 0
    for symbol in symbols:
        length = len(quote(f'"{symbol}",'))
        if chunk and size + length > MOST_QUERY_BYTES:
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append(symbol)
        size += length
    if chunk:
        yield tuple(chunk)
