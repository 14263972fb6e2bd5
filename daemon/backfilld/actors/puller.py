"""The puller: past days from the bucket before the archive is asked for them.

Owns the sequence of sources for a past day: the bucket, then the archive. It stands between the scheduler and the
archivists and passes on what the bucket does not have. A day that enters the cache is checked before.
"""

from datetime import date

import structlog
import trio

from backfilld.actors.messages import ArchiveJob, DayPulled, SyncAction, WriterMessage
from backfilld.actors.replicator import Bucket
from backfilld.core.model import Instrument
from backfilld.core.sync.events import TakeArchive
from backfilld.errors import ObjectRefused, RemoteError, StoreError
from backfilld.ports.remote import RemoteDays, StagedDay

log = structlog.get_logger()


async def run_puller(
    wanted: trio.MemoryReceiveChannel[ArchiveJob],
    archive: trio.MemorySendChannel[ArchiveJob],
    days: trio.MemorySendChannel[WriterMessage],
    remote: RemoteDays,
    bucket: Bucket,
) -> None:
    """Do jobs until there are no more. While the bucket is out of reach they are passed on as they are."""
    async with wanted, archive, days:
        async for job in wanted:
            left = [day for day in job.action.days if not await _pull(job.instrument, day, days, remote, bucket)]
            if left:
                await archive.send(SyncAction(job.instrument, TakeArchive(tuple(left), job.action.day_starts)))


async def _pull(
    instrument: Instrument,
    day: date,
    days: trio.MemorySendChannel[WriterMessage],
    remote: RemoteDays,
    bucket: Bucket,
) -> bool:
    """Whether the day is on its way to the writer."""
    if not bucket.may_ask:
        return False
    staged = await _staged(instrument, day, remote, bucket)
    if staged is None:
        return False
    await days.send(DayPulled(instrument, day, staged))
    return True


async def _staged(instrument: Instrument, day: date, remote: RemoteDays, bucket: Bucket) -> StagedDay | None:
    try:
        staged = await remote.stage(instrument, day)
    except ObjectRefused as refusal:
        log.warning("remote_refused", instrument=str(instrument), day=day.isoformat(), reason=str(refusal))
        return None
    except RemoteError as error:
        bucket.failed(error)
        return None
    except StoreError as error:
        log.warning("remote_unread", instrument=str(instrument), day=day.isoformat(), error=str(error))
        return None
    bucket.answered()
    return staged
