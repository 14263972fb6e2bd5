"""The writer: every stretch saved in turn, and said so."""

import math
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import count

import polars as pl
import pytest
import trio
from msgspec.structs import replace
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from backfilld.actors.disk import Disk
from backfilld.actors.merger import CHECKPOINT_MARGIN
from backfilld.actors.messages import DayMerged, DaysFlushed, SchedulerMessage, SyncEvent, WriterMessage
from backfilld.actors.writer import run_writer
from backfilld.adapters.ram_store import RamStore
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.saving import turn_of
from backfilld.core.day.start import DayStart
from backfilld.core.frame import empty_trades
from backfilld.core.model import IdRange, Instrument
from backfilld.core.sync.events import DaysAltered, DayStored, Flushed
from backfilld.errors import DayDamaged, DayLocked, StoreError
from backfilld.ports import Saved
from tests.fakes import BTC, DAY, DAY_MS, ETH, FakeStore, drained, starts_at, trades_at


@dataclass
class Desk:
    """A writer at work."""

    send: trio.MemorySendChannel[WriterMessage]
    events: trio.MemoryReceiveChannel[SchedulerMessage]
    store: FakeStore
    disk: Disk = field(default_factory=lambda: Disk(is_patient=False))
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


@asynccontextmanager
async def writing(store: FakeStore | None = None, *, is_patient: bool = False) -> AsyncIterator[Desk]:
    """A writer; its days are closed at the end, and that it ends then is checked."""
    send, days = trio.open_memory_channel[WriterMessage](0)
    send_event, events = trio.open_memory_channel[SchedulerMessage](math.inf)
    desk = Desk(send, events, store or FakeStore(), Disk(is_patient=is_patient))
    ticks = count()

    async def work() -> None:
        with desk.scope:
            await run_writer(days, send_event, desk.store, desk.disk, clock=lambda: next(ticks) * 0.25)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        yield desk
        send.close()


def merged(trades: pl.DataFrame, day_starts: Collection[DayStart] = (), instrument: Instrument = BTC) -> DayMerged:
    return DayMerged(Addition(instrument, DAY, trades, frozenset(day_starts)))


def stored(message: SchedulerMessage) -> DayStored:
    """What a message says of a day that was saved."""
    assert isinstance(message, SyncEvent)
    assert isinstance(message.event, DayStored)
    return message.event


async def test_a_stretch_is_saved_with_its_proof_and_reported_as_it_stands(autojump_clock: MockClock) -> None:
    async with writing() as desk:
        await desk.send.send(merged(trades_at(5, DAY_MS, DAY_MS + 1), starts_at(DAY, 5)))
        message = await desk.events.receive()
        assert message == SyncEvent(BTC, DayStored(desk.store.record(BTC, DAY)))
        event = stored(message)
        assert event.record.opened
        assert event.record.coverage.ranges == (IdRange(5, 6),)


async def test_days_and_marks_are_answered_in_the_order_they_came(autojump_clock: MockClock) -> None:
    async with writing() as desk:
        desk.store.delay_s = 3.0
        for message in (merged(trades_at(0, DAY_MS)), DaysFlushed(ETH), merged(trades_at(1, DAY_MS)), DaysFlushed(BTC)):
            await desk.send.send(message)
        messages = [await desk.events.receive() for _ in range(4)]
        kinds = [type(each.event) for each in messages if isinstance(each, SyncEvent)]
        assert kinds == [DayStored, Flushed, DayStored, Flushed]
        assert trio.current_time() == 6.0


async def test_conflicts_of_the_pages_and_of_the_disk_are_counted_and_logged_one_by_one(
    autojump_clock: MockClock,
) -> None:
    async with writing() as desk:
        trades = trades_at(0, DAY_MS, DAY_MS)
        desk.store.hold(BTC, trades, (await desk.store.save(Addition(BTC, DAY, trades))).record)
        among_pages = trades_at(9, DAY_MS).with_columns(p=pl.lit(1.5))
        changed = trades.with_columns(q=pl.when(pl.col("a") == 1).then(99.0).otherwise("q"))
        with capture_logs() as logs:
            await desk.send.send(DayMerged(Addition(BTC, DAY, changed), 3, among_pages))
            event = stored(await desk.events.receive())
        assert event.conflicts == 2
        (line,) = [line for line in logs if line["event"] == "trades_merged"]
        assert (line["downloaded"], line["cached"], line["duplicates"], line["conflicts"]) == (2, 2, 4, 2)
        assert [line["id"] for line in logs if line["event"] == "trade_conflicted"] == [9, 1]


