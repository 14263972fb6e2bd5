"""Which page to ask for, out of the ids that are missing."""

from collections.abc import Sequence
from dataclasses import replace

from backfilld.core.backfill.questions import Page, Tail
from backfilld.core.ids import IdSet
from backfilld.core.model import PAGE_ROWS, IdRange

WORTH_ASKING_AGAIN = 4
"""From this many holes within one page on, ask for the whole page, with the stored ids between the holes. A crash
leaves holes of whole pages; only a defective file has so many so close together."""

ROOM = 100
"""How many rows of a tail are kept free for trades newer than the newest one named. The tail of a closed window has at
least this many rows of the window."""


def next_page(missing: Sequence[IdRange], held: IdSet, *, newest_first: bool = False) -> Page:
    """The next page for the ranges ``missing``, which ascend. Its ids are missing, or stored between several holes."""
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
    """The question for the page while the end of the window is not known for sure.

    A page that reaches ``last_id`` becomes a tail. If the window ``is_closed``, the page before it leaves ROOM rows to
    the tail: where time goes back over the end, those rows show that the window ended before its last trade. If
    ``is_wary``, the tail keeps the trade before the page.
    """
    if page.ids.last_id == last_id:
        if is_wary and page.overlaps:
            return Tail(page.first_id, known_id=last_id, overlaps=True)
        return Tail(page.ids.first_id + (ROOM if len(page.ids) == PAGE_ROWS else 0), known_id=last_id)
    if is_closed and len(page.ids) > ROOM and 0 < last_id - page.ids.last_id < ROOM:
        return replace(page, ids=IdRange(page.ids.first_id, last_id - ROOM))
    return page
