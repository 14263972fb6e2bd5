"""What the daemon shows to other processes of its work so far: one small JSON file beside the lock. Nothing in it is
needed again: what must outlast a restart is in :mod:`backfilld.store.governor_state`."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from backfilld.core.monitor.freshness import Freshness
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.store.layout import STATE_DIRECTORY
from backfilld.store.state_file import peek_state, save_state


class Activity(msgspec.Struct, frozen=True):
    """The work of one daemon since it started. ``cached`` and ``downloaded`` count trades; times are the host's, in ms
    since the epoch. ``freshness`` is by instrument, ``trouble`` is why the disk fails. ``is_over``: the process has
    ended."""

    saved_ms: float
    cached: int = 0
    downloaded: int = 0
    last_error: str | None = None
    last_error_ms: float | None = None
    live: str | None = None
    pid: int | None = None
    trouble: str | None = None
    is_over: bool = False
    freshness: dict[str, Freshness] = {}
    budgets: Mapping[str, BudgetStatistics] = {}

    @property
    def hit_ratio(self) -> float | None:
        """The share of the trades that did not have to be downloaded; None of none."""
        every = self.cached + self.downloaded
        return self.cached / every if every else None


def peek_activity(cache_dir: Path) -> Activity | None:
    """What was saved last; None if nothing was, or if it cannot be read."""
    return peek_state(_path(cache_dir), Activity)


def save_activity(cache_dir: Path, activity: Activity) -> None:
    """Replace what was saved. Raises StoreError. It is not synced: what it shows is over when the power is lost."""
    save_state(_path(cache_dir), activity, synced=False)


def _path(cache_dir: Path) -> Path:
    return cache_dir / STATE_DIRECTORY / "activity.json"
