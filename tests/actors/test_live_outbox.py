"""The outbox: whatever the number of instruments, one message hands over what waits; what waits is bounded."""

import math

import pytest
import trio
from structlog.testing import capture_logs

from backfilld.actors import live_outbox
from backfilld.actors.live_outbox import GATHER_S, PACKED_ROWS, LiveOutbox
from backfilld.actors.messages import MergerMessage, PagesStreamed, SchedulerMessage, SyncEvent
from backfilld.core.model import IdRange, Instrument
from backfilld.core.sync.events import Arrived
from tests.core.live.test_sequence import trade

MANY = [Instrument.parse(f"spot:COIN{number}USDT") for number in range(300)]


class Desk:
    """An outbox whose merger takes one message at a time."""

    def __init__(self) -> None:
        pages, self.pages = trio.open_memory_channel[MergerMessage](1)
        events, self.events = trio.open_memory_channel[SchedulerMessage](math.inf)
        self.outbox = LiveOutbox(pages, events)

    def add(self, instrument: Instrument, first_id: int, count: int = 1) -> None:
        self.outbox.add(instrument, [trade(each) for each in range(first_id, first_id + count)], 0.0)

    def handed_over(self) -> list[tuple[Instrument, list[int]]]:
        message = self.pages.receive_nowait()
        assert isinstance(message, PagesStreamed)
        return [(page.instrument, page.trades["a"].to_list()) for page in message.pages]

    def arrived(self) -> list[IdRange]:
        found = []
        while self.events.statistics().current_buffer_used:
            event = self.events.receive_nowait()
            assert isinstance(event, SyncEvent)
            assert isinstance(event.event, Arrived)
            assert event.event.found.ids is not None
            found.append(event.event.found.ids)
        return found


async def test_one_message_hands_over_all_instruments_however_many_there_are() -> None:
    desk = Desk()
    for number, instrument in enumerate(MANY):
        desk.add(instrument, number, 2)
    assert desk.outbox.due_at == GATHER_S
    desk.outbox.flush(GATHER_S)
    assert desk.handed_over() == [(each, [number, number + 1]) for number, each in enumerate(MANY)]
    assert len(desk.arrived()) == len(MANY)
    assert desk.outbox.due_at == math.inf


async def test_what_the_merger_does_not_take_gathers_and_leaves_in_one_message_by_id() -> None:
    desk = Desk()
    for round_ in range(400):
        desk.add(MANY[0], 10 * round_, 10)
        desk.outbox.flush(round_ * GATHER_S)
    assert desk.arrived() == [IdRange(0, 9)], "the others are not on their way"
    assert desk.handed_over() == [(MANY[0], list(range(10)))]
    desk.outbox.flush(200.0)
    pages = desk.handed_over()
    assert [each for _, ids in pages for each in ids] == list(range(10, 4000))
    assert len(pages) <= 4000 / PACKED_ROWS + 1, "frames of many rows"


async def test_a_page_never_spans_ids_that_were_given_up() -> None:
    desk = Desk()
    desk.add(MANY[0], 1)
    desk.add(MANY[0], 3)
    await desk.outbox.flush_all()
    assert desk.handed_over() == [(MANY[0], [1]), (MANY[0], [3])]
    assert desk.arrived() == [IdRange(1, 1), IdRange(3, 3)]


async def test_beyond_the_bound_the_oldest_of_whoever_has_most_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_outbox, "MOST_ROWS", 3000)
    desk = Desk()
    desk.add(MANY[0], 0)
    desk.outbox.flush(0.0)
    desk.handed_over()
    desk.add(MANY[1], 0)
    desk.outbox.flush(0.0)
    with capture_logs() as logs:
        for round_ in range(7):
            desk.add(MANY[2], 500 * round_, 500)
            desk.add(MANY[3], round_)
            desk.outbox.flush(0.0)
    assert [entry["event"] for entry in logs] == ["live_overflowed"]
    assert logs[0]["trades"] == PACKED_ROWS
    desk.handed_over()
    desk.outbox.flush(0.0)
    left = dict(desk.handed_over()[-2:])
    assert left[MANY[3]] == list(range(7)), "a quiet one loses nothing"
    assert left[MANY[2]][-1] == 3499
