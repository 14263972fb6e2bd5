"""Taking over the flat day files of an earlier program: they become the cache's, with certificates."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from backfilld.core.model import Instrument
from backfilld.errors import DayLocked, SettingsError, StoreError
from backfilld.services.progress import Progress, Watch, unwatched
from backfilld.store.format.dayfile import Encoding
from backfilld.store.layout import day_file_name, days_in, instrument_directory
from backfilld.store.lock import locked
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.upkeep.adoption import Adopted, NotTaken, adopt_file, join_days


@dataclass(frozen=True, slots=True)
class Adoption:
    """What became of the files: those ``taken``, a sentence for each one ``refused``, and the days that the files
    ``sealed`` by proving each other's ends."""

    taken: tuple[Adopted, ...]
    refused: tuple[str, ...]
    sealed: tuple[date, ...]


def adopt(
    directory: Path, cache_dir: Path, instrument: Instrument, encoding: Encoding, watch: Watch = unwatched
) -> Adoption:
    """Take over the files of ``directory``; the originals are only read.

    Raises CacheLocked while a daemon runs on the cache, and SettingsError for a directory without such files.
    """
    days = days_in(directory)
    if not days:
        raise SettingsError(f"{directory}: there is no file backfill_YYYY-MM-DD.parquet in this directory")
    target = instrument_directory(cache_dir, instrument)
    if os.path.realpath(directory) == os.path.realpath(target):
        raise SettingsError(
            f"{directory}: this is where the cache keeps {instrument}; name the directory to adopt from"
        )
    with locked(cache_dir):
        manager = BackfillCacheManager(target, instrument, encoding)
        taken, refused = _adopt_days(manager, directory, days, watch)
        sealed = join_days(manager, {day for each in taken for day in each.days})
    return Adoption(tuple(taken), tuple(refused), tuple(sealed))


def _adopt_days(
    manager: BackfillCacheManager, directory: Path, days: Sequence[date], watch: Watch
) -> tuple[list[Adopted], list[str]]:
    taken: list[Adopted] = []
    refused: list[str] = []
    for day in days:
        path = directory / day_file_name(day)
        try:
            taken.append(adopt_file(manager, path, day))
        except (NotTaken, StoreError, DayLocked) as reason:
            refused.append(f"{path} was not taken: {reason}")
        watch(Progress("adopt", path.name, 1, len(days)))
    return taken, refused