class FileStore(FakeStore):
    """Says that it wrote a file."""

    async def save(self, addition: Addition) -> Saved:
        saved = await super().save(addition)
        return Saved(saved.record, "a.parquet", 1234, saved.cached, saved.duplicates, saved.conflicts)


async def test_a_file_is_logged_with_its_size_and_the_time_it_took(autojump_clock: MockClock) -> None:
    async with writing(FileStore()) as desk:
        with capture_logs() as logs:
            await desk.send.send(merged(trades_at(0, DAY_MS)))
            await desk.events.receive()
        (line,) = [line for line in logs if line["event"] == "day_saved"]
        assert (line["file"], line["trades"], line["bytes"], line["ms"]) == ("a.parquet", 1, 1234, 250.0)
        assert (line["instrument"], line["day"]) == ("spot:BTCUSDT", "2025-11-07")


async def test_a_renewal_without_trades_is_saved_and_not_called_a_merge(autojump_clock: MockClock) -> None:
    async with writing() as desk:
        await desk.send.send(merged(trades_at(5, DAY_MS)))
        with capture_logs() as logs:
            await desk.send.send(DayMerged(Addition(BTC, DAY, day_starts=starts_at(DAY, 5, 6))))
            await desk.events.receive()
            event = stored(await desk.events.receive())
        assert event.record.sealed
        assert [line["event"] for line in logs if line.get("downloaded") == 0] == []


async def test_a_store_that_fails_ends_the_writer_with_its_error_alone(autojump_clock: MockClock) -> None:
    send, days = trio.open_memory_channel[WriterMessage](1)
    send_event, events = trio.open_memory_channel[SchedulerMessage](math.inf)
    store = FakeStore()
    store.fails["save"] = StoreError("disk full")
    send.send_nowait(merged(trades_at(0, DAY_MS)))
    with pytest.raises(StoreError, match="disk full"):
        await run_writer(days, send_event, store, Disk(is_patient=False))
    assert drained(events) == []
    with pytest.raises(trio.BrokenResourceError):
        send.send_nowait(merged(trades_at(0, DAY_MS)))


async def test_a_save_in_progress_is_not_cancelled(autojump_clock: MockClock) -> None:
    async with writing() as desk:
        desk.store.delay_s = 5.0
        await desk.send.send(merged(trades_at(0, DAY_MS)))
        await wait_all_tasks_blocked()
        desk.scope.cancel()
        await trio.sleep(4.9)
        assert desk.store.saves == []
        await trio.sleep(0.2)
        assert desk.store.ids(BTC) == [0]


async def test_it_ends_with_its_days_and_closes_its_events(autojump_clock: MockClock) -> None:
    async with writing() as desk:
        desk.send.close()
        with pytest.raises(trio.EndOfChannel):
            await desk.events.receive()


# -- a disk that fails


class Failing(FakeStore):
    """Notes when it was asked to save, and to load."""

    def __init__(self) -> None:
        super().__init__()
        self.tried: list[float] = []

    async def save(self, addition: Addition) -> Saved:
        self.tried.append(trio.current_time())
        return await super().save(addition)


async def test_a_patient_writer_tries_until_it_works_waiting_longer_each_time(autojump_clock: MockClock) -> None:
    store = Failing()
    store.fails["save"] = StoreError("No space left on device")
    async with writing(store, is_patient=True) as desk:
        with capture_logs() as logs:
            await desk.send.send(merged(trades_at(0, DAY_MS, DAY_MS)))
            await trio.sleep(200)
            assert store.tried == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]
            assert desk.disk.trouble.value is not None
            assert (desk.disk.trouble.value.reason, desk.disk.trouble.value.tries) == ("No space left on device", 11)
            store.fails.clear()
            stored(await desk.events.receive())
        assert trio.current_time() == 211
        assert store.ids(BTC) == [0, 1]
        assert desk.disk.trouble.value is None
    logged = [(line["event"], line["log_level"]) for line in logs if line["event"].startswith("disk")]
    assert logged == [("disk_failed", "error"), ("disk_recovered", "info")], "said once"
    failed, recovered = (line for line in logs if line["event"].startswith("disk"))
    assert (failed["error"], failed["trades_held"]) == ("No space left on device", 2)
    assert recovered["seconds"] == 211


