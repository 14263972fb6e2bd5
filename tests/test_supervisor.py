"""The whole pipeline on fakes and a virtual clock: every way in which it may end."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import polars as pl
import pytest
import trio
from trio.testing import MockClock

from backfilld.core.backfill.outcome import overall_exit_code
from backfilld.core.backfill.questions import Newest, Page, Query, Tail
from backfilld.core.model import MS_PER_DAY, Instrument, Market
from backfilld.core.timespan import TimeSpan
from backfilld.core.weight.limits import Limit
from backfilld.errors import RateLimited, StoreError, TransientError
from backfilld.pipeline import Pipeline
from backfilld.ports import ExchangeClient
from backfilld.supervisor import cause_of, run_pipeline
from tests.fakes import (
    BTC,
    DAY,
    DAY_MS,
    ETH,
    SOL,
    FakeStore,
    Misbehaviour,
    Tape,
    lose,
    mangle,
    refuse,
)
from tests.pipelines import World, later, stopped, world_of

WORKERS = pytest.mark.parametrize("workers", [1, 4])
"""With one fetcher a dying actor also raises its neighbour's BrokenResourceError, with four it hides."""


# -- done


def is_later_page(_: Instrument, query: Query | None) -> bool:
    """Whether others were asked for before."""
    return isinstance(query, Page) and query.first_id >= 5000


@pytest.mark.parametrize("workers", [1, 2, 5, 20])
async def test_once_everything_is_stored_and_nothing_was_fetched_twice(workers: int, autojump_clock: MockClock) -> None:
    world = world_of(workers=workers, instruments=(BTC, ETH, SOL))
    outcomes = await world.run()
    assert [outcome.instrument for outcome in outcomes if outcome.complete] != []
    assert overall_exit_code(outcomes) == 0
    assert len(outcomes) == 3
    for instrument, tape in world.exchange.tapes.items():
        assert world.store.ids(instrument) == tape.ids
        assert world.store.record(instrument, DAY).opened
    most = max(max(sent.values()) for sent in world.exchange.sent.values())
    assert most <= 2, "a row that only located an end, or the head's neighbour"
    assert len([True for _, query in world.exchange.asked if isinstance(query, Page)]) == 20 + 10 + 5
    assert world.exchange.most_in_flight <= workers


async def test_a_second_run_resumes_with_two_questions_an_instrument(autojump_clock: MockClock) -> None:
    world = world_of(instruments=(BTC, ETH))
    world.exchange.epoch_ms = world.exchange.tapes[BTC].times[-1] + 1000
    await world.run()
    world.exchange.asked.clear()
    outcomes = await world.run()
    assert [type(query) for _, query in world.exchange.asked] == [Newest, Newest, Tail, Tail]
    assert [outcome.downloaded for outcome in outcomes] == [0, 0]
    assert [outcome.hit_ratio for outcome in outcomes] == [1.0, 1.0]
    assert overall_exit_code(outcomes) == 0


async def test_days_before_today_are_sealed(autojump_clock: MockClock) -> None:
    world = world_of(days=2)
    start_ms = DAY_MS - 2 * MS_PER_DAY - 3_600_000
    world.exchange.tapes = {BTC: Tape.even(9000, start_ms=start_ms, step_ms=20_000)}
    outcomes = await world.run()
    assert overall_exit_code(outcomes) == 0
    assert [world.store.record(BTC, DAY - timedelta(days=n)).sealed for n in (2, 1, 0)] == [True, True, False]
    assert await world.store.days(BTC) == [DAY - timedelta(days=n) for n in (2, 1, 0)]


async def test_a_window_is_filled_and_nothing_beyond_it(autojump_clock: MockClock) -> None:
    window = TimeSpan(DAY_MS + 1234, DAY_MS + 98_765)
    world = world_of(window=window)
    outcomes = await world.run()
    assert set(world.store.ids(BTC)) == world.exchange.tapes[BTC].ids_in(window)
    assert overall_exit_code(outcomes) == 0


