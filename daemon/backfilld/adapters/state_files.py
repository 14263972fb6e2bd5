"""What a daemon remembers, in its state directory, and what it shows, in its cache. Owns the thread hop, and when an
error came."""

import os
from pathlib import Path

from backfilld.adapters.threads import in_thread
from backfilld.core.monitor.snapshot import Snapshot
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

    async def save(self, seen: Snapshot) -> None:
        """Replace what is shown, and what is remembered if it has changed."""
        if seen.last_error != self._error:
            self._error, self._error_ms = seen.last_error, seen.wall_ms
        remembered = remembered_now(seen.budgets, seen.wall_ms)
        activity = Activity(
            saved_ms=seen.wall_ms,
            cached=seen.statistics.cached,
            downloaded=seen.statistics.fetched,
            last_error=self._error,
            last_error_ms=self._error_ms,
            live=seen.live.text if seen.live.instruments else None,
            pid=os.getpid(),
            trouble=None if seen.trouble is None else seen.trouble.reason,
            is_over=seen.is_over,
            freshness={str(name): each for name, each in seen.freshness.items()},
            budgets={str(pool): each for pool, each in seen.budgets.items()},
        )

        def replace() -> None:
            if says_more(remembered, self._remembered):
                save_remembered(self._state_dir, remembered)
                self._remembered = remembered
            save_activity(self._cache_dir, activity)

        # A caller that must not wait for a disk that hangs may leave it, as with a day file.
        await in_thread(replace)
