"""How long a hole waits before REST is asked for it, and before it is asked again.

Owns what is learned of how far REST is behind the stream. Never looks at a clock.
"""

from dataclasses import dataclass
from math import inf

SHORTEST_S = 0.1
"""A hole younger than this is a shuffle: the rows come by themselves within some ms."""

LONGEST_S = 2.0
"""A hole is asked for after this at the latest, however far REST was behind."""

OF_ITS_AGE = 0.1
"""A hole that REST does not reach is asked for again after this part of its age: REST stands still, or the stream has
brought an id that is wrong."""


@dataclass(slots=True)
class Delay:
    """The wait of an instrument's holes: ``wait_s`` from their first sight, and not before ``again_at``."""

    wait_s: float = SHORTEST_S
    again_at: float = -inf

    def due_at(self, since: float) -> float:
        """When to ask for a hole that was first seen then."""
        return max(since + self.wait_s, self.again_at)

    def lacked(self, since: float | None, now: float) -> None:
        """REST does not have the rows of the hole yet: ask again later, and for the next hole later from the start."""
        self.wait_s = min(LONGEST_S, self.wait_s * 1.5)
        self.again_at = now + max(self.wait_s, OF_ITS_AGE * (now - (now if since is None else since)))

    def filled(self) -> None:
        """REST had the rows."""
        self.wait_s = max(SHORTEST_S, self.wait_s * 0.95)

    def has_news(self, now: float) -> None:
        """The stream has brought more trades behind a hole, which may be another one."""
        self.again_at = min(self.again_at, now + self.wait_s)
