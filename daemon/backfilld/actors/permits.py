"""Permits: the handle that everybody asks the governor through, and the messages behind it.

A permit is the right to send one request. Who holds one reports what became of it; who leaves without a report is
taken to have sent the request and lost the answer, since the exchange charges that too.
"""

import math
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import msgspec
import trio

from backfilld.actors.messages import StopRequested
from backfilld.core.model import Market
from backfilld.core.weight.fair_queue import Rank
from backfilld.core.weight.limits import Limit
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.usage import Ticket
from backfilld.errors import RateLimited
from backfilld.ports import USUAL, NoPermit, Urgency, Usage


@dataclass(slots=True, eq=False)
class PermitSlot:
    """A one-shot reply: the ticket, or why there is none, or neither when the governor is stopping. ``abandoned`` once
    nobody waits any more."""

    answered: trio.Event = field(default_factory=trio.Event)
    ticket: Ticket | None = None
    refusal: RateLimited | None = None
    abandoned: bool = False


class AcquireWeight(msgspec.Struct, frozen=True):
    """Ask for leave to send one request to ``endpoint``, which costs ``weight`` if that is more than what is known of
    the endpoint. A pause of more than ``patience_s`` is not sat out; within a rank the claimants take turns.

    Of rank CLIENT, nothing is waited for beyond the instant ``until_s`` of trio's clock, weight neither.
    """

    market: Market
    endpoint: str
    reply: PermitSlot
    rank: Rank = Rank.TOP_UP
    claimant: Hashable = None
    patience_s: float = math.inf
    weight: int = 0
    until_s: float = math.inf


class ReportUsage(msgspec.Struct, frozen=True):
    """A request came to its end at ``received_ms``, answered or not; its ticket is given back. ``accepted`` says that
    the exchange answered it and did not refuse."""

    market: Market
    ticket: Ticket
    usage: Usage
    received_ms: float
    accepted: bool = True


class ReturnPermit(msgspec.Struct, frozen=True):
    """The request of this ticket was never sent."""

    market: Market
    ticket: Ticket


class PauseUntil(msgspec.Struct, frozen=True):
    """The exchange refused: nobody asks the market before ``until_ms``, or as long as the reason asks for if it named
    no time."""

    market: Market
    until_ms: float | None
    reason: Reason


class SetLimits(msgspec.Struct, frozen=True):
    """The limits that exchangeInfo names."""

    market: Market
    limits: tuple[Limit, ...]


class TellTime(msgspec.Struct, frozen=True):
    """An answer to a request sent and received at these local instants named the server's time, to the ms."""

    market: Market
    sent_ms: float
    received_ms: float
    server_ms: int


class SetShare(msgspec.Struct, frozen=True):
    """Use this share of the limits, with at most ``max_in_flight`` requests at a time. Other programs may use up to
    ``client_share`` of it."""

    weight_share: float
    max_in_flight: int
    client_share: float = 0.5


GovernorMessage = (
    AcquireWeight | ReportUsage | ReturnPermit | PauseUntil | SetLimits | SetShare | TellTime | StopRequested
)


class Permit:
    """The right to send one request, until it is reported. ``weight`` is charged, ``sent_ms`` is when, by trio's
    clock."""

    def __init__(self, governor: "Governor", market: Market, ticket: Ticket) -> None:
        self._governor = governor
        self._market = market
        self._ticket = ticket
        self._is_open = True

    @property
    def weight(self) -> int:
        """What the request is charged with."""
        return self._ticket.weight

    @property
    def sent_ms(self) -> float:
        """When it may be sent first."""
        return self._ticket.sent_ms

    def report(self, usage: Usage, *, accepted: bool, refusal: RateLimited | None = None) -> None:
        """The request came to its end. ``accepted``: the exchange answered and did not refuse; a ``refusal`` pauses
        everybody, before the next permit is granted."""
        if not self._is_open:
            return
        self._is_open = False
        now_ms = trio.current_time() * 1000
        if refusal is not None:
            wait_s = refusal.retry_after_s
            reason = Reason.BANNED if refusal.banned else Reason.BLOCKED if refusal.blocked else Reason.LIMITED
            self._governor.tell(PauseUntil(self._market, None if wait_s is None else now_ms + wait_s * 1000, reason))
        self._governor.tell(ReportUsage(self._market, self._ticket, usage, now_ms, accepted=accepted))


class Governor:
    """The handle of the governor. Any number of tasks may hold it; its actor runs as long as it is not closed."""

    def __init__(self, inbox: trio.MemorySendChannel[GovernorMessage]) -> None:
        self._inbox = inbox

    @asynccontextmanager
    async def permit(
        self, market: Market, endpoint: str, urgency: Urgency = USUAL, *, claimant: Hashable = None, weight: int = 0
    ) -> AsyncIterator[Permit]:
        """Wait for the right to send one request, and give it back in the end.

        Raises RateLimited if the exchange has paused us for longer than the patience, or, of rank CLIENT, if weight
        will not be there in time; NoPermit if nothing is sent any more.
        """
        until_s = trio.current_time() + urgency.patience_s if urgency.rank is Rank.CLIENT else math.inf
        slot = PermitSlot()
        request = AcquireWeight(market, endpoint, slot, urgency.rank, claimant, urgency.patience_s, weight, until_s)
        permit = Permit(self, market, await self._granted(request))
        try:
            yield permit
        finally:
            permit.report(Usage(), accepted=False)

    async def _granted(self, request: AcquireWeight) -> Ticket:
        slot = request.reply
        self.tell(request)
        try:
            with trio.fail_at(request.until_s):
                await slot.answered.wait()
        except trio.TooSlowError:
            self._abandon(request)
            raise RateLimited(f"{request.market}: too many requests are on their way", retry_after_s=1.0) from None
        except trio.Cancelled:
            self._abandon(request)
            raise
        if slot.refusal is not None:
            raise slot.refusal
        if slot.ticket is None:
            raise NoPermit
        return slot.ticket

    def _abandon(self, request: AcquireWeight) -> None:
        request.reply.abandoned = True
        if request.reply.ticket is not None:
            self.tell(ReturnPermit(request.market, request.reply.ticket))

    def tell(self, message: GovernorMessage) -> None:
        """Send the governor a message; once it is closed, a question is answered with nothing."""
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            self._inbox.send_nowait(message)
            return
        if isinstance(message, AcquireWeight):
            message.reply.answered.set()

    def close(self) -> None:
        """Let the governor end."""
        self._inbox.close()
