"""One instrument over the life of a daemon, as a state machine: events in, actions out.

    state             what is awaited                              leaves it on                       for
    LOADING           DaysLoaded, from the reader                  DaysLoaded                         ASKING
                                                                   ... of which the archive has all   AWAITING_ARCHIVE
                                                                   DaysUnreadable                     RESTING
    ASKING            answers, or a turn to ask                    nothing left to ask                SAVING
    AWAITING_ARCHIVE  days from the archive, before anything else  the last day has ended             YIELDING
    SAVING            Flushed, from the writer                     Flushed, absent ids to note        NOTING
                                                                   Flushed, files to write            SEALING
                                                                   Flushed                            RESTING
    NOTING            Flushed                                      as SAVING, without NOTING
    SEALING           Flushed                                      Flushed                            RESTING
    RESTING           RoundDue                                     RoundDue                           ASKING
    YIELDING          Flushed                                      Flushed                            LOADING, ASKING
    GONE              nothing

Theory. A *round* goes from ASKING to RESTING. What is received and what is on disk are two things: a question counts as
answered once its rows are on their way, and a round is over once a flush has come back. A plan is never changed to fit
new circumstances; the sync goes *stale*, and makes another one. It is stale when the window slides, when the archive
has ended, when a file or the spec has changed, when ids may be looked at again, or when an answer contradicts what is
stored. A stale sync asks nothing more. Once nothing is out it yields: it flushes, so that the certificates describe all
that it has received, and plans again from these. Certificates stay in memory; only days that are not known are loaded.

Rules. Everything that decides where a sync stands is in this file: what answers mean is in ``attempt``, what makes a
plan stale in ``circumstances``, which days are wanted in ``planning``. No clock is read: each event comes with its
:class:`Instant`. After each event the sync advances as far as it can. The window slides at the round after midnight,
once the days that leave it are sealed, or a day later.
"""

from collections.abc import Mapping
from datetime import date

from backfilld.core.backfill.asks import Asks
from backfilld.core.backfill.questions import Query
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import DayStart
from backfilld.core.model import day_of
from backfilld.core.sync import events as happened
from backfilld.core.sync.announcements import log_start
from backfilld.core.sync.circumstances import Circumstances
from backfilld.core.sync.events import (
    Action,
    Describe,
    EndRound,
    Event,
    Flush,
    Instant,
    LoadDays,
)
from backfilld.core.sync.planning import days_beside, days_of, wanted_window
from backfilld.core.sync.rests import LOOK_EVERY_S
from backfilld.core.sync.state import Phase
from backfilld.core.weight.fair_queue import Rank
from backfilld.errors import BackfillError

_HAS_NO_PLAN = {Phase.LOADING, Phase.YIELDING, Phase.GONE}

_CAN_YIELD = {Phase.ASKING, Phase.RESTING, Phase.AWAITING_ARCHIVE}


