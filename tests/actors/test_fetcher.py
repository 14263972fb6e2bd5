"""The fetcher: its jobs, its permits and its exchange in the test's hands."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import polars as pl
import pytest
import trio
from polars.testing import assert_frame_equal
from trio.testing import MockClock, wait_all_tasks_blocked

from backfilld.actors.fetcher import FetcherPorts, Patience, run_fetcher
from backfilld.actors.messages import (
    FetchJob,
    Job,
    JobAnswered,
    JobDropped,
    JobFailed,
    MarketDescribed,
    MergerMessage,
    PageFetched,
    SchedulerMessage,
)
from backfilld.actors.permits import (
    AcquireWeight,
    Governor,
    GovernorMessage,
    PauseUntil,
    ReportUsage,
    ReturnPermit,
    SetLimits,
)
from backfilld.adapters.governed import governed
from backfilld.core.backfill.questions import Before, Found, Page, Query, Tail
from backfilld.core.markets import RULES
from backfilld.core.model import IdRange, Market
from backfilld.core.retry import Backoff
from backfilld.core.sync.symbols import DescribeMarket
from backfilld.core.weight.fair_queue import Rank
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.usage import Ticket
from backfilld.core.weight.weights import Endpoint
from backfilld.errors import RateLimited, RequestRejected, TransientError, UnexpectedAnswer
from backfilld.ports import Usage
from tests.fakes import (
    BTC,
    DAY_MS,
    SOL,
    FakeExchange,
    Misbehaviour,
    Tape,
    drained,
    lose,
    mangle,
    refuse,
    unknown_symbol,
)

PAGE = FetchJob(BTC, Page(IdRange(10, 19)))
LATENCY_S = 0.5


@dataclass
class Bench:
    """A fetcher at work. Permits are granted at once unless ``grants`` is false; what the governor receives is kept."""

    exchange: FakeExchange
    jobs: trio.MemorySendChannel[Job]
    pages: trio.MemoryReceiveChannel[MergerMessage]
    events: trio.MemoryReceiveChannel[SchedulerMessage]
    governor: trio.MemoryReceiveChannel[GovernorMessage]
    stop: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    grants: bool = True
    messages: list[GovernorMessage] = field(default_factory=list)
    waiting: list[AcquireWeight] = field(default_factory=list)

    async def govern(self) -> None:
        async for message in self.governor:
            self.messages.append(message)
            if isinstance(message, AcquireWeight):
                self.waiting.append(message)
                if self.grants:
                    self.grant()

    def grant(self) -> Ticket:
        request = self.waiting.pop(0)
        request.reply.ticket = Ticket(
            RULES[request.market].weights[Endpoint(request.endpoint)], trio.current_time() * 1000
        )
        request.reply.answered.set()
        return request.reply.ticket

    def release(self) -> None:
        """As a governor that is stopping does."""
        self.waiting.pop(0).reply.answered.set()

    async def do(self, job: Job) -> SchedulerMessage:
        self.jobs.send_nowait(job)
        return await self.events.receive()

    def received(self, kind: type) -> list[GovernorMessage]:
        return [message for message in self.messages if isinstance(message, kind)]


@asynccontextmanager
async def fetching(
    *,
    attempts: int = 4,
    longest_pause_s: float = 60.0,
    misbehaves: list[Misbehaviour] | None = None,
    page_buffer: float = math.inf,
) -> AsyncIterator[Bench]:
    """A fetcher of a tape of 3000 rows; its jobs are closed at the end, and that it ends then is checked."""
    exchange = FakeExchange({BTC: Tape.even(3000), SOL: Tape.even(5)}, latency_s=LATENCY_S, misbehaves=misbehaves or [])
    send_job, jobs = trio.open_memory_channel[Job](10)
    send_page, pages = trio.open_memory_channel[MergerMessage](page_buffer)
    send_event, events = trio.open_memory_channel[SchedulerMessage](math.inf)
    send_governor, governor = trio.open_memory_channel[GovernorMessage](math.inf)
    bench = Bench(exchange, send_job, pages, events, governor)
    patience = Patience(
        Backoff(deadline_s=0.0, attempts=attempts, first_s=1.0, cap_s=4.0), longest_pause_s, jitter=lambda: 0.5
    )

    async def work() -> None:
        with bench.scope:
            ports = FetcherPorts(jobs, send_page, send_event)
            await run_fetcher(ports, governed(exchange.open_client, Governor(send_governor)), patience, bench.stop)
        send_governor.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        nursery.start_soon(bench.govern)
        yield bench
        send_job.close()
    assert exchange.open_connections == 0


# -- what goes well


async def test_a_page_is_handed_on_before_its_answer_is_reported(autojump_clock: MockClock) -> None:
    async with fetching() as bench:
        event = await bench.do(PAGE)
        assert isinstance(event, JobAnswered)
        assert event.found == Found(IdRange(10, 19), DAY_MS + 100, DAY_MS + 190, 10)
        assert (event.spent.requests, event.spent.weight) == (1, 4)
        assert event.spent.usage == Usage({"1m": 4}, server_ms=bench.exchange.epoch_ms)
        assert (event.spent.sent_ms, event.spent.received_ms) == (0, LATENCY_S * 1000)
        (page,) = drained(bench.pages)
        assert isinstance(page, PageFetched)
        assert_frame_equal(page.trades, bench.exchange.tapes[BTC].frame[10:20])
        assert trio.current_time() == LATENCY_S


async def test_every_request_is_asked_for_and_reported_with_what_its_answer_says(autojump_clock: MockClock) -> None:
    async with fetching() as bench:
        await bench.do(FetchJob(SOL, Tail(0)))
        await wait_all_tasks_blocked()
        acquire, report = bench.messages
        assert isinstance(acquire, AcquireWeight)
        assert (acquire.market, acquire.endpoint, acquire.claimant) == (Market.UM, Endpoint.TRADES, SOL)
        assert isinstance(report, ReportUsage)
        assert report.ticket is acquire.reply.ticket
        assert (report.market, report.usage.used, report.received_ms) == (Market.UM, {"1m": 20}, LATENCY_S * 1000)


async def test_rows_beyond_the_window_are_not_handed_on(autojump_clock: MockClock) -> None:
    async with fetching() as bench:
        event = await bench.do(FetchJob(BTC, Tail(0), stop_ms=DAY_MS + 50))
        assert isinstance(event, JobAnswered)
        assert (event.found.ids, event.found.beyond_id, event.found.rows) == (IdRange(0, 4), 5, 1000)
        (page,) = drained(bench.pages)
        assert page.trades["a"].to_list() == [0, 1, 2, 3, 4]  # type: ignore[union-attr]


@pytest.mark.parametrize("query", [Tail(3000), Before(DAY_MS + 55)], ids=["nothing new", "a neighbour"])
async def test_an_answer_of_which_no_row_is_kept_sends_no_page(query: Query, autojump_clock: MockClock) -> None:
    async with fetching() as bench:
        assert isinstance(await bench.do(FetchJob(BTC, query)), JobAnswered)
        assert drained(bench.pages) == []


async def test_a_market_is_described_and_the_governor_learns_its_limits(autojump_clock: MockClock) -> None:
    async with fetching() as bench:
        event = await bench.do(DescribeMarket(Market.SPOT, ("BTCUSDT",)))
        assert isinstance(event, MarketDescribed)
        assert event.info.ticks == {"BTCUSDT": 0.01}
        assert event.spent.weight == 20
        await wait_all_tasks_blocked()
        assert bench.received(SetLimits) == [SetLimits(Market.SPOT, bench.exchange.limits)]


async def test_a_slow_merger_stops_the_fetcher(autojump_clock: MockClock) -> None:
    async with fetching(page_buffer=0) as bench:
        bench.jobs.send_nowait(PAGE)
        bench.jobs.send_nowait(PAGE)
        await trio.sleep(10)
        assert len(bench.exchange.asked) == 1
        await bench.pages.receive()
        assert isinstance(await bench.events.receive(), JobAnswered)
        await trio.sleep(10)
        assert len(bench.exchange.asked) == 2
        await bench.pages.receive()


# -- what goes badly


async def test_what_time_may_mend_is_asked_again_after_ever_longer_waits(autojump_clock: MockClock) -> None:
    """With jitter 0.5: three quarters of 1 s, 2 s and 4 s between answers."""
    async with fetching(misbehaves=[Misbehaviour(lose(TransientError("timeout")), times=3)]) as bench:
        event = await bench.do(PAGE)
        assert isinstance(event, JobAnswered)
        assert (event.spent.requests, event.spent.weight) == (4, 16)
        assert trio.current_time() == pytest.approx(4 * LATENCY_S + 0.75 * (1 + 2 + 4))
        reports = bench.received(ReportUsage)
        assert [report.usage.used for report in reports][:3] == [{}, {}, {}]  # type: ignore[union-attr]


async def test_patience_ends_with_the_reason_and_the_cost(autojump_clock: MockClock) -> None:
    error = TransientError("timeout")
    async with fetching(attempts=3, misbehaves=[Misbehaviour(refuse(error), times=math.inf)]) as bench:
        event = await bench.do(PAGE)
        assert isinstance(event, JobFailed)
        assert event.error is error
        assert event.job is PAGE
        assert event.spent.requests == 3
        assert drained(bench.pages) == []
        await wait_all_tasks_blocked()
        assert len(bench.received(ReportUsage)) == 3


async def test_what_was_spent_on_one_job_is_not_counted_for_the_next(autojump_clock: MockClock) -> None:
    async with fetching(attempts=3, misbehaves=[Misbehaviour(refuse(TransientError("x")), times=2)]) as bench:
        first, second = await bench.do(PAGE), await bench.do(PAGE)
        assert isinstance(first, JobAnswered)
        assert isinstance(second, JobAnswered)
        assert (first.spent.requests, second.spent.requests) == (3, 1)


async def test_a_lie_is_asked_again_and_nothing_of_it_merged(autojump_clock: MockClock) -> None:
    async with fetching(misbehaves=[Misbehaviour(mangle(pl.DataFrame.reverse))]) as bench:
        event = await bench.do(PAGE)
        assert isinstance(event, JobAnswered)
        assert event.spent.requests == 2
        (page,) = drained(bench.pages)
        assert page.trades["a"].is_sorted()  # type: ignore[union-attr]


async def test_a_lie_that_is_repeated_is_given_up_with_its_evidence(autojump_clock: MockClock) -> None:
    far = Misbehaviour(mangle(lambda rows: rows[:1].with_columns(a=pl.lit(10**12))), times=math.inf)
    async with fetching(misbehaves=[far]) as bench:
        event = await bench.do(PAGE)
        assert isinstance(event, JobFailed)
        assert isinstance(event.error, UnexpectedAnswer)
        assert event.error.absent is not None
        assert event.error.absent[1] == 10**12 - 1


async def test_rows_of_an_answer_that_passes_over_ids_are_kept(autojump_clock: MockClock) -> None:
    """Only the ids that it skipped are in doubt, and the plan asks for them by themselves."""
    holed = Misbehaviour(mangle(lambda rows: rows.filter(pl.col("a") != 15)))
    async with fetching(misbehaves=[holed]) as bench:
        event = await bench.do(PAGE)
        assert isinstance(event, JobAnswered)
        assert event.spent.requests == 1
        assert event.found.skipped == (IdRange(15, 15),)
        (page,) = drained(bench.pages)
        assert 15 not in page.trades["a"]  # type: ignore[union-attr]
        assert page.trades.height == len(PAGE.query.ids) - 1  # type: ignore[union-attr]


async def test_a_neighbour_that_is_a_lie_is_not_asked_for_again(autojump_clock: MockClock) -> None:
    """The window is stored without it: it is not worth a retry."""
    lie = Misbehaviour(mangle(lambda rows: rows.with_columns(T=pl.lit(DAY_MS + 999))), times=math.inf)
    async with fetching(misbehaves=[lie]) as bench:
        event = await bench.do(FetchJob(BTC, Before(DAY_MS + 500)))
        assert isinstance(event, JobFailed)
        assert len(bench.exchange.asked) == 1


async def test_a_refusal_for_good_is_not_asked_again(autojump_clock: MockClock) -> None:
    async with fetching(misbehaves=[Misbehaviour(refuse(unknown_symbol()), times=math.inf)]) as bench:
        event = await bench.do(PAGE)
        assert isinstance(event, JobFailed)
        assert isinstance(event.error, RequestRejected)
        assert event.spent.requests == 1


async def test_a_rate_limit_pauses_everyone_and_is_sat_out(autojump_clock: MockClock) -> None:
    """The waiting is the governor's: it grants the next permit when the pause is over."""
    error = RateLimited("429", retry_after_s=30, banned=False)
    async with fetching(attempts=1, misbehaves=[Misbehaviour(refuse(error))]) as bench:
        event = await bench.do(PAGE)
        assert isinstance(event, JobAnswered)
        assert event.spent.requests == 3, "the limits are asked for before the question again"
        assert bench.exchange.described == [("BTCUSDT",)]
        assert bench.received(SetLimits) == [SetLimits(Market.SPOT, bench.exchange.limits)]
        assert [each.rank for each in bench.messages if isinstance(each, AcquireWeight)][1] is Rank.HEAL
        assert bench.received(PauseUntil) == [PauseUntil(Market.SPOT, LATENCY_S * 1000 + 30_000, Reason.LIMITED)]
        kinds = [type(message) for message in bench.messages[:4]]
        assert kinds == [AcquireWeight, PauseUntil, ReportUsage, AcquireWeight], (
            "the pause stands before its place is given"
        )


