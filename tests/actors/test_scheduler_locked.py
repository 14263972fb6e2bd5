"""The scheduler and day files that no key opens: nothing is asked of their instrument, and others go on."""

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from backfilld.actors.messages import FetchJob
from backfilld.core.model import Market
from backfilld.core.sync.symbols import DescribeMarket
from tests.actors.test_scheduler import POLL_S, scheduling, spec_for
from tests.fakes import BTC, ETH, FakeStore, Tape, drained


async def test_a_locked_instrument_ends_78_without_a_question_and_others_go_on(autojump_clock: MockClock) -> None:
    store = FakeStore()
    store.locked = {BTC}
    with capture_logs() as lines:
        async with scheduling(spec_for(BTC, ETH), {BTC: Tape.even(50), ETH: Tape.even(50)}, store) as desk:
            await desk.work()
            outcomes = {each.instrument: each for each in drained(desk.outcomes)}
            assert outcomes[BTC].exit_code == 78
            assert "no key opens it" in outcomes[BTC].reasons[0]
            assert outcomes[ETH].complete
            assert store.ids(BTC) == []
            await trio.sleep_until(3.5 * POLL_S)
            await desk.work()
            assert not desk.stop.is_set()
    asked = [job for job in desk.dealt if not (isinstance(job, FetchJob) and job.instrument == ETH)]
    assert asked == [DescribeMarket(Market.SPOT, ("ETHUSDT",))]
    assert [each["event"] for each in lines].count("day_locked") == 1


@pytest.mark.parametrize("once", [True, False])
async def test_where_every_instrument_is_locked_it_stops_without_a_request(
    once: bool, autojump_clock: MockClock
) -> None:
    store = FakeStore()
    store.locked = {BTC, ETH}
    async with scheduling(spec_for(BTC, ETH, once=once), {}, store) as desk:
        await desk.work()
        assert [outcome.exit_code for outcome in drained(desk.outcomes)] == [78, 78]
        assert desk.stop.is_set()
    assert desk.dealt == []


async def test_an_instrument_whose_file_can_be_read_again_is_filled_at_the_next_round(
    autojump_clock: MockClock,
) -> None:
    """Its operator has moved the locked file away."""
    store = FakeStore()
    store.locked = {BTC}
    tape = Tape.even(50)
    async with scheduling(spec_for(BTC, ETH), {BTC: tape, ETH: tape}, store) as desk:
        await desk.work()
        store.locked = set()
        await trio.sleep_until(1.5 * POLL_S)
        await desk.work()
        assert store.ids(BTC) == tape.ids