async def test_meanwhile_it_takes_nothing_more(autojump_clock: MockClock) -> None:
    """Which slows the merger, and the fetchers behind it."""
    store = Failing()
    store.fails["save"] = StoreError("disk full")
    async with writing(store, is_patient=True) as desk:
        await desk.send.send(merged(trades_at(0, DAY_MS)))
        with trio.move_on_after(100) as waited:
            await desk.send.send(merged(trades_at(1, DAY_MS)))
        assert waited.cancelled_caught
        store.fails.clear()
        await desk.send.send(merged(trades_at(1, DAY_MS)))
        await desk.events.receive()
        await desk.events.receive()
        assert store.ids(BTC) == [0, 1]


async def test_a_second_failure_is_said_again(autojump_clock: MockClock) -> None:
    store = Failing()
    async with writing(store, is_patient=True) as desk:
        with capture_logs() as logs:
            for n in range(2):
                store.fails["save"] = StoreError("disk full")
                await desk.send.send(merged(trades_at(n, DAY_MS)))
                await trio.sleep(5)
                store.fails.clear()
                await desk.events.receive()
    logged = [line["event"] for line in logs if line["event"].startswith("disk")]
    assert logged == ["disk_failed", "disk_recovered"] * 2


async def test_at_the_deadline_it_lets_go_and_says_what_is_lost(autojump_clock: MockClock) -> None:
    """Between two tries."""
    store = Failing()
    store.fails["save"] = StoreError("disk full")
    with capture_logs() as logs, pytest.RaisesGroup(pytest.RaisesExc(StoreError, match="disk full")):
        async with writing(store, is_patient=True) as desk:
            await desk.send.send(merged(trades_at(0, DAY_MS, DAY_MS)))
            await trio.sleep(20)
            desk.disk.abandon_at(25.0)
            await trio.sleep(1000)
    assert trio.current_time() <= 31
    lost = [line for line in logs if line["event"] == "trades_unsaved"]
    assert [(line["trades"], line["day"], line["log_level"]) for line in lost] == [(2, DAY.isoformat(), "error")]


async def test_a_save_that_hangs_is_let_go_at_the_deadline(autojump_clock: MockClock) -> None:
    store = Failing()
    store.delay_s = 1e6
    with pytest.RaisesGroup(pytest.RaisesExc(StoreError, match="in time")):
        async with writing(store, is_patient=True) as desk:
            await desk.send.send(merged(trades_at(0, DAY_MS)))
            await trio.sleep(50)
            desk.disk.abandon_at(60.0)
            await trio.sleep(1000)
    assert trio.current_time() == 60


class Damaged(Failing):
    """The day's file is damaged until it is read, which moves it aside."""

    def __init__(self) -> None:
        super().__init__()
        self.damaged = False

    async def save(self, addition: Addition) -> Saved:
        if self.damaged:
            raise DayDamaged("a.parquet was damaged while in use")
        return await super().save(addition)

    async def load(self, instrument: Instrument, day: date) -> Certificate | None:
        await super().load(instrument, day)
        self.damaged = False
        self._days.pop((instrument, day), None)
        self._records.pop((instrument, day), None)
        return None


@pytest.mark.parametrize("is_patient", [True, False])
async def test_a_day_that_was_damaged_is_moved_aside_and_what_is_new_is_saved(
    is_patient: bool, autojump_clock: MockClock
) -> None:
    store = Damaged()
    async with writing(store, is_patient=is_patient) as desk:
        await desk.send.send(merged(trades_at(0, DAY_MS)))
        await desk.events.receive()
        store.damaged = True
        await desk.send.send(merged(trades_at(1, DAY_MS)))
        event = stored(await desk.events.receive())
        assert event.record.coverage.ranges == (IdRange(1, 1),)
        assert store.loaded == [(BTC, DAY)]
        assert trio.current_time() == 0


