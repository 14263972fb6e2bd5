"""The keeper saves at once what a restart must know, and now and then what is only of interest."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_util import AsyncValue

from backfilld.actors.keeper import SHOWN_EVERY_S, run_keeper
from backfilld.core.markets import Pool
from backfilld.core.monitor.snapshot import Snapshot
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.errors import StoreError
from backfilld.supervisor_governor import LAST_SAVE_S, Keeping, governor_parts, run_governed

Shown = Mapping[Pool, BudgetStatistics]


@dataclass
class Memory:
    """Remembers every save; fails while ``fails`` is set."""

    saved: list[Shown] = field(default_factory=list)
    fails: bool = False

    async def save(self, seen: Snapshot) -> None:
        if self.fails:
            raise StoreError("cannot write: No space left on device")
        self.saved.append(seen.budgets)


def shown_of(used: int, paused_ms: float = 0.0) -> Shown:
    reason = Reason.BANNED if paused_ms else None
    return {Pool.SPOT: BudgetStatistics(6000, "1m", 4800, used, paused_ms=paused_ms, reason=reason)}


@asynccontextmanager
async def keeping(memory: Memory) -> AsyncIterator[AsyncValue[Shown]]:
    value: AsyncValue[Shown] = AsyncValue(shown_of(0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_keeper, value, lambda: Snapshot(0.0, 0.0, budgets=value.value), memory)
        await wait_all_tasks_blocked()
        yield value
        nursery.cancel_scope.cancel()


async def test_a_ban_is_saved_at_once_and_a_count_now_and_then(autojump_clock: MockClock) -> None:
    memory = Memory()
    async with keeping(memory) as value:
        assert memory.saved == [shown_of(0)]
        value.value = shown_of(4)
        await wait_all_tasks_blocked()
        assert memory.saved == [shown_of(0)]
        value.value = banned = shown_of(8, paused_ms=5_000)
        await wait_all_tasks_blocked()
        assert memory.saved == [shown_of(0), banned]
        await trio.sleep(SHOWN_EVERY_S)
        value.value = shown_of(12)
        await wait_all_tasks_blocked()
        assert memory.saved[2:] == [shown_of(12)]


async def test_a_change_too_soon_after_a_save_waits_for_the_rest_of_the_interval_only(
    autojump_clock: MockClock,
) -> None:
    memory = Memory()
    async with keeping(memory) as value:
        await trio.sleep(1)
        value.value = changed = shown_of(4)
        await trio.sleep(SHOWN_EVERY_S - 0.9)
        assert memory.saved == [shown_of(0), changed]


async def test_what_could_not_be_saved_is_saved_with_the_next_change(autojump_clock: MockClock) -> None:
    memory = Memory(fails=True)
    async with keeping(memory) as value:
        value.value = shown_of(8, paused_ms=5_000)
        await wait_all_tasks_blocked()
        memory.fails = False
        value.value = again = shown_of(8, paused_ms=4_900)
        await wait_all_tasks_blocked()
        assert memory.saved == [again]


async def test_what_cannot_be_saved_is_said_once_until_it_could(autojump_clock: MockClock) -> None:
    memory = Memory(fails=True)
    with capture_logs() as logs:
        async with keeping(memory) as value:
            for number, fails in enumerate((True, True, False, True, True)):
                memory.fails = fails
                value.value = shown_of(8, paused_ms=60_000 + number)
                await wait_all_tasks_blocked()
                await trio.sleep(SHOWN_EVERY_S)
    assert len(memory.saved) == 1
    assert [each["event"] for each in logs] == ["governor_unsaved"] * 2


async def test_figures_that_change_all_the_time_are_saved_only_now_and_then(autojump_clock: MockClock) -> None:
    """Also as time goes on: without a pause nothing of consequence changes."""
    memory = Memory()
    async with keeping(memory) as value:
        for used in range(1, 100):
            await trio.sleep(SHOWN_EVERY_S / 10)
            value.value = shown_of(used)
            await wait_all_tasks_blocked()
    assert len(memory.saved) in {10, 11}


@pytest.mark.parametrize("hangs", [False, True])
async def test_the_last_save_says_that_the_process_is_over_and_a_disk_that_hangs_does_not_hold_it_up(
    hangs: bool, autojump_clock: MockClock
) -> None:
    seen: list[bool] = []

    class Last(Memory):
        async def save(self, seen_now: Snapshot) -> None:
            if hangs and seen_now.is_over:
                await trio.sleep_forever()
            seen.append(seen_now.is_over)

    keeping = Keeping(Last(), lambda: Snapshot(0.0, 0.0), nullcontext)
    await run_governed(governor_parts({}), 1, wait_all_tasks_blocked, keeping)
    assert seen == ([False] if hangs else [False, True])
    assert trio.current_time() == (LAST_SAVE_S if hangs else 0)