@WORKERS
async def test_the_budget_is_kept_and_used_while_it_takes_minutes(workers: int, autojump_clock: MockClock) -> None:
    """80 of 100 weight a minute are 20 requests; exchangeInfo is the first five of them."""
    world = world_of(100_000, workers=workers, limit=100)
    world.exchange.limits = (Limit(100, 1, "MINUTE"),)
    outcomes = await world.run()
    assert overall_exit_code(outcomes) == 0
    spent = list(world.exchange.weight_by_minute.values())
    assert max(spent) <= 80
    assert len(spent) <= 7
    assert world.store.ids(BTC) == world.exchange.tapes[BTC].ids


@WORKERS
async def test_an_exchange_that_misbehaves_in_every_way_is_got_through(workers: int, autojump_clock: MockClock) -> None:
    def every(n: int) -> Callable[[object, object], bool]:
        calls = iter(range(10**9))
        return lambda _, __: next(calls) % n == n - 1

    world = world_of(workers=workers)
    world.exchange.misbehaves = [
        Misbehaviour(refuse(RateLimited("429", retry_after_s=5, banned=False)), on=every(11), times=4),
        Misbehaviour(refuse(RateLimited("429", retry_after_s=None, banned=False)), on=every(12), times=1),
        Misbehaviour(lose(TransientError("timeout")), on=every(5), times=9),
        Misbehaviour(mangle(pl.DataFrame.reverse), on=lambda _, query: isinstance(query, Page), times=2),
        Misbehaviour(mangle(lambda rows: rows[:-1]), on=lambda _, query: isinstance(query, Page), times=2),
        Misbehaviour(mangle(lambda rows: rows.clear()), on=lambda _, query: isinstance(query, Page), times=2),
    ]
    outcomes = await world.run()
    assert [outcome.reasons for outcome in outcomes] == [()]
    assert world.store.ids(BTC) == world.exchange.tapes[BTC].ids
    assert [each.times for each in world.exchange.misbehaves[3:]] == [0, 0, 0]
    assert world.exchange.misbehaves[0].times < 4
    assert world.exchange.misbehaves[2].times < 9


# -- stopped


async def test_a_daemon_tops_up_until_it_is_stopped_and_ends_at_once(autojump_clock: MockClock) -> None:
    world = world_of(3000, once=False)
    world.exchange.grows = True
    world.exchange.tapes = {BTC: Tape.even(40_000, start_ms=world.exchange.epoch_ms - 10_000)}
    outcomes = await world.run(stopped, after_s=200.0)
    assert trio.current_time() == pytest.approx(200.0, abs=1)
    stored = world.store.ids(BTC)
    assert stored == world.exchange.tapes[BTC].ids[: len(stored)]
    assert len(stored) > 1000 + 170 * 100
    assert [outcome.complete for outcome in outcomes] == [True]


@WORKERS
@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.06, 0.13, 0.2, 0.31, 0.5])
async def test_all_that_was_fetched_before_a_stop_is_saved(
    workers: int, after_s: float, autojump_clock: MockClock
) -> None:
    world = world_of(60_000, workers=workers)
    outcomes = await world.run(stopped, after_s=after_s)
    sent = set().union(*world.exchange.sent.values())
    # The neighbour of the first id is asked for with an end time alone; no trade stands before this tape.
    assert set(world.store.ids(BTC)) == sent
    assert trio.current_time() <= after_s + 2 * world.exchange.latency_s, "it waited for nothing"
    assert [outcome.complete for outcome in outcomes] == [False]
    assert [outcome.exit_code for outcome in outcomes] == [1]


async def test_a_resume_after_a_stop_fetches_only_the_rest(autojump_clock: MockClock) -> None:
    world = world_of(60_000)
    await world.run(stopped, after_s=0.3)
    stored = len(world.store.ids(BTC))
    assert 0 < stored < 60_000
    world.exchange.sent.clear()
    assert overall_exit_code(await world.run()) == 0
    assert world.store.ids(BTC) == world.exchange.tapes[BTC].ids
    assert sum(sent.total() for sent in world.exchange.sent.values()) <= 60_000 - stored + 4


