"""Which days are stored and how well, looked at again and again: only what has changed is read anew.

Owns what is remembered between two looks. Reads certificates, takes no lock, changes nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

from backfilld.core.model import Instrument
from backfilld.services.day_statuses import day_status
from backfilld.services.stored_days import DayStatus, without_gaps
from backfilld.store.format.dayfile import Encoding
from backfilld.store.layout import Stamp, stamp_of
from backfilld.store.manager import BackfillCacheManager, manager_of


class Coverage:
    """The days of a cache directory."""

    def __init__(self, cache_dir: Path, encoding: Encoding | None = None) -> None:
        self._cache_dir = cache_dir
        self._encoding = encoding
        self._sealed: dict[Path, tuple[Stamp | None, DayStatus]] = {}

    def look(self, instrument: Instrument) -> Mapping[date, DayStatus]:
        """Each day of the instrument from the first file to the last; one without a file is ``empty`` or ``missing``.
        Raises StoreError."""
        manager = manager_of(self._cache_dir, instrument, self._encoding)
        days = {day: status for day in manager.days() if (status := self._status(manager, day)) is not None}
        return {date.fromisoformat(each.day): each for each in without_gaps(days.values())}

    def _status(self, manager: BackfillCacheManager, day: date) -> DayStatus | None:
        path = manager.get_cache_path(day)
        stamp = stamp_of(path)
        known = self._sealed.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        status = day_status(manager, day)
        if status is not None and status.state == "sealed":
            # Without its lists: years of days stay in memory.
            self._sealed[path] = stamp, replace(status, holes=[], findings={}, sources=[])
        return status
