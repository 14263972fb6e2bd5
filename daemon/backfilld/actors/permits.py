"""What is said to the governor: asking for leave to send a request, and telling what became of it."""

from dataclasses import dataclass, field

import trio

from backfilld.actors.messages import StopRequested
from backfilld.core.model import Instrument, Market
from backfilld.core.weight.fair_queue import Rank
from backfilld.core.weight.limits import Limit
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.usage import Ticket
from backfilld.core.weight.weights import Endpoint
from backfilld.errors import RateLimited
from backfilld.ports import Usage


@dataclass(slots=True, eq=False)
class PermitSlot:
    """A one-shot reply: the ticket, or why there is none, or neither when the governor is stopping. ``abandoned`` once
    nobody waits any more."""

    answered: trio.Event = field(default_factory=trio.Event)
    ticket: Ticket | None = None
    refusal: RateLimited | None = None
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class AcquireWeight:
    """Ask for leave to send one request to ``endpoint``. A pause of more than ``patience_s`` is not sat out; within a
    rank the claimants take turns."""

    market: Market
    endpoint: Endpoint
    reply: PermitSlot
    rank: Rank = Rank.TOP_UP
    claimant: Instrument | None = None
    patience_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class ReportUsage:
    """A request came to its end at ``received_ms``, answered or not; its ticket is given back. ``accepted`` says that
    the exchange answered it and did not refuse."""

    market: Market
    ticket: Ticket
    usage: Usage
    received_ms: float
    accepted: bool = True


@dataclass(frozen=True, slots=True)
class ReturnPermit:
    """The request of this ticket was never sent."""

    market: Market
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class PauseUntil:
    """The exchange refused: nobody asks the market before ``until_ms``, or as long as the reason asks for if it named
    no time."""

    market: Market
    until_ms: float | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class SetLimits:
    """The limits that exchangeInfo names."""

    market: Market
    limits: tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class TellTime:
    """An answer to a request sent and received at these local instants named the server's time, to the ms."""

    market: Market
    sent_ms: float
    received_ms: float
    server_ms: int


@dataclass(frozen=True, slots=True)
class SetShare:
    """Use this share of the limits, with so many requests in flight."""

    weight_share: float
    max_in_flight: int


GovernorMessage = (
    AcquireWeight | ReportUsage | ReturnPermit | PauseUntil | SetLimits | SetShare | TellTime | StopRequested
)
