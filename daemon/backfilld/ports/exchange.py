"""What the actors need of the exchange's REST API: questions under permits, and what came of them.

Owns the two sides of the door: a :class:`RestClient` sends whatever it is asked to and is known to the governed client
alone; an :class:`ExchangeClient` sends nothing without a permit of the governor, and is what everybody else holds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

import msgspec
import polars as pl

from backfilld.core.backfill.questions import Query
from backfilld.core.model import Instrument, Market
from backfilld.core.weight.fair_queue import Rank
from backfilld.core.weight.limits import Limit
from backfilld.errors import ExchangeError, RateLimited

T = TypeVar("T")


class Usage(msgspec.Struct, frozen=True):
    """What an answer says beside its body: used weight by interval name (``1m``), and the server's time in ms, which is
    exact to ``precision_ms``. Empty where there was no answer."""

    used: Mapping[str, int] = msgspec.field(default_factory=dict)
    server_ms: int | None = None
    precision_ms: int = 1000


class Cost(msgspec.Struct, frozen=True):
    """What it took to get a reply: how many requests, their weight, and when the last of them was sent and answered,
    in ms of trio's clock. No request where the governor granted none."""

    requests: int = 0
    weight: int = 0
    sent_ms: float = 0.0
    received_ms: float = 0.0

    def plus(self, later: "Cost") -> "Cost":
        """Both together."""
        if not later.requests:
            return self
        return Cost(self.requests + later.requests, self.weight + later.weight, later.sent_ms, later.received_ms)


class Urgency(msgspec.Struct, frozen=True):
    """How urgent a question is, and the longest pause by the exchange that it sits out, in s."""

    rank: Rank = Rank.TOP_UP
    patience_s: float = math.inf


USUAL = Urgency()
"""As urgent as a top-up, and as patient as it takes."""


class Reply(msgspec.Struct, Generic[T], frozen=True):
    """A question's end: its usage, the result or the error it came to, and its cost; an accepted answer may still have
    to be decoded, which takes the loop a millisecond or more."""

    usage: Usage
    result: T | ExchangeError | "Undecoded[T]"
    cost: Cost = Cost()

    def read(self) -> T | ExchangeError:
        """The result, decoded."""
        return self.result.decode() if isinstance(self.result, Undecoded) else self.result


class Undecoded(msgspec.Struct, Generic[T], frozen=True):
    """An answer with status 200, as it came."""

    decode: Callable[[], T | ExchangeError]


class MarketInfo(msgspec.Struct, frozen=True):
    """What exchangeInfo says: the weight limits, and of each symbol asked for its tick size; the server's time in ms.

    ``onboard_ms`` is when a symbol was listed, where the exchange says it. No limit by weight in ``limits`` means that
    the known ones stay.
    """

    limits: tuple[Limit, ...]
    ticks: Mapping[str, float]
    server_ms: int | None = None
    onboard_ms: Mapping[str, int] = msgspec.field(default_factory=dict)


class Forwarded(msgspec.Struct, frozen=True):
    """The exchange's own answer to a request of another program: the body is unpacked and otherwise as it came, header
    names are in lower case. ``refusal`` is what a 429, a 418 or a page of the CDN means to all of us."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    refusal: RateLimited | None = None


class RestClient(Protocol):
    """One connection to the exchange, past every budget: only the governed client may hold one. Never raises
    ExchangeError: refusals are results."""

    async def trades(self, instrument: Instrument, query: Query) -> Reply[pl.DataFrame]:
        """Ask one question; the frame has the columns of SCHEMA, in the order of the answer, unchecked."""
        ...

    async def market_info(self, market: Market, symbols: Sequence[str], *, whole: bool = False) -> Reply[MarketInfo]:
        """Read exchangeInfo, with ``whole`` for all symbols, of which these are wanted. RequestRejected with code -1121
        for a symbol that is not listed."""
        ...

    async def forward(self, market: Market, target: str, headers: Mapping[str, str]) -> Reply[Forwarded]:
        """GET ``target``: path and query, as the exchange shall see them, with ``headers`` in place of our own of that
        name. Any answer is a result, errors included."""
        ...


OpenRestClient = Callable[[], AbstractAsyncContextManager[RestClient]]
"""Opens one connection."""


class ExchangeClient(Protocol):
    """One connection to the exchange, through the governor. Never raises ExchangeError: refusals are results, and so is
    a pause that is longer than the patience (RateLimited). Raises NoPermit when no more requests are sent at all."""

    async def trades(self, instrument: Instrument, query: Query, urgency: Urgency = USUAL) -> Reply[pl.DataFrame]:
        """Ask one question; the frame has the columns of SCHEMA, in the order of the answer, unchecked."""
        ...

    async def market_info(
        self, market: Market, symbols: Sequence[str], urgency: Urgency = USUAL, *, whole: bool = False
    ) -> Reply[MarketInfo]:
        """Read exchangeInfo, with ``whole`` for all symbols, of which these are wanted. RequestRejected with code -1121
        for a symbol that is not listed."""
        ...

    async def forward(
        self,
        market: Market,
        target: str,
        weight: int,
        patience_s: float,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Reply[Forwarded]:
        """GET ``target``, a path of the exchange with its query, for another program; it costs ``weight`` by the
        exchange's documentation. ``headers`` are those of the program that change the answer.

        Any answer of the exchange is a result, errors included. RateLimited, with the time to come back in
        ``retry_after_s``, where no permit comes within ``patience_s``; TransientError where no answer came.
        """
        ...


OpenClient = Callable[[], AbstractAsyncContextManager[ExchangeClient]]
"""Opens one connection; each fetcher has its own."""


class NoPermit(Exception):
    """The governor grants nothing any more: the pipeline is stopping."""