class InstrumentSync(Circumstances):
    """The backfill of one instrument and its top-ups. :meth:`begin` it once, then pass every event to :meth:`on`."""

    # -- what the scheduler asks

    def rank(self) -> Rank | None:
        """How urgent the next question is, None if there is none. Pages wait until the market's limits and the
        exchange's day are known."""
        if self.must_yield:
            return None
        if self._asks_archive_ends and self.phase not in _HAS_NO_PLAN:
            return Rank.TODAY
        if self.phase is not Phase.ASKING:
            return None
        return self.attempt.rank(self._asks, is_top_up=self.rounds > 0)

    def take(self) -> Query | None:
        """The next question; its answer must come back as an event."""
        if self.rank() is None:
            return None
        query = self.archive_ends.take() if self._asks_archive_ends else None
        return query or self.attempt.plan.take(self._asks)

    @property
    def _asks_archive_ends(self) -> bool:
        return self.archive_ends.is_pending and self._asks is not Asks.NEWEST

    # -- what happens

    def begin(self, now: Instant) -> list[Action]:
        """Load what is stored, and plan."""
        self._load(now)
        return self._taken()

    def on(self, event: Event, now: Instant) -> list[Action]:
        """Take one event into account; return the actions to perform, in this sequence."""
        self._take(event, now)
        self._advance(now)
        return self._taken()

    def _taken(self) -> list[Action]:
        actions = self._actions[:]
        self._actions.clear()
        return actions

    def _take(self, event: Event, now: Instant) -> None:
        self._is_doubted = now.is_doubted
        match event:
            case happened.Answered(query) | happened.Failed(query) if self.archive_ends.is_for(query):
                self.archive_ends.ended(event)
            case happened.Answered():
                self.has_answered = True
                self.attempt.answered(event, now.now_ms, self.spec.max_concurrent)
                self._named = event if self._is_planned_by_host or self.must_yield else None
                self._offer()
                self._remember_what_is_owed()
            case happened.Failed():
                self.attempt.failed(event)
            case happened.DayStored(record, conflicts):
                self._stored(record, conflicts)
            case happened.Flushed():
                self._flushed(now)
            case happened.RoundDue() if self.phase is Phase.RESTING:
                self._begin_round(now)
            case happened.DaysLoaded(records, shown):
                self._recall(shown)
                self._loaded(records, now)
            case happened.DaysUnreadable(error):
                self._lose_round(error, now)
            case _:
                self._take_circumstance(event, now)

    def _advance(self, now: Instant) -> None:
        """Advance until something has to be awaited."""
        self._take_archive(now)
        if self.phase not in _CAN_YIELD:
            return
        self._prove()
        if self.must_yield:
            if not (self.attempt.plan.is_waiting or self.archive_ends.is_out):
                self.phase = Phase.YIELDING
                renew = frozenset(self.certificates.unsealed) if self._is_removed else frozenset[date]()
                self._actions.append(Flush(renew, forgets=self._has_doubts))
        elif self.phase is Phase.ASKING and self._has_asked_all and not now.is_doubted:
            if self.attempt.begins_anew():
                self._advance(now)
                return
            self.phase = Phase.SAVING
            self.attempt.known_days.hand_over(self.attempt.plan.received)
            self._actions.append(Flush())

    def _take_archive(self, now: Instant) -> None:
        """Take the days from the archive once we know where they end and where today begins, or no answer is left that
        could say so. Wait until an answer has named the exchange's day: a day outside the window would stay on disk."""
        is_dated = not now.is_doubted and (now.server_ms is not None or not self._is_described_next)
        plan = self.attempt.plan
        is_waited_for = not self.draft.is_whole and plan.first_id is None and not plan.is_done
        if (
            not (self.archive_ends.is_ready and is_dated)
            or self.must_yield
            or (is_waited_for and self.attempt.error is None)
        ):
            return
        starts = frozenset[DayStart]()
        if not self.draft.is_whole and plan.first_id is not None:
            starts = frozenset({DayStart(day_of(self.attempt.window.start_ms), plan.first_id)})
        self.archive.ended(*self.archive_ends.empty_days())
        self._is_stale |= not self.archive.awaited
        action = self.archive_ends.taken(starts)
        if action.days:
            self._actions.append(action)

    # -- loading and planning

    def _load(self, now: Instant) -> None:
        """Plan from the days that the window needs, as soon as all are known."""
        window = wanted_window(self.spec, day_of(now.now_ms))
        needed = {*days_of(window, now.now_ms), *days_beside(window)}
        unknown = self.certificates.limit_to(needed)
        if unknown:
            self.phase = Phase.LOADING
            self._actions.append(LoadDays(unknown))
        else:
            self._plan(now)

    def _loaded(self, records: Mapping[date, Certificate | None], now: Instant) -> None:
        window = wanted_window(self.spec, day_of(now.now_ms))
        for day, record in records.items():
            self.certificates.loaded(day, record)
            if record is None and not self.spec.uncached and day not in days_beside(window):
                self.log.info("cache_missed", day=day.isoformat())
        self.support.trust(self.certificates.believed(self._written))
        if self._is_removed:
            self._leave()
        elif self.phase is Phase.LOADING:
            self._load(now)

    def _plan(self, now: Instant) -> None:
        self.attempt = self._attempt(now)
        if self._named is not None:
            self.attempt.reuse(self._named, now.now_ms, self.spec.max_concurrent)
            self._named = None
        self._lose_patience()
        received = self.attempt.plan.received.rows
        self.cached = min(self.cached, received) if self.is_planned else received
        self.is_planned = True
        self._locked = None
        self._is_stale = False
        self._is_planned_by_host = now.server_ms is None
        self.phase = Phase.ASKING
        self.archive.asked_at = now.monotonic_s
        self.archive.asked -= self.archive_ends.release()
        new = self.archive.await_days(self.draft.archive)
        if self.draft.archive:
            self.phase = Phase.AWAITING_ARCHIVE if self.draft.is_whole else Phase.ASKING
            self.log.info("archive_planned", days=[day.isoformat() for day in self.draft.archive])
        if new and self.spec.pulls:
            # Days of the bucket are proven already.
            self.archive_ends.hold(new)
        elif new:
            self._hold_archive(new, now)
        if not self._asked_symbol:
            self._asked_symbol = self._is_described_next = True
            self._actions.append(Describe())
        strategy = "uncached" if self.spec.uncached else "resume" if received else "full"
        window = self.draft.window
        log_start(self.log, window.start_ms, window.stop_ms or now.now_ms, strategy)

    # -- saving

    def _flushed(self, now: Instant) -> None:
        if self.phase is Phase.YIELDING:
            self._apply_answers(now)
            if self._is_removed:
                self._leave()
            else:
                self._load(now)
        elif self.phase in {Phase.SAVING, Phase.NOTING, Phase.SEALING}:
            self._prove()
            self._flush_or_end(now)

    def _flush_or_end(self, now: Instant) -> None:
        """Write what the day files do not say yet. The ids between two days may all be absent, which proves the ends of
        both; so absent ids are noted first, and each file is written once."""
        known_days = self.attempt.known_days
        absences = known_days.absences(self.attempt.plan, now.now_ms) if self.phase is Phase.SAVING else {}
        renew = frozenset[date]()
        if self.phase is not Phase.SEALING and not absences:
            renew = known_days.days_to_renew() | self._days_to_settle()
        if renew or absences:
            self.phase = Phase.NOTING if absences else Phase.SEALING
            self._actions.append(Flush(renew, absences))
        else:
            self.certificates.unsealed.clear()
            self._end_round(now)

    # -- rounds

    def _end_round(self, now: Instant) -> None:
        self.phase = Phase.RESTING
        self.rests_until = now.monotonic_s + self.spec.poll_s
        # The round goes on with another plan, as when the last day has come from the archive.
        if self.archive.awaited or self.must_yield:
            return
        self._offer()
        self.rounds += 1
        self.is_complete = self.outcome(now.monotonic_s).complete
        self._forgotten = 0
        if self.is_complete:
            self.support.trust(self.attempt.plan.received)
            self._written.clear()
        self._remember()
        self._actions.append(EndRound())
        self._rest(now)

    def _begin_round(self, now: Instant) -> None:
        """Ask again, or plan again."""
        self._look_for_a_plan(now)
        if not self.is_planned:
            self._load(now)
            return
        if self._looked_at + LOOK_EVERY_S <= now.monotonic_s:
            self._look_at_files(now)
        self.attempt.begin_round(asks_end=not self.is_followed)
        self.phase = Phase.ASKING

    def _lose_round(self, error: BackfillError, now: Instant) -> None:
        if str(error) != self._locked:
            self._locked = str(error)
            self.log.error("day_locked", error=str(error))
        self.attempt.lose(error)
        self._is_stale = self.attempt.is_stale = self.is_planned = False
        self._end_round(now)
