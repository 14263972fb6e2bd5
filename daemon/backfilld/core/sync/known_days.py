"""The stored days in and around a window: what is proven of them, and what their files do not say yet.

Owns the certificates for the sync. Must not ask anybody; the plan does.
"""

from collections.abc import Iterable
from datetime import date

from backfilld.core.backfill.newest_shown import NewestShown
from backfilld.core.backfill.plan import BackfillPlan
from backfilld.core.backfill.support import Support
from backfilld.core.day.absences import Absences, AbsentIds
from backfilld.core.day.certificate import Certificate, day_starts
from backfilld.core.day.start import DayStart
from backfilld.core.day.stored_window import stored_in
from backfilld.core.ids import IdSet
from backfilld.core.model import MS_PER_DAY, IdRange, day_of, day_start_ms, day_stop_ms
from backfilld.core.timespan import TimeSpan


class KnownDays:
    """The certificates of a window's days and of the days next to it. ``server_ms`` is the exchange's time, None while
    it is unknown. No trade comes before an id of ``very_first``."""

    def __init__(
        self,
        window: TimeSpan,
        records: Iterable[Certificate],
        server_ms: int | None,
        very_first: frozenset[int] = frozenset(),
    ) -> None:
        self.window = window
        self.records = {record.day: record for record in records}
        self.very_first = very_first
        self._known_starts: set[DayStart] | None = None
        starts = self._starts()
        self.held = stored_in(window, [record.proven_by(starts) for record in self.records.values()])
        """What was stored at the beginning."""
        self._absences = Absences(self.held.suspected, server_ms)
        self._proven_starts: set[DayStart] = set()
        self._handed_over = self._forgotten = IdSet()

    def plan(
        self,
        now_ms: int,
        *,
        newest_first: bool,
        proves_first: bool,
        shown: NewestShown | None = None,
        is_wary: bool = False,
        support: Support | None = None,
    ) -> BackfillPlan:
        """The plan for what is missing. ``shown`` is the newest trade that the exchange has shown before, ``support``
        the answers that speak for rows."""
        return BackfillPlan(
            self.window,
            self.held.spans,
            first_is_proven=self.held.first_is_proven,
            last_is_proven=self.held.last_is_proven,
            absent=self.held.absent,
            postponed=self._absences.postponed,
            now_ms=now_ms,
            newest_first=newest_first,
            proves_first=proves_first,
            shown=shown,
            very_first=self.very_first,
            is_wary=is_wary,
            support=support,
        )

    @property
    def until_ms(self) -> int | None:
        """The time of the last trade that was held at the beginning."""
        return max((span.last_ms for span in self.held.spans), default=None)

    def saved(self, record: Certificate) -> bool:
        """Take the new certificate of a day. Return whether the day has lost trades."""
        before = self.records.get(record.day)
        self.records[record.day] = record
        self._known_starts = None
        return before is not None and (before.coverage | record.coverage) != record.coverage

    def starts_to_prove(self, plan: BackfillPlan) -> frozenset[DayStart]:
        """The day starts that have become known since the last call."""
        starts = {each for record in self.records.values() for each in record.proven_starts()} | self._starts()
        start_ms, stop_ms = self.window.start_ms, self.window.stop_ms
        first_id, beyond_id = plan.proven_first_id, plan.beyond_id
        if first_id is not None and start_ms % MS_PER_DAY == 0:
            own = [record.day for record in self.records.values() if record.first_id == first_id]
            own += [] if plan.first_ms is None else [day_of(plan.first_ms)]
            starts |= {DayStart(day, first_id) for day in (day_of(start_ms), *own)}
        if beyond_id is not None and stop_ms is not None and stop_ms % MS_PER_DAY == 0:
            starts.add(DayStart(day_of(stop_ms), beyond_id))
        new = frozenset(starts - self._proven_starts)
        self._proven_starts |= new
        return new

    def hand_over(self, received: IdSet) -> None:
        """Note that everything received so far is being saved; the days must hold it once that has ended."""
        self._handed_over = received

    @property
    def unstored(self) -> tuple[IdRange, ...]:
        """The ids that were handed over and are stored in no day."""
        stored = IdSet.of(span.ids for record in self.records.values() for span in record.spans)
        return (self._handed_over - stored - self._forgotten).ranges

    def forget(self, day: date) -> None:
        """The day was deleted, because it is no longer wanted."""
        if (record := self.records.pop(day, None)) is not None:
            self._forgotten |= record.coverage
        self._known_starts = None

    def _starts(self) -> set[DayStart]:
        """The day starts that follow from the stored days alone."""
        if self._known_starts is None:
            records = self.records.values()
            very_first = {DayStart(each.day, each.first_id) for each in records if each.first_id in self.very_first}
            self._known_starts = day_starts(records) | very_first
        return self._known_starts

    def days_to_renew(self) -> frozenset[date]:
        """The days whose files do not say yet what is proven of them."""
        return frozenset(day for day, each in self.records.items() if each.proven_by(self._proven_starts) != each)

    def absences(self, plan: BackfillPlan, now_ms: int) -> dict[date, AbsentIds]:
        """The ids that the exchange passed over and the day files do not name yet, by day."""
        return self._absences.by_day(plan.absent, self.records.values(), now_ms)

    def second_look_is_due(self, now_ms: int) -> bool:
        """Whether it is time to ask again for ids that the exchange passed over."""
        return self._absences.is_due(self.records.values(), now_ms)

    def may_slide_to(self, start_ms: int) -> bool:
        """Whether the window may begin at ``start_ms``: its days before that are sealed, or it is a day late."""
        leaving = [each for day, each in self.records.items() if self.window.start_ms <= day_start_ms(day) < start_ms]
        is_overdue = self.window.start_ms + MS_PER_DAY < start_ms
        return self.window.start_ms < start_ms and (is_overdue or all(each.sealed for each in leaving))

    def unsealed(self, plan: BackfillPlan, today_ms: int) -> tuple[Certificate, ...]:
        """The whole days of the window before today that should be sealed and are not.

        The day of the newest trade of all cannot be sealed: nothing shows yet where it ends."""
        stop_ms = min(today_ms, self.window.stop_ms or today_ms)
        past = (each for day, each in sorted(self.records.items()) if self._is_before(day, stop_ms))
        return tuple(each for each in past if not (each.sealed or _is_last_of_all(each, plan)))

    def _is_before(self, day: date, stop_ms: int) -> bool:
        return self.window.start_ms <= day_start_ms(day) and day_stop_ms(day) <= stop_ms

    def lacks_past(self, today_ms: int) -> bool:
        """Whether a whole day of the window before today is not sealed, by its file."""
        return any(not each.sealed and self._is_before(day, today_ms) for day, each in self.records.items())


def _is_last_of_all(record: Certificate, plan: BackfillPlan) -> bool:
    is_last = plan.beyond_id is None and plan.last_id is not None and record.last_id >= plan.last_id
    return is_last and record.opened and not record.holes


def very_first_ids(
    window: TimeSpan, records: Iterable[Certificate], market_first_id: int | None, listed_ms: int | None
) -> frozenset[int]:
    """The ids that no trade comes before: the first id of all symbols of the market, and the archive's first id on the
    day on which the symbol was listed."""
    found = {market_first_id} if market_first_id is not None else set()
    earliest = min(records, key=lambda each: each.day, default=None)
    if earliest is not None and listed_ms is not None and window.start_ms <= listed_ms:
        is_from_archive = bool(earliest.sources) and earliest.sources[0].source.name == "archive"
        if earliest.day == day_of(listed_ms) and is_from_archive:
            found.add(earliest.first_id)
    return frozenset(found)
