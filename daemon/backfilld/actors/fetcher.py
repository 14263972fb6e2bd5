"""The fetcher: takes a job, asks the exchange, checks the answer, hands the rows on.

Owns one connection and the patience with it. Must not merge, plan or spend budgets: it reports, and others decide.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

import polars as pl
import structlog
import trio

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
    Spent,
)
from backfilld.core.backfill.answers import AnswerCheck, cut
from backfilld.core.backfill.questions import Before
from backfilld.core.retry import Backoff
from backfilld.core.sync.symbols import DescribeMarket
from backfilld.errors import ExchangeError, RateLimited, TransientError, UnexpectedAnswer
from backfilld.ports import ExchangeClient, NoPermit, OpenClient, Reply, Undecoded, Urgency

log = structlog.get_logger()
T = TypeVar("T")

PAUSES = 5
"""Give up a question after waiting this many times the longest pause in total."""

YIELD_S = 0.002
"""Yield for this long before decoding an answer. Decoding blocks the loop for about 1 ms; yielding first lets the
fetcher that got the freed permit send its request."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one question is asked: its retries, and the longest pause by the exchange that is waited for.

    ``jitter`` returns random numbers in [0, 1).
    """

    backoff: Backoff
    longest_pause_s: float
    jitter: Callable[[], float]


@dataclass(frozen=True, slots=True)
class FetcherPorts:
    """The channel ends of a fetcher. All but ``jobs`` are its own clones, which it closes."""

    jobs: trio.MemoryReceiveChannel[Job]
    pages: trio.MemorySendChannel[MergerMessage]
    events: trio.MemorySendChannel[SchedulerMessage]

    def clone(self) -> "FetcherPorts":
        """The same channels, for another fetcher."""
        return FetcherPorts(self.jobs.clone(), self.pages.clone(), self.events.clone())

    def close(self) -> None:
        """Close these ends."""
        for end in (self.jobs, self.pages, self.events):
            end.close()


async def run_fetcher(ports: FetcherPorts, open_client: OpenClient, patience: Patience, stop: trio.Event) -> None:
    """Do jobs until there are no more. After ``stop`` the request in hand is finished, and no other begun."""
    async with ports.jobs, ports.pages, ports.events, open_client() as client:
        fetcher = _Fetcher(ports, client, patience, stop)
        async for job in ports.jobs:
            await fetcher.do(job)


class _Fetcher:
    def __init__(self, ports: FetcherPorts, client: ExchangeClient, patience: Patience, stop: trio.Event) -> None:
        self._ports = ports
        self._client = client
        self._patience = patience
        self._stop = stop
        self._spent = Spent()

    async def do(self, job: Job) -> None:
        self._spent = Spent()
        event: SchedulerMessage
        try:
            event = await (self._describe(job) if isinstance(job, DescribeMarket) else self._fetch(job))
        except ExchangeError as error:
            event = JobFailed(job, error, self._spent)
        except NoPermit:
            event = JobDropped(job)
        await self._ports.events.send(event)

    async def _fetch(self, job: FetchJob) -> JobAnswered:
        urgency = Urgency(job.rank, self._patience.longest_pause_s)
        is_right = AnswerCheck(job.query, is_wary=job.is_wary)

        def check(trades: pl.DataFrame) -> None:
            clocks_ms = (job.latest_ms, self._spent.usage.server_ms)
            is_right(trades, [] if job.latest_ms is None else [each for each in clocks_ms if each is not None])

        request = _Request(
            ask=partial(self._client.trades, job.instrument, job.query, urgency),
            check=check,
            about={"instrument": str(job.instrument), "query": repr(job.query)},
            retries_wrong_answers=is_right.is_wary or not isinstance(job.query, Before),
        )
        kept, found = cut(await self._ask_until_answered(request), job.query, job.stop_ms)
        found = replace(found, is_confirmed=is_right.is_confirmed, agreeing=is_right.agreeing, against=is_right.against)
        if not kept.is_empty():
            await self._ports.pages.send(PageFetched(job.instrument, kept))
        return JobAnswered(job, found, self._spent)

    async def _describe(self, job: DescribeMarket) -> MarketDescribed:
        urgency = Urgency(patience_s=self._patience.longest_pause_s)
        request = _Request(
            ask=partial(self._client.market_info, job.market, job.symbols, urgency, whole=job.whole),
            check=lambda _: None,
            about={"market": str(job.market), "query": "exchangeInfo"},
        )
        return MarketDescribed(job, await self._ask_until_answered(request), self._spent)

    async def _ask_until_answered(self, request: "_Request[T]") -> T:
        """Ask until the answer is accepted, time will not help, or patience is over."""
        failures, tried_s = 0, 0.0
        refused_at: float | None = None
        while True:
            try:
                return await self._ask_once(request)
            except RateLimited as refusal:
                now = trio.current_time()
                refused_at = now if refused_at is None else refused_at
                longest_s = self._patience.longest_pause_s
                if (refusal.retry_after_s or 0.0) > longest_s or now - refused_at > PAUSES * longest_s:
                    raise
            except (TransientError, UnexpectedAnswer) as error:
                failures += 1
                tried_s += (self._spent.received_ms - self._spent.sent_ms) / 1000
                wait_s = self._patience.backoff.wait_s(failures, tried_s, self._patience.jitter())
                if wait_s is not None and isinstance(error, UnexpectedAnswer) and error.is_alone:
                    wait_s = min(wait_s, self._patience.backoff.first_s)
                if wait_s is None or request.is_final(error, failures, self._patience.backoff.attempts):
                    raise
                tried_s += wait_s
                log.warning("request_retried", **request.about, error=str(error), failures=failures)
                await self._pause(wait_s)

    async def _ask_once(self, request: "_Request[T]") -> T:
        reply = await request.ask()
        self._spent = self._spent.plus(reply.cost, reply.usage)
        if isinstance(reply.result, Undecoded):
            await trio.sleep(YIELD_S)
        result = reply.read()
        if isinstance(result, ExchangeError):
            raise result
        request.check(result)
        return result

    async def _pause(self, wait_s: float) -> None:
        with trio.move_on_after(wait_s):
            await self._stop.wait()


@dataclass(frozen=True, slots=True)
class _Request(Generic[T]):
    """How to ask once, what to make of the answer, and what to call it in the log."""

    ask: Callable[[], Awaitable[Reply[T]]]
    check: Callable[[T], None]
    about: Mapping[str, str]
    retries_wrong_answers: bool = True

    def is_final(self, error: ExchangeError, failures: int, attempts: int) -> bool:
        """Whether a wrong answer is the last one, because asking again would bring no other."""
        if not isinstance(error, UnexpectedAnswer):
            return False
        return not self.retries_wrong_answers or (error.absent is not None and failures >= attempts)
