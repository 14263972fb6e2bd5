"""What the service manager hears of a pipeline on fakes, in virtual time: readiness, status, reloads, life."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import cast

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from backfilld import supervisor, supervisor_governor
from backfilld.adapters.systemd import Notifier
from backfilld.core.backfill.questions import Page, Tail
from backfilld.core.model import MS_PER_DAY, Instrument
from backfilld.core.monitor.pulse import Pulse
from backfilld.core.monitor.snapshot import DiskTrouble
from backfilld.core.retry import Restarts
from backfilld.core.sync.spec import Reload
from backfilld.core.weight.limits import Limit
from backfilld.errors import RateLimited, SettingsError, StoreError, TransientError
from backfilld.pipeline import Pipeline
from backfilld.ports.remote import RemoteDays
from backfilld.settings import Settings
from backfilld.supervisor import run_pipeline
from backfilld.supervisor_remote import Remote
from backfilld.surfaces import logs
from backfilld.surfaces.service import Service, status_line
from tests.fakes import BTC, ETH, SOL, FakeExchange, Misbehaviour, Tape, lose, refuse
from tests.pipelines import World, world_of

WATCHDOG_S = 20.0
PATIENCE_S = 40.0
"""The longest that nothing may move by design is half a minute; ten seconds more are slack."""


class Ear(Notifier):
    """A manager's ear that notes when it heard what."""

    def __init__(self, watchdog_s: float = WATCHDOG_S) -> None:
        super().__init__({"NOTIFY_SOCKET": "@nobody", "WATCHDOG_USEC": str(round(watchdog_s * 1e6))})
        self.heard: list[tuple[float, str]] = []

    def _send(self, messages: list[str]) -> None:
        self.heard += [(trio.current_time(), message.partition("\n")[0]) for message in messages]

    def when(self, word: str) -> list[float]:
        """The instants at which a sentence with that beginning was heard."""
        return [at for at, message in self.heard if message.startswith(word)]

    def longest_silence(self, start: float, stop: float) -> float:
        """The longest time without a sign of life between two instants."""
        signs = [start, *(at for at in self.when("WATCHDOG=1") if start <= at <= stop), stop]
        return max(after - before for before, after in pairwise(signs))

    @property
    def words(self) -> list[str]:
        """What was heard, without the status and what is said over and over."""
        return [message for _, message in self.heard if not message.startswith(("STATUS", "WATCHDOG", "EXTEND"))]


@dataclass
class Scene:
    """A service that attends to a pipeline."""

    world: World
    pipeline: Pipeline
    ear: Ear
    service: Service
    new_settings: list[Settings | SettingsError] = field(default_factory=list)

    @property
    def status(self) -> str:
        """What the manager is shown now."""
        return status_line(self.pipeline.snapshot())


def settings_of(*instruments: Instrument, **values: object) -> Settings:
    return Settings(instruments=tuple(map(str, instruments or (BTC,))), **values)  # type: ignore[arg-type]


@asynccontextmanager
async def served(
    world: World, *, watchdog_s: float = WATCHDOG_S, runs: bool = True, **values: object
) -> AsyncIterator[Scene]:
    """A service at work; all is cancelled at the end."""
    pipeline, ear = world.pipeline(), Ear(watchdog_s)
    answers: list[Settings | SettingsError] = []

    def read_settings() -> Settings:
        answer = answers.pop(0)
        if isinstance(answer, SettingsError):
            raise answer
        return answer

    service = Service(settings_of(*world.instruments, **values), pipeline, ear, read_settings)
    with trio.fail_after(1_000_000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.attend)
            if runs:
                nursery.start_soon(run_pipeline, pipeline)
            try:
                yield Scene(world, pipeline, ear, service, answers)
            finally:
                pipeline.disk.abandon_at(trio.current_time())
                nursery.cancel_scope.cancel()


def daemon(rows: int = 20_000, **changed: object) -> World:
    """A pipeline as the daemon has it."""
    values = {"once": False, "restarts": Restarts(), "is_patient": True, "longest_pause_s": math.inf}
    return world_of(rows, **(values | changed))


def growing(**changed: object) -> World:
    """A daemon whose exchange goes on trading."""
    world = daemon(**changed)  # type: ignore[arg-type]
    world.exchange.grows = True
    start_ms = world.exchange.epoch_ms - 20_000_000
    world.exchange.tapes = {each: Tape.even(30_000, start_ms=start_ms, step_ms=1000) for each in (BTC, ETH, SOL)}
    return world


