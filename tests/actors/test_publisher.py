"""The publisher: every subscriber gets each trade once and in order, and no one keeps it waiting."""

import math
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from backfilld.actors import publisher as module
from backfilld.actors.live_messages import (
    Beginning,
    Begun,
    Ended,
    Frame,
    HoleGivenUp,
    PublisherMessage,
    Subscribed,
    TradesSequenced,
    Unfollow,
)
from backfilld.actors.publisher import REMEMBERED_S, run_publisher
from backfilld.core.model import IdRange
from tests.core.live.test_sequence import trade
from tests.fakes import BTC, ETH, drained

Inbox = trio.MemorySendChannel[PublisherMessage]


@pytest.fixture
async def inbox(nursery: trio.Nursery, autojump_clock: MockClock) -> AsyncIterator[Inbox]:
    send, receive = trio.open_memory_channel[PublisherMessage](math.inf)
    nursery.start_soon(run_publisher, receive)
    async with send:
        yield send


def trades(first_id: int, last_id: int) -> TradesSequenced:
    return TradesSequenced(BTC, [trade(each) for each in range(first_id, last_id + 1)])


async def subscribed(inbox: Inbox, from_id: int | None, room: float = math.inf) -> trio.MemoryReceiveChannel[Frame]:
    send, receive = trio.open_memory_channel[Frame](room)
    await inbox.send(Subscribed(BTC, from_id, send))
    await wait_all_tasks_blocked()
    return receive


def ids(frames: list[Frame]) -> list[int]:
    return [each.a for frame in frames if isinstance(frame, TradesSequenced) for each in frame.trades]


async def test_who_comes_before_the_beginning_waits_for_it(autojump_clock: MockClock, inbox: Inbox) -> None:
    frames = await subscribed(inbox, None)
    assert drained(frames) == []
    await inbox.send(Begun(BTC, 5))
    await inbox.send(trades(5, 7))
    await wait_all_tasks_blocked()
    first, *rest = drained(frames)
    assert first == Beginning(5)
    assert ids(rest) == [5, 6, 7]


@pytest.mark.parametrize(("from_id", "begins", "expected"), [(None, 20, []), (12, 12, [*range(12, 20)]), (3, 5, [])])
async def test_what_is_remembered_is_sent_first_from_the_id_that_is_wanted(
    autojump_clock: MockClock, inbox: Inbox, from_id: int | None, begins: int, expected: list[int]
) -> None:
    await inbox.send(Begun(BTC, 5))
    await inbox.send(trades(5, 9))
    await inbox.send(trades(10, 19))
    frames = await subscribed(inbox, from_id)
    await inbox.send(trades(20, 21))
    await wait_all_tasks_blocked()
    first, *rest = drained(frames)
    assert first == Beginning(begins)
    assert ids(rest) == [*(expected or range(begins, 20)), 20, 21]


async def test_a_slow_subscriber_is_let_go_and_the_others_are_not(autojump_clock: MockClock, inbox: Inbox) -> None:
    await inbox.send(Begun(BTC, 1))
    slow, quick = await subscribed(inbox, None, room=3), await subscribed(inbox, None)
    for each in range(1, 10):
        await inbox.send(trades(each, each))
    await wait_all_tasks_blocked()
    assert ids(drained(slow)) == [1, 2]
    with pytest.raises(trio.EndOfChannel):
        slow.receive_nowait()
    assert ids(drained(quick)) == list(range(1, 10))


async def test_a_hole_that_was_given_up_ends_its_subscribers_at_its_first_id(
    autojump_clock: MockClock, inbox: Inbox
) -> None:
    await inbox.send(Begun(BTC, 1))
    frames = await subscribed(inbox, None)
    await inbox.send(trades(1, 3))
    await inbox.send(HoleGivenUp(BTC, IdRange(4, 6)))
    await inbox.send(trades(7, 8))
    await wait_all_tasks_blocked()
    *_, end = drained(frames)
    assert isinstance(end, Ended)
    assert end.next_id == 4
    assert "4 to 6" in end.reason
    later = await subscribed(inbox, 2)
    assert drained(later)[0] == Beginning(7), "what is remembered leads up to nothing across a hole"


async def test_a_removed_instrument_ends_its_subscribers_and_the_end_of_all_names_the_next_id(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    send, receive = trio.open_memory_channel[PublisherMessage](math.inf)
    nursery.start_soon(run_publisher, receive)
    async with send:
        await send.send(Begun(BTC, 1))
        removed = await subscribed(send, None)
        await send.send(Unfollow(BTC))
        await wait_all_tasks_blocked()
        assert [type(each) for each in drained(removed)] == [Beginning, Ended]
        await send.send(Begun(ETH, 1))
        await send.send(Begun(BTC, 9))
        last = await subscribed(send, None)
    await wait_all_tasks_blocked()
    assert drained(last)[-1] == Ended(9, "the daemon is stopping")


async def test_what_is_remembered_is_bounded_in_age_and_in_number(
    autojump_clock: MockClock, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED_TRADES", 10)
    await inbox.send(Begun(BTC, 0))
    for each in range(0, 50, 5):
        await inbox.send(trades(each, each + 4))
    await wait_all_tasks_blocked()
    assert ids(drained(await subscribed(inbox, 0))) == list(range(40, 50))
    await trio.sleep(REMEMBERED_S + 1)
    await inbox.send(trades(50, 50))
    await wait_all_tasks_blocked()
    assert ids(drained(await subscribed(inbox, 0))) == [50]