@WORKERS
async def test_a_stop_while_everyone_waits_for_the_next_minute_ends_at_once(
    workers: int, autojump_clock: MockClock
) -> None:
    world = world_of(100_000, workers=workers, limit=100)
    world.exchange.limits = (Limit(100, 1, "MINUTE"),)
    await world.run(stopped, after_s=20.0)
    assert trio.current_time() == pytest.approx(20.0, abs=0.2)
    assert len(world.store.ids(BTC)) > 3000


@WORKERS
async def test_a_stop_during_a_ban_ends_at_once(workers: int, autojump_clock: MockClock) -> None:
    world = world_of(workers=workers, longest_pause_s=math.inf)
    ban = RateLimited("418", retry_after_s=7200, banned=True)
    world.exchange.misbehaves = [Misbehaviour(refuse(ban), on=is_later_page)]
    await world.run(stopped, after_s=100.0)
    assert trio.current_time() == 100.0
    assert world.store.ids(BTC)


@WORKERS
async def test_an_exchange_that_never_answers_is_left_when_grace_is_over(
    workers: int, autojump_clock: MockClock
) -> None:
    world = world_of(workers=workers, grace_s=7.0)
    world.exchange.mute = True
    await world.run(stopped, after_s=50.0)
    assert trio.current_time() == 53.5
    assert world.store.saves == []


async def test_what_was_fetched_before_the_exchange_fell_silent_is_on_disk_by_its_checkpoint(
    autojump_clock: MockClock,
) -> None:
    world = world_of(60_000, checkpoint_s=10.0)

    def mute(_: Pipeline) -> None:
        world.exchange.mute = True

    pipeline = world.pipeline()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_pipeline, pipeline)
        nursery.start_soon(later, 0.3, mute, pipeline)
        await trio.sleep(10.0)
        assert set(world.store.ids(BTC)) >= set().union(*world.exchange.sent.values()) - set(range(59_000, 60_000))
        assert len(world.store.ids(BTC)) > 5000
        nursery.cancel_scope.cancel()


async def test_a_save_that_hangs_is_abandoned_within_the_grace_and_said(autojump_clock: MockClock) -> None:
    world = world_of(3000, grace_s=5.0)
    world.store.delay_s = 60.0
    with pytest.RaisesGroup(pytest.RaisesExc(StoreError, match="did not answer in time")):
        await world.run(stopped, after_s=0.3)
    assert trio.current_time() <= 5.3


async def run_until_second_signal(world: World, first_s: float) -> None:
    """Run a pipeline that is stopped after ``first_s``, and cancelled a second later."""
    pipeline = world.pipeline()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later, first_s, stopped, pipeline)
            nursery.start_soon(later, first_s + 1, lambda _: scope.cancel(), pipeline)
            await run_pipeline(pipeline)
    assert scope.cancelled_caught


async def test_a_save_in_progress_outlives_a_second_signal(autojump_clock: MockClock) -> None:
    world = world_of(3000, grace_s=50.0, checkpoint_s=1.0)
    world.store.delay_s = 10.0
    await run_until_second_signal(world, first_s=2.0)
    assert 3.0 < trio.current_time() < 12.0
    assert len(world.store.ids(BTC)) > 0


async def test_no_answer_is_waited_for_in_the_second_half_of_the_grace(autojump_clock: MockClock) -> None:
    """So that what came before is saved in it."""
    world = world_of(60_000, grace_s=8.0, checkpoint_s=1000.0)

    def mute(_: Pipeline) -> None:
        world.exchange.mute = True

    pipeline = world.pipeline()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(later, 0.3, mute, pipeline)
        nursery.start_soon(later, 0.4, stopped, pipeline)
        await run_pipeline(pipeline)
    assert trio.current_time() == 4.4
    assert len(world.store.ids(BTC)) > 5000