def limited(rows: int, *, limit: int, **changed: object) -> World:
    """A daemon at an exchange that allows little weight a minute."""
    world = daemon(rows, limit=limit, **changed)
    world.exchange.limits = (Limit(limit, 1, "MINUTE"),)
    return world


# -- readiness


async def test_it_is_ready_once_every_first_backfill_is_complete_and_says_so_once(autojump_clock: MockClock) -> None:
    world = daemon(60_000, workers=1, instruments=(BTC, SOL))
    async with served(world) as scene:
        await trio.sleep(100)
        (ready,) = scene.ear.when("READY=1")
        done = 79 * world.exchange.latency_s
        assert done - 1 < ready < done + 3
        assert scene.ear.words == ["READY=1"]


async def test_until_then_it_asks_for_more_time_again_and_again(autojump_clock: MockClock) -> None:
    """So that TimeoutStartSec is no limit for a long day, as long as we live."""
    world = limited(200_000, workers=1, limit=400)
    async with served(world) as scene:
        await trio.sleep(400)
        (ready,) = scene.ear.when("READY=1")
        asked = scene.ear.when("EXTEND_TIMEOUT_USEC=60000000")
        assert ready > 60
        assert asked[0] == 0.0
        assert max(b - a for a, b in zip(asked, [*asked[1:], ready], strict=True)) <= 1.0
        assert asked[-1] < ready


async def test_started_is_enough_where_the_operator_says_so(autojump_clock: MockClock) -> None:
    async with served(daemon(60_000, workers=1), ready_when="started") as scene:
        await trio.sleep(10)
        assert scene.ear.when("READY=1") == [0.0]
        assert scene.ear.when("EXTEND") == []


@pytest.mark.parametrize("ready_when", ["complete", "started"])
async def test_an_exchange_out_of_reach_never_makes_a_backfill_complete(
    ready_when: str, autojump_clock: MockClock
) -> None:
    """The service stays up, and asks for time, until the exchange is there."""
    world = daemon()
    offline = Misbehaviour(lose(TransientError("no route")), on=lambda *_: True, times=math.inf)
    world.exchange.misbehaves = [offline]
    async with served(world, ready_when=ready_when) as scene:
        await trio.sleep(3600)
        assert len(scene.ear.when("READY=1")) == (ready_when == "started")
        offline.times = 0
        await trio.sleep(60)
        assert len(scene.ear.when("READY=1")) == 1


async def test_one_instrument_that_is_incomplete_keeps_it_from_being_ready(autojump_clock: MockClock) -> None:
    world = daemon(instruments=(BTC, ETH))
    fails = refuse(TransientError("no trades today"))
    is_theirs = lambda each, query: each == ETH and query is not None  # noqa: E731
    world.exchange.misbehaves = [Misbehaviour(fails, is_theirs, times=math.inf)]
    async with served(world) as scene:
        await trio.sleep(100)
        assert scene.ear.when("READY=1") == []
        expected = "1 of 2 instruments complete; 20,000 trades stored; last error: no trades today"
        assert scene.status == expected


async def test_a_symbol_that_is_added_and_not_listed_keeps_no_other_from_being_ready(autojump_clock: MockClock) -> None:
    """The daemon runs on: an instrument that a SIGHUP has added may be listed later."""
    world = daemon(60_000, workers=1)
    async with served(world) as scene:
        await trio.sleep(0.3)
        spec = scene.pipeline.spec
        scene.pipeline.reload.value = Reload(replace(spec, instruments=(BTC, Instrument.parse("spot:NOSUCH"))))
        await trio.sleep(100)
        assert len(scene.ear.when("READY=1")) == 1
        assert not scene.pipeline.stop.is_set()


async def test_without_a_manager_nobody_attends(autojump_clock: MockClock) -> None:
    service = Service(settings_of(BTC), daemon().pipeline(), Notifier({}), settings_of)
    await service.attend()
    service.stopping()
    assert trio.current_time() == 0


async def test_a_stop_before_it_was_ready_does_not_make_it_ready(autojump_clock: MockClock) -> None:
    async with served(daemon(60_000, workers=1)) as scene:
        await trio.sleep(1)
        scene.service.stopping()
        scene.pipeline.stop.set()
        await trio.sleep(20)
        assert scene.ear.words == ["STOPPING=1"]
        assert scene.status == "stopping: saving what is in hand"
        assert max(scene.ear.when("EXTEND")) <= 1.0


