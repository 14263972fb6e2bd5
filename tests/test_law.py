"""The law of completeness on the whole pipeline, against random mixtures of everything that an exchange may do.

Exit 0 means that every trade of the window that was shown to anyone of us is stored, and every past day sealed.
Whatever happens, no trade is stored that the exchange does not have, nothing is sent in a ban, and requests are
bounded. And once the exchange is honest again, everything is stored in the end: two looks, hours apart.
"""

from dataclasses import dataclass, replace
from random import Random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from backfilld.core.backfill.outcome import Outcome
from backfilld.core.model import Instrument, day_of
from backfilld.core.sync.spec import Reload
from backfilld.core.timespan import TimeSpan
from backfilld.pipeline import Pipeline
from tests.fakes import BTC, DAY_MS, SOL, FakeStore, Tape
from tests.hostile import HostileExchange, OddTape, odd_tape
from tests.pipelines import World, stopped

HOUR_MS = 3_600_000
DAYS = 2
START_MS = DAY_MS - DAYS * 24 * HOUR_MS
NOW_MS = DAY_MS + 9 * HOUR_MS


@dataclass(frozen=True)
class Mixture:
    """What is drawn: an exchange, and what is done to the daemon. ``restarts_s`` are when starts are stopped."""

    seed: int
    instrument: Instrument
    rows: int
    page_cap: int
    lags_ms: tuple[int, ...]
    odd_share: float
    absent: frozenset[int]
    jump: int
    inversions: tuple[int, ...]
    lookback_ms: int | None
    true_limit: int
    restarts_s: tuple[float, ...]
    reloads_s: float | None
    begins_again: bool
    other_days: bool = False
    window: TimeSpan | None = None
    other_rows: bool = False

    def tape(self) -> OddTape:
        """Trades from before the window until after now."""
        span_ms = NOW_MS + 8 * HOUR_MS - START_MS + HOUR_MS
        step_ms = span_ms // self.rows
        times = range(START_MS - HOUR_MS, NOW_MS + 8 * HOUR_MS, step_ms)
        if self.begins_again:
            return odd_tape(times, 50_000, self.absent, -50_000, self.inversions)
        return odd_tape(times, 5000, self.absent, self.jump, self.inversions)

    def exchange(self) -> HostileExchange:
        """At NOW_MS, however late it is for trio."""
        return HostileExchange(
            {self.instrument: self.tape()},
            epoch_ms=NOW_MS - round(trio.current_time() * 1000),
            lags_ms=self.lags_ms,
            page_cap=self.page_cap,
            odd_share=self.odd_share,
            lookback_ms=self.lookback_ms,
            true_limit=self.true_limit,
            other_days=self.other_days,
            other_rows=self.other_rows,
            dice=Random(self.seed),
        )


MIDNIGHTS = (START_MS, START_MS + 24 * HOUR_MS, DAY_MS)
WINDOWS = st.sampled_from([None, None, None, DAY_MS, DAY_MS - 24 * HOUR_MS, DAY_MS - 19 * HOUR_MS]).map(
    lambda stop_ms: None if stop_ms is None else TimeSpan(START_MS, stop_ms)
)
MIXTURES = st.builds(
    Mixture,
    seed=st.integers(0, 2**16),
    instrument=st.sampled_from([BTC, SOL]),
    rows=st.sampled_from([40, 1500, 6000]),
    page_cap=st.sampled_from([1000, 1000, 400]),
    lags_ms=st.sampled_from([(0,), (0, 5000), (0, 0, 6 * HOUR_MS, 20 * HOUR_MS)]),
    odd_share=st.sampled_from([0.0, 0.05, 0.25]),
    absent=st.frozensets(st.integers(1, 1300), max_size=6),
    jump=st.sampled_from([0, 0, 3, 20_000, 1_000_000]),
    inversions=st.sets(st.sampled_from(MIDNIGHTS)).map(lambda each: tuple(sorted(each))),
    lookback_ms=st.sampled_from([None, None, 30 * HOUR_MS]),
    true_limit=st.sampled_from([6000, 6000, 400]),
    restarts_s=st.lists(st.sampled_from([0.12, 0.4, 3.0]), max_size=2).map(tuple),
    reloads_s=st.sampled_from([None, 0.2, 1.0]),
    begins_again=st.sampled_from([False] * 7 + [True]),
    other_days=st.booleans(),
    window=WINDOWS,
    other_rows=st.booleans(),
)


def disturbed(pipeline: Pipeline, mixture: Mixture) -> None:
    """A SIGHUP: the same instruments under other settings."""
    pipeline.reload.value = Reload(replace(pipeline.spec, max_concurrent=1 + mixture.seed % 3, weight_share=0.5))


async def started(mixture: Mixture, exchange: HostileExchange, store: FakeStore, stop_s: float | None) -> Outcome:
    """One start of a daemon that ends by itself, or is stopped before."""
    world = World(exchange, store, instruments=(mixture.instrument,), days=DAYS, window=mixture.window, limit=6000)
    if stop_s is not None:
        (outcome,) = await world.run(stopped, stop_s)
    elif mixture.reloads_s is not None:
        (outcome,) = await world.run(lambda pipeline: disturbed(pipeline, mixture), mixture.reloads_s)
    else:
        (outcome,) = await world.run()
    return outcome


