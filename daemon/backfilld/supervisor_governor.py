"""The governor under the supervisor: its channel, its actor and its keeper.

Owns their lifetime, which is longer than the pipeline's: what the exchange was promised outlives a crash.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace

import trio
from trio_util import AsyncValue

from backfilld.actors.governor import GovernorStatistics, run_governor
from backfilld.actors.keeper import run_keeper
from backfilld.actors.permits import Governor, GovernorMessage
from backfilld.core.markets import Pool
from backfilld.core.monitor.snapshot import Snapshot
from backfilld.core.weight.budget import Budget
from backfilld.errors import StoreError
from backfilld.ports import StateFile

LAST_SAVE_S = 1.0
"""A disk that hangs does not hold up the end of the process for longer."""


@dataclass(frozen=True, slots=True, eq=False)
class GovernorParts:
    """The parts of a governor that has not begun: the handle that asks it, inbox, budgets, and what it shows."""

    handle: Governor
    inbox: trio.MemoryReceiveChannel[GovernorMessage]
    budgets: Mapping[Pool, Budget]
    statistics: AsyncValue[GovernorStatistics] = field(default_factory=lambda: AsyncValue({}))


@dataclass(frozen=True, slots=True)
class Keeping:
    """What the keeper needs: where to save, what to save, and what protects a save from cancellation."""

    memory: StateFile
    snapshot: Callable[[], Snapshot]
    shielded: Callable[[], AbstractContextManager[object]]


def governor_parts(budgets: Mapping[Pool, Budget]) -> GovernorParts:
    """Open the channel of a governor of these budgets."""
    # Never full: who asks waits for the answer before asking again.
    send, inbox = trio.open_memory_channel[GovernorMessage](math.inf)
    return GovernorParts(Governor(send), inbox, budgets)


async def run_governed(
    governor: GovernorParts, max_in_flight: int, work: Callable[[], Awaitable[object]], keeping: Keeping | None = None
) -> None:
    """Run the governor while ``work`` runs, and its keeper until the governor has ended; then save that all is over."""
    async with trio.open_nursery() as keepers:
        if keeping is not None:
            keepers.start_soon(run_keeper, governor.statistics, keeping.snapshot, keeping.memory, keeping.shielded)
        async with trio.open_nursery() as governors:
            governors.start_soon(run_governor, governor.inbox, governor.budgets, max_in_flight, governor.statistics)
            await work()
            governor.handle.close()
        keepers.cancel_scope.cancel()
    if keeping is not None:
        with trio.move_on_after(LAST_SAVE_S), suppress(StoreError):
            await keeping.memory.save(replace(keeping.snapshot(), is_over=True))
