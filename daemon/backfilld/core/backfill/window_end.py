"""Where a window ends: its last id, and what proves it.

Owns the questions that find the last id, and the rule for when their answers suffice.

One answer proves no end: servers cap their pages, and replicas lag. A short or empty tail shows only how far this
answer went. So:

1. The highest id of the window that any source names counts: a page, a tail, the newest trade, a stream. The ids up to
   there are missing until they are stored.
2. The first trade after a closed window proves its end: all ids before that trade are wanted. One answer alone does not
   prove that its time lies after the window. It must also show a trade that another answer has named or brought, or a
   second question must lead to it (:mod:`.behind`).
3. An open window ends where two independent questions agree: a tail ended there with nothing behind it, and the newest
   trade, asked for by itself, is that one. A later tail that went further agrees too if its last trade is recent: the
   market went on meanwhile.
4. Both answers may come from one stale replica. If the newest trade is older than the pace of trades explains, it is
   asked for with the thousand before it, whose longest pause may explain this one. If it does not, ANSWERS_IN_SILENCE
   answers must agree, unless the same end was agreed on lately.
5. Once an end is agreed on, a later round asks one question: the tail from the last trade on, that trade included. An
   answer without it is wrong. If nothing new comes, that trade is still the end. If recent trades come and the page is
   not full, the last of them is the end. In any other case the newest trade is asked for too.
6. A newest trade below one that was shown is a contradiction. It is asked for again; in the end the question fails.
7. An id that is far above the others needs two answers before it is believed (:mod:`.far_ids`).
8. No end is agreed on below a trade that was ever shown, by this process or an earlier one (:mod:`.newest_shown`).

Every round is bounded: each tail brings rows or ends, and the newest trade is asked for at most MOST_NEWEST times.
"""

from backfilld.core.backfill.behind import FirstBehind
from backfilld.core.backfill.far_ids import FarIds
from backfilld.core.backfill.newest_shown import NewestShown
from backfilld.core.backfill.pace import Pace
from backfilld.core.backfill.questions import Found, Newest, Query, Tail
from backfilld.core.model import PAGE_ROWS

ANSWERS_IN_SILENCE = 12
"""How many answers must agree that trading has stopped where it should go on. If every second answer came from the same
stale replica, one start in 4,000 would believe it."""

MOST_NEWEST = 24
"""How often one round asks for the newest trade."""

MOST_BELOW_SHOWN = 8
"""How often one round asks for it while the answers name none, or one below a trade that was shown before."""

AGREEING, MOST_REFUTED = 2, 2
"""How many independent questions must agree on an end, and how many ends may turn out wrong in one round."""


