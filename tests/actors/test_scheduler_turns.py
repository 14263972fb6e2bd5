"""The scheduler lets other tasks go on, however many instruments something concerns."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from backfilld.actors.scheduler import AT_ONCE
from backfilld.core.model import Instrument, Market
from backfilld.core.sync.instrument import InstrumentSync
from backfilld.supervisor import run_pipeline
from tests.fakes import DAY_MS, FakeExchange, FakeStore, Tape
from tests.pipelines import World


class _Turns(trio.abc.Instrument):
    """How many events syncs take in one step of a task."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

    def before_task_step(self, task: object) -> None:  # noqa: ARG002 - trio's signature
        self.now = 0

    def count(self) -> None:
        """One more."""
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)


async def test_no_step_concerns_more_than_a_few_instruments(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """At the start, when the clock is heard, and when the market is described, each event is for all of them."""
    names = tuple(Instrument(Market.SPOT, f"COIN{number}USDT") for number in range(5 * AT_ONCE))
    exchange = FakeExchange({each: Tape.even(3, start_ms=DAY_MS + 1000) for each in names})
    turns = _Turns()
    begin, on = InstrumentSync.begin, InstrumentSync.on

    def counted(method: Any) -> Any:
        def wrapped(*args: Any) -> Any:
            turns.count()
            return method(*args)

        return wrapped

    monkeypatch.setattr(InstrumentSync, "begin", counted(begin))
    monkeypatch.setattr(InstrumentSync, "on", counted(on))
    trio.lowlevel.add_instrument(turns)
    try:
        await run_pipeline(World(exchange, FakeStore(), instruments=names).pipeline())
    finally:
        trio.lowlevel.remove_instrument(turns)
    assert turns.all > 5 * len(names)
    assert turns.most <= AT_ONCE
