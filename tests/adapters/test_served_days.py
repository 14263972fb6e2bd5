"""What the endpoint knows of stored days is renewed beside the requests, which neither wait for it nor repeat it."""

import threading
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from backfilld.adapters.served_days import USABLE_S, ServedDays
from backfilld.adapters.served_shelf import FRESH_S, LONGEST_FRESH_S, Shelf, around_id, looked_at_disk, timeline_of
from backfilld.core.day.addition import Addition
from backfilld.core.model import IdRange, Instrument, day_start_ms
from backfilld.core.serving.questions import TradesQuestion
from backfilld.core.serving.selection import select
from backfilld.core.serving.timeline import Piece, Timeline
from backfilld.store.day_pieces import DayPieces
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.waiting_days import WaitingDays
from tests.store.frames import DAY, SPOT, day_frame

FIRST = around_id(1000, 10)


@dataclass
class Disk:
    """Stored days, and how often they were looked at; ``is_open`` is cleared to let the looks hang."""

    directory: Path
    looks: int = 0
    is_open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.is_open.set()
        self._waiting = WaitingDays(300.0)

    def manager(self, instrument: Instrument) -> BackfillCacheManager:
        self.looks += 1
        return _Slow(self, instrument)

    def save(self, ids: range) -> None:
        manager = BackfillCacheManager(instrument_directory(self.directory, SPOT), SPOT)
        self._waiting.append(manager, Addition(SPOT, DAY, day_frame(ids)), 0.0)


class _Slow(BackfillCacheManager):
    def __init__(self, disk: Disk, instrument: Instrument) -> None:
        super().__init__(instrument_directory(disk.directory, instrument), instrument)
        self._disk = disk

    def days(self) -> list[date]:
        assert self._disk.is_open.wait(10)
        return super().days()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    found = Disk(tmp_path)
    found.save(range(1000, 1100))
    return found


def last_id(timeline: Timeline) -> int:
    return timeline.pieces[-1].ids.last_id


async def test_a_known_day_is_answered_from_while_a_thread_looks(disk: Disk, mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        days = ServedDays(disk.manager, nursery)
        assert last_id(await days.timeline(SPOT, FIRST)) == 1099
        disk.save(range(1100, 1200))
        disk.is_open.clear()
        mock_clock.jump(FRESH_S + 0.1)
        try:
            with trio.fail_after(1):
                assert [last_id(await days.timeline(SPOT, FIRST)) for _ in range(5)] == [1099] * 5
            assert disk.looks <= 2
        finally:
            disk.is_open.set()
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1):
            while nursery.child_tasks:
                await trio.lowlevel.checkpoint()
        assert last_id(await days.timeline(SPOT, FIRST)) == 1199
        assert disk.looks == 2


async def test_what_is_older_is_looked_at_first(disk: Disk, mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        days = ServedDays(disk.manager, nursery)
        await days.timeline(SPOT, FIRST)
        disk.save(range(1100, 1200))
        mock_clock.jump(LONGEST_FRESH_S + USABLE_S)
        assert last_id(await days.timeline(SPOT, FIRST)) == 1199


async def test_a_doubt_is_looked_at_first(disk: Disk) -> None:
    async with trio.open_nursery() as nursery:
        days = ServedDays(disk.manager, nursery)
        await days.timeline(SPOT, FIRST)
        disk.save(range(1100, 1200))
        days.look_again(SPOT)
        assert last_id(await days.timeline(SPOT, FIRST)) == 1199


async def test_many_requests_at_once_look_once(disk: Disk) -> None:
    async with trio.open_nursery() as nursery:
        days = ServedDays(disk.manager, nursery)
        found: list[int] = []

        async def ask() -> None:
            found.append(last_id(await days.timeline(SPOT, FIRST)))

        async with trio.open_nursery() as asking:
            for _ in range(50):
                asking.start_soon(ask)
        assert found == [1099] * 50
        assert disk.looks == 1


async def test_a_look_that_fails_beside_the_requests_ends_nothing(
    disk: Disk, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_manager: _Slow) -> list[date]:
        raise OSError("the disk is gone")

    async with trio.open_nursery() as nursery:
        days = ServedDays(disk.manager, nursery)
        await days.timeline(SPOT, FIRST)
        monkeypatch.setattr(_Slow, "days", refused)
        mock_clock.jump(FRESH_S + 0.1)
        assert last_id(await days.timeline(SPOT, FIRST)) == 1099
        mock_clock.jump(LONGEST_FRESH_S + USABLE_S)
        with pytest.raises(OSError, match="gone"):
            await days.timeline(SPOT, FIRST)


async def test_a_shutdown_does_not_wait_for_a_disk_that_hangs(disk: Disk) -> None:
    disk.is_open.clear()
    try:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ServedDays(disk.manager, nursery).timeline, SPOT, FIRST)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
    finally:
        disk.is_open.set()


def test_a_day_that_takes_long_to_read_is_read_seldom(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.2])
    monkeypatch.setattr("backfilld.adapters.served_shelf.time.perf_counter", lambda: next(times))
    manager = disk.manager(SPOT)
    shelf, days = looked_at_disk(manager, SPOT, Shelf(), FIRST, 100.0)
    assert shelf.known[DAY].fresh_s == pytest.approx(4.0)
    disk.save(range(1100, 1200))
    later, _ = looked_at_disk(manager, SPOT, shelf, FIRST, 103.0)
    assert later.known[DAY] is shelf.known[DAY]
    assert days == [DAY]


SPANS = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 40)), min_size=1, max_size=3)


@st.composite
def stored(draw: st.DrawFn) -> dict[date, DayPieces]:
    """Some days, one after the other, each with some spans of ids."""
    found, next_id = {}, draw(st.integers(0, 20))
    for number, spans in enumerate(draw(st.lists(SPANS, min_size=1, max_size=5))):
        day, pieces, absent = DAY + timedelta(days=number), list[Piece](), list[IdRange]()
        for gap, rows in spans:
            ids = IdRange(next_id + gap, next_id + gap + rows - 1)
            pieces.append(Piece(ids, day_start_ms(day), day_start_ms(day), ids, day))
            if gap and draw(st.booleans()):
                absent.append(IdRange(next_id, next_id + gap - 1))
            next_id = ids.last_id + 1
        found[day] = DayPieces((None, None), pieces, absent)
    return found


def _answer(question: TradesQuestion, timeline: Timeline) -> list[int] | None:
    selecting = select(question, timeline)
    try:
        piece = next(selecting)
        while True:
            piece = selecting.send(day_frame(range(piece.ids.first_id, piece.ids.last_id + 1)))
    except StopIteration as done:
        found: pl.DataFrame | None = done.value
        return None if found is None else found["a"].to_list()


@settings(deadline=None)
@given(stored(), st.data(), st.integers(1, 60))
def test_the_days_around_an_id_answer_as_all_days_do(
    days: dict[date, DayPieces], data: st.DataObject, limit: int
) -> None:
    edges = [piece.ids.first_id for each in days.values() for piece in each.pieces]
    from_id = max(0, data.draw(st.sampled_from(edges)) + data.draw(st.integers(-12, 50)))
    question = TradesQuestion(SPOT, limit, from_id=from_id)
    chosen = around_id(from_id, limit)(list(days), days.__getitem__)
    every = _answer(question, timeline_of(list(days.values())))
    found = _answer(question, timeline_of([days[day] for day in chosen]))
    # A page over more days than are looked at is the exchange's.
    assert found == every or (found is None and len(chosen) > 2 and chosen[-1] < max(days))
