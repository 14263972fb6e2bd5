"""The listener: how often a busy stream is looked at, and that a quiet one is passed on at once."""

import math
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from backfilld.actors.listener import APART_S, run_listener
from backfilld.actors.live_messages import ConnectionName, Resubscribe, SequencerMessage, StreamHeard
from backfilld.core.model import Instrument, Market
from backfilld.ports import StreamBatch
from tests.core.live.test_sequence import trade
from tests.fakes import BTC

NAME = ConnectionName(Market.SPOT, 0, 1)


class EvenStream:
    """A message every ``every_s`` for a second; a batch has those that have come."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._taken = 0

    async def receive(self, wait_s: float) -> StreamBatch:
        """As a real one: at least one message, unless none comes for ``wait_s``."""
        if self._taken * self._every_s >= 1.0:
            await trio.sleep(wait_s)
            return StreamBatch()
        await trio.sleep_until((self._taken + 1) * self._every_s)
        stop = round(min(1.0, trio.current_time()) / self._every_s)
        trades = [trade(each) for each in range(self._taken, stop)]
        self._taken = stop
        return StreamBatch({BTC: trades})

    def subscribe(self, instruments: Collection[Instrument]) -> None:
        """Nothing."""

    def unsubscribe(self, instruments: Collection[Instrument]) -> None:
        """Nothing."""


@pytest.mark.parametrize(("every_s", "late_s"), [(0.005, 0.0), (0.0001, APART_S)])
async def test_a_busy_stream_comes_in_batches_and_a_slower_one_at_once(
    autojump_clock: MockClock, every_s: float, late_s: float
) -> None:
    @asynccontextmanager
    async def open_stream(_url: str, _instruments: Sequence[Instrument]) -> AsyncIterator[EvenStream]:
        yield EvenStream(every_s)

    send, inbox = trio.open_memory_channel[SequencerMessage](math.inf)
    command, commands = trio.open_memory_channel[Resubscribe](math.inf)
    ids: list[int] = []
    batches = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_listener, NAME, "ws://even", [BTC], commands, send, open_stream)
        async for message in inbox:
            if isinstance(message, StreamHeard):
                batches += 1
                ids += [each.a for each in message.batch.trades[BTC]]
                newest_s = (ids[-1] + 1) * every_s
                assert trio.current_time() <= newest_s + late_s + 1e-4
            if len(ids) == round(1 / every_s):
                command.close()
    assert ids == list(range(round(1 / every_s)))
    assert batches <= 1 / APART_S + 1
