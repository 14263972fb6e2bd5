"""The governor: nobody sends a request without its permit, and nobody gets one beyond the budget.

Owns one budget per pool and the queues of those who wait for it. Decides nothing itself:
:mod:`backfilld.core.weight.budget` knows what may be spent, :mod:`backfilld.core.weight.fair_queue` whose turn it is.
Must not talk to the exchange.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

import structlog
import trio
from trio_util import AsyncValue

from backfilld.actors.messages import StopRequested
from backfilld.actors.permits import (
    AcquireWeight,
    GovernorMessage,
    PauseUntil,
    ReportUsage,
    ReturnPermit,
    SetLimits,
    SetShare,
    TellTime,
)
from backfilld.core.markets import RULES, Pool
from backfilld.core.model import Market
from backfilld.core.weight.budget import Budget
from backfilld.core.weight.fair_queue import FairQueue, Rank
from backfilld.core.weight.limits import bounded
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.errors import RateLimited

log = structlog.get_logger()

_FLEETING = {"paused_ms", "bans_ms_ago", "wait_ms", "granted", "oldest_sent_ms", "window_ms", "met", "answers"}

SHOWN_EVERY_S = 0.25
"""How often statistics are published while requests come and go."""

MOST_ENDPOINTS = 100
"""Endpoints whose requests are counted apart; other programs may name any."""

GovernorStatistics = Mapping[Pool, BudgetStatistics]
"""What the governor shows of itself: each pool's budget."""


async def run_governor(
    inbox: trio.MemoryReceiveChannel[GovernorMessage],
    budgets: Mapping[Pool, Budget],
    max_in_flight: int,
    shown: AsyncValue[GovernorStatistics],
) -> None:
    """Grant permits by rank and in turn, each as soon as its budget allows and fewer than ``max_in_flight`` requests
    are on their way, until the inbox closes. Requests of other programs are counted apart, up to as many again."""
    governor = _Governor(budgets, max_in_flight)
    governor.announce_pauses()
    async with inbox:
        while True:
            wait_s = governor.grant(_now_ms())
            if governor.shows_at() <= trio.current_time():
                shown.value = governor.statistics()
            with trio.move_on_at(min(trio.current_time() + wait_s, governor.shows_at())):
                try:
                    message = await inbox.receive()
                except trio.EndOfChannel:
                    return
                governor.handle(message)


def _now_ms() -> float:
    return trio.current_time() * 1000


@dataclass(slots=True, eq=False)
class _Lane:
    """Requests that wait for one pool, ours or those of other programs."""

    is_clients: bool
    queue: FairQueue[AcquireWeight] = field(default_factory=FairQueue)


@dataclass(slots=True, eq=False)
class _PoolState:
    """One pool: its budget, who waits for it, how long at least, and how many permits it has given."""

    budget: Budget
    own: _Lane = field(default_factory=lambda: _Lane(is_clients=False))
    clients: _Lane = field(default_factory=lambda: _Lane(is_clients=True))
    wait_s: float = math.inf
    granted: int = 0
    turn: int = 0
    answers: dict[str, dict[str, int]] = field(default_factory=dict)

    def count(self, endpoint: str, *, accepted: bool) -> None:
        """One more request has ended."""
        name = endpoint if endpoint in self.answers or len(self.answers) < MOST_ENDPOINTS else "other"
        of, outcome = self.answers.setdefault(name, {}), "accepted" if accepted else "refused"
        of[outcome] = of.get(outcome, 0) + 1

    @property
    def waiting(self) -> int:
        return len(self.own.queue) + len(self.clients.queue)


