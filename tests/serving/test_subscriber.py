"""What waits for a subscriber is bounded, and a slow one learns the id to go on from."""

import os

import trio
import trio.testing

from backfilld.serving import subscriber
from backfilld.serving.subscriber import CHUNK_FRAMES, MOST_BYTES, MOST_FRAMES, Encoded, Outbox, encoded, in_chunks


def messages(count: int) -> list[Encoded]:
    return [Encoded(encoded(f"r{number}"), encoded(f"c{number}"), number) for number in range(count)]


def test_many_messages_become_few_and_say_the_same() -> None:
    given = messages(2 * CHUNK_FRAMES + 5)
    chunks = in_chunks(given)
    assert [(each.frames, each.first_id) for each in chunks] == [(64, 0), (64, 64), (5, 128)]
    assert b"".join(each.raw for each in chunks) == b"".join(each.raw for each in given)
    assert b"".join(each.combined for each in chunks) == b"".join(each.combined for each in given)


async def test_a_subscriber_that_keeps_up_is_not_slow(autojump_clock: trio.abc.Clock) -> None:
    outbox = Outbox()
    for chunk in in_chunks(messages(MOST_FRAMES)):
        outbox.push(chunk.raw, chunk.first_id, chunk.frames)
    assert not outbox.is_too_slow
    sent = b""
    while outbox.waiting:
        sent += await outbox.next_batch()
    assert sent == b"".join(each.raw for each in messages(MOST_FRAMES))
    assert (outbox.frames, outbox.size_bytes) == (0, 0)
    await trio.sleep(100)
    assert not outbox.is_too_slow, "nothing waits for it"


async def test_too_many_frames_too_many_bytes_or_too_long_are_too_slow(autojump_clock: trio.abc.Clock) -> None:
    frames, size, time = Outbox(), Outbox(), Outbox()
    frames.push(b"x", 7, MOST_FRAMES + 1)
    size.push(b"x" * (MOST_BYTES + 1))
    time.push(b"x", 9)
    assert (frames.is_too_slow, size.is_too_slow, time.is_too_slow) == (True, True, False)
    await trio.sleep(subscriber.STALLED_S + 0.1)
    assert time.is_too_slow


async def test_what_is_dropped_names_its_first_trade(autojump_clock: trio.abc.Clock) -> None:
    outbox = Outbox()
    outbox.push(b"a reply")
    for chunk in in_chunks(messages(CHUNK_FRAMES + 1)):
        outbox.push(chunk.raw, chunk.first_id, chunk.frames)
    assert outbox.drop() == 0
    assert not outbox.waiting
    assert outbox.drop() is None


async def test_the_rest_of_a_message_goes_first_and_is_never_dropped(autojump_clock: trio.abc.Clock) -> None:
    """Else a subscriber would get a frame without its end."""
    outbox, batches = Outbox(), list[bytes]()

    async def write() -> None:
        while True:
            batches.append(await outbox.next_batch())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        reading, writing = os.pipe2(os.O_NONBLOCK)
        try:
            outbox.send(writing, b"whole")
            assert os.read(reading, 100) == b"whole"
            message = b"in part" * 100_000
            outbox.send(writing, message, 6)
            sent = len(os.read(reading, len(message)))
            assert 0 < sent < len(message)
            outbox.send(writing, b"more", 7)
            assert outbox.drop() == 7
            outbox.push(b"the end")
            await trio.testing.wait_all_tasks_blocked()
            assert batches == [message[sent:], b"the end"]
        finally:
            os.close(reading)
            os.close(writing)
        nursery.cancel_scope.cancel()


async def test_a_rest_that_nobody_takes_is_too_slow(autojump_clock: trio.abc.Clock) -> None:
    outbox = Outbox(rest=b"part", is_idle=True)
    assert not outbox.is_too_slow
    await trio.sleep(subscriber.STALLED_S + 0.1)
    assert outbox.is_too_slow


async def test_what_a_socket_refuses_waits() -> None:
    outbox = Outbox(is_idle=True)
    outbox.send(-1, b"x", 7)
    assert outbox.drop() == 7
