"""A whole live pipeline on fakes: what a subscriber got is on disk after the stop, whenever it comes."""

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as with_values
from trio.testing import MockClock
from trio_util import AsyncValue

from backfilld.actors.live_messages import TradesSequenced
from backfilld.core.live.patience import Times
from backfilld.core.live.reports import LiveStatistics
from backfilld.core.live.trades import LiveTrade, trades_of
from backfilld.core.model import Instrument, Market
from backfilld.core.sync.spec import LiveSpec
from backfilld.pipeline import Pipeline
from backfilld.ports import StreamBatch
from backfilld.supervisor import run_pipeline
from backfilld.supervisor_live import LiveDoor, LiveWorld
from tests.fakes import BTC, DAY_MS, FakeExchange, FakeStore, Tape
from tests.pipelines import World

NOON_MS = DAY_MS + 43_200_000
STEP_MS = 20

Telling = Callable[[LiveTrade], LiveTrade]


class TapeStream:
    """A stream that brings every trade of a tape as its time comes, as ``told`` has it."""

    def __init__(self, exchange: FakeExchange, told: Telling) -> None:
        self._exchange = exchange
        self._told = told
        self._tape = exchange.tapes[BTC]
        self._sent = bisect_right(self._tape.times, exchange.now_ms)

    async def receive(self, wait_s: float) -> StreamBatch:
        """What came since this was last asked."""
        await trio.sleep(min(wait_s, 2 * STEP_MS / 1000))
        stop = bisect_right(self._tape.times, self._exchange.now_ms)
        trades = [self._told(each) for each in trades_of(self._tape.frame[self._sent : stop])]
        self._sent = stop
        return StreamBatch({BTC: trades} if trades else {}, self._exchange.now_ms)

    def subscribe(self, instruments: Collection[Instrument]) -> None:
        """Nothing: there is one tape."""

    def unsubscribe(self, instruments: Collection[Instrument]) -> None:
        """Nothing."""


def live(world: World, told: Telling = lambda trade: trade) -> Pipeline:
    """The world's pipeline, which follows the tape."""

    @asynccontextmanager
    async def open_stream(_url: str, _instruments: Sequence[Instrument]) -> AsyncIterator[TapeStream]:
        await trio.sleep(0.1)
        yield TapeStream(world.exchange, told)

    pipeline = world.pipeline()
    spec = replace(pipeline.spec, live=LiveSpec(dict.fromkeys(Market, ("ws://tape",)), Times()))
    return replace(pipeline, spec=spec, live=LiveWorld(open_stream, AsyncValue(LiveStatistics()), LiveDoor()))


async def subscribed(pipeline: Pipeline, got: list[int]) -> None:
    """Take all that the pipeline publishes."""
    while pipeline.live is None or (frames := pipeline.live.door.subscribe(BTC, None)) is None:
        await trio.sleep(0.01)
    async with frames:
        async for frame in frames:
            if isinstance(frame, TradesSequenced):
                got += [each.a for each in frame.trades]


@settings(max_examples=20, deadline=None)
@example(stop_s=6.0, save_s=1.2, checkpoint_s=1.0)
@given(st.floats(3.0, 12.0), st.floats(0.0, 1.5), st.sampled_from([0.5, 1.0, 3.0, 10.0]))
def test_what_a_subscriber_got_is_on_disk_after_the_stop_whenever_it_comes_and_however_slow_the_disk(
    stop_s: float, save_s: float, checkpoint_s: float
) -> None:
    tape = Tape.even(1500, start_ms=NOON_MS - 10_000, step_ms=STEP_MS)
    world = World(FakeExchange({BTC: tape}, grows=True), FakeStore(), once=False, checkpoint_s=checkpoint_s)
    world.store.delay_s = save_s
    got: list[int] = []

    async def run() -> None:
        pipeline = live(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscribed, pipeline, got)
            nursery.start_soon(run_pipeline, pipeline)
            await trio.sleep(stop_s)
            pipeline.stop.set()

    trio.run(run, clock=MockClock(autojump_threshold=0))
    assert got == list(range(got[0], got[0] + len(got))) if got else stop_s < 10
    assert set(got) <= set(world.store.ids(BTC))


LIES = {
    "another hour": lambda trade: with_values(trade, T=trade.T - 3_600_000),
    "another day": lambda trade: with_values(trade, T=trade.T + 86_400_000),
    "another symbol": lambda trade: with_values(trade, p=trade.p * 40, f=trade.f * 7, l=trade.l * 7),
    "ids": lambda trade: with_values(trade, a=trade.a + 1_000_000),
}


@pytest.mark.parametrize(
    ("lie", "share"),
    [("another hour", 0.3), ("another day", 0.02), ("another symbol", 1.0), ("ids", 0.02)],
)
def test_whatever_a_stream_says_for_a_while_what_is_stored_a_minute_later_is_what_the_exchange_has(
    lie: str, share: float
) -> None:
    tape = Tape.even(6000, start_ms=NOON_MS - 10_000, step_ms=STEP_MS)
    world = World(FakeExchange({BTC: tape}, grows=True), FakeStore(), once=False)
    dice = Random(lie)

    def told(trade: LiveTrade) -> LiveTrade:
        return LIES[lie](trade) if trio.current_time() < 40 and dice.random() < share else trade

    async def run() -> None:
        pipeline = live(world, told)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_pipeline, pipeline)
            await trio.sleep(100)
            pipeline.stop.set()

    trio.run(run, clock=MockClock(autojump_threshold=0))
    stored = world.store.trades(BTC)
    assert stored.equals(tape.frame.head(stored.height))
    assert stored["T"][-1] > NOON_MS + 60_000