class _Governor:
    def __init__(self, budgets: Mapping[Pool, Budget], max_in_flight: int) -> None:
        self._pools = {pool: _PoolState(budget) for pool, budget in budgets.items()}
        self._most_in_flight = max_in_flight
        self._in_flight = {False: 0, True: 0}
        self._turns = 0
        for budget in budgets.values():
            budget.forget_flights(_now_ms())
        self._announced: dict[Pool, object] = {}
        self._stopping = False
        self._is_shown, self._is_urgent, self._shown_at = False, True, -math.inf

    def handle(self, message: GovernorMessage) -> None:
        # A pause, and what is learned of weights, is to be on disk at once.
        self._is_urgent |= not isinstance(message, AcquireWeight | ReportUsage | ReturnPermit)
        match message:
            case AcquireWeight(rank=rank, claimant=claimant):
                pool = self._pool(message.market)
                lane = pool.clients if rank is Rank.CLIENT else pool.own
                lane.queue.add(message, rank, claimant)
            case ReportUsage():
                self._report(message)
            case ReturnPermit(market, ticket):
                self._in_flight[ticket.is_clients] -= 1
                self._pool(market).budget.give_back(ticket)
            case PauseUntil():
                self._pause(message)
            case SetLimits(market, limits):
                self._pool(market).budget.set_limits(bounded(limits, RULES[market].limits))
            case SetShare(share, max_in_flight, client_share):
                self._most_in_flight = max_in_flight
                for pool in self._pools.values():
                    pool.budget.share, pool.budget.client_share = share, client_share
            case TellTime(market, sent_ms, received_ms, server_ms):
                budget = self._pool(market).budget
                budget.clock = budget.clock.observed(sent_ms, received_ms, server_ms, 1)
            case StopRequested():
                self._stopping = True

    def _pool(self, market: Market) -> _PoolState:
        return self._pools[RULES[market].pool]

    def grant(self, now_ms: float) -> float:
        """Grant what may be granted; return the seconds until the next permit can be, infinite if nobody waits."""
        self._is_shown = False
        while True:
            candidates = [each for pool in self._pools.values() for each in self._candidates(pool, now_ms)]
            if not candidates:
                return min((pool.wait_s for pool in self._pools.values()), default=math.inf)
            pool, lane = min(candidates, key=lambda each: (_first(each[1]).rank, each[0].turn))
            self._give(pool, lane, now_ms)

    def _candidates(self, pool: _PoolState, now_ms: float) -> Iterator[tuple[_PoolState, _Lane]]:
        """The lanes of a pool whose first request may go now. A cheap request does not overtake a dear one, but those
        of other programs hold nobody up when their share is spent."""
        pool.wait_s = math.inf
        if not pool.waiting:
            return
        for lane in (pool.own, pool.clients):
            self._drop_hopeless(pool, lane, now_ms)
        lanes = [lane for lane in (pool.own, pool.clients) if lane.queue.first() is not None]
        for lane in sorted(lanes, key=lambda each: _first(each).rank):
            if self._in_flight[lane.is_clients] >= self._most_in_flight:
                continue
            wait_ms = self._wait_ms(pool, lane, now_ms)
            if wait_ms <= 0:
                yield pool, lane
                return
            pool.wait_s = min(pool.wait_s, wait_ms / 1000)
            if not lane.is_clients or pool.budget.wait_ms(now_ms, self._weight(pool, lane)) > 0:
                return

    def _drop_hopeless(self, pool: _PoolState, lane: _Lane, now_ms: float) -> None:
        """Remove requests whose sender no longer waits, and refuse those that would have to wait too long."""
        while (request := lane.queue.first()) is not None:
            if not (request.reply.abandoned or self._stopping):
                request.reply.refusal = self._refusal(pool, lane, request, now_ms)
                if request.reply.refusal is None:
                    return
            lane.queue.pop()
            request.reply.answered.set()

    def _refusal(self, pool: _PoolState, lane: _Lane, request: AcquireWeight, now_ms: float) -> RateLimited | None:
        budget = pool.budget
        if budget.pauses.wait_ms(now_ms) > request.patience_s * 1000:
            return _outlasted(request.market, budget, now_ms)
        if lane.is_clients:
            wait_ms = self._wait_ms(pool, lane, now_ms)
            if now_ms + wait_ms > request.until_s * 1000:
                sentence = f"{request.market}: the request weight is used up for another {wait_ms / 1000:.0f} s"
                return RateLimited(sentence, retry_after_s=wait_ms / 1000)
        return None

    def _wait_ms(self, pool: _PoolState, lane: _Lane, now_ms: float) -> float:
        return pool.budget.wait_ms(now_ms, self._weight(pool, lane), is_clients=lane.is_clients)

    def _weight(self, pool: _PoolState, lane: _Lane) -> int:
        request = _first(lane)
        return max(request.weight, pool.budget.weights[request.endpoint])

    def _give(self, pool: _PoolState, lane: _Lane, now_ms: float) -> None:
        weight = self._weight(pool, lane)
        request = lane.queue.pop()
        request.reply.ticket = pool.budget.spend(now_ms, weight, request.endpoint, is_clients=lane.is_clients)
        self._in_flight[lane.is_clients] += 1
        self._turns += 1
        pool.turn = self._turns
        pool.granted += 1
        request.reply.answered.set()

    def shows_at(self) -> float:
        """When the statistics are due, in trio's time: now and then while requests are on their way, else at once."""
        is_seldom = any(self._in_flight.values()) and not self._is_urgent
        return math.inf if self._is_shown else self._shown_at + (SHOWN_EVERY_S if is_seldom else 0)

    def statistics(self) -> GovernorStatistics:
        """Every budget whose limits are known; a change that an operator should know of is logged."""
        self._is_shown, self._is_urgent, self._shown_at = True, False, trio.current_time()
        now_ms = _now_ms()
        known = {name: (pool, pool.budget.statistics(now_ms)) for name, pool in self._pools.items()}
        result = {
            name: replace(
                each,
                waiting=pool.waiting,
                wait_ms=0.0 if math.isinf(pool.wait_s) else pool.wait_s * 1000,
                granted=pool.granted,
                answers={endpoint: dict(of) for endpoint, of in pool.answers.items()},
                oldest_sent_ms=pool.budget.oldest_sent_ms,
            )
            for name, (pool, each) in known.items()
            if each is not None and _is_of_interest(pool, each)
        }
        for name, each in result.items():
            self._announce(name, each)
        return result

    def announce_pauses(self) -> None:
        """Log the pauses that an earlier process was given and that are not over."""
        for name, pool in self._pools.items():
            pauses = pool.budget.pauses
            if pauses.reason is not None and pauses.until_ms > _now_ms():
                _log_pause(name, pauses.reason, pauses.until_ms)

    def _report(self, report: ReportUsage) -> None:
        budget, usage, ticket = self._pool(report.market).budget, report.usage, report.ticket
        self._in_flight[ticket.is_clients] -= 1
        self._pool(report.market).count(str(ticket.endpoint), accepted=report.accepted)
        if usage.server_ms is not None:
            budget.clock = budget.clock.observed(
                ticket.sent_ms, report.received_ms, usage.server_ms, usage.precision_ms
            )
        if budget.settle(ticket, report.received_ms, usage.used, accepted=report.accepted):
            self._is_urgent = True
            weights = {str(name): budget.weights[name] for name in {ticket.endpoint, *budget.weights.learned}}
            log.warning("weight_changed", market=str(report.market), weights=weights)

    def _pause(self, pause: PauseUntil) -> None:
        until_ms = self._pool(pause.market).budget.pause(_now_ms(), pause.until_ms, pause.reason)
        _log_pause(RULES[pause.market].pool, pause.reason, until_ms, market=str(pause.market))

    def _announce(self, name: Pool, now: BudgetStatistics) -> None:
        is_crowded = now.used - now.own - now.clients > now.allowed
        state = (now.limit, now.interval, now.allowed, now.reason, is_crowded, tuple(now.learned.items()))
        known = self._announced.get(name)
        self._announced[name] = state
        # What a budget begins with is documented: only a change is news.
        is_news = known is not None or is_crowded or now.reason is not None or now.learned
        if known != state and is_news:
            figures = {name: value for name, value in asdict(now).items() if name not in _FLEETING}
            log.info("governor_state", pool=str(name), crowded=is_crowded, **figures)


def _first(lane: _Lane) -> AcquireWeight:
    request = lane.queue.first()
    if request is None:
        raise LookupError("nobody waits")
    return request


def _is_of_interest(pool: _PoolState, of: BudgetStatistics) -> bool:
    return bool(pool.granted or pool.waiting or of.bans_ms_ago or of.learned or of.met or of.paused_ms)


def _log_pause(pool: Pool, reason: Reason, until_ms: float, **about: str) -> None:
    seconds = round((until_ms - _now_ms()) / 1000, 1)
    log.warning("exchange_paused", pool=str(pool), **about, reason=str(reason), seconds=seconds)


def _outlasted(market: Market, budget: Budget, now_ms: float) -> RateLimited:
    pauses = budget.pauses
    wait_s = pauses.wait_ms(now_ms) / 1000
    sentence = f"{market}: the exchange has {pauses.reason or 'paused'} us for another {wait_s:.0f} s"
    return RateLimited(sentence, retry_after_s=wait_s, banned=pauses.reason is Reason.BANNED)
