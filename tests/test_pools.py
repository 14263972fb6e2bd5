"""A pool whose weight is spent slows no other one: the whole pipeline on fakes, on a virtual clock."""

import trio
from trio.testing import MockClock

from backfilld.core.model import Instrument, Market
from backfilld.core.weight.limits import Limit
from backfilld.supervisor import run_pipeline
from tests.fakes import BTC, SOL, FakeExchange, FakeStore, Tape
from tests.pipelines import World

ROWS = 60_000


def world_of(instruments: tuple[Instrument, ...], spot_rows: int = ROWS) -> World:
    """USD-M allows eight pages a minute, of the 60 that are missing; spot all that it is asked for."""
    tapes = {BTC: Tape.even(spot_rows), SOL: Tape.even(60_000)}
    exchange = FakeExchange(tapes, limits_of={Market.UM: (Limit(200, 1, "MINUTE"),)})
    return World(exchange, FakeStore(), instruments=instruments, once=False)


async def seconds_until_stored(instruments: tuple[Instrument, ...]) -> float:
    world = world_of(instruments)
    pipeline = world.pipeline()
    with trio.fail_after(100_000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_pipeline, pipeline)
            while len(world.exchange.sent[BTC]) < ROWS:
                await trio.sleep(0.1)
            seconds = trio.current_time()
            pipeline.stop.set()
    return seconds


async def test_spot_takes_as_long_beside_a_futures_pool_that_is_spent(autojump_clock: MockClock) -> None:
    alone = await seconds_until_stored((BTC,))
    began = trio.current_time()
    beside = await seconds_until_stored((BTC, SOL)) - began
    assert beside <= 1.2 * alone, f"{beside} s instead of {alone} s"


async def test_spot_is_topped_up_on_time_beside_a_futures_pool_that_is_spent(autojump_clock: MockClock) -> None:
    world = world_of((BTC, SOL), spot_rows=3_000)
    pipeline = world.pipeline()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_pipeline, pipeline)
        await trio.sleep(300)
        asked = len([1 for instrument, _ in world.exchange.asked if instrument == BTC])
        pipeline.stop.set()
    assert asked >= 300 / 30, "every POLL_SECONDS"
    assert len([1 for instrument, _ in world.exchange.asked if instrument.market is Market.UM]) < 60, "it is spent"
