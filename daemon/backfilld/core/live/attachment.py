"""Whether one instrument is attached to its stream, and what REST must be asked for it.

    UNKNOWN    where to begin is not known; what comes waits          begin -> DETACHED or JOINING or ATTACHED
    DETACHED   no connection: REST is asked every poll_s              opened -> JOINING
    JOINING    connected, and nothing proves that nothing was lost    heard or a short page -> ATTACHED
    ATTACHED   nothing is asked, but for holes and after silence_s    rows after silence_s -> DOUBTED
    DOUBTED    REST had rows and the stream did not                   heard -> ATTACHED; DOUBT_S later -> DEAD
    DEAD       the stream does not bring it: polled meanwhile         opened -> JOINING, heard -> ATTACHED;
                                                                      rows silence_s after opened -> DOUBTED

    any        lost -> DETACHED

An acknowledged subscription proves nothing; only a message does, or a page that has nothing more. After a death only a
message does: JOINING -> DEAD until then. A hole is asked for in every state once it is older than REST is behind the
stream, which is learned: an answer that lacks the rows is "not yet", and the next hole waits longer. A hole is given up
that REST denies for patience_s: it passes over the ids, or lacks them while the stream goes on behind them. One or two
trades that wait may have a wrong id: if REST does not reach them for UNREACHED_S, they are forgotten.

Owns the questions of one instrument. Never looks at a clock; must not know connections or channels.
"""

from collections.abc import Sequence as Rows
from enum import Enum, auto
from math import inf

from backfilld.core.backfill.questions import Neighbour
from backfilld.core.live.asks import Ask, Why
from backfilld.core.live.delay import Delay
from backfilld.core.live.patience import Patience, Times
from backfilld.core.live.reports import Healed
from backfilld.core.live.sequence import Sequence
from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import PAGE_ROWS, IdRange
from backfilld.core.retry import doubled

JOIN_S = 2.0
"""Seconds that a new connection gets to speak before REST is asked what was lost: most symbols speak within them."""

SETTLED_S = 5.0
"""A stream that was open so long before the last answer of REST has everything since: REST is not that far behind. A
younger one is trusted as well, and REST is asked once more when there is weight for caution."""

DOUBT_S = 2.0
"""Seconds that a stream gets to deliver what REST has already."""

UNREACHED_S = 600.0
"""A trade that REST has not reached for so long is forgotten: REST was never seen so far behind, so its id is wrong."""

GOES_ON = 3
"""A stream that has brought so many trades behind a hole goes on there: the ids before them exist."""

FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 5.0
LONGEST_PAUSE_S = 60.0
"""A pause that the exchange asked for is looked at again after this at the latest: somebody may have ended it."""

LONGEST_QUIET = 16
"""A quiet instrument is asked about ever more rarely, down to once in so many times silence_s."""


class State(Enum):
    """Where an attachment stands."""

    UNKNOWN = auto()
    DETACHED = auto()
    JOINING = auto()
    ATTACHED = auto()
    DOUBTED = auto()
    DEAD = auto()


