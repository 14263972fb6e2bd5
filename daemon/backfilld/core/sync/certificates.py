"""The certificates of one instrument's days that are in memory.

Owns which days must be read from disk before a plan is made. Must not read anything.
"""

from bisect import bisect_left, insort
from collections.abc import Set as AbstractSet
from datetime import date

from backfilld.core.backfill.neighbours import A_JUMP
from backfilld.core.day.certificate import REST, STREAM, Certificate
from backfilld.core.ids import IdSet


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

    def believed(self, written: AbstractSet[date]) -> IdSet:
        """The ids of the days whose rows need no answers that speak for them; those ``written`` by this process do,
        until they are sealed. Nothing is proven of rows before enough answers speak for them. So days that follow each
        other are believed if the first of them has a proven beginning, and others if they came from the archive."""
        found, before = list[Certificate](), None
        for record in sorted(self.by_day.values(), key=lambda each: each.day):
            goes_on = before is not None and 0 <= record.first_id - before.last_id <= A_JUMP
            is_proven = bool(found) and found[-1] is before if goes_on else record.opened
            is_from_rest = all(each.source in {REST, STREAM} for each in record.sources)
            if (is_proven or not is_from_rest) and (record.sealed or record.day not in written):
                found.append(record)
            before = record
        return IdSet.of(span.ids for record in found for span in record.spans)

    def unproven_beside(self, doubted: IdSet, written: AbstractSet[date]) -> frozenset[date]:
        """The days of which nothing is proven and that adjoin doubted ids: they came with them."""
        believed = self.believed(written)
        return frozenset(
            day
            for day, each in self.by_day.items()
            if not (each.sealed or each.coverage & believed)
            and any(
                ids.first_id - A_JUMP <= each.last_id and each.first_id <= ids.last_id + A_JUMP
                for ids in doubted.ranges
            )
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
