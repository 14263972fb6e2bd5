"""What a daemon knows of itself at one instant: the one value that terminal, page, metrics, systemd, the watchdog and
the state file are made of.

Owns what follows from it. Must not know who shows it. What a restart must know is not here, but in a file of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backfilld.core.live.reports import LiveStatistics
from backfilld.core.markets import Pool
from backfilld.core.model import Instrument
from backfilld.core.monitor.freshness import Freshness, stale
from backfilld.core.sync.standing import Statistics
from backfilld.core.weight.statistics import BudgetStatistics


@dataclass(frozen=True, slots=True)
class Written:
    """What was put on disk since the process began: trades by where they came from, and bytes of day files."""

    trades: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0

    def plus(self, source: str, trades: int, file_bytes: int) -> "Written":
        """With one more save."""
        return Written({**self.trades, source: self.trades.get(source, 0) + trades}, self.bytes + file_bytes)


@dataclass(frozen=True, slots=True)
class DiskTrouble:
    """The disk refuses: why, and how often it was tried."""

    reason: str
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The daemon at ``wall_ms`` by the host's clock, in ms since the epoch, and at ``now_s`` by the loop's.

    ``trouble`` is None while the disk works. ``reader_steps`` counts what the reader of day files has done;
    ``is_reading`` while it has something to do. ``owed_for_s`` is how long the disk or the bucket has owed its oldest
    answer, beyond what that may take. ``is_over``: the process ends with this.
    """

    wall_ms: float
    now_s: float
    instruments: tuple[Instrument, ...] = ()
    statistics: Statistics = field(default_factory=Statistics)
    live: LiveStatistics = field(default_factory=LiveStatistics)
    freshness: Mapping[Instrument, Freshness] = field(default_factory=dict)
    budgets: Mapping[Pool, BudgetStatistics] = field(default_factory=dict)
    trouble: DiskTrouble | None = None
    written: Written = field(default_factory=Written)
    reader_steps: int = 0
    is_reading: bool = False
    owed_for_s: float = 0.0
    is_stopping: bool = False
    is_over: bool = False

    def stale(self, max_lag_s: float) -> list[str]:
        """A sentence for each instrument that lags by more than ``max_lag_s``."""
        return list(stale(self.wall_ms, max_lag_s, {str(name): each for name, each in self.freshness.items()}))

    @property
    def last_error(self) -> str | None:
        """What went wrong last."""
        return self.statistics.last_error if self.trouble is None else self.trouble.reason