class Attachment:
    """One instrument's attachment. ``times`` may be replaced."""

    def __init__(self, times: Times, now: float) -> None:
        self.times = times
        self.sequence = Sequence()
        self.state = State.UNKNOWN
        self.published = 0
        self.deaths = 0
        """How many connections in a row were found dead for this instrument."""
        self.last: LiveTrade | None = None
        self._opened_at: float | None = None
        self._heard_at = now
        self._heard_id = -1
        self._asked_at = -inf
        self._is_asking = False
        self._not_before = -inf
        self._delay = Delay()
        self._quiet = 1
        self._failures = 0
        self._hole: IdRange | None = None
        self._hole_began = now
        self._hole_requests = 0
        self._is_passed_over = False
        self._patience = Patience()
        self._doubted_at = now
        self._is_unsettled = False
        """Whether REST's last answer may lack what came just before the stream was opened; asked as mere caution."""

    @property
    def is_attached(self) -> bool:
        """Whether the stream brings this instrument's trades, as far as is known."""
        return self.state is State.ATTACHED or (self.state is State.DOUBTED and not self.deaths)

    @property
    def is_silent(self) -> bool:
        """Whether REST has had trades that the stream did not bring, and no message has come since."""
        return self.deaths > 0

    @property
    def next_id(self) -> int | None:
        """The id that is given out next."""
        return self.sequence.next_id

    # -- what happened

    def begin(self, next_id: int, now: float, last: Neighbour | None = None) -> list[LiveTrade]:
        """Begin at ``next_id``, which REST has just shown to come next, behind ``last``."""
        ready = self._counted(self.sequence.begin(next_id, last))
        if self._opened_at is None:
            self.state = State.DETACHED
        else:
            self.state = State.ATTACHED
            self._is_unsettled = not ready and self._opened_at + SETTLED_S > now
        self._asked_at = self._heard_at = now
        return ready

    def opened(self, now: float) -> None:
        """A connection is subscribed to the instrument."""
        self._opened_at = now
        if self.state not in {State.UNKNOWN, State.ATTACHED}:
            self.state = State.JOINING

    def lost(self) -> None:
        """No connection is subscribed any more."""
        self._opened_at = None
        self._is_unsettled = False
        if self.state is not State.UNKNOWN:
            self.state = State.DETACHED

    def heard(self, trades: Rows[LiveTrade], now: float, latest_ms: float = inf) -> list[LiveTrade]:
        """Take trades of the stream, of which none can have a time after ``latest_ms``. It speaks if one of them is
        believed and has a higher id than all that it brought before, or comes next."""
        refused, waiting = self.sequence.tally.implausible, self.sequence.waiting
        ready = self._counted(self.sequence.take(trades, now, latest_ms))
        is_early = self.sequence.waiting > waiting
        if is_early:
            self._delay.has_news(now)
        newest_id = max(each.a for each in trades)
        is_old = newest_id <= self._heard_id or self.sequence.tally.implausible > refused
        if is_old and not (ready or is_early):
            return ready
        self._heard_id = max(self._heard_id, newest_id)
        self._heard_at = now
        self._quiet = 1
        self.deaths = 0
        self._is_unsettled = False
        # What this shows to be missing is a hole from now on; the stream itself speaks.
        if self.state in {State.JOINING, State.DOUBTED, State.DEAD}:
            self.state = State.ATTACHED
        return ready

    def asked(self, now: float) -> None:
        """The question was sent."""
        self._is_asking = True
        self._asked_at = now
        self._hole_requests += self.sequence.hole is not None

    def answered(self, trades: Rows[LiveTrade], why: Why, now: float) -> list[LiveTrade]:
        """REST answered with these rows, from the id asked for on, up to a full page."""
        self._is_asking = False
        self._failures = 0
        had_hole = self.sequence.hole is not None
        ready = self._counted(self.sequence.fill(trades, now))
        is_full = len(trades) >= PAGE_ROWS
        if had_hole and self.sequence.hole is not None and not is_full:
            if self.sequence.waiting >= GOES_ON:
                self._patience.denied(now)
            elif not self._patience.is_tried:
                self.sequence.forget(now - UNREACHED_S)
            self._delay.lacked(self.sequence.hole_since, now)
        elif had_hole:
            self._delay.filled()
        if is_full and ready:
            # More follows: nothing is known of the end yet.
            self._asked_at, self._not_before = -inf, now
            return ready
        if self.state is State.JOINING or self._is_unsettled:
            self.state, self._is_unsettled = State.DEAD if self.is_silent else State.ATTACHED, False
            self._heard_at = now
        elif self.state is State.DEAD and ready and (self._opened_at or inf) + self.times.silence_s <= now:
            self.state, self._doubted_at = State.DOUBTED, now
        elif self.state is State.ATTACHED and why is Why.SILENCE:
            self._note_silence(is_dead=bool(ready), now=now)
        return ready

    def passed_over(self, absent: IdRange, now: float) -> None:
        """REST answered with rows behind these ids, which it does not have."""
        self._is_asking = False
        self._is_passed_over = True
        self.sequence.expect(absent.last_id + 1, now)
        self._patience.denied(now)
        self._delay.lacked(self.sequence.hole_since, now)

    def failed(self, now: float, pause_s: float = 0.0) -> None:
        """REST did not answer; the exchange asked for a pause of ``pause_s``."""
        self._is_asking = False
        self._failures += 1
        retry_s = doubled(FIRST_RETRY_S, LONGEST_RETRY_S, self._failures)
        self._not_before = now + max(retry_s, min(LONGEST_PAUSE_S, pause_s))

    # -- what is to be done

    def due_at(self) -> float:
        """When :meth:`question` or :meth:`is_dead` may say something else."""
        times = [inf]
        if not self._is_asking and self.state is not State.UNKNOWN:
            times.append(max(self._question_at()[0], self._not_before))
        if self.state is State.DOUBTED:
            times.append(self._doubted_at + DOUBT_S)
        return min(times)

    def question(self, now: float) -> Ask | None:
        """What to ask REST now."""
        if self._is_asking or self.next_id is None or self.state is State.UNKNOWN:
            return None
        due_at, why = self._question_at()
        return Ask(self.next_id, why) if max(due_at, self._not_before) <= now else None

    @property
    def is_overdue(self) -> bool:
        """Whether the exchange has denied the hole for so long that it is to be given up."""
        return self.sequence.hole is not None and self._patience.is_over(self.times.patience_s)

    def give_up(self) -> tuple[IdRange, bool, list[LiveTrade]]:
        """Go on past the hole: its ids, whether REST passed them over, and what can go out now."""
        ids, ready = self.sequence.give_up()
        was_passed_over, self._is_passed_over = self._is_passed_over, False
        self._hole = None
        self._patience.begin_anew()
        return ids, was_passed_over, self._counted(ready)

    def is_dead(self, now: float) -> bool:
        """Whether the stream has just been found dead. True once per death."""
        if self.state is not State.DOUBTED or self._doubted_at + DOUBT_S > now:
            return False
        self.state = State.DEAD
        self.deaths += 1
        return True

    def healed(self, now: float) -> Healed | None:
        """The hole that was filled since the last call."""
        hole, since = self.sequence.hole, self.sequence.hole_since
        if self._hole is not None and (hole is None or hole.first_id > self._hole.last_id):
            healed = Healed(self._hole, now - self._hole_began, self._hole_requests)
            self._hole = None
            self._is_passed_over = False
            return healed
        if self._hole is None and hole is not None and since is not None:
            self._hole, self._hole_began, self._hole_requests = hole, since, int(self._is_asking)
        return None

    # -- inside

    def _counted(self, ready: list[LiveTrade]) -> list[LiveTrade]:
        if ready:
            self.published += len(ready)
            self.last = ready[-1]
            self._patience.begin_anew()
        return ready

    def _question_at(self) -> tuple[float, Why]:
        since = self.sequence.hole_since
        if since is not None:
            return self._delay.due_at(since), Why.HOLE
        match self.state:
            case State.DETACHED | State.DEAD:
                return self._asked_at + self.times.poll_s, Why.POLL
            case State.JOINING:
                return (self._opened_at or 0.0) + JOIN_S, Why.JOIN
            case State.ATTACHED if self._is_unsettled:
                return (self._opened_at or 0.0) + JOIN_S, Why.SILENCE
            case State.ATTACHED:
                quiet_since = max(self._heard_at, self._asked_at)
                return quiet_since + self.times.silence_s * self._quiet, Why.SILENCE
            case _:
                return inf, Why.SILENCE

    def _note_silence(self, *, is_dead: bool, now: float) -> None:
        if is_dead and self._heard_at < self._asked_at:
            self.state, self._doubted_at = State.DOUBTED, now
        else:
            self._quiet = min(LONGEST_QUIET, self._quiet * 2)
