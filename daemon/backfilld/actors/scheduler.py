"""The scheduler: decides which question is put next, and when a backfill has come to its end.

Owns the campaigns, one an instrument, and deals jobs to the fetchers in turn: never more than there are fetchers, so
that no job waits in a queue where it could not be thought over. Must not fetch, merge or write.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import structlog
import trio
from trio_util import AsyncValue

from backfilld.actors.campaign import Campaign, Phase
from backfilld.actors.messages import (
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
    RoundSaved,
    SchedulerMessage,
    Spent,
    StartsProven,
    Statistics,
    StopRequested,
)
from backfilld.core.clock import ServerClock
from backfilld.core.model import Instrument, day_of, day_start_ms, day_stop_ms
from backfilld.core.outcome import UNKNOWN_SYMBOL, Outcome
from backfilld.core.planner import Window
from backfilld.core.retention import expired_days
from backfilld.errors import ExchangeError, RequestRejected
from backfilld.ports import TradeStore

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Orders:
    """What the scheduler is to do.

    ``window`` fixes the span for all instruments; without it, it is today and ``days`` whole days before, open-ended.
    With ``once`` the first complete round ends the pipeline, else rounds follow every ``poll_s``. ``uncached`` only
    chooses the words of the log. Day files older than ``keep_days`` are deleted, none for 0.
    """

    instruments: tuple[Instrument, ...]
    max_concurrent: int
    window: Window | None = None
    days: int = 0
    keep_days: int = 0
    once: bool = False
    poll_s: float = 30.0
    uncached: bool = False


@dataclass(frozen=True, slots=True)
class SchedulerPorts:
    """The channel ends of the scheduler. ``outcomes`` gets one Outcome an instrument, after its first round."""

    inbox: trio.MemoryReceiveChannel[SchedulerMessage]
    jobs: trio.MemorySendChannel[Job]
    pages: trio.MemorySendChannel[MergerMessage]
    outcomes: trio.MemorySendChannel[Outcome]


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
    async with ports.inbox, ports.jobs, ports.pages, ports.outcomes:
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
        self._campaigns: dict[Instrument, Campaign] = {}
        self._turns: deque[Campaign] = deque()
        self._to_describe: deque[DescribeMarket] = deque()
        self._ticks: dict[Instrument, float] = {}
        self._in_hand = 0
        self._stopping = False
        self._era = 0
        self._heard_server = False
        self._day_is_sure = False
        self._today = self._server_day()

    # -- beginning and end

    async def begin(self) -> None:
        """Open the store, read what is held, and make the plans."""
        await self._store.open()
        await self._load_all(trio.current_time())
        for market in dict.fromkeys(instrument.market for instrument in self._campaigns):
            symbols = tuple(each.symbol for each in self._campaigns if each.market is market)
            self._to_describe.append(DescribeMarket(market, symbols))
        await self._retire_days()
        self._publish()

    async def end(self) -> None:
        """Tell what became of the campaigns that the stop cut short."""
        for campaign in self._campaigns.values():
            if not campaign.rounds:
                await self._ports.outcomes.send(campaign.outcome(trio.current_time(), None))

    async def _load_all(self, began_at: float) -> None:
        for instrument in self._orders.instruments:
            self._campaigns[instrument] = await self._load(instrument, began_at)
        self._turns = deque(self._campaigns.values())

    async def _load(self, instrument: Instrument, began_at: float) -> Campaign:
        window = self._window()
        stop_ms = int(window.stop_ms or self._server_ms())
        records = []
        for day in _days(window.start_ms, stop_ms):
            record = await self._store.load(instrument, day)
            if record is not None:
                records.append(record)
            elif not self._orders.uncached:
                log.info("cache_missed", instrument=str(instrument), day=day.isoformat())
        campaign = Campaign(instrument, window, records, began_at=began_at, max_concurrent=self._orders.max_concurrent)
        campaign.log_start(stop_ms, uncached=self._orders.uncached)
        return campaign

    def _window(self) -> Window:
        if self._orders.window is not None:
            return self._orders.window
        return Window(day_start_ms(self._today - timedelta(days=self._orders.days)))

    # -- dealing jobs

    def deal(self) -> None:
        """Give every free fetcher a job, instruments in turn."""
        while not self._stopping and self._in_hand < self._orders.max_concurrent:
            job = self._to_describe.popleft() if self._to_describe else self._next_fetch()
            if job is None:
                return
            self._in_hand += 1
            self._ports.jobs.send_nowait(job)

    def _next_fetch(self) -> FetchJob | None:
        for _ in range(len(self._turns)):
            campaign = self._turns[0]
            self._turns.rotate(-1)
            query = campaign.take()
            if query is not None:
                return FetchJob(campaign.instrument, query, campaign.window.stop_ms, self._era)
        return None

    def next_round_at(self) -> float:
        """When the next top-up is due, in trio's time; never while stopping."""
        resting = (c.rests_until for c in self._campaigns.values() if c.phase is Phase.RESTING)
        return math.inf if self._stopping else min(resting, default=math.inf)

    # -- what happened

    async def handle(self, message: SchedulerMessage) -> None:
        """Book one event."""
        match message:
            case JobAnswered(job) | JobFailed(FetchJob() as job) if job.era != self._era:
                self._came_back(message.spent)
            case JobAnswered(job):
                self._came_back(message.spent)
                self._campaigns[job.instrument].answered(message, self._server_ms())
            case JobFailed(FetchJob() as job):
                self._came_back(message.spent)
                self._campaigns[job.instrument].failed(message, job.query)
            case JobFailed(DescribeMarket() as job):
                self._came_back(message.spent)
                self._not_described(job, message.error)
            case MarketDescribed(job, info):
                self._came_back(message.spent)
                self._of_market(job)[0].spend(message.spent)
                self._ticks |= {Instrument(job.market, symbol): tick for symbol, tick in info.ticks.items()}
            case DaySaved(instrument, record):
                self._campaigns[instrument].saved(record, message.conflicts)
            case RoundSaved(instrument):
                await self._round_saved(self._campaigns[instrument])
            case JobDropped():
                self._in_hand -= 1
            case StopRequested():
                self._stopping = True
                await self._ports.jobs.aclose()
                await self._ports.pages.aclose()
        await self._heed_server_day()
        self._publish()

    async def _heed_server_day(self) -> None:
        """The day is the exchange's: if its first answer shows that the host's clock names another, plan again."""
        if not self._heard_server or self._day_is_sure or self._stopping or self._orders.window is not None:
            return
        self._day_is_sure = True
        if self._server_day() != self._today:
            self._era += 1
            log.warning("host_clock_wrong", host_day=self._today.isoformat(), server_day=self._server_day().isoformat())
            self._today = self._server_day()
            await self._load_all(trio.current_time())

    async def advance(self) -> None:
        """Move every campaign on that has nothing left to wait for."""
        if self._stopping:
            return
        now = trio.current_time()
        for campaign in self._campaigns.values():
            await self._prove(campaign)
            if campaign.has_asked_all and self._is_described(campaign):
                campaign.phase = Phase.SAVING
                await self._ports.pages.send(FlushDays(campaign.instrument))
            elif campaign.phase is Phase.RESTING and campaign.rests_until <= now:
                await self._next_round(campaign)

    def _came_back(self, spent: Spent) -> None:
        self._in_hand -= 1
        if spent.usage.server_ms is not None:
            self._heard_server = True
            self._clock = self._clock.observed(
                spent.sent_ms, spent.received_ms, spent.usage.server_ms, spent.usage.precision_ms
            )

    def _of_market(self, job: DescribeMarket) -> list[Campaign]:
        return [self._campaigns[Instrument(job.market, symbol)] for symbol in job.symbols]

    def _not_described(self, job: DescribeMarket, error: ExchangeError) -> None:
        """One unknown symbol spoils the answer for all: ask for each by itself."""
        unknown = isinstance(error, RequestRejected) and error.code == UNKNOWN_SYMBOL
        if unknown and len(job.symbols) > 1:
            self._to_describe.extend(DescribeMarket(job.market, (symbol,)) for symbol in job.symbols)
            return
        for campaign in self._of_market(job):
            campaign.error = campaign.error or error

    def _is_described(self, campaign: Campaign) -> bool:
        return campaign.error is not None or campaign.instrument in self._ticks

    async def _prove(self, campaign: Campaign) -> None:
        starts = campaign.starts_to_prove()
        if starts:
            await self._ports.pages.send(StartsProven(campaign.instrument, starts))

    # -- rounds

    async def _round_saved(self, campaign: Campaign) -> None:
        if self._stopping:
            return
        await self._prove(campaign)
        renew = campaign.days_to_renew()
        if campaign.phase is Phase.SAVING and renew:
            campaign.phase = Phase.SEALING
            await self._ports.pages.send(FlushDays(campaign.instrument, renew))
            return
        await self._finish_round(campaign)

    async def _finish_round(self, campaign: Campaign) -> None:
        campaign.phase = Phase.RESTING
        campaign.rests_until = trio.current_time() + self._orders.poll_s
        campaign.rounds += 1
        if campaign.rounds == 1:
            await self._tell_outcome(campaign)
        if self._orders.once and all(c.rounds for c in self._campaigns.values()):
            self._stop.set()

    async def _tell_outcome(self, campaign: Campaign) -> None:
        context = None
        if campaign.instrument in self._ticks:
            stop_ms = campaign.window.stop_ms or day_stop_ms(self._server_day())
            context = await self._store.context(
                campaign.instrument, campaign.window.start_ms, stop_ms, self._ticks[campaign.instrument]
            )
        outcome = campaign.outcome(trio.current_time(), context)
        _log_outcome(outcome)
        await self._ports.outcomes.send(outcome)

    async def _next_round(self, campaign: Campaign) -> None:
        today = self._server_day()
        if today != self._today:
            self._today = today
            log.info("day_turned", day=today.isoformat())
            await self._retire_days()
        if campaign.error is not None and not self._is_described_at_all(campaign):
            self._to_describe.append(DescribeMarket(campaign.instrument.market, (campaign.instrument.symbol,)))
        campaign.begin_round()

    def _is_described_at_all(self, campaign: Campaign) -> bool:
        return campaign.instrument in self._ticks

    async def _retire_days(self) -> None:
        for instrument in self._campaigns if self._orders.keep_days else ():
            for day in expired_days(await self._store.days(instrument), self._today, self._orders.keep_days):
                await self._store.delete(instrument, day)
                log.info("day_deleted", instrument=str(instrument), day=day.isoformat())

    # -- time and figures

    def _server_ms(self) -> int:
        return self._clock.now_ms(_now_ms())

    def _server_day(self) -> date:
        return day_of(self._server_ms())

    def _publish(self) -> None:
        campaigns = self._campaigns.values()
        self._statistics.value = Statistics(
            wanted=sum(c.fetched + c.to_fetch for c in campaigns),
            fetched=sum(c.fetched for c in campaigns),
            cached=sum(c.cached for c in campaigns),
            requests=sum(c.requests for c in campaigns),
            weight=sum(c.weight for c in campaigns),
        )


def _days(start_ms: int, stop_ms: int) -> Iterable[date]:
    first = day_of(start_ms)
    return (first + timedelta(days=n) for n in range((day_of(max(start_ms, stop_ms - 1)) - first).days + 1))


def _log_outcome(outcome: Outcome) -> None:
    about = log.bind(instrument=str(outcome.instrument))
    if not outcome.complete:
        missing = [[ids.first_id, ids.last_id] for ids in outcome.missing]
        about.error("backfill_incomplete", reasons=list(outcome.reasons), missing=missing)
        return
    context = outcome.context
    about.info(
        "backfill_completed",
        trades=outcome.trades,
        vwap=context and context.vwap,
        poc=context and context.poc,
        range_today=context and context.price_range,
        cd_pre=context and context.delta,
        seconds=round(outcome.seconds, 3),
        requests=outcome.requests,
        weight=outcome.weight,
    )
