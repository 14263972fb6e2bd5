"""Ids that the exchange passes over: suspected to be absent at the first look, taken for absent after a second one.

Owns the rule: a hole is a defect until the exchange has shown it empty twice, hours apart (reference: no permanent hole
is proven, none can be excluded).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from backfilld.core.daybook import DayRecord, Suspicion
from backfilld.core.ledger import Coverage
from backfilld.core.model import IdRange

SECOND_LOOK_MS = 2 * 3_600_000
"""So long after the first look, the second one counts."""


@dataclass(frozen=True, slots=True)
class Silence:
    """What is to be said of a day: ids absent for good, and ids suspected now."""

    absent: tuple[IdRange, ...] = ()
    suspected: tuple[Suspicion, ...] = ()


NO_SILENCE = Silence()


class Silences:
    """The suspicions of one plan, as of ``now_ms``."""

    def __init__(self, suspected: Iterable[Suspicion], now_ms: int) -> None:
        self._suspected = tuple(suspected)
        ripe = [each for each in self._suspected if each.asked_ms + SECOND_LOOK_MS <= now_ms]
        self._ripe = Coverage.of(each.ids for each in ripe)
        self.postponed = Coverage.of(each.ids for each in self._suspected if each not in ripe)
        """Ids suspected so lately that a second look would tell nothing."""

    def is_due(self, now_ms: int) -> bool:
        """Whether a suspicion has become ripe since."""
        return any(
            each.asked_ms + SECOND_LOOK_MS <= now_ms and self.postponed.missing(each.ids) == ()
            for each in self._suspected
        )

    def by_day(self, passed_over: Coverage, records: Iterable[DayRecord], now_ms: int) -> dict[date, Silence]:
        """What the exchange has passed over and the records do not say yet, on the day whose ids surround it."""
        found: dict[date, Silence] = {}
        records = sorted(records, key=lambda record: record.day)
        suspected = Coverage.of(each.ids for record in records for each in record.suspected)
        unripe = Coverage.of(part for ids in suspected.ranges for part in self._ripe.missing(ids))
        told = Coverage.of([ids for each in records for ids in each.absent]) | self.postponed | unripe
        news = Coverage.of(part for ids in passed_over.ranges for part in told.missing(ids))
        for ids in news.ranges:
            day = next((each.day for each in reversed(records) if each.first_id <= ids.first_id), None)
            if day is None:
                continue
            before = found.get(day, Silence())
            if self._ripe.missing(ids) == ():
                found[day] = Silence((*before.absent, ids), before.suspected)
            else:
                found[day] = Silence(before.absent, (*before.suspected, Suspicion(ids, now_ms)))
        return found