# -- status


async def test_the_status_tells_how_far_it_is(autojump_clock: MockClock) -> None:
    world = daemon(60_000, workers=1, instruments=(BTC, ETH))
    async with served(world) as scene:
        await trio.sleep(2.01)
        shown = scene.pipeline.statistics.value
        left = shown.wanted - shown.fetched
        assert scene.status == f"0 of 2 instruments complete; {shown.fetched:,} trades stored; {left:,} to fetch"
        assert shown.fetched > 20_000
        assert left > 20_000
        await trio.sleep(60)
        assert scene.status == "2 of 2 instruments complete; 90,000 trades stored"
        statuses = [message for _, message in scene.ear.heard if message.startswith("STATUS=")]
        assert len(statuses) == len(set(statuses)) >= 4


async def test_the_status_tells_of_a_ban_and_how_long_it_lasts(autojump_clock: MockClock) -> None:
    world = daemon()
    ban = RateLimited("418", retry_after_s=7200, banned=True)
    world.exchange.misbehaves = [Misbehaviour(refuse(ban), on=lambda _, query: isinstance(query, Page))]
    async with served(world) as scene:
        await trio.sleep(5)
        assert "; spot banned for 7200 s" in scene.status


async def test_the_status_tells_of_a_disk_that_fails(autojump_clock: MockClock) -> None:
    async with served(daemon(), runs=False) as scene:
        scene.pipeline.disk.trouble.value = DiskTrouble("No space left on device", 3)
        assert scene.status == "the disk fails, and is tried again: No space left on device"


# -- reloads


@pytest.fixture(autouse=True)
def _level() -> object:
    before = logs._THRESHOLD[0]
    yield
    logs._THRESHOLD[0] = before


async def test_a_reload_is_announced_applied_and_ended(autojump_clock: MockClock) -> None:
    async with served(daemon()) as scene:
        await trio.sleep(20)
        scene.new_settings.append(settings_of(BTC, ETH, log_level="debug"))
        with capture_logs() as events:
            scene.service.reload()
            assert scene.ear.words == ["READY=1", "RELOADING=1", "READY=1"]
            await trio.sleep(20)
        assert scene.world.store.ids(ETH) == scene.world.exchange.tapes[ETH].ids
        (said,) = [event for event in events if event["event"] == "settings_reloaded"]
        assert said["instruments"] == ["spot:BTCUSDT", "spot:ETHUSDT"]
        assert scene.ear.words == ["READY=1", "RELOADING=1", "READY=1"], "readiness is announced once"
        assert logs._THRESHOLD[0] == 10


async def test_a_refused_reload_is_said_ends_ready_and_changes_nothing(autojump_clock: MockClock) -> None:
    async with served(daemon()) as scene:
        await trio.sleep(20)
        scene.new_settings.append(SettingsError("days = -1: input should be greater than or equal to 0"))
        with capture_logs() as events:
            scene.service.reload()
        assert [(each["event"], each["log_level"]) for each in events] == [("reload_refused", "error")]
        assert events[0]["error"] == "days = -1: input should be greater than or equal to 0"
        assert scene.ear.words == ["READY=1", "RELOADING=1", "READY=1"]
        assert scene.pipeline.spec_now is scene.pipeline.spec


async def test_a_reload_before_it_is_ready_does_not_make_it_ready(autojump_clock: MockClock) -> None:
    async with served(daemon(60_000, workers=1)) as scene:
        await trio.sleep(1)
        scene.new_settings.append(settings_of(BTC, max_concurrent=1))
        scene.service.reload()
        await trio.sleep(0.5)
        assert scene.ear.words == ["RELOADING=1"]
        await trio.sleep(10)
        assert scene.ear.words == ["RELOADING=1", "READY=1"]


async def test_a_reload_while_it_stops_is_ignored(autojump_clock: MockClock) -> None:
    async with served(daemon()) as scene:
        await trio.sleep(20)
        scene.pipeline.stop.set()
        with capture_logs() as events:
            scene.service.reload()
        assert [each["event"] for each in events] == ["reload_ignored"]
        assert scene.ear.words == ["READY=1"]
        assert scene.pipeline.reload.value is None


