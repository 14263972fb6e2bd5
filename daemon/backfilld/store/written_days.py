"""Day files that are, byte for byte, as they were written: for readers that decode them past this program's door, as
polars does, which checks no sums.

A file that this process has read, or that was noted when it was written or read in full
(:mod:`backfilld.store.known_days`), is not read again until it changes. Takes no lock and changes nothing.
"""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

from backfilld.core.day.certificate import Certificate
from backfilld.store.known_days import KnownDays
from backfilld.store.layout import FullStamp, full_stamp
from backfilld.store.manager import BackfillCacheManager

_MOST_KEPT = 8192
"""Files whose stamps are kept: 20 years of days."""

_read: dict[Path, FullStamp] = {}
"""The files that this process has read, as they were then."""


@dataclass(frozen=True)
class WrittenDays:
    """The days of one instrument."""

    manager: BackfillCacheManager
    state_dir: Path

    @cached_property
    def _known(self) -> KnownDays:
        return KnownDays(self.state_dir, self.manager)

    def certificate(self, day: date) -> Certificate:
        """The certificate of a day whose file is as it was written. Raises UntrustedFile, DayLocked, StoreError."""
        path = self.manager.get_cache_path(day)
        stamp = full_stamp(path)
        if stamp is None or _read.get(path) == stamp or self._known.certificates([day]):
            return self.manager.facts(day)
        with self.manager.reading(day) as reader:
            certificate = reader.checked()
        if len(_read) >= _MOST_KEPT:
            _read.clear()
        _read[path] = stamp
        return certificate
