"""The request weight of what backfilld asks: as the exchange documents it, and as its headers teach otherwise."""

from bisect import insort
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise

MOST_TIMES = 15
"""The largest weight that headers can teach, in documented weights. The exchange doubled its weights at times; a larger
one is wrong, and would stop us."""
LESSONS = 8
"""Steps of the header, all alike and none smaller, that teach a larger weight."""


class Endpoint(StrEnum):
    """What is asked of the exchange."""

    TRADES = "aggTrades"
    INFO = "exchangeInfo"


class WeightTable:
    """Weights by endpoint: the documented ones, or larger ones that were learned.

    Within a window each of our requests reports the count that it has brought about. Two reports that follow each other
    differ by the weight of the later request, and by what others used meanwhile. So the smallest difference bounds the
    weight from above, and if it is larger than what we charge, again and again the same, nobody else made it so.
    """

    def __init__(self, documented: Mapping[str, int], learned: Mapping[str, int] | None = None) -> None:
        self._documented = documented
        self.learned: dict[str, int] = {}
        self.learned = {
            name: weight for name, weight in (learned or {}).items() if self[name] < weight <= self._most(name)
        }
        self._window: object = None
        self._reports: list[tuple[int, str]] = []
        self._taught: set[str] = set()
        """Endpoints of which a report of this window has shown that they cost no more than we charge."""

    def __getitem__(self, endpoint: str) -> int:
        return self.learned.get(endpoint, self._documented.get(endpoint, 1))

    def reported(self, window: object, used: int, endpoint: str) -> bool:
        """Take the count after a request that was surely charged in ``window``; return whether a larger weight was
        learned."""
        if window != self._window:
            self._window = window
            self._reports = []
            self._taught.clear()
        insort(self._reports, (used, endpoint))
        return len(self._reports) % LESSONS == 1 and self._learn(endpoint)

    def _learn(self, endpoint: str) -> bool:
        # Of a forwarded request each has its own weight, which its sender knows.
        if endpoint not in self._documented or endpoint in self._taught:
            return False
        steps = [b - a for (a, _), (b, kind) in pairwise(self._reports) if kind == endpoint]
        least = min(steps, default=0)
        if steps and least <= self[endpoint]:
            # A report more makes the smallest step no larger.
            self._taught.add(endpoint)
        if not self[endpoint] < least <= self._most(endpoint) or steps.count(least) < LESSONS:
            return False
        self.learned[endpoint] = least
        return True

    def _most(self, endpoint: str) -> int:
        return MOST_TIMES * self._documented.get(endpoint, 1)

    def unlearn(self) -> bool:
        """The server has counted less than we did: what was learned is not so, or not any more."""
        had_learned = bool(self.learned)
        self.learned.clear()
        self._taught.clear()
        return had_learned
