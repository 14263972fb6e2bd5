"""How long to wait before asking again, and when to give up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: before retry ``n`` a random part of ``first_s * 2**(n-1)``, capped."""

    attempts: int = 7
    first_s: float = 0.25
    cap_s: float = 4.0

    def wait_s(self, failures: int, jitter: float) -> float | None:
        """Seconds to wait after the ``failures``-th failure in a row, or None to give up.

        ``jitter`` in [0, 1) is the caller's random number; at least half of the step is waited.
        """
        if failures >= self.attempts:
            return None
        step_s = min(self.cap_s, self.first_s * 2.0 ** (failures - 1))
        return step_s * (0.5 + 0.5 * jitter)