def check(mixture: Mixture, exchange: HostileExchange, store: FakeStore, outcome: Outcome) -> None:
    """The law."""
    (tape,) = exchange.tapes.values()
    stored = store.ids(mixture.instrument)
    assert len(stored) == len(set(stored)), "two days hold the same id"
    assert set(stored) <= set(tape.ids), "a trade that the exchange does not have"
    assert not exchange.sent_in_bans
    assert (outcome.exit_code == 0) == outcome.complete
    if not outcome.complete:
        assert outcome.reasons
        return
    # An inversion belongs where its neighbours are, so the window begins at an id.
    wanted = ids_of(tape, mixture.window or TimeSpan(START_MS), mixture) & exchange.shown[mixture.instrument]
    assert set(stored) >= wanted, f"{sorted(wanted - set(stored))[:5]} were shown and are not stored"
    rows = store.trades(mixture.instrument)
    strange = rows.join(tape.frame, on=rows.columns, how="anti")
    assert strange.is_empty(), f"stored otherwise than the exchange has them: {strange}"
    stop_ms = NOW_MS if mixture.window is None or mixture.window.stop_ms is None else mixture.window.stop_ms
    past = [record for record in store.records(mixture.instrument) if day_of(START_MS) <= record.day < day_of(stop_ms)]
    assert [record.day for record in past if not record.sealed] == []


def ids_of(tape: Tape, window: TimeSpan, mixture: Mixture) -> set[int]:
    """The ids that surely belong to the window: none that is within two trades of an inversion."""
    stop_ms = NOW_MS + 24 * HOUR_MS if window.stop_ms is None else window.stop_ms
    ids = tape.frame.filter(tape.frame["T"].is_between(window.start_ms, stop_ms, closed="left"))["a"].to_list()
    if not mixture.inversions:
        return set(ids)
    edge = {a for at_ms in mixture.inversions for a in tape.frame.filter((tape.frame["T"] - at_ms).abs() <= 1)["a"]}
    return set(ids) - edge


@settings(max_examples=25)
@given(MIXTURES)
def test_exit_0_means_that_all_that_was_shown_is_stored_and_every_past_day_sealed(mixture: Mixture) -> None:
    async def play() -> None:
        exchange, store = mixture.exchange(), FakeStore()
        for stop_s in (*mixture.restarts_s, None, None):
            exchange.asked.clear()
            outcome = await started(mixture, exchange, store, stop_s)
            check(mixture, exchange, store, outcome)
            pages = mixture.rows // min(mixture.page_cap, 1000) + 1
            assert len(exchange.asked) <= 40 * pages + 400, "requests without end"
            await trio.sleep(1)
        if not mixture.begins_again:
            await honest(mixture, exchange, store)
        elif mixture.window is None or begins_again_ms(mixture.tape()) < (mixture.window.stop_ms or 0):
            assert not outcome.complete

    trio.run(play, clock=MockClock(autojump_threshold=0))


def begins_again_ms(tape: Tape) -> int:
    """The time of the first trade whose id is below the one before it."""
    return int(tape.frame.filter(tape.frame["a"].diff() < 0)["T"][0])


async def honest(mixture: Mixture, exchange: HostileExchange, store: FakeStore) -> None:
    """The exchange behaves from now on: two looks later all is there that it still answers for."""
    exchange.lags_ms, exchange.odd_share, exchange.page_cap = (0,), 0.0, 1000
    for _ in range(4):
        await trio.sleep(9_000)
        outcome = await started(replace(mixture, reloads_s=None), exchange, store, None)
        check(mixture, exchange, store, outcome)
    if mixture.lookback_ms is None:
        assert outcome.complete, outcome.reasons


def foreign_tape(first_id: int) -> Tape:
    """Another symbol: other ids, times and prices."""
    times = range(START_MS - HOUR_MS, NOW_MS + HOUR_MS, 66_000)
    frame = odd_tape(times, first_id, (), 0, ()).frame
    return OddTape(frame.with_columns(frame["p"] * 40, frame["f"] * 7, frame["l"] * 7))


@pytest.mark.parametrize("first_id", [100, 50_000, 9_000_000])
@pytest.mark.parametrize(("seed", "first"), [(0, 0), (1, 0), (2, 0), (0, 2), (0, 4), (0, 5)])
def test_answers_of_another_symbol_leave_none_of_its_trades_on_an_empty_cache(
    first_id: int, seed: int, first: int
) -> None:
    async def play() -> None:
        tape = odd_tape(range(START_MS - HOUR_MS, NOW_MS + HOUR_MS, 40_000), 50_000, (), 0, ())
        exchange, store = HostileExchange({BTC: tape}, dice=Random(seed)), FakeStore()
        exchange.epoch_ms = NOW_MS - round(trio.current_time() * 1000)
        exchange.foreign, exchange.foreign_first = foreign_tape(first_id), first
        exchange.foreign_share = 0.0 if first else 0.2
        (outcome,) = await World(exchange, store, workers=1).run()
        stored = store.trades(BTC)
        assert stored.is_empty() or stored.join(tape.frame, on=stored.columns, how="anti").is_empty()
        if outcome.complete:
            assert set(store.ids(BTC)) >= tape.ids_in(TimeSpan(DAY_MS, NOW_MS))
        exchange.foreign = None
        (outcome,) = await World(exchange, store).run()
        assert outcome.complete

    trio.run(play, clock=MockClock(autojump_threshold=0))
