"""Whether it is plausible that nothing was traded for so long.

Owns the comparison of the newest trade's age with the pace of trades: with that of the window first and, where that
finds the silence too long, with the longest one among the last thousand trades, however old. It decides how many
answers are needed, never what is true: an illiquid symbol may be silent for a day.
"""

from collections.abc import Sequence

from backfilld.core.timespan import StoredSpan

SILENT_INTERVALS = 50
"""A silence of so many mean intervals between trades is implausible: trades cluster, so that 20 are not rare."""

SHORTEST_SILENCE_MS = 60_000
"""No shorter silence is implausible, however fast the trades came."""

FEWEST_ROWS = 10
"""Fewer trades show no pace."""

LULLS = 3
"""A silence of so many times the longest one among many trades is implausible."""

LONG_SILENCE_MS = 3_600_000
"""Where too few trades are known for a pace, a longer silence than this is implausible."""


class Pace:
    """How fast the trades of a window came that are stored, ``spans`` at the beginning. ``now_ms`` is the exchange's
    time, None while it is not known; ``last_ms`` the time of the newest trade."""

    def __init__(self, start_ms: int, spans: Sequence[StoredSpan], now_ms: int | None) -> None:
        self.now_ms = now_ms
        self.last_ms = max((span.last_ms for span in spans), default=start_ms)
        self._first_ms = min((span.first_ms for span in spans), default=None)
        self._start_ms = start_ms
        self._rows = sum(len(span.ids) for span in spans)
        self._longest_lull_ms: int | None = None

    @property
    def knows_lulls(self) -> bool:
        """Whether the longest silence among the newest trades is known."""
        return self._longest_lull_ms is not None

    def learn_lull(self, rows: int, longest_ms: int) -> None:
        """Among so many of the newest trades, whenever they came, this was the longest silence."""
        if rows >= FEWEST_ROWS:
            self._longest_lull_ms = longest_ms

    def count(self, rows: int, first_ms: int, last_ms: int) -> None:
        """So many more trades are stored."""
        self._rows += rows
        self._first_ms = first_ms if self._first_ms is None else min(first_ms, self._first_ms)
        self.last_ms = max(last_ms, self.last_ms)

    def is_silent(self, newest_ms: int) -> bool | None:
        """Whether it is implausible that nothing came after ``newest_ms``; None if the time is not known."""
        if self.now_ms is None:
            return None
        if self._longest_lull_ms is not None:
            return self.now_ms - newest_ms > max(SHORTEST_SILENCE_MS, LULLS * self._longest_lull_ms)
        age_ms = self.now_ms - max(newest_ms, self._start_ms)
        if self._first_ms is None or self._rows < FEWEST_ROWS:
            return age_ms > LONG_SILENCE_MS
        interval_ms = (self.last_ms - self._first_ms) / (self._rows - 1)
        return age_ms > max(SHORTEST_SILENCE_MS, SILENT_INTERVALS * interval_ms)
