"""The scheduler: its jobs are answered from tapes, its pages saved, both by the test; time is virtual."""

import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import polars as pl
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_util import AsyncValue

from backfilld.actors.messages import (
    ArchiveJob,
    FetchJob,
    Job,
    JobAnswered,
    JobDropped,
    JobFailed,
    MarketDescribed,
    MergerMessage,
    ReaderMessage,
    SchedulerMessage,
    SpecChanged,
    Spent,
    StopRequested,
    SyncAction,
    SyncEvent,
)
from backfilld.actors.reader import Reading, run_reader
from backfilld.actors.scheduler import SHOWN_EVERY_S, run_scheduler
from backfilld.actors.scheduler_ports import SchedulerPorts
from backfilld.adapters.ram_store import RamStore
from backfilld.core.backfill.answers import check_page, cut
from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.backfill.questions import Before, Newest, Page, Query, Since, Tail
from backfilld.core.backfill.window_end import ANSWERS_IN_SILENCE, MOST_BELOW_SHOWN
from backfilld.core.day.absences import NO_ABSENCES
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import Certificate, Source, Sourced
from backfilld.core.day.start import DayStart
from backfilld.core.frame import empty_trades
from backfilld.core.markets import Pool
from backfilld.core.merge import merge
from backfilld.core.model import MS_PER_DAY, IdRange, Instrument, Market, day_of
from backfilld.core.sync.events import ArchiveDayEnded, DayStored, Flush, Flushed, Prove
from backfilld.core.sync.rests import LONGEST_REST_S
from backfilld.core.sync.spec import RunSpec
from backfilld.core.sync.standing import Statistics
from backfilld.core.sync.symbols import DescribeMarket
from backfilld.core.timespan import TimeSpan
from backfilld.core.weight.fair_queue import Rank
from backfilld.errors import ExchangeError, RateLimited, RequestRejected, StoreError, TransientError, UnexpectedAnswer
from backfilld.ports import MarketInfo, Usage
from tests.fakes import (
    BTC,
    DAY,
    DAY_MS,
    ETH,
    SOL,
    FakeStore,
    Tape,
    drained,
    has_ended,
    is_closed,
    trades_at,
    unknown_symbol,
)
from tests.strategies import span_of

NOON_MS = DAY_MS + MS_PER_DAY // 2
POLL_S = 30.0
YESTERDAY, NEXT = DAY - timedelta(days=1), DAY + timedelta(days=1)


def is_flush(message: MergerMessage) -> bool:
    return isinstance(message, SyncAction) and isinstance(message.action, Flush)


@dataclass
class Desk:
    """A scheduler at work. The test is its fetchers, its merger and its writer.

    ``errors`` are what the questions of an instrument fail with (None: exchangeInfo of its market).
    """

    send: trio.MemorySendChannel[SchedulerMessage]
    jobs: trio.MemoryReceiveChannel[Job]
    pages: trio.MemoryReceiveChannel[MergerMessage]
    outcomes: trio.MemoryReceiveChannel[Outcome]
    store: FakeStore
    tapes: dict[Instrument, Tape]
    epoch_ms: int
    stop: trio.Event = field(default_factory=trio.Event)
    statistics: AsyncValue[Statistics] = field(default_factory=lambda: AsyncValue(Statistics()))
    errors: dict[Instrument, ExchangeError] = field(default_factory=dict)
    info_errors: dict[Market, ExchangeError] = field(default_factory=dict)
    dealt: list[Job] = field(default_factory=list)
    newest: list[Job] = field(default_factory=list)
    flushes: list[Flush] = field(default_factory=list)
    gathered: defaultdict[Instrument, list[pl.DataFrame]] = field(default_factory=lambda: defaultdict(list))
    starts: defaultdict[Instrument, set[DayStart]] = field(default_factory=lambda: defaultdict(set))
    conflicts: int = 0
    reading: trio.CancelScope = field(default_factory=trio.CancelScope)
    wanted: trio.MemoryReceiveChannel[ArchiveJob] = field(init=False)
    too_old_ms: int = 0
    """The exchange does not answer for times before this."""

    async def read(self, reads: trio.MemoryReceiveChannel[ReaderMessage]) -> None:
        """Be the reader until the desk is closed."""
        with self.reading:
            await run_reader(reads, self.send.clone(), self.store, Reading(), self.stop)

    def close(self) -> None:
        """Say nothing more."""
        self.reading.cancel()
        self.send.close()

    @property
    def queries(self) -> list[Query]:
        return [job.query for job in self.dealt if isinstance(job, FetchJob)]

    @property
    def server_ms(self) -> int:
        return int(self.epoch_ms + trio.current_time() * 1000)

    async def waiting_jobs(self) -> list[Job]:
        """The jobs dealt since this was last asked."""
        await wait_all_tasks_blocked()
        jobs = drained(self.jobs)
        self.dealt += jobs
        self.newest = jobs
        return jobs

    async def answered(self) -> list[Job]:
        """Answer the jobs that were dealt last; the next ones."""
        for job in self.newest:
            self.send.send_nowait(self.event_of(job))
        return await self.waiting_jobs()

    async def work(self) -> None:
        """Answer jobs and save pages until nothing is asked any more."""
        while True:
            jobs, messages = await self.waiting_jobs(), drained(self.pages)
            if not jobs and not messages:
                return
            for job in jobs:
                self.send.send_nowait(self.event_of(job))
            for message in messages:
                await self.merge_and_write(message)

    def spent(self, weight: int = 4) -> Spent:
        now_ms = trio.current_time() * 1000
        return Spent(1, weight, Usage({"1m": weight}, self.server_ms, 1), now_ms, now_ms)

    def is_too_old(self, query: Query) -> bool:
        """Whether it is a question by time that the exchange refuses."""
        match query:
            case Since(asked_ms) | Before(asked_ms):
                return asked_ms < self.too_old_ms
        return False

    def event_of(self, job: Job) -> SchedulerMessage:
        """What a fetcher would say of it."""
        if isinstance(job, DescribeMarket):
            return self.description_of(job)
        if job.instrument in self.errors:
            return JobFailed(job, self.errors[job.instrument], self.spent())
        if job.instrument not in self.tapes:
            return JobFailed(job, unknown_symbol(), self.spent())
        rows = self.tapes[job.instrument].until(self.server_ms).answer(job.query)
        if self.is_too_old(job.query):
            return JobFailed(job, RequestRejected("-4166 Search window", status=400, code=-4166), self.spent())
        try:
            check_page(rows, job.query)
        except UnexpectedAnswer as error:
            return JobFailed(job, error, self.spent())
        kept, found = cut(rows, job.query, job.stop_ms)
        self.gathered[job.instrument].append(kept)
        return JobAnswered(job, found, self.spent())

    def description_of(self, job: DescribeMarket) -> SchedulerMessage:
        if job.market in self.info_errors:
            return JobFailed(job, self.info_errors[job.market], self.spent(20))
        if not all(Instrument(job.market, symbol) in self.tapes for symbol in job.symbols):
            return JobFailed(job, unknown_symbol(), self.spent(20))
        return MarketDescribed(job, MarketInfo((), dict.fromkeys(job.symbols, 0.01)), self.spent(20))

    async def merge_and_write(self, message: MergerMessage) -> None:
        """What merger and writer would make of a message."""
        assert isinstance(message, SyncAction)
        instrument, action = message.instrument, message.action
        if isinstance(action, Prove):
            self.starts[instrument] |= action.day_starts
            return
        self.flushes.append(action)
        trades = empty_trades()
        for page in self.gathered.pop(instrument, []):
            trades = merge(trades, page).trades
        days = {day_of(at) for at in trades["T"]} | action.renew | action.absences.keys()
        for day in sorted(days):
            part = trades.filter(pl.col("T") // MS_PER_DAY == (day - day_of(0)).days)
            absence = action.absences.get(day, NO_ABSENCES)
            saved = await self.store.save(
                Addition(instrument, day, part, frozenset(self.starts[instrument]), absence=absence)
            )
            self.send.send_nowait(SyncEvent(instrument, DayStored(saved.record, self.conflicts)))
        self.send.send_nowait(SyncEvent(instrument, Flushed()))

    def archived(self) -> list[tuple[Instrument, tuple[date, ...]]]:
        """What the archive was asked for."""
        return [(each.instrument, each.action.days) for each in drained(self.wanted)]

    async def outcome(self) -> Outcome:
        await wait_all_tasks_blocked()
        return self.outcomes.receive_nowait()


@asynccontextmanager
async def scheduling(
    spec: RunSpec,
    tapes: dict[Instrument, Tape],
    store: FakeStore | None = None,
    epoch_ms: int = NOON_MS,
    wall_error_ms: float = 0.0,
) -> AsyncIterator[Desk]:
    """A scheduler; its inbox is closed at the end, and that it ends then is checked."""
    send, inbox = trio.open_memory_channel[SchedulerMessage](math.inf)
    send_job, jobs = trio.open_memory_channel[Job](spec.max_concurrent * len(Pool))
    send_page, pages = trio.open_memory_channel[MergerMessage](math.inf)
    send_outcome, outcomes = trio.open_memory_channel[Outcome](math.inf)
    desk = Desk(send, jobs, pages, outcomes, store or FakeStore(), dict(tapes), epoch_ms)
    send_wanted, desk.wanted = trio.open_memory_channel[ArchiveJob](math.inf)
    send_read, reads = trio.open_memory_channel[ReaderMessage](math.inf)
    ports = SchedulerPorts(inbox, send_job, send_page, send_read, send_outcome, send_wanted)

    def wall_ms() -> float:
        return desk.server_ms + wall_error_ms

    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.read, reads)
        nursery.start_soon(run_scheduler, ports, spec, wall_ms, desk.statistics, desk.stop)
        yield desk
        desk.close()


