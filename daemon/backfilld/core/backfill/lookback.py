"""Which ids the exchange refuses to answer for, because they are too old.

Owns the edge between the two. The futures markets answer only for the last days, and refuse a page by the age of its
first id. A refused page may hold ids that the exchange still has, so a binary search among the missing ids finds the
edge: twelve requests for four thousand ids. The edge only moves forward, so a refused id is never asked for again.
"""

from collections.abc import Sequence

from backfilld.core.backfill.questions import Page
from backfilld.core.model import PAGE_ROWS, IdRange


class Lookback:
    """The highest refused id, and the lowest id above it that the exchange answered for."""

    def __init__(self) -> None:
        self.refused_id: int | None = None
        self._answered_id: int | None = None
        self._probe: int | None = None

    def refused(self, first_id: int) -> None:
        """The exchange refused a question for the ids from this one on."""
        self.refused_id = first_id if self.refused_id is None else max(first_id, self.refused_id)
        if self._answered_id is not None and self._answered_id <= self.refused_id:
            self._answered_id = None

    def is_refused(self, trade_id: int) -> bool:
        """Whether the exchange no longer answers for this id."""
        return self.refused_id is not None and trade_id <= self.refused_id

    def answered(self, first_id: int) -> None:
        """The exchange answered a question for the ids from this one on."""
        if self.refused_id is not None and first_id > self.refused_id:
            self._answered_id = first_id if self._answered_id is None else min(first_id, self._answered_id)

    def within_reach(self, missing: Sequence[IdRange]) -> Sequence[IdRange]:
        """The missing ids that the exchange answers for: all of them until it has refused one."""
        if self.refused_id is None:
            return missing
        return () if self._answered_id is None else _above(self._answered_id - 1, missing)

    def probe(self, missing: Sequence[IdRange]) -> Page | None:
        """The page that halves the missing ids between the highest refused and the lowest answered one; None if there
        are none, or if a probe has been sent and not come back."""
        if self.refused_id is None or self._probe is not None:
            return None
        doubtful = _above(self.refused_id, missing)
        if self._answered_id is not None:
            doubtful = [part for each in doubtful if (part := _below(self._answered_id, each)) is not None]
        left = sum(map(len, doubtful)) // 2
        for each in doubtful:
            if left < len(each):
                first_id = each.first_id + left
                return Page(IdRange(first_id, min(each.last_id, first_id + PAGE_ROWS - 1)))
            left -= len(each)
        return None

    def took(self, page: Page) -> None:
        """The probe was sent."""
        self._probe = page.ids.first_id

    def came_back(self, first_id: int) -> None:
        """A question for the ids from this one on was answered or given up."""
        if self._probe == first_id:
            self._probe = None


def _above(bound_id: int, missing: Sequence[IdRange]) -> list[IdRange]:
    return [IdRange(max(each.first_id, bound_id + 1), each.last_id) for each in missing if each.last_id > bound_id]


def _below(bound_id: int, ids: IdRange) -> IdRange | None:
    return IdRange(ids.first_id, min(ids.last_id, bound_id - 1)) if ids.first_id < bound_id else None
