"""How many messages a client may send. Owns the pace. Never looks at a clock."""

from dataclasses import dataclass

BURST = 200
REQUESTS_A_S = 20.0
"""Messages of a client: so many at once, and so many a second after that. Binance cuts off at five a second."""


@dataclass(slots=True)
class Credit:
    """The messages that one client may still send, as of ``counted_at``."""

    counted_at: float
    left: float = float(BURST)

    def take(self, now: float) -> bool:
        """Count a message; whether it is within the pace."""
        self.left = min(float(BURST), self.left + (now - self.counted_at) * REQUESTS_A_S) - 1
        self.counted_at = now
        return self.left >= 0
