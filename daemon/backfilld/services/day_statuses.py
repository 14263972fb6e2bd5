"""What day files say of themselves, read from their footers. Reads, takes no lock, changes nothing.

Years of plain files are read without polars and Arrow, which are imported only for a day that needs them.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from backfilld.core.day.certificate import Certificate
from backfilld.core.model import Instrument, iso
from backfilld.errors import DayLocked, StoreError
from backfilld.services.stored_days import DayStatus
from backfilld.store.atomic import is_there, translated
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.plain_footer import plain_certificate
from backfilld.store.layout import day_file_name, days_in, instrument_directory, journal_directory, journals_in

if TYPE_CHECKING:
    from backfilld.store.format.dayfile import Encoding
    from backfilld.store.manager import BackfillCacheManager


def day_statuses(cache_dir: Path, instrument: Instrument, encoding: "Encoding | None" = None) -> Iterator[DayStatus]:
    """The state of every day stored of an instrument, from what the files say of themselves. Raises StoreError."""
    directory = instrument_directory(cache_dir, instrument)
    is_encrypting = encoding is not None and encoding.keys.writing is not None
    manager: BackfillCacheManager | None = None
    with translated(journal_directory(directory), "list"):
        journals = journals_in(journal_directory(directory))
    with translated(directory, "list"):
        days = days_in(directory)
    if journals:
        manager = _manager(directory, instrument, encoding)
        days = manager.days()
    for day in days:
        path = f"{directory}/{day_file_name(day)}"
        found = None if day in journals else plain_certificate(path, day, instrument)
        if found is not None:
            yield _status(instrument, *found, unencrypted=is_encrypting)
            continue
        manager = manager or _manager(directory, instrument, encoding)
        if (status := day_status(manager, day)) is not None:
            yield status


def day_status(manager: "BackfillCacheManager", day: date) -> DayStatus | None:
    """The state of one day, None if it was deleted since it was listed. A day that is being fetched may have no file
    yet: its size is that of its journal."""
    name, file, size = str(manager.instrument), manager.get_cache_path(day), 0
    try:
        has_file = is_there(file)
        with translated(file, "look at"):
            size = (file if has_file else manager.journal_path(day)).lstat().st_size
        facts, key = manager.opened(day)
    except DayLocked as reason:
        return DayStatus(name, day.isoformat(), "locked", bytes=size, reason=str(reason))
    except (UntrustedFile, StoreError) as reason:
        is_gone = isinstance(reason.__cause__, FileNotFoundError)
        return None if is_gone else DayStatus(name, day.isoformat(), "bad", bytes=size, reason=str(reason))
    is_encrypting = manager.encoding.keys.writing is not None
    return _status(manager.instrument, facts, size, unencrypted=is_encrypting and key is None and has_file)


def _manager(directory: Path, instrument: Instrument, encoding: "Encoding | None") -> "BackfillCacheManager":
    from backfilld.store.manager import BackfillCacheManager  # noqa: PLC0415 - a third of a second

    return BackfillCacheManager(directory, instrument, encoding)


def _status(instrument: Instrument | None, facts: Certificate, size: int, *, unencrypted: bool) -> DayStatus:
    holes = facts.holes
    return DayStatus(
        instrument=str(instrument),
        day=facts.day.isoformat(),
        state="holes" if holes else "sealed" if facts.opened and facts.closed else "whole",
        trades=facts.rows,
        missing=sum(map(len, holes)),
        bytes=size,
        first_id=facts.first_id,
        last_id=facts.last_id,
        first_at=iso(facts.spans[0].first_ms),
        last_at=iso(facts.last_ms),
        holes=[(each.first_id, each.last_id) for each in holes],
        absent=sum(map(len, facts.absent)),
        conflicts=facts.conflicts,
        findings=facts.findings,
        unencrypted=unencrypted,
        sources=sorted({each.source.name for each in facts.sources}),
        lowest_start=facts.lowest_start,
        highest_start=facts.highest_start,
    )
