"""What a backfill of past days will cost, before it is done: where each day comes from, requests, weight and bytes.

Owns the arithmetic of the forecast. It follows the planner: pages for what is missing, and a few questions more for
ends that nothing on disk proves. Asks nobody: what only the exchange or the archive can tell is given.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from backfilld.core.daybook import DayRecord
from backfilld.core.ledger import Coverage
from backfilld.core.model import PAGE_ROWS, IdRange, day_of, day_start_ms
from backfilld.core.window import Window

HELD, ARCHIVE, REST = "held", "archive", "rest"


@dataclass(frozen=True, slots=True)
class Forecast:
    """One instrument's backfill. ``days`` says where each day comes from; ``trades`` are those that REST will send."""

    days: Mapping[date, str]
    requests: int
    weight: int
    trades: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to know of one instrument and window. ``records`` are of the days on disk, those beside the window
    too; ``sizes`` are the bytes of the published days that are wanted from the archive."""

    window: Window
    now_ms: int
    records: Mapping[date, DayRecord]
    sizes: Mapping[date, int]

    @property
    def days(self) -> tuple[date, ...]:
        """The days of the window, as far as they have begun, ascending."""
        first = day_of(self.window.start_ms)
        stop_ms = min(self.now_ms, self.window.stop_ms or self.now_ms)
        return tuple(first + timedelta(days=n) for n in range((day_of(stop_ms - 1) - first).days + 1))

    def source(self, day: date) -> str:
        """Where the day comes from."""
        if day in self.sizes:
            return ARCHIVE
        record = self.records.get(day)
        return HELD if record is not None and record.sealed else REST

    def rest_runs(self) -> Iterator[tuple[date, date]]:
        """The stretches of days that REST must bring, each by its first and its last day."""
        run: list[date] = []
        for day in self.days:
            if self.source(day) == REST:
                run.append(day)
            elif run:
                yield run[0], run[-1]
                run = []
        if run:
            yield run[0], run[-1]


def forecast(known: Known, last_ids: Mapping[date, int], page_weight: int) -> Forecast:
    """The forecast; ``last_ids`` are the last ids before the beginning of a day, for the first day of each stretch that
    REST must bring, and for the day after its last."""
    requests = _seams(known)
    trades = 0
    for first, last in known.rest_runs():
        ids = IdRange(last_ids[first] + 1, max(last_ids[first] + 1, last_ids[last + timedelta(days=1)]))
        held = [record.coverage for day, record in known.records.items() if first <= day <= last]
        missing = Coverage.of(span for each in held for span in each.ranges).missing(ids)
        trades += sum(map(len, missing))
        requests += sum(-(-len(each) // PAGE_ROWS) for each in missing)
    return Forecast(
        days={day: known.source(day) for day in known.days},
        requests=requests,
        weight=requests * page_weight,
        trades=trades,
        bytes=sum(known.sizes.values()),
    )


def _seams(known: Known) -> int:
    """The questions that locate: the neighbour of the first id where nothing on disk will prove it, and the end."""
    days = known.days
    if not days:
        return 0
    sources = [known.source(day) for day in days]
    if set(sources) == {HELD} and _chained(known):
        return 0
    before, first = days[0] - timedelta(days=1), known.records.get(days[0])
    opened = before in known.records or before in known.sizes or (first is not None and first.opened)
    questions = 0 if opened else 1
    if sources[0] == REST and days[0] not in known.records:
        questions += 1
    after, last = days[-1] + timedelta(days=1), known.records.get(days[-1])
    closed = known.window.stop_ms is not None and day_start_ms(after) == known.window.stop_ms
    closed &= (after in known.records and sources[-1] != REST) or (last is not None and last.closed)
    if closed:
        return questions
    is_over = known.window.stop_ms is not None and known.window.stop_ms <= known.now_ms
    return questions + (2 if sources[-1] == REST and is_over else 1)


def _chained(known: Known) -> bool:
    """Whether what is held is one run of ids whose ends are proven."""
    records = [known.records[day] for day in known.days]
    return all(before.next_first_id == after.first_id for before, after in pairwise(records))
