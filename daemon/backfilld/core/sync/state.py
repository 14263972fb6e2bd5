"""Where one instrument stands: what is stored, what was asked, and what is planned.

Owns the memory of a sync between events, and what follows from it. How it changes is in
:mod:`backfilld.core.sync.instrument`.
"""

from datetime import date
from enum import Enum, auto
from math import inf

from backfilld.core.backfill.asks import Asks
from backfilld.core.backfill.newest_shown import NewestShown, ShownEnd
from backfilld.core.backfill.outcome import Outcome, exit_code, is_unknown_symbol
from backfilld.core.backfill.sources import within_reach
from backfilld.core.backfill.support import Support
from backfilld.core.day.certificate import Certificate
from backfilld.core.ids import IdSet
from backfilld.core.model import Instrument, day_of, day_start_ms
from backfilld.core.sync.announcements import Lines
from backfilld.core.sync.archive_ends import ArchiveEnds
from backfilld.core.sync.attempt import Attempt
from backfilld.core.sync.certificates import Certificates
from backfilld.core.sync.events import Action, Answered, Distrust, Instant, Leave, LookAtFiles, Offer, Remember
from backfilld.core.sync.planning import ArchiveState, drafted
from backfilld.core.sync.rests import phase_of, rest_s, rests_until
from backfilld.core.sync.result import Account, outcome_of
from backfilld.core.sync.spec import RunSpec
from backfilld.core.sync.standing import Standing
from backfilld.errors import EXIT_SETTINGS, BackfillError, RequestRejected

MOST_FORGOTTEN = 4
"""How often one round may begin anew with what answers contradict forgotten."""


class Phase(Enum):
    """Where a sync stands; see the table above."""

    LOADING = auto()
    ASKING = auto()
    AWAITING_ARCHIVE = auto()
    SAVING = auto()
    NOTING = auto()
    SEALING = auto()
    RESTING = auto()
    YIELDING = auto()
    GONE = auto()