def spec_for(*instruments: Instrument, **changed: object) -> RunSpec:
    values: dict[str, object] = {"max_concurrent": 3, "poll_s": POLL_S}
    return RunSpec(instruments or (BTC,), **(values | changed))  # type: ignore[arg-type]


def hold(
    store: FakeStore, tape: Tape, *, opened: bool = False, closed: bool = False, instrument: Instrument = BTC
) -> None:
    """Have a tape of one day on disk."""
    record = Certificate(day_of(tape.times[0]), (span_of(tape, 0, len(tape)),), opened, closed)
    store.hold(instrument, tape.frame, record)


# -- a cold start, and what it comes to


async def test_a_cold_start_asks_for_the_market_and_the_ends_of_the_window_first(autojump_clock: MockClock) -> None:
    """And for the window's beginning once an answer has said which day it is."""
    async with scheduling(spec_for(BTC, ETH, max_concurrent=9), {}) as desk:
        *others, describe = sorted(await desk.waiting_jobs(), key=lambda job: isinstance(job, DescribeMarket))
        assert describe == DescribeMarket(Market.SPOT, ("BTCUSDT", "ETHUSDT"))
        assert sorted(others, key=repr) == [FetchJob(BTC, Newest(0)), FetchJob(ETH, Newest(0))]
        desk.tapes = {BTC: Tape.even(5000), ETH: Tape.even(10)}
        begins = [FetchJob(each, query) for each in (BTC, ETH) for query in (Before(DAY_MS), Since(DAY_MS))]
        assert sorted(await desk.answered(), key=repr) == sorted(begins, key=repr)
        jobs = await desk.answered()
        pages = [Page(IdRange(n, n + 999)) for n in range(0, 4000, 1000)]
        last = Tail(4100, known_id=4999)
        queries = [job.query for job in jobs if isinstance(job, FetchJob)]
        assert [query for query in queries if query != Tail(0, known_id=9)] == [
            *pages,
            last,
            Page(IdRange(4000, 4099)),
        ]


async def test_a_cold_start_stores_everything_and_reports_the_outcome(autojump_clock: MockClock) -> None:
    tape = Tape.even(3500)
    async with scheduling(spec_for(), {BTC: tape}) as desk:
        await desk.work()
        assert desk.store.ids(BTC) == tape.ids
        outcome = await desk.outcome()
        assert outcome.complete
        assert (outcome.trades, outcome.cached, outcome.missing, outcome.reasons) == (3500, 0, (), ())
        # Exchange information, both ends, four pages, and the doubts of a silence since midnight.
        asked = 3 + 4 + ANSWERS_IN_SILENCE - 2
        assert (outcome.requests, outcome.weight) == (1 + asked, 20 + asked * 4)
        assert outcome.context is not None
        assert outcome.context.trades == 3500
        assert desk.store.contexts == [(BTC, DAY_MS, DAY_MS + MS_PER_DAY, 0.01)]
        assert desk.store.record(BTC, DAY).opened
        assert drained(desk.outcomes) == []


@pytest.mark.parametrize("max_concurrent", [1, 2, 5])
async def test_never_more_jobs_are_dealt_than_there_are_fetchers(
    max_concurrent: int, autojump_clock: MockClock
) -> None:
    spec = spec_for(BTC, ETH, max_concurrent=max_concurrent)
    async with scheduling(spec, {BTC: Tape.even(9000), ETH: Tape.even(9000)}) as desk:
        in_hand: list[Job] = []
        full = 0
        while jobs := [*in_hand, *await desk.waiting_jobs()]:
            assert len(jobs) <= max_concurrent
            full += len(jobs) == max_concurrent
            desk.send.send_nowait(desk.event_of(jobs[0]))
            in_hand = jobs[1:]
        assert full >= 10, "the fetchers were left idle"


async def test_instruments_take_turns_though_one_has_much_more_to_fetch(autojump_clock: MockClock) -> None:
    tapes = {BTC: Tape.even(20_000, step_ms=1), ETH: Tape.even(5000), SOL: Tape.even(5000)}
    async with scheduling(spec_for(BTC, ETH, SOL, max_concurrent=2), tapes) as desk:
        await desk.work()
        # SOL spends another pool, and has turns of its own.
        order = [job.instrument for job in desk.dealt if isinstance(job, FetchJob) and job.instrument != SOL]
        last_turn = max(n for n, instrument in enumerate(order) if instrument == ETH)
        for start in range(9, last_turn - 4):
            assert set(order[start : start + 4]) == {BTC, ETH}, f"someone waited too long from {start} on"
        assert desk.store.ids(BTC) == tapes[BTC].ids


async def test_an_instrument_without_trades_today_is_complete(autojump_clock: MockClock) -> None:
    async with scheduling(spec_for(), {BTC: Tape.even(5, start_ms=DAY_MS - 100)}) as desk:
        await desk.work()
        outcome = await desk.outcome()
        assert outcome.complete
        assert outcome.trades == 0
        assert desk.store.saves == []


