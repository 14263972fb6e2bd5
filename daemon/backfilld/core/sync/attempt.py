"""One plan of one instrument, and the consequences of the exchange's answers.

Owns what an answer or a refusal means beyond the ids that it brings: another sequence of ids, a day file that cannot be
right, a time that the exchange refuses to answer for. Must not know rounds; the sync does.
"""

from collections.abc import Mapping
from datetime import date

from backfilld.core.backfill.asks import Asks
from backfilld.core.backfill.newest_shown import NewestShown
from backfilld.core.backfill.outcome import TOO_OLD, UNKNOWN_SYMBOL, is_unknown_symbol
from backfilld.core.backfill.questions import Again, At, Before, Found, Newest, Page, Query, Since, Tail
from backfilld.core.backfill.support import Support
from backfilld.core.day.certificate import Certificate
from backfilld.core.markets import RULES
from backfilld.core.model import MS_PER_DAY, IdRange, Instrument, day_of, day_start_ms
from backfilld.core.sync.announcements import Lines, log_gap, log_plan
from backfilld.core.sync.events import Answered, Failed, Instant
from backfilld.core.sync.known_days import KnownDays, very_first_ids
from backfilld.core.sync.planning import Draft, days_beside, days_of
from backfilld.core.weight.fair_queue import Rank
from backfilld.errors import BackfillError, RateLimited, RequestRejected, TransientError, UnexpectedAnswer


