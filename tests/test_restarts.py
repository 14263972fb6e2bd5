"""The pipeline on fakes and a virtual clock: started again after a crash, under another spec, and over midnight."""

import math
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from backfilld.core.backfill.questions import Page, Query
from backfilld.core.day.certificate import Certificate
from backfilld.core.model import MS_PER_DAY, Instrument, Market
from backfilld.core.retry import Restarts
from backfilld.core.sync.rests import LONGEST_REST_S
from backfilld.core.sync.spec import Reload
from backfilld.core.weight.limits import Limit
from backfilld.errors import RateLimited, StoreError
from backfilld.pipeline import Pipeline
from backfilld.ports import Reply
from backfilld.supervisor import run_pipeline
from tests.fakes import BTC, DAY, DAY_MS, ETH, SOL, FakeStore, Misbehaviour, Tape, refuse
from tests.pipelines import World, later, stopped, world_of

WORKERS = pytest.mark.parametrize("workers", [1, 4])
Logs = list[MutableMapping[str, Any]]


def daemon(rows: int = 20_000, **changed: object) -> World:
    """A pipeline as the daemon has it."""
    values: dict[str, object] = {
        "once": False,
        "restarts": Restarts(),
        "is_patient": True,
        "longest_pause_s": math.inf,
        "checkpoint_s": 0.2,
    }
    return world_of(rows, **(values | changed))


def crash(_: Query | None, __: Reply[Any]) -> Reply[Any]:
    raise RuntimeError("a bug")


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Pipeline]:
    """A pipeline at work, which is stopped at the end and ends in order."""
    pipeline = world.pipeline()
    with trio.fail_after(1_000_000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_pipeline, pipeline)
            yield pipeline
            pipeline.stop.set()


def events(logs: Logs, name: str) -> Logs:
    return [each for each in logs if each["event"] == name]


def served_twice(world: World) -> set[int]:
    """The ids that were served more than once, but for those that only locate the ends of the window."""
    return {i for sent in world.exchange.sent.values() for i, times in sent.items() if times > 1}


# -- crashes


@WORKERS
async def test_a_crash_is_met_by_another_start_from_what_is_on_disk(workers: int, autojump_clock: MockClock) -> None:
    world = daemon(60_000, workers=workers)
    calm = Misbehaviour(lambda _, reply: reply, on=lambda _, query: isinstance(query, Page), times=30)
    world.exchange.misbehaves = [calm, Misbehaviour(crash, on=lambda _, query: isinstance(query, Page))]
    with capture_logs() as logs:
        async with running(world):
            while not events(logs, "pipeline_crashed"):
                await trio.sleep(0.01)
            stored = set(world.store.ids(BTC))
            assert len(stored) > 5_000
            asked = sum(map(len, world.exchange.sent.values()))
            world.exchange.sent.clear()
            await trio.sleep(30)
            assert world.store.ids(BTC) == world.exchange.tapes[BTC].ids
            again = stored & set().union(*world.exchange.sent.values())
            assert len(again) <= 1, f"{len(again)} of {asked} are asked twice though they are stored"
    (logged,) = events(logs, "pipeline_crashed")
    assert logged["log_level"] == "error"
    (cause,) = logged["causes"]
    assert cause.startswith("RuntimeError: a bug (test_restarts.py:")
    assert 0.25 <= logged["again_in_s"] <= 0.5


@WORKERS
@pytest.mark.parametrize("operation", ["save", "context", "load"])
async def test_a_store_that_crashes_once_is_got_over(workers: int, operation: str, autojump_clock: MockClock) -> None:
    world = daemon(workers=workers)
    world.store.fails[operation] = RuntimeError("a bug")
    with capture_logs() as logs:
        async with running(world):
            while not events(logs, "pipeline_crashed"):
                await trio.sleep(0.01)
            world.store.fails.clear()
            await trio.sleep(30)
            assert world.store.ids(BTC) == world.exchange.tapes[BTC].ids
    (logged,) = events(logs, "pipeline_crashed")
    assert [cause.partition(" (")[0] for cause in logged["causes"]] == ["RuntimeError: a bug"]


