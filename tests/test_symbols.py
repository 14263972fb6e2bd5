"""Symbols that the exchange does not list: what a daemon does of them at its start, and later."""

import math

import pytest
import trio
from trio.testing import MockClock

from backfilld.core.backfill.outcome import overall_exit_code
from backfilld.core.model import Instrument
from backfilld.errors import RequestRejected
from tests.fakes import BTC, ETH, Misbehaviour, refuse, unknown_symbol
from tests.pipelines import stopped, world_of

MISSPELT = Instrument.parse("spot:BTCUSDTT")
NAMED = "the exchange lists no such symbol (-1121 BTCUSDTT is not listed. Did you mean BTCUSDT?)"


async def played(misbehaviour: Misbehaviour, at_s: float, times: float) -> None:
    """From then on the trick is played so many times."""
    await trio.sleep(at_s)
    misbehaviour.times = times


@pytest.mark.parametrize("instruments", [(BTC, MISSPELT), (MISSPELT, ETH), (MISSPELT,)], ids=len)
async def test_a_daemon_refuses_a_misspelt_symbol_at_its_start(
    instruments: tuple[Instrument, ...], autojump_clock: MockClock
) -> None:
    """By two answers, with the nearest name, and without waiting for the trades of the others."""
    world = world_of(60_000, instruments=instruments, once=False)
    outcomes = await world.run()
    assert trio.current_time() < 5
    assert overall_exit_code(outcomes) == 78
    assert [each.reasons for each in outcomes if each.instrument == MISSPELT] == [(NAMED,)]
    assert world.exchange.described.count(("BTCUSDTT",)) == 2


async def test_one_answer_does_not_make_a_symbol_unknown(autojump_clock: MockClock) -> None:
    world = world_of(2000, once=False)
    world.exchange.misbehaves = [Misbehaviour(refuse(unknown_symbol()), on=lambda _, query: query is None)]
    (outcome,) = await world.run(stopped, 60)
    assert outcome.complete


@pytest.mark.parametrize(
    "refusal",
    [
        unknown_symbol(),
        RequestRejected("404: no JSON", status=404, code=None),
        RequestRejected("451", status=451, code=0),
    ],
    ids=str,
)
async def test_a_daemon_that_was_answered_well_is_ended_by_nothing_but_a_stop(
    refusal: RequestRejected, autojump_clock: MockClock
) -> None:
    """All its instruments are refused for a day, exchangeInfo too; then all goes on."""
    world = world_of(2000, instruments=(BTC, ETH), once=False)
    world.exchange.grows, world.exchange.epoch_ms = True, world.exchange.epoch_ms - 43_195_000
    ill = Misbehaviour(refuse(refusal), on=lambda _, __: True, times=0)
    world.exchange.misbehaves = [ill]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(played, ill, 40, math.inf)
        nursery.start_soon(played, ill, 90_000, 0)
        outcomes = await world.run(stopped, 95_000)
    assert trio.current_time() >= 95_000
    assert [each.complete for each in outcomes] == [True, True]
    assert set(world.store.ids(BTC)) == set(world.exchange.tapes[BTC].ids)
