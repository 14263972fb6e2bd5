"""What a daemon remembers, in its state directory, and what it shows, in its cache. Owns the thread hop, and when an
error came."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import trio

from backfilld.core.markets import Pool
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.ports import DaemonWork
from backfilld.store.daemon_state import Activity, save_activity
from backfilld.store.governor_state import Remembered, remembered_now, save_remembered, says_more


class StateFiles:
    """Implements :class:`backfilld.ports.StateFile`."""

    def __init__(self, cache_dir: Path, state_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._state_dir = state_dir
        self._error: str | None = None
        self._error_ms: float | None = None
        self._remembered: Remembered | None = None
        """What was saved last."""

    async def save(self, budgets: Mapping[Pool, BudgetStatistics], work: DaemonWork) -> None:
        """Replace what is shown, and what is remembered if it has changed."""
        now_ms = time.time() * 1000
        if work.last_error != self._error:
            self._error, self._error_ms = work.last_error, now_ms
        remembered = remembered_now(budgets, now_ms)
        activity = Activity(
            saved_ms=now_ms,
            cached=work.cached,
            downloaded=work.downloaded,
            last_error=self._error,
            last_error_ms=self._error_ms,
            live=work.live,
            pid=os.getpid(),
            trouble=work.trouble,
            freshness=dict(work.freshness),
            budgets={str(pool): each for pool, each in budgets.items()},
        )

        def replace() -> None:
            if says_more(remembered, self._remembered):
                save_remembered(self._state_dir, remembered)
                self._remembered = remembered
            save_activity(self._cache_dir, activity)

        # Whoever must not wait for a disk that hangs may let go of it, as with a day file.
        await trio.to_thread.run_sync(replace, abandon_on_cancel=True)
