"""Which ids of a window to ask for next, and by which page.

Owns the ids that were received, those that were asked for, and those not to ask for: absent, given up in this round, or
too old. Must not know where the window begins and ends; the wanted range is an argument.
"""

from backfilld.core.backfill.lookback import Lookback
from backfilld.core.backfill.paging import next_page
from backfilld.core.backfill.questions import Found, Page, Tail
from backfilld.core.ids import IdSet
from backfilld.core.model import PAGE_ROWS, IdRange

Paged = Page | Tail
"""The questions that ask for ids."""


class WantedIds:
    """The ids of one window. Those in ``absent`` are known not to exist; those in ``postponed`` are not asked for now.
    If ``is_wary``, pages are asked for one after the other, each with the trade before it where that is known."""

    def __init__(
        self, received: IdSet, absent: IdSet, postponed: IdSet, *, newest_first: bool, is_wary: bool = False
    ) -> None:
        self.received = received
        self.absent = absent | postponed
        """Ids not to ask for: the exchange passed over them in this round, or is known not to have them."""
        self.known_absent = absent
        self.neighbour_id: int | None = None
        """The trade right before the window, once an answer has named it."""
        self._skipped_once = IdSet()
        self._skipped_twice = IdSet()
        self._given_up = IdSet()
        self._asked: tuple[tuple[Paged, IdRange], ...] = ()
        self._lookback = Lookback()
        self._newest_first = newest_first and not is_wary
        self.is_wary = is_wary
        self._facts: object = None
        self._left: tuple[IdRange, ...] = ()

    def missing(self, wanted: IdRange | None) -> tuple[IdRange, ...]:
        """The wanted ids that were not received and are not known to be absent."""
        return (self.received | self.known_absent).missing(wanted) if wanted else ()

    @property
    def are_asked(self) -> bool:
        """Whether a page is on its way."""
        return bool(self._asked)

    def next_page(self, wanted: IdRange | None) -> Page | None:
        """The next page to ask for."""
        if self.is_wary and self._asked:
            return None
        unclaimed = self._unclaimed(wanted)
        reachable = self._lookback.within_reach(unclaimed)
        if not reachable:
            return self._lookback.probe(unclaimed) if unclaimed else None
        page = next_page(reachable, self.received, newest_first=self._newest_first)
        if self._newest_first and self._may_lie_in_a_jump(reachable[-1]):
            page = next_page(reachable[-1:], self.received)
        if not self.is_wary and not IdSet((page.ids,)) & self._skipped_once:
            return page
        next_id = next((each.first_id for each in self.received.ranges if each.first_id > page.ids.last_id), None)
        before_id = page.ids.first_id - 1
        is_known = before_id in self.received or before_id == self.neighbour_id
        needs_next = next_id is None and not self.is_wary
        if needs_next or not is_known or self._lookback.is_refused(before_id):
            return Page(page.ids, next_id)
        return Page(
            IdRange(page.ids.first_id, min(page.ids.last_id, before_id + PAGE_ROWS - 1)), next_id, overlaps=True
        )

    def _may_lie_in_a_jump(self, hole: IdRange) -> bool:
        """Whether an answer passed over the last id of the hole, or the id right after it.

        Then ask for the first ids of the hole: that answer names the id after the jump, and settles all of it."""
        doubtful = self._skipped_once | self.absent
        return hole.last_id in doubtful or hole.last_id + 1 in doubtful

    def took(self, query: Paged, wanted: IdRange | None) -> None:
        """The question was sent."""
        if isinstance(query, Page) and self._lookback.probe(self._unclaimed(wanted)) == query:
            self._lookback.took(query)
        self._asked += ((query, asked_ids(query)),)

    def came_back(self, query: Paged) -> None:
        """The question was answered or given up."""
        place = self._asked.index((query, asked_ids(query)))
        self._asked = self._asked[:place] + self._asked[place + 1 :]
        self._lookback.came_back(asked_ids(query).first_id)

    def receive(self, present: IdSet) -> None:
        """Note that these ids came."""
        self.received |= present
        self.absent -= present

    def answered(self, query: Paged, found: Found) -> None:
        """Note which ids an answer passed over.

        Ids that two answers of a round passed over are suspected to be absent, if the second answer has the trade
        before them. If it does not, it may have begun too late, and a third answer is needed. If an answer has an id
        that an earlier one passed over, the earlier answer was wrong, in its other ids too."""
        self._lookback.answered(query.first_id)
        skipped = IdSet(found.skipped) - self.received
        doubted = IdSet((asked_ids(query),)) & self._skipped_once
        if doubted & found.present:
            self._skipped_once -= doubted
            self._skipped_twice -= doubted
        twice = skipped & self._skipped_once
        is_sure = isinstance(query, Page) and query.overlaps
        self.absent |= twice if is_sure else twice & self._skipped_twice
        self._skipped_twice |= twice
        self._skipped_once |= skipped

    def give_up(self, query: Paged) -> None:
        """Ask for these ids no more in this round."""
        self._given_up |= IdSet((asked_ids(query),))

    def refused(self, query: Paged, *, too_old: bool) -> None:
        """The exchange no longer answers for the first of the ids (``too_old``), or answers for none of them."""
        if too_old:
            self._lookback.refused(query.first_id)
        else:
            self._given_up |= IdSet((IdRange(0, asked_ids(query).last_id),))

    def begin_round(self) -> None:
        """Ask again for what was given up."""
        self._skipped_once = self._skipped_twice = IdSet()
        self._given_up = IdSet()

    def _unclaimed(self, wanted: IdRange | None) -> tuple[IdRange, ...]:
        """The wanted ids that may be asked for. Kept between calls: each page needs them several times."""
        if wanted is None:
            return ()
        facts = wanted, self.received, self.absent, self._given_up, self._asked
        if facts != self._facts:
            asked = IdSet.of(ids for _, ids in self._asked)
            unclaimed = (self.received | self.absent | self._given_up | asked).missing(wanted)
            self._facts, self._left = facts, unclaimed
        return self._left


def asked_ids(query: Paged) -> IdRange:
    """The ids that a question asks for, as far as they are known to exist."""
    if isinstance(query, Page):
        return query.ids
    return IdRange(query.first_id, max(query.first_id, query.known_id or 0))