async def test_a_rate_limit_without_a_time_lasts_to_the_next_window(autojump_clock: MockClock) -> None:
    error = RateLimited("429", retry_after_s=None, banned=False)
    async with fetching(misbehaves=[Misbehaviour(refuse(error))]) as bench:
        assert isinstance(await bench.do(PAGE), JobAnswered)
        assert bench.received(PauseUntil) == [PauseUntil(Market.SPOT, None, Reason.LIMITED)]


async def test_a_ban_that_is_too_long_to_sit_out_ends_the_job_and_still_pauses_everyone(
    autojump_clock: MockClock,
) -> None:
    error = RateLimited("418", retry_after_s=61, banned=True)
    async with fetching(longest_pause_s=60, misbehaves=[Misbehaviour(refuse(error))]) as bench:
        event = await bench.do(PAGE)
        assert isinstance(event, JobFailed)
        assert event.error is error
        await wait_all_tasks_blocked()
        assert bench.received(PauseUntil) == [PauseUntil(Market.SPOT, LATENCY_S * 1000 + 61_000, Reason.BANNED)]
        assert len(bench.exchange.asked) == 1


async def test_exchange_info_is_asked_again_as_well(autojump_clock: MockClock) -> None:
    trick = Misbehaviour(refuse(TransientError("503")), on=lambda _, query: query is None, times=2)
    async with fetching(misbehaves=[trick]) as bench:
        event = await bench.do(DescribeMarket(Market.SPOT, ("BTCUSDT",)))
        assert isinstance(event, MarketDescribed)
        assert event.spent.requests == 3


