"""One instrument in the scheduler's hands: its plan, what is on disk, what it has cost so far, and its lines in the
log.

Owns the phases of a round: ask, flush, tell, seal, rest. Must not touch channels or stores; the scheduler does.
"""

from collections.abc import Iterable
from datetime import date
from enum import Enum, auto

import structlog

from backfilld.actors.announcements import log_gap, log_plan
from backfilld.actors.messages import FlushDays, FollowFrom, JobAnswered, JobFailed, Spent
from backfilld.core.backfill.outcome import TOO_OLD, UNKNOWN_SYMBOL, Outcome, missing_sentences
from backfilld.core.backfill.questions import Before, Newest, Page, Query, Since, Tail
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.figures import Figures
from backfilld.core.markets import RULES
from backfilld.core.model import MS_PER_DAY, IdRange, Instrument, day_of, day_start_ms, iso
from backfilld.core.sync.known_days import KnownDays
from backfilld.core.sync.standing import Standing
from backfilld.core.timespan import TimeSpan
from backfilld.core.weight.fair_queue import Rank
from backfilld.errors import DayLocked, ExchangeError, RateLimited, RequestRejected, TransientError, UnexpectedAnswer

log = structlog.get_logger()


class Phase(Enum):
    """Where a round stands."""

    ASKING = auto()
    SAVING = auto()
    TELLING = auto()
    SEALING = auto()
    RESTING = auto()
    YIELDING = auto()
    AWAITING_ARCHIVE = auto()


_CAN_YIELD = {Phase.ASKING, Phase.RESTING, Phase.AWAITING_ARCHIVE}