@WORKERS
async def test_a_second_signal_cancels_at_once(workers: int, autojump_clock: MockClock) -> None:
    world = world_of(workers=workers, grace_s=1000.0)
    world.exchange.mute = True
    await run_until_second_signal(world, first_s=3.0)
    assert trio.current_time() == 4.0
    assert world.exchange.open_connections == 0


async def test_a_stop_that_was_set_before_the_start_asks_nothing(autojump_clock: MockClock) -> None:
    world = world_of()
    pipeline = world.pipeline()
    pipeline.stop.set()
    await run_pipeline(pipeline)
    assert world.exchange.asked == []
    assert trio.current_time() == 0.0


# -- failures that have a name


@WORKERS
async def test_an_exchange_out_of_reach_is_an_outcome_and_no_crash(workers: int, autojump_clock: MockClock) -> None:
    world = world_of(workers=workers, instruments=(BTC, SOL))
    world.exchange.misbehaves = [Misbehaviour(lose(TransientError("no route")), on=lambda *_: True, times=math.inf)]
    outcomes = await world.run()
    assert [outcome.exit_code for outcome in outcomes] == [75, 75]


@WORKERS
async def test_a_ban_that_is_too_long_for_a_single_run_is_an_outcome(workers: int, autojump_clock: MockClock) -> None:
    world = world_of(workers=workers)
    ban = RateLimited("418", retry_after_s=7200, banned=True)
    world.exchange.misbehaves = [Misbehaviour(refuse(ban), on=is_later_page, times=workers)]
    outcomes = await world.run()
    assert [outcome.exit_code for outcome in outcomes] == [75]
    assert len(world.store.ids(BTC)) >= 1000, "what was fetched before is saved"
    assert trio.current_time() < 60


@WORKERS
async def test_an_unknown_symbol_does_not_keep_the_others(workers: int, autojump_clock: MockClock) -> None:
    nosuch = Instrument(Market.SPOT, "NOSUCHUSDT")
    world = world_of(workers=workers, instruments=(BTC, nosuch, ETH))
    outcomes = {outcome.instrument: outcome for outcome in await world.run()}
    assert [outcomes[each].exit_code for each in (BTC, nosuch, ETH)] == [0, 78, 0]
    assert world.store.ids(ETH) == world.exchange.tapes[ETH].ids


@WORKERS
@pytest.mark.parametrize("operation", ["open", "load", "save", "context"])
async def test_a_store_error_comes_out_alone(workers: int, operation: str, autojump_clock: MockClock) -> None:
    world = world_of(workers=workers, checkpoint_s=0.2)
    world.store.fails[operation] = StoreError("disk full")
    with pytest.raises(StoreError, match="disk full") as caught:
        await run_pipeline(world.pipeline())
    assert caught.value.__cause__ is None
    assert world.exchange.open_connections == 0


# -- failures that have none


class Crash(Exception):
    """What no actor knows."""


@asynccontextmanager
async def no_connection() -> AsyncIterator[ExchangeClient]:
    raise Crash
    yield


@WORKERS
@pytest.mark.parametrize("operation", ["open", "load", "save", "context"])
async def test_a_crash_of_the_store_comes_out_without_its_symptoms(
    workers: int, operation: str, autojump_clock: MockClock
) -> None:
    world = world_of(workers=workers, checkpoint_s=0.2)
    world.store.fails[operation] = Crash()
    with pytest.RaisesGroup(Crash):
        await run_pipeline(world.pipeline())


@WORKERS
async def test_a_crash_while_neighbours_wait_to_send_comes_out_without_their_broken_channels(
    workers: int, autojump_clock: MockClock
) -> None:
    """The merger waits for the slow writer, the fetchers wait for the merger: then the writer dies."""
    world = world_of(60_000, workers=workers, checkpoint_s=0.01)
    world.store.delay_s = 30.0
    world.store.fails["save"] = Crash()
    with pytest.RaisesGroup(Crash):
        await run_pipeline(world.pipeline())
    assert trio.current_time() > 30


