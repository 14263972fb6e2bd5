"""The door to the exchange: a client that sends nothing without a permit of the governor.

Owns that every request is permitted, counted and reported, that a pause reaches the governor before anything else of
the answer is read, and that a refusal for weight makes exchangeInfo be asked for the limits again. It is the only
client that assembly hands out; nothing else may import the one that it wraps.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import TypeVar

import polars as pl
import trio
from msgspec.structs import replace

from backfilld.actors.permits import Governor, SetLimits, TellTime
from backfilld.core.backfill.questions import Query
from backfilld.core.model import Instrument, Market
from backfilld.core.serving.weights import has_true_count
from backfilld.core.weight.fair_queue import Rank
from backfilld.core.weight.weights import Endpoint
from backfilld.errors import ExchangeError, RateLimited, RequestRejected, TransientError
from backfilld.ports import (
    USUAL,
    Cost,
    Forwarded,
    MarketInfo,
    OpenClient,
    OpenRestClient,
    Reply,
    RestClient,
    Urgency,
    Usage,
)

T = TypeVar("T")

FORWARDED = "forwarded"
"""The endpoint of every forwarded request: what its weight is, its sender knows."""


def governed(open_rest: OpenRestClient, governor: Governor) -> OpenClient:
    """A function that opens one governed client; all of them ask the same governor."""
    doubted: set[Market] = set()

    @asynccontextmanager
    async def open_client() -> AsyncIterator[GovernedClient]:
        async with open_rest() as rest:
            yield GovernedClient(rest, governor, doubted)

    return open_client


class GovernedClient:
    """One connection under permits. Implements :class:`backfilld.ports.ExchangeClient`.

    ``doubted`` are the markets whose limits exchangeInfo is to be asked for again, shared by all clients.
    """

    def __init__(self, rest: RestClient, governor: Governor, doubted: set[Market]) -> None:
        self._rest = rest
        self._governor = governor
        self._doubted = doubted

    async def trades(self, instrument: Instrument, query: Query, urgency: Urgency = USUAL) -> Reply[pl.DataFrame]:
        """Ask aggTrades one question."""
        before = await self._renewed_limits(instrument, urgency)
        ask = partial(self._rest.trades, instrument, query)
        reply = await self._permitted(instrument.market, Endpoint.TRADES, urgency, ask, instrument)
        return replace(reply, cost=before.plus(reply.cost))

    async def market_info(
        self, market: Market, symbols: Sequence[str], urgency: Urgency = USUAL, *, whole: bool = False
    ) -> Reply[MarketInfo]:
        """Read exchangeInfo; the governor gets the limits that it names, and the time."""
        self._doubted.discard(market)
        ask = partial(self._rest.market_info, market, symbols, whole=whole)
        reply = await self._permitted(market, Endpoint.INFO, urgency, ask)
        info = reply.read()
        if isinstance(info, MarketInfo):
            self._governor.tell(SetLimits(market, info.limits))
            if info.server_ms is not None:
                at = TellTime(market, reply.cost.sent_ms, reply.cost.received_ms, info.server_ms)
                self._governor.tell(at)
        return replace(reply, result=info)

    async def forward(
        self,
        market: Market,
        target: str,
        weight: int,
        patience_s: float,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Reply[Forwarded]:
        """GET ``target`` for another program."""

        async def ask() -> Reply[Forwarded]:
            reply = await self._rest.forward(market, target, headers)
            is_true = has_true_count(target.partition("?")[0])
            return reply if is_true else replace(reply, usage=replace(reply.usage, used={}))

        return await self._permitted(market, FORWARDED, Urgency(Rank.CLIENT, patience_s), ask, weight=weight)

    async def _renewed_limits(self, instrument: Instrument, urgency: Urgency) -> Cost:
        """After a refusal for weight: ask for the limits before anything else, which then is the one request that goes
        alone after the pause."""
        if instrument.market not in self._doubted:
            return Cost()
        first = Urgency(Rank.HEAL, urgency.patience_s)
        reply = await self.market_info(instrument.market, [instrument.symbol], first)
        if isinstance(reply.result, ExchangeError) and not isinstance(reply.result, RequestRejected):
            self._doubted.add(instrument.market)
        return reply.cost

    async def _permitted(
        self,
        market: Market,
        endpoint: str,
        urgency: Urgency,
        ask: Callable[[], Awaitable[Reply[T]]],
        claimant: Hashable = None,
        weight: int = 0,
    ) -> Reply[T]:
        """Ask once, under a permit."""
        try:
            async with self._governor.permit(market, endpoint, urgency, claimant=claimant, weight=weight) as permit:
                reply = await ask()
                refusal = _refusal(reply)
                accepted = refusal is None and not isinstance(reply.result, TransientError)
                permit.report(reply.usage, accepted=accepted, refusal=refusal)
        except RateLimited as paused:
            return Reply(Usage(), paused)
        if refusal is not None and not refusal.blocked:
            self._doubted.add(market)
        return replace(reply, cost=Cost(1, permit.weight, permit.sent_ms, trio.current_time() * 1000))


def _refusal(reply: Reply[T]) -> RateLimited | None:
    """What makes everybody pause, as far as the head of the answer says it."""
    result = reply.result
    if isinstance(result, Forwarded):
        return result.refusal
    return result if isinstance(result, RateLimited) else None