class SyncState:
    """The state of one instrument's sync."""

    def __init__(self, instrument: Instrument, spec: RunSpec, now: Instant) -> None:
        self.instrument = instrument
        self.spec = spec
        self.phase = Phase.LOADING
        self.rests_until = 0.0
        self.rounds = 0
        self.is_complete = False
        self.complete_at: float | None = None
        self.is_followed = False
        self.requests = self.weight = self.cached = self.conflicts = 0
        self.began_at = now.monotonic_s
        self.archive = ArchiveState(now.monotonic_s)
        self.shown = NewestShown()
        self.archive_ends = ArchiveEnds(self.shown)
        self.support = Support()
        self._forgotten, self._contradiction = 0, ""
        self._written: set[date] = set()
        self.listed_ms: int | None = None
        self._has_recalled = self._has_remembered = False
        self.certificates = Certificates()
        self._reach_ms = 0
        self._is_unanswered = self._is_stale = self._is_removed = False
        self._is_listed = self.is_unlisted = self.has_answered = self.is_late = False
        self._asked_symbol = self._is_described_next = False
        self.is_planned = self.is_wary = False
        self._doubted_days: set[date] = set()
        self._named: Answered | None = None
        self._locked: str | None = None
        self._is_planned_by_host, self._is_doubted = True, False
        self._quiet_rounds = self._held_before = 0
        self._looked_at = now.monotonic_s
        self._actions: list[Action] = []
        self.log = Lines(self._actions)
        self.attempt = self._attempt(now)

    @property
    def fetched(self) -> int:
        """Trades that came from the exchange so far."""
        return self.attempt.plan.received.rows - self.cached

    @property
    def to_fetch(self) -> int:
        """Trades known to be missing still."""
        return sum(map(len, self.attempt.plan.missing))

    @property
    def unreachable_before_ms(self) -> int | None:
        """The time before which REST no longer answers, if the window reaches back to it; else None."""
        attempt = self.attempt
        is_at_reach = self._reach_ms == attempt.window.start_ms
        return self._reach_ms if is_at_reach and not self._is_the_very_first(attempt.plan.first_id) else None

    @property
    def _asks(self) -> Asks:
        """Which questions may be asked now. Rows may be asked for once the market's limits and the exchange's day are
        known. Until the exchange has named the day, and twice if it is not the host's, we only ask for what is the same
        on any day."""
        is_doubted = self._is_planned_by_host and self._is_doubted
        if self._is_listed and not is_doubted:
            return Asks.ALL
        is_dated = (
            self.spec.window is not None or not self._is_planned_by_host or (self.has_answered and not is_doubted)
        )
        return Asks.LOCATING if is_dated else Asks.NEWEST

    @property
    def must_yield(self) -> bool:
        """Whether the plan must end once every answer is back: another one replaces it, or the instrument leaves."""
        return self._is_stale or self._is_removed or self.attempt.is_stale

    @property
    def is_hopeless(self) -> bool:
        """Whether only the operator can mend the error, and the exchange has never answered for the instrument."""
        error = self.attempt.error
        return error is not None and exit_code(error) == EXIT_SETTINGS and not self.has_answered

    @property
    def is_refused(self) -> bool:
        """Whether a symbol that the daemon was started with must be misspelt: the exchange does not list it, and
        nothing of it is stored."""
        return self.is_unlisted and self.is_hopeless and not self.is_late

    def standing(self) -> Standing:
        """The standing, for display."""
        error = self.attempt.error
        return Standing(
            wanted=self.fetched + self.to_fetch,
            fetched=self.fetched,
            cached=self.cached,
            is_complete=self.is_complete,
            is_followed=self.is_followed,
            archive_days=len(self.archive.awaited),
            error=None if error is None else str(error),
            rests_until=self.rests_until if self.phase is Phase.RESTING else None,
            newest_ms=self.attempt.newest_ms,
            complete_at=self.complete_at,
        )

    def outcome(self, now_s: float) -> Outcome:
        """The outcome so far."""
        return outcome_of(
            Account(
                self.instrument,
                self.attempt,
                is_part=bool(self.archive.awaited) or (self.must_yield and not self.rounds),
                unreachable_before_ms=self.unreachable_before_ms,
                conflicts=self.conflicts,
                fetched=self.fetched,
                seconds=now_s - self.began_at,
                requests=self.requests,
                weight=self.weight,
            )
        )

    def _attempt(self, now: Instant) -> Attempt:
        draft = drafted(
            self.instrument,
            self.spec,
            now.now_ms,
            self.certificates.by_day,
            reach_ms=self._reach_ms,
            answered=self.archive.answered,
            is_unanswered=self._is_unanswered,
        )
        self.draft = draft
        return Attempt(
            self.instrument,
            draft,
            self.certificates.by_day,
            now,
            self.log,
            self.shown,
            self.listed_ms,
            seams_were_tried=self._is_unanswered,
            is_wary=self.is_wary,
            support=self.support,
        )

    def _is_the_very_first(self, first_id: int | None) -> bool:
        return first_id in self.attempt.known_days.very_first

    def _rests_on(self, record: Certificate, weak: IdSet) -> bool:
        """Whether a day has doubted ids, or this process wrote it, and may have cut it where one seemed to begin it."""
        is_own = record.day in self._written and (not record.sealed or bool(record.coverage & weak))
        return is_own or bool(record.coverage & self.attempt.plan.doubted)

    def _rest(self, now: Instant) -> None:
        received = self.attempt.plan.received.rows
        is_quiet = self.is_complete or isinstance(self.attempt.error, RequestRejected)
        has_news = self.rounds == 1 or received != self._held_before
        self._quiet_rounds = self._quiet_rounds + 1 if is_quiet and not has_news else 0
        self._held_before = received
        poll_s, newest_ms = self.spec.poll_s, self.attempt.newest_ms
        silent_s = inf if newest_ms is None else (now.now_ms - newest_ms) / 1000
        rest = rest_s(poll_s, self._quiet_rounds, silent_s)
        self.rests_until = rests_until(now.monotonic_s, poll_s, rest, phase_of(self.instrument))
        if self.is_complete:
            # We look at a quiet instrument less often on purpose; its data are not older for that.
            self.complete_at = self.rests_until - self.spec.poll_s

    def _offer(self) -> None:
        """Offer the live side to go on, once the newest trade of an open window is stored."""
        plan, received = self.attempt.plan, self.attempt.plan.received
        is_reached = bool(received) and plan.reaches_end and plan.last_id == received.last_id
        if is_reached and self.attempt.window.stop_ms is None and not self.is_followed:
            self._actions.append(Offer(received.last_id + 1, plan.row(received.last_id)))

    def _recall(self, shown: ShownEnd | None) -> None:
        """Take over what an earlier process has stored of the newest trade shown, once."""
        if shown is not None and not self._has_recalled:
            self.shown.recall(shown)
        self._has_recalled = True

    def _remember(self) -> None:
        start = self.attempt.first_after_empty_days
        if start is not None:
            self.shown.begin(start, self.attempt.window.start_ms)
        end = self.attempt.plan.shown_to_note()
        if end is not None:
            self._actions.append(Remember(end))

    def _remember_what_is_owed(self) -> None:
        """Store what is missing once both ends of the first plan are known, so that the next process knows it whatever
        kills this one."""
        if self.attempt.plan.is_located and not self._has_remembered:
            self._has_remembered = True
            self._remember()

    def _look_at_files(self, now: Instant) -> None:
        self._looked_at = now.monotonic_s
        self._actions.append(LookAtFiles())

    def _leave(self) -> None:
        self.phase = Phase.GONE
        self.log.info("instrument_removed")
        self._actions.append(Leave())

    def _apply_answers(self, now: Instant) -> None:
        """Apply the answers of the plan that ends: the next plan begins later if the exchange refused to answer for the
        start of the window, and files that the answers contradict are moved aside."""
        attempt = self.attempt
        if attempt.distrusted is not None:
            self._distrust(*attempt.distrusted)
        self.is_wary |= attempt.needs_agreement
        if self._has_doubts:
            self._forget_what_is_doubted()
        self._is_unanswered |= attempt.needs_seams
        if attempt.is_out_of_reach:
            start_ms = attempt.window.start_ms
            held_ms = [day_start_ms(day) for day in attempt.known_days.records if day_start_ms(day) > start_ms]
            # Not beyond the last day: if the exchange refuses even that, the round is lost and no new plan is made.
            last_ms = day_start_ms(day_of((attempt.window.stop_ms or now.now_ms) - 1))
            within_ms = within_reach(start_ms, now.now_ms, self.instrument.market)
            self._reach_ms = min([within_ms, last_ms, *held_ms])

    @property
    def _has_doubts(self) -> bool:
        """Whether answers contradict each other or the stored trades."""
        return bool(self.attempt.plan.doubted or self._doubted_days)

    def _forget_what_is_doubted(self) -> None:
        plan, days = self.attempt.plan, self._doubted_days
        doubted = plan.doubted | self.support.weak(plan.received)
        held = [record for record in self.certificates.by_day.values() if self._rests_on(record, doubted)]
        self.log.warning("answers_contradict", ids=[(each.first_id, each.last_id) for each in doubted.ranges])
        days |= {*(record.day for record in held), *self.certificates.unproven_beside(doubted, self._written)}
        for day in sorted(days):
            self._distrust(day, "it has ids of which answers contradict each other")
        self.support.forget(doubted)
        self.shown.forget(doubted)
        self._forgotten, self._contradiction = self._forgotten + 1, self.attempt.contradiction
        self._doubted_days, self.is_wary = set(), True

    def _distrust(self, day: date, reason: str) -> None:
        record = self.certificates.by_day.get(day)
        self._actions.append(Distrust(day, reason))
        self.support.forget(IdSet() if record is None else record.coverage)
        self.certificates.removed(day)

    def _undescribed(self, error: BackfillError) -> None:
        """Take a symbol that exchangeInfo does not describe. If it was delisted, the stored trades may suffice."""
        is_unlisted = is_unknown_symbol(error)
        self._is_described_next = False
        self.is_unlisted |= is_unlisted
        if is_unlisted and is_unknown_symbol(self.attempt.error):
            # This error may name the nearest symbol.
            self.attempt.error = error
        elif not (is_unlisted and self.attempt.plan.received):
            self.attempt.lose(error)
