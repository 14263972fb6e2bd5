"""Which rows of a plan are doubted, and what would settle it.

Owns what an accepted answer says of the rows that came: for them, or against them. An answer speaks for the part that
its trades lie in, unless it gives one of them another row than the one that is stored: then it speaks against it. Two
rows of one trade are never both true, so what named it otherwise before does not count for it either.
"""

from backfilld.core.backfill.neighbours import KnownTrades
from backfilld.core.backfill.questions import Again, Before, Found, Newest, Page, Query, Since, Tail, brings_rows
from backfilld.core.backfill.support import Support
from backfilld.core.backfill.wanted_ids import asked_ids
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange

MOST_AGAIN = 60
"""How often a round asks for trades again. If three of ten answers are wrong, two contested parts in 100 take more."""


class Doubts:
    """The doubts about the rows of one plan: ``support`` counts the answers, ``trades`` are those to compare with."""

    def __init__(self, support: Support, trades: KnownTrades) -> None:
        self._support = support
        self._trades = trades
        self._is_unconfirmed = self._nothing_is_before = False
        self._again = 0

    @property
    def doubted(self) -> IdSet:
        """The ids that came with answers that contradict each other."""
        return self._trades.doubted

    def begin_round(self) -> None:
        """Trades may be asked for again, and what was only named is forgotten."""
        self._is_unconfirmed, self._again = False, 0
        self._trades.begin_round()

    def confirmation_failed(self) -> None:
        """No answer came for a trade that was asked for again; none is asked for any more in this round."""
        self._is_unconfirmed = True

    def confirmation(self, received: IdSet) -> Again | None:
        """The question for a trade that is stored, of rows that too few answers speak for: once by the highest of their
        ids, once by the lowest."""
        weak = () if self._is_unconfirmed or self._again >= MOST_AGAIN else self._support.weak(received).ranges
        by_turns = self._support.votes % 2
        return next((Again(each.first_id if by_turns else each.last_id) for each in weak), None)

    def weigh(self, query: Query, found: Found, first_id: int | None, received: IdSet, contradicted: int) -> None:
        """An answer was accepted that gives ``contradicted`` of the trades that answers have named or brought another
        row than they do. ``first_id`` is the window's first, as far as it is known."""
        self._again += isinstance(query, Again)
        ids = self._spoken_for(query, found, first_id)
        if ids is None:
            return
        agreeing = found.agreeing + (isinstance(query, Since) and self._nothing_is_before)
        against = found.against
        if brings_rows(query):
            # Each has spoken for these ids before.
            against += 2 * contradicted
        elif contradicted:
            agreeing, against = 0, against + agreeing
        elif found.against > found.agreeing and not self._support.has_sure(ids):
            self._trades.doubt(ids)
        self._support.vote(ids, agreeing, against, received)
        if against:
            self._trades.doubted |= self._support.outvoted(received)

    def _spoken_for(self, query: Query, found: Found, first_id: int | None) -> IdRange | None:
        """The ids that an answer speaks for: what it has, and what is next to it."""
        if isinstance(query, Page | Tail) and query.overlaps:
            return IdRange(query.first_id, query.first_id if found.ids is None else found.ids.last_id)
        if found.ids is None:
            self._nothing_is_before |= isinstance(query, Before)
            return None if first_id is None or not isinstance(query, Before) else IdRange(first_id, first_id)
        if isinstance(query, Again | Since | Newest) or brings_rows(query):
            return found.ids
        return IdRange(found.ids.last_id, found.ids.last_id + 1)

    def doubt_beside(self, query: Page | Tail | Again | Newest, received: IdSet, *, is_wary: bool) -> bool:
        """No answer to this question could be used. Whether rows beside its ids are doubted, for which too few answers
        speak, or all that was named, as no row is there."""
        match query:
            case Again(trade_id) | Newest(at_least_id=trade_id):
                ids = IdRange(trade_id, trade_id)
            case _:
                ids = asked_ids(query)
        is_named = isinstance(query, Newest) and ids.first_id not in received
        is_row = bool(received) and not is_named
        if (is_wary and not is_row) or query == Newest(0):
            # Several answers have named it and go on to, or none has named anything.
            return False
        weak = self._support.beside(ids, received) if is_row else IdSet((ids,))
        self._trades.doubted |= weak
        return bool(weak)

    def doubt_what_is_contested(self, received: IdSet) -> bool:
        """Nothing is left to ask. Whether rows are doubted that some answers contradict, and too few speak for."""
        self._trades.doubted |= self._support.contested(received)
        return bool(self.doubted)

    def doubt(self, trade_id: int) -> None:
        """Doubt a stored trade that answers contradict."""
        self._trades.doubt(IdRange(trade_id, trade_id))
