"""The merger: pages in, days out, and never older or more than promised."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import polars as pl
import pytest
import trio
from polars.testing import assert_frame_equal
from trio.testing import MockClock, wait_all_tasks_blocked

from backfilld.actors.merger import run_merger
from backfilld.actors.messages import (
    DayMerged,
    DaysFlushed,
    MergerMessage,
    PageFetched,
    PagesStreamed,
    SyncAction,
    WriterMessage,
)
from backfilld.core.day.certificate import STREAM
from backfilld.core.day.start import DayStart
from backfilld.core.model import MS_PER_DAY
from backfilld.core.sync.events import Flush, Prove
from tests.fakes import BTC, DAY, DAY_MS, ETH, Tape, drained, trade_frame, trades_at

NEXT, NEXT_MS = DAY + timedelta(days=1), DAY_MS + MS_PER_DAY
CHECKPOINT_S = 10.0


@dataclass
class Desk:
    """A merger at work."""

    send: trio.MemorySendChannel[MergerMessage]
    days: trio.MemoryReceiveChannel[WriterMessage]

    async def page(self, trades: pl.DataFrame, instrument: object = BTC) -> None:
        await self.send.send(PageFetched(instrument, trades))  # type: ignore[arg-type]
        await wait_all_tasks_blocked()

    async def day(self) -> DayMerged:
        message = await self.days.receive()
        assert isinstance(message, DayMerged)
        return message

    async def flush(self, command: SyncAction[Flush]) -> list[WriterMessage]:
        await self.send.send(command)
        await wait_all_tasks_blocked()
        return drained(self.days)


@asynccontextmanager
async def merging(*, rows: int = 1_000_000, buffer: float = math.inf) -> AsyncIterator[Desk]:
    """A merger; its pages are closed at the end, and that it ends then is checked."""
    send, pages = trio.open_memory_channel[MergerMessage](0)
    send_day, days = trio.open_memory_channel[WriterMessage](buffer)

    async def work() -> None:
        await run_merger(pages, send_day, checkpoint_s=lambda: CHECKPOINT_S, checkpoint_rows=rows)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        yield Desk(send, days)
        send.close()


def ids(message: DayMerged) -> list[int]:
    return message.addition.trades["a"].to_list()


async def test_a_page_is_handed_over_when_seven_tenths_of_the_interval_have_passed(autojump_clock: MockClock) -> None:
    async with merging() as desk:
        await trio.sleep(3)
        await desk.page(trades_at(5, DAY_MS, DAY_MS + 1))
        await trio.sleep(4)
        await desk.page(trades_at(7, DAY_MS + 2))
        day = await desk.day()
        assert trio.current_time() == 3 + 0.7 * CHECKPOINT_S, "the age is that of the oldest page"
        assert (day.instrument, day.day, ids(day)) == (BTC, DAY, [5, 6, 7])
        await desk.page(trades_at(8, DAY_MS + 3))
        assert ids(await desk.day()) == [8]
        assert trio.current_time() == 3 + 2 * 0.7 * CHECKPOINT_S


async def test_enough_rows_are_handed_over_at_once_whatever_their_age(autojump_clock: MockClock) -> None:
    async with merging(rows=4) as desk:
        await desk.page(trades_at(0, DAY_MS, DAY_MS, DAY_MS))
        assert drained(desk.days) == []
        await desk.page(trades_at(3, DAY_MS), ETH)
        assert [message.instrument for message in drained(desk.days)] == [BTC, ETH]
        assert trio.current_time() == 0
        await desk.page(trades_at(4, DAY_MS))
        assert drained(desk.days) == [], "the count began anew"


async def test_a_checkpoint_that_falls_due_while_the_last_rows_wait_for_the_disk_loses_none(
    autojump_clock: MockClock,
) -> None:
    async with merging(buffer=0) as desk:
        await desk.page(trades_at(5, DAY_MS))
        desk.send.close()
        await trio.sleep(2 * CHECKPOINT_S)
        assert ids(await desk.day()) == [5]


async def test_pages_in_any_order_are_put_in_order(autojump_clock: MockClock) -> None:
    tape = Tape.even(50)
    async with merging() as desk:
        for start in (30, 0, 40, 10, 20):
            await desk.page(tape.frame[start : start + 10])
        day, end = await desk.flush(SyncAction(BTC, Flush()))
        assert isinstance(day, DayMerged)
        assert_frame_equal(day.addition.trades, tape.frame)
        assert (day.duplicates, day.conflicts.height) == (0, 0)
        assert end == DaysFlushed(BTC)


async def test_rows_that_came_twice_collapse_and_conflicts_are_reported(autojump_clock: MockClock) -> None:
    async with merging() as desk:
        await desk.page(trades_at(0, *[DAY_MS] * 5))
        await desk.page(trades_at(3, *[DAY_MS] * 4).with_columns(p=pl.when(pl.col("a") == 4).then(7.0).otherwise("p")))
        day, _ = await desk.flush(SyncAction(BTC, Flush()))
        assert isinstance(day, DayMerged)
        assert ids(day) == [0, 1, 2, 3, 4, 5, 6]
        assert day.duplicates == 1
        assert day.conflicts["p"].to_list() == [7.0]


async def test_a_page_over_midnight_is_cut_and_proves_the_start_of_the_day(autojump_clock: MockClock) -> None:
    async with merging() as desk:
        await desk.page(trades_at(10, NEXT_MS - 2, NEXT_MS - 1, NEXT_MS, NEXT_MS + 1))
        tomorrow, today, _ = await desk.flush(SyncAction(BTC, Flush()))
        assert isinstance(today, DayMerged)
        assert isinstance(tomorrow, DayMerged)
        assert (today.day, ids(today)) == (DAY, [10, 11])
        assert (tomorrow.day, ids(tomorrow)) == (NEXT, [12, 13])
        assert today.addition.day_starts == tomorrow.addition.day_starts == {DayStart(NEXT, 12)}


async def test_a_page_that_begins_at_midnight_proves_nothing(autojump_clock: MockClock) -> None:
    async with merging() as desk:
        await desk.page(trades_at(10, NEXT_MS, NEXT_MS))
        (day, _) = await desk.flush(SyncAction(BTC, Flush()))
        assert isinstance(day, DayMerged)
        assert day.addition.day_starts == frozenset()


async def test_a_day_without_trades_is_no_day_and_proves_the_next(autojump_clock: MockClock) -> None:
    async with merging() as desk:
        await desk.page(trades_at(10, DAY_MS, NEXT_MS + MS_PER_DAY))
        third, first, _ = await desk.flush(SyncAction(BTC, Flush()))
        assert isinstance(first, DayMerged)
        assert isinstance(third, DayMerged)
        assert (first.day, third.day) == (DAY, DAY + timedelta(days=2))
        assert third.addition.day_starts == {DayStart(third.day, 11)}


async def test_a_marker_row_with_the_time_of_yesterday_stays_where_its_id_is(autojump_clock: MockClock) -> None:
    """Marker rows keep the time of another trade: ids decide, so no day gets a hole by them."""
    times = [NEXT_MS - 1, NEXT_MS, NEXT_MS - 500, NEXT_MS + 1]
    async with merging() as desk:
        await desk.page(trade_frame([10, 11, 12, 13], times, markers=[12]))
        tomorrow, today, _ = await desk.flush(SyncAction(BTC, Flush()))
        assert isinstance(today, DayMerged)
        assert isinstance(tomorrow, DayMerged)
        assert (ids(today), ids(tomorrow)) == ([10], [11, 12, 13])


async def test_ids_that_come_by_themselves_go_to_the_day_that_has_their_range(autojump_clock: MockClock) -> None:
    """Time goes back over midnight, and the row with the earlier time was skipped and asked for alone."""
    async with merging() as desk:
        await desk.page(trade_frame([10, 12, 13], [NEXT_MS, NEXT_MS + 1, NEXT_MS + 2]))
        await desk.page(trades_at(11, NEXT_MS - 1))
        await desk.page(trades_at(9, NEXT_MS - 2))
        tomorrow, today, _ = await desk.flush(SyncAction(BTC, Flush()))
        assert isinstance(today, DayMerged)
        assert isinstance(tomorrow, DayMerged)
        assert (ids(today), ids(tomorrow)) == ([9], [10, 11, 12, 13])
        assert today.addition.day_starts == {DayStart(NEXT, 10)}
        await desk.page(trades_at(10, NEXT_MS - 1))
        (again, _) = await desk.flush(SyncAction(BTC, Flush()))
        assert isinstance(again, DayMerged)
        assert again.day == NEXT, "decided once"


async def test_a_late_answer_of_yesterdays_start_starts_no_other_day(autojump_clock: MockClock) -> None:
    async with merging() as desk:
        await desk.send.send(SyncAction(BTC, Prove(frozenset({DayStart(DAY, 10)}))))
        await desk.page(trades_at(10, NEXT_MS - 1, NEXT_MS + 5))
        tomorrow, today, _ = await desk.flush(SyncAction(BTC, Flush()))
        assert isinstance(today, DayMerged)
        assert isinstance(tomorrow, DayMerged)
        assert (ids(today), ids(tomorrow)) == ([10], [11])
        assert today.addition.day_starts == {DayStart(DAY, 10), DayStart(NEXT, 11)}


async def test_a_flush_hands_over_its_instrument_and_ends_with_its_mark(autojump_clock: MockClock) -> None:
    """The others go on gathering: where hundreds are flushed in turn, each would be written a row at a time."""
    async with merging() as desk:
        await desk.page(trades_at(0, DAY_MS), ETH)
        await desk.page(trades_at(0, DAY_MS))
        day, end = await desk.flush(SyncAction(BTC, Flush()))
        assert isinstance(day, DayMerged)
        assert (day.instrument, end) == (BTC, DaysFlushed(BTC))
        assert await desk.flush(SyncAction(BTC, Flush())) == [DaysFlushed(BTC)]
        assert (await desk.day()).instrument == ETH
        assert trio.current_time() == 0.7 * CHECKPOINT_S, "their age is that of their oldest page"
        await desk.page(trades_at(1, DAY_MS))
        await desk.flush(SyncAction(BTC, Flush()))
        await trio.sleep(100)
        assert drained(desk.days) == [], "nothing is left to grow old"


async def test_what_answers_brought_is_forgotten_and_what_the_stream_brought_is_not(autojump_clock: MockClock) -> None:
    async with merging(rows=12) as desk:
        await desk.page(Tape.even(10).frame)
        await desk.send.send(SyncAction(BTC, Prove(frozenset({DayStart(DAY, 0)}))))
        await desk.send.send(PagesStreamed((PageFetched(BTC, trades_at(20, DAY_MS + 500), STREAM),)))
        first, mark = await desk.flush(SyncAction(BTC, Flush(forgets=True)))
        assert isinstance(first, DayMerged)
        assert first.addition.trades["a"].to_list() == [20]
        assert first.addition.day_starts == frozenset()
        assert mark == DaysFlushed(BTC)
        await desk.page(Tape.even(10).frame)
        assert drained(desk.days) == [], "rows that were forgotten are counted"


async def test_rows_that_were_flushed_are_no_longer_counted(autojump_clock: MockClock) -> None:
    async with merging(rows=4) as desk:
        await desk.page(trades_at(0, DAY_MS, DAY_MS, DAY_MS))
        await desk.flush(SyncAction(BTC, Flush()))
        await desk.page(trades_at(3, DAY_MS))
        assert drained(desk.days) == []


async def test_pages_of_streams_come_together_and_are_kept_apart_by_instrument(autojump_clock: MockClock) -> None:
    async with merging() as desk:
        pages = tuple(PageFetched(each, trades_at(0, DAY_MS), STREAM) for each in (BTC, ETH))
        await desk.send.send(PagesStreamed(pages))
        days = [await desk.day() for _ in pages]
        assert [(each.instrument, each.addition.source, ids(each)) for each in days] == [
            (BTC, STREAM, [0]),
            (ETH, STREAM, [0]),
        ]


async def test_days_to_renew_come_after_the_trades_and_have_their_files_written(autojump_clock: MockClock) -> None:
    async with merging() as desk:
        await desk.page(trades_at(9, NEXT_MS))
        await desk.page(trades_at(9, DAY_MS), ETH)
        await desk.send.send(SyncAction(BTC, Prove(frozenset({DayStart(DAY, 3), DayStart(NEXT, 9)}))))
        messages = await desk.flush(SyncAction(BTC, Flush(frozenset({DAY, NEXT}))))
        days = [message for message in messages if isinstance(message, DayMerged) and message.instrument == BTC]
        handed_over = [(message.day, ids(message), message.writes_file) for message in days]
        assert handed_over == [(NEXT, [9], False), (DAY, [], True), (NEXT, [], True)]
        assert all(message.addition.day_starts == {DayStart(DAY, 3), DayStart(NEXT, 9)} for message in days)
        assert messages[-1] == DaysFlushed(BTC)


async def test_starts_are_of_their_instrument_and_last(autojump_clock: MockClock) -> None:
    async with merging() as desk:
        await desk.send.send(SyncAction(BTC, Prove(frozenset({DayStart(DAY, 3)}))))
        for instrument, expected in ((ETH, set()), (BTC, {DayStart(DAY, 3)})):
            await desk.page(trades_at(3, DAY_MS), instrument)
            day = (await desk.flush(SyncAction(instrument, Flush())))[0]
            assert isinstance(day, DayMerged)
            assert day.addition.day_starts == expected


async def test_what_waits_at_the_end_of_the_pages_is_handed_over(autojump_clock: MockClock) -> None:
    async with merging() as desk:
        await desk.page(trades_at(0, DAY_MS))
        await desk.page(trades_at(0, DAY_MS), ETH)
        desk.send.close()
        assert [(await desk.day()).instrument for _ in range(2)] == [BTC, ETH]
        with pytest.raises(trio.EndOfChannel):
            await desk.days.receive()


async def test_a_slow_writer_stops_the_merger_and_loses_nothing(autojump_clock: MockClock) -> None:
    async with merging(rows=1, buffer=0) as desk:
        await desk.page(trades_at(0, DAY_MS))
        with trio.move_on_after(60) as scope:
            await desk.page(trades_at(1, DAY_MS))
        assert scope.cancelled_caught
        assert ids(await desk.day()) == [0]
        await desk.page(trades_at(1, DAY_MS))
        assert ids(await desk.day()) == [1]
