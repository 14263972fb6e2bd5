"""The exchange's own meter of request weight for one pool: who used what, who is refused, who is banned.

Owns the rules 429 and 418. Must not read a clock (every instant is an argument, in ms of the server's clock) and must
not know of HTTP. One meter stands for one IP address in one pool.

1. Windows are aligned to the server's clock: an instant belongs to window ``instant // interval``.
2. Every request is charged when it arrives, refused ones too.
3. A request that lifts the count above the limit is answered 429, until the window ends.
4. After ``BanRule.after_refusals`` answers of 429 in one window, the next request is answered 418: banned. Each
   further ban lasts twice as long as the one before, up to a cap. Requests during a ban do not lengthen it.
5. A second tenant on the same address may use weight too; its use counts, its own refusals are its own affair.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from binance_simulator.quotas import Interval, Quota

OK = 200
REFUSED = 429
BANNED = 418
_REMEMBERED_WINDOWS = 100_000


@dataclass(frozen=True, slots=True)
class BanRule:
    """When a ban comes and how long it lasts.

    ``after_refusals`` answers of 429 in a window are borne. The first ban lasts ``first_s`` seconds, each later one
    ``factor`` times the one before, none longer than ``longest_s``.
    """

    after_refusals: int = 3
    first_s: float = 120.0
    factor: float = 2.0
    longest_s: float = 3 * 86_400.0

    def lasts_ms(self, bans_before: int) -> int:
        """Length of the ban that follows ``bans_before`` earlier ones, in ms."""
        if self.first_s >= self.longest_s or self.factor <= 1:
            return round(min(self.first_s, self.longest_s) * 1000)
        doublings_to_cap = math.ceil(math.log(self.longest_s / max(self.first_s, 1e-3), self.factor))
        grown_s = self.first_s * self.factor ** min(bans_before, doublings_to_cap)
        return round(min(grown_s, self.longest_s) * 1000)


@dataclass(frozen=True, slots=True)
class TenantOptions:
    """Another program on our IP address: weight used evenly, and bursts at multiples of ``burst_every_s``."""

    weight_per_s: float = 0.0
    burst_weight: int = 0
    burst_every_s: float = 60.0

    def weight_between(self, after_ms: float, until_ms: float) -> float:
        """Weight it uses after one instant, up to and including another."""
        if until_ms <= after_ms:
            return 0.0
        steady = self.weight_per_s * (until_ms - after_ms) / 1000
        if not self.burst_weight:
            return steady
        every_ms = self.burst_every_s * 1000
        return steady + self.burst_weight * (until_ms // every_ms - after_ms // every_ms)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the meter enforces: the weight quota, perhaps a quota of raw requests, bans, and the other tenant."""

    weight: Quota
    raw_requests: Quota | None = None
    bans: BanRule = BanRule()
    tenant: TenantOptions = TenantOptions()


@dataclass(slots=True)
class Window:
    """One window of the meter: ``start_ms``, its ``interval_ms``, and what happened in it.

    ``used_by_us`` is the weight charged to the requests served here, ``used_by_others`` the other tenant's;
    ``refused`` and ``banned`` count the answers 429 and 418.
    """

    start_ms: int
    interval_ms: int
    limit: int
    used_by_us: int = 0
    used_by_others: float = 0.0
    requests: int = 0
    refused: int = 0
    banned: int = 0
    tenant_seen_ms: int = 0

    @property
    def used_weight(self) -> int:
        """Everybody's weight so far: what the header says."""
        return self.used_by_us + int(self.used_by_others)


@dataclass(frozen=True, slots=True)
class Charge:
    """What the meter says of one request: ``status`` 200, 429 or 418, and the weight used so far in the window.

    ``retry_after_s`` is in whole seconds; ``banned_until_ms`` is an instant of the server's clock.
    """

    status: int
    used_weight: int
    retry_after_s: int = 0
    banned_until_ms: int = 0
    limiter: Quota | None = None


@dataclass(frozen=True, slots=True)
class LedgerTotals:
    """The meter in numbers. ``max_used_weight`` is the largest window's, ``bans`` counts bans, not their answers."""

    requests: int
    used_by_us: int
    max_used_weight: int
    refused: int
    banned: int
    bans: int