async def test_figures_are_published_while_it_works(autojump_clock: MockClock) -> None:
    store, tape = FakeStore(), Tape.even(3500)
    hold(store, tape.head(500), opened=True)
    async with scheduling(spec_for(), {BTC: tape}, store) as desk:
        await desk.waiting_jobs()
        await trio.sleep(SHOWN_EVERY_S)
        figures = desk.statistics.value
        assert (figures.wanted, figures.fetched, figures.cached) == (0, 0, 500)
        desk.epoch_ms = tape.times[-1] + 1000
        for job in desk.dealt:
            desk.send.send_nowait(desk.event_of(job))
        await desk.work()
        figures = desk.statistics.value
        assert (figures.wanted, figures.fetched, figures.cached) == (3000, 3000, 500)
        assert figures.requests <= 8


# -- resuming


async def test_a_resumed_day_asks_for_what_follows_and_for_its_holes(autojump_clock: MockClock) -> None:
    store, tape = FakeStore(), Tape.even(3000)
    record = Certificate(DAY, (span_of(tape, 0, 700), span_of(tape, 900, 2500)), opened=True)
    store.hold(BTC, pl.concat([tape.frame[:700], tape.frame[900:2500]]), record)
    async with scheduling(spec_for(), {BTC: tape}, store, epoch_ms=tape.times[-1] + 1000) as desk:
        await desk.work()
        newest, page, tail = desk.queries
        assert newest == Newest(2499)
        assert page == Page(IdRange(700, 899))
        assert tail == Tail(2500, known_id=2999)
        assert store.ids(BTC) == tape.ids
        outcome = await desk.outcome()
        assert outcome.complete
        assert (outcome.trades, outcome.cached, outcome.downloaded) == (3000, 2300, 700)


@pytest.mark.parametrize("minutes", [0, 2])
async def test_a_long_silence_is_doubted_once(minutes: int, autojump_clock: MockClock) -> None:
    """Nothing new costs two questions at the start, one in each later round, and another once where it is too long."""
    store, tape = FakeStore(), Tape.even(100, start_ms=NOON_MS - minutes * 60_000 - 1000)
    hold(store, tape, opened=True)
    await store.remember(BTC, ShownEnd(agreed_id=99, agreed_ms=NOON_MS - 60_000))
    async with scheduling(spec_for(), {BTC: tape}, store) as desk:
        await desk.work()
        assert [type(query) for query in desk.queries] == [Newest, Tail]
        assert (await desk.outcome()).complete
        for _ in range(4):
            await trio.sleep(LONGEST_REST_S + 1)
            await desk.work()
        asked = Counter(type(query) for query in desk.queries[2:])
        assert (asked[Tail], asked[Newest]) == (4, 0 if minutes else 1)


async def test_an_end_that_nobody_agreed_on_is_proven_at_length_where_the_silence_is_too_long(
    autojump_clock: MockClock,
) -> None:
    """The rows may have come from the replica that answers again."""
    store, tape = FakeStore(), Tape.even(100, start_ms=NOON_MS - 121_000)
    hold(store, tape, opened=True)
    async with scheduling(spec_for(), {BTC: tape}, store) as desk:
        await desk.work()
        assert len(desk.queries) == ANSWERS_IN_SILENCE
        assert (await desk.outcome()).complete
        kept = await store.recall(BTC)
        assert kept is not None
        assert (kept.shown_id, kept.shown_ms, kept.agreed_id) == (99, tape.times[-1], 99)


async def test_a_trade_that_an_earlier_process_was_shown_is_missing_until_it_is_stored(
    autojump_clock: MockClock,
) -> None:
    """Although the replica that answers now knows nothing of it, and agrees with what is stored."""
    store, tape = FakeStore(), Tape.even(100, start_ms=NOON_MS - 1000)
    hold(store, tape, opened=True)
    await store.remember(BTC, ShownEnd(150, NOON_MS - 500, 99, NOON_MS - 60_000, NOON_MS - 500))
    async with scheduling(spec_for(), {BTC: tape}, store) as desk:
        await desk.work()
        outcome = await desk.outcome()
        assert outcome.exit_code == 1
        assert outcome.reasons == ("the exchange has shown id 150, and names id 99 as its newest",)
        assert len(desk.queries) <= MOST_BELOW_SHOWN + 2


async def test_two_later_trades_with_lower_ids_refute_a_trade_that_was_shown(autojump_clock: MockClock) -> None:
    """So that one lie about an id does not last."""
    store, tape = FakeStore(), Tape.even(100, start_ms=NOON_MS - 1000)
    hold(store, tape.head(50), opened=True)
    await store.remember(BTC, ShownEnd(150, NOON_MS - 61_000, 49, NOON_MS - 61_000))
    async with scheduling(spec_for(), {BTC: tape}, store) as desk:
        await desk.work()
        assert (await desk.outcome()).complete
        assert len(desk.queries) <= 4


async def test_a_cache_of_another_exchange_is_found_out_by_its_ids(autojump_clock: MockClock) -> None:
    store = FakeStore()
    hold(store, Tape.even(100, start_ms=NOON_MS - 3_600_000, first_id=5000), opened=True)
    async with scheduling(spec_for(), {BTC: Tape.even(10, start_ms=NOON_MS - 60_000)}, store) as desk:
        await desk.work()
        outcome = await desk.outcome()
        assert not outcome.complete
        assert "another sequence of ids" in outcome.reasons[0]
        assert outcome.exit_code == 1


async def test_a_closed_window_loads_its_days_and_ends_where_it_ends(autojump_clock: MockClock) -> None:
    window = TimeSpan(DAY_MS - MS_PER_DAY + 5000, DAY_MS + 5000)
    tape = Tape.even(3000, start_ms=DAY_MS - 10_000)
    async with scheduling(spec_for(window=window, once=True), {BTC: tape}) as desk:
        await desk.work()
        assert set(desk.store.ids(BTC)) == tape.ids_in(window)
        assert (await desk.outcome()).complete
        days = [(window.start_ms, DAY_MS), (DAY_MS, window.stop_ms)]
        assert desk.store.contexts == [(BTC, *days[-1], 0.01)]
        assert desk.stop.is_set()


async def test_the_trades_of_an_outcome_are_those_of_its_window(autojump_clock: MockClock) -> None:
    """The days on disk hold more than the ten seconds that are asked for."""
    store, tape = FakeStore(), Tape.even(3000)
    hold(store, tape, opened=True)
    window = TimeSpan(DAY_MS + 10_000, DAY_MS + 20_000)
    async with scheduling(spec_for(window=window, once=True), {BTC: tape}, store) as desk:
        await desk.work()
        outcome = await desk.outcome()
        assert outcome.context is not None
        assert outcome.context.trades == 1000
        assert outcome.trades == 1000


# -- proof


async def test_days_before_today_are_sealed_and_today_is_opened(autojump_clock: MockClock) -> None:
    """Its first id by its neighbour, the midnight by the days that adjoin: a second flush renews what was saved."""
    tape = Tape.even(2000, start_ms=DAY_MS - 10_000)
    async with scheduling(spec_for(days=1), {BTC: tape}) as desk:
        await desk.work()
        assert desk.store.record(BTC, YESTERDAY).sealed
        assert desk.store.record(BTC, DAY).opened
        assert not desk.store.record(BTC, DAY).closed
        assert desk.flushes == [Flush(), Flush(frozenset({YESTERDAY, DAY}))]


