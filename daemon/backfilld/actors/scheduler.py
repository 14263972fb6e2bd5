"""The scheduler: tells every sync what happens to it, and performs what the syncs decide.

Owns the exchange's time, and deals jobs to the fetchers: never more than there are fetchers, so that no job waits in a
queue where it could not be thought over. Must not decide, fetch, read, merge or write.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice

import structlog
import trio
from trio_util import AsyncValue

from backfilld.actors.messages import (
    AddUp,
    ArchiveJob,
    DescribeMarket,
    FetchJob,
    FiguresRead,
    Job,
    JobAnswered,
    JobDropped,
    JobFailed,
    MarketDescribed,
    MergerMessage,
    ReaderMessage,
    RetireDays,
    SchedulerMessage,
    SpecChanged,
    Spent,
    StopRequested,
    SyncAction,
    SyncEvent,
)
from backfilld.actors.scheduler_clock import SchedulerClock
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.markets import RULES, Pool
from backfilld.core.model import Instrument
from backfilld.core.sync import events
from backfilld.core.sync.announcements import log_outcome
from backfilld.core.sync.events import Action, Event, Log
from backfilld.core.sync.instruments import Instruments
from backfilld.core.sync.planning import days_of
from backfilld.core.sync.spec import RunSpec
from backfilld.core.sync.standing import Statistics
from backfilld.core.sync.symbols import SymbolInfo, SymbolQuestion

log = structlog.get_logger()

SHOWN_EVERY_S = 0.25
"""How often statistics are published while there is work."""


@dataclass(frozen=True, slots=True)
class SchedulerPorts:
    """The channel ends of the scheduler. ``outcomes`` gets one Outcome an instrument, after its first round."""

    inbox: trio.MemoryReceiveChannel[SchedulerMessage]
    jobs: trio.MemorySendChannel[Job]
    pages: trio.MemorySendChannel[MergerMessage]
    reads: trio.MemorySendChannel[ReaderMessage]
    outcomes: trio.MemorySendChannel[Outcome]
    archive: trio.MemorySendChannel[ArchiveJob]
    live: trio.MemorySendChannel[SyncAction[events.Offer]] | None = None


async def run_scheduler(
    ports: SchedulerPorts,
    spec: RunSpec,
    wall_ms: Callable[[], float],
    statistics: AsyncValue[Statistics],
    stop: trio.Event,
) -> None:
    """Ask for what is missing of what the reader finds stored, until ``stop``, which ``spec.once`` sets by itself.

    ``wall_ms`` is the host's clock, in ms since the epoch; it names the day until the exchange has told its time.
    """
    ends = ports.inbox, ports.jobs, ports.pages, ports.reads, ports.outcomes, ports.archive
    async with ends[0], ends[1], ends[2], ends[3], ends[4], ends[5], ports.live or nullcontext():
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


def _pool_of(job: Job) -> Pool:
    return RULES[job.instrument.market if isinstance(job, FetchJob) else job.market].pool


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
        self._outcomes: dict[Instrument, Outcome] = {}
        self._to_describe: list[Instrument] = []
        self._in_hand = Counter[Pool]()
        self._steps = 0
        self._shown_steps = 0
        self._shown_at = -math.inf
        self._last_error: str | None = None
        self._is_stopping = False

    async def begin(self) -> None:
        """Have what is stored read."""
        for instrument in self._spec.instruments:
            await self._perform(instrument, self._instruments.add(instrument, self._spec, self._clock.instant()))

    async def end(self) -> None:
        """Report the syncs that the stop cut short."""
        for sync in self._instruments:
            if not sync.rounds:
                self._outcomes[sync.instrument] = sync.outcome(trio.current_time())
        for instrument in tuple(self._outcomes):
            await self._ports.outcomes.send(self._outcomes.pop(instrument))
        if self._steps:
            self._publish()

    def deal(self) -> None:
        """Give every free fetcher a job. One question describes all instruments, so it waits until all are loaded."""
        if self._to_describe and not self._instruments.sums.loading:
            self._symbols.ask(*self._to_describe)
            self._to_describe.clear()
        if self._to_describe and not self._symbols.ticks:
            return  # Nothing goes out before the question that names the limits.
        while not (self._is_stopping or self._stop.is_set()):
            # Each pool has fetchers of its own: one that waits for weight holds up no other.
            job = self._next_job({pool for pool in Pool if self._in_hand[pool] >= self._spec.fetchers})
            if job is None:
                return
            self._in_hand[_pool_of(job)] += 1
            self._ports.jobs.send_nowait(job)

    def wakes_at(self) -> float:
        """When there is something to do though no message comes, in trio's time."""
        shows_at = self._shown_at + SHOWN_EVERY_S if self._shown_steps != self._steps else math.inf
        return shows_at if self._is_stopping else min(shows_at, self._instruments.next_round_at())

    async def handle(self, message: SchedulerMessage) -> None:
        """Pass on one message."""
        self._steps += 1
        match message:
            case JobAnswered() | JobFailed() | MarketDescribed():
                self._came_back(message.job, message.spent)
                await self._book(message)
            case JobDropped(job):
                self._in_hand[_pool_of(job)] -= 1
            case StopRequested():
                self._is_stopping = True
                for end in (self._ports.jobs, self._ports.archive, self._ports.reads, self._ports.pages):
                    await end.aclose()
            case FiguresRead():
                await self._added_up(message)
            case SpecChanged(spec):
                if not self._is_stopping:
                    await self._apply(spec)
            case SyncEvent(instrument, event):
                await self._tell(instrument, event)
        await self._heed_time()

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
        if self._steps != self._shown_steps and (is_due or not self._in_hand.total()):
            self._publish()

    # -- messages

    def _planned(self) -> Iterator[Instrument]:
        return (sync.instrument for sync in self._instruments if sync.is_planned)

    def _next_job(self, busy: Collection[Pool]) -> Job | None:
        question = self._symbols.next_question(busy)
        if question is not None:
            return DescribeMarket(question.market, question.symbols, question.whole)
        turn = self._instruments.next_question(busy)
        if turn is None:
            return None
        instrument, query, rank = turn
        return FetchJob(instrument, query, self._instruments[instrument].attempt.window.stop_ms, rank)

    def _came_back(self, job: Job, spent: Spent) -> None:
        self._in_hand[_pool_of(job)] -= 1
        self._clock.heard(spent)
        if self._clock.is_doubted and not self._in_hand.total():
            # Any answer settles whether the last one's time was wrong.
            self._symbols.ask(*islice(self._planned(), 1))

    async def _book(self, message: JobAnswered | JobFailed | MarketDescribed) -> None:
        if isinstance(message, JobFailed):
            self._last_error = str(message.error)
        match message:
            case JobAnswered(job, found, spent):
                self._instruments.spend(job.instrument, spent.requests, spent.weight)
                await self._tell(job.instrument, events.Answered(job.query, found))
            case JobFailed(FetchJob() as job, error, spent):
                self._instruments.spend(job.instrument, spent.requests, spent.weight)
                await self._tell(job.instrument, events.Failed(job.query, error))
            case JobFailed(DescribeMarket(market, symbols, whole), error):
                for instrument, reason in self._symbols.failed(SymbolQuestion(market, symbols, whole), error):
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

    async def _heed_time(self) -> None:
        """Delete days once both clocks agree on today. Once the exchange's time is known, all syncs judge by it."""
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
            elif not self._is_stopping:
                await self._do(instrument, action)

    async def _do(self, instrument: Instrument, action: Action) -> None:
        ports = self._ports
        match action:
            case events.Flush() | events.Prove():
                await ports.pages.send(SyncAction(instrument, action))
            case events.LoadDays() | events.LookAtFiles() | events.Distrust() | events.Remember():
                ports.reads.send_nowait(SyncAction(instrument, action))
            case events.TakeArchive():
                ports.archive.send_nowait(SyncAction(instrument, action))
            case events.Offer() if ports.live is not None:
                ports.live.send_nowait(SyncAction(instrument, action))
            case events.Describe():
                self._to_describe.append(instrument)
            case events.Leave():
                self._instruments.drop(instrument)
            case _:
                pass

    async def _end_round(self, instrument: Instrument) -> None:
        sync = self._instruments[instrument]
        if sync.rounds > 1:
            await self._end_if_over()
            return
        outcome = self._outcomes[instrument] = sync.outcome(trio.current_time())
        tick, window = self._symbols.ticks.get(instrument), sync.attempt.window
        if tick is None or self._is_stopping:
            await self._report(instrument, outcome, None)
        else:
            self._ports.reads.send_nowait(AddUp.of_newest_day(instrument, window, self._clock.day(), tick))

    async def _added_up(self, message: FiguresRead) -> None:
        instrument = message.instrument
        await self._report(instrument, self._outcomes.get(instrument), message)
        if message.is_damaged and instrument in self._instruments:
            days = days_of(self._instruments[instrument].attempt.window, self._clock.now_ms())
            await self._tell(instrument, events.DaysAltered(frozenset(days)))

    async def _report(self, instrument: Instrument, outcome: Outcome | None, read: FiguresRead | None) -> None:
        if outcome is None:
            return
        outcome = self._outcomes.pop(instrument)
        outcome = outcome if read is None else outcome.with_figures(read.figures, is_whole=read.is_whole)
        log_outcome(log.bind(instrument=str(instrument)), outcome)
        await self._ports.outcomes.send(outcome)
        await self._end_if_over()

    async def _end_if_over(self) -> None:
        if not self._outcomes and self._instruments.is_over(once=self._spec.once):
            self._stop.set()

    def _publish(self) -> None:
        self._shown_at, self._shown_steps = trio.current_time(), self._steps
        self._statistics.value = self._instruments.statistics(self._steps, self._last_error)
