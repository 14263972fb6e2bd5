"""Deleting old day files by hand."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from backfilld.core.model import Instrument
from backfilld.core.replication import PushNote, is_pushed
from backfilld.core.retention import expired_days
from backfilld.errors import SettingsError
from backfilld.store.format.dayfile import Encoding
from backfilld.store.layout import state_directory
from backfilld.store.lock import locked
from backfilld.store.manager import BackfillCacheManager, manager_of, managers
from backfilld.store.push_notes import load_notes
from backfilld.store.replica import digest_of

MayDelete = Callable[[Instrument, date], bool]


def pushed_only(cache_dir: Path, remote_url: str, encoding: Encoding | None = None) -> MayDelete:
    """Whether a day is noted as pushed to this bucket with the rows that it has on disk."""
    noted: dict[Instrument, dict[date, PushNote]] = {}

    def may_delete(instrument: Instrument, day: date) -> bool:
        if instrument not in noted:
            noted[instrument] = load_notes(state_directory(cache_dir), remote_url, instrument)
        manager = manager_of(cache_dir, instrument, encoding)
        return is_pushed(digest_of(manager, day), noted[instrument].get(day))

    return may_delete


def clean_up(
    cache_dir: Path,
    instruments: Sequence[Instrument] | None,
    keep_days: int,
    *,
    dry_run: bool = False,
    may_delete: MayDelete = lambda _instrument, _day: True,
    encoding: Encoding | None = None,
) -> list[Path]:
    """Delete the day files of more than ``keep_days`` days before today; return their paths. A dry run deletes nothing
    and takes no lock. Days that ``may_delete`` denies, and those that no key opens or that the disk refuses, stay.

    Raises CacheLocked while a daemon runs on the cache, and SettingsError where there is no such directory.
    """
    if not cache_dir.is_dir():
        raise SettingsError(f"cache_dir = {cache_dir}: there is no such directory")
    today = datetime.now(UTC).date()
    stored = managers(cache_dir, instruments, encoding)
    if dry_run:
        return [manager.get_cache_path(day) for manager, day in _expired(stored, keep_days, today, may_delete)]
    with locked(cache_dir):
        return [manager.delete(day) for manager, day in list(_expired(stored, keep_days, today, may_delete))]


def _expired(
    found: Iterable[BackfillCacheManager], keep_days: int, today: date, may_delete: MayDelete
) -> Iterator[tuple[BackfillCacheManager, date]]:
    return (
        (manager, day)
        for manager in found
        for day in expired_days(manager.days(), today, keep_days)
        if not manager.may_be_locked(day) and (manager.instrument is None or may_delete(manager.instrument, day))
    )