class Attempt:
    """The plan for a draft, made from the certificates of ``records``.

    ``is_stale``: an answer has shown that another plan is needed. ``error`` ends this round. ``distrusted`` is a day
    whose file contradicts the exchange, with the reason. ``is_out_of_reach``: the exchange refuses to answer for the
    start of the window. ``needs_seams``: only the archive can prove the ends of the window. ``shown`` is the newest
    trade that the exchange has shown, ``support`` the answers that speak for rows; the next attempt shares both.
    ``is_wary`` after answers that contradict each other. ``listed_ms`` is when the exchange listed the symbol, None if
    it does not say.
    """

    def __init__(
        self,
        instrument: Instrument,
        draft: Draft,
        records: Mapping[date, Certificate],
        now: Instant,
        log: Lines,
        shown: NewestShown,
        listed_ms: int | None,
        *,
        seams_were_tried: bool,
        is_wary: bool = False,
        support: Support | None = None,
    ) -> None:
        self.instrument = instrument
        self.window = draft.window
        around = {*days_of(draft.window, now.now_ms), *days_beside(draft.window)}
        self.known_days = KnownDays(
            draft.window,
            [record for day, record in records.items() if day in around],
            now.server_ms,
            very_first_ids(draft.window, records.values(), RULES[instrument.market].first_id, listed_ms),
        )
        self.today = day_of(now.now_ms)
        self._today_ms = day_start_ms(self.today)
        # Where days before today are wanted too, today comes first.
        newest_first = draft.window.stop_ms is None and draft.window.start_ms < self._today_ms
        self.plan = self.known_days.plan(
            now.now_ms,
            newest_first=newest_first,
            proves_first=draft.is_whole,
            shown=shown,
            is_wary=is_wary,
            support=support,
        )
        self.cached = self.plan.received.rows
        self.is_stale = False
        self.contradiction = "each was outvoted"
        self._is_wary = is_wary
        self.error: BackfillError | None = None
        self.distrusted: tuple[date, str] | None = None
        self.is_out_of_reach = self.needs_seams = self.needs_agreement = False
        self.unproven_ends: set[str] = set()
        self._seams_were_tried = seams_were_tried
        self.log = log
        self._older_to_id = -1
        self._before_id: int | None = None
        self._since_id: int | None = None
        self._is_announced = False
        self.newest_ms = self.known_days.until_ms

    @property
    def first_after_empty_days(self) -> int | None:
        """The first trade of the window, if it is proven and days of the window before it are empty."""
        day = min(self.known_days.records, default=None)
        if day is None or day <= day_of(self.window.start_ms):
            return None
        if not (self.plan.first_is_proven and self.plan.received):
            return None
        first_id = self.known_days.records[day].first_id
        return first_id if self.plan.received.first_id == first_id else None

    @property
    def unsealed_days(self) -> tuple[Certificate, ...]:
        """The days before today that are not proven to be whole."""
        return self.known_days.unsealed(self.plan, self._today_ms)

    def begin_round(self, *, asks_end: bool) -> None:
        """Ask again: for what is new and what failed."""
        self.error = None
        self.unproven_ends.clear()
        self.plan.top_up(asks_end=asks_end)

    def rank(self, asks: Asks, *, is_top_up: bool) -> Rank | None:
        """How urgent the next question is, None if there is none."""
        query = self.plan.next_question(asks) if self.error is None else None
        if query is None:
            return None
        if is_top_up:
            return Rank.TOP_UP
        return Rank.OLDER if isinstance(query, Page) and query.ids.last_id <= self._older_to_id else Rank.TODAY

    def begins_anew(self) -> bool:
        """Nothing is left to ask. Whether another plan is needed, as some answers contradict what others brought."""
        self.is_stale |= self.plan.doubt_what_is_contested()
        return self.is_stale

    def lose(self, error: BackfillError) -> None:
        """Nothing more can be fetched of the instrument in this round."""
        self.error = self.error or error

    def answered(self, event: Answered, now_ms: int, max_concurrent: int) -> None:
        """Enter an answer in the plan."""
        query, found = event.query, event.found
        self.plan.answered(query, found, now_ms)
        self._see(found)
        self._check_seam(query, found)
        self.is_stale |= bool(self.plan.doubted)
        if found.ids is not None and found.first_ms < self._today_ms:
            self._older_to_id = max(self._older_to_id, found.ids.first_id)
        if self.plan.is_located and not self._is_announced:
            self._is_announced = True
            self._announce(now_ms, max_concurrent)

    def reuse(self, event: Answered, now_ms: int, max_concurrent: int) -> None:
        """Use the answer that the last plan has just got, if this plan asks the same question: which trade is the
        newest of all."""
        found, query = event.found, self.plan.next_question(Asks.NEWEST)
        is_named = isinstance(event.query, Newest) and event.query.stop_ms is None and event.query.rows == 1
        if not (is_named and isinstance(query, Newest) and query.rows == 1 and found.ids is not None):
            return
        if found.ids.last_id >= query.at_least_id:
            self.plan.take(Asks.NEWEST)
            self.answered(Answered(query, found), now_ms, max_concurrent)

    def failed(self, event: Failed) -> None:
        """Enter a failure. The round ends if it is final for the instrument, or the time is out of reach."""
        query, error = event.query, event.error
        absent = error.absent if isinstance(error, UnexpectedAnswer) else None
        if isinstance(error, RequestRejected) and self._is_unanswerable(error):
            self._unanswered(query, error)
            return
        if isinstance(error, UnexpectedAnswer) and absent is None and isinstance(query, Page | Tail | Again | Newest):
            if error.contradicts is not None and not self._is_wary:
                self.plan.doubts.doubt(error.contradicts)
                self.is_stale = True
            elif self.plan.received and isinstance(query, Page | Tail) and self.plan.refuted(query, str(error)):
                self.log.error("request_failed", query=repr(query), error=str(error))
                return
            else:
                self.is_stale |= self.plan.doubt_beside(query)
                self.contradiction = str(error)
        self.plan.failed(query, str(error), IdRange(*absent) if absent else None)
        is_proof = query == self.plan.neighbour or (isinstance(query, At) and not isinstance(query, Again))
        if is_proof and not _is_final(error):
            self.log.warning("first_id_unproven", error=str(error))
            return
        self.log.error("request_failed", query=repr(query), error=str(error))
        # For an unknown symbol, exchangeInfo's error says more: it may name the nearest one.
        if not isinstance(error, UnexpectedAnswer) and not is_unknown_symbol(self.error):
            self.error = error

    def arrived(self, found: Found) -> None:
        """Enter rows that nobody asked for."""
        self.plan.arrived(found)
        self._see(found)

    def _see(self, found: Found) -> None:
        self.newest_ms = max(self.newest_ms or 0, found.last_ms) or None

    def _announce(self, now_ms: int, max_concurrent: int) -> None:
        to_fetch, until_ms = sum(map(len, self.plan.missing)), self.known_days.until_ms
        if self.cached and until_ms is not None:
            fetched = self.plan.received.rows - self.cached
            log_gap(self.log, until_ms, now_ms, self.cached, to_fetch + fetched)
        log_plan(self.log, self.plan.missing, max_concurrent)

    def _check_seam(self, query: Query, found: Found) -> None:
        """Distrust a day of the window that holds an id below both the last trade before the window and the first one
        in it, as the exchange names them. One of them does not suffice: time may go back over a midnight."""
        if found.ids is not None and isinstance(query, Before) and not found.is_marker:
            self._before_id = found.ids.last_id
        if found.ids is not None and isinstance(query, Since):
            self._since_id = found.ids.first_id
        if self._before_id is None or self._since_id is None:
            return
        begins, first = min(self._before_id + 1, self._since_id), self._first_held()
        if first is None or first.first_id >= begins:
            return
        self.is_stale = True
        # Two answers alone prove nothing: then both are asked for again, until several say the same.
        self.needs_agreement = not self._is_wary
        if self._is_wary:
            reason = f"it holds id {first.first_id}, and the exchange has id {begins - 1} on an earlier day"
            self.distrusted = (first.day, reason)

    def _first_held(self) -> Certificate | None:
        """The first day of the window that is stored."""
        inside = [each for each in self.known_days.records.values() if day_start_ms(each.day) >= self.window.start_ms]
        return min(inside, key=lambda record: record.first_id, default=None)

    def _is_unanswerable(self, error: RequestRejected) -> bool:
        """Whether the exchange will not answer, but the stored trades may suffice: delisted symbols stay in the
        archive."""
        return error.code == TOO_OLD or (error.code == UNKNOWN_SYMBOL and bool(self.plan.received))

    def _unanswered(self, query: Query, error: RequestRejected) -> None:
        self.log.warning("unanswered", query=repr(query), error=str(error))
        self.plan.unanswered(query, str(error), too_old=error.code == TOO_OLD)
        if day_of(self.window.start_ms) in self.known_days.records:
            # The archive may have cut the stored days short.
            if query == self.plan.neighbour:
                self.unproven_ends.add("begins")
            elif isinstance(query, Tail | Newest) and self.window.stop_ms is not None:
                self.unproven_ends.add("ends")
            self.needs_seams = True
            self.is_stale |= not self._seams_were_tried
            return
        if isinstance(query, Page):
            return
        stop_ms = self._today_ms + 1 if self.window.stop_ms is None else self.window.stop_ms
        if self.window.start_ms + MS_PER_DAY < stop_ms:
            self.is_out_of_reach = self.is_stale = True
        elif isinstance(query, Since):
            self.lose(error)


def _is_final(error: BackfillError) -> bool:
    """Whether nothing that is asked of the instrument can come to a good end now."""
    if isinstance(error, RequestRejected):
        return error.code in {UNKNOWN_SYMBOL, None}
    return isinstance(error, TransientError | RateLimited)
