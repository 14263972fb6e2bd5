"""The facts of each market of the exchange, and the pools of request weight that markets share.

Owns every fact that differs from market to market, in one table. It is complete by construction: a market that is added
to :class:`~backfilld.core.model.Market` without its rules stops the import of this module, and so the start.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from backfilld.core.model import MS_PER_DAY, Market
from backfilld.core.weight.limits import Limit, smallest
from backfilld.core.weight.weights import Endpoint


class Pool(StrEnum):
    """A count of request weight that the exchange keeps per IP address. The markets of a pool spend it together."""

    SPOT = "spot"
    FUTURES = "futures"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketRules:
    """What the exchange documents about one market.

    ``quantities`` is what the column ``q`` counts. ``first_id`` is the id of a symbol's very first trade, None where
    it is not known. ``lookback_ms`` is how far back REST answers, None for all of the past; it has moved before, so it
    says where to go on after a refusal (-4166), and never keeps us from asking. ``limits`` are in force until
    exchangeInfo names others. ``describes_symbols`` says that exchangeInfo can be asked for some symbols only.
    """

    pool: Pool
    quantities: str
    first_id: int | None
    lookback_ms: int | None
    weights: Mapping[str, int]
    limits: tuple[Limit, ...]
    rest_url: str
    rest_path: str
    stream_urls: tuple[str, ...]
    archive_folder: str
    describes_symbols: bool

    @property
    def answers_for_all_time(self) -> bool:
        """Whether REST answers for the whole past."""
        return self.lookback_ms is None


def complete(rules: Mapping[Market, MarketRules], markets: Iterable[Market]) -> Mapping[Market, MarketRules]:
    """The same rules, read-only. Raises LookupError that names each market without rules, each endpoint of a market
    without a weight, and each market without a limit."""
    gaps = [f"{market}: it has no rules" for market in markets if market not in rules]
    for market, each in rules.items():
        gaps += [f"{market}: {endpoint} has no weight" for endpoint in Endpoint if endpoint not in each.weights]
        gaps += [] if each.limits else [f"{market}: it has no limit"]
    if gaps:
        raise LookupError("; ".join(gaps))
    return MappingProxyType(dict(rules))


_FUTURES_WEIGHTS: Mapping[str, int] = {Endpoint.TRADES: 20, Endpoint.INFO: 1}

RULES = complete(
    {
        Market.SPOT: MarketRules(
            pool=Pool.SPOT,
            quantities="base asset",
            first_id=0,
            lookback_ms=None,
            # As documented since 2025-03-10, whatever the page's size.
            weights={Endpoint.TRADES: 4, Endpoint.INFO: 20},
            limits=(Limit(6000, 1, "MINUTE"),),
            rest_url="https://api.binance.com",
            rest_path="/api/v3",
            stream_urls=("wss://stream.binance.com:9443", "wss://data-stream.binance.vision"),
            archive_folder="data/spot",
            describes_symbols=True,
        ),
        Market.UM: MarketRules(
            pool=Pool.FUTURES,
            quantities="base asset",
            first_id=1,
            lookback_ms=2 * MS_PER_DAY,
            weights=_FUTURES_WEIGHTS,
            limits=(Limit(2400, 1, "MINUTE"),),
            rest_url="https://fapi.binance.com",
            rest_path="/fapi/v1",
            # Without /market the exchange acknowledges subscriptions and sends nothing, since 2026-04.
            stream_urls=("wss://fstream.binance.com/market",),
            archive_folder="data/futures/um",
            describes_symbols=False,
        ),
        Market.CM: MarketRules(
            pool=Pool.FUTURES,
            quantities="contracts",
            # Not confirmed by any document or recording.
            first_id=None,
            lookback_ms=MS_PER_DAY,
            weights=_FUTURES_WEIGHTS,
            limits=(Limit(2400, 1, "MINUTE"),),
            rest_url="https://dapi.binance.com",
            rest_path="/dapi/v1",
            # Documents disagree on the path; a silent one falls back to the next.
            stream_urls=("wss://dstream.binance.com/market", "wss://dstream.binance.com"),
            archive_folder="data/futures/cm",
            describes_symbols=False,
        ),
    },
    Market,
)


def markets_of(pool: Pool) -> tuple[Market, ...]:
    """The markets that spend this pool together."""
    return tuple(market for market, rules in RULES.items() if rules.pool is pool)


def limits_of(pool: Pool) -> tuple[Limit, ...]:
    """The limits of a pool until exchangeInfo names others: for each interval the smallest that one of its markets
    documents."""
    return smallest(limit for market in markets_of(pool) for limit in RULES[market].limits)
