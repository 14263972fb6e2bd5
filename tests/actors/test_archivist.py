"""The archivist on an archive in the test's hands: which days are handed on, with what, and which are refused."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, timedelta

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from backfilld.actors.archivist import NOT_YET, run_archivist
from backfilld.actors.disk import Disk
from backfilld.actors.messages import ArchiveJob, SchedulerMessage, SyncAction, SyncEvent, WriterMessage
from backfilld.core.day.start import DayStart
from backfilld.core.sync.events import ArchiveDayEnded, ArchivePaused, TakeArchive
from backfilld.errors import ArchiveError, ExchangeError, StoreError, TransientError
from backfilld.ports import DayPublished
from tests.fakes import BTC, DAY, ETH, FakeArchive, drained, has_ended

DAYS = tuple(DAY + timedelta(days=n) for n in range(6))
STARTS = frozenset(DayStart(day, number) for number, day in enumerate(DAYS))
NO_ROUTE = TransientError("no route")


@dataclass
class Office:
    """An archivist at work; the test is its scheduler and its writer."""

    archive: FakeArchive
    jobs: trio.MemorySendChannel[ArchiveJob]
    days: trio.MemoryReceiveChannel[WriterMessage]
    events: trio.MemoryReceiveChannel[SchedulerMessage]
    scope: trio.CancelScope

    async def done(self, *jobs: ArchiveJob) -> tuple[list[WriterMessage], list[SchedulerMessage]]:
        """What comes of these jobs."""
        for job in jobs:
            await self.jobs.send(job)
        await self.jobs.aclose()
        while not (has_ended(self.days) and has_ended(self.events)):
            await trio.sleep(1)
            if self.days.statistics().open_send_channels == 0:
                break
        return drained(self.days), drained(self.events)


@asynccontextmanager
async def archiving(archive: FakeArchive, *, room: float = math.inf, is_patient: bool = False) -> AsyncIterator[Office]:
    """An archivist whose writer has ``room`` for so many days."""
    send_job, jobs = trio.open_memory_channel[ArchiveJob](math.inf)
    send_day, days = trio.open_memory_channel[WriterMessage](room)
    send_event, events = trio.open_memory_channel[SchedulerMessage](math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_archivist, jobs, send_day, send_event, archive.open, Disk(is_patient=is_patient))
        yield Office(archive, send_job, days, events, nursery.cancel_scope)
        await send_job.aclose()


def archive_of(*days: date, **errors: ExchangeError) -> FakeArchive:
    """These days of BTC are published; ``n1`` is the error of the second of DAYS."""
    failing = {(BTC, DAYS[int(name[1:])]): error for name, error in errors.items()}
    return FakeArchive({(BTC, day) for day in days}, failing)


async def test_days_are_handed_on_in_order_each_with_the_one_that_follows(autojump_clock: MockClock) -> None:
    archive = archive_of(*DAYS[:3])
    async with archiving(archive) as office:
        days, events = await office.done(SyncAction(BTC, TakeArchive(DAYS[:3])))
    published = [archive.file_of(BTC, day) for day in DAYS[:3]]
    assert days == [
        DayPublished(BTC, DAYS[0], published[0], published[1], is_first=True),
        DayPublished(BTC, DAYS[1], published[1], published[2]),
        DayPublished(BTC, DAYS[2], published[2]),
    ]
    assert events == []
    assert archive.asked == [(BTC, day) for day in DAYS[:3]]
    assert archive.open_connections == 0


async def test_a_day_that_follows_later_is_handed_on_too_because_its_ids_may_adjoin(autojump_clock: MockClock) -> None:
    archive = archive_of(*DAYS)
    async with archiving(archive) as office:
        days, _ = await office.done(SyncAction(BTC, TakeArchive((DAYS[0], DAYS[2]))))
    assert [(each.day, each.following) for each in days if isinstance(each, DayPublished)] == [
        (DAYS[0], archive.file_of(BTC, DAYS[2])),
        (DAYS[2], None),
    ]


async def test_a_day_that_is_not_published_is_refused_and_the_others_come(autojump_clock: MockClock) -> None:
    archive = archive_of(DAYS[0], DAYS[2])
    async with archiving(archive) as office:
        days, events = await office.done(SyncAction(BTC, TakeArchive(DAYS[:4], STARTS)))
    assert [(each.day, each.following, each.is_first) for each in days if isinstance(each, DayPublished)] == [
        (DAYS[0], None, True),
        (DAYS[2], None, False),
    ]
    assert events == [
        SyncEvent(BTC, ArchiveDayEnded(DAYS[1], refusal=NOT_YET)),
        SyncEvent(BTC, ArchiveDayEnded(DAYS[3], refusal=NOT_YET)),
    ]


@pytest.mark.parametrize(
    ("published", "taken", "lacking", "left"),
    [
        ((0, 1), (0,), (2,), (1, 3)),
        ((1, 2, 3), (), (0,), (1, 2, 3)),
        ((0, 2, 3), (), (1,), (0, 2, 3)),
        ((0, 1, 2), (0, 1), (3,), (2,)),
    ],
    ids=["the next days", "the day before", "a day between", "the newest day"],
)
async def test_days_beside_one_that_the_archive_lacks_are_given_back_unless_a_day_start_proves_their_end(
    published: tuple[int, ...],
    taken: tuple[int, ...],
    lacking: tuple[int, ...],
    left: tuple[int, ...],
    autojump_clock: MockClock,
) -> None:
    """They are asked for again without the day that is lacking, and come then, whatever is known by then."""
    archive = archive_of(*(DAYS[number] for number in published))
    async with archiving(archive) as office:
        days, events = await office.done(SyncAction(BTC, TakeArchive(DAYS[:4])))
    assert [each.day for each in days if isinstance(each, DayPublished)] == [DAYS[number] for number in taken]
    paused = ArchivePaused(tuple(DAYS[number] for number in left))
    refused = [ArchiveDayEnded(DAYS[number], refusal=NOT_YET) for number in lacking]
    assert events == [*(SyncEvent(BTC, each) for each in refused), SyncEvent(BTC, paused)]
    async with archiving(archive) as office:
        days, _ = await office.done(
            SyncAction(BTC, TakeArchive(tuple(DAYS[each] for each in left if each in published)))
        )
    assert [each.day for each in days if isinstance(each, DayPublished)] == [
        DAYS[each] for each in left if each in published
    ]


@pytest.mark.parametrize("error", [ArchiveError("it is cut", kind="cut"), NO_ROUTE], ids=["of no use", "one failure"])
async def test_a_single_day_that_cannot_be_downloaded_costs_no_other(
    error: ExchangeError, autojump_clock: MockClock
) -> None:
    async with archiving(archive_of(*DAYS[:3], n1=error)) as office:
        days, events = await office.done(SyncAction(BTC, TakeArchive(DAYS[:3], STARTS)))
    assert [each.day for each in days if isinstance(each, DayPublished)] == [DAYS[0], DAYS[2]]
    assert events == [SyncEvent(BTC, ArchiveDayEnded(DAYS[1], refusal=str(error)))]


async def test_once_two_days_in_a_row_fail_the_others_are_refused_unasked(autojump_clock: MockClock) -> None:
    """REST can begin at once; the next job tries anew."""
    archive = archive_of(*DAYS, n1=NO_ROUTE, n2=NO_ROUTE)
    archive.published.add((ETH, DAYS[0]))
    async with archiving(archive) as office:
        days, events = await office.done(SyncAction(BTC, TakeArchive(DAYS)), SyncAction(ETH, TakeArchive(DAYS[:1])))
    assert [(each.instrument, each.day) for each in days if isinstance(each, DayPublished)] == [
        (BTC, DAYS[0]),
        (ETH, DAYS[0]),
    ]
    assert events == [SyncEvent(BTC, ArchiveDayEnded(day, refusal="no route")) for day in DAYS[1:]]
    assert archive.asked == [*((BTC, day) for day in DAYS[:3]), (ETH, DAYS[0])]


async def test_two_failures_that_are_not_in_a_row_are_two_files(autojump_clock: MockClock) -> None:
    archive = archive_of(*DAYS, n1=NO_ROUTE, n3=NO_ROUTE)
    async with archiving(archive) as office:
        days, events = await office.done(SyncAction(BTC, TakeArchive(DAYS, STARTS)))
    assert [each.day for each in days if isinstance(each, DayPublished)] == [DAYS[0], DAYS[2], DAYS[4], DAYS[5]]
    refused = [each.event for each in events if isinstance(each, SyncEvent)]
    assert [each.day for each in refused if isinstance(each, ArchiveDayEnded)] == [DAYS[1], DAYS[3]]


async def test_a_slow_writer_holds_it_back_two_files_ahead(autojump_clock: MockClock) -> None:
    """The disk is not filled with zips that nobody reads."""
    archive = archive_of(*DAYS)
    async with archiving(archive, room=0) as office:
        await office.jobs.send(SyncAction(BTC, TakeArchive(DAYS)))
        await wait_all_tasks_blocked()
        await trio.sleep(1000)
        assert len(archive.asked) == 2
        first = await office.days.receive()
        assert isinstance(first, DayPublished)
        await trio.sleep(1000)
        assert len(archive.asked) == 3
        office.scope.cancel()
    assert archive.open_connections == 0


async def test_cancelled_in_the_middle_it_closes_its_channels_and_its_connection(autojump_clock: MockClock) -> None:
    """The stop does not wait for a download; the writer must see that no more days come."""
    archive = archive_of(*DAYS)
    archive.latency_s = 60
    async with archiving(archive) as office:
        await office.jobs.send(SyncAction(BTC, TakeArchive(DAYS)))
        await trio.sleep(150)
        office.scope.cancel()
    assert [each.day for each in drained(office.days) if isinstance(each, DayPublished)] == [DAYS[0]]
    assert has_ended(office.days)
    assert has_ended(office.events)
    assert archive.open_connections == 0


async def test_a_disk_that_refuses_ends_a_single_run(autojump_clock: MockClock) -> None:
    archive = archive_of(*DAYS)
    archive.breaks = StoreError("the disk is full")
    with pytest.RaisesGroup(StoreError):
        async with archiving(archive) as office:
            await office.jobs.send(SyncAction(BTC, TakeArchive(DAYS)))
            await trio.sleep(10)


async def test_a_full_disk_is_waited_for_and_said_once(autojump_clock: MockClock) -> None:
    """A crash would fetch again by REST what is not on disk yet, every few seconds, without end."""
    archive = archive_of(*DAYS[:2])
    archive.breaks = StoreError("cannot write: No space left on device")
    with capture_logs() as logs:
        async with archiving(archive, is_patient=True) as office:
            await office.jobs.send(SyncAction(BTC, TakeArchive(DAYS[:2])))
            await trio.sleep(3600)
            assert 100 < len(archive.asked) < 140, "every half a minute in the end"
            archive.breaks = None
            days, refusals = await office.done()
    assert [message.day for message in days if isinstance(message, DayPublished)] == list(DAYS[:2])
    assert refusals == []
    assert [each["event"] for each in logs] == ["disk_failed", "disk_recovered"]
