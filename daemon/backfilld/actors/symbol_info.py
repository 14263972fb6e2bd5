"""What exchangeInfo has told of the instruments, and what it is to be asked next.

Owns tick sizes and when each market was described, for the scheduler. Must not know channels or syncs.
"""

from collections import deque
from collections.abc import Mapping

from backfilld.actors.messages import DescribeMarket, MarketDescribed
from backfilld.core.backfill.outcome import UNKNOWN_SYMBOL
from backfilld.core.model import Instrument, Market
from backfilld.errors import ExchangeError, RequestRejected

DESCRIBE_EVERY_S = 86_400.0
"""How often exchangeInfo is read again: limits change without a word."""


class SymbolInfo:
    """Questions to exchangeInfo and what came of them."""

    def __init__(self) -> None:
        self.ticks: dict[Instrument, float] = {}
        self._unlisted: set[Instrument] = set()
        self._questions: deque[DescribeMarket] = deque()
        self._described_at: dict[Market, float] = {}

    def ask(self, *instruments: Instrument) -> None:
        """Ask about instruments, those of a market in one question."""
        markets = dict.fromkeys(instrument.market for instrument in instruments)
        for market in markets:
            symbols = tuple(each.symbol for each in instruments if each.market is market)
            self._questions.append(DescribeMarket(market, symbols))

    def refresh(self, asked: Instrument, instruments: Mapping[Market, tuple[str, ...]], now_s: float) -> None:
        """Ask what is not known of an instrument, and of its whole market once a day."""
        if asked not in self.ticks:
            self.ask(asked)
        market = asked.market
        if self._described_at.get(market, now_s) + DESCRIBE_EVERY_S <= now_s:
            self._described_at[market] = now_s
            self._questions.append(DescribeMarket(market, instruments[market]))

    def next_question(self) -> DescribeMarket | None:
        """The next question, which is then no longer to be put."""
        return self._questions.popleft() if self._questions else None

    def described(self, answer: MarketDescribed, now_s: float) -> None:
        """Note what an answer says."""
        market = answer.job.market
        self._described_at[market] = now_s
        self.ticks |= {Instrument(market, symbol): tick for symbol, tick in answer.info.ticks.items()}

    def failed(self, job: DescribeMarket, error: ExchangeError) -> tuple[Instrument, ...]:
        """The instruments that the failure is final for. One unknown symbol spoils the answer for all: then each is
        asked for by itself."""
        instruments = tuple(Instrument(job.market, symbol) for symbol in job.symbols)
        if isinstance(error, RequestRejected) and error.code == UNKNOWN_SYMBOL:
            if len(instruments) > 1:
                for each in instruments:
                    self.ask(each)
                return ()
            self._unlisted |= set(instruments)
        return instruments

    def knows(self, instrument: Instrument) -> bool:
        """Whether the exchange has said what there is to say of the instrument, if only that it lists none such."""
        return instrument in self.ticks or instrument in self._unlisted
