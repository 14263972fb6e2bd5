"""The scheduler: passes events to the syncs, and performs the actions that they return.

Owns the exchange's time, and deals jobs to the fetchers: never more than there are fetchers, so that no job waits in a
queue where it could not be thought over. Must not decide, fetch, read, merge or write.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice

import structlog
import trio
from trio_util import AsyncValue

from backfilld.actors.first_rounds import FirstRounds
from backfilld.actors.jobs_in_hand import JobsInHand
from backfilld.actors.messages import (
    AddUp,
    FetchJob,
    FiguresRead,
    Job,
    JobAnswered,
    JobDropped,
    JobFailed,
    MarketDescribed,
    RetireDays,
    SchedulerMessage,
    SpecChanged,
    Spent,
    StopRequested,
    SyncEvent,
)
from backfilld.actors.scheduler_clock import SchedulerClock
from backfilld.actors.scheduler_ports import SchedulerPorts
from backfilld.core.markets import Pool
from backfilld.core.model import Instrument
from backfilld.core.sync import events
from backfilld.core.sync.events import Action, Event, Log
from backfilld.core.sync.instruments import Instruments
from backfilld.core.sync.planning import days_of
from backfilld.core.sync.spec import RunSpec
from backfilld.core.sync.standing import Statistics
from backfilld.core.sync.symbols import DescribeMarket, SymbolInfo

log = structlog.get_logger()

SHOWN_EVERY_S = 0.25
"""How often statistics are published while there is work."""

AT_ONCE = 16
"""Events of syncs in a row before others may go on: what concerns a thousand instruments does not hold the loop."""


async def run_scheduler(
    ports: SchedulerPorts,
    spec: RunSpec,
    wall_ms: Callable[[], float],
    statistics: AsyncValue[Statistics],
    stop: trio.Event,
) -> None:
    """Ask for what is missing of what the reader finds stored, until ``stop``, which ``spec.once`` sets by itself.

    ``wall_ms`` is the host's clock, in ms since the epoch; it names the day until the exchange has named its time.
    """
    async with ports.open():
        scheduler = _Scheduler(ports, spec, wall_ms, statistics, stop)
        await scheduler.begin()
        while True:
            scheduler.deal()
            message: SchedulerMessage | None = None
            with trio.move_on_at(scheduler.wakes_at()):
                try:
                    message = await ports.inbox.receive()
                except trio.EndOfChannel:
                    break
            if message is not None:
                await scheduler.handle(message)
            await scheduler.begin_rounds()
            scheduler.show()
        await scheduler.end()


class _Scheduler:
    def __init__(
        self,
        ports: SchedulerPorts,
        spec: RunSpec,
        wall_ms: Callable[[], float],
        statistics: AsyncValue[Statistics],
        stop: trio.Event,
    ) -> None:
        self._ports = ports
        self._spec = spec
        self._statistics = statistics
        self._stop = stop
        self._clock = SchedulerClock(wall_ms)
        self._instruments = Instruments()
        self._symbols = SymbolInfo()
        self._first_rounds = FirstRounds(ports.outcomes)
        self._to_describe: list[Instrument] = []
        self._in_hand = JobsInHand()
        self._steps = 0
        self._performed = 0
        self._shown_steps = 0
        self._shown_at = -math.inf
        self._last_error: str | None = None
        self._is_stopping = False

    async def begin(self) -> None:
        """Have what is stored read."""
        for each in self._spec.instruments:
            await self._perform(each, self._instruments.add(each, self._spec, self._clock.instant()))

    async def end(self) -> None:
        """Report the syncs that the stop cut short. All are freed few at a time: a thousand at once hold the loop."""
        for sync in [each for each in self._instruments if not each.rounds]:
            self._first_rounds.ended(sync.outcome(trio.current_time()))
        await self._first_rounds.report_all()
        if self._steps:
            self._publish()
        for instrument in [sync.instrument for sync in self._instruments]:
            self._instruments.drop(instrument)
            await self._let_others_go_on()

    def deal(self) -> None:
        """Give every free fetcher a job. One question describes all instruments, so it waits until all are loaded."""
        if self._to_describe and not self._instruments.sums.loading:
            self._symbols.ask(*self._to_describe)
            self._to_describe.clear()
        if self._to_describe and not self._symbols.ticks:
            return  # Nothing goes out before the question that names the limits.
        while not (self._is_stopping or self._stop.is_set()):
            # Each pool has fetchers of its own: one that waits for weight holds up no other.
            if (job := self._next_job(self._in_hand.busy(self._spec.fetchers))) is None:
                return
            self._in_hand.dealt(job)
            self._ports.jobs.send_nowait(job)

    def wakes_at(self) -> float:
        """When there is something to do though no message comes, in trio's time."""
        shows_at = self._shown_at + SHOWN_EVERY_S if self._shown_steps != self._steps else math.inf
        return shows_at if self._is_stopping else min(shows_at, self._instruments.next_round_at())

    async def handle(self, message: SchedulerMessage) -> None:
        """Pass on one message."""
        self._steps += 1
        self._performed = 0
        match message:
            case JobAnswered() | JobFailed() | MarketDescribed():
                self._came_back(message.job, message.spent)
                await self._take_result(message)
            case JobDropped(job):
                self._in_hand.came_back(job)
            case StopRequested():
                self._is_stopping = True
                await self._ports.stop_feeding()
            case FiguresRead():
                await self._added_up(message)
            case SpecChanged(spec):
                if not self._is_stopping:
                    await self._apply(spec)
            case SyncEvent(instrument, event):
                await self._tell(instrument, event)
        await self._apply_time()

    async def begin_rounds(self) -> None:
        """Begin the rounds that are due."""
        while not self._is_stopping and (instrument := self._instruments.due(trio.current_time())) is not None:
            self._clock.turn_day()
            if self._instruments[instrument].is_planned:
                self._symbols.refresh(instrument, self._planned(), trio.current_time())
            await self._tell(instrument, events.RoundDue())

    def show(self) -> None:
        """Publish how things stand, now and then while there is work and at once when there is none."""
        is_due = trio.current_time() >= self._shown_at + SHOWN_EVERY_S
        if self._steps != self._shown_steps and (is_due or not self._in_hand):
            self._publish()

    # -- messages

    def _planned(self) -> Iterator[Instrument]:
        return (sync.instrument for sync in self._instruments if sync.is_planned)

    def _next_job(self, busy: Collection[Pool]) -> Job | None:
        question = self._symbols.next_question(busy)
        if question is not None:
            return question
        turn = self._instruments.next_question(busy)
        if turn is None:
            return None
        instrument, query, rank = turn
        sync = self._instruments[instrument]
        return FetchJob(
            instrument, query, sync.attempt.window.stop_ms, rank, self._clock.latest_ms(), is_wary=sync.is_wary
        )

    def _came_back(self, job: Job, spent: Spent) -> None:
        self._in_hand.came_back(job)
        self._clock.heard(spent)
        if self._clock.is_doubted and not self._in_hand:
            # Any answer settles whether the last one's time was wrong.
            self._symbols.ask(*islice(self._planned(), 1))

    async def _take_result(self, message: JobAnswered | JobFailed | MarketDescribed) -> None:
        if isinstance(message, JobFailed):
            self._last_error = str(message.error)
        match message:
            case JobAnswered(job, found, spent):
                self._instruments.spend(job.instrument, spent.requests, spent.weight)
                await self._tell(job.instrument, events.Answered(job.query, found))
            case JobFailed(FetchJob() as job, error, spent):
                self._instruments.spend(job.instrument, spent.requests, spent.weight)
                await self._tell(job.instrument, events.Failed(job.query, error))
            case JobFailed(DescribeMarket() as job, error):
                for instrument, reason in self._symbols.failed(job, error):
                    await self._tell(instrument, events.Undescribed(reason))
            case MarketDescribed(job, info, spent):
                self._instruments.spend(Instrument(job.market, job.symbols[0]), spent.requests, spent.weight)
                for instrument in self._symbols.described(job.market, info.ticks, trio.current_time()):
                    await self._tell(instrument, events.Described(info.onboard_ms.get(instrument.symbol)))

    async def _tell(self, instrument: Instrument, event: Event) -> None:
        await self._perform(instrument, self._instruments.on(instrument, event, self._clock.instant()))

    async def _tell_all(self, event: Event) -> None:
        for instrument in tuple(sync.instrument for sync in self._instruments):
            await self._tell(instrument, event)

    async def _apply(self, spec: RunSpec) -> None:
        self._spec = spec
        await self._tell_all(events.SpecReplaced(spec))
        new = tuple(each for each in spec.instruments if each not in self._instruments)
        for instrument in new:
            actions = self._instruments.add(instrument, spec, self._clock.instant(), is_late=True)
            await self._perform(instrument, actions)
        self._clock.forget_agreement()

    async def _apply_time(self) -> None:
        """Delete days once both clocks agree on today. Once the exchange's time is known, all syncs go by it."""
        if self._is_stopping:
            return
        expired = self._clock.newly_agreed_day() if self._spec.keep_days else None
        if expired is not None:
            self._ports.reads.send_nowait(RetireDays(self._spec.instruments, expired, self._spec.keep_days))
        if self._clock.has_news(warns=self._spec.window is None):
            await self._tell_all(events.ClockHeard())

    # -- actions

    async def _perform(self, instrument: Instrument, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Log):
                write = getattr(log, action.level)
                write(action.event, instrument=str(instrument), **action.fields)
            elif isinstance(action, events.EndRound):
                await self._end_round(instrument)
            elif self._is_stopping:
                continue
            elif isinstance(action, events.Describe):
                self._to_describe.append(instrument)
            elif isinstance(action, events.Leave):
                self._instruments.drop(instrument)
                await self._ports.pass_on(instrument, action)
            else:
                await self._ports.pass_on(instrument, action)
        await self._let_others_go_on()

    async def _let_others_go_on(self) -> None:
        self._performed += 1
        if self._performed % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()

    async def _end_round(self, instrument: Instrument) -> None:
        sync = self._instruments[instrument]
        if sync.rounds == 1:
            self._first_rounds.ended(sync.outcome(trio.current_time()))
            tick, window = self._symbols.ticks.get(instrument), sync.attempt.window
            if tick is not None and not self._is_stopping:
                self._ports.reads.send_nowait(AddUp.of_newest_day(instrument, window, self._clock.day(), tick))
                return
            await self._first_rounds.report(instrument)
        await self._end_if_over()

    async def _added_up(self, message: FiguresRead) -> None:
        instrument = message.instrument
        await self._first_rounds.report(instrument, message)
        await self._end_if_over()
        if message.is_damaged and instrument in self._instruments:
            days = days_of(self._instruments[instrument].attempt.window, self._clock.now_ms())
            await self._tell(instrument, events.DaysAltered(frozenset(days)))

    async def _end_if_over(self) -> None:
        if not self._first_rounds and self._instruments.is_over(once=self._spec.once):
            self._stop.set()

    def _publish(self) -> None:
        self._shown_at, self._shown_steps = trio.current_time(), self._steps
        self._statistics.value = self._instruments.statistics(self._steps, self._last_error)
