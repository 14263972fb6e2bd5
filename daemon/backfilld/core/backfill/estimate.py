"""What a backfill of past days will cost, before it is done: where each day comes from, requests, weight and bytes.

Owns the arithmetic of the forecast. It follows the planner: pages for what is missing, and a few questions more for
ends that nothing on disk proves. Asks nobody: what only the exchange or the archive can tell is given.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from backfilld.core.backfill.paging import WORTH_ASKING_AGAIN, next_page
from backfilld.core.day.certificate import Certificate
from backfilld.core.ids import IdSet
from backfilld.core.model import PAGE_ROWS, IdRange, day_of
from backfilld.core.timespan import TimeSpan

HELD, ARCHIVE, REST, NOWHERE = "held", "archive", "rest", "nowhere"


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

    window: TimeSpan
    now_ms: int
    records: Mapping[date, Certificate]
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
    """The forecast; ``last_ids`` are the last ids before the beginning of a day, for each stretch that REST must bring:
    for the first of its days that the exchange answers for (none, if it does not), and for the day after its last."""
    days = {day: known.source(day) for day in known.days}
    requests, trades = (_head(known) + _end(known, last_ids) if days else 0), 0
    for first, last in known.rest_runs():
        within = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        reached = [day for day in within if day >= min((each for each in within if each in last_ids), default=date.max)]
        days |= dict.fromkeys(within[: len(within) - len(reached)], NOWHERE)
        if reached:
            missing = _missing(known, reached, last_ids)
            trades += sum(map(len, missing))
            # What lies before or behind all that is on disk is asked for by itself, as its ends are found.
            outer = [each for each in missing if each.first_id in _edges(known, reached, last_ids)]
            requests += sum(_pages([each]) for each in outer)
            requests += _pages([each for each in missing if each not in outer])
    return Forecast(
        days=days,
        requests=requests,
        weight=requests * page_weight,
        trades=trades,
        bytes=sum(known.sizes.values()),
    )


def _missing(known: Known, days: Sequence[date], last_ids: Mapping[date, int]) -> tuple[IdRange, ...]:
    """The ids of a stretch of days that are not on disk."""
    first_id, last_id = last_ids[days[0]] + 1, last_ids[days[-1] + timedelta(days=1)]
    if last_id < first_id:
        return ()
    if days[-1] + timedelta(days=1) in known.sizes:
        # The first id of a published day is believed only behind a day that is held: REST tells it too.
        last_id += 1
    held = [known.records[day].coverage for day in days if day in known.records]
    return IdSet.of(span for each in held for span in each.ranges).missing(IdRange(first_id, last_id))


def _edges(known: Known, days: Sequence[date], last_ids: Mapping[date, int]) -> set[int]:
    """The ids that a stretch's missing ones begin with, at the window's start and behind all that is on disk."""
    held = [known.records[day].last_id for day in days if day in known.records]
    first = {last_ids[days[0]] + 1} if days[0] == known.days[0] else set()
    last = {max(held, default=last_ids[days[0]]) + 1} if days[-1] == known.days[-1] else set()
    return first | last


def _pages(missing: Sequence[IdRange]) -> int:
    """How many pages the missing ids take: one may fill several holes that lie close."""
    if len(missing) < WORTH_ASKING_AGAIN:
        return sum(-(-len(each) // PAGE_ROWS) for each in missing)
    count, left = 0, tuple(missing)
    held = IdSet.of(IdSet.of(missing).holes)
    while left:
        asked = next_page(left, held).ids
        behind = asked.last_id + 1
        left = held.missing(IdRange(behind, left[-1].last_id)) if behind <= left[-1].last_id else ()
        count += 1
    return count


def _head(known: Known) -> int:
    """The questions for the window's first id: none where what is on disk by then proves it, its neighbour alone where
    something is, and the first trades besides where nothing is."""
    day = known.days[0]
    record, before = known.records.get(day), known.records.get(day - timedelta(days=1))
    if record is not None:
        is_proven = record.opened or (before is not None and before.last_id + 1 == record.first_id)
    else:
        follows = (before is not None and before.closed) or day - timedelta(days=1) in known.sizes
        is_proven = day in known.sizes and follows
    if is_proven:
        return 0
    return 1 if _holds_any(known) else 2


def _end(known: Known, last_ids: Mapping[date, int]) -> int:
    """The questions for the window's last id, less the page that comes with them: what follows all that is on disk, and
    if that is a full page, the last id and the one behind it."""
    day, stop_ms = known.days[-1], known.window.stop_ms
    record, after = known.records.get(day), known.records.get(day + timedelta(days=1))
    if record is not None:
        is_proven = record.closed or (after is not None and record.last_id + 1 == after.first_id)
    else:
        follows = (after is not None and after.opened) or day + timedelta(days=1) in known.sizes
        is_proven = day in known.sizes and follows
    if is_proven:
        return 0
    to_locate = 2 if stop_ms is not None and stop_ms <= known.now_ms else 1
    if not _holds_any(known):
        return to_locate
    rows = _rows_behind(known, last_ids)
    page = 1 if rows else 0
    return 1 - page + (to_locate if rows >= PAGE_ROWS else 0)


def _rows_behind(known: Known, last_ids: Mapping[date, int]) -> int:
    """How many trades follow the last one on disk, once the archive's days are."""
    first, last = max(known.rest_runs(), default=(date.max, date.min))
    if last != known.days[-1] or last + timedelta(days=1) not in last_ids:
        return 0
    held = [known.records[day].last_id for day in known.days if first <= day and day in known.records]
    return last_ids[last + timedelta(days=1)] - max([*held, last_ids.get(first, -1)])


def _holds_any(known: Known) -> bool:
    """Whether something of the window is on disk by the time that the exchange is asked."""
    return any(day in known.records or day in known.sizes for day in known.days)
