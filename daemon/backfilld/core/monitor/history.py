"""The last hour of a daemon, in rings of bounded length: used weight by window, trades a second, holes that are over.

Owns how observations become points. Nothing is interpolated: a window or a stretch that nobody observed has no point.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from backfilld.core.live.reports import HoleReport
from backfilld.core.markets import Pool
from backfilld.core.model import IdRange, Instrument

WINDOWS = 60
"""Windows of used weight that are kept of a pool: an hour of minutes."""

LATE_MS = 120_000
"""How much older than the newest window an observation may be: an answer takes less, so a window that is older yet is
by another clock."""

STRETCH_MS = 5_000
"""The length of a stretch over which trades are counted: shorter ones show the rhythm of the counting itself."""

STRETCHES = 720
"""Stretches that are kept: an hour."""

HOLES = 50
"""Holes that are kept, the newest ones."""


@dataclass(frozen=True, slots=True)
class WeightWindow:
    """The used weight of a pool in one window of the exchange's clock, which began at ``start_ms``: the most that was
    seen of it. ``own`` is without ``bots``, which came through the local endpoint."""

    start_ms: int
    own: int
    bots: int
    others: int
    limit: int

    @property
    def used(self) -> int:
        """What everybody used."""
        return self.own + self.bots + self.others


@dataclass(frozen=True, slots=True)
class Rate:
    """Trades a second in the stretch that ended at ``stop_ms``, by the host's clock."""

    stop_ms: float
    trades_per_s: float


class History:
    """Histories since the process began; they outlive a crash of the pipeline."""

    def __init__(self) -> None:
        self._weight: dict[Pool, deque[WeightWindow]] = {}
        self._rates: deque[Rate] = deque(maxlen=STRETCHES)
        self._holes: deque[HoleReport] = deque(maxlen=HOLES)
        self._known: dict[tuple[Instrument, IdRange], None] = {}
        self._counts: dict[Instrument, int] = {}
        self._counted_ms: float | None = None

    def saw_weight(self, pool: Pool, seen: WeightWindow) -> None:
        """A pool's counts were seen; within a window the larger ones stay, as a late answer may be an old one."""
        windows = self._weight.setdefault(pool, deque(maxlen=WINDOWS))
        while windows and windows[-1].start_ms - seen.start_ms > LATE_MS:
            # The exchange's clock is another than was assumed: what lies ahead of it never was.
            windows.pop()
        if windows and windows[-1].start_ms == seen.start_ms:
            seen = max(windows.pop(), seen, key=lambda each: each.used)
        elif windows and windows[-1].start_ms > seen.start_ms:
            return
        windows.append(seen)

    def saw_trades(self, now_ms: float, counts: Mapping[Instrument, int]) -> None:
        """Take the total of trades given out of each instrument; each total counts from a start of its own."""
        if self._counted_ms is not None and now_ms - self._counted_ms < STRETCH_MS:
            return
        if self._counted_ms is not None:
            # A count that fell began anew.
            gained = sum(max(0, count - self._counts.get(each, count)) for each, count in counts.items())
            self._rates.append(Rate(now_ms, gained * 1000 / (now_ms - self._counted_ms)))
        self._counted_ms, self._counts = now_ms, dict(counts)

    def saw_holes(self, holes: Iterable[HoleReport]) -> None:
        """These holes are over; those seen before are known."""
        for hole in holes:
            key = hole.instrument, hole.ids
            if key not in self._known:
                self._known[key] = None
                self._holes.append(hole)
        while len(self._known) > 2 * HOLES:
            del self._known[next(iter(self._known))]

    @property
    def weight(self) -> Mapping[Pool, tuple[WeightWindow, ...]]:
        """The windows of each pool, ascending."""
        return {pool: tuple(windows) for pool, windows in self._weight.items()}

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The stretches, ascending."""
        return tuple(self._rates)

    @property
    def holes(self) -> tuple[HoleReport, ...]:
        """The holes that are over, the newest first."""
        return tuple(reversed(self._holes))