@WORKERS
async def test_too_many_crashes_in_the_window_end_it_with_the_cause(workers: int, autojump_clock: MockClock) -> None:
    world = daemon(workers=workers)
    world.store.fails["save"] = RuntimeError("a bug")
    with capture_logs() as logs, pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        await run_pipeline(world.pipeline())
    logged = events(logs, "pipeline_crashed")
    assert len(logged) == 6
    waits = [each.get("again_in_s") for each in logged]
    assert waits == [pytest.approx(wait_s, abs=0.06) for wait_s in (0.375, 0.75, 1.5, 3.0, 6.0)] + [None]
    assert [each.get("gives_up") for each in logged] == [None] * 5 + [True]
    assert trio.current_time() < 20
    assert world.exchange.open_connections == 0


async def test_crashes_that_are_far_apart_are_got_over_without_end(autojump_clock: MockClock) -> None:
    world = daemon()
    with capture_logs() as logs:
        async with running(world):
            for _ in range(20):
                await trio.sleep(500)
                world.exchange.misbehaves = [Misbehaviour(crash)]
            await trio.sleep(500)
    assert len(events(logs, "pipeline_crashed")) == 20


async def test_a_single_run_raises_its_first_crash(autojump_clock: MockClock) -> None:
    world = daemon(once=True, restarts=None)
    world.exchange.misbehaves = [Misbehaviour(crash)]
    with capture_logs() as logs, pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        await run_pipeline(world.pipeline())
    assert events(logs, "pipeline_crashed") == []


async def test_a_stop_between_two_starts_ends_it_at_once(autojump_clock: MockClock) -> None:
    world = daemon()
    world.store.fails["save"] = RuntimeError("a bug")
    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        await world.run(stopped, after_s=9.0)
    assert trio.current_time() == 9.0


@WORKERS
async def test_the_weight_of_requests_that_a_crash_cut_off_stays_spent(workers: int, autojump_clock: MockClock) -> None:
    """They may have reached the exchange; a crash must not lead to more than the share."""
    world = daemon(100_000, workers=workers, limit=100)
    world.exchange.limits = (Limit(100, 1, "MINUTE"),)
    calm = Misbehaviour(lambda _, reply: reply, on=lambda _, query: isinstance(query, Page), times=7)
    world.exchange.misbehaves = [
        each for _ in range(3) for each in (replace(calm), Misbehaviour(crash, on=lambda _, q: isinstance(q, Page)))
    ]
    async with running(world) as pipeline:
        await trio.sleep(59)
        shown = pipeline.governor.statistics.value[Market.SPOT]
        assert shown.used <= shown.allowed == 80
        await trio.sleep(600)
    assert max(world.exchange.weight_by_minute.values()) <= 80
    assert world.store.ids(BTC) == world.exchange.tapes[BTC].ids


async def test_a_ban_survives_a_crash(autojump_clock: MockClock) -> None:
    world = daemon(60_000, workers=4)
    ban = RateLimited("418", retry_after_s=3600, banned=True)
    world.exchange.misbehaves = [Misbehaviour(refuse(ban), on=lambda _, query: isinstance(query, Page))]
    async with running(world):
        await trio.sleep(1)
        asked = len(world.exchange.asked)
        world.exchange.misbehaves = [Misbehaviour(crash)]
        world.store.fails["save"] = RuntimeError("a bug")
        await trio.sleep(5)
        world.store.fails.clear()
        await trio.sleep(3500)
        assert len(world.exchange.asked) == asked
        await trio.sleep(300)
        assert world.store.ids(BTC) == world.exchange.tapes[BTC].ids


async def test_a_disk_that_cannot_be_read_at_a_restart_is_waited_for_and_said_once(autojump_clock: MockClock) -> None:
    world = daemon()
    with capture_logs() as logs:
        async with running(world) as pipeline:
            await trio.sleep(10)
            world.exchange.misbehaves = [Misbehaviour(crash)]
            world.store.fails["load"] = StoreError("Input/output error")
            await trio.sleep(1200)
            assert pipeline.disk.trouble.value is not None
            world.store.fails.clear()
            await trio.sleep(60)
            assert pipeline.disk.trouble.value is None
            assert pipeline.statistics.value.complete == 1
    assert [each["error"] for each in events(logs, "disk_failed")] == ["Input/output error"]


@pytest.mark.parametrize("operation", ["open", "load"])
async def test_a_disk_that_cannot_be_used_from_the_start_is_the_operators_matter(
    operation: str, autojump_clock: MockClock
) -> None:
    world = daemon()
    world.store.fails[operation] = StoreError("Permission denied")
    with pytest.raises(StoreError, match="Permission denied"):
        await run_pipeline(world.pipeline())
    assert trio.current_time() == 0