# -- the end


async def test_a_governor_that_stops_drops_the_job(autojump_clock: MockClock) -> None:
    async with fetching() as bench:
        bench.grants = False
        bench.jobs.send_nowait(PAGE)
        await wait_all_tasks_blocked()
        bench.release()
        assert await bench.events.receive() == JobDropped(PAGE)
        assert bench.exchange.asked == []


async def test_a_stop_ends_the_wait_before_a_retry_at_once(autojump_clock: MockClock) -> None:
    async with fetching(misbehaves=[Misbehaviour(lose(TransientError("timeout")), times=math.inf)]) as bench:
        bench.jobs.send_nowait(PAGE)
        await trio.sleep(LATENCY_S + 0.25)
        bench.grants = False
        bench.stop.set()
        await wait_all_tasks_blocked()
        for _ in range(len(bench.waiting)):
            bench.release()
        assert isinstance(await bench.events.receive(), JobDropped)
        assert trio.current_time() == LATENCY_S + 0.25


async def test_a_request_in_flight_at_the_stop_is_finished(autojump_clock: MockClock) -> None:
    async with fetching() as bench:
        bench.jobs.send_nowait(PAGE)
        await trio.sleep(LATENCY_S / 5)
        bench.stop.set()
        assert isinstance(await bench.events.receive(), JobAnswered)
        assert len(drained(bench.pages)) == 1