async def test_a_day_whose_file_says_less_than_is_proven_is_renewed(autojump_clock: MockClock) -> None:
    """Yesterday is stored whole and its file knows of neither end; only today has new trades."""
    store, tape = FakeStore(), Tape.even(2000, start_ms=DAY_MS - 10_000)
    hold(store, tape.head(1000))
    async with scheduling(spec_for(days=1), {BTC: tape}, store) as desk:
        await desk.work()
        assert store.record(BTC, YESTERDAY).sealed
        assert YESTERDAY in desk.flushes[-1].renew


async def test_after_a_first_round_the_store_is_asked_to_write_what_waits(autojump_clock: MockClock) -> None:
    store, tape = FakeStore(), Tape.even(100, start_ms=NOON_MS - 10_000)
    hold(store, tape, opened=True)
    async with scheduling(spec_for(), {BTC: tape}, store) as desk:
        await desk.work()
        assert desk.flushes == [Flush(), Flush(frozenset({DAY}))]
        assert [saved[:3] for saved in store.saves] == [(BTC, DAY, 0)]


async def test_a_window_that_begins_within_a_day_proves_no_day_start(autojump_clock: MockClock) -> None:
    window = TimeSpan(DAY_MS + 5000)
    async with scheduling(spec_for(window=window), {BTC: Tape.even(2000, first_id=7)}) as desk:
        await desk.work()
        assert desk.starts[BTC] == set()
        assert not desk.store.record(BTC, DAY).opened


# -- failures


async def test_one_unknown_symbol_among_several_spoils_only_its_own_sync(autojump_clock: MockClock) -> None:
    async with scheduling(spec_for(BTC, ETH, once=True), {BTC: Tape.even(50)}) as desk:
        await desk.work()
        descriptions = [job.symbols for job in desk.dealt if isinstance(job, DescribeMarket)]
        assert descriptions == [("BTCUSDT", "ETHUSDT"), ("BTCUSDT",), ("ETHUSDT",), ("ETHUSDT",)]
        outcomes = {outcome.instrument: outcome for outcome in drained(desk.outcomes)}
        assert outcomes[BTC].complete
        assert outcomes[ETH].exit_code == 78
        assert outcomes[ETH].reasons == ("the exchange lists no such symbol (-1121 Invalid symbol.)",)
        assert outcomes[ETH].context is None
        assert desk.stop.is_set()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TransientError("no route"), 75),
        (RateLimited("418", retry_after_s=7200, banned=True), 75),
        (RequestRejected("404: no JSON", status=404, code=None), 78),
        (RequestRejected("-4166 Search window", status=400, code=-4166), 1),
        (UnexpectedAnswer("holes"), 1),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("where", ["trades", "exchangeInfo", "both"])
async def test_a_sync_that_fails_ends_its_round_with_the_reason(
    error: ExchangeError, code: int, where: str, autojump_clock: MockClock
) -> None:
    async with scheduling(spec_for(once=True), {BTC: Tape.even(3000)}) as desk:
        if where in {"trades", "both"}:
            desk.errors[BTC] = error
        if where in {"exchangeInfo", "both"}:
            desk.info_errors[Market.SPOT] = error
        await desk.work()
        outcome = await desk.outcome()
        assert not outcome.complete
        assert str(error) in outcome.reasons
        assert outcome.exit_code == code
        assert desk.stop.is_set()


async def test_what_others_got_before_a_failure_is_saved(autojump_clock: MockClock) -> None:
    """A ban in the middle: the answers in flight count, then the round is flushed and ends."""
    async with scheduling(spec_for(max_concurrent=4), {BTC: Tape.even(9000)}) as desk:
        await desk.waiting_jobs()
        await desk.answered()
        lost, *others = await desk.answered()
        assert len(others) == 3
        desk.send.send_nowait(JobFailed(lost, RateLimited("418", retry_after_s=9e9, banned=True), desk.spent()))
        assert await desk.waiting_jobs() == [], "asked on after a ban"
        assert not any(map(is_flush, drained(desk.pages)))
        for job in others:
            desk.send.send_nowait(desk.event_of(job))
        await desk.work()
        outcome = await desk.outcome()
        assert outcome.trades == desk.store.record(BTC, DAY).rows == 3000
        assert outcome.missing == (IdRange(0, 999), IdRange(4000, 8999))
        assert outcome.exit_code == 75


async def test_after_a_failure_the_next_round_begins_where_it_was(autojump_clock: MockClock) -> None:
    tape = Tape.even(9000)
    async with scheduling(spec_for(), {BTC: tape}) as desk:
        desk.errors[BTC] = desk.info_errors[Market.SPOT] = TransientError("no route")
        await desk.work()
        assert (await desk.outcome()).exit_code == 75
        desk.errors.clear()
        desk.info_errors.clear()
        await trio.sleep(POLL_S + 0.001)
        desk.dealt.clear()
        await desk.work()
        assert desk.dealt[0] == DescribeMarket(Market.SPOT, ("BTCUSDT",))
        assert desk.store.ids(BTC) == tape.ids
        assert drained(desk.outcomes) == [], "an outcome is reported after the first round only"


async def test_a_market_that_is_described_is_not_described_again(autojump_clock: MockClock) -> None:
    async with scheduling(spec_for(), {BTC: Tape.even(50)}) as desk:
        desk.errors[BTC] = TransientError("no route")
        await desk.work()
        await trio.sleep(POLL_S + 0.001)
        await desk.work()
        assert len([job for job in desk.dealt if isinstance(job, DescribeMarket)]) == 1


async def test_a_day_gets_sealed_though_its_first_round_failed(autojump_clock: MockClock) -> None:
    """The market info fails after the head was answered and before its neighbour was: the neighbour must be asked for
    later."""
    async with scheduling(spec_for(max_concurrent=2), {BTC: Tape.even(50)}) as desk:
        describe, head = await desk.waiting_jobs()
        desk.send.send_nowait(JobFailed(describe, TransientError("503"), desk.spent()))
        desk.send.send_nowait(desk.event_of(head))
        await desk.work()
        await trio.sleep(POLL_S + 0.001)
        await desk.work()
        assert desk.store.record(BTC, DAY).opened


async def test_ids_that_the_exchange_does_not_have_make_it_incomplete(autojump_clock: MockClock) -> None:
    tape = Tape.of(0, range(DAY_MS, DAY_MS + 3000), absent={1500})
    async with scheduling(spec_for(once=True), {BTC: tape}) as desk:
        await desk.work()
        outcome = await desk.outcome()
        assert not outcome.complete
        assert outcome.reasons == ("ids 1500 to 1500 are missing",)
        assert outcome.exit_code == 1
        assert desk.store.ids(BTC) == tape.ids


async def test_conflicts_make_it_incomplete(autojump_clock: MockClock) -> None:
    async with scheduling(spec_for(), {BTC: Tape.even(50)}) as desk:
        desk.conflicts = 3
        await desk.work()
        outcome = await desk.outcome()
        assert not outcome.complete
        assert outcome.exit_code == 1
        assert "conflict with others under the same id" in outcome.reasons[0]