class InstrumentSync:
    """The backfill of one instrument and window, and its top-ups."""

    def __init__(
        self,
        instrument: Instrument,
        window: TimeSpan,
        records: Iterable[Certificate],
        *,
        now_ms: int,
        server_ms: int | None,
        began_at: float,
        max_concurrent: int,
        proves_first: bool = True,
    ) -> None:
        self.instrument = instrument
        self.window = window
        very_first = RULES[instrument.market].first_id
        self.known_days = KnownDays(window, records, server_ms, frozenset(() if very_first is None else (very_first,)))
        self._today_ms = day_start_ms(day_of(now_ms))
        # Where days before today are wanted too, today comes first.
        newest_first = window.stop_ms is None and window.start_ms < self._today_ms
        self.plan = self.known_days.plan(now_ms, newest_first=newest_first, proves_first=proves_first)
        self.phase = Phase.ASKING
        self._older_to_id = -1
        self.cached = self.plan.received.rows
        self._newest_ms = self.known_days.until_ms
        self.began_at = began_at
        self.rests_until = 0.0
        self.rounds = 0
        self.error: ExchangeError | DayLocked | None = None
        self.log = log.bind(instrument=str(instrument))
        self._max_concurrent = max_concurrent
        self.requests = self.weight = 0
        self._conflicts = 0
        self._planned = False
        self.is_complete = False
        self.is_stale = False
        self.is_removed = False
        self.is_followed = False
        self.is_locked = False
        self.distrusted: tuple[date, str] | None = None
        self.is_out_of_reach = False
        self.needs_seams = self.seams_were_tried = False
        self.unreachable_before_ms: int | None = None
        self._untold_ends: set[str] = set()
        self.archive_days: frozenset[date] = frozenset()
        self.archive_asked_at = began_at

    @property
    def fetched(self) -> int:
        """Trades that came from the exchange so far."""
        return self.plan.received.rows - self.cached

    @property
    def to_fetch(self) -> int:
        """Trades known to be missing still."""
        return sum(map(len, self.plan.missing))

    def rank(self, *, pages: bool) -> Rank | None:
        """How urgent the next question is, None if there is none; ``pages`` says whether many may be asked for now."""
        query = self.plan.next_question(pages=pages) if self._is_asking else None
        if query is None:
            return None
        if self.rounds:
            return Rank.TOP_UP
        return Rank.OLDER if isinstance(query, Page) and query.ids.last_id <= self._older_to_id else Rank.TODAY

    def take(self, *, pages: bool) -> Query | None:
        """The next question, unless the sync is lost."""
        return self.plan.take(pages=pages) if self._is_asking else None

    @property
    def _is_asking(self) -> bool:
        return self.phase is Phase.ASKING and self.error is None and not self.must_yield

    @property
    def must_yield(self) -> bool:
        """Whether it is to give way, once nothing is open: to another plan made from what is on disk, or to none."""
        return self.is_stale or self.is_removed

    @property
    def may_yield(self) -> bool:
        """Whether it must give way and can: what it has may be flushed."""
        return self.must_yield and not self.plan.is_waiting and self.phase in _CAN_YIELD

    @property
    def has_asked_all(self) -> bool:
        """Whether every question of this round has come back, or the sync is lost and none is open."""
        return self.phase is Phase.ASKING and (self.plan.is_done if self.error is None else not self.plan.is_waiting)

    def spend(self, spent: Spent) -> None:
        """Book what a job has cost."""
        self.requests += spent.requests
        self.weight += spent.weight

    def answered(self, event: JobAnswered, now_ms: int) -> None:
        """Book an answer."""
        self.spend(event.spent)
        self.plan.answered(event.job.query, event.found, now_ms)
        self.newest(event.found.last_ms)
        if isinstance(event.job.query, Before) and event.found.ids and not event.found.is_marker:
            self._check_seam(event.found.ids.last_id)
        if event.found.ids is not None and event.found.first_ms < self._today_ms:
            self._older_to_id = max(self._older_to_id, event.found.ids.first_id)
        if self.plan.is_located and not self._planned:
            self._planned = True
            if self.cached and self.known_days.until_ms is not None:
                log_gap(self.log, self.known_days.until_ms, now_ms, self.cached, self.to_fetch + self.fetched)
            log_plan(self.log, self.plan.missing, self._max_concurrent)

    def newest(self, last_ms: int) -> None:
        """A trade of that time was seen; 0 for none."""
        self._newest_ms = max(self._newest_ms or 0, last_ms) or None

    def standing(self) -> Standing:
        """How it stands now."""
        return Standing(
            wanted=self.fetched + self.to_fetch,
            fetched=self.fetched,
            cached=self.cached,
            is_complete=self.is_complete,
            is_followed=self.is_followed,
            archive_days=len(self.archive_days),
            error=None if self.error is None else str(self.error),
            rests_until=self.rests_until if self.phase is Phase.RESTING else None,
            newest_ms=self._newest_ms,
        )

    @property
    def offer(self) -> FollowFrom | None:
        """Where the live side may go on, if the newest end of an open window is reached."""
        received = self.plan.received
        if self.is_followed or self.window.stop_ms is not None or not received or self.plan.last_id != received.last_id:
            return None
        return FollowFrom(self.instrument, received.last_id + 1)

    def _check_seam(self, last_id: int) -> None:
        """The last trade before the window by the exchange's word: no day of the window can hold it."""
        first = min(self.known_days.records.values(), key=lambda record: record.first_id, default=None)
        if first is not None and first.first_id <= last_id and day_start_ms(first.day) >= self.window.start_ms:
            reason = f"it holds id {first.first_id}, and the exchange has id {last_id} on an earlier day"
            self.distrusted = (first.day, reason)
            self.is_stale = True

    def failed(self, event: JobFailed, query: Query) -> None:
        """Book a failure; one that is final for the instrument, or out of reach, ends its sync for this round."""
        self.spend(event.spent)
        absent = event.error.absent if isinstance(event.error, UnexpectedAnswer) else None
        if isinstance(event.error, RequestRejected) and self._is_unanswerable(event.error):
            self._unanswered(query, event.error)
            return
        self.plan.failed(query, str(event.error), IdRange(*absent) if absent else None)
        if query == self.plan.neighbour and not _is_final(event.error):
            self.log.warning("first_id_unproven", error=str(event.error))
            return
        self.log.error("request_failed", query=repr(query), error=str(event.error))
        if not isinstance(event.error, UnexpectedAnswer):
            self.error = event.error

    def _is_unanswerable(self, error: RequestRejected) -> bool:
        """Whether asking is in vain and what is held may do all the same: delisted symbols live on in the archive."""
        return error.code == TOO_OLD or (error.code == UNKNOWN_SYMBOL and bool(self.plan.received))

    def _unanswered(self, query: Query, error: RequestRejected) -> None:
        self.log.warning("unanswered", query=repr(query), error=str(error))
        self.plan.unanswered(query, str(error), too_old=error.code == TOO_OLD)
        if day_of(self.window.start_ms) in self.known_days.records:
            # What is held may have been cut short by the archive.
            if query == self.plan.neighbour:
                self._untold_ends.add("begins")
            elif isinstance(query, Tail | Newest) and self.window.stop_ms is not None:
                self._untold_ends.add("ends")
            self.needs_seams = True
            self.is_stale |= not self.seams_were_tried
            return
        if isinstance(query, Page):
            return
        stop_ms = self._today_ms + 1 if self.window.stop_ms is None else self.window.stop_ms
        if self.window.start_ms + MS_PER_DAY < stop_ms:
            self.is_out_of_reach = self.is_stale = True
        elif isinstance(query, Since):
            self.lose(error)

    def saved(self, record: Certificate, conflicts: int) -> None:
        """Book a day that stands on disk; what was held before and is no more is noticed."""
        if self.known_days.saved(record):
            self.log.warning("day_lost_trades", day=record.day.isoformat())
            self.is_stale = True
        self.plan.certify(record.absent)
        self._conflicts += conflicts

    def next_flush(self, now_ms: int) -> FlushDays | None:
        """After a flush: what the day files do not say yet, None if they say all. Ids that are told to be absent may be
        what was between the ends of two days."""
        renew = self.known_days.days_to_renew() if self.phase is not Phase.SEALING else frozenset()
        absences = self.known_days.absences(self.plan, now_ms) if self.phase is Phase.SAVING else {}
        if not (renew or absences):
            return None
        self.phase = Phase.TELLING if absences else Phase.SEALING
        return FlushDays(self.instrument, renew, absences)

    def await_archive(self, days: Iterable[date], *, alone: bool) -> None:
        """These days are on their way from the archive; ``alone`` if there is nothing to ask before they are there."""
        self.archive_days = frozenset(days)
        if alone:
            self.phase = Phase.AWAITING_ARCHIVE

    def archive_day_ended(self, day: date) -> None:
        """The day is held now, or the archive does not have it. After the last one the whole window is planned."""
        self.archive_days -= {day}
        self.is_stale |= not self.archive_days

    @property
    def lacks_past(self) -> bool:
        """Whether a day before today is out of reach, or not complete."""
        return self.unreachable_before_ms is not None or self.known_days.lacks_past(self._today_ms)

    def begin_round(self) -> None:
        """Ask again: for what is new and what failed."""
        self.error = None
        self._untold_ends.clear()
        self.phase = Phase.ASKING
        self.plan.top_up(asks_end=not self.is_followed)

    def lose(self, error: ExchangeError) -> None:
        """Nothing more can be had of the instrument in this round."""
        self.error = self.error or error

    def lock(self, error: DayLocked) -> None:
        """No key opens a day file: nothing is asked until the file is gone or can be read."""
        self.error = error
        self.is_locked = True

    def undescribed(self, error: ExchangeError) -> None:
        """ExchangeInfo could not be had of the instrument; what is held of one that is not listed any more may do."""
        is_unlisted = isinstance(error, RequestRejected) and error.code == UNKNOWN_SYMBOL
        if not (is_unlisted and self.plan.received):
            self.lose(error)

    def follow(self, before: "InstrumentSync") -> None:
        """Go on where an older plan of the same instrument left off."""
        self.began_at = before.began_at
        self.rounds = before.rounds
        self.requests, self.weight = before.requests, before.weight
        self.cached = min(before.cached, self.plan.received.rows)

    def outcome(self, now: float, context: Figures | None) -> Outcome:
        """What it came to so far."""
        reasons = [self._explained(self.error)] if self.error else [each.reason for each in self.plan.failures]
        reasons += missing_sentences(self.plan.missing)
        if self.unreachable_before_ms is not None:
            until = iso(self.unreachable_before_ms)
            reasons.append(f"the exchange answers nothing of before {until}, and the archive has not all of it")
        for end in sorted(self._untold_ends):
            reasons.append(f"nothing proves with which trade it {end}: neither the exchange nor the archive tells")
        if self._conflicts:
            reasons.append(f"{self._conflicts} trades conflict with others under the same id")
        is_part = bool(self.archive_days) or (self.is_stale and not self.rounds)
        in_doubt = is_part or self._untold_ends or self._conflicts or self.error or self.unreachable_before_ms
        complete = self.plan.is_complete and not in_doubt
        if not complete and not reasons:
            reasons.append("it was stopped before it was complete")
        trades = self.plan.received.rows if context is None else context.trades
        return Outcome(
            instrument=self.instrument,
            complete=complete,
            trades=trades,
            cached=max(0, trades - self.fetched),
            seconds=now - self.began_at,
            requests=self.requests,
            weight=self.weight,
            context=context,
            missing=self.plan.missing,
            reasons=tuple(dict.fromkeys(reasons)),
            error=self.error,
        )

    def _explained(self, error: ExchangeError | DayLocked) -> str:
        if isinstance(error, RequestRejected) and error.code == UNKNOWN_SYMBOL:
            return f"the exchange lists no such symbol ({error})"
        return str(error)


def _is_final(error: ExchangeError) -> bool:
    """Whether nothing that is asked of the instrument can come to a good end now."""
    if isinstance(error, RequestRejected):
        return error.code in {UNKNOWN_SYMBOL, None}
    return isinstance(error, TransientError | RateLimited)
