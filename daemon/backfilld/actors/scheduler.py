"""The scheduler: decides which question is put next, and when a backfill has come to its end.

Owns the registry of syncs, one an instrument, and deals jobs to the fetchers: never more than there are fetchers, so
that no job waits in a queue where it could not be thought over. Must not fetch, merge or write.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date

import structlog
import trio
from trio_util import AsyncValue

from backfilld.actors.announcements import log_outcome
from backfilld.actors.instrument_sync import InstrumentSync, Phase
from backfilld.actors.messages import (
    ArchiveDayEnded,
    DaySaved,
    DescribeMarket,
    FetchJob,
    FlushDays,
    Followed,
    FollowFrom,
    GivenUp,
    Job,
    JobAnswered,
    JobDropped,
    JobFailed,
    MarketDescribed,
    MergerMessage,
    RoundSaved,
    RowsArrived,
    SchedulerMessage,
    SpecChanged,
    Spent,
    StartsProven,
    Statistics,
    StopRequested,
    TakeFromArchive,
)
from backfilld.actors.symbol_info import SymbolInfo
from backfilld.actors.sync_registry import SyncRegistry, Times
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.model import Instrument, day_of, day_stop_ms
from backfilld.core.sync.exchange_time import ExchangeTime, Stamp
from backfilld.core.sync.spec import RunSpec
from backfilld.ports import TradeStore

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SchedulerPorts:
    """The channel ends of the scheduler. ``outcomes`` gets one Outcome an instrument, after its first round."""

    inbox: trio.MemoryReceiveChannel[SchedulerMessage]
    jobs: trio.MemorySendChannel[Job]
    pages: trio.MemorySendChannel[MergerMessage]
    outcomes: trio.MemorySendChannel[Outcome]
    archive: trio.MemorySendChannel[TakeFromArchive]
    live: trio.MemorySendChannel[FollowFrom] | None = None


async def run_scheduler(
    ports: SchedulerPorts,
    spec: RunSpec,
    store: TradeStore,
    wall_ms: Callable[[], float],
    statistics: AsyncValue[Statistics],
    stop: trio.Event,
) -> None:
    """Load what is held, ask for what is missing, and go on until ``stop``, which ``spec.once`` sets by itself.

    ``wall_ms`` is the host's clock, in ms since the epoch; it names the day until the exchange has told its time.
    """
    async with ports.inbox, ports.jobs, ports.pages, ports.outcomes, ports.archive, ports.live or nullcontext():
        scheduler = _Scheduler(ports, spec, store, wall_ms, statistics, stop)
        await scheduler.begin()
        while True:
            scheduler.deal()
            message: SchedulerMessage | None = None
            with trio.move_on_at(scheduler.next_round_at()):
                try:
                    message = await ports.inbox.receive()
                except trio.EndOfChannel:
                    break
            if message is not None:
                await scheduler.handle(message)
            await scheduler.advance()
        await scheduler.end()


def _now_ms() -> float:
    return trio.current_time() * 1000


class _Scheduler:
    def __init__(
        self,
        ports: SchedulerPorts,
        spec: RunSpec,
        store: TradeStore,
        wall_ms: Callable[[], float],
        statistics: AsyncValue[Statistics],
        stop: trio.Event,
    ) -> None:
        self._ports = ports
        self._spec = spec
        self._store = store
        self._statistics = statistics
        self._stop = stop
        self._wall_ms = wall_ms
        self._time = ExchangeTime(_now_ms(), wall_ms())
        self._registry = SyncRegistry(spec, store)
        self._symbol_info = SymbolInfo()
        self._in_hand = 0
        self._steps = 0
        self._stopping = False
        self._is_judged = False
        self._retired: date | None = None
        self._today = self._server_day()

    async def begin(self) -> None:
        """Open the store, read what is held, and make the plans."""
        await self._store.open()
        await self._registry.load(self._today, self._times())
        self._show()
        self._symbol_info.ask(*self._registry.askable())
        # No answer will come to move on those of which nothing is asked.
        await self.advance()

    async def end(self) -> None:
        """Tell what became of the syncs that the stop cut short."""
        for sync in self._registry:
            if not sync.rounds:
                await self._ports.outcomes.send(sync.outcome(trio.current_time(), None))

    def deal(self) -> None:
        """Give every free fetcher a job, and the archivists theirs."""
        for wanted in () if self._stopping else self._registry.archive_jobs():
            self._ports.archive.send_nowait(wanted)
        while not (self._stopping or self._stop.is_set()) and self._in_hand < self._spec.fetchers:
            job = self._symbol_info.next_question() or self._registry.next_job(self._symbol_info.ticks)
            if job is None:
                return
            self._in_hand += 1
            self._ports.jobs.send_nowait(job)

    def next_round_at(self) -> float:
        """When the next top-up is due, in trio's time; never while stopping."""
        return math.inf if self._stopping else self._registry.next_round_at()

    async def handle(self, message: SchedulerMessage) -> None:
        """Book one event."""
        match message:
            case JobAnswered() | JobFailed() | MarketDescribed():
                self._came_back(message.spent)
                self._book(message)
                if isinstance(message, JobFailed):
                    self._registry.last_error = str(message.error)
            case JobDropped():
                self._in_hand -= 1
            case DaySaved(instrument, record) if instrument in self._registry:
                self._registry[instrument].saved(record, message.conflicts)
            case ArchiveDayEnded():
                self._registry.archive_answered(message)
            case RoundSaved(instrument) if instrument in self._registry:
                await self._round_saved(self._registry[instrument])
            case StopRequested():
                self._stopping = True
                await self._ports.jobs.aclose()
                await self._ports.archive.aclose()
                await self._ports.pages.aclose()
            case Followed() | RowsArrived() | GivenUp():
                self._registry.heed_live(message)
            case SpecChanged(spec) if not self._stopping:
                await self._apply(spec)
        await self._apply_server_time()
        self._show()

    async def advance(self) -> None:
        """Move every sync on that has nothing left to wait for."""
        if self._stopping:
            return
        now = trio.current_time()
        for sync in tuple(self._registry):
            await self._prove(sync)
            if sync.phase is Phase.RESTING and sync.rests_until <= now:
                await self._next_round(sync)
            if sync.may_yield:
                sync.phase = Phase.YIELDING
                await self._ports.pages.send(FlushDays(sync.instrument))
            elif sync.must_yield:
                continue
            elif sync.has_asked_all and self._is_described(sync) and not self._time.is_doubted:
                sync.phase = Phase.SAVING
                await self._ports.pages.send(FlushDays(sync.instrument))

    def _came_back(self, spent: Spent) -> None:
        self._in_hand -= 1
        server_ms, precision_ms = spent.usage.server_ms, spent.usage.precision_ms
        if server_ms is None:
            return
        self._time.heard(Stamp(spent.sent_ms, spent.received_ms, server_ms, precision_ms), self._wall_ms())
        if self._time.is_doubted and not self._in_hand:
            # Any answer settles whether the last one's time was wrong.
            self._symbol_info.ask(*self._registry.askable()[:1])

    def _book(self, message: JobAnswered | JobFailed | MarketDescribed) -> None:
        match message:
            case JobAnswered(job):
                self._registry[job.instrument].answered(message, self._server_ms())
            case JobFailed(FetchJob() as job):
                self._registry[job.instrument].failed(message, job.query)
            case JobFailed(DescribeMarket() as job):
                for instrument in self._symbol_info.failed(job, message.error):
                    if instrument in self._registry:
                        self._registry[instrument].undescribed(message.error)
            case MarketDescribed(job):
                self._symbol_info.described(message, trio.current_time())
                self._registry.charge(job, message.spent)

    def _is_described(self, sync: InstrumentSync) -> bool:
        return sync.error is not None or self._symbol_info.knows(sync.instrument)

    async def _apply_server_time(self) -> None:
        """Delete days once both clocks agree on today. Once the exchange's time is known: plan again if the host's
        clock names another day, and look again for ids that were suspected long enough ago."""
        await self._retire_days()
        if self._is_judged or self._stopping or not self._time.is_heard:
            return
        self._is_judged = True
        is_other_day = self._spec.window is None and self._server_day() != self._today
        for sync in self._registry:
            sync.is_stale |= is_other_day or sync.known_days.second_look_is_due(self._server_ms())
        if is_other_day:
            log.warning("host_clock_wrong", host_day=self._today.isoformat(), server_day=self._server_day().isoformat())
            self._today = self._server_day()

    async def _prove(self, sync: InstrumentSync) -> None:
        starts = sync.known_days.starts_to_prove(sync.plan)
        if starts:
            await self._ports.pages.send(StartsProven(sync.instrument, starts))

    def _show(self) -> None:
        self._steps += 1
        self._statistics.value = replace(self._registry.statistics(), steps=self._steps)

    async def _apply(self, spec: RunSpec) -> None:
        self._spec = spec
        for instrument in await self._registry.apply(spec):
            if not (await self._add(instrument)).is_locked:
                self._symbol_info.ask(instrument)
        self._retired = None
        await self._retire_days()

    async def _add(self, instrument: Instrument) -> InstrumentSync:
        return await self._registry.add(instrument, self._today, self._times())

    async def _yielded(self, sync: InstrumentSync) -> None:
        """All that the sync had is on disk: make another plan, from there, or none."""
        if sync.is_removed:
            self._registry.drop(sync.instrument)
            log.info("instrument_removed", instrument=str(sync.instrument))
            return
        await self._registry.heed_answers(sync, self._server_ms())
        following = await self._add(sync.instrument)
        following.follow(sync)
        if sync.is_locked and not following.is_locked:
            self._symbol_info.ask(sync.instrument)

    async def _round_saved(self, sync: InstrumentSync) -> None:
        if self._stopping or sync.phase not in {Phase.SAVING, Phase.TELLING, Phase.SEALING, Phase.YIELDING}:
            return
        if sync.phase is Phase.YIELDING:
            await self._yielded(sync)
            return
        await self._prove(sync)
        flush = sync.next_flush(self._server_ms())
        if flush is None:
            await self._finish_round(sync)
        else:
            await self._ports.pages.send(flush)

    async def _finish_round(self, sync: InstrumentSync) -> None:
        sync.phase = Phase.RESTING
        sync.rests_until = trio.current_time() + self._spec.poll_s
        # Of a plan that gives way to another one, as when the last day has come from the archive, nothing is over.
        if sync.archive_days or sync.must_yield:
            return
        if self._ports.live is not None and (offer := sync.offer) is not None:
            self._ports.live.send_nowait(offer)
        sync.rounds += 1
        sync.is_complete = sync.outcome(trio.current_time(), None).complete
        if sync.rounds == 1:
            await self._report_outcome(sync)
        if self._registry.is_over():
            self._stop.set()

    async def _report_outcome(self, sync: InstrumentSync) -> None:
        tick = self._symbol_info.ticks.get(sync.instrument)
        context = None if tick is None else await self._registry.context(sync, tick, day_stop_ms(self._server_day()))
        outcome = sync.outcome(trio.current_time(), context)
        log_outcome(sync.log, outcome)
        await self._ports.outcomes.send(outcome)

    async def _next_round(self, sync: InstrumentSync) -> None:
        today = self._server_day()
        if today != self._today:
            self._today = today
            log.info("day_turned", day=today.isoformat())
        if sync.is_locked:
            sync.is_stale = True
        else:
            self._registry.look_again(sync, today, trio.current_time(), self._server_ms())
            self._symbol_info.refresh(sync.instrument, self._registry.symbols(), trio.current_time())
        sync.begin_round()

    async def _retire_days(self) -> None:
        """Delete the days that have outlived their time, never by a clock that only one side vouches for."""
        agreed = self._time.agreed_day(_now_ms())
        if agreed is not None and agreed != self._retired and not self._stopping:
            self._retired = agreed
            await self._registry.retire_days(agreed)

    def _server_ms(self) -> int:
        return self._time.now_ms(_now_ms())

    def _times(self) -> Times:
        server_ms = self._server_ms()
        return Times(server_ms, server_ms if self._time.is_heard else None, trio.current_time())

    def _server_day(self) -> date:
        return day_of(self._server_ms())