@pytest.mark.parametrize("operation", ["open", "load", "context"])
async def test_a_store_that_fails_ends_the_scheduler(operation: str, autojump_clock: MockClock) -> None:
    store = FakeStore()
    hold(store, Tape.even(10))
    store.fails[operation] = StoreError("disk full")
    with pytest.RaisesGroup(pytest.RaisesExc(StoreError, match="disk full")):
        async with scheduling(spec_for(), {BTC: Tape.even(50)}, store) as desk:
            await desk.work()


# -- rounds


async def test_rounds_follow_each_other_at_the_poll_interval_and_top_up(autojump_clock: MockClock) -> None:
    """A trade every 10 s up to ten minutes after the start."""
    tape = Tape.even(200, start_ms=NOON_MS - 1_400_000, step_ms=10_000)
    async with scheduling(spec_for(), {BTC: tape}) as desk:
        await desk.work()
        for n in range(1, 5):
            known = desk.store.record(BTC, DAY).last_id
            await trio.sleep_until(n * POLL_S - 0.001)
            assert await desk.waiting_jobs() == []
            await trio.sleep_until(n * POLL_S)
            tail = Tail(known, known_id=known, overlaps=True)
            assert await desk.waiting_jobs() == [FetchJob(BTC, tail, rank=Rank.TOP_UP)]
            desk.send.send_nowait(desk.event_of(desk.dealt[-1]))
            await desk.work()
            assert desk.store.ids(BTC) == tape.until(desk.server_ms).ids
        assert len(drained(desk.outcomes)) == 1


async def test_the_poll_interval_counts_from_the_end_of_the_round(autojump_clock: MockClock) -> None:
    async with scheduling(spec_for(), {BTC: Tape.even(10)}) as desk:
        await trio.sleep(100)
        await desk.work()
        await trio.sleep_until(100 + POLL_S - 0.001)
        assert await desk.waiting_jobs() == []
        await trio.sleep_until(100 + POLL_S)
        assert len(await desk.waiting_jobs()) == 1


async def test_once_ends_only_when_every_instrument_has_ended_its_round(autojump_clock: MockClock) -> None:
    tapes = {BTC: Tape.even(10), ETH: Tape.even(10)}
    spec = spec_for(BTC, ETH, once=True, max_concurrent=6)
    async with scheduling(spec, tapes, epoch_ms=DAY_MS + 1000) as desk:
        held_back: list[Job] = []
        while jobs := await desk.waiting_jobs():
            for job in jobs:
                if isinstance(job, FetchJob) and job.instrument == ETH:
                    held_back.append(job)
                else:
                    desk.send.send_nowait(desk.event_of(job))
        await desk.work()
        assert (await desk.outcome()).instrument == BTC
        assert not desk.stop.is_set()
        for job in held_back:
            desk.send.send_nowait(desk.event_of(job))
        await desk.work()
        assert (await desk.outcome()).instrument == ETH
        assert desk.stop.is_set()


async def test_a_daemon_does_not_stop_by_itself(autojump_clock: MockClock) -> None:
    async with scheduling(spec_for(), {BTC: Tape.even(10)}) as desk:
        for _ in range(5):
            await desk.work()
            await trio.sleep(POLL_S + 0.001)
        assert not desk.stop.is_set()


# -- days


async def test_old_days_are_deleted_at_the_start_and_when_the_day_turns(autojump_clock: MockClock) -> None:
    store = FakeStore()
    for back in (1, 2, 3):
        start_ms = DAY_MS - back * MS_PER_DAY
        hold(store, Tape.even(1, start_ms=start_ms, first_id=100 - back), opened=True, closed=True)
    tape = Tape.even(900, start_ms=DAY_MS + MS_PER_DAY - 60_000, step_ms=200, first_id=100)
    spec = spec_for(keep_days=2)
    async with scheduling(spec, {BTC: tape}, store, epoch_ms=DAY_MS + MS_PER_DAY - 45_000) as desk:
        await desk.work()
        assert [day for _, day in store.deleted] == [DAY - timedelta(days=3)]
        with capture_logs() as logs:
            for _ in range(3):
                await trio.sleep(POLL_S + 0.001)
                await desk.work()
        assert [day for _, day in store.deleted] == [DAY - timedelta(days=3), DAY - timedelta(days=2)]
        assert [line["day"] for line in logs if line["event"] == "day_turned"] == [NEXT.isoformat()]
        assert store.record(BTC, DAY).sealed
        assert store.record(BTC, NEXT).opened


async def test_without_keep_days_nothing_is_deleted(autojump_clock: MockClock) -> None:
    store = FakeStore()
    hold(store, Tape.even(1, start_ms=DAY_MS - 400 * MS_PER_DAY))
    async with scheduling(spec_for(), {BTC: Tape.even(10)}, store) as desk:
        await desk.work()
        assert store.deleted == []


async def test_a_day_that_was_deleted_is_not_written_again(autojump_clock: MockClock) -> None:
    """A quiet instrument: no trade for a day and more. Its last day is deleted before the next trade proves its end."""
    store = FakeStore()
    first = Tape.even(10)
    later_ms = DAY_MS + 2 * MS_PER_DAY + 60_000
    tape = Tape(merge(first.frame, trades_at(10, later_ms, later_ms + 1)).trades)
    async with scheduling(spec_for(keep_days=1, poll_s=3600.0), {BTC: tape}, store) as desk:
        while desk.server_ms < later_ms + 4 * 3_600_000:
            await desk.work()
            await trio.sleep(3600.001)
        assert store.deleted == [(BTC, DAY)]
        renewed = [day for flush in desk.flushes for day in flush.renew if day == DAY]
        assert renewed == [DAY], "after the first round only"
        assert await RamStore.days(store, BTC) == [day_of(later_ms)]


@pytest.mark.parametrize("days_off", [-1, 1, 400])
async def test_the_day_is_the_exchanges_whatever_the_host_says(days_off: int, autojump_clock: MockClock) -> None:
    """The first answer shows it: what is on disk is read again, and the answers to older questions tell nothing."""
    tape, store = Tape.even(3000, start_ms=DAY_MS - 5000), FakeStore()
    hold(store, Tape(tape.frame[500:800]), opened=True)
    with capture_logs() as logs:
        async with scheduling(spec_for(), {BTC: tape}, store, wall_error_ms=days_off * MS_PER_DAY) as desk:
            await desk.work()
            assert set(desk.store.ids(BTC)) >= {i for i in tape.ids if i >= 500}
            outcome = await desk.outcome()
            assert outcome.complete
            assert outcome.context is not None
            assert outcome.trades == outcome.context.trades == 2500
            assert drained(desk.outcomes) == []
    lines = [line for line in logs if line["event"] == "host_clock_wrong"]
    assert [line["server_day"] for line in lines] == [DAY.isoformat()]


async def test_a_host_that_is_right_reads_its_days_once(autojump_clock: MockClock) -> None:
    store, tape = FakeStore(), Tape.even(10)
    hold(store, tape.head(5))
    async with scheduling(spec_for(), {BTC: tape}, store) as desk:
        await desk.work()
        assert desk.store.loaded == [(BTC, DAY)]


