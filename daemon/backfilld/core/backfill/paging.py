"""Which page to ask for, out of the ids that are missing."""

from collections.abc import Sequence

from backfilld.core.backfill.questions import Page
from backfilld.core.ids import IdSet
from backfilld.core.model import PAGE_ROWS, IdRange

WORTH_ASKING_AGAIN = 4
"""From so many holes on that one page can fill, the whole page is asked for, with what is stored between them. Holes
that a crash leaves are whole pages; only a defective file has so many so close."""


def next_page(missing: Sequence[IdRange], held: IdSet, *, newest_first: bool = False) -> Page:
    """A page of the ranges ``missing``, which ascend: its ids are missing, or held between several holes."""
    hole = missing[-1] if newest_first else missing[0]
    if newest_first:
        page = IdRange(max(hole.first_id, hole.last_id - PAGE_ROWS + 1), hole.last_id)
        reach = IdRange(max(0, hole.last_id - PAGE_ROWS + 1), hole.last_id)
    else:
        page = IdRange(hole.first_id, min(hole.last_id, hole.first_id + PAGE_ROWS - 1))
        reach = IdRange(hole.first_id, hole.first_id + PAGE_ROWS - 1)
    within = [each for each in missing if each.first_id >= reach.first_id and each.last_id <= reach.last_id]
    if len(within) < WORTH_ASKING_AGAIN:
        return Page(page)
    whole = IdRange(within[0].first_id, within[-1].last_id)
    return Page(whole if held.missing(whole) == tuple(within) else page)
