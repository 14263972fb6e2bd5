"""How long to wait before asking, or starting, again, and when to give up."""

from dataclasses import dataclass, field

_MOST_DOUBLINGS = 16
"""Beyond them every wait is at its cap; a larger power of two does not fit a float."""


def doubled(first: float, cap: float, failures: int) -> float:
    """The wait after so many failures in a row, 1 at least: ``first``, twice as long after each, up to ``cap``."""
    return min(cap, first * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))


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
        return doubled(self.first_s, self.cap_s, failures) * (0.5 + 0.5 * jitter)


@dataclass(slots=True)
class Restarts:
    """How often something that crashed is started again: ``most`` times in any ``window_s``, each time later."""

    most: int = 5
    window_s: float = 600.0
    first_s: float = 0.5
    cap_s: float = 30.0
    _crashes: list[float] = field(default_factory=list)

    def after_crash(self, now_s: float, jitter: float) -> float | None:
        """Seconds to wait after a crash at ``now_s``, or None to give up. ``jitter`` as in :meth:`Backoff.wait_s`."""
        self._crashes = [at_s for at_s in self._crashes if at_s > now_s - self.window_s] + [now_s]
        if len(self._crashes) > self.most:
            return None
        return doubled(self.first_s, self.cap_s, len(self._crashes)) * (0.5 + 0.5 * jitter)