async def test_a_flush_of_a_plan_for_the_wrong_day_ends_no_round(autojump_clock: MockClock) -> None:
    """One instrument has failed and is flushed when the other's answer shows that the host's clock is wrong."""
    tapes = {BTC: Tape.even(50), ETH: Tape.even(50)}
    spec = spec_for(BTC, ETH, once=True, max_concurrent=9)
    async with scheduling(spec, tapes, wall_error_ms=-MS_PER_DAY) as desk:
        jobs = await desk.waiting_jobs()
        for job in jobs:
            if isinstance(job, FetchJob) and job.instrument == BTC:
                desk.send.send_nowait(JobFailed(job, TransientError("no route"), Spent()))
        await wait_all_tasks_blocked()
        flushed = drained(desk.pages)
        assert SyncAction(BTC, Flush()) in flushed
        # Two answers agree on another day than the host's.
        for job in jobs:
            if not isinstance(job, FetchJob) or job.instrument == ETH:
                desk.send.send_nowait(desk.event_of(job))
        await wait_all_tasks_blocked()
        for message in flushed:
            await desk.merge_and_write(message)
        await desk.work()
        assert [outcome.complete for outcome in drained(desk.outcomes)] == [True, True]


@pytest.mark.parametrize("once", [True, False])
async def test_a_daemon_whose_every_instrument_is_hopeless_stops(once: bool, autojump_clock: MockClock) -> None:
    """What the operator must change does not change by asking again every half minute."""
    async with scheduling(spec_for(BTC, ETH, once=once), {}) as desk:
        await desk.work()
        assert [outcome.exit_code for outcome in drained(desk.outcomes)] == [78, 78]
        assert desk.stop.is_set()


async def test_a_daemon_with_one_good_instrument_goes_on(autojump_clock: MockClock) -> None:
    async with scheduling(spec_for(BTC, ETH), {BTC: Tape.even(10), ETH: Tape.even(10)}) as desk:
        desk.errors[ETH] = RequestRejected("451", status=451, code=0)
        await desk.work()
        assert sorted(outcome.exit_code for outcome in drained(desk.outcomes)) == [0, 78]
        assert not desk.stop.is_set()


async def test_without_an_answer_for_the_neighbour_the_window_is_complete(autojump_clock: MockClock) -> None:
    """Futures look back only so far: the trade before the window may be out of reach when the window is not."""
    async with scheduling(spec_for(), {BTC: Tape.even(50, first_id=7)}) as desk:
        while jobs := await desk.waiting_jobs():
            for job in jobs:
                too_old = RequestRejected("-4166 Search window", status=400, code=-4166)
                is_before = isinstance(job, FetchJob) and isinstance(job.query, Before)
                desk.send.send_nowait(JobFailed(job, too_old, desk.spent()) if is_before else desk.event_of(job))
        await desk.work()
        assert (await desk.outcome()).complete
        assert not desk.store.record(BTC, DAY).opened


# -- stopping


async def test_after_a_stop_nothing_is_dealt_and_what_comes_in_is_booked(autojump_clock: MockClock) -> None:
    tapes = {BTC: Tape.even(3000), ETH: Tape.even(10)}
    async with scheduling(spec_for(BTC, ETH, max_concurrent=9), tapes) as desk:
        await desk.waiting_jobs()
        await desk.answered()
        others = await desk.answered()
        btc = next(job for job in others if isinstance(job, FetchJob) and job.query == Page(IdRange(0, 999)))
        desk.send.send_nowait(StopRequested())
        assert await desk.waiting_jobs() == []
        assert has_ended(desk.jobs)
        assert has_ended(desk.pages)
        desk.send.send_nowait(desk.event_of(btc))
        for dropped in others:
            if dropped != btc:
                desk.send.send_nowait(JobDropped(dropped))
        await wait_all_tasks_blocked()
        saved = await desk.store.save(Addition(BTC, DAY, desk.gathered[BTC][-1]))
        desk.send.send_nowait(SyncEvent(BTC, DayStored(saved.record)))
        desk.send.send_nowait(SyncEvent(BTC, Flushed()))
        await wait_all_tasks_blocked()
        assert desk.statistics.value.fetched == 1000
        desk.close()
        outcomes = {outcome.instrument: outcome for outcome in (await desk.outcome(), await desk.outcome())}
        assert [outcomes[each].trades for each in (BTC, ETH)] == [1000, 0]
        assert not any(outcome.complete for outcome in outcomes.values())


@pytest.mark.parametrize("answered", [False, True])
async def test_a_sync_that_a_stop_cut_short_says_so(answered: bool, autojump_clock: MockClock) -> None:
    """Exit code 1 comes with a reason."""
    async with scheduling(spec_for(), {BTC: Tape.even(3000)}) as desk:
        jobs = await desk.waiting_jobs()
        desk.send.send_nowait(StopRequested())
        for job in jobs:
            desk.send.send_nowait(desk.event_of(job) if answered else JobDropped(job))
        await wait_all_tasks_blocked()
        desk.close()
        outcome = await desk.outcome()
        assert not outcome.complete
        assert outcome.exit_code == 1
        assert outcome.reasons


async def test_a_stop_after_the_first_round_tells_no_second_outcome(autojump_clock: MockClock) -> None:
    async with scheduling(spec_for(), {BTC: Tape.even(30)}) as desk:
        await desk.work()
        await desk.outcome()
        desk.send.send_nowait(StopRequested())
        await trio.sleep(10 * POLL_S)
        assert await desk.waiting_jobs() == [], "a new round after the stop"
        desk.close()
        with pytest.raises(trio.EndOfChannel):
            await desk.outcomes.receive()


async def test_a_round_that_is_being_saved_when_it_stops_ends_there(autojump_clock: MockClock) -> None:
    async with scheduling(spec_for(), {BTC: Tape.even(30)}) as desk:
        while jobs := await desk.waiting_jobs():
            for job in jobs:
                desk.send.send_nowait(desk.event_of(job))
        messages = drained(desk.pages)
        assert SyncAction(BTC, Flush()) in messages
        desk.send.send_nowait(StopRequested())
        for message in messages:
            await desk.merge_and_write(message)
        await wait_all_tasks_blocked()
        desk.close()
        outcome = await desk.outcome()
        assert outcome.complete
        assert outcome.trades == 30


async def test_it_closes_all_its_ends(autojump_clock: MockClock) -> None:
    async with scheduling(spec_for(), {BTC: Tape.even(30)}) as desk:
        await desk.waiting_jobs()
        desk.close()
        await wait_all_tasks_blocked()
        assert is_closed(desk.send)
        assert has_ended(desk.jobs)
        assert has_ended(desk.pages)


async def test_the_log_tells_the_story(autojump_clock: MockClock) -> None:
    store, tape = FakeStore(), Tape.even(3000, step_ms=1000)
    hold(store, tape.head(1000), opened=True)
    with capture_logs() as logs:
        async with scheduling(spec_for(BTC, ETH, once=True), {BTC: tape}, store) as desk:
            await desk.work()
    by_event = {line["event"]: line for line in logs if line.get("instrument") == "spot:BTCUSDT"}
    assert by_event["backfill_started"]["strategy"] == "resume"
    assert by_event["gap_found"]["trades"] == 1000
    assert by_event["gap_found"]["missing_ids"] == 2000
    assert by_event["gap_found"]["gap_hours"] == pytest.approx((NOON_MS - DAY_MS - 999_000) / 3_600_000, abs=0.01)
    assert by_event["fetch_planned"]["trades"] == 2000
    assert by_event["fetch_planned"]["chunks"] == 2
    assert by_event["backfill_completed"]["trades"] == 3000
    assert by_event["backfill_completed"]["vwap"] > 0
    other = {line["event"]: line for line in logs if line.get("instrument") == "spot:ETHUSDT"}
    assert other["cache_missed"]["day"] == DAY.isoformat()
    assert other["backfill_started"]["strategy"] == "full"
    assert other["backfill_incomplete"]["reasons"]