# -- another spec


def reload(pipeline: Pipeline, *instruments: Instrument, **changed: object) -> None:
    """Ask for a reload; what is not named stays."""
    before = pipeline.spec_now
    values = {"instruments": instruments or before.instruments} | changed
    pipeline.reload.value = Reload(replace(before, **values))  # type: ignore[arg-type]


async def test_a_new_instrument_starts_and_the_others_requests_in_flight_go_on(autojump_clock: MockClock) -> None:
    world = daemon(60_000, workers=4)
    async with running(world) as pipeline:
        await trio.sleep(0.5)
        reload(pipeline, BTC, ETH)
        await trio.sleep(30)
        for each in (BTC, ETH):
            assert world.store.ids(each) == world.exchange.tapes[each].ids
        assert len([True for each, q in world.exchange.asked if each == BTC and isinstance(q, Page)]) == 60
        assert ("ETHUSDT",) in world.exchange.described


async def test_an_instrument_that_is_removed_stops_after_a_checkpoint(autojump_clock: MockClock) -> None:
    world = daemon(60_000, workers=4, instruments=(BTC, ETH), checkpoint_s=1000.0)
    with capture_logs() as logs:
        async with running(world) as pipeline:
            await trio.sleep(0.5)
            reload(pipeline, ETH)
            await trio.sleep(0.2)
            asked = len([True for each, _ in world.exchange.asked if each == BTC])
            stored = world.store.ids(BTC)
            assert set(stored) == set(world.exchange.sent[BTC])
            assert 1000 < len(stored) < 59_000
            await trio.sleep(300)
            assert len([True for each, _ in world.exchange.asked if each == BTC]) == asked
            assert world.store.ids(ETH) == world.exchange.tapes[ETH].ids
            assert pipeline.statistics.value.instruments == 1
    assert [each["instrument"] for each in events(logs, "instrument_removed")] == ["spot:BTCUSDT"]


async def test_an_idle_instrument_that_is_removed_is_asked_for_no_more(autojump_clock: MockClock) -> None:
    world = daemon(instruments=(BTC, ETH))
    async with running(world) as pipeline:
        await trio.sleep(100)
        reload(pipeline, BTC)
        await trio.sleep(0.1)
        world.exchange.asked.clear()
        await trio.sleep(300)
        assert {each for each, _ in world.exchange.asked} == {BTC}


async def test_removed_and_added_again_it_goes_on(autojump_clock: MockClock) -> None:
    """Before the first reload took effect, after it did, and while it does."""
    for pause_s in (0.0, 0.001, 0.03, 0.06, 5.0):
        world = daemon(60_000, workers=2, instruments=(BTC, ETH))
        async with running(world) as pipeline:
            await trio.sleep(0.5)
            reload(pipeline, ETH)
            await trio.sleep(pause_s)
            reload(pipeline, ETH, BTC)
            await trio.sleep(60)
            assert world.store.ids(BTC) == world.exchange.tapes[BTC].ids
            assert len(served_twice(world)) <= 4
            assert pipeline.statistics.value.complete == 2


@pytest.mark.parametrize("at_s", [0.0, 0.02, 0.1, 0.3, 0.6, 1.0, 2.0, 3.0])
async def test_reloads_in_a_row_during_the_first_backfill_change_nothing(
    at_s: float, autojump_clock: MockClock
) -> None:
    world = daemon(60_000, workers=2, instruments=(BTC, SOL))
    async with running(world) as pipeline:
        await trio.sleep(at_s)
        for pause_s in (0.0, 0.0, 0.01, 0.05, 0.0):
            reload(pipeline)
            await trio.sleep(pause_s)
        await trio.sleep(60)
        for each in (BTC, SOL):
            assert world.store.ids(each) == world.exchange.tapes[each].ids
        assert len(served_twice(world)) <= 4
        assert pipeline.statistics.value.complete == 2


