"""Everything that can be set on the simulated exchange, in one frozen value.

Owns the names, the defaults and their reasons. Must not act on them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from binance_simulator.archive_defects import ArchiveDefect
from binance_simulator.faults import ARCHIVE_FAULTS, FaultPlan
from binance_simulator.model import MS_PER_HOUR, Instrument, Market, Pool
from binance_simulator.quotas import MINUTE, Interval, IntervalUnit, Quota
from binance_simulator.weights import BanRule, Rules, TenantOptions

_EVERY_DAY = "*"


def _recorded_limits() -> dict[Pool, int]:
    return {Pool.SPOT: 6000, Pool.FUTURES: 2400}


def _documented_raw_requests() -> Quota:
    return Quota(300_000, Interval(5, IntervalUnit.MINUTE))


def _documented_lookback_hours() -> dict[Market, float | None]:
    return {Market.SPOT: None, Market.UM: 48.0, Market.CM: 24.0}


@dataclass(frozen=True, kw_only=True)
class ExchangeOptions:
    """The simulated exchange's behaviour; replace it with ``dataclasses.replace`` to change it while it runs."""

    latency_s: float = 0.0
    """Seconds between a request's arrival (when it is charged and its rows are chosen) and its answer."""

    latency_jitter_s: float = 0.0
    """Up to so many seconds more, evenly distributed."""

    rest_lag_s: float = 0.0
    """How far the database behind aggTrades lies behind the streams."""

    replica_lags_s: Sequence[float] = (0.0,)
    """How far each replica of that database lies behind the first one; every request to aggTrades meets one of them."""

    sticky_replicas: bool = False
    """A client stays at the replica of its connection, as with a load balancer that remembers; else each request meets
    any of them."""

    page_cap: int | None = None
    """At most so many rows in an answer, whatever ``limit`` says; None as documented."""

    clock_skew_ms: int = 0
    """The server's clock minus the host's; it moves windows, ``Date``, serverTime and what can be seen."""

    limits: Mapping[Pool, int] = field(default_factory=_recorded_limits)
    """Request weight per interval and pool that is enforced. A pool left out keeps its default, which was recorded."""

    announced_limits: Mapping[Pool, int] = field(default_factory=dict)
    """What exchangeInfo says of the limits, where that differs from what is enforced."""

    interval: Interval = MINUTE
    """The interval of the weight limits."""

    raw_requests: Quota | None = field(default_factory=_documented_raw_requests)
    """Requests per interval on spot, whatever their weight; None neither announces nor enforces it."""

    bans: BanRule = field(default_factory=BanRule)
    """When a 418 comes and how long it lasts."""

    tenant: TenantOptions = field(default_factory=TenantOptions)
    """Another program on our address, using weight of every pool."""

    lookback_hours: Mapping[Market, float | None] = field(default_factory=_documented_lookback_hours)
    """How far back a market answers before it says -4166; None for ever. A market left out keeps its default."""

    statuses: Mapping[str, str] = field(default_factory=dict)
    """Trading status of an instrument (``spot:BTCUSDT``) in exchangeInfo, where it is not TRADING."""

    gzip: bool = True
    """Compress bodies above 1 kB for clients that accept it. Off, a page costs the server about a quarter less CPU."""

    faults: FaultPlan = field(default_factory=FaultPlan)
    """Which requests are answered wrongly, and how."""

    absent_ids: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    """By instrument, ranges of ids (both ends inclusive) that the exchange itself does not have: REST passes over
    them, and the archive does not show them."""

    archive_delay_s: float = 28_800.0
    """Seconds from the end of a day to the publication of its archive file; files appear at about 08:00 UTC."""

    archive_latency_s: float = 0.0
    """Seconds between a request to the archive and its answer."""

    archive_defects: Mapping[str, Sequence[ArchiveDefect]] = field(default_factory=dict)
    """What is wrong with the archive, by day (``spot:BTCUSDT/2026-01-01``), by instrument (``spot:BTCUSDT``) or for
    all (``*``); of several keys for a day the most exact one decides, also with an empty list."""

    archive_faults: FaultPlan = field(default_factory=lambda: FaultPlan(kinds=ARCHIVE_FAULTS))
    """Which requests to the archive are answered wrongly, all of them counted; the plan's ``endpoints`` mean nothing
    here, and faults that spoil rows do nothing."""

    def __post_init__(self) -> None:
        for key in self.archive_defects:
            if key != _EVERY_DAY:
                _refuse_unless_day(key)
        for name, ranges in self.absent_ids.items():
            Instrument.parse(name)
            if any(first_id > last_id for first_id, last_id in ranges):
                raise ValueError(f"absent_ids of {name}: a range ends before it begins")

    def absent_ids_of(self, instrument: Instrument) -> Sequence[tuple[int, int]]:
        """The ranges of ids of the instrument that the exchange does not have."""
        return self.absent_ids.get(str(instrument), ())

    def archive_defects_of(self, instrument: Instrument, day: date) -> frozenset[ArchiveDefect]:
        """What is wrong with one day of the archive."""
        for key in (f"{instrument}/{day.isoformat()}", str(instrument), _EVERY_DAY):
            if key in self.archive_defects:
                return frozenset(self.archive_defects[key])
        return frozenset()

    def weight_limit(self, pool: Pool) -> int:
        """The weight that one window of the pool allows."""
        return self.limits.get(pool, _recorded_limits()[pool])

    def announced_limit(self, pool: Pool) -> int:
        """The weight that one window of the pool allows, according to exchangeInfo."""
        return self.announced_limits.get(pool, self.weight_limit(pool))

    def lookback_ms(self, market: Market) -> int | None:
        """How far back the market answers, in ms, or None for ever."""
        hours = self.lookback_hours.get(market, _documented_lookback_hours()[market])
        return None if hours is None else round(hours * MS_PER_HOUR)

    def rules(self, pool: Pool) -> Rules:
        """What the pool's count enforces."""
        weight = Quota(self.weight_limit(pool), self.interval)
        return Rules(weight, self.raw_requests if pool is Pool.SPOT else None, self.bans, self.tenant)


def _refuse_unless_day(key: str) -> None:
    name, slash, day = key.partition("/")
    Instrument.parse(name)
    try:
        if slash:
            date.fromisoformat(day)
    except ValueError as error:
        raise ValueError(f"archive_defects {key!r}: a day is written YYYY-MM-DD") from error