async def test_without_a_cache_no_word_of_misses(autojump_clock: MockClock) -> None:
    with capture_logs() as logs:
        async with scheduling(spec_for(uncached=True), {BTC: Tape.even(10)}) as desk:
            await desk.work()
    assert "cache_missed" not in {line["event"] for line in logs}
    assert [line["strategy"] for line in logs if line["event"] == "backfill_started"] == ["uncached"]


# -- past days from the archive

TWO_BEFORE = DAY - timedelta(days=2)
PAST = (TWO_BEFORE, YESTERDAY)


def three_days(rows: int = 300) -> Tape:
    """So many trades in each of the two days before DAY, and by noon of it half as many; one before them all."""
    start_ms, step_ms = DAY_MS - 2 * MS_PER_DAY, MS_PER_DAY // rows
    return Tape.of(4, [start_ms - 1, *range(start_ms, NOON_MS, step_ms)])


def day_tape(tape: Tape, day: date) -> Tape:
    """What a tape has of a day."""
    return Tape(tape.frame.filter(pl.col("T") // MS_PER_DAY == (day - day_of(0)).days))


def deliver(desk: Desk, tape: Tape, day: date, *, opened: bool = True, instrument: Instrument = BTC) -> None:
    """Take these trades of a day from the archive: its end is proven by the day that follows."""
    whole = day_tape(desk.tapes[instrument], day)
    hold(desk.store, tape, opened=opened, closed=tape.ids[-1] == whole.ids[-1], instrument=instrument)
    record = desk.store.record(instrument, day)
    sources = tuple(Sourced(Source("archive"), span.ids) for span in record.spans)
    desk.store.hold(instrument, tape.frame, replace(record, sources=sources))
    desk.send.send_nowait(SyncEvent(instrument, ArchiveDayEnded(day)))


def archive_spec(*instruments: Instrument, **changed: object) -> RunSpec:
    return spec_for(*instruments, **({"days": 2, "uses_archive": True} | changed))


async def test_today_is_asked_for_while_the_archive_works(autojump_clock: MockClock) -> None:
    tape = three_days()
    async with scheduling(archive_spec(), {BTC: tape}) as desk:
        await desk.work()
        assert desk.archived() == [(BTC, PAST)]
        assert desk.store.ids(BTC) == day_tape(tape, DAY).ids
        assert [type(query) for query in desk.queries[:3]] == [Newest, Before, Since], "where the oldest day begins"
        assert Before(DAY_MS) not in desk.queries, "yesterday's last trade would be sent twice"
        assert desk.statistics.value.archive_days == 2
        assert drained(desk.outcomes) == [], "it is not over"
        assert not desk.stop.is_set()


async def test_when_the_last_day_has_come_the_whole_window_is_proven(autojump_clock: MockClock) -> None:
    tape = three_days()
    async with scheduling(archive_spec(once=True), {BTC: tape}) as desk:
        await desk.work()
        deliver(desk, day_tape(tape, TWO_BEFORE), TWO_BEFORE, opened=False)
        await desk.work()
        assert drained(desk.outcomes) == []
        asked = len(desk.queries)
        deliver(desk, day_tape(tape, YESTERDAY), YESTERDAY)
        await desk.work()
        outcome = await desk.outcome()
        assert outcome.complete
        assert outcome.trades == len(tape) - 1
        assert [type(query) for query in desk.queries[asked:]] == [Before, Newest, Tail]
        assert all(desk.store.record(BTC, day).sealed for day in PAST)
        assert desk.stop.is_set()
        assert desk.archived() == [(BTC, PAST)]


async def test_a_day_that_comes_while_today_is_being_saved_does_not_end_the_round(autojump_clock: MockClock) -> None:
    """A single run stopped there, its past days unasked and its outcome that of today alone."""
    tape = three_days()
    async with scheduling(archive_spec(once=True), {BTC: tape}) as desk:
        messages: list[MergerMessage] = []
        while jobs := await desk.waiting_jobs():
            for job in jobs:
                desk.send.send_nowait(desk.event_of(job))
            messages += drained(desk.pages)
        messages += drained(desk.pages)
        assert is_flush(messages[-1])
        deliver(desk, day_tape(tape, TWO_BEFORE).head(100), TWO_BEFORE)
        deliver(desk, day_tape(tape, YESTERDAY), YESTERDAY)
        await wait_all_tasks_blocked()
        for message in messages:
            await desk.merge_and_write(message)
        await wait_all_tasks_blocked()
        assert drained(desk.outcomes) == []
        assert not desk.stop.is_set()
        await desk.work()
        assert (await desk.outcome()).trades == len(tape) - 1
        assert desk.store.ids(BTC) == tape.ids[1:]


async def test_what_the_archive_lacks_comes_from_rest_and_the_archive_is_not_asked_again(
    autojump_clock: MockClock,
) -> None:
    """A cut day, and one that it refuses; neither is worth another download, however much is missing."""
    tape = three_days()
    async with scheduling(archive_spec(once=True), {BTC: tape}) as desk:
        await desk.work()
        deliver(desk, day_tape(tape, TWO_BEFORE).head(10), TWO_BEFORE, opened=False)
        desk.send.send_nowait(SyncEvent(BTC, ArchiveDayEnded(YESTERDAY, refusal="it is not published yet")))
        await desk.work()
        assert (await desk.outcome()).complete
        assert desk.store.ids(BTC) == tape.ids[1:]
        assert desk.archived() == [(BTC, PAST)]


async def test_after_three_hours_the_archive_is_asked_again_for_days_that_are_not_complete(
    autojump_clock: MockClock,
) -> None:
    """Yesterday is out of REST's reach, and published in the morning: it is not given up."""
    tape = three_days()
    async with scheduling(archive_spec(SOL, days=1, poll_s=1800.0), {SOL: tape}) as desk:
        desk.too_old_ms = DAY_MS
        await desk.work()
        assert desk.archived() == [(SOL, (YESTERDAY,))]
        desk.send.send_nowait(SyncEvent(SOL, ArchiveDayEnded(YESTERDAY, refusal="it is not published yet")))
        await desk.work()
        outcome = await desk.outcome()
        assert not outcome.complete
        assert "the exchange answers nothing of before 2025-11-07" in outcome.reasons[-1]
        asked_again_at: list[float] = []
        for _ in range(7):
            await trio.sleep(1801)
            await desk.work()
            asked_again_at += [trio.current_time() for _ in drained(desk.wanted)]
        (again_at,) = asked_again_at
        assert again_at == pytest.approx(3 * 3600, rel=0.1)
        deliver(desk, day_tape(tape, YESTERDAY), YESTERDAY, instrument=SOL)
        await desk.work()
        assert desk.store.ids(SOL) == day_tape(tape, YESTERDAY).ids + day_tape(tape, DAY).ids
        assert desk.store.record(SOL, YESTERDAY).sealed
        assert desk.statistics.value.complete == 1


async def test_other_specs_while_the_archive_works_ask_for_nothing_twice(autojump_clock: MockClock) -> None:
    """A reload in the archive phase; then one with a day more, and one without the instrument."""
    tape = three_days()
    async with scheduling(archive_spec(BTC, ETH), {BTC: tape, ETH: tape}) as desk:
        await desk.work()
        assert desk.archived() == [(each, PAST) for each in (BTC, ETH)]
        desk.send.send_nowait(SpecChanged(archive_spec(BTC, ETH)))
        await desk.work()
        assert desk.archived() == []
        desk.send.send_nowait(SpecChanged(archive_spec(BTC, ETH, days=3)))
        await desk.work()
        assert desk.archived() == [(each, (DAY - timedelta(days=3),)) for each in (BTC, ETH)]
        desk.send.send_nowait(SpecChanged(archive_spec(BTC, days=3)))
        await desk.work()
        for day in (DAY - timedelta(days=3), *PAST):
            for instrument in (BTC, ETH):
                desk.send.send_nowait(SyncEvent(instrument, ArchiveDayEnded(day, refusal="it is not published yet")))
        await desk.work()
        assert desk.archived() == []
        assert (await desk.outcome()).instrument == BTC
        assert desk.store.ids(BTC) == tape.ids
        assert desk.statistics.value.instruments == 1
        assert desk.store.left == [ETH], "the store keeps nothing for its next rewrite"


async def test_a_stop_while_the_archive_works_asks_it_for_nothing_more(autojump_clock: MockClock) -> None:
    async with scheduling(archive_spec(), {BTC: three_days()}) as desk:
        await desk.work()
        desk.send.send_nowait(StopRequested())
        await wait_all_tasks_blocked()
        assert desk.archived() == [(BTC, PAST)]
        assert has_ended(desk.wanted)
        desk.send.send_nowait(SyncEvent(BTC, ArchiveDayEnded(TWO_BEFORE, refusal="it is not published yet")))
    assert not (await desk.outcome()).complete


async def test_ids_that_are_passed_over_get_their_second_look_from_the_running_plan(autojump_clock: MockClock) -> None:
    """Suspected, left alone, asked for again after two hours, and then certified: the day is sealed."""
    tape = three_days()
    gap = Tape(tape.frame.filter(~pl.col("a").is_between(50, 52)))
    async with scheduling(spec_for(days=2, poll_s=1800.0), {BTC: gap}) as desk:
        await desk.work()
        (suspicion,) = desk.store.record(BTC, TWO_BEFORE).suspected
        assert suspicion.ids == IdRange(50, 52)
        assert (await desk.outcome()).missing == (IdRange(50, 52),)
        looks: list[float] = []
        for _ in range(6):
            asked = len(desk.queries)
            await trio.sleep(1801)
            await desk.work()
            if any(isinstance(each, Page) for each in desk.queries[asked:]):
                looks.append(trio.current_time())
        (look_at,) = looks
        assert look_at == pytest.approx(2 * 3600, rel=0.26)
        assert look_at >= 2 * 3600
        record = desk.store.record(BTC, TWO_BEFORE)
        assert (record.absent, record.suspected, record.sealed) == ((IdRange(50, 52),), (), True)
        assert desk.statistics.value.complete == 1


@pytest.mark.parametrize("host_error_h", [-20, -3, 0, 4, 9])
@pytest.mark.parametrize("hours_ago", [1, 3])
async def test_only_the_exchanges_time_ripens_a_suspicion(
    host_error_h: int, hours_ago: int, autojump_clock: MockClock
) -> None:
    """One start, whatever the host's clock says: looked at again from two hours on by the exchange's time."""
    tape = three_days()
    gap, store = Tape(tape.frame.filter(~pl.col("a").is_between(50, 52))), FakeStore()
    async with scheduling(spec_for(days=2), {BTC: gap}, store) as desk:
        await desk.work()
    epoch_ms = NOON_MS + hours_ago * 3_600_000 + 1000
    spec = spec_for(days=2, once=True)
    async with scheduling(spec, {BTC: gap}, store, epoch_ms, wall_error_ms=host_error_h * 3_600_000) as desk:
        await desk.work()
        asked = [each for each in desk.queries if isinstance(each, Page)]
        assert bool(asked) == (hours_ago > 2)
        assert store.record(BTC, TWO_BEFORE).sealed == (hours_ago > 2)


async def test_over_three_midnights_the_plan_is_always_of_today_and_days_before_it(autojump_clock: MockClock) -> None:
    """Each midnight the window begins a day later, without a restart, and no sooner than the day before is sealed."""
    tape = Tape.even(8 * 24 * 12, start_ms=DAY_MS - 2 * MS_PER_DAY, step_ms=300_000)
    with capture_logs() as logs:
        async with scheduling(spec_for(days=1, poll_s=600.0), {BTC: tape}) as desk:
            await desk.work()
            for night in range(1, 4):
                while desk.server_ms < DAY_MS + night * MS_PER_DAY + 3 * 3_600_000:
                    await trio.sleep(600)
                    await desk.work()
                starts = [line["start"][:10] for line in logs if line["event"] == "backfill_started"]
                assert starts[-1] == (DAY + timedelta(days=night - 1)).isoformat()
                assert len(starts) == night + 1
            kept = [day for day in await RamStore.days(desk.store, BTC) if day != DAY + timedelta(days=3)]
            assert all(desk.store.record(BTC, day).sealed for day in kept)
            assert desk.store.ids(BTC) == list(range(desk.store.ids(BTC)[0], desk.store.ids(BTC)[-1] + 1))


@pytest.mark.parametrize("wrong", [{4}, {4, 5, 6}, set(range(4, 40))])
async def test_no_day_is_deleted_by_a_date_that_the_host_does_not_confirm(
    wrong: set[int], autojump_clock: MockClock
) -> None:
    """One answer, three, or all answers of twenty minutes are stamped forty days ahead."""
    store = FakeStore()
    for back in (1, 2):
        hold(store, Tape.even(10, start_ms=DAY_MS - back * MS_PER_DAY, first_id=100 - 20 * back), opened=True)
    tape = Tape.even(60 * 24 * 60, first_id=90, step_ms=1000)
    answers = 0

    def spent(weight: int = 4) -> Spent:
        nonlocal answers
        answers += 1
        shift_ms = 40 * MS_PER_DAY if answers in wrong else 0
        now_ms = trio.current_time() * 1000
        return Spent(1, weight, Usage({"1m": weight}, desk.server_ms + shift_ms, 1), now_ms, now_ms)

    async with scheduling(spec_for(keep_days=7), {BTC: tape}, store) as desk:
        desk.spent = spent  # type: ignore[method-assign]
        for _ in range(60):
            await desk.work()
            await trio.sleep(POLL_S)
    assert store.deleted == []


@pytest.mark.parametrize("host_error_d", [-3650, -3, 3, 3650])
async def test_no_day_is_deleted_by_a_host_clock_that_the_exchange_does_not_confirm(
    host_error_d: int, autojump_clock: MockClock
) -> None:
    store = FakeStore()
    for back in (1, 2):
        hold(store, Tape.even(10, start_ms=DAY_MS - back * MS_PER_DAY, first_id=100 - 20 * back), opened=True)
    wall_error_ms = host_error_d * float(MS_PER_DAY)
    tape = Tape.even(100, first_id=90)
    async with scheduling(spec_for(keep_days=2), {BTC: tape}, store, wall_error_ms=wall_error_ms) as desk:
        for _ in range(5):
            await desk.work()
            await trio.sleep(POLL_S)
    assert store.deleted == []
