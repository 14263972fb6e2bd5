"""What the days beside a day tell of its ends: which ids it can have, and which are known to begin a day."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from backfilld.cache.archive_csv import trade_frames
from backfilld.cache.archive_findings import ANY_ID
from backfilld.cache.certificate import DayFacts, UntrustedFile
from backfilld.cache.manager import BackfillCacheManager
from backfilld.core.model import PAGE_ROWS, IdRange, day_stop_ms
from backfilld.errors import ArchiveError


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """``within`` are the ids that neither neighbour has; ``day_starts`` as in :class:`backfilld.core.daybook`."""

    within: IdRange = ANY_ID
    day_starts: frozenset[int] = field(default_factory=frozenset)


def neighbourhood(manager: BackfillCacheManager, day: date, following: Path | None) -> Neighbourhood:
    """What the day files beside ``day`` tell of it, and the published file of the day ``following`` it, if it is
    there."""
    before, after = _facts(manager, day - timedelta(days=1)), _facts(manager, day + timedelta(days=1))
    starts = set() if following is None else _ids_of_the_next_day(following, day)
    first_id, last_id = ANY_ID.first_id, ANY_ID.last_id
    if before is not None:
        first_id = before.last_id + 1
        starts |= {first_id} if before.chain.next_first_id is None else {before.chain.next_first_id}
    if after is not None and after.first_id > first_id:
        last_id = after.first_id - 1
        starts.add(after.first_id)
    return Neighbourhood(IdRange(first_id, last_id), frozenset(starts))


def _facts(manager: BackfillCacheManager, day: date) -> DayFacts | None:
    if not manager.get_cache_path(day).exists():
        return None
    try:
        return manager.facts(day)
    except UntrustedFile:
        return None


def _ids_of_the_next_day(path: Path, day: date) -> set[int]:
    """The ids at the beginning of a published file that have a time after ``day``: the lowest begins a day if the last
    id of ``day`` is the one before it."""
    try:
        head = next(trade_frames(path))[:PAGE_ROWS]
    except (ArchiveError, StopIteration):
        return set()
    return set(head.filter(pl.col("T") >= day_stop_ms(day))["a"])