async def test_a_damaged_day_on_a_disk_that_fails_is_tried_until_it_works(autojump_clock: MockClock) -> None:
    """What is stored is not given up because the damaged file cannot be read for a while."""
    store = Damaged()
    async with writing(store, is_patient=True) as desk:
        store.damaged = True
        store.fails["load"] = StoreError("Input/output error")
        await desk.send.send(merged(trades_at(1, DAY_MS)))
        await trio.sleep(10)
        store.fails.clear()
        stored(await desk.events.receive())
        assert store.ids(BTC) == [1]


class Journaled(FakeStore):
    """Appends wait for the next save, at most 300 s."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: dict[tuple[Instrument, date], float] = {}

    async def append(self, addition: Addition) -> Saved:
        """Note when the row was appended."""
        saved = await RamStore.save(self, addition)
        self.waits.setdefault((addition.instrument, addition.day), trio.current_time() + 300)
        return saved

    async def save(self, addition: Addition) -> Saved:
        """Nothing waits any longer."""
        self.waits.pop((addition.instrument, addition.day), None)
        return await super().save(addition)

    def waiting(self) -> dict[tuple[Instrument, date], float]:
        """What was appended since the last save."""
        return self.waits


async def test_what_waits_is_saved_when_it_is_due_though_nothing_more_comes(autojump_clock: MockClock) -> None:
    """A quiet day's file gets no older than one that is written to."""
    store = Journaled()
    async with writing(store) as desk:
        await desk.send.send(merged(trades_at(0, DAY_MS)))
        await trio.sleep(299)
        assert not store.saves
        await trio.sleep(2)
        assert [saved[:3] for saved in store.saves] == [(BTC, DAY, 0)]


async def test_the_file_is_written_where_that_is_asked_for_and_the_end_leaves_nothing_waiting(
    autojump_clock: MockClock,
) -> None:
    store = Journaled()
    async with writing(store) as desk:
        await desk.send.send(merged(trades_at(0, DAY_MS)))
        await desk.send.send(DaysFlushed(BTC))
        await wait_all_tasks_blocked()
        assert not store.saves
        await desk.send.send(replace(merged(empty_trades()), writes_file=True))
        await wait_all_tasks_blocked()
        assert len(store.saves) == 1
        await desk.send.send(merged(trades_at(1, DAY_MS)))
    assert len(store.saves) == 2
    assert not store.waits


async def test_the_end_leaves_in_the_journals_what_there_is_no_time_to_rewrite(autojump_clock: MockClock) -> None:
    """Hundreds of live instruments wait at a stop, and the grace is ten seconds; the journals are on disk."""
    store = Journaled()
    async with writing(store) as desk:
        for number in range(30):
            await desk.send.send(merged(trades_at(0, DAY_MS), instrument=Instrument.parse(f"spot:S{number}")))
        store.delay_s = 0.5
        desk.disk.abandon_at(trio.current_time() + 9.0)
        began = trio.current_time()
    assert trio.current_time() - began <= 9.0
    assert len(store.saves) == 14
    assert len(store.waits) == 16


CERTIFICATE = Certificate(DAY, ())
SAVE_S = 300.0
ONE_ROW = trades_at(0, DAY_MS)


