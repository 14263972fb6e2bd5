"""Whole starts with nothing stored, from an exchange of which some answers have the times of another hour or day."""

from dataclasses import replace
from random import Random
from typing import Any

import polars as pl
import pytest
import trio
from trio.testing import MockClock

from backfilld.core.backfill.neighbours import CONTRADICTING
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.backfill.questions import Before, Page, Query, Since
from backfilld.core.day.certificate import Source, Sourced
from backfilld.core.model import MS_PER_DAY, IdRange
from backfilld.ports import Reply
from tests.fakes import BTC, DAY, DAY_MS, FakeExchange, FakeStore, Misbehaviour, Tape, trade_frame
from tests.pipelines import World

HOUR_MS = 3_600_000
FIRST_ID, STEP_MS = 50_000, 15_000
NOW_MS = DAY_MS + 9 * HOUR_MS


def tape() -> Tape:
    """Trades from a day before the window until now."""
    times = range(DAY_MS - 24 * HOUR_MS, NOW_MS, STEP_MS)
    return Tape(trade_frame(range(FIRST_ID, FIRST_ID + len(times)), times))


def exchange_of_lies(shift_ms: int, share: float, seed: int) -> FakeExchange:
    """An exchange with the tape; a share of its answers is shifted in time."""
    dice = Random(seed)

    def lie(_: Query | None, reply: Reply[Any]) -> Reply[Any]:
        return shifted(reply, shift_ms) if dice.random() < share else reply

    exchange = FakeExchange({BTC: tape()}, epoch_ms=NOW_MS - round(trio.current_time() * 1000))
    exchange.misbehaves = [Misbehaviour(lie, times=10**9)]
    return exchange


def shifted(reply: Reply[Any], shift_ms: int) -> Reply[Any]:
    """The same rows at other times."""
    trades = reply.result
    assert isinstance(trades, pl.DataFrame)
    return Reply(reply.usage, trades.with_columns(trades["T"] + shift_ms))


def check(store: FakeStore, outcome: Outcome) -> None:
    """Whatever came, no row is left that the exchange does not have; after exit 0 none lacks."""
    true, rows = tape().frame, store.trades(BTC)
    strange = rows.join(true, on=rows.columns, how="anti")
    assert strange.is_empty(), f"exit {outcome.exit_code}, and {strange.height} rows that the exchange does not have"
    if outcome.complete:
        assert set(rows["a"]) >= set(true.filter(true["T"] >= DAY_MS)["a"])


async def start(exchange: FakeExchange, store: FakeStore) -> Outcome:
    """One start, which ends by itself."""
    (outcome,) = await World(exchange, store).run()
    check(store, outcome)
    return outcome


@pytest.mark.parametrize("lies", [1, 3, CONTRADICTING - 1])
def test_a_page_that_is_an_hour_early_again_and_again_is_not_believed_beside_a_trade_that_was_named(lies: int) -> None:
    async def play() -> None:
        exchange = exchange_of_lies(0, 0, 0)
        first_id = int(tape().frame.filter(tape().frame["T"] >= DAY_MS)["a"][0])
        exchange.misbehaves = [
            Misbehaviour(
                lambda _, reply: shifted(reply, -HOUR_MS),
                on=lambda _, query: isinstance(query, Page) and query.first_id == first_id,
                times=lies,
            )
        ]
        assert (await start(exchange, FakeStore())).complete

    trio.run(play, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("shift_ms", [-HOUR_MS, -MS_PER_DAY, HOUR_MS, MS_PER_DAY])
@pytest.mark.parametrize("seed", range(4))
def test_where_a_fifth_of_the_answers_have_other_times_none_of_them_is_left(shift_ms: int, seed: int) -> None:
    async def starts() -> None:
        exchange, store = exchange_of_lies(shift_ms, 0.2, seed), FakeStore()
        await start(exchange, store)
        exchange.misbehaves.clear()
        assert (await start(exchange, store)).complete

    trio.run(starts, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("shift_ms", [-HOUR_MS, -MS_PER_DAY, HOUR_MS, MS_PER_DAY])
@pytest.mark.parametrize("seed", range(4))
def test_rows_on_disk_at_a_kill_are_as_doubtful_to_the_next_process(shift_ms: int, seed: int) -> None:
    async def starts() -> None:
        exchange, store, dice = exchange_of_lies(shift_ms, 0.3, seed), FakeStore(), Random(seed)
        for _ in range(2):
            with trio.move_on_after(dice.uniform(0.1, 1.5)):
                await World(exchange, store, checkpoint_s=0.02).run()
        exchange.misbehaves.clear()
        for _ in range(3):
            outcome = await start(exchange, store)
        assert outcome.complete

    trio.run(starts, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("shift_ms", [-HOUR_MS, 0])
def test_a_cold_start_that_was_killed_with_wrong_rows_on_disk_ends_exact_when_the_exchange_is_honest(
    shift_ms: int,
) -> None:
    """All that a process had was wrong, and fits itself. Right rows cost a few questions, and are not fetched again."""

    async def starts() -> None:
        exchange, store = exchange_of_lies(shift_ms, 1, 0), FakeStore()
        await killed_with_rows(exchange, store)
        exchange.misbehaves.clear()
        exchange.sent.clear()
        assert (await start(exchange, store)).complete
        assert shift_ms or exchange.sent[BTC].total() < 1200
        exchange.asked.clear()
        assert (await start(exchange, store)).complete
        assert len(exchange.asked) <= 3

    trio.run(starts, clock=MockClock(autojump_threshold=0))


async def killed_with_rows(exchange: FakeExchange, store: FakeStore) -> None:
    """A start of which nothing is left but rows on disk."""
    with trio.CancelScope() as killed:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(World(exchange, store, checkpoint_s=0.02).run)
            while not store.trades(BTC).height:
                await trio.sleep(0.01)
            killed.cancel()


@pytest.mark.parametrize("lies", [1, 2])
def test_no_day_is_moved_aside_for_two_answers_about_where_the_window_begins(lies: int) -> None:
    """Each of the two names a trade far above those that are stored."""

    async def starts() -> None:
        exchange, store = exchange_of_lies(0, 0, 0), FakeStore()
        await start(exchange, store)
        record = store.record(BTC, DAY)
        sources = (Sourced(Source("archive"), IdRange(record.first_id, record.last_id)),)
        store.hold(BTC, store.trades(BTC), replace(record, opened=False, sources=sources))
        wrong = Misbehaviour(above, on=lambda _, query: isinstance(query, Before | Since), times=2 * lies)
        exchange.misbehaves = [wrong]
        assert (await start(exchange, store)).complete
        assert not store.deleted

    trio.run(starts, clock=MockClock(autojump_threshold=0))


def above(_: Query | None, reply: Reply[Any]) -> Reply[Any]:
    """The same with other ids."""
    trades = reply.result
    assert isinstance(trades, pl.DataFrame)
    return Reply(reply.usage, trades.with_columns(trades["a"] + 5_000))
