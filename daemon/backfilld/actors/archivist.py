"""The archivist: downloads the published files of past days, one instrument at a time.

Owns the order of days: each is handed to the writer with the one that follows it, which proves where it ends. Where the
archive lacks a day, nothing may prove where the ones beside it end; then the archivist gives the rest of the job back,
so that REST is asked first. What it has downloaded stays on disk. A disk that refuses the file is waited for as the
writer waits for it. Must not read the files.
"""

from collections.abc import Collection
from datetime import date

import trio

from backfilld.actors.disk import Disk
from backfilld.actors.messages import (
    ArchiveJob,
    SchedulerMessage,
    SyncEvent,
    WriterMessage,
)
from backfilld.core.day.start import ONE_DAY
from backfilld.core.model import Instrument
from backfilld.core.sync.events import ArchiveDayEnded, ArchivePaused
from backfilld.errors import ExchangeError, StoreError, TransientError
from backfilld.ports import ArchiveSource, DayPublished, OpenArchive, Published

NOT_YET = "it is not published yet"

MOST_FAILURES = 2
"""Days in a row that may fail for a reason that time may mend: one may be a file's fault, two are the archive's."""


async def run_archivist(
    jobs: trio.MemoryReceiveChannel[ArchiveJob],
    days: trio.MemorySendChannel[WriterMessage],
    events: trio.MemorySendChannel[SchedulerMessage],
    open_archive: OpenArchive,
    disk: Disk,
) -> None:
    """Do jobs until there are no more. A day that cannot be downloaded is refused; once the archive seems to be out of
    reach, so are the other days of the job."""
    async with jobs, days, events:
        async for job in jobs:
            async with open_archive() as source:
                await _do(job, source, days, events, disk)


async def _do(
    job: ArchiveJob,
    source: ArchiveSource,
    days: trio.MemorySendChannel[WriterMessage],
    events: trio.MemorySendChannel[SchedulerMessage],
    disk: Disk,
) -> None:
    waiting: tuple[date, Published] | None = None
    failures: list[TransientError] = []
    lacking: set[date] = set()
    for day in job.action.days:
        found = failures[-1] if len(failures) == MOST_FAILURES else await _fetched(job.instrument, day, source, disk)
        failures = [*failures, found][:MOST_FAILURES] if isinstance(found, TransientError) else []
        published = found if isinstance(found, Published) else None
        if published is None:
            lacking.add(day)
            await events.send(SyncEvent(job.instrument, ArchiveDayEnded(day, refusal=str(found))))
        if waiting is not None:
            if not failures and _is_unproven(waiting[0], job, lacking):
                break
            await days.send(_published(job, *waiting, published))
        waiting = None if published is None else (day, published)
    if waiting is None:
        return
    if not failures and _is_unproven(waiting[0], job, lacking):
        left = tuple(day for day in job.action.days if day >= waiting[0] and day not in lacking)
        await events.send(SyncEvent(job.instrument, ArchivePaused(left)))
    else:
        await days.send(_published(job, *waiting))


def _is_unproven(day: date, job: ArchiveJob, lacking: Collection[date]) -> bool:
    """Whether the archive lacks the day before or after this one, and no day start proves the end between the two."""
    known = {each.day for each in job.action.day_starts}
    return (day - ONE_DAY in lacking and day not in known) or (day + ONE_DAY in lacking and day + ONE_DAY not in known)


def _published(job: ArchiveJob, day: date, published: Published, following: Published | None = None) -> DayPublished:
    is_first = day - ONE_DAY not in job.action.days
    return DayPublished(job.instrument, day, published, following, is_first, job.action.day_starts)


async def _fetched(
    instrument: Instrument, day: date, source: ArchiveSource, disk: Disk
) -> Published | str | TransientError:
    """The file, or why there is none. What is there of it already is not downloaded again."""
    has_failed, began = False, trio.current_time()
    while True:
        try:
            found = await _fetch(instrument, day, source)
        except StoreError as error:
            if not disk.is_waited_for:
                raise
            has_failed = True
            await disk.wait_out(error, rows=0)
        else:
            if has_failed:
                disk.recovered(began)
            return found


async def _fetch(instrument: Instrument, day: date, source: ArchiveSource) -> Published | str | TransientError:
    """The file, or why there is none."""
    try:
        return await source.fetch(instrument, day) or NOT_YET
    except TransientError as error:
        return error
    except ExchangeError as error:
        return str(error)
