"""How long to wait before asking again, and when to give up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with jitter, capped, under a total deadline.

    A question is given up ``deadline_s`` after it was first put, but not before ``attempts`` tries: each of them may
    take the ten seconds and more that the exchange itself takes before it says that it timed out.
    """

    deadline_s: float = 20.0
    attempts: int = 4
    first_s: float = 0.25
    cap_s: float = 4.0

    def wait_s(self, failures: int, tried_s: float, jitter: float) -> float | None:
        """Seconds to wait after the ``failures``-th failure in a row, or None to give up.

        ``tried_s`` are the seconds spent asking and waiting so far. ``jitter`` in [0, 1) is the caller's random number;
        at least half of the step is waited.
        """
        if failures >= self.attempts and tried_s >= self.deadline_s:
            return None
        step_s = min(self.cap_s, self.first_s * 2.0 ** (failures - 1))
        return step_s * (0.5 + 0.5 * jitter)
