"""Estimates what a backfill of past days costs: the source of each day, requests, weight and bytes.

Owns the arithmetic: a page for each thousand missing ids, and a few questions for the ends of each run of days. Asks
nobody: facts that only the exchange or the archive knows are arguments.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY
from backfilld.core.ids import IdSet
from backfilld.core.model import PAGE_ROWS, IdRange, day_of, days_from
from backfilld.core.timespan import TimeSpan

HELD, ARCHIVE, REST, NOWHERE = "held", "archive", "rest", "nowhere"

QUESTIONS_PER_RUN = 1
"""Requests in addition to the pages of a run of days, to find its ends. Measured: 0 to 3."""
QUESTIONS_PER_FILL = 1
"""Requests that prove at the end that nothing newer belongs to the window."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The backfill of one instrument. ``days`` names the source of each day; ``trades`` are those that REST will
    send."""

    days: Mapping[date, str]
    requests: int
    weight: int
    trades: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one instrument and window. ``certificates`` are those on disk. ``sizes`` has the bytes of each
    published day that is to come from the archive."""

    window: TimeSpan
    now_ms: int
    certificates: Mapping[date, Certificate]
    sizes: Mapping[date, int]

    @property
    def days(self) -> tuple[date, ...]:
        """The days of the window that have begun, ascending."""
        stop_ms = min(self.now_ms, self.window.stop_ms or self.now_ms)
        return tuple(days_from(day_of(self.window.start_ms), day_of(stop_ms - 1)))

    def source(self, day: date) -> str:
        """The source of the day."""
        if day in self.sizes:
            return ARCHIVE
        certificate = self.certificates.get(day)
        return HELD if certificate is not None and certificate.sealed else REST

    def rest_runs(self) -> Iterator[tuple[date, date]]:
        """The runs of days that REST must bring, each by its first and its last day."""
        for source, run in groupby(self.days, key=self.source):
            if source == REST:
                first, *others = run
                yield first, others[-1] if others else first


def estimate(known: Known, last_ids: Mapping[date, int], page_weight: int) -> Estimate:
    """Estimate. ``last_ids`` maps days to the last id before they begin. It has, for each run of days that REST must
    bring, the first day that the exchange answers for, if there is one, and the day after the last."""
    days = {day: known.source(day) for day in known.days}
    requests, trades = QUESTIONS_PER_FILL, 0
    for first, last in known.rest_runs():
        reached = min((day for day in last_ids if first <= day <= last), default=None)
        days |= {day: NOWHERE for day in days_from(first, last) if reached is None or day < reached}
        if reached is not None:
            missing = _missing(known, reached, last, last_ids)
            trades += missing
            requests += -(-missing // PAGE_ROWS) + QUESTIONS_PER_RUN
            # They prove where an archive day beside the run ends or begins, before it is written.
            ends = (first - ONE_DAY, first), (last + ONE_DAY, last)
            requests += sum(days.get(day) == ARCHIVE and edge not in known.certificates for day, edge in ends)
    return Estimate(days, requests, requests * page_weight, trades, sum(known.sizes.values()))


def _missing(known: Known, first: date, last: date, last_ids: Mapping[date, int]) -> int:
    """How many ids of a run of days are not on disk."""
    first_id, last_id = last_ids[first] + 1, last_ids[last + ONE_DAY]
    if last_id < first_id:
        return 0
    stored = [known.certificates[day].coverage for day in days_from(first, last) if day in known.certificates]
    ids = IdSet.of(span for each in stored for span in each.ranges)
    return sum(map(len, ids.missing(IdRange(first_id, last_id))))