async def test_it_closes_its_ends_and_its_connection_when_the_jobs_end(autojump_clock: MockClock) -> None:
    async with fetching() as bench:
        await wait_all_tasks_blocked()
        assert bench.exchange.open_connections == 1
        bench.jobs.close()
        with pytest.raises(trio.EndOfChannel):
            await bench.events.receive()
        with pytest.raises(trio.EndOfChannel):
            await bench.pages.receive()
        assert bench.exchange.open_connections == 0


async def test_cancelled_while_it_waits_for_a_permit_it_leaves_the_queue(autojump_clock: MockClock) -> None:
    async with fetching() as bench:
        bench.grants = False
        bench.jobs.send_nowait(PAGE)
        await wait_all_tasks_blocked()
        bench.scope.cancel()
        await wait_all_tasks_blocked()
        assert bench.waiting[0].reply.abandoned
        assert bench.received(ReturnPermit) == []


async def test_cancelled_in_the_moment_of_the_grant_it_gives_the_permit_back(autojump_clock: MockClock) -> None:
    """A grant and a cancellation in one turn of the loop: the ticket must not be lost."""
    async with fetching() as bench:
        bench.grants = False
        bench.jobs.send_nowait(PAGE)
        await wait_all_tasks_blocked()
        bench.scope.cancel()
        request = bench.waiting[0]
        request.reply.ticket = ticket = Ticket(4, 0.0)
        await wait_all_tasks_blocked()
        assert bench.received(ReturnPermit) == [ReturnPermit(Market.SPOT, ticket)]
        assert bench.exchange.asked == []


async def test_cancelled_in_flight_it_reports_the_ticket_because_the_request_was_charged(
    autojump_clock: MockClock,
) -> None:
    async with fetching() as bench:
        bench.jobs.send_nowait(PAGE)
        await trio.sleep(LATENCY_S / 5)
        bench.scope.cancel()
        await wait_all_tasks_blocked()
        (report,) = bench.received(ReportUsage)
        assert isinstance(report, ReportUsage)
        assert report.usage == Usage()
        assert report.received_ms == LATENCY_S / 5 * 1000
        assert drained(bench.events) == []
