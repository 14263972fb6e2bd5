"""Which ids of a window are still to be asked for, and by which page.

Owns what is received, what is on its way, and why some ids are not asked for: absent, given up in this round, or too
old. Must not know where the window begins and ends; the range that is wanted is an argument.
"""

from backfilld.core.backfill.lookback import Lookback
from backfilld.core.backfill.paging import next_page
from backfilld.core.backfill.questions import Found, Page, Tail
from backfilld.core.ids import IdSet
from backfilld.core.model import PAGE_ROWS, IdRange

Paged = Page | Tail
"""The questions that ask for ids."""


class WantedIds:
    """The ids of one window. ``absent`` are known not to exist, ``postponed`` not to be asked for now. Who ``is_wary``
    asks for one page after the other, each with the trade before it, where that is known."""

    def __init__(
        self, received: IdSet, absent: IdSet, postponed: IdSet, *, newest_first: bool, is_wary: bool = False
    ) -> None:
        self.received = received
        self.absent = absent | postponed
        """Ids that are not asked for: the exchange passed over them, lately or for good."""
        self.known_absent = absent
        self.neighbour_id: int | None = None
        """The trade right before the window, where an answer named it."""
        self._skipped_once = IdSet()
        self._skipped_twice = IdSet()
        self._given_up = IdSet()
        self._asked: tuple[tuple[Paged, IdRange], ...] = ()
        self._lookback = Lookback()
        self._newest_first = newest_first and not is_wary
        self._is_wary = is_wary
        self._facts: object = None
        self._left: tuple[IdRange, ...] = ()

    def missing(self, wanted: IdRange | None) -> tuple[IdRange, ...]:
        """The wanted ids that are not received, without those known to be absent."""
        return (self.received | self.known_absent).missing(wanted) if wanted else ()

    @property
    def are_asked(self) -> bool:
        """Whether a page is on its way."""
        return bool(self._asked)

    def next_page(self, wanted: IdRange | None) -> Page | None:
        """The next page to ask for."""
        if self._is_wary and self._asked:
            return None
        unclaimed = self._unclaimed(wanted)
        reachable = self._lookback.within_reach(unclaimed)
        if not reachable:
            return self._lookback.probe(unclaimed) if unclaimed else None
        page = next_page(reachable, self.received, newest_first=self._newest_first)
        if self._newest_first and self._may_lie_in_a_jump(reachable[-1]):
            page = next_page(reachable[-1:], self.received)
        if not self._is_wary and not IdSet((page.ids,)) & self._skipped_once:
            return page
        next_id = next((each.first_id for each in self.received.ranges if each.first_id > page.ids.last_id), None)
        before_id = page.ids.first_id - 1
        is_known = before_id in self.received or before_id == self.neighbour_id
        needs_next = next_id is None and not self._is_wary
        if needs_next or not is_known or self._lookback.is_refused(before_id):
            return Page(page.ids, next_id)
        return Page(
            IdRange(page.ids.first_id, min(page.ids.last_id, before_id + PAGE_ROWS - 1)), next_id, overlaps=True
        )

    def _may_lie_in_a_jump(self, hole: IdRange) -> bool:
        """Whether an answer passed over the ids at its end, or right behind it.

        Then the first of its ids are asked for: that answer names the id after the jump, and settles all of it."""
        doubtful = self._skipped_once | self.absent
        return hole.last_id in doubtful or hole.last_id + 1 in doubtful

    def took(self, query: Paged, wanted: IdRange | None) -> None:
        """The question was put."""
        if isinstance(query, Page) and self._lookback.probe(self._unclaimed(wanted)) == query:
            self._lookback.took(query)
        self._asked += ((query, asked_ids(query)),)

    def came_back(self, query: Paged) -> None:
        """The question is not open any more."""
        place = self._asked.index((query, asked_ids(query)))
        self._asked = self._asked[:place] + self._asked[place + 1 :]
        self._lookback.came_back(asked_ids(query).first_id)

    def receive(self, present: IdSet) -> None:
        """These ids came."""
        self.received |= present
        self.absent -= present

    def answered(self, query: Paged, found: Found) -> None:
        """The question was answered: the ids that two answers of a round passed over are suspected to be absent, if the
        second one showed the trade before them. It takes three answers that may have begun too late. What one passed
        over and the next one has shows that the first was wrong, in the rest too."""
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
        """The ids are not asked for again in this round."""
        self._given_up |= IdSet((asked_ids(query),))

    def refused(self, query: Paged, *, too_old: bool) -> None:
        """The exchange does not answer for the first of the ids any more (``too_old``), or for none of them."""
        if too_old:
            self._lookback.refused(query.first_id)
        else:
            self._given_up |= IdSet((IdRange(0, asked_ids(query).last_id),))

    def begin_round(self) -> None:
        """Ask again for what was given up."""
        self._skipped_once = self._skipped_twice = IdSet()
        self._given_up = IdSet()

    def _unclaimed(self, wanted: IdRange | None) -> tuple[IdRange, ...]:
        """The wanted ids that may be asked for; this is looked at several times for each page."""
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
