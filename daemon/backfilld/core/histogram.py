"""Counts of durations by size, as Prometheus counts them. Owns the arithmetic, and no name of a metric."""

from bisect import bisect_left
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values were at most each of ``bounds``, ascending, and more than the one before; ``counts`` has one
    place more, for values above the last bound. ``total`` is their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    @classmethod
    def empty(cls, *bounds: float) -> "Histogram":
        """No values yet."""
        return cls(bounds, (0,) * (len(bounds) + 1))

    def plus(self, value: float) -> "Histogram":
        """With one more value."""
        place = bisect_left(self.bounds, value)
        counts = tuple(count + (index == place) for index, count in enumerate(self.counts))
        return replace(self, counts=counts, total=self.total + value)

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self.counts)
