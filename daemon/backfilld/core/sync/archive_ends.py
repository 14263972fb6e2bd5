"""Where the days of the archive begin and end, as far as REST can tell before they are taken: the file of a day that is
proven at both ends when it is written is written once.

Owns the question for the beginning of the oldest day. Days that are not proven so are taken all the same: the next plan
goes on from there.
"""

from collections.abc import Mapping
from datetime import date

from backfilld.core.backfill.questions import Before, Query
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.model import day_of, day_start_ms
from backfilld.core.sync.events import Answered, Failed, TakeArchive
from backfilld.core.timespan import TimeSpan


def begins_unproven(day: date, window: TimeSpan, records: Mapping[date, Certificate]) -> bool:
    """Whether the window begins with this day, and nothing stored tells with which id the day begins."""
    record = records.get(day)
    is_first = day == day_of(window.start_ms) and day_start_ms(day) == window.start_ms
    return is_first and day - ONE_DAY not in records and (record is None or not record.opened)


class ArchiveEnds:
    """The days that wait until their ends are known. ``is_out`` while the question is asked."""

    def __init__(self) -> None:
        self.is_out = self.is_pending = False
        self._days: tuple[date, ...] = ()
        self._starts: frozenset[DayStart] = frozenset()

    @property
    def is_ready(self) -> bool:
        """Whether days wait, and not for the question."""
        return bool(self._days) and not (self.is_pending or self.is_out)

    @property
    def _question(self) -> Before:
        return Before(day_start_ms(self._days[0]))

    def hold(self, days: tuple[date, ...], *, asks_start: bool) -> None:
        """Hold these days back. ``asks_start`` if REST is to say where the first of them begins."""
        self._days, self._starts, self.is_pending = days, frozenset(), asks_start

    def release(self) -> frozenset[date]:
        """Forget the days, and the question, which is not out. Return the days."""
        days, self._days, self.is_pending = self._days, (), False
        return frozenset(days)

    def take(self) -> Before | None:
        """The question, if it is to be asked; its answer must come back."""
        if not self.is_pending:
            return None
        self.is_pending, self.is_out = False, True
        return self._question

    def is_for(self, query: Query) -> bool:
        """Whether an answer to this question is awaited here."""
        return self.is_out and query == self._question

    def ended(self, event: Answered | Failed) -> None:
        """The question has come back."""
        self.is_out = False
        found = event.found if isinstance(event, Answered) else None
        if found is not None and found.ids is not None and not found.is_marker:
            self._starts |= {DayStart(self._days[0], found.ids.last_id + 1)}

    def taken(self, starts: frozenset[DayStart]) -> TakeArchive:
        """Take the days now, with these day starts and what the answer has proven."""
        known = self._starts | starts
        return TakeArchive(tuple(sorted(self.release())), known)