class WindowEnd:
    """The last id of a window that stops at ``stop_ms``, or is open (None). ``shown`` is what was shown before."""

    def __init__(self, stop_ms: int | None, shown: NewestShown | None = None) -> None:
        self.shown = shown or NewestShown()
        self._last_id: int | None = None
        self._is_found = False
        self.last_ms = 0
        self.beyond_id: int | None = None  # The first id behind the window, once it is believed.
        self._stop_ms = stop_ms
        self._agreed_id: int | None = None
        self._held_id: int | None = None
        self._accepted_silence: int | None = None
        self._far_ids = FarIds()
        self._behind = FirstBehind()
        self._begin(polls=False)

    def _begin(self, *, polls: bool) -> None:
        self.is_agreed = self.is_failed = False
        self._polls = polls
        self._waiting = self._was_full = self._is_last_of_all = self._seeks_lull = False
        self._named: int | None = None
        self._behind_id: int | None = None
        self._tail_end: int | None = None
        self._votes = self._asked = self._unnamed = self._refuted = 0

    @property
    def last_id(self) -> int | None:
        """The highest id that is known to belong to the window, or the last one before it, where the window is empty;
        None as long as no question for the end was answered."""
        return self._last_id if self._is_found else None

    @property
    def wants_tail(self) -> bool:
        """Whether the page that reaches the last id known is to be asked for as a tail."""
        return not (self.is_agreed or self.is_failed or self._waiting)

    @property
    def is_shown(self) -> bool:
        """Whether an answer of this round named the last id known, or ended with it."""
        return self.is_agreed or (self._last_id is not None and self._last_id in {self._named, self._tail_end})

    def reaches(self, start_ms: int) -> bool:
        """Whether a trade at or after this time was shown."""
        return self._last_id is not None and self.last_ms >= start_ms

    def hold(self, last_id: int, last_ms: int) -> None:
        """The trades up to this one are stored from before."""
        self._last_id, self.last_ms = last_id, last_ms
        self._held_id = last_id
        self._is_found = True

    def settle(self, last_id: int | None) -> None:
        """The end is this id for the rest of the round, None if there is no trade."""
        self._last_id = last_id
        self.is_agreed = self._is_found = True
        self._waiting = False

    def show(self, last_id: int, last_ms: int, *, by_tail: bool = False) -> None:
        """A trade with this id exists. An answer that named a lower newest trade was incomplete, unless the tail went
        on from there."""
        if self.beyond_id is not None:
            return
        if self._far_ids.came_first(last_id, self._last_id):
            self._last_id, self.last_ms, self._named = last_id, 0, None
        elif not self._far_ids.accepts(last_id, self._last_id):
            return
        self.shown.show(last_id, last_ms)
        if self._last_id is None or last_id > self._last_id:
            self._last_id, self.last_ms, self._votes = last_id, last_ms, 0
            if self._named is not None and not by_tail:
                self._named = None

    def show_behind(self, query: Query, found: Found) -> bool:
        """Take note of a trade after the window that an answer may show. Return whether it is believed: all ids before
        the lowest such trade are then the window's."""
        beyond_id = self._behind.shown(query, found)
        if beyond_id is None:
            return False
        if self.beyond_id is None or beyond_id < self.beyond_id:
            self.beyond_id, self._last_id = beyond_id, beyond_id - 1
        self.is_agreed = self._is_found = True
        self._waiting = False
        return True

    def begin_round(self, held: tuple[int, int] | None) -> None:
        """Ask again for the end; with one question, if it was agreed on. ``held`` is the last trade stored: ids above
        it that were only named count for one round."""
        if held is not None and self.beyond_id is None:
            self._last_id, self.last_ms = held
        was_agreed = self.is_agreed and self._last_id is not None
        self._agreed_id, self._held_id = self._last_id if was_agreed else None, None
        self._begin(polls=was_agreed)
        self.is_agreed = self.beyond_id is not None

    def question(self, *, holds_rows: bool, is_filled: bool) -> Query | None:
        """The next question about the end, if there is one. ``is_filled`` says that no page is left to ask for."""
        if self.is_agreed or self.is_failed or self._waiting:
            return None
        tail_is_due = self._tail_end is None and not self._was_full
        if self._polls and holds_rows and tail_is_due and self._last_id is not None:
            return self._poll()
        comes_first = self._stop_ms is not None and holds_rows and tail_is_due
        if self._named is None and not comes_first:
            return self._newest()
        if not is_filled or self._last_id is None:
            return None
        if self._tail_end != self._last_id:
            return Tail(self._last_id + 1, known_id=self._behind_id)
        return self._newest()

    def _poll(self) -> Tail:
        return Tail(self._last_id or 0, known_id=self._last_id, overlaps=True)

    def _newest(self) -> Newest:
        """Ask for the newest trade of all once a tail has ended. Before that, and to confirm a trade after the window
        that a tail has shown, ask for the newest of the window."""
        at_least_id = 0 if self._last_id is None else self._last_id
        stop_ms = self._stop_ms if self._tail_end is None or self._behind.is_doubtful else None
        return Newest(at_least_id, stop_ms, PAGE_ROWS if self._seeks_lull else 1, needs_agreement=self._refuted > 0)

    def took(self) -> None:
        """The question was sent."""
        self._waiting = True

    def tail_answered(self, query: Tail, found: Found, pace: Pace) -> None:
        """Take the end of the rows that a tail brought."""
        self._waiting = False
        if found.ids is not None:
            self.shown.name(found.ids.last_id, found.last_ms)
            self.show(found.ids.last_id, found.last_ms, by_tail=True)
        end_id = query.first_id - (not query.overlaps) if found.ids is None else found.ids.last_id
        self._was_full, self._is_found = found.rows >= query.rows, True
        if self._was_full:
            self._tail_end = None
            self._named = self._named if self._named == self._last_id else None
        else:
            self._tail_end = end_id
            self._votes += end_id == self._last_id
        self._decide(pace)

    def newest_answered(self, query: Newest, found: Found, pace: Pace) -> str | None:
        """Take the newest trade that was named, or that none was. Return a sentence if it cannot be true."""
        self._waiting = False
        self._asked += 1
        if found.ids is None:
            self._unnamed += 1
        else:
            if query.rows > 1:
                pace.learn_lull(found.rows, found.lull_ms)
            self.shown.name(found.ids.last_id, found.last_ms, is_agreed=query.needs_agreement)
            self._named_newest(query, found.ids.last_id, found.last_ms, pace)
        self._decide(pace)
        return None if self.is_agreed else self._contradiction(found, pace)

    def failed(self, query: Query) -> None:
        """A question was given up for this round."""
        if isinstance(query, Tail | Newest):
            self._waiting, self.is_failed = False, True

    def refute(self, last_id: int | None, last_ms: int) -> None:
        """Go back to ``last_id``: a higher one was only named, and the ids up to it do not come. The newest trade must
        be named anew, at most MOST_REFUTED times a round."""
        self._last_id, self.last_ms, self._votes = last_id, last_ms, 0
        self._named = self._tail_end = None
        self._is_found &= last_id is not None
        self._refuted += 1
        self.is_failed |= self._refuted > MOST_REFUTED

    def put_back(self, query: Query) -> None:
        """The question led to another one."""
        if isinstance(query, Tail):
            self._waiting = False

    def refused(self, query: Tail | Newest, held_id: int | None) -> None:
        """The exchange does not answer for a time so long ago. A tail from a stored trade can be asked in another way;
        otherwise the last stored trade is the end."""
        self._waiting = False
        if self._polls and query == self._poll():
            self._polls = False
        elif held_id is not None:
            self.settle(held_id)
        else:
            self.is_failed = True

    def _named_newest(self, query: Newest, found_id: int, found_ms: int, pace: Pace) -> None:
        stop_ms = self._stop_ms
        if stop_ms is not None and found_ms >= stop_ms:
            # More follows: a tail that ended before it was incomplete.
            self.shown.show(found_id, found_ms)
            self._behind_id, self._named = found_id, found_id
            self._tail_end, self._was_full = None, True
            return
        self.show(found_id, found_ms)
        if found_id == self._last_id:
            self._named = found_id
            self._is_found = True
            self._votes += 1
            self._is_last_of_all = query.stop_ms is None or (pace.now_ms is not None and pace.now_ms < query.stop_ms)

    def _contradiction(self, found: Found, pace: Pace) -> str | None:
        """A sentence on why the newest trade, or its absence, cannot be true, once it was asked for often enough."""
        if found.ids is None and self._last_id is not None and self._unnamed >= MOST_BELOW_SHOWN:
            reason = "the exchange has trades and names no newest one"
        elif self._is_below_shown(pace) and self._asked >= MOST_BELOW_SHOWN:
            reason = f"the exchange has shown {self.shown.end.trade}, and names id {self._last_id} as its newest"
        elif self._asked < MOST_NEWEST:
            return None
        elif found.ids is None:
            reason = "the exchange names no newest trade"
        else:
            reason = f"the exchange names id {found.ids.last_id} as its newest, and has shown id {self._last_id}"
        self.is_failed = True
        return reason

    def _decide(self, pace: Pace) -> None:
        if (held_id := self._held_id) is not None:
            # Only now is the exchange's time known: the host's clock may be hours away from it.
            self._agreed_id, self._held_id = held_id if self.shown.was_agreed(held_id, pace.now_ms) else None, None
        silent = pace.is_silent(self.last_ms)
        is_over = self._is_over(silent=silent)
        self._seeks_lull = not is_over and not pace.knows_lulls and self._is_over(silent=False)
        if not is_over or self._is_below_shown(pace):
            return
        self.is_agreed = True
        self._accepted_silence = self._last_id if silent else self._accepted_silence
        if self._last_id is not None:
            self.shown.agree(self._last_id, pace.now_ms or 0)

    def _is_below_shown(self, pace: Pace) -> bool:
        """Whether a trade after the last one was ever shown. A marker row has the time of another trade."""
        return self.shown.is_behind(self._last_id, max(self.last_ms, pace.last_ms))

    def _is_over(self, *, silent: bool | None) -> bool:
        if self._last_id is None:
            return self._unnamed >= (ANSWERS_IN_SILENCE if silent else AGREEING)
        if self._polls and self._agreed_id == self._last_id == self._named:
            return True
        return self._tail_end == self._last_id and self._agrees(silent)

    def _agrees(self, silent: bool | None) -> bool:
        if self._stop_ms is not None and (self._behind_id is not None or not self._is_last_of_all):
            return False
        is_unchanged = self._last_id == self._agreed_id
        if self._polls and is_unchanged:
            return not silent or self._accepted_silence == self._last_id or self._votes >= AGREEING
        if is_unchanged or silent is None:
            return self._votes >= AGREEING
        if silent:
            return self._votes >= ANSWERS_IN_SILENCE
        return self._polls or self._named is not None
