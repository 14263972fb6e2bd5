"""Whole starts with nothing stored, from an exchange of which some answers have the times of another hour or day."""

from random import Random
from typing import Any

import polars as pl
import pytest
import trio
from trio.testing import MockClock

from backfilld.core.backfill.neighbours import CONTRADICTING
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.backfill.questions import Page, Query
from backfilld.core.model import MS_PER_DAY
from backfilld.ports import Reply
from tests.fakes import BTC, DAY_MS, FakeExchange, FakeStore, Misbehaviour, Tape, trade_frame
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


async def play(exchange: FakeExchange, store: FakeStore) -> Outcome:
    """One start, which ends by itself."""
    (outcome,) = await World(exchange, store).run()
    check(store, outcome)
    return outcome


@pytest.mark.parametrize("lies", [1, 3, CONTRADICTING - 1])
def test_a_page_that_is_an_hour_early_again_and_again_is_not_believed_beside_a_trade_that_was_named(lies: int) -> None:
    async def start() -> None:
        exchange = exchange_of_lies(0, 0, 0)
        first_id = int(tape().frame.filter(tape().frame["T"] >= DAY_MS)["a"][0])
        exchange.misbehaves = [
            Misbehaviour(
                lambda _, reply: shifted(reply, -HOUR_MS),
                on=lambda _, query: isinstance(query, Page) and query.first_id == first_id,
                times=lies,
            )
        ]
        assert (await play(exchange, FakeStore())).complete

    trio.run(start, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("shift_ms", [-HOUR_MS, -MS_PER_DAY, HOUR_MS, MS_PER_DAY])
@pytest.mark.parametrize("seed", range(4))
def test_where_a_fifth_of_the_answers_have_other_times_none_of_them_is_left(shift_ms: int, seed: int) -> None:
    async def starts() -> None:
        exchange, store = exchange_of_lies(shift_ms, 0.2, seed), FakeStore()
        await play(exchange, store)
        exchange.misbehaves.clear()
        assert (await play(exchange, store)).complete

    trio.run(starts, clock=MockClock(autojump_threshold=0))
