"""The governor: nobody sends a request without its leave, and nobody gets it beyond the budget.

Owns one budget per market and the queue of those who wait for it. Decides nothing itself:
:mod:`backfilld.core.weight.budget` knows what may be spent, :mod:`backfilld.core.weight.fair_queue` whose turn it is.
Must not talk to the exchange.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace

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
from backfilld.core.markets import RULES
from backfilld.core.model import Market
from backfilld.core.weight.budget import Budget, BudgetStatistics
from backfilld.core.weight.fair_queue import FairQueue
from backfilld.core.weight.limits import bounded
from backfilld.core.weight.pauses import Reason
from backfilld.errors import RateLimited

log = structlog.get_logger()

_FLEETING = {"paused_ms", "bans_ms_ago", "wait_ms", "granted", "oldest_sent_ms", "window_ms"}

GovernorStatistics = Mapping[Market, BudgetStatistics]
"""What the governor shows of itself: each market's budget."""


async def run_governor(
    inbox: trio.MemoryReceiveChannel[GovernorMessage],
    budgets: Mapping[Market, Budget],
    max_in_flight: int,
    shown: AsyncValue[GovernorStatistics],
) -> None:
    """Grant permits by rank and in turn, each as soon as its budget allows and fewer than ``max_in_flight`` requests
    are on their way, until the inbox closes."""
    governor = _Governor(budgets, max_in_flight)
    governor.announce_pauses()
    async with inbox:
        while True:
            wait_s = governor.grant(_now_ms())
            shown.value = governor.statistics()
            with trio.move_on_after(wait_s):
                try:
                    message = await inbox.receive()
                except trio.EndOfChannel:
                    return
                governor.handle(message)


def _now_ms() -> float:
    return trio.current_time() * 1000


class _Governor:
    def __init__(self, budgets: Mapping[Market, Budget], max_in_flight: int) -> None:
        self._budgets = budgets
        self._most_in_flight = self._free = max_in_flight
        self._granted = dict.fromkeys(budgets, 0)
        self._wait_s = dict.fromkeys(budgets, float("inf"))
        for budget in budgets.values():
            budget.forget_flights(_now_ms())
        # Markets that share a budget share its queue: none of them can starve another.
        queues: dict[int, FairQueue[AcquireWeight]] = {id(budget): FairQueue() for budget in budgets.values()}
        self._waiting = {market: queues[id(budget)] for market, budget in budgets.items()}
        self._announced: dict[Market, object] = {}
        self._stopping = False

    def handle(self, message: GovernorMessage) -> None:
        match message:
            case AcquireWeight(market, rank=rank, claimant=claimant):
                self._waiting[market].add(message, rank, claimant)
            case ReportUsage():
                self._report(message)
            case ReturnPermit(market, ticket):
                self._free += 1
                self._budgets[market].give_back(ticket)
            case PauseUntil():
                self._pause(message)
            case SetLimits(market, limits):
                self._budgets[market].set_limits(bounded(limits, RULES[market].limits))
            case SetShare(share, max_in_flight):
                self._free += max_in_flight - self._most_in_flight
                self._most_in_flight = max_in_flight
                for budget in self._budgets.values():
                    budget.share = share
            case TellTime(market, sent_ms, received_ms, server_ms):
                budget = self._budgets[market]
                budget.clock = budget.clock.observed(sent_ms, received_ms, server_ms, 1)
            case StopRequested():
                self._stopping = True

    def grant(self, now_ms: float) -> float:
        """Grant what may be granted; return the seconds until the next permit can be, infinite if nobody waits."""
        self._wait_s = {market: self._grant(market, now_ms) for market in self._budgets}
        return min(self._wait_s.values(), default=float("inf"))

    def statistics(self) -> GovernorStatistics:
        """Every budget whose limits are known; a change that an operator should know of is logged."""
        now_ms = _now_ms()
        known = {market: budget.statistics(now_ms) for market, budget in self._budgets.items()}
        result = {
            market: replace(
                each,
                waiting=len(self._waiting[market]),
                wait_ms=0.0 if math.isinf(self._wait_s[market]) else self._wait_s[market] * 1000,
                granted=self._granted[market],
                oldest_sent_ms=self._budgets[market].oldest_sent_ms,
            )
            for market, each in known.items()
            if each is not None and self._is_of_interest(market, each)
        }
        for market, each in result.items():
            self._announce(market, each)
        return result

    def _is_of_interest(self, market: Market, of: BudgetStatistics) -> bool:
        return bool(self._granted[market] or self._waiting[market] or of.bans_ms_ago or of.learned or of.paused_ms)

    def announce_pauses(self) -> None:
        """Say which pauses outlasted the process that was told them."""
        for market, budget in self._budgets.items():
            pauses = budget.pauses
            if pauses.reason is not None and pauses.until_ms > _now_ms():
                self._log_pause(market, pauses.reason, pauses.until_ms)

    def _grant(self, market: Market, now_ms: float) -> float:
        budget, queue = self._budgets[market], self._waiting[market]
        while (request := queue.first()) is not None:
            if not (request.reply.abandoned or self._stopping):
                if budget.pauses.wait_ms(now_ms) > request.patience_s * 1000:
                    request.reply.refusal = _outlasted(market, budget, now_ms)
                elif self._free <= 0:
                    return float("inf")
                else:
                    weight = budget.weights[request.endpoint]
                    wait_ms = budget.wait_ms(now_ms, weight)
                    if wait_ms > 0:
                        return wait_ms / 1000
                    request.reply.ticket = budget.spend(now_ms, weight, request.endpoint)
                    self._free -= 1
                    self._granted[request.market] += 1
            queue.pop()
            request.reply.answered.set()
        return float("inf")

    def _report(self, report: ReportUsage) -> None:
        budget, usage, ticket = self._budgets[report.market], report.usage, report.ticket
        self._free += 1
        if usage.server_ms is not None:
            budget.clock = budget.clock.observed(
                ticket.sent_ms, report.received_ms, usage.server_ms, usage.precision_ms
            )
        if budget.settle(ticket, report.received_ms, usage.used, accepted=report.accepted):
            weights = {str(name): budget.weights[name] for name in {ticket.endpoint, *budget.weights.learned}}
            log.warning("weight_changed", market=str(report.market), weights=weights)

    def _pause(self, pause: PauseUntil) -> None:
        until_ms = self._budgets[pause.market].pause(_now_ms(), pause.until_ms, pause.reason)
        self._log_pause(pause.market, pause.reason, until_ms)

    def _log_pause(self, market: Market, reason: Reason, until_ms: float) -> None:
        seconds = round((until_ms - _now_ms()) / 1000, 1)
        log.warning("exchange_paused", market=str(market), reason=str(reason), seconds=seconds)

    def _announce(self, market: Market, now: BudgetStatistics) -> None:
        is_crowded = now.used - now.own > now.allowed
        state = (now.limit, now.interval, now.allowed, now.reason, is_crowded, tuple(now.learned.items()))
        if self._announced.get(market) != state:
            self._announced[market] = state
            figures = {name: value for name, value in asdict(now).items() if name not in _FLEETING}
            log.info("governor_state", market=str(market), crowded=is_crowded, **figures)


def _outlasted(market: Market, budget: Budget, now_ms: float) -> RateLimited:
    pauses = budget.pauses
    wait_s = pauses.wait_ms(now_ms) / 1000
    sentence = f"{market}: the exchange has {pauses.reason or 'paused'} us for another {wait_s:.0f} s"
    return RateLimited(sentence, retry_after_s=wait_s, banned=pauses.reason is Reason.BANNED)
