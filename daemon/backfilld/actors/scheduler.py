"""The scheduler: decides which question is put next, and when a backfill has come to its end.

Owns the roster of campaigns, one an instrument, and deals jobs to the fetchers: never more than there are fetchers, so
that no job waits in a queue where it could not be thought over. Must not fetch, merge or write.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

import structlog
import trio
from trio_util import AsyncValue

from backfilld.actors.announcements import log_outcome
from backfilld.actors.campaign import Campaign, Phase
from backfilld.actors.catalogue import Catalogue
from backfilld.actors.messages import (
    ArchiveDayEnded,
    DaySaved,
    DescribeMarket,
    FetchJob,
    FlushDays,
    Job,
    JobAnswered,
    JobDropped,
    JobFailed,
    MarketDescribed,
    MergerMessage,
    OrdersChanged,
    RoundSaved,
    SchedulerMessage,
    Spent,
    StartsProven,
    Statistics,
    StopRequested,
    TakeFromArchive,
)
from backfilld.actors.orders import Orders
from backfilld.actors.roster import Roster
from backfilld.core.clock import ServerClock
from backfilld.core.model import Instrument, day_of, day_stop_ms
from backfilld.core.outcome import Outcome
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


async def run_scheduler(
    ports: SchedulerPorts,
    orders: Orders,
    store: TradeStore,
    wall_ms: Callable[[], float],
    statistics: AsyncValue[Statistics],
    stop: trio.Event,
) -> None:
    """Load what is held, ask for what is missing, and go on until ``stop``, which ``orders.once`` sets by itself.

    ``wall_ms`` is the host's clock, in ms since the epoch; it names the day until the exchange has told its time.
    """
    async with ports.inbox, ports.jobs, ports.pages, ports.outcomes, ports.archive:
        scheduler = _Scheduler(ports, orders, store, wall_ms(), statistics, stop)
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
        orders: Orders,
        store: TradeStore,
        wall_ms: float,
        statistics: AsyncValue[Statistics],
        stop: trio.Event,
    ) -> None:
        self._ports = ports
        self._orders = orders
        self._store = store
        self._statistics = statistics
        self._stop = stop
        self._clock = ServerClock.assumed(_now_ms(), wall_ms)
        self._roster = Roster(orders, store)
        self._catalogue = Catalogue()
        self._in_hand = 0
        self._steps = 0
        self._stopping = False
        self._heard_server = False
        self._day_is_sure = orders.window is not None
        self._today = self._server_day()

    # -- beginning and end

    async def begin(self) -> None:
        """Open the store, read what is held, and make the plans."""
        await self._store.open()
        await self._load()
        self._catalogue.ask(*self._orders.instruments)
        await self._roster.retire_days(self._today)

    async def end(self) -> None:
        """Tell what became of the campaigns that the stop cut short."""
        for campaign in self._roster:
            if not campaign.rounds:
                await self._ports.outcomes.send(campaign.outcome(trio.current_time(), None))

    async def _load(self) -> None:
        await self._roster.load(self._today, self._server_ms(), trio.current_time())
        self._show()

    # -- dealing jobs

    def deal(self) -> None:
        """Give every free fetcher a job, and the archivists theirs."""
        for wanted in () if self._stopping else self._roster.archive_jobs():
            self._ports.archive.send_nowait(wanted)
        while not (self._stopping or self._stop.is_set()) and self._in_hand < self._orders.fetchers:
            job = self._catalogue.next_question() or self._roster.next_job(self._catalogue.ticks)
            if job is None:
                return
            self._in_hand += 1
            self._ports.jobs.send_nowait(job)

    def next_round_at(self) -> float:
        """When the next top-up is due, in trio's time; never while stopping."""
        return math.inf if self._stopping else self._roster.next_round_at()

    # -- what happened

    async def handle(self, message: SchedulerMessage) -> None:
        """Book one event."""
        match message:
            case JobAnswered() | JobFailed() | MarketDescribed():
                self._came_back(message.spent)
                self._book(message)
                if isinstance(message, JobFailed):
                    self._roster.last_error = str(message.error)
            case JobDropped():
                self._in_hand -= 1
            case DaySaved(instrument, record) if instrument in self._roster:
                self._roster[instrument].saved(record, message.conflicts)
            case ArchiveDayEnded():
                self._roster.archive_answered(message)
            case RoundSaved(instrument) if instrument in self._roster:
                await self._round_saved(self._roster[instrument])
            case StopRequested():
                self._stopping = True
                await self._ports.jobs.aclose()
                await self._ports.archive.aclose()
                await self._ports.pages.aclose()
            case OrdersChanged(orders) if not self._stopping:
                await self._obey(orders)
        await self._heed_server_day()
        self._show()

    async def advance(self) -> None:
        """Move every campaign on that has nothing left to wait for."""
        if self._stopping:
            return
        now = trio.current_time()
        for campaign in tuple(self._roster):
            await self._prove(campaign)
            if campaign.phase is Phase.RESTING and campaign.rests_until <= now:
                await self._next_round(campaign)
            if campaign.may_yield:
                campaign.phase = Phase.YIELDING
                await self._ports.pages.send(FlushDays(campaign.instrument))
            elif campaign.must_yield:
                continue
            elif campaign.has_asked_all and self._is_described(campaign):
                campaign.phase = Phase.SAVING
                await self._ports.pages.send(FlushDays(campaign.instrument))

    def _came_back(self, spent: Spent) -> None:
        self._in_hand -= 1
        if spent.usage.server_ms is not None:
            self._heard_server = True
            self._clock = self._clock.observed(
                spent.sent_ms, spent.received_ms, spent.usage.server_ms, spent.usage.precision_ms
            )

    def _book(self, message: JobAnswered | JobFailed | MarketDescribed) -> None:
        match message:
            case JobAnswered(job) if job.era == self._roster.era:
                self._roster[job.instrument].answered(message, self._server_ms())
            case JobFailed(FetchJob() as job) if job.era == self._roster.era:
                self._roster[job.instrument].failed(message, job.query)
            case JobFailed(DescribeMarket() as job):
                for instrument in self._catalogue.failed(job, message.error):
                    if instrument in self._roster:
                        self._roster[instrument].undescribed(message.error)
            case MarketDescribed(job):
                self._catalogue.described(message, trio.current_time())
                self._roster.charge(job, message.spent)
            case _:
                log.debug("answer_outlived", job=repr(message.job))

    def _is_described(self, campaign: Campaign) -> bool:
        return campaign.error is not None or self._catalogue.knows(campaign.instrument)

    async def _heed_server_day(self) -> None:
        """The day is the exchange's: if its first answer shows that the host's clock names another, plan again."""
        if self._day_is_sure or self._stopping or not self._heard_server:
            return
        self._day_is_sure = True
        if self._server_day() != self._today:
            log.warning("host_clock_wrong", host_day=self._today.isoformat(), server_day=self._server_day().isoformat())
            self._today = self._server_day()
            await self._load()

    async def _prove(self, campaign: Campaign) -> None:
        starts = campaign.holdings.starts_to_prove(campaign.plan)
        if starts:
            await self._ports.pages.send(StartsProven(campaign.instrument, starts))

    def _show(self) -> None:
        self._steps += 1
        self._statistics.value = replace(self._roster.statistics(), steps=self._steps)

    # -- other orders

    async def _obey(self, orders: Orders) -> None:
        self._orders = orders
        for instrument in await self._roster.obey(orders):
            await self._add(instrument)
            self._catalogue.ask(instrument)
        await self._roster.retire_days(self._today)

    async def _add(self, instrument: Instrument) -> Campaign:
        return await self._roster.add(instrument, self._today, self._server_ms(), trio.current_time())

    async def _yielded(self, campaign: Campaign) -> None:
        """All that the campaign had is on disk: make another plan, from there, or none."""
        if campaign.is_dismissed:
            self._roster.drop(campaign.instrument)
            log.info("instrument_removed", instrument=str(campaign.instrument))
            return
        await self._roster.heed_answers(campaign, self._server_ms())
        (await self._add(campaign.instrument)).follow(campaign)

    # -- rounds

    async def _round_saved(self, campaign: Campaign) -> None:
        if self._stopping or campaign.phase not in {Phase.SAVING, Phase.TELLING, Phase.SEALING, Phase.YIELDING}:
            return
        if campaign.phase is Phase.YIELDING:
            await self._yielded(campaign)
            return
        await self._prove(campaign)
        flush = campaign.next_flush(self._server_ms())
        if flush is None:
            await self._finish_round(campaign)
        else:
            await self._ports.pages.send(flush)

    async def _finish_round(self, campaign: Campaign) -> None:
        campaign.phase = Phase.RESTING
        campaign.rests_until = trio.current_time() + self._orders.poll_s
        # Of a plan that gives way to another one, as when the last day has come from the archive, nothing is over.
        if campaign.archive_days or campaign.must_yield:
            return
        campaign.rounds += 1
        campaign.is_complete = campaign.outcome(trio.current_time(), None).complete
        if campaign.rounds == 1:
            await self._tell_outcome(campaign)
        if self._roster.is_over():
            self._stop.set()

    async def _tell_outcome(self, campaign: Campaign) -> None:
        tick = self._catalogue.ticks.get(campaign.instrument)
        context = None if tick is None else await self._roster.context(campaign, tick, day_stop_ms(self._server_day()))
        outcome = campaign.outcome(trio.current_time(), context)
        log_outcome(campaign.log, outcome)
        await self._ports.outcomes.send(outcome)

    async def _next_round(self, campaign: Campaign) -> None:
        today = self._server_day()
        if today != self._today:
            self._today = today
            log.info("day_turned", day=today.isoformat())
            await self._roster.retire_days(today)
        self._roster.look_again(campaign, trio.current_time(), self._server_ms())
        self._catalogue.refresh(campaign.instrument, self._roster.symbols(), trio.current_time())
        campaign.begin_round()

    # -- time

    def _server_ms(self) -> int:
        return self._clock.now_ms(_now_ms())

    def _server_day(self) -> date:
        return day_of(self._server_ms())
