"""What day files say of themselves, read from their footers. Reads, takes no lock, changes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

from backfilld.core.day.certificate import Certificate
from backfilld.core.model import Instrument, iso
from backfilld.errors import DayLocked, StoreError
from backfilld.services.stored_days import DayStatus
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.known_days import KnownDays
from backfilld.store.layout import instrument_directory, instruments_in, state_directory
from backfilld.store.manager import BackfillCacheManager


def managers(
    cache_dir: Path, instruments: Sequence[Instrument] | None, encoding: Encoding | None = None
) -> Iterator[BackfillCacheManager]:
    """The day files of each of the instruments (None: of all that the cache has)."""
    for instrument in instruments_in(cache_dir) if instruments is None else instruments:
        yield BackfillCacheManager(instrument_directory(cache_dir, instrument), instrument, encoding)


def day_statuses(manager: BackfillCacheManager) -> Iterator[DayStatus]:
    """The state of every day stored of an instrument, from what the files say of themselves."""
    days = manager.days()
    known = _known(manager, days)
    return (status for day in days if (status := day_status(manager, day, known.get(day))) is not None)


def _known(manager: BackfillCacheManager, days: Sequence[date]) -> Mapping[date, Certificate]:
    """What a daemon has noted of files that have not changed since. Where there are keys, each file is opened: only its
    footer says whether it is encrypted."""
    cache_dir = manager.directory.parent.parent
    return {} if manager.encoding.keys.keys else KnownDays(state_directory(cache_dir), manager).certificates(days)


def day_status(manager: BackfillCacheManager, day: date, known: Certificate | None = None) -> DayStatus | None:
    """The state of one day, None if it was deleted since it was listed. It is not opened for a ``known`` certificate. A
    day that is being fetched may have no file yet: its size is that of its journal."""
    name, has_file = str(manager.instrument), known is not None or manager.get_cache_path(day).exists()
    try:
        size = (manager.get_cache_path(day) if has_file else manager.journal_path(day)).stat().st_size
    except OSError:
        return None
    try:
        facts, key = (known, None) if known is not None else manager.opened(day)
    except DayLocked as reason:
        return DayStatus(name, day.isoformat(), "locked", bytes=size, reason=str(reason))
    except (UntrustedFile, StoreError) as reason:
        return DayStatus(name, day.isoformat(), "bad", bytes=size, reason=str(reason))
    holes = facts.holes
    missing = sum(map(len, holes))
    return DayStatus(
        instrument=name,
        day=day.isoformat(),
        state="holes" if holes else "sealed" if facts.opened and facts.closed else "whole",
        trades=facts.rows,
        missing=missing,
        bytes=size,
        first_id=facts.first_id,
        last_id=facts.last_id,
        first_at=iso(facts.spans[0].first_ms),
        last_at=iso(facts.last_ms),
        holes=[(each.first_id, each.last_id) for each in holes],
        absent=sum(map(len, facts.absent)),
        conflicts=facts.conflicts,
        findings=facts.findings,
        unencrypted=key is None and has_file and manager.encoding.keys.writing is not None,
        sources=sorted({each.source.name for each in facts.sources}),
        lowest_start=facts.lowest_start,
        highest_start=facts.highest_start,
    )
