"""What a cache stores, what its daemon last reported, and whether a daemon runs. Reads, takes no lock, changes
nothing."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backfilld.adapters.live_report import LiveReport, ask_report
from backfilld.core.markets import Pool
from backfilld.core.model import Instrument
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.services.stored_days import DayStatus, InstrumentStatus, instrument_statuses
from backfilld.store.daemon_state import Activity, peek_activity
from backfilld.store.layout import days_in, instrument_directory, instruments_in, state_directory
from backfilld.store.lock import writer_of

if TYPE_CHECKING:
    from backfilld.store.format.dayfile import Encoding


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """What the daemon last reported of a pool at ``saved_ms``, and what it must remember of it. Times are the host's,
    in ms since the epoch."""

    saved_ms: float
    paused_until_ms: float | None
    reason: Reason | None
    bans_ms: tuple[float, ...]
    statistics: BudgetStatistics


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """The state of a cache directory: every day file, the same put together by instrument, the last reports of the
    daemon and its governor, the process that writes to the cache now, what it says of its live side at this moment, if
    it follows streams, and whether it was asked and stood still."""

    days: tuple[DayStatus, ...]
    instruments: tuple[InstrumentStatus, ...]
    budgets: Mapping[Pool, PoolStatus]
    activity: Activity | None
    daemon_pid: int | None = None
    live: LiveReport | None = None
    stands_still: bool = False


def cache_status(
    cache_dir: Path, state_dir: Path, instruments: Sequence[Instrument] | None, encoding: "Encoding | None" = None
) -> CacheStatus:
    """The state of the day files of these instruments (None: of all), from what the files say of themselves, and of
    the budgets that a state directory remembers."""
    days = tuple(_days(cache_dir, instruments, encoding))
    totals = tuple(instrument_statuses(days))
    activity = peek_activity(cache_dir)
    daemon_pid = writer_of(cache_dir)
    live, stands_still = None, False
    try:
        live = None if daemon_pid is None else ask_report(state_directory(cache_dir))
    except TimeoutError:
        stands_still = True
    return CacheStatus(days, totals, dict(_pools(state_dir, activity)), activity, daemon_pid, live, stands_still)


def _days(
    cache_dir: Path, instruments: Sequence[Instrument] | None, encoding: "Encoding | None"
) -> Iterator[DayStatus]:
    wanted = list(instruments_in(cache_dir)) if instruments is None else instruments
    if not any(days_in(instrument_directory(cache_dir, each)) for each in wanted):
        return
    from backfilld.services.day_statuses import day_statuses  # noqa: PLC0415 - not light

    for each in wanted:
        yield from day_statuses(cache_dir, each, encoding)


def _pools(state_dir: Path, activity: Activity | None) -> Iterator[tuple[Pool, PoolStatus]]:
    if activity is None:
        return
    from backfilld.store.governor_state import RememberedBudget, peek_remembered  # noqa: PLC0415 - not light

    remembered = peek_remembered(state_dir, time.time() * 1000)
    for pool in Pool:
        shown = activity.budgets.get(str(pool))
        if shown is not None:
            kept = remembered.get(pool, RememberedBudget())
            yield pool, PoolStatus(activity.saved_ms, kept.paused_until_ms, kept.reason, kept.bans_ms, shown)