async def test_what_cannot_change_while_it_runs_is_named_and_stays(autojump_clock: MockClock) -> None:
    async with served(daemon()) as scene:
        await trio.sleep(20)
        new = settings_of(BTC, cache_dir="elsewhere", compression="snappy", poll_seconds=7)
        scene.new_settings += [new, new]
        with capture_logs() as events:
            scene.service.reload()
            scene.service.reload()
        named = [each["settings"] for each in events if each["event"] == "restart_needed"]
        assert named == [["cache_dir", "compression"]] * 2, "and named again, for it is still so"
        assert scene.pipeline.spec_now.poll_s == 7


async def test_the_instruments_of_a_reload_are_what_completeness_is_about(autojump_clock: MockClock) -> None:
    async with served(daemon(instruments=(BTC, ETH))) as scene:
        await trio.sleep(20)
        scene.new_settings.append(settings_of(ETH))
        scene.service.reload()
        await trio.sleep(20)
        assert scene.status == "1 of 1 instruments complete; 10,000 trades stored"


# -- signs of life


async def freeze(*_: object, **__: object) -> None:
    await trio.sleep_forever()


def stuck(role: str) -> Callable[[pytest.MonkeyPatch], None]:
    """An actor that does nothing at all, its channels open."""
    place = supervisor_governor if role == "governor" else supervisor
    return lambda patch: patch.setattr(place, f"run_{role}", freeze)


