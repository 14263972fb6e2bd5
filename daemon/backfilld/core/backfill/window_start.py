"""Where a window begins: its first id, and what proves it.

Owns the questions that find the first id by time: the last trade before the window (its neighbour), whose id + 1 it is,
and the first trade from the start on. They check each other:

    the first is the next id after the neighbour, or below it   proven; the lower one counts: nothing is passed over
    there is a gap between them, or no neighbour was named,     the trade right before the first is asked for by its id
    or one that is more than a page behind the first

That trade proves the first one if it lies before the window, or does not exist, as no neighbour does. If it lies in the
window, the answer that named the first one passed over trades. One empty answer proves nothing.
"""

from collections import deque
from collections.abc import Collection

from backfilld.core.backfill.questions import At, Before, Failure, Found, Query, Since
from backfilld.core.model import PAGE_ROWS

MOST_RESETS = 3
"""How often we look again for a first id whose time lies before the window. After that we believe the exchange."""


class WindowStart:
    """The first id of a window that begins at ``start_ms``. Without ``proves`` the neighbour is not asked for. No trade
    comes before an id of ``very_first``.

    ``reaches_over``: the stored trades begin before the window, so their first id is not the window's first.
    """

    def __init__(self, start_ms: int, *, proves: bool = True, very_first: Collection[int] = ()) -> None:
        self.first_id: int | None = None
        self._shown: tuple[int, int] | None = None
        self._resets = 0
        self.is_proven = False
        self.reaches_over = False
        self.is_missing = False
        self.to_ask: deque[Query] = deque()
        self.neighbour = Before(start_ms)
        self.proves = proves
        self._start_ms = start_ms
        self._first_is_asked = False
        self._awaits_first = False
        self._neighbour_was_named = False
        self._neighbour_is_refused = self._neighbour_failed = False
        self._before_id: int | None = None
        self._since_id: int | None = None
        self._very_first = {0, *very_first}
        self._remembered_id: int | None = None

    def failure(self, *, has_trades: bool) -> Failure | None:
        """Why the first id is not proven, once nothing is left to ask. None if it is proven or needs no proof, if the
        window has no trades, and if the exchange refuses to answer for a time so long ago."""
        is_empty = self.first_id is None and not has_trades
        if self.is_proven or not self.proves or self._neighbour_is_refused or is_empty or self.to_ask:
            return None
        return Failure(self.neighbour, "nothing proves with which trade the window begins")

    @property
    def is_open(self) -> bool:
        """Whether we await the answer that names the first trade."""
        return self._awaits_first

    @property
    def first_ms(self) -> int | None:
        """The time of the trade with the first id, if its row came."""
        return self._shown[1] if self._shown is not None and self._shown[0] == self.first_id else None

    def show(self, found: Found) -> None:
        """Rows came, of which this is the first."""
        if found.ids is not None and found.first_ms >= self._start_ms:
            shown = (found.ids.first_id, found.first_ms)
            if self._shown is None or shown[0] <= self._shown[0]:
                self._shown = shown

    def hold(self, first_id: int, *, reaches_over: bool) -> None:
        """The first id is known from what is stored."""
        self.first_id, self.is_proven, self.reaches_over = first_id, True, reaches_over

    def check(self, first_id: int) -> None:
        """An earlier process has proven that this stored trade is the first. Ask the exchange for it once more: a wrong
        proof must not last."""
        self._remembered_id = first_id
        self.ask_first()

    def ask(self, *, with_first: bool) -> None:
        """Ask for the neighbour and, ``with_first``, for the first trade itself. A trade that is stored would only be
        sent again."""
        self._remembered_id = None
        self.to_ask.clear()
        self._first_is_asked = self._awaits_first = self.is_missing = False
        self._neighbour_was_named = self._neighbour_failed = False
        self._before_id = self._since_id = None
        if self.proves and not self._neighbour_is_refused:
            self.to_ask.append(self.neighbour)
        if with_first:
            self.ask_first()

    def doubt(self) -> None:
        """The exchange has trades of the window and named no first one: its answers may come from a stale replica."""
        self.first_id, self.is_proven = None, False
        self.ask(with_first=True)

    def ask_first(self) -> None:
        """Ask for the first trade from the start on."""
        self._first_is_asked = self._awaits_first = True
        self.to_ask.append(Since(self._start_ms))

    def neighbour_answered(self, found: Found, held_id: int | None) -> None:
        """The id after the neighbour is the first. But a marker has the time of another trade, so it may come after the
        first trade. So may any trade where time goes back over the start. Then ask for the first trade as well, unless
        ``held_id``, the lowest stored id, is the next one."""
        self._neighbour_was_named = True
        self._before_id = None if found.ids is None else found.ids.last_id
        is_apart = self._before_id is not None and held_id is not None and held_id != self._before_id + 1
        if (found.ids is None or found.is_marker or is_apart) and not self._first_is_asked:
            self.ask_first()
        self._conclude()

    def proof_failed(self, query: Query) -> None:
        """No answer came for the neighbour, or for the trade right before the first. The other one may suffice."""
        if not isinstance(query, At):
            self._neighbour_failed_to_answer()
        elif self._before_id is not None:
            self._follow_neighbour(self._before_id)

    def _neighbour_failed_to_answer(self) -> None:
        self._neighbour_failed = True
        if not self._first_is_asked:
            self.ask_first()
        self._conclude()

    def neighbour_refused(self, held_id: int | None) -> None:
        """The exchange refuses to answer for a time so long ago, and will not answer later. What is stored from
        ``held_id`` on is all that is known."""
        self._neighbour_is_refused = True
        if held_id is None:
            self._neighbour_failed_to_answer()
        else:
            self.lower(held_id)

    def first_answered(self, found: Found) -> None:
        """The exchange named the first trade from the start on. The neighbour has to prove it."""
        self._awaits_first = False
        first_id = found.ids.first_id if found.ids else found.beyond_id
        self._since_id, self.is_missing = first_id, first_id is None
        self._conclude()

    def first_failed(self) -> bool:
        """Return whether the first id was found in another way."""
        self._awaits_first = False
        self._conclude()
        return self.first_id is not None

    def take(self, found: Found) -> None:
        """Take rows that begin before the window although we asked for its first trades: the replica that named the
        neighbour lagged. If the window starts among them, the first id is now known. Otherwise ask again."""
        if found.ids is None or found.first_ms >= self._start_ms or self.reaches_over:
            return
        if self.first_id is not None and found.ids.first_id > self.first_id:
            # Time went back over the start: the trades before these decide.
            return
        if found.last_ms >= self._start_ms:
            self.hold(found.ids.first_id, reaches_over=True)
        elif found.ids.first_id == self.first_id and self._resets < MOST_RESETS:
            self._resets += 1
            self.first_id, self.is_proven, self._neighbour_was_named = None, False, False
            self._neighbour_failed, self._before_id = True, None
            self.ask_first()

    def at_answered(self, query: At, found: Found) -> None:
        """The answer is the trade right before the first, or the first itself if no trade has that id."""
        is_there = found.ids is not None and found.ids.first_id == query.trade_id
        if is_there and found.first_ms < self._start_ms:
            self.is_proven = True
        elif is_there and self._resets < MOST_RESETS:
            self._resets += 1
            self.lower(query.trade_id)
            self.ask(with_first=True)
        elif self._before_id is not None:
            self._follow_neighbour(self._before_id)
        else:
            self.is_proven = self._neighbour_was_named and not is_there

    def _follow_neighbour(self, before_id: int) -> None:
        """Ask for the rows that follow the neighbour: they show whether the first trade is among them."""
        self.lower(before_id + 1)
        self.is_proven = True

    def _conclude(self) -> None:
        """Conclude which id is the first, once both answers are there or no other will come."""
        if self._remembered_id is not None and not self._awaits_first:
            self._check_remembered(self._remembered_id)
        if self._since_id is None:
            if self._before_id is not None and not self._awaits_first:
                self._follow_neighbour(self._before_id)
            return
        if self._awaits_first:
            return
        self.lower(self._since_id)
        if self._before_id is not None and -1 <= self._before_id - self._since_id < PAGE_ROWS:
            self._follow_neighbour(self._before_id)
        elif self.is_proven or self._since_id in self._very_first:
            self.is_proven = True
        elif (self._neighbour_was_named or self._neighbour_failed) and not self._neighbour_is_refused:
            self.to_ask.append(At(self._since_id - 1))

    def _check_remembered(self, first_id: int) -> None:
        self._remembered_id = None
        if self._since_id == first_id:
            self.is_proven = True
        elif self.proves:
            self.to_ask.append(self.neighbour)

    def lower(self, first_id: int) -> None:
        """The first id is not above this one."""
        self.first_id = first_id if self.first_id is None else min(first_id, self.first_id)
