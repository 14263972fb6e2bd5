"""The exchange's limits, as exchangeInfo names them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

INTERVAL_MS = {"SECOND": 1_000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000}
"""Milliseconds of the interval names in exchangeInfo; their first letters name the header."""
MINUTE_MS = INTERVAL_MS["MINUTE"]
UNIT_OF_LETTER = {unit[0].lower(): unit for unit in INTERVAL_MS}
NO_LIMIT = 2**62
MOST_LIMITS = 16
"""How many limits of one market are counted. The exchange names three; each costs memory and time per request."""
MOST_DIGITS = 2
MOST_UNITS = 60
"""The longest interval, in its unit: the exchange names 1 to 10."""
FASTEST, SLOWEST = 10.0, 0.01
"""A named limit must lie within these multiples of the documented pace. Beyond them it is wrong, and the bound is
used: a larger one would risk a ban, a smaller one would stop us for good."""
MOST_REQUESTS = 10**9
"""The largest believable limit of requests regardless of weight."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limiter of exchangeInfo: ``limit`` per ``count`` times ``unit`` (``6000`` per ``1`` ``MINUTE``).

    ``by_weight`` is true for REQUEST_WEIGHT, false for RAW_REQUESTS, where every request counts one.
    """

    limit: int
    count: int
    unit: str
    by_weight: bool = True

    @classmethod
    def unknown(cls, name: str) -> "Limit | None":
        """The interval of a used-weight header whose limit nobody has named yet, or None if it is not an interval."""
        unit, digits = UNIT_OF_LETTER.get(name[-1:]), name[:-1]
        if unit is None or not (digits.isascii() and digits.isdecimal() and len(digits) <= MOST_DIGITS):
            return None
        count = int(digits)
        return cls(NO_LIMIT, count, unit) if 1 <= count <= MOST_UNITS else None

    @property
    def interval_ms(self) -> int:
        """Length of the window."""
        return self.count * INTERVAL_MS[self.unit]

    @property
    def name(self) -> str:
        """The interval as the used-weight header names it: ``1m``, ``10s``."""
        return f"{self.count}{self.unit[0].lower()}"

    def cost(self, weight: int) -> int:
        """What a request of ``weight`` takes of this limit."""
        return weight if self.by_weight else 1


def smallest(limits: Iterable[Limit]) -> tuple[Limit, ...]:
    """The smallest limit of each interval and kind."""
    found: dict[tuple[bool, str], Limit] = {}
    for limit in sorted(limits, key=lambda each: each.limit):
        found.setdefault((limit.by_weight, limit.name), limit)
    return tuple(found.values())


def bounded(named: Sequence[Limit], documented: Sequence[Limit]) -> tuple[Limit, ...]:
    """What to believe of the limits that exchangeInfo names.

    Impossible intervals are dropped, and limits are kept within FASTEST and SLOWEST of the documented pace. Without a
    believable limit by weight the documented ones stay.
    """
    pace = max((each.limit / each.interval_ms for each in documented if each.by_weight), default=0.0)
    possible = [each for each in named if 1 <= each.count <= MOST_UNITS and each.unit in INTERVAL_MS and each.limit > 0]
    believed = tuple(_near(each, pace * each.interval_ms) for each in possible[:MOST_LIMITS])
    return believed if any(each.by_weight for each in believed) else (*documented, *believed)[:MOST_LIMITS]


def _near(limit: Limit, documented: float) -> Limit:
    least = max(1, int(documented * SLOWEST))
    most = max(least, int(documented * FASTEST)) if limit.by_weight else MOST_REQUESTS
    return replace(limit, limit=min(max(limit.limit, least), most))
