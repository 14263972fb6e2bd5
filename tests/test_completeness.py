"""The law of completeness, on the whole pipeline: exit 0 only if every trade of the window is held.

The exchange caps its pages, answers from replicas that lag, drops rows and shows nothing at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

import polars as pl
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from backfilld.core.backfill.outcome import Outcome
from backfilld.core.backfill.pace import FEWEST_ROWS
from backfilld.core.backfill.questions import Before, Newest, Query
from backfilld.core.backfill.window_end import ANSWERS_IN_SILENCE
from backfilld.core.day.certificate import Certificate
from backfilld.core.model import Instrument
from backfilld.core.timespan import TimeSpan
from backfilld.errors import ExchangeError
from backfilld.ports import Reply
from backfilld.store.format.dayfile import spans_of
from tests.fakes import BTC, DAY, DAY_MS, FakeExchange, FakeStore, Misbehaviour, Tape, mangle, trade_frame
from tests.pipelines import World

HOUR_MS = 3_600_000
NOW_MS = DAY_MS + 16 * HOUR_MS
LAGS_MS = (0, 5000, 6 * HOUR_MS, 20 * HOUR_MS)


@dataclass
class OddExchange(FakeExchange):
    """An exchange of lagging replicas with a cap of rows; some answers are cut short, empty, or lack a row."""

    lags_ms: Sequence[int] = (0,)
    page_cap: int = 1000
    odd_share: float = 0.0
    dice: Random = field(default_factory=lambda: Random(0))
    shown: set[int] = field(default_factory=set)

    async def trades(self, instrument: Instrument, query: Query) -> Reply[pl.DataFrame]:
        """Answer from any replica."""
        whole, self.tapes = (
            self.tapes,
            {each: tape.until(self.now_ms - self.dice.choice(self.lags_ms)) for each, tape in self.tapes.items()},
        )
        replica, self.tapes = self.tapes, whole
        reply = await super().trades(instrument, query)
        if isinstance(reply.read(), ExchangeError):
            return reply
        whole_page = replica[instrument].answer(query)
        newest_stay = isinstance(query, Before | Newest)
        rows = self._odd(whole_page.tail(self.page_cap) if newest_stay else whole_page.head(self.page_cap))
        self.shown |= set(rows["a"])
        return Reply(reply.usage, rows)

    def _odd(self, rows: pl.DataFrame) -> pl.DataFrame:
        if self.dice.random() >= self.odd_share:
            return rows
        middle = rows.height // 2
        return self.dice.choice([rows.clear(), rows.head(middle), pl.concat([rows[:middle], rows[middle + 1 :]])])


def even_tape(rows: int, absent: Sequence[int] = ()) -> Tape:
    """Trades from an hour before the day up to now."""
    step_ms = 17 * HOUR_MS // rows
    return Tape.of(5000, range(DAY_MS - HOUR_MS, NOW_MS, step_ms), absent)


async def started(exchange: FakeExchange, store: FakeStore, window: TimeSpan | None = None) -> Outcome:
    """One start; the exchange's time goes on from NOW_MS."""
    exchange.epoch_ms = NOW_MS - round(trio.current_time() * 1000)
    (outcome,) = await World(exchange, store, window=window).run()
    return outcome


