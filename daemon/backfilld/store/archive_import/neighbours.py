"""What the days beside a day say of its ends: which ids it can have, and which are known to begin a day."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import polars as pl

from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.markets import RULES
from backfilld.core.model import INT64_MAX, PAGE_ROWS, IdRange, Market, day_stop_ms
from backfilld.errors import ArchiveError, DayLocked
from backfilld.store.archive_import.archive_csv import trade_frames
from backfilld.store.archive_import.archive_findings import ANY_ID
from backfilld.store.archive_import.archivefile import ArchiveDay
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.manager import BackfillCacheManager


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """``within`` are the ids that neither neighbour has; those from ``behind_id`` on are the next day's, unless their
    time speaks against it. ``day_starts`` as in :class:`backfilld.core.day.certificate`."""

    within: IdRange = ANY_ID
    behind_id: int = INT64_MAX
    day_starts: frozenset[DayStart] = field(default_factory=frozenset)


def neighbourhood(
    manager: BackfillCacheManager,
    day: date,
    following: Path | None,
    before: Certificate | None = None,
    after: Certificate | None = None,
    known_starts: Collection[DayStart] = (),
) -> Neighbourhood:
    """What the day files beside ``day`` say of it, and the published file of the day ``following`` it, if it is
    there. ``before`` and ``after`` are certificates of its neighbours that are stored elsewhere. No id of the day lies
    far outside of the ``known_starts`` of it and of other days: a file with another symbol's rows has none within."""
    before = _facts(manager, day - ONE_DAY) or before
    after = _facts(manager, day + ONE_DAY) or after
    starts = set() if following is None else _starts_after(following, day)
    # Time may go back over a midnight, so that a start is a few ids off; those of another symbol are far away.
    first_id = max((each.first_id - PAGE_ROWS for each in known_starts if each.day <= day), default=ANY_ID.first_id)
    last_id = min((each.first_id - 1 + PAGE_ROWS for each in known_starts if each.day > day), default=ANY_ID.last_id)
    first_id = max(first_id, ANY_ID.first_id)
    if first_id > last_id:
        first_id, last_id = ANY_ID.first_id, ANY_ID.last_id
    if before is not None:
        first_id = max(first_id, before.last_id + 1)
        start = before.last_id + 1 if before.next_first_id is None else before.next_first_id
        starts.add(DayStart(day, start))
    behind_id = INT64_MAX if after is None or after.first_id <= first_id else after.first_id
    if after is not None and after.first_id > first_id:
        last_id = min(last_id, after.first_id - 1) if after.opened else last_id
        starts.add(DayStart(after.day, after.first_id))
    return Neighbourhood(IdRange(first_id, last_id), behind_id, frozenset(starts))


def ids_to_take(
    manager: BackfillCacheManager,
    day: date,
    path: Path,
    within: IdRange,
    *,
    is_first: bool = False,
    before: Certificate | None = None,
    known_starts: Collection[DayStart] = (),
) -> IdRange:
    """Which ids to take of the day published at ``path``, of those ``within``.

    Its lowest is left to REST unless it is the start of the day or follows the last one of the day before: the
    exchange has put an id of that day on another trade of this one, and a file that ends early does not show that.
    Where no day before is stored it is taken and proves nothing, if nobody asked for that day (``is_first``: the plan
    asks for its last trade) or REST would not answer, as on the futures.
    """
    before, own = _facts(manager, day - ONE_DAY) or before, _facts(manager, day)
    market = manager.instrument.market if manager.instrument else Market.SPOT
    if before is None and (is_first or not RULES[market].answers_for_all_time):
        return within
    try:
        lowest = ArchiveDay(path, day, within=within).first_id()
    except ArchiveError:
        return within
    follows = before is not None and lowest in {before.last_id + 1, before.next_first_id}
    is_start = any(each.day == day and each.first_id == lowest for each in known_starts)
    if (
        lowest is None
        or lowest == within.last_id
        or follows
        or is_start
        or (own is not None and own.first_id <= lowest)
    ):
        return within
    return IdRange(lowest + 1, within.last_id)


def _facts(manager: BackfillCacheManager, day: date) -> Certificate | None:
    if not manager.is_stored(day):
        return None
    try:
        return manager.facts(day)
    except (UntrustedFile, DayLocked):
        return None


def _starts_after(path: Path, day: date) -> set[DayStart]:
    """A start for each id at the beginning of a published file that has a time after ``day``: the lowest is the start
    of the next day if the last id of ``day`` is the one before it."""
    try:
        head = next(trade_frames(path))[:PAGE_ROWS]
    except (ArchiveError, StopIteration):
        return set()
    return {DayStart(day + ONE_DAY, each) for each in head.filter(pl.col("T") >= day_stop_ms(day))["a"]}
