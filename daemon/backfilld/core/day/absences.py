"""Ids that the exchange passes over: suspected to be absent at the first look, taken for absent after a second one.

Owns the rule: a hole is a defect until the exchange has shown it empty twice, hours apart (reference: no permanent hole
is proven, none can be excluded).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from backfilld.core.day.certificate import Certificate, Suspicion
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange

SECOND_LOOK_MS = 2 * 3_600_000
"""How long after the first look the second one counts."""


@dataclass(frozen=True, slots=True)
class AbsentIds:
    """What is to be said of a day: ids absent for good, and ids suspected now."""

    absent: tuple[IdRange, ...] = ()
    suspected: tuple[Suspicion, ...] = ()


NO_ABSENCES = AbsentIds()


class Absences:
    """The suspicions of one plan, as of ``server_ms``: the exchange's time, None while no answer has named it.

    A suspicion bears the exchange's time, so the host's clock cannot say how old it is: unknown time ripens nothing.
    """

    def __init__(self, suspected: Iterable[Suspicion], server_ms: int | None) -> None:
        self._suspected = tuple(suspected)
        ripe = [
            each for each in self._suspected if server_ms is not None and each.asked_ms + SECOND_LOOK_MS <= server_ms
        ]
        self._ripe = IdSet.of(each.ids for each in ripe)
        self.postponed = IdSet.of(each.ids for each in self._suspected if each not in ripe)
        """Ids suspected so lately that a second look would show nothing."""

    def is_due(self, records: Iterable[Certificate], now_ms: int) -> bool:
        """Whether a suspicion in these records has become ripe since."""
        suspected = (each for record in records for each in record.suspected)
        return any(
            each.asked_ms + SECOND_LOOK_MS <= now_ms and bool(self._ripe.missing(each.ids)) for each in suspected
        )

    def by_day(self, passed_over: IdSet, records: Iterable[Certificate], now_ms: int) -> dict[date, AbsentIds]:
        """What the exchange has passed over and the records do not say yet, on the days whose ids surround it: those
        between two days concern both, for they are the end of the one and the beginning of the other."""
        found: dict[date, AbsentIds] = {}
        ordered = sorted(records, key=lambda record: record.day)
        settled = self._ripe | IdSet.of(ids for record in ordered for ids in record.absent)
        for ids in passed_over.ranges:
            for record in _beside(ids, ordered):
                before, news = found.get(record.day, NO_ABSENCES), self._news(ids, record, settled, now_ms)
                if news != NO_ABSENCES:
                    found[record.day] = AbsentIds(before.absent + news.absent, before.suspected + news.suspected)
        return found

    def _news(self, ids: IdRange, record: Certificate, settled: IdSet, now_ms: int) -> AbsentIds:
        """What the record does not say yet of ids that were passed over; ``settled`` ones are absent for good."""
        suspected = IdSet.of(each.ids for each in record.suspected)
        waiting = IdSet.of(part for each in suspected.ranges for part in settled.missing(each))
        known = IdSet.of(record.absent) | self.postponed | waiting
        news = known.missing(ids)
        doubted = [part for each in news for part in settled.missing(each)]
        absent = [part for each in news for part in IdSet.of(doubted).missing(each)]
        return AbsentIds(tuple(absent), tuple(Suspicion(part, now_ms) for part in doubted))


def _beside(ids: IdRange, ordered: Sequence[Certificate]) -> Iterator[Certificate]:
    """The record that the ids lie in, or those they lie between."""
    number = sum(record.first_id <= ids.first_id for record in ordered) - 1
    if number >= 0:
        yield ordered[number]
    if number + 1 < len(ordered) and (number < 0 or ordered[number].last_id < ids.first_id):
        yield ordered[number + 1]