async def test_a_reload_while_a_plan_gives_way_is_applied(autojump_clock: MockClock) -> None:
    """Its flush is under way, to a slow disk: meanwhile it is removed, added again, and removed."""
    world = daemon(60_000, workers=4, instruments=(BTC, ETH))
    async with running(world) as pipeline:
        await trio.sleep(0.5)
        world.store.delay_s = 2.0
        reload(pipeline, days=1)
        await trio.sleep(0.5)
        reload(pipeline, ETH)
        await trio.sleep(0.5)
        reload(pipeline, BTC, ETH)
        await trio.sleep(0.1)
        reload(pipeline, ETH)
        await trio.sleep(100)
        assert pipeline.statistics.value.instruments == 1
        reload(pipeline, BTC, ETH)
        await trio.sleep(100)
        assert pipeline.statistics.value.complete == 2
        assert world.store.ids(BTC) == world.exchange.tapes[BTC].ids


async def test_more_days_are_fetched_and_what_is_stored_is_not(autojump_clock: MockClock) -> None:
    start_ms = DAY_MS - 2 * MS_PER_DAY - 3_600_000
    world = daemon()
    world.exchange.tapes = {BTC: Tape.even(9000, start_ms=start_ms, step_ms=20_000)}
    async with running(world) as pipeline:
        await trio.sleep(10)
        today = set(world.store.ids(BTC))
        world.exchange.sent.clear()
        reload(pipeline, days=2)
        await trio.sleep(60)
        assert len(set().union(*world.exchange.sent.values()) & today) <= 1
        assert [world.store.record(BTC, DAY - timedelta(days=n)).sealed for n in (2, 1, 0)] == [True, True, False]
        assert pipeline.statistics.value.complete == 1


async def test_a_changed_concurrency_applies_at_once_both_ways(autojump_clock: MockClock) -> None:
    world = daemon(400_000, workers=2)
    async with running(world) as pipeline:
        await trio.sleep(1)
        assert world.exchange.most_in_flight == 2
        reload(pipeline, max_concurrent=8)
        await trio.sleep(0.5)
        assert world.exchange.most_in_flight == 8
        reload(pipeline, max_concurrent=1)
        await trio.sleep(0.2)
        world.exchange.most_in_flight = 0
        await trio.sleep(0.5)
        assert world.exchange.most_in_flight == 1


async def test_a_changed_share_applies_at_once(autojump_clock: MockClock) -> None:
    world = daemon(400_000, workers=4, limit=100)
    world.exchange.limits = (Limit(100, 1, "MINUTE"),)
    async with running(world) as pipeline:
        await trio.sleep(130)
        reload(pipeline, weight_share=0.4)
        await trio.sleep(180)
        reload(pipeline, weight_share=0.8)
        await trio.sleep(180)
    spent = world.exchange.weight_by_minute
    minutes = sorted(spent)
    assert [spent[minute] for minute in minutes[3:5]] == [40, 40]
    assert [spent[minute] for minute in minutes[6:8]] == [80, 80]


def make_lively(world: World) -> None:
    """Each poll brings something: a quiet instrument is polled less often."""
    world.exchange.grows = True
    for instrument in (BTC, ETH):
        world.exchange.tapes[instrument] = Tape.even(2000, start_ms=world.exchange.epoch_ms - 1_000_000, step_ms=1000)  # type: ignore[index]


async def test_a_changed_poll_interval_and_checkpoint_apply(autojump_clock: MockClock) -> None:
    world = daemon(3000, checkpoint_s=1000.0)
    make_lively(world)
    async with running(world) as pipeline:
        await trio.sleep(100)
        reload(pipeline, poll_s=5.0)
        await trio.sleep(35)
        world.exchange.asked.clear()
        await trio.sleep(60)
        assert 11 <= len(world.exchange.asked) <= 12
    world = daemon(400_000, workers=1, checkpoint_s=1000.0)
    async with running(world) as pipeline:
        await trio.sleep(2)
        assert world.store.saves == []
        reload(pipeline, checkpoint_s=1.0)
        await trio.sleep(2)
        assert len(world.store.ids(BTC)) > 20_000


