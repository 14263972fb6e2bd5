"""How fast trades come, and whether a lull without any is plausible.

Owns the comparison of the newest trade's age with the pace of the trades: first with that of the window; if the lull is
too long for it, with the longest lull among the last thousand trades, however old they are. This decides how
many answers are needed, never what is true: an illiquid symbol may not trade for a day.
"""

from collections.abc import Sequence

from backfilld.core.timespan import StoredSpan

IMPLAUSIBLE_INTERVALS = 50
"""A lull of more mean intervals between trades is implausible. Trades cluster, so lulls of 20 are common."""

SHORTEST_IMPLAUSIBLE_MS = 60_000
"""A lull of at most this long, in ms, is always plausible, however fast the trades came."""

FEWEST_ROWS = 10
"""Fewer trades than this show no pace."""

IMPLAUSIBLE_LULLS = 3
"""A lull of more than this many times the longest one among the newest trades is implausible."""

LONGEST_WITHOUT_PACE_MS = 3_600_000
"""Where too few trades are known to show a pace, a longer lull than this, in ms, is implausible."""


class Pace:
    """The pace of the trades that are stored of a window, ``spans`` of them at the beginning.

    ``now_ms`` is the exchange's time, None while it is not known. ``last_ms`` is the time of the newest trade.
    """

    def __init__(self, start_ms: int, spans: Sequence[StoredSpan], now_ms: int | None) -> None:
        self.now_ms = now_ms
        self.last_ms = max((span.last_ms for span in spans), default=start_ms)
        self._first_ms = min((span.first_ms for span in spans), default=None)
        self._start_ms = start_ms
        self._rows = sum(len(span.ids) for span in spans)
        self._longest_lull_ms: int | None = None

    @property
    def knows_lulls(self) -> bool:
        """Whether the longest lull among the newest trades is known."""
        return self._longest_lull_ms is not None

    def learn_lull(self, rows: int, longest_ms: int) -> None:
        """Note the longest lull among the newest ``rows`` trades, whenever they came."""
        if rows >= FEWEST_ROWS:
            self._longest_lull_ms = longest_ms

    def count(self, rows: int, first_ms: int, last_ms: int) -> None:
        """Count ``rows`` more trades."""
        self._rows += rows
        self._first_ms = first_ms if self._first_ms is None else min(first_ms, self._first_ms)
        self.last_ms = max(last_ms, self.last_ms)

    def is_silent(self, newest_ms: int) -> bool | None:
        """Whether it is implausible that nothing came after ``newest_ms``; None if the exchange's time is not known."""
        if self.now_ms is None:
            return None
        if self._longest_lull_ms is not None:
            return self.now_ms - newest_ms > max(SHORTEST_IMPLAUSIBLE_MS, IMPLAUSIBLE_LULLS * self._longest_lull_ms)
        age_ms = self.now_ms - max(newest_ms, self._start_ms)
        if self._first_ms is None or self._rows < FEWEST_ROWS:
            return age_ms > LONGEST_WITHOUT_PACE_MS
        interval_ms = (self.last_ms - self._first_ms) / (self._rows - 1)
        return age_ms > max(SHORTEST_IMPLAUSIBLE_MS, IMPLAUSIBLE_INTERVALS * interval_ms)
