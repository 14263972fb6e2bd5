"""Requests that only the exchange can answer: each is sent once, however many ask for it meanwhile.

Owns what is on its way, and the answers that are kept for a while. Nothing here spends weight by itself: the client
asks the governor.
"""

import math
from dataclasses import dataclass, field

import structlog
import trio

from backfilld.core.model import Market
from backfilld.core.serving.weights import kept_s, route_of, weight_of
from backfilld.errors import ExchangeError, RateLimited, TransientError
from backfilld.ports import ExchangeClient, Forwarded, NoPermit

log = structlog.get_logger()

KEPT_BYTES = 64 << 20
MOST_ON_THEIR_WAY = 128
"""Different requests that wait for the exchange at a time."""

FORWARDED, COALESCED, CACHE = "forwarded", "coalesced", "cache"


@dataclass(frozen=True, slots=True)
class Wish:
    """A request as the exchange is to see it. ``headers`` are those that change what it answers."""

    market: Market
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(frozen=True, slots=True)
class Relayed:
    """What became of a request, and how."""

    answer: Forwarded | ExchangeError
    source: str


@dataclass(slots=True, eq=False)
class _Flight:
    ended: trio.Event = field(default_factory=trio.Event)
    answer: Forwarded | ExchangeError | None = None


class Relay:
    """Asks the exchange by ``client``. ``nursery`` is where a request lives on whose sender has left: others may wait
    for it."""

    def __init__(self, client: ExchangeClient, wait_s: float, nursery: trio.Nursery) -> None:
        self._client = client
        self._wait_s = wait_s
        self._nursery = nursery
        self._flights: dict[Wish, _Flight] = {}
        self._kept: dict[Wish, tuple[float, Forwarded]] = {}

    async def ask(self, wish: Wish) -> Relayed:
        """The exchange's answer, or why there is none."""
        kept = self._known(wish)
        if kept is not None:
            return Relayed(kept, CACHE)
        flight, source = self._flights.get(wish), COALESCED
        if flight is None:
            if len(self._flights) >= MOST_ON_THEIR_WAY:
                return Relayed(RateLimited("too many requests wait for the exchange", retry_after_s=1.0), FORWARDED)
            flight, source = _Flight(), FORWARDED
            self._flights[wish] = flight
            self._nursery.start_soon(self._fly, wish, flight)
        await flight.ended.wait()
        assert flight.answer is not None  # noqa: S101 - it is set before the event
        return Relayed(flight.answer, source)

    async def _fly(self, wish: Wish, flight: _Flight) -> None:
        began, weight = trio.current_time(), weight_of(wish.path, wish.query)
        try:
            headers = dict(wish.headers)
            reply = await self._client.forward(wish.market, wish.target, weight, self._wait_s, headers)
            flight.answer = reply.read()
        except NoPermit:
            flight.answer = TransientError("the daemon is stopping")
        except Exception as error:  # noqa: BLE001 - it must reach those who wait
            flight.answer = ExchangeError(repr(error))
        finally:
            del self._flights[wish]
            flight.answer = ExchangeError("the daemon is stopping") if flight.answer is None else flight.answer
            flight.ended.set()
        answer = flight.answer
        status = answer.status if isinstance(answer, Forwarded) else 0
        seconds = round(trio.current_time() - began, 3)
        # The route and not the path: what a client writes into a path does not belong into a log.
        about = {"market": str(wish.market), "endpoint": route_of(wish.path), "status": status}
        log.debug("request_forwarded", weight=weight, seconds=seconds, **about)
        self._keep(wish, answer)

    def _known(self, wish: Wish) -> Forwarded | None:
        until, answer = self._kept.get(wish, (-math.inf, None))
        return answer if trio.current_time() < until else None

    def _keep(self, wish: Wish, answer: Forwarded | ExchangeError) -> None:
        for_s = kept_s(wish.path, wish.query)
        if not for_s or not isinstance(answer, Forwarded) or answer.status != 200:  # noqa: PLR2004
            return
        now = trio.current_time()
        self._kept = {each: kept for each, kept in self._kept.items() if kept[0] > now}
        self._kept[wish] = now + for_s, answer
        while sum(len(kept.body) for _, kept in self._kept.values()) > KEPT_BYTES:
            self._kept.pop(next(iter(self._kept)))
