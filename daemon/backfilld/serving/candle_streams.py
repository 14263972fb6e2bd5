"""The current candle of an instrument and an interval, kept up by live trades.

Owns when a candle is over: at the first trade of the next one, or a little after its end by the exchange's clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import Market
from backfilld.core.serving.intervals import Interval
from backfilld.core.serving.live_candles import LiveCandle, candle_text
from backfilld.core.serving.stream_requests import StreamName
from backfilld.serving.clock import Clock

GRACE_MS = 2000
"""How long after its end a candle waits for trades that are on their way."""

EVERY_S = 2.0
EVERY_FINE_S = 1.0
"""How often a candle is sent; those of a second more often."""


@dataclass(eq=False)
class CandleStream:
    """The candle of one stream. :meth:`add` takes trades, :meth:`due_texts` gives what is to be sent now."""

    name: StreamName
    clock: Clock
    candle: LiveCandle
    next_id: int
    sent_at: float = field(default_factory=trio.current_time)
    _over: list[LiveCandle] = field(default_factory=list)
    _is_new: bool = False

    def add(self, trades: Sequence[LiveTrade]) -> None:
        """Trades in order; those that the candle was begun with are skipped."""
        for trade in trades:
            if trade.a >= self.next_id and trade.p > 0:
                self._close_until(trade.T)
                self.candle.add(trade)
                self.next_id, self._is_new = trade.a + 1, True

    def due_texts(self) -> list[str]:
        """The messages that are due."""
        now_ms, now = self.clock.now_ms(Market.SPOT), trio.current_time()
        self._close_until(now_ms - GRACE_MS)
        texts = [candle_text(self.name, each, now_ms, is_over=True) for each in self._over]
        self._over.clear()
        every_s = EVERY_FINE_S if self._interval.is_below_minutes else EVERY_S
        if self._is_new and now - self.sent_at >= every_s:
            texts.append(candle_text(self.name, self.candle, now_ms, is_over=False))
            self.sent_at, self._is_new = now, False
        return texts

    @property
    def _interval(self) -> Interval:
        assert self.name.interval is not None  # noqa: S101 - it is a stream of candles
        return self.name.interval

    def _close_until(self, time_ms: int) -> None:
        """Candles that end at this time or before it are over."""
        while self.candle.stop_ms <= time_ms:
            self._over.append(self.candle)
            stop_ms = self._interval.next_ms(self.candle.stop_ms)
            self.candle = LiveCandle.empty(self.candle.stop_ms, stop_ms, self.candle.close)
