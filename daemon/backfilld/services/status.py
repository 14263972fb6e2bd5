"""What a cache stores, what its daemon last reported, and whether a daemon runs. Reads, takes no lock, changes
nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backfilld.core.markets import Pool
from backfilld.core.model import Instrument
from backfilld.services.stored_days import DayStatus, InstrumentStatus, day_statuses, instrument_statuses
from backfilld.store import BackfillCacheManager
from backfilld.store.daemon_state import Activity, peek_activity
from backfilld.store.format.dayfile import Encoding
from backfilld.store.governor_state import RememberedBudget, peek_remembered
from backfilld.store.layout import instrument_directory, instruments_in


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """The state of a cache directory: every day file, the same put together by instrument, and the last reports of the
    daemon and its governor."""

    days: tuple[DayStatus, ...]
    instruments: tuple[InstrumentStatus, ...]
    budgets: Mapping[Pool, RememberedBudget]
    activity: Activity | None


def cache_status(
    cache_dir: Path, instruments: Sequence[Instrument] | None, encoding: Encoding | None = None
) -> CacheStatus:
    """The state of the day files of these instruments (None: of all), from what the files say of themselves."""
    days = tuple(day for manager in managers(cache_dir, instruments, encoding) for day in day_statuses(manager))
    totals = tuple(instrument_statuses(days))
    return CacheStatus(days, totals, peek_remembered(cache_dir), peek_activity(cache_dir))


def managers(
    cache_dir: Path, instruments: Sequence[Instrument] | None, encoding: Encoding | None = None
) -> Iterator[BackfillCacheManager]:
    """The day files of each of the instruments (None: of all that the cache has)."""
    for instrument in instruments_in(cache_dir) if instruments is None else instruments:
        yield BackfillCacheManager(instrument_directory(cache_dir, instrument), instrument, encoding)