class Touched(FakeStore):
    """A store whose days somebody else can change."""

    def __init__(self) -> None:
        super().__init__()
        self.touched: dict[Instrument, frozenset[date]] = {}

    async def altered(self, instrument: Instrument) -> frozenset[date]:
        return self.touched.get(instrument, frozenset())

    async def load(self, instrument: Instrument, day: date) -> Certificate | None:
        self.touched.pop(instrument, None)
        return await super().load(instrument, day)

    def lose(self, instrument: Instrument, keep: int) -> None:
        """An operator puts an older file of the day in the newer one's place."""
        record, trades = self._records[instrument, DAY], self._days[instrument, DAY].head(keep)
        (span,) = record.spans
        last_ms, last_id = trades["T"][-1], trades["a"][-1]
        ids = type(span.ids)(span.ids.first_id, last_id)
        self.hold(instrument, trades, replace(record, spans=(replace(span, ids=ids, last_ms=last_ms),)))
        self.touched[instrument] = frozenset({DAY})


async def test_an_altered_file_is_planned_for_anew_and_only_the_difference_fetched(autojump_clock: MockClock) -> None:
    world = daemon(20_000, instruments=(BTC, ETH))
    store = world.store = Touched()
    with capture_logs() as logs:
        async with running(world) as pipeline:
            await trio.sleep(10)
            store.lose(BTC, 15_000)
            world.exchange.sent.clear()
            store.loaded.clear()
            reload(pipeline)
            await trio.sleep(10)
            assert store.ids(BTC) == world.exchange.tapes[BTC].ids
            assert set(world.exchange.sent[BTC]) == set(range(15_000, 20_000))
            assert {each for each, _ in store.loaded} == {BTC}
            assert pipeline.statistics.value.complete == 2
    (logged,) = events(logs, "files_changed")
    assert (logged["instrument"], logged["days"]) == ("spot:BTCUSDT", [DAY.isoformat()])


async def test_a_crash_after_a_reload_starts_under_the_new_spec(autojump_clock: MockClock) -> None:
    world = daemon()
    make_lively(world)
    async with running(world) as pipeline:
        await trio.sleep(10)
        reload(pipeline, BTC, ETH, poll_s=5.0)
        await trio.sleep(10)
        world.exchange.misbehaves = [Misbehaviour(crash)]
        await trio.sleep(20)
        assert pipeline.statistics.value.complete == 2
        world.exchange.asked.clear()
        await trio.sleep(60)
        assert len(world.exchange.asked) >= 22


async def test_a_reload_between_two_starts_is_not_lost(autojump_clock: MockClock) -> None:
    world = daemon()
    async with running(world) as pipeline:
        await trio.sleep(10)
        world.exchange.misbehaves = [Misbehaviour(crash)]
        world.store.fails["load"] = StoreError("Input/output error")
        await trio.sleep(35)
        reload(pipeline, ETH, weight_share=0.5)
        world.store.fails.clear()
        await trio.sleep(60)
        assert world.store.ids(ETH) == world.exchange.tapes[ETH].ids
        assert pipeline.statistics.value.instruments == 1
        assert pipeline.governor.statistics.value[Market.SPOT].allowed == 3000, "half of 6000"


@pytest.mark.parametrize("at_s", [0.0, 0.02, 0.3, 5.0])
async def test_a_reload_and_a_stop_at_the_same_moment(at_s: float, autojump_clock: MockClock) -> None:
    world = daemon(60_000)

    def both(pipeline: Pipeline) -> None:
        reload(pipeline, BTC, ETH, max_concurrent=9)
        pipeline.stop.set()

    await world.run(both, after_s=at_s)
    assert trio.current_time() <= at_s + 1


# -- midnight, and clocks that are wrong


def over_midnight(**changed: object) -> World:
    """Ten minutes before midnight; a trade every second."""
    world = daemon(**changed)  # type: ignore[arg-type]
    world.exchange.epoch_ms = DAY_MS + MS_PER_DAY - 600_000
    world.exchange.grows = True
    world.exchange.tapes = {BTC: Tape.even(5000, start_ms=world.exchange.epoch_ms - 1_000_000, step_ms=1000)}
    return world


TOMORROW = DAY + timedelta(days=1)


async def test_at_midnight_yesterday_is_sealed_and_today_opened(autojump_clock: MockClock) -> None:
    world = over_midnight()
    with capture_logs() as logs:
        async with running(world) as pipeline:
            await trio.sleep(595)
            assert not world.store.record(BTC, DAY).closed
            await trio.sleep(70)
            assert world.store.record(BTC, DAY).sealed
            assert world.store.record(BTC, TOMORROW).opened
            assert not world.store.record(BTC, TOMORROW).closed
            await trio.sleep(1000)
            stored = world.store.ids(BTC)
            assert stored == world.exchange.tapes[BTC].ids[: len(stored)]
            assert len(stored) > 2600
            assert pipeline.statistics.value.complete == 1
    assert [each["day"] for each in events(logs, "day_turned")] == [TOMORROW.isoformat()]
    assert events(logs, "pipeline_crashed") == []


