"""The exchange's limits, as exchangeInfo names them."""

from dataclasses import dataclass

INTERVAL_MS = {"SECOND": 1_000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000}
"""Milliseconds of the interval names in exchangeInfo; their first letters name the header."""
MINUTE_MS = INTERVAL_MS["MINUTE"]
UNIT_OF_LETTER = {unit[0].lower(): unit for unit in INTERVAL_MS}
NO_LIMIT = 2**62


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
        """The interval of a used-weight header whose limit nobody has named yet, or None if it is no interval."""
        unit = UNIT_OF_LETTER.get(name[-1:])
        if unit is None or not name[:-1].isdecimal() or int(name[:-1]) == 0:
            return None
        return cls(NO_LIMIT, int(name[:-1]), unit)

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
