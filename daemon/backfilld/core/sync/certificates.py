"""The certificates of one instrument's days that are in memory.

Owns which days must be read from disk before a plan is made. Must not read anything.
"""

from bisect import bisect_left, insort
from collections.abc import Set as AbstractSet
from datetime import date

from backfilld.core.day.certificate import Certificate


class Certificates:
    """``by_day`` has the stored days. Rows of the days in ``unsealed`` may wait in a journal; those of a sealed day are
    in its file."""

    def __init__(self) -> None:
        self.by_day: dict[date, Certificate] = {}
        self.unsealed: set[date] = set()
        self._ordered: list[date] | None = None
        self._read: set[date] = set()

    def limit_to(self, needed: AbstractSet[date]) -> tuple[date, ...]:
        """Forget all other days. Return those that must be read, ascending."""
        self._read &= needed
        self._ordered = None
        self.by_day = {day: record for day, record in self.by_day.items() if day in needed}
        return tuple(sorted(needed - self._read))

    def loaded(self, day: date, record: Certificate | None) -> None:
        """Take the certificate of a day that was read, None if it has no file that can be trusted."""
        self._read.add(day)
        if record is not None:
            self.stored(record)

    def stored(self, record: Certificate) -> None:
        """Take the certificate of a day on disk."""
        self._read.add(record.day)
        if record.day not in self.by_day and self._ordered is not None:
            insort(self._ordered, record.day)
        self.by_day[record.day] = record
        if record.sealed:
            self.unsealed.discard(record.day)
        else:
            self.unsealed.add(record.day)

    def sharing(self, record: Certificate) -> tuple[Certificate, ...]:
        """Those of the two nearest days that have ids in common with this one."""
        if self._ordered is None:
            self._ordered = sorted(self.by_day)
        at = bisect_left(self._ordered, record.day)
        days = (*self._ordered[max(0, at - 1) : at], *self._ordered[at + (record.day in self.by_day) :][:1])
        beside = (self.by_day[day] for day in days)
        return tuple(
            each
            for each in beside
            if each.first_id <= record.last_id and record.first_id <= each.last_id and each.coverage & record.coverage
        )

    def removed(self, day: date) -> None:
        """The file of the day is gone."""
        self.by_day.pop(day, None)
        self._ordered = None

    def altered(self, days: AbstractSet[date]) -> AbstractSet[date]:
        """Forget these days, so that they are read again. Return those that were known."""
        known = days & self._read
        self._read -= known
        self._ordered = None
        self.by_day = {day: record for day, record in self.by_day.items() if day not in known}
        return known
