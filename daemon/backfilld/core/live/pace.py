"""How much request weight a minute may go into precautions.

Owns the pace of probes. Never looks at a clock.
"""

from dataclasses import dataclass
from math import inf

SILENCE_WEIGHT = 60.0
"""Weight per minute and pool for asking about quiet instruments: polling sixty of the futures takes 2,400."""

JOIN_WEIGHT = 600.0
"""Weight per minute and pool for asking what a new connection missed: a quarter of what the futures allow."""


@dataclass(slots=True)
class Pace:
    """At most ``weight_per_min``, evenly: after a question of weight w the next one waits its share of the minute."""

    weight_per_min: float
    free_at: float = -inf

    def take(self, weight: float, now: float) -> bool:
        """Whether a question of this weight may be put now; if so it is counted."""
        if now < self.free_at:
            return False
        self.free_at = now + weight * 60.0 / self.weight_per_min
        return True
