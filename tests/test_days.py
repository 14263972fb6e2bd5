"""The law of days, on the whole pipeline: whatever the times over a midnight, every id is stored, under one day."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from backfilld.core.backfill.outcome import Outcome
from backfilld.core.day.start import ONE_DAY
from backfilld.core.model import MS_PER_DAY
from backfilld.core.timespan import TimeSpan
from tests.fakes import BTC, DAY, DAY_MS, FakeStore, Tape
from tests.pipelines import World
from tests.test_completeness import OddExchange

NOW_MS = DAY_MS + 3 * MS_PER_DAY + 3_600_000
MIDNIGHTS = [DAY_MS + n * MS_PER_DAY for n in range(4)]


@dataclass
class Odds:
    """How wide the ids are out of order around each midnight, and how many rows stand there."""

    seed: int
    rows: int = 6
    swaps: int = 3
    markers: float = 0.0

    def tape(self) -> Tape:
        """Three whole days between two days of which a part is there; a few rows around each midnight are shuffled."""
        dice = Random(self.seed)
        times: list[int] = []
        for midnight in MIDNIGHTS:
            around = sorted(midnight + dice.randint(-50, 50) for _ in range(dice.randint(2, self.rows)))
            for _ in range(dice.randint(0, self.swaps)):
                at, other = dice.randrange(len(around)), dice.randrange(len(around))
                around[at], around[other] = around[other], around[at]
            times += [*around, midnight + 900, *(midnight + 1000 + n * 60_000 for n in range(dice.randint(0, 5)))]
        markers = {100 + n for n in range(len(times)) if dice.random() < self.markers}
        return Tape.of(100, times, markers=markers)


async def started(exchange: OddExchange, store: FakeStore, days: int, window: TimeSpan | None) -> Outcome:
    exchange.epoch_ms = NOW_MS - round(trio.current_time() * 1000)
    (outcome,) = await World(exchange, store, window=window, days=days).run()
    return outcome


def check(store: FakeStore, tape: Tape, first_ms: int, stop_ms: int) -> None:
    """Every id from the first row at or after ``first_ms`` to that before the first at or after ``stop_ms`` is stored,
    under one day."""
    records = store.records(BTC)
    for earlier, later in pairwise(records):
        assert earlier.last_id < later.first_id, (earlier, later)
    stored = {a for record in records for ids in record.coverage.ranges for a in range(ids.first_id, ids.last_id + 1)}
    first = next(a for a, at in zip(tape.ids, tape.times, strict=True) if at >= first_ms)
    last = next((a for a, at in zip(tape.ids, tape.times, strict=True) if at >= stop_ms), tape.ids[-1] + 1) - 1
    assert stored >= set(range(first, last + 1)), sorted(set(range(first, last + 1)) - stored)
    for record in records:
        inside = first_ms <= MIDNIGHTS[0] + (record.day - DAY).days * MS_PER_DAY < min(stop_ms, MIDNIGHTS[3])
        assert record.sealed or not inside, record


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from([1000, 1, 2, 3, 7]), st.integers(0, 3))
def test_a_daemon_holds_every_id_under_one_day(seed: int, page_cap: int, days: int) -> None:
    tape = Odds(seed).tape()

    async def play() -> None:
        store = FakeStore()
        for n in range(3):
            exchange = OddExchange({BTC: tape}, page_cap=page_cap, dice=Random(seed))
            outcome = await started(exchange, store, days, None)
            assert outcome.complete, outcome
            check(store, tape, MIDNIGHTS[3 - days], NOW_MS)
            assert n == 0 or len(exchange.asked) <= 4
        assert store.deleted == []

    trio.run(play, clock=MockClock(autojump_threshold=0))


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from([1000, 1, 2, 3, 7]), st.permutations([0, 1, 2]))
def test_days_that_are_filled_one_by_one_join(seed: int, page_cap: int, order: Sequence[int]) -> None:
    tape = Odds(seed).tape()

    async def play() -> None:
        store = FakeStore()
        for number in (*order, *order):
            window = TimeSpan(MIDNIGHTS[number], MIDNIGHTS[number + 1])
            exchange = OddExchange({BTC: tape}, page_cap=page_cap, dice=Random(seed))
            outcome = await started(exchange, store, 0, window)
            assert outcome.complete, outcome
        check(store, tape, MIDNIGHTS[0], MIDNIGHTS[3])
        assert store.deleted == []

    trio.run(play, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("page_cap", [1000, 1])
async def test_a_row_of_yesterday_behind_the_first_of_today_is_todays(page_cap: int, autojump_clock: MockClock) -> None:
    times = [MIDNIGHTS[3] - 5, MIDNIGHTS[3] + 1, MIDNIGHTS[3] - 1, MIDNIGHTS[3] + 2]
    tape, store = Tape.of(10, times), FakeStore()
    exchange = OddExchange({BTC: tape}, page_cap=page_cap)
    assert (await started(exchange, store, 0, None)).complete
    record = store.record(BTC, DAY + 3 * ONE_DAY)
    assert (record.first_id, record.last_id, record.opened) == (11, 13, True)
