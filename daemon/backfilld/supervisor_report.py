"""What a running pipeline reports of itself, to its state file and to the local endpoint: how fresh it is.

Owns what is put together, and remembers when everything was last complete. The judgement is
:mod:`backfilld.core.monitor.freshness`'s.
"""

from collections.abc import Mapping

import trio

from backfilld.actors.disk import DiskTrouble
from backfilld.core.live.reports import LiveStatistics
from backfilld.core.markets import RULES, Pool
from backfilld.core.model import Instrument, Market
from backfilld.core.monitor.freshness import Freshness, freshness, host_error_ms
from backfilld.core.sync.spec import RunSpec
from backfilld.core.sync.standing import Statistics
from backfilld.core.weight.budget import Budget
from backfilld.ports import DaemonWork


class Report:
    """The reports of one pipeline, whose ``budgets`` know the exchange's clock. To be asked again and again."""

    def __init__(self, budgets: Mapping[Pool, Budget]) -> None:
        self._budgets = budgets
        self._complete_ms: float | None = None

    def work(
        self, spec: RunSpec, seen: Statistics, live: LiveStatistics | None, trouble: DiskTrouble | None, wall_ms: float
    ) -> DaemonWork:
        """What the state file says."""
        reason = None if trouble is None else trouble.reason
        fresh = self.freshness(spec, seen, live or LiveStatistics(), wall_ms)
        return DaemonWork(
            cached=seen.cached,
            downloaded=seen.fetched,
            last_error=reason or seen.last_error,
            live=None if live is None else live.text,
            trouble=reason,
            freshness={str(name): each for name, each in fresh.items()},
        )

    def freshness(
        self, spec: RunSpec, seen: Statistics, live: LiveStatistics, wall_ms: float
    ) -> Mapping[Instrument, Freshness]:
        """How fresh each instrument is."""
        self._complete_ms = self._completed_ms(spec, seen, wall_ms)
        return {each: freshness(wall_ms, live.instruments.get(each), self._complete_ms) for each in spec.instruments}

    def host_error_ms(self, pool: Pool, wall_ms: float) -> float:
        """By how much the exchange's clock is surely ahead of the host's, in ms, negative if behind."""
        now_ms, budget = trio.current_time() * 1000, self._budgets.get(pool)
        if budget is None:
            return 0.0
        return host_error_ms(budget.clock.earliest_ms(now_ms), budget.clock.latest_ms(now_ms), wall_ms)

    def exchange_ms(self, market: Market, wall_ms: float) -> float:
        """The exchange's time: the host's, corrected by what answers have said. A host whose clock is off by an hour is
        not an hour behind."""
        return wall_ms + self.host_error_ms(RULES[market].pool, wall_ms)

    def _completed_ms(self, spec: RunSpec, seen: Statistics, wall_ms: float) -> float | None:
        """When the oldest of the newest rounds ended, by the host's clock: all was stored then."""
        if seen.complete < seen.instruments or not seen.instruments:
            return None
        if seen.rests_until == float("-inf"):
            return self._complete_ms
        rested_s: float = spec.poll_s - (seen.rests_until - trio.current_time())
        return wall_ms - max(0.0, rested_s) * 1000
