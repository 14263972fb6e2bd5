"""What everybody else on the IP uses, and what is to be left for them.

Owns the estimate of the weight that others will still use in a window: seen is what the header reported beyond our own
count; the rest is extrapolated, so that a program beside us never meets a 429 because we took what it was about to use.
Whoever spends all at the beginning of a window never sees what others use later in it, so a little is kept to look.
Times are the server's, in ms.
"""

from collections import deque
from dataclasses import dataclass
from math import ceil

WINDOWS_REMEMBERED = 10
"""A burst is expected again for this many windows."""
STALE_PART = 0.1
"""For this part of a window what was not seen counts as used; then what is reserved shrinks, until somebody looks."""
LAST_PART = 0.25
"""In this last part of a window the room kept for a burst that did not come is let go, little by little."""

LOOKING_PART = 0.05
"""The part of a window's allowance that is spread over it, for requests whose headers show what others use."""
LOOKED_UNTIL = 0.8
"""In this part of a window it is given out, little by little; the rest is time enough to use all of it."""


@dataclass(frozen=True, slots=True)
class _Past:
    """A window that is over: what was seen of it, and what that makes for the whole of it."""

    number: int
    seen: float
    total: float


class ForeignUsage:
    """The use of one limit by others, window by window."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._past: deque[_Past] = deque(maxlen=WINDOWS_REMEMBERED)
        self._number: int | None = None
        self._base = 0.0
        self._base_ms = 0.0
        self._seen = 0.0
        self._seen_ms = 0.0

    def saw(self, number: int, used: float, at_ms: float) -> None:
        """A header showed that others had used ``used`` of window ``number`` at ``at_ms``, or a little more."""
        used = max(0.0, used)
        if self._number is None or number > self._number:
            # What was used before our first look may be our own, of a process that is gone.
            is_first = self._number is None
            self._close()
            self._number, self._seen = number, used
            self._base, self._base_ms = (used, at_ms) if is_first else (0.0, float(number * self._interval_ms))
        if number == self._number:
            self._seen = max(self._seen, used)
            self._seen_ms = max(at_ms, self._base_ms)

    def seen(self, number: int) -> int:
        """What others are known to have used of the window."""
        return int(self._seen) if number == self._number else 0

    def expected(self, number: int, now_ms: float) -> int:
        """What others are expected to use of the window beyond what is known, as of ``now_ms``."""
        if self._number is None or number < self._number:
            return 0
        end_ms = (number + 1) * self._interval_ms
        looked_ms = self._seen_ms if number == self._number else number * self._interval_ms
        left_ms = max(0.0, end_ms - now_ms)
        unseen_ms = min(max(0.0, now_ms - looked_ms), STALE_PART * self._interval_ms)
        at_their_rate = self._rate() * min(left_ms + unseen_ms, self._interval_ms)
        peak = max((past.seen for past in self._past if past.number >= number - WINDOWS_REMEMBERED), default=0.0)
        seen = self._seen - self._base if number == self._number else 0.0
        like_before = max(0.0, peak - seen) * min(1.0, left_ms / (LAST_PART * self._interval_ms))
        return int(max(at_their_rate, like_before) + 0.5)

    def kept_to_look(self, number: int, now_ms: float, allowed: int, cost: int) -> int:
        """What of ``allowed`` is not to be used yet as of ``now_ms``, in whole requests of ``cost``."""
        passed = max(0.0, now_ms / self._interval_ms - number)
        looks = int(allowed * LOOKING_PART) // cost
        return ceil(looks * max(0.0, 1.0 - passed / LOOKED_UNTIL)) * cost

    def _rate(self) -> float:
        """Weight per ms, over this window and the busier of the two before."""
        past = [each.total for each in self._past if self._number is not None and each.number >= self._number - 2]
        used = self._seen - self._base + max(past, default=0.0)
        length_ms = self._seen_ms - self._base_ms + self._interval_ms * bool(past)
        return used / max(length_ms, STALE_PART * self._interval_ms)

    def _close(self) -> None:
        if self._number is None:
            return
        seen, watched_ms = self._seen - self._base, self._seen_ms - self._base_ms
        total = seen * self._interval_ms / max(watched_ms, STALE_PART * self._interval_ms)
        self._past.append(_Past(self._number, seen, total))
