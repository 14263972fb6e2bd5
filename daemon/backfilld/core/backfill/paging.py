"""Which page to ask for, out of the ids that are missing."""

from collections.abc import Sequence
from dataclasses import replace

from backfilld.core.backfill.questions import Page, Tail
from backfilld.core.ids import IdSet
from backfilld.core.model import PAGE_ROWS, IdRange

WORTH_ASKING_AGAIN = 4
"""From so many holes on that one page can fill, the whole page is asked for, with what is stored between them. Holes
that a crash leaves are whole pages; only a defective file has so many so close."""

ROOM = 100
"""Rows of a tail that are left for what is new since the newest trade was named, and rows of a closed window that its
tail has at least."""


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


def towards_end(page: Page, last_id: int, *, is_closed: bool, is_wary: bool = False) -> Page | Tail:
    """The page as it is asked for while the end of the window is open: the one that reaches ``last_id`` as a tail. Of a
    window that ``is_closed``, the page before leaves the tail ROOM rows: where time goes back over the end, they show
    that the window was over before its last trade. Who ``is_wary`` keeps the trade before the page in it."""
    if page.ids.last_id == last_id:
        if is_wary and page.overlaps:
            return Tail(page.first_id, known_id=last_id, overlaps=True)
        return Tail(page.ids.first_id + (ROOM if len(page.ids) == PAGE_ROWS else 0), known_id=last_id)
    if is_closed and len(page.ids) > ROOM and 0 < last_id - page.ids.last_id < ROOM:
        return replace(page, ids=IdRange(page.ids.first_id, last_id - ROOM))
    return page
