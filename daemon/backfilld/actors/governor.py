"""The governor: nobody sends a request without its leave, and nobody gets it beyond the budget.

Owns one budget a market and the queue of those who wait for it. Decides nothing itself: :mod:`backfilld.core.budget`
knows what may be spent. Must not talk to the exchange.
"""

from collections import deque
from collections.abc import Mapping

import structlog
import trio
from trio_util import AsyncValue

from backfilld.actors.messages import (
    AcquireWeight,
    GovernorMessage,
    PauseUntil,
    ReportUsage,
    ReturnPermit,
    SetLimits,
    StopRequested,
)
from backfilld.core.budget import Budget, BudgetState
from backfilld.core.model import Market

log = structlog.get_logger()

Levels = Mapping[Market, BudgetState]
"""What the governor shows of itself: the state of each market's budget."""


async def run_governor(
    inbox: trio.MemoryReceiveChannel[GovernorMessage],
    budgets: Mapping[Market, Budget],
    max_in_flight: int,
    levels: AsyncValue[Levels],
) -> None:
    """Grant permits in the order they were asked for, each as soon as its budget allows and fewer than
    ``max_in_flight`` requests are on their way, until the inbox closes."""
    governor = _Governor(budgets, max_in_flight)
    async with inbox:
        while True:
            wait_s = governor.grant(_now_ms())
            levels.value = governor.levels(_now_ms())
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
        self._free = max_in_flight
        self._waiting: dict[Market, deque[AcquireWeight]] = {market: deque() for market in budgets}
        self._stopping = False

    def handle(self, message: GovernorMessage) -> None:
        match message:
            case AcquireWeight(market):
                self._waiting[market].append(message)
            case ReportUsage():
                self._report(message)
            case ReturnPermit(market, ticket):
                self._free += 1
                self._budgets[market].give_back(ticket)
            case PauseUntil(market):
                self._pause(message)
            case SetLimits(market, limits):
                self._budgets[market].set_limits(limits)
            case StopRequested():
                self._stopping = True

    def grant(self, now_ms: float) -> float:
        """Grant what may be granted; return the seconds until the next permit can be, infinite if nobody waits."""
        return min((self._grant(market, now_ms) for market in self._budgets), default=float("inf"))

    def levels(self, now_ms: float) -> Levels:
        states = {market: budget.state(now_ms) for market, budget in self._budgets.items()}
        return {market: state for market, state in states.items() if state is not None}

    def _grant(self, market: Market, now_ms: float) -> float:
        budget, queue = self._budgets[market], self._waiting[market]
        while queue:
            request = queue[0]
            if not (request.reply.abandoned or self._stopping):
                if self._free == 0:
                    return float("inf")
                wait_ms = budget.wait_ms(now_ms, request.weight)
                if wait_ms > 0:
                    return wait_ms / 1000
                request.reply.ticket = budget.spend(now_ms, request.weight)
                self._free -= 1
            queue.popleft()
            request.reply.answered.set()
        return float("inf")

    def _report(self, report: ReportUsage) -> None:
        budget, usage, ticket = self._budgets[report.market], report.usage, report.ticket
        self._free += 1
        if usage.server_ms is not None:
            budget.clock = budget.clock.observed(
                ticket.sent_ms, report.received_ms, usage.server_ms, usage.precision_ms
            )
        budget.settle(ticket, report.received_ms, usage.used)

    def _pause(self, pause: PauseUntil) -> None:
        budget, now_ms = self._budgets[pause.market], _now_ms()
        until_ms = budget.next_window_ms(now_ms) if pause.until_ms is None else pause.until_ms
        budget.pause_until(until_ms)
        log.warning(
            "exchange_paused",
            market=str(pause.market),
            reason="banned" if pause.banned else "rate limited",
            seconds=round((until_ms - now_ms) / 1000, 1),
        )
