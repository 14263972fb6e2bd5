"""What a running pipeline reports of itself, to its state file and to the local endpoint: how fresh it is.

Owns what is put together, and remembers up to when each instrument was last complete. The judgement is
:mod:`backfilld.core.monitor.freshness`'s.
"""

from collections.abc import Mapping

import trio

from backfilld.actors.disk import DiskTrouble
from backfilld.core.live.reports import LiveStatistics
from backfilld.core.markets import RULES, Pool
from backfilld.core.model import Instrument, Market
from backfilld.core.monitor.freshness import Freshness, complete_at, host_error_ms
from backfilld.core.sync.spec import RunSpec
from backfilld.core.sync.standing import Standing, Statistics
from backfilld.core.weight.budget import Budget
from backfilld.ports import DaemonWork


class Report:
    """The reports of one pipeline, whose ``budgets`` know the exchange's clock. To be asked again and again."""

    def __init__(self, budgets: Mapping[Pool, Budget]) -> None:
        self._budgets = budgets
        self._complete_at: dict[Instrument, float] = {}

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
        now_s = trio.current_time()
        found = {each: self._fresh(each, seen, live, now_s, wall_ms) for each in spec.instruments}
        self._complete_at = {each: at for each, at in self._complete_at.items() if each in found}
        return found

    def _fresh(
        self, instrument: Instrument, seen: Statistics, live: LiveStatistics, now_s: float, wall_ms: float
    ) -> Freshness:
        standing, of = seen.standings.get(instrument, Standing()), live.instruments.get(instrument)
        is_attached = of is not None and of.is_attached
        # What was once known to be stored stays so, also where a stream is lost and REST has not been asked yet.
        known = complete_at(now_s, standing, of), self._complete_at.get(instrument)
        latest = max((each for each in known if each is not None), default=None)
        if latest is None:
            return Freshness(is_attached, None, standing.is_complete)
        self._complete_at[instrument] = latest
        return Freshness(is_attached, wall_ms - max(0.0, now_s - latest) * 1000, standing.is_complete)

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
