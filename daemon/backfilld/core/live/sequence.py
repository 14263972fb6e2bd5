"""The sequence of one instrument's trades: takes them as they come, gives them out by id, each once.

    come in any order, some twice, some never      a stream
    come in order, late, from next_id on           a REST page
    go out                                         next_id, next_id + 1, ...

Whatever comes above ``next_id`` is early and waits. While something waits there is a hole: the ids from ``next_id``
up to the lowest early trade. Its clock is absolute: it began when the oldest waiting trade arrived, because "nothing
came for 50 ms" never comes true on a busy stream. Nothing goes out past a hole until it is filled, or given up loudly.

Owns ids only. Must not know where trades come from, and never looks at a clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import IdRange

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
    """What came that did not go out: trades that had been there before, that found no room, that cannot be."""

    duplicates: int = 0
    dropped: int = 0
    implausible: int = 0


class Sequence:
    """Trades by id from ``next_id`` on. Without one nothing goes out yet, and the newest trades wait."""

    def __init__(self, next_id: int | None = None, most_early: int = EARLY_TRADES) -> None:
        self.next_id = next_id
        self.tally = Tally()
        self.most_early = most_early
        # In order of arrival, so that the first one shows how old the hole is.
        self._early: dict[int, tuple[LiveTrade, float]] = {}
        self._seen_id = -1
        self._unseen_since: float | None = None

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
        times = [at for at in (first[1] if first else None, self._unseen_since) if at is not None]
        return min(times)

    def begin(self, next_id: int) -> list[LiveTrade]:
        """Give out from ``next_id`` on; returns what of it has waited."""
        self.next_id = next_id
        self._early = {
            trade_id: early
            for trade_id, early in self._early.items()
            if next_id <= trade_id <= next_id + FARTHEST_AHEAD
        }
        self._seen_id = max(self._early, default=-1)
        return self._run()

    def take(self, trades: Iterable[LiveTrade], now: float) -> list[LiveTrade]:
        """What can go out now that these trades came at ``now``, by id and without a gap."""
        if self.next_id is None:
            self._gather(trades, now)
            return []
        ready: list[LiveTrade] = []
        next_id = self.next_id
        for trade in trades:
            if trade.a == next_id:
                ready.append(trade)
                next_id += 1
                while next_id in self._early:
                    ready.append(self._early.pop(next_id)[0])
                    next_id += 1
            elif trade.a < next_id or trade.a in self._early:
                self.tally.duplicates += 1
            else:
                self._wait(trade, next_id, now)
        self.next_id = next_id
        self._forget_filled()
        return ready

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
        ready = self._run()
        return hole, ready

    def _wait(self, trade: LiveTrade, next_id: int, now: float) -> None:
        if trade.a > next_id + FARTHEST_AHEAD:
            self.tally.implausible += 1
            return
        self._seen_id = max(self._seen_id, trade.a)
        if len(self._early) < self.most_early:
            self._early[trade.a] = trade, now
            return
        self.tally.dropped += 1
        self._unseen_since = now if self._unseen_since is None else self._unseen_since

    def _gather(self, trades: Iterable[LiveTrade], now: float) -> None:
        """Before it is known where to begin, the newest trades are those that may be needed."""
        for trade in trades:
            self._early[trade.a] = trade, now
            self._seen_id = max(self._seen_id, trade.a)
        while len(self._early) > self.most_early:
            del self._early[next(iter(self._early))]

    def _run(self) -> list[LiveTrade]:
        ready: list[LiveTrade] = []
        while self.next_id in self._early:
            ready.append(self._early.pop(self.next_id)[0])
            self.next_id += 1
        self._forget_filled()
        return ready

    def _forget_filled(self) -> None:
        if self.next_id is not None and self._seen_id < self.next_id:
            self._unseen_since = None