async def test_yesterday_stays_open_until_the_first_trade_of_today_proves_its_end(autojump_clock: MockClock) -> None:
    world = over_midnight()
    before = world.exchange.tapes[BTC].head(1500)
    after_ms = DAY_MS + MS_PER_DAY + 900_000
    world.exchange.tapes = {BTC: Tape.of(0, [*before.times, *range(after_ms, after_ms + 500_000, 1000)])}
    async with running(world):
        await trio.sleep(1400)
        assert await world.store.days(BTC) == [DAY]
        assert not world.store.record(BTC, DAY).closed
        # Its first trade comes after 1,500 s, and is asked for within LONGEST_REST_S.
        await trio.sleep(100 + LONGEST_REST_S + 10)
        assert world.store.record(BTC, DAY).sealed
        assert world.store.record(BTC, TOMORROW).opened


async def test_old_days_are_retired_at_midnight(autojump_clock: MockClock) -> None:
    world = over_midnight()
    world.exchange.tapes = {BTC: Tape.even(9000, start_ms=DAY_MS - 2 * MS_PER_DAY + 1000, step_ms=60_000)}
    pipeline = world.pipeline()
    object.__setattr__(pipeline, "spec", replace(pipeline.spec, days=2, keep_days=2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_pipeline, pipeline)
        await trio.sleep(590)
        assert world.store.deleted == []
        await trio.sleep(200)
        assert world.store.deleted == [(BTC, DAY - timedelta(days=2))]
        pipeline.stop.set()


@pytest.mark.parametrize("hours", [2, -2, 26, -26])
async def test_an_exchange_whose_clock_steps_does_no_harm(hours: int, autojump_clock: MockClock) -> None:
    """The host's was stepped by NTP while the exchange's stayed, or the other way round: seen from here alike."""
    world = over_midnight()
    world.exchange.tapes = {BTC: Tape.even(9000, start_ms=DAY_MS - 40 * 3_600_000, step_ms=30_000)}
    with capture_logs() as logs:
        async with running(world) as pipeline:
            await trio.sleep(100)
            world.exchange.epoch_ms += hours * 3_600_000
            await trio.sleep(3600)
            stored = world.store.ids(BTC)
            assert stored == list(range(stored[0], stored[-1] + 1)), "no hole"
            assert world.store.record(BTC, DAY).opened
            assert pipeline.statistics.value.complete == 1
            visible = world.exchange.tapes[BTC].until(world.exchange.now_ms)
            if hours > 0:
                assert stored[-1] >= visible.ids[-1] - 3
            world.exchange.epoch_ms -= hours * 3_600_000
            await trio.sleep(7200)
            assert pipeline.statistics.value.complete == 1
            assert not events(logs, "pipeline_crashed")


@pytest.mark.parametrize("days_off", [-1, 1, 30])
async def test_a_host_whose_clock_is_days_off_keeps_the_exchanges_day(days_off: int, autojump_clock: MockClock) -> None:
    world = over_midnight(wall_error_ms=days_off * float(MS_PER_DAY))
    with capture_logs() as logs:
        async with running(world):
            await trio.sleep(700)
            assert world.store.record(BTC, DAY).sealed
            assert world.store.record(BTC, TOMORROW).opened
            assert await world.store.days(BTC) == [DAY, TOMORROW]
    assert len(events(logs, "host_clock_wrong")) == 1


async def test_a_crash_at_midnight_loses_nothing(autojump_clock: MockClock) -> None:
    world = over_midnight()
    async with trio.open_nursery() as nursery:
        pipeline = world.pipeline()
        nursery.start_soon(run_pipeline, pipeline)
        nursery.start_soon(later, 612.0, lambda _: world.exchange.misbehaves.append(Misbehaviour(crash)), pipeline)
        await trio.sleep(800)
        stored = world.store.ids(BTC)
        assert stored == world.exchange.tapes[BTC].ids[: len(stored)]
        assert world.store.record(BTC, DAY).sealed
        pipeline.stop.set()