def check(outcome: Outcome, exchange: OddExchange, store: FakeStore, tape: Tape, window: TimeSpan) -> None:
    """The law."""
    wanted = tape.ids_in(window)
    held = set(store.ids(BTC))
    if outcome.complete:
        assert outcome.exit_code == 0
        assert held >= wanted
        assert held >= exchange.shown & wanted
    else:
        assert outcome.exit_code != 0
        assert outcome.reasons
    assert held <= set(tape.ids), "a trade that the exchange does not have"
    assert len(exchange.asked) <= 20 * (len(tape) // min(exchange.page_cap, 1000) + 1) + 200


@settings(max_examples=25)
@given(
    st.integers(0, 2**16),
    st.sampled_from([300, 2000, 5000]),
    st.sampled_from([1000, 500, 333]),
    st.sampled_from([(0,), (0, 5000), LAGS_MS]),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.sampled_from([TimeSpan(DAY_MS), TimeSpan(DAY_MS + HOUR_MS, DAY_MS + 9 * HOUR_MS)]),
)
def test_exit_0_means_that_every_trade_is_held(
    seed: int, rows: int, page_cap: int, lags_ms: tuple[int, ...], odd_share: float, window: TimeSpan
) -> None:
    tape = even_tape(rows)

    async def play() -> None:
        exchange = OddExchange({BTC: tape}, lags_ms=lags_ms, page_cap=page_cap, odd_share=odd_share, dice=Random(seed))
        store = FakeStore()
        for _ in range(3):
            exchange.asked.clear()
            outcome = await started(exchange, store, None if window.stop_ms is None else window)
            check(outcome, exchange, store, tape, window)
        if lags_ms == (0,) and not odd_share:
            assert outcome.complete

    trio.run(play, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("lags_ms", [LAGS_MS, (0, 6 * HOUR_MS)], ids=["four replicas", "every second answer"])
async def test_a_hundred_starts_on_lagging_replicas_end_exact_or_not_with_0(
    lags_ms: tuple[int, ...], autojump_clock: MockClock
) -> None:
    """Cold and warm in turns."""
    tape = even_tape(3000)
    complete = 0
    store = FakeStore()
    for seed in range(100):
        if seed % 2 == 0:
            store = FakeStore()
        exchange = OddExchange({BTC: tape}, lags_ms=lags_ms, dice=Random(seed))
        outcome = await started(exchange, store)
        complete += outcome.complete
        # The replica that is 5 s behind counts as fresh.
        check(outcome, exchange, store, tape.until(NOW_MS - 5000), TimeSpan(DAY_MS))
    assert complete > 50


@pytest.mark.parametrize("trades", [5, 3000])
async def test_a_quiet_symbol_costs_no_more_than_a_busy_one(trades: int, autojump_clock: MockClock) -> None:
    """Its last thousand trades explain that nothing came for hours; of one that has hardly any, nothing does."""
    times = range(NOW_MS - 5 * HOUR_MS - trades * 3 * HOUR_MS, NOW_MS - 5 * HOUR_MS, 3 * HOUR_MS)
    exchange, store = OddExchange({BTC: Tape.of(5000, times)}), FakeStore()
    outcome = await started(exchange, store)
    assert outcome.complete
    assert set(store.ids(BTC)) == exchange.tapes[BTC].ids_in(TimeSpan(DAY_MS))
    assert len(exchange.asked) <= (6 if trades > FEWEST_ROWS else 3 + ANSWERS_IN_SILENCE)
    exchange.asked.clear()
    assert (await started(exchange, store)).complete
    assert len(exchange.asked) <= 2


async def test_two_starts_that_only_a_stale_replica_answers_end_differently_once_another_has_answered(
    autojump_clock: MockClock,
) -> None:
    """The first start sees the newest trade and gets no page from there; the second meets the stale replica alone."""
    tape, store = even_tape(3000), FakeStore()
    newest = [Misbehaviour(mangle(lambda _: tape.frame[-1:]), lambda _, query: isinstance(query, Newest), times=1)]
    first = FakeExchange({BTC: tape.until(NOW_MS - 6 * HOUR_MS)}, misbehaves=newest)
    assert (await started(first, store)).exit_code == 1
    assert await store.recall(BTC) is not None
    second = OddExchange({BTC: tape.until(NOW_MS - 6 * HOUR_MS)})
    outcome = await started(second, store)
    assert outcome.exit_code == 1
    assert f"the exchange has shown id {tape.ids[-1]}" in outcome.reasons[0]
    assert (await started(OddExchange({BTC: tape}), store)).complete
    assert set(store.ids(BTC)) == tape.ids_in(TimeSpan(DAY_MS))


async def test_a_past_day_that_is_not_sealed_is_not_complete_though_all_its_trades_are_held(
    autojump_clock: MockClock,
) -> None:
    """Id 40 lies in the file of the day after: no id is missing, and the day has a hole all the same."""
    tape, store = Tape.even(100, start_ms=DAY_MS - 60_000, step_ms=1000), FakeStore()
    yesterday, today = DAY - timedelta(days=1), DAY
    for day, ids in ((yesterday, [*range(40), *range(41, 60)]), (today, [40, *range(60, 100)])):
        rows = tape.frame.filter(pl.col("a").is_in(ids))
        store.hold(BTC, rows, Certificate(day, tuple(spans_of(rows)), opened=True, closed=day == yesterday))
    exchange = OddExchange({BTC: tape}, epoch_ms=DAY_MS + 41_000)
    (outcome,) = await World(exchange, store, days=1).run()
    assert outcome.exit_code == 1
    assert outcome.reasons == (f"{yesterday} is not sealed: its file lacks ids 40 to 40",)


async def test_a_backfill_remembers_that_nothing_came_before_the_first_trade_and_after_the_last(
    autojump_clock: MockClock,
) -> None:
    """The first trade ever came two days into the window, and the last one three days before its end."""
    tape = Tape.of(5000, range(DAY_MS - 3 * 86_400_000 + 7, DAY_MS - 3 * 86_400_000 + 500_000, 100))
    exchange, store = FakeExchange({BTC: tape}), FakeStore()
    window = TimeSpan(DAY_MS - 5 * 86_400_000, DAY_MS)
    outcome = await started(exchange, store, window)
    assert outcome.complete
    kept = await store.recall(BTC)
    assert kept is not None
    assert (kept.first_id, kept.empty_from_ms) == (5000, window.start_ms)
    assert (kept.agreed_id, kept.agreed_ms >= DAY_MS) == (tape.ids[-1], True)


@pytest.mark.parametrize("page_cap", [500, 137])
@pytest.mark.parametrize("is_warm", [True, False])
async def test_a_server_that_caps_its_pages_costs_requests_and_no_trade(
    is_warm: bool, page_cap: int, autojump_clock: MockClock
) -> None:
    """Never a page a poll: one round brings all."""
    tape, store = even_tape(6000), FakeStore()
    if is_warm:
        early = OddExchange({BTC: tape.until(DAY_MS + 2 * HOUR_MS)})
        assert (await started(early, store)).complete
    exchange = OddExchange({BTC: tape}, page_cap=page_cap)
    outcome = await started(exchange, store)
    assert outcome.complete
    assert set(store.ids(BTC)) == tape.ids_in(TimeSpan(DAY_MS))
    assert len(exchange.asked) <= 2 * len(tape) // page_cap + 12


async def test_a_newest_trade_below_the_first_of_the_window_is_a_contradiction(autojump_clock: MockClock) -> None:
    """Ids that begin again today: nothing is complete, and the reason is one sentence."""
    times = even_tape(1000).times
    today = next(n for n, at in enumerate(times) if at >= DAY_MS + 4 * HOUR_MS)
    old, new = trade_frame(range(9000, 9000 + today), times[:today]), trade_frame(range(1000 - today), times[today:])
    restarted = Tape(pl.concat([old, new]))
    exchange = OddExchange({BTC: restarted})
    outcome = await started(exchange, FakeStore())
    assert outcome.exit_code == 1
    assert any("newest" in reason for reason in outcome.reasons), outcome.reasons
    assert len(exchange.asked) < 60


async def test_two_dozen_gaps_cost_one_question_each_and_no_other_trade(autojump_clock: MockClock) -> None:
    dice = Random(7)
    absent = {start + n for start in dice.sample(range(9000, 148_000), 25) for n in range(dice.choice([1, 1, 3, 40]))}
    tape = even_tape(150_000, tuple(absent))
    store, exchange = FakeStore(), OddExchange({BTC: tape})
    outcome = await started(exchange, store)
    assert set(store.ids(BTC)) == tape.ids_in(TimeSpan(DAY_MS))
    assert not outcome.complete
    assert {i for ids in outcome.missing for i in range(ids.first_id, ids.last_id + 1)} <= absent
    assert len(exchange.asked) <= 1.3 * (len(tape) / 1000)
