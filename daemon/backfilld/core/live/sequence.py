"""The sequence of one instrument's trades: takes them as they come, gives them out by id, each once.

    come in any order, some twice, some never      a stream
    come in order, late, from next_id on           a REST page
    go out                                         next_id, next_id + 1, ...

Whatever comes above ``next_id`` is early and waits. While something waits there is a hole: the ids from ``next_id``
up to the lowest early trade. Its clock is absolute: it began when the oldest waiting trade arrived, because "nothing
came for 50 ms" never comes true on a busy stream. Nothing goes out past a hole until it is filled, or given up loudly.

A trade of a stream is a claim. One that cannot follow the trade before it, or that is ahead of the clock, is as if it
had not come: what follows shows the hole, and REST fills it. What REST brings was checked, and goes before what a
stream has brought of the same ids. An early trade that REST does not reach is forgotten: if it is true, it comes again.

Owns which trade comes next. Must not know connections or channels, and never looks at a clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from backfilld.core.backfill.adjoining import can_follow
from backfilld.core.backfill.questions import Neighbour
from backfilld.core.live.trades import LiveTrade, neighbour_of
from backfilld.core.model import IdRange

STEP_MS = 600_000
"""An exchange whose trades run ahead of its clock, one after the other, is believed; a trade of another hour is not."""

EXCEPTIONS = 3
"""Once so many trades of REST could not follow the trade before them, which was of REST too, the exchange does not keep
this rule, and its stream need not."""

EARLY_TRADES = 50_000
"""Trades that may wait behind a hole, about 20 MB. Later ones are dropped and come back by REST."""

EARLY_IN_ALL, LEAST_EARLY = 100_000, 100
"""Trades that may wait behind the holes of all instruments, about 40 MB; one of very many keeps LEAST_EARLY."""

FARTHEST_AHEAD = 10_000_000
"""An id further ahead than this is garbage: the busiest symbol has about 3 million aggregate trades a day."""


def share_of_early(instruments: int) -> int:
    """How many early trades the sequence of each of ``instruments`` may keep."""
    return min(EARLY_TRADES, max(LEAST_EARLY, EARLY_IN_ALL // max(1, instruments)))


@dataclass(slots=True)
class Tally:
    """What came that did not go out: trades that had been there before, that found no room or are not reached by REST,
    that cannot be."""

    duplicates: int = 0
    dropped: int = 0
    implausible: int = 0


@dataclass(frozen=True, slots=True)
class _Early:
    """A trade that waits since ``at``; it ``is_sure`` if REST has brought it."""

    trade: LiveTrade
    at: float
    is_sure: bool = False


class Sequence:
    """Trades by id from ``next_id`` on. Without one nothing goes out yet, and the newest trades wait."""

    def __init__(self, next_id: int | None = None, most_early: int = EARLY_TRADES) -> None:
        self.next_id = next_id
        self._before: Neighbour | None = None
        self._went: LiveTrade | None = None
        self._is_sure = False
        self._exceptions = 0
        self.tally = Tally()
        self.most_early = most_early
        # In order of arrival, so that the first one shows how old the hole is.
        self._early: dict[int, _Early] = {}
        self._seen_id = -1
        self._unseen_since: float | None = None

    @property
    def last(self) -> Neighbour | None:
        """The last one that went out, as far as its row is known; markers have no values of their own."""
        return self._before if self._went is None else neighbour_of(self._went)

    @property
    def waiting(self) -> int:
        """How many early trades wait."""
        return len(self._early)

    @property
    def hole(self) -> IdRange | None:
        """The ids that keep the waiting trades from going out, None if nothing waits for them."""
        if self.next_id is None or self._seen_id < self.next_id:
            return None
        return IdRange(self.next_id, min(self._early, default=self._seen_id + 1) - 1)

    @property
    def hole_since(self) -> float | None:
        """When the hole was first seen, None without a hole."""
        if self.next_id is None or self._seen_id < self.next_id:
            return None
        first = next(iter(self._early.values()), None)
        times = [at for at in (first.at if first else None, self._unseen_since) if at is not None]
        return min(times)

    def begin(self, next_id: int, last: Neighbour | None = None) -> list[LiveTrade]:
        """Give out from ``next_id`` on, behind this trade; returns what of it has waited."""
        self.next_id, self._before = next_id, last
        self._early = {
            trade_id: early
            for trade_id, early in self._early.items()
            if next_id <= trade_id <= next_id + FARTHEST_AHEAD
        }
        self._seen_id = max(self._early, default=-1)
        return self._released()

    def take(self, trades: Iterable[LiveTrade], now: float, latest_ms: float = inf) -> list[LiveTrade]:
        """What can go out now that a stream brought these trades at ``now``, by id and without a gap. No trade has a
        time after ``latest_ms``, unless it is at most STEP_MS after the last one."""
        ready: list[LiveTrade] = []
        if self.last is not None:
            latest_ms = max(latest_ms, self.last.at_ms + STEP_MS)
        for trade in trades:
            if trade.a in self._early or (self.next_id is not None and trade.a < self.next_id):
                self.tally.duplicates += 1
            elif latest_ms < trade.T or not self._fits(trade):
                self.tally.implausible += 1
            elif trade.a == self.next_id:
                ready.append(self._passed(trade))
                ready += self._released()
            else:
                self._wait(trade, now)
        return ready

    def fill(self, trades: Iterable[LiveTrade], now: float) -> list[LiveTrade]:
        """What can go out now that REST has answered with these trades."""
        for trade in trades:
            if self.next_id is None or trade.a < self.next_id:
                self.tally.duplicates += 1
            elif trade.a > self.next_id + FARTHEST_AHEAD:
                self.tally.implausible += 1
            else:
                self._early[trade.a] = _Early(trade, now, is_sure=True)
                self._seen_id = max(self._seen_id, trade.a)
        return self._released()

    def forget(self, before: float) -> None:
        """REST reaches none of the trades that wait since before then: forget them."""
        kept = {trade_id: early for trade_id, early in self._early.items() if early.is_sure or early.at >= before}
        self.tally.dropped += len(self._early) - len(kept)
        self._early = kept
        if self._unseen_since is None or self._unseen_since < before:
            self._seen_id, self._unseen_since = max(kept, default=-1), None

    def expect(self, trade_id: int, now: float) -> None:
        """Note that the exchange has this id, so all ids before it must come."""
        if self.next_id is not None and trade_id - 1 >= self.next_id:
            self._seen_id = max(self._seen_id, trade_id - 1)
            self._unseen_since = now if self._unseen_since is None else self._unseen_since

    def give_up(self) -> tuple[IdRange, list[LiveTrade]]:
        """Go on past the hole; returns its ids and what can go out. There must be one."""
        hole = self.hole
        if hole is None:
            raise ValueError("there is no hole to give up")
        self.next_id = hole.last_id + 1
        return hole, self._released()

    def _fits(self, trade: LiveTrade) -> bool:
        """Whether it can come after the last one. A marker fits everywhere, so nothing but REST speaks for it."""
        went = self._went
        if went is not None and went.T <= trade.T and went.l < trade.f and abs(went.p - trade.p) < went.p / 2:
            # So can_follow says of most, which takes ten times as long.
            return True
        if trade.p == 0:
            return False
        last = self.last
        return last is None or self._exceptions >= EXCEPTIONS or can_follow(last, neighbour_of(trade))

    def _passed(self, trade: LiveTrade, *, is_sure: bool = False) -> LiveTrade:
        """The trade, which goes out; it ``is_sure`` if REST has brought it."""
        self.next_id = trade.a + 1
        if trade.p > 0:
            self._exceptions += is_sure and self._is_sure and not self._fits(trade)
            self._went, self._is_sure = trade, is_sure
        return trade

    def _wait(self, trade: LiveTrade, now: float) -> None:
        if self.next_id is None:
            # Before it is known where to begin, the newest trades are those that may be needed.
            self._early[trade.a] = _Early(trade, now)
            if len(self._early) > self.most_early:
                del self._early[next(iter(self._early))]
            return
        if trade.a > self.next_id + FARTHEST_AHEAD:
            self.tally.implausible += 1
            return
        self._seen_id = max(self._seen_id, trade.a)
        if len(self._early) < self.most_early:
            self._early[trade.a] = _Early(trade, now)
            return
        self.tally.dropped += 1
        self._unseen_since = now if self._unseen_since is None else self._unseen_since

    def _released(self) -> list[LiveTrade]:
        """What of the waiting trades comes next, up to one that is missing, or cannot follow."""
        ready: list[LiveTrade] = []
        while self.next_id is not None and (early := self._early.pop(self.next_id, None)) is not None:
            if not (early.is_sure or self._fits(early.trade)):
                self.tally.implausible += 1
                if self._unseen_since is None:
                    self._seen_id = max(self._early, default=-1)
                break
            ready.append(self._passed(early.trade, is_sure=early.is_sure))
        if self.next_id is not None and self._seen_id < self.next_id:
            self._unseen_since = None
        return ready
