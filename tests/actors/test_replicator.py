"""The replicator pushes what is sealed, whatever the bucket does, and nobody waits for it. Times are virtual."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from backfilld.actors.messages import DaySealed
from backfilld.actors.replicator import (
    Bucket,
    LookForUnpushed,
    ReplicatorMessage,
    run_pusher,
    run_replicator,
)
from backfilld.core.model import Instrument
from backfilld.core.replication import LONGEST_WAIT_S, DayName
from backfilld.errors import BackfillError, RemoteDenied, RemoteUnreachable, StoreError
from backfilld.ports import Saved
from backfilld.ports.remote import Pushed, StagedDay
from tests.fakes import BTC, DAY, ETH

LATER = RemoteUnreachable("s3://tape: no answer")
PUSHED = Pushed("pushed", "a", 1)
Answer = Pushed | BackfillError | None


@dataclass
class FakeDays:
    """A bucket that answers as scripted, and then with PUSHED; it notes when what was asked."""

    on_disk: dict[Instrument, list[date]] = field(default_factory=dict)
    answers: deque[Answer] = field(default_factory=deque)
    probe_error: BackfillError | None = None
    seconds: float = 0.0
    down_until: float = 0.0
    pushes: list[tuple[float, Instrument, date]] = field(default_factory=list)
    published: Counter[Instrument] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0

    async def probe(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.probe_error is not None:
            raise self.probe_error

    async def unpushed(self, instrument: Instrument) -> Sequence[date]:
        await trio.lowlevel.checkpoint()
        return self.on_disk.get(instrument, [])

    async def push(self, instrument: Instrument, day: date) -> Pushed | None:
        self.pushes.append((trio.current_time(), instrument, day))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.at_once -= 1
        if trio.current_time() < self.down_until:
            raise LATER
        answer = self.answers.popleft() if self.answers else PUSHED
        if isinstance(answer, BackfillError):
            raise answer
        return answer

    async def publish(self, instrument: Instrument) -> None:
        await trio.lowlevel.checkpoint()
        if trio.current_time() < self.down_until:
            raise LATER
        self.published[instrument] += 1

    async def stage(self, instrument: Instrument, day: date) -> StagedDay | None:
        raise NotImplementedError

    async def admit(self, instrument: Instrument, day: date, staged: StagedDay) -> Saved:
        raise NotImplementedError


@dataclass
class Wired:
    """A replicator with its pushers and the test's end of its inbox."""

    days: FakeDays
    send: trio.MemorySendChannel[ReplicatorMessage]
    bucket: Bucket

    def seal(self, *days: date, instrument: Instrument = BTC) -> None:
        for day in days:
            self.send.send_nowait(DaySealed(instrument, day))


async def start(nursery: trio.Nursery, days: FakeDays, concurrent: int = 2) -> Wired:
    send, inbox = trio.open_memory_channel[ReplicatorMessage](1000)
    send_job, jobs = trio.open_memory_channel[DayName](1000)
    bucket = Bucket()
    for _ in range(concurrent):
        nursery.start_soon(run_pusher, jobs.clone(), send.clone(), days, bucket)
    jobs.close()
    nursery.start_soon(run_replicator, inbox, send_job, days, bucket, concurrent)
    send.send_nowait(LookForUnpushed((BTC, ETH)))
    return Wired(days, send, bucket)


def some_days(count: int) -> list[date]:
    return [DAY + timedelta(days=number) for number in range(count)]