@WORKERS
async def test_a_store_error_while_neighbours_wait_to_send_comes_out_alone(
    workers: int, autojump_clock: MockClock
) -> None:
    world = world_of(60_000, workers=workers, checkpoint_s=0.01)
    world.store.delay_s = 30.0
    world.store.fails["save"] = StoreError("disk full")
    with pytest.raises(StoreError, match="disk full"):
        await run_pipeline(world.pipeline())


def test_a_broken_channel_beside_another_error_is_its_symptom() -> None:
    """Whether a neighbour's channel breaks before it is cancelled depends on where it waits."""
    crash, broken = Crash(), trio.BrokenResourceError()
    cause = cause_of(ExceptionGroup("nursery", [broken, ExceptionGroup("inner", [broken, crash])]))
    assert pytest.RaisesGroup(Crash, flatten_subgroups=True).matches(cause)
    full = StoreError("disk full")
    assert cause_of(ExceptionGroup("nursery", [broken, ExceptionGroup("inner", [full, crash]), broken])) is full


def test_broken_channels_with_no_other_error_are_the_error() -> None:
    group = ExceptionGroup("nursery", [trio.BrokenResourceError()])
    assert cause_of(group) is group


@WORKERS
async def test_a_crash_in_the_middle_of_a_fetch_comes_out_without_its_symptoms(
    workers: int, autojump_clock: MockClock
) -> None:
    def crash(_: object, __: object) -> bool:
        raise Crash

    world = world_of(workers=workers)
    calm = Misbehaviour(lambda _, reply: reply, on=lambda _, query: query is not None, times=6)
    world.exchange.misbehaves = [calm, Misbehaviour(lambda _, reply: reply, on=crash)]
    with pytest.RaisesGroup(Crash, flatten_subgroups=True):
        await run_pipeline(world.pipeline())


async def test_a_connection_that_cannot_even_be_opened_does_not_hang(autojump_clock: MockClock) -> None:
    pipeline = world_of(workers=2).pipeline()
    object.__setattr__(pipeline, "open_client", no_connection)
    with pytest.raises(ExceptionGroup) as caught:
        await run_pipeline(pipeline)
    rest = caught.value.split(Crash)[1]
    assert rest is None


@WORKERS
async def test_a_wall_clock_that_crashes_comes_out(workers: int, autojump_clock: MockClock) -> None:
    def wall_ms() -> float:
        raise Crash

    pipeline = world_of(workers=workers).pipeline()
    object.__setattr__(pipeline, "wall_ms", wall_ms)
    with pytest.RaisesGroup(Crash):
        await run_pipeline(pipeline)


async def test_a_store_error_wins_over_other_crashes(autojump_clock: MockClock) -> None:
    """Both are true; the one with a name is what the operator can act on."""
    world = world_of(workers=1)

    class Both(FakeStore):
        async def open(self) -> None:
            raise BaseExceptionGroup("both", [ExceptionGroup("in", [StoreError("disk full")]), Crash()])

    world.store = Both()
    with pytest.raises(StoreError, match="disk full"):
        await run_pipeline(world.pipeline())


async def test_figures_and_budgets_are_shown_meanwhile(autojump_clock: MockClock) -> None:
    world = world_of()
    pipeline = world.pipeline()
    seen: list[int] = []

    async def watch() -> None:
        async for figures in pipeline.statistics.eventual_values():
            seen.append(figures.fetched)  # noqa: PERF401 - it is cancelled, and what was seen by then is asked for

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await run_pipeline(pipeline)
        nursery.cancel_scope.cancel()
    assert seen == sorted(seen)
    assert seen[-1] == 20_000
    assert pipeline.governor.statistics.value[Market.SPOT].allowed == 4800
    assert pipeline.governor.statistics.value[Market.SPOT].used >= 4 * len(world.exchange.asked) + 20
