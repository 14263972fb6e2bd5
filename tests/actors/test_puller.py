"""A past day comes from the bucket if that has it, whole; else from the archive, without delay."""

from collections.abc import Mapping
from datetime import date, timedelta

import trio
import trio.testing
from structlog.testing import capture_logs

from backfilld.actors.messages import ArchiveJob, DayPulled, SyncAction, WriterMessage
from backfilld.actors.puller import run_puller
from backfilld.actors.replicator import Bucket
from backfilld.core.day.certificate import Certificate
from backfilld.core.model import IdRange, Instrument
from backfilld.core.sync.events import TakeArchive
from backfilld.core.timespan import StoredSpan
from backfilld.errors import BackfillError, ObjectRefused, RemoteUnreachable, StoreError
from backfilld.ports.remote import StagedDay
from tests.actors.test_replicator import FakeDays
from tests.fakes import BTC, DAY

DAYS = tuple(DAY + timedelta(days=number) for number in range(4))
LATER = RemoteUnreachable("s3://tape: no answer")


def staged(day: date) -> StagedDay:
    return StagedDay("/x", Certificate(day, (StoredSpan(IdRange(1, 2), 0, 0),)), 1)


class Stocked(FakeDays):
    """A bucket with these days, or what happens when they are asked for."""

    def __init__(self, has: Mapping[date, StagedDay | BackfillError], seconds: float = 0) -> None:
        super().__init__(seconds=seconds)
        self.has = has
        self.asked: list[date] = []

    async def stage(self, instrument: Instrument, day: date) -> StagedDay | None:
        assert instrument == BTC
        self.asked.append(day)
        await trio.sleep(self.seconds)
        found = self.has.get(day)
        if isinstance(found, BackfillError):
            raise found
        return found


async def pulled(remote: FakeDays, bucket: Bucket | None = None) -> tuple[list[date], list[tuple[date, ...]]]:
    """The days that went to the writer, and what was left for the archive, of one job for DAYS."""
    send_wanted, wanted = trio.open_memory_channel[ArchiveJob](1)
    send_left, left = trio.open_memory_channel[ArchiveJob](10)
    send_day, days = trio.open_memory_channel[WriterMessage](10)
    send_wanted.send_nowait(SyncAction(BTC, TakeArchive(DAYS)))
    send_wanted.close()
    await run_puller(wanted, send_left, send_day, remote, bucket or Bucket())
    return (
        [message.day async for message in days if isinstance(message, DayPulled)],
        [message.action.days async for message in left],
    )


async def test_the_bucket_comes_first_and_the_archive_gets_the_rest() -> None:
    assert await pulled(Stocked({DAYS[0]: staged(DAYS[0]), DAYS[2]: staged(DAYS[2])})) == (
        [DAYS[0], DAYS[2]], [(DAYS[1], DAYS[3])],
    )  # fmt: skip
    assert await pulled(Stocked({day: staged(day) for day in DAYS})) == (list(DAYS), [])


async def test_a_day_that_is_refused_comes_from_the_archive_and_is_named() -> None:
    with capture_logs() as logs:
        found = await pulled(Stocked({DAYS[0]: ObjectRefused("it is of another day"), DAYS[1]: staged(DAYS[1])}))
    assert found == ([DAYS[1]], [(DAYS[0], *DAYS[2:])])
    (refused,) = logs
    assert (refused["event"], refused["log_level"], refused["day"]) == ("remote_refused", "warning", str(DAYS[0]))


async def test_a_bucket_that_is_out_of_reach_is_asked_once_and_all_comes_from_the_archive(
    autojump_clock: trio.testing.MockClock,
) -> None:
    remote = Stocked(dict.fromkeys(DAYS, LATER))
    with capture_logs() as logs:
        assert await pulled(remote) == ([], [DAYS])
    assert remote.asked == [DAYS[0]]
    assert [entry["event"] for entry in logs] == ["remote_failed"]


async def test_a_bucket_that_is_known_to_be_lost_is_not_asked() -> None:
    bucket, remote = Bucket(), Stocked({})
    bucket.failed(LATER)
    assert await pulled(remote, bucket) == ([], [DAYS])
    assert remote.asked == []


async def test_a_disk_that_refuses_a_staged_day_leaves_it_to_the_archive() -> None:
    remote = Stocked({DAYS[0]: StoreError("no space"), DAYS[1]: staged(DAYS[1])})
    assert await pulled(remote) == ([DAYS[1]], [(DAYS[0], *DAYS[2:])])