async def test_what_is_on_disk_is_pushed_at_the_start_and_then_what_is_sealed(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    days = FakeDays({BTC: some_days(3), ETH: some_days(1)}, seconds=1)
    wired = await start(nursery, days)
    await trio.sleep(10)
    assert {(instrument, day) for _, instrument, day in days.pushes} == {
        *((BTC, day) for day in some_days(3)),
        (ETH, DAY),
    }
    assert days.published == {BTC: 1, ETH: 1}
    wired.seal(some_days(5)[4])
    await trio.sleep(2)
    assert days.pushes[-1][1:] == (BTC, some_days(5)[4])
    assert days.published[BTC] == 2
    nursery.cancel_scope.cancel()


async def test_no_more_than_allowed_are_pushed_at_a_time(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    days = FakeDays({BTC: some_days(20)}, seconds=1)
    await start(nursery, days, concurrent=3)
    await trio.sleep(10)
    assert days.most_at_once == 3
    assert days.pushes[-1][0] - days.pushes[0][0] == 6
    nursery.cancel_scope.cancel()


async def test_a_bucket_that_is_lost_is_reported_once_asked_ever_less_and_gets_all_when_it_is_back(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    began = trio.current_time()
    days = FakeDays({BTC: some_days(30)}, down_until=began + 3000)
    with capture_logs() as logs:
        await start(nursery, days, concurrent=4)
        await trio.sleep(3000)
        tries = len(days.pushes)
        await trio.sleep(2 * LONGEST_WAIT_S)
    assert tries < 25
    assert {day for _, _, day in days.pushes[tries:]} == set(some_days(30))
    events = Counter(entry["event"] for entry in logs)
    assert events == {"remote_failed": 1, "remote_recovered": 1, "day_pushed": 30}
    assert days.published[BTC] == 1
    nursery.cancel_scope.cancel()


async def test_what_was_pushed_is_logged_also_when_the_run_ends_at_that_moment(nursery: trio.Nursery) -> None:
    """Nobody reads the pusher's result any more, and what is noted as pushed is not pushed and logged again."""
    send, _unread = trio.open_memory_channel[ReplicatorMessage](0)
    send_job, jobs = trio.open_memory_channel[DayName](1)
    send_job.send_nowait((BTC, DAY))
    with capture_logs() as logs:
        nursery.start_soon(run_pusher, jobs, send, FakeDays(), Bucket())
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [(entry["event"], entry["day"]) for entry in logs] == [("day_pushed", DAY.isoformat())]


async def test_conflicts_are_errors_and_are_not_tried_again(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    conflict = Pushed("conflicted", "ours", 1, "theirs")
    days = FakeDays({BTC: some_days(3)}, deque([conflict, Pushed("stored", "b", 1), None]))
    with capture_logs() as logs:
        await start(nursery, days, concurrent=1)
        await trio.sleep(100)
    assert len(days.pushes) == 3
    (conflicted,) = (entry for entry in logs if entry["event"] == "remote_conflicted")
    assert (conflicted["log_level"], conflicted["digest"], conflicted["remote_digest"]) == ("error", "ours", "theirs")
    assert [entry["event"] for entry in logs] == ["remote_conflicted", "remote_held"]
    nursery.cancel_scope.cancel()


async def test_a_day_that_the_disk_refuses_keeps_no_other_from_its_way(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    days = FakeDays({BTC: some_days(2)}, deque([StoreError("cannot read it")]))
    with capture_logs() as logs:
        await start(nursery, days, concurrent=1)
        await trio.sleep(100)
    assert [entry["event"] for entry in logs] == ["push_failed", "day_pushed"]
    nursery.cancel_scope.cancel()


async def test_a_bucket_that_cannot_be_used_ends_the_replicator() -> None:
    days = FakeDays(probe_error=RemoteDenied("s3://tape: there is no such bucket"))
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await start(nursery, days)
    assert caught.group_contains(RemoteDenied)


async def test_a_bucket_that_is_out_of_reach_at_the_start_does_not(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    days = FakeDays({BTC: some_days(1)}, probe_error=LATER)
    with capture_logs() as logs:
        await start(nursery, days)
        await trio.sleep(10)
    assert [entry["event"] for entry in logs] == ["remote_failed", "remote_recovered", "day_pushed"]
    nursery.cancel_scope.cancel()


async def test_a_push_that_hangs_does_not_keep_whoever_seals_days_waiting(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    days = FakeDays({BTC: some_days(1)}, seconds=10_000)
    wired = await start(nursery, days, concurrent=1)
    await trio.sleep(1)
    began = trio.current_time()
    wired.seal(*some_days(500))
    assert trio.current_time() == began
    nursery.cancel_scope.cancel()
