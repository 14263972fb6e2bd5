"""Where the days that come from the archive begin, found out by REST before they are taken.

A day whose ends are proven when its file is written is written only once. Owns the questions about the beginning of the
oldest day, which are those about the beginning of a window. If nothing was traded before some later day, the archive is
not asked for the days before that one. Days whose beginning stays unproven are taken all the same; the next plan goes
on from there.
"""

from collections.abc import Collection, Mapping
from datetime import date

from backfilld.core.backfill.newest_shown import NewestShown
from backfilld.core.backfill.questions import At, Before, Found, Query, Since
from backfilld.core.backfill.window_start import WindowStart
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.model import day_of, day_start_ms
from backfilld.core.sync.events import Answered, Failed, TakeArchive
from backfilld.core.timespan import TimeSpan


def begins_unproven(day: date, window: TimeSpan, records: Mapping[date, Certificate]) -> bool:
    """Whether the window begins with this day, and nothing stored proves the day's first id."""
    record = records.get(day)
    is_first = day == day_of(window.start_ms) and day_start_ms(day) == window.start_ms
    return is_first and day - ONE_DAY not in records and (record is None or not record.opened)


class ArchiveEnds:
    """The days that wait until it is known where the first of them begins. ``shown`` remembers a first trade."""

    def __init__(self, shown: NewestShown) -> None:
        self._shown = shown
        self._days: tuple[date, ...] = ()
        self._start: WindowStart | None = None
        self._first_shown: tuple[int, int] | None = None
        self._out: Query | None = None

    @property
    def is_out(self) -> bool:
        """Whether an answer is awaited."""
        return self._out is not None

    @property
    def is_pending(self) -> bool:
        """Whether there is something to ask."""
        return self._start is not None and bool(self._start.to_ask) and not self.is_out

    @property
    def is_ready(self) -> bool:
        """Whether days wait, and not for an answer."""
        return bool(self._days) and not (self.is_pending or self.is_out)

    def hold(self, days: tuple[date, ...], *, asks_start: bool, very_first: Collection[int] = ()) -> None:
        """Hold these days back. With ``asks_start``, REST is asked where the first of them begins. No trade comes
        before an id of ``very_first``."""
        self._days, self._first_shown = days, None
        self._start = WindowStart(day_start_ms(days[0]), very_first=very_first) if asks_start else None
        if self._start is not None:
            self._start.ask(with_first=False)

    def release(self) -> frozenset[date]:
        """Forget the days and what would be asked of them. Return the days."""
        days, self._days, self._start = self._days, (), None
        return frozenset(days)

    def take(self) -> Query | None:
        """The next question, if there is one; its answer must come back."""
        if self._start is None or not self.is_pending:
            return None
        self._out = self._start.to_ask.popleft()
        return self._out

    def is_for(self, query: Query) -> bool:
        """Whether an answer to this question is awaited here."""
        return query == self._out

    def ended(self, event: Answered | Failed) -> None:
        """Enter what came of the question. A failure proves nothing."""
        self._out = None
        if isinstance(event, Failed):
            self._start = None
        elif self._start is not None:
            self._enter(self._start, event.query, event.found)

    def _enter(self, start: WindowStart, query: Query, found: Found) -> None:
        match query:
            case Before():
                start.neighbour_answered(found, None)
            case Since():
                self._first_shown = None if found.ids is None else (found.ids.first_id, found.first_ms)
                start.first_answered(found)
            case At():
                start.at_answered(query, found)
        if self.first_trade is not None:
            self._shown.begin(self.first_trade.first_id, day_start_ms(self._days[0]))

    @property
    def first_trade(self) -> DayStart | None:
        """The first trade from the oldest day on and its day, once the exchange has named it and it is proven."""
        start, shown = self._start, self._first_shown
        if start is None or shown is None or not start.is_proven or start.first_id != shown[0]:
            return None
        return DayStart(day_of(shown[1]), shown[0])

    def empty_days(self) -> tuple[date, ...]:
        """Those of the days that have no trade, because they end before the first one."""
        first = self.first_trade
        return () if first is None else tuple(day for day in self._days if day < first.day)

    def taken(self, starts: frozenset[DayStart]) -> TakeArchive:
        """Take the days that are not empty now, with these day starts and those that the answers have proven."""
        if self._start is not None and self._start.is_proven and self._start.first_id is not None:
            starts |= {DayStart(self._days[0], self._start.first_id)}
        if self.first_trade is not None:
            starts |= {self.first_trade}
        empty = self.empty_days()
        return TakeArchive(tuple(sorted(self.release().difference(empty))), starts)
