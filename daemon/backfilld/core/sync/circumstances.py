"""The events around a sync that may make its plan stale.

Owns the events that change what is known, and never the phase: :mod:`backfilld.core.sync.instrument` decides where the
sync stands after them.
"""

from datetime import date

from backfilld.core.backfill.outcome import is_unknown_symbol
from backfilld.core.day.certificate import Certificate
from backfilld.core.ids import IdSet
from backfilld.core.markets import RULES
from backfilld.core.model import day_of, day_start_ms
from backfilld.core.sync import events as happened
from backfilld.core.sync.archive_ends import starts_to_ask
from backfilld.core.sync.events import Event, Instant, LookAtFiles, Prove
from backfilld.core.sync.planning import wanted_window
from backfilld.core.sync.rests import ARCHIVE_AGAIN_S
from backfilld.core.sync.spec import RunSpec
from backfilld.core.sync.state import MOST_FORGOTTEN, SyncState
from backfilld.errors import UnexpectedAnswer


class Circumstances(SyncState):
    """A sync that takes note of the events around it."""

    def _take_circumstance(self, event: Event, now: Instant) -> None:  # noqa: C901 - a table
        match event:
            case happened.Arrived(found):
                self.attempt.arrived(found)
            case happened.PassedOver(ids):
                self.attempt.plan.absent |= IdSet((ids,))
            case happened.Described(listed_ms):
                self.listed_ms = listed_ms
                self._is_listed = self.has_answered = True
                self.is_unlisted = self._is_described_next = False
            case happened.Undescribed(error):
                self._undescribed(error)
            case happened.IsFollowed():
                self.is_followed = True
            case happened.ArchiveDayEnded(day, record, refusal):
                self._archive_ended(day, record, refusal)
            case happened.ArchivePaused(days):
                self._hold_archive(days, now)
            case happened.DaysAltered(days):
                self._altered(days)
            case happened.DayDeleted(day):
                self.certificates.removed(day)
                self.attempt.known_days.forget(day)
            case happened.SpecReplaced(spec):
                self._replace_spec(spec, now)
            case happened.ClockHeard():
                self._clock_heard(now)

    def _clock_heard(self, now: Instant) -> None:
        """A plan that was made by the host's clock may be of another day."""
        if now.server_ms is not None and self._is_planned_by_host:
            self._is_planned_by_host = False
            is_other_day = self.spec.window is None and day_of(now.server_ms) != self.attempt.today
            self._is_stale |= is_other_day or self.attempt.known_days.second_look_is_due(now.server_ms)

    def _hold_archive(self, days: tuple[date, ...], now: Instant) -> None:
        """Take these days from the archive once REST has said where they begin and end, as far as it answers for
        times so long ago. Nobody awaits days of which another plan has been made meanwhile."""
        window, awaited = self.draft.wanted, self.archive.awaited
        self.archive.asked -= {*days} - awaited
        days = tuple(day for day in days if day in awaited)
        asked = starts_to_ask(days, window, self.certificates.by_day, awaited)
        if not self.draft.is_whole:
            # The plan asks where today begins.
            asked.discard(self.attempt.today)
        lookback_ms = RULES[self.instrument.market].lookback_ms
        reach_ms = max(self._reach_ms, 0 if lookback_ms is None else now.now_ms - lookback_ms)
        within_reach = sorted(day for day in asked if day_start_ms(day) >= reach_ms and not self._is_unanswered)
        self.archive_ends.hold(days, asked=within_reach, very_first=self.attempt.known_days.very_first)

    def _look_for_a_plan(self, now: Instant) -> None:
        """Decide at the beginning of a round whether another plan is due: the window may begin a day later, ids that an
        answer passed over may exist by now, and the archive may have published a day that it lacked."""
        known_days = self.attempt.known_days
        self._is_stale |= known_days.second_look_is_due(now.now_ms) or bool(known_days.unstored)
        if self.spec.window is None:
            start_ms = wanted_window(self.spec, day_of(now.now_ms)).start_ms
            self._is_stale |= known_days.may_slide_to(start_ms)
        lacks_past = self.unreachable_before_ms is not None or known_days.lacks_past(day_start_ms(day_of(now.now_ms)))
        if self.archive.asked_at + ARCHIVE_AGAIN_S <= now.monotonic_s and lacks_past:
            self._reach_ms = 0
            self.archive.answered = frozenset()
            self._is_stale = True

    def _stored(self, record: Certificate, conflicts: int) -> None:
        self.certificates.stored(record)
        self._written.add(record.day)
        for other in self.certificates.sharing(record):
            # No two days have an id in common, so one of the two is wrong: one that is not proven at both ends.
            self._doubted_days |= {each.day for each in (record, other) if not each.sealed}
            self._is_stale |= bool(self._doubted_days)
        if self.attempt.known_days.saved(record):
            self.log.warning("day_lost_trades", day=record.day.isoformat())
            self._is_stale = True
        self.attempt.plan.certify(record.absent)
        self.conflicts += conflicts

    def _archive_ended(self, day: date, record: Certificate | None, refusal: str | None) -> None:
        """The day is stored now, or the archive lacks it. After the last day the whole window is planned."""
        if refusal is not None:
            self.log.warning("archive_refused", day=day.isoformat(), reason=refusal)
        elif record is not None:
            self.support.trust(record.coverage)
            self._stored(record, 0)
        else:
            self.certificates.altered({day})
        self.archive.ended(day)
        self._is_stale |= not self.archive.awaited

    def _altered(self, days: frozenset[date]) -> None:
        """Read these days again."""
        altered = self.certificates.altered(days)
        if altered:
            self.log.info("files_changed", days=sorted(day.isoformat() for day in altered))
            self._is_stale = True

    def _replace_spec(self, spec: RunSpec, now: Instant) -> None:
        self._quiet_rounds = 0
        self.rests_until = min(self.rests_until, now.monotonic_s + spec.poll_s)
        self._is_stale |= (spec.days, spec.window) != (self.spec.days, self.spec.window)
        self._is_removed = self.instrument not in spec.instruments
        self.is_followed &= not self._is_removed
        self.spec = spec
        self._actions.append(LookAtFiles())

    @property
    def _has_asked_all(self) -> bool:
        """Whether every question of this round has come back, or the round is lost and none is out."""
        plan, error = self.attempt.plan, self.attempt.error
        if error is None:
            return plan.is_done and (self._is_listed or self.is_unlisted)
        # exchangeInfo decides whether a symbol is unknown.
        return not plan.is_waiting and not (self._is_described_next and is_unknown_symbol(error))

    def _prove(self) -> None:
        """Say what is proven of days. Of rows that too few answers speak for, nothing is: so the next process knows."""
        if self.support.weak(self.attempt.plan.received):
            return
        starts = self.attempt.known_days.starts_to_prove(self.attempt.plan)
        if starts:
            self._actions.append(Prove(starts))

    def _days_to_settle(self) -> frozenset[date]:
        """The days whose files to write at the end of this round: all after the first round, then those that are over.
        The store knows when today's file is due. A round goes on while days are awaited from the archive."""
        if self.archive.awaited:
            return frozenset()
        stored = self.certificates.unsealed & self.attempt.known_days.records.keys()
        is_first = not self.rounds or self.spec.once
        return frozenset(stored if is_first else stored - {self.attempt.today})

    def _lose_patience(self) -> None:
        """What came was forgotten too often in this round."""
        if self._forgotten > MOST_FORGOTTEN:
            self.attempt.lose(UnexpectedAnswer(f"answers contradict each other again and again: {self._contradiction}"))