@dataclass(slots=True)
class WeightMeter:
    """The count of one pool. Change ``rules`` at any time; what was charged stays charged."""

    rules: Rules
    _windows: deque[Window] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_WINDOWS))
    _raw_window: int = 0
    _raw_count: int = 0
    _banned_until_ms: int = 0
    _bans: int = 0

    def charge(self, weight: int, now_ms: int) -> Charge:
        """Charge one request that arrives at ``now_ms`` and say how it is to be answered."""
        window = self._window_at(now_ms)
        window.requests += 1
        window.used_by_us += weight
        raw_is_over = self._raw_is_over(now_ms)
        if now_ms < self._banned_until_ms:
            return self._banned(window, now_ms)
        exceeded = self._exceeded(window, raw_is_over=raw_is_over)
        if exceeded is None:
            return Charge(OK, window.used_weight)
        if window.refused >= self.rules.bans.after_refusals:
            self._start_ban(now_ms, self.rules.bans.lasts_ms(self._bans))
            return self._banned(window, now_ms)
        window.refused += 1
        return Charge(REFUSED, window.used_weight, _seconds_left(exceeded.interval, now_ms), limiter=exceeded)

    def used_weight(self, now_ms: int) -> int:
        """Everybody's weight in the window that holds ``now_ms``. Charges nothing."""
        return self._window_at(now_ms).used_weight

    def ban(self, now_ms: int, lasts_ms: int) -> None:
        """Ban at once, for a given time, whatever was used."""
        self._start_ban(now_ms, lasts_ms)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows in which something arrived, oldest first; the other tenant's part is as of the last look."""
        return tuple(self._windows)

    def totals(self) -> LedgerTotals:
        """Sums over the remembered windows."""
        windows = self._windows
        return LedgerTotals(
            requests=sum(window.requests for window in windows),
            used_by_us=sum(window.used_by_us for window in windows),
            max_used_weight=max((window.used_weight for window in windows), default=0),
            refused=sum(window.refused for window in windows),
            banned=sum(window.banned for window in windows),
            bans=self._bans,
        )

    def _window_at(self, now_ms: int) -> Window:
        """The window that holds the instant, with the other tenant's use up to it."""
        quota = self.rules.weight
        start_ms = now_ms - now_ms % quota.interval.ms
        current = self._windows[-1] if self._windows else None
        if current is None or (current.start_ms, current.interval_ms) != (start_ms, quota.interval.ms):
            if current is not None:
                self._note_tenant(current, current.start_ms + current.interval_ms - 1)
            # One ms early, so that a burst at the very start of the window belongs to it.
            current = Window(start_ms, quota.interval.ms, quota.limit, tenant_seen_ms=start_ms - 1)
            self._windows.append(current)
        self._note_tenant(current, now_ms)
        return current

    def _note_tenant(self, window: Window, until_ms: int) -> None:
        window.used_by_others += self.rules.tenant.weight_between(window.tenant_seen_ms, until_ms)
        window.tenant_seen_ms = max(window.tenant_seen_ms, until_ms)

    def _raw_is_over(self, now_ms: int) -> bool:
        quota = self.rules.raw_requests
        if quota is None:
            return False
        window = now_ms // quota.interval.ms
        self._raw_count = self._raw_count + 1 if window == self._raw_window else 1
        self._raw_window = window
        return self._raw_count > quota.limit

    def _exceeded(self, window: Window, *, raw_is_over: bool) -> Quota | None:
        if window.used_weight > self.rules.weight.limit:
            return self.rules.weight
        return self.rules.raw_requests if raw_is_over else None

    def _start_ban(self, now_ms: int, lasts_ms: int) -> None:
        self._bans += 1
        self._banned_until_ms = now_ms + lasts_ms

    def _banned(self, window: Window, now_ms: int) -> Charge:
        window.banned += 1
        seconds = max(1, math.ceil((self._banned_until_ms - now_ms) / 1000))
        return Charge(BANNED, window.used_weight, seconds, self._banned_until_ms)


def _seconds_left(interval: Interval, now_ms: int) -> int:
    """Whole seconds to the end of the window, rounded up: who waits them out is in the next window."""
    return max(1, math.ceil((interval.ms - now_ms % interval.ms) / 1000))