@pytest.mark.parametrize("role", ["governor", "fetcher", "merger", "writer", "reader", "scheduler"])
async def test_an_actor_that_never_does_anything_ends_the_signs_of_life(
    role: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    stuck(role)(monkeypatch)
    async with served(daemon(60_000)) as scene:
        await trio.sleep(1000)
        assert scene.ear.when("WATCHDOG=1")[-1] <= PATIENCE_S + 20 * scene.world.exchange.latency_s + 1


Breakdown = Callable[[World], None]


def fetcher_hangs(world: World) -> None:
    world.exchange.mute = True


def save_hangs(world: World) -> None:
    world.store.delay_s = math.inf


def hangs(operation: str) -> Breakdown:
    """The reader hangs in this operation of the store."""
    return lambda world: setattr(world.store, operation, freeze)


@pytest.mark.parametrize("after_s", [0.3, 50.0])
@pytest.mark.parametrize("breakdown", [fetcher_hangs, save_hangs])
@pytest.mark.parametrize("workers", [1, 4])
async def test_what_gets_stuck_on_the_way_ends_the_signs_of_life_within_the_patience(
    breakdown: Breakdown, after_s: float, workers: int, autojump_clock: MockClock
) -> None:
    """In the first backfill, and in a top-up: an idle pipeline has until its next top-up."""
    world = growing(workers=workers, instruments=(BTC, ETH))
    async with served(world) as scene:
        await trio.sleep(after_s)
        breakdown(world)
        await trio.sleep(1000)
        last = scene.ear.when("WATCHDOG=1")[-1]
        idle_s = 30.0 if after_s > 1 else 0.0
        assert last <= after_s + idle_s + PATIENCE_S + 5
        assert last >= after_s + idle_s / 2


async def test_a_save_that_hangs_is_seen_though_other_instruments_move(autojump_clock: MockClock) -> None:
    """By the watchdog, by STATUS, and by what the state file says."""
    world = growing(instruments=(BTC, ETH))
    async with served(world) as scene:
        await trio.sleep(50)
        world.exchange.tapes = {
            BTC: world.exchange.tapes[BTC],
            ETH: world.exchange.tapes[ETH].until(scene.world.exchange.now_ms),
        }
        save_hangs(world)
        await trio.sleep(1000)
        status = status_line(scene.pipeline.snapshot())
        # Both have trades of before that time; whichever is polled first is saved first.
        stuck = BTC if f"saving {BTC}" in status else ETH
        polls = [each for each, _ in world.exchange.asked if each != stuck]
        assert len(polls) > 15, "the other one goes on"
        assert 50 <= scene.ear.when("WATCHDOG=1")[-1] <= 50 + 60 + PATIENCE_S + 5
        seen = scene.pipeline.snapshot()
        assert f"the disk fails, and is tried again: saving {stuck}" in status_line(seen)
        assert "takes longer than" in (seen.last_error or ""), "as status shows it"


@pytest.mark.parametrize("place", ["disk", "bucket"])
async def test_one_wait_for_the_disk_or_the_bucket_that_does_not_end_ends_the_signs_of_life(
    place: str, autojump_clock: MockClock
) -> None:
    """An archivist's, a push's or a pull's, while there is nothing else to do."""
    remote = Remote(cast("RemoteDays", None))
    pipeline = replace(daemon().pipeline(), remote=remote)
    pipeline.statistics.value = replace(pipeline.statistics.value, rests_until=math.inf)
    pulse, waits = Pulse(PATIENCE_S), pipeline.disk.waits if place == "disk" else remote.waits
    await trio.sleep(1000)
    assert pulse.is_alive(pipeline.snapshot())
    with waits.wait("a push", trio.current_time(), takes_s=20.0):
        await trio.sleep(PATIENCE_S + 19)
        assert pulse.is_alive(pipeline.snapshot())
        await trio.sleep(2)
        assert not pulse.is_alive(pipeline.snapshot())
    assert pulse.is_alive(pipeline.snapshot())


@pytest.mark.parametrize("operation", ["open", "days", "load", "context"])
async def test_a_reader_that_is_stuck_in_the_first_round_ends_the_signs_of_life(
    operation: str, autojump_clock: MockClock
) -> None:
    """In loading what an earlier run has stored, and in adding up the figures, while the top-ups go on."""
    world = daemon()
    async with served(world):
        await trio.sleep(20)
    hangs(operation)(world)
    async with served(world) as scene:
        began = trio.current_time()
        await trio.sleep(1000)
        assert scene.ear.when("WATCHDOG=1")[-1] <= began + PATIENCE_S + 5


@pytest.mark.parametrize("operation", ["altered", "days", "context"])
@pytest.mark.parametrize("make_world", [daemon, growing])
async def test_a_reader_that_is_stuck_after_a_reload_ends_the_signs_of_life(
    operation: str, make_world: Callable[[], World], autojump_clock: MockClock
) -> None:
    """In looking at the files of an instrument that is kept, whose top-ups go on, and in reading those of a new one."""
    world = make_world()
    async with served(world) as scene:
        await trio.sleep(100)
        hangs(operation)(world)
        scene.new_settings.append(settings_of(BTC, ETH))
        scene.service.reload()
        await trio.sleep(1000)
        assert 100 <= scene.ear.when("WATCHDOG=1")[-1] <= 100 + PATIENCE_S + 5


@pytest.mark.parametrize(("operation", "least"), [("load", 20), ("context", 1)])
async def test_a_reader_that_is_slow_and_gets_on_is_lived_through(
    operation: str, least: int, autojump_clock: MockClock
) -> None:
    """Each read takes half of the patience, and all loads many times that. Figures need the newest day alone."""
    world = daemon(days=20)
    start_ms = world.exchange.epoch_ms - 20 * MS_PER_DAY
    world.exchange.tapes = {BTC: Tape.even(20_000, start_ms=start_ms, step_ms=MS_PER_DAY // 1000)}
    async with served(world):
        await trio.sleep(100)
    read, began, reads = getattr(world.store, operation), trio.current_time(), 0

    async def slowly(*arguments: object) -> object:
        nonlocal reads
        reads += 1
        await trio.sleep(PATIENCE_S / 2)
        return await read(*arguments)

    setattr(world.store, operation, slowly)
    async with served(world) as scene:
        await trio.sleep(1000)
        assert reads >= least
        assert scene.ear.longest_silence(began, began + 1000) <= 1.0
        assert len(scene.ear.when("READY=1")) == 1


async def test_a_reader_that_crashed_while_it_was_busy_is_not_taken_for_a_stuck_one(autojump_clock: MockClock) -> None:
    world = daemon()
    world.store.fails["context"] = RuntimeError("a bug")
    async with served(world) as scene:
        await trio.sleep(3)
        world.store.fails.clear()
        await trio.sleep(1000)
        assert scene.ear.longest_silence(0, 1000) <= 1.0
        assert len(scene.ear.when("READY=1")) == 1


async def test_a_daemon_with_nothing_to_do_lives(autojump_clock: MockClock) -> None:
    async with served(daemon(), watchdog_s=4.0) as scene:
        await trio.sleep(7200)
        assert scene.ear.longest_silence(0, 7200) <= 1.0


async def test_a_ban_of_hours_is_lived_through(autojump_clock: MockClock) -> None:
    world = daemon()
    ban = RateLimited("418", retry_after_s=7200, banned=True)
    world.exchange.misbehaves = [Misbehaviour(refuse(ban), on=lambda _, query: isinstance(query, Page))]
    async with served(world) as scene:
        await trio.sleep(7100)
        assert scene.ear.longest_silence(0, 7100) <= 1.0
        assert scene.ear.when("READY=1") == []
        await trio.sleep(200)
        assert scene.ear.longest_silence(0, 7300) <= 1.0
        assert len(scene.ear.when("READY=1")) == 1


async def test_a_fetcher_that_is_stuck_after_a_ban_is_found(autojump_clock: MockClock) -> None:
    world = daemon()
    ban = RateLimited("418", retry_after_s=7200, banned=True)
    world.exchange.misbehaves = [Misbehaviour(refuse(ban), on=lambda _, query: isinstance(query, Page))]
    async with served(world) as scene:
        await trio.sleep(1000)
        world.exchange.mute = True
        await trio.sleep(10_000)
        assert 7200 <= scene.ear.when("WATCHDOG=1")[-1] <= 7200 + 60 + PATIENCE_S


async def test_an_exchange_that_is_out_of_reach_is_lived_through(autojump_clock: MockClock) -> None:
    world = daemon()
    world.exchange.latency_s = 20.0
    world.exchange.misbehaves = [Misbehaviour(lose(TransientError("timed out")), on=lambda *_: True, times=math.inf)]
    async with served(world) as scene:
        await trio.sleep(7200)
        assert scene.ear.longest_silence(0, 7200) <= 1.0


async def test_waiting_for_the_next_minutes_weight_is_lived_through(autojump_clock: MockClock) -> None:
    async with served(limited(200_000, workers=2, limit=40), watchdog_s=4.0) as scene:
        await trio.sleep(1000)
        assert scene.ear.longest_silence(0, 1000) <= 1.0


@pytest.mark.parametrize("request_timeout_seconds", [1, 20])
async def test_a_disk_that_fails_and_is_tried_again_is_lived_through(
    request_timeout_seconds: float, autojump_clock: MockClock
) -> None:
    """However short the patience with a request is."""
    world = growing()
    async with served(world, request_timeout_seconds=request_timeout_seconds) as scene:
        await trio.sleep(100)
        world.store.fails["save"] = StoreError("No space left on device")
        await trio.sleep(3600)
        assert scene.ear.longest_silence(0, 3700) <= 1.0
        assert "No space left on device" in scene.status
        world.store.fails.clear()
        await trio.sleep(100)
        assert scene.status.startswith("1 of 1 instruments complete")


@pytest.mark.parametrize("request_timeout_seconds", [1, 20])
async def test_a_disk_that_cannot_be_read_at_a_restart_is_lived_through(
    request_timeout_seconds: float, autojump_clock: MockClock
) -> None:
    world = growing()
    async with served(world, request_timeout_seconds=request_timeout_seconds) as scene:
        await trio.sleep(100)
        world.store.fails |= {"save": RuntimeError("a bug"), "load": StoreError("Input/output error")}
        await trio.sleep(3600)
        assert scene.ear.longest_silence(0, 3700) <= 1.0
        world.store.fails.clear()
        await trio.sleep(100)
        assert scene.status.startswith("1 of 1 instruments complete")


async def test_without_a_watchdog_no_signs_are_given(autojump_clock: MockClock) -> None:
    async with served(daemon(), watchdog_s=0.0) as scene:
        await trio.sleep(100)
        assert scene.ear.when("WATCHDOG=1") == []
        assert len(scene.ear.when("READY=1")) == 1


async def test_a_fetcher_that_is_stuck_beside_others_that_work_is_found(autojump_clock: MockClock) -> None:
    """The other instrument's top-ups go on, and do not hide it."""
    world = growing(instruments=(BTC, ETH))

    async def trades(instrument: Instrument, query: object) -> object:
        if instrument == ETH and isinstance(query, Tail) and trio.current_time() > 100:
            await trio.sleep_forever()
        return await answer(instrument, query)

    answer: Callable[..., Awaitable[object]] = FakeExchange.trades.__get__(world.exchange)
    world.exchange.trades = trades  # type: ignore[method-assign, assignment]
    async with served(world) as scene:
        await trio.sleep(1000)
        assert 100 <= scene.ear.when("WATCHDOG=1")[-1] <= 130 + PATIENCE_S + 5
