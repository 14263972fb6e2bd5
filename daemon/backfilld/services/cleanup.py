"""Deleting old day files by hand."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from backfilld.core.model import Instrument
from backfilld.core.retention import expired_days
from backfilld.errors import SettingsError
from backfilld.services.status import managers
from backfilld.store.lock import locked


def clean_up(
    cache_dir: Path, instruments: Sequence[Instrument] | None, keep_days: int, *, dry_run: bool = False
) -> list[Path]:
    """Delete the day files of more than ``keep_days`` days before today; return their paths. A dry run deletes nothing
    and takes no lock.

    Raises CacheLocked while a daemon runs on the cache, and SettingsError where there is no such directory.
    """
    if not cache_dir.is_dir():
        raise SettingsError(f"cache_dir = {cache_dir}: there is no such directory")
    today = datetime.now(UTC).date()
    if dry_run:
        return _expired(cache_dir, instruments, keep_days, today)
    with locked(cache_dir):
        return [
            path
            for manager in managers(cache_dir, instruments)
            for path in manager.cleanup_old_cache(keep_days, today=today)
        ]


def _expired(cache_dir: Path, instruments: Sequence[Instrument] | None, keep_days: int, today: date) -> list[Path]:
    return [
        manager.get_cache_path(day)
        for manager in managers(cache_dir, instruments)
        for day in expired_days(manager.days(), today, keep_days)
    ]
