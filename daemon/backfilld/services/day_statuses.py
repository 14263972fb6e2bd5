"""What day files say of themselves, read from their footers. Reads, takes no lock, changes nothing."""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from backfilld.core.model import Instrument, iso
from backfilld.errors import DayLocked, StoreError
from backfilld.services.stored_days import DayStatus
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.layout import instrument_directory, instruments_in
from backfilld.store.manager import BackfillCacheManager


def managers(
    cache_dir: Path, instruments: Sequence[Instrument] | None, encoding: Encoding | None = None
) -> Iterator[BackfillCacheManager]:
    """The day files of each of the instruments (None: of all that the cache has)."""
    for instrument in instruments_in(cache_dir) if instruments is None else instruments:
        yield BackfillCacheManager(instrument_directory(cache_dir, instrument), instrument, encoding)


def day_statuses(manager: BackfillCacheManager) -> Iterator[DayStatus]:
    """The state of every day file of an instrument, from what the files say of themselves."""
    return (status for day in manager.days() if (status := day_status(manager, day)) is not None)


def day_status(manager: BackfillCacheManager, day: date) -> DayStatus | None:
    """The state of one day file, None if it was deleted since it was listed."""
    name, path = str(manager.instrument), manager.get_cache_path(day)
    if not path.exists():
        return None
    size = path.stat().st_size
    try:
        facts, key = manager.opened(day)
    except DayLocked as reason:
        return DayStatus(name, day.isoformat(), "locked", bytes=size, reason=str(reason))
    except (UntrustedFile, StoreError) as reason:
        return DayStatus(name, day.isoformat(), "bad", bytes=size, reason=str(reason))
    missing = sum(map(len, facts.holes))
    return DayStatus(
        instrument=name,
        day=day.isoformat(),
        state="sealed" if facts.sealed else "holes" if missing else "whole",
        trades=facts.rows,
        missing=missing,
        bytes=size,
        first_id=facts.first_id,
        last_id=facts.last_id,
        first_at=iso(facts.spans[0].first_ms),
        last_at=iso(facts.last_ms),
        holes=[(each.first_id, each.last_id) for each in facts.holes],
        absent=sum(map(len, facts.absent)),
        conflicts=facts.conflicts,
        findings=facts.findings,
        unencrypted=key is None and manager.encoding.keys.writing is not None,
        sources=sorted({each.source.name for each in facts.sources}),
    )
