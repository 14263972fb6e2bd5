"""Where the days that come from the archive begin and end, found out by REST before they are taken.

A day whose ends are proven when its file is written is written only once. Days of the archive prove each other's ends
where they follow each other, and so do stored ones. Elsewhere REST is asked where a day begins, by the questions about
the beginning of a window: the oldest day, a day behind one that the archive lacks, and the day that it lacks. If
nothing was traded before some later day, the archive is not asked for the days before that one. Days whose ends stay
unproven are taken all the same; the next plan goes on from there.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import date

from backfilld.core.backfill.newest_shown import NewestShown
from backfilld.core.backfill.questions import At, Before, Found, Query, Since
from backfilld.core.backfill.window_start import WindowStart
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.model import day_of, day_start_ms
from backfilld.core.sync.events import Answered, Failed, TakeArchive
from backfilld.core.timespan import TimeSpan
from backfilld.errors import RequestRejected


def starts_to_ask(
    days: Iterable[date], window: TimeSpan, records: Mapping[date, Certificate], awaited: Collection[date]
) -> set[date]:
    """The days of the window whose first ids would prove the ends of these archive days: those for which neither a
    stored day nor one that is ``awaited`` from the archive proves it."""
    beside = {*records, *awaited}
    found = set()
    for day in days:
        record = records.get(day)
        if day - ONE_DAY not in beside and not (record is not None and record.opened):
            found.add(day)
        if day + ONE_DAY not in beside and not (record is not None and record.closed):
            found.add(day + ONE_DAY)
    stop_ms = window.stop_ms
    starts = {day: day_start_ms(day) for day in found}
    return {day for day, at in starts.items() if window.start_ms <= at and (stop_ms is None or at <= stop_ms)}


class ArchiveEnds:
    """The days that wait until it is known where they begin and end. ``shown`` remembers a first trade."""

    def __init__(self, shown: NewestShown) -> None:
        self._shown = shown
        self._days: frozenset[date] = frozenset()
        self._starts: dict[date, WindowStart] = {}
        self._first_shown: dict[date, tuple[int, int]] = {}
        self._asked: tuple[date, WindowStart] | None = None
        self._out: Query | None = None

    @property
    def is_out(self) -> bool:
        """Whether an answer is awaited."""
        return self._out is not None

    @property
    def is_pending(self) -> bool:
        """Whether there is something to ask."""
        return self._next is not None and not self.is_out

    @property
    def is_ready(self) -> bool:
        """Whether days wait, and not for an answer."""
        return bool(self._days) and self._next is None and not self.is_out

    def hold(self, days: Iterable[date], *, asked: Iterable[date] = (), very_first: Collection[int] = ()) -> None:
        """Hold these days back, besides those that are held. REST is asked where the ``asked`` days begin, in this
        sequence. No trade comes before an id of ``very_first``."""
        self._days |= {*days}
        for day in asked:
            if day not in self._starts:
                self._starts[day] = WindowStart(day_start_ms(day), very_first=very_first)
                self._starts[day].ask(with_first=False)

    def release(self) -> frozenset[date]:
        """Forget the days and what is known of them. Return the days."""
        days, self._days = self._days, frozenset()
        self._starts, self._first_shown = {}, {}
        return days

    @property
    def _next(self) -> tuple[date, WindowStart] | None:
        return next(((day, start) for day, start in self._starts.items() if start.to_ask), None)

    def take(self) -> Query | None:
        """The next question, if there is one; its answer must come back."""
        if self.is_out or self._next is None:
            return None
        self._asked = self._next
        self._out = self._asked[1].to_ask.popleft()
        return self._out

    def is_for(self, query: Query) -> bool:
        """Whether an answer to this question is awaited here."""
        return query == self._out

    def ended(self, event: Answered | Failed) -> None:
        """Enter what came of the question. A failure proves nothing, and ends the other questions too unless it
        concerns this one alone."""
        asked, self._out = self._asked, None
        if asked is None or self._starts.get(asked[0]) is not asked[1]:
            return
        if isinstance(event, Answered):
            self._enter(*asked, event.query, event.found)
            return
        for start in [asked[1]] if isinstance(event.error, RequestRejected) else self._starts.values():
            start.to_ask.clear()

    def _enter(self, day: date, start: WindowStart, query: Query, found: Found) -> None:
        match query:
            case Before():
                start.neighbour_answered(found, None)
            case Since():
                if found.ids is not None:
                    self._first_shown[day] = (found.ids.first_id, found.first_ms)
                start.first_answered(found)
            case At():
                start.at_answered(query, found)
        if (first := self._first_trade(day)) is not None:
            self._shown.begin(first.first_id, day_start_ms(day))

    def _first_trade(self, day: date) -> DayStart | None:
        """The first trade from this day on and its day, once the exchange has named it and it is proven."""
        start, shown = self._starts[day], self._first_shown.get(day)
        if shown is None or not start.is_proven or start.first_id != shown[0]:
            return None
        return DayStart(day_of(shown[1]), shown[0])

    def empty_days(self) -> tuple[date, ...]:
        """Those of the days that have no trade, because they end before the first one."""
        firsts = [(day, first) for day in self._starts if (first := self._first_trade(day)) is not None]
        return tuple(sorted(each for each in self._days if any(day <= each < first.day for day, first in firsts)))

    def taken(self, starts: frozenset[DayStart]) -> TakeArchive:
        """Take the days that are not empty now, with these day starts and those that the answers have proven."""
        proven = {(day, each.first_id) for day, each in self._starts.items() if each.is_proven}
        starts |= {DayStart(day, first_id) for day, first_id in proven if first_id is not None}
        starts |= {first for day in self._starts if (first := self._first_trade(day)) is not None}
        empty = self.empty_days()
        return TakeArchive(tuple(sorted(self.release().difference(empty))), starts)
