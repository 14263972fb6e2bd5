"""Where a window begins: its first id, and what proves it.

Owns the questions that find the first id by time: the last trade before the window (its neighbour), whose id + 1 it is,
and the first trade from the start on. They check each other; the lower id counts, so that nothing is passed over.
"""

from collections import deque

from backfilld.core.backfill.questions import Before, Found, Query, Since
from backfilld.core.model import PAGE_ROWS

PAGE_MS = 1_800_000
"""The head page ends this long after the start: far enough to be full, and near enough to hold the newest trade of a
longer window only if all has been silent since. (Futures take windows of less than an hour.)"""

MOST_RESETS = 3
"""How often a first id that is not of the window by its time is looked for again: then the exchange is believed."""


class WindowStart:
    """The first id of a window that begins at ``start_ms``. With ``takes_page`` the first trades come with it; without
    ``proves`` the neighbour is not asked for.

    ``reaches_over`` says that what is held begins before the window, so that its first id is not the window's alone.
    """

    def __init__(self, start_ms: int, *, takes_page: bool, proves: bool = True) -> None:
        self.first_id: int | None = None
        self._shown: tuple[int, int] | None = None
        self._resets = 0
        self.is_proven = False
        self.reaches_over = False
        self.is_missing = False
        self.to_ask: deque[Query] = deque()
        self.neighbour = Before(start_ms)
        self._proves = proves
        self._start_ms = start_ms
        self._takes_page = takes_page
        self._first_is_asked = False
        self._awaits_first = False
        self._neighbour_is_told = False
        self._neighbour_is_refused = self._neighbour_failed = False

    @property
    def is_open(self) -> bool:
        """Whether an answer is awaited that may bring rows of the first page."""
        return self._awaits_first

    @property
    def first_ms(self) -> int | None:
        """The time of the trade with the first id, where an answer has shown it."""
        return self._shown[1] if self._shown is not None and self._shown[0] == self.first_id else None

    def show(self, found: Found, *, by_row: bool = True) -> None:
        """An answer began with this trade. The time of one that only locates is believed until its row comes."""
        if found.ids is not None and found.first_ms >= self._start_ms:
            shown = (found.ids.first_id, found.first_ms)
            if self._shown is None or shown[0] < self._shown[0] + by_row:
                self._shown = shown

    def hold(self, first_id: int, *, reaches_over: bool) -> None:
        """The first id is known from what is held."""
        self.first_id, self.is_proven, self.reaches_over = first_id, True, reaches_over

    def ask(self, *, with_first: bool) -> None:
        """Ask for the neighbour, and for the first trade itself unless it is held and would be sent again."""
        self.to_ask.clear()
        self._first_is_asked = self._awaits_first = self.is_missing = False
        self._neighbour_is_told = self._neighbour_failed = False
        if self._proves and not self._neighbour_is_refused:
            self.to_ask.append(self.neighbour)
        if with_first and self._takes_page:
            self._ask_since(PAGE_ROWS, self._start_ms + PAGE_MS)
        elif with_first:
            self.ask_first()

    def ask_first(self) -> None:
        """Ask for the first trade from the start on."""
        self._ask_since(1, None)

    def neighbour_answered(self, found: Found, held_id: int | None) -> None:
        """The next id is the first. A marker has the time of another trade, and may stand behind the first. So may a
        trade where time goes back over the start: the first trade itself has to be named too, unless ``held_id``, the
        lowest that is stored, is the next."""
        self._neighbour_is_told = True
        is_apart = found.ids is not None and held_id is not None and held_id != found.ids.last_id + 1
        if found.ids is not None:
            self.lower(found.ids.last_id + 1)
        if (found.ids is None or found.is_marker or is_apart) and not self._first_is_asked:
            self.ask_first()
        self.is_proven = self.first_id is not None and not (is_apart and self._awaits_first)

    def neighbour_failed(self) -> None:
        """Without it the first id is not proven."""
        self._neighbour_failed = True
        if not self._first_is_asked:
            self.ask_first()

    def neighbour_refused(self, held_id: int | None) -> None:
        """It lies too long ago, and will not come nearer: what is held from ``held_id`` on is all there is to know."""
        self._neighbour_is_refused = True
        if held_id is None:
            self.neighbour_failed()
        else:
            self.lower(held_id)

    def first_answered(self, query: Since, found: Found) -> None:
        """The first trade from the start on, by the exchange's word; the neighbour has to prove it."""
        self._awaits_first = False
        first_id = found.ids.first_id if found.ids else found.beyond_id
        if first_id is not None:
            self.lower(first_id)
            self.is_proven = self._neighbour_is_told
        elif query.stop_ms is None:
            self.is_missing = True
        else:
            self._page_was_of_no_use()

    def first_failed(self, query: Since) -> bool:
        """Whether the first id can be found in another way."""
        self._awaits_first = False
        if query.rows > 1:
            self._page_was_of_no_use()
            return True
        return self.first_id is not None

    def take(self, found: Found) -> None:
        """Rows from before the window where its first were expected: the exchange did not name its last neighbour, as
        its answers may lag. If the start lies among the rows, it is found."""
        if found.ids is None or found.first_ms >= self._start_ms or self.reaches_over:
            return
        if self.first_id is not None and found.ids.first_id > self.first_id:
            # Time went back over the start: what goes before decides.
            return
        if found.last_ms >= self._start_ms:
            self.hold(found.ids.first_id, reaches_over=True)
        elif found.ids.first_id == self.first_id and self._resets < MOST_RESETS:
            self._resets += 1
            self.first_id, self.is_proven, self._neighbour_is_told = None, False, False
            self.ask_first()

    def lower(self, first_id: int) -> None:
        """The first id is not above this one."""
        self.first_id = first_id if self.first_id is None else min(first_id, self.first_id)

    def _page_was_of_no_use(self) -> None:
        self._first_is_asked = False
        is_over = self._neighbour_is_told or self._neighbour_failed or not self._proves
        if is_over and self.first_id is None:
            self.ask_first()

    def _ask_since(self, rows: int, stop_ms: int | None) -> None:
        self._first_is_asked = self._awaits_first = True
        self.to_ask.append(Since(self._start_ms, rows, stop_ms))
