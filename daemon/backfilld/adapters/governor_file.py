"""The governor's memory as a file in the cache directory. Owns the thread hop and nothing else."""

import time
from collections.abc import Mapping
from pathlib import Path

import trio

from backfilld.cache.remembered import remembered_now, save_remembered
from backfilld.core.budget import BudgetStatistics
from backfilld.core.model import Market


class GovernorFile:
    """Implements :class:`backfilld.ports.GovernorMemory`."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir

    async def save(self, statistics: Mapping[Market, BudgetStatistics]) -> None:
        """Replace the file."""
        remembered = remembered_now(statistics, time.time() * 1000)
        # Whoever must not wait for a disk that hangs may let go of it, as with a day file.
        await trio.to_thread.run_sync(save_remembered, self._cache_dir, remembered, abandon_on_cancel=True)
