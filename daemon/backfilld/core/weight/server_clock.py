"""The exchange's clock, as known from its answers.

Owns the offset between a local monotonic clock and the server's, as an interval that is certain: an answer that was
sent at local ``s`` and received at local ``r`` and carries server time ``t`` says that the server's clock stood at
``t`` (plus less than the precision of ``t``) at some moment between ``s`` and ``r``.
"""

from dataclasses import dataclass

DRIFT = 200e-6
"""How fast two clocks may part, in s per s: twice what a bad quartz does."""


@dataclass(frozen=True, slots=True)
class ServerClock:
    """Bounds of (server ms - local ms), as of the local instant ``known_at_ms``."""

    low_ms: float
    high_ms: float
    known_at_ms: float

    @classmethod
    def assumed(cls, local_ms: float, wall_ms: float, error_ms: float = 1000.0) -> "ServerClock":
        """Before any answer: the host's wall clock, trusted to ``error_ms``."""
        offset = wall_ms - local_ms
        return cls(offset - error_ms, offset + error_ms, local_ms)

    def observed(self, sent_ms: float, received_ms: float, server_ms: float, precision_ms: float) -> "ServerClock":
        """The clock after an answer. Bounds that contradict the answer (a stepped clock) give way to it."""
        as_of_ms = max(received_ms, self.known_at_ms)
        reported_slack = DRIFT * (as_of_ms - sent_ms)
        low, high = server_ms - received_ms - reported_slack, server_ms + precision_ms - sent_ms + reported_slack
        held_slack = DRIFT * (as_of_ms - self.known_at_ms)
        both_low, both_high = max(low, self.low_ms - held_slack), min(high, self.high_ms + held_slack)
        if both_low > both_high:
            both_low, both_high = low, high
        return ServerClock(both_low, both_high, as_of_ms)

    def earliest_ms(self, local_ms: float) -> float:
        """The least that the server's clock can show at the local instant."""
        return local_ms + self.low_ms - DRIFT * max(0.0, local_ms - self.known_at_ms)

    def latest_ms(self, local_ms: float) -> float:
        """The most that the server's clock can show at the local instant."""
        return local_ms + self.high_ms + DRIFT * max(0.0, local_ms - self.known_at_ms)

    def now_ms(self, local_ms: float) -> int:
        """The best single guess of the server's clock at the local instant."""
        return int(local_ms + (self.low_ms + self.high_ms) / 2)
