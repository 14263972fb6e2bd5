"""A pipeline as a value: what it is made of, and what it knows of itself.

Owns the only place where a Snapshot is made. Must not run anything: that is the supervisor's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import trio
from trio_util import AsyncValue

from backfilld.actors.disk import Disk
from backfilld.actors.fetcher import Patience
from backfilld.actors.reader import Reading
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.live.reports import LiveStatistics
from backfilld.core.markets import RULES
from backfilld.core.model import Market
from backfilld.core.monitor.freshness import Completions, host_error_ms
from backfilld.core.monitor.snapshot import Snapshot
from backfilld.core.retry import Restarts
from backfilld.core.sync.spec import Reload, RunSpec
from backfilld.core.sync.standing import Statistics
from backfilld.ports import OpenArchive, OpenClient, StateFile, TradeStore
from backfilld.supervisor_governor import GovernorParts
from backfilld.supervisor_live import LiveWorld
from backfilld.supervisor_remote import Remote


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The spec, the world behind its ports, and how people see and stop it.

    ``stop`` ends it in order; the pipeline itself sets it when its spec is done. ``outcomes`` gets an Outcome for each
    instrument. ``reload`` replaces the spec while it runs. ``restarts`` limits the starts after a crash; without it the
    first crash is raised.
    """

    spec: RunSpec
    store: TradeStore
    open_client: OpenClient
    governor: GovernorParts
    patience: Patience
    wall_ms: Callable[[], float]
    outcomes: trio.MemorySendChannel[Outcome]
    restarts: Restarts | None = None
    memory: StateFile | None = None
    live: LiveWorld | None = None
    open_archive: OpenArchive | None = None
    remote: Remote | None = None
    stop: trio.Event = field(default_factory=trio.Event)
    reload: AsyncValue[Reload | None] = field(default_factory=lambda: AsyncValue(None))
    statistics: AsyncValue[Statistics] = field(default_factory=lambda: AsyncValue(Statistics()))
    disk: Disk = field(default_factory=lambda: Disk(is_patient=False))
    reading: Reading = field(default_factory=Reading)
    completions: Completions = field(default_factory=Completions)

    @property
    def spec_now(self) -> RunSpec:
        """The spec in force."""
        reload = self.reload.value
        return self.spec if reload is None else reload.spec

    def snapshot(self) -> Snapshot:
        """What the daemon knows of itself now."""
        spec, statistics = self.spec_now, self.statistics.value
        live = LiveStatistics() if self.live is None else self.live.statistics.value
        wall_ms, now_s = self.wall_ms(), trio.current_time()
        waits = [self.disk.waits, *([] if self.remote is None else [self.remote.waits])]
        return Snapshot(
            wall_ms,
            now_s,
            spec.instruments,
            statistics,
            live,
            self.completions.freshness(spec.instruments, statistics.standings, live.instruments, now_s, wall_ms),
            budgets=self.governor.statistics.value,
            trouble=self.disk.shown_trouble,
            owed_for_s=max(each.longest_s(now_s) for each in waits),
            written=self.disk.written,
            reader_steps=self.reading.steps,
            is_reading=self.reading.is_busy,
            is_stopping=self.stop.is_set(),
        )

    def exchange_ms(self, market: Market, wall_ms: float) -> float:
        """The exchange's time at ``wall_ms`` of the host's clock, corrected by what answers have said: a host whose
        clock is off by an hour is not an hour behind."""
        now_ms, budget = trio.current_time() * 1000, self.governor.budgets.get(RULES[market].pool)
        if budget is None:
            return wall_ms
        return wall_ms + host_error_ms(budget.clock.earliest_ms(now_ms), budget.clock.latest_ms(now_ms), wall_ms)