class SlowDisk(Journaled):
    """An append and a rewrite take their time; a rewrite has its instrument's turn, or all are due at once. Notes how
    old the journal of a rewrite was."""

    def __init__(self, append_s: float, rewrite_s: float, *, at_once: bool = False) -> None:
        super().__init__()
        self.append_s, self.rewrite_s, self.at_once = append_s, rewrite_s, at_once
        self.since: dict[tuple[Instrument, date], float] = {}
        self.appended: list[float] = []
        self.file_ages: list[float] = []

    async def append(self, addition: Addition) -> Saved:
        """Slowly."""
        await trio.sleep(self.append_s)
        now, key = trio.current_time(), (addition.instrument, addition.day)
        self.appended.append(now)
        since_s = self.since.setdefault(key, now)
        turn_s = -(-now // SAVE_S) * SAVE_S if self.at_once else turn_of(str(addition.instrument), since_s, SAVE_S)
        self.waits.setdefault(key, turn_s)
        return Saved(CERTIFICATE, None, 0, 0, 0, empty_trades())

    async def save(self, addition: Addition) -> Saved:
        """More slowly."""
        await trio.sleep(self.rewrite_s)
        key = (addition.instrument, addition.day)
        self.file_ages.append(trio.current_time() - self.since.pop(key))
        del self.waits[key]
        return Saved(CERTIFICATE, None, 0, 0, 0, empty_trades())


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(("instruments", "append_s", "rewrite_s"), [(60, 0.01, 0.2), (2, 0.01, 2.0)])
async def test_hundreds_of_live_instruments_wait_for_no_rewrite_at_a_checkpoint(
    instruments: int, append_s: float, rewrite_s: float, at_once: bool, autojump_clock: MockClock
) -> None:
    """A checkpoint has the rest of its interval, also where all files are due at once; and no file gets too old."""
    store, checkpoint_s = SlowDisk(append_s, rewrite_s, at_once=at_once), 10.0
    names = [Instrument.parse(f"spot:S{number}") for number in range(instruments)]
    async with writing(store) as desk:
        for number in range(1, 70):
            for each in names:
                await desk.send.send(DayMerged(Addition(each, DAY, ONE_ROW)))
            while len(store.appended) < number * instruments:
                await trio.sleep(append_s)
            took_s = store.appended[-1] - (number - 1) * checkpoint_s
            assert took_s <= checkpoint_s * (1 - CHECKPOINT_MARGIN), f"checkpoint {number} took {took_s:.1f} s"
            await trio.sleep_until(number * checkpoint_s)
        late_s = checkpoint_s + (instruments * rewrite_s if at_once else 0)
        assert max(store.file_ages) <= SAVE_S + late_s
        assert len(store.file_ages) >= instruments


async def test_a_disk_that_is_always_busy_rewrites_too(autojump_clock: MockClock) -> None:
    """A tenth of the time, while appends wait without a pause."""
    store = SlowDisk(append_s=0.5, rewrite_s=1.0)
    async with writing(store) as desk, trio.open_nursery() as nursery:

        async def send_without_a_pause() -> None:
            for number in range(2400):
                await desk.send.send(DayMerged(Addition(Instrument.parse(f"spot:S{number % 40}"), DAY, ONE_ROW)))

        nursery.start_soon(send_without_a_pause)
        await trio.sleep(1190)
        assert 60 <= len(store.file_ages) <= 120


class OneLocked(FakeStore):
    """No key opens the days of ETH; a day without a file cannot be renewed."""

    async def save(self, addition: Addition) -> Saved:
        if addition.instrument == ETH:
            raise DayLocked("spot:ETHUSDT 2025-11-07 is encrypted, and no key opens it")
        if addition.trades.is_empty() and await self.load(addition.instrument, addition.day) is None:
            raise DayDamaged("it is gone")
        return await super().save(addition)


async def test_a_day_that_no_key_opens_ends_only_its_instrument(autojump_clock: MockClock) -> None:
    """The writer goes on with the others, and the day is read again: that says so, and asks nothing more."""
    async with writing(OneLocked()) as desk:
        with capture_logs() as logs:
            await desk.send.send(merged(trades_at(0, DAY_MS), instrument=ETH))
            await desk.send.send(merged(trades_at(0, DAY_MS)))
        assert await desk.events.receive() == SyncEvent(ETH, DaysAltered(frozenset({DAY})))
        stored(await desk.events.receive())
        (line,) = [line for line in logs if line["event"] == "trades_unsaved"]
        assert "no key opens it" in line["error"]


async def test_a_day_that_is_gone_is_not_renewed_for_ever(autojump_clock: MockClock) -> None:
    async with writing(OneLocked()) as desk:
        await desk.send.send(merged(empty_trades()))
        with trio.fail_after(5):
            assert await desk.events.receive() == SyncEvent(BTC, DaysAltered(frozenset({DAY})))
