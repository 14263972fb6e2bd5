"""The keeper: saves the state that the governor must not lose, and the state that other processes read.

Owns when that is saved: at once where a restart without it would break a pause or a limit, now and then otherwise.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import structlog
import trio
from trio_util import AsyncValue

from backfilld.core.markets import Pool
from backfilld.core.monitor.snapshot import Snapshot
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.errors import StoreError
from backfilld.ports import StateFile

log = structlog.get_logger()

SHOWN_EVERY_S = 5.0

HEARTBEAT_S = 15.0
"""The state is saved this often even without a change, so that a reader sees that the daemon runs."""


def _shielded() -> AbstractContextManager[object]:
    return trio.CancelScope(shield=True)


async def run_keeper(
    shown: AsyncValue[Mapping[Pool, BudgetStatistics]],
    snapshot: Callable[[], Snapshot],
    memory: StateFile,
    shielded: Callable[[], AbstractContextManager[object]] = _shielded,
) -> None:
    """Save every change, until cancelled. A failure is logged once; the save is tried again with every change.

    A save that has begun is ``shielded`` from the cancellation.
    """
    lasting: object = None
    saved_at = -SHOWN_EVERY_S
    is_failing = False
    seen: object = None
    until_due_s = HEARTBEAT_S
    while True:
        if shown.value is seen:
            with trio.move_on_after(until_due_s):
                await shown.wait_transition()
        until_due_s = HEARTBEAT_S
        seen = statistics = shown.value
        now = trio.current_time()
        of_consequence = {
            # The end of a pause to the second; without a pause there is none, not the clock itself.
            pool: (each.reason, len(each.bans_ms_ago), _end_s(each, now), each.learned, _limits(each))
            for pool, each in statistics.items()
        }
        if of_consequence == lasting and now < saved_at + SHOWN_EVERY_S:
            until_due_s = saved_at + SHOWN_EVERY_S - now
            continue
        try:
            with shielded():
                await memory.save(snapshot())
        except StoreError as error:
            if not is_failing:
                log.warning("governor_unsaved", error=str(error))
            is_failing = True
            continue
        lasting, saved_at, is_failing = of_consequence, now, False


def _end_s(budget: BudgetStatistics, now: float) -> int | None:
    return round(now + budget.paused_ms / 1000) if budget.paused_ms else None


def _limits(budget: BudgetStatistics) -> dict[str, int]:
    return {name: limit for name, (limit, _) in budget.met.items()}
