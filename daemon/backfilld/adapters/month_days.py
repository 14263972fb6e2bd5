"""The days of one month on their way from the archive into a bucket, by way of a scratch directory.

Owns the thread hops of the disk's part. No request costs request weight: what the days beside the month prove of its
ends comes from the archive, or from certificates in the bucket.
"""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from backfilld.adapters.threads import in_thread
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import DayStart
from backfilld.core.model import Instrument
from backfilld.errors import CacheLocked
from backfilld.ports import Published
from backfilld.store.archive_import.archive_take import take_archive
from backfilld.store.archive_import.neighbours import ids_to_take, neighbourhood
from backfilld.store.format.dayfile import Encoding
from backfilld.store.lock import locked
from backfilld.store.manager import manager_of

SCRATCH = "scratch"
"""The folder of the state directory in which tasks work."""

FIRST_ID = 0
"""The first id that a symbol has: nothing comes before it."""


@contextmanager
def scratch(state_dir: Path) -> Iterator[Path]:
    """A directory for one task, locked while it lasts. What was left by tasks that were killed is deleted first."""
    sweep_scratch(state_dir)
    directory = state_dir / SCRATCH / secrets.token_hex(8)
    with locked(directory):
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def sweep_scratch(state_dir: Path) -> None:
    """Delete the directories of tasks that run no more: the kernel drops the lock with its process."""
    for directory in (state_dir / SCRATCH).glob("*"):
        try:
            with locked(directory):
                shutil.rmtree(directory, ignore_errors=True)
        except CacheLocked:
            continue


class MonthDays:
    """The day files of an instrument in a scratch directory, as they come out of zips."""

    def __init__(self, cache_dir: Path, instrument: Instrument, encoding: Encoding) -> None:
        self._manager = manager_of(cache_dir, instrument, encoding)

    async def take(
        self,
        day: date,
        published: Published,
        following: Published | None,
        before: Certificate | None,
        after: Certificate | None,
    ) -> Certificate:
        """Write a day out of its zip, its ends proven by what is known of the days beside it. Raises ArchiveError for a
        zip that cannot be used, and StoreError."""
        path, next_path = Path(published.path), None if following is None else Path(following.path)

        def take() -> Certificate:
            beside = neighbourhood(self._manager, day, next_path, before, after)
            within = ids_to_take(self._manager, day, path, beside.within, is_first=before is None, before=before)
            starts = {*beside.day_starts, DayStart(day, FIRST_ID)}
            return take_archive(
                self._manager, path, day, published.sha256, starts, within=within, behind_id=beside.behind_id
            ).record

        return await in_thread(take)

    async def certificates(self) -> dict[date, Certificate]:
        """What the day files say of themselves."""
        return await in_thread(lambda: {day: self._manager.facts(day) for day in self._manager.days()})
